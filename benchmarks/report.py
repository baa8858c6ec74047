"""The plot and the tables of docs/cpu.md, from benchmarks/results/cpu_*.json: no figure is typed by hand.

`make bench` runs it last; `python benchmarks/report.py` alone draws again what was measured before.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from common import ROOT, with_section

RESULTS = ROOT / "benchmarks" / "results"
PLOT = RESULTS / "cpu_rasterize.png"
PAGE = ROOT / "docs" / "cpu.md"
SECTION = {"name": "cpu kernels", "script": "report.py"}
LEVELS = {"x86_64_v4": "AVX-512", "x86_64_v3": "AVX2", "neon": "NEON", "generic": "generic"}
PROBE = (10000, 256)  # splats and size where arithmetic dominates
Cell = Mapping[str, Any]


def main() -> None:
    records = {name: json.loads((RESULTS / f"cpu_{name}.json").read_text()) for name in
               ("rasterize", "residual", "densify", "step")}  # fmt: skip
    draw(records["rasterize"]["cells"], PLOT)
    PAGE.write_text(with_section(PAGE.read_text(), section(records), **SECTION))


def section(records: Mapping[str, Mapping[str, Any]]) -> str:
    raster = records["rasterize"]
    shapes = [c for c in raster["cells"] if "pairs" in c]
    threads = [c for c in raster["cells"] if "threads" in c]
    levels = [level for level in LEVELS if any(c["level"] == level for c in shapes)]
    parts = [
        f"Measured on {raster['machine'].rpartition(', ')[0]}, one thread, commit {raster['commit']}.",
        raster_table(shapes, levels),
        f"![Time against the number of splats and the size of the picture](../{PLOT.relative_to(ROOT)})",
        operator_table([*records["residual"]["cells"], *records["densify"]["cells"]]),
        rate_table([*threads, *shapes]),
        step_sentence(records["step"]),
    ]
    return "\n\n".join(["", *parts, ""])


def raster_table(cells: Iterable[Cell], levels: list[str]) -> str:
    """A row for each scene: ours at each level, the loops in torch, and how many times faster ours is."""
    rows: dict[str, dict[str, Cell]] = {}
    for c in cells:
        rows.setdefault(c["name"].rpartition(" ")[0], {})[c["level"]] = c
    names = [LEVELS[level] for level in levels]
    lines = table_head(
        ["splats, pictures", *(f"ours, {n}" for n in names), "torch loop", "plain loop", *(f"gain, {n}" for n in names)]
    )
    for name, by_level in rows.items():
        best = by_level[levels[0]]
        ours = [time_text(by_level[level]["ours_ms"]) for level in levels]
        gains = [gain_text(by_level[level]["ratio"]) for level in levels]
        loops = [time_text(best["baseline_ms"]), time_text(best["plain_ms"])]
        lines.append(row([readable(name), *ours, *loops, *gains]))
    return "\n".join(lines)


def operator_table(cells: Iterable[Cell]) -> str:
    lines = table_head(["operator", "ours", "torch", "gain"])
    for c in cells:
        lines.append(
            row([readable(c["name"]), time_text(c["ours_ms"]), time_text(c["baseline_ms"]), gain_text(c["ratio"])])
        )
    return "\n".join(lines)


def rate_table(cells: Iterable[Cell]) -> str:
    """What a second thread gains, and what one core blends where arithmetic dominates."""
    lines = table_head(["one figure", "instruction set", "value"])
    for c in cells:
        scene, level = readable(c["name"]).partition(" x86")[0], LEVELS[c["level"]]
        if "threads" in c:
            lines.append(row([f"{scene}: two threads against one", level, f"{c['ratio']:.2f}x"]))
        elif (c["num_splats"], c["size"]) == PROBE and c["fma_peak_flops"]:
            lines.append(row([f"{scene}: pairs of pixel and splat a second", level, f"{c['pairs_per_s'] / 1e6:.0f} M"]))
            lines.append(row(["peak of one core", level, f"{c['fma_peak_flops'] / 1e9:.0f} GFLOP/s"]))
    return "\n".join(lines)


def step_sentence(record: Mapping[str, Any]) -> str:
    return (
        f"In a default SDS step the network takes {record['network_share']:.0%} of the time, with {record['threads']} "
        "threads. Rendering 10k splats in four 64² images, with backward, takes "
        f"{record['raster_share']:.1%} of a step."
    )


def readable(name: str) -> str:
    return name.replace("^2", "²")


def table_head(names: list[str]) -> list[str]:
    return [row(names), row(["---", *["---:"] * (len(names) - 1)])]


def row(entries: Iterable[str]) -> str:
    return f"| {' | '.join(entries)} |"


def time_text(milliseconds: float | None) -> str:
    if milliseconds is None:
        return "n/a"
    digits = max(0, 2 - len(str(int(milliseconds)))) if milliseconds >= 1 else 2
    return f"{milliseconds:,.{digits}f} ms"


def gain_text(ratio: float | None) -> str:
    return "n/a" if ratio is None else f"{ratio:,.{1 if ratio < 10 else 0}f}x"


def draw(cells: Iterable[Cell], path: Path) -> None:
    """Two panels on log axes: time against N for each size, and against size for each N; ours is the best level."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shapes = [c for c in cells if "pairs" in c and c["num_views"] == 1]
    level = next(level for level in LEVELS if any(c["level"] == level for c in shapes))
    shapes = [c for c in shapes if c["level"] == level]
    plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    figure, panels = plt.subplots(1, 2, figsize=(9.6, 4.2), sharey=True, layout="constrained")
    panel(panels[0], shapes, x="num_splats", line="size", label="{}²")
    panel(panels[1], shapes, x="size", line="num_splats", label="{} splats")
    panels[0].set(xlabel="splats", ylabel="forward and backward, ms")
    panels[1].set(xlabel="side of the picture, pixels")
    styles = [
        ("plain torch loop", ":", "s"),
        ("best torch loop", "--", "o"),
        (f"splatdistill, {LEVELS[level]}", "-", "o"),
    ]
    for name, style, marker in styles:  # lines without points, for the legend
        panels[0].plot([], [], color="0.3", linestyle=style, marker=marker, markersize=4, label=name)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(path, dpi=160)
    plt.close(figure)


def panel(axes: Any, cells: list[Cell], *, x: str, line: str, label: str) -> None:
    """One line for each value of `line` and each program."""
    from matplotlib import colormaps
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    def short(value: float, _position: object = None) -> str:
        return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"

    values, ticks = sorted({c[line] for c in cells}), sorted({c[x] for c in cells})
    shades = colormaps["viridis"]([0.8 * i / max(len(values) - 1, 1) for i in range(len(values))])
    ends = []
    for value, shade in zip(values, shades, strict=True):
        some = sorted((c for c in cells if c[line] == value), key=lambda c: c[x])
        for field, style, marker in (("plain_ms", ":", "s"), ("baseline_ms", "--", "o"), ("ours_ms", "-", "o")):
            points = [(c[x], c[field]) for c in some if c[field] is not None]
            if points:
                axes.plot(*zip(*points, strict=True), color=shade, linestyle=style, marker=marker, markersize=4)
        ends.append((some[-1]["ours_ms"], label.format(short(value)), shade))
    height = 0.0
    for milliseconds, text, shade in sorted(ends, key=lambda end: end[0]):
        height = max(milliseconds, 1.5 * height)  # names of lines that end close together stay apart
        axes.annotate(text, (ticks[-1], height), xytext=(6, -3), textcoords="offset points", color=shade)
    axes.set(xscale="log", yscale="log")
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(short))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axes.set_xlim(ticks[0] / 1.2, ticks[-1] * 1.9)
    axes.grid(which="major", alpha=0.25)


if __name__ == "__main__":
    main()
