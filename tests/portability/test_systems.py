"""The package in a process that lacks what Linux alone has, and paths and texts as other systems have them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from splatdistill.batch import plan
from tests.cli.smoke import TINY
from tests.packaging.audit import ROOT

STRANGE = "räume mit\\back"  # a blank, a letter that is not ASCII, and a separator of another system
PROMPT = "a réd bäll"


def elsewhere(system: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"SPLATDISTILL_SIMD": "generic", "OMP_NUM_THREADS": "1"} | variables
    return subprocess.run(
        [sys.executable, "-m", "tests.portability.elsewhere", system, *words],
        cwd=ROOT, env=environment, capture_output=True, text=True, encoding="utf-8", check=False,
    )  # fmt: skip


@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_every_module_loads_on_other_systems(system: str) -> None:
    done = elsewhere(system, "modules")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 200


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same training of four steps on three systems, each stopped once it had three."""
    home = tmp_path_factory.mktemp("portable") / STRANGE
    for system in ("linux", "win32", "darwin"):
        first = ["train", *TINY, "--steps", "3", "--prompt", PROMPT, "--out", str(home), "--name", system]
        for words in (first, ["train", "--resume", str(home / system), "--steps", "4"]):
            done = here(*words) if system == "linux" else elsewhere(system, *words)
            assert done.returncode == 0, done.stderr
    return home


def here(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"SPLATDISTILL_SIMD": "generic"} | variables
    return subprocess.run(
        [sys.executable, "-m", "splatdistill", *words], env=environment, capture_output=True, text=True,
        encoding="utf-8", check=False,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_a_training_gives_the_same_bits_on_other_systems(runs: Path, system: str) -> None:
    for name in ("splats.ply", "config.yaml", "checkpoints/latest", "checkpoints/step_000004/state.safetensors"):
        assert (runs / system / name).read_bytes() == (runs / "linux" / name).read_bytes(), name
    sums = subprocess.run(
        ["sha256sum", "-c", "SHA256SUMS"], cwd=runs / system / "checkpoints" / "step_000004", capture_output=True
    )
    assert sums.returncode == 0


@pytest.mark.slow
def test_paths_of_any_letters_are_read_and_written(runs: Path, tmp_path: Path) -> None:
    out = runs / "öbject \\ 1.spz"
    assert here("export", str(runs / "linux"), "--format", "spz", "--output", str(out)).returncode == 0
    drawn = here("render", str(out), "--output", str(tmp_path / STRANGE), "--size", "32", "--frames", "2")
    assert out.is_file() and drawn.returncode == 0, drawn.stderr
    assert PROMPT in (runs / "linux" / "config.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_terminal_need_not_know_every_letter(encoding: str) -> None:
    done = here("config", "--prompt", "красный шар ▀", PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert done.returncode == 0, done.stderr
    refused = here("train", "--prompt", "красный", "--name", "шар", PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert refused.returncode == 2 and refused.stderr.startswith("splatdistill: ") and refused.stderr.count("\n") == 1


def test_lines_of_windows_are_read(tmp_path: Path) -> None:
    """A file of settings and one of prompts, as Notepad writes them: CR LF, and a mark of the byte order."""
    (tmp_path / "s.yaml").write_bytes(b"\xef\xbb\xbfsteps: 7\r\nsds:\r\n  t_min: 0.1\r\n")
    shown = here("config", "--config", str(tmp_path / "s.yaml"), "--prompt", "x")
    assert shown.returncode == 0 and "steps: 7" in shown.stdout, shown.stderr
    (tmp_path / "p.txt").write_bytes(b"\xef\xbb\xbfa red ball\r\na blue ball\r\n")
    assert [entry.values["prompt"] for entry in plan.read(tmp_path / "p.txt").entries] == ["a red ball", "a blue ball"]
