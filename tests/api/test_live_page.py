"""The page of a training in a notebook: live while it trains, one file afterwards, and nothing left behind."""

from __future__ import annotations

import http.client
import http.server
import re
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest

import splatdistill
from splatdistill.api import notebook
from splatdistill.viewer.framed import framed
from tests.api.helpers import QUICK
from tests.examples.notebooks import executed
from tests.io.scenes import knot
from tests.patience import PATIENCE
from tests.viewer.browser import chromium, until
from tests.viewer.serving import make_run

LIVE = r'<div><iframe src="http://127\.0\.0\.1:(\d+)/" style="[^"]+"></iframe></div>'
WHOLE = r'<div><iframe srcdoc="[^"]+" style="[^"]+"></iframe></div>'
IN_A_FRAME = {"sec-fetch-dest": "iframe", "sec-fetch-mode": "navigate", "sec-fetch-site": "cross-site"}
"""What Chromium sends for the frame of a notebook at localhost:8888."""


class Cell:
    """What a cell of a notebook shows, each code after the one that it replaced."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shown: list[str] = []
        kernel = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=1))
        monkeypatch.setitem(notebook.sys.modules, "IPython", kernel)  # type: ignore[arg-type]
        monkeypatch.setattr(notebook, "_html", str)
        monkeypatch.setattr(notebook, "_display", self._display)

    def _display(self, code: str) -> Any:
        self.shown.append(code)
        return SimpleNamespace(update=self.shown.append)

    @property
    def port(self) -> int:
        found = re.fullmatch(LIVE, self.shown[0])
        assert found, self.shown[0][:200]
        return int(found[1])


def ask(port: int, path: str = "/", **headers: str) -> tuple[int, str, str]:
    """Status, content policy and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.headers["content-security-policy"], answer.read().decode()
    finally:
        connection.close()


def third(act: Callable[[], object]) -> Callable[[splatdistill.Step], None]:
    return lambda step: (act(), None)[1] if step.number == 3 else None


def test_the_page_is_live_while_it_trains_and_one_file_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    cell, heard = Cell(monkeypatch), []

    def look() -> None:
        heard.extend([ask(cell.port, **IN_A_FRAME), ask(cell.port, "/api/runs")])

    result = splatdistill.distill("a red ball", **QUICK, out=tmp_path / "run", view=True, callback=third(look))
    (status, policy, page), (_, _, runs) = heard
    assert status == 200 and "viewer.js" in page and "frame-ancestors http://localhost:*" in policy
    assert '"prompt":"a red ball"' in runs and result.folder == tmp_path / "run"
    assert len(cell.shown) == 2 and re.fullmatch(WHOLE, cell.shown[1])
    with pytest.raises(ConnectionRefusedError):
        ask(cell.port)
    assert capfd.readouterr() == ("", "")


def test_a_training_that_fails_says_so_in_the_place_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = Cell(monkeypatch)
    with pytest.raises(ZeroDivisionError):
        splatdistill.distill("a red ball", **QUICK, out=tmp_path / "run", view=True, callback=third(lambda: 1 / 0))
    assert cell.shown[1] == "The training ended before it had splats."
    with pytest.raises(ConnectionRefusedError):
        ask(cell.port)


def test_it_needs_a_folder_and_a_notebook(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="view: the page shows the folder of a run; name one with out="):
        splatdistill.distill("a red ball", **QUICK, view=True)
    folder = tmp_path / "my run"
    with pytest.warns(UserWarning, match=rf"this is no notebook; `splatdistill view '{folder}'` shows the run\."):
        splatdistill.distill("a red ball", **QUICK, out=folder, view=True)
    assert capsys.readouterr() == ("", "")


def test_nothing_but_the_page_can_be_framed_and_the_guard_stays(tmp_path: Path) -> None:
    make_run(tmp_path / "run", knot(50))
    with framed(tmp_path / "run") as address:
        port = int(address.rstrip("/").rpartition(":")[2])
        _, policy, _ = ask(port)
        assert "frame-ancestors 'none'" in policy
        assert ask(port, sec_fetch_site="cross-site", sec_fetch_dest="document")[0] == 403
        assert ask(port, "/api/runs", **IN_A_FRAME)[0] == 403
        assert ask(port, **IN_A_FRAME, host="evil.example")[0] == 400


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
def test_chromium_shows_it_in_the_frame_of_another_page(tmp_path: Path) -> None:
    make_run(tmp_path / "run", knot(50))

    class Notebook(http.server.BaseHTTPRequestHandler):
        code = ""

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(self.code.encode())

        def log_message(self, *args: Any) -> None: ...

    with chromium() as browser, framed(tmp_path / "run") as address:
        Notebook.code = f'<iframe src="{address}" style="width:600px;height:400px"></iframe>'
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Notebook) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            page = browser.new_page()
            page.set_default_timeout(1e3 * PATIENCE)  # ms
            for name in ("localhost", "127.0.0.1"):
                page.goto(f"http://{name}:{server.server_port}/")
                page.wait_for_selector("iframe")
                inside = next(frame for frame in page.frames if frame.url == address)
                until(inside, "window.splatdistill?.ready")
                assert "a knot of many colours" in inside.inner_text("body").lower()
            server.shutdown()


@pytest.mark.slow
def test_a_kernel_of_jupyter_keeps_the_page_and_prints_nothing(tmp_path: Path) -> None:
    code = f"import splatdistill\nresult = splatdistill.distill('a red ball', **{QUICK!r}, out='run', view=True)"
    more = "result.splats.show(page=True)"
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in (code, more)])
    for cell in executed(book, tmp_path).cells:
        (output,) = cell.outputs
        assert output.output_type == "display_data" and re.fullmatch(WHOLE, output.data["text/html"])
