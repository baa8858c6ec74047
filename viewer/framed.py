"""The page of one run in a frame of a notebook, from a process of its own: `python -m splatdistill.viewer.framed`."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from splatdistill.utils.system import WINDOWS, interrupt

NOBODY = b"frame-ancestors 'none'"
THIS_MACHINE = b"frame-ancestors http://localhost:* http://127.0.0.1:* http://[::1]:*"


@contextmanager
def framed(run: Path) -> Generator[str, None, None]:
    """The address at which pages of this machine may frame `run`, until the end of the block. It answers as soon as the
    run folder is there, and nothing is printed.
    """
    if WINDOWS:
        raise ValueError("view: on Windows no notebook holds the page; `splatdistill view RUN` opens it in a browser.")
    with socket.create_server(("127.0.0.1", 0)) as listener:  # here, so that the address is known at once
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        child = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "splatdistill.viewer.framed", str(listener.fileno()), str(run)],
            pass_fds=[listener.fileno()],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    try:
        yield address
    finally:
        child.terminate()
        child.communicate()


class Framed:
    """An application behind its guard, whose page alone may stand in a frame of a page of this machine.

    What that page then asks for comes from the same origin, and is guarded as ever.
    """

    def __init__(self, guarded: Any) -> None:
        self.guarded = guarded

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope.get("headers", ()))
        if scope.get("path") != "/" or headers.get(b"sec-fetch-dest") != b"iframe":
            await self.guarded(scope, receive, send)
            return

        async def open_to_frames(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [(name, value.replace(NOBODY, THIS_MACHINE)) for name, value in message["headers"]]
            await send(message)

        kept = [(name, value) for name, value in scope["headers"] if name != b"sec-fetch-site"]
        await self.guarded({**scope, "headers": kept}, receive, open_to_frames)


def main(listener: int, run: Path) -> None:
    """Serves on a socket that is open already, and ends with the process that holds the other end of stdin."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import uvicorn

    from splatdistill.io.runs import Run

    from .server import make_app

    while not Run(run).exists():
        time.sleep(0.1)
    settings = uvicorn.Config(
        Framed(make_app([run])),
        log_level="critical",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    uvicorn.Server(settings).run(sockets=[socket.socket(fileno=listener)])


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    interrupt(signal.SIGTERM)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
