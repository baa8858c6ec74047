"""An installation that cannot work says so in one sentence with the command that mends it."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import splatdistill
from splatdistill.ops import _library, _loading
from tests.packaging.audit import ROOT

GLIBC = "/lib/libc.so.6: version `GLIBC_2.34' not found (required by /x/_C.abi3.so)"
LIBSTDCXX = "/usr/lib/libstdc++.so.6: version `GLIBCXX_3.4.29' not found (required by /x/_C.abi3.so)"
SYMBOL = "/x/_C.abi3.so: undefined symbol: torch_call_dispatcher"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "_C.abi3.so").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (GLIBC, "were built for a system with GLIBC_2.34, which this one lacks"),
        (LIBSTDCXX, "were built for a system with GLIBCXX_3.4.29, which this one lacks"),
        (SYMBOL, "do not fit torch 2.99.0, which has no torch_call_dispatcher: `pip install --upgrade torch`"),
        ("invalid ELF header", "do not load (invalid ELF header)"),
    ],
)
def test_what_the_loader_says_becomes_a_sentence(error: str, said: str, package: Path) -> None:
    sentence = _loading.reason(error, torch="2.99.0", package=package)
    assert said in sentence and sentence.endswith(f"{_loading.BUILD}.") and "\n" not in sentence


def test_operators_of_another_kind_of_machine_are_no_operators(tmp_path: Path) -> None:
    """What pip unpacks by force, or a folder that is copied between machines."""
    sentence = _loading.reason("cannot import name '_C'", torch="2.11.0", package=tmp_path)
    assert sentence.startswith("There are no operators of splatdistill for Python 3.") and str(tmp_path) in sentence


def test_a_file_that_is_no_library_is_told_by_the_command(tmp_path: Path) -> None:
    """The real loader on a damaged file, in a copy of the package that shares everything else."""
    copy = tmp_path / "splatdistill"
    copy.mkdir()
    for path in Path(splatdistill.__file__).parent.iterdir():
        if not path.name.startswith(("_C.", "__pycache__")):
            (copy / path.name).symlink_to(path)
    (copy / "ops").unlink()
    (copy / "ops").mkdir()
    for path in Path(_loading.__file__).parent.glob("*.py"):
        (copy / "ops" / path.name).write_bytes(path.read_bytes())
    (copy / "_C.abi3.so").write_bytes(b"no library")
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from splatdistill.cli import main; sys.exit(main(['info']))"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)}, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert re.fullmatch(r"splatdistill: The operators of splatdistill do not load \(.*\): `pip .*\n", done.stderr)


@pytest.mark.parametrize("version", ["2.10.1", "1.13.0+cu117", "2.9.0a0+git"])
def test_a_torch_that_is_too_old_is_refused(version: str) -> None:
    with pytest.raises(_loading.CannotLoad, match=r"^torch \S+ is too old, splatdistill needs 2\.11 or newer: `pip"):
        _loading.check_torch(version)


@pytest.mark.parametrize("version", ["2.11.0", "2.13.0+cpu", "2.100.0", "3.0.0"])
def test_a_torch_of_the_range_is_taken(version: str) -> None:
    assert _loading.check_torch(version) is None


def test_the_oldest_torch_is_told_in_one_way() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"torch>={_loading.OLDEST_TORCH}" in project["dependencies"]
    major, minor = map(int, _loading.OLDEST_TORCH.split("."))
    assert f'"TORCH_TARGET_VERSION", "0x{major:02x}{minor:02x}' in (ROOT / "setup.py").read_text()
    assert f"torch>={_loading.OLDEST_TORCH}" in (ROOT / "docs" / "install.md").read_text()


def test_a_package_that_is_not_there_is_named_with_its_range(tmp_path: Path) -> None:
    """torch is hidden, as after `pip uninstall torch`."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Hidden:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch':\n"
        "            raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n"
        "sys.meta_path.insert(0, Hidden())\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "splatdistill", "info"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    (wanted,) = (line for line in importlib.metadata.requires("splatdistill") or [] if line.startswith("torch"))
    assert (done.returncode, done.stderr) == (
        1,
        f"splatdistill: torch is not installed, and splatdistill needs it: `pip install '{wanted}'`.\n",
    )


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["_build_info.cpython-311-x86_64-linux-gnu.so"], "only for Python 3.11, and this is "),
        (["_build_info.cp311-win_amd64.pyd"], "only for Python 3.11, and this is "),
        ([], "none"),
    ],
)
def test_a_record_of_the_build_for_another_python_is_said_to_be_that(files: list[str], said: str) -> None:
    assert _library._record_of_another(files).startswith(said)


def test_without_the_record_what_runs_is_still_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a wheel on another Python than it was built with."""
    monkeypatch.setitem(sys.modules, "splatdistill._build_info", None)
    monkeypatch.delattr(splatdistill, "_build_info", raising=False)
    info = _library.build_info()
    assert set(info) == {"simd_level", "simd_levels", "record"}
    assert info["simd_level"] in info["simd_levels"] and info["simd_levels"][0] == "generic"
