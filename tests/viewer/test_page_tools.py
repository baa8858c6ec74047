"""Tools of the page: ruler, background, before/after slider, turntables of the gallery, and any pixel ratio."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from splatdistill.io import formats
from splatdistill.io.frames import TO_OURS
from splatdistill.io.video import write_turntable
from splatdistill.ops.geometry import SH_C0, rotation_matrices
from splatdistill.scene.gaussians import Splats
from tests.io.scenes import knot
from tests.viewer.browser import FOVY, RADIUS, look, open_page, psnr, reference, until
from tests.viewer.serving import make_run, serving

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
SMALL = {"width": 800, "height": 301}
MAX_PIXELS = 3840 * 2160  # as stage.ts has it
SOLID = 6.0  # logit of an opacity of 0.998


def balls(places: Any, *, colours: Any = (0.5, 0.5, 0.5), scale: float = 0.05, opacities: Any = SOLID) -> Splats:
    """Round splats; places [N,3]."""
    means = torch.as_tensor(places, dtype=torch.float32)
    count = len(means)
    return Splats(
        means=means,
        quats=torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1),
        scales=torch.full((count, 3), math.log(scale)),
        opacities=torch.as_tensor(opacities, dtype=torch.float32).expand(count).clone(),
        sh0=((torch.as_tensor(colours) - 0.5) / SH_C0).expand(count, 3)[:, None].clone(),
        shN=torch.zeros(count, 0, 3),
    )


def on_canvas(place: np.ndarray, box: dict[str, float]) -> tuple[float, float]:
    """Where a place is on the page that is seen from +z: CSS pixels. The field of view is that of the shorter side."""
    focal = 0.5 * min(box["width"], box["height"]) / math.tan(math.radians(FOVY) / 2)
    x, y, z = place[0], -place[1], RADIUS - place[2]
    return box["x"] + box["width"] / 2 + focal * x / z, box["y"] + box["height"] / 2 + focal * y / z


@pytest.mark.parametrize("up", ["+y", "+z"])
def test_two_clicks_give_the_distance_of_the_splats_that_are_seen_there(browser: Any, tmp_path: Path, up: str) -> None:
    """Not of one that is hidden behind, nor of one in front that is nearly clear."""
    (turn,) = rotation_matrices(torch.tensor([TO_OURS[up]], dtype=torch.float64)).numpy()  # type: ignore[index]
    eye = np.array([0, 0, RADIUS])
    ends = np.array([[-0.5, 0.2, 0.3], [0.4, -0.1, -0.6]])  # as they stand on the page
    clear, hidden = eye + 0.8 * (ends[0] - eye), eye + 1.2 * (ends[0] - eye)
    places = np.stack([*ends, clear, hidden]) @ turn  # as they stand in the file
    formats.write(tmp_path / "k.ply", balls(places, opacities=[SOLID, SOLID, -2.0, SOLID]))
    with serving(tmp_path / "k.ply") as served:
        page = open_page(browser, served.url, **SMALL)
        page.click("#tab-Scene")
        page.select_option("label:has-text('Up axis') select", up)
        look(page, azimuth=0, elevation=0)
        box = page.locator("canvas").bounding_box()
        page.check("label:has-text('Measure') input")
        reading = page.locator("#panel-Scene [role=status]")
        assert reading.inner_text() == "Click on two splats."
        for place, said in zip(ends, ("Click on the second splat.", " world units."), strict=True):
            page.mouse.click(box["x"] + 3, box["y"] + 3)  # nothing is there, and nothing comes of it
            page.mouse.click(*on_canvas(place, box))
            assert reading.inner_text().endswith(said)
        wanted = np.linalg.norm(ends[0] - ends[1])
        # Three digits are shown: half a unit of the last. What is left, fp32 in the file, is a thousandth of that.
        assert abs(float(reading.inner_text().split()[0]) - wanted) <= 0.501 * 10 ** (
            math.floor(math.log10(wanted)) - 2
        )
        page.uncheck("label:has-text('Measure') input")
        page.mouse.click(*on_canvas(ends[0], box))
        assert reading.inner_text() == ""
        page.context.close()


def test_the_background_that_is_chosen_is_on_the_page_and_in_a_screenshot(browser: Any, tmp_path: Path) -> None:
    splats = knot(300)
    formats.write(tmp_path / "k.ply", splats)
    with serving(tmp_path / "k.ply") as served:
        page = open_page(browser, served.url, **SMALL)
        look(page, azimuth=30, elevation=10)
        box = page.locator("canvas").bounding_box()
        for name, level in {"white": 255, "gray": 128, "black": 0}.items():
            page.click("#tab-Scene")
            page.select_option("label:has-text('Background') select", name)
            shown = np.asarray(Image.open(io.BytesIO(page.screenshot(clip=box))).convert("RGB"))
            assert (shown[:4, :4] == level).all(), name
            page.click("#tab-Export")
            with page.expect_download() as started:
                page.click("text=Save a screenshot")
            saved = np.asarray(Image.open(started.value.path()).convert("RGB")) / 255
            (wanted,), _ = reference(splats, [(30.0, 10.0)], len(saved), ground=level / 255)
            assert psnr(saved, wanted) >= 46, name  # the bar of V1
        page.context.close()


def test_the_slider_divides_the_frame_where_it_stands(browser: Any, tmp_path: Path) -> None:
    for name, colour in {"a": (1.0, 0.0, 0.0), "b": (0.0, 0.0, 1.0)}.items():
        make_run(tmp_path / name, balls([[0.0, 0, 0]], colours=colour, scale=3.0))  # fills the frame
    with serving(tmp_path / "a", tmp_path / "b") as served:
        page = open_page(browser, f"{served.url}#run=0", **SMALL)
        look(page, azimuth=0, elevation=0)
        page.click("#tab-Compare")
        page.select_option("#panel-Compare select", "1")
        until(page, "window.splatdistill.view.other?.count === 1")
        page.check("label:has-text('slider') input")
        page.evaluate("window.splatdistill.view.other.settled()")
        page.evaluate("window.splatdistill.view.stage.settled()")
        slider = page.locator("#panel-Compare input[type=range]")
        box = page.locator(".stages").bounding_box()
        for at in (0, 25, 50, 100):
            slider.fill(str(at))
            shown = np.asarray(Image.open(io.BytesIO(page.screenshot(clip=box))).convert("RGB")).astype(int)
            row = shown[len(shown) // 2]
            blue = row[:, 2] > row[:, 0]
            edge = round(at / 100 * len(row))
            # The divider is 2 pixels wide, and begins where one object ends.
            assert not blue[: max(0, edge - 1)].any() and blue[edge + 3 :].all(), at
        page.uncheck("label:has-text('slider') input")
        one, other = (canvas.bounding_box() for canvas in page.locator("canvas").all())
        assert one["x"] + one["width"] <= other["x"]
        page.context.close()


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_a_turntable_of_the_gallery_plays_while_it_is_pointed_at_unless_motion_is_unwanted(
    browser: Any, tmp_path: Path, motion: str
) -> None:
    for name in ("a", "b"):
        make_run(tmp_path / "runs" / name, None)
        frames = [np.full((64, 64, 3), 20 * i, np.uint8) for i in range(12)]
        assert write_turntable(tmp_path / "runs" / name / "turntable.mp4", frames).suffix == ".mp4"
    with serving(tmp_path / "runs") as served:
        page = open_page(browser, served.url, reduced_motion=motion)
        playing = "[...document.querySelectorAll('.cards video')].map((film) => !film.paused)"
        assert page.evaluate(playing) == [False, False]
        plays = motion == "no-preference"
        first = page.locator(".cards a").first
        for begin, end in ((first.hover, page.locator("h1").hover), (first.focus, first.blur)):
            begin()
            assert page.evaluate(playing) == [plays, False]  # `play()` says so at once, before it has loaded
            if plays:
                until(page, "document.querySelector('.cards video').currentTime > 0")
            end()
            assert page.evaluate(playing) == [False, False]
        page.context.close()


@pytest.mark.parametrize("ratio", [1, 2, 3])
def test_the_canvas_has_the_pixels_of_the_screen(browser: Any, tmp_path: Path, ratio: int) -> None:
    splats = knot(300)
    formats.write(tmp_path / "k.ply", splats)
    with serving(tmp_path / "k.ply") as served:
        page = open_page(browser, served.url, device_scale_factor=ratio, **SMALL)
        page.click("#tab-Scene")
        page.select_option("label:has-text('Background') select", "white")
        look(page, azimuth=30, elevation=10)
        box = page.locator("canvas").bounding_box()
        assert pixels(page) == (box["width"] * ratio, box["height"] * ratio)
        side = box["height"]
        assert side % 2 == box["width"] % 2 == 0, "the square in the middle must begin at a pixel"
        square = {"x": box["x"] + (box["width"] - side) / 2, "y": box["y"], "width": side, "height": side}
        shown = np.asarray(Image.open(io.BytesIO(page.screenshot(clip=square))).convert("RGB")) / 255
        assert shown.shape[:2] == (side * ratio, side * ratio)
        (wanted,), _ = reference(splats, [(30.0, 10.0)], len(shown))
        assert psnr(shown, wanted) >= 46  # the bar of V1
        other = 5 - ratio  # the window comes to another screen
        page.context.new_cdp_session(page).send(
            "Emulation.setDeviceMetricsOverride", SMALL | {"deviceScaleFactor": other, "mobile": False}
        )
        look(page, azimuth=0, elevation=0)
        assert pixels(page) == (box["width"] * other, box["height"] * other)
        page.context.close()


def test_the_canvas_has_no_more_pixels_than_are_worth_drawing(browser: Any, tmp_path: Path) -> None:
    formats.write(tmp_path / "k.ply", balls([[0.0, 0, 0]]))
    with serving(tmp_path / "k.ply") as served:
        page = open_page(browser, served.url, device_scale_factor=3, width=1700, height=1000)
        box = page.locator("canvas").bounding_box()
        assert 9 * box["width"] * box["height"] > MAX_PIXELS, "the screen is too small for this"
        width, height = pixels(page)
        assert MAX_PIXELS - width - height <= width * height <= MAX_PIXELS  # less than a pixel is cut off each side
        assert abs(width / height - box["width"] / box["height"]) <= (1 / width + 1 / height) * width / height
        page.context.close()


def pixels(page: Any) -> tuple[int, int]:
    """Width and height of what is drawn."""
    return tuple(page.evaluate("(({ width, height }) => [width, height])(document.querySelector('canvas'))"))
