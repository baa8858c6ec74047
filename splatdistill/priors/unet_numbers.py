"""Numbers of a UNet's config.json that diffusers takes and then cannot compute with."""

from __future__ import annotations

import math
from typing import Any

from splatdistill.config.base import is_list
from splatdistill.priors.diffusers_checkpoint import DiffusersCheckpoint


def check_numbers(folder: DiffusersCheckpoint, config: dict[str, Any]) -> None:
    """ValueError, one sentence that names the field, where one of them is such."""
    widths, layers = config.get("block_out_channels"), config.get("layers_per_block", 2)
    half = widths[0] // 2 if is_list(widths) and widths and _whole(widths[0]) else 0
    shift, width = config.get("freq_shift", 0), config.get("encoder_hid_dim") or config.get("cross_attention_dim")
    heads, extra = config.get("addition_embed_type_num_heads", 64), config.get("addition_embed_type")
    padding = config.get("downsample_padding", 1)
    numeric = isinstance(shift, int | float) and not isinstance(shift, bool) and math.isfinite(shift)
    known = {
        "downsample_padding": (padding in (0, 1) and not isinstance(padding, bool), "0 or 1"),
        "freq_shift": (numeric and shift != half, f"a number other than {half}"),
        "layers_per_block": (
            all(_whole(one) for one in (layers if is_list(layers) else [layers])) and layers != [],
            "a whole number above 0, or one for each block",
        ),
        "addition_embed_type_num_heads": (
            extra != "text" or (_whole(heads) and (not _whole(width) or width % heads == 0)),
            f"a whole number that divides {width}",
        ),
    }
    for name, (sound, wanted) in known.items():
        if not sound:
            path = folder.root / "unet" / "config.json"
            raise ValueError(f"prior: {name} in {path} must be {wanted}; it is {str(config.get(name))[:60]!r}.")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
