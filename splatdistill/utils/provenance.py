"""What made a result: versions, the commit of the source tree, and the memory that it took."""

from __future__ import annotations

import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from splatdistill import __version__
from splatdistill.utils.system import peak_memory_bytes


def versions() -> dict[str, str]:
    """Versions of what decides a result's bits."""
    found = {"splatdistill": __version__, "python": platform.python_version()}
    for name in ("torch", "diffusers", "gsplat", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The commit of the source tree this package runs from, None outside one."""
    root = Path(__file__).resolve().parents[2]
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():  # an installed package may lie in somebody else's tree
        return None
    done = subprocess.run([git, "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True)  # noqa: S603
    return done.stdout.strip() or None


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, MB of 10^6 bytes."""
    return peak_memory_bytes() / 1e6
