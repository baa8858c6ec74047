"""Trains the judge's two networks; the same command goes on with a run. `networks.py` says what they are."""

from __future__ import annotations

import json
import math
import random
from abc import abstractmethod
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
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
from splatdistill.embedded.network_training import NetworkTrainer
from splatdistill.utils.rng import key

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


class JudgeTrainer(NetworkTrainer):
    """The training of one network; every step is a function of (seed, step) and of the state.

    shape: the judge's config, which is written beside the weights.
    """

    part: str
    betas, eps = (0.9, 0.98), 1e-8
    math_attention = False

    def __init__(
        self, config: JudgeConfig, *, network: nn.Module, shape: Mapping[str, Any], book: PictureBook, bf16: bool
    ) -> None:
        self.shape, self.book, self.bf16, self.network = dict(shape), book, bf16, network
        self.state_file, self.log_file = f"{self.part}.state", f"{self.part}.jsonl"
        self.optimise(network, config)
        self._drawer = ThreadPoolExecutor(1)
        self._drawn: dict[int, Future[Pictures]] = {}

    @abstractmethod
    def loss(self, batch: Pictures) -> tuple[Tensor, Tensor]:
        """[] the loss, and [] the share of images that were read right."""

    def losses(self) -> dict[str, Tensor]:
        loss, right = self.loss(self._next_batch())
        return {"loss": loss, "right": right}

    def _next_batch(self) -> Pictures:
        """The batch of this step; the one of the next step is drawn meanwhile, beside the network's work."""
        step, size = self.step, self.config.batch
        batch = self._drawn.pop(step).result() if step in self._drawn else self.book.batch(step, num_images=size)
        self._drawn = {step + 1: self._drawer.submit(self.book.batch, step + 1, num_images=size)}
        return batch

    def learning_rate(self) -> float:
        done = min(self.images / self.config.max_images, 1.0)
        return self.config.lr * min(1.0, (self.step + 1) / self.config.warmup) * 0.5 * (1 + math.cos(math.pi * done))

    def export(self, out: Path) -> None:
        """Saves the state, and the averaged network in OUT/judge."""
        self.save(out)
        folder = out / "judge"
        folder.mkdir(exist_ok=True)
        (folder / CONFIG).write_text(json.dumps(self.shape, indent=1) + "\n", encoding="utf-8")
        with self.averaged():
            write_tensors(self.network, folder / f"{self.part}.safetensors")


class WordsTrainer(JudgeTrainer):
    """Trains the encoders of pictures and captions against each other."""

    part = "words"
    network: WordsNetwork

    def __init__(self, config: JudgeConfig, *, network: WordsNetwork, shape: Mapping[str, Any], **rest: Any) -> None:
        super().__init__(config, network=network, shape=shape, **rest)
        self.captions, self.numbers = Captions(), number_words(shape)

    def loss(self, batch: Pictures) -> tuple[Tensor, Tensor]:
        """As `JudgeTrainer.loss`."""
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
        """As `JudgeTrainer.loss`."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            features = self.network.image(batch.rgb)
        logits, target = self.network.sides(features.float()), side_targets(batch.azimuth)
        right = target.gather(1, logits.argmax(1, keepdim=True)) > 0
        return -(target * logits.log_softmax(-1)).sum(-1).mean(), right.float().mean()


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
