"""Checkpoints that are whole or absent: safetensors + JSON in a folder that appears by rename.

Nothing loaded can run code.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from splatdistill.io.files import sync, write_text


def save(root: Path, *, step: int, tensors: dict[str, Tensor], meta: dict[str, Any], keep: int) -> Path:
    """Write ROOT/step_SSSSSS, point ROOT/latest at it, then drop all but the newest `keep`."""
    root.mkdir(parents=True, exist_ok=True)
    final = root / f"step_{step:06d}"
    if _latest(root) == final:  # a run is a function of its settings: this step is saved already
        return final
    temporary = root / f".tmp_{final.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    save_file(
        {name: value.detach().contiguous().cpu() for name, value in tensors.items()}, temporary / "state.safetensors"
    )
    (temporary / "state.json").write_text(json.dumps({"step": step, **meta}, indent=1))
    for path in (*temporary.iterdir(), temporary):
        sync(path)
    shutil.rmtree(final, ignore_errors=True)  # left by a save that ended before `latest` pointed at it
    temporary.rename(final)
    sync(root)
    write_text(root / "latest", final.name)
    for old in sorted(p for p in root.glob("step_*") if p.is_dir() and p != final)[: -(keep - 1) or None]:
        shutil.rmtree(old)
    return final


def load(root: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The checkpoint that ROOT/latest names. ValueError, one sentence, when there is none or it does not load."""
    folder = _latest(root)
    if folder is None:
        raise ValueError(f"resume: {root.parent} has no checkpoint yet; start the run again without --resume.")
    try:
        meta = json.loads((folder / "state.json").read_text())
        tensors = load_file(folder / "state.safetensors")
    except Exception as error:
        raise ValueError(f"resume: the checkpoint {folder} cannot be read ({type(error).__name__}).") from error
    return tensors, meta


def _latest(root: Path) -> Path | None:
    pointer = root / "latest"
    return root / pointer.read_text().strip() if pointer.is_file() else None
