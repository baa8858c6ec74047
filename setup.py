"""Builds the native extension; the metadata is in pyproject.toml.

`splatdistill._C` holds the operators. Its kernels know no torch: csrc/cpu/build_kernels.py says how they are compiled.
Only csrc/bind sees torch, through the stable ABI, so that one build serves every torch from 2.11 on.
`splatdistill._build_info` records the build.

SPLATDISTILL_CUDA = auto (default) | 0 | 1: whether to build the CUDA kernels; auto does where nvcc is on the PATH. No
GPU is needed for it, and the result also loads where there is no CUDA.
SPLATDISTILL_CUDA_ARCHS: compute capabilities, "80;90" unless set; the newest also as PTX.
SPLATDISTILL_SANITIZE = 1: find bad memory accesses and undefined behaviour at run time; for `make sanitize`.

The same sources, compiler and SOURCE_DATE_EPOCH give the same bytes in any folder; `.ci/wheels.py` holds that.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup

try:
    import pybind11
    import torch
    from torch.utils.cpp_extension import TORCH_LIB_PATH, BuildExtension, CppExtension, include_paths
except ModuleNotFoundError as error:
    raise SystemExit(
        f"{error.name} is not here, and the build needs its headers: `pip install 'torch>=2.11' 'setuptools>=77' ninja "
        "pybind11`, then install splatdistill with --no-build-isolation."
    ) from None

ROOT = Path(__file__).resolve().parent
sys.path[:0] = [str(ROOT / "csrc" / "cpu"), str(ROOT / "csrc" / "cuda")]
import build_kernels  # noqa: E402
import toolkit  # noqa: E402

SANITIZE = CHECKED = []
if os.environ.get("SPLATDISTILL_SANITIZE") == "1":
    SANITIZE = ["-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all"]
    CHECKED = [*SANITIZE, "-O1", "-g1", "-fno-omit-frame-pointer"]
KERNEL_FLAGS = [*build_kernels.flags(os.environ.get("CXX", "c++")), *CHECKED]


def kernel_objects(build: Path, compiler: str) -> list[str]:
    """Compiles the torch-free kernels, every level of every file, and returns the object files."""
    jobs = build_kernels.jobs(build, platform.machine())
    names = [shlex.quote(flag) for flag in NAMES]
    commands = {".cpp": [compiler, *KERNEL_FLAGS, *names]}
    if CUDA:
        hosts = [f"-Xcompiler={name}" for name in names]
        commands[".cu"] = [CUDA.nvcc, *toolkit.FLAGS, *toolkit.gencode(ARCHS), *hosts]
        jobs += [(file, build / f"{file.name}.o", toolkit.same_everywhere(file)) for file in toolkit.SOURCES]
    return build_kernels.compile_all(build, commands, jobs)


def write_build_config(folder: Path, version: str, compiler: str) -> None:
    """Writes the header that csrc/bind/build_info.cpp reports."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = subprocess.run([compiler, "--version"], check=True, capture_output=True, text=True)  # noqa: S603
    values = {
        "SD_VERSION": version,
        "SD_TORCH_VERSION": torch.__version__,
        "SD_COMPILER": shown.stdout.splitlines()[0],
        "SD_FLAGS": " ".join(KERNEL_FLAGS),
        "SD_CUDA_ARCHS": " ".join(ARCHS),
    }
    text = "".join(f"#define {name} {json.dumps(value)}\n" for name, value in values.items())
    (folder / "sd_build_config.h").write_text(text, encoding="utf-8")


class Build(BuildExtension):
    """Adds the kernel objects and the generated header before torch's own build runs."""

    def build_extensions(self) -> None:
        compiler = os.environ.get("CXX", "c++")
        build = (Path(self.build_temp) / "kernels").resolve()
        write_build_config(build, self.distribution.get_version(), compiler)
        ops, info = self.extensions
        ops.extra_objects = [*(ops.extra_objects or []), *kernel_objects(build, compiler)]
        info.include_dirs.append(str(build))
        super().build_extensions()


# The ninja of an environment that is not activated; torch looks for it on the PATH too.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])

wanted = os.environ.get("SPLATDISTILL_CUDA", "auto")
if wanted not in ("auto", "0", "1"):
    raise SystemExit("SPLATDISTILL_CUDA must be auto, 0 or 1.")
CUDA = toolkit.find() if wanted != "0" else None
if wanted == "1" and CUDA is None:
    raise SystemExit(
        "SPLATDISTILL_CUDA is 1 but no nvcc on the PATH works: install the CUDA toolkit, or leave it unset."
    )
if CUDA:
    CUDA.check_torch(torch.version.cuda)
ARCHS = toolkit.archs() if CUDA else []

# What the messages of failed checks call a file: the same wherever the sources and torch lie.
PLACES = {ROOT: ".", Path(TORCH_LIB_PATH).parent: "torch"}
if CUDA:
    PLACES[Path(CUDA.top)] = "cuda"
NAMES = [f"-ffile-prefix-map={place}={name}" for place, name in PLACES.items()]
# -isystem: the warnings are for our own files.
BIND_FLAGS = [
    *build_kernels.OPTIMISE,
    *NAMES,
    *CHECKED,
    *build_kernels.WARNINGS,
    "-fvisibility=hidden",
    "-g0",
    *(f"-isystem{path}" for path in include_paths()),
]
ALONE = {"build_info.cpp", "cuda.cpp"}  # of another module; for CUDA alone
SOURCES = [
    f"csrc/bind/{path.name}" for path in sorted((ROOT / "csrc" / "bind").glob("*.cpp")) if path.name not in ALONE
]
MACROS: list[tuple[str, str | None]] = [("TORCH_TARGET_VERSION", "0x020b000000000000"), ("TORCH_STABLE_ONLY", None)]
# No OpenMP library is named: its runtime is found through libtorch_cpu, so that a process has one, torch's, whatever
# its file is called. A machine without a compiler may have no other.
LINK = [*SANITIZE]
if CUDA:
    SOURCES.append("csrc/bind/cuda.cpp")
    MACROS.append(("SD_WITH_CUDA", None))
    # libtorch.so pulls in libtorch_cuda where there is one: that is how its stream is found.
    LINK += ["-Wl,--no-as-needed", "-ltorch", "-Wl,--as-needed", CUDA.static_runtime(), "-ldl", "-lrt", "-lpthread"]
DEPENDS = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "csrc").rglob("*")) if path.is_file()]

setup(
    ext_modules=[
        CppExtension(
            "splatdistill._C",
            SOURCES,
            depends=[*DEPENDS, "setup.py"],
            define_macros=MACROS,
            extra_compile_args={"cxx": BIND_FLAGS},
            extra_link_args=LINK,
            py_limited_api=True,
        ),
        Extension(
            "splatdistill._build_info",
            ["csrc/bind/build_info.cpp"],
            depends=[*DEPENDS, "setup.py"],
            include_dirs=[pybind11.get_include()],
            extra_compile_args=["-O2", *build_kernels.WARNINGS, "-fvisibility=hidden", "-g0"],
        ),
    ],
    cmdclass={"build_ext": Build},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},  # _build_info is the exception, and may be missing
)
