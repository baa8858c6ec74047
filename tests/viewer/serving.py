"""Run folders as a training leaves them, and the server around them."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from PIL import Image

from splatdistill.config.schema import OutputConfig, TrainConfig
from splatdistill.io import ply
from splatdistill.scene.gaussians import Splats
from splatdistill.training.run_log import RunLog
from splatdistill.viewer.server import make_app
from tests.patience import PATIENCE

CONFIG = TrainConfig(prompt="a knot of many colours", steps=100, output=OutputConfig(size=64, frames=4))
HOSTILE = '</script><img src=x onerror="window.hacked=1"> <!-- <b>knot</b>'  # a prompt


def make_run(folder: Path, splats: Splats | None, *, done: bool = True, prompt: str = CONFIG.prompt) -> RunLog:
    """A run folder with logs, previews, a contact sheet, and its splats if there are any."""
    log = RunLog(folder, replace(CONFIG, prompt=prompt), command="splatdistill train --prompt x")
    for step in range(10, 101 if done else 41, 10):
        log.metrics(step, grad_norm=100.0 / step, nonfinite=0, num_splats=1000 + step)
    log.summary(step=100 if done else 40, num_splats=1100, seconds_total=50.0, seconds_network=45.0, network_share=0.9)
    for step in (20, 40):
        for i, side in enumerate(("front", "side", "back", "top")):
            picture = np.full((128, 128, 3), 40 + 50 * i + step, np.uint8)
            Image.fromarray(picture).save(folder / "preview" / f"{step:06d}-{side}.jpg")
    Image.fromarray(np.full((128, 256, 3), 200, np.uint8)).save(folder / "contact.png")
    if splats is not None:
        ply.write(folder / "splats.ply", splats)
    if done:
        log.event("done", step=100, num_splats=1100)
    return log


@dataclass
class Served:
    port: int
    token: str
    server: uvicorn.Server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def ask(
        self, path: str, *, method: str = "GET", headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> Any:
        """Status, headers and body of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, dict(answer.headers), answer.read()
        finally:
            connection.close()

    def json(self, path: str) -> Any:
        status, _, body = self.ask(path)
        assert status == 200, body
        return json.loads(body)

    def post(self, path: str, asked: Any, **headers: str) -> tuple[int, bytes]:
        good = {
            "origin": self.url.rstrip("/"),
            "content-type": "application/json",
            "x-splatdistill-token": self.token,
        }
        status, _, body = self.ask(path, method="POST", headers=good | headers, body=json.dumps(asked).encode())
        return status, body

    def raw(self, request: bytes) -> bytes:
        """What comes back for these very bytes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as connection:
            connection.sendall(request)
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
            return answer


@contextmanager
def serving(*paths: Path, port: int = 0, private: bool = False, home: Path | None = None) -> Iterator[Served]:
    listener = socket.create_server(("127.0.0.1", port))
    app = make_app(paths, private=private, home=home)
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield Served(listener.getsockname()[1], app.token, server)
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        listener.close()


@contextmanager
def events(served: Served, run: str = "0", *, last: int | None = None) -> Iterator[Iterator[tuple[str, Any]]]:
    """The events of a run as (kind, data), as long as the block lasts."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=PATIENCE)
    try:
        connection.request(
            "GET", f"/api/runs/{run}/events", headers={} if last is None else {"last-event-id": str(last)}
        )
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()

        def parse() -> Iterator[tuple[str, Any]]:
            kind = ""
            for line in answer:
                if line.startswith(b"event: "):
                    kind = line[7:].strip().decode()
                elif line.startswith(b"data: "):
                    yield kind, json.loads(line[6:])

        yield parse()
    finally:
        connection.close()
