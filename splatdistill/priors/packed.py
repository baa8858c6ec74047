"""The plain UNet computed by torch, with its weights packed once for each shape of inputs."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from splatdistill.priors.attention import ViewAttention
from splatdistill.priors.unet import Attention, UNet


@dataclass(frozen=True)
class UNetInput:
    """What a UNet is called with, fp32. sample: [R,C,h,w]; t: [R]; text: [R,T,D]; class_labels: [R,L], embeddings of
    cameras among them. The first `joint_rows` rows attend to each other in groups of `num_views`.
    """

    sample: Tensor
    t: Tensor
    text: Tensor
    class_labels: Tensor
    num_views: int
    joint_rows: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Inputs with equal ones are computed in the same way."""
        return (*self.sample.shape, self.text.shape[1], self.num_views, self.joint_rows)


class Engine(Protocol):
    name: str

    def __call__(self, inputs: UNetInput) -> Tensor:
        """The answer [R,C,h,w]."""
        ...


class PackedUNet:
    """A UNet whose convolutions and linear layers hold their weights in the order that oneDNN reads them in; torch
    reorders those of convolutions in every call. One set for each shape of question, so that its bits do not depend on
    what was asked before.
    """

    name = "torch"

    def __init__(self, unet: UNet) -> None:
        self._plain = twin(unet)
        self._packed: dict[tuple[int, ...], UNet] = {}

    @torch.no_grad()
    def __call__(self, inputs: UNetInput) -> Tensor:
        """The answer [R,C,h,w], by the weights packed for inputs of this shape."""
        if inputs.shape not in self._packed:
            self._packed[inputs.shape] = self._pack(inputs)
        return ask(self._packed[inputs.shape], inputs)

    def _pack(self, inputs: UNetInput) -> UNet:
        sizes: dict[str, Sequence[int]] = {}
        hooks = [
            layer.register_forward_hook(lambda _, seen, out, name=name: sizes.update({name: seen[0].shape}))
            for name, layer in self._plain.named_modules()
            if isinstance(layer, nn.Conv2d | nn.Linear)
        ]
        ask(self._plain, inputs)
        for hook in hooks:
            hook.remove()
        packed = twin(self._plain)
        for name, size in sizes.items():
            layer = packed.get_submodule(name)
            assert isinstance(layer, nn.Conv2d | nn.Linear)
            new = PackedConv(layer, size) if isinstance(layer, nn.Conv2d) else PackedLinear(layer, size)
            packed.set_submodule(name, new)
        return packed


class PackedConv(nn.Module):
    """A convolution for inputs of one size, with the operators that torch's compiler uses for frozen weights."""

    def __init__(self, conv: nn.Conv2d, size: Sequence[int]) -> None:
        super().__init__()
        self.bias = conv.bias
        self.numbers = [list(x) for x in (conv.padding, conv.stride, conv.dilation)]  # type: ignore[arg-type]
        reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight  # type: ignore[attr-defined]
        self.weight = reorder(conv.weight.detach().contiguous().to_mkldnn(), *self.numbers, 1, list(size))

    def forward(self, x: Tensor) -> Tensor:
        """x [R,C,h,w] to [R,E,h,w]."""
        return torch.ops.mkldnn._convolution_pointwise(x, self.weight, self.bias, *self.numbers, 1, "none", [], "")


class PackedLinear(nn.Module):
    """The same of a linear layer. Calls of these sizes take half as long as by torch's BLAS on an AMD EPYC."""

    def __init__(self, linear: nn.Linear, size: Sequence[int]) -> None:
        super().__init__()
        self.bias = linear.bias
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), math.prod(size[:-1]))

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")


def twin(unet: UNet) -> UNet:
    """A copy with modules and view attention of its own and the same parameters."""
    return copy.deepcopy(unet, {id(parameter): parameter for parameter in unet.parameters()})


def ask(unet: UNet, inputs: UNetInput) -> Tensor:
    """The answer [R,C,h,w] of a UNet with view attention."""
    group_views(unet, inputs)
    return unet(inputs.sample, inputs.t, inputs.text, inputs.class_labels)[0]


def group_views(unet: UNet, inputs: UNetInput) -> None:
    """Tells the view attention of a UNet which rows of these inputs see each other."""
    for module in unet.modules():
        if isinstance(module, Attention) and isinstance(module.processor, ViewAttention):
            module.processor.num_views, module.processor.joint_rows = inputs.num_views, inputs.joint_rows
