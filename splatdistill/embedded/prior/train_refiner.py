"""Trains the refiner, for minutes or days: the same command goes on from the state in --out.

`python -m splatdistill.embedded.prior.train_refiner --corpus DIR --features DIR --out DIR --warm-start PRIOR`
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from splatdistill.embedded.prior import refiner
from splatdistill.embedded.prior.optimised import STATE
from splatdistill.embedded.prior.refiner import RefineConfig, RefineTrainer
from splatdistill.embedded.prior.rings import Rings
from splatdistill.training.signals import SignalHandler

LOG_EVERY = 25  # steps
WARM = Path(__file__).with_name("weights")


def run(trainer: RefineTrainer, *, out: Path, minutes: float, save_minutes: float) -> None:
    """Trains until `max_images`, `minutes` or SIGTERM, and saves on the way."""
    begin = saved = last = time.monotonic()
    losses: list[tuple[Tensor, Tensor]] = []
    with SignalHandler() as signals, (out / "loss.jsonl").open("a") as log:
        while (
            trainer.images < trainer.config.max_images
            and not signals.number
            and time.monotonic() - begin < 60 * minutes
        ):
            losses.append(trainer.train_step())
            now = time.monotonic()
            trainer.seconds += now - last
            last = now
            if len(losses) == LOG_EVERY:
                loss, without = (torch.stack(part).mean().item() for part in zip(*losses, strict=True))
                record = {
                    "step": trainer.step, "images": trainer.images, "loss": round(loss, 4),
                    "without": round(without, 4), "minutes": round(trainer.seconds / 60, 2),
                }  # fmt: skip
                log.write(json.dumps(record) + "\n")
                log.flush()
                print(record, flush=True)
                losses.clear()
            if now - saved > 60 * save_minutes:
                trainer.save(out)
                saved = last = time.monotonic()
        trainer.save(out)


def prepare(config: RefineConfig, *, corpus: Path, features: Path, out: Path, warm: Path) -> RefineTrainer:
    """A trainer that begins, or continues the run in `out`. ValueError, one sentence, where it cannot."""
    rings = Rings(corpus, features, seed=config.seed)
    torch.manual_seed(config.seed)
    trainer = RefineTrainer(config, refiner=refiner.create(warm), rings=rings)
    if (out / STATE).exists():
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
    run(trainer, out=args.out, minutes=args.minutes, save_minutes=args.save_minutes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
