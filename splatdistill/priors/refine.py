"""How a network refines what is already known of a picture (the preconditioning of EDM, Karras 2022, about a mean that
is not zero).

Known beforehand: x_0 is N(f, spread^2 I) about the features f, and where f blends several candidates the target differs
from f by their variance as well. The best linear answer to x_t = alpha x_0 + sigma eps is then
    x_0 = f + gain (x_t - alpha f),    gain = alpha spread^2 / (alpha^2 spread^2 + sigma^2),
and what is left has the variance doubt + spread^2 sigma^2 / (alpha^2 spread^2 + sigma^2). The network answers with the
rest in units of its root, so an untrained one, which says 0, is already the best linear denoiser.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from splatdistill.priors.attention import install_view_attention

CAMERA = 16
"""Length of a camera token."""


def linear_answer(
    xt: Tensor, features: Tensor, *, alpha: Tensor, sigma: Tensor, spread: float, doubt: Tensor | float = 0.0
) -> tuple[Tensor, Tensor]:
    """The answer without a network, like xt [R,C,h,w], and the size [R,1,1,1] of what it leaves.

    alpha, sigma: [R,1,1,1]; spread: root mean square error of the features of the right candidate; doubt: [R,1,1,1]
    variance between the candidates.
    """
    total = alpha**2 * spread**2 + sigma**2
    answer = features + alpha * spread**2 / total * (xt - alpha * features)
    left = torch.as_tensor(doubt) + spread**2 * sigma**2 / total
    return answer, left.sqrt()


class Refiner(nn.Module):
    """A UNet on `patch` x `patch` unshuffled RGBA pictures that sees the noisy picture and the features beside it.

    Pictures are [R,4,H,W] in -1..1: colours on white, then alpha; consecutive rows of `num_views` see each other.
    tokens: what the UNet's cross-attention hears, the same for every picture, since the features say what is shown.
    """

    def __init__(
        self, unet: UNet2DConditionModel, *, tokens: Tensor, patch: int, num_views: int, spread: float
    ) -> None:
        super().__init__()
        self.unet, self.tokens = unet, nn.Parameter(tokens)
        self.patch, self.num_views, self.spread = patch, num_views, spread
        self.views = install_view_attention(unet)
        self.width: int = unet.config["projection_class_embeddings_input_dim"] - CAMERA

    def forward(
        self,
        xt: Tensor,
        t: Tensor,
        *,
        features: Tensor,
        doubt: Tensor,
        cameras: Tensor,
        alpha: Tensor,
        sigma: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The network's answer, and the answer without it and its unit as `linear_answer` gives them.

        t: [R]; doubt, alpha, sigma: [R,1,1,1]; cameras: [R,16] tokens.
        """
        base, unit = linear_answer(xt, features, alpha=alpha, sigma=sigma, spread=self.spread, doubt=doubt)
        seen = torch.cat([F.pixel_unshuffle(x, self.patch) for x in (xt, features)], 1)
        told = F.pad(torch.cat([cameras, doubt.flatten(1).sqrt()], 1), (0, self.width - 1))
        self.views.num_views, self.views.joint_rows = self.num_views, len(xt)
        text = self.tokens.expand(len(xt), -1, -1)
        seen = seen.contiguous(memory_format=torch.channels_last)
        out = self.unet(seen, t, text, class_labels=told, return_dict=False)[0]
        return F.pixel_shuffle(out.float(), self.patch), base, unit
