"""The page beside a training: updates, a server that goes away, what an idle page costs, and what it can ask."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from splatdistill.io import formats
from tests.io.scenes import knot
from tests.viewer.browser import open_page, until
from tests.viewer.serving import make_run, serving

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


def test_v3_v4_live_updates_come_in_order_and_a_burst_ends_with_the_last(browser: Any, tmp_path: Path) -> None:
    log = make_run(tmp_path / "run", None, done=False)
    with serving(tmp_path / "run") as served:
        page, slow = (open_page(browser, served.url, width=800, height=300) for _ in range(2))
        slow.context.new_cdp_session(slow).send("Emulation.setCPUThrottlingRate", {"rate": 10})
        coverage = []

        def put(step: int, count: int = 800) -> None:
            folder = tmp_path / "run" / "snapshots"
            (folder / ".new").write_bytes(formats.encode(knot(count), "splat"))
            (folder / ".new").replace(folder / f"{step:06d}.splat")
            for older in folder.glob("*.splat"):
                if older.name != f"{step:06d}.splat":
                    older.unlink()

        put(41)
        shows(page, 41)
        page.evaluate(
            """() => {
                const stage = window.splatdistill.view.stage, draw = stage.renderer.render.bind(stage.renderer);
                window.covered = [];
                stage.renderer.render = (scene, camera) => {
                    draw(scene, camera);
                    if (scene !== stage.scene) return; // Spark draws splats into textures too
                    const gl = stage.renderer.getContext(), w = gl.drawingBufferWidth, h = gl.drawingBufferHeight;
                    const pixels = new Uint8Array(4 * w * h);
                    gl.readPixels(0, 0, w, h, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
                    let covered = 0;
                    for (let i = 3; i < pixels.length; i += 4) covered += pixels[i] > 25;
                    window.covered.push(covered / (w * h)); // a share: a draft has fewer pixels
                };
            }"""
        )
        for step in range(42, 52):
            log.metrics(step, grad_norm=1.0, num_splats=800)
            put(step)
            shows(page, step)
        ids = page.evaluate("window.splatdistill.shown")
        assert ids == sorted(set(ids)) and ids[-1] == 51
        covered = page.evaluate("window.covered")
        # All snapshots are of one knot from one place, so that a frame has all of its pixels or none.
        assert len(covered) >= 10 and min(covered) > 0.5 * max(covered), "a frame lost its splats"
        for step in range(52, 102):  # a burst: 50 in a second
            put(step)
            time.sleep(0.02)
        for each in (page, slow):
            shows(each, 101)
            ids = each.evaluate("window.splatdistill.shown")
            assert ids == sorted(set(ids)), "out of order"
            coverage.append(len(ids))
        assert page.faults == slow.faults == []
        page.context.close()
        slow.context.close()


def shows(page: Any, step: int) -> None:
    until(page, f"window.splatdistill.shown.at(-1) === {step}")


def test_v5_a_page_survives_its_server_and_doubles_nothing(browser: Any, tmp_path: Path) -> None:
    log = make_run(tmp_path / "run", None, done=False)
    with serving(tmp_path / "run") as served:
        page = open_page(browser, served.url)
        until(page, "document.querySelector('.status').textContent.includes('Step 40')")
        port = served.port
    page.wait_for_selector("text=The server does not answer")
    log.metrics(50, grad_norm=1.0, num_splats=1000)
    with serving(tmp_path / "run", port=port):
        until(page, "document.querySelector('.status').textContent.includes('Step 50')")
        assert page.is_hidden(".message")
        steps = page.evaluate(
            "[...document.querySelectorAll('.chart tbody tr td:first-child')].map(cell => cell.textContent)"
        )
        table = steps[: len(set(steps))]
        assert table == ["10", "20", "30", "40", "50"]
    page.context.close()


def test_v5_a_page_survives_being_offline_and_doubles_nothing(browser: Any, tmp_path: Path) -> None:
    log = make_run(tmp_path / "run", None, done=False)
    with serving(tmp_path / "run") as served:
        page = open_page(browser, served.url)
        until(page, "document.querySelector('.status').textContent.includes('Step 40')")
        page.context.set_offline(True)
        refused = page.evaluate("fetch('/').then(() => false, () => true)")
        assert refused, "it is not offline"
        for step in (50, 60):
            log.metrics(step, grad_norm=1.0, num_splats=1000)
            page.wait_for_timeout(5000)
        page.context.set_offline(False)
        until(page, "document.querySelector('.status').textContent.includes('Step 60')")
        until(page, "document.querySelector('.message').hidden")
        steps = page.evaluate(
            "[...document.querySelectorAll('.chart tbody tr td:first-child')].map(cell => cell.textContent)"
        )
        assert steps[: len(set(steps))] == ["10", "20", "30", "40", "50", "60"]
        page.context.close()


def test_v10_an_idle_page_draws_nothing_and_updates_leak_nothing(browser: Any, tmp_path: Path) -> None:
    formats.write(tmp_path / "knot.ply", knot(100))
    with serving(tmp_path / "knot.ply") as served:
        page = open_page(browser, served.url, width=500, height=300)
        page.evaluate("window.splatdistill.view.stage.settled()")
        before = page.evaluate("window.splatdistill.frameId")
        page.wait_for_timeout(2000)
        assert page.evaluate("window.splatdistill.frameId") == before
        updates = """async (count) => {
            const stage = window.splatdistill.view.stage, { bytes, kind, up } = stage.last;
            for (let i = 0; i < count; i++) await stage.show(bytes, kind, up);
            return stage.held;
        }"""
        session = page.context.new_cdp_session(page)
        held, heaps = [], []
        number = int(os.environ.get("SPLATDISTILL_UPDATES", "40"))
        for count in (10, number):
            held.append(page.evaluate(updates, count))
            session.send("HeapProfiler.collectGarbage")
            heaps.append(page.evaluate("performance.memory.usedJSHeapSize"))
        print(f"V10: {number} updates, heap {heaps[0] / 1e6:.1f} to {heaps[1] / 1e6:.1f} MB, held {held}")
        assert held[0] == held[1]
        assert heaps[1] - heaps[0] < 5e6
        page.context.close()
