"""Batches and an object on two hosts, where this machine lets network namespaces be made; skipped elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.batch.test_cluster import needs_ray
from tests.reliability.two_hosts import Hosts, scenarios, why_not

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("hosts")]  # their addresses are always the same


@pytest.fixture(autouse=True)
def _allowed() -> None:
    if reason := why_not():
        pytest.skip(reason)


@pytest.mark.parametrize("name", scenarios(Path()))
def test_two_hosts_make_what_one_makes(tmp_path: Path, name: str) -> None:
    if "ay" in name:
        needs_ray()
    assert scenarios(tmp_path)[name]() == []


def test_hosts_have_names_addresses_and_a_cable() -> None:
    """Else nothing above would say anything: what listens to all is reached, and what listens to itself is not."""
    listen = "import socket, time; s = socket.create_server(('{}', 5000)); print(1, flush=True); time.sleep(600)"
    for address, found in (("0.0.0.0", [5000]), ("127.0.0.1", [])):
        with Hosts() as hosts:
            server = hosts.start(0, "python3", "-c", listen.format(address))
            assert server.stdout is not None and server.stdout.readline() == "1\n"
            assert hosts.reachable() == found
            code = f"import socket; print(socket.create_connection(('{hosts.addresses[0]}', 5000), 5) is not None)"
            said = hosts.start(1, "python3", "-c", code).communicate()[0]
            assert ("True" in said) == bool(found)
            name = hosts.start(1, "hostname").communicate()[0].strip()
            assert name == hosts.names[1]
