"""Whether another seed gives another model: of nouns with four models or more, which model each of eight seeds becomes.

`python benchmarks/prior_seeds.py --json FILE --sheet FILE.png`

A model is known by the nearest render: of all models of the noun, the one whose views differ least from those of the
splats. `of_uniform` divides the mean number of distinct models by what eight draws from all alike would give, a noun of
K models K (1 - (1 - 1/K)^8). Its interval draws nouns anew. A seed that changed nothing would give one model: that
share is `of_one`. The seed favours a model from the start, which costs no run to know: `favoured` is the same figure of
the favourites of every such noun, and `as_favoured` the share of runs that became theirs. Runs are those of the default
method. Nouns that FILE holds of the same commit are not run again.
"""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import commit, machine
from prior_words import add_row, done, nearest, show, train
from torch import Tensor

from splatdistill import priors
from splatdistill.config import presets
from splatdistill.config.schema import TrainConfig
from splatdistill.priors.candidates import Candidates
from splatdistill.priors.known import KnownPrior
from splatdistill.priors.mixture import choose, seed_logits
from splatdistill.scene.cameras import turntable
from splatdistill.scene.types import Cameras

COMMAND = "python benchmarks/prior_seeds.py --json FILE --sheet FILE.png"
SEEDS = range(8)
FEWEST = 4
VIEWS, SIZE = 8, 64
DRAWS = 10_000


def chosen_nouns(prior: KnownPrior, number: int) -> list[str]:
    """Of the nouns with FEWEST models or more, all with a look of their own."""
    known = prior.instances.known
    of = {noun: numbers for noun, numbers in prior.instances.of_noun.items() if len(numbers) >= FEWEST}
    nouns = sorted(noun for noun, numbers in of.items() if not any(known[n].bare for n in numbers))
    return sorted(random.Random(0).sample(nouns, min(number, len(nouns))))  # noqa: S311


def models_of(prior: KnownPrior, noun: str, cameras: Cameras) -> list[Tensor]:
    """[V,4,H,W] of every model of a noun, as it looks by itself."""
    numbers = prior.instances.of_noun[noun]
    every = Candidates(numbers, torch.full((len(numbers), 3, 3), torch.nan), torch.zeros(len(numbers)))
    return list(prior.pictures(every, range(len(numbers)), cameras, size=SIZE))


def measure(prior: KnownPrior, config: TrainConfig, noun: str) -> tuple[dict[str, Any], Tensor]:
    """What eight seeds of a noun become, and a view of each [8,H,W,3]."""
    cameras = turntable(config.camera, num_frames=VIEWS, size=SIZE)
    known, numbers = models_of(prior, noun, cameras), prior.instances.of_noun[noun]
    found, strip = [], []
    for seed in SEEDS:
        rgb, _ = show(train(prior, replace(config, prompt=f"a {noun}", seed=seed)), cameras)
        found.append(prior.instances.known[numbers[nearest(known, rgb)]].key)
        strip.append(rgb[1])
    row = {"noun": noun, "models": len(numbers), "became": found, "distinct": len(set(found)),
           "uniform": round(uniform(len(numbers)), 2)}  # fmt: skip
    return row, torch.stack(strip)


def uniform(models: int, draws: int = len(SEEDS)) -> float:
    """Distinct models in so many draws from all alike."""
    return models * (1 - (1 - 1 / models) ** draws)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", default="embedded")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--sheet", type=Path, required=True)
    parser.add_argument("--nouns", type=int, default=16)
    args = parser.parse_args()
    torch.set_num_threads(1)
    prior = priors.load(args.prior, device=torch.device("cpu"), dtype="auto")
    assert isinstance(prior, KnownPrior)
    config = replace(presets.load(presets.usual_method("embedded")[0])[0], prior=args.prior)
    rows = done(args.json, args.sheet, "nouns")
    for noun in chosen_nouns(prior, args.nouns):
        if all(row["noun"] != noun for row in rows):
            row, pictures = measure(prior, config, noun)
            print(json.dumps(row), flush=True)
            rows.append(row)
            add_row(args.sheet, pictures)
            result = {"command": f"{COMMAND} --nouns {args.nouns}", "commit": commit(),
                      "machine": machine(), "seeds": len(SEEDS), **summary(prior, rows), "nouns": rows}  # fmt: skip
            args.json.write_text(json.dumps(result, indent=1) + "\n")


def favourite(prior: KnownPrior, noun: str, seed: int) -> str:
    """The key of the model that a seed makes likeliest."""
    numbers = choose(prior.instances.of_noun[noun], seed=seed)
    logits = seed_logits(numbers, seed=seed, scale=prior.scale)
    return prior.instances.known[numbers[int(logits.argmax())]].key


def summary(prior: KnownPrior, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of all nouns."""
    wide = [noun for noun, numbers in prior.instances.of_noun.items() if len(numbers) >= FEWEST]
    favourites = {noun: [favourite(prior, noun, seed) for seed in SEEDS] for noun in wide}
    most = sum(uniform(len(prior.instances.of_noun[noun])) for noun in wide)
    agree = [key == one for row in rows for key, one in zip(row["became"], favourites[row["noun"]], strict=True)]
    distinct, expected = (np.array([row[name] for row in rows], dtype=float) for name in ("distinct", "uniform"))
    draws = np.random.default_rng(0).integers(0, len(rows), (DRAWS, len(rows)))
    low, high = np.percentile(distinct[draws].mean(1) / expected[draws].mean(1), (2.5, 97.5))
    return {
        "distinct": round(float(distinct.mean()), 3), "uniform": round(float(expected.mean()), 3),
        "of_uniform": round(float(distinct.mean() / expected.mean()), 3),
        "interval": [round(float(low), 3), round(float(high), 3)],
        "of_one": round(float(1 / expected.mean()), 3),
        "favoured": {"nouns": len(wide), "of_uniform": round(sum(len(set(f)) for f in favourites.values()) / most, 3)},
        "as_favoured": round(sum(agree) / len(agree), 3),
    }  # fmt: skip


if __name__ == "__main__":
    main()
