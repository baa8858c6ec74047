"""The rasteriser against `torch_tiles`, the best loop in plain torch: forward alone, and forward with backward.

One thread each, taken in turn, at every vector instruction-set level that the machine has (a level is chosen when the
extension loads, so each runs in a process of its own). Fields of a cell beside the common ones:
  tile              of the baseline: 8 or 16, whichever is faster here
  forward_*         the same for the forward pass alone, its graph included
  plain_ms          forward and backward of `plain_tiles`, a loop over tiles without torch_tiles's devices
  pairs             pairs of pixel and splat that are blended; pairs_per_s is for forward and backward
  pairs_per_flop    pairs_per_s over the core's measured peak of fused multiply-adds, FLOP/s, at the level's width
The last cell compares two threads with one, in wall-clock time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import plain_tiles
import torch
import torch_tiles
from scenes import Scene, Shape, ball, picture_weights

from splatdistill import ops

PICTURES = ((4, 64), (1, 128), (1, 256), (1, 512))
SHAPES = [Shape(n, views, size) for views, size in PICTURES for n in (2000, 10000, 50000)]
QUICK = [Shape(2000, 4, 64), Shape(10000, 4, 64), Shape(10000, 1, 256)]
PROBE = Shape(10000, 1, 256)  # where threads and the arithmetic peak are looked at
TILES = (8, 16)
PLAIN_SPLATS = 10000  # with more, the plain loop's graph takes many gigabytes
WIDTHS = {"generic": 4, "neon": 4, "x86_64_v3": 8, "x86_64_v4": 16}  # floats in a vector
Picture = Callable[..., Any]


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--level", help=argparse.SUPPRESS)  # the process of one level
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.level:
        args.json.write_text(json.dumps(level_cells(args.level, quick=args.quick)))
        return
    cells = []
    for level in levels():
        common.progress(f"== {level}")
        cells += run_level(level, quick=args.quick)
    common.write(common.record("rasterize", cells, quick=args.quick, threads=args.threads), args.json)


def levels() -> list[str]:
    """The vector levels that were compiled and that this machine has, best first."""
    code = "from splatdistill import ops; print(ops.build_info()['simd_level'])"
    found = []
    for level in reversed(ops.build_info()["simd_levels"]):
        environment = os.environ | {"SPLATDISTILL_SIMD": level}
        done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)  # noqa: S603
        if done.stdout.strip() == level:
            found.append(level)
    return [level for level in found if level != "generic"] or found


def run_level(level: str, *, quick: bool) -> list[dict[str, Any]]:
    """The cells of one level, from a process in which the extension runs on it."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "cells.json"
        command = [sys.executable, __file__, "--level", level, "--json", str(out), *(["--quick"] if quick else [])]
        subprocess.run(command, env=os.environ | {"SPLATDISTILL_SIMD": level}, check=True)  # noqa: S603
        return json.loads(out.read_text())


def level_cells(level: str, *, quick: bool) -> list[dict[str, Any]]:
    assert ops.build_info()["simd_level"] == level
    peak = fma_peak(WIDTHS[level])
    cells = []
    for shape in QUICK if quick else SHAPES:
        cells.append(shape_cell(shape, level, peak, quick=quick))
        common.progress(common.shown(cells[-1]))
    if (os.cpu_count() or 1) > 1:
        cells.append(threads_cell(level))
        common.progress(common.shown(cells[-1]))
    return cells


def shape_cell(shape: Shape, level: str, peak: float | None, *, quick: bool) -> dict[str, Any]:
    scene, weights = ball(shape), picture_weights(shape)
    calls: dict[str, Callable[[], object]] = {
        "ours": lambda: step(ops.rasterize, scene, weights),
        "ours forward": lambda: ops.rasterize(*scene),
    }
    for tile in TILES:
        calls[f"torch {tile}"] = lambda tile=tile: step(torch_tiles.rasterize, scene, weights, tile=tile)
        calls[f"torch {tile} forward"] = lambda tile=tile: torch_tiles.rasterize(*scene, tile=tile)
    samples = common.alternate(calls, rounds=3 if quick else 9, budget=12.0)
    tile = min(TILES, key=lambda tile: statistics.median(samples[f"torch {tile}"]))
    forward = common.cell("", samples["ours forward"], samples[f"torch {tile} forward"])
    with torch.no_grad():
        pairs = plain_tiles.rasterize(*scene, tile=TILES[0]).pairs
    pairs_per_s = pairs / statistics.median(samples["ours"])
    return common.cell(
        f"{shape} {level}",
        samples["ours"],
        samples[f"torch {tile}"],
        level=level,
        **shape._asdict(),
        tile=tile,
        **{f"forward_{key}": forward[key] for key in ("ours_ms", "baseline_ms", "ratio")},
        plain_ms=None if quick or shape.num_splats > PLAIN_SPLATS else plain_ms(scene, weights),
        pairs=pairs,
        pairs_per_s=common.significant(pairs_per_s),
        pairs_per_flop=common.significant(pairs_per_s / peak) if peak else None,
        fma_peak_flops=peak,
    )


def step(rasterize: Picture, scene: Scene, weights: torch.Tensor, **options: Any) -> None:
    """Forward and backward of <weights, picture>; the product itself is not the rasteriser's work."""
    scene.leaves()
    rasterize(*scene, **options).rgb.backward(weights)


def plain_ms(scene: Scene, weights: torch.Tensor) -> float:
    """The better tile, once each: this is a side note, and seconds long."""
    times = []
    for tile in TILES:
        start = time.process_time()
        step(plain_tiles.rasterize, scene, weights, tile=tile)
        times.append(time.process_time() - start)
    return common.milliseconds([min(times)])


def threads_cell(level: str) -> dict[str, Any]:
    """Two threads as `ours`, one as the baseline."""
    scene, weights = ball(PROBE), picture_weights(PROBE)

    def with_threads(count: int) -> None:
        torch.set_num_threads(count)
        step(ops.rasterize, scene, weights)

    before = torch.get_num_threads()
    calls = {"two": lambda: with_threads(2), "one": lambda: with_threads(1)}
    samples = common.alternate(calls, rounds=41, budget=10.0, clock=time.perf_counter)
    torch.set_num_threads(before)
    return common.cell(f"{PROBE} {level}, 2 threads", samples["two"], samples["one"], level=level, threads=2)


def fma_peak(width: int) -> float | None:
    """FLOP/s of one core with vectors of `width` floats, or None where the little program does not build or run."""
    source = Path(__file__).with_name("fma_peak.cpp")
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/fma_peak"
        flags = ["-O2", "-march=native", "-ffp-contract=fast", f"-DSD_WIDTH={width}", "-o", program]
        try:
            subprocess.run([os.environ.get("CXX", "c++"), *flags, str(source)], check=True)  # noqa: S603
            done = subprocess.run([program], check=True, capture_output=True, text=True)  # noqa: S603
        except (OSError, subprocess.CalledProcessError) as error:
            common.progress(f"no FMA peak: {error}")
            return None
    return common.significant(float(done.stdout.split()[0]))


if __name__ == "__main__":
    main()
