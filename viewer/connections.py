"""Connections that cannot keep others out: few at once, and none that waits long before its request."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from splatdistill.utils.system import max_open_files

MAX_CONNECTIONS = 128  # a browser opens six, and streams end at streams.MAX_STREAMS
BACKLOG = 32  # that asyncio takes from the system in one go, before this process sees them
REQUEST_WITHIN = 10.0  # s from the connection, or from its last answer, to a whole head


class BoundedProtocol(H11Protocol):
    """HTTP as uvicorn speaks it. Over MAX_CONNECTIONS the one that has waited longest without a request is closed, or
    the new one where all are being answered.
    """

    connections: Any  # a set of these

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._since = self.loop.time()
        self._deadline: asyncio.TimerHandle | None = None
        self._expect()
        if len(self.connections) > most_connections():
            waiting = [other for other in self.connections if not other.is_busy and other is not self]
            oldest = min(waiting, key=lambda other: other._since, default=self)
            oldest.drop()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._expect()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._since = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_expecting()
        super().connection_lost(exc)

    @property
    def is_busy(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def drop(self) -> None:
        """Closes the connection without an answer."""
        self.connections.discard(self)
        self.transport.abort()

    def _expect(self) -> None:
        """The head of a request must be whole in time, however slowly its bytes come."""
        if self.is_busy:
            self._stop_expecting()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_WITHIN, self.drop)

    def _stop_expecting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def most_connections() -> int:
    """At once: a quarter of the files that this process may open, which exports and pictures need too."""
    return max(8, min(MAX_CONNECTIONS, max_open_files() // 4))


def listen(host: str, port: int) -> socket.socket:
    """Listens on `port`, or on the next free one within 20; on any for 0. ValueError where there is none."""
    if not 0 <= port < 65536:
        raise ValueError(f"port must be between 0 and 65535; it is {port}.")
    last: OSError | None = None
    for candidate in range(port, min(port + 20, 65536)) if port else [0]:
        try:
            return socket.create_server((host, candidate), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        except OSError as error:
            last = error
    raise ValueError(f"host and port: cannot listen on {host}:{port}: {last}.")
