"""Where CUDA's compiler is and how the kernels are compiled; used by setup.py and benchmarks/kernel_budget.py."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCES = sorted(Path(__file__).parent.glob("*.cu"))
# Rounded after every operation, as on a CPU: densify masks are equal everywhere. Never --use_fast_math.
FLAGS = ["-std=c++17", "-O3", "-fmad=false", "-Xcompiler=-fPIC,-fvisibility=hidden"]
# A kernel that spills registers or needs local memory does not compile. Not for a user's build: with another compiler
# or architecture one that spills is still right.
STRICT = ["-Xptxas=-warn-spills,-warn-lmem-usage,-Werror"]


@dataclass(frozen=True)
class Toolkit:
    """nvcc: its path. top: the folder of the toolkit. libraries: folders that it links from."""

    nvcc: str
    top: str
    libraries: list[str]

    @property
    def release(self) -> str:
        """Such as 13.0.88, as nvcc tells it."""
        shown = subprocess.run([self.nvcc, "--version"], check=True, capture_output=True, text=True).stdout  # noqa: S603
        return re.findall(r"V(\d[\d.]*)", shown)[0]

    def check_torch(self, cuda: str | None) -> None:
        """SystemExit, one sentence, for an nvcc of a later major release than torch's CUDA, None for none: the
        kernels would need a newer driver than torch does.
        """
        release = self.release
        if cuda is not None and int(release.split(".")[0]) > int(cuda.split(".")[0]):
            raise SystemExit(
                f"{self.nvcc} is of CUDA {release}, which needs a newer driver than this torch of CUDA {cuda}: put an "
                f"nvcc of CUDA {cuda.split('.')[0]} first on the PATH, or set SPLATDISTILL_CUDA=0 for no CUDA kernels."
            )

    def static_runtime(self) -> str:
        """The CUDA runtime as a library that is linked in, so that the extension loads where there is none."""
        for folder in self.libraries:
            if (library := Path(folder) / "libcudart_static.a").is_file():
                return str(library)
        raise SystemExit(f"No libcudart_static.a beside {self.nvcc}: install the CUDA runtime's development files.")


def find() -> Toolkit | None:
    """The toolkit of the `nvcc` on the PATH, as nvcc itself tells it: a wrapper script may stand in for it. None where
    there is none that works.
    """
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        return None
    command = [nvcc, "--dryrun", "-x", "cu", "-c", os.devnull, "-o", os.devnull]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    top = re.search(r"^#\$ TOP=(.+)$", shown.stderr, flags=re.M)
    if shown.returncode != 0 or top is None:
        return None
    named = re.findall(r"-L([^\"\s]+)", "".join(re.findall(r"^#\$ LIBRARIES=(.*)$", shown.stderr, flags=re.M)))
    return Toolkit(nvcc, str(Path(top[1]).resolve()), [*named, str(Path(top[1]) / "lib")])


def same_everywhere(source: Path) -> list[str]:
    """Flags without which the names in an object file depend on where `source` lies and on names of temporary files."""
    return ["-objtemp", f"-frandom-seed={source.name}", f"-Xcudafe=--orig_src_path_name={source.name}"]


def archs() -> list[str]:
    """Compute capabilities to compile for, from SPLATDISTILL_CUDA_ARCHS."""
    named = os.environ.get("SPLATDISTILL_CUDA_ARCHS", "80;90").replace(",", ";").split(";")
    found = sorted({arch.strip() for arch in named} - {""}, key=lambda arch: (len(arch.rstrip("af")), arch))
    if not found or not all(re.fullmatch(r"\d{2,3}[af]?", arch) for arch in found):
        raise SystemExit('SPLATDISTILL_CUDA_ARCHS must look like "80;90".')
    return found


def gencode(archs: list[str]) -> list[str]:
    """Machine code for each, and PTX of the newest for devices that came later."""
    codes = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in archs]
    return [*codes, f"-gencode=arch=compute_{archs[-1]},code=compute_{archs[-1]}"]
