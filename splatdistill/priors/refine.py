"""How a network refines what is already known of a picture (the preconditioning of EDM, Karras 2022, about a mean that
is not zero).

Known beforehand: each value of x_0 is N(f, spread) about the features f, with a variance `spread` of its pixel, and
where f blends several candidates the target differs from f by their variance as well. The best linear answer to
x_t = alpha x_0 + sigma eps is then
    x_0 = f + gain (x_t - alpha f),    gain = alpha spread / (alpha^2 spread + sigma^2),
and what is left has the variance between + spread sigma^2 / (alpha^2 spread + sigma^2). The network answers with the
rest in units of its root, so an untrained one, which says 0, is already the best linear denoiser.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splatdistill.priors.attention import install_view_attention
from splatdistill.priors.mixture import blend, coarse, keep_likely, weights
from splatdistill.priors.packed import Engine, UNetInput

CAMERA = 16
"""Length of a camera embedding."""
PICTURE = 4
"""Channels: colours on white, and alpha."""
COARSE = 16
"""Side of the pictures by which candidates are weighed, pixels."""


@dataclass(frozen=True)
class Accuracy:
    """How far a mesh's picture is from its model's, both in -1..1. The expected squared error of a pixel is
    plain + inside * (its alpha in 0..1) + edge * (variance over the 3 x 3 pixels about it, mean over the channels).

    coarse: root mean square error of pictures of 16 x 16 pixels.
    """

    plain: float
    inside: float
    edge: float
    coarse: float

    def variance(self, pictures: Tensor) -> Tensor:
        """[...,1,H,W] expected squared error of pictures [...,4,H,W]."""
        flat, local = statistics(pictures)
        return self.plain + self.inside * flat + self.edge * local


def statistics(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Of RGBA pictures [...,4,H,W] in -1..1: alpha in 0..1, and the variance about each pixel, both [...,1,H,W]."""
    x = pictures.reshape(-1, *pictures.shape[-3:])
    x = F.pad(x, (1, 1, 1, 1), mode="replicate")
    # About a value in the middle of the range, so that no large numbers are subtracted.
    mean, square = F.avg_pool2d(x, 3, 1), F.avg_pool2d(x.square(), 3, 1)
    local = (square - mean.square()).clamp(min=0).mean(1, keepdim=True)
    alpha = (pictures[..., 3:, :, :] * 0.5 + 0.5).clamp(0, 1)
    return alpha, local.view(alpha.shape)


@dataclass(frozen=True)
class Posterior:
    """What candidates say of G rings of V views under their posterior. features: [G,V,4,H,W] blended pictures; spread:
    [G,V,1,H,W] mean square error of the right candidate; between: alike, variance between candidates; weight: [K,G].
    """

    features: Tensor
    spread: Tensor
    between: Tensor
    weight: Tensor


def infer_posterior(
    xt: Tensor,
    known: Tensor,
    *,
    accuracy: Accuracy,
    alpha: Tensor,
    sigma: Tensor,
    logits: Tensor,
    temperature: Tensor | float,
) -> Posterior:
    """Of rings xt [G,V,4,H,W], all seen from the cameras of the candidates known [K,V,4,H,W]. alpha, sigma: [G];
    logits: [K]; temperature: a number or [G].

    Candidates are weighed by their small pictures, which have nearly the likelihoods of all pixels: most of what tells
    candidates apart is coarse.
    """
    factor = xt.shape[-1] // COARSE
    weight = weights(
        coarse(xt, factor), coarse(known, factor)[:, None], alpha=alpha, sigma=sigma / factor, logits=logits,
        temperature=temperature, floor=accuracy.coarse,
    )  # fmt: skip
    return combine(weight, keep_likely(weight), known, accuracy=accuracy)


def combine(weight: Tensor, likely: Tensor, known: Tensor, *, accuracy: Accuracy) -> Posterior:
    """The posterior by weights `likely` [L,G] of images known [L,V,4,H,W]; weight: [K,G] of all candidates, as a
    record.
    """
    features, between = blend(likely, known[:, None])
    return Posterior(features, torch.einsum("kg,k...->g...", likely, accuracy.variance(known)), between, weight)


def linear_answer(
    xt: Tensor,
    features: Tensor,
    *,
    alpha: Tensor,
    sigma: Tensor,
    spread: Tensor | float,
    between: Tensor | float = 0.0,
) -> tuple[Tensor, Tensor]:
    """The answer without a network, like xt [R,C,h,w], and the size [R,1,h,w] of what it leaves.

    alpha, sigma: [R,1,1,1]. spread: [R,1,h,w] or a number, the mean square error of the features of the right
    candidate; between: [R,1,h,w] or a number, the variance between the candidates. features: like xt.
    """
    total = alpha**2 * spread + sigma**2
    answer = features + alpha * spread / total * (xt - alpha * features)
    left = torch.as_tensor(between) + spread * sigma**2 / total
    return answer, left.sqrt()


class Refiner(nn.Module):
    """A UNet on `patch` x `patch` unshuffled RGBA pictures on the channels of the noisy picture and of the features.

    Pictures are [R,4,H,W] in -1..1: colours on white, then alpha; consecutive rows of `num_views` attend to
    each other. tokens: of the UNet's cross-attention, the same for every picture, since the features say what is shown.
    fine: first and last layer for pictures of twice the side, in patches of twice the side; all else is shared.
    """

    engines: dict[int, Engine]
    """What computes the answers in place of the UNet, which then is frozen, by the side of a patch."""
    fine: nn.ModuleDict | None

    def __init__(self, unet: nn.Module, *, tokens: Tensor, patch: int, num_views: int) -> None:
        """unet: of diffusers, or the one of `unet.py`, which is asked in the same way."""
        super().__init__()
        self.unet: Any = unet
        self.tokens = nn.Parameter(tokens)
        self.fine, self.engines = None, {}
        self.patch, self.num_views = patch, num_views
        self.views = install_view_attention(unet)
        self.width: int = self.unet.config["projection_class_embeddings_input_dim"] - CAMERA
        self.cells: int = self.unet.config["sample_size"]

    @torch.no_grad()
    def add_fine(self) -> nn.ModuleDict:
        """Layers for the fine pictures, which see and say of each 2 x 2 pixels what the others do of their mean."""
        old_in, old_out, side = self.unet.conv_in, self.unet.conv_out, 2 * self.patch
        new_in = nn.Conv2d(2 * PICTURE * side**2, old_in.out_channels, 3, padding=1)
        new_out = nn.Conv2d(old_out.in_channels, PICTURE * side**2, 3, padding=1)
        assert new_in.bias is not None and new_out.bias is not None
        new_in.weight.copy_(self._widen(old_in.weight.transpose(0, 1), side).transpose(0, 1) / 4)
        new_in.bias.copy_(old_in.bias)
        new_out.weight.copy_(self._widen(old_out.weight, side))
        new_out.bias.copy_(self._widen(old_out.bias, side))
        self.fine = nn.ModuleDict({"conv_in": new_in, "conv_out": new_out}).to(self.tokens.device)
        return self.fine

    def _widen(self, x: Tensor, side: int) -> Tensor:
        """[C p^2,...] values of the pixels of patches to [C side^2,...] of finer ones."""
        grid = x.unflatten(0, (-1, self.patch, self.patch))
        return grid.repeat_interleave(side // self.patch, 1).repeat_interleave(side // self.patch, 2).flatten(0, 2)

    def patch_of(self, size: int) -> int:
        """Side of a patch of pictures of `size` pixels a side."""
        return self.patch * (2 if self.fine is not None and size == 2 * self.patch * self.cells else 1)

    @contextmanager
    def layers_for(self, size: int) -> Iterator[None]:
        """The UNet has the layers for pictures of `size` pixels a side inside this block."""
        if self.patch_of(size) == self.patch:
            yield
            return
        assert self.fine is not None
        coarse_layers = self.unet.conv_in, self.unet.conv_out
        self.unet.conv_in, self.unet.conv_out = self.fine["conv_in"], self.fine["conv_out"]
        yield
        self.unet.conv_in, self.unet.conv_out = coarse_layers

    def forward(
        self,
        xt: Tensor,
        t: Tensor,
        *,
        features: Tensor,
        spread: Tensor,
        between: Tensor,
        cameras: Tensor,
        alpha: Tensor,
        sigma: Tensor,
        cross_view_attention: bool = True,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The network's answer, and the answer without it and its unit as `linear_answer` gives them.

        t: [R]; spread, between: [R,1,H,W]; alpha, sigma: [R,1,1,1]; cameras: [R,16] embeddings.
        cross_view_attention: views attend to each other.
        """
        base, unit = linear_answer(xt, features, alpha=alpha, sigma=sigma, spread=spread, between=between)
        joint = cross_view_attention
        inputs = self.inputs(xt, t, features=features, between=between, cameras=cameras, cross_view_attention=joint)
        patch = self.patch_of(xt.shape[-1])
        if patch in self.engines:
            out = self.engines[patch](inputs)
        else:
            with self.layers_for(xt.shape[-1]):
                out = self._call(inputs)
        return F.pixel_shuffle(out.float(), patch), base, unit

    def inputs(
        self, xt: Tensor, t: Tensor, *, features: Tensor, between: Tensor, cameras: Tensor, cross_view_attention: bool
    ) -> UNetInput:
        """Of the UNet, for R rows; the arguments are those of `forward`."""
        patch = self.patch_of(xt.shape[-1])
        sample = torch.cat([F.pixel_unshuffle(x, patch) for x in (xt, features)], 1)
        class_labels = F.pad(
            torch.cat([cameras, between.flatten(1).mean(1, keepdim=True).sqrt()], 1), (0, self.width - 1)
        )
        sample = sample.contiguous(memory_format=torch.channels_last)
        joint_rows = len(xt) if cross_view_attention else 0
        text = self.tokens.expand(len(xt), -1, -1)
        return UNetInput(sample, t, text, class_labels, num_views=self.num_views, joint_rows=joint_rows)

    def trial(self, size: int) -> UNetInput:
        """Inputs of the shape that distillation asks for most: one group of views of size x size pixels."""
        draw = torch.Generator().manual_seed(0)
        xt, features = (torch.randn(self.num_views, 4, size, size, generator=draw) for _ in range(2))
        cameras = torch.randn(self.num_views, CAMERA, generator=draw)
        xt, features, cameras = (x.to(self.tokens.device) for x in (xt, features, cameras))
        t, same = torch.full((self.num_views,), 500, device=xt.device), torch.zeros_like(xt[:, :1])
        return self.inputs(xt, t, features=features, between=same, cameras=cameras, cross_view_attention=True)

    def _call(self, inputs: UNetInput) -> Tensor:
        self.views.num_views, self.views.joint_rows = inputs.num_views, inputs.joint_rows
        return self.unet(inputs.sample, inputs.t, inputs.text, class_labels=inputs.class_labels, return_dict=False)[0]
