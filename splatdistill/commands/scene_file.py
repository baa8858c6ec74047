"""The file of `scene`: parts with prompts and places, read into runs and poses. What is wrong with it is said here."""

from __future__ import annotations

import difflib
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from splatdistill.batch import plan
from splatdistill.batch.plan import Entry, Job, PromptFile
from splatdistill.config import settings, validation, yaml_reader
from splatdistill.config.base import is_list, is_mapping
from splatdistill.config.schema import TrainConfig

if TYPE_CHECKING:
    from splatdistill.export.placing import Place

AT = ("at", "extent", "turn")


@dataclass(frozen=True)
class Asked:
    """What a file of parts asks for. prompt: of the whole, "" for none. jobs: the run of each part, the same for parts
    that are one object in several places; whole: that of all together.
    """

    prompt: str
    jobs: Sequence[Job]
    places: Sequence[Place]
    whole: Job


def read_parts(file: Path, *, config: Path | None, prior: str, device: str, threads: int) -> Asked:
    """What a file of parts asks for, over the settings of --config and the flags of these names.

    ValueError, one sentence, for a file that is laid out in another way, and for settings no run can have."""
    from splatdistill.priors.families import layered

    values = yaml_reader.read(file)
    for key in values:
        if key not in ("parts", "prompt", "defaults"):
            raise ValueError(_unknown(str(file), key, ["parts", "prompt", "defaults"]))
    parts, prompt, defaults = values.get("parts"), values.get("prompt", ""), values.get("defaults") or {}
    if not is_list(parts) or not parts or not isinstance(prompt, str) or not is_mapping(defaults):
        raise ValueError(
            f"{file} must hold a list `parts`, each of which has a prompt and `at: [x, y, z]`; beside it may "
            "stand a text `prompt` and settings `defaults`."
        )
    entries: list[Entry] = []
    places: list[Place] = []
    for number, part in enumerate(parts, 1):
        where = f"{file}, part {number}"
        if not is_mapping(part) or "prompt" not in part:
            raise ValueError(f"{where} must be settings as 'key: value', a prompt among them; it is {part!r:.80}.")
        places.append(_place(where, part))
        entries.append(Entry(where, settings.without(part, AT)))
    _refuse_same(file, places)

    @functools.cache
    def base(method: str | None, other: str | None) -> TrainConfig:
        said = (f"{file}, defaults", defaults)
        made, _ = layered(config, method=method, prior=other or prior, defaults=said)
        return replace(made, prior=other or prior, device=device, threads=threads)

    first = [_first_like(entry, entries) for entry in entries]
    unlike = sorted(set(first))
    made = plan.jobs(PromptFile(file, [entries[n] for n in unlike], defaults), method=None, base=base)
    jobs = [made[unlike.index(n)] for n in first]
    whole = base(defaults.get("method"), None)
    if prompt:
        whole = replace(whole, prompt=prompt)
        validation.validate(whole)
    return Asked(prompt, jobs, places, Job("whole", whole, str(file)))


def _first_like(entry: Entry, entries: Sequence[Entry]) -> int:
    """The place of the first part that is the same object: with all the same settings, a seed or a name among them."""
    alike = (
        [other for other in entries if other.values == entry.values] if {"seed", "name"} & entry.values.keys() else []
    )
    return entries.index(alike[0] if alike else entry)


def _place(where: str, part: Mapping[str, Any]) -> Place:
    """ValueError, one sentence, for what is no place."""
    from splatdistill.export.placing import Place

    if "size" in part:
        raise ValueError(f"{where}: `extent` says how large a part is; size, of the renders, belongs into `defaults`.")
    at, extent, turn = part.get("at"), part.get("extent", 1.0), part.get("turn", 0.0)
    if not is_list(at) or len(at) != 3 or not all(map(_is_number, at)):
        raise ValueError(f"{where}: at must be three numbers [x, y, z], where its underside stands; it is {at!r:.80}.")
    if not _is_number(extent) or not extent > 0:
        raise ValueError(f"{where}: extent must be a number above 0, its longest side; it is {extent!r:.80}.")
    if not _is_number(turn):
        raise ValueError(f"{where}: turn must be a number, degrees about the vertical; it is {turn!r:.80}.")
    x, y, z = map(float, at)
    return Place((x, y, z), float(extent), float(turn))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _unknown(where: str, key: object, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(str(key)[:80], known, n=1)
    return f"{where}: unknown key {settings.shown(key)}" + (f"; did you mean {near[0]!r}?" if near else ".")


def _refuse_same(file: Path, places: Sequence[Place]) -> None:
    """ValueError for two parts that stand on one point, before any of them is made."""
    first: dict[tuple[float, ...], int] = {}
    for number, place in enumerate(places, 1):
        other = first.setdefault(place.at, number)
        if other != number:
            raise ValueError(f"{file}: parts {other} and {number} stand at the same place; give one of them another.")
