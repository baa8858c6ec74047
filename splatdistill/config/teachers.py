"""Families of teachers: the settings that each file of configs/priors holds, with the place where each was published.

A file is settings as any other, and two keys more. `family` says what the teachers are, and which other family the file
builds on. `of_methods` holds settings that only some methods take.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from splatdistill.config import yaml_reader

ABOUT, OF_METHODS = "family", "of_methods"
Layer = tuple[dict[str, Any], dict[str, str]]
"""Settings, and dotted name -> source."""


@dataclass(frozen=True)
class TeacherFamily:
    """name: of its file. about: what its teachers are. camera_conditioned: whether they take the camera
    of a view. alpha: whether their pictures have it. layers: settings for one method, later ones over earlier ones.
    """

    name: str
    about: str
    camera_conditioned: bool
    alpha: bool
    layers: tuple[Layer, ...]

    @property
    def sources(self) -> dict[str, str]:
        """Dotted name -> where the value was published, or "ours" and why."""
        return {name: source for _, sources in self.layers for name, source in sources.items()}

    def refuse(self, method: str, *, needs_cameras: bool, fits_views: bool) -> None:
        """ValueError, one sentence, where these teachers cannot teach by a method. needs_cameras, fits_views: of the
        method.
        """
        if fits_views and not self.alpha:
            raise ValueError(
                f"method: {method} fits splats to pictures with alpha, and those of {self.about} have none; use "
                "another method, or --prior embedded."
            )
        if needs_cameras and not self.camera_conditioned:
            raise ValueError(
                f"method: {method} tells views apart by their cameras, and {self.about} cannot take them; use "
                "another method, or --prior embedded or mvdream."
            )


def load(path: Path, *, method: str) -> TeacherFamily:
    """The family of a file, with its settings for a method; the file it builds on is in the same folder."""
    values = yaml_reader.read(path)
    about = values.pop(ABOUT)
    below = load(path.with_name(f"{about['base']}.yaml"), method=method) if "base" in about else None
    made = below or TeacherFamily("", "", camera_conditioned=False, alpha=False, layers=())
    layers = [*made.layers, *_layers(values, yaml_reader.comments(path), method)]
    conditioned = about.get("camera_conditioned", made.camera_conditioned)
    return replace(
        made, name=path.stem, about=about["about"], camera_conditioned=conditioned,
        alpha=about.get("alpha", made.alpha), layers=tuple(layers),
    )  # fmt: skip


def usual_method(path: Path) -> tuple[str, str]:
    """The method that the teachers of a file teach by where none is asked for, and why; both "" where it names none."""
    usual = yaml_reader.read(path)[ABOUT].get("method", "")
    return usual, yaml_reader.comments(path).get(f"{ABOUT}.method", "")


def sampling_guidance(path: Path) -> float:
    """How much a prompt counts where the teachers of a file draw pictures by themselves, eps_u + s (eps_c - eps_u)."""
    about = yaml_reader.read(path)[ABOUT]
    if "sampling_guidance" in about:
        return float(about["sampling_guidance"])
    return sampling_guidance(path.with_name(f"{about['base']}.yaml"))


def _layers(values: dict[str, Any], sources: Mapping[str, str], method: str) -> Iterator[Layer]:
    """What one file says to every method, then what it says to this one."""
    special = values.pop(OF_METHODS, {})
    yield values, {name: source for name, source in sources.items() if not name.startswith(f"{OF_METHODS}.")}
    for methods, extra in special.items():
        if method in methods.split(", "):
            start = f"{OF_METHODS}.{methods}."
            yield extra, {name.removeprefix(start): s for name, s in sources.items() if name.startswith(start)}
