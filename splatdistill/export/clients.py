"""Other programs, by what they ask of a file: its format, its axes, its harmonics. Without torch.

Spark and PlayCanvas are tried in tests/clients. The others follow their documents and source, read in November 2026:
SuperSplat turns what it loads by 180 degrees about z (playcanvas/supersplat#451). UnityGaussianSplatting takes numbers
as they are into a left-handed world (#4, #133). KIRI's add-on calls Blender's reader of .ply, which turns nothing;
ReshotAI's turns by -90 degrees about x. For Unreal no such document was found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from splatdistill.io.kinds import Up


@dataclass(frozen=True)
class Client:
    """axes: the formats that it is given, the one that suits it first, and which axis then points up in the file.
    stands: how the object stands there, whichever of them it is. spz_versions: those of .spz that it reads.
    """

    axes: Mapping[str, Up]
    stands: str
    spz_versions: tuple[int, ...] = ()

    @property
    def kind(self) -> str:
        """The format that suits it."""
        return next(iter(self.axes))


_UPRIGHT = "it stands upright there, its front towards +z"

CLIENTS: dict[str, Client] = {
    "supersplat": Client(dict.fromkeys(("ply", "compressed.ply", "sog"), "-y"), _UPRIGHT),
    "playcanvas": Client(
        dict.fromkeys(("sog", "ply", "compressed.ply", "glb"), "+y"),
        f"{_UPRIGHT}, with no turn of its entity. SuperSplat turns what it loads, so write another file for that",
    ),
    "spark": Client(dict.fromkeys(("spz", "ply", "compressed.ply", "sog"), "+y"), _UPRIGHT, spz_versions=(2, 3)),
    "unity": Client(
        {"ply": "+y"},
        "set its scale to 1, 1, -1, and it stands upright there, its front towards -z: UnityGaussianSplatting takes "
        "files as they are into a left-handed world. That is from its documents; it was not tried here",
    ),
    "unreal": Client(
        {"ply": "-y"},
        "its y axis points down, as in INRIA's own files, which plugins for Unreal ask for. How it then stands there "
        "is not known here: their documents do not say, and none was tried",
    ),
    "blender": Client(
        {"ply": "+z"},
        "it stands upright in KIRI's 3DGS Render, its front towards -y. ReshotAI's add-on turns what it reads: set "
        "its rotation to 0 there. That is from their source; neither was tried here",
    ),
    "inria": Client({"ply": "-y"}, "its y axis points down and its front towards +z, as in INRIA's own files"),
}
"""What `--for` names. Every .ply is filled up to degree 3, as the importers for Unity and Blender ask."""
