"""Renders models once into an array and an index, from which any number of pictures is drawn later."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from splatdistill.embedded.corpus import pack
from splatdistill.embedded.corpus.furniture import CC0, Model, check_versions, find_libraries, load_mesh, read_catalogue
from splatdistill.embedded.corpus.layout import BUFFERS, INDEX, Record, ring_cameras, write_index
from splatdistill.embedded.corpus.meshes import ModelMesh, glb_names, read_glb
from splatdistill.embedded.corpus.nouns import NOUNS, File, Noun, read_files, split_key
from splatdistill.embedded.corpus.render import Caster
from splatdistill.embedded.corpus.splits import held_out_instances
from splatdistill.priors.gbuffer import CHANNELS
from splatdistill.scene.cameras import orbit
from splatdistill.scene.types import Cameras
from splatdistill.utils.rng import key

Chosen = tuple[Noun, Model, float]  # and its yaw in degrees


@dataclass(frozen=True)
class Task:
    """One model to render. source: a catalogue entry, or (folder or archive, row of models.csv)."""

    noun: str
    key: str
    source: Model | tuple[Path, File]
    yaw_deg: float
    rings: int
    held_out: bool

    def load(self) -> ModelMesh:
        if isinstance(self.source, Model):
            return load_mesh(self.source, yaw_deg=self.yaw_deg)
        folder, file = self.source
        return read_glb(folder, file.name, yaw_deg=self.yaw_deg)


def build(
    out: Path,
    *,
    furniture: str | None,
    models: Path | None,
    nouns: str,
    cc0_only: bool,
    per_noun: int,
    rings: int,
    procedural: int,
    size: int,
    rays: int,
    seed: int,
    processes: int,
) -> None:
    """Writes gbuffers.npy [I,size,size,8] uint8 and corpus.json: real models, then procedural objects. Views of a
    ring of 4 azimuths are consecutive. All models of a noun have the same cameras, so that any of them
    can be compared.

    furniture: folder of libraries, or "none". models: folder or zip archive of GLB files. nouns: core or all.
    per_noun: of each noun at most, its first ones; 0 for all. rings: for each model. procedural: objects of
    each family.
    """
    tasks = furniture_tasks(furniture, nouns=nouns, cc0_only=cc0_only, per_noun=per_noun, rings=rings)
    tasks += file_tasks(models, per_noun=per_noun, rings=rings) if models else []
    real = 4 * sum(task.rings for task in tasks)
    begin = time.monotonic()
    records, rendered = pack.render_procedural(
        number=procedural, rings=rings, seed=seed, size=size, first=real, processes=processes
    )
    print(f"{len(records)} procedural objects: {len(rendered)} images, {time.monotonic() - begin:.0f} s", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    unfinished = out / f"{BUFFERS}.part"
    buffers = np.lib.format.open_memmap(unfinished, "w+", np.uint8, (real + len(rendered), size, size, CHANNELS))
    buffers[real:] = rendered
    row, rendered_models = 0, []
    with pack.workers(processes) as pool:
        done = pool.map(partial(_render_model, size=size, rays=rays, seed=seed), tasks)
        for number, (task, (cameras, views, shares, parts)) in enumerate(zip(tasks, done, strict=True)):
            buffers[row : row + len(views)] = views
            known = {"noun": task.noun, "key": task.key, "paint_share": round(shares[0], 4), "parts": parts}
            rendered_models.append(Record.make(cameras, first=row, held_out=task.held_out, **known))
            row += len(views)
            took = time.monotonic() - begin
            print(f"{number + 1}/{len(tasks)} {task.key} {task.noun}: {row}/{real} images, {took:.0f} s", flush=True)
    buffers.flush()
    unfinished.rename(out / BUFFERS)
    made_of = {"number": procedural, "rings": rings, "seed": seed}
    (out / INDEX).write_text(
        json.dumps(write_index([*rendered_models, *records], size=size, seed=seed, toys=made_of), indent=1),
        encoding="utf-8",
    )


def furniture_tasks(folder: str | None, *, nouns: str, cc0_only: bool, per_noun: int, rings: int) -> list[Task]:
    """The models of the libraries; core nouns of few models get more rings."""
    if folder == "none":
        return []
    chosen = select_models(folder, nouns=nouns, cc0_only=cc0_only, models=per_noun)
    held = {split_key(k)[0] for noun in NOUNS for k in held_out_instances(noun.models, seen=noun.first)}
    return [
        Task(noun.name, model.key, model, yaw_deg=yaw, rings=rings, held_out=model.key in held)
        for noun, model, yaw in chosen
    ]


def file_tasks(source: Path, *, per_noun: int = 0, rings: int, table: Sequence[File] | None = None) -> list[Task]:
    """The GLB files of a folder or archive that the table (default: models.csv) has a row for and that can be read.
    Every other is named on the standard output, left out and counted.
    """
    rows = {file.name: file for file in (read_files() if table is None else table)}
    tasks, left_out = [], []
    names = glb_names(source)
    seen: Counter[str] = Counter()
    for name in names:
        file = rows.get(Path(name).name)
        if file is None:
            left_out.append(f"{name} has no row in models.csv.")
            continue
        try:
            read_glb(source, name)
        except ValueError as error:
            left_out.append(str(error))
            continue
        seen[file.noun] += 1
        if not per_noun or seen[file.noun] <= per_noun:
            tasks.append(
                Task(file.noun, file.key, (source, replace(file, name=name)), file.front, rings, held_out=False)
            )
    for sentence in left_out:
        print(f"left out: {sentence}", flush=True)
    absent = len(rows.keys() - {Path(name).name for name in names})
    print(
        f"{len(names)} files in {source.name}: {len(names) - len(left_out)} read, {len(left_out)} left out; "
        f"{absent} rows of the table have no file there.",
        flush=True,
    )
    return tasks


def _render_model(
    task: Task, *, size: int, rays: int, seed: int
) -> tuple[Cameras, NDArray[np.uint8], list[float], list[str]]:
    cameras, views, shares, parts = render_mesh(
        task.load(), noun=task.noun, rings=task.rings, size=size, rays=rays, seed=seed
    )
    named = () if isinstance(task.source, Model) else task.source[1].parts
    return cameras, views, shares, list(named or parts)


def render_mesh(
    mesh: ModelMesh, *, noun: str, rings: int = 13, size: int = 64, rays: int = 2, seed: int = 0
) -> tuple[Cameras, NDArray[np.uint8], list[float], list[str]]:
    """The cameras of a noun, the views of a mesh, the shares of its paints and the materials that each covers."""
    caster = Caster(mesh)
    paint, shares = caster.choose_paint(preview_cameras())
    cameras = ring_cameras(rings, size=size, seed=seed, model=key(seed, 0, f"camera/{noun}"))
    found = [{m.name for m, p in zip(mesh.materials, paint, strict=True) if p == slot} for slot in range(len(shares))]
    parts = [";".join(sorted(name for name in names if name)) for names in found]
    return cameras, caster.gbuffer(cameras, paint=paint, rays=rays), shares, parts


def select_models(
    furniture: str | None, *, nouns: str = "all", cc0_only: bool = False, models: int = 0
) -> list[Chosen]:
    """(noun, model, yaw in degrees) for every model of the table, or the first few of each noun; says which ones a
    library lacks.
    """
    libraries = find_libraries(furniture)
    check_versions(libraries)
    catalogue = {m.key: m for archive in libraries for m in read_catalogue(archive)}
    wanted = [
        (noun, *split_key(k)) for noun in NOUNS for k in noun.models[: models or None] if noun.core or nouns == "all"
    ]
    if missing := [k for _, k, _ in wanted if k not in catalogue]:
        raise ValueError(
            f"The libraries lack {len(missing)} models, the first {missing[0]}: all five of version 1.8 are needed."
        )
    chosen = [(noun, catalogue[k], yaw) for noun, k, yaw in wanted]
    return [c for c in chosen if c[1].licence == CC0] if cc0_only else chosen


def attribution(chosen: Sequence[Chosen], files: Sequence[File] = ()) -> str:
    """ATTRIBUTION.md: models that the prior saw, with author, library and licence, and the files of models.csv."""
    lines = [
        "# Attribution",
        "",
        "The embedded prior was trained on renderings of these 3D models, recoloured and captioned by this project. A",
        "prior whose card says that it knows 40 objects saw only the models marked with *.",
        "They come from the furniture libraries of Sweet Home 3D (https://www.sweethome3d.com), Debian package",
        "sweethome3d-furniture 1.8.",
        "The Scopia models are by Emmanuel Puybaret / eTeks and Scopia Visual Interfaces Systems, the KatorLegaz",
        "models copyright 2003-2008 Andrew Kator & Jennifer Legaz.",
        "",
        "| used as | model | author | library | licence |",
        "| --- | --- | --- | --- | --- |",
    ]
    for noun, model, _ in chosen:
        star = "*" if model.key in {split_key(k)[0] for k in noun.first} else ""
        lines.append(
            f"| {noun.name} | {model.name}{star} | {model.creator} | {model.library} no. {model.number} | "
            f"{model.licence} |"
        )
    return "\n".join(lines + (_credit_files(files) if files else [])) + "\n"


def _credit_files(files: Sequence[File]) -> list[str]:
    """A line for each creator, source and licence, the largest first."""
    groups: dict[tuple[str, str, str], Counter[str]] = {}
    for file in files:
        groups.setdefault((file.creator, file.source, file.licence), Counter())[file.noun] += 1
    lines = [
        "",
        "## GLB models",
        "",
        f"Small meshes of known models, and priors that refine them, are made from these {len(files)} files as well; "
        "corpus/models.csv names each.",
        "Weights whose card says that they know 40 objects have not seen them. CC0 asks for no credit; here it is.",
        "",
        "| creator | found in | licence | models |",
        "| --- | --- | --- | --- |",
    ]
    for (creator, source, licence), nouns in sorted(groups.items(), key=lambda pair: -pair[1].total()):
        named = ", ".join(f"{noun} {count}" if count > 1 else noun for noun, count in sorted(nouns.items()))
        lines.append(f"| {creator} | {source} | {licence} | {nouns.total()}: {named} |")
    return lines


def preview_cameras(num: int = 6, *, size: int = 48) -> Cameras:
    """`num` cameras once round, the first in front."""
    azimuth = torch.arange(num) * (2 * math.pi / num)
    one = torch.ones(num)
    return orbit(azimuth=azimuth, elevation=one * 0.35, radius=one * 3.3, fovy=one * 0.66, size=size)
