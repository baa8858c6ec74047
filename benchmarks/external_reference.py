"""What the external judge sees in real renders: the denominators of `splatdistill eval --external`.

python benchmarks/external_reference.py --zip cc0_models.zip --table models.csv --work DIR

Draws the models of every noun that ImageNet has, from the cameras of `eval` and at the classifier's size, on white:
those of the furniture libraries (`apt-get install sweethome3d-furniture`) and those of a zip of GLB files with its
table. Each model's answer is kept in DIR, so that the work can be stopped and gone on with. Writes
splatdistill/evaluate/external_reference.json, and draws nothing that it holds already. The first MODELS of each noun
decide whether it is counted; `--further` adds all others of the nouns that are, for runs that show them.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from splatdistill.config.schema import CameraConfig
from splatdistill.embedded.corpus.build import select_models
from splatdistill.embedded.corpus.furniture import load_mesh
from splatdistill.embedded.corpus.meshes import ModelMesh, read_glb
from splatdistill.embedded.corpus.render import Caster
from splatdistill.evaluate import NUM_VIEWS, external
from splatdistill.io.video import to_uint8
from splatdistill.priors.gbuffer import ALBEDO, ALPHA, SHADING
from splatdistill.scene.cameras import turntable

RAYS = 2
"""Rays a pixel are RAYS x RAYS."""
MODELS = 6
"""Of each noun and collection, those that decide whether the noun is counted. Further ones are for runs that show
them."""

Task = tuple[str, str, Callable[[], ModelMesh]]  # noun, key of the model, and what reads it


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zip", type=Path, help="zip of GLB files")
    parser.add_argument("--table", type=Path, help="its table: file, noun")
    parser.add_argument("--furniture", help="folder of .sh3f files (default: where Debian puts them)")
    parser.add_argument("--work", type=Path, required=True, help="folder for the answers of single models")
    parser.add_argument("--further", action="store_true", help="all other models of the counted nouns")
    parser.add_argument("--out", type=Path, default=external.REFERENCE)
    parser.add_argument("--only-write", action="store_true", help="draw nothing; write what DIR holds")
    args = parser.parse_args(argv)
    args.work.mkdir(parents=True, exist_ok=True)
    classes = external.Classes.read()
    tasks = [(rank, task) for rank, task in _tasks(args) if classes.classes.get(task[0])]
    before = json.loads(args.out.read_text(encoding="utf-8")) if args.out.exists() else {}
    wanted = [
        task for rank, task in tasks
        if (task[0] in before.get("fixed", ()) if args.further else rank <= MODELS) and not _held(before, task)
    ]  # fmt: skip
    if not args.only_write:
        _draw_all(wanted, args.work)
    record = collect(args.work, wanted, before, part="further" if args.further else "models")
    args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"{len(record['models'])} nouns, {len(record['fixed'])} of them counted: {args.out}")
    return 0


def _tasks(args: argparse.Namespace) -> list[tuple[int, Task]]:
    """The first model of every noun, then the second ones, and so on, each with its rank: a stopped run has some of
    each.
    """
    ranked: list[tuple[int, Task]] = []
    for found in (_furniture(args.furniture), _zipped(args.zip, args.table) if args.zip else ()):
        counts: dict[str, int] = {}
        for task in found:
            counts[task[0]] = counts.get(task[0], 0) + 1
            ranked.append((counts[task[0]], task))
    return [(rank, task) for rank, task in sorted(ranked, key=lambda entry: entry[0])]


def _furniture(folder: str | None) -> Iterator[Task]:
    for noun, model, yaw in select_models(folder):
        yield noun.name, model.key, lambda model=model, yaw=yaw: load_mesh(model, yaw_deg=yaw)


def _zipped(path: Path, table: Path) -> Iterator[Task]:
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        yield row["noun"], f"models/{row['file']}", lambda name=row["file"]: read_glb(path, name)


def _draw_all(tasks: list[Task], work: Path) -> None:
    judge = external.ImageNet()
    for number, (noun, key, read) in enumerate(tasks, 1):
        kept = kept_at(work, key)
        if kept.exists():
            continue
        try:
            rgb, alpha = render(read(), size=judge.image_size)
        except (ValueError, AttributeError, IndexError, KeyError) as error:  # what readers of models raise
            print(f"{key}: left out: {error}", file=sys.stderr)
            continue
        probabilities = judge.probabilities(rgb, alpha)
        Image.fromarray(to_uint8(torch.cat(list(rgb[:4]), 1))).save(kept.with_suffix(".png"))
        torch.save(probabilities.half(), kept)
        print(f"{number}/{len(tasks)} {noun} {key}: {judge.mass(probabilities, noun):.3f}", flush=True)


def kept_at(work: Path, key: str) -> Path:
    """Where the probabilities [V,1000] of a model are kept; the nouns and classes may change."""
    return work / f"{key.replace('/', '-')}.pt"


def render(mesh: ModelMesh, *, size: int) -> tuple[Tensor, Tensor]:
    """The views of `eval` of a model in its own colours: rgb [V,size,size,3] on white, alpha [V,size,size,1]."""
    cameras = turntable(CameraConfig(), num_frames=NUM_VIEWS, size=size)
    none = np.zeros(len(mesh.materials), dtype=bool)
    g = torch.from_numpy(Caster(mesh).gbuffer(cameras, paint=none, rays=RAYS)).float() / 255
    alpha = g[..., ALPHA, None]
    return g[..., ALBEDO] * g[..., SHADING, None] * alpha + (1 - alpha), alpha


def _held(before: dict[str, Any], task: Task) -> bool:
    noun, key, _ = task
    return any(key in before.get(part, {}).get(noun, {}) for part in ("models", "further"))


def collect(work: Path, tasks: list[Task], before: dict[str, Any], *, part: str = "models") -> dict[str, Any]:
    """The table: by noun the mass of each model, that of `before`, and of the tasks from the kept probabilities, which
    join the models or the further ones; and the nouns that are counted.
    """
    classes = external.Classes.read().classes
    table: dict[str, dict[str, dict[str, float]]] = {
        name: {noun: dict(of) for noun, of in before.get(name, {}).items()} for name in ("models", "further")
    }
    for noun, key, _ in tasks:
        kept = kept_at(work, key)
        if kept.exists():
            probabilities = torch.load(kept, weights_only=True).float()
            mass = float(probabilities[:, list(classes[noun])].amax(1).mean())
            table[part].setdefault(noun, {})[key] = round(mass, 5)
    fixed = [noun for noun, of in sorted(table["models"].items()) if sum(of.values()) / len(of) >= external.MIN_REAL]
    return {
        "judge": external.ImageNet.name,
        "views": f"{NUM_VIEWS} of the turntable, {external.ImageNet.image_size} px, own colours on white",
        "fixed": fixed,
        **{name: dict(sorted(of.items())) for name, of in table.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
