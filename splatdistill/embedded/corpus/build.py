"""Renders models once into an array and an index, from which any number of pictures is drawn later."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from splatdistill.cameras import orbit
from splatdistill.embedded.corpus import pack
from splatdistill.embedded.corpus.furniture import CC0, Model, check_versions, find_libraries, load_mesh, read_catalogue
from splatdistill.embedded.corpus.layout import BUFFERS, INDEX, Record, ring_cameras, write_index
from splatdistill.embedded.corpus.nouns import NOUNS, Noun, split_key
from splatdistill.embedded.corpus.rays import CHANNELS
from splatdistill.embedded.corpus.render import Caster
from splatdistill.embedded.corpus.splits import held_out_instances
from splatdistill.rng import key
from splatdistill.types import Cameras

Chosen = tuple[Noun, Model, float]  # and its yaw in degrees


def build(
    out: Path,
    *,
    furniture: str | None,
    nouns: str,
    cc0_only: bool,
    models: int,
    rings: int,
    toys: int,
    size: int,
    seed: int,
    processes: int,
) -> None:
    """Writes gbuffers.npy [I,size,size,8] uint8 and corpus.json: real models, then toys. Views of a ring of 4 azimuths
    are consecutive.

    nouns: core or all. models: of each noun at most, its first ones; 0 for all. rings: for each model; nouns of few
    models get more. toys: of each family.
    """
    chosen = select_models(furniture, nouns=nouns, cc0_only=cc0_only, models=models)
    of_noun = {noun.name: sum(other is noun for other, _, _ in chosen) for noun, _, _ in chosen}
    counts = [max(rings, round(rings * 3 / of_noun[noun.name])) if noun.core else rings for noun, _, _ in chosen]
    real = 4 * sum(counts)
    begin = time.monotonic()
    records, rendered = pack.render_toys(
        number=toys, rings=rings, seed=seed, size=size, first=real, processes=processes
    )
    print(f"{len(records)} toys: {len(rendered)} images, {time.monotonic() - begin:.0f} s", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    unfinished = out / f"{BUFFERS}.part"
    buffers = np.lib.format.open_memmap(unfinished, "w+", np.uint8, (real + len(rendered), size, size, CHANNELS))
    buffers[real:] = rendered
    held = {split_key(k)[0] for noun in NOUNS for k in held_out_instances(noun.models, seen=noun.first)}
    row, rendered_models = 0, []
    tasks = [(model, yaw, count) for (_, model, yaw), count in zip(chosen, counts, strict=True)]
    with pack.workers(processes) as pool:
        done = pool.map(partial(_render_model, size=size, seed=seed), tasks)
        for number, ((noun, model, _), (cameras, views, share)) in enumerate(zip(chosen, done, strict=True)):
            buffers[row : row + len(views)] = views
            known = {"noun": noun.name, "key": model.key, "paint_share": round(share, 4), "held_out": model.key in held}
            rendered_models.append(Record.make(cameras, first=row, **known))
            row += len(views)
            took = time.monotonic() - begin
            print(f"{number + 1}/{len(chosen)} {model.key} {noun.name}: {row}/{real} images, {took:.0f} s", flush=True)
    buffers.flush()
    unfinished.rename(out / BUFFERS)
    made_of = {"number": toys, "rings": rings, "seed": seed}
    (out / INDEX).write_text(
        json.dumps(write_index([*rendered_models, *records], size=size, seed=seed, toys=made_of), indent=1)
    )


def _render_model(task: tuple[Model, float, int], *, size: int, seed: int) -> tuple[Cameras, NDArray[np.uint8], float]:
    """Cameras, views and share of paint of a model with its yaw and number of rings."""
    model, yaw, rings = task
    caster = Caster(load_mesh(model, yaw_deg=yaw))
    paint, share = caster.choose_paint(preview_cameras())
    cameras = ring_cameras(rings, size=size, seed=seed, model=key(seed, 0, f"camera/{model.key}"))
    return cameras, caster.gbuffer(cameras, paint=paint), share


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


def attribution(chosen: Sequence[Chosen]) -> str:
    """ATTRIBUTION.md: models that the prior saw, with author, library and licence."""
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
    return "\n".join(lines) + "\n"


def preview_cameras(num: int = 6, *, size: int = 48) -> Cameras:
    """`num` cameras once round, the first in front."""
    azimuth = torch.arange(num) * (2 * math.pi / num)
    one = torch.ones(num)
    return orbit(azimuth=azimuth, elevation=one * 0.35, radius=one * 3.3, fovy=one * 0.66, size=size)
