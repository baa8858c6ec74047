"""A real CLIP as the judge: any CLIP model that transformers can read, from a folder or from the hub's cache."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoTokenizer, CLIPConfig, CLIPModel

from splatdistill.io.foreign import refuse_code, refuse_gaps

_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of every CLIP of OpenAI's


class Clip:
    """CLIP of `source`, a local folder or a hub id. ValueError, one sentence, when there is none that loads."""

    def __init__(self, source: str) -> None:
        if Path(source).is_dir():
            _check(Path(source))
        try:
            config = CLIPConfig.from_pretrained(source)
            refuse_code(config.to_dict(), where=f"{source}'s config.json")
            # No code from a model folder or by its wish, and no format that can hold any.
            kind: Any = CLIPModel  # whose hints know one answer, without the report
            model, info = kind.from_pretrained(
                source, use_safetensors=True, output_loading_info=True, attn_implementation="sdpa"
            )
            refuse_gaps(info, model.state_dict())
            self.model = model.eval()
            self.tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        except Exception as error:  # a dozen kinds, from the hub's to the file system's
            plain = type(error) is ValueError and "\n" not in str(error)
            why = str(error).rstrip(".") if plain else type(error).__name__
            raise ValueError(
                f"clip: {source!r} does not load as a CLIP model ({why}); name a folder with its "
                "config, tokenizer and safetensors, or an id that can be downloaded."
            ) from error
        self.name = f"CLIP {source}"
        vision, text = (getattr(config, f"{kind}_config") for kind in ("vision", "text"))
        self.image_size: int = vision.image_size
        self.longest: int = text.max_position_embeddings

    @torch.no_grad()
    def embed_images(self, rgb: Tensor) -> Tensor:
        """[V,H,W,3] in 0..1 to [V,D] of unit length."""
        x = rgb.permute(0, 3, 1, 2)
        if x.shape[-1] != self.image_size:
            x = F.interpolate(x, size=(self.image_size,) * 2, mode="bicubic", antialias=True)
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (_MEAN, _STD))
        pooled = self.model.vision_model(pixel_values=(x - mean) / std).pooler_output
        return F.normalize(self.model.visual_projection(pooled), dim=-1)

    def reads(self, prompt: str) -> bool:
        """Any: what its tokenizer lacks is spelt."""
        return True

    @torch.no_grad()
    def embed_texts(self, prompts: Sequence[str]) -> Tensor:
        """T prompts to [T,D] of unit length; cut where they are longer than the model reads."""
        tokens = self.tokenizer(
            list(prompts), padding=True, truncation=True, max_length=self.longest, return_tensors="pt"
        )
        pooled = self.model.text_model(tokens.input_ids, attention_mask=tokens.attention_mask).pooler_output
        return F.normalize(self.model.text_projection(pooled), dim=-1)


def _check(folder: Path) -> None:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = config.get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(f"clip: {folder} is not a model folder: it has no config.json that can be read.") from error
    if kind != "clip":
        raise ValueError(f"clip: {folder} is not a CLIP: its config.json says model_type {kind!r}.")
    refuse_code(config, where=f"clip: {folder / 'config.json'}")
