"""A thousand strangers at once: the owner is served, the limit of streams holds, and stderr stays short."""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from splatdistill.viewer import connections
from splatdistill.viewer.security import COOKIE
from splatdistill.viewer.streams import MAX_STREAMS
from tests.packaging.audit import ROOT
from tests.patience import PATIENCE
from tests.viewer.serving import make_run

CROWD = 1000
MOST_LINES = 100  # on stderr, the bar


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * CROWD
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"this process may open {hard} files, and the crowd needs {wanted}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class View:
    """A `splatdistill view` that other machines can reach, with few files to open."""

    def __init__(self, run: Path, errors: Path) -> None:
        limits = "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (256, r.getrlimit(r.RLIMIT_NOFILE)[1])); "
        words = ["view", str(run), "--host", "0.0.0.0", "--port", "0", "--no-browser"]
        code = f"{limits}import sys; from splatdistill.cli import main; sys.exit(main({words!r}))"
        with errors.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=file, text=True
            )
        assert self.process.stdout is not None
        address = urlsplit(self.process.stdout.readline().strip())
        self.port, self.token = int(address.port or 0), address.query.partition("=")[2]

    def crowd(self, request: bytes) -> list[socket.socket]:
        """CROWD connections, each with these bytes sent."""
        found = []
        for _ in range(CROWD):
            one = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
            try:
                one.sendall(request)
            except OSError:  # it was closed already
                pass
            found.append(one)
        return found

    def ask(self, path: str) -> int:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.request("GET", path, headers={"cookie": f"{COOKIE}={self.token}"})
        try:
            return connection.getresponse().status
        finally:
            connection.close()


@contextmanager
def viewing(folder: Path) -> Iterator[View]:
    make_run(folder / "run", None).close()
    view = View(folder / "run", folder / "stderr.txt")
    try:
        yield view
    finally:
        view.process.kill()
        view.process.wait()


def test_half_requests_lock_nobody_out(tmp_path: Path, many_files: None) -> None:
    with viewing(tmp_path) as view:
        crowd = view.crowd(b"GET / HTTP/1.1\r\nhost: x\r\n")
        for path in ("/", "/api/runs", "/viewer.css"):
            assert view.ask(path) == 200
        for one in crowd:
            one.close()
        assert view.ask("/api/runs") == 200
    assert len((tmp_path / "stderr.txt").read_text().splitlines()) <= MOST_LINES


def test_streams_are_counted_as_they_come(tmp_path: Path, many_files: None) -> None:
    with viewing(tmp_path) as view:
        head = f"GET /api/runs/0/events HTTP/1.1\r\nhost: x\r\ncookie: {COOKIE}={view.token}\r\n\r\n"
        crowd = view.crowd(head.encode())
        answers = []
        for one in crowd:
            one.settimeout(PATIENCE)
            try:
                answers.append(one.recv(12))
            except OSError:  # closed without an answer, because there were too many
                answers.append(b"")
        kinds = {answer: answers.count(answer) for answer in set(answers)}
        assert kinds[b"HTTP/1.1 200"] == MAX_STREAMS and kinds[b"HTTP/1.1 503"] > MAX_STREAMS, kinds
        assert set(kinds) <= {b"HTTP/1.1 200", b"HTTP/1.1 503", b""}
        assert view.ask("/api/runs") == 200
        for one in crowd:
            one.close()
        until = time.monotonic() + PATIENCE
        while view.ask("/api/runs/0/events") != 200:  # the places are free again
            assert time.monotonic() < until
            time.sleep(0.1)
    assert len((tmp_path / "stderr.txt").read_text().splitlines()) <= MOST_LINES


def test_a_head_that_does_not_come_ends_the_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after an answer, and however steadily a byte comes now and then."""
    import threading

    import uvicorn

    from splatdistill.viewer.server import make_app

    monkeypatch.setattr(connections, "REQUEST_WITHIN", 0.3)
    make_run(tmp_path / "run", None).close()
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(make_app([tmp_path / "run"]), http=connections.BoundedProtocol, log_level="critical")
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    whole = b"GET /viewer.css HTTP/1.1\r\nhost: localhost:1\r\n\r\n"
    try:
        for first in (b"", whole):
            one = socket.create_connection(listener.getsockname(), timeout=PATIENCE)
            one.sendall(first)
            if first:
                assert one.recv(12) == b"HTTP/1.1 200"
            ended = False
            for byte in b"GET /" + b"a" * 2000:
                try:
                    one.sendall(bytes([byte]))
                except OSError:
                    ended = True
                    break
                time.sleep(0.01)
            assert ended
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        listener.close()
