"""The embedded kind of prior: a small UNet on pixels that denoises several views of one object jointly."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splatdistill.priors import engine as engines
from splatdistill.priors import parts
from splatdistill.priors.base import Choice
from splatdistill.priors.network import DenoiserInput, Text, UNetPrior, keep_bf16, pick_dtype, resize
from splatdistill.priors.packed import UNetInput
from splatdistill.priors.schedule import Schedule
from splatdistill.priors.vocabulary import META_FILE, Advice, Vocabulary, read_meta
from splatdistill.priors.volume import FeatureVolume, concat_features

NUM_MARKS = 4
"""Of the tokenizer's entries the first are no words: padding, unknown, beginning and end."""


def pixel_unshuffle(rgb: Tensor, patch: int) -> Tensor:
    """[V,H,W,3] in 0..1 to [V,3 patch^2,H/patch,W/patch] in -1..1."""
    return F.pixel_unshuffle(rgb.permute(0, 3, 1, 2) * 2 - 1, patch)


def pixel_shuffle(x0: Tensor, patch: int) -> Tensor:
    """Inverse of `pixel_unshuffle`: x0 [V,C,h,w] to [V,H,W,3], clamped to 0..1."""
    return (F.pixel_shuffle(x0, patch) * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)


class MultiViewPrior(UNetPrior):
    """The `Prior` protocol on a diffusers folder with unet, scheduler, text_encoder and tokenizer, all frozen.

    The networks may be those of `parts` or those of diffusers and transformers, which are called in the same way.
    """

    supports_single_view_cameras = True
    mixed = True

    def __init__(
        self,
        unet: nn.Module,
        *,
        text_encoder: Any,
        volume: FeatureVolume,
        tokenizer: Any,
        schedule: Schedule,
        meta: dict[str, Any],
        dtype: str = "fp32",
        origin: str = "",
    ) -> None:
        super().__init__(
            unet,
            schedule=schedule,
            num_views=meta["num_views"],
            image_size=meta["image_size"],
            dtype=dtype,
            origin=origin,
        )
        self.text_encoder, self.volume, self.tokenizer = text_encoder, volume, tokenizer
        self.patch: int = meta["patch"]
        self.vocabulary = Vocabulary.from_meta(meta) if "words" in meta else None
        self.nearest = False
        self._text: dict[str, Text] = {}
        self._planes: dict[bytes, Tensor] = {}

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        device: str = "cpu",
        dtype: str = "auto",
        engine: str = "torch",
        origin: str | None = None,
    ) -> MultiViewPrior:
        """Reads a local folder of safetensors. dtype: auto, bf16 or fp32; auto is bf16 where the hardware has it.
        engine: one of `engine.NAMES`, as in `engine.pick`, `engine.graphs` and `engine.compiled`.

        ValueError, one sentence, when the folder holds no prior or the engine is not there.
        """
        folder = Path(folder)
        if not (folder / META_FILE).exists():
            raise ValueError(
                f"No prior in {folder}: it has no {META_FILE}; train one with "
                "`python -m splatdistill.embedded.prior.pretrain` or name another folder."
            )
        dtype = pick_dtype(dtype, device=device)
        try:
            unet: Any = parts.load_unet(folder)
            text_encoder, tokenizer = parts.load_text_encoder(folder), parts.load_tokenizer(folder)
            volume, schedule = parts.load_volume(folder), parts.load_schedule(folder)
        except ValueError as error:
            raise ValueError(f"The prior in {folder} is not whole: {str(error).rstrip('.')}.") from error
        if unet.config["class_embed_type"] != "projection":
            raise ValueError(f"The prior in {folder} has no camera token, so it cannot tell views apart.")
        if dtype == "bf16":
            keep_bf16(unet)
        prior = cls(
            unet.to(device, memory_format=torch.channels_last).eval().requires_grad_(False),
            text_encoder=text_encoder.to(device).eval().requires_grad_(False),
            volume=volume.to(device).eval().requires_grad_(False),
            tokenizer=tokenizer,
            schedule=schedule,
            meta=read_meta(folder),
            dtype=dtype,
            origin=origin or str(folder),
        )
        prior.engine = engines.pick(engine, prior.unet, dtype=dtype, trial=prior._trial())
        prior.graphs = engines.graphs(engine, prior.device)
        prior.compiled = engines.compiled(engine, prior)
        return prior

    def begin(self, choice: Choice) -> None:
        super().begin(choice)
        if self.vocabulary and (refusal := self.vocabulary.refusal(choice.prompt, nearest=choice.nearest)):
            raise ValueError(f"prompt: {refusal}")
        self.nearest = choice.nearest

    def infer(self, inputs: DenoiserInput) -> Tensor:
        """The network's answer [R,C,h,w], by the engine where there is one."""
        if self.engine is None:
            return super().infer(inputs)
        sample, conditioning = self._unet_inputs(inputs.xt, inputs.cameras, inputs.pooled)
        sample, labels = sample.contiguous(memory_format=torch.channels_last), conditioning["class_labels"]
        views = {"num_views": self.num_views, "joint_rows": inputs.joint_rows}
        return self.engine(UNetInput(sample, inputs.t, inputs.text, labels, **views))

    def _trial(self) -> UNetInput:
        """Inputs of the shape that distillation has most often: a group of views under two conditions."""
        config, rows = self.unet.config, 2 * self.num_views
        draw = torch.Generator().manual_seed(0)
        shapes = (
            (rows, config["in_channels"], config["sample_size"], config["sample_size"]),
            (rows, self.text_encoder.config.max_position_embeddings, config["cross_attention_dim"]),
            (rows, config["projection_class_embeddings_input_dim"]),
        )
        sample, text, labels = (torch.randn(shape, generator=draw).to(self.device) for shape in shapes)
        t = torch.full((rows,), len(self.alphas_cumprod) // 2, device=self.device)
        sample = sample.contiguous(memory_format=torch.channels_last)
        return UNetInput(sample, t, text, labels, num_views=self.num_views, joint_rows=rows)

    def encode(self, rgb: Tensor) -> Tensor:
        return pixel_unshuffle(resize(rgb, self.image_size), self.patch)

    def decode(self, x0: Tensor) -> Tensor:
        return pixel_shuffle(x0, self.patch)

    def _unet_inputs(self, xt: Tensor, cameras: Tensor | None, pooled: Tensor | None) -> tuple[Tensor, dict[str, Any]]:
        assert cameras is not None and pooled is not None
        sample = concat_features(xt, self.volume.render(self._planes_of(pooled), pooled, cameras))
        return sample, {"class_labels": torch.cat([cameras, pooled], -1)}

    @torch.no_grad()
    def _planes_of(self, words: Tensor) -> Tensor:
        """The planes of the volume for sums of words [R,D], on a CPU computed once for each; a GPU would wait."""
        if words.device.type != "cpu":
            return self.volume.planes_of(words)
        keys = [row.numpy().tobytes() for row in words]
        for key, row in zip(keys, words, strict=True):
            if key not in self._planes:
                self._planes[key] = self.volume.planes_of(row[None])
        return torch.cat([self._planes[key] for key in keys])

    @torch.no_grad()
    def _encode(self, prompt: str) -> Text:
        """Computed once per prompt. Says what it does not understand as `Advice`, a warning."""
        if self.vocabulary is not None:
            for sentence in self.vocabulary.check(prompt, nearest=self.nearest) if prompt.strip() else ():
                warnings.warn(sentence, Advice, stacklevel=4)
            prompt = self.vocabulary.normalise(prompt, nearest=self.nearest)
        if prompt not in self._text:
            self._text[prompt] = encode_text([prompt], text_encoder=self.text_encoder, tokenizer=self.tokenizer)
        return self._text[prompt]


def encode_text(prompts: list[str], *, text_encoder: Any, tokenizer: Any) -> Text:
    """Token states [P,T,D] of prompts, padded to the encoder's length, and the sums of their words' vectors [P,D]."""
    length = text_encoder.config.max_position_embeddings
    batch = tokenizer(prompts, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    return read_words(batch["input_ids"].to(text_encoder.device), text_encoder=text_encoder)


def read_words(ids: Tensor, *, text_encoder: Any) -> Text:
    """As `encode_text`, of word numbers [P,T].

    The sum conditions the resolutions of the UNet that have no attention. Pooled token states would do, but
    begin nearly alike for all captions, and training takes ten times as many images before a caption matters.
    """
    vectors = text_encoder.get_input_embeddings()(ids)
    words = (vectors * (ids >= NUM_MARKS)[..., None]).sum(1)
    return Text(text_encoder(ids).last_hidden_state, words)
