"""What the page draws in a real browser, against our rasteriser, and what it shows where it cannot draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from splatdistill.io import formats
from splatdistill.io.frames import TO_OURS
from splatdistill.io.kinds import FRAMES, READ
from splatdistill.ops.geometry import rotation_matrices
from tests.io.scenes import AXES, axes, knot
from tests.viewer.browser import SIZE, cameras, drop, open_page, psnr, reference, seen, until
from tests.viewer.serving import make_run, serving

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
VIEWS = [(0.0, 15.0), (60.0, 0.0), (125.0, 40.0), (180.0, -30.0), (-110.0, 10.0), (-40.0, 75.0)]


@pytest.mark.parametrize("degree", [0, 3])
def test_v1_the_picture_is_that_of_our_rasteriser(
    browser: Any, tmp_path: Path, degree: int, record_property: Any
) -> None:
    splats = knot(3000, degree=degree)
    splats.shN.mul_(0.5)  # Spark keeps harmonics in few bits: the stronger they are, the further off (0.1: 42.6 dB)
    formats.write(tmp_path / "knot.ply", splats)
    wanted, alpha = reference(splats, VIEWS)
    with serving(tmp_path / "knot.ply") as served:
        page = open_page(browser, served.url)
        found = [seen(page, azimuth=a, elevation=e) for a, e in VIEWS]
        page.context.close()
    whole = [psnr(x, y) for x, y in zip(found, wanted, strict=True)]
    front = [psnr(x[m], y[m]) for x, y, m in zip(found, wanted, alpha > 0.01, strict=True)]
    ranges = [f"{name} {min(some):.1f}..{max(some):.1f} dB" for name, some in (("whole", whole), ("foreground", front))]
    print(f"V1 degree {degree}: {', '.join(ranges)}")
    record_property("psnr", {"whole": whole, "foreground": front})
    assert min(whole) >= 46
    assert min(front) >= 38


@pytest.mark.parametrize("kind", [kind for kind in FRAMES if kind in READ])
def test_v2_the_axes_point_the_right_way_in_every_format(browser: Any, tmp_path: Path, kind: str) -> None:
    formats.write(tmp_path / f"axes.{kind}", axes())
    with serving(tmp_path / f"axes.{kind}") as served:
        page = open_page(browser, served.url)
        assert_axes(page)
        drop(page, (tmp_path / f"axes.{kind}").read_bytes(), f"axes.{kind}")
        assert_axes(page)
        page.context.close()


def assert_axes(page: Any, turn: np.ndarray | None = None) -> None:
    """The balls of `axes` are drawn where they lie; turn: [3,3], of the whole scene."""
    view, turn = (35.0, 25.0), np.eye(3) if turn is None else turn
    found = seen(page, azimuth=view[0], elevation=view[1])
    viewmat, K = (getattr(cameras([view]), name)[0].double().numpy() for name in ("viewmats", "Ks"))
    for channel, (name, place) in enumerate(AXES.items()):
        x, y, z = K @ (viewmat @ [*(turn @ place), 1])[:3]
        others = [i for i in range(3) if i != channel]
        weight = (found[..., channel] - found[..., others].max(-1)).clip(0)
        weight[weight < 0.3] = 0
        rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
        centre = (weight * columns).sum() / weight.sum(), (weight * rows).sum() / weight.sum()
        assert np.hypot(centre[0] - x / z, centre[1] - y / z) <= 2, name


def test_the_key_y_takes_the_next_axis_for_the_one_that_points_up(browser: Any, tmp_path: Path) -> None:
    """What the page says is up, and what it draws: the scene turned so that this axis points up."""
    formats.write(tmp_path / "axes.ply", axes())
    with serving(tmp_path / "axes.ply") as served:
        page = open_page(browser, served.url)
        page.click("#tab-Scene")
        chosen = page.locator("label:has-text('Up axis') select")
        page.focus("canvas")
        for up in ("-y", "+z", "-z", "+y"):
            page.keyboard.press("y")
            assert chosen.input_value() == up
            (turn,) = rotation_matrices(torch.tensor([TO_OURS[up]], dtype=torch.float64)).numpy()
            assert_axes(page, turn)
        chosen.select_option("-z")
        assert_axes(page, rotation_matrices(torch.tensor([TO_OURS["-z"]], dtype=torch.float64)).numpy()[0])
        page.context.close()


def test_v11_without_webgl2_there_are_pictures(browser: Any, tmp_path: Path) -> None:
    make_run(tmp_path / "run", knot(100))
    with serving(tmp_path / "run") as served:
        context = browser.new_context()
        page = context.new_page()
        page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
        page.goto(served.url)
        page.wait_for_selector("text=This browser has no WebGL2")
        until(page, "document.querySelector('.fallback img')?.naturalWidth > 0")
        assert page.locator("[role=tab]").count() == 6
        context.close()


def test_v11_lost_graphics_come_back(browser: Any, tmp_path: Path) -> None:
    formats.write(tmp_path / "knot.ply", knot(500))
    with serving(tmp_path / "knot.ply") as served:
        page = open_page(browser, served.url)
        page.focus("canvas")
        page.keyboard.press("y")
        before = seen(page, azimuth=30, elevation=10)
        page.evaluate(
            "window.splatdistill.view.stage.renderer.getContext().getExtension('WEBGL_lose_context').loseContext()"
        )
        until(page, "window.splatdistill.revived === 1")
        assert page.is_hidden(".message")
        assert psnr(seen(page, azimuth=30, elevation=10), before) > 40
        page.context.close()


def test_leaving_a_page_that_still_draws_is_no_error(browser: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_run(tmp_path / "runs" / name, knot(500))
    with serving(tmp_path / "runs") as served:
        page = open_page(browser, f"{served.url}#all")
        left = page.evaluate(
            """async () => {
                const soon = () => new Promise((resolve) => setTimeout(resolve));
                window.left = [];
                for (let i = 0; i < 6; i++) {
                    location.hash = "#run=" + (i % 2);
                    while (!window.splatdistill.view?.stage?.spark.sorting) await soon();
                    window.left.push(window.splatdistill.view.stage.spark);
                    location.hash = "#all";
                    while (window.splatdistill.view) await soon();
                }
                return window.left.length;
            }"""
        )
        assert left == 6
        # A sort that failed never ends; the error is there as soon as it fails.
        while not page.faults and not page.evaluate("window.left.every((spark) => !spark.sorting)"):
            page.wait_for_timeout(50)
        assert page.faults == []
        page.context.close()
