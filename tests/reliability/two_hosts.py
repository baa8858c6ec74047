"""Batches and an object on two hosts, held against what one makes: `python -m tests.reliability.two_hosts FOLDER`.

A worker is killed on the way, the cable pulled, or a poor one taken. Prints as JSON what was wrong, or why nothing ran.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path

from splatdistill import cli
from tests.batch.commands import events, half_way, hashes, make_here, records, write_prompts
from tests.batch.commands import wait_for as wait_while
from tests.patience import PATIENCE, wait_for
from tests.reliability.hosts import CUT, Hosts, why_not
from tests.reliability.poor_cable import DELAY, LOSS

PROMPTS = 12
STEPS = 60
OBJECT = [
    "--prompt", "a red ball", "--prior", "analytic", "--num-views", "8", "--steps", str(STEPS), "--size", "16",
    "--splats.num-init", "60", "--output.size", "16", "--output.frames", "2", "--output.log-every", "1",
    "--threads", "1", "--device", "cpu",
]  # fmt: skip


def ended(*commands: subprocess.Popen[str]) -> list[str]:
    """A sentence for each that failed."""
    told = [(command, command.communicate(timeout=PATIENCE)[0]) for command in commands]
    return [f"exit code {command.returncode}: {said[-1500:]}" for command, said in told if command.returncode]


def compared(out: Path, alone: dict[str, str], *, killed: dict[str, int]) -> list[str]:
    """What is wrong with a batch, held against what one process makes of each prompt. killed: tries of those runs."""
    found = [] if hashes(out) == alone else [f"other assets: {hashes(out)}, and {alone} in one process"]
    for run, record in records(out).items():
        if (record["state"], record["tries"], events(out, run).count("done")) != ("done", killed.get(run, 1), 1):
            found.append(f"{run}: {record['state']} after {record['tries']} tries, {events(out, run)}")
    return found


class Scenarios:
    """Each returns what was wrong."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._alone: dict[str, str] = {}
        self.token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}

    @property
    def prompts(self) -> Path:
        return write_prompts(self.folder / "prompts.yaml", count=PROMPTS)

    @property
    def alone(self) -> dict[str, str]:
        """What one process makes of the prompts."""
        if not self._alone:
            assert make_here(self.prompts, self.folder / "alone") == cli.DONE
            self._alone = hashes(self.folder / "alone")
        return self._alone

    def ranks_share_prompts(self, *, poor: bool = False) -> list[str]:
        """torchrun on both, and a worker of the second killed on the way."""
        out = self.folder / f"ranks{poor:d}"
        with Hosts(poor=poor) as hosts:
            words = ["batch", "--prompts", str(self.prompts), "--out", str(out)]
            commands = [hosts.torchrun(host, *words) for host in (0, 1)]
            killed = self._kill_one(out, commands[1], host=hosts.names[1])
            found = ended(*commands)
        return found or compared(out, self.alone, killed=killed)

    def ranks_share_an_object_over_a_poor_cable(self) -> list[str]:
        """torchrun on both; held against the same ranks on one host."""
        digests = []
        for poor in (False, True):
            run = self.folder / f"poor{poor:d}"
            with Hosts(poor=poor) as hosts:
                words = ["train", *OBJECT, "--out", str(self.folder), "--name", run.name]
                started = time.monotonic()
                found = ended(*(hosts.torchrun(host, *words) for host in (0, 1)))
                took, cable = time.monotonic() - started, hosts.cable
            if found:
                return found
            digests.append(hashlib.sha256((run / "splats.ply").read_bytes()).hexdigest())
        assert cable is not None
        found = [] if cable.lost and took > STEPS * DELAY else [f"{cable.lost} frames lost, {took:.0f} s: a good cable"]
        return found + ([] if digests[0] == digests[1] else [f"another object: {digests}"])

    def ranks_share_an_object(self) -> list[str]:
        """torchrun on both, and the cable pulled for a while; held against the same ranks on one host."""
        digests = []
        for name in ("one host", "two hosts"):
            with Hosts() as hosts:
                words = ["train", *OBJECT, "--out", str(self.folder), "--name", name.replace(" ", "-")]
                run = self.folder / name.replace(" ", "-")
                if name == "one host":
                    both = ["--standalone", "--nproc-per-node", "2", "-m", "splatdistill", *words]
                    start = [
                        hosts.start(0, sys.executable, "-m", "torch.distributed.run", *both, GLOO_SOCKET_IFNAME="lo")
                    ]
                else:
                    start = [hosts.torchrun(host, *words) for host in (0, 1)]
                    log = run / "metrics.jsonl"
                    wait_for(lambda log=log: log.exists() and log.read_text().count("\n") > 5, what="five steps")
                    hosts.pull()
                if found := ended(*start):
                    return [f"{name}: {line}" for line in found]
                seconds = [json.loads(line)["seconds"] for line in (run / "metrics.jsonl").read_text().splitlines()]
            digests.append(hashlib.sha256((run / "splats.ply").read_bytes()).hexdigest())
        waited = max(b - a for a, b in pairwise(seconds))
        found = [] if waited > CUT / 2 else [f"no step waited for the cable: {waited:.1f} s at most"]
        return found + ([] if digests[0] == digests[1] else [f"another object: {digests}"])

    def ray_shares_prompts(self, *, poor: bool = False) -> list[str]:
        """A cluster of both; a worker of the second is killed, and the cable pulled for a while where it is good."""
        out = self.folder / f"ray{poor:d}"
        with Hosts(poor=poor) as hosts, self._cluster(hosts) as address:
            words = ["batch", "--prompts", str(self.prompts), "--out", str(out), "--engine", "ray", "--workers", "2"]
            words += ["--ray-address", address]
            command = hosts.start(0, sys.executable, "-m", "splatdistill", *words, **self.token)
            killed = self._kill_one(out, command, host=hosts.names[1])
            if not poor:
                hosts.pull()
            found = ended(command)
            stranger = hosts.start(1, sys.executable, "-m", "splatdistill", *words, "--out", str(self.folder / "none"))
            said = stranger.communicate(timeout=PATIENCE)[0].splitlines()[-1]
            if stranger.returncode != cli.USAGE or "set RAY_AUTH_MODE=token" not in said:
                found.append(f"without a token: exit code {stranger.returncode}, {said}")
        return found or compared(out, self.alone, killed=killed)

    def own_ray_is_closed(self) -> list[str]:
        """What the other host can reach of the Ray that a batch starts for itself."""
        out = self.folder / "own"
        with Hosts() as hosts:
            words = ["batch", "--prompts", str(self.prompts), "--out", str(out), "--engine", "ray", "--workers", "1"]
            command = hosts.start(0, sys.executable, "-m", "splatdistill", *words)
            wait_for(lambda: command.poll() is not None or half_way(out), what="a run that has begun")
            ports = hosts.reachable()
            os.killpg(command.pid, signal.SIGTERM)
            said = command.communicate(timeout=PATIENCE)[0]
        wrong = [] if half_way_was(out) else [f"no run began: {said[-1500:]}"]
        return wrong + ([f"ports open to other hosts: {ports}"] if ports else [])

    def _kill_one(self, out: Path, command: subprocess.Popen[str], *, host: str) -> dict[str, int]:
        """Kills the worker of a run on a host; returns that run with the tries that it then has."""
        found = wait_while(lambda: [record for record in half_way(out) if record["host"] == host], command)
        os.kill(found[0]["pid"], signal.SIGKILL)
        return {found[0]["run"]: 2}

    @contextmanager
    def _cluster(self, hosts: Hosts) -> Iterator[str]:
        """The address of a Ray with a processor on each host."""
        ray = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--num-cpus", "1", "--num-gpus", "0"]
        ray += ["--object-store-memory", "100000000", "--disable-usage-stats"]
        address = f"{hosts.addresses[0]}:6379"
        head = ["--head", "--port", "6379", "--node-ip-address", hosts.addresses[0], "--include-dashboard", "false"]
        hosts.start(0, *ray, *head, "--temp-dir", str(self.folder / "r"), **self.token)
        wait_for(lambda: 6379 in hosts.listening(), what="the head of the cluster")
        hosts.start(1, *ray, "--address", address, "--node-ip-address", hosts.addresses[1], **self.token)
        yield address


def half_way_was(out: Path) -> bool:
    """Whether any run of a batch ever began."""
    return any((out / run / "config.yaml").exists() for run in records(out)) if out.exists() else False


def scenarios(folder: Path) -> dict[str, Callable[[], list[str]]]:
    made = Scenarios(folder)
    return {
        "torchrun, 12 prompts, a worker killed": made.ranks_share_prompts,
        "torchrun, one object, the cable pulled": made.ranks_share_an_object,
        "ray, 12 prompts, a worker killed and the cable pulled": made.ray_shares_prompts,
        "ports of a batch's own Ray": made.own_ray_is_closed,
        "torchrun, 12 prompts, a poor cable, a worker killed": partial(made.ranks_share_prompts, poor=True),
        "torchrun, one object, a poor cable": made.ranks_share_an_object_over_a_poor_cable,
        "ray, 12 prompts, a poor cable, a worker killed": partial(made.ray_shares_prompts, poor=True),
    }


def main(args: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="scenarios whose names have this in them")
    flags = parser.parse_args(args)
    if reason := why_not():
        print(json.dumps({"not run": reason, "bad": []}))
        return
    has_ray = importlib.util.find_spec("ray") is not None
    chosen = {
        name: make
        for name, make in scenarios(flags.folder).items()
        if flags.only in name and (has_ray or "ay" not in name)
    }
    bad = [f"{name}: {line}" for name, make in chosen.items() for line in make()]
    left = [name for name in scenarios(flags.folder) if name not in chosen]
    poor = {"seconds each way": DELAY, "frames lost": LOSS}
    print(json.dumps({"scenarios": list(chosen), "cut_s": CUT, "poor cable": poor, "not run": left, "bad": bad}))


if __name__ == "__main__":
    main(sys.argv[1:])
