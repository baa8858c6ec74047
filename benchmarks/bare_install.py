"""Installs the wheel of dist in a Debian that has Python and no compiler, and makes an object there.

    python benchmarks/bare_install.py                                   Debian bookworm, Python 3.11
    python benchmarks/bare_install.py --suite trixie                    another Debian, with its Python
    python benchmarks/bare_install.py --json benchmarks/results/bare_install.json

The system is made by debootstrap in a folder of its own, is entered by chroot, and is removed. It needs root. What pip
is told on this machine (its files of settings, and folders of packages and certificates that these name) is mounted
while a command runs. Exit code 77: nothing was tried, and the output says why.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import evidence
from evidence import ROOT

NOTHING_DONE = 77
PACKAGES = "python3,python3-venv,ca-certificates"
COMPILERS = ("cc", "c++", "gcc", "g++", "clang", "nvcc", "ninja", "make")
PROMPT = "a red armchair"
# Which OpenMP runtimes a process has once the operators are there.
RUNTIMES = """
from splatdistill import ops
lines = open("/proc/self/maps").read().split("\\n")
print(*sorted({line.split("/")[-1] for line in lines if "gomp" in line or "libomp" in line or "iomp" in line}))
"""


def missing() -> str | None:
    """Why no bare system can be had here."""
    if os.geteuid() != 0:
        return "A bare Debian can only be made by root: nothing was tried."
    if shutil.which("debootstrap") is None:
        return "A bare Debian needs Debian's debootstrap, which is not installed: nothing was tried."
    return None


def settings_of_pip() -> list[Path]:
    """Files and folders of this machine that pip reads here."""
    pip = [sys.executable, "-m", "pip", "config"]
    shown, debug = (
        subprocess.run([*pip, word], check=True, capture_output=True, text=True).stdout  # noqa: S603
        for word in ("list", "debug")
    )
    named = re.findall(r"^\s*(/.*), exists: True", debug, flags=re.M)
    named += [word.split("://")[-1] for word in re.findall(r"[^\s'\"=]+", shown)]
    found = {Path(word) for word in named if word.startswith("/")}
    tops = {Path(*path.parts[:3]) if path.is_dir() else path for path in found if path.exists()}
    return sorted(tops)


class System:
    """A Debian in a folder. Its mounts are of each command alone: none outlives one."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.binds = folder, settings_of_pip()

    def make(self, suite: str, *, packages: str = PACKAGES) -> None:
        """The smallest system of that suite, with these packages of it too."""
        included = [f"--include={packages}"] if packages else []
        command = ["debootstrap", "--variant=minbase", *included, suite, str(self.folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            print(f"debootstrap could not make {suite}: {(done.stdout + done.stderr).splitlines()[-1]}")
            raise SystemExit(NOTHING_DONE)
        for path in self.binds:
            place = self.folder / path.relative_to("/")
            if path.is_dir():
                place.mkdir(parents=True, exist_ok=True)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.touch()
        for name in ("resolv.conf", "hosts"):
            shutil.copyfile(f"/etc/{name}", self.folder / "etc" / name)

    def entering(self, command: str) -> tuple[list[str], dict[str, str]]:
        """What runs a line of shell in it, as on a machine that was just installed, and its environment."""
        mounts = [f'mount --bind "{path}" "{self.folder}{path}"' for path in self.binds]
        mounts += [f'mount -t proc proc "{self.folder}/proc"', f'mount --rbind /dev "{self.folder}/dev"']
        inside = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/srv", "LANG": "C.UTF-8", "LINE": command}
        inside |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        enter = f'exec chroot "{self.folder}" sh -ec \'cd /srv && eval "$LINE"\''
        return ["unshare", "--mount", "--propagation", "private", "sh", "-ec", "; ".join([*mounts, enter])], inside

    def run(self, command: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        words, inside = self.entering(command)
        done = subprocess.run(words, env=inside, capture_output=True, text=True, check=False)  # noqa: S603
        if check and done.returncode:
            raise SystemExit(f"{command}\n{done.stdout}{done.stderr}\nfailed with code {done.returncode}.")
        return done

    def begin(self, command: str) -> subprocess.Popen[str]:
        """Starts it, in a group of processes of its own."""
        words, inside = self.entering(command)
        return subprocess.Popen(  # noqa: S603
            words, env=inside, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )

    def timed(self, command: str) -> float:
        begun = time.monotonic()
        self.run(command)
        return round(time.monotonic() - begun, 1)


def rows(table: str) -> list[tuple[str, str]]:
    """Keys and values of what `info` prints."""
    return [(key, value) for line in table.splitlines() for key, value in [re.split(r" {2,}", line, maxsplit=1)]]


def measure(system: System, wheel: Path, *, suite: str, torch: str) -> dict[str, Any]:
    """What happens to somebody who has Python alone."""
    found = system.run(f"for name in {' '.join(COMPILERS)}; do command -v $name || true; done").stdout.split()
    if found:
        raise SystemExit(f"{suite} has {', '.join(found)}: this is no bare system.")
    shutil.copyfile(wheel, system.folder / "srv" / wheel.name)
    python = system.run("python3 -m venv venv && venv/bin/python --version").stdout.split()[-1]
    pip = "venv/bin/pip install --quiet --no-cache-dir"
    seconds = {"torch": system.timed(f"{pip} '{torch}'"), "wheel": system.timed(f"{pip} ./{wheel.name}")}
    train = f"venv/bin/splatdistill train --prompt '{PROMPT}' --out runs --name object"
    seconds["object"] = system.timed(train)
    summary = json.loads((system.folder / "srv/runs/object/summary.json").read_text())
    info = dict(rows(system.run("venv/bin/splatdistill info").stdout))
    runtimes = system.run(f"venv/bin/python -c '{RUNTIMES}'").stdout.split()
    system.run("venv/bin/pip uninstall --quiet --yes torch")
    without = system.run("venv/bin/splatdistill info", check=False)
    return {
        "python": python,
        "torch": info["torch"],
        "compilers": found,
        "seconds": seconds,
        "command": train.removeprefix("venv/bin/"),
        "summary": {key: summary[key] for key in ("steps", "num_splats", "dtype", "network_engine", "threads")},
        "openmp_runtimes": runtimes,
        "extension": {key.split()[1]: value for key, value in info.items() if key.startswith("extension ")},
        "without_torch": {"code": without.returncode, "said": without.stderr.strip()},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="bookworm", help="of Debian (default %(default)s)")
    parser.add_argument("--torch", default="torch>=2.11", help="what is installed first (default %(default)s)")
    parser.add_argument("--wheel", type=Path, help="default: the one in dist")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add the record to this file, under the suite")
    flags = parser.parse_args()
    wheels = [flags.wheel] if flags.wheel else sorted((ROOT / "dist").glob("*.whl"))
    if len(wheels) != 1:
        raise SystemExit("There must be one wheel in dist: `make wheels` makes it, and --wheel names another.")
    if reason := missing():
        print(reason)
        return NOTHING_DONE
    with tempfile.TemporaryDirectory(prefix="splatdistill-bare-") as name:
        system = System(Path(name))
        system.make(flags.suite)
        found = measure(system, wheels[0], suite=flags.suite, torch=flags.torch)
    print(json.dumps(found, indent=1))
    if flags.json:
        import common

        evidence.Record(flags.json).write(**{flags.suite: {
            "commit": evidence.commit(), "machine": common.machine(), "run": evidence.command(),
            "wheel": wheels[0].name, "wheel_mb": round(wheels[0].stat().st_size / 1e6, 2), **found,
        }})  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
