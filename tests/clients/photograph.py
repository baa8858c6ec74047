"""Photographs of files in real programs, in Chromium, from a camera that our own renderer stands at too."""

from __future__ import annotations

import functools
import io
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from splatdistill.io.frames import transform
from splatdistill.rendering.renderer import CpuRenderer
from splatdistill.scene.cameras import orbit
from splatdistill.scene.gaussians import Splats
from splatdistill.scene.types import Cameras
from tests.clients import npm
from tests.patience import PATIENCE
from tests.viewer.browser import psnr

SIZE = 384
FOVY = 37.5  # degrees
TURNS = {"upright": (1, 0, 0, 0), "about x": (0, 1, 0, 0), "about y": (0, 0, 1, 0), "about z": (0, 0, 0, 1)}
"""Half turns, wxyz: how an object may stand in a program."""


@dataclass(frozen=True)
class Studio:
    """A browser, and the folder of which it sees files beside the pages and the packages."""

    browser: Any
    address: str
    files: Path

    def photograph(self, client: str, name: str, *, view: Cameras, **options: Any) -> tuple[np.ndarray, Any]:
        """What `client` draws of files/name, [SIZE,SIZE,3] in 0..1, and what it says of the materials it found."""
        page = self.browser.new_context(viewport={"width": SIZE, "height": SIZE}).new_page()
        page.set_default_timeout(1e3 * PATIENCE)  # ms
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(f"{self.address}/pages/index.html")
        page.wait_for_function("window.loaded")
        scene = {"url": f"{self.address}/files/{name}", **_camera(view), **options}
        page.evaluate("([client, scene]) => window.draw(client, scene)", [client, scene])
        picture = _settled(page)
        materials = page.evaluate("window.materials")
        page.context.close()
        assert faults == [], faults
        return picture, materials


@contextmanager
def studio(browser: Any, files: Path) -> Iterator[Studio]:
    """Serves tests/clients and `files` on a port of this machine's own."""
    npm.install()
    handler = functools.partial(_Handler, files=files, directory=str(npm.HERE))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Studio(browser, f"http://127.0.0.1:{server.server_port}", files)
    server.shutdown()
    thread.join()


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, *args: Any, files: Path, **options: Any) -> None:
        self.files = files
        super().__init__(*args, **options)

    def translate_path(self, path: str) -> str:
        if path.startswith("/files/"):
            return str(self.files / Path(path).name)
        return super().translate_path(path)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _settled(page: Any) -> np.ndarray:
    """The picture that no longer changes: programs sort and load in workers, and draw several times."""
    before = np.zeros(0)
    for _ in range(60):
        page.evaluate(
            "async () => { for (let i = 0; i < 3; i++) { window.frame(); "
            "await new Promise(requestAnimationFrame); } window.frame(); }"
        )
        page.wait_for_timeout(150)
        data = page.locator("canvas").screenshot()
        now = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(np.float64) / 255
        if now.min() < 1 and np.array_equal(now, before):
            return now
        before = now
    return before


def camera(*, azimuth: float, elevation: float, radius: float = 2.6) -> Cameras:
    """One camera; angles in degrees."""
    return orbit(
        azimuth=torch.tensor([math.radians(azimuth)]),
        elevation=torch.tensor([math.radians(elevation)]),
        radius=torch.tensor([radius]),
        fovy=torch.tensor([math.radians(FOVY)]),
        size=SIZE,
    )


def turned(view: Cameras, turn: tuple[int, int, int, int]) -> Cameras:
    """The camera that sees of a turned object what `view` sees of the object."""
    w, x, y, z = turn
    back = np.eye(4)
    back[:3, :3] = Rotation.from_quat([x, y, z, w]).as_matrix().T
    return replace(view, viewmats=view.viewmats @ torch.from_numpy(back).float())


def _camera(view: Cameras) -> dict[str, Any]:
    world = torch.linalg.inv(view.viewmats[0].double()).numpy()
    axes = world[:3, :3] * [1, -1, -1]  # OpenGL's: y up, z backward
    quaternion = Rotation.from_matrix(axes).as_quat().tolist()
    return {"position": world[:3, 3].tolist(), "quaternion": quaternion, "fovy": FOVY, "size": SIZE}


@torch.no_grad()
def ours(splats: Splats, view: Cameras) -> np.ndarray:
    """[SIZE,SIZE,3] in 0..1 on white, as a screen shows it."""
    drawn = CpuRenderer().render(splats, view, background=torch.ones(1, 3)).rgb[0]
    return np.rint(drawn.clamp(0, 1).double().numpy() * 255) / 255


def stands(picture: np.ndarray, splats: Splats, view: Cameras) -> tuple[str, float]:
    """How the object stands in the picture, one of TURNS or "mirrored", and the PSNR against ours that says so."""
    wanted = {name: ours(transform(splats, rotation=turn), view) for name, turn in TURNS.items()}
    found = {name: psnr(picture, image) for name, image in wanted.items()}
    # A mirror image of the scene is the picture from the mirrored camera, flipped; the four turns make all of them.
    mirrored = replace(view, viewmats=_FLIP @ view.viewmats @ _FLIP)
    for turn in TURNS.values():
        image = ours(transform(splats, rotation=turn), mirrored)[:, ::-1]
        found["mirrored"] = max(found.get("mirrored", 0), psnr(picture, image))
    best = max(found, key=found.__getitem__)
    return best, found[best]


_FLIP = torch.diag(torch.tensor([-1.0, 1, 1, 1]))
