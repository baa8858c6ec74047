"""Writes a trained refiner and the meshes that it refines as a folder that `--prior` takes.

`python -m splatdistill.embedded.prior.assemble --corpus DIR --instances DIR --run DIR --out DIR`
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
from torch import Tensor, nn

from splatdistill.embedded.corpus.captions import COLOURS
from splatdistill.embedded.corpus.nouns import EVERY_NOUN, Noun
from splatdistill.embedded.corpus.procedural import FAMILIES, Family
from splatdistill.embedded.network_training import AVERAGE
from splatdistill.embedded.prior import architecture as network
from splatdistill.embedded.prior.refiner import RefineConfig, RefineTrainer, schedule
from splatdistill.embedded.prior.rings import Rings
from splatdistill.embedded.prior.train_refiner import WARM, add_sources, prepare, read_rings
from splatdistill.priors.instances import Instances
from splatdistill.priors.known import ANYTHING, FINE, TOKENS
from splatdistill.priors.parts import DIFFUSERS
from splatdistill.priors.vocabulary import META_FILE, MODELS

TEMPERATURE, SCALE = 64.0, 64.0
"""Of the posterior over the models for four views, as tried out in the mixture; and of the seed's logits, so large that
the seed draws one model: with 3, a fifth of all runs weighed two, and ended between them or at the other one."""


@torch.no_grad()
def anything(rings: Rings, *, draws: int = 300) -> dict[str, Tensor]:
    """Mean [4,H,W] and variance [1,H,W] of the pictures of some draws: what is known of a picture of any object."""
    total, square, count = torch.zeros(()), torch.zeros(()), 0
    for step in range(draws):
        plan = rings.plan(step, 1, stream="anything").to(rings.device)
        shown = rings.truth(plan, plan.target)[0].cpu()
        total, square, count = total + shown.sum(0), square + shown.square().sum(0), count + len(shown)
    mean = total / count
    return {"mean": mean, "variance": (square / count - mean.square()).mean(0, keepdim=True)}


def meta(trainer: RefineTrainer, instances: Instances) -> dict[str, Any]:
    """What splatdistill.json says."""
    size = trainer.rings.size
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
        "accuracy": asdict(trainer.accuracies[0]),
        "fine_accuracy": asdict(trainer.accuracies[1]) if trainer.refiner.fine else None,
        "temperature": TEMPERATURE,
        "scale": SCALE,
        "images": trainer.images,
    }


def export(trainer: RefineTrainer, instances: Path, out: Path) -> None:
    """Writes the folder, whole or not at all."""
    fresh = out.with_name(out.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    (fresh / "unet").mkdir(parents=True)
    shutil.copytree(instances, (fresh / MODELS).parent)
    with trainer.averaged():
        unet, fine = trainer.refiner.unet, trainer.refiner.fine
        # Not where the run was begun from: diffusers would write that folder down.
        unet.register_to_config(sample_size=trainer.rings.size // trainer.refiner.patch, _name_or_path="")
        unet.save_config(fresh / "unet")
        save_file(_half(unet), fresh / "unet" / DIFFUSERS, metadata={"format": "pt"})
        if fine:
            save_file(_half(fine), fresh / FINE)
        save_file({"tokens": trainer.refiner.tokens.detach().clone()}, fresh / TOKENS)
    schedule().save_pretrained(fresh / "scheduler")
    save_file({name: value.contiguous() for name, value in anything(trainer.rings).items()}, fresh / ANYTHING)
    contents = meta(trainer, Instances.load(instances))
    (fresh / META_FILE).write_text(json.dumps(contents, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    os.replace(fresh, out)


def _half(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.half().contiguous() for name, value in module.state_dict().items()}


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 1 with one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m splatdistill.embedded.prior.assemble", description=__doc__)
    add_sources(parser)
    for name in ("run", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--warm-start", type=Path, default=WARM, help="as the run was begun with")
    args = parser.parse_args(argv)
    try:
        if not any((args.run / name).exists() for name in (RefineTrainer.state_file, AVERAGE)):
            raise ValueError(
                f"{args.run} holds no {RefineTrainer.state_file}: "
                "`python -m splatdistill.embedded.prior.train_refiner` trains one."
            )
        config = RefineConfig()
        trainer = prepare(config, rings=read_rings(args, seed=config.seed), out=args.run, warm=args.warm_start)
        export(trainer, args.instances, args.out)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
