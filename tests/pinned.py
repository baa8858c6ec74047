"""fp32 for every test, on whatever processor: a cache that says so, which commands that a test starts read too."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from splatdistill.utils.cpu import processor


def pin_fp32(folder: Path) -> None:
    """Writes into a cache folder that bf16 is no faster here."""
    timings = {"fp32_ms": 1.0, "bf16_ms": 1.0}
    (folder / "precision.json").write_text(json.dumps({f"{processor()}, torch {torch.__version__}": timings}))
