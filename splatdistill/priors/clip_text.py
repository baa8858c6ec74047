"""The text side of the embedded prior without transformers: its CLIP text encoder and its tokenizer of words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn


@dataclass(frozen=True)
class Encoded:
    """last_hidden_state: [P,T,D], the states of P texts of T tokens."""

    last_hidden_state: Tensor


class CLIPText(nn.Module):
    """CLIP's text model (Radford 2021) as transformers has it: names, order of operations, and how it is asked."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """config: the contents of the folder's config.json."""
        super().__init__()
        self.config = _Config(**{key: config[key] for key in _Config.__annotations__})
        width, eps = config["hidden_size"], config.get("layer_norm_eps", 1e-5)
        self.embeddings = nn.ModuleDict(
            {
                "token_embedding": nn.Embedding(config["vocab_size"], width),
                "position_embedding": nn.Embedding(config["max_position_embeddings"], width),
            }
        )
        layers = [
            Layer(width, config["intermediate_size"], heads=config["num_attention_heads"], eps=eps)
            for _ in range(config["num_hidden_layers"])
        ]
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(layers)})
        self.final_layer_norm = nn.LayerNorm(width, eps=eps)

    @staticmethod
    def supports(config: Mapping[str, Any]) -> bool:
        """Whether this is the model that the contents of a config.json describe."""
        return config.get("model_type") == "clip_text_model" and config.get("hidden_act") == "quick_gelu"

    @property
    def device(self) -> torch.device:
        return self.final_layer_norm.weight.device

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings["token_embedding"]

    def forward(self, ids: Tensor) -> Encoded:
        """ids: [P,T] int64."""
        places = torch.arange(ids.shape[1], device=ids.device)[None]
        x = self.embeddings["token_embedding"](ids) + self.embeddings["position_embedding"](places)
        layers: Any = self.encoder["layers"]
        for layer in layers:
            x = layer(x)
        return Encoded(self.final_layer_norm(x))


@dataclass(frozen=True)
class _Config:
    max_position_embeddings: int


class Layer(nn.Module):
    """Attention to the tokens before, and a feed-forward net."""

    def __init__(self, width: int, hidden: int, *, heads: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.self_attn = nn.ModuleDict({f"{name}_proj": nn.Linear(width, width) for name in ("k", "v", "q", "out")})
        self.layer_norm1 = nn.LayerNorm(width, eps=eps)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, hidden), "fc2": nn.Linear(hidden, width)})
        self.layer_norm2 = nn.LayerNorm(width, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """States x [R,L,D], as they leave the layer: [R,L,D]."""
        seen = self.layer_norm1(x)
        query, key, value = (
            self.self_attn[f"{name}_proj"](seen).unflatten(-1, (self.heads, -1)).transpose(1, 2) for name in "qkv"
        )
        out = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.self_attn["out_proj"](out.transpose(1, 2).flatten(2))
        inside = self.mlp["fc1"](self.layer_norm2(x))
        return x + self.mlp["fc2"](inside * torch.sigmoid(1.702 * inside))  # CLIP's "quick" GELU


class WordTokenizer:
    """A tokenizer.json as `tokenizers` reads it, asked as a tokenizer of transformers."""

    def __init__(self, file: Path, config: Mapping[str, Any]) -> None:
        """config: the contents of the tokenizer_config.json beside it. ValueError where the file holds no tokenizer."""
        try:
            self._tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # it raises nothing narrower
            raise ValueError(f"{file.parent.name}/{file.name} cannot be read: {error}") from error
        self._pad: str = config["pad_token"]
        self.all_special_tokens = [config[f"{name}_token"] for name in ("bos", "eos", "unk", "pad")]

    def get_vocab(self) -> dict[str, int]:
        return self._tokenizer.get_vocab()

    def __call__(self, texts: Sequence[str], *, max_length: int, **_: Any) -> dict[str, Tensor]:
        """input_ids: [P,max_length] of texts, cut or padded."""
        pad = self._tokenizer.token_to_id(self._pad)
        self._tokenizer.enable_truncation(max_length)
        self._tokenizer.enable_padding(length=max_length, pad_id=pad, pad_token=self._pad)
        return {"input_ids": torch.tensor([found.ids for found in self._tokenizer.encode_batch(list(texts))])}
