"""What the page draws in a real browser, against our rasteriser, and what it shows where it cannot draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splatdistill.io import formats
from splatdistill.io.kinds import FRAMES, READ
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


def assert_axes(page: Any) -> None:
    view = (35.0, 25.0)
    found = seen(page, azimuth=view[0], elevation=view[1])
    viewmat, K = (getattr(cameras([view]), name)[0].double().numpy() for name in ("viewmats", "Ks"))
    for channel, (name, place) in enumerate(AXES.items()):
        x, y, z = K @ (viewmat @ [*place, 1])[:3]
        others = [i for i in range(3) if i != channel]
        weight = (found[..., channel] - found[..., others].max(-1)).clip(0)
        weight[weight < 0.3] = 0
        rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
        centre = (weight * columns).sum() / weight.sum(), (weight * rows).sum() / weight.sum()
        assert np.hypot(centre[0] - x / z, centre[1] - y / z) <= 2, name


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
        before = seen(page, azimuth=30, elevation=10)
        page.evaluate(
            "window.splatdistill.view.stage.renderer.getContext().getExtension('WEBGL_lose_context').loseContext()"
        )
        until(page, "window.splatdistill.revived === 1")
        assert page.is_hidden(".message")
        assert psnr(seen(page, azimuth=30, elevation=10), before) > 40
        page.context.close()
