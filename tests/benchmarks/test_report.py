"""The tables of the pages and the plot come from the records."""

from __future__ import annotations

import pytest
import report
from common import with_section


def raster_cell(n, views, size, level, ours):
    name = f"{n // 1000}k {f'{views}x' if views > 1 else ''}{size}^2 {level}"
    times = {"ours_ms": ours, "baseline_ms": 100.0, "ratio": 100.0 / ours, "plain_ms": None}
    rate = {"pairs": 10, "pairs_per_s": 2e8, "fma_peak_flops": 1e11}
    return {"name": name, "level": level, "num_splats": n, "num_views": views, "size": size, **times, **rate}


LEVELS = ("x86_64_v4", "x86_64_v3")
RASTER = [
    raster_cell(n, views, size, level, 0.5 * n / 1000)
    for level in LEVELS
    for n, views, size in [(2000, 4, 64), (2000, 1, 128), (10000, 1, 128), (10000, 1, 256)]
]
THREADS = [{"name": "10k 256^2 x86_64_v4, 2 threads", "level": "x86_64_v4", "threads": 2, "ratio": 1.5}]
OTHER = [{"name": "residual 4x3x64^2", "ours_ms": 0.05, "baseline_ms": 0.2, "ratio": 4.0}]
RECORDS = {
    "rasterize": {"machine": "Processor, 2 cores, torch 2, x86_64_v4", "commit": "abc", "cells": RASTER + THREADS},
    "residual": {"cells": OTHER},
    "densify": {"cells": []},
    "step": {"network_share": 0.9, "threads": 2, "raster_share": 0.051},
}


def test_the_section_holds_every_figure():
    made = report.section(RECORDS)
    assert "Processor, 2 cores, torch 2," in made and "commit abc" in made
    assert "| 2k 4x64² | 1.0 ms | 1.0 ms | 100 ms | n/a | 100x | 100x |" in made
    assert "| residual 4x3x64² | 0.05 ms | 0.20 ms | 4.0x |" in made
    assert "| 10k 256²: two threads against one | AVX-512 | 1.50x |" in made.replace(", 2 threads", "")
    assert "| AVX-512 | 200 M |" in made and "| AVX-512 | 100 GFLOP/s |" in made
    assert "90%" in made and "5.1%" in made


def test_only_what_stands_between_the_markers_changes():
    begin, end = "<!-- x: written by benchmarks/y.py -->", "<!-- end of x -->"
    once = with_section(f"before\n{begin}\nold\n{end}\nafter\n", "new", name="x", script="y.py")
    assert once == f"before\n{begin}\nnew\n{end}\nafter\n"
    assert with_section(once, "new", name="x", script="y.py") == once
    with pytest.raises(SystemExit):
        with_section("no markers", "new", name="x", script="y.py")


def test_the_page_has_the_markers_of_its_script():
    text = report.PAGE.read_text()
    assert "new" in with_section(text, "new", **report.SECTION)
    assert text.count(f"<!-- end of {report.SECTION['name']} -->") == 1


def test_the_plot_is_drawn(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib comes with the development environment")
    path = tmp_path / "plot.png"
    report.draw(RASTER, path)
    assert path.read_bytes()[:4] == b"\x89PNG"
