"""What the page says is so: of a training that goes on, of what it was asked for, of a folder that is gone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from splatdistill.io import ply
from tests.io.scenes import knot
from tests.patience import PATIENCE, wait_for
from tests.viewer.browser import open_page, until
from tests.viewer.serving import make_run, serving

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
NAME = "a pink cat's run"  # a shell would take it for three words and an open quotation


def says(page: Any, selector: str, text: str) -> None:
    until(page, f"document.querySelector({selector!r})?.innerText.includes({text!r})")


def test_what_was_saved_on_request_is_told_and_can_be_exported(browser: Any, tmp_path: Path) -> None:
    run = tmp_path / NAME
    log = make_run(run, None, done=False)
    with serving(run) as served:
        page = open_page(browser, served.url)
        page.click("#tab-Export")
        assert "There are no splats yet" in page.inner_text("#panel-Export")
        assert page.locator(".links a").count() == 0, "a download of nothing"
        page.click("#panel-Export >> text=Save splats now")
        wait_for((run / "control" / "save").exists, what="the request")
        page.click("#tab-Train")
        says(page, ".answer", "Save requested")
        ply.write(run / "splats.ply", knot(123))  # as the trainer does
        (run / "control" / "save").unlink()
        log.event("save", step=43)
        says(page, ".answer", f"Saved the splats of step 43: {run}/splats.ply")
        page.click("#tab-Export")
        says(page, "#panel-Export", "after step 43")
        assert "There are no splats" not in page.inner_text("#panel-Export")
        with page.expect_download() as started:
            page.click(".links a >> text=/^\\.splat$/")
        assert Path(started.value.path()).stat().st_size == 32 * 123
        page.context.close()


def test_pause_and_stop_are_answered_with_the_step_that_the_terminal_says(browser: Any, tmp_path: Path) -> None:
    run = tmp_path / NAME
    log = make_run(run, None, done=False)  # its last line of numbers is of step 40
    with serving(run) as served:
        page = open_page(browser, served.url)
        until(page, "document.querySelector('.status').textContent.includes('Step 40')")
        page.click("role=button[name='Pause']")
        says(page, ".answer", "Pause requested")
        wait_for((run / "control" / "pause").exists, what="the pause that was asked for")
        log.event("pause", step=43)
        says(page, ".answer", "Paused after step 43")
        page.click("role=button[name='Resume']")
        wait_for(lambda: not (run / "control" / "pause").exists(), what="the end of the pause")
        log.event("go on", step=43)
        says(page, ".answer", "Resumed after step 43")
        page.click("role=button[name='Stop']")
        wait_for((run / "control" / "stop").exists, what="the stop that was asked for")
        (run / "control" / "stop").unlink()
        log.event("stop", step=47)
        says(page, ".status", "Stopped after step 47 of 100")
        says(page, ".answer", f"Stopped after step 47 with a checkpoint in {run}/checkpoints")
        assert page.inner_text(".answer pre").startswith("splatdistill train --resume ")
        assert page.locator("role=button[name='Stop']").count() == 0
        page.context.close()


def test_a_command_of_the_page_is_whole_and_works_when_it_is_pasted(browser: Any, tmp_path: Path) -> None:
    run = tmp_path / "runs" / NAME
    make_run(run, knot(50))
    (tmp_path / "elsewhere").mkdir()
    with serving(run) as served:
        page = open_page(browser, served.url)
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.click("#tab-Export")
        shown = page.locator("#panel-Export .command")
        assert shown.locator("pre").evaluate("node => node.scrollWidth <= node.clientWidth"), "it is cut"
        shown.locator("button").click()
        says(page, "#panel-Export .command button", "Copied")
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied == shown.locator("pre").inner_text()
        page.context.close()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path}
    subprocess.run(["sh", "-c", copied], check=True, cwd=tmp_path / "elsewhere", env=environment, timeout=PATIENCE)
    assert [path.suffix for path in (tmp_path / "elsewhere").iterdir()] == [".spz"]


def test_a_folder_that_vanishes_is_told_and_the_server_lives_on(browser: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_run(tmp_path / "runs" / name, None, done=False, prompt=f"knot {name}")
    with serving(tmp_path / "runs") as served:
        page = open_page(browser, served.url)
        page.click("text=knot b")
        page.wait_for_selector(".status")
        shutil.rmtree(tmp_path / "runs" / "b")
        says(page, ".message", "b is gone: nothing is at ")
        page.click("text=All runs")
        page.wait_for_selector(".cards li")
        assert page.locator(".cards li").count() == 1
        shutil.rmtree(tmp_path / "runs" / "a")
        says(page, ".empty", "No runs yet")
        assert page.faults == []
        page.context.close()


def test_an_empty_folder_says_what_to_do_and_takes_a_file(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    ply.write(tmp_path / "k.ply", knot(70))
    with serving(tmp_path / "runs") as served:
        page = open_page(browser, served.url)
        assert "splatdistill train --prompt" in page.inner_text(".empty .command pre")
        assert all(f".{kind}" in page.inner_text(".empty") for kind in ("ply", "splat", "spz", "sog", "ksplat", "glb"))
        page.set_input_files("input[type=file]", {"name": "x.obj", "mimeType": "", "buffer": b"v 0 0 0"})
        says(page, ".message", "x.obj is a mesh, not splats; train --init points:x.obj starts from one")
        data = page.evaluate_handle(
            """bytes => {
                const held = new DataTransfer();
                held.items.add(new File([new Uint8Array(bytes)], "k.ply"));
                return held;
            }""",
            list((tmp_path / "k.ply").read_bytes()),
        )
        page.dispatch_event(".gallery", "drop", {"dataTransfer": data})
        until(page, "window.splatdistill.view?.stage?.count === 70")
        assert page.text_content("h1") == "k.ply"
        page.context.close()


def test_the_chart_of_a_share_has_the_whole_range(browser: Any, tmp_path: Path) -> None:
    log = make_run(tmp_path / "run", None, done=False)
    with serving(tmp_path / "run") as served:
        page = open_page(browser, served.url)
        for step, share in ((50, 0.943), (60, 0.942)):
            log.summary(network_share=share)
            log.metrics(step, grad_norm=1.0, num_splats=1000)
            until(page, f"document.querySelector('.status').textContent.includes('Step {step}')")
            page.wait_for_timeout(600)  # the next look of the server
        chart = page.locator(".chart", has=page.locator("h3", has_text="Network share"))
        assert chart.locator("text").all_text_contents()[:3] == ["0 %", "50 %", "100 %"]
        heights = chart.locator("polyline").evaluate("line => [...line.points].map(point => point.y)")
        assert len(heights) >= 2 and max(heights) - min(heights) < 5, "a fall of a thousandth is drawn as one"
        for other in page.locator(".chart:not([hidden])").all():
            assert other.locator("text").count() >= 4, "an axis has no numbers"
        page.context.close()
