"""fp32 or bf16 on a processor: whichever was faster when both were timed, once for each model of processor.

That a processor multiplies bf16 does not make it faster with it: an Intel core with avx512_bf16 but without AMX has
half its fp32 rate in bf16.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

from splatdistill.io.cache import PRECISION, read_cache, write_cache
from splatdistill.utils.cpu import processor

FASTER = 1.2  # times that bf16 must be: it is the less exact of the two
_ROUNDS = 4
_SLOW = 4  # times as long as fp32: this processor has no instructions for bf16, and no more time is spent on it
_IMAGES, _CHANNELS, _SIDE, _GROUPS = 8, 128, 16, 16  # of a block in the middle of the embedded UNet


@dataclass(frozen=True)
class Precision:
    """What `auto` comes to on a processor, and the milliseconds of CPU time that both took."""

    dtype: Literal["fp32", "bf16"]
    fp32_ms: float
    bf16_ms: float
    processor: str

    @classmethod
    def of(cls, fp32_ms: float, bf16_ms: float, *, processor: str) -> Precision:
        """The choice between two timings."""
        return cls("bf16" if fp32_ms >= FASTER * bf16_ms else "fp32", fp32_ms, bf16_ms, processor)

    def __str__(self) -> str:
        return f"{self.dtype} (bf16 is {self.fp32_ms / self.bf16_ms:.2f} times as fast as fp32)"


def measured() -> Precision:
    """The choice for this processor: from the cache, or timed now, which takes under half a second.

    A cache that cannot be read or written is done without.
    """
    here = processor()
    key = f"{here}, torch {version('torch')}"
    known = read_cache(PRECISION)
    try:
        found = Precision.of(*(_positive(known[key][name]) for name in ("fp32_ms", "bf16_ms")), processor=here)
    except (KeyError, TypeError, ValueError):  # not there, or not ours
        found = Precision.of(*time_both(), processor=here)
        write_cache(PRECISION, {**known, key: {"fp32_ms": found.fp32_ms, "bf16_ms": found.bf16_ms}})
    return found


def has_fast_bf16() -> bool:
    """Whether networks run faster in bf16 on this processor, so much that it is worth the lost digits."""
    return measured().dtype == "bf16"


def time_both() -> tuple[float, float]:
    """Milliseconds of fp32 and of bf16, the best of a few calls in turn: a convolution, a group norm and a linear layer
    on one thread, by its CPU time, so that a busy machine does not change the answer.
    """
    import torch
    import torch.nn.functional as F
    from torch import Tensor

    kinds = (torch.float32, torch.bfloat16)
    # Constants, because no random number of the caller's may be used up.
    kernel, matrix = torch.full((_CHANNELS, _CHANNELS, 3, 3), 1e-3), torch.full((4 * _CHANNELS, _CHANNELS), 1e-2)
    weights = {kind: (kernel.to(kind, memory_format=torch.channels_last), matrix.to(kind)) for kind in kinds}
    x = torch.full((_IMAGES, _CHANNELS, _SIDE, _SIDE), 0.5).contiguous(memory_format=torch.channels_last)

    def block(x: Tensor, kind: torch.dtype) -> Tensor:  # as autocast and `keep_bf16` have it
        y = F.conv2d(x.to(kind), weights[kind][0], padding=1)
        y = F.silu(F.group_norm(y.float(), _GROUPS))
        return F.linear(y.permute(0, 2, 3, 1).to(kind), weights[kind][1]).float()

    def milliseconds(x: Tensor, kind: torch.dtype) -> float:
        begun = time.thread_time()
        block(x, kind)
        return round(1e3 * max(time.thread_time() - begun, 1e-6), 3)

    fp32, bf16 = kinds
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            best = min(milliseconds(x, fp32) for _ in range(2))
            one = min(milliseconds(x[:1], bf16) for _ in range(2))
            if _IMAGES * one > _SLOW * best:
                return best, round(_IMAGES * one, 3)
            milliseconds(x, bf16)
            rounds = [(milliseconds(x, fp32), milliseconds(x, bf16)) for _ in range(_ROUNDS)]
    finally:
        torch.set_num_threads(threads)
    return min(best, *(a for a, _ in rounds)), min(b for _, b in rounds)


def _positive(value: object) -> float:
    if not isinstance(value, int | float) or not value > 0:
        raise ValueError(value)
    return float(value)
