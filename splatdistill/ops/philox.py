"""Counter-based normal numbers: the same on every device, with nothing to store."""

from __future__ import annotations

import torch
from torch import Tensor

from splatdistill.ops import _check, _library, reference  # noqa: F401  _library registers the ops


def philox_normal(key: int, ids: Tensor, num: int) -> Tensor:
    """Standard normals [N,num] float32: row i depends on key and ids[i] alone.

    key: 0 <= key < 2^64, for instance a hash of seed and step. ids: [N] int64, for instance splat ids.
    Philox4x32-10 (Salmon et al. 2011) and Box-Muller on 23-bit uniforms, so |value| < 5.8.
    """
    _check.integer("key", key, low=0, high=2**64 - 1)
    _check.integer("num", num, low=0, high=2**31)
    if not isinstance(ids, Tensor):
        raise ValueError(f"ids must be a tensor, got {type(ids).__name__}.")
    ids = _check.tensor("ids", ids, shape=(None,), dtype=torch.int64, device=ids.device)
    if ids.device.type != "cpu":
        return reference.philox_normal(key, ids, num)
    signed = key - 2**64 if key >= 2**63 else key
    return torch.ops.splatdistill.philox_normal(signed, ids, num)


@torch.library.register_fake("splatdistill::philox_normal")
def _normal_fake(key, ids, num) -> Tensor:
    return ids.new_empty(ids.shape[0], num, dtype=torch.float32)


@torch.library.register_fake("splatdistill::philox_words")
def _words_fake(counter, key) -> Tensor:
    return torch.empty_like(counter)
