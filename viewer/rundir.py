"""What the viewer knows: run folders and files of splats. Reads them, and writes only requests into `control/`."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from splatdistill.config.schema import CameraConfig, TrainConfig
from splatdistill.config.validation import validate
from splatdistill.io.kinds import Assumptions
from splatdistill.io.runs import COMMAND, CONFIG, EVENTS, METRICS, SPLATS, SUMMARY, Run
from splatdistill.io.signatures import kind_of_file
from splatdistill.training.run_log import REQUESTS

SIDES = ("front", "side", "back", "top")
MAX_RUNS = 500
MAX_FILM = 1 << 28  # pixels: 4096 frames of the usual 256 a side
MAX_SIDE = 2048  # pixels
SILENT = 120.0  # s without a new line before a run that did not end counts as gone
WATCHED = (CONFIG, SUMMARY, SPLATS, "contact.png", "turntable.mp4")  # whose changes the page is sent


class Item:
    """Something to look at, under an id: a run folder or a file of splats. taken: how a file is taken. dropped: what a
    file is called that came from the page; it lies in a temporary folder. notes: sentences about a file.
    """

    def __init__(
        self, path: Path, taken: Assumptions | None = None, *, dropped: str = "", notes: Sequence[str] = ()
    ) -> None:
        self.path = path
        self.dropped = dropped
        self.notes = list(notes)
        self.run = Run(path)
        self.is_run = path.is_dir()
        self.taken = Assumptions() if taken is None or self.is_run else taken
        self.name = dropped or path.resolve().name

    def commands(self) -> dict[str, str]:
        """Command lines about this item that work when they are pasted, in whatever folder."""
        if self.dropped:
            return {}
        place = shlex.quote(str(self.path.resolve()))
        up = f" --up={self.taken.up}" if self.taken.up != "auto" else ""
        found = {"export": f"splatdistill export {place} --format spz{up}", "view": f"splatdistill view {place}{up}"}
        return found | ({"resume": f"splatdistill train --resume {place}"} if self.is_run else {})

    def gone(self) -> str:
        """The sentence for a page that still shows this item after its folder or file was removed."""
        place = "where it was" if self.dropped else f"at {self.path}"
        return f"{self.name} is gone: nothing is {place} any more."

    def splats(self) -> Path | None:
        """The file with the splats, if there is one yet."""
        return self.run.file(SPLATS) if self.is_run else self.path

    def manifest(self) -> dict[str, Any]:
        """Everything but numbers and pictures, for the page."""
        if not self.is_run:
            return {
                "kind": "file",
                "name": self.name,
                "bytes": self.path.stat().st_size,
                "camera": _camera(CameraConfig()),
                "has_splats": True,
                "notes": self.notes,
                "path": "" if self.dropped else str(self.path.resolve()),
                "commands": self.commands(),
            }
        config, notes = self.run.known_settings()
        return {
            "kind": "run",
            "name": self.name,
            "path": str(self.path.resolve()),
            "commands": self.commands(),
            "prompt": config.prompt,
            "method": config.method,
            "seed": config.seed,
            "steps": config.steps,
            "camera": _camera(config.camera),
            "settings": self.run.text(CONFIG),
            "notes": notes,
            "command": self.run.text(COMMAND).strip(),
            "summary": self.run.summary(),
            "poster": self.picture("poster") is not None,
            "film": self.picture("film") is not None,
            **self.state(),
        }

    def filmed(self) -> TrainConfig:
        """The settings by which a film of it is made. ValueError, one sentence, where no run can have them, or they ask
        for more work than a page may.
        """
        config = self.run.known_settings()[0] if self.is_run else TrainConfig()
        validate(replace(config, prompt=config.prompt or self.name))
        asked = config.output.frames * config.output.size**2
        if asked > MAX_FILM or config.output.size > MAX_SIDE:
            raise ValueError(
                f"output: {config.output.frames} frames of {config.output.size} pixels a side are more than the page "
                "makes; `splatdistill export --format mp4` has --frames and --size."
            )
        return config

    def state(self) -> dict[str, Any]:
        """What changes while a run trains. status: running, paused, stopped, done, or silent without new lines.
        step: the last one in the logs. saved: the step whose splats were last saved on request, and when.
        changed: another number whenever one of WATCHED is written.
        """
        events = list(self.run.last_records(EVENTS))
        last = next((event for event in events if event.get("kind") != "save"), {})
        saved = next((event for event in events if event.get("kind") == "save"), None)
        metrics = self.run.file(METRICS)
        age = time.time() - metrics.stat().st_mtime if metrics else math.inf
        ended = {"pause": "paused", "stop": "stopped", "done": "done"}.get(str(last.get("kind")))
        newest = self.snapshot(after=-1)
        return {
            "status": ended or ("running" if age < SILENT else "silent"),
            "step": max(last.get("step", 0), self.run.last_step()),
            "previews": self.previews(),
            "snapshot": newest[0] if newest else None,
            "has_splats": self.splats() is not None,
            "saved": {"step": saved["step"], "time": saved.get("time", 0)} if saved else None,
            "asked": sorted(set(REQUESTS) & set(self.run.names("control"))),
            "changed": sum(file.stat().st_mtime_ns for name in WATCHED if (file := self.run.file(name))) % 2**53,
        }

    def previews(self) -> list[int]:
        """The steps of which there are pictures from all sides."""
        fronts = [name.removesuffix("-front.jpg") for name in self.run.names("preview") if name.endswith("-front.jpg")]
        return sorted(int(step) for step in fronts if step.isdecimal())

    def picture(self, kind: str, *, step: int = 0) -> Path | None:
        """One of SIDES at a step, the poster or the film, if there is one."""
        if kind in SIDES:
            return self.run.file(f"preview/{step:06d}-{kind}.jpg")
        names = {"poster": ["contact.png"], "film": ["turntable.mp4"]}.get(kind, [])
        return next((file for name in names if (file := self.run.file(name))), None)

    def snapshot(self, *, after: int) -> tuple[int, Path] | None:
        """The newest splats of a running training, if they are of a later step than `after`."""
        steps = [n.removesuffix(".splat") for n in self.run.names("snapshots") if n.endswith(".splat")]
        newest = max((int(step) for step in steps if step.isdecimal()), default=-1)
        file = self.run.file(f"snapshots/{newest:06d}.splat") if newest > after else None
        return (newest, file) if file else None

    def watch(self) -> None:
        """Notes for the trainer that a page is open, if there is a folder for it."""
        self.run.touch("control/watch")

    def ask(self, request: str) -> None:
        """Files one of REQUESTS, or takes back the pause for "resume"."""
        if request == "resume":
            if "pause" in self.run.names("control"):
                (self.path / "control" / "pause").unlink(missing_ok=True)
        elif request in REQUESTS:
            self.run.touch(f"control/{request}")
        else:
            raise ValueError(f"ask: {request!r} is unknown; choose {', '.join(REQUESTS)} or resume.")


def collect(paths: Sequence[Path], taken: Assumptions | None = None) -> dict[str, Item]:
    """The items of `paths` by id: each a run folder, a file of splats, or a folder of run folders, newest first, which
    may be empty. taken: how files are taken. ValueError, one sentence, for what cannot be shown.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise ValueError(
                f"There is no run folder or file of splats called {path}; `splatdistill view` shows the folder runs."
            )
        if path.is_dir() and not Run(path).exists():
            runs = [child for child in path.iterdir() if Run(child).exists()]
            found += sorted(runs, key=lambda run: (-(run / CONFIG).stat().st_mtime, run.name))
        else:
            if path.is_file():
                kind_of_file(path)
            found.append(path)
    return {str(index): Item(path, taken) for index, path in enumerate(found[:MAX_RUNS])}


def home_of(paths: Sequence[Path]) -> Path:
    """The folder that new runs are made in: the first folder of runs, or the one around the first run, or `runs`."""
    folders = [path for path in paths if path.is_dir()]
    if not folders:
        return Path("runs")
    runs = [folder for folder in folders if not Run(folder).exists()]
    return runs[0] if runs else folders[0].resolve().parent


def _camera(camera: CameraConfig) -> dict[str, float]:
    """Where the turntable stands; degrees and world units."""
    fovy = sum(camera.fovy_deg) / 2
    seen = math.sin(math.radians(fovy) / 2) * sum(camera.fill) / 2
    radius = camera.object_radius / seen if seen else math.inf
    if not math.isfinite(fovy) or not math.isfinite(radius):  # the settings of a stranger's run
        return _camera(CameraConfig())
    return {"fovy": fovy, "radius": radius, "elevation": 15.0}
