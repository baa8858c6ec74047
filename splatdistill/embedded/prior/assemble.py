"""Writes a trained refiner and the volumes that it refines as a folder that `--prior` takes.

`python -m splatdistill.embedded.prior.assemble --corpus DIR --features DIR --run DIR --instances DIR --out DIR`
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from splatdistill.embedded.corpus.captions import COLOURS
from splatdistill.embedded.corpus.nouns import EVERY_NOUN, Noun
from splatdistill.embedded.corpus.procedural import FAMILIES, Family
from splatdistill.embedded.prior import architecture as network
from splatdistill.embedded.prior.refiner import RefineConfig, RefineTrainer, schedule
from splatdistill.embedded.prior.rings import Rings
from splatdistill.embedded.prior.train_refiner import WARM, prepare
from splatdistill.priors.instances import Instances
from splatdistill.priors.known import ANYTHING, TOKENS
from splatdistill.priors.parts import DIFFUSERS
from splatdistill.priors.vocabulary import META_FILE, VOLUMES

TEMPERATURE, SCALE = 64.0, 3.0
"""Of the posterior over the models for four views, and of the seed's logits: both as tried out in the mixture."""


@torch.no_grad()
def anything(rings: Rings, *, draws: int = 300) -> dict[str, Tensor]:
    """Mean [4,H,W] and variance [1,H,W] of the pictures of some draws: what is known of a picture of any object."""
    total, square, count = torch.zeros(()), torch.zeros(()), 0
    for step in range(draws):
        ring = rings.draw(step, slot=-1)
        shown = ring.truth[ring.target]
        total, square, count = total + shown.sum(0), square + shown.square().sum(0), count + len(shown)
    mean = total / count
    return {"mean": mean, "variance": (square / count - mean.square()).mean(0, keepdim=True)}


def meta(trainer: RefineTrainer, instances: Instances) -> dict[str, Any]:
    """What splatdistill.json says."""
    size = trainer.rings.buffers.shape[1]
    tables: tuple[Noun | Family, ...] = (*EVERY_NOUN, *FAMILIES)
    nouns = [noun for noun in {n.name: n for n in tables}.values() if noun.name in instances.of_noun]
    common = network.meta(image_size=size, nouns=nouns)
    return {
        **common,
        "patch": trainer.refiner.patch,
        "num_views": trainer.refiner.num_views,
        "paintable": [noun.name for noun in nouns],
        "paints": True,
        "shapes": [],
        "relations": [],
        "paint": {name: list(rgb) for name, (rgb, _) in COLOURS.items()},
        "accuracy": asdict(trainer.accuracy),
        "temperature": TEMPERATURE,
        "scale": SCALE,
        "images": trainer.images,
    }


def export(trainer: RefineTrainer, instances: Path, out: Path) -> None:
    """Writes the folder, whole or not at all."""
    fresh = out.with_name(out.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    (fresh / "unet").mkdir(parents=True)
    shutil.copytree(instances, (fresh / VOLUMES).parent)
    size = trainer.rings.buffers.shape[1]
    with trainer.averaged():
        unet = trainer.refiner.unet
        unet.register_to_config(sample_size=size // trainer.refiner.patch)
        unet.save_config(fresh / "unet")
        weights = {name: value.half().contiguous() for name, value in unet.state_dict().items()}
        save_file(weights, fresh / "unet" / DIFFUSERS, metadata={"format": "pt"})
        save_file({"tokens": trainer.refiner.tokens.detach().clone()}, fresh / TOKENS)
    schedule().save_pretrained(fresh / "scheduler")
    save_file({name: value.contiguous() for name, value in anything(trainer.rings).items()}, fresh / ANYTHING)
    contents = meta(trainer, Instances.load(instances))
    (fresh / META_FILE).write_text(json.dumps(contents, indent=1) + "\n")
    shutil.rmtree(out, ignore_errors=True)
    os.replace(fresh, out)


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 1 with one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m splatdistill.embedded.prior.assemble", description=__doc__)
    for name in ("corpus", "features", "run", "instances", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--warm-start", type=Path, default=WARM, help="as the run was begun with")
    args = parser.parse_args(argv)
    try:
        if not (args.run / RefineTrainer.state_file).exists():
            raise ValueError(
                f"{args.run} holds no {RefineTrainer.state_file}: "
                "`python -m splatdistill.embedded.prior.train_refiner` trains one."
            )
        config = RefineConfig()
        trainer = prepare(config, corpus=args.corpus, features=args.features, out=args.run, warm=args.warm_start)
        export(trainer, args.instances, args.out)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
