"""Trains the judge; the same command goes on with a run. See `judge.py` for what it is and how to call this."""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from splatdistill.embedded.corpus.captions import COLOURS
from splatdistill.embedded.corpus.nouns import NOUNS
from splatdistill.embedded.judge import NUM_SIDES, Judge, Network, create
from splatdistill.embedded.judge_pictures import UNKNOWN, PictureBook, Pictures
from splatdistill.rng import key

STATE = "state.safetensors"
POOL_NOUNS = ("armchair", "bicycle", "bus", "car", "lamp", "mug", "sofa", "teapot", "teddy bear", "vase")
POOL_COLOURS = ("red", "yellow", "green", "blue")


@dataclass(frozen=True)
class TrainConfig:
    """One run. textureless: share of pictures without colours; sides: weight of the loss of the azimuth head."""

    batch: int = 64
    lr: float = 2e-3
    warmup: int = 200
    max_images: int = 240_000
    ema: float = 0.998
    weight_decay: float = 0.02
    textureless: float = 0.2
    sides: float = 0.5
    seed: int = 1000


def fresh_config() -> dict[str, Any]:
    """Shape and words of a new judge: those of the corpus."""
    nouns = {noun.name: list(noun.synonyms) for noun in NOUNS}
    colours = {name: list(synonyms) for name, (_, synonyms) in COLOURS.items()}
    phrases = [phrase for table in (nouns, colours) for name, others in table.items() for phrase in (name, *others)]
    from splatdistill.embedded.judge_measure import prompt_of

    return {
        "widths": [24, 48, 96, 192], "text_width": 48, "embed": 128,
        "words": sorted({word for phrase in phrases for word in phrase.split()}),
        "nouns": nouns, "colours": colours,
        "pool": [prompt_of(noun, colour) for noun in POOL_NOUNS for colour in POOL_COLOURS],
    }  # fmt: skip


class Captions:
    """Every caption that the corpus allows: colour with noun, noun alone, colour alone; UNKNOWN stands for none.

    noun, colour: [T] indices.
    """

    def __init__(self) -> None:
        nouns, colours = range(len(NOUNS)), range(len(COLOURS))
        pairs = [(n, c) for n in nouns for c in (UNKNOWN, *colours)] + [(UNKNOWN, c) for c in colours]
        self.noun, self.colour = torch.tensor(pairs).T
        self.pairs = pairs

    def texts(self, draw: random.Random) -> list[str]:
        """Words for each, with a synonym in a quarter of the cases."""

        def say(name: str, others: tuple[str, ...]) -> str:
            return draw.choice(others) if others and draw.random() < 0.25 else name

        nouns = [say(noun.name, noun.synonyms) for noun in NOUNS] + [""]
        colours = [say(name, synonyms) for name, (_, synonyms) in COLOURS.items()] + [""]
        return [f"{colours[c]} {nouns[n]}" for n, c in self.pairs]

    def truth(self, noun: Tensor, colour: Tensor) -> tuple[Tensor, Tensor]:
        """[B,T] which captions are true of pictures, and which are false; of the rest nobody knows."""
        same_noun = (self.noun == UNKNOWN) | (self.noun == noun[:, None])
        no_colour, known = self.colour == UNKNOWN, (colour != UNKNOWN)[:, None]
        same_colour = no_colour | (known & (self.colour == colour[:, None]))
        return same_noun & same_colour, ~same_noun | (known & ~same_colour)


def contrastive_loss(logits: Tensor, true: Tensor, false: Tensor) -> Tensor:
    """InfoNCE of each true caption against all false ones of its picture, mean over true ones; logits: [B,T]."""
    against = logits.masked_fill(~false, -math.inf).logsumexp(1, keepdim=True)
    return ((F.softplus(against - logits) * true).sum(1) / true.sum(1)).mean()


def side_targets(azimuth: Tensor) -> Tensor:
    """[B,8] shares of the two nearest of the 8 sides for azimuths [B] rad."""
    position = torch.remainder(azimuth / (2 * math.pi) * NUM_SIDES, NUM_SIDES)
    lower = position.floor()
    share = (position - lower)[:, None]
    one, other = (F.one_hot((lower.long() + k) % NUM_SIDES, NUM_SIDES) for k in (0, 1))
    return one * (1 - share) + other * share


class Trainer:
    """Network, its average and the optimiser; every step is a function of (seed, step) and of the state."""

    def __init__(self, config: TrainConfig, *, judge: Judge, book: PictureBook, bf16: bool) -> None:
        self.config, self.judge, self.book, self.bf16 = config, judge, book, bf16
        self.network: Network = judge.network.train()
        self.captions = Captions()
        self.average = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.parameters = dict(self.network.named_parameters())
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=config.lr, betas=(0.9, 0.98), weight_decay=config.weight_decay, fused=True
        )
        self.step, self.seconds = 0, 0.0
        self._drawer = ThreadPoolExecutor(1)
        self._drawn: dict[int, Future[Pictures]] = {}

    @property
    def images(self) -> int:
        return self.step * self.config.batch

    def train_step(self) -> dict[str, float]:
        """One step; returns losses, and how often the best of all captions was a true one."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        batch = self._next_batch()
        logits, sides = self._answers(batch)
        true, false = self.captions.truth(batch.noun, batch.colour)
        words = contrastive_loss(logits, true, false)
        side = -(side_targets(batch.azimuth) * sides.log_softmax(-1)).sum(-1).mean()
        self.optimizer.zero_grad(set_to_none=True)
        (words + self.config.sides * side).backward()
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        self.optimizer.step()
        self.step += 1
        self._follow()
        best = logits.masked_fill(~(true | false), -math.inf).argmax(1)
        right = true.gather(1, best[:, None]).float().mean()
        return {"words": words.item(), "sides": side.item(), "right": right.item()}

    def _next_batch(self) -> Pictures:
        """The batch of this step; the one of the next step is drawn meanwhile, beside the network's work."""
        step, size = self.step, self.config.batch
        batch = self._drawn.pop(step).result() if step in self._drawn else self.book.batch(step, num_images=size)
        self._drawn = {step + 1: self._drawer.submit(self.book.batch, step + 1, num_images=size)}
        return batch

    def _answers(self, batch: Pictures) -> tuple[Tensor, Tensor]:
        draw = random.Random(key(self.config.seed, self.step, "captions"))  # noqa: S311 (nothing secret here)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            features = self.network.image(batch.rgb)
        images, sides = self.network.heads(features.float())
        texts = self.network.captions(self.judge.tokens(self.captions.texts(draw)))
        return self.network.log_scale.exp().clamp(max=50) * images @ texts.T, sides

    def _learning_rate(self) -> float:
        done = min(self.images / self.config.max_images, 1.0)
        return self.config.lr * min(1.0, (self.step + 1) / self.config.warmup) * 0.5 * (1 + math.cos(math.pi * done))

    @torch.no_grad()
    def _follow(self) -> None:
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    def save(self, out: Path) -> None:
        """The whole state, under a temporary name first, and the averaged judge in OUT/judge."""
        tensors = {f"raw.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.items()}
        for name, value in self.parameters.items():
            tensors |= {f"{m}.{name}": self.optimizer.state[value][m] for m in ("exp_avg", "exp_avg_sq")}
        metadata = {"step": str(self.step), "seconds": str(self.seconds)}
        save_file({k: v.detach().contiguous() for k, v in tensors.items()}, out / f"{STATE}.new", metadata=metadata)
        os.replace(out / f"{STATE}.new", out / STATE)
        self.averaged().save(out / "judge")

    def restore(self, out: Path) -> None:
        """Goes on from `save`; the config given now holds from here on."""
        with safe_open(out / STATE, framework="pt") as file:
            self.step, self.seconds = int(file.metadata()["step"]), float(file.metadata()["seconds"])
            self.network.load_state_dict({name: file.get_tensor(f"raw.{name}") for name in self.average})
            self.average = {name: file.get_tensor(f"average.{name}") for name in self.average}
            for name, value in self.parameters.items():
                moments = {m: file.get_tensor(f"{m}.{name}") for m in ("exp_avg", "exp_avg_sq")}
                # channels_last weights need moments of the same strides.
                moments = {m: torch.empty_like(value).copy_(x) for m, x in moments.items()}
                self.optimizer.state[value] = {"step": torch.tensor(float(self.step)), **moments}

    def averaged(self) -> Judge:
        network = create(self.judge.config)
        network.load_state_dict(self.average)
        return Judge(network, self.judge.config)


def run(trainer: Trainer, out: Path, *, minutes: float) -> None:
    """Trains to `max_images` or for so many minutes; saves every two minutes and at the end."""
    begin = saved = last = time.monotonic()
    sums: dict[str, float] = {}
    with (out / "loss.jsonl").open("a") as log:
        while trainer.images < trainer.config.max_images and time.monotonic() - begin < 60 * minutes:
            for name, value in trainer.train_step().items():
                sums[name] = sums.get(name, 0.0) + value / 50
            now = time.monotonic()
            trainer.seconds += now - last
            last = now
            if trainer.step % 50 == 0:
                means = {name: round(value, 4) for name, value in sums.items()}
                record = {"images": trainer.images, **means, "minutes": round(trainer.seconds / 60, 2)}
                print(record, flush=True)
                log.write(json.dumps(record) + "\n")
                sums.clear()
            if now - saved > 120:
                trainer.save(out)
                saved = time.monotonic()
    trainer.save(out)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m splatdistill.embedded.judge", description=__doc__)
    parser.add_argument("--corpus", type=Path, help="folder of `python -m splatdistill.embedded.corpus build`")
    parser.add_argument("--out", type=Path, help="run folder: state, loss.jsonl, the judge, its turntables")
    parser.add_argument("--measure", type=Path, help="measure the judge of this folder anew, without training")
    parser.add_argument("--furniture", help="folder of .sh3f files (default: where Debian puts them)")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop the training after this time")
    for name, value in asdict(TrainConfig()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    args = parser.parse_args(argv)
    if args.out is None or (args.corpus is None) == (args.measure is None):
        parser.error("give --out, and either --corpus to train or --measure to measure")
    try:
        if args.measure is None:
            _train(args)
        _measure(args.measure or args.out / "judge", args.out, args.furniture)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _train(args: argparse.Namespace) -> None:
    from splatdistill.priors.multiview import has_fast_bf16

    config = TrainConfig(**{name: getattr(args, name) for name in asdict(TrainConfig())})
    book = PictureBook(args.corpus, seed=config.seed, textureless=config.textureless)
    torch.manual_seed(config.seed)
    shape = fresh_config()
    judge = Judge(create(shape), {**shape, "training": asdict(config)})
    trainer = Trainer(config, judge=judge, book=book, bf16=has_fast_bf16())
    args.out.mkdir(parents=True, exist_ok=True)
    if (args.out / STATE).exists():
        trainer.restore(args.out)
    size = sum(p.numel() for p in trainer.parameters.values()) / 1e6
    print(f"{size:.2f} M parameters, image {trainer.images}", flush=True)
    run(trainer, args.out, minutes=args.minutes)


def _measure(folder: Path, out: Path, furniture: str | None) -> None:
    from splatdistill.embedded.judge_measure import Turntables, measure

    judge, tables = Judge.load(folder), Turntables(out / "turntables", furniture=furniture)
    judge.config["measured"] = measure(judge, tables, sheet=out / "confusions.png")
    judge.save_config(folder)
    print(json.dumps(judge.config["measured"], indent=1))


if __name__ == "__main__":
    sys.exit(main())
