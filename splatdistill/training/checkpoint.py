"""Checkpoints that are whole or absent, and know themselves: safetensors and JSON in a folder that appears by rename,
beside their SHA-256 sums in the format of `sha256sum`.

Nothing loaded can run code.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from splatdistill import __version__
from splatdistill.config.base import is_mapping
from splatdistill.io.files import remove_folder, write_text
from splatdistill.io.inside import file_inside, open_inside, subfolder
from splatdistill.training.errors import RunFailure
from splatdistill.utils.system import sync

TENSORS, META, SUMS = "state.safetensors", "state.json", "SHA256SUMS"
MARGIN = 1 << 20  # bytes, for all but the tensors
MOST_NAMED = 3  # damaged checkpoints that one sentence names


class Saved(NamedTuple):
    """What a checkpoint holds. notes: a sentence for each one that was passed over for it."""

    tensors: dict[str, Tensor]
    meta: dict[str, Any]
    notes: tuple[str, ...] = ()


def save(root: Path, *, step: int, tensors: dict[str, Tensor], meta: dict[str, Any], keep: int) -> Path:
    """Write ROOT/step_SSSSSS, read it back, point ROOT/latest at it, then drop all but the newest `keep`
    up to that step.

    RunFailure, one sentence, when that cannot be done: the checkpoints of before are then as they were.
    """
    final = root / f"step_{step:06d}"
    if _latest(root) == final and _whole(final):  # a run is a function of its settings: this step is saved already
        return final
    temporary = root / f".{final.name}.{os.getpid()}.tmp"  # `files.sweep` knows the shape of this name
    values = {name: value.detach().contiguous().cpu() for name, value in tensors.items()}
    need = MARGIN + sum(value.nbytes for value in values.values())
    try:
        root.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(root).free < need:
            raise OSError("the disk is full")
        remove_folder(temporary)
        temporary.mkdir()
        _write(temporary, values, json.dumps({"step": step, "version": __version__, "sums": SUMS, **meta}, indent=1))
        remove_folder(final)  # left by a save that ended before `latest` pointed at it
        temporary.rename(final)
        sync(root)
        write_text(root / "latest", final.name)
    except (OSError, SafetensorError) as error:
        remove_folder(temporary)
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise RunFailure(
            f"checkpoint: step {step} could not be saved in {root} ({reason}); it needs {need} bytes there; "
            f"make room and go on with --resume {root.parent}, where the last checkpoint is untouched."
        ) from error
    for old in [folder for folder in _folders(root) if _step_of(folder) < step][keep - 1 :]:
        remove_folder(old)
    return final


def exists(root: Path) -> bool:
    """Whether anything was ever saved in ROOT, whole or not."""
    return (root / "latest").exists() or bool(_folders(root))


def load(root: Path) -> Saved:
    """The checkpoint that ROOT/latest names: its tensors like those that were saved, and what was saved beside them.
    Where that one is damaged or `latest` is missing, the newest whole one. Those of version 0.1 have no sums to check.

    ValueError, one sentence, when there is none, or none is whole.
    """
    newest, wanted = _folders(root), _latest(root)
    found = [wanted, *newest] if wanted else newest
    if not found:
        raise ValueError(f"resume: {root.parent} has no checkpoint yet; start the run again without --resume.")
    notes = [] if wanted else [f"{root / 'latest'} names no checkpoint."]
    damaged: list[str] = []
    for folder in dict.fromkeys(found):
        try:
            saved = _read(folder)
        except _Damaged as error:
            damaged.append(str(error))
            continue
        return saved._replace(notes=(*notes, *damaged))
    said = " ".join(damaged[:MOST_NAMED])
    raise ValueError(f"resume: no checkpoint of {root.parent} is whole; start a new run with its settings. {said}")


def refuse_others(meta: Mapping[str, Any], values: Mapping[str, Any], *, may_change: tuple[str, ...]) -> None:
    """ValueError, one sentence, where a setting is not what it was when the checkpoint was saved. values: of the
    settings now, by dotted names. may_change: beginnings of the names that may differ.
    """
    for name, value in values.items():
        before: Any = meta.get("config")
        for part in name.split("."):
            before = before.get(part, ABSENT) if is_mapping(before) else ABSENT
        if before is not ABSENT and json.dumps(value) != json.dumps(before) and not name.startswith(may_change):
            raise ValueError(
                f"resume: {name} was {before!r} when step {meta['step']} was saved, and is {value!r} now; put it back "
                "(config.yaml of the run holds it), or begin a new run to change it."
            )


def about_version(meta: Mapping[str, Any], summary: Mapping[str, Any]) -> tuple[str, ...]:
    """A sentence where an earlier version than this one saved the checkpoint. ValueError, one sentence, where a later
    one did: what it means by the same names is not known here. summary: of the run, for versions that did not sign.
    """
    versions = summary.get("versions")
    by = str(meta.get("version") or (versions.get("splatdistill") if is_mapping(versions) else None) or "")
    numbers = re.fullmatch(r"([0-9]{1,9})\.([0-9]{1,9})\.([0-9]{1,9})", by)
    if by == __version__ or numbers is None:
        return ()
    if [int(number) for number in numbers.groups()] > [int(number) for number in __version__.split(".")]:
        raise ValueError(
            f"resume: splatdistill {by} saved step {meta['step']}, and this is the earlier {__version__}; go on with "
            f"that one: pip install splatdistill=={by}, or begin a new run."
        )
    return (
        f"splatdistill {by} made the first {meta['step']} steps, and {__version__} goes on; neither alone would give "
        "this result.",
    )


ABSENT = object()  # a setting that the version that saved did not have


def _read(folder: Path) -> Saved:
    """ValueError, one sentence that names the file, for a checkpoint that is not as it was saved."""
    try:
        sums = _sums(folder)
        for name, wanted in (sums or {}).items():
            if _digest(folder, name) != wanted:
                raise _Damaged(f"{folder / name} is damaged: it is not what {SUMS} says.")
        meta = json.loads(_contents(folder, META))
        if meta.pop("sums", None) and sums is None:
            raise _Damaged(f"{folder / SUMS} is missing.")
        if file_inside(folder, TENSORS) is None:
            raise _Damaged(f"{folder / TENSORS} is missing.")
        return Saved(load_file(folder / TENSORS), {**meta, "step": int(meta["step"])})
    except _Damaged:
        raise
    except Exception as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "it is damaged"
        raise _Damaged(f"The checkpoint {folder} cannot be read: {why}.") from error


def _whole(folder: Path) -> bool:
    try:
        _read(folder)
    except _Damaged:
        return False
    return True


class _Damaged(ValueError):
    """A checkpoint is not as it was saved; says which file."""


def _contents(folder: Path, name: str) -> bytes:
    with open_inside(folder, name) as file:
        return file.read()


def _digest(folder: Path, name: str) -> str:
    with open_inside(folder, name) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sums(folder: Path) -> dict[str, str] | None:
    """The digest of each file, or None where they were not written."""
    if not (folder / SUMS).exists():
        return None
    found: dict[str, str] = {}
    for line in _contents(folder, SUMS).decode("utf-8").splitlines():
        digest, _, name = line.partition("  ")
        found[name] = digest
    if found.keys() != {TENSORS, META}:
        raise _Damaged(f"{folder / SUMS} is damaged: it does not name the two files.")
    return found


def _write(folder: Path, tensors: Mapping[str, Tensor], meta: str) -> None:
    """Both files and their sums, synced, once they have been read back."""
    save_file(dict(tensors), folder / TENSORS)
    (folder / META).write_text(meta, encoding="utf-8", newline="\n")
    shutil.copymode(folder / META, folder / TENSORS)  # safetensors makes files that only their owner may read
    sums = "".join(f"{_digest(folder, name)}  {name}\n" for name in (TENSORS, META))
    (folder / SUMS).write_text(sums, encoding="utf-8", newline="\n")
    for path in (folder / TENSORS, folder / META, folder / SUMS, folder):
        sync(path)
    try:
        back = _read(folder).tensors
    except _Damaged:
        back = {}
    if back.keys() != tensors.keys() or not all(_same(value, tensors[name]) for name, value in back.items()):
        raise OSError("what was written is not what is read back")


def _same(a: Tensor, b: Tensor) -> bool:
    """Bit for bit, so that a value that is not a number equals itself."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))


def _latest(root: Path) -> Path | None:
    """The folder that ROOT/latest names, if that is the name of a step."""
    try:
        with open_inside(root, "latest") as file:
            name = file.read(100).decode("utf-8", "replace").strip()
    except OSError:
        return None
    return root / name if re.fullmatch(r"step_[0-9]+", name) else None


def _folders(root: Path) -> list[Path]:
    """The folders of saved steps, the newest first."""
    found: Iterable[Path] = root.glob("step_*") if root.is_dir() else ()
    steps = [path for path in found if re.fullmatch(r"step_[0-9]+", path.name) and subfolder(root, path.name)]
    return sorted(steps, key=_step_of, reverse=True)


def _step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("step_"))
