"""Trains the embedded prior; the same command continues a run.

`python -m splatdistill.embedded.train --corpus DIR --out DIR`
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from splatdistill.embedded import network
from splatdistill.embedded.corpus.dataset import Batch, Corpus, Mode
from splatdistill.embedded.network import Networks
from splatdistill.embedded.samples import sample_grid
from splatdistill.priors.attention import ViewAttention, install_view_attention
from splatdistill.priors.multiview import MultiViewPrior, encode_text, pixel_unshuffle
from splatdistill.priors.network import has_fast_bf16
from splatdistill.rng import key

STATE = "state.safetensors"


@dataclass(frozen=True)
class TrainConfig:
    """One run.

    decay: last fraction of `max_images` over which the learning rate falls linearly to 0. t_power: timesteps are
    1000 u^t_power with u uniform, so below 1 noisy ones come more often. noisy: share of them that is uniform in
    900..999 instead, because nothing but the camera tells the pose there, while below it the picture does. ring,
    words: shares of steps with groups of 4 views, and with view words instead of cameras; the rest are single views
    with cameras.
    """

    batch: int = 48
    resolution: int = 64
    lr: float = 1e-3
    warmup: int = 200
    decay: float = 0.4
    max_images: int = 400_000
    ema: float = 0.998
    weight_decay: float = 1e-2
    ring: float = 0.5
    words: float = 0.12
    t_power: float = 0.5
    noisy: float = 0.0
    seed: int = 0


class Trainer:
    """Networks, their averaged copy and the optimizer; every step is a function of (seed, step) and of the state."""

    def __init__(self, config: TrainConfig, *, networks: Networks, corpus: Corpus) -> None:
        self.config, self.networks, self.corpus = config, networks, corpus
        self.views: ViewAttention = install_view_attention(networks.unet)
        networks.unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.parts = nn.ModuleDict({"unet": networks.unet, "text": networks.text_encoder}).train()
        self.parameters = dict(self.parts.named_parameters())
        self.average = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(),
            lr=config.lr,
            betas=(0.9, 0.99),
            eps=1e-10,  # the deepest levels have gradients near 1e-8, which the default would damp
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.step, self.images, self.seconds = 0, 0, 0.0
        self.bf16 = has_fast_bf16()

    def train_step(self) -> float:
        """One optimizer step; returns the weighted loss."""
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        batch = self.corpus.batch(self.step, mode=self._mode(), size=config.resolution, num_images=config.batch)
        self.optimizer.zero_grad(set_to_none=True)
        with sdpa_kernel(SDPBackend.MATH):  # so few tokens that torch's flash backward on a CPU is slower
            loss = self.loss(batch)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        self.optimizer.step()
        self.step += 1
        self.images += config.batch
        decay = min(config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, p in self.parameters.items():
                self.average[name].lerp_(p, 1 - decay)
        return loss.item()

    def loss(self, batch: Batch) -> Tensor:
        """Mean of min(SNR+1,5)/(SNR+1) |v - v_hat|^2; views of a group share their timestep, as in distillation.

        Min-SNR without the +1 gives noisy steps, where words and cameras matter, next to no weight: the network then
        stays a shallow denoiser that hears no condition.
        """
        draw = torch.Generator().manual_seed(key(self.config.seed, self.step, "diffusion"))
        x0 = pixel_unshuffle(batch.rgb, network.PATCH)
        t = self._timesteps(len(x0) // batch.views, draw).repeat_interleave(batch.views)
        noise = torch.randn(x0.shape, generator=draw)
        signal_power = self.networks.scheduler.alphas_cumprod[t].view(-1, 1, 1, 1)
        alpha, sigma = signal_power.sqrt(), (1 - signal_power).sqrt()
        xt = (alpha * x0 + sigma * noise).contiguous(memory_format=torch.channels_last)
        self.views.num_views = batch.views
        self.views.joint_rows = len(x0) if batch.views > 1 else 0
        unique = sorted(set(batch.captions))
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            text = encode_text(unique, text_encoder=self.networks.text_encoder, tokenizer=self.networks.tokenizer)
            text = text[torch.tensor([unique.index(c) for c in batch.captions])]
            out = self.networks.unet(xt, t, text, class_labels=batch.camera, return_dict=False)[0]
        snr = signal_power / (1 - signal_power)
        return ((snr + 1).clamp(max=5) / (snr + 1) * (out.float() - (alpha * noise - sigma * x0)) ** 2).mean()

    def _timesteps(self, num: int, draw: torch.Generator) -> Tensor:
        uniform, which = torch.rand(2, num, generator=draw)
        t = torch.where(which < self.config.noisy, 0.9 + 0.1 * uniform, uniform**self.config.t_power)
        return (1000 * t).long().clamp(max=999)

    def _mode(self) -> Mode:
        draw = torch.rand((), generator=torch.Generator().manual_seed(key(self.config.seed, self.step, "mode"))).item()
        if draw < self.config.ring:
            return "ring"
        return "words" if draw > 1 - self.config.words else "camera"

    def _learning_rate(self) -> float:
        config = self.config
        remaining = (config.max_images - self.images) / max(config.decay * config.max_images, 1)
        return config.lr * min(1.0, (self.step + 1) / config.warmup, max(remaining, 0.0))

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """The networks carry the averaged weights inside this block."""
        kept = {name: p.detach().clone() for name, p in self.parameters.items()}
        self._assign(self.average)
        self.parts.eval()
        yield
        self._assign(kept)
        self.parts.train()

    def _assign(self, values: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, p in self.parameters.items():
                p.copy_(values[name])

    def save(self, out: Path) -> None:
        """The whole state as safetensors and JSON, each under a temporary name first."""
        tensors = {f"raw.{name}": p.detach() for name, p in self.parameters.items()}
        tensors |= {f"average.{name}": value for name, value in self.average.items()}
        for name, p in self.parameters.items():
            for moment in ("exp_avg", "exp_avg_sq"):
                tensors[f"{moment}.{name}"] = self.optimizer.state[p][moment]
        state = {"step": self.step, "images": self.images, "seconds": self.seconds, "config": asdict(self.config)}
        metadata = {"state": json.dumps(state)}
        save_file({k: v.contiguous() for k, v in tensors.items()}, out / f"{STATE}.new", metadata=metadata)
        os.replace(out / f"{STATE}.new", out / STATE)

    def restore(self, out: Path) -> None:
        """Continues from `save`; the config given now holds from here on."""
        with safe_open(out / STATE, framework="pt") as file:
            state = json.loads(file.metadata()["state"])
            self._assign({name: file.get_tensor(f"raw.{name}") for name in self.parameters})
            for name, p in self.parameters.items():
                self.average[name].copy_(file.get_tensor(f"average.{name}"))
                moments = {m: file.get_tensor(f"{m}.{name}") for m in ("exp_avg", "exp_avg_sq")}
                # channels_last weights need moments of the same strides, or the fused step is slow.
                moments = {m: torch.empty_like(p).copy_(value) for m, value in moments.items()}
                self.optimizer.state[p] = {"step": torch.tensor(float(state["step"])), **moments}
        self.step, self.images, self.seconds = state["step"], state["images"], state["seconds"]

    def prior(self) -> MultiViewPrior:
        """The networks as distillation will see them; call inside `averaged`."""
        n = self.networks
        hooks = n.unet.class_embedding._forward_hooks  # type: ignore[union-attr]
        hooks.clear()  # the prior installs its own
        prior = MultiViewPrior(
            n.unet, text_encoder=n.text_encoder, tokenizer=n.tokenizer, scheduler=n.scheduler,
            meta=network.meta(image_size=self.config.resolution), dtype="bf16" if self.bf16 else "fp32",
        )  # fmt: skip
        assert prior.views is not None
        self.views = prior.views
        return prior


def warm_start(networks: Networks, folder: Path) -> None:
    """Copies the weights of an exported folder; word vectors are matched by word, so that the vocabulary may grow."""
    old = MultiViewPrior.load(folder, dtype="fp32")
    networks.unet.load_state_dict(old.unet.state_dict())
    known, own = old.tokenizer.get_vocab(), networks.tokenizer.get_vocab()
    with torch.no_grad():
        words = network.word_embedding(networks.text_encoder)
        fresh, vectors = words.clone(), network.word_embedding(old.text_encoder).clone()
        old.text_encoder.resize_token_embeddings(len(own))
        networks.text_encoder.load_state_dict(old.text_encoder.state_dict())
        for word, row in own.items():
            words[row] = vectors[known[word]] if word in known else fresh[row]


def run(trainer: Trainer, *, out: Path, minutes: float, save_minutes: float, sample_minutes: float) -> None:
    """Trains until `max_images`, `minutes` or SIGTERM; saves, exports and draws sample grids on the way."""
    stop = False

    def ask_to_stop(*_: Any) -> None:
        nonlocal stop
        stop = True

    signal.signal(signal.SIGTERM, ask_to_stop)
    signal.signal(signal.SIGINT, ask_to_stop)
    begin = saved = sampled = last = time.monotonic()
    losses: list[float] = []
    with (out / "loss.jsonl").open("a") as log:
        while trainer.images < trainer.config.max_images and not stop and time.monotonic() - begin < 60 * minutes:
            losses.append(trainer.train_step())
            now = time.monotonic()
            trainer.seconds += now - last
            last = now
            if len(losses) == 50:
                record = {
                    "step": trainer.step, "images": trainer.images, "loss": round(sum(losses) / len(losses), 5),
                    "minutes": round(trainer.seconds / 60, 2), "resolution": trainer.config.resolution,
                }  # fmt: skip
                log.write(json.dumps(record) + "\n")
                log.flush()
                print(record, flush=True)
                losses.clear()
            if now - saved > 60 * save_minutes:
                export(trainer, out)
                saved = last = time.monotonic()
            if now - sampled > 60 * sample_minutes:
                draw_samples(trainer, out)
                sampled = last = time.monotonic()
    export(trainer, out)
    if not stop:  # who stops a run wants it to end
        draw_samples(trainer, out)


def export(trainer: Trainer, out: Path) -> None:
    """Saves the state and the averaged weights as a diffusers folder `prior`."""
    trainer.save(out)
    with trainer.averaged():
        network.save(trainer.networks, out / "prior", image_size=trainer.config.resolution)


def draw_samples(trainer: Trainer, out: Path) -> None:
    """A picture of samples, four views a prompt."""
    (out / "samples").mkdir(exist_ok=True)
    with trainer.averaged():
        sample_grid(trainer.prior(), out / "samples" / f"{trainer.images:08d}.png")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m splatdistill.embedded.train", description=__doc__)
    parser.add_argument(
        "--corpus", type=Path, required=True, help="folder of `python -m splatdistill.embedded.corpus build`"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="run folder: state, loss.jsonl, samples, exported prior"
    )
    parser.add_argument("--warm-start", type=Path, help="exported prior to begin a new run from")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after this time")
    parser.add_argument("--save-minutes", type=float, default=5.0)
    parser.add_argument("--sample-minutes", type=float, default=10.0)
    for name, value in asdict(TrainConfig()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    args = parser.parse_args(argv)
    config = TrainConfig(**{name: getattr(args, name) for name in asdict(TrainConfig())})
    try:
        corpus = Corpus(args.corpus, seed=config.seed)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    torch.manual_seed(config.seed)
    networks = network.create()
    if args.warm_start:
        warm_start(networks, args.warm_start)
    trainer = Trainer(config, networks=networks, corpus=corpus)
    args.out.mkdir(parents=True, exist_ok=True)
    if (args.out / STATE).exists():
        trainer.restore(args.out)
    (args.out / "config.json").write_text(json.dumps(asdict(config), indent=1))
    print(
        f"{sum(p.numel() for p in trainer.parameters.values()) / 1e6:.2f} M parameters, step {trainer.step}", flush=True
    )
    run(trainer, out=args.out, minutes=args.minutes, save_minutes=args.save_minutes, sample_minutes=args.sample_minutes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
