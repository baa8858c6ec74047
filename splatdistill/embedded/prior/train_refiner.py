"""Trains the refiner, for minutes or days: the same command goes on from the state in --out.

`python -m splatdistill.embedded.prior.train_refiner --corpus DIR --features DIR --out DIR --warm-start PRIOR`
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from splatdistill.embedded.network_training import PeriodicTask, run
from splatdistill.embedded.prior import refiner
from splatdistill.embedded.prior.refiner import RefineConfig, RefineTrainer
from splatdistill.embedded.prior.rings import Rings

WARM = Path(__file__).with_name("weights")


def prepare(config: RefineConfig, *, corpus: Path, features: Path, out: Path, warm: Path) -> RefineTrainer:
    """A trainer that begins, or continues the run in `out`. ValueError, one sentence, where it cannot."""
    rings = Rings(corpus, features, seed=config.seed)
    torch.manual_seed(config.seed)
    trainer = RefineTrainer(config, refiner=refiner.create(warm), rings=rings)
    if (out / RefineTrainer.state_file).exists():
        trainer.restore(out)
    return trainer


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 1 with one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m splatdistill.embedded.prior.train_refiner", description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True, help="folder that `corpus build` wrote")
    parser.add_argument("--features", type=Path, required=True, help="folder that `embedded.rings` wrote")
    parser.add_argument("--out", type=Path, required=True, help="run folder: state and loss.jsonl")
    parser.add_argument("--warm-start", type=Path, default=WARM, help="exported prior to begin a new run from")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after this time")
    parser.add_argument("--save-minutes", type=float, default=5.0)
    for name, value in asdict(RefineConfig()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    args = parser.parse_args(argv)
    config = RefineConfig(**{name: getattr(args, name) for name in asdict(RefineConfig())})
    try:
        trainer = prepare(config, corpus=args.corpus, features=args.features, out=args.out, warm=args.warm_start)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    args.out.mkdir(parents=True, exist_ok=True)
    millions = sum(p.numel() for p in trainer.parameters.values()) / 1e6
    print(f"{millions:.2f} M parameters, {len(trainer.rings.known)} models, step {trainer.step}", flush=True)
    save = PeriodicTask(args.save_minutes, lambda: trainer.save(args.out))
    run(trainer, out=args.out, minutes=args.minutes, tasks=[save])
    return 0


if __name__ == "__main__":
    sys.exit(main())
