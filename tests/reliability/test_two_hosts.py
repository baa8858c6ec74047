"""That two hosts of `hosts.py` are apart, where this machine lets network namespaces be made; skipped elsewhere.
What they make is minutes of waiting, and the soak's: `python -m tests.soak --only "two hosts"`.
"""

from __future__ import annotations

import pytest

from tests.reliability.hosts import Hosts, why_not
from tests.reliability.poor_cable import DELAY

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("hosts")]  # their addresses are always the same


@pytest.fixture(autouse=True)
def _allowed() -> None:
    if reason := why_not():
        pytest.skip(reason)


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


def test_a_poor_cable_delays_each_packet() -> None:
    """A connection takes a packet there and one back."""
    listen = "import socket, time; s = socket.create_server(('0.0.0.0', 5000)); print(1, flush=True); time.sleep(600)"
    with Hosts(poor=True) as hosts:
        server = hosts.start(0, "python3", "-c", listen)
        assert server.stdout is not None and server.stdout.readline() == "1\n"
        code = "import socket, time; t = time.monotonic(); "
        code += f"socket.create_connection(('{hosts.addresses[0]}', 5000), 60); print(time.monotonic() - t)"
        assert float(hosts.start(1, "python3", "-c", code).communicate()[0]) >= 2 * DELAY
        assert hosts.cable is not None and hosts.cable.sent > 0
