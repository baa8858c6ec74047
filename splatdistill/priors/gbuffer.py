"""What a camera sees of an object before it has colours: eight values in each pixel, and how they become a picture."""

from __future__ import annotations

import torch
from torch import Tensor

ALBEDO, SHADING, ALPHA, PAINTS = slice(0, 3), 3, 5, (4, 6, 7)
"""Channels: albedo r g b, shading, paint, alpha, and the paints of a second and a third part; all in 0..1."""
CHANNELS = 8
LUMA = (0.3, 0.59, 0.11)


def paint(buffers: Tensor, tints: Tensor | None, *, luminance: Tensor) -> tuple[Tensor, Tensor]:
    """Shaded colours [B,H,W,3] of the object and its alpha [B,H,W,1], both 0..1, from buffers [B,H,W,8], uint8 or
    float in 0..1.

    Paint keeps the light and dark of the surface but takes the colours `tints` [B,3,3], nan for none, or None where all
    is as it is. luminance [B] or [B,3], for each paint: mean of the bare surface, so that the colour comes out as named
    on dark and on light originals.
    """
    g = buffers if buffers.is_floating_point() else buffers.float() / 255
    albedo = g[..., ALBEDO]
    if tints is None:
        return albedo * g[..., SHADING, None], g[..., ALPHA, None]
    # No index or constant is sent to a GPU here: each would wait for it.
    masks = torch.stack([g[..., i] for i in PAINTS], -1) * (~tints[:, None, None, :, 0].isnan())
    luma = LUMA[0] * albedo[..., 0] + LUMA[1] * albedo[..., 1] + LUMA[2] * albedo[..., 2]
    bare = luminance.view(len(g), 1, 1, -1)
    relative = (luma[..., None] + 0.15) / (bare + 0.15)
    painted = (tints.nan_to_num()[:, None, None] * relative.clamp(0.5, 1.3)[..., None]).clamp(0, 1)
    albedo = albedo * (1 - masks.sum(-1, keepdim=True)).clamp(min=0) + (painted * masks[..., None]).sum(-2)
    return albedo * g[..., SHADING, None], g[..., ALPHA, None]


def rgba_white(rgb: Tensor, alpha: Tensor) -> Tensor:
    """Colours rgb [...,H,W,3] and alpha [...,H,W,1] in 0..1 to [...,4,H,W] in -1..1: picture on white, and alpha."""
    picture = torch.cat([rgb * alpha + 1 - alpha, alpha], -1) * 2 - 1
    return picture.movedim(-1, -3)
