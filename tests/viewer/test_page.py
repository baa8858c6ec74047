"""The page in a real browser: what it draws against our rasteriser, live, exported, offline, by keys, and broken."""

from __future__ import annotations

import gzip
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splatdistill.io import formats
from splatdistill.io.kinds import FRAMES
from splatdistill.viewer.export_html import page_of
from splatdistill.viewer.rundir import Item
from tests.io.scenes import AXES, axes, knot
from tests.viewer.browser import SIZE, cameras, chromium, open_page, psnr, ready, reference, seen, until
from tests.viewer.pictures import take
from tests.viewer.serving import make_run, serving

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
VIEWS = [(0.0, 15.0), (60.0, 0.0), (125.0, 40.0), (180.0, -30.0), (-110.0, 10.0), (-40.0, 75.0)]
HOSTILE = '</script><img src=x onerror="window.hacked=1"> <!-- <b>knot</b>'


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.mark.parametrize("degree", [0, 3])
def test_v1_the_picture_is_that_of_our_rasteriser(
    browser: Any, tmp_path: Path, degree: int, record_property: Any
) -> None:
    splats = knot(3000, degree=degree)
    splats.shN.mul_(0.5)  # Spark keeps harmonics in few bits: the stronger they are, the further off (0.1: 42.6 dB)
    formats.write(tmp_path / "knot.ply", splats)
    wanted, alpha = reference(splats, VIEWS)
    with serving(tmp_path / "knot.ply") as served:
        page = open_page(browser, served.url)
        found = [seen(page, azimuth=a, elevation=e) for a, e in VIEWS]
        page.context.close()
    whole = [psnr(x, y) for x, y in zip(found, wanted, strict=True)]
    front = [psnr(x[m], y[m]) for x, y, m in zip(found, wanted, alpha > 0.01, strict=True)]
    ranges = [f"{name} {min(some):.1f}..{max(some):.1f} dB" for name, some in (("whole", whole), ("foreground", front))]
    print(f"V1 degree {degree}: {', '.join(ranges)}")
    record_property("psnr", {"whole": whole, "foreground": front})
    assert min(whole) >= 46
    assert min(front) >= 38


@pytest.mark.parametrize("kind", FRAMES)
def test_v2_the_axes_point_the_right_way_in_every_format(browser: Any, tmp_path: Path, kind: str) -> None:
    formats.write(tmp_path / f"axes.{kind}", axes())
    with serving(tmp_path / f"axes.{kind}") as served:
        page = open_page(browser, served.url)
        assert_axes(page)
        if kind in ("ply", "compressed.ply", "splat", "spz"):  # drawn from the file's own bytes when it is dropped
            drop(page, (tmp_path / f"axes.{kind}").read_bytes(), f"axes.{kind}")
            assert_axes(page)
        page.context.close()


def assert_axes(page: Any) -> None:
    view = (35.0, 25.0)
    found = seen(page, azimuth=view[0], elevation=view[1])
    viewmat, K = (getattr(cameras([view]), name)[0].double().numpy() for name in ("viewmats", "Ks"))
    for channel, (name, place) in enumerate(AXES.items()):
        x, y, z = K @ (viewmat @ [*place, 1])[:3]
        others = [i for i in range(3) if i != channel]
        weight = (found[..., channel] - found[..., others].max(-1)).clip(0)
        weight[weight < 0.3] = 0
        rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
        centre = (weight * columns).sum() / weight.sum(), (weight * rows).sum() / weight.sum()
        assert np.hypot(centre[0] - x / z, centre[1] - y / z) <= 2, name


def drop(page: Any, data: bytes, name: str) -> None:
    """Drops a file on the page and waits until it was drawn or refused."""
    page.evaluate(
        """async ([bytes, name]) => {
            const file = new File([new Uint8Array(bytes)], name);
            await window.splatdistill.view.open(file);
        }""",
        [list(data), name],
    )


def test_v3_v4_live_updates_come_in_order_and_a_burst_ends_with_the_last(browser: Any, tmp_path: Path) -> None:
    log = make_run(tmp_path / "run", None, done=False)
    with serving(tmp_path / "run") as served:
        page, slow = open_page(browser, served.url), open_page(browser, served.url)
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
                window.blank = 0;
                window.least = 1e9;
                stage.renderer.render = (scene, camera) => {
                    draw(scene, camera);
                    if (scene !== stage.scene) return; // Spark draws splats into textures too
                    const gl = stage.renderer.getContext(), w = gl.drawingBufferWidth, h = gl.drawingBufferHeight;
                    const pixels = new Uint8Array(4 * w * h);
                    gl.readPixels(0, 0, w, h, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
                    let covered = 0;
                    for (let i = 0; i < pixels.length; i += 4) covered += pixels[i] + pixels[i + 1] < 490;
                    window.least = Math.min(window.least, covered);
                    window.most = Math.max(window.most ?? 0, covered);
                };
            }"""
        )
        for step in range(42, 52):
            log.metrics(step, grad_norm=1.0, num_splats=800)
            put(step)
            shows(page, step)
        ids = page.evaluate("window.splatdistill.shown")
        assert ids == sorted(set(ids)) and ids[-1] == 51
        assert page.evaluate("window.least >= 0.5 * window.most"), "a frame lost its splats"
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
    page.wait_for_selector("text=The server does not answer", timeout=30_000)
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
    wanted, _ = reference(splats, VIEWS[:2])
    for (azimuth, elevation), picture in zip(VIEWS, wanted, strict=False):
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
            assert page.evaluate("window.splatdistill.view.stage.count") == before
        for kind, data in good.items():
            drop(page, data, f"k.{kind}")
            assert page.is_hidden(".message")
            assert page.evaluate("window.splatdistill.view.stage.count") == 300
            assert (seen(page, azimuth=0, elevation=0) < 0.9).any(-1).mean() > 0.05
        assert page.faults == []
        page.context.close()


KEYS = {
    "ArrowLeft": "az-", "ArrowRight": "az+", "ArrowUp": "el+", "ArrowDown": "el-", "+": "near", "-": "far",
    "Shift+ArrowLeft": "move", "Shift+ArrowUp": "move", "w": "move", "s": "move", "a": "move", "d": "move", "q": "move",
    "e": "move", "1": "front", "2": "right", "3": "back", "4": "left", "5": "top", "6": "bottom", "f": "frame",
}  # fmt: skip


def test_v9_every_key_does_what_it_says(browser: Any, tmp_path: Path) -> None:
    formats.write(tmp_path / "knot.ply", knot(300))
    with serving(tmp_path / "knot.ply") as served:
        page = open_page(browser, served.url)
        page.focus("canvas")
        for key, effect in KEYS.items():
            page.keyboard.press("r")
            before = page.evaluate("window.splatdistill.view.stage.view")
            page.keyboard.press(key)
            after = page.evaluate("window.splatdistill.view.stage.view")
            assert_moved(np.array(before), np.array(after), effect)
        for key, inside in {"g": "stage.gridShown", " ": "stage.turning"}.items():
            for expected in (True, False):
                page.keyboard.press(key)
                assert page.evaluate(f"window.splatdistill.view.{inside}") is expected
        page.keyboard.press("h")
        assert page.is_hidden("aside")
        page.keyboard.press("h")
        page.keyboard.press("?")
        assert page.is_visible("dialog")
        page.keyboard.press("Escape")
        assert page.is_hidden("dialog")
        page.keyboard.press("v")
        view = page.evaluate("location.hash")
        page.reload()
        ready(page)
        assert "view=" in view and page.evaluate("window.splatdistill.view.stage.view")[2] == pytest.approx(
            float(view.split(",")[2]), abs=1e-3
        )
        reached = set()
        for _ in range(60):
            page.keyboard.press("Tab")
            reached.add(
                page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.textContent")
            )
        wanted = page.evaluate("[...document.querySelectorAll('.tools button')].map(b => b.getAttribute('aria-label'))")
        assert len(wanted) >= 10 and set(wanted) <= reached
        page.context.close()


def assert_moved(before: np.ndarray, after: np.ndarray, effect: str) -> None:
    eye, target = after[:3], after[3:]
    away = eye - target
    length, was = np.linalg.norm(away), np.linalg.norm(before[:3] - before[3:])
    azimuth = np.degrees(np.arctan2(away[0], away[2]))
    elevation = np.degrees(np.arcsin(away[1] / length))
    sides = {"front": (2, 1), "back": (2, -1), "right": (0, 1), "left": (0, -1), "top": (1, 1), "bottom": (1, -1)}
    if effect in sides:
        axis, sign = sides[effect]
        assert sign * away[axis] / length > 0.999
    elif effect == "move":
        assert np.allclose(after[:3] - before[:3], target - before[3:]) and np.linalg.norm(target - before[3:]) > 0.01
    elif effect in ("near", "far"):
        assert (length < was) == (effect == "near") and length != was
    elif effect == "frame":
        assert length != was
    else:
        moved = azimuth if effect.startswith("az") else elevation - 15
        assert abs(moved - (5 if effect.endswith("+") else -5)) < 0.1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("mode", ["run", "file", "export", "gallery"])
def test_v9_nothing_is_in_the_way_of_anyone(browser: Any, tmp_path: Path, mode: str, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    make_run(tmp_path / "runs" / "a", knot(300), prompt=HOSTILE)
    make_run(tmp_path / "runs" / "b", None, done=False)
    formats.write(tmp_path / "knot.ply", knot(300))
    (tmp_path / "a.html").write_bytes(page_of(Item(tmp_path / "runs" / "a")))
    shown = {"run": tmp_path / "runs" / "b", "file": tmp_path / "knot.ply"}.get(mode, tmp_path / "runs")
    with serving(shown) as served:
        url = (tmp_path / "a.html").as_uri() if mode == "export" else served.url
        page = open_page(browser, url, color_scheme=scheme, bypass_csp=True)
        found = []
        tabs = page.locator("[role=tab]")
        for i in range(max(1, tabs.count())):
            if tabs.count():
                tabs.nth(i).click()
                page.wait_for_timeout(50)
            result = Axe().run(page).response
            found += [f"{v['id']}: {[node['html'][:120] for node in v['nodes']]}" for v in result["violations"]]
        assert found == []
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


def test_v11_without_webgl2_there_are_pictures(browser: Any, tmp_path: Path) -> None:
    make_run(tmp_path / "run", knot(100))
    with serving(tmp_path / "run") as served:
        context = browser.new_context()
        page = context.new_page()
        page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
        page.goto(served.url)
        page.wait_for_selector("text=This browser has no WebGL2")
        page.wait_for_function("document.querySelector('.fallback img')?.naturalWidth > 0")  # it came and is a picture
        assert page.locator("[role=tab]").count() == 5
        context.close()


def test_v11_lost_graphics_come_back(browser: Any, tmp_path: Path) -> None:
    formats.write(tmp_path / "knot.ply", knot(500))
    with serving(tmp_path / "knot.ply") as served:
        page = open_page(browser, served.url)
        before = seen(page, azimuth=30, elevation=10)
        page.evaluate(
            "window.splatdistill.view.stage.renderer.getContext().getExtension('WEBGL_lose_context').loseContext()"
        )
        until(page, "window.splatdistill.revived === 1")
        assert page.is_hidden(".message")
        assert psnr(seen(page, azimuth=30, elevation=10), before) > 40
        page.context.close()


def test_a_training_is_asked_from_the_page(browser: Any, tmp_path: Path) -> None:
    make_run(tmp_path / "run", None, done=False)
    with serving(tmp_path / "run") as served:
        page = open_page(browser, served.url)
        page.click("text=Pause")
        page.wait_for_selector("text=Go on (asked)", state="detached")
        deadline = time.monotonic() + 10
        while not (tmp_path / "run" / "control" / "pause").exists() and time.monotonic() < deadline:
            page.wait_for_timeout(50)
        assert (tmp_path / "run" / "control" / "pause").exists()
        page.click("text=Go on")
        page.wait_for_selector("text=Pause")
        assert not (tmp_path / "run" / "control" / "pause").exists()
        page.context.close()


def test_two_runs_turn_together(browser: Any, tmp_path: Path) -> None:
    make_run(tmp_path / "a", knot(300))
    make_run(tmp_path / "b", knot(200), prompt="another knot")
    with serving(tmp_path / "a", tmp_path / "b") as served:
        page = open_page(browser, f"{served.url}#run=0")
        page.click("text=Compare")
        page.select_option("select", "1")
        until(page, "window.splatdistill.view.other?.count === 200")
        for moved, other in (("stage", "other"), ("other", "stage")):
            page.evaluate(f"window.splatdistill.view.{moved}.step(3, 1)")
            views = [page.evaluate(f"window.splatdistill.view.{name}.view") for name in (moved, other)]
            assert views[0] == pytest.approx(views[1])
        page.context.close()


def test_the_gallery_leads_to_runs(browser: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_run(tmp_path / "runs" / name, knot(50), prompt=f"knot {name}")
    with serving(tmp_path / "runs") as served:
        page = open_page(browser, served.url)
        assert page.locator(".gallery li").count() == 2
        page.click("text=knot b")
        page.wait_for_selector("[role=tablist]")
        assert page.text_content("[role=tabpanel] h2") == "knot b"
        page.click("text=All runs")
        page.wait_for_selector(".gallery")
        page.context.close()


def test_the_wheel_scrolls_the_page_until_the_canvas_has_the_focus(browser: Any, tmp_path: Path) -> None:
    formats.write(tmp_path / "knot.ply", knot(50))
    with serving(tmp_path / "knot.ply") as served:
        page = open_page(browser, served.url)
        start = page.evaluate("window.splatdistill.view.stage.view")
        page.evaluate("document.activeElement.blur()")
        page.mouse.move(200, 200)
        page.mouse.wheel(0, 300)
        page.wait_for_timeout(100)
        assert page.evaluate("window.splatdistill.view.stage.view") == start
        page.focus("canvas")
        page.mouse.wheel(0, 300)
        until(page, f"window.splatdistill.view.stage.view[2] !== {start[2]}")
        page.context.close()


def test_every_tab_shows_something(browser: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_run(tmp_path / "runs" / name, knot(500), prompt=f"knot {name}")
    made = take(browser, tmp_path / "runs", tmp_path)
    assert len(made) == 8
