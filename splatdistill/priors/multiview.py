"""A diffusers UNet that denoises several views of one object jointly: camera token, self-attention across the views."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor2_0
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor, nn
from transformers import CLIPTextModel, PreTrainedTokenizerFast
from transformers.utils import logging

from splatdistill.cameras import camera_token
from splatdistill.device import send
from splatdistill.priors.base import Condition, Variational
from splatdistill.priors.words import META_FILE, Vocabulary
from splatdistill.types import Cameras


class ViewAttention:
    """Self-attention over the tokens of `num_views` consecutive rows at once.

    Only the first `joint_rows` rows are grouped; each later row attends to itself alone.
    """

    def __init__(self) -> None:
        self.num_views = 1
        self.joint_rows = 0
        self.inner = AttnProcessor2_0()

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        together, alone = hidden_states[: self.joint_rows], hidden_states[self.joint_rows :]
        out = []
        if len(together):
            tokens = together.shape[1]
            grouped = together.reshape(-1, self.num_views * tokens, together.shape[2])
            out.append(self.inner(attn, grouped, *args, **kwargs).reshape(len(together), tokens, -1))
        if len(alone):
            out.append(self.inner(attn, alone, *args, **kwargs))
        return torch.cat(out) if len(out) > 1 else out[0]


def install_view_attention(unet: UNet2DConditionModel) -> ViewAttention:
    """Gives all self-attentions of a UNet one shared `ViewAttention` and makes all-zero camera rows mean "none"."""
    views = ViewAttention()
    for name, module in unet.named_modules():
        if name.endswith(".attn1"):
            module.set_processor(views)  # type: ignore[operator]
    assert isinstance(unet.class_embedding, nn.Module)
    unet.class_embedding.register_forward_hook(_absent_camera)
    return views


def _absent_camera(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """The projection has biases, so a zero token would still say something: its row is silenced."""
    return output * (args[0] != 0).any(-1, keepdim=True)


def pixel_unshuffle(rgb: Tensor, patch: int) -> Tensor:
    """[V,H,W,3] in 0..1 to [V,3 patch^2,H/patch,W/patch] in -1..1."""
    return F.pixel_unshuffle(rgb.permute(0, 3, 1, 2) * 2 - 1, patch)


def pixel_shuffle(x0: Tensor, patch: int) -> Tensor:
    """Inverse of `pixel_unshuffle`, clamped to 0..1."""
    return (F.pixel_shuffle(x0, patch) * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)


def has_fast_bf16() -> bool:
    """Whether this processor multiplies bf16 natively; elsewhere bf16 is slower than fp32."""
    info = Path("/proc/cpuinfo")
    flags = info.read_text() if info.exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags


class MultiViewPrior:
    """The `Prior` protocol on a diffusers folder with unet, scheduler, text_encoder and tokenizer, all frozen."""

    knows_cameras = True

    def __init__(
        self,
        unet: UNet2DConditionModel,
        *,
        text_encoder: CLIPTextModel,
        tokenizer: PreTrainedTokenizerFast,
        scheduler: DDPMScheduler,
        meta: dict[str, Any],
        dtype: str = "fp32",
    ) -> None:
        self.unet, self.text_encoder, self.tokenizer = unet, text_encoder, tokenizer
        self.patch: int = meta["patch"]
        self.image_size: int = meta["image_size"]
        self.num_views: int = meta["num_views"]
        self.device = next(unet.parameters()).device
        self.alphas_cumprod: Tensor = scheduler.alphas_cumprod.to(self.device)
        self.vocabulary = Vocabulary.from_meta(meta) if "words" in meta else None
        self.views = install_view_attention(unet)
        self.dtype = dtype
        self.predicts_v = scheduler.config["prediction_type"] == "v_prediction"
        self._text: dict[str, Tensor] = {}

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "cpu", dtype: str = "auto") -> MultiViewPrior:
        """Reads a local folder of safetensors. dtype: auto, bf16 or fp32; auto is bf16 where the hardware has it.

        ValueError, one sentence, when the folder holds no prior.
        """
        folder = Path(folder)
        if not (folder / META_FILE).exists():
            raise ValueError(
                f"No prior in {folder}: it has no {META_FILE}; train one with `python -m splatdistill.embedded.train` "
                "or name another folder."
            )
        if dtype not in ("auto", "bf16", "fp32"):
            raise ValueError(f"dtype must be auto, bf16 or fp32, not {dtype}.")
        if dtype == "auto":
            dtype = "bf16" if device.startswith("cuda") or has_fast_bf16() else "fp32"
        files: dict[str, Any] = {"local_files_only": True, "use_safetensors": True}
        unet: Any
        text_encoder: Any
        scheduler: Any
        logging.disable_progress_bar()
        try:
            unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet", torch_dtype=torch.float32, **files)
            text_encoder = CLIPTextModel.from_pretrained(folder, subfolder="text_encoder", dtype=torch.float32, **files)
            scheduler = DDPMScheduler.from_pretrained(folder, subfolder="scheduler", local_files_only=True)
            tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer", local_files_only=True)
        except OSError as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise ValueError(f"The prior in {folder} is not whole: {reason}.") from error
        if unet.config.class_embed_type != "projection":
            raise ValueError(f"The prior in {folder} has no camera token, so it cannot tell views apart.")
        if dtype == "bf16":  # autocast would convert these anew in every call
            for module in unet.modules():
                if isinstance(module, nn.Conv2d | nn.Linear):
                    module.bfloat16()
        return cls(
            unet.to(device, memory_format=torch.channels_last).eval().requires_grad_(False),
            text_encoder=text_encoder.to(device).eval().requires_grad_(False),
            tokenizer=tokenizer,
            scheduler=scheduler,
            meta=json.loads((folder / META_FILE).read_text()),
            dtype=dtype,
        )

    def encode(self, rgb: Tensor) -> Tensor:
        """[V,H,W,3] in 0..1 to x0 [V,C,h,w], differentiable; resizes to the native size."""
        if rgb.shape[1:3] != (self.image_size, self.image_size):
            images = rgb.permute(0, 3, 1, 2)
            size = (self.image_size, self.image_size)
            rgb = F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False).permute(0, 2, 3, 1)
        return pixel_unshuffle(rgb, self.patch)

    def decode(self, x0: Tensor) -> Tensor:
        """x0 [V,C,h,w] to [V,H,W,3] in 0..1."""
        return pixel_shuffle(x0, self.patch)

    def embed(self, prompt: str | Sequence[str], cameras: Cameras | None, *, token: bool = True) -> Condition:
        """One condition for V cameras, or for as many views as there are prompts when no camera is told; `predict`
        spreads a single one.
        """
        text = torch.cat([self._encode(p) for p in ([prompt] if isinstance(prompt, str) else prompt)])
        if cameras is None or not token:
            return Condition(text=text, camera=None)
        return Condition(text=text.expand(len(cameras), -1, -1), camera=send(camera_token(cameras), self.device))

    @torch.no_grad()
    def _encode(self, prompt: str) -> Tensor:
        """[1,T,D] token states, computed once per prompt."""
        if self.vocabulary is not None:
            prompt = self.vocabulary.normalise(prompt)
        if prompt not in self._text:
            self._text[prompt] = encode_text([prompt], text_encoder=self.text_encoder, tokenizer=self.tokenizer)
        return self._text[prompt]

    @torch.no_grad()
    def predict(self, xt: Tensor, t: Tensor, conditions: Sequence[Condition]) -> list[Tensor]:
        """fp32 epsilon for each of K conditions, K tensors like xt [V,C,h,w], in one network call; t: [V] int64.

        Views of conditions with cameras attend to each other in consecutive groups of `num_views`.
        """
        num = len(xt)
        # Rows with cameras go first, because the joint rows of the view attention are the first ones.
        order = sorted(range(len(conditions)), key=lambda k: conditions[k].camera is None)
        with_camera = sum(c.camera is not None for c in conditions)
        if with_camera and num % self.num_views:
            raise ValueError(f"The number of views ({num}) must be a multiple of {self.num_views} for this prior.")
        text = torch.cat([conditions[k].text.expand(num, -1, -1) for k in order])
        zeros = xt.new_zeros(num, 16)  # no camera
        cameras = torch.cat([c if (c := conditions[k].camera) is not None else zeros for k in order])
        repeat = (len(conditions), 1, 1, 1)
        rows = t.repeat(len(conditions))
        eps = self.denoise(xt.detach().repeat(repeat), rows, text=text, cameras=cameras, joint_rows=with_camera * num)
        if self.predicts_v:
            alpha, sigma = self._alpha_sigma(t)
            eps = alpha.repeat(repeat) * eps + sigma.repeat(repeat) * xt.repeat(repeat)
        chunks = eps.chunk(len(conditions))
        return [chunks[order.index(k)] for k in range(len(conditions))]

    def denoise(self, xt: Tensor, t: Tensor, *, text: Tensor, cameras: Tensor | None, joint_rows: int = 0) -> Tensor:
        """The network's own answer in fp32, epsilon or v, at R rows xt [R,C,h,w]; differentiable.

        text: [R,T,D] or [1,T,D]. cameras: [R,16], None or zeros for no camera. The first `joint_rows` rows see each
        other in groups.
        """
        self.views.num_views, self.views.joint_rows = self.num_views, joint_rows
        cameras = cameras if cameras is not None else xt.new_zeros(len(xt), 16)
        xt, text = xt.contiguous(memory_format=torch.channels_last), text.expand(len(xt), -1, -1)
        with torch.autocast(xt.device.type, torch.bfloat16, enabled=self.dtype == "bf16"):
            return self.unet(xt, t, text, class_labels=cameras, return_dict=False)[0].float()

    def variational(
        self, prompt: str, *, particles: int, rank: int, lr: float, dropout: float, seed: int
    ) -> Variational:
        """Adapters on this prior's own network, which `predict` leaves out."""
        from splatdistill.priors.lora import LoRAScore  # peft loads here only

        return LoRAScore(self, prompt=prompt, particles=particles, rank=rank, lr=lr, dropout=dropout, seed=seed)

    def _alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        signal = self.alphas_cumprod[t].view(-1, 1, 1, 1)
        return signal.sqrt(), (1 - signal).sqrt()


def encode_text(prompts: list[str], *, text_encoder: CLIPTextModel, tokenizer: PreTrainedTokenizerFast) -> Tensor:
    """Token states [P,T,D] of prompts, padded to the encoder's length."""
    length = text_encoder.config.max_position_embeddings
    batch = tokenizer(prompts, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    return text_encoder(batch["input_ids"].to(text_encoder.device)).last_hidden_state
