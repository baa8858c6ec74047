"""What a built corpus holds, the cameras its pictures were taken with, and the records that describe it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from splatdistill.config.schema import CameraConfig
from splatdistill.scene.cameras import orbit, sample
from splatdistill.scene.types import Cameras
from splatdistill.utils.rng import generator

ANGLES = ("azimuth", "elevation", "radius", "fovy")
BUFFERS, INDEX = "gbuffers.npy", "corpus.json"
TEST_RINGS = 1
"""The last rings of each model are kept from the fit, and from the refiner."""
COMMON = CameraConfig(elevation_deg=(0.0, 40.0), fovy_deg=(30.0, 45.0), fill=(0.8, 0.95))
WIDE = dataclasses.replace(COMMON, elevation_deg=(-10.0, 60.0))
_WIDE_EVERY = 5  # one ring in five goes beyond the common elevations


@dataclass(frozen=True)
class Record:
    """One object of a corpus: rows `first` to `first + len(azimuth)` of the buffers, four in a row making a ring.

    noun: of the furniture table, a family of procedural objects or a shape. relation: (word, other shape) or None.
    paint_share: of the visible surface that the first mask covers. parts: names of what the three masks cover, as the
    file has them. held_out: kept from training. azimuth, elevation, fovy: rad; radius: world units. fovy is
    empty in an old corpus.
    """

    noun: str
    key: str
    first: int
    azimuth: list[float]
    elevation: list[float]
    radius: list[float]
    fovy: list[float] = field(default_factory=list)
    toy: bool = False  # procedural; named so in folders that were written
    relation: tuple[str, str] | None = None
    paint_share: float = 1.0
    parts: list[str] = field(default_factory=list)
    held_out: bool = False

    @classmethod
    def make(cls, cameras: Cameras, **values: Any) -> Record:
        return cls(**angles(cameras), **values)

    def cameras(self, rows: Sequence[int], *, size: int) -> Cameras:
        """Those of some of its views. ValueError for a corpus that was built before the field of view was kept."""
        if not self.fovy:
            raise ValueError(f"{INDEX} does not say the fields of view: build the corpus again.")
        azimuth, elevation, radius, fovy = (torch.tensor([getattr(self, name)[row] for row in rows]) for name in ANGLES)
        return orbit(azimuth=azimuth, elevation=elevation, radius=radius, fovy=fovy, size=size)


def angles(cameras: Cameras) -> dict[str, list[float]]:
    """What a record keeps of its cameras."""
    fovy = 2 * torch.atan(0.5 * cameras.height / cameras.Ks[:, 1, 1])
    values = (cameras.azimuth, cameras.elevation, cameras.radius, fovy)
    return {name: value.tolist() for name, value in zip(ANGLES, values, strict=True)}


def write_index(records: Sequence[Record], **values: Any) -> dict[str, Any]:
    """The contents of corpus.json; values: its other entries."""
    return {**values, "models": [asdict(record) for record in records]}


def read_index(index: dict[str, Any]) -> list[Record]:
    """The records of corpus.json. ValueError, one sentence, for one of another version or without models."""
    try:
        records = [
            Record(**{**r, "relation": tuple(r["relation"]) if r.get("relation") else None}) for r in index["models"]
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{INDEX} is not of this version: build the corpus again.") from error
    if not records:
        raise ValueError("The corpus holds no models: build it with --nouns all or with --procedural.")
    return records


def ring_cameras(rings: int, *, size: int, seed: int, model: int) -> Cameras:
    """4 x rings cameras of one model, drawn by the sampler that distillation uses."""
    draw = generator(seed, model, "camera")
    parts = [
        sample(WIDE if ring % _WIDE_EVERY == 0 else COMMON, num_views=4, size=size, generator=draw)
        for ring in range(rings)
    ]
    return Cameras(
        viewmats=torch.cat([c.viewmats for c in parts]), Ks=torch.cat([c.Ks for c in parts]), width=size, height=size,
        azimuth=torch.cat([c.azimuth for c in parts]), elevation=torch.cat([c.elevation for c in parts]),
        radius=torch.cat([c.radius for c in parts]),
    )  # fmt: skip
