"""Large models on small devices: micro-batches when memory runs out, a budget, and estimates before anything loads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from splatdistill.utils.device import indexed
from splatdistill.utils.memory import available, ran_out

GB = 1e9  # bytes
# Counted by benchmarks/teacher_memory.py on published shapes and not measured, per picture and pixel: bytes that
# autograd keeps of an encoder in bf16, and values that a network holds for one row if attention is not written out.
ENCODER_BYTES = {
    "AutoencoderKL": 6060, "AutoencoderKLFlux2": 6060, "AutoencoderKLQwenImage": 8870, "AutoencoderDC": 10660,
    "AutoencoderTiny": 938,
}  # fmt: skip
NETWORK_VALUES = {
    "UNet2DConditionModel": 130, "PixArtTransformer2DModel": 55, "ZImageTransformer2DModel": 253,
    "Flux2Transformer2DModel": 275, "Lumina2Transformer2DModel": 253, "SD3Transformer2DModel": 126,
    "QwenImageTransformer2DModel": 188, "SanaTransformer2DModel": 17,
}  # fmt: skip
_SIZES = {"bf16": 2, "fp32": 4}
_BLOCKWISE = 0.62  # share of the encoder's that is left when its blocks are repeated one by one
_IN_BLOCKS = ("AutoencoderKL", "AutoencoderKLFlux2")  # whose encoders can do that


class MicroBatches:
    """How many rows a network takes at once: all of them, until memory runs out; from then on fewer, for good.

    Rows are independent but for groups of views, which stay together, so the result is the same.
    """

    def __init__(self) -> None:
        self.rows: int | None = None

    def run(self, call: Callable[[slice], Tensor], num_rows: int, *, group: int = 1) -> Tensor:
        """The rows [num_rows,...] of `call` for all slices of range(num_rows), joined. group: rows that must stay
        together.
        """
        while True:
            size = min(self.rows or num_rows, num_rows)
            size = max(group, size // group * group)
            try:
                parts = [call(slice(i, min(i + size, num_rows))) for i in range(0, num_rows, size)]
                return parts[0] if len(parts) == 1 else torch.cat(parts)
            except (RuntimeError, MemoryError) as error:
                if size <= group or not ran_out(error):
                    raise
                self.rows = max(group, size // 2)
            release()  # outside the handler, which keeps the failed call's tensors alive


def release() -> None:
    """Gives back what is cached on the device."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@dataclass(frozen=True)
class Estimate:
    """Bytes: of the weights, exactly; of one view through the encoder and back, and of one network row, about."""

    weights: float
    view: float
    row: float
    blockwise: float = _BLOCKWISE

    def total(self, *, num_views: int, rows_per_view: int = 2) -> float:
        """Bytes of a step without micro-batches. rows_per_view: scores that a method asks for at once."""
        return self.weights + num_views * (self.view + rows_per_view * self.row)

    @property
    def least(self) -> float:
        """Bytes of one view at a time, with the encoder's blocks repeated one by one where they can be."""
        return self.weights + max(self.blockwise * self.view, self.row)


def estimate(
    num_parameters: int,
    *,
    image_size: int,
    encoder: str,
    dtype: str,
    vae: str = "AutoencoderKL",
    network: str = "UNet2DConditionModel",
) -> Estimate:
    """Of a model that sees pictures of this side in pixels. encoder: the precision of what runs forward and backward
    for each view, fp32 or bf16; "" for a model of pixels. vae: its class. network: that of the network.
    """
    size = _SIZES[dtype]
    pixels = image_size**2 * (1 if encoder else 64)  # the UNet of a pixel model works at the full resolution
    view = ENCODER_BYTES[vae] * image_size**2 * _SIZES[encoder] / 2 if encoder else 0.0
    row = float(NETWORK_VALUES.get(network, NETWORK_VALUES["UNet2DConditionModel"]) * pixels * size)
    blockwise = _BLOCKWISE if vae in _IN_BLOCKS else 1.0
    return Estimate(weights=num_parameters * size, view=view, row=row, blockwise=blockwise)


def must_offload(need: Estimate, *, device: torch.device, max_memory: float, where: str) -> bool:
    """Whether the network's weights must stay in main memory. max_memory: GB, 0 for all that the device has.

    On CUDA nothing more than that will be taken: what needs more gets micro-batches. ValueError, one sentence, when
    the model cannot run in it at all.
    """
    device = indexed(device)
    room = max_memory * GB or _capacity(device)
    if device.type == "cuda" and max_memory:
        torch.cuda.set_per_process_memory_fraction(min(1.0, room / _capacity(device)), device)
    least = need.least
    if least <= room:
        return False
    if device.type == "cuda" and least - 0.8 * need.weights <= room:  # leaves come one by one, beside what they compute
        return True
    raise ValueError(
        f"max_memory: {where} needs about {least / GB:.2g} GB even one view at a time, but {room / GB:.2g} GB may be "
        "used; allow more or take a smaller model."
    )


def _capacity(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    return available()
