"""Checkpoints that are whole or absent: safetensors + JSON in a folder that appears by rename.

Nothing loaded can run code.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from splatdistill.io.files import sync, write_text
from splatdistill.training.errors import RunFailure

TENSORS, META = "state.safetensors", "state.json"
MARGIN = 1 << 20  # bytes, for all but the tensors


def save(root: Path, *, step: int, tensors: dict[str, Tensor], meta: dict[str, Any], keep: int) -> Path:
    """Write ROOT/step_SSSSSS, read it back, point ROOT/latest at it, then drop all but the newest `keep`.

    RunFailure, one sentence, when that cannot be done: the checkpoints of before are then as they were.
    """
    final = root / f"step_{step:06d}"
    if _latest(root) == final:  # a run is a function of its settings: this step is saved already
        return final
    temporary = root / f".{final.name}.{os.getpid()}.tmp"  # `files.sweep` knows the shape of this name
    values = {name: value.detach().contiguous().cpu() for name, value in tensors.items()}
    need = MARGIN + sum(value.nbytes for value in values.values())
    try:
        root.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(root).free < need:
            raise OSError("the disk is full")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        _write(temporary, values, json.dumps({"step": step, **meta}, indent=1))
        shutil.rmtree(final, ignore_errors=True)  # left by a save that ended before `latest` pointed at it
        temporary.rename(final)
        sync(root)
        write_text(root / "latest", final.name)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise RunFailure(
            f"checkpoint: step {step} could not be saved in {root} ({reason}); it needs {need} bytes there; "
            f"make room and go on with --resume {root.parent}, where the last checkpoint is untouched."
        ) from error
    for old in sorted(p for p in root.glob("step_*") if p.is_dir() and p != final)[: -(keep - 1) or None]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def load(root: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The checkpoint that ROOT/latest names: its tensors like those that were saved, and what was saved beside them.
    ValueError, one sentence, when there is none or it does not load.
    """
    folder = _latest(root)
    if folder is None:
        raise ValueError(f"resume: {root.parent} has no checkpoint yet; start the run again without --resume.")
    try:
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        return load_file(folder / TENSORS), {**meta, "step": int(meta["step"])}
    except Exception as error:
        raise ValueError(f"resume: the checkpoint {folder} cannot be read ({type(error).__name__}).") from error


def _write(folder: Path, tensors: Mapping[str, Tensor], meta: str) -> None:
    """Both files, synced, once they have been read back."""
    save_file(dict(tensors), folder / TENSORS)
    (folder / META).write_text(meta, encoding="utf-8")
    shutil.copymode(folder / META, folder / TENSORS)  # safetensors makes files that only their owner may read
    for path in (folder / TENSORS, folder / META, folder):
        sync(path)
    back = load_file(folder / TENSORS)
    if back.keys() != tensors.keys() or not all(_same(value, tensors[name]) for name, value in back.items()):
        raise OSError("what was written is not what is read back")


def _same(a: Tensor, b: Tensor) -> bool:
    """Bit for bit, so that a value that is not a number equals itself."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))


def _latest(root: Path) -> Path | None:
    pointer = root / "latest"
    name = pointer.read_text(encoding="utf-8", errors="replace").strip() if pointer.is_file() else ""
    return root / name if re.fullmatch(r"step_[0-9]+", name) else None
