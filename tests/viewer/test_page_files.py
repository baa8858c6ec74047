"""Files that are dropped on the page, good and broken, and the page as a file of its own."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splatdistill.io import formats
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


def test_v8_good_and_broken_files_are_dropped(browser: Any, tmp_path: Path) -> None:
    formats.write(tmp_path / "a.ply", axes())
    good = {}
    for kind in ("ply", "splat", "spz", "compressed.ply"):
        formats.write(tmp_path / f"k.{kind}", knot(300))
        good[kind] = (tmp_path / f"k.{kind}").read_bytes()
    nan = np.float32("nan").tobytes()
    bodies = gzip.decompress(good["spz"])
    broken = {
        "0.ply": b"",
        "cut.ply": good["ply"][:-7],
        "nan.ply": good["ply"][:-4] + nan,
        "count.ply": good["ply"].replace(b"vertex 300", b"vertex 301"),
        "text.ply": b"hello",
        "cut.splat": good["splat"][:-5],
        "nan.splat": nan + good["splat"][4:],
        "cut.spz": good["spz"][:-20],
        "count.spz": gzip.compress(bodies[:8] + b"\xff\xff\xff\xff" + bodies[12:]),
        "new.spz": formats.encode(knot(3), "spz", how=formats.Written(spz_version=4)),  # Spark does not read it
        "k.sog": formats.encode(knot(3), "sog"),
        "cut.compressed.ply": good["compressed.ply"][:-1],
        "a.obj": b"v 0 0 0",
    }
    with serving(tmp_path / "a.ply") as served:
        page = open_page(browser, served.url)
        for name, data in broken.items():
            before = page.evaluate("window.splatdistill.view.stage.count")
            drop(page, data, name)
            said = page.text_content(".message")
            assert page.is_visible(".message") and name in said and said.count(".") >= 1 and "\n" not in said, name
            assert (f'"splatdistill view {name}" shows it.' in said) == (name in ("new.spz", "k.sog"))
            assert page.evaluate("window.splatdistill.view.stage.count") == before
        for kind, data in good.items():
            drop(page, data, f"k.{kind}")
            assert page.is_hidden(".message")
            assert page.evaluate("window.splatdistill.view.stage.count") == 300
            assert (seen(page, azimuth=0, elevation=0) < 0.9).any(-1).mean() > 0.05
        assert page.faults == []
        page.context.close()
