"""How much memory this process may still take: of the machine, of its control groups, of its own limit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from splatdistill.utils.system import max_address_space

_REFUSALS = ("DefaultCPUAllocator: can't allocate memory", "DefaultCPUAllocator: not enough memory", "std::bad_alloc")
NO_LIMIT = 1 << 60  # bytes; control groups of the first kind name a larger number where there is none


def available(root: Path = Path("/")) -> float:
    """Bytes; infinite where the system does not tell. root: where its files lie."""
    return min([_of_machine(root), *_of_groups(root), _of_process(root)])


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory was asked for and not given. On a CPU torch has no type of its own for that."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _REFUSALS)


def _of_machine(root: Path) -> float:
    found = _fields(root / "proc/meminfo")
    return 1024.0 * (found["MemAvailable:"] + found.get("SwapFree:", 0)) if "MemAvailable:" in found else float("inf")


def _of_process(root: Path) -> float:
    """What is left of `ulimit -v`."""
    return max(0.0, max_address_space() - 1024.0 * _fields(root / "proc/self/status").get("VmSize:", 0))


def _of_groups(root: Path) -> Iterator[float]:
    """What is left in each group that this process is in, and in those around it: of both kinds of control groups."""
    lines: list[str] = []
    with suppress(OSError):
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if "memory" in kinds.split(","):
            top, names = root / "sys/fs/cgroup/memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
            cached = "total_inactive_file"
        elif not kinds:
            top, names, cached = root / "sys/fs/cgroup", ("memory.max", "memory.current"), "inactive_file"
        else:
            continue
        inside = Path(path.lstrip("/"))
        for folder in (top / inside, *((top / inside).parents[: len(inside.parts)])):
            limit, used = (_number(folder / name) for name in names)
            if limit is not None and used is not None and limit < NO_LIMIT:
                # Files that were read count as used, and are dropped when there is need.
                yield max(0.0, limit - used + _fields(folder / "memory.stat").get(cached, 0))


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):  # ValueError: "max"
        return None


def _fields(path: Path) -> dict[str, int]:
    """The lines of a file that hold a name and a number."""
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return {}
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdecimal()}
