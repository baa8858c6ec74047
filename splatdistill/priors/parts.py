"""The parts of a folder of the embedded kind: in plain torch where that knows them, else as diffusers has them.

Every function raises ValueError, a reason without a full stop, where the part is not whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from splatdistill.config.base import is_mapping
from splatdistill.io.foreign import refuse_code, refuse_gaps
from splatdistill.priors.clip_text import CLIPText, WordTokenizer
from splatdistill.priors.schedule import Schedule
from splatdistill.priors.unet import UNet, supports
from splatdistill.priors.volume import FeatureVolume, current_name

DIFFUSERS, TRANSFORMERS = "diffusion_pytorch_model.safetensors", "model.safetensors"


def load_unet(folder: Path) -> nn.Module:
    config = _json(folder / "unet" / "config.json")
    if supports(config):
        return _fill(lambda: UNet(config), folder / "unet" / DIFFUSERS)
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    return _foreign(UNet2DConditionModel, folder, "unet", torch_dtype=torch.float32)


def load_text_encoder(folder: Path) -> Any:
    config = _json(folder / "text_encoder" / "config.json")
    if CLIPText.supports(config):
        return _fill(lambda: CLIPText(config), folder / "text_encoder" / TRANSFORMERS)
    from transformers import CLIPTextModel

    return _foreign(CLIPTextModel, folder, "text_encoder", dtype=torch.float32)


def load_tokenizer(folder: Path) -> WordTokenizer:
    config = _json(folder / "tokenizer" / "tokenizer_config.json")
    try:
        return WordTokenizer(folder / "tokenizer" / "tokenizer.json", config)
    except KeyError as error:
        raise ValueError(f"tokenizer/tokenizer_config.json names no {error}") from error


def load_volume(folder: Path) -> FeatureVolume:
    config = _json(folder / "volume" / "config.json")
    settings = {key: value for key, value in config.items() if not key.startswith("_")}
    made = _fill(lambda: FeatureVolume(**settings), folder / "volume" / DIFFUSERS, current_name)
    return made  # type: ignore[return-value]


def load_schedule(folder: Path) -> Schedule:
    return Schedule.from_config(_json(folder / "scheduler" / "scheduler_config.json"))


def read_weights(path: Path) -> dict[str, Tensor]:
    """A file's tensors in fp32, by the names that the modules here have."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path.parent.name}/{path.name} cannot be read: {error}") from error
    # transformers 4 puts this before every name of its text model; old files hold what is no weight.
    named = {name.removeprefix("text_model."): value for name, value in tensors.items()}
    return {name: value.float() for name, value in named.items() if not name.endswith("position_ids")}


def _fill(make: Callable[[], nn.Module], path: Path, current_name: Callable[[str], str] = str) -> nn.Module:
    """The module with the weights of a file. current_name: what the module calls a tensor of the file."""
    tensors = {current_name(name): value for name, value in read_weights(path).items()}
    try:
        with _Undrawn():
            module = make()
        module.load_state_dict(tensors, assign=True)
    except (KeyError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split()[:20])
        raise ValueError(f"{path.parent.name}: its config.json and its weights do not fit: {reason}") from error
    return module


class _Undrawn(TorchFunctionMode):
    """Modules get no first weights, which would cost time and random numbers. On the meta device they would not either,
    but there torch loads its compiler to draw nothing.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == nn.init.__name__:  # these hand themselves over
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return args[0] if func in (Tensor.normal_, Tensor.uniform_) else func(*args, **kwargs)


def _foreign(kind: Any, folder: Path, part: str, **settings: Any) -> nn.Module:
    refuse_code(_json(folder / part / "config.json"), where=f"{part}/config.json")
    try:
        model, info = kind.from_pretrained(
            folder,
            subfolder=part,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            **settings,
        )
        refuse_gaps(info, model.state_dict())
    except Exception as error:  # a stranger's configuration can make the library raise anything
        first = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ValueError(f"{part}: {first}") from error
    return model


def _json(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path.parent.name}/{path.name} cannot be read: {error}") from error
    if not is_mapping(found):
        raise ValueError(f"{path.parent.name}/{path.name} must hold settings")
    return found
