"""The settings of a method before flags. Later sources win: defaults < the family of the prior < a file."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from splatdistill.config import teachers
from splatdistill.config.schema import GUIDANCE, METHODS, TrainConfig
from splatdistill.config.settings import Origins, flatten, keys, laid_over, merge, methods_of, shown, without
from splatdistill.config.yaml_reader import read

OF_A_STAGE = ("size", "views")
"""What a stage takes from the family of its prior, with the settings of the method."""

USUAL_GUIDANCE = 7.5
"""Of pictures that a diffusion model draws by itself, where nothing says another."""


def load(method: str, *, file: Path | None = None, family: str = "embedded") -> tuple[TrainConfig, Origins]:
    """The settings of a method before flags, and where each came from. file: YAML, or the name of a shipped recipe.
    family: that of the prior, a file of configs/priors; "" for none.

    ValueError, one sentence, for a file that is missing, an unknown key, a value of the wrong type, or a family that
    cannot teach by the method. A file that names its method may not hold settings of another; one that names none may
    hold settings for several.
    """
    if method not in METHODS:
        raise ValueError(f"method: {shown(method)} is unknown; the methods are {', '.join(METHODS)}.")
    config = replace(TrainConfig(), method=method)
    origins = dict.fromkeys(flatten(config), "default")
    if family:
        config = with_family(config, find_family(family, method), origins)
    if file is None:
        return config, origins
    path = find(file)
    values = read(path)
    if values.get("method", method) != method:
        raise ValueError(f"{path}: its method is {shown(values['method'])}, but {method!r} was asked for.")
    named = keys(values)
    config = merge(without_stages(config, named, origins), values, where=str(path))
    if foreign := [name for name in METHODS if name in values and name not in methods_of(config)]:
        if "method" in values:
            raise ValueError(f"{path}: --method {method} does not read {foreign[0]!r}.")
    return config, origins | {name: "file" for name in named if name in origins}


def find_family(name: str, method: str) -> teachers.TeacherFamily:
    """A family with its settings for a method. ValueError, one sentence, where it cannot teach by that method."""
    family = teachers.load(shipped(f"priors/{name}"), method=method)
    kind = GUIDANCE[method]
    family.refuse(method, needs_cameras=kind.needs_cameras, fits_views=kind.fits_views)
    return family


def usual_method(family: str) -> tuple[str, str]:
    """The method that a family teaches by where none is asked for, and why; both "" where it does not say."""
    return teachers.usual_method(shipped(f"priors/{family}")) if family else ("", "")


def sampling_guidance(family: str) -> float:
    """The guidance scale of the pictures that teachers of a family draw by themselves: 7.5 without a family."""
    return teachers.sampling_guidance(shipped(f"priors/{family}")) if family else USUAL_GUIDANCE


def with_family(config: TrainConfig, family: teachers.TeacherFamily, origins: Origins) -> TrainConfig:
    """`config` with the settings of a family laid over it; `origins` learns where each is from."""
    for values, _ in family.layers:
        config = merge(config, values, where=family.name)
    known = {name: f"prior {family.name}: {source}" for name, source in family.sources.items() if name in origins}
    origins.update(known)
    return config


def with_stage_families(config: TrainConfig, family_of: Callable[[str], str]) -> TrainConfig:
    """`config` whose stages with another prior hold what the family of that prior says to the method, under their own
    settings. family_of: a prior's. ValueError, one sentence, where a teacher cannot teach by the method.
    """
    stages: list[dict[str, Any]] = []
    method = config.method
    for stage in config.stages:
        before, method = method, str(stage.get("method", method))
        family = family_of(str(stage["prior"])) if "prior" in stage and method in METHODS else ""
        for values, _ in reversed(find_family(family, method).layers if family else ()):
            own = {key: value for key, value in values.items() if key in (*OF_A_STAGE, method)}
            learned = GUIDANCE[method].learned if method == before else ()  # what is learned, a stage cannot change
            stage = laid_over(without(own, {f"{method}.{name}" for name in learned}), stage)
        stages.append(stage)
    return replace(config, stages=tuple(stages))


def without_stages(config: TrainConfig, named: Iterable[str], origins: Origins) -> TrainConfig:
    """`config` whose stages, where a family set them, change none of the settings that a file or a flag `named`."""
    if not origins.get("stages", "").startswith("prior"):
        return config
    kept = [without(stage, set(named)) for stage in config.stages]
    return replace(config, stages=tuple(stage for stage in kept if stage.keys() > {"start"}))


def shipped(name: str) -> Path:
    """Path of a YAML file that comes with the package, whether it is there or not."""
    try:
        root = Path(str(importlib.resources.files("splatdistill.configs")))
    except ModuleNotFoundError:  # run from a source tree that is not installed
        root = Path(__file__).resolve().parents[2] / "configs"
    return root / f"{name}.yaml"


def find(file: Path) -> Path:
    """`file` itself, or the shipped recipe that it names."""
    if file.exists() or len(file.parts) > 1 or file.suffix:
        return file
    return path if (path := shipped(str(file))).exists() else file
