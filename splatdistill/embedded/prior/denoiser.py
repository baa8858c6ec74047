"""One step of training the embedded prior after another: what is drawn, the loss, the optimizer, the averages."""

from __future__ import annotations

import copy
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splatdistill.embedded.corpus.dataset import BatchPlan, CaptionedBatch, Corpus, Mode
from splatdistill.embedded.network_training import NetworkTrainer, falling_rate
from splatdistill.embedded.prior import architecture as network
from splatdistill.embedded.prior.architecture import PriorNetworks
from splatdistill.priors.attention import ViewAttention, install_view_attention
from splatdistill.priors.embedded import MultiViewPrior, pixel_unshuffle, read_words
from splatdistill.priors.precision import has_fast_bf16
from splatdistill.priors.schedule import Schedule
from splatdistill.priors.volume import COLOURS, concat_features, current_name
from splatdistill.utils.device import send
from splatdistill.utils.rng import key


@dataclass(frozen=True)
class DenoiserConfig:
    """One run.

    decay: last fraction of `max_images` over which the learning rate falls linearly to 0. t_power: timesteps are
    1000 u^t_power with u uniform, so below 1 noisy ones come more often. noisy: share of them that is uniform in
    900..999 instead, because only the camera says the pose there, while below it the noisy image does. ring,
    words: shares of steps with groups of 4 views, and with view words instead of cameras; the rest are single views
    with cameras.
    """

    batch: int = 32
    resolution: int = 64
    lr: float = 1e-3
    warmup: int = 300
    decay: float = 0.5
    max_images: int = 520_000
    ema: float = 0.998
    weight_decay: float = 1e-2
    ring: float = 0.6
    words: float = 0.15
    t_power: float = 0.75
    noisy: float = 0.35
    seed: int = 0


@dataclass(frozen=True)
class DrawnBatch:
    """A plan with its captions as word numbers. ids: [U,T] of the U different ones; which: [B] rows of `ids`."""

    plan: BatchPlan
    ids: Tensor
    which: Tensor


class DenoiserTrainer(NetworkTrainer):
    """Networks, their averaged copy and the optimizer; every step is a function of (seed, step) and of the state.

    Nothing in a step waits for a GPU: the loss stays there, and the next plan is drawn meanwhile.
    """

    def __init__(
        self,
        config: DenoiserConfig,
        *,
        networks: PriorNetworks,
        corpus: Corpus,
        device: torch.device | None = None,
        compiled: bool = False,
    ) -> None:
        """compiled: by torch.compile, which takes minutes and then makes steps a quarter faster on a CPU."""
        self.networks = networks
        self.device = device or torch.device("cpu")
        self.corpus = corpus.to(self.device)
        self.views: ViewAttention = install_view_attention(networks.unet)
        networks.unet.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        networks.text_encoder.to(self.device)  # type: ignore[arg-type]
        self.forward = torch.compile(networks.unet.forward, dynamic=False) if compiled else networks.unet
        self.signal_power = networks.scheduler.alphas_cumprod.to(self.device)
        networks.volume.to(self.device)  # type: ignore[arg-type]
        parts = {"unet": networks.unet, "text": networks.text_encoder, "volume": networks.volume}
        self.optimise(nn.ModuleDict(parts), config)
        self.bf16 = self.device.type != "cpu" or has_fast_bf16()
        self._ahead: tuple[int, Future[DrawnBatch]] | None = None
        self._thread = ThreadPoolExecutor(1)

    def groups(self) -> list[dict[str, Any]]:
        """All learn alike but for what all objects have in common of the volume: it is no product of many weights."""
        shared = self.parameters["volume.planes.bias"]
        others = [p for p in self.parameters.values() if p is not shared]
        return [{"params": others, "gain": 1.0}, {"params": [shared], "gain": 10.0}]

    def learning_rate(self) -> float:
        return falling_rate(self.config, step=self.step, done=self.done)

    def about(self) -> dict[str, Any]:
        return {"resolution": self.config.resolution}

    def current_name(self, name: str) -> str:
        return current_name(name)

    def losses(self) -> dict[str, Tensor]:
        drawn = self._next()
        batch = self.corpus.paint(drawn.plan, size=self.config.resolution)
        return {"loss": self.loss(batch, ids=drawn.ids, which=drawn.which)}

    def loss(self, batch: CaptionedBatch, *, ids: Tensor, which: Tensor) -> Tensor:
        """[] mean of min(SNR + 1, 5) |x0 - x0_hat|^2; views of a group share their timestep, as in distillation. ids:
        [T,L] of the words of all texts; which: [V], the text of each view.

        Up to the cap it is the error of v, as in JiT (Li and He 2025). Min-SNR without the +1 gives noisy steps, where
        words and cameras matter, next to no weight: the network then stays a shallow, unconditioned denoiser.
        """
        draw = self._generator()
        x0 = pixel_unshuffle(batch.rgb, network.PATCH)
        t = self._timesteps(len(x0) // batch.views, draw).repeat_interleave(batch.views)
        noise = torch.randn(x0.shape, generator=draw, device=self.device)
        signal_power = self.signal_power[t].view(-1, 1, 1, 1)
        alpha, sigma = signal_power.sqrt(), (1 - signal_power).sqrt()
        self.views.num_views = batch.views
        self.views.joint_rows = len(x0) if batch.views > 1 else 0
        ids, which = send(ids, self.device), send(which, self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            text = read_words(ids, text_encoder=self.networks.text_encoder)
        assert text.pooled is not None
        words = text.pooled.float()[which]
        features = self.networks.volume(words, batch.camera)
        sample = concat_features(alpha * x0 + sigma * noise, features)
        sample = sample.contiguous(memory_format=torch.channels_last)
        labels = torch.cat([batch.camera, words], -1)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            out = self.forward(sample, t, text.tokens[which], class_labels=labels, return_dict=False)[0]
        denoising = ((1 / (1 - signal_power)).clamp(max=5) * (out.float() - x0) ** 2).mean()
        return denoising + self._volume_color_loss(features, batch)

    def _volume_color_loss(self, features: Tensor, batch: CaptionedBatch) -> Tensor:
        """[] squared error of the volume's own colours in front of the batch's backgrounds, of views with a camera;
        features: [V,F+1,s,s], alpha last.

        The denoising loss alone would shape the volume too, through a network that must first learn to use it.
        """
        picture = F.adaptive_avg_pool2d(batch.rgb.permute(0, 3, 1, 2) * 2 - 1, features.shape[-1])
        ground = batch.rgb[:, 0, 0, :, None, None] * 2 - 1  # no object reaches a corner
        guess = features[:, :COLOURS] + (1 - features[:, -1:]) * ground
        has_camera = (batch.camera != 0).any(-1).view(-1, 1, 1, 1)
        return ((guess - picture) ** 2 * has_camera).mean()

    def _generator(self) -> torch.Generator:
        # On the device itself: a processor alone would take longer for the noise than a GPU for the step.
        return torch.Generator(self.device).manual_seed(key(self.config.seed, self.step, "diffusion"))

    def _next(self) -> DrawnBatch:
        """This step's plan, which the step before began to draw; begins the next."""
        if self._ahead is None or self._ahead[0] != self.step:
            self._ahead = self.step, self._thread.submit(self._draw, self.step)
        drawn = self._ahead[1].result()
        self._ahead = self.step + 1, self._thread.submit(self._draw, self.step + 1)
        return drawn

    def _draw(self, step: int) -> DrawnBatch:
        plan = self.corpus.draw(step, mode=self._mode(step), num_images=self.config.batch)
        rows = {caption: row for row, caption in enumerate(dict.fromkeys(plan.captions))}
        length = self.networks.text_encoder.config.max_position_embeddings
        words = self.networks.tokenizer(
            list(rows), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )
        return DrawnBatch(plan, words["input_ids"], torch.tensor([rows[c] for c in plan.captions]))  # type: ignore[arg-type]

    def _timesteps(self, num: int, draw: torch.Generator) -> Tensor:
        uniform, which = torch.rand(2, num, generator=draw, device=self.device)
        t = torch.where(which < self.config.noisy, 0.9 + 0.1 * uniform, uniform**self.config.t_power)
        return (1000 * t).long().clamp(max=999)

    def _mode(self, step: int) -> Mode:
        draw = torch.rand((), generator=torch.Generator().manual_seed(key(self.config.seed, step, "mode"))).item()
        if draw < self.config.ring:
            return "ring"
        return "words" if draw > 1 - self.config.words else "camera"

    def prior(self) -> MultiViewPrior:
        """A copy of the networks as distillation will see them; call inside `averaged`."""
        n = copy.deepcopy(self.networks)
        hooks = n.unet.class_embedding._forward_hooks  # type: ignore[union-attr]
        hooks.clear()  # the prior installs its own
        return MultiViewPrior(
            n.unet, text_encoder=n.text_encoder, volume=n.volume, tokenizer=n.tokenizer,
            schedule=Schedule.from_config(n.scheduler.config),
            meta=network.meta(image_size=self.config.resolution, nouns=self.corpus.nouns),
            dtype="bf16" if self.bf16 else "fp32",
        )  # fmt: skip


def warm_start(networks: PriorNetworks, folder: Path) -> None:
    """Copies the weights of an exported folder; word vectors are matched by word, so that the vocabulary may grow.

    ValueError, one sentence, for a folder of another architecture.
    """
    old = MultiViewPrior.load(folder, dtype="fp32")
    known, own = old.tokenizer.get_vocab(), networks.tokenizer.get_vocab()
    with torch.no_grad():
        words = network.word_embedding(networks.text_encoder).clone()
        vectors = network.word_embedding(old.text_encoder)
        # transformers 4 has this before every name, transformers 5 and the plain encoder do not.
        prefix = "text_model." if hasattr(networks.text_encoder, "text_model") else ""
        text = {prefix + name.removeprefix("text_model."): x for name, x in old.text_encoder.state_dict().items()}
        try:
            for word, row in own.items():
                if word in known:
                    words[row] = vectors[known[word]]
            networks.unet.load_state_dict(old.unet.state_dict())
            networks.volume.load_state_dict(old.volume.state_dict())
            networks.text_encoder.load_state_dict({**text, f"{prefix}embeddings.token_embedding.weight": words})
        except RuntimeError as error:
            raise ValueError(f"The prior in {folder} has another architecture than the one to be trained.") from error
