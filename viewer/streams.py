"""Event streams: what changes in a run, as server-sent events, to a limited number of pages at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from splatdistill.io.runs import METRICS, Tail

from .rundir import Item

MAX_STREAMS = 16
POLL_EVERY = 0.5  # s between reads of a run folder
KEEP_ALIVE_EVERY = 15.0  # s without an event until a comment keeps the connection open

Manifest = Callable[[Item], dict[str, Any]]


class Streams:
    """The open streams. manifest: what a page is sent of a run whose state has changed."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._open = 0

    def answer(self, item: Item, request: Request) -> StreamingResponse:
        """A stream for one page. 404 for a file, 503 where MAX_STREAMS are open."""
        if not item.is_run:
            raise HTTPException(404, "A file has no events.")
        if self._open >= MAX_STREAMS:
            raise HTTPException(503, f"{MAX_STREAMS} pages are open already; close one.")
        last = request.headers.get("last-event-id", "")
        events = _events(item, self._manifest, after=int(last) if last.isdecimal() else -1)
        self._open += 1  # now: a thousand may be let in before the first one begins
        return _Counted(events, media_type="text/event-stream", closed=self._closed)

    def _closed(self) -> None:
        self._open -= 1


class _Counted(StreamingResponse):
    """closed: called when the stream is over, even if it never began."""

    def __init__(self, *args: Any, closed: Callable[[], None], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._closed = closed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._closed()


async def _events(item: Item, manifest: Manifest, *, after: int) -> AsyncIterator[bytes]:
    """State when it changes and metrics as they come; a browser that slept goes on after its last event's id."""
    tail, before, quiet = Tail(item.path / METRICS), None, 0.0
    while True:
        if not item.path.exists():
            yield _event("gone", {"message": item.gone()})
            return
        state = item.state()
        if state["status"] in ("running", "paused"):
            item.watch()
        anew, records = tail.read()
        if anew:
            after = -1
            yield _event("reset", {})
        records = [record for record in records if record["step"] > after]
        if records:
            after = records[-1]["step"]
            yield _event("metrics", records, id=after)
        if state != before:
            before = state
            yield _event("state", manifest(item))
        quiet = 0.0 if records else quiet + POLL_EVERY
        if quiet >= KEEP_ALIVE_EVERY:
            quiet = 0.0
            yield b": alive\n\n"
        await asyncio.sleep(POLL_EVERY)


def _event(kind: str, data: Any, *, id: int | None = None) -> bytes:
    head = f"event: {kind}\n" + (f"id: {id}\n" if id is not None else "")
    return f"{head}data: {json.dumps(data)}\n\n".encode()
