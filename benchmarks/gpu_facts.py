"""What a machine has, for the records of benchmarks/gpu.sh: device, versions, and what a compiler of kernels needs.

Imports nothing of the package, which may not be built yet.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import evidence

TOOLS = ("nvcc", "ninja", "c++", "git", "nvidia-smi", "compute-sanitizer")
PACKAGES = ("torch", "gsplat", "diffusers", "transformers", "huggingface_hub", "peft", "safetensors", "tyro", "plyfile",
            "numpy", "pybind11", "pytest", "hypothesis", "setuptools")  # fmt: skip


def device_facts(device: str) -> dict[str, Any]:
    """Name of the device, and the versions of what runs on it. device: cuda or cpu."""
    found: dict[str, Any] = {"device": device, "torch": installed("torch"), "python": sys.version.split()[0]}
    if device == "cuda":
        import torch

        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        found |= {
            "device": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "memory_gb": round(properties.total_memory / 1e9, 1),
            "cuda": torch.version.cuda,
            "driver": _driver(),
        }
    return found


def _driver() -> str | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.splitlines()[0].strip() if done.returncode == 0 and done.stdout else None


def installed(name: str) -> str | None:
    """The version of a package, None where it is missing."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the record")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    args = parser.parse_args()
    found = device_facts(args.device)
    path = evidence.path_of("check", found["device"], args.out)
    path.unlink(missing_ok=True)
    known = {"commit": evidence.commit(), "command": evidence.command(), "sources": evidence.fingerprint()}
    record = evidence.Record(path, bench="check", **found, **known)
    machine = {
        "cores": os.cpu_count(),
        "python_headers": (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file(),
        "tools": {name: shutil.which(name) is not None for name in TOOLS},
        "packages": {name: installed(name) for name in PACKAGES},
    }
    record.write(machine=machine)
    for name, value in {**found, **machine}.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
