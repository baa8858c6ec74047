"""benchmarks/gpu.sh and its Python, as far as they go without a GPU."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import gpu_common
import gpu_kernels
import pytest
import torch

from splatdistill.ops import densify
from tests.packaging.audit import ROOT

CPU = torch.device("cpu")
SCRIPT = ROOT / "benchmarks" / "gpu.sh"


def script(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(SCRIPT), *words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""},
    )


def test_without_a_gpu_the_script_says_so_and_exits_with_77(tmp_path: Path) -> None:
    done = script(str(tmp_path))
    assert done.returncode == 77
    assert done.stderr.startswith("no CUDA device: ") and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [[], ["a", "b"], ["a", "--only"], ["a", "--only", "all"], ["a", "--device", "tpu"]])
def test_wrong_usage_is_answered_with_the_usage(words: list[str], tmp_path: Path) -> None:
    done = script(*words)
    assert done.returncode == 2
    assert "build|tests|parity|sanitizer|kernels|step|diffusion" in done.stderr


def test_limits_of_the_stages_add_up_to_less_than_ten_minutes() -> None:
    line = next(line for line in SCRIPT.read_text().splitlines() if line.startswith("declare -A limit"))
    seconds = [int(word.rpartition("=")[2]) for word in line.partition("(")[2].partition(")")[0].split()]
    assert len(seconds) == 7 and sum(seconds) < 600


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_the_script_passes_shellcheck() -> None:
    assert subprocess.run(["shellcheck", str(SCRIPT)], check=False).returncode == 0


def test_a_tried_out_stage_leaves_a_record_that_says_it_ran_on_a_cpu(tmp_path: Path) -> None:
    pytest.importorskip("gsplat")
    done = script(str(tmp_path), "--device", "cpu", "--only", "kernels")
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = tmp_path.iterdir()
    assert path.name == "gpu_cpu_kernels.json"
    record = json.loads(path.read_text())
    assert record["device"] == "cpu" and record["outcome"] == "passed" and record["equal_masks"] is True
    assert {"torch", "commit", "command", "seconds", "log", "tests"} <= record.keys()
    names = [cell["name"].split()[0] for cell in record["cells"]]
    assert set(names) == {"residual", "noising", "products", "densify"}
    assert all(cell["launches"] is None for cell in record["cells"])


def test_the_step_with_a_real_size_model_is_tried_out_with_a_tiny_one(tmp_path: Path) -> None:
    done = script(str(tmp_path), "--device", "cpu", "--only", "diffusion")
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "gpu_cpu_diffusion.json").read_text())
    assert [run["method"] for run in record["runs"]] == ["sds", "vsd"]
    for run in record["runs"]:
        assert 0 < run["network_share"] < 1 and run["outside_share"] == pytest.approx(
            1 - run["network_share"], abs=1e-3
        )
    assert {"second_score", "learning"} <= record["runs"][1]["parts_ms"].keys()


@pytest.mark.parametrize(
    ("code", "total", "outcome"),
    [(0, 5, "passed"), (0, 4, "not run"), (1, 5, "failed"), (77, 5, "not run"), (124, 5, "out of time")],
)
def test_a_stage_that_left_no_record_gets_one(code: int, total: int, outcome: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("one\ntwo\n")
    report = f'<testsuites><testsuite tests="{total}" failures="1" errors="1" skipped="2"/></testsuites>'
    (tmp_path / "tests.xml").write_text(report)
    command = [
        sys.executable, str(ROOT / "benchmarks" / "gpu_stage.py"), "tests", "--out", str(tmp_path), "--device", "cpu",
        "--code", str(code), "--begun", "0", "--log", str(tmp_path / "log"), "--junit", str(tmp_path),
    ]  # fmt: skip
    subprocess.run(command, check=True)
    record = json.loads((tmp_path / "gpu_cpu_tests.json").read_text())
    assert (record["bench"], record["outcome"], record["exit_code"]) == ("tests", outcome, code)
    assert record["tests"] == {"tests": {"passed": total - 4, "failed": 2, "skipped": 2}}
    assert record["log"] == ["one", "two"]


def test_masks_are_equal_to_gsplats_and_unequal_ones_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gsplat")
    scene = gpu_kernels.Scene(3000, CPU)
    assert gpu_kernels.equal_masks(scene)
    classify = densify.classify

    def off_by_one(*args: Any, **kwargs: Any) -> densify.Plan:
        plan = classify(*args, **kwargs)
        kind = plan.kind.clone()
        kind[0] = (kind[0] + 1) % 4
        return densify.Plan(kind, plan.counts)

    monkeypatch.setattr(densify, "classify", off_by_one)
    assert not gpu_kernels.equal_masks(scene)


def test_both_sides_of_an_event_end_with_as_many_splats() -> None:
    pytest.importorskip("gsplat")
    scene = gpu_kernels.Scene(3000, CPU)
    theirs = gpu_kernels.Theirs(scene)
    theirs.event()
    counts = gpu_kernels.ours_event(scene)()
    assert isinstance(counts, dict) and min(counts.values()) > 0
    grown = counts["cloned"] + counts["split"] - counts["pruned"]
    assert len(theirs.params["means"]) == scene.size + grown


def test_buffers_rotate_over_more_than_a_cache_holds() -> None:
    made: list[int] = []

    def make() -> list[torch.Tensor]:
        made.append(0)
        return [torch.full((1,), len(made))]

    take = gpu_common.rotating(make, num_bytes=64e6)
    assert len(made) * 64e6 > 256e6
    assert [int(take()[0]) for _ in range(len(made) + 1)] == [*range(1, len(made) + 1), 1]


def test_names_of_devices_make_names_of_files() -> None:
    assert [gpu_common.slug(x) for x in ("NVIDIA H200", "NVIDIA H100 80GB HBM3", "cpu")] == [
        "h200", "h100-80gb-hbm3", "cpu"
    ]  # fmt: skip
