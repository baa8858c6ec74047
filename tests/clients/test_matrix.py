"""Every format in every program that reads it: right way up, same hand, right colours. See docs/clients.md."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Error as browser_error

from splatdistill import cli
from splatdistill.export.clients import CLIENTS
from splatdistill.io.kinds import Up
from tests.clients.letter import letter, suffix, write
from tests.clients.photograph import TURNS, Studio, camera, ours, stands, turned
from tests.clients.table import FLAT, KINDS, PAGE, POINTS, STANDS, UP, page

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
SHORT = {
    ("spark", "spz 3"), ("spark", "sog"), ("playcanvas", "compressed.ply"), ("gsplat", "splat"), ("three", "glb")
}  # fmt: skip
"""What CI sees: each program, and each format but .ply once."""
CELLS = [
    pytest.param(client, kind, id=f"{client}-{kind}", marks=() if (client, kind) in SHORT else pytest.mark.clients)
    for client, kinds in STANDS.items()
    for kind in kinds
]
VIEW = camera(azimuth=30, elevation=20)


def photograph(
    shop: Studio, client: str, kind: str, degree: int, *, up: Up | None = None, **options: Any
) -> np.ndarray:
    """The letter in a program, by the camera that looks from `VIEW` where up is what the program takes for up. up: that
    the file is written with.
    """
    name = f"letter-{degree}-{up}-{kind.replace(' ', '-')}.{suffix(kind)}"
    if not (shop.files / name).exists():
        write(shop.files / name, kind, degree=degree, up=up)
    return seen(shop, client, name, **options)


def seen(shop: Studio, client: str, name: str, **options: Any) -> np.ndarray:
    view = turned(VIEW, TURNS["about x"]) if UP.get(client) == "-y-z" else VIEW
    return shop.photograph(client, name, view=view, **options)[0]


@pytest.mark.parametrize("degree", [0, pytest.param(3, marks=pytest.mark.clients)])
@pytest.mark.parametrize(("client", "kind"), [cell for cell in CELLS if tuple(cell.values) not in POINTS])
def test_splats_stand_as_the_table_says_in_the_right_colours(
    shop: Studio, client: str, kind: str, degree: int, record_property: Any
) -> None:
    picture = photograph(shop, client, kind, degree)
    turn, decibels = stands(picture, letter(degree=0 if (client, kind) in FLAT else degree), VIEW)
    record_property("psnr", decibels)
    print(f"{client} {kind} degree {degree}: {turn}, {decibels:.1f} dB")
    assert turn == STANDS[client][kind]
    assert decibels >= (33 if degree else 35)  # a claim about quality


@pytest.mark.parametrize(("client", "kind"), [cell for cell in CELLS if tuple(cell.values) in POINTS])
def test_points_stand_in_the_right_place_and_colour(shop: Studio, client: str, kind: str) -> None:
    picture = photograph(shop, client, kind, 0)
    wanted = ours(letter(), VIEW)
    assert stands(picture, letter(), VIEW)[0] == STANDS[client][kind]
    solid = wanted.min(-1) < 0.4  # the edges are soft, and points have none
    both = solid & (picture.min(-1) < 0.4)
    assert both.sum() > 0.9 * solid.sum()  # a claim about quality
    assert np.abs(np.median(picture[both], 0) - np.median(wanted[both], 0)).max() <= 2 / 255
    assert np.abs(picture[both].mean(0) - wanted[both].mean(0)).max() <= 12 / 255


TURNED = [
    (client, kind)
    for client, kinds in STANDS.items()
    for kind, turn in kinds.items()
    if turn != "upright" and kind != "splat"  # of that the axes are fixed
]


@pytest.mark.clients
@pytest.mark.parametrize(("client", "kind"), TURNED)
def test_a_file_of_the_axes_of_the_program_is_upright(shop: Studio, client: str, kind: str) -> None:
    picture = photograph(shop, client, kind, 0, up=UP.get(client, "+y"))
    assert stands(picture, letter(), VIEW)[0] == "upright"


@pytest.mark.clients
@pytest.mark.parametrize(
    ("client", "kind"), [(client, kind) for client in ("spark", "playcanvas") for kind in CLIENTS[client].axes]
)
def test_what_export_writes_for_a_program_stands_upright_there(shop: Studio, client: str, kind: str) -> None:
    write(shop.files / "source.ply", "ply", degree=3)
    name = f"for-{client}.{kind}"
    words = ["export", str(shop.files / "source.ply"), "--for", client, "--format", kind]
    assert cli.main([*words, "--output", str(shop.files / name)]) == cli.DONE
    stood, decibels = stands(seen(shop, client, name), letter(degree=3), VIEW)
    assert stood == "upright" and decibels >= 33  # a claim about quality


def test_the_page_shows_this_table() -> None:
    assert PAGE.read_text() == page(), "python -m tests.clients.table writes it"


UNREAD = [
    (client, kind)
    for client, kinds in STANDS.items()
    for kind in KINDS
    if kind not in kinds and (kind not in ("spz 2", "spz 3") or "spz 3" in kinds)  # 4 stands for all where none is
]


@pytest.mark.clients
@pytest.mark.parametrize(("client", "kind"), UNREAD)
def test_what_the_table_leaves_out_is_not_read(shop: Studio, client: str, kind: str) -> None:
    try:
        picture = photograph(shop, client, kind, 0)
    except browser_error:  # it says so
        return
    # A claim about quality: 20 dB is below what the letter in wrong colours reaches.
    assert stands(picture, letter(), VIEW)[1] < 20
