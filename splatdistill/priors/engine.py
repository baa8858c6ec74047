"""What computes the answers of a frozen network: on a CPU torch with its weights packed once, or onnxruntime; CUDA
graphs; torch.compile.

An engine is asked for predictions only. What needs a gradient, or has adapters on it, goes through the UNet itself.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from splatdistill.io.cache import ENGINES, read_cache, write_cache
from splatdistill.priors import compiler, graph
from splatdistill.priors.packed import Engine, PackedUNet, UNetInput, ask, group_views, twin
from splatdistill.priors.unet import UNet
from splatdistill.utils.cpu import processor

if TYPE_CHECKING:
    from splatdistill.priors.network import NetworkPrior
    from splatdistill.priors.onnx_engine import OnnxUNet

NAMES = ("auto", "torch", "onnx", graph.NAME, compiler.NAME)
CLOSE = 1e-5
"""Largest relative difference (L2) of two engines' answers. Both round each of some 100 layers in a row to 6e-8 of its
size, sums of up to 2,600 products to about the square root of that many times as much, in another order."""


def pick(name: str, unet: nn.Module, *, dtype: str, trial: UNetInput) -> Engine | None:
    """The engine called `name` for a UNet with its view attention installed; None where the UNet itself is the engine.

    auto is onnxruntime where that is installed and answers `trial` as torch does. ValueError, one sentence, for an
    engine that is not installed or cannot be taken.

    A CUDA graph is no engine of its own, see `graphs`, and neither is torch.compile, see `compiled`.
    """
    if name not in NAMES:
        raise ValueError(f"network_engine must be {', '.join(NAMES[:-1])} or {NAMES[-1]}, not {name}.")
    suits = isinstance(unet, UNet) and dtype == "fp32" and trial.sample.device.type == "cpu"
    if name == "onnx" and not suits:
        raise ValueError("network_engine: onnx computes the embedded prior in fp32 on a CPU only; take torch or auto.")
    if name == "onnx" and not installed():
        raise ValueError('network_engine: onnxruntime is not installed; `pip install "splatdistill[onnx]"` adds it.')
    if not suits or name == compiler.NAME:
        return None
    assert isinstance(unet, UNet)
    if name in ("torch", graph.NAME) or not installed():
        return PackedUNet(unet)
    from splatdistill.priors.onnx_engine import OnnxUNet

    other = OnnxUNet(unet)
    return other if name == "onnx" or _is_exact(other, unet, trial) else PackedUNet(unet)


def _is_exact(other: OnnxUNet, unet: UNet, trial: UNetInput) -> bool:
    """Whether onnxruntime answers `trial` as torch does: asked once for each model, processor and pair of versions, and
    known from the cache from then on.
    """
    import onnxruntime

    versions = f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}"
    key = f"{processor()}, {versions}, model {other.prepare(trial)}"
    known = read_cache(ENGINES)
    if not isinstance(known.get(key), float):
        known[key] = difference(other, PackedUNet(unet), trial)
        write_cache(ENGINES, known)
    return known[key] <= CLOSE


def graphs(name: str, device: torch.device) -> graph.Graphs | None:
    """What replays the calls of the UNet itself, where cuda-graph was asked for: on CUDA. A note on stderr where the
    device has none. `auto` does not take them: they have not been held against the network on a device yet.
    """
    if name != graph.NAME:
        return None
    if device.type == "cuda":
        return graph.Graphs()
    print("Note: network_engine: there are CUDA graphs on CUDA devices only; torch takes their place.", file=sys.stderr)
    return None


def compiled(name: str, prior: NetworkPrior) -> compiler.Compiled | None:
    """What runs in place of a prior's network, where compile was asked for. ValueError, one sentence, for a network
    whose layers are sent to the device one by one.
    """
    if name != compiler.NAME:
        return None
    if prior.offloaded:
        raise ValueError(
            "network_engine: compile needs the whole network on the device, and max_memory keeps it in main memory; "
            "allow more, or take torch."
        )
    return compiler.Compiled(prior.network)


class GraphedUNet:
    """A UNet whose calls are replayed as CUDA graphs, by shape; its parameters are those of the original."""

    name = graph.NAME

    def __init__(self, unet: UNet, graphs: graph.Graphs) -> None:
        self._unet, self._graphs = twin(unet), graphs

    def __call__(self, inputs: UNetInput) -> Tensor:
        """The answer [R,C,h,w]."""
        tensors = inputs.sample, inputs.t, inputs.text, inputs.class_labels
        return self._graphs.run(self._ask, *tensors, num_views=inputs.num_views, joint_rows=inputs.joint_rows)

    def _ask(self, sample: Tensor, t: Tensor, text: Tensor, labels: Tensor, **views: int) -> Tensor:
        return ask(self._unet, UNetInput(sample, t, text, labels, **views))


class CompiledUNet:
    """A UNet that torch compiles before its first answer; its parameters are those of the original."""

    name = compiler.NAME

    def __init__(self, unet: UNet) -> None:
        self._unet = twin(unet)
        self._run = compiler.Compiled(self._unet)

    def __call__(self, inputs: UNetInput) -> Tensor:
        """The answer [R,C,h,w]."""
        group_views(self._unet, inputs)
        return self._run(inputs.sample, inputs.t, inputs.text, inputs.class_labels)[0]


def installed() -> bool:
    """Whether there is onnxruntime, and what writes its models."""
    return all(importlib.util.find_spec(name) is not None for name in ("onnxruntime", "onnx"))


def difference(engine: Callable[[UNetInput], Tensor], other: Callable[[UNetInput], Tensor], inputs: UNetInput) -> float:
    """Relative, L2."""
    with torch.no_grad():
        answers = engine(inputs), other(inputs)
    return float((answers[0] - answers[1]).norm() / answers[1].norm())
