"""Trainings that begin on the page: by whom, with which values, one after the other, and from its form to a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from splatdistill.config import settings
from splatdistill.config.presets import load
from splatdistill.io import ply
from splatdistill.io.runs import Run
from splatdistill.viewer import form
from tests.viewer.browser import open_page, until
from tests.viewer.serving import Served, serving

VALUES = {"prompt": "a red ball", "method": "sds", "prior": "embedded", "seed": "3", "steps": "20"}


def test_the_form_is_made_of_the_settings_of_the_command_line() -> None:
    for method in ("sds", "vsd"):
        config, _ = load(method)
        fields = {field["name"]: field for field in form.fields_of(method, "embedded")}
        wanted = set(settings.flatten(config)) - settings.file_only(config) - {"stages"}
        assert set(fields) == wanted
        assert fields["steps"]["value"] == str(config.steps)
        assert "Fixes every random draw" in fields["seed"]["help"] and fields["seed"]["ge"] == 0
        assert fields[f"{method}.guidance_scale"]["kind"] == "number"


def test_what_was_filled_in_is_the_command_that_was_meant(tmp_path: Path) -> None:
    values = VALUES | {"sds.clamp": "0.1 0.5", "nearest": "true", "prompt": "a red ball", "camera.fovy_deg": "31 44"}
    folder, words = form.command_of(values, tmp_path)
    assert folder.parent == tmp_path and words[:3] == ["train", "--prompt", "a red ball"]
    from splatdistill.commands.train import Train, parse_settings

    flags, config, _ = parse_settings(Train, words[1:], verb="train")
    assert (config.seed, config.steps, config.nearest) == (3, 20, True)
    assert (config.sds.clamp, config.camera.fovy_deg) == ((0.1, 0.5), (31.0, 44.0))
    assert flags.out / flags.name == folder


@pytest.mark.parametrize(
    ("wrong", "field", "sentence"),
    [
        ({"seed": "-1"}, "seed", "seed must not be negative; it is -1."),
        ({"steps": "abc"}, "steps", "steps must be a whole number; it is 'abc'."),
        ({"prompt": " "}, "prompt", "prompt is empty"),
        ({"prompt": "xyzzy"}, "prompt", "does not know 'xyzzy'"),
        ({"num_views": "3"}, "num_views", "multiple of camera.views_per_group"),
        ({"method": "magic"}, "method", "is unknown; the methods are"),
        ({"camera.fovy_deg": "40 30"}, "camera.fovy_deg", "the lower value, then the higher"),
        ({"camera.fovy_deg": "'"}, "camera.fovy_deg", "must be a list of 2 values"),
        ({"stages": "[]"}, "stages", "is not a setting of sds with a flag."),
        ({"init": "nowhere.ply"}, "init", "nowhere.ply is not a file."),
    ],
)
def test_a_wrong_value_is_told_beside_its_field_and_nothing_begins(
    tmp_path: Path, wrong: dict[str, str], field: str, sentence: str
) -> None:
    with serving(home=tmp_path / "runs") as served:
        status, body = served.post("/api/starts", {"values": VALUES | wrong})
        assert status == 400
        faults = json.loads(body)["faults"]
        assert set(faults) == {field} and sentence in faults[field] and "\n" not in faults[field]
        assert served.json("/api/starts") == {"starts": []} and not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "headers",
    [
        {"x-splatdistill-token": "wrong"},
        {"x-splatdistill-token": ""},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"host": "evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"content-type": "text/plain"},
    ],
)
@pytest.mark.parametrize("path", ["/api/starts", "/api/files?name=a.ply", "/api/starts/x/cancel"])
def test_nobody_else_begins_a_training_or_hands_in_a_file(tmp_path: Path, headers: dict[str, str], path: str) -> None:
    with serving(home=tmp_path / "runs") as served:
        status, _ = served.post(path, {"values": VALUES}, **headers)
        assert status in (400, 403)
        assert served.json("/api/starts") == {"starts": []} and served.json("/api/runs")["runs"] == []
        assert not (tmp_path / "runs").exists()


def test_no_training_begins_from_another_machine_or_beside_one(tmp_path: Path) -> None:
    with serving(private=True, home=tmp_path / "runs") as served:
        cookie = served.ask(f"/?token={served.token}")[1]["set-cookie"].partition(";")[0]
        status, body = served.post("/api/starts", {"values": VALUES}, cookie=cookie)
        assert status == 403 and b"only from the page" in body
    with serving() as served:
        assert served.post("/api/starts", {"values": VALUES})[0] == 403
        assert served.json("/api/runs")["home"] is None
    assert not (tmp_path / "runs").exists()


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
def test_two_runs_are_begun_watched_and_exported(browser: Any, tmp_path: Path) -> None:
    with serving(home=tmp_path / "runs") as served:
        page = open_page(browser, served.url)
        page.fill("#set-prompt", "a red ball")
        page.fill("#set-steps", "many")
        page.click("button.primary")
        until(page, "document.querySelector('#set-steps-fault').textContent.includes('whole number')")
        assert page.evaluate("document.activeElement.id") == "set-steps"
        page.fill("#set-steps", "20")
        page.click("button.primary")
        queued(page, 1)
        page.fill("#set-seed", "1")
        page.click("button.primary")
        queued(page, 2)
        page.click("role=button[name='Cancel: a red ball']")
        until(page, "document.querySelector('.queue li').dataset.status === 'cancelled'")
        page.click(".cards a")
        until(page, "/^(Step|Done)/.test(document.querySelector('.status')?.textContent ?? '')")
        until(page, "document.querySelector('.status').textContent === 'Done, 20 steps'")
        until(page, "window.splatdistill.view.stage?.count > 100")
        page.click("#tab-Export")
        with page.expect_download() as started:
            page.click(".links a >> text=/^\\.ply$/")
        assert len(ply.read(Path(started.value.path()))) > 100
        assert page.faults == []
        page.context.close()
        check_queue(served, tmp_path)


def queued(page: Any, count: int) -> None:
    until(page, f"document.querySelectorAll('.queue li').length === {count}")


def check_queue(served: Served, tmp_path: Path) -> None:
    starts = served.json("/api/starts")["starts"]
    assert [start["status"] for start in starts] == ["done", "cancelled"]
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name == starts[0]["name"] and Run(folder).settings().seed == 0
    assert starts[0]["command"].startswith("splatdistill train --prompt 'a red ball' --method sample_fit")
