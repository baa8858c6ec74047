"""The server of the page: runs and files by id, progress as server-sent events, splats when they are asked for.

Nothing is found by joining a path from an address: ids and kinds are looked up in what `rundir` collected.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import webbrowser
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from splatdistill.config.schema import TrainConfig
from splatdistill.io import names
from splatdistill.io.kinds import FILMED, MEDIA, Assumptions, kinds, ply_up, readable
from splatdistill.io.runs import SPLATS, Run

from . import form, places, rundir
from .connections import BACKLOG, BoundedProtocol, listen
from .dropped import Dropped
from .export_html import STATIC, page_of
from .security import LOOPBACK, Guard
from .starts import Starts
from .streams import Streams

PAGE = {
    "/": ("index.html", "text/html"),
    "/viewer.js": ("viewer.js", "text/javascript"),
    "/stage.js": ("stage.js", "text/javascript"),
    "/viewer.css": ("viewer.css", "text/css"),
}


def make_app(
    paths: Sequence[Path], *, private: bool = False, taken: Assumptions | None = None, home: Path | None = None
) -> Guard:
    """The application behind its guard; `paths` are read again for every list of runs. taken: how
    files of splats are taken. home: the folder of runs that the page starts; None, or a private server, starts none.
    """
    server = _Server(paths, taken, Starts(home) if home is not None and not private else None)
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
        Route("/api/files", server.drop, methods=["POST"]),
        Route(f"{run}/cameras", server.cameras, methods=["POST"]),
        Route(f"{run}/transforms", server.transforms, methods=["POST"]),
        Route("/api/form", server.form),
        Route("/api/starts", server.queue, methods=["GET"]),
        Route("/api/starts", server.start, methods=["POST"]),
        Route("/api/starts/{name}/cancel", server.cancel, methods=["POST"]),
    ]
    handlers: dict[Any, Callable[..., Any]] = {
        HTTPException: lambda _, error: PlainTextResponse(
            f"{error.detail}\n", status_code=404 if error.status_code == 405 else error.status_code
        ),
        form.Refused: lambda _, error: JSONResponse({"faults": error.faults}, status_code=400),
        ValueError: lambda _, error: PlainTextResponse(f"{error}\n", status_code=400),
    }
    guard = Guard(Starlette(routes=routes, exception_handlers=handlers, lifespan=server.open), private=private)
    server.token = guard.token
    return guard


class _Server:
    def __init__(self, paths: Sequence[Path], taken: Assumptions | None, starts: Starts | None) -> None:
        self.paths = paths
        self.taken = taken
        self.starts = starts
        self.dropped = Dropped()
        self.items = rundir.collect(paths, taken)
        self.token = ""
        self.streams = Streams(self._manifest)
        self.busy = threading.Lock()  # exports take the processor: one at a time

    @asynccontextmanager
    async def open(self, _: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            self.dropped.close()
            if self.starts is not None:
                await run_in_threadpool(self.starts.close)

    def item(self, request: Request) -> rundir.Item:
        try:
            item = self.items[request.path_params["id"]]
        except KeyError:
            raise HTTPException(404, "There is no such run.") from None
        if not item.path.exists():
            raise HTTPException(404, item.gone())
        return item

    def runs(self, request: Request) -> Response:
        """The list, and the token that this page needs for its requests."""
        known = {item.path.absolute() for item in self.items.values()}
        there = [path for path in self.paths if path.exists()]
        there += [start.folder for start in self.starts.all if start.folder.is_dir()] if self.starts else []
        for item in rundir.collect(there, self.taken).values():  # ids stay, new runs get new ones
            if item.path.absolute() not in known:
                known.add(item.path.absolute())
                self.items[str(len(self.items))] = item
        listed = [{"id": id, **self._card(item)} for id, item in self.items.items() if item.path.exists()]
        return JSONResponse(
            {
                "token": self.token,
                "downloads": [*kinds(), *MEDIA],
                "reads": list(readable()),
                "home": str(self.starts.home) if self.starts else None,
                "landing": self._landing(),
                "runs": listed,
            }
        )

    def _landing(self) -> str | None:
        """The id of the run or file that the page opens with, or None for the gallery."""
        named = len(self.paths) == 1 and (self.paths[0].is_file() or Run(self.paths[0]).exists())
        return "0" if named or (len(self.items) == 1 and self.starts is None) else None

    def _card(self, item: rundir.Item) -> dict[str, Any]:
        """What the gallery shows of an item."""
        full = self._manifest(item)
        keep = ("kind", "name", "prompt", "method", "seed", "steps", "step", "status", "poster", "film", "has_splats")
        return {key: full[key] for key in (*keep, "previews", "failure") if key in full}

    def _manifest(self, item: rundir.Item) -> dict[str, Any]:
        full = item.manifest()
        why = self.starts.failure(item.path) if self.starts and item.is_run else ""
        return full | ({"status": "failed", "failure": why} if why else {})

    def manifest(self, request: Request) -> Response:
        return JSONResponse(self._manifest(self.item(request)))

    async def drop(self, request: Request) -> Response:
        """Takes a file of splats in any format that is read; the answer has the id under which it is shown."""
        name = Path(request.query_params.get("name", "")).name[:200] or "file"
        item = await self.dropped.take(name, request.stream())
        id = str(len(self.items))
        self.items[id] = item
        return JSONResponse({"id": id})

    async def cameras(self, request: Request) -> Response:
        """The cameras of a transforms.json in the world of a run or file, for the page to look through."""
        item = self.item(request)
        name = Path(request.query_params.get("name", "")).name[:200] or "transforms.json"
        path = await self.dropped.keep(name, request.stream())
        try:
            return JSONResponse({"cameras": await run_in_threadpool(places.read, path, item)})
        except ValueError as error:
            raise ValueError(str(error).replace(str(path), name)) from None
        finally:
            path.unlink(missing_ok=True)

    async def transforms(self, request: Request) -> Response:
        """A transforms.json of places that the page was looked at from."""
        item, asked = self.item(request), places.asked(await request.body())
        return await run_in_threadpool(_made, lambda path: places.write(path, item, asked), "transforms.json")

    def form(self, request: Request) -> Response:
        """The fields of a training by ?method= with ?prior=."""
        asked = request.query_params
        method, prior = asked.get("method", ""), asked.get("prior", TrainConfig.prior)
        return JSONResponse({"fields": form.fields_of(method, prior)})

    def queue(self, request: Request) -> Response:
        return JSONResponse({"starts": [start.as_json() for start in self.starts.all] if self.starts else []})

    async def start(self, request: Request) -> Response:
        """Puts a training into the queue."""
        starts = self._may_start()
        try:
            values = json.loads(await request.body())["values"]
            values = {str(name): str(value) for name, value in values.items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise ValueError('the body must look like {"values": {"prompt": "a red ball"}}.') from None
        return JSONResponse((await run_in_threadpool(starts.add, values)).as_json())

    def cancel(self, request: Request) -> Response:
        self._may_start().cancel(request.path_params["name"])
        return self.queue(request)

    def _may_start(self) -> Starts:
        if self.starts is None:
            raise HTTPException(403, "Runs start only from the page of `splatdistill view` on the same machine.")
        return self.starts

    def splats(self, request: Request) -> Response:
        """The finished splats as .ply with +y up, whatever the file is; within ?box=, its lower and upper corner."""
        item, box = self.item(request), request.query_params.get("box")
        file = item.splats()
        if file is None:
            raise HTTPException(404, "This run has no splats yet.")
        if item.is_run and box is None and ply_up(file) == "+y":
            return FileResponse(file, media_type="application/octet-stream")
        from splatdistill.io import ply  # loads torch, which a server of runs does without

        splats = places.cut(item, file, box)
        return _made(lambda path: ply.write(path, splats), SPLATS)

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
            raise HTTPException(404, "There is no such image.")
        return FileResponse(file)

    def export(self, request: Request) -> Response:
        item, kind, box = self.item(request), request.path_params["kind"], request.query_params.get("box")
        if kind not in (*kinds(), *MEDIA):
            raise HTTPException(404, "There is no such format.")
        file = item.splats()
        if file is None:
            raise HTTPException(404, "This run has no splats yet.")
        if not self.busy.acquire(blocking=False):
            raise HTTPException(503, "Another export is running; try again when it is done.")
        try:
            name = f"{names.slug(item.name)}.{kind}"
            if kind == "html" and box is None:
                return Response(page_of(item), media_type="application/octet-stream", headers=_attached(name))
            from splatdistill.export import writer as exports
            from splatdistill.rendering.turntable import Turntable

            config = item.filmed() if kind in FILMED else TrainConfig()
            turntable = Turntable(config.camera, frames=config.output.frames, size=config.output.size)
            splats = places.cut(item, file, box)
            if kind == "html":
                return Response(page_of(item, splats), media_type="application/octet-stream", headers=_attached(name))
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
            raise ValueError("a file cannot be paused or stopped; only a run can.")
        item.ask(asked)
        return JSONResponse({"asked": item.state()["asked"]})

    async def events(self, request: Request) -> Response:
        return self.streams.answer(self.item(request), request)


def serve(
    paths: Sequence[Path],
    *,
    host: str = "127.0.0.1",
    port: int = 8017,
    browser: bool = True,
    taken: Assumptions | None = None,
    home: Path | None = None,
) -> None:
    """Serves until Ctrl-C. Prints the address on a line of its own. port: a taken one gives way to the next free one;
    0 takes any. taken: how files of splats are taken. home: the folder of runs that the page starts.
    """
    open_socket = listen(host, port)
    port = open_socket.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    private = shown not in LOOPBACK
    app = make_app(paths, private=private, taken=taken, home=home)
    address = f"http://{shown}:{port}/" + (f"?token={app.token}" if private else "")
    if private:
        print(
            f"Note: other machines can reach {host}; anyone with this address can read and control runs.",
            file=sys.stderr,
        )
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


def _page(name: str, kind: str) -> Callable[[Request], Response]:
    return lambda request: FileResponse(STATIC / name, media_type=kind)


def _made(write: Callable[[Path], Any], name: str) -> Response:
    with tempfile.TemporaryDirectory() as folder:
        made = write(Path(folder) / name) or Path(folder) / name
        if not made.is_file():
            raise HTTPException(503, "This machine has no ffmpeg; install it to export a video.")
        return Response(made.read_bytes(), media_type="application/octet-stream", headers=_attached(name))


def _attached(name: str) -> dict[str, str]:
    return {"content-disposition": f'attachment; filename="{name}"'}
