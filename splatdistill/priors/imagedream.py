"""ImageDream (Wang and Shi, arXiv 2312.02201), in its diffusers folder: MVDream that is shown a picture.

The picture comes in twice, as in that folder's pipeline (github.com/ashawkey/mvdream_diffusers). Each view attends to a
few tokens that a resampler makes of CLIP's states of it, beside those of the text. And a further view stands behind
those of each group: the picture's own latents without noise, whose camera is zeros. Its answer is left out.

What is asked without the picture gets zeros for both: the states that the resampler reads, and the latents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.embeddings import IPAdapterPlusImageProjection
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from splatdistill.priors import mvdream
from splatdistill.priors.base import Choice, Picture
from splatdistill.priors.diffusers_checkpoint import DiffusersCheckpoint
from splatdistill.priors.diffusion import DiffusionPrior
from splatdistill.priors.network import DenoiserInput, Text, resize
from splatdistill.priors.offload import release
from splatdistill.priors.pictured import USUAL, set_into
from splatdistill.priors.prompts import siblings
from splatdistill.priors.resolve import ModelSource, read_small
from splatdistill.priors.text_encoders import EncodePrompts, encode_clip

ENCODER, READER = "image_encoder", "feature_extractor"
"""Folders of CLIP, and of what it expects of pictures."""
RESAMPLER, OF_PICTURE = "image_embed.", ("to_k_ip", "to_v_ip")
"""How names of the resampler's weights begin, and what attention to the picture's tokens has of its own."""
_RESAMPLER = {
    "0.norm1": "ln0", "0.norm2": "ln1", "0.to_q": "attn.to_q", "0.to_out": "attn.to_out.0", "1.0": "ff.0",
    "1.1": "ff.1.net.0.proj", "1.3": "ff.1.net.2",
}  # fmt: skip
PIXELS = 512  # a side of the picture before CLIP's and the VAE's own sizes


class PictureAttention:
    """Cross-attention whose last `tokens` of the context are of the picture: they have keys and values of their own,
    and what is found there is added with this weight.
    """

    def __init__(self, tokens: int, weight: float) -> None:
        self.tokens, self.weight = tokens, weight

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any) -> Tensor:
        """hidden_states [R,N,W] and, like them, what is returned; encoder_hidden_states: [R,T,D]."""
        words, picture = encoder_hidden_states[:, : -self.tokens], encoder_hidden_states[:, -self.tokens :]
        projected = (
            attn.to_q(hidden_states), attn.to_k(words), attn.to_v(words), attn.to_k_ip(picture), attn.to_v_ip(picture),
        )  # fmt: skip
        query, *others = (x.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for x in projected)
        out = F.scaled_dot_product_attention(query, others[0], others[1])
        out = out + self.weight * F.scaled_dot_product_attention(query, others[2], others[3])
        return attn.to_out[0](out.transpose(1, 2).flatten(2))


def make_unet(state: mvdream.State, *, weight: float = 1.0) -> Any:
    """From the weights under their original names, the resampler's left out. weight: of what views find in the
    picture's tokens.
    """
    tokens = mvdream.width(state, f"{RESAMPLER}latents", side=1)
    own = {key: value for key, value in state.items() if not key.startswith(RESAMPLER)}
    with torch.device("meta"):
        unet: Any = mvdream.empty_unet(own)
        for name, module in unet.named_modules():
            if name.endswith(".attn2"):
                for part in OF_PICTURE:
                    module.add_module(part, nn.Linear(module.to_k.in_features, module.to_k.out_features, bias=False))
                module.set_processor(PictureAttention(tokens, weight))
    return mvdream.fill(unet, mvdream.renamed(own, mvdream.unet_name))


def make_resampler(state: mvdream.State) -> IPAdapterPlusImageProjection:
    """From its weights under their original names; others are left out."""
    own = {key.removeprefix(RESAMPLER): value for key, value in state.items() if key.startswith(RESAMPLER)}
    hidden = mvdream.width(own, "proj_in.weight")
    with torch.device("meta"):
        made = IPAdapterPlusImageProjection(
            embed_dims=mvdream.width(own, "proj_in.weight", side=1),
            output_dims=mvdream.width(own, "proj_out.weight"),
            hidden_dims=hidden,
            depth=1 + max((int(key.split(".")[1]) for key in own if key.startswith("layers.")), default=-1),
            dim_head=mvdream.HEAD,
            heads=mvdream.width(own, "layers.0.0.to_q.weight") // mvdream.HEAD,
            num_queries=mvdream.width(own, "latents", side=1),
            ffn_ratio=mvdream.width(own, "layers.0.1.1.weight") // hidden,
        )
    found: dict[str, Tensor] = {}
    for key, value in own.items():
        found |= _resampler_weights(key, value)
    return mvdream.fill(made, found)


def _resampler_weights(key: str, value: Tensor) -> dict[str, Tensor]:
    """A weight [...] under the names that diffusers has for it or its halves."""
    if not key.startswith("layers."):
        return {key: value}
    _, number, rest = key.split(".", 2)
    old, _, end = rest.rpartition(".")
    if old == "0.to_kv":
        halves = zip("kv", value.chunk(2), strict=True)
        return {f"layers.{number}.attn.to_{which}.{end}": half for which, half in halves}
    return {f"layers.{number}.{_RESAMPLER.get(old, old)}.{end}": value}


def as_clip_reads(rgb: Tensor, settings: Mapping[str, Any]) -> Tensor:
    """[1,3,S,S] of a square picture [3,H,W] in 0..1. settings: of preprocessor_config.json.

    What CLIPImageProcessor of transformers does, which wants torchvision where it is not told another backend.
    """
    side, crop = settings["size"], settings["crop_size"]
    side = side["shortest_edge"] if isinstance(side, Mapping) else side
    crop = crop["height"] if isinstance(crop, Mapping) else crop
    pixels = (rgb.movedim(0, -1) * 255).byte().cpu().numpy()
    small = np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC))
    first = (side - crop) // 2
    inner = torch.from_numpy(small[first : first + crop, first : first + crop].copy()).float() / 255
    mean, std = (torch.tensor(settings[name]) for name in ("image_mean", "image_std"))
    return ((inner - mean) / std).movedim(-1, 0)[None]


class ImageDreamPrior(DiffusionPrior):
    """A run's own prompt, from whatever side, is asked with the picture; all other texts are asked without."""

    def __init__(self, network: nn.Module, **settings: Any) -> None:
        super().__init__(network, **settings)
        assert self.views is not None
        self.views.zero_is_a_camera = True
        self._folder: DiffusersCheckpoint
        self._with_picture: frozenset[str] = frozenset()  # prompts
        self._known: dict[str, Text] = {}
        self._shown: Text | None = None
        self._blank: Text | None = None

    @classmethod
    def load(cls, source: ModelSource, **settings: Any) -> Self:
        prior = super().load(source, **settings)
        prior._folder = DiffusersCheckpoint(source.path)
        return prior

    @classmethod
    def check_network(
        cls, folder: DiffusersCheckpoint, config: dict[str, Any], vae: dict[str, Any] | None
    ) -> EncodePrompts:
        if folder.parts.get(ENCODER) != "CLIPVisionModel":
            raise ValueError(f"prior: {folder.root} is ImageDream without its {ENCODER}, a CLIPVisionModel.")
        if not {"size", "crop_size", "image_mean", "image_std"} <= set(_settings(folder.root)):
            raise ValueError(f"prior: {folder.root} is not whole: its {READER} does not say how CLIP reads pictures.")
        folder.check(ENCODER)
        return encode_clip

    @classmethod
    def load_network(cls, folder: DiffusersCheckpoint, config: dict[str, Any]) -> nn.Module:
        state = {key: value for path in folder.check("unet") for key, value in load_file(path).items()}
        return make_unet(state, weight=float(config.get("ip_weight", 1.0)))

    @property
    def together(self) -> int:
        return self.num_views + 1

    @property
    def num_tokens(self) -> int:
        """How many tokens a picture is to the network."""
        return int(self._folder.config("unet")["ip_dim"])

    def begin(self, choice: Choice) -> None:
        super().begin(choice)
        if choice.picture is None:
            raise ValueError(
                f"image: {self.origin} is ImageDream, which is shown a picture of what it makes; name one with --image."
            )
        self._known, self._with_picture = {}, frozenset({choice.prompt, *siblings(choice.prompt)} - {""})
        self._shown = self._read(choice.picture)

    def _encode(self, prompt: str) -> Text:
        """The prompt's tokens and then the picture's; `pooled` holds the latents of the further view."""
        if prompt not in self._known:
            if self._blank is None:
                self._blank = self._read(None)
            words, seen = super()._encode(prompt), self._shown if prompt in self._with_picture else self._blank
            assert seen is not None
            self._known[prompt] = Text(torch.cat([words.tokens, seen.tokens], 1), seen.pooled)
        return self._known[prompt]

    @torch.no_grad()
    def _read(self, picture: Picture | None) -> Text:
        """Tokens [1,T,D] and latents [1,P] of a picture, or of none."""
        if picture is None:
            states = torch.zeros(self._no_states(), device=self.device)
            latents = torch.zeros_like(self.encode(states.new_zeros(1, self.image_size, self.image_size, 3)))
        else:
            rgba = set_into(picture.rgba, USUAL, size=PIXELS).to(self.device)
            rgb = rgba[:3] * rgba[3:] + 1 - rgba[3:]  # on white, as LGM gives it (github.com/3DTopia/LGM, app.py)
            latents = self.encode(resize(rgb.movedim(0, -1)[None], self.image_size))
            states = self._states(rgb)
        resampler = make_resampler(_resampler_state(self._folder)).to(self.device)
        tokens = resampler(states)
        release()
        return Text(tokens, latents.flatten(1))

    def _states(self, rgb: Tensor) -> Tensor:
        """[1,N,W] of a picture [3,H,W]: CLIP's before its last layer."""
        encoder: Any = self._folder.load_image_encoder(ENCODER).to(self.device)
        pixels = as_clip_reads(rgb, _settings(self._folder.root)).to(self.device)
        return encoder(pixels, output_hidden_states=True).hidden_states[-2]

    def _no_states(self) -> tuple[int, int, int]:
        """The shape of CLIP's states."""
        config = self._folder.config(ENCODER)
        return 1, (config["image_size"] // config["patch_size"]) ** 2 + 1, config["hidden_size"]

    def denoise(self, inputs: DenoiserInput, *, run: Callable[..., Any] | None = None) -> Tensor:
        """[R,C,h,w] of the R rows of `inputs`."""
        joint = min(inputs.joint_rows, len(inputs.xt))
        if not joint:  # a view on its own has the picture's tokens alone
            return super().denoise(replace(inputs, pooled=None), run=run)
        grown = with_picture_views(inputs, joint=joint, group=self.num_views)
        out = super().denoise(grown, run=run)
        seen = out[: grown.joint_rows].unflatten(0, (-1, self.together))[:, :-1].flatten(0, 1)
        return torch.cat([seen, out[grown.joint_rows :]])


def with_picture_views(inputs: DenoiserInput, *, joint: int, group: int) -> DenoiserInput:
    """Inputs with a row behind each `group` of the first `joint` rows: the latents that `pooled` holds, at the timestep
    and with the text of the last row of the group, and a camera of zeros.
    """
    assert inputs.pooled is not None and inputs.cameras is not None
    rows, xt = len(inputs.xt), inputs.xt
    last = slice(group - 1, joint, group)

    def grown(x: Tensor, added: Tensor) -> Tensor:
        """x [R,...] with the rows added [G,...]."""
        groups = x[:joint].unflatten(0, (-1, group))
        return torch.cat([torch.cat([groups, added[:, None]], 1).flatten(0, 1), x[joint:]])

    text, pictures = inputs.text.expand(rows, -1, -1), inputs.pooled.expand(rows, -1)[last]
    return DenoiserInput(
        grown(xt, pictures.view(-1, *xt.shape[1:]).to(xt)),
        grown(inputs.t, inputs.t[last]),
        grown(text, text[last]),
        grown(inputs.cameras, torch.zeros_like(inputs.cameras[last])),
        joint_rows=joint // group * (group + 1),
    )


def _settings(root: Path) -> dict[str, Any]:
    return read_small(root / READER / "preprocessor_config.json")


def _resampler_state(folder: DiffusersCheckpoint) -> dict[str, Tensor]:
    """The weights of the resampler alone."""
    found: dict[str, Tensor] = {}
    for path in folder.check("unet"):
        with safe_open(path, "pt") as file:
            found |= {key: file.get_tensor(key) for key in file.keys() if key.startswith(RESAMPLER)}
    return found
