"""The settings of a method before flags. Later sources win: defaults < the preset that the method names < the preset
of a kind of prior < a file.
"""

from __future__ import annotations

import importlib.resources
from dataclasses import replace
from pathlib import Path

from splatdistill.config.schema import GUIDANCE, METHODS, TrainConfig
from splatdistill.config.settings import Origins, flatten, keys, merge, shown
from splatdistill.config.yaml_reader import read


def load(method: str, *, file: Path | None = None, family: str = "") -> tuple[TrainConfig, Origins]:
    """The settings of a method before flags, and where each came from. file: YAML, or the name of a shipped preset.
    family: name of the shipped preset of a kind of prior, which lies under the file.

    ValueError, one sentence, for a file that is missing, an unknown key or a value of the wrong type. A file that
    names its method may not hold settings of another; one that names none may hold settings for several.
    """
    if method not in METHODS:
        raise ValueError(f"method: {shown(method)} is unknown; the methods are {', '.join(METHODS)}.")
    config = replace(TrainConfig(), method=method)
    origins = dict.fromkeys(flatten(config), "default")
    named = {"preset": GUIDANCE[method].preset, "prior": family}
    sources = [(origin, shipped(name)) for origin, name in named.items() if name]
    sources += [("file", find(file))] if file is not None else []
    for origin, path in sources:
        values = read(path)
        if values.get("method", method) != method:
            raise ValueError(f"{path}: its method is {shown(values['method'])}, but {method!r} was asked for.")
        if foreign := [name for name in METHODS if name in values and name != method and "method" in values]:
            raise ValueError(f"{path}: --method {method} does not read {foreign[0]!r}.")
        config = merge(config, values, where=str(path))
        origins |= {name: origin for name in keys(values) if name in origins}
    return config, origins


def shipped(name: str) -> Path:
    """Path of a YAML file that comes with the package, whether it is there or not."""
    try:
        root = Path(str(importlib.resources.files("splatdistill.configs")))
    except ModuleNotFoundError:  # run from a source tree that is not installed
        root = Path(__file__).resolve().parents[2] / "configs"
    return root / f"{name}.yaml"


def find(file: Path) -> Path:
    """`file` itself, or the shipped preset that it names."""
    if file.exists() or len(file.parts) > 1 or file.suffix:
        return file
    return path if (path := shipped(str(file))).exists() else file
