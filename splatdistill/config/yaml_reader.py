"""YAML files of settings, read as if a stranger had written them: small, shallow, without anchors and tags.

A few lines of anchors and merges can stand for gigabytes or for hours, and settings need neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, cast

import yaml

from splatdistill.config.base import is_mapping

MAX_BYTES = 64 * 1024
MAX_EVENTS = 4000  # every key, value, beginning and end is one; the settings of a run have about 250
MAX_DEPTH = 8
MAX_WORD = 2500  # characters of a value without quotes: numbers take quadratic time, and Python shows no longer ones

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # C where PyYAML was built with it


def read(path: Path) -> dict[str, Any]:
    """The mapping in a file of settings; ValueError, one sentence, for anything else."""
    values = read_yaml(path)
    if values is None:
        return {}
    if not is_mapping(values):
        raise ValueError(f"{path} must hold settings as 'key: value'.")
    return dict(values)


def read_yaml(path: Path, *, times: int = 1) -> Any:
    """What a file holds, which may be `times` as large as one of settings. ValueError, one sentence, when it cannot
    be read, is not YAML, or is more than that.
    """
    try:
        with path.open("rb") as file:
            data = file.read(times * MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from error
    if len(data) > times * MAX_BYTES:
        raise ValueError(f"{path} is larger than {times * MAX_BYTES // 1024} KiB; more is not read.")
    try:
        text = data.decode("utf-8")
        _check(text, where=str(path), max_events=times * MAX_EVENTS)
        return _Loader(text).get_single_data()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {min(mark.line + 1, len(data.splitlines()))}" if mark else ""  # the end is a line of its own
        raise ValueError(f"{path} is not YAML{line}.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not YAML: its text is not UTF-8.") from error
    except _Refused:
        raise
    except (ValueError, OverflowError) as error:  # dates of no calendar, numbers that do not end
        raise ValueError(f"{path} has a value that is neither a number nor a date; put it into quotes.") from error


@cache
def comments(path: Path) -> dict[str, str]:
    """Dotted name -> the comment on the line where the value ends, of a file that comes with the package."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()

    def walk(node: Any, prefix: str) -> Iterator[tuple[str, str]]:
        for key, value in node.value:
            name = f"{prefix}{key.value}"
            if isinstance(value, yaml.MappingNode):
                yield from walk(value, f"{name}.")
            else:
                line, column = int(value.end_mark.line), int(value.end_mark.column)
                yield name, lines[line][column:].partition("#")[2].strip()

    return dict(walk(yaml.compose(text, Loader=_Loader), ""))  # pyright: ignore  # its stubs leave types open


class _Refused(ValueError):
    """YAML that settings do not need."""


def _check(text: str, *, where: str, max_events: int) -> None:
    """Goes through the events before anything is made of them."""
    depth = 0
    parsed = yaml.parse(text, Loader=_Loader)  # pyright: ignore  # its stubs leave types open
    events = cast("Iterator[Any]", parsed)
    for count, event in enumerate(events):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _Refused(f"{where} has an anchor or alias (& or *) at line {line}; write the settings out.")
        if getattr(event, "tag", None) is not None:
            raise _Refused(f"{where} has a tag (!) at line {line}; settings need none.")
        if depth > MAX_DEPTH or count > max_events:
            raise _Refused(f"{where} has more entries, or deeper ones, than are read, at line {line}.")
        if isinstance(event, yaml.ScalarEvent) and event.implicit[0] and len(event.value) > MAX_WORD:
            raise _Refused(f"{where} has a value of {len(event.value)} characters at line {line}; put it into quotes.")
