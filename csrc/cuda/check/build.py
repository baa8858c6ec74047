"""Builds kernels_check, the program of main.cu: `python csrc/cuda/check/build.py FILE [--host]`.

--host: for a machine without nvcc, with the kernels as loops. SPLATDISTILL_CUDA_ARCHS as for the extension.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
CPU = HERE.parents[1] / "cpu"
sys.path.insert(0, str(HERE.parent))
import toolkit  # noqa: E402

KERNELS = [path for path in toolkit.SOURCES if path.stem != "primitives"]  # that runs on a device alone
TWINS = [CPU / f"{path.stem}.cpp" for path in KERNELS]
CASES = sorted(HERE.glob("*.cu"))
# Rounded after every operation, as the extension's. A program that travels brings its C++ library.
HOST = ["-std=c++17", "-O2", "-ffp-contract=off", "-fno-math-errno", "-Wall", "-Wextra", "-Wno-stringop-overflow",
        "-Wno-array-bounds", "-Wno-restrict"]  # fmt: skip
TWIN = ["-DSD_SIMD_LEVEL=generic", "-Wno-unknown-pragmas", "-Wno-unused-parameter"]
STATIC = ["-static-libstdc++", "-static-libgcc"]


def build(out: Path, *, host: bool, extra: tuple[str, ...] = ()) -> None:
    """extra: flags of the host's compiler, such as those of a sanitizer. SystemExit, one sentence, without nvcc."""
    compiler = os.environ.get("CXX", "c++")
    kit = None if host else toolkit.find()
    if kit is None and not host:
        raise SystemExit("No nvcc on the PATH works: install the CUDA toolkit, or take --host.")
    with tempfile.TemporaryDirectory() as folder:
        jobs = [([compiler, *HOST, *extra, *TWIN], source) for source in TWINS]
        if kit is None:
            jobs += [([compiler, *HOST, *extra, "-x", "c++"], source) for source in [*KERNELS, *CASES]]
            jobs.append(([compiler, *HOST, *extra], HERE / "host.cpp"))
        else:
            nvcc = [kit.nvcc, *toolkit.FLAGS, *toolkit.gencode(toolkit.archs())]
            jobs += [(nvcc, source) for source in [*toolkit.SOURCES, *CASES]]

        def compiled(job: tuple[list[str], Path]) -> str:
            command, source = job
            target = f"{folder}/{source.parent.name}.{source.name}.o"
            subprocess.run([*command, "-c", str(source), "-o", target], check=True)  # noqa: S603
            return target

        with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS", os.cpu_count() or 1))) as pool:
            objects = list(pool.map(compiled, jobs))
        runtime = [kit.static_runtime(), "-ldl", "-lrt", "-lpthread"] if kit else []
        out.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([compiler, *extra, *([] if extra else STATIC), "-o", str(out), *objects, *runtime], check=True)  # noqa: S603


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="FILE")
    parser.add_argument("--host", action="store_true", help="without nvcc")
    args = parser.parse_args()
    build(args.out, host=args.host)


if __name__ == "__main__":
    main()
