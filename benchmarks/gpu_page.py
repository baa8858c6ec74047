"""The tables of docs/gpu.md, from benchmarks/results/gpu_h200_*.json: no figure is typed by hand.

`python benchmarks/gpu_page.py` writes them anew. Each row names its record and the commit that it is of.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from common import ROOT, with_section
from report import row, table_head

PAGE = ROOT / "docs" / "gpu.md"
SECTION = {"name": "gpu records", "script": "gpu_page.py"}
STAGES = ("ops", "training", "parity", "check", "kernels", "step", "diffusion")
LARGE = ("residual", "noising", "gram")  # of 64 images, where bandwidth decides
Record = Mapping[str, Any]


def main() -> None:
    PAGE.write_text(with_section(PAGE.read_text(), section(read()), **SECTION))


def read() -> dict[str, Record]:
    """The record of each stage."""
    folder = ROOT / "benchmarks" / "results"
    return {stage: json.loads((folder / f"gpu_h200_{stage}.json").read_text()) for stage in STAGES}


def section(records: Mapping[str, Record]) -> str:
    lines = table_head(["figure", "value", "record", "commit"])
    for stage, figure, value in figures(records):
        link = f"[{stage}](../benchmarks/results/gpu_h200_{stage}.json)"
        lines.append(row([figure, value, link, f"`{records[stage]['commit'][:7]}`"]))
    device = records["kernels"]
    about = f"One {device['device']}, torch {device['torch']}, CUDA {device['cuda']}, driver {device['driver']}."
    return "\n".join(["", about, "", *lines, ""])


def figures(records: Mapping[str, Record]) -> Iterator[tuple[str, str, str]]:
    """The stage, what was measured, and the value with its unit."""
    for stage, what in (("ops", "operators"), ("training", "training")):
        tests = records[stage]["tests"]
        yield stage, f"GPU tests of {what} passed", f"{tests['passed']} of {tests['passed'] + tests['failed']}"
    cells = records["parity"]["cells"]
    yield "parity", "image of gsplat against ours, largest mean difference", f"{max(c['mean_abs'] for c in cells):.1e}"
    share = max(c["share_above_2e-3"] for c in cells)
    yield "parity", "largest share of pixels that differ by more than 0.002", f"{share:.1e}"
    for part, what in (("check", "kernels against their CPU twins"), ("sanitizer", "the same under compute-sanitizer")):
        found = records["check"][part]
        checks, failed = (sum(v[key] for v in found["values"]) for key in ("checks", "failed"))
        yield "check", f"{what}: comparisons, failed, outcome", f"{checks:,}, {failed}, {found['outcome']}"
    yield from kernels(records["kernels"]["cells"])
    for run in records["step"]["runs"]:
        yield (
            "step",
            f"step of {run['method'].upper()}, network share, kernel launches",
            (f"{step(run)}, {run['launches']['kernels']:,}"),
        )
    for run in records["diffusion"]["runs"]:
        yield (
            "diffusion",
            f"the same with a random network of Stable Diffusion 1.5's size, {run['method'].upper()}",
            (f"{step(run)}, {run['peak_memory_mb'] / 1000:.1f} GB"),
        )


def kernels(cells: list[Mapping[str, Any]]) -> Iterator[tuple[str, str, str]]:
    for c in cells:
        name = c["name"]
        if name.startswith(LARGE) and " 64x" in name:
            yield (
                "kernels",
                f"{name}: share of copy bandwidth, gain over eager torch",
                (f"{c['copy_share']:.2f}, {c['ratio']:.1f}x"),
            )
        elif name.startswith("densify event"):
            yield "kernels", f"{name} splats: gain over gsplat's strategy", f"{c['ratio']:.1f}x"


def step(run: Mapping[str, Any]) -> str:
    return f"{run['step_ms']:.1f} ms, {run['network_share']:.0%}"


if __name__ == "__main__":
    main()
