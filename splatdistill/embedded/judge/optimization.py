"""Trains the judge's two networks; the same command goes on with a run. `judge.py` says what they are."""

from __future__ import annotations

import copy
import json
import math
import os
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from splatdistill.embedded.corpus.captions import COLOURS
from splatdistill.embedded.corpus.nouns import NOUNS
from splatdistill.embedded.judge.images import PictureBook, Pictures, prompt_of
from splatdistill.embedded.judge.losses import Captions, contrastive_loss, side_targets
from splatdistill.embedded.judge.networks import (
    CONFIG,
    SidesNetwork,
    WordsNetwork,
    create_sides,
    create_words,
    number_words,
    tokens,
    write_tensors,
)
from splatdistill.utils.rng import key

_MOMENTS = ("exp_avg", "exp_avg_sq")
POOL_NOUNS = ("armchair", "bicycle", "bus", "car", "lamp", "mug", "sofa", "teapot", "teddy bear", "vase")
POOL_COLOURS = ("red", "yellow", "green", "blue")


@dataclass(frozen=True)
class JudgeConfig:
    """The training of one network. textureless: share of pictures without colours."""

    batch: int = 64
    lr: float = 2e-3
    warmup: int = 200
    max_images: int = 200_000
    ema: float = 0.998
    weight_decay: float = 0.02
    textureless: float = 0.2
    seed: int = 1000


DEFAULTS = {"words": JudgeConfig(), "sides": JudgeConfig(lr=1e-3, max_images=110_000, textureless=0.15, seed=2000)}


def fresh_config() -> dict[str, Any]:
    """Shape and words of a new judge: those of the corpus."""
    nouns = {noun.name: list(noun.synonyms) for noun in NOUNS}
    colours = {name: list(synonyms) for name, (_, synonyms) in COLOURS.items()}
    phrases = [phrase for table in (nouns, colours) for name, others in table.items() for phrase in (name, *others)]
    return {
        "widths": [24, 48, 96, 192], "text_width": 48, "embed": 128,
        "words": sorted({word for phrase in phrases for word in phrase.split()}),
        "nouns": nouns, "colours": colours,
        "pool": [prompt_of(noun, colour) for noun in POOL_NOUNS for colour in POOL_COLOURS],
    }  # fmt: skip


class JudgeTrainer(ABC):
    """A network, its average and the optimiser; every step is a function of (seed, step) and of the state.

    shape: the judge's config, which is written beside the weights.
    """

    part: str

    def __init__(
        self, config: JudgeConfig, *, network: nn.Module, shape: Mapping[str, Any], book: PictureBook, bf16: bool
    ) -> None:
        self.config, self.shape, self.book, self.bf16 = config, dict(shape), book, bf16
        self.network = network.train()
        self.average = {name: value.detach().clone() for name, value in network.state_dict().items()}
        self.parameters = dict(network.named_parameters())
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=config.lr, betas=(0.9, 0.98), weight_decay=config.weight_decay, fused=True
        )
        self.step, self.seconds = 0, 0.0
        self._drawer = ThreadPoolExecutor(1)
        self._drawn: dict[int, Future[Pictures]] = {}

    @abstractmethod
    def loss(self, batch: Pictures) -> tuple[Tensor, Tensor]:
        """The loss, and the share of pictures that were read right."""

    @property
    def images(self) -> int:
        return self.step * self.config.batch

    def train_step(self) -> dict[str, float]:
        """One step; returns the loss and the share of pictures that were read right."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        loss, right = self.loss(self._next_batch())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        self.optimizer.step()
        self.step += 1
        self._follow()
        return {"loss": loss.item(), "right": right.item()}

    def _next_batch(self) -> Pictures:
        """The batch of this step; the one of the next step is drawn meanwhile, beside the network's work."""
        step, size = self.step, self.config.batch
        batch = self._drawn.pop(step).result() if step in self._drawn else self.book.batch(step, num_images=size)
        self._drawn = {step + 1: self._drawer.submit(self.book.batch, step + 1, num_images=size)}
        return batch

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
        """The whole state, under a temporary name first, and the averaged network in OUT/judge."""
        tensors = {f"raw.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.items()}
        for name, value in self.parameters.items():
            tensors |= {f"{m}.{name}": self.optimizer.state[value][m] for m in _MOMENTS}
        metadata = {"step": str(self.step), "seconds": str(self.seconds)}
        state, folder = self.state(out), out / "judge"
        fresh = state.with_suffix(".new")
        save_file({k: v.detach().contiguous() for k, v in tensors.items()}, fresh, metadata=metadata)
        os.replace(fresh, state)
        folder.mkdir(exist_ok=True)
        (folder / CONFIG).write_text(json.dumps(self.shape, indent=1) + "\n")
        write_tensors(self.averaged(), folder / f"{self.part}.safetensors")

    def restore(self, out: Path) -> None:
        """Goes on from `save`; the config given now holds from here on."""
        with safe_open(self.state(out), framework="pt") as file:
            self.step, self.seconds = int(file.metadata()["step"]), float(file.metadata()["seconds"])
            self.network.load_state_dict({name: file.get_tensor(f"raw.{name}") for name in self.average})
            self.average = {name: file.get_tensor(f"average.{name}") for name in self.average}
            for name, value in self.parameters.items():
                # channels_last weights need moments of the same strides.
                moments = {m: torch.empty_like(value).copy_(file.get_tensor(f"{m}.{name}")) for m in _MOMENTS}
                self.optimizer.state[value] = {"step": torch.tensor(float(self.step)), **moments}

    def averaged(self) -> nn.Module:
        network = copy.deepcopy(self.network).eval()
        network.load_state_dict(self.average)
        return network

    @classmethod
    def state(cls, out: Path) -> Path:
        return out / f"{cls.part}.state"


class WordsTrainer(JudgeTrainer):
    """Trains the encoders of pictures and captions against each other."""

    part = "words"
    network: WordsNetwork

    def __init__(self, config: JudgeConfig, *, network: WordsNetwork, shape: Mapping[str, Any], **rest: Any) -> None:
        super().__init__(config, network=network, shape=shape, **rest)
        self.captions, self.numbers = Captions(), number_words(shape)

    def loss(self, batch: Pictures) -> tuple[Tensor, Tensor]:
        draw = random.Random(key(self.config.seed, self.step, "captions"))  # noqa: S311 (nothing secret here)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            features = self.network.image(batch.rgb)
        images = F.normalize(self.network.project(features.float()), dim=-1)
        texts = self.network.captions(tokens(self.captions.texts(draw), self.numbers))
        logits = self.network.log_scale.exp().clamp(max=50) * images @ texts.T
        true, false = self.captions.truth(batch.noun, batch.colour)
        best = logits.masked_fill(~(true | false), -math.inf).argmax(1)
        return contrastive_loss(logits, true, false), true.gather(1, best[:, None]).float().mean()


class SidesTrainer(JudgeTrainer):
    """Trains the network that says which side a picture shows."""

    part = "sides"
    network: SidesNetwork

    def loss(self, batch: Pictures) -> tuple[Tensor, Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            features = self.network.image(batch.rgb)
        logits, target = self.network.sides(features.float()), side_targets(batch.azimuth)
        right = target.gather(1, logits.argmax(1, keepdim=True)) > 0
        return -(target * logits.log_softmax(-1)).sum(-1).mean(), right.float().mean()


def run(trainer: JudgeTrainer, out: Path, *, minutes: float) -> None:
    """Trains to `max_images` or for so many minutes; saves every two minutes and at the end."""
    begin = saved = last = time.monotonic()
    sums: dict[str, float] = {}
    with (out / f"{trainer.part}.jsonl").open("a") as log:
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


def make_trainer(
    part: str, config: JudgeConfig, *, shape: Mapping[str, Any], book: PictureBook, bf16: bool
) -> JudgeTrainer:
    """A trainer with a fresh network."""
    rest: dict[str, Any] = {"shape": shape, "book": book, "bf16": bf16}
    if part == "words":
        return WordsTrainer(config, network=create_words(shape), **rest)
    return SidesTrainer(config, network=create_sides(shape), **rest)


def begin_like_words(trainer: JudgeTrainer, path: Path) -> None:
    """Gives a fresh network of sides the image encoder of the words: who knows the thing finds its front sooner."""
    learned = {name: x.float() for name, x in load_file(path).items() if name.startswith("image.")}
    trainer.network.load_state_dict(learned, strict=False)
    trainer.average = {name: value.detach().clone() for name, value in trainer.network.state_dict().items()}
