"""The LoRA score of VSD and ESD: low-rank adapters and a camera embedding on the prior's own network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from splatdistill.priors.learned_score import LearnedScore
from splatdistill.priors.network import DenoiserInput, NetworkPrior
from splatdistill.utils import rng

# Small UNets attend at their lowest resolutions only: without the convolutions nothing else could adapt. The first and
# the last layer, and those of the timestep, are next to nothing in size and lower the loss by a tenth.
TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "conv1", "conv2"]
TARGETS += ["conv_in", "conv_out", "conv_shortcut", "time_emb_proj"]
ADAPTER = "second_score"  # a part of the names in checkpoints


class LoRAScore(LearnedScore):
    """One network, two states: with the adapters it is the score of the renders, without them the prior.

    It starts as the prior of single views: the adapters and the camera's last layer are zero. The prior's own camera
    embedding is used where the prior was trained with it on single views, and is zero elsewhere.
    """

    def __init__(
        self,
        prior: NetworkPrior,
        *,
        prompt: str,
        rank: int,
        lr: float,
        dropout: float,
        particles: int,
        seed: int,
    ) -> None:
        self.prior = prior
        self.prediction = prior.prediction
        self.condition = prior.embed(prompt, None)
        network: Any = prior.network.requires_grad_(False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(rng.key(seed, 0, "lora"))
            config = LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS)
            inject_adapter_in_model(config, network, adapter_name=ADAPTER)
            self.camera = _camera_mlp(prior.time_embedding)
        network.to(prior.device)
        self.camera.to(prior.device)
        self._tokens: Tensor | None = None  # of the call that is running; None leaves the prior as it is
        self._hook = prior.time_embedding.register_forward_hook(self._add_camera)
        lora = {name: p for name, p in network.named_parameters() if f".{ADAPTER}." in name}
        for parameter in lora.values():  # they take the network's type, in which small steps would be lost
            parameter.data = parameter.data.float()
            parameter.requires_grad_()
        self._switch = _Switch()
        adapted = _replace_layers(network, self._switch)
        parameters = lora | {f"camera.{name}": p for name, p in self.camera.named_parameters()}
        super().__init__(
            parameters,
            copies={name: value for module in adapted for name, value in module.copies.items()},
            alphas_cumprod=prior.alphas_cumprod,
            lr=lr,
            dropout=dropout,
            particles=particles,
        )
        self.micro_batches = prior.micro_batches

    @classmethod
    def attach(cls, prior: NetworkPrior, **settings: Any) -> LoRAScore:
        """A score on the prior's own network, which `predict` leaves out; it takes the place of the last one. settings:
        as of `LoRAScore`. ValueError, one sentence, where the network does not fit on its device.
        """
        if prior.offloaded:
            raise ValueError(
                "max_memory: vsd and esd train on the prior's network, which does not fit; allow more, or take sds."
            )
        if prior.graphs is not None:
            prior.graphs.forget()
        if prior.adapters is not None:
            prior.adapters.remove()
        score = cls(prior, **settings)
        prior.adapters = score
        return score

    def remove(self) -> None:
        """Leaves the network as it was; this score is of no use then."""
        self._hook.remove()
        network: Any = self.prior.network
        for name, module in list(network.named_modules()):
            if isinstance(module, Adapted):
                network.set_submodule(name, module.base_layer)
        del network.peft_config

    def forward(self, xt: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        """As `LearnedScore.forward`."""
        with self._active(tokens):
            return self._answer(xt, t, cameras=tokens if self.prior.supports_single_view_cameras else None)

    def frozen(self, xt: Tensor, t: Tensor) -> Tensor:
        return self._answer(xt, t, cameras=None)

    def _run(self, call: Callable[..., Tensor], *inputs: Tensor, **settings: Any) -> Tensor:
        return self.prior.recorded(call, *inputs, **settings)

    def _answer(self, xt: Tensor, t: Tensor, *, cameras: Tensor | None) -> Tensor:
        text, pooled, lengths = self.condition.text, self.condition.pooled, self.condition.lengths
        return self.prior.denoise(DenoiserInput(xt, t, text, cameras, pooled, lengths=lengths))

    @contextmanager
    def _active(self, tokens: Tensor) -> Iterator[None]:
        """With the adapters and the cameras of these tokens [R,16]."""
        self._switch.on = True
        self._tokens = tokens
        try:
            yield
        finally:
            self._tokens = None
            self._switch.on = False

    def _add_camera(self, module: nn.Module, args: Any, output: Tensor) -> Tensor:
        """The output [R,E] of the embedding of t, with that of the camera added: [R,E]."""
        if self._tokens is None:
            return output
        with_camera = (self._tokens != 0).any(-1, keepdim=True)
        return output + (self.camera(self._tokens) * with_camera).to(output.dtype)


@dataclass
class _Switch:
    """Whether the adapters of a network are on."""

    on: bool = False


class Adapted(nn.Module):
    """A layer of the network with its low-rank addition. Its parts have the names that peft gives them.

    peft's own layer does the same in more steps: it casts its input and its weights in every call, and multiplies by a
    scale, which is 1 here.
    """

    def __init__(self, layer: Any, switch: _Switch, *, name: str) -> None:
        """layer: peft's, of a linear layer or a convolution."""
        super().__init__()
        base, parts = layer.get_base_layer(), (layer.lora_A, layer.lora_B)
        assert isinstance(base, nn.Linear | nn.Conv2d)
        self.base_layer, (self.lora_A, self.lora_B), self._switch = base, parts, switch
        self.copies: dict[str, Tensor] = {}
        """What is computed with in place of the parameters of these names, where the network is not in fp32."""
        weights = []
        for part, modules in zip("AB", parts, strict=True):
            weight = modules[ADAPTER].weight
            if base.weight.dtype != weight.dtype:
                copy = weight.detach().to(base.weight.dtype).requires_grad_()
                self.copies[f"{name}.lora_{part}.{ADAPTER}.weight"] = weight = copy
            weights.append(weight)
        self._weights = tuple(weights)  # a tuple, which the module does not take for parts of its own

    def forward(self, x: Tensor) -> Tensor:
        """x [...,W] to what the layer answers, [...,E], its adapter added where it is on."""
        out = self.base_layer(x)
        if not self._switch.on:
            return out
        down, up = self._weights
        base, x = self.base_layer, x.to(down.dtype)
        if isinstance(base, nn.Linear):
            return out + F.linear(F.linear(x, down), up)
        return out + F.conv2d(F.conv2d(x, down, None, base.stride, base.padding, base.dilation), up)  # type: ignore[arg-type]


def _replace_layers(network: nn.Module, switch: _Switch) -> list[Adapted]:
    """Puts `Adapted` in the place of peft's layers."""
    adapted = []
    for name, module in list(network.named_modules()):
        if isinstance(module, BaseTunerLayer):
            adapted.append(Adapted(module, switch, name=name))
            network.set_submodule(name, adapted[-1])
    return adapted


def _camera_mlp(time_embedding: nn.Module) -> nn.Sequential:
    """Token [R,16] to an addition to the time embedding, at first zero."""
    last = [module for module in time_embedding.modules() if isinstance(module, nn.Linear)][-1]
    mlp = nn.Sequential(nn.Linear(16, last.out_features), nn.SiLU(), nn.Linear(last.out_features, last.out_features))
    for parameter in mlp[2].parameters():
        nn.init.zeros_(parameter)
    return mlp
