"""Prompts as the networks of diffusers folders read them, encoded once: in memory, and on disk by hash.

An encoder is loaded for the prompts that no cache knows, and dropped again: the largest weighs more than its UNet.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from splatdistill.io.cache import TEXTS, cache_folder, writing
from splatdistill.io.files import replacing
from splatdistill.priors.network import Text
from splatdistill.priors.offload import release
from splatdistill.priors.prompts import siblings

IF_TOKENS, T5_TOKENS = 77, 256  # what diffusers' pipelines pad to


@dataclass(frozen=True)
class TextEncoder:
    """A text encoder of transformers and its tokenizer."""

    model: nn.Module
    tokenizer: Any

    def __call__(self, prompts: Sequence[str], *, length: int = 0, masked: bool = False) -> Any:
        """All that the encoder returns for prompts padded to `length` tokens. 0: to as many as a CLIP reads, which its
        folder says and diffusers' pipelines pad to; 77 of OpenAI's, 248 of Long-CLIP.
        """
        if not length:
            config: Any = self.model.config
            length = min(self.tokenizer.model_max_length, config.max_position_embeddings)
        batch = self.tokenizer(
            list(prompts), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )
        device = next(self.model.parameters()).device
        mask = batch["attention_mask"].to(device) if masked else None
        return self.model(batch["input_ids"].to(device), attention_mask=mask, output_hidden_states=True)


TextEncoders = Mapping[str, TextEncoder]
"""By the names of their folders: text_encoder, text_encoder_2, text_encoder_3."""
EncodePrompts = Callable[[TextEncoders, Sequence[str]], tuple[Tensor | Sequence[Tensor], Tensor | None]]
"""Text encoders and P prompts to P tensors of tokens [T,D] and pooled [P,W] or None."""


def encode_clip(encoders: TextEncoders, prompts: Sequence[str]) -> tuple[Tensor, None]:
    """Stable Diffusion 1 and 2, MVDream: the last state [R,T,D] of one CLIP."""
    return encoders["text_encoder"](prompts).last_hidden_state, None


def encode_sdxl(encoders: TextEncoders, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """SDXL: the last state but one of two CLIPs side by side [R,T,D], and the second's projection [R,P]."""
    first, second = (encoders[name](prompts) for name in ("text_encoder", "text_encoder_2"))
    return torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1), second.text_embeds


def encode_t5(encoders: TextEncoders, prompts: Sequence[str]) -> tuple[Tensor, None]:
    """DeepFloyd IF: T5 on lower-case text; its padding is masked. States [R,T,D]."""
    plain = [prompt.lower().strip() for prompt in prompts]
    return encoders["text_encoder"](plain, length=IF_TOKENS, masked=True).last_hidden_state, None


def encode_sd3(encoders: TextEncoders, prompts: Sequence[str], *, width: int) -> tuple[Tensor, Tensor]:
    """Stable Diffusion 3: two CLIPs side by side, padded to T5's width, then T5, or zeros where it was left out. States
    [R,T,width] and projections [R,P].
    """
    clips = [encoders[name](prompts) for name in ("text_encoder", "text_encoder_2")]
    states = torch.cat([clip.hidden_states[-2] for clip in clips], -1)
    states = torch.nn.functional.pad(states, (0, width - states.shape[-1]))
    if "text_encoder_3" in encoders:
        long = encoders["text_encoder_3"](prompts, length=T5_TOKENS).last_hidden_state.to(states)
    else:
        long = states.new_zeros(len(prompts), T5_TOKENS, width)
    return torch.cat([states, long], 1), torch.cat([clip.text_embeds for clip in clips], -1)


class TextCache:
    """Texts by prompt. load: brings the encoders when they are needed. key: names encoder, tokenizer and precision.

    empty_is_zero: the empty prompt is all zeros, as SDXL was trained.
    """

    def __init__(
        self,
        load: Callable[[], TextEncoders],
        read: EncodePrompts,
        *,
        key: str,
        device: torch.device,
        empty_is_zero: bool = False,
    ) -> None:
        self._load, self._read, self._key, self._device = load, read, key, device
        self._empty_is_zero = empty_is_zero
        self._known: dict[str, Text] = {}

    def get(self, prompt: str) -> Text:
        if prompt not in self._known:
            self._learn([prompt, *siblings(prompt)])
        return self._known[prompt]

    @torch.no_grad()
    def _learn(self, prompts: Sequence[str]) -> None:
        missing = []
        for prompt in dict.fromkeys(prompts):
            found = _read_file(cache_folder() / self._name(prompt))
            if found is None:
                missing.append(prompt)
            elif prompt not in self._known:
                self._known[prompt] = self._place(found)
        if not missing:
            return
        encoders = self._load()
        tokens, pooled = self._read(encoders, missing)
        for i, prompt in enumerate(missing):
            states, vector = tokens[i][None].float(), None if pooled is None else pooled[i : i + 1].float()
            if self._empty_is_zero and not prompt:
                states, vector = torch.zeros_like(states), None if vector is None else torch.zeros_like(vector)
            text = Text(states.clone(), None if vector is None else vector.clone())
            _write_file(self._name(prompt), text)
            self._known[prompt] = self._place(text)
        del encoders, tokens, pooled
        release()

    def _place(self, text: Text) -> Text:
        return Text(text.tokens.to(self._device), None if text.pooled is None else text.pooled.to(self._device))

    def _name(self, prompt: str) -> str:
        """Of its file in the cache."""
        name = hashlib.blake2b(f"{self._key}\0{prompt}".encode(), digest_size=16).hexdigest()
        return f"{TEXTS}/{name}.safetensors"


def fingerprint(paths: Sequence[Path], *extra: object) -> str:
    """Tells one set of files from another without reading them: names, sizes, times, and the hub's hashes if any."""
    facts: list[Any] = [str(x) for x in extra]
    for path in sorted(p for root in paths for p in ([root] if root.is_file() else root.rglob("*")) if p.is_file()):
        real = path.resolve()  # the hub's cache links to files that are named by their hash
        facts.append([path.name, str(real), real.stat().st_size, real.stat().st_mtime_ns])
    return hashlib.blake2b(json.dumps(facts).encode(), digest_size=16).hexdigest()


def _read_file(path: Path) -> Text | None:
    try:
        tensors = load_file(path)
        return Text(tensors["tokens"], tensors.get("pooled"))
    except (OSError, SafetensorError, KeyError):  # not there, or cut: then it is made anew
        return None


def _write_file(name: str, text: Text) -> None:
    tensors = {"tokens": text.tokens} | ({} if text.pooled is None else {"pooled": text.pooled})
    with writing(name) as path, replacing(path) as temporary:  # not written, the next run encodes again
        temporary.write_bytes(save({name: x.cpu().contiguous() for name, x in tensors.items()}))
