"""What of the CUDA half can be tried where there is no GPU: torch's CUDA build loads our extension, and gsplat links.

    python benchmarks/gpu_rehearsal.py [--without-gsplat]

In an environment of its own, build/rehearsal: torch 2.11 as PyPI has it for Linux, which is the build for CUDA 13. The
extension is that of the usual environment, made on torch's stable interface with another torch. Its operators are
tested there on the CPU, and what it takes of CUDA is resolved by the loader. gsplat compiles itself at its first
import, for sm_90, with the compiler of NVIDIA's packages: about 12 minutes of one core. It needs 6 GB of disk.

Each line says what was rehearsed and what was not. No kernel runs, so nothing here says that one is right or fast.
Exit code: 0 all was rehearsed, 1 something failed, 77 this machine gets no CUDA build of torch.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import evidence

FOLDER = evidence.ROOT / "build" / "rehearsal"
TORCH = "torch==2.11.0"
# nvcc and what it needs land beside the libraries that torch brings, in one tree like that of a toolkit.
COMPILER = (
    "nvidia-cuda-nvcc==13.0.88",
    "nvidia-nvvm==13.0.88",
    "nvidia-cuda-crt==13.0.88",
    "nvidia-cuda-cccl==13.0.85",
)
OTHERS = ("gsplat==1.5.3", "ninja", "setuptools<82", "numpy", "pytest", "hypothesis")
TESTS = [f"tests/ops/test_{name}.py" for name in ("residual", "gradient", "densify", "gram", "update")]
PYTEST = ("-n", "0", "-m", "not slow and not gpu", "-p", "no:cacheprovider")
FACTS = (
    "import torch; from splatdistill import ops; info = ops.build_info(); "
    "print('torch', torch.__version__, 'for CUDA', torch.version.cuda, '- extension of torch', info['torch'], "
    "'with', info['cuda_archs'] or 'no CUDA code')"
)
GSPLAT = "from gsplat.cuda._backend import _C; print('gsplat:', _C.__file__); print(_C.projection_ewa_3dgs_fused_fwd)"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without-gsplat", action="store_true", help="leave out its compilation")
    args = parser.parse_args()
    site = install()
    cuda = said(["-P", "-c", "import torch; print(torch.version.cuda or '')"])
    if not cuda:
        print(f"not rehearsed: pip finds {TORCH} without CUDA here.")
        return 77
    done = [
        step("the extension loads in torch's CUDA build", ["-P", "-c", FACTS]),
        step("its operators agree with their references there, on the CPU", ["-m", "pytest", "-q", *PYTEST, *TESTS]),
    ]
    if args.without_gsplat:
        print("not rehearsed: gsplat was left out.")
    else:
        done.append(step("gsplat compiles, links and is imported", ["-P", "-c", GSPLAT], **toolkit(site)))
    print("not rehearsed: anything that runs on a GPU; benchmarks/gpu.sh does that.")
    return 0 if all(done) else 1


def install() -> Path:
    """Makes the environment, or brings it up to date; returns the folder of its packages."""
    if not (FOLDER / "bin" / "python").exists():
        venv.create(FOLDER, with_pip=True)
    pip = [str(FOLDER / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-cache-dir"]
    subprocess.run([*pip, TORCH, *OTHERS, "pytest-xdist"], check=True)  # noqa: S603
    subprocess.run([*pip, "--no-deps", *COMPILER], check=True)  # noqa: S603
    site = Path(said(["-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"]))
    for item in Path(sysconfig.get_paths()["purelib"]).glob("*splatdistill*"):  # how the usual environment finds it
        if item.is_dir():
            shutil.copytree(item, site / item.name, dirs_exist_ok=True)
        else:
            shutil.copy(item, site / item.name)
    return site


def toolkit(site: Path) -> dict[str, str]:
    """Settings for a build against the toolkit of the packages, which lack the name that the linker looks for."""
    home = site / "nvidia" / "cu13"
    link = home / "lib" / "libcudart.so"
    if not link.exists():
        link.symlink_to("libcudart.so.13")
    return {"CUDA_HOME": str(home), "TORCH_CUDA_ARCH_LIST": "9.0", "TORCH_EXTENSIONS_DIR": str(FOLDER / "extensions")}


def step(what: str, words: list[str], **settings: str) -> bool:
    """Runs the environment's Python and says how it went."""
    path = os.pathsep.join([str(FOLDER / "bin"), os.environ.get("PATH", "")])
    environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"} | settings
    command = [str(FOLDER / "bin" / "python"), *words]
    code = subprocess.run(command, cwd=evidence.ROOT, env=environment, check=False).returncode  # noqa: S603
    print(f"rehearsed: {what}." if code == 0 else f"FAILED: {what}: exit code {code}.", flush=True)
    return code == 0


def said(words: list[str]) -> str:
    """The last line that the environment's Python prints."""
    command = [str(FOLDER / "bin" / "python"), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603


if __name__ == "__main__":
    sys.exit(main())
