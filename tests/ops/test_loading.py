"""An installation that cannot work says so in one sentence with the command that mends it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
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


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package without its operators; it shares everything else."""
    copy = tmp_path / "splatdistill"
    copy.mkdir()
    for path in Path(splatdistill.__file__).parent.iterdir():
        if not path.name.startswith(("_C.", "__pycache__")):
            (copy / path.name).symlink_to(path)
    (copy / "ops").unlink()
    (copy / "ops").mkdir()
    for path in Path(_loading.__file__).parent.glob("*.py"):
        (copy / "ops" / path.name).write_bytes(path.read_bytes())
    return copy


def said_by_info(search: Path) -> tuple[int, str]:
    """Exit code and stderr of `splatdistill info` where modules are looked for in `search` first."""
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from splatdistill.cli import main; sys.exit(main(['info']))"],
        env=os.environ | {"PYTHONPATH": str(search)}, cwd=search, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr


def compiled(source: str, out: Path, *words: str) -> Path:
    """A library of these lines of C."""
    command = [os.environ.get("CC", "cc"), "-shared", "-fPIC", "-nostdlib", "-x", "c", "-", "-o", str(out)]
    subprocess.run([*command, "-x", "none", *words], input=source, text=True, check=True, capture_output=True)
    return out


def of_a_newer_c_library(out: Path) -> None:
    """What it needs is in a libc that there is none of yet."""
    script = out.with_name("versions")
    script.write_text("GLIBC_9.99 { of_tomorrow; };")
    words = ("-Wl,-soname,libc.so.6", f"-Wl,--version-script={script}")
    libc = compiled("int of_tomorrow(void) { return 0; }", out.with_name("libc-of-tomorrow.so"), *words)
    compiled("int of_tomorrow(void); int PyInit__C(void) { return of_tomorrow(); }", out, str(libc))


def of_another_torch(out: Path) -> None:
    compiled("int torch_of_tomorrow(void); int PyInit__C(void) { return torch_of_tomorrow(); }", out)


def of_another_processor(out: Path) -> None:
    """A real library but for the two bytes that say which processor it is for."""
    data = bytearray(compiled("int x;", out).read_bytes())
    data[18:20] = (243).to_bytes(2, "little")
    out.write_bytes(data)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (of_a_newer_c_library, r"were built for a system with GLIBC_9\.99, which this one lacks"),
        (of_another_torch, r"do not fit torch \S+, which has no torch_of_tomorrow: `pip install --upgrade torch`"),
        (of_another_processor, rf"are for riscv64, and this processor is {platform.machine()}"),
        (lambda out: out.write_bytes(b"no library"), r"do not load \(.*\)"),
    ],
    ids=["newer C library", "another torch", "another processor", "no library"],
)
def test_operators_that_the_real_loader_refuses_are_told_by_the_command(
    copy: Path, make: Callable[[Path], object], said: str
) -> None:
    make(copy / "_C.abi3.so")
    code, sentence = said_by_info(copy.parent)
    assert code == 1
    assert re.fullmatch(rf"splatdistill: The operators of splatdistill {said}[^\n]*\n", sentence)
    assert sentence.endswith(f"{_loading.BUILD}.\n")


@pytest.mark.parametrize("version", ["2.10.1", "1.13.0+cu117", "2.9.0a0+git"])
def test_a_torch_that_is_too_old_is_refused(version: str) -> None:
    with pytest.raises(_loading.CannotLoad, match=r"^torch \S+ is too old, splatdistill needs 2\.11 or newer: `pip"):
        _loading.check_torch(version)


def test_a_torch_that_is_too_old_is_told_by_the_command(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import torch\ntorch.__version__ = '2.10.1+cpu'\n")
    assert said_by_info(tmp_path) == (
        1,
        "splatdistill: torch 2.10.1+cpu is too old, splatdistill needs 2.11 or newer: `pip install 'torch>=2.11'`.\n",
    )


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
    (wanted,) = (line for line in importlib.metadata.requires("splatdistill") or [] if line.startswith("torch"))
    assert said_by_info(tmp_path) == (
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
