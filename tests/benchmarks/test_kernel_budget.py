"""The gate on what CUDA kernels take: what it reads of the compiler's report, and when it fails."""

from __future__ import annotations

import kernel_budget
import pytest

REPORT = """
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'void sd::cuda::run<sd::cuda::(anonymous namespace)::\
ChunkKernel<float, 3, 4> >(sd::cuda::(anonymous namespace)::ChunkKernel<float, 3, 4>::Args)' for 'sm_90'
ptxas info    : Function properties for void sd::cuda::run<sd::cuda::(anonymous namespace)::ChunkKernel<float, 3, 4> >()
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 48 registers, used 1 barriers, 6144 bytes smem
ptxas info    : Compiling entry function 'void cub::detail::scan::DeviceScanKernel<int, int*>(int, int*)' for 'sm_90'
ptxas info    : Used 72 registers
ptxas info    : Compiling entry function 'void cub::detail::scan::DeviceScanKernel<char>(char)' for 'sm_90'
ptxas info    : Used 60 registers, used 1 barriers, 16 bytes smem, 400 bytes cmem[0]
"""
BUDGET = {"a.cu sm_90": {"One": {"registers": 40, "shared": 16}}}


def test_the_report_is_read():
    assert kernel_budget.parse(REPORT) == {
        "ChunkKernel<float, 3, 4>": {"registers": 48, "shared": 6144},
        "DeviceScanKernel": {"registers": 72, "shared": 16},
    }


def test_the_same_passes_and_less_is_told():
    assert kernel_budget.compare(BUDGET, BUDGET) == ([], True)
    lines, good = kernel_budget.compare({"a.cu sm_90": {"One": {"registers": 39, "shared": 16}}}, BUDGET)
    assert good and "better" in lines[0]


@pytest.mark.parametrize(
    "found",
    [
        {"a.cu sm_90": {"One": {"registers": 41, "shared": 16}}},
        {"a.cu sm_90": {"One": {"registers": 40, "shared": 17}}},
        {"a.cu sm_90": {**BUDGET["a.cu sm_90"], "Two": {"registers": 1, "shared": 0}}},
        {"a.cu sm_90": {}},
        {},
    ],
)
def test_more_than_the_budget_and_unknown_kernels_fail(found):
    assert not kernel_budget.compare(found, BUDGET)[1]


@pytest.mark.skipif(kernel_budget.toolkit.find() is None, reason="needs nvcc on the PATH")
def test_local_memory_and_spills_do_not_compile(tmp_path):
    planted = tmp_path / "planted.cu"
    planted.write_text(
        "__global__ void local(int* out, int i) {\n"
        "  int values[64];\n"
        "  for (int j = 0; j < 64; ++j) values[(i + 7 * j) % 64] = out[j];\n"
        "  for (int j = 0; j < 64; ++j) out[j] = values[(j * i) % 64];\n"
        "}\n"
    )
    with pytest.raises(kernel_budget.CompileError, match="Local memory"):
        kernel_budget.compile_kernels(kernel_budget.toolkit.find().nvcc, planted, "90")


@pytest.mark.skipif(kernel_budget.toolkit.find() is None, reason="needs nvcc on the PATH")
def test_half_numbers_compile_for_devices_without_an_instruction_for_them():
    """Before sm_80 there is none that rounds to bfloat16."""
    source = kernel_budget.ROOT / "csrc" / "cuda" / "residual.cu"
    report, _ = kernel_budget.compile_kernels(kernel_budget.toolkit.find().nvcc, source, "75")
    assert any(name.startswith("ChunkKernel") for name in kernel_budget.parse(report))


CODE = """
.text void sd::cuda::run<sd::cuda::(anonymous namespace)::NoisingKernel<float, 4> >(sd::cuda::Args):
        /*0100*/                   LDG.E.128 R4, desc[UR4][R2.64] ;
        /*0110*/                   STG.E.128 desc[UR4][R2.64], R4 ;
        /*0120*/              @!P0 STG.E.64 desc[UR4][R2.64], R4 ;
.text void sd::cuda::run<sd::cuda::(anonymous namespace)::NoisingKernel<float, 1> >(sd::cuda::Args):
        /*0110*/                   STG.E desc[UR4][R2.64], R4 ;
"""
RESIDUAL = """
.text void sd::cuda::run<sd::cuda::(anonymous namespace)::ChunkKernel<float, 1, 4> >(sd::cuda::Args):
        /*0100*/                   LDG.E.128 R4, desc[UR4][R2.64] ;
        /*0110*/                   LDG.E.128 R4, desc[UR4][R2.64+0x10] ;
        /*0120*/                   LDG.E.128 R8, desc[UR4][R2.64] ;
        /*0130*/                   STG.E.128 desc[UR4][R2.64], R4 ;
        /*0140*/                   STG.E desc[UR4][R2.64], R4 ;
        /*0150*/                   LDG.E R4, desc[UR4][R2.64] ;
"""
UPDATE = """
.text void sd::cuda::run<sd::cuda::(anonymous namespace)::UpdateKernel>(sd::cuda::Args):
        /*0130*/                   STG.E.128 desc[UR4][R2.64], R4 ;
        /*0140*/                   STG.E.128 desc[UR4][R4.64], R4 ;
        /*0150*/                   STG.E.128 desc[UR4][R6.64], R4 ;
        /*0160*/                   STG.E desc[UR4][R2.64], R4 ;
"""


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("STG.E.64", "STG.E.U16", "NoisingKernel<float, 4>: does not store four elements at once"),
        ("STG.E.64", "STG.E", "NoisingKernel<float, 4>: does not store four elements at once"),
        ("STG.E.128", "STG.E.64", "NoisingKernel<float, 4>: does not store four elements at once"),
        ("STG.E desc", "STL [R1], R4; STG.E desc", "NoisingKernel<float, 1>: uses local memory"),
        ("LDG.E.128", "LDL.128", "NoisingKernel<float, 4>: uses local memory"),
    ],
)
def test_machine_code_is_held_to_its_rules(right, wrong, message):
    kernels = {f"NoisingKernel<float, {width}>": {} for width in (1, 4)}
    assert kernel_budget.misses(CODE, kernels) == []
    assert CODE.count(right) == 1
    assert kernel_budget.misses(CODE.replace(right, wrong), kernels) == [message]
    assert kernel_budget.misses(CODE, {"Another": {}}) == ["Another: its machine code was not found"]


@pytest.mark.parametrize(
    ("code", "right", "wrong", "message"),
    [
        (RESIDUAL, "LDG.E R4", "LDG.E.128 R4", "ChunkKernel<float, 1, 4>: reads more than its 1 terms"),
        (RESIDUAL, "LDG.E R4", "STG.E R4", "ChunkKernel<float, 1, 4>: does not store four elements at once"),
        (RESIDUAL, "STG.E.128", "STG.E.64", "ChunkKernel<float, 1, 4>: does not store four elements at once"),
        (UPDATE, "STG.E.128 desc[UR4][R6.64]", "STG.E desc", "UpdateKernel: does not store four elements at once"),
    ],
)
def test_the_residual_and_the_update_are_held_to_theirs(code, right, wrong, message):
    kernels = {message.rpartition(":")[0]: {}}
    assert kernel_budget.misses(code, kernels) == []
    assert code.count(right) == 1
    assert kernel_budget.misses(code.replace(right, wrong), kernels) == [message]


def test_without_nvcc_the_gate_says_that_it_did_not_run(monkeypatch, capsys):
    monkeypatch.setattr(kernel_budget.sys, "argv", ["kernel_budget.py"])
    monkeypatch.setenv("PATH", "")
    assert kernel_budget.main() == 77
    assert "SKIPPED" in capsys.readouterr().out
