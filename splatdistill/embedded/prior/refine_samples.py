"""Draws from the refiner by DDIM, four views a sample, and says which of a noun's models each has become.

`python -m splatdistill.embedded.prior.refine_samples --run DIR --corpus DIR --features DIR --instances DIR
    --out grid.png`
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from itertools import pairwise
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from splatdistill.embedded.corpus.captions import tint_of
from splatdistill.embedded.prior.refiner import RefineConfig, RefineTrainer, schedule
from splatdistill.embedded.prior.rings import VIEWS
from splatdistill.embedded.prior.samples import ddim_step, ddim_timesteps
from splatdistill.embedded.prior.train_refiner import WARM, add_sources, prepare, read_rings
from splatdistill.priors.gbuffer import paint, rgba_white
from splatdistill.priors.instances import Instances
from splatdistill.priors.mixture import choose, seed_logits
from splatdistill.priors.refine import infer_posterior
from splatdistill.priors.zbuffer import draw
from splatdistill.scene.cameras import camera_token, orbit

SIZE = 64
NOUNS = ("chair", "sofa", "car", "dog", "lamp", "tree", "robot", "castle", "fish", "armchair", "table", "bed")


@torch.no_grad()
def candidates(
    instances: Instances, numbers: list[int], tints: Tensor, *, elevation_deg: float
) -> tuple[Tensor, Tensor]:
    """Pictures [K,4,4,H,W] of meshes in paints [3,3] from front, right, back and left, and camera tokens [4,16]."""
    one = torch.ones(VIEWS)
    cameras = orbit(
        azimuth=torch.arange(VIEWS) * (math.pi / 2), elevation=one * math.radians(elevation_deg), radius=one * 3.5,
        fovy=one * 0.65, size=SIZE,
    )  # fmt: skip
    pictures = []
    for number in numbers:
        seen = draw(instances.mesh(number), cameras, size=SIZE)
        bare = torch.tensor(instances.known[number].luminance).expand(VIEWS, 3)
        pictures.append(rgba_white(*paint(seen, tints.expand(VIEWS, 3, 3), luminance=bare)))
    return torch.stack(pictures), camera_token(cameras)


@torch.no_grad()
def ddim(
    trainer: RefineTrainer,
    known: Tensor,
    cameras: Tensor,
    *,
    logits: Tensor,
    temperature: float,
    seed: int,
    steps: int = 25,
) -> tuple[Tensor, int]:
    """The pictures [4,4,H,W] of a sample among candidates `known` [K,4,4,H,W], and which candidate it ended at.
    cameras: [4,16]; logits: [K], the prior of the candidates.
    """
    power = schedule().alphas_cumprod
    x = torch.randn(known.shape[1:], generator=torch.Generator().manual_seed(seed))
    weight, x0 = torch.empty(0), x
    for now, then in pairwise(ddim_timesteps(steps).tolist()):
        alpha, sigma = power[now].sqrt(), (1 - power[now]).sqrt()
        found = infer_posterior(
            x[None], known, accuracy=trainer.accuracies[0], alpha=alpha[None], sigma=sigma[None], logits=logits,
            temperature=temperature,
        )  # fmt: skip
        weight = found.weight
        out, base, unit = trainer.refiner(
            x, torch.full((VIEWS,), now), features=found.features[0], spread=found.spread[0], between=found.between[0],
            cameras=cameras, alpha=alpha, sigma=sigma,
        )  # fmt: skip
        x0 = (base + unit * out).clamp(-1, 1)
        x = ddim_step(x, x0, power[now], power[then])
    return x0, int(weight[:, 0].argmax())


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 1 with one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m splatdistill.embedded.prior.refine_samples", description=__doc__)
    add_sources(parser)
    for name in ("run", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--nouns", nargs="+", default=NOUNS)
    parser.add_argument("--colours", nargs="*", default=[], help="of the first, second and third paint")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--temperature", type=float, default=64.0)
    parser.add_argument("--scale", type=float, default=3.0, help="of the seed's logits; 0 leaves the mixture open")
    args = parser.parse_args(argv)
    try:
        config = RefineConfig()
        trainer = prepare(config, rings=read_rings(args, seed=config.seed), out=args.run, warm=WARM)
        instances = Instances.load(args.instances)
        if unknown := [noun for noun in args.nouns if noun not in instances.of_noun]:
            raise ValueError(f"The meshes hold no {', '.join(unknown)}.")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    tints = torch.full((3, 3), torch.nan)
    for slot, colour in enumerate(args.colours):
        tints[slot] = torch.from_numpy(tint_of(colour))
    rows = []
    with trainer.averaged():
        for noun in args.nouns:
            strips = []
            for seed in range(args.seeds):
                numbers = choose(instances.of_noun[noun], seed=seed)
                known, cameras = candidates(instances, numbers, tints, elevation_deg=15)
                logits = seed_logits(numbers, seed=seed, scale=args.scale)
                x0, which = ddim(trainer, known, cameras, logits=logits, temperature=args.temperature, seed=seed)
                rms = float((x0 - known[which])[:, :3].square().mean().sqrt() / 2)
                print(
                    json.dumps({"noun": noun, "seed": seed, "became": instances.known[numbers[which]].key, "rms": rms})
                )
                strips += [torch.cat(list(x0[:, :3]), -1), torch.cat(list(known[which, :2, :3]), -1)]
            rows.append(torch.cat(strips, -1))
    grid = torch.cat(rows, -2).permute(1, 2, 0) * 0.5 + 0.5
    Image.fromarray((grid.clamp(0, 1) * 255).round().byte().numpy()).save(args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
