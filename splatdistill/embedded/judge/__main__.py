"""Trains the judge, or measures one again.

`python -m splatdistill.embedded.judge --corpus DIR --out DIR` trains, `--measure FOLDER` measures.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch

from splatdistill.embedded.judge.calibrate import Turntables, measure
from splatdistill.embedded.judge.images import PictureBook
from splatdistill.embedded.judge.networks import PARTS, EmbeddedJudge
from splatdistill.embedded.judge.optimization import (
    DEFAULTS,
    JudgeConfig,
    begin_like_words,
    fresh_config,
    make_trainer,
)
from splatdistill.embedded.network_training import PeriodicTask, run
from splatdistill.priors.precision import has_fast_bf16

SAVE_MINUTES = 2.0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m splatdistill.embedded.judge", description=__doc__)
    parser.add_argument("--corpus", type=Path, help="folder of `python -m splatdistill.embedded.corpus build`")
    parser.add_argument("--out", type=Path, required=True, help="run folder: states, logs, the judge, its turntables")
    parser.add_argument("--part", choices=PARTS, help="train one network only (default: one after the other)")
    parser.add_argument("--measure", type=Path, help="measure the judge of this folder anew, without training")
    parser.add_argument("--furniture", help="folder of .sh3f files (default: where Debian puts them)")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop each training after this time")
    for name, value in asdict(JudgeConfig()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), help="default: see DEFAULTS")
    args = parser.parse_args(argv)
    if (args.corpus is None) == (args.measure is None):
        parser.error("give either --corpus to train or --measure to measure")
    try:
        for part in (args.part,) if args.part else PARTS if args.corpus else ():
            _train(part, args)
        folder = args.measure or args.out / "judge"
        if all((folder / f"{part}.safetensors").exists() for part in PARTS) or args.measure:
            _measure(folder, args.out, args.furniture)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _train(part: str, args: argparse.Namespace) -> None:
    given = {name: getattr(args, name) for name in asdict(DEFAULTS[part]) if getattr(args, name) is not None}
    config = replace(DEFAULTS[part], **given)
    book = PictureBook(args.corpus, seed=config.seed, textureless=config.textureless)
    torch.manual_seed(config.seed)
    trainer = make_trainer(part, config, shape=fresh_config(), book=book, bf16=has_fast_bf16())
    args.out.mkdir(parents=True, exist_ok=True)
    words = args.out / "judge" / "words.safetensors"
    if (args.out / trainer.state_file).exists():
        trainer.restore(args.out)
    elif part == "sides" and words.exists():
        begin_like_words(trainer, words)
    (args.out / f"{part}.json").write_text(json.dumps(asdict(config), indent=1), encoding="utf-8")
    size = sum(p.numel() for p in trainer.parameters.values()) / 1e6
    print(f"{part}: {size:.2f} M parameters, image {trainer.images}", flush=True)
    save = PeriodicTask(SAVE_MINUTES, lambda: trainer.export(args.out))
    run(trainer, out=args.out, minutes=args.minutes, tasks=[save])


def _measure(folder: Path, out: Path, furniture: str | None) -> None:
    judge = EmbeddedJudge.load(folder)
    tables = Turntables(out / "turntables", furniture=furniture, nouns=judge.config["nouns"])
    judge.config["measured"] = measure(judge, tables, sheet=out / "confusions.png")
    judge.save_config(folder)
    print(json.dumps(judge.config["measured"], indent=1))


if __name__ == "__main__":
    sys.exit(main())
