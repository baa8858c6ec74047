"""The recipe "Adding an operator": what `make new-op` writes is few files, in style, and works as it is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils.cpp_extension import include_paths, library_paths

from splatdistill import _C
from tests.packaging.audit import ROOT, tracked

sys.path.insert(0, str(ROOT / "csrc" / "scaffold"))
import new_operator

NAME = "shrink_numbers"
# The tenth file of an operator is benchmarks/results/kernel_budget.json, which `make kernels` writes.
MOST_FILES = 9
NEEDED = ("csrc/", "splatdistill/ops/", "tests/ops/", "tests/packaging/audit.py", "tests/rounding.py", "pyproject.toml")
RUN = """
import sys, pytest, torch
import splatdistill.ops
torch.ops.load_library(sys.argv[1])
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-n", "0", *sys.argv[2:]]))
"""


def ran(*command: str, cwd: Path, **environment: str) -> str:
    """What it prints. The copy's modules come before those that are installed."""
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(cwd)} | environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, list[str]]:
    """A copy of what operators are made of, after the recipe, and the files that it touched, as git names them."""
    root = tmp_path / "copy"
    for path in tracked():
        name = str(path.relative_to(ROOT))
        if name.startswith(NEEDED) or name == "splatdistill/__init__.py":
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, root / name)
    (root / "splatdistill" / Path(_C.__file__).name).symlink_to(_C.__file__)
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "Before"]):
        ran(*git, *words, cwd=root)
    ran(sys.executable, "csrc/scaffold/new_operator.py", NAME, cwd=root)
    status = ran(*git, "status", "--porcelain", "--untracked-files=all", cwd=root)
    return root, [line[3:] for line in status.splitlines()]


def test_an_operator_is_few_files_in_style(written: tuple[Path, list[str]]) -> None:
    root, files = written
    assert len(files) <= MOST_FILES, files
    python = [name for name in files if name.endswith(".py")]
    native = [name for name in files if not name.endswith(".py")]
    ran(sys.executable, "-m", "ruff", "check", "--no-cache", *python, cwd=root)
    ran(sys.executable, "-m", "ruff", "format", "--no-cache", "--check", *python, cwd=root)
    shutil.copy(ROOT / ".clang-format", root)
    formatter = shutil.which("clang-format", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert formatter
    ran(formatter, "--dry-run", "-Werror", *native, cwd=root)


def test_its_tests_pass_once_its_own_files_are_compiled(written: tuple[Path, list[str]], tmp_path: Path) -> None:
    root, _ = written
    built = tmp_path / "operator.so"
    command = [os.environ.get("CXX", "c++"), "-std=c++17", "-O1", "-fopenmp", "-shared", "-fPIC", "-Wall", "-Wextra"]
    command += ["-Werror", "-fvisibility=hidden", "-ffp-contract=off"]
    command += ["-DTORCH_TARGET_VERSION=0x020b000000000000", "-DTORCH_STABLE_ONLY"]
    command += [f"-isystem{path}" for path in include_paths()] + [f"-L{path}" for path in library_paths()]
    sources = [f"csrc/cpu/{NAME}.cpp", f"csrc/bind/{NAME}.cpp"]
    ran(*command, *sources, "-o", str(built), "-lc10", "-ltorch_cpu", cwd=root)
    out = ran(sys.executable, "-c", RUN, str(built), f"tests/ops/test_{NAME}.py", "-k", "not cuda_kernel", cwd=root)
    assert "passed" in out and "failed" not in out


@pytest.mark.slow
@pytest.mark.xdist_group("cuda_host")
def test_its_kernels_are_checked_like_all_others(written: tuple[Path, list[str]], tmp_path: Path) -> None:
    """The programs without torch find the cases by themselves, and the CUDA kernel is right on a host."""
    root, _ = written
    ran(sys.executable, "csrc/cpu/check/run.py", cwd=root)
    planted = [sys.executable, "csrc/cpu/check/run.py", "--", "--plant", NAME]
    assert subprocess.run(planted, cwd=root, capture_output=True).returncode == 1
    program = tmp_path / "kernels_check"
    ran(sys.executable, "csrc/cuda/check/build.py", str(program), "--host", cwd=root)
    assert f'"values": "{NAME}"' in ran(str(program), "--small", "--no-timings", cwd=root)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Shrink", "NAME must be lower-case words joined by _, such as shrink or depth_order, got 'Shrink'."),
        ("class", "NAME must be lower-case words joined by _, such as shrink or depth_order, got 'class'."),
        ("gram", "csrc/common/gram.h exists already: choose another NAME."),
        ("composite", "splatdistill/ops/reference.py defines composite already: choose another NAME."),
    ],
)
def test_a_name_that_cannot_be_taken_writes_nothing(
    name: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["new_operator.py", name])
    before = new_operator.ROOT / new_operator.REFERENCE
    text = before.read_text()
    assert new_operator.main() == 2
    assert capsys.readouterr() == ("", message + "\n")
    assert before.read_text() == text
