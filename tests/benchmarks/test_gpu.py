"""benchmarks/gpu.sh and its Python, as far as they go without a GPU."""

from __future__ import annotations

import ast
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import evidence
import gpu_carry
import gpu_common
import gpu_kernels
import pytest
import torch

from splatdistill.ops import _library, densify
from tests.ops import kernels
from tests.packaging.audit import ROOT

CPU = torch.device("cpu")
SCRIPT = ROOT / "benchmarks" / "gpu.sh"


def script(*words: str, tree: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(tree / "benchmarks" / "gpu.sh"), *words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""} | environment,
    )


def bare_tree(folder: Path) -> Path:
    """What git archives, with today's changes: no compiled file, no repository."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def carry_of(tree: Path, folder: Path) -> Path:
    """A carried folder for `tree` with the extension of this environment."""
    folder.mkdir()
    (folder / "_C.abi3.so.gz").write_bytes(gzip.compress(Path(_library._C.__file__).read_bytes(), 1))
    code = "import evidence, json; print(json.dumps({'commit': 'abc1234', 'sources': evidence.fingerprint()}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tree / "benchmarks", capture_output=True, text=True, check=True
    )
    (folder / "carry.json").write_text(done.stdout)
    return folder


def path_without(program: str, folder: Path) -> str:
    """A PATH that has all programs of this one but `program`."""
    folder.mkdir()
    for place in os.environ["PATH"].split(os.pathsep):
        for found in Path(place).iterdir() if Path(place).is_dir() else []:
            target = folder / found.name
            if found.name != program and not target.is_symlink() and os.access(found, os.X_OK):
                target.symlink_to(found)
    assert shutil.which(program, path=str(folder)) is None
    return str(folder)


def test_without_a_gpu_the_script_says_so_and_exits_with_77(tmp_path: Path) -> None:
    done = script(str(tmp_path))
    assert done.returncode == 77
    assert done.stderr.startswith("no CUDA device: ") and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [[], ["a", "b"], ["a", "--only"], ["a", "--only", "all"], ["a", "--device", "tpu"]])
def test_wrong_usage_is_answered_with_the_usage(words: list[str], tmp_path: Path) -> None:
    done = script(*words)
    assert done.returncode == 2
    assert "preflight|check|sanitizer|ops|parity|step|diffusion|kernels|training" in done.stderr


def imports(path: Path) -> Iterator[str]:
    """The packages that a module imports as it is loaded."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def test_an_offline_machine_has_all_that_the_stages_import() -> None:
    """In another process: what the stages and the GPU's tests import belongs to a carried wheel or is there anyway."""
    stages = sorted(path.stem for path in SCRIPT.parent.glob("gpu_*.py") if path.stem != "gpu_rehearsal")
    tests = sorted(path for path in (ROOT / "tests").rglob("test_*.py") if "mark.gpu" in path.read_text())
    names = [str(path.relative_to(ROOT).with_suffix("")).replace(os.sep, ".") for path in tests]
    code = (
        "import importlib, json, sys\n"
        f"for name in {[*stages, *names, 'splatdistill.training.run']}: importlib.import_module(name)\n"
        f"print(json.dumps([m.__file__ for m in list(sys.modules.values()) "
        f"if (getattr(m, '__file__', None) or '').startswith({str(ROOT)!r})]))"
    )
    path = os.pathsep.join((str(ROOT), str(SCRIPT.parent)))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": path}
    )
    ours = [Path(name) for name in json.loads(done.stdout) if name.endswith(".py") and ".venv" not in Path(name).parts]
    owners = packages_distributions()
    imported = {name for path in ours for name in imports(path)}
    needed = {owners[name][0].lower().replace("_", "-") for name in imported if name in owners}
    carried = {wheel.partition("==")[0] for wheel in gpu_carry.WHEELS}
    assert {"torch", "diffusers", "annotated-types"} <= needed
    assert needed - carried - set(gpu_carry.PRESENT) - {"splatdistill"} == set()


def test_the_stages_fit_in_450_seconds() -> None:
    """Those before parity fit into the time that the builds may take; all others come after it."""
    text = SCRIPT.read_text()
    limits = dict(re.findall(r"\[(\w+)\]=(\d+)", text.partition("declare -A limit=(")[2].partition(")")[0] + "]"))
    seconds = {name: int(limit) for name, limit in limits.items()}
    first = sum(seconds[name] for name in ("preflight", "check", "sanitizer", "ops"))
    (build,), (total,) = re.findall(r"^build_limit=(\d+)", text, re.M), re.findall(r"^total=(\d+)", text, re.M)
    assert len(seconds) == 9 and first <= int(build) and int(total) == 450
    assert int(build) + sum(seconds.values()) - first <= 450


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_the_script_passes_shellcheck() -> None:
    assert subprocess.run(["shellcheck", str(SCRIPT)], check=False).returncode == 0


@pytest.mark.slow
def test_a_rehearsal_on_a_bare_tree_without_git_leaves_every_record(tmp_path: Path) -> None:
    """What went wrong: the import of the sources instead of what was built, and a record that needed git."""
    pytest.importorskip("gsplat")
    tree = bare_tree(tmp_path / "tree")
    assert not list(tree.rglob("*.so"))
    out, path = tmp_path / "out", path_without("git", tmp_path / "bin")
    carry = carry_of(tree, tmp_path / "carry")
    done = script(str(out), "--carry", str(carry), "--device", "cpu", tree=tree, PATH=path)
    assert done.returncode == 0, done.stdout + done.stderr
    stages = ("check", "parity", "kernels", "step", "diffusion")
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [*(f"gpu_cpu_{stage}.json" for stage in stages), "gpu.log"]
    )
    records = {stage: json.loads((out / f"gpu_cpu_{stage}.json").read_text()) for stage in stages}
    assert all(record["commit"] == "abc1234" and record["device"] == "cpu" for record in records.values())
    assert all(records[stage]["outcome"] == "passed" for stage in stages[1:])
    check = records["check"]
    assert check["preflight"]["outcome"] == check["check"]["outcome"] == "passed"
    assert any(line.startswith("build/gpu/lib/splatdistill/") for line in check["builds"]["package"])
    assert {found["values"] for found in check["check"]["values"]} == kernels.on_cuda()
    assert records["parity"]["passed"] is True and records["kernels"]["equal_masks"] is True
    names = [cell["name"].split()[0] for cell in records["kernels"]["cells"]]
    assert set(names) == {"residual", "noising", "gram", "densify"}
    for stage in ("step", "diffusion"):
        assert [run["method"] for run in records[stage]["runs"]] == ["sds", "vsd"]
        assert {"second_score", "learning"} <= records[stage]["runs"][1]["parts_ms"].keys()
    for run in records["diffusion"]["runs"]:
        # It has four decimals.
        assert run["outside_share"] == pytest.approx(1 - run["network_share"], abs=1e-4)


def test_stages_that_share_a_record_keep_each_others_part(tmp_path: Path) -> None:
    """The ending of the second one took away what the first had left."""
    evidence.Record(tmp_path / "gpu_cpu_check.json", bench="check", device="cpu", machine={"cores": 2})
    os.utime(tmp_path / "gpu_cpu_check.json", (2000, 2000))
    (tmp_path / "check.log").write_text(f'{{"values": "gram", "failed": 0}}\nread {ROOT}/setup.py\n')
    for stage in ("preflight", "check"):
        words = [stage, "--out", str(tmp_path), "--device", "cpu", "--code", "0", "--begun", "3000000000"]
        command = [sys.executable, str(ROOT / "benchmarks" / "gpu_stage.py"), *words, "--work", str(tmp_path)]
        subprocess.run(command, check=True, env=os.environ | {"GPU_STARTED": "1000"})
    record = json.loads((tmp_path / "gpu_cpu_check.json").read_text())
    assert record["machine"] == {"cores": 2} and record["preflight"]["outcome"] == "passed"
    assert record["check"]["values"] == [{"values": "gram", "failed": 0}]
    assert record["check"]["log"][1] == "read setup.py"


def test_the_built_package_is_imported_and_not_the_sources(tmp_path: Path) -> None:
    tree = bare_tree(tmp_path / "tree")
    words = [str(tmp_path), "--carry", str(carry_of(tree, tmp_path / "carry")), "--device", "cpu"]
    lib = tree / "build" / "gpu" / "lib"
    done = script(*words, "--inner", "build_package", tree=tree, PYTHONPATH=str(lib))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith(str(lib))


def test_a_carried_folder_of_other_sources_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    folder, out = carry_of(ROOT, tmp_path / "carry"), tmp_path / "out"
    note = json.loads((folder / "carry.json").read_text())
    (folder / "carry.json").write_text(json.dumps({**note, "sources": "0" * 16}))
    done = script(str(out), "--carry", str(folder), "--device", "cpu")
    assert done.returncode == 2 and not out.exists()
    assert done.stderr.count("\n") == 1 and "commit abc1234" in done.stderr and "make gpu-carry" in done.stderr
    missing = script(str(out), "--carry", str(tmp_path / "none"), "--device", "cpu")
    assert missing.returncode == 2 and missing.stderr.count("\n") == 1 and not out.exists()


def test_a_stage_that_is_ended_keeps_the_cells_that_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(*args: Any) -> dict[str, Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["gpu_kernels.py", "--out", str(tmp_path), "--device", "cpu"])
    monkeypatch.setattr(gpu_kernels, "event_cell", lambda *args: {"name": "one", "ours_ms": 1.0, "baseline_ms": None})
    monkeypatch.setattr(gpu_kernels, "statistics_cell", ended)
    with pytest.raises(KeyboardInterrupt):
        gpu_kernels.main()
    (path,) = tmp_path.iterdir()
    assert [cell["name"] for cell in json.loads(path.read_text())["cells"]] == ["one"]


@pytest.mark.parametrize(
    ("code", "total", "outcome"),
    [(0, 5, "passed"), (0, 4, "not run"), (1, 5, "failed"), (77, 5, "not run"), (124, 5, "out of time")],
)
def test_a_stage_that_left_no_record_gets_one(code: int, total: int, outcome: str, tmp_path: Path) -> None:
    (tmp_path / "ops.log").write_text("one\ntwo\n")
    report = f'<testsuites><testsuite tests="{total}" failures="1" errors="1" skipped="2"/></testsuites>'
    (tmp_path / "ops.xml").write_text(report)
    command = [
        sys.executable, str(ROOT / "benchmarks" / "gpu_stage.py"), "ops", "--out", str(tmp_path), "--device", "cpu",
        "--code", str(code), "--begun", "0", "--work", str(tmp_path),
    ]  # fmt: skip
    subprocess.run(command, check=True)
    record = json.loads((tmp_path / "gpu_cpu_ops.json").read_text())
    assert (record["bench"], record["outcome"], record["exit_code"]) == ("ops", outcome, code)
    assert record["tests"] == {"passed": total - 4, "failed": 2, "skipped": 2}
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
    assert [evidence.slug(x) for x in ("NVIDIA H200", "NVIDIA H100 80GB HBM3", "cpu")] == [
        "h200", "h100-80gb-hbm3", "cpu"
    ]  # fmt: skip
