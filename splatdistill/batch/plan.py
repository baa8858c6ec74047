"""A file of prompts to runs: their settings, seeds and folders. What is wrong with it is found here, before any work.

A run is a function of its entry: neither the number of workers nor the other entries change it.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from splatdistill.config import settings, validation
from splatdistill.config import yaml_reader as yamlfile
from splatdistill.config.base import is_list, is_mapping
from splatdistill.config.schema import METHODS, TrainConfig
from splatdistill.io import names

RESERVED = ("ledger", "report.html")  # beside the run folders


@dataclass(frozen=True)
class Entry:
    """One prompt of the file and its own settings. where: the file and the line or number of the entry."""

    where: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class PromptFile:
    """entries: in the order of the file. defaults: settings of all of them."""

    path: Path
    entries: list[Entry]
    defaults: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """One run to make. run: the name of its folder."""

    run: str
    config: TrainConfig
    where: str


Base = Callable[[str | None, str | None], TrainConfig]
"""A method and a prior, None for what flags and files say, to the settings that an entry's own lie over."""


class BadLines(ValueError):
    """What is wrong with several entries, a sentence for each in `sentences`. sound: the runs of the others."""

    def __init__(self, sentences: Sequence[str], *, sound: Sequence[Job] = ()) -> None:
        super().__init__(" ".join(sentences))
        self.sentences, self.sound = list(sentences), list(sound)


def read(path: Path) -> PromptFile:
    """A text file with one prompt a line, where # begins a comment line; or YAML: a list of prompts and entries, or a
    mapping of such a list `prompts` and of settings `defaults`.

    ValueError, one sentence, for a file that cannot be read, holds no prompt or is laid out in another way.
    """
    file = _read_yaml(path) if path.suffix.lower() in (".yaml", ".yml") else _read_text(path)
    if not file.entries:
        raise ValueError(f"prompts: {path} holds no prompt; write one a line.")
    return file


def _read_text(path: Path) -> PromptFile:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").split("\n")]
    except OSError as error:
        raise ValueError(f"prompts: {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"prompts: {path} is not text in UTF-8.") from error
    kept = [(number, line) for number, line in enumerate(lines, 1) if line and not line.startswith("#")]
    return PromptFile(path, [Entry(f"{path}, line {number}", {"prompt": line}) for number, line in kept])


def _read_yaml(path: Path) -> PromptFile:
    values = yamlfile.read_yaml(path, times=32)  # thousands of prompts
    layout = {"prompts": values} if isinstance(values, list) else values or {}
    shaped = isinstance(layout, dict) and layout.keys() <= {"prompts", "defaults", "grid"}
    entries, defaults = (layout.get("prompts") or [], layout.get("defaults") or {}) if shaped else (None, None)
    if not isinstance(entries, list) or not isinstance(defaults, dict):
        raise ValueError(
            f"{path} must be a list of prompts, or hold such a list `prompts`, settings `defaults` and lists of them "
            "in `grid`."
        )
    found = []
    for number, entry in enumerate(entries, 1):
        where = f"{path}, entry {number}"
        if not isinstance(entry, str | dict):
            raise ValueError(f"{where} must be a prompt, or settings as 'key: value'; it is {entry!r:.80}.")
        found.append(Entry(where, {"prompt": entry.strip()} if isinstance(entry, str) else entry))
    return PromptFile(path, swept(path, found, layout.get("grid") or {}), defaults)


def swept(path: Path, entries: Sequence[Entry], grid: Any) -> list[Entry]:
    """Each entry with each combination of the values of `grid`: dotted names of settings to lists of values, the last
    of which changes fastest.
    """
    if not grid:
        return list(entries)
    if not is_mapping(grid) or not all(is_list(values) and values for values in grid.values()):
        raise ValueError(f"{path}, grid must hold names of settings, each with a list of values, such as seed: [0, 1].")
    found: list[Entry] = []
    for entry in entries:
        if own := [name for name in ("name", *grid) if name in settings.keys(entry.values)]:
            raise ValueError(f"{entry.where}: {own[0]} must not stand in an entry where `grid` makes several of it.")
        for values in itertools.product(*grid.values()):
            chosen = dict(zip(grid, values, strict=True))
            laid = dict(entry.values)
            for name, value in chosen.items():
                laid = settings.laid_over(laid, _nested(str(name), value))
            said = " and ".join(f"{name} {settings.shown(value)}" for name, value in chosen.items())
            found.append(Entry(f"{entry.where} with {said}", laid))
    return found


def _nested(name: str, value: Any) -> dict[str, Any]:
    """{"a": {"b": value}} of the dotted name a.b."""
    first, dot, rest = name.partition(".")
    return {first: _nested(rest, value) if dot else value}


def jobs(file: PromptFile, *, method: str | None, base: Base) -> list[Job]:
    """The runs of a file of prompts. method: what --method asked for. base: defaults and flags included.

    BadLines, a sentence for each entry at fault, for settings no run can have and for two entries that would write the
    same folder.
    """
    usual = method or file.defaults.get("method")
    if not method and usual not in (None, *METHODS):
        raise ValueError(f"{file.path}, defaults: method: {usual!r} is unknown; the methods are {', '.join(METHODS)}.")
    base(usual, None)  # what is wrong with flags and defaults is reported without an entry
    found: dict[str, Job] = {}
    repeats: Counter[str] = Counter()
    faults = []
    for entry in file.entries:
        try:
            job = _job(entry, repeats, usual=usual, base=base)
        except ValueError as error:
            said = str(error)
            faults.append(said if said.startswith(entry.where) else f"{entry.where}: {said}")
            continue
        other = found.setdefault(job.run.lower(), job)
        if other is not job:
            number = other.where.rpartition(", ")[2]
            faults.append(f"{job.where} and {number} would both write {job.run}; give one another name or seed.")
    if faults:
        raise BadLines(faults, sound=list(found.values()))
    return list(found.values())


def _job(entry: Entry, repeats: Counter[str], *, usual: str | None, base: Base) -> Job:
    values = dict(entry.values)
    name = values.pop("name", None)
    method, prior = (str(values[name]) if name in values else None for name in ("method", "prior"))
    config = settings.merge(base(method or usual, prior), values, where=entry.where)
    if foreign := [key for key in values if key in METHODS and key != config.method]:
        raise ValueError(f"method {config.method} does not read {foreign[0]!r}.")
    if "seed" not in values:
        config = replace(config, seed=seed(config.seed, config.prompt, repeats[config.prompt]))
        repeats[config.prompt] += 1
    config = replace(config, threads=config.threads or 1)
    validation.validate(config)
    run = names.run_name(config.prompt, settings.flatten(config)) if name is None else _check_name(str(name))
    return Job(run, config, entry.where)


def seed(base: int, prompt: str, index: int) -> int:
    """The seed of a prompt, 32 bits. index: how often the same prompt came before."""
    digest = hashlib.blake2b(f"{base}/{index}/{prompt}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def _check_name(name: str) -> str:
    if names.check_name(name).lower() in RESERVED:
        raise ValueError(f"name: {name!r} is taken by the batch itself; choose another.")
    return name
