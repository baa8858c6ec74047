"""The teachers. `load` is the switch behind --prior."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any

from splatdistill.config import plugins
from splatdistill.utils.memory import ran_out

if TYPE_CHECKING:  # the vocabulary lies in this package and must come without torch
    import torch

    from splatdistill.priors.base import Prior
    from splatdistill.priors.diffusion import LatentPrior
    from splatdistill.priors.resolve import ModelSource

EMBEDDED = Path(__file__).resolve().parents[1] / "embedded" / "prior" / "weights"
SHIPPED = {"embedded": EMBEDDED}
"""Folders of the priors that come with the package, by name."""
GROUP = "splatdistill.priors"
Loader = Callable[..., "Prior"]


def load(
    name: str,
    *,
    device: torch.device,
    dtype: str,
    engine: str = "torch",
    max_memory: float = 0.0,
    encoder: str = "",
    image_size: int = 0,
    loras: Sequence[str] = (),
) -> Prior:
    """The prior called `name`: embedded, analytic, one of another package, or what `resolve` makes of it: a
    folder, a file, a family or an id.

    dtype: auto, fp32 or bf16. engine: auto, torch, onnx, cuda-graph or compile, what computes the predictions.
    max_memory: GB that a model may take, 0 for all. encoder: what takes the place of a VAE, as in `resolve_encoder`.
    image_size: side in pixels of the pictures that it sees, 0 for what it was made for. loras: FILE|ID[:WEIGHT] of what
    is added to its weights.
    ValueError, one sentence, when there is no such prior or engine, or its weights are missing, of another kind or too
    large.
    """
    loader = LOADERS.get(name) or _of_another_package(name) or _load_found
    new = {"image_size": image_size, "loras": loras}
    asked = {key: value for key, value in new.items() if value}  # other packages may not know them
    return loader(name, device=device, dtype=dtype, engine=engine, max_memory=max_memory, encoder=encoder, **asked)


def offered() -> dict[str, EntryPoint]:
    """Loaders that other packages offer, by the name of the prior; none of them is imported."""
    from splatdistill.priors.resolve import model_families

    return plugins.offered(GROUP, taken={*LOADERS, *model_families()})


def _of_another_package(name: str) -> Loader | None:
    """A loader with the signature of `load`. ValueError, one sentence, where it or what it loads is no such thing."""
    point = offered().get(name)
    if point is None:
        return None
    whose = f"prior: {name} of the package {plugins.package_of(point)!r}"
    made = plugins.load(point, fault=lambda _, made: "" if callable(made) else "it is not a function")
    if made is None:
        raise ValueError(f"{whose} cannot be loaded.")

    def loader(name: str, **settings: Any) -> Prior:
        prior = made(name, **settings)
        if missing := _missing(prior):
            raise ValueError(f"{whose} is none: it has no {missing[0]}, as splatdistill.priors.base.Prior has.")
        return prior

    return loader


def _missing(prior: object) -> list[str]:
    """What an object lacks that every prior has."""
    from splatdistill.priors.base import Prior

    wanted = [*Prior.__annotations__, *(name for name in vars(Prior) if not name.startswith("_"))]
    return [name for name in wanted if not hasattr(prior, name)]


def _load_analytic(name: str, *, engine: str, device: torch.device, dtype: str, **settings: Any) -> Prior:
    _refuse_diffusion_settings(name, **settings)
    _refuse(engine, name, "onnx", "compile")
    from splatdistill.priors.analytic import AnalyticPrior, beach_ball

    return AnalyticPrior(beach_ball(image_size=64), image_size=64)


def _load_shipped(name: str, **settings: Any) -> Prior:
    from splatdistill.priors.resolve import ModelSource

    return _load_own(name, ModelSource(SHIPPED[name], name), **settings)


def _load_found(name: str, *, engine: str, device: torch.device, dtype: str, **settings: Any) -> Prior:
    from splatdistill.priors.resolve import resolve
    from splatdistill.priors.vocabulary import META_FILE

    source = resolve(name)
    if (source.path / META_FILE).is_file():
        with _in_a_sentence(source):
            return _load_own(name, source, engine=engine, device=device, dtype=dtype, **settings)
    _refuse(engine, name, "onnx")
    with _in_a_sentence(source):
        prior = _load_diffusion(source, device=device, dtype=dtype, **settings)
    from splatdistill.priors import engine as engines

    prior.compiled = engines.compiled(engine, prior)
    return prior


@contextmanager
def _in_a_sentence(source: ModelSource) -> Iterator[None]:
    """Makes a ValueError of one sentence of whatever the libraries raise for a damaged folder."""
    try:
        yield
    except Exception as error:
        if ran_out(error):
            raise
        said = str(error).strip()
        if type(error) is ValueError and said and "\n" not in said:
            raise
        first = re.split(r"\.\s|\n", said)[0].rstrip(".")[:200]
        raise ValueError(f"prior: {source.path} cannot be loaded: {type(error).__name__}: {first}.") from error


def _load_own(
    name: str, source: ModelSource, *, engine: str, device: torch.device, dtype: str, **settings: Any
) -> Prior:
    """A prior of the kind that we train."""
    from splatdistill.priors.vocabulary import MODELS

    _refuse_diffusion_settings(name, **settings)
    if (source.path / MODELS).is_file():
        from splatdistill.priors.known import KnownPrior

        return KnownPrior.load(source.path, device=str(device), dtype=dtype, engine=engine, origin=source.origin)
    from splatdistill.priors.embedded import MultiViewPrior  # diffusers and transformers load here only

    return MultiViewPrior.load(source.path, device=str(device), dtype=dtype, engine=engine, origin=source.origin)


def _load_diffusion(source: ModelSource, *, encoder: str, loras: Sequence[str] = (), **settings: Any) -> LatentPrior:
    from splatdistill.priors import recognise
    from splatdistill.priors.diffusion import DiffusionPrior
    from splatdistill.priors.resolve import INDEX, read_small

    if encoder:
        from splatdistill.priors.resolve import resolve_encoder
        from splatdistill.priors.tiny_encoder import TinyEncoder

        settings["tiny"] = TinyEncoder.read(resolve_encoder(encoder))
    if loras:
        from splatdistill.priors.user_loras import UserLoRA

        settings["loras"] = [UserLoRA.of(text) for text in loras]
    path = source.path
    if path.is_file():
        recognise.refuse_file(path)
        return DiffusionPrior.load_mvdream(source, **settings)
    if not (path / INDEX).is_file():
        raise recognise.refuse_folder(path)
    if (path / "transformer").is_dir():
        from splatdistill.priors.transformer import TransformerPrior

        return TransformerPrior.load(source, **settings)
    if read_small(path / "unet" / "config.json").get("ip_dim"):
        from splatdistill.priors.imagedream import ImageDreamPrior

        return ImageDreamPrior.load(source, **settings)
    return DiffusionPrior.load(source, **settings)


def _refuse_diffusion_settings(
    name: str, *, encoder: str, image_size: int = 0, loras: Sequence[str] = (), **_: Any
) -> None:
    """For priors that are no diffusers model."""
    if loras:
        raise ValueError(f"lora: {name} is no diffusers model, to which LoRAs could be added; leave them out.")
    if image_size:
        raise ValueError(f"prior_size: {name} sees pictures of the one size that it was made for; leave it out.")
    if encoder:
        raise ValueError(f"encoder: {name} has no VAE whose place an encoder could take; leave it out.")


def _refuse(engine: str, name: str, *refused: str) -> None:
    """ValueError, one sentence, for an engine that cannot compute this kind of prior."""
    if engine in refused and engine == "onnx":
        raise ValueError(f"network_engine: onnx computes the embedded kind of prior only, not {name}; take torch.")
    if engine in refused:
        raise ValueError(f"network_engine: {engine} is for priors that are one network, and {name} is not; take torch.")


LOADERS: dict[str, Loader] = {**dict.fromkeys(SHIPPED, _load_shipped), "analytic": _load_analytic}
"""Of the priors that have a name of their own."""
