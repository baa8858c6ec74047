"""Renders the chosen models once into an array and an index, from which any number of pictures is drawn later."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from splatdistill.cameras import orbit
from splatdistill.embedded.corpus.furniture import Model, find_libraries, load_mesh, read_catalogue
from splatdistill.embedded.corpus.layout import BUFFERS, INDEX, ring_cameras
from splatdistill.embedded.corpus.nouns import NOUNS, Noun, split_key
from splatdistill.embedded.corpus.render import CHANNELS, Caster
from splatdistill.types import Cameras


def build(out: Path, *, furniture: str | None, rings: int, size: int, seed: int) -> None:
    """Writes gbuffers.npy [I,size,size,6] uint8 and corpus.json. Images of a ring of 4 azimuths are consecutive."""
    chosen = select_models(furniture)
    counts = [max(rings, round(rings * 3 / len(noun.models))) for noun, _, _ in chosen]
    total = 4 * sum(counts)
    out.mkdir(parents=True, exist_ok=True)
    unfinished = out / f"{BUFFERS}.part"
    buffers = np.lib.format.open_memmap(unfinished, "w+", np.uint8, (total, size, size, CHANNELS))
    index: dict[str, Any] = {"size": size, "seed": seed, "models": []}
    row, begin = 0, time.monotonic()
    for number, ((noun, model, yaw), count) in enumerate(zip(chosen, counts, strict=True)):
        caster = Caster(load_mesh(model, yaw_deg=yaw))
        paint, share = caster.choose_paint(_preview_cameras())
        cameras = ring_cameras(count, size=size, seed=seed, model=number)
        buffers[row : row + 4 * count] = caster.gbuffer(cameras, paint=paint)
        index["models"].append(_record(noun, model, share=share, first=row, cameras=cameras))
        row += 4 * count
        done = time.monotonic() - begin
        print(f"{number + 1}/{len(chosen)} {model.key} {noun.name}: {row}/{total} images, {done:.0f} s", flush=True)
    buffers.flush()
    unfinished.rename(out / BUFFERS)
    (out / INDEX).write_text(json.dumps(index, indent=1))


def select_models(furniture: str | None) -> list[tuple[Noun, Model, float]]:
    """(noun, model, yaw in degrees) for every model of the table; says which ones a library lacks."""
    catalogue = {m.key: m for archive in find_libraries(furniture) for m in read_catalogue(archive)}
    wanted = [(noun, *split_key(key)) for noun in NOUNS for key in noun.models]
    if missing := [key for _, key, _ in wanted if key not in catalogue]:
        raise ValueError(f"The furniture libraries lack {', '.join(missing)}: version 1.8 of the models is needed.")
    return [(noun, catalogue[key], yaw) for noun, key, yaw in wanted]


def attribution(furniture: str | None) -> str:
    """ATTRIBUTION.md: every model that the prior saw, with author, library and licence."""
    lines = [
        "# Attribution",
        "",
        "The embedded prior was trained on renderings of these 3D models, recoloured and captioned by this project.",
        "They come from the furniture libraries of Sweet Home 3D (https://www.sweethome3d.com), Debian package",
        "sweethome3d-furniture 1.8.",
        "The Scopia models are by Emmanuel Puybaret / eTeks and Scopia Visual Interfaces Systems, the KatorLegaz",
        "models copyright 2003-2008 Andrew Kator & Jennifer Legaz.",
        "",
        "| used as | model | author | library | licence |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {noun.name} | {model.name} | {model.creator} | {model.library} no. {model.number} | {model.licence} |"
        for noun, model, _ in select_models(furniture)
    ]
    return "\n".join(lines) + "\n"


def _preview_cameras() -> Cameras:
    azimuth = torch.arange(6) * (math.pi / 3)
    one = torch.ones(6)
    return orbit(azimuth=azimuth, elevation=one * 0.35, radius=one * 3.3, fovy=one * 0.66, size=48)


def _record(noun: Noun, model: Model, *, share: float, first: int, cameras: Cameras) -> dict[str, Any]:
    return {
        "noun": noun.name, "key": model.key, "paint_share": round(share, 4), "first": first,
        "azimuth": cameras.azimuth.tolist(), "elevation": cameras.elevation.tolist(), "radius": cameras.radius.tolist(),
    }  # fmt: skip
