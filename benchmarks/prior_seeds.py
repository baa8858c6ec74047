"""Whether another seed gives another model: of nouns with four models or more, which model each of eight seeds becomes.

`python benchmarks/prior_seeds.py --json FILE --sheet FILE.png`

A model is told by the nearest render: of all models of the noun, the one whose views differ least from those of the
splats. `of_uniform` divides the mean number of distinct models by what eight draws from all alike would give, a noun of
K models K (1 - (1 - 1/K)^8). Its interval draws nouns anew.
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
from PIL import Image
from prior_words import nearest
from torch import Tensor

from splatdistill import priors
from splatdistill.config import presets
from splatdistill.config.schema import TrainConfig
from splatdistill.priors.known import Candidates, KnownPrior
from splatdistill.scene.cameras import turntable
from splatdistill.training.run_log import NoLog
from splatdistill.training.trainer import Trainer

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


def becomes(prior: KnownPrior, config: TrainConfig, noun: str) -> tuple[int, Tensor]:
    """Which of the noun's models a run becomes, and its pictures [V,H,W,3]."""
    trainer = Trainer(config, prior=prior, device=torch.device("cpu"))
    for _ in range(config.steps):
        trainer.advance(NoLog())
    cameras = turntable(config.camera, num_frames=VIEWS, size=SIZE)
    with torch.no_grad():
        rgb = trainer.renderer.render(trainer.splats, cameras, background=torch.ones(VIEWS, 3)).rgb
    numbers = prior.instances.of_noun[noun]
    everything = Candidates(numbers, torch.full((len(numbers), 3, 3), torch.nan), torch.zeros(len(numbers)))
    return numbers[nearest(prior, everything, rgb, cameras)], rgb


def uniform(models: int, draws: int = len(SEEDS)) -> float:
    """Distinct models in so many draws from all alike."""
    return models * (1 - (1 - 1 / models) ** draws)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", default="embedded")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--sheet", type=Path, required=True)
    parser.add_argument("--nouns", type=int, default=16)
    parser.add_argument("--steps", type=int, default=100)
    args = parser.parse_args()
    torch.set_num_threads(1)
    prior = priors.load(args.prior, device=torch.device("cpu"), dtype="fp32")
    assert isinstance(prior, KnownPrior)
    base, _ = presets.load("sds")
    rows: list[dict[str, Any]] = []
    pictures = []
    for noun in chosen_nouns(prior, args.nouns):
        found, strip = [], []
        for seed in SEEDS:
            settings = replace(base, prompt=f"a {noun}", prior=args.prior, steps=args.steps, seed=seed)
            number, rgb = becomes(prior, settings, noun)
            found.append(prior.instances.known[number].key)
            strip.append(rgb[1])
        models = len(prior.instances.of_noun[noun])
        rows.append({"noun": noun, "models": models, "became": found, "distinct": len(set(found)),
                     "uniform": round(uniform(models), 2)})  # fmt: skip
        print(json.dumps(rows[-1]), flush=True)
        pictures.append(torch.cat(strip, 1))
    distinct, expected = (np.array([row[name] for row in rows], dtype=float) for name in ("distinct", "uniform"))
    draws = np.random.default_rng(0).integers(0, len(rows), (DRAWS, len(rows)))
    low, high = np.percentile(distinct[draws].mean(1) / expected[draws].mean(1), (2.5, 97.5))
    result = {
        "command": f"{COMMAND} --nouns {args.nouns} --steps {args.steps}", "commit": commit(), "machine": machine(),
        "seeds": len(SEEDS), "distinct": round(float(distinct.mean()), 3), "uniform": round(float(expected.mean()), 3),
        "of_uniform": round(float(distinct.mean() / expected.mean()), 3), "interval": [round(low, 3), round(high, 3)],
        "nouns": rows,
    }  # fmt: skip
    args.json.write_text(json.dumps(result, indent=1) + "\n")
    Image.fromarray((torch.cat(pictures).clamp(0, 1) * 255).round().byte().numpy()).save(args.sheet)


if __name__ == "__main__":
    main()
