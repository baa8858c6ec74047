"""One call of the embedded prior's UNet in fp32, over the time of its arithmetic at the processor's peak.

A step of four views at guidance scale 1 asks for 4 rows, at any other scale for 8.

The peak is that of a loop of fused multiply-adds in registers, compiled by the C++ compiler that is found ($CXX or c++)
for the processor at hand, and measured in the same rounds as the calls. Arithmetic counted: convolutions and linear
layers. `over_floor` is a call's time times the peak over that arithmetic, the median of the rounds; `best_over_floor`
takes the quickest call and the quickest loop, which other programs disturb least. The row `compile` takes a minute of
compiling first, which is not counted.

    python benchmarks/bm_network.py --json benchmarks/results/cpu_network.json
"""

from __future__ import annotations

import ctypes
import os
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import alternate, cell, parser, progress, record, shown, significant, write

from splatdistill.priors import EMBEDDED
from splatdistill.priors.compiler import Compiled
from splatdistill.priors.engine import installed
from splatdistill.priors.known import KnownPrior
from splatdistill.priors.packed import PackedUNet, UNetInput, ask
from splatdistill.priors.unet import UNet

# 12 chains hide the latency of two units with 4 to 5 cycles each; a vector is as wide as the processor's registers.
SOURCE = """
#ifdef __AVX512F__
typedef float v __attribute__((vector_size(64)));
#else
typedef float v __attribute__((vector_size(32)));
#endif
extern "C" double spin(long n) {
    v a[12], x, y;
    for (int k = 0; k < 12; k++) a[k] = v{} + (float)k;
    x = v{} + 0.999999f; y = v{} + 1e-6f;
    for (long i = 0; i < n; i++)
        for (int k = 0; k < 12; k++) a[k] = a[k] * x + y;
    v s = a[0];
    for (int k = 1; k < 12; k++) s += a[k];
    double out = 0;
    for (unsigned k = 0; k < sizeof(v) / 4; k++) out += s[k];
    return out;
}
extern "C" long lanes() { return 12 * sizeof(v) / 4; }
"""
LOOPS = 4_000_000


def main() -> None:
    args = parser(__doc__, threads=1).parse_args()
    torch.set_num_threads(args.threads)
    prior = KnownPrior.load(EMBEDDED, dtype="fp32", engine="torch")
    unet, once = prior.refiner.unet, prior.refiner.trial(prior.image_size)
    spin, flops = compiled_loop()
    cells, facts = [], {"threads": args.threads, "clock": "CPU seconds of the process"}
    for question in (once, twice(once)):
        rows = len(question.sample)
        work = arithmetic(unet, question)
        calls = {"peak": spin, **engines(unet, question)}
        with torch.no_grad():
            samples = alternate(calls, rounds=10 if args.quick else 30)
        peaks = [args.threads * flops / seconds for seconds in samples["peak"]]
        for name in list(calls)[1:]:
            over = [peak * seconds / work for peak, seconds in zip(peaks, samples[name], strict=True)]
            best = max(peaks) * min(samples[name]) / work
            more = {"over_floor": statistics.median(over), "best_over_floor": best, "best_ms": 1e3 * min(samples[name])}
            more = {key: significant(value) for key, value in more.items()}
            cells.append(cell(name, samples[name], samples["unet"], rows=rows, **more))
            progress(f"{rows} rows, {shown(cells[-1])}   over the floor: {more['over_floor']:.3g}, best {best:.3g}")
        figures = {"gflop": work / 1e9, "peak_gflops": statistics.median(peaks) / 1e9}
        figures |= {"best_peak_gflops": max(peaks) / 1e9, "floor_ms": 1e3 * work / max(peaks)}
        facts[f"rows_{rows}"] = {key: significant(value) for key, value in figures.items()}
    progress(str(facts))
    write(record("network", cells, quick=args.quick, **facts), args.json)


def twice(question: UNetInput) -> UNetInput:
    """The same rows again: those of the other condition."""
    more = {name: torch.cat([x, x]) for name, x in vars(question).items() if isinstance(x, torch.Tensor)}
    return replace(question, **more, joint_rows=2 * question.joint_rows)


def engines(unet: UNet, question: UNetInput) -> dict[str, Callable[[], object]]:
    """A call by each engine that is here, ready for this question."""
    packed, code = PackedUNet(unet), Compiled(unet)
    calls: dict[str, Callable[[], object]] = {"unet": lambda: ask(unet, question), "torch": lambda: packed(question)}
    if installed():
        from splatdistill.priors.onnx_engine import OnnxUNet

        other = OnnxUNet(unet)
        calls["onnx"] = lambda: other(question)
    with torch.no_grad():
        ask(unet, question)  # which also says how many views see each other
        calls["compile"] = lambda: code(question.sample, question.t, question.text, question.class_labels)
        calls["compile"]()
    return calls


def arithmetic(unet: UNet, question: UNetInput) -> float:
    """Floating-point operations of a call: two for each product of its convolutions and linear layers."""
    total = 0.0

    def count(layer: Any, seen: Any, out: torch.Tensor) -> None:
        nonlocal total
        total += 2 * out.numel() * layer.weight[0].numel()

    layers = [x for x in unet.modules() if isinstance(x, torch.nn.Conv2d | torch.nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        ask(unet, question)
    for hook in hooks:
        hook.remove()
    return total


def compiled_loop() -> tuple[Callable[[], object], float]:
    """The loop, and its operations in a call."""
    compiler = os.environ.get("CXX") or shutil.which("c++")
    if compiler is None:
        raise SystemExit("A C++ compiler is needed to measure the processor's peak; name one in CXX.")
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "spin.cpp"), Path(folder, "spin.so")
        source.write_text(SOURCE)
        words = ["-O3", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC", str(source), "-o", str(library)]
        subprocess.run([compiler, *words], check=True)  # noqa: S603
        loop = ctypes.CDLL(str(library))
    loop.spin.restype, loop.spin.argtypes = ctypes.c_double, [ctypes.c_long]
    return lambda: loop.spin(LOOPS), 2.0 * LOOPS * loop.lanes()


if __name__ == "__main__":
    main()
