"""Sampling the prior and fitting splats to the pictures, against SDS: which is nearer to real renders, at what cost?

    taskset -c 0 python benchmarks/sample_fit.py --runs DIR

For each of PROMPTS and SEEDS two objects are made, with cameras of one distribution, and the same splats, rates and
densification: by SDS with its defaults, and by fitting to RINGS * 4 pictures of 128 pixels, which DDIM draws from the
same prior in DDIM_STEPS steps. An ImageNet classifier judges both, with the bootstrap of steps_front.py. Runs that are
done are kept. Writes benchmarks/results/sample_fit.json and a sheet of both beside it.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import ROOT, commit, machine, progress
from evidence import write_json
from PIL import Image
from runs import subject
from steps_front import CHANCE, interval
from torch import Tensor

from splatdistill.config.presets import load
from splatdistill.config.schema import TrainConfig
from splatdistill.config.settings import merge, stages
from splatdistill.embedded.prior.samples import ddim_step, ddim_timesteps
from splatdistill.evaluate import SOLID_SIZE, draw, external, metrics
from splatdistill.priors.profiled import ProfiledPrior
from splatdistill.rendering.renderer import make_renderer
from splatdistill.scene import cameras as orbits
from splatdistill.scene.types import Cameras
from splatdistill.training.run import prepare, train
from splatdistill.training.run_log import RunLog
from splatdistill.training.step import Drawn, Scored, apply, render
from splatdistill.training.trainer import Trainer
from splatdistill.utils import rng
from splatdistill.utils.malloc import keep_freed_memory
from splatdistill.utils.progress import Progress

PROMPTS = (
    "an armchair", "a car", "a chair", "a chicken", "a dog", "a grand piano",
    "a hamburger", "a horse", "a lamp", "a motorcycle", "a mug", "a rabbit",
)  # fmt: skip
SEEDS = (0, 1, 2)
METHODS = ("sds", "sample-fit")
RINGS, DDIM_STEPS = 12, 20
OUT = ROOT / "benchmarks" / "results" / "sample_fit.json"
MARK = "cpu_seconds.json"
TILE = 96  # pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, help="where the run folders go")
    parser.add_argument("--prompts", type=int, default=len(PROMPTS), help="only the first so many")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="only the first so many")
    parser.add_argument("--json", type=Path, default=OUT)
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    rows, tiles = [], []
    judge, renderer = external.ImageNet(), make_renderer(torch.device("cpu"))
    for seed in SEEDS[: args.seeds]:
        for prompt in PROMPTS[: args.prompts]:
            for method in METHODS:
                config = config_of(prompt, seed)
                folder = args.runs / f"{method}-{prompt}-{seed}".replace(" ", "-")
                if not (folder / MARK).exists():
                    made(folder, config, method=method)
                thing = subject(folder, config)
                views = draw(thing, size=judge.image_size, renderer=renderer)
                large = draw(thing, size=SOLID_SIZE, renderer=renderer)
                said = judge.score(prompt, views.rgb, views.alpha, model=thing.summary.get("prior_model"))
                fog = metrics.solidity(large.alpha, torch.sigmoid(thing.splats.opacities))["fog"]
                rows.append({
                    "method": method, "prompt": prompt, "seed": seed, "mass": said["mass"], "real": said["real"],
                    "fog": fog, "num_splats": len(thing.splats), **json.loads((folder / MARK).read_text()),
                })  # fmt: skip
                progress(str(rows[-1]))
                if seed == 0:
                    tiles.append(tile(folder))
    result = {
        "command": "taskset -c 0 python benchmarks/sample_fit.py --runs DIR", "commit": commit(), "machine": machine(),
        "judge": judge.name, "pictures": 4 * RINGS, "ddim_steps": DDIM_STEPS, **compared(rows), "objects": rows,
    }  # fmt: skip
    write_json(result, args.json)
    sheet = np.concatenate([np.concatenate(tiles[k::2], 1) for k in range(2)], 0)
    Image.fromarray(sheet).save(args.json.with_suffix(".jpg"), quality=88)
    progress(str({key: value for key, value in result.items() if key != "objects"}))


def config_of(prompt: str, seed: int) -> TrainConfig:
    """The default, on one core."""
    fixed = {"threads": 1, "dtype": "fp32", "network_engine": "torch", "device": "cpu"}
    quiet = {"frames": 8, "preview_every": 10_000, "save_every": 10_000}
    return merge(load("sds")[0], {"prompt": prompt, "seed": seed, "output": quiet, **fixed}, where="sample_fit.py")


def made(folder: Path, config: TrainConfig, *, method: str) -> None:
    """One run; MARK, written last, holds what it cost."""
    begun = time.process_time()
    with Progress(total=config.steps) as shown:
        if method == "sds":
            trainer = train(config, folder=folder, progress=shown)
        else:
            trainer = fitted(folder, config, progress=shown)
    cost = {"cpu_seconds": time.process_time() - begun, "image_evaluations": trainer.prior.stopwatch.images}
    write_json(cost, folder / MARK)


def fitted(folder: Path, config: TrainConfig, *, progress: Progress) -> Trainer:
    """Fits the splats of a run to pictures that the prior draws, with all else as the run has it."""
    trainer, _ = prepare(config)
    log = RunLog(folder, config, command="sample_fit.py")
    last = stages(config)[-1][1]
    generator = rng.generator(config.seed, 0, "camera")
    cameras = orbits.sample(config.camera, num_views=4 * RINGS, size=last.size, generator=generator)
    targets = sampled(trainer.prior, config.prompt, cameras, seed=config.seed)
    (model,), white = trainer.particles, torch.ones(config.num_views, 3)
    model.enter(replace(trainer.learning, regularize=last.regularize))
    for step in range(config.steps):
        some = torch.randperm(4 * RINGS, generator=rng.generator(config.seed, step, "camera"))[: config.num_views]
        drawn = Drawn(cameras.select(some), white, None)
        rendered = render(model.shown, drawn, renderer=trainer.renderer, with_alpha=True)
        image = rendered.image.detach().requires_grad_()
        away = trainer.prior.encode(image) - targets[some]
        (gradient,) = torch.autograd.grad(away.square().flatten(1).sum(1).mean() / 2, image)
        # Of a picture that was noised there is none: the regularizers and the update read the gradient alone.
        scored = Scored(None, gradient, away.flatten(1).norm(dim=1).detach(), torch.zeros((), dtype=torch.int64))  # pyright: ignore[reportArgumentType]
        apply([model], [rendered], scored, step=step)
        progress.update(step + 1)
    trainer.step = config.steps
    log.summary(**trainer.facts())
    log.close()
    trainer.finish(folder, progress)
    return trainer


@torch.no_grad()
def sampled(prior: ProfiledPrior, prompt: str, cameras: Cameras, *, seed: int) -> Tensor:
    """x0 [V,4,h,w] as the prior encodes pictures, a ring of four at a time: DDIM without guidance, as SDS has it."""
    found = []
    for first in range(0, len(cameras), 4):
        ring = cameras.select(slice(first, first + 4))
        like = prior.encode(torch.zeros(4, ring.height, ring.width, 4))
        x = x0 = torch.randn(like.shape, generator=rng.generator(seed, first, "noise"))
        condition = prior.embed(prompt, ring)
        for now, then in pairwise(ddim_timesteps(DDIM_STEPS)):
            (eps,) = prior.predict(x, now.expand(4), [condition])
            a, b = prior.alphas_cumprod[now], prior.alphas_cumprod[then]
            x0 = ((x - (1 - a).sqrt() * eps) / a.sqrt()).clamp(-1, 1)
            x = ddim_step(x, x0, a, b)
        found.append(x0)
    return torch.cat(found)


def compared(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means of both, and the mean of log(mass of sample-fit / mass of sds) with its 95 % interval."""
    of = {method: [row for row in rows if row["method"] == method] for method in METHODS}
    means = {
        method: {name: float(np.mean([row[name] for row in mine])) for name in
                 ("mass", "fog", "num_splats", "cpu_seconds", "image_evaluations")}
        for method, mine in of.items()
    }  # fmt: skip
    pairs: dict[str, list[float]] = {}
    for one, other in zip(of["sds"], of["sample-fit"], strict=True):
        gain = math.log(max(other["mass"], CHANCE)) - math.log(max(one["mass"], CHANCE))
        pairs.setdefault(one["prompt"], []).append(gain)
    mean = float(np.mean([np.mean(values) for values in pairs.values()]))
    low, high = interval(list(pairs.values()))
    return {"methods": means, "mass_over_sds": math.exp(mean), "interval": [math.exp(low), math.exp(high)]}


def tile(folder: Path) -> np.ndarray:
    with Image.open(folder / "contact.png") as seen:
        side = seen.width // 4
        return np.asarray(seen.crop((side, 0, 2 * side, side)).resize((TILE, TILE)).convert("RGB"))


if __name__ == "__main__":
    main()
