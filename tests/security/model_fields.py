"""Whole model folders with one tensor left out, or one field of a configuration changed, each in turn.

A prior of it must be refused with one sentence, or load and draw: `python -m tests.security.model_fields FOLDER` does
all fields of two families, and prints what was neither as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from splatdistill import priors
from splatdistill.config.schema import CameraConfig
from splatdistill.priors.base import Choice
from splatdistill.scene.cameras import turntable
from tests.priors import families

VALUES: tuple[Any, ...] = (None, "x", -1, 0, 3, 0.5, [], {}, True)
FAMILIES = (families.sd15, families.deepfloyd)


def fields(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every field of every small file of a model folder, also those inside of others."""
    for path in sorted(folder.rglob("*.json")):
        if path.name not in ("tokenizer.json", "vocab.json"):
            yield from ((path, name) for name in _names(json.loads(path.read_text())))


def _names(node: Any, prefix: str = "") -> Iterator[str]:
    for key, value in node.items() if isinstance(node, dict) else ():
        yield f"{prefix}{key}"
        yield from _names(value, f"{prefix}{key}.")


def changed(path: Path, name: str, value: Any) -> str:
    """The text of a file with that field set."""
    config = json.loads(path.read_text())
    *parents, key = name.split(".")
    node = config
    for parent in parents:
        node = node[parent]
    node[key] = value
    return json.dumps(config)


def without_tensors(path: Path) -> Iterator[tuple[str, Path]]:
    """The file with each tensor left out in turn, put back at the end."""
    whole, data = load_file(path), path.read_bytes()
    for name in whole:
        save_file({key: value for key, value in whole.items() if key != name}, path, {"format": "pt"})
        yield name, path
    path.write_bytes(data)


def drawn(folder: Path) -> str:
    """What became of loading it, reading a prompt and a call of its networks: "refused", "draws", or what it raised."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            prior: Any = priors.load(str(folder), device=torch.device("cpu"), dtype="fp32")
            views = turntable(CameraConfig(), num_frames=1, size=16)
            prior.begin(Choice("a chair"))
            condition = prior.embed("a chair", views)
            x0 = prior.encode(torch.zeros(1, prior.image_size, prior.image_size, 3))
            prior.predict(x0, torch.tensor([500]), [condition])
    except ValueError as error:
        said = str(error)
        return "refused" if said and "\n" not in said and len(said) < 1000 else f"no sentence: {said[:200]!r}"
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    return "draws"


def main(args: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, default=1, help="only each so manieth field")
    flags = parser.parse_args(args)
    torch.set_num_threads(1)
    counts: dict[str, int] = {}
    bad = []
    for make in FAMILIES:
        folder = make(flags.folder / make.__name__)
        assert drawn(folder) == "draws"
        for index, (path, name) in enumerate(list(fields(folder))):
            if index % flags.every:
                continue
            before, value = path.read_text(), VALUES[(index // flags.every) % len(VALUES)]
            path.write_text(changed(path, name, value))
            end = drawn(folder)
            path.write_text(before)
            if end not in ("refused", "draws"):
                bad.append(f"{path.relative_to(flags.folder)}: {name} = {value!r}: {end}")
            kind = end if end in ("refused", "draws") else "bare"
            counts[kind] = counts.get(kind, 0) + 1
    print(json.dumps({**counts, "bad": bad}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
