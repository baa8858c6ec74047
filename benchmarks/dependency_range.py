"""Tests a part of the package with the lowest or the newest versions that pyproject.toml allows, in build/floor or
build/newest. The extension is that of the usual environment: it is built on torch's stable interface.

    python benchmarks/dependency_range.py floor
    python benchmarks/dependency_range.py newest                       # DEPRECATIONS are errors
    python benchmarks/dependency_range.py newest --python python3.13   # with another interpreter
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

from common import ROOT

TESTS = (
    "tests/ops/test_residual.py",
    "tests/ops/test_densify.py",
    "tests/priors/test_diffusion.py",
    "tests/priors/test_lora.py",
    "tests/priors/test_text_encoders.py",
    "tests/io/test_ply.py",
    "tests/io/test_video.py",
    "tests/cli/test_cli.py",
    "tests/viewer/test_server.py",
    "tests/training/test_trainer.py",
)
DEPRECATIONS = "\n".join(
    f"error::{kind}:splatdistill.*" for kind in ("DeprecationWarning", "FutureWarning", "PendingDeprecationWarning")
)
"""What other packages tell our modules of things that will go; what they tell each other is theirs."""
RUNNERS = ("pytest", "pytest-xdist", "hypothesis")


def requirements(which: str) -> list[str]:
    """The direct dependencies: at their lowest versions, or as they stand."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    return [re.sub(r">=([\w.]+)[^;]*", r"==\1", line) for line in listed] if which == "floor" else listed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=("floor", "newest"))
    parser.add_argument("--torch", help="another version of torch than the range gives, as in 2.13.0")
    parser.add_argument("--python", default=sys.executable, help="another interpreter, as in python3.13")
    flags = parser.parse_args()
    wanted = requirements(flags.which)
    if flags.torch:
        wanted = [f"torch=={flags.torch}" if line.startswith("torch") else line for line in wanted]
    other = "" if flags.python == sys.executable else f"-{Path(flags.python).name}"
    folder = ROOT / "build" / f"{flags.which}{other}"
    subprocess.run([flags.python, "-m", "venv", "--clear", str(folder)], check=True)  # noqa: S603
    python = str(folder / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted, *RUNNERS], check=True)  # noqa: S603
    subprocess.run([python, "-m", "pip", "list"], check=True)  # noqa: S603
    code = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    site = Path(subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip())  # noqa: S603
    for item in Path(sysconfig.get_paths()["purelib"]).glob("*splatdistill*"):  # how the usual environment finds it
        (shutil.copytree if item.is_dir() else shutil.copy)(item, site / item.name)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [python, "-m", "pytest", "-n", "2", "-m", "not slow and not browser", "-p", "no:cacheprovider", *TESTS]
    command += ["-o", f"filterwarnings={DEPRECATIONS}"] if flags.which == "newest" else []
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode  # noqa: S603


if __name__ == "__main__":
    sys.exit(main())
