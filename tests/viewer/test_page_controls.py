"""Keys, wheel, tabs, comparison and gallery of the page, and that nothing is in the way of anyone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splatdistill.batch import gallery
from splatdistill.batch.plan import Job
from splatdistill.io import formats
from splatdistill.viewer.export_html import page_of
from splatdistill.viewer.rundir import Item
from tests.io.scenes import knot
from tests.viewer.browser import open_page, ready, until
from tests.viewer.pictures import take
from tests.viewer.serving import CONFIG, HOSTILE, make_run, serving

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
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
            before = page.evaluate("window.splatdistill.view.stage.viewpoint.view")
            page.keyboard.press(key)
            after = page.evaluate("window.splatdistill.view.stage.viewpoint.view")
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
        # A claim about the page: the view comes back to a thousandth. The address has four decimals.
        assert "view=" in view and page.evaluate("window.splatdistill.view.stage.viewpoint.view")[2] == pytest.approx(
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
@pytest.mark.parametrize("width", [900, 390])
def test_v9_nothing_is_in_the_way_of_anyone(browser: Any, tmp_path: Path, width: int, scheme: str) -> None:
    """No violation that axe knows: every tab of every kind of page, the gallery with its form, and a batch's report."""
    from axe_playwright_python.sync_playwright import Axe

    make_run(tmp_path / "runs" / "a", knot(300), prompt=HOSTILE)
    make_run(tmp_path / "runs" / "b", None, done=False)
    (tmp_path / "empty").mkdir()
    formats.write(tmp_path / "knot.ply", knot(300))
    (tmp_path / "a.html").write_bytes(page_of(Item(tmp_path / "runs" / "a")))
    (tmp_path / "report.html").write_text(batch_report(tmp_path))
    look = {"color_scheme": scheme, "bypass_csp": True, "width": width, "height": 700}
    found: list[str] = []

    def check(page: Any, where: str) -> None:
        result = Axe().run(page).response
        found.extend(f"{where}: {v['id']}: {[n['html'][:120] for n in v['nodes']]}" for v in result["violations"])

    with serving(tmp_path / "runs", tmp_path / "knot.ply", tmp_path / "empty", home=tmp_path / "new") as served:
        page = open_page(browser, served.url, **look)
        page.fill("#set-steps", "many")
        page.click("button.primary")
        until(page, "document.querySelector('#set-steps-fault').textContent !== ''")
        page.click(".begin summary >> text=All settings")
        check(page, "gallery")
        ids = {card["name"]: card["id"] for card in served.json("/api/runs")["runs"]}
        places = [served.url + f"#run={id}" for id in ids.values()] + [(tmp_path / "a.html").as_uri()]
        for place in places:
            page.goto("about:blank")
            page.goto(place)
            ready(page)
            tabs = page.locator("[role=tab]")
            for i in range(tabs.count()):
                tabs.nth(i).click()
                check(page, f"{place} {tabs.nth(i).inner_text()}")
        page.context.close()
    with serving(tmp_path / "empty") as served:
        page = open_page(browser, served.url, **look)
        check(page, "empty")
        page.goto((tmp_path / "report.html").as_uri())
        check(page, "report")
        page.context.close()
    assert found == []


def batch_report(out: Path) -> str:
    """Of a batch with one object that is done and one that failed."""
    jobs = [Job(name, replace(CONFIG, prompt=f"knot {name}"), "") for name in ("a", "b")]
    make_run(out / "a", knot(10))
    return gallery.page(out, jobs, {"a": {"state": "done", "seconds": 3.0}, "b": {"state": "failed", "error": "no."}})


def test_two_runs_turn_together(browser: Any, tmp_path: Path) -> None:
    make_run(tmp_path / "a", knot(300))
    make_run(tmp_path / "b", knot(200), prompt="another knot")
    with serving(tmp_path / "a", tmp_path / "b") as served:
        page = open_page(browser, f"{served.url}#run=0")
        page.click("#tab-Compare")
        page.select_option("#panel-Compare select", "1")
        until(page, "window.splatdistill.view.other?.count === 200")
        for moved, other in (("stage", "other"), ("other", "stage")):
            page.evaluate(f"window.splatdistill.view.{moved}.viewpoint.step(3, 1)")
            views = [page.evaluate(f"window.splatdistill.view.{name}.viewpoint.view") for name in (moved, other)]
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
        page.wait_for_selector(".gallery .cards")
        page.context.close()


def test_the_wheel_scrolls_the_page_until_the_canvas_has_the_focus(browser: Any, tmp_path: Path) -> None:
    formats.write(tmp_path / "knot.ply", knot(50))
    with serving(tmp_path / "knot.ply") as served:
        page = open_page(browser, served.url)
        start = page.evaluate("window.splatdistill.view.stage.viewpoint.view")
        page.evaluate("document.activeElement.blur()")
        page.mouse.move(200, 200)
        page.mouse.wheel(0, 300)
        page.wait_for_timeout(100)
        assert page.evaluate("window.splatdistill.view.stage.viewpoint.view") == start
        page.focus("canvas")
        page.mouse.wheel(0, 300)
        until(page, f"window.splatdistill.view.stage.viewpoint.view[2] !== {start[2]}")
        page.context.close()


def test_every_tab_shows_something(browser: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_run(tmp_path / "runs" / name, knot(500), prompt=f"knot {name}")
    made = take(browser, tmp_path / "runs", tmp_path)
    assert len(made) == 9


def test_settings_that_are_not_read_are_named_beside_the_others(browser: Any, tmp_path: Path) -> None:
    make_run(tmp_path / "run", knot(100))
    with (tmp_path / "run" / "config.yaml").open("a") as file:
        file.write("made_up: <b>1</b>\n")
    with serving(tmp_path / "run") as served:
        page = open_page(browser, served.url)
        page.click("#tab-Info")
        (note,) = [text for text in page.locator("#panel-Info p").all_text_contents() if "this version" in text]
        assert note.endswith("made_up.")
        page.context.close()
