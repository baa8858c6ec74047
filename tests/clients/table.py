"""Which program reads which format, and how the object then stands: what test_matrix.py photographs, as one table.

`python -m tests.clients.table` writes docs/clients.md anew.
"""

from __future__ import annotations

import json
from pathlib import Path

from splatdistill.io.kinds import Up
from tests.clients import npm

PAGE = Path(__file__).parents[2] / "docs" / "clients.md"
KINDS = ("ply", "compressed.ply", "splat", "spz 2", "spz 3", "spz 4", "sog", "glb")

STANDS = {
    "spark": {
        **dict.fromkeys(("ply", "compressed.ply", "splat", "sog"), "about z"), "spz 2": "upright", "spz 3": "upright"
    },
    "playcanvas": {**dict.fromkeys(("ply", "compressed.ply", "sog"), "about z"), "glb": "upright"},
    "gsplat": {"ply": "about y", "splat": "about y"},
    "three": {"glb": "upright"},
}  # fmt: skip
"""By program and format: upright, or the half turn that the object has made. What is not here is not read."""

FLAT = {("gsplat", "ply"), ("gsplat", "splat"), ("spark", "splat")}
"""Where colours do not depend on the view: the program ignores harmonics, or the format has none."""
POINTS = {("three", "glb")}
"""Where splats are shown as points."""
UP: dict[str, Up] = {"gsplat": "-y-z"}
"""How a program's own camera stands, as the axes of a file are named, where it is not +y up."""

NAMES = {
    "spark": ("Spark", "@sparkjsdev/spark"),
    "playcanvas": ("PlayCanvas engine", "playcanvas"),
    "gsplat": ("gsplat.js", "gsplat"),
    "three": ("three.js GLTFLoader", "three"),
}


def page() -> str:
    """The text of docs/clients.md."""
    versions = json.loads((npm.HERE / "package.json").read_text())["dependencies"]
    rows = [["", *(f"`{kind}`" for kind in KINDS)], ["---"] * (1 + len(KINDS))]
    for client, (name, package) in NAMES.items():
        rows.append([f"{name} {versions[package]}", *(_cell(client, kind) for kind in KINDS)])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return _TEXT.format(table=table, transform=versions["@playcanvas/splat-transform"])


def _cell(client: str, kind: str) -> str:
    stands = STANDS[client].get(kind)
    if stands is None:
        return "not read"
    turn = stands if stands == "upright" else f"half a turn {stands}"
    if (client, kind) in POINTS:
        return f"{turn}, as points"
    return f"{turn}, one colour a splat" if (client, kind) in FLAT else turn


_TEXT = """# Files in other programs

`tests/clients` loads files of `splatdistill export` in real programs and photographs them in Chromium. The object is
a letter F with coloured axes, so a wrong turn, a mirror or a wrong colour shows. The camera is the one that the
program has by itself.

{table}

The number of a .spz is its version; `export --format spz` writes 3, and `--spz-version` another. Upright: as our own
pictures show it. Half a turn: turn the object back by 180 degrees about that axis; about y it stands upright and shows
its back. No cell is mirrored. Splats agree with our renderer to 35 dB or better, with harmonics of degree 3 to 33 dB.
One colour a splat: the program or the format drops what depends on the view.

What `export --for spark` and `--for playcanvas` write stands upright there, in each format that they take. A
`splats.ply` of a run, of which +y is up, does so as it is.

`@playcanvas/splat-transform` {transform} and gaussforge read every column but `glb`, and write them too. Positions
keep to 0.001 of a unit and colours to 1/255. What went through them has lost our word about the axis that is up. It is
then taken for -y, and stands upright but where it was a `.spz` of ours: for that `--up +y` is needed.

The glTF validator of Khronos finds one kind of error in our `.glb`: attribute names of `KHR_gaussian_splatting`, which
it does not know. It finds none in a mesh.

A mesh of `export --format mesh` is closed, of 20,000 triangles at most, and matt. In three.js it has the colours of the
splats in white ambient light of irradiance pi, to 12 of 255 in the mean. Under a lamp and under a sky it is what a
Lambert material of the same colours is.

Blender's module 4.5, where `pip install bpy` has been, reads both files of a mesh upright, +z being up there. Every
corner, normal and colour is as it was sent; metallic is 0 and rough 1. A `.glb` is drawn in its colours, to 12 of 255
in the mean. Those of an `.obj` are there, but Blender links no material to them. A `.ply` of splats is points to it,
with the axes as they are: turn them by -90 degrees about x. Unity and Unreal were not tried.

OpenUSD's own validators, all of them, find nothing in our `.usda` and `.usdz`.
"""


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())
