"""How setup.py finds CUDA's compiler and what it compiles for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.packaging.audit import ROOT

sys.path.insert(0, str(ROOT / "csrc" / "cuda"))
import toolkit

WRAPPED = """#!/bin/sh
case "$*" in *--dryrun*)
  echo '#$ TOP={top}/bin/..' >&2
  echo '#$ LIBRARIES=  "-L{top}/targets/lib/stubs" "-L{top}/targets/lib"' >&2;;
*--version*) echo 'Cuda compilation tools, release 13.0, V13.0.88';;
esac
"""


@pytest.fixture
def wrapper(tmp_path, monkeypatch):
    """An nvcc that is a script outside the toolkit."""
    (tmp_path / "path").mkdir()
    nvcc = tmp_path / "path" / "nvcc"
    nvcc.write_text(WRAPPED.format(top=tmp_path / "kit"))
    nvcc.chmod(0o755)
    monkeypatch.setenv("PATH", f"{nvcc.parent}:/bin:/usr/bin")
    return tmp_path


@pytest.mark.parametrize("folder", ["targets/lib", "lib"])
def test_the_toolkit_is_where_nvcc_says(wrapper, folder):
    (wrapper / "kit" / "bin").mkdir(parents=True)
    library = wrapper / "kit" / folder / "libcudart_static.a"
    library.parent.mkdir(parents=True)
    library.touch()
    found = toolkit.find()
    assert found.nvcc == str(wrapper / "path" / "nvcc")
    assert library.samefile(found.static_runtime())


def test_a_toolkit_without_the_static_runtime_is_told(wrapper):
    with pytest.raises(SystemExit, match=r"libcudart_static\.a"):
        toolkit.find().static_runtime()


def test_no_nvcc_or_one_that_fails_is_no_toolkit(wrapper, monkeypatch):
    (wrapper / "path" / "nvcc").write_text("#!/bin/sh\nexit 1\n")
    assert toolkit.find() is None
    monkeypatch.setenv("PATH", str(wrapper))
    assert toolkit.find() is None


@pytest.mark.usefixtures("wrapper")
def test_an_nvcc_of_a_later_major_release_than_torchs_is_refused():
    """What it links asks for a driver that torch itself does not need."""
    found = toolkit.find()
    assert found.release == "13.0.88"
    for cuda in (None, "13.0", "13.2", "14.0"):
        found.check_torch(cuda)
    with pytest.raises(
        SystemExit, match=r"^\S*nvcc is of CUDA 13\.0\.88, .* torch of CUDA 12\.6: .*SPLATDISTILL_CUDA=0"
    ):
        found.check_torch("12.6")


def test_spilled_registers_stop_the_gate_and_not_an_installation():
    used = {
        name: (ROOT / name).read_text().count("toolkit.STRICT") for name in ("setup.py", "benchmarks/kernel_budget.py")
    }
    assert used == {"setup.py": 0, "benchmarks/kernel_budget.py": 1}


@pytest.mark.parametrize(
    ("named", "archs"), [("80;90", ["80", "90"]), ("100,90, 90a", ["90", "90a", "100"]), ("86", ["86"])]
)
def test_architectures_are_read_and_the_newest_is_ptx_too(monkeypatch, named, archs):
    monkeypatch.setenv("SPLATDISTILL_CUDA_ARCHS", named)
    assert toolkit.archs() == archs
    assert toolkit.gencode(archs)[-1].endswith(f"code=compute_{archs[-1]}")


@pytest.mark.parametrize("named", ["", "sm_90", "8.0"])
def test_what_is_no_architecture_is_told(monkeypatch, named):
    monkeypatch.setenv("SPLATDISTILL_CUDA_ARCHS", named)
    with pytest.raises(SystemExit, match="SPLATDISTILL_CUDA_ARCHS must look like"):
        toolkit.archs()


@pytest.mark.parametrize(("wanted", "message"), [("yes", "must be auto, 0 or 1"), ("1", "no nvcc on the PATH works")])
def test_a_build_that_cannot_be_had_is_told(wanted, message, monkeypatch):
    monkeypatch.setenv("SPLATDISTILL_CUDA", wanted)
    monkeypatch.setenv("PATH", "/bin:/usr/bin")  # no nvcc
    run = subprocess.run([sys.executable, "setup.py", "--version"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode != 0 and message in run.stderr
