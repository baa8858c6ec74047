"""Ranks wait for each other at the end, and all know whether a prompt failed."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from splatdistill.batch.rank import Rank, alone
from tests.packaging.audit import ROOT


def test_they_wait_and_tell_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    code = "import time; from splatdistill.batch.rank import Rank; time.sleep(0.3); print(Rank.here().any(True))"
    other = subprocess.Popen(
        [sys.executable, "-c", code], env={**variables, "RANK": "1"}, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    for name, value in {**variables, "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    rank = Rank.here()
    assert (rank, rank.is_first) == (Rank(0, 2, 0, joined=True), True)
    assert rank.any(False)
    assert other.communicate()[0] == "True\n"


def test_one_that_cannot_reach_the_others_speaks_for_itself() -> None:
    assert Rank.here() == Rank()
    lone = Rank(1, 2, 1)
    assert lone.is_first and lone.any(True) and not lone.any(False)
    assert not Rank(1, 2, 1, joined=True).is_first


def test_a_worker_is_no_rank() -> None:
    environment = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "x", "PATH": "y"}
    alone(environment)
    assert environment == {"PATH": "y"}
