"""LoRAs of the user on a teacher: read by diffusers, checked layer by layer, and added to the weights for good.

They are part of the frozen model then, so that the adapters of VSD and ESD neither know nor change them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
from diffusers.loaders.peft import PeftAdapterMixin
from diffusers.utils.state_dict_utils import convert_unet_state_dict_to_peft
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from splatdistill.priors import recognise
from splatdistill.priors.resolve import ModelSource, resolve_lora

_PEFT = "base_model.model."  # what peft puts before every name
_NAME = "of_the_user"


@dataclass(frozen=True)
class UserLoRA:
    """A file of low-rank additions. weight: what they are multiplied by."""

    source: ModelSource
    weight: float = 1.0

    @classmethod
    def of(cls, text: str) -> UserLoRA:
        """From FILE, ID or ID:FILE, each with or without :WEIGHT. ValueError, one sentence, for what is none."""
        name, _, number = text.rpartition(":")
        try:
            weight = float(number)
        except ValueError:  # the name of a file
            name, weight = text, 1.0
        source = resolve_lora(name)
        _refuse(source.path)
        return cls(source, weight)

    def __str__(self) -> str:
        return f"{self.source.origin}:{self.weight:g}"

    def tensors(self, pipeline: str, network: Any, prefix: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Its tensors by diffusers' names, with the part of the model in front, and the alphas of its layers."""
        try:
            state = {name.removeprefix(_PEFT): value for name, value in load_file(self.source.path).items()}
        except (OSError, SafetensorError) as error:
            raise ValueError(f"lora: {self.source.path} cannot be read as safetensors; download it again.") from error
        reader, alphas = getattr(getattr(diffusers, pipeline, None), "lora_state_dict", None), {}
        if reader is not None:
            asked = {"unet_config": network.config} if prefix == "unet" else {}
            try:
                found = reader(dict(state), **asked)
            except (KeyError, ValueError, IndexError, RuntimeError) as error:
                raise ValueError(f"lora: {self.source.path} is in a format that diffusers cannot read.") from error
            state, alphas = found if isinstance(found, tuple) else (found, {})
        if not any(key.startswith((f"{prefix}.", "text_encoder")) for key in state):
            state = {f"{prefix}.{key}": value for key, value in state.items()}
        return state, alphas or {}


def add(loras: Sequence[UserLoRA], network: Any, *, pipeline: str, prefix: str) -> None:
    """Adds LoRAs to the weights of a network on the CPU. pipeline: the class of its own; prefix: the folder of the
    network. ValueError, one sentence, for a layer that has no place in it.
    """
    for lora in loras:
        state, alphas = lora.tensors(pipeline, network, prefix)
        own = _own(state, prefix)
        if own:
            _check(own, network, lora)
            full = {f"{prefix}.{key}": value for key, value in own.items()}
            with _adaptable(network):
                network.load_lora_adapter(full, prefix=prefix, adapter_name=_NAME, network_alphas=alphas or None)
                network.fuse_lora(lora_scale=lora.weight)
                network.unload_lora()
        elif not any(key.startswith("text_encoder") for key in state):
            raise ValueError(f"lora: {lora.source.path} has no weights for a {prefix}.")
    network.requires_grad_(False)


@contextmanager
def _adaptable(network: Any) -> Iterator[None]:
    """A network of a class that diffusers gives no LoRAs, PixArt's, has what others have for them."""
    kind = type(network)
    if not issubclass(kind, PeftAdapterMixin):
        network.__class__ = type(kind.__name__, (kind, PeftAdapterMixin), {})
    try:
        yield
    finally:
        network.__class__ = kind


def add_to_text_encoder(
    loras: Sequence[UserLoRA], encoder: Any, *, part: str, pipeline: str, network: Any, prefix: str
) -> None:
    """Adds what LoRAs have for a text encoder, if anything. A note on stderr where its pipeline cannot."""
    for number, lora in enumerate(loras):
        state, alphas = lora.tensors(pipeline, network, prefix)
        if not any(key.startswith(f"{part}.") for key in state):
            continue
        reader = getattr(getattr(diffusers, pipeline), "load_lora_into_text_encoder", None)
        if reader is None:
            print(f"Note: what {lora.source.path} has for the {part} is left out.", file=sys.stderr)
        else:
            reader(state, alphas, encoder, prefix=part, lora_scale=lora.weight, adapter_name=f"{_NAME}_{number}")


def _own(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors of one part, by the names of peft."""
    own = {key.removeprefix(f"{prefix}."): value for key, value in state.items() if key.startswith(f"{prefix}.")}
    return own if any("lora_A" in key for key in own) else convert_unet_state_dict_to_peft(own) if own else own


def _check(own: Mapping[str, Tensor], network: Any, lora: UserLoRA) -> None:
    """ValueError, one sentence, where a layer is missing in the network or has another width."""
    layers, strange = dict(network.named_modules()), []
    for key, value in own.items():
        layer, _, end = key.partition(".lora_")
        weight = getattr(layers.get(layer), "weight", None)
        if weight is None:
            strange.append(layer)
        elif end.startswith(("A", "B")) and value.dim() > 1:
            axis = 1 if end.startswith("A") else 0
            if value.shape[axis] != weight.shape[axis]:
                strange.append(f"{layer} ({value.shape[axis]} wide where this model has {weight.shape[axis]})")
    strange = list(dict.fromkeys(strange))
    if strange:
        raise ValueError(
            f"lora: {lora.source.path} was made for another model: {len(strange)} of its layers do not fit, such as "
            f"{', '.join(strange[:2])}; take one that was made for this prior."
        )


def _refuse(path: Path) -> None:
    """ValueError, one sentence, for a file that is no LoRA."""
    if path.suffix != ".safetensors":
        raise ValueError(f"lora: {path} is no .safetensors file, and others could run code; take it in safetensors.")
    try:
        inversion, lora = recognise.is_inversion(path), recognise.is_lora(path)
    except ValueError as error:
        raise ValueError(f"lora: {path} cannot be read as safetensors; download it again.") from error
    if inversion:
        raise ValueError(
            f"lora: {path} is a textual inversion, a word for a prompt, which this version does not read; take a LoRA."
        )
    if not lora:
        raise ValueError(f"lora: {path} is no LoRA: no name of its weights says so.")
