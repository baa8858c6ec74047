"""A real Chromium on the page. It draws in software: small canvases, few splats, and waits for what is drawn."""

from __future__ import annotations

import base64
import math
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from splatdistill.rendering.renderer import CpuRenderer
from splatdistill.scene.cameras import orbit
from splatdistill.scene.gaussians import Splats
from splatdistill.scene.types import Cameras
from tests.patience import PATIENCE

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--no-sandbox",  # CI runs as root
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--disable-background-networking",
    "--force-color-profile=srgb",
]
SIZE = 256
FOVY = 37.5
RADIUS = 3.6


@contextmanager
def chromium() -> Iterator[Any]:
    """The browser; skips without one, unless SPLATDISTILL_REQUIRE_BROWSER is 1."""
    if CHROMIUM is None and os.environ.get("SPLATDISTILL_REQUIRE_BROWSER") != "1":
        pytest.skip("needs Debian's package chromium, and there is none")
    assert CHROMIUM is not None, "SPLATDISTILL_REQUIRE_BROWSER is 1, but there is no chromium on the PATH"
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


def open_page(browser: Any, url: str, *, width: int = 900, height: int = 600, **options: Any) -> Any:
    """A page of its own that has drawn what it shows; fails for errors in its script."""
    page = browser.new_context(viewport={"width": width, "height": height}, **options).new_page()
    page.set_default_timeout(1e3 * PATIENCE)  # ms
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("console", lambda message: page.faults.append(message.text) if "Content Security" in message.text else None)
    page.goto(url)
    ready(page)
    return page


def ready(page: Any) -> None:
    until(page, "window.splatdistill?.ready")
    assert page.faults == []


def until(page: Any, true: str) -> None:
    """Waits for an expression to hold; playwright's own way of it is code from text, which our policy forbids."""
    deadline = time.monotonic() + PATIENCE
    while not page.evaluate(true):
        assert time.monotonic() < deadline, f"never came: {true}"
        page.wait_for_timeout(50)


def seen(page: Any, *, azimuth: float, elevation: float, size: int = SIZE) -> np.ndarray:
    """[size,size,3] in 0..1: what the page draws from there, on white."""
    data = page.evaluate(
        """async ([azimuth, elevation, radius, fovy, size]) => {
            const stage = window.splatdistill.view.stage;
            stage.viewpoint.controls.target.set(0, 0, 0);
            stage.viewpoint.place({ fovy, radius, elevation });
            stage.viewpoint.look(azimuth, elevation, radius);
            const pixels = await stage.capture(size, "#ffffff");
            let text = "";
            for (let i = 0; i < pixels.length; i += 4096) text += String.fromCharCode(...pixels.subarray(i, i + 4096));
            return btoa(text);
        }""",
        [azimuth, elevation, RADIUS, FOVY, size],
    )
    pixels = np.frombuffer(base64.b64decode(data), np.uint8).reshape(size, size, 4)
    return pixels[..., :3].astype(np.float64) / 255


def look(page: Any, *, azimuth: float, elevation: float) -> None:
    """Sees the origin from there, and waits until that is drawn."""
    page.evaluate(
        """async ([azimuth, elevation, radius, fovy]) => {
            const stage = window.splatdistill.view.stage;
            stage.viewpoint.controls.target.set(0, 0, 0);
            stage.viewpoint.place({ fovy, radius, elevation });
            stage.viewpoint.look(azimuth, elevation, radius);
            await stage.settled();
        }""",
        [azimuth, elevation, RADIUS, FOVY],
    )


def drop(page: Any, data: bytes, name: str) -> None:
    """Drops a file on the page and waits until it was drawn or refused."""
    page.evaluate(
        """async ([bytes, name]) => {
            const file = new File([new Uint8Array(bytes)], name);
            await window.splatdistill.open(file);
        }""",
        [list(data), name],
    )


def cameras(views: list[tuple[float, float]], size: int = SIZE) -> Cameras:
    angles = torch.tensor(views).deg2rad()
    full = torch.ones(len(views))
    fovy = full * math.radians(FOVY)
    return orbit(azimuth=angles[:, 0], elevation=angles[:, 1], radius=full * RADIUS, fovy=fovy, size=size)


@torch.no_grad()
def reference(
    splats: Splats, views: list[tuple[float, float]], size: int = SIZE, *, ground: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """[V,size,size,3] and alpha [V,size,size] of our rasteriser, on white or another grey in 0..1."""
    background = torch.full((len(views), 3), ground)
    drawn = CpuRenderer().render(splats, cameras(views, size), background=background)
    return drawn.rgb.clamp(0, 1).double().numpy(), drawn.alpha[..., 0].double().numpy()


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * math.log10(1 / max(1e-12, float(np.mean((a - b) ** 2))))


def picture(page: Any, path: Path) -> np.ndarray:
    page.screenshot(path=str(path))
    return np.asarray(Image.open(path).convert("RGB"))
