"""Files that are dropped on the page, good and broken, and the page as a file of its own."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splatdistill.io import formats
from splatdistill.io.kinds import FRAMES, READ
from splatdistill.viewer.export_html import page_of
from splatdistill.viewer.rundir import Item
from tests.io.scenes import axes, knot
from tests.viewer.browser import drop, open_page, psnr, ready, reference, seen
from tests.viewer.serving import HOSTILE, make_run, serving

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
VIEWS = [(0.0, 15.0), (60.0, 0.0)]


def test_v6_an_exported_page_needs_nothing_else(browser: Any, tmp_path: Path) -> None:
    splats = knot(3000)
    make_run(tmp_path / "run", splats, prompt=HOSTILE)
    (tmp_path / "run.html").write_bytes(page_of(Item(tmp_path / "run")))
    asked: list[str] = []
    context = browser.new_context(viewport={"width": 900, "height": 600}, offline=True)
    page = context.new_page()
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("console", lambda message: page.faults.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "run.html").as_uri())
    ready(page)
    assert [url for url in asked if not url.startswith(("blob:", "data:"))] == [(tmp_path / "run.html").as_uri()]
    assert page.evaluate("window.hacked") is None
    assert page.text_content("[role=tabpanel] h2") == HOSTILE
    assert page.locator("img").count() == 0
    wanted, _ = reference(splats, VIEWS)
    for (azimuth, elevation), picture in zip(VIEWS, wanted, strict=True):
        assert psnr(seen(page, azimuth=azimuth, elevation=elevation), picture) >= 46
    assert page.locator(".chart").first.is_visible()
    context.close()


def test_v8_every_format_that_view_takes_is_dropped_and_the_page_is_of_it(browser: Any, tmp_path: Path) -> None:
    make_run(tmp_path / "run", knot(100), prompt="a knot of before")
    counts = {kind: 200 + 10 * i for i, kind in enumerate(kind for kind in FRAMES if kind in READ)}
    for kind, count in counts.items():
        formats.write(tmp_path / f"k.{kind}", knot(count))
    new = formats.encode(knot(33), "spz", how=formats.Written(spz_version=4))
    good = {f"k.{kind}": ((tmp_path / f"k.{kind}").read_bytes(), count) for kind, count in counts.items()}
    with serving(tmp_path / "run") as served:
        page = open_page(browser, served.url)
        for name, (data, count) in {**good, "new.spz": (new, 33)}.items():
            drop(page, data, name)
            assert page.is_hidden(".message")
            assert page.evaluate("window.splatdistill.view.stage.count") == count
            assert page.text_content("h1") == name and page.title().startswith(name)
            assert page.get_attribute("canvas", "aria-label") == f"{name}: {count} splats"
            assert "a knot of before" not in page.inner_text("aside")
            page.click("#tab-Export")
            links = page.evaluate("[...document.querySelectorAll('.links a')].map(a => a.getAttribute('href'))")
            status, headers, body = served.ask(next(link for link in links if link.endswith("/export/splat")))
            assert status == 200 and len(body) == 32 * count and name.split(".")[0] in headers["content-disposition"]
            assert (seen(page, azimuth=0, elevation=0) < 0.9).any(), "nothing is drawn"
        page.context.close()


def test_v8_a_file_that_is_none_is_told_and_nothing_else_changes(browser: Any, tmp_path: Path) -> None:
    formats.write(tmp_path / "a.ply", axes())
    good = {kind: formats.encode(knot(300), kind) for kind in ("splat", "spz", "compressed.ply")}
    formats.write(tmp_path / "k.ply", knot(300))
    good["ply"] = (tmp_path / "k.ply").read_bytes()
    nan = np.float32("nan").tobytes()
    bodies = gzip.decompress(good["spz"])
    broken = {
        "0.ply": b"",
        "cut.ply": good["ply"][:-7],
        "count.ply": good["ply"].replace(b"vertex 300", b"vertex 301"),
        "text.ply": b"hello",
        "cut.splat": good["splat"][:-5],
        "cut.spz": good["spz"][:-20],
        "count.spz": gzip.compress(bodies[:8] + b"\xff\xff\xff\xff" + bodies[12:]),
        "cut.compressed.ply": good["compressed.ply"][:-1],
        "a.obj": b"v 0 0 0",
        "a.png": b"\x89PNG",
        "../../<b>x.ply": nan,
    }
    with serving(tmp_path / "a.ply") as served:
        page = open_page(browser, served.url)
        before = page.evaluate("window.splatdistill.view.stage.count")
        for name, data in broken.items():
            drop(page, data, name)
            said = page.text_content(".message")
            own = name.rpartition("/")[2]
            assert page.is_visible(".message") and own in said and said.endswith(".") and "\n" not in said, name
            assert "/splatdistill-dropped-" not in said
            assert page.evaluate("window.splatdistill.view.stage.count") == before
            assert page.text_content("h1") == "a.ply"
        assert page.faults == []
        page.context.close()
