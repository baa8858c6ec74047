"""Finished runs, as the benchmarks judge them, and what a run depends on."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

from splatdistill import priors
from splatdistill.config.schema import TrainConfig
from splatdistill.evaluate import EvalObject
from splatdistill.io import ply


def subject(folder: Path, config: TrainConfig) -> EvalObject:
    """What `evaluate` judges of the run in a folder."""
    summary = json.loads((folder / "summary.json").read_text())
    return EvalObject(folder.name, config.prompt, ply.read(folder / "splats.ply"), config.camera, summary)


def ledger(config: TrainConfig) -> dict[str, str]:
    """What a run depends on: where these differ, it is another one."""
    return {"settings": repr(config), "prior": prior_hash()}


@cache
def prior_hash() -> str:
    """Of the weights that are shipped."""
    weights = hashlib.sha256()
    for path in sorted(priors.EMBEDDED.rglob("*.safetensors")):
        weights.update(path.read_bytes())
    return weights.hexdigest()[:16]
