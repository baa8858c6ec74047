"""What builds a release is what runs here, and what it publishes with is pinned. `make lint-release` says the rest."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import container_steps
import pytest
import yaml

from splatdistill.commands.assets import View
from splatdistill.commands.common import parse
from tests.packaging.audit import ROOT

WORKFLOW = ROOT / ".github" / "workflows" / "release.yml"
JOBS: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text())["jobs"]
DOCKERFILES = [ROOT / "Dockerfile", ROOT / "Dockerfile.cuda"]


def lines(job: str) -> list[str]:
    return [line for step in JOBS[job]["steps"] for line in step.get("run", "").splitlines()]


def test_linux_wheels_are_built_by_the_target_that_is_run_here():
    assert [line.split("=")[0] for line in lines("linux") if line.startswith("make ")] == ["make wheels PYTHON"]
    plan = subprocess.run(["make", "--dry-run", "wheels"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert ".ci/wheels.py --twice" in plan


def test_every_system_that_is_promised_has_a_job():
    machines = {row["machine"] for row in JOBS["linux"]["strategy"]["matrix"]["include"]}
    others = {(row["runner"].split("-")[0], row["archs"]) for row in JOBS["others"]["strategy"]["matrix"]["include"]}
    assert machines == {"x86_64", "aarch64"} and others == {("macos", "arm64"), ("windows", "AMD64")}


def test_what_has_never_run_is_not_published_and_says_so():
    assert JOBS["publish"]["needs"] == ["linux", "audit"]
    assert re.search(r"# Never run: [^\n]*\n  others:", WORKFLOW.read_text())


def test_nothing_is_published_before_the_pinned_packages_were_audited():
    assert lines("audit") == ["make audit"] and "continue-on-error" not in WORKFLOW.read_text()


def test_the_job_that_publishes_may_do_that_alone():
    workflow = yaml.safe_load(WORKFLOW.read_text())
    assert workflow["permissions"] == {} and JOBS["publish"]["permissions"] == {"id-token": "write"}
    for job in ("linux", "audit", "others"):
        assert JOBS[job]["permissions"] == {"contents": "read"}
    assert not re.search(r"secrets\.|password", WORKFLOW.read_text())


def test_actions_are_pinned_to_commits():
    used = [step["uses"] for job in JOBS.values() for step in job["steps"] if "uses" in step]
    assert len(used) > 3 and [use for use in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", use)] == []
    pinned = re.findall(r"pip install (\S+)$", "\n".join(lines("others")), flags=re.M)
    assert pinned and all("==" in word for word in pinned)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_runs_as_nobody_and_shows_its_page(path: Path):
    steps = container_steps.steps(path.read_text())
    last = {name: rest for name, rest in steps}
    assert int(last["USER"]) > 0
    changing = [name for name, _ in steps if name in ("RUN", "COPY", "USER")]
    assert changing[-1] == "USER"  # what is written is root's
    entry, words = (yaml.safe_load(last[name]) for name in ("ENTRYPOINT", "CMD"))
    assert (entry, words[0]) == (["splatdistill"], "view")
    flags = parse(View, words[1:], verb="view")
    assert flags.no_browser and flags.host == "0.0.0.0" and flags.port == int(last["EXPOSE"])


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_is_made_of_the_wheel_on_a_base_with_a_tag(path: Path):
    steps = container_steps.steps(path.read_text())
    bases = [rest.split()[0] for name, rest in steps if name == "FROM"]
    assert bases and all(re.fullmatch(r"[\w/.-]+:[\w.-]*\d[\w.-]*|debian:bookworm-slim", base) for base in bases)
    copied = [word for name, rest in steps if name == "COPY" and "--from" not in rest for word in rest.split()[:-1]]
    assert copied == ["dist/*.whl"]
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert ignored == ["*", "!dist/*.whl"]


def test_steps_are_read_as_docker_reads_them():
    text = '# a comment\nFROM x:1\nRUN a \\\n    # not of the line\n    && b\n\nENV A=1 B="two words"\n'
    steps = container_steps.steps(text)
    assert steps == [("FROM", "x:1"), ("RUN", "a && b"), ("ENV", 'A=1 B="two words"')]
    assert shlex.split(steps[2][1]) == ["A=1", "B=two words"]
