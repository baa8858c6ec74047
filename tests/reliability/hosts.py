"""Two machines made of this one: network namespaces with a name and an address each, a cable between them, and the same
disk.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.packaging.audit import ROOT
from tests.patience import PATIENCE
from tests.reliability.poor_cable import PoorCable

CUT = 20.0  # s without a cable
PORT = 29517
TRY = """
import socket, sys

def answers(port):
    try:
        socket.create_connection((sys.argv[1], port), timeout=5).close()
    except OSError:
        return False
    return True

print([port for port in map(int, sys.argv[2:]) if answers(port)])
"""


def why_not() -> str:
    """Why there can be no two hosts here, empty where there can."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return "needs root and iproute2"
    name = f"sd{os.getpid()}x"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    subprocess.run(["ip", "netns", "del", name], capture_output=True)
    return "" if made.returncode == 0 else f"network namespaces are refused: {made.stderr.strip()}"


class Hosts:
    """Two of them, by the numbers 0 and 1. poor: the cable between them is a PoorCable."""

    def __init__(self, *, poor: bool = False) -> None:
        self.poor = poor
        self.cable: PoorCable | None = None
        self.names = [f"sd{os.getpid()}{letter}" for letter in "ab"]
        self.addresses = ["10.83.0.1", "10.83.0.2"]
        self._running: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Hosts:
        for name in self.names:
            _ip("netns", "add", name)
            known = "".join(f"{a} {n}\n" for a, n in zip(self.addresses, self.names, strict=True))
            folder = Path("/etc/netns", name)
            folder.mkdir(parents=True)
            (folder / "hosts").write_text(f"127.0.0.1 localhost\n{known}")
        if self.poor:
            self.cable = PoorCable(self.names)
        else:
            ends = ["netns", self.names[0], "type", "veth", "peer", "cable", "netns", self.names[1]]
            _ip("link", "add", "cable", *ends)
        for name, address in zip(self.names, self.addresses, strict=True):
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", "cable")
            for device in ("lo", "cable"):
                _ip("-n", name, "link", "set", device, "up")
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if self.cable:
            self.cable.close()
        for name in self.names:
            for pid in subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout.split():
                os.kill(int(pid), signal.SIGKILL)
            _ip("netns", "del", name)
            shutil.rmtree(Path("/etc/netns", name))

    def start(self, host: int, *words: str, **variables: str) -> subprocess.Popen[str]:
        """A program on one of them, with its output kept."""
        name = self.names[host]
        there = ["ip", "netns", "exec", name, "unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', name]
        env = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "cable", **variables}
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        process = subprocess.Popen([*there, *words], cwd=ROOT, env=env, start_new_session=True, **pipes)
        self._running.append(process)
        return process

    def torchrun(self, host: int, *words: str) -> subprocess.Popen[str]:
        """One rank of two, in a splatdistill of its own."""
        where = ["--nnodes", "2", "--node-rank", str(host), "--nproc-per-node", "1"]
        where += ["--master-addr", self.addresses[0], "--master-port", str(PORT)]
        return self.start(host, sys.executable, "-m", "torch.distributed.run", *where, "-m", "splatdistill", *words)

    def pull(self) -> None:
        """The cable, for CUT seconds."""
        _ip("-n", self.names[0], "link", "set", "cable", "down")
        time.sleep(CUT)
        _ip("-n", self.names[0], "link", "set", "cable", "up")

    def listening(self) -> list[int]:
        """TCP ports of the first host that something listens on, for whomever."""
        words = ["ip", "netns", "exec", self.names[0], "ss", "-Hltn"]
        table = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        return sorted({int(line.split()[3].rpartition(":")[2]) for line in table.splitlines()})

    def reachable(self) -> list[int]:
        """Those of them that the second one can connect to."""
        ports = map(str, self.listening())
        tried = self.start(1, sys.executable, "-c", TRY, self.addresses[0], *ports)
        return json.loads(tried.communicate(timeout=PATIENCE)[0])


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
