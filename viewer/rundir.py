"""What the viewer knows: run folders and files of splats. Reads them, and writes only requests into `control/`."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from splatdistill import presets
from splatdistill.config import TrainConfig
from splatdistill.io.kinds import kind_of
from splatdistill.logs import REQUESTS

SIDES = ("front", "side", "back", "top")
MAX_RUNS = 500
MAX_TEXT = 1 << 20  # bytes of a settings file or a summary
SILENT = 120.0  # s without a new line before a run that did not end counts as gone


class Item:
    """Something to look at, under an id: a run folder or a file of splats."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_run = path.is_dir()
        self.name = path.resolve().name

    def splats(self) -> Path | None:
        """The file with the splats, if there is one yet."""
        return self._file("splats.ply") if self.is_run else self.path

    def manifest(self) -> dict[str, Any]:
        """Everything but numbers and pictures, for the page."""
        if not self.is_run:
            return {
                "kind": "file",
                "name": self.name,
                "bytes": self.path.stat().st_size,
                "camera": _camera(TrainConfig()),
            }
        config = self.config()
        return {
            "kind": "run",
            "name": self.name,
            "prompt": config.prompt,
            "method": config.method,
            "seed": config.seed,
            "steps": config.steps,
            "camera": _camera(config),
            "settings": self._text("config.yaml"),
            "command": self._text("command.txt").strip(),
            "summary": self.summary(),
            "poster": self.picture("poster") is not None,
            "film": self.picture("film") is not None,
            **self.state(),
        }

    def config(self) -> TrainConfig:
        """The settings of the run; those that this version does not know are left out."""
        try:
            return presets.merge(TrainConfig(), yaml.safe_load(self._text("config.yaml")) or {}, where="config.yaml")
        except (ValueError, yaml.YAMLError):
            return TrainConfig(prompt=self.name)

    def summary(self) -> dict[str, Any]:
        try:
            found = json.loads(self._text("summary.json"))
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def state(self) -> dict[str, Any]:
        """What changes while a run trains. status: running, paused, stopped, done, or silent when nothing is heard."""
        last = _last_record(self.path / "events.jsonl", but="save")
        metrics = self.path / "metrics.jsonl"
        age = time.time() - metrics.stat().st_mtime if metrics.is_file() else math.inf
        ended = {"pause": "paused", "stop": "stopped", "done": "done"}.get(last.get("kind", ""))
        newest = self.snapshot(after=-1)
        return {
            "status": ended or ("running" if age < SILENT else "silent"),
            "previews": self.previews(),
            "snapshot": newest[0] if newest else None,
            "has_splats": self.splats() is not None,
            "asked": sorted(set(REQUESTS) & set(_names(self.path / "control"))),
        }

    def previews(self) -> list[int]:
        """The steps of which there are pictures from all sides."""
        fronts = [
            name.removesuffix("-front.jpg") for name in _names(self.path / "preview") if name.endswith("-front.jpg")
        ]
        return sorted(int(step) for step in fronts if step.isdecimal())

    def picture(self, kind: str, *, step: int = 0) -> Path | None:
        """One of SIDES at a step, the poster or the film, if there is one."""
        if kind in SIDES:
            return self._file(f"preview/{step:06d}-{kind}.jpg")
        names = {"poster": ["contact.png"], "film": ["turntable.mp4"]}.get(kind, [])
        return next((file for name in names if (file := self._file(name))), None)

    def snapshot(self, *, after: int) -> tuple[int, Path] | None:
        """The newest splats of a running training, if they are of a later step than `after`."""
        steps = [n.removesuffix(".splat") for n in _names(self.path / "snapshots") if n.endswith(".splat")]
        newest = max((int(step) for step in steps if step.isdecimal()), default=-1)
        file = self._file(f"snapshots/{newest:06d}.splat") if newest > after else None
        return (newest, file) if file else None

    def watch(self) -> None:
        """Tells the trainer that somebody looks, if there is a folder for it."""
        if (self.path / "control").is_dir():
            (self.path / "control" / "watch").touch()

    def ask(self, request: str) -> None:
        """Files one of REQUESTS, or takes back the pause for "resume"."""
        if request == "resume":
            (self.path / "control" / "pause").unlink(missing_ok=True)
        elif request in REQUESTS and (self.path / "control").is_dir():
            (self.path / "control" / request).touch()
        else:
            raise ValueError(
                f"ask: {request!r} is unknown; a training can be asked to {', '.join(REQUESTS)} or resume."
            )

    def _file(self, name: str) -> Path | None:
        """The file of that name, unless it is a link that leads out of the run."""
        path = self.path / name
        return path if path.is_file() and path.resolve().is_relative_to(self.path.resolve()) else None

    def _text(self, name: str) -> str:
        file = self._file(name)
        return file.read_bytes()[:MAX_TEXT].decode("utf-8", "replace") if file else ""


class Tail:
    """Reads the lines that a file of JSON records gets, from the first one on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place = (0, 0)  # inode and offset

    def read(self) -> tuple[bool, list[dict[str, Any]]]:
        """Whether the file began anew since the last call, and the records that came."""
        try:
            with self._path.open("rb") as file:
                stat = os.fstat(file.fileno())
                inode, offset = self._place
                anew = offset > 0 and (stat.st_ino != inode or stat.st_size < offset)
                file.seek(0 if anew else offset)
                whole = file.read().rpartition(b"\n")[0]  # the last line may still be growing
                self._place = stat.st_ino, (0 if anew else offset) + len(whole) + bool(whole)
        except FileNotFoundError:
            return False, []
        return anew, [record for line in whole.splitlines() if (record := _record(line))]


def collect(paths: Sequence[Path]) -> dict[str, Item]:
    """The items of `paths` by id: each a run folder, a file of splats, or a folder of run folders, newest first."""
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise ValueError(f"{path} is not there.")
        if path.is_dir() and not (path / "config.yaml").is_file():
            runs = [child for child in path.iterdir() if (child / "config.yaml").is_file()]
            if not runs:
                raise ValueError(f"{path} is no run folder and holds none: there is no config.yaml.")
            found += sorted(runs, key=lambda run: (-(run / "config.yaml").stat().st_mtime, run.name))
        else:
            if path.is_file():
                kind_of(path)
            found.append(path)
    return {str(index): Item(path) for index, path in enumerate(found[:MAX_RUNS])}


def _camera(config: TrainConfig) -> dict[str, float]:
    """Where the turntable stands; degrees and world units."""
    camera = config.camera
    fovy = sum(camera.fovy_deg) / 2
    radius = camera.object_radius / (math.sin(math.radians(fovy) / 2) * sum(camera.fill) / 2)
    return {"fovy": fovy, "radius": radius, "elevation": 15.0}


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _last_record(path: Path, *, but: str) -> dict[str, Any]:
    """The last event of any kind but one."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 65536))
            lines = file.read().splitlines()
    except FileNotFoundError:
        return {}
    return next((r for line in reversed(lines) if (r := _record(line)) and r.get("kind") != but), {})


def _record(line: bytes) -> dict[str, Any]:
    """A record with a step, or nothing for a line that is something else."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("step"), int) else {}
