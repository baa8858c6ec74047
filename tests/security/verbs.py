"""Every verb that reads run folders, in this process, over a batch folder of two runs with one thing of it damaged:
`python -m tests.security.verbs FOLDER --cases N`.

Each must answer with exit code 0 and the result of the undamaged folder, or with a refusal in one sentence. A result
may be another one only where the damaged file is what says so. Prints the counts as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import inspect
import io
import json
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import uvicorn

from splatdistill import cli
from splatdistill.io import video
from tests.batch.commands import make_here
from tests.security.damage import damage, no_override

HALF, DONE = "a-half", "b-done"
SETTINGS = {
    "prior": "analytic", "device": "cpu", "steps": 6, "size": 16, "splats": {"num_init": 20}, "threads": 1,
    "densify": {"max_splats": 20}, "num_views": 4,
    "output": {"log_every": 2, "save_every": 2, "preview_every": 2, "keep": 9, "size": 16, "frames": 2},
}  # fmt: skip
PATIENCE = 60  # s for all verbs of a case
TOLD = "splats.ply is not what the run ended with"
NONE = (404, hashlib.sha256(b"This run has no splats yet.\n").hexdigest())  # what the page is told of a run without
RAW = re.compile(r"Traceback|failed with|\[Errno|\b[A-Z]\w*(Error|Exception|Interrupt)\b")
READING = ("render", "eval", "export", "compose", "view")
VERBS = ("train --resume", *READING, "batch")
SAYS = {
    "splats.ply": READING, "config.yaml": ("render", "eval", "view", "train --resume"), "summary.json": ("eval",),
}  # fmt: skip
"""Files of a run whose contents are what these verbs are to show, so that another one is no wrong result."""


@dataclass(frozen=True)
class End:
    """Exit code, what was said on stderr, and a digest of the result."""

    code: int
    said: str
    result: object = None


def make(folder: Path) -> Path:
    """Two runs of a batch: one that was ended after 4 of its 6 steps, but has the splats of its end, and one done."""
    prompts, out = folder / "prompts.yaml", folder / "whole" / "out"
    entries = [{"prompt": "a red ball", "name": HALF}, {"prompt": "a blue ball", "name": DONE}]
    prompts.write_text(json.dumps({"defaults": SETTINGS, "prompts": entries}))
    with quiet():
        assert make_here(prompts, out) == cli.DONE
    half = out / HALF
    shutil.rmtree(half / "checkpoints" / "step_000006")
    (half / "checkpoints" / "latest").write_text("step_000004")
    for name in ("metrics.jsonl", "events.jsonl"):
        lines = (half / name).read_text().splitlines(keepends=True)
        (half / name).write_text("".join(line for line in lines if json.loads(line)["step"] <= 4))
    record = out / "ledger" / f"{HALF}.json"
    known = {key: value for key, value in json.loads(record.read_text()).items() if key not in ("sha256", "seconds")}
    record.write_text(json.dumps({**known, "state": "running"}))
    return out


@contextmanager
def quiet() -> Iterator[io.StringIO]:
    """What is said on stderr."""
    said = io.StringIO()
    with redirect_stderr(said), redirect_stdout(io.StringIO()):
        yield said


def remembered(look: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`inspect.findsource` that reads each source once: tyro looks for the same docstrings at every command."""
    known: dict[object, Any] = {}

    def found(kind: Any) -> Any:
        key = (getattr(kind, "__module__", ""), getattr(kind, "__qualname__", kind))
        if key not in known:
            known[key] = look(kind)
        return known[key]

    return found


class Verbs:
    """Runs every verb over copies of a batch folder, which lie below `folder` beside a secret."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.whole = folder, make(folder)
        self.prompts = folder / "prompts.yaml"
        self._findsource = remembered(inspect.findsource)
        self.wanted = {verb: self.end(verb) for verb in VERBS}
        for verb, end in self.wanted.items():
            assert end.code == cli.DONE, (verb, end)

    def case(self, *, seed: int, index: int) -> tuple[str, dict[str, str]]:
        """What was damaged, and what each verb did that it may not do, empty where all is well."""
        found = {}
        where = ""
        for verb in VERBS:
            end, where, how = self.damaged(verb, seed=seed, index=index)
            found[verb] = self.fault(verb, end, where)
        return f"{where}: {how}", found

    def damaged(self, verb: str, *, seed: int, index: int) -> tuple[End, str, str]:
        what: list[str] = []
        end = self.end(verb, lambda out: what.extend(damage(out, (HALF, DONE), seed=seed, index=index)))
        return end, what[0], what[1]

    def fault(self, verb: str, end: End, where: str) -> str:
        """What is wrong with an end, empty where nothing is."""
        last = end.said.splitlines()[-1:] or [""]
        if end.code not in (cli.DONE, cli.FAILED, cli.USAGE):
            return f"exit code {end.code}: {last[0]}"
        if RAW.search(end.said):
            return f"raw: {last[0][:200]}"
        if end.code == cli.USAGE and (not last[0].startswith("splatdistill: ") or end.said.count("splatdistill: ") > 1):
            return f"no sentence: {end.said[:200]!r}"
        if end.code == cli.DONE and not self.is_right(verb, end, where):
            return f"another result, in silence: {end.said[:200]!r}"
        return ""

    def is_right(self, verb: str, end: End, where: str) -> bool:
        """Whether a result is that of the undamaged folder, or what differs is what the damaged file has to say."""
        wanted: Any = self.wanted[verb].result
        if end.result == wanted or verb in SAYS.get(Path(where).name, ()) or TOLD in end.said:
            return True
        if verb != "view" or not isinstance(end.result, dict):
            return False
        gone = {run for run in wanted if where in (run, f"{run}/config.yaml")}  # then it is no run any more
        return all(end.result.get(run, NONE if run in gone else None) in (wanted[run], NONE) for run in wanted)

    def end(self, verb: str, change: Callable[[Path], object] = lambda out: None) -> End:
        """What a verb does with a copy that was changed."""
        work = self.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(self.whole.parent, work)
        (work.parent / "secret").mkdir(exist_ok=True)
        (work.parent / "secret" / "file").write_text('{"step": 1, "secret": 1}\n')
        (work / "new").mkdir()
        change(work / "out")
        try:
            with ExitStack() as held:
                said = held.enter_context(quiet())
                held.enter_context(no_override())
                held.enter_context(patch.object(video, "has_encoder", lambda: False))
                held.enter_context(patch.object(inspect, "findsource", self._findsource))
                held.enter_context(watched())
                code, result = DO[verb](work / "out", work / "new", self.prompts)
            return End(code, said.getvalue().replace(str(self.folder), ""), result if code == cli.DONE else None)
        finally:
            for path in work.rglob("*"):
                if path.is_dir() and not path.is_symlink():
                    path.chmod(0o755)


@contextmanager
def watched() -> Iterator[None]:
    """Whatever takes longer than PATIENCE is ended."""

    def late(*_: object) -> None:
        raise TimeoutError("it takes too long")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _resume(out: Path, new: Path, prompts: Path) -> tuple[int, object]:
    words = ["--steps", "6", "--output.frames", "2", "--output.size", "16", "--max-memory", "0"]
    code = cli.main(["train", "--resume", str(out / HALF), *words])
    return code, _digest(out / HALF / "splats.ply")


def _render(out: Path, new: Path, prompts: Path) -> tuple[int, object]:
    code = cli.main(["render", str(out / HALF), "--output", str(new / "r"), "--frames", "2", "--size", "16"])
    return code, _digest(new / "r" / "contact.png")


def _eval(out: Path, new: Path, prompts: Path) -> tuple[int, object]:
    code = cli.main(["eval", str(out / HALF), "--output", str(new / "e")])
    if code:
        return code, None
    (found,) = json.loads((new / "e" / "eval.json").read_text(), parse_constant=_no_json)["objects"]
    return code, {key: value for key, value in found.items() if key not in ("name", "seconds", "peak_memory_mb")}


def _export(out: Path, new: Path, prompts: Path) -> tuple[int, object]:
    code = cli.main(["export", str(out / HALF), "--output", str(new / "o.ply")])
    page = cli.main(["export", str(out / HALF), "--output", str(new / "o.html")]) if code == cli.DONE else code
    return max(code, page), _digest(new / "o.ply")


def _compose(out: Path, new: Path, prompts: Path) -> tuple[int, object]:
    words = ["--output", str(new / "o.ply"), "--translate", "0,0,0", "1,0,0"]
    return cli.main(["compose", str(out / HALF), str(out / DONE), *words]), _digest(new / "o.ply")


def _batch(out: Path, new: Path, prompts: Path) -> tuple[int, object]:
    code = make_here(prompts, out)
    return code, [_digest(out / run / "splats.ply") for run in (HALF, DONE)]


def _view(out: Path, new: Path, prompts: Path) -> tuple[int, object]:
    """The verb, with requests in the place of a server that waits for them."""
    seen: dict[str, object] = {}

    def asked(server: uvicorn.Server, sockets: Any) -> None:
        for listener in sockets:
            listener.close()
        seen.update(asyncio.run(_served(server.config.app)))

    with patch.object(uvicorn.Server, "run", asked):
        code = cli.main(["view", str(out), "--no-browser", "--port", "0"])
    return code, seen


async def _served(app: Any) -> dict[str, object]:
    """What `_visit` sees between the start and the end of a server, which stops its threads."""
    async with app.app.router.lifespan_context(app.app):
        return await _visit(app)


async def _visit(app: Any) -> dict[str, object]:
    """Every address that a page asks of each run. What it sees: the splats of all of them."""
    status, listed = await _get(app, "/api/runs")
    runs = {run["name"]: run["id"] for run in _json(listed)["runs"]}
    found: dict[str, object] = {}
    for name, number in runs.items():
        run = f"/api/runs/{number}"
        _json((await _get(app, run))[1])
        for place in ("snapshot", "picture/poster", "picture/film", "picture/front?step=2", "events"):
            await _get(app, f"{run}/{place}")
        status, splats = await _get(app, f"{run}/splats")
        found[name] = (status, hashlib.sha256(splats).hexdigest())
    return found


async def _get(app: Any, address: str) -> tuple[int, bytes]:
    path, _, query = address.partition("?")
    scope = {
        "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "path": path, "root_path": "",
        "raw_path": path.encode(), "query_string": query.encode(), "headers": [(b"host", b"127.0.0.1:80")],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    status, body, enough = 0, b"", asyncio.Event()

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        nonlocal status, body
        status = message.get("status", status)
        body += message.get("body", b"")
        if body.startswith(b"event: "):
            enough.set()

    answer = asyncio.ensure_future(app(scope, receive, send))
    wait = asyncio.ensure_future(enough.wait())
    await asyncio.wait([answer, wait], return_when=asyncio.FIRST_COMPLETED)
    wait.cancel()
    if answer.done():
        answer.result()
    else:
        answer.cancel()
    assert status < 500, (address, status, body[:200])
    assert status == 200 or (body.count(b"\n") <= 1 and not RAW.search(body.decode())), (address, status, body[:200])
    return status, body


def _json(data: bytes) -> Any:
    return json.loads(data, parse_constant=_no_json)


def _no_json(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


DO = {
    "train --resume": _resume, "render": _render, "eval": _eval, "export": _export, "compose": _compose, "view": _view,
    "batch": _batch,
}  # fmt: skip


def main(args: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args(args)
    torch.set_num_threads(1)
    verbs = Verbs(flags.folder)
    bad = []
    for index in range(flags.first, flags.first + flags.cases):
        what, faults = verbs.case(seed=flags.seed, index=index)
        found = [f"case {index}, {what}; {verb}: {fault}" for verb, fault in faults.items() if fault]
        print("\n".join([*found, f"{index} is done"]), file=sys.stderr, flush=True)
        bad += found
    print(json.dumps({"cases": flags.cases, "verbs": len(VERBS), "seed": flags.seed, "bad": bad}))


if __name__ == "__main__":
    main(sys.argv[1:])
