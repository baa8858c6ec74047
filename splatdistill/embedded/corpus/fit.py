"""Makes the small meshes that a prior knows its models by, each from the model itself and held against its pictures.

`python -m splatdistill.embedded.corpus.fit --corpus DIR --models FILE --out DIR` goes on where it was stopped;
`priors.instances` reads what `--pack FOLDER` writes.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from splatdistill.embedded.corpus.layout import BUFFERS, INDEX, Record, read_index
from splatdistill.embedded.corpus.pack import workers
from splatdistill.embedded.corpus.procedural import BY_NAME, make_object
from splatdistill.priors.gbuffer import ALBEDO, ALPHA, LUMA, PAINTS
from splatdistill.priors.instances import Instance, Instances, MeshCode
from splatdistill.priors.vocabulary import MODELS

if TYPE_CHECKING:
    from splatdistill.embedded.corpus.build import Task

VIEWS = 8
"""Of the first rings, which a mesh is held against. The last ring of a model, its test, is never among them."""
SIDE = 0.15  # rad, elevation from which heights are seen best


def luminance(buffers: NDArray[np.uint8]) -> list[float]:
    """Mean luminance of the bare surface under each of the three paints of views [V,S,S,8]; 0.5 where there is none."""
    g = buffers.astype(np.float32) / 255
    means = []
    for slot in PAINTS:
        painted = (g[..., ALPHA] > 0.9) & (g[..., slot] > 0.9)
        mean = float((g[painted][:, ALBEDO] @ np.array(LUMA, np.float32)).mean()) if painted.any() else 0.5
        means.append(round(mean, 3))
    return means


def heights(buffers: NDArray[np.uint8]) -> list[float]:
    """Where each of the three paints lies in views [V,S,S,8] from the side: 0 at the object's lowest row, 1 at its
    highest, a mean over the views; 0.5 where there is none.
    """
    g = buffers.astype(np.float32) / 255
    size = g.shape[1]
    rows = np.arange(size)[::-1] + 0.5
    seen = np.any(g[..., ALPHA] > 0.5, axis=2)  # [V,S]
    low = np.where(seen, rows, size).min(1, keepdims=True)
    high = np.where(seen, rows, 0).max(1, keepdims=True)
    place = (rows - low) / np.maximum(high - low, 1)
    found = []
    for slot in PAINTS:
        weight = (g[..., slot] * g[..., ALPHA]).sum(2)
        found.append(round(float((weight * place).sum() / weight.sum()), 3) if weight.sum() > 1 else 0.5)
    return found


def describe(record: Record, buffers: NDArray[np.uint8]) -> Instance:
    """What is known of a model beside its volume. buffers: of the whole corpus."""
    mine = buffers[record.first : record.first + len(record.azimuth)]
    level = sorted(range(len(mine)), key=lambda i: abs(record.elevation[i] - SIDE))[: len(mine) // 3]
    parts = record.parts
    if record.toy:
        parts = ["whole", *(re.sub(r"\b(an?|the)\b|{}", "", extra).strip() for extra in BY_NAME[record.noun].extras)]
    return Instance(
        record.noun, record.key, luminance(mine[::3]), tuple(parts), heights=heights(mine[level]), bare=record.toy
    )


def order(records: Sequence[Record]) -> list[Record]:
    """What is fitted, in rounds of four models a noun, those of many models first, so that a part of it is a sample of
    all nouns; two shapes that stand together are no object.
    """
    whole = sorted((r for r in records if not r.relation), key=lambda r: r.key)
    count, rank, seen = Counter(r.noun for r in whole), {}, Counter()
    for r in whole:
        rank[r.key] = seen[r.noun] // 4
        seen[r.noun] += 1
    return sorted(whole, key=lambda r: (rank[r.key], -count[r.noun], r.noun, r.key))


def run(corpus: Path, out: Path, *, models: Path | None, furniture: str | None, processes: int) -> None:
    """Makes the mesh of every model of a corpus that `out` does not hold yet, from the sources it was built from."""
    from splatdistill.embedded.corpus.build import file_tasks, furniture_tasks

    records, _ = read_corpus(corpus)
    out.mkdir(parents=True, exist_ok=True)
    tasks: dict[str, Task] = {}
    if any(not r.toy for r in records):
        found = furniture_tasks(furniture, nouns="all", cc0_only=False, per_noun=0, rings=0)
        found += file_tasks(models, rings=0) if models else []
        tasks = {task.key: task for task in found}
    left = [r for r in records if not _file(out, r.key).exists()]
    if absent := [r.key for r in left if not r.toy and r.key not in tasks]:
        raise ValueError(f"--models, --furniture: {len(absent)} models of the corpus are not there, first {absent[0]}.")
    begin = time.monotonic()
    with workers(processes) as pool:
        done = pool.map(partial(_one, corpus, out), left, [tasks.get(r.key) for r in left])
        for number, faces in enumerate(done):
            took = time.monotonic() - begin
            print(f"{number + 1}/{len(left)} {left[number].key}: {faces} triangles, {took:.0f} s", flush=True)


def _one(corpus: Path, out: Path, record: Record, task: Task | None) -> int:
    """Writes the mesh of one model; the number of its triangles."""
    from splatdistill.embedded.corpus.build import preview_cameras
    from splatdistill.embedded.corpus.render import Caster
    from splatdistill.embedded.corpus.simplify import simplify
    from splatdistill.embedded.corpus.tessellate import tessellate

    torch.set_num_threads(1)
    if task is None:
        _, family, number = record.key.split("/")
        seed = json.loads((corpus / INDEX).read_text(encoding="utf-8"))["toys"]["seed"]
        mesh, paint = tessellate(make_object(family, seed=seed, number=int(number)).parts)
    else:
        mesh = task.load()
        paint, _ = Caster(mesh).choose_paint(preview_cameras())
    buffers = np.load(corpus / BUFFERS, mmap_mode="r")
    truth = torch.from_numpy(np.array(buffers[record.first : record.first + VIEWS]))
    code = simplify(mesh, paint, cameras=record.cameras(range(VIEWS), size=truth.shape[1]), truth=truth)
    unfinished = _file(out, record.key).with_suffix(".part")
    with unfinished.open("wb") as file:
        np.savez_compressed(file, vertices=code.vertices, faces=code.faces, values=code.values)
    unfinished.rename(_file(out, record.key))
    return len(code.faces)


def _file(out: Path, key: str) -> Path:
    return out / f"{key.replace('/', '--')}.npz"


def read_corpus(corpus: Path) -> tuple[list[Record], NDArray[np.uint8]]:
    """What is to be fitted, in order, and the buffers of all. ValueError, one sentence, without a built corpus."""
    if not (corpus / INDEX).exists():
        raise ValueError(f"No corpus in {corpus}: build it with `python -m splatdistill.embedded.corpus build`.")
    index = json.loads((corpus / INDEX).read_text(encoding="utf-8"))
    return order(read_index(index)), np.load(corpus / BUFFERS, mmap_mode="r")


def pack(corpus: Path, out: Path, folder: Path) -> Instances:
    """Every mesh that is made as a folder for `priors.instances`."""
    records, buffers = read_corpus(corpus)
    made = [r for r in records if _file(out, r.key).exists()]
    codes = []
    for record in made:
        with np.load(_file(out, record.key)) as arrays:
            codes.append(MeshCode(arrays["vertices"], arrays["faces"], arrays["values"]))
    packed = Instances(codes, [describe(r, buffers) for r in made])
    packed.save(folder)
    return packed


def add(model: Path, *, noun: str, front_deg: float, instances: Path, out: Path) -> float:
    """Makes the mesh of a GLB file of the user's own and writes a folder of meshes, or a prior that has one, with the
    model in it to `out`. Returns the PSNR in dB of its views in front of white.
    """
    from splatdistill.embedded.corpus.build import preview_cameras, render_mesh
    from splatdistill.embedded.corpus.meshes import read_glb
    from splatdistill.embedded.corpus.render import Caster
    from splatdistill.embedded.corpus.simplify import pictures, simplify
    from splatdistill.priors.zbuffer import draw

    whole = (instances / MODELS).exists()
    if out.exists():
        raise ValueError(f"--out: {out} is there already; name a new folder.")
    if not (noun := " ".join(noun.lower().split())):
        raise ValueError("--noun: say what the model is called.")
    known = Instances.load((instances / MODELS).parent if whole else instances)
    name = f"own/{model.name}"
    if any(instance.key == name for instance in known.known):
        raise ValueError(f"{instances} already holds {name}: rename the file, or begin from another folder.")
    mesh = read_glb(model, yaw_deg=front_deg)
    cameras, views, shares, parts = render_mesh(mesh, noun=noun)
    record = Record.make(cameras, noun=noun, key=name, first=0, paint_share=shares[0], parts=parts)
    truth = torch.from_numpy(views)
    paint, _ = Caster(mesh).choose_paint(preview_cameras())
    code = simplify(mesh, paint, cameras=cameras, truth=truth)
    seen = draw(code.decode(), cameras, size=views.shape[1])
    error = F.mse_loss(pictures(seen)[:, :3], pictures(truth.float() / 255)[:, :3])
    more = Instances([*known.codes, code], [*known.known, describe(record, views)])
    if whole:
        shutil.copytree(instances, out)
    more.save((out / MODELS).parent if whole else out)
    return float(-10 * error.log10())


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 1 with one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m splatdistill.embedded.corpus.fit", description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True, help="folder that `corpus build` wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run: a file a model")
    parser.add_argument("--models", type=Path, help="folder or zip archive of GLB files, as `corpus build` was given")
    parser.add_argument("--furniture", help="folder of .sh3f files (default: where Debian puts them)")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--pack", type=Path, help="write this folder from what is made, and make nothing")
    args = parser.parse_args(argv)
    try:
        if args.pack:
            pack(args.corpus, args.out, args.pack)
        else:
            run(args.corpus, args.out, models=args.models, furniture=args.furniture, processes=args.processes)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
