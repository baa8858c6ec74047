"""Experiment trackers beside a run's own record: TensorBoard, and Weights & Biases without its servers.

Both write into the run folder. Weights & Biases stays offline unless WANDB_MODE says otherwise; `wandb sync` uploads.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from splatdistill.io import video
from splatdistill.io.video import Picture
from splatdistill.training.run_log import Log


class TensorBoard:
    """Scalars, counts of densify and images as TensorBoard reads them, in FOLDER/tensorboard."""

    shows = True

    def __init__(self, folder: Path, step: int) -> None:
        """step: the last one that stays; those behind it are written anew."""
        module: Any = importlib.import_module("torch.utils.tensorboard")
        self._writer: Any = module.SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)

    def metrics(self, step: int, **values: float) -> None:
        for name, value in values.items():
            self._writer.add_scalar(f"train/{name}", value, step)

    def event(self, kind: str, *, step: int, **values: Any) -> None:
        for name, value in _numbers(values).items():
            self._writer.add_scalar(f"{kind}/{name}", value, step)

    def summary(self, **fields: Any) -> None: ...

    def images(self, step: int, **images: Picture) -> None:
        """Each [H,W,3] by its side."""
        for side, image in images.items():
            self._writer.add_image(f"preview/{side}", video.to_uint8(image), step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """The same as a run of Weights & Biases, in FOLDER/wandb."""

    shows = True

    def __init__(self, folder: Path, step: int) -> None:
        """step: what of earlier steps is on record stays there."""
        self._wandb: Any = importlib.import_module("wandb")
        self._run: Any = self._wandb.init(
            project="splatdistill",
            name=folder.resolve().name,
            dir=str(folder),
            mode=os.environ.get("WANDB_MODE", "offline"),
            settings=self._wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True),
        )

    def metrics(self, step: int, **values: float) -> None:
        self._run.log({f"train/{name}": value for name, value in values.items()}, step=step)

    def event(self, kind: str, *, step: int, **values: Any) -> None:
        if numbers := _numbers(values):
            self._run.log({f"{kind}/{name}": value for name, value in numbers.items()}, step=step)

    def summary(self, **fields: Any) -> None:
        self._run.summary.update(fields)

    def images(self, step: int, **images: Picture) -> None:
        """Each [H,W,3] by its side."""
        made = {f"preview/{side}": self._wandb.Image(video.to_uint8(image)) for side, image in images.items()}
        self._run.log(made, step=step)

    def close(self) -> None:
        self._run.finish()


TRACKERS: Mapping[str, tuple[Callable[[Path, int], Log], str]] = {
    "tensorboard": (TensorBoard, "tensorboard"),
    "wandb": (WeightsAndBiases, "wandb"),
}
"""Each with the package that it needs."""


def chosen(names: str | Sequence[str]) -> tuple[str, ...]:
    """Names of trackers from a text with commas or a list. ValueError, one sentence, for one that is unknown or whose
    package is not installed.
    """
    given = names.split(",") if isinstance(names, str) else names
    found = tuple(dict.fromkeys(name.strip() for name in given if name.strip()))
    for name in found:
        if name not in TRACKERS:
            raise ValueError(f"log: {name!r} is unknown; there are {' and '.join(TRACKERS)}.")
        if find_spec(TRACKERS[name][1]) is None:
            raise ValueError(f"log: {name} is not installed; pip install 'splatdistill[log]' brings it.")
    return found


def make(names: Sequence[str], folder: Path, *, step: int) -> list[Log]:
    """The trackers of these names for the run in `folder`, from a step on."""
    return [TRACKERS[name][0](folder, step) for name in names]


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in values.items() if isinstance(value, int | float)}
