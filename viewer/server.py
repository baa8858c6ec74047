"""The server of the page: runs and files by id, progress as server-sent events, splats when they are asked for.

Nothing is found by joining a path from an address: ids and kinds are looked up in what `rundir` collected.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import tempfile
import threading
import webbrowser
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from splatdistill.config.schema import TrainConfig
from splatdistill.io import names
from splatdistill.io.kinds import MEDIA, Assumptions, kinds, ply_up
from splatdistill.io.runs import METRICS, SPLATS, Tail

from . import rundir
from .connections import BACKLOG, BoundedProtocol
from .export_html import STATIC, page_of
from .security import LOOPBACK, Guard

PAGE = {
    "/": ("index.html", "text/html"),
    "/viewer.js": ("viewer.js", "text/javascript"),
    "/viewer.css": ("viewer.css", "text/css"),
}
MAX_STREAMS = 16
LOOK_EVERY = 0.5  # s between looks into a run folder
ALIVE_EVERY = 15.0  # s between signs of life to the browser


def make_app(paths: Sequence[Path], *, private: bool = False, taken: Assumptions | None = None) -> Guard:
    """The application behind its guard; `paths` are looked at again whenever the list of runs is asked for. taken: how
    files of splats are taken.
    """
    server = _Server(paths, taken)
    run = "/api/runs/{id}"
    routes = [
        *(Route(address, _page(*file), methods=["GET"]) for address, file in PAGE.items()),
        Route("/api/runs", server.runs),
        Route(run, server.manifest),
        Route(f"{run}/events", server.events),
        Route(f"{run}/splats", server.splats),
        Route(f"{run}/snapshot", server.snapshot),
        Route(f"{run}/picture/{{kind}}", server.picture),
        Route(f"{run}/export/{{kind}}", server.export),
        Route(f"{run}/control", server.control, methods=["POST"]),
    ]
    handlers: dict[Any, Callable[..., Any]] = {
        HTTPException: lambda _, error: PlainTextResponse(
            f"{error.detail}\n", status_code=404 if error.status_code == 405 else error.status_code
        ),
        ValueError: lambda _, error: PlainTextResponse(f"{error}\n", status_code=400),
    }
    guard = Guard(Starlette(routes=routes, exception_handlers=handlers), private=private)
    server.token = guard.token
    return guard


class _Server:
    def __init__(self, paths: Sequence[Path], taken: Assumptions | None) -> None:
        self.paths = paths
        self.taken = taken
        self.items = rundir.collect(paths, taken)
        self.token = ""
        self.streams = 0
        self.busy = threading.Lock()  # exports take the processor: one at a time

    def item(self, request: Request) -> rundir.Item:
        try:
            return self.items[request.path_params["id"]]
        except KeyError:
            raise HTTPException(404, "There is no such run.") from None

    def runs(self, request: Request) -> Response:
        """The list, and the token that this page needs for its requests."""
        known = {item.path: id for id, item in self.items.items()}
        for item in rundir.collect(self.paths, self.taken).values():  # ids stay, new runs get new ones
            if item.path not in known:
                self.items[str(len(self.items))] = item
        listed = [{"id": id, **_card(item)} for id, item in self.items.items() if item.path.exists()]
        return JSONResponse({"token": self.token, "downloads": [*kinds(), *MEDIA], "runs": listed})

    def manifest(self, request: Request) -> Response:
        return JSONResponse(self.item(request).manifest())

    def splats(self, request: Request) -> Response:
        """The finished splats as .ply with +y up, whatever the file is."""
        item = self.item(request)
        file = item.splats()
        if file is None:
            raise HTTPException(404, "This run has no splats yet.")
        if item.is_run and ply_up(file) == "+y":
            return FileResponse(file, media_type="application/octet-stream")
        from splatdistill.io import formats, ply  # loads torch, which a server of runs does without

        return _made(lambda path: ply.write(path, formats.read(file, item.taken)), SPLATS)

    def snapshot(self, request: Request) -> Response:
        """The newest splats of a training, if they are of a step after ?after=STEP: pages pull at their own pace."""
        item = self.item(request)
        after = request.query_params.get("after", "-1")
        if not after.lstrip("-").isdecimal():
            raise ValueError("after must be a step.")
        item.watch()
        for _ in range(3):  # the trainer may replace the file between the look and the opening
            newest = item.snapshot(after=int(after))
            if newest is None:
                return Response(status_code=204)
            try:
                data = newest[1].read_bytes()
            except FileNotFoundError:
                continue
            return Response(data, media_type="application/octet-stream", headers={"x-step": str(newest[0])})
        return Response(status_code=204)

    def picture(self, request: Request) -> Response:
        step = request.query_params.get("step", "0")
        if not step.isdecimal():
            raise ValueError("step must be a number.")
        file = self.item(request).picture(request.path_params["kind"], step=int(step))
        if file is None:
            raise HTTPException(404, "There is no such picture.")
        return FileResponse(file)

    def export(self, request: Request) -> Response:
        item, kind = self.item(request), request.path_params["kind"]
        if kind not in (*kinds(), *MEDIA):
            raise HTTPException(404, "There is no such format.")
        file = item.splats()
        if file is None:
            raise HTTPException(404, "This run has no splats yet.")
        if not self.busy.acquire(blocking=False):
            raise HTTPException(503, "Another export is being made; try again when it is done.")
        try:
            name = f"{names.slug(item.name)}.{kind}"
            if kind == "html":
                return Response(page_of(item), media_type="application/octet-stream", headers=_attached(name))
            from splatdistill.export import writer as exports
            from splatdistill.io import formats
            from splatdistill.rendering.turntable import Turntable

            config = item.run.known_settings()[0] if item.is_run else TrainConfig()
            turntable = Turntable(config.camera, frames=config.output.frames, size=config.output.size)
            splats = formats.read(file, item.taken)
            return _made(
                lambda path: exports.write(path, splats, kind=kind, turntable=turntable, device=config.device), name
            )
        finally:
            self.busy.release()

    async def control(self, request: Request) -> Response:
        item = self.item(request)
        try:
            asked = json.loads(await request.body())["ask"]
        except (ValueError, KeyError, TypeError):
            raise ValueError('the body must look like {"ask": "pause"}.') from None
        if not item.is_run:
            raise ValueError("a file cannot be asked for anything.")
        item.ask(asked)
        return JSONResponse({"asked": item.state()["asked"]})

    async def events(self, request: Request) -> Response:
        item = self.item(request)
        if not item.is_run:
            raise HTTPException(404, "A file has no events.")
        if self.streams >= MAX_STREAMS:
            raise HTTPException(503, f"There are {MAX_STREAMS} open pages already.")
        last = request.headers.get("last-event-id", "")
        stream = self._stream(item, after=int(last) if last.isdecimal() else -1)
        self.streams += 1  # now: a thousand may be let in before the first one begins
        return _Counted(stream, media_type="text/event-stream", left=self._left)

    def _left(self) -> None:
        self.streams -= 1

    async def _stream(self, item: rundir.Item, *, after: int) -> AsyncIterator[bytes]:
        """State when it changes and metrics as they come; a browser that slept goes on after its last event's id."""
        tail, before, quiet = Tail(item.path / METRICS), None, 0.0
        while True:
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
                yield _event("state", {**state, "summary": item.run.summary()})
            quiet = 0.0 if records else quiet + LOOK_EVERY
            if quiet >= ALIVE_EVERY:
                quiet = 0.0
                yield b": alive\n\n"
            await asyncio.sleep(LOOK_EVERY)


class _Counted(StreamingResponse):
    """left: called when the stream is over, whether it was ever begun or not."""

    def __init__(self, *args: Any, left: Callable[[], None], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._left = left

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._left()


def serve(
    paths: Sequence[Path],
    *,
    host: str = "127.0.0.1",
    port: int = 8017,
    browser: bool = True,
    taken: Assumptions | None = None,
) -> None:
    """Serves until Ctrl-C. Prints the address on a line of its own. port: a taken one gives way to the next free one;
    0 takes any. taken: how files of splats are taken.
    """
    open_socket = _listen(host, port)
    port = open_socket.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    private = shown not in LOOPBACK
    app = make_app(paths, private=private, taken=taken)
    address = f"http://{shown}:{port}/" + (f"?token={app.token}" if private else "")
    if private:
        print(f"Note: other machines can reach {host}; who has this address can read and steer.", file=sys.stderr)
    print(address, flush=True)
    if browser:
        webbrowser.open(address)
    settings = uvicorn.Config(
        app, http=BoundedProtocol, log_level="critical", access_log=False, server_header=False,
        timeout_graceful_shutdown=1, backlog=BACKLOG,
    )  # fmt: skip
    try:
        uvicorn.Server(settings).run(sockets=[open_socket])
    except KeyboardInterrupt:  # uvicorn has closed everything and passes it on
        pass


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port < 65536:
        raise ValueError(f"port must be between 0 and 65535; it is {port}.")
    last: OSError | None = None
    for candidate in range(port, min(port + 20, 65536)) if port else [0]:
        try:
            return socket.create_server((host, candidate), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        except OSError as error:
            last = error
    raise ValueError(f"host and port: nothing can listen on {host}:{port}: {last}.")


def _page(name: str, kind: str) -> Callable[[Request], Response]:
    return lambda request: FileResponse(STATIC / name, media_type=kind)


def _card(item: rundir.Item) -> dict[str, Any]:
    """What the gallery shows of an item."""
    full = item.manifest()
    keep = ("kind", "name", "prompt", "method", "seed", "steps", "status", "poster", "has_splats", "previews")
    return {key: full[key] for key in keep if key in full} | {"step": full.get("summary", {}).get("step")}


def _made(write: Callable[[Path], Any], name: str) -> Response:
    with tempfile.TemporaryDirectory() as folder:
        made = write(Path(folder) / name) or Path(folder) / name
        if not made.is_file():
            raise HTTPException(503, "There is no ffmpeg here to make a film with.")
        return Response(made.read_bytes(), media_type="application/octet-stream", headers=_attached(name))


def _attached(name: str) -> dict[str, str]:
    return {"content-disposition": f'attachment; filename="{name}"'}


def _event(kind: str, data: Any, *, id: int | None = None) -> bytes:
    head = f"event: {kind}\n" + (f"id: {id}\n" if id is not None else "")
    return f"{head}data: {json.dumps(data)}\n\n".encode()
