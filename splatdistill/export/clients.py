"""Other programs, by what they ask of a file: its format, its axes, its harmonics. Without torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Client:
    """kind: the format that suits it. stands: how the object stands there. spz_version: of a .spz."""

    kind: str
    stands: str
    spz_version: int = 4


_AS_INRIA = "it stands there as INRIA's own files do, y down; that program was not tried here"

CLIENTS: dict[str, Client] = {
    "supersplat": Client("ply", "it stands upright there, its front towards +z"),
    "playcanvas": Client(
        "sog",
        "it stands upright, its front towards +z, once its entity is turned by 180 degrees about z, as PlayCanvas's "
        "own viewer does; .glb needs no turn",
    ),
    "spark": Client("spz", "it stands upright there, its front towards +z", spz_version=3),  # 2.2 does not read 4
    "unity": Client(
        "ply",
        "UnityGaussianSplatting shows files as they are: turn it by 180 degrees about z and scale x by -1; that "
        "program was not tried here",
    ),
    "unreal": Client("ply", _AS_INRIA),
    "blender": Client("ply", _AS_INRIA),
    "inria": Client("ply", "its y axis points down, as in INRIA's own files"),
}
"""What `--for` names. Every .ply is filled up to degree 3, as the importers for Unity and Blender ask."""
