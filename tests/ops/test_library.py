"""The native extension as a whole: what it says of itself and what it leaves alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from splatdistill import _C, ops
from splatdistill.ops import _library, densify


def test_build_info_tells_what_runs():
    info = ops.build_info()
    assert info["simd_level"] in info["simd_levels"]
    assert "-ffast-math" not in info["flags"]
    assert bool(info["cuda_archs"]) == _C.has_cuda()
    # `make test-emulated` and `make test-simd` say which level they are about: on another one they would show nothing.
    assert info["simd_level"] == os.environ.get("SPLATDISTILL_EXPECTED_SIMD", info["simd_level"])


def python(code: str, level: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"SPLATDISTILL_SIMD": level}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


def test_a_level_that_does_not_exist_is_refused_by_the_command(tmp_path):
    command = f"train --prompt x --prior analytic --steps 1 --out {tmp_path} --name run".split()
    done = python(f"import sys; from splatdistill.cli import main; sys.exit(main({command}))", "x86-64-v3")
    assert (done.returncode, list(tmp_path.iterdir())) == (2, [])
    *levels, last = ops.build_info()["simd_levels"]
    assert done.stderr.splitlines()[-1] == (
        "splatdistill: SPLATDISTILL_SIMD: there is no instruction-set level 'x86-64-v3' in this extension; take "
        f"{', '.join(levels)} or {last}, or leave it unset for the best that the processor has."
    )


def test_an_empty_variable_names_no_level():
    ask = "from splatdistill import ops; print(ops.build_info()['simd_level'])"
    best = subprocess.run(
        [sys.executable, "-c", ask],
        env={name: value for name, value in os.environ.items() if name != "SPLATDISTILL_SIMD"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert python(ask, "").stdout == best.stdout


def test_a_level_that_the_processor_lacks_is_a_note(capsys):
    _library.check_level("x86_64_v4", levels=["generic", "x86_64_v4"], level="generic")
    assert capsys.readouterr().err == (
        "Note: SPLATDISTILL_SIMD names x86_64_v4, which this processor lacks; generic is used.\n"
    )
    for wanted in (None, "", "generic"):
        _library.check_level(wanted, levels=["generic", "x86_64_v4"], level="generic")
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(not _C.has_cuda(), reason="the extension was built without CUDA")
def test_shapes_on_a_cuda_device_are_known_without_one():
    """What torch.compile asks: fake tensors go through the same Python as real ones."""
    with FakeTensorMode():
        x0 = torch.empty(2, 3, 8, 8, device="cuda", dtype=torch.bfloat16)
        constants = torch.empty(2, 2, device="cuda"), torch.empty(2, device="cuda")
        made = ops.residual(x0, terms=[x0] * 2, coef=constants[0], weight=constants[1])
        assert (made.norms.dtype, made.norms.shape, made.norms.device.type) == (torch.float32, (2,), "cuda")
        noised = ops.noising(x0, eps=x0, alpha=constants[1], sigma=constants[1])
        assert (noised.shape, noised.dtype, noised.device) == (x0.shape, x0.dtype, x0.device)
        sums, gram = ops.gram([x0, x0])
        assert (sums.shape, gram.shape, gram.device.type) == ((2, 2), (2, 2, 2), "cuda")
        splats = [torch.empty(5, *sizes, device="cuda") for sizes in ((3,), (4,), (3,), (), (15, 3))]
        limits = dict(grow_gradient=0.5, split_scale=-3.0, prune_scale=-1.0, prune_opacity=-2.0, max_splats=22)
        plan = densify.classify(splats[3], scales=splats[2], opacities=splats[3], **limits)
        assert (plan.kind.shape, plan.kind.device.type, plan.counts.device.type) == ((5,), "cuda", "cpu")
        out = torch.ops.splatdistill.densify_scatter(splats, 1, plan.kind, 7, 0)
        assert [tuple(rows.shape) for rows in out] == [(7, 3), (7, 4), (7, 3), (7,), (7, 15, 3)]


@pytest.fixture
def gpu_that_cannot(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A GPU that has no code of ours; returns the indices that are asked for."""
    asked: list[int] = []

    def cuda_error(index: int) -> str:
        asked.append(index)
        return "no kernel image is available for execution on the device"

    monkeypatch.setattr(_C, "has_cuda", lambda: True)
    monkeypatch.setattr(_C, "cuda_error", cuda_error)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    _library._runs_on.cache_clear()
    yield asked
    _library._runs_on.cache_clear()


def test_a_gpu_without_code_of_ours_takes_the_reference_with_one_note(gpu_that_cannot, capsys):
    for _ in range(2):
        assert not _library.native(torch.device("cuda", 0))
    assert gpu_that_cannot == [0]
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith(
        "Note: splatdistill's CUDA kernels do not run on this device (no kernel"
    )
    assert not _library.native(torch.device("cuda")) and gpu_that_cannot == [0, 1]
    assert _library.native(torch.device("cpu"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU runs them")
def test_without_a_driver_the_kernels_say_why_they_do_not_run():
    """The question that is asked before the first launch, in earnest: an answer and no failure."""
    assert isinstance(_C.cuda_error(0), str)
    with pytest.raises(TypeError):
        _C.cuda_error("0")


def test_loading_leaves_subnormal_numbers_alone():
    assert float(torch.tensor(1e-40) * 1.0) != 0.0
    assert float(torch.tensor([1e-40] * 64).mul(1.0).max()) != 0.0


def test_extension_uses_the_stable_interface_of_torch_alone():
    command = ["nm", "--dynamic", "--undefined-only", "--demangle", _C.__file__]
    symbols = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")
    assert any("aoti_torch_" in line for line in symbols)
    assert not [line for line in symbols if "at::" in line or "c10::" in line]


def test_build_info_needs_no_torch():
    code = (
        "import importlib.machinery, importlib.util, sys, pathlib;"
        "path = next(pathlib.Path(sys.argv[1]).glob('_build_info.*.so'));"
        "loader = importlib.machinery.ExtensionFileLoader('_build_info', str(path));"
        "module = importlib.util.module_from_spec(importlib.util.spec_from_loader('_build_info', loader));"
        "loader.exec_module(module);"
        "assert module.build_info()['compiler'] and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(Path(_C.__file__).parent)], check=True)
