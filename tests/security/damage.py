"""One thing in a tree of run folders damaged or strange, in one of very many ways: a function of a number."""

from __future__ import annotations

import ctypes
import json
import math
import os
import random
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

SMALL = (".yaml", ".json", ".jsonl", ".txt")  # files that say something, which are met more often than pictures
EXTRA = ("control/pause", "control/stop", "control/watch", "lock.json", "checkpoints/step_000009", "splats-1.ply",
         "preview/000009-front.jpg", "snapshots/000009.splat", "turntable.mp4", "turntable_frames")  # fmt: skip
PADDING = 64 << 20  # bytes without any, which a disk keeps for nothing
HUGE = "HUGE"  # stands for a number that JSON and YAML can hold, and Python's writers cannot make
NUMBERS = {HUGE: "9" * 400, "DIGITS": "9" * 5000, "BEYOND": "1e400", "DEEP": "[" * 3000 + "]" * 3000}
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 3, 0.5, 1e308, -1e308, 2**63, 10**30, math.nan, math.inf, -math.inf, [], {}, [[]], {"a": {}},
    [None], "", "x", "\x1b[31mred", "a\nb", "\0", "\ud800", "x" * 100_000, "../../secret", "/dev/zero", "9" * 30,
    *NUMBERS,
)  # fmt: skip


def damage(root: Path, runs: tuple[str, ...], *, seed: int, index: int) -> tuple[str, str]:
    """Does one thing to the tree `root`; returns the path of what it was done to, and what it was."""
    drawn = random.Random(f"{seed}/{index}")
    found = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
    extra = [f"{run}/{name}" for run in runs for name in EXTRA]
    weights = [4 if name.endswith(SMALL) else 1 for name in found]
    (name,) = drawn.choices([*found, *extra], [*weights, *([1] * len(extra))])
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds: list[Callable[[Path, random.Random], str]] = [*STRANGE]
    if path.is_file():
        kinds += [*BYTES, *BYTES]
    if path.is_file() and path.suffix in (".yaml", ".json", ".jsonl"):
        kinds += [_field] * 3 * len(kinds)
    return name, drawn.choice(kinds)(path, drawn)


def _flip(path: Path, drawn: random.Random) -> str:
    data = bytearray(path.read_bytes()) or bytearray(1)
    bit = drawn.randrange(8 * len(data))
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    return f"bit {bit} flipped"


def _cut(path: Path, drawn: random.Random) -> str:
    data = path.read_bytes()
    at = drawn.randrange(len(data) + 1)
    path.write_bytes(data[:at])
    return f"cut to {at} bytes"


def _overwritten(path: Path, drawn: random.Random) -> str:
    data = bytearray(path.read_bytes())
    at, noise = drawn.randrange(len(data) + 1), drawn.randbytes(drawn.randrange(1, 64))
    data[at : at + len(noise)] = noise
    path.write_bytes(data)
    return f"{len(noise)} random bytes at {at}"


def _emptied(path: Path, _: random.Random) -> str:
    path.write_bytes(b"")
    return "emptied"


def _noise(path: Path, drawn: random.Random) -> str:
    path.write_bytes(drawn.randbytes(1000))
    return "random bytes"


def _padded(path: Path, _: random.Random) -> str:
    os.truncate(path, path.stat().st_size + PADDING)
    return "zeros behind it"


def _not_utf8(path: Path, _: random.Random) -> str:
    path.write_bytes(b"\xff\xfe\x80\n" + path.read_bytes())
    return "not UTF-8"


def _gone(path: Path, _: random.Random) -> str:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    return "missing"


def _folder(path: Path, drawn: random.Random) -> str:
    _gone(path, drawn)
    path.mkdir(parents=True)
    (path / "file").write_text("x")
    return "a folder with a file"


def _file(path: Path, drawn: random.Random) -> str:
    _gone(path, drawn)
    path.write_text(drawn.choice(["", "x", "{}", "[1]", "step_" + "9" * 60, "../../secret", "[" * 3000]))
    return f"a file of {path.stat().st_size} bytes"


def _unreadable(path: Path, _: random.Random) -> str:
    if path.exists():
        path.chmod(0)
    return "unreadable"


def _link(path: Path, drawn: random.Random) -> str:
    _gone(path, drawn)
    target = drawn.choice([path.name, "nowhere", "/dev/zero", "/dev/tty", "..", "../../secret", "../../secret/file"])
    path.symlink_to(target)
    return f"a link to {target}"


def _pipe(path: Path, drawn: random.Random) -> str:
    _gone(path, drawn)
    os.mkfifo(path)
    return "a pipe"


def _socket(path: Path, drawn: random.Random) -> str:
    _gone(path, drawn)
    before = os.getcwd()
    os.chdir(path.parent)  # the name of a socket has 100 letters at most
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(before)
    return "a socket"


STRANGE = (_gone, _folder, _file, _unreadable, _link, _link, _pipe, _socket)
BYTES = (_flip, _flip, _cut, _overwritten, _emptied, _noise, _padded, _not_utf8)


def _field(path: Path, drawn: random.Random) -> str:
    """A value of a file of settings or records exchanged, taken out, or one more than are known."""
    lines = path.read_text().splitlines() or ["{}"]
    at = drawn.choice([len(lines) - 1, drawn.randrange(len(lines))])
    text = lines[at] if path.suffix == ".jsonl" else path.read_text()
    whole = yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(text or "{}")
    places = list(_places(whole)) or [()]
    place, value = drawn.choice([*places, ()]), drawn.choice(VALUES)
    how = drawn.choice(["set", "set", "set", "out", "more"])
    node = whole
    for key in place[:-1]:
        node = node[key]
    if not place and how == "set":
        whole = value
    elif not place or how == "more":
        whole["strange"] = value
    elif how == "out":
        del node[place[-1]]
    else:
        node[place[-1]] = value
    dumped = yaml.safe_dump(whole, sort_keys=False) if path.suffix == ".yaml" else json.dumps(whole)
    for name, number in NUMBERS.items():
        dumped = dumped.replace(f'"{name}"', number).replace(name, number)
    lines[at : at + 1] = [dumped]
    path.write_text("\n".join(lines) + "\n" if path.suffix == ".jsonl" else dumped, errors="surrogatepass")
    return f"{'.'.join(map(str, place)) or 'all of it'}: {how} {value!r:.40}"


def _places(node: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Keys and indices that lead to each value below."""
    inside = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in inside:
        yield (*at, key)
        yield from _places(value, (*at, key))


@contextmanager
def no_override() -> Iterator[None]:
    """This thread obeys permissions as any user does, also where it is root's."""
    libc = ctypes.CDLL(None)
    head, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc.capget(head, sets)
    before = sets[0]
    sets[0] &= ~0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    libc.capset(head, sets)
    try:
        yield
    finally:
        sets[0] = before
        libc.capset(head, sets)
