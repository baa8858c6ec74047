"""Host and device beside each other: copies, numbers and clocks that make neither wait for the other."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


def send(x: Tensor, device: torch.device) -> Tensor:
    """`x`, of any shape, on `device`: from pinned memory, as a plain copy from the CPU waits for all that is queued
    there. A tensor that repeats its elements, which cannot be pinned, is copied first.
    """
    if device.type == "cpu" or x.device.type != "cpu":
        return x.to(device)
    return x.contiguous().pin_memory().to(device, non_blocking=True)


class AsyncScalars:
    """Numbers on their way to the CPU: the copy is queued at once, and `read` waits for it alone.

    numbers: plain ones, or scalar tensors on any device.
    """

    def __init__(self, numbers: Mapping[str, Tensor | float]) -> None:
        self._numbers = {
            name: x.detach().to("cpu", non_blocking=True) if isinstance(x, Tensor) else x for name, x in numbers.items()
        }
        self._arrived = None
        if any(isinstance(x, Tensor) and x.device.type == "cuda" for x in numbers.values()):
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def read(self) -> dict[str, float]:
        if self._arrived is not None:
            self._arrived.synchronize()
        return {name: x.item() if isinstance(x, Tensor) else x for name, x in self._numbers.items()}


class Stopwatch:
    """Seconds spent in `timed()`, of what has finished: on CUDA the device's own time, between two events.

    images: how many the network evaluated in them, as the caller counts.
    """

    def __init__(self, device: torch.device) -> None:
        self.seconds = 0.0
        self.images = 0
        self.device = device
        self._cuda = device.type == "cuda"
        self._running: deque[tuple[torch.cuda.Event, torch.cuda.Event]] = deque()

    @contextmanager
    def timed(self) -> Generator[None, None, None]:
        if not self._cuda:
            begun = time.perf_counter()
            yield
            self.seconds += time.perf_counter() - begun
            return
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        yield
        end.record()
        self._running.append((start, end))
        self.collect()

    def collect(self) -> None:
        """Takes over what has finished since."""
        while self._running and self._running[0][1].query():
            start, end = self._running.popleft()
            self.seconds += 1e-3 * start.elapsed_time(end)


def network_settings(device: torch.device, *, dtype: str) -> dict[str, bool]:
    """How networks compute on CUDA beside their `dtype`, by the names that summaries have; nothing on a CPU.

    Shapes stay the same, so cuDNN times its algorithms once and takes the fastest. What stays in fp32 beside bf16 (a
    VAE that asks for it, adapters) may round its factors to TF32; with dtype fp32 nothing does, not even convolutions,
    for which torch allows it. A process that uses torch's newer switches, `fp32_precision`, keeps its own TF32.
    """
    if device.type != "cuda":
        return {}
    return {"cudnn_benchmark": True} | ({} if _tf32() is None else {"tf32": dtype != "fp32"})


@contextmanager
def for_networks(device: torch.device, *, dtype: str) -> Generator[None, None, None]:
    """Puts `network_settings` into force and what was before back: geometry in fp32 stays exact.

    The switches are the process's: other threads see them meanwhile.
    """
    chosen = network_settings(device, dtype=dtype)
    if not chosen:
        yield
        return
    backends: Any = torch.backends
    cudnn, products = backends.cudnn, (backends.cuda.matmul, backends.mkldnn.matmul)
    benchmark, before, newer = cudnn.benchmark, _tf32(), [kind.fp32_precision for kind in products]
    try:
        cudnn.benchmark = chosen["cudnn_benchmark"]
        if "tf32" in chosen:
            torch.set_float32_matmul_precision("high" if chosen["tf32"] else "highest")
            cudnn.allow_tf32 = chosen["tf32"]
        yield
    finally:
        cudnn.benchmark = benchmark
        if before is not None:
            precision, cudnn.allow_tf32 = before
            torch.set_float32_matmul_precision(precision)
            for kind, value in zip(products, newer, strict=True):  # "highest" is more than one of these
                kind.fp32_precision = value


def _tf32() -> tuple[str, bool] | None:
    """Precision of products and whether cuDNN takes TF32; None where torch refuses to tell, because one of its newer
    switches was used.
    """
    try:
        backends: Any = torch.backends
        return torch.get_float32_matmul_precision(), backends.cudnn.allow_tf32
    except RuntimeError:
        return None


def pick_device(name: str) -> torch.device:
    """auto, cpu or cuda as a device: the one in use with its index, where there are several.

    ValueError, one sentence, for cuda where there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: cuda was asked for, but torch sees no CUDA device here; use --device cpu.")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return indexed(torch.device("cuda"))


def indexed(device: torch.device) -> torch.device:
    """The same device with its index: some functions of torch.cuda refuse a device without one."""
    # torch types the index as a number, and has None for a device without one.
    if device.type != "cuda" or device.index is not None:  # pyright: ignore[reportUnnecessaryComparison]
        return device
    return torch.device("cuda", torch.cuda.current_device())
