"""Runs the steps of a Dockerfile where there is no Docker: in a Debian of debootstrap, entered by chroot.

    python benchmarks/container_steps.py                  the file Dockerfile, with the wheel of dist
    python benchmarks/container_steps.py --build-arg TORCH_INDEX= --json benchmarks/results/container_steps.json

Then what it starts is tried as its user: `info`, and the page on its port, which must answer with the printed token and
not without. A base image is Debian's slim one, which debootstrap makes nearly alike: it leaves out pages of manuals.
What Docker itself does, layers, networks and the isolation, is not tried. Exit code 77: nothing was tried.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import bare_install
import evidence
from evidence import ROOT

PATIENCE = 120  # seconds that the page may take to answer
Step = tuple[str, str]


def steps(text: str) -> list[Step]:
    """("RUN", "apt-get update && ...") and so on, without comments; continued lines are one."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name, rest) for line in whole.splitlines() if line.strip() for name, rest in [line.split(maxsplit=1)]]


class Image:
    """What the steps have made so far: a system, and the settings that commands run with."""

    def __init__(self, system: bare_install.System, arguments: dict[str, str]) -> None:
        self.system, self.arguments = system, arguments
        self.known: dict[str, str] = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        self.folder, self.user, self.entry, self.default, self.ports = "/", "0", [], [], []

    def line(self, command: str, *, user: str = "0") -> str:
        """`command` as a line of shell that sees the settings, in the folder and as the user that are in force."""
        settings = " ".join(f"{name}={shlex.quote(value)}" for name, value in self.known.items())
        switch = f"setpriv --reuid {user} --regid {user} --clear-groups " if user != "0" else ""
        return f"cd {shlex.quote(self.folder)} && exec {switch}env {settings} sh -c {shlex.quote(command)}"

    def take(self, name: str, rest: str) -> None:
        """Does one step. SystemExit for a kind of step that is not known here."""
        if name == "RUN":
            self.system.run(self.line(rest))
        elif name == "COPY":
            *sources, target = rest.split()
            place = self.system.folder / target.lstrip("/")
            place.mkdir(parents=True, exist_ok=True)
            for path in (path for source in sources for path in sorted(ROOT.glob(source))):
                shutil.copy(path, place)
        elif name in ("ARG", "ENV"):
            for word in shlex.split(rest):
                key, _, value = word.partition("=")
                value = re.sub(r"\$(\w+)", lambda match: self.known.get(match[1], ""), value)
                self.known[key] = self.arguments.get(key, value) if name == "ARG" else value
        elif name in ("WORKDIR", "USER", "EXPOSE", "ENTRYPOINT", "CMD"):
            self.set(name, rest)
        elif name != "FROM":
            raise SystemExit(f"{name}: a step that this script does not know.")

    def set(self, name: str, rest: str) -> None:
        if name == "WORKDIR":
            self.folder = rest
        elif name == "USER":
            self.user = rest
        elif name == "EXPOSE":
            self.ports.append(int(rest))
        elif name == "ENTRYPOINT":
            self.entry = json.loads(rest)
        else:
            self.default = json.loads(rest)

    def started(self, *words: str) -> str:
        """The line of shell that the image starts with these words, or with its own where none are given."""
        return self.line("exec " + shlex.join([*self.entry, *(words or self.default)]), user=self.user)


def page(image: Image) -> dict[str, Any]:
    """The page of the image on its port: what is printed, and how it answers with the token and without."""
    (port,) = image.ports
    process = image.system.begin(image.started())
    try:
        assert process.stdout is not None
        deadline, printed = time.monotonic() + PATIENCE, ""
        while "http" not in printed and time.monotonic() < deadline:
            printed += process.stdout.readline()
        found = re.search(rf"http://[^/\s]+:{port}(/\S*)", printed)
        if not found:
            raise SystemExit(f"The page does not say where it is: {printed!r}")
        address = f"http://127.0.0.1:{port}"
        answers = {"with_token": answer(address + found[1]), "without": answer(address + "/")}
        if answers != {"with_token": 200, "without": 403}:
            raise SystemExit(f"The page does not answer with the token alone: {answers}")
        return {"port": port, **answers}
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=PATIENCE)


def answer(address: str) -> int:
    """The status of a request of a browser that has not been here before: the token becomes a cookie."""
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    try:
        with browser.open(address, timeout=PATIENCE) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="bookworm", help="of Debian, what FROM names (default %(default)s)")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE", help="as docker build has it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record here")
    flags = parser.parse_args()
    if reason := bare_install.missing():
        print(reason)
        return bare_install.NOTHING_DONE
    todo = steps((ROOT / "Dockerfile").read_text())
    with tempfile.TemporaryDirectory(prefix="splatdistill-container-") as name:
        Path(name).chmod(0o755)  # the image's user enters it too
        system = bare_install.System(Path(name))
        # The image's own step would configure certificates over which those of this machine's pip may be mounted.
        system.make(flags.suite, packages="ca-certificates")
        image = Image(system, dict(word.split("=", 1) for word in flags.build_arg))
        for step in todo:
            print(f"== {' '.join(step):.100}", flush=True)
            image.take(*step)
        whole = sum(path.lstat().st_size for path in Path(name).rglob("*") if path.is_file() and not path.is_symlink())
        info = dict(bare_install.rows(system.run(image.started("info")).stdout))
        found = {
            "steps": [kind for kind, _ in todo],
            "user": system.run(image.line("id -u", user=image.user)).stdout.strip(),
            "gigabytes": round(whole / 1e9, 2),
            "info": {key: info[key] for key in ("python", "torch", "extension simd_level")},
            "page": page(image),
        }
    print(json.dumps(found, indent=1))
    if flags.json:
        import common

        known = {"commit": evidence.commit(), "machine": common.machine(), "run": evidence.command()}
        evidence.Record(flags.json).write(**known, **found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
