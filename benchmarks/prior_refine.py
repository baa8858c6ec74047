"""Whether the denoiser gains from the known meshes: squared error of x0 on views that neither the fit nor the
training saw, with and without the network, at the exact posterior and at blends of candidates.

`python benchmarks/prior_refine.py --corpus DIR --instances DIR --features DIR --run DIR --json FILE`
"""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from common import commit, machine
from torch import Tensor

from splatdistill.embedded.prior.refiner import RefineConfig, RefineTrainer
from splatdistill.embedded.prior.rings import RingPlan
from splatdistill.embedded.prior.train_refiner import WARM, add_sources, prepare, read_rings
from splatdistill.priors.mixture import MOST, blend, keep_likely
from splatdistill.priors.refine import infer_posterior

COMMAND = "python benchmarks/prior_refine.py --corpus DIR --instances DIR --features DIR --run DIR --json FILE"
TIMES = (999, 990, 980, 970, 950, 900, 800, 600, 400, 200, 100)
TEMPERATURES = (1.0, 64.0, 256.0)
COLOURS = 3  # of the four channels: errors are of the picture on white


@torch.no_grad()
def errors(trainer: RefineTrainer, rings: list[RingPlan], *, t: int, temperature: float, seed: int) -> dict[str, float]:
    """Means over the rings. To the picture that is shown; where it blends, also to the mean of the candidates' pictures
    under the very weights, which is what a tempered prior ought to answer.
    """
    draw = torch.Generator().manual_seed(seed)
    power = trainer.signal_power[t]
    alpha, sigma = power.sqrt(), (1 - power).sqrt()
    sums: dict[str, list[float]] = {}
    for ring in rings:
        truth = trainer.rings.truth(ring, torch.arange(len(ring.numbers)))
        known, place = trainer.rings.known_pictures(ring), int(ring.target)
        shown = truth[place]
        xt = alpha * shown + sigma * torch.randn(shown.shape, generator=draw)
        found = infer_posterior(
            xt[None], known, accuracy=trainer.accuracies[0], alpha=alpha[None], sigma=sigma[None], logits=ring.logits,
            temperature=temperature,
        )  # fmt: skip
        weight, features = found.weight, found.features
        ought, _ = blend(keep_likely(weight), truth[:, None])
        out, base, unit = trainer.refiner(
            xt, torch.full((len(xt),), t), features=features[0], spread=found.spread[0], between=found.between[0],
            cameras=trainer.rings.cameras(ring)[0], alpha=alpha, sigma=sigma,
        )  # fmt: skip
        refined = base + unit * out
        for name, answer in (("features", features[0]), ("linear", base), ("network", refined)):
            sums.setdefault(name, []).append(_error(answer, shown))
            sums.setdefault(f"{name}_to_mean", []).append(_error(answer, ought[0]))
        sums.setdefault("weight_of_shown", []).append(float(weight[place, 0]))
        sums.setdefault("largest_weight", []).append(float(weight.max()))
    return {name: round(sum(values) / len(values), 5) for name, values in sums.items()}


def _error(answer: Tensor, shown: Tensor) -> float:
    return float((answer - shown)[:, :COLOURS].square().mean())


def test_rings(trainer: RefineTrainer, *, num: int, seed: int) -> list[RingPlan]:
    """Models of nouns with several, one ring each that was in no training, in their own colours;
    procedural objects are painted red.
    """
    draw = random.Random(seed)  # noqa: S311
    rings = trainer.rings
    several = [n for noun in rings.of_noun.values() if len(noun) > 1 for n in noun]
    out = []
    for shown in draw.sample(several, min(num, len(several))):
        others = [n for n in rings.of_noun[rings.known[shown].noun] if n != shown]
        numbers = [shown, *draw.sample(others, min(MOST - 1, len(others)))]
        tints = torch.full((3, 3), torch.nan)
        if rings.records[shown].toy:
            tints[:] = torch.tensor([[0.8, 0.07, 0.08], [0.1, 0.25, 0.8], [0.95, 0.82, 0.08]])
        last = len(rings.rings) - 1
        out.append(rings.ring(numbers, ring=last, tints=tints, logits=torch.zeros(len(numbers)), target=0))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_sources(parser)
    for name in ("run", "json"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--models", type=int, default=48, help="whose last ring is measured")
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = RefineConfig()
    trainer = prepare(config, rings=read_rings(args, seed=config.seed), out=args.run, warm=WARM)
    rings = test_rings(trainer, num=args.models, seed=0)
    result: dict[str, Any] = {
        "command": f"{COMMAND} --models {args.models}", "commit": commit(), "machine": machine(),
        "images": trainer.images, "models": len(trainer.rings.known), "rings": len(rings),
        "accuracy": asdict(trainer.accuracies[0]), "errors": {},
    }  # fmt: skip
    with trainer.averaged():
        for t in TIMES:
            for temperature in TEMPERATURES:
                row = errors(trainer, rings, t=t, temperature=temperature, seed=t)
                result["errors"][f"t={t} T={temperature:g}"] = row
                print(t, temperature, row, flush=True)
    args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
