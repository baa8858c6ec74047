"""The native extension as a whole: what it says of itself and what it leaves alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

from splatdistill import _C, ops


def test_build_info_tells_what_runs():
    info = ops.build_info()
    assert info["simd_level"] in info["simd_levels"]
    assert "-ffast-math" not in info["flags"]
    assert bool(info["cuda_archs"]) == _C.has_cuda()


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
