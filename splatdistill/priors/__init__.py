"""The teachers. `load` is the switch behind --prior."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # words.py lies in this package and must come without torch
    import torch

    from splatdistill.priors.base import Prior
    from splatdistill.priors.diffusion import CodedPrior
    from splatdistill.priors.find import Source

EMBEDDED = Path(__file__).resolve().parents[1] / "embedded" / "prior" / "weights"


def load(
    name: str,
    *,
    device: torch.device,
    dtype: str,
    engine: str = "torch",
    max_memory: float = 0.0,
    encoder: str = "",
) -> Prior:
    """The prior called `name`: embedded, analytic, or what `find` makes of it: a folder, a file, a family or an id.

    dtype: auto, fp32 or bf16. engine: auto, torch, onnx, cuda-graph or compile, what computes the predictions.
    max_memory: GB that a model may take, 0 for all. encoder: what takes the place of a VAE, as in `find_encoder`.
    ValueError, one sentence, when there is no such prior or engine, or its weights are missing, of another kind or too
    large.
    """
    if name == "analytic":
        _refuse_encoder(encoder, name)
        _refuse(engine, name, "onnx", "compile")
        from splatdistill.priors.analytic import AnalyticPrior, beach_ball

        return AnalyticPrior(beach_ball(image_size=64), image_size=64)
    from splatdistill.priors.find import Source, find
    from splatdistill.priors.vocabulary import META_FILE, VOLUMES

    source = Source(EMBEDDED, name) if name == "embedded" else find(name)
    path = source.path
    # diffusers and transformers load here only
    if name == "embedded" or (path / META_FILE).is_file():
        _refuse_encoder(encoder, name)
        if (path / VOLUMES).is_file():
            _refuse(engine, name, "compile")
            from splatdistill.priors.known import KnownPrior

            return KnownPrior.load(path, device=str(device), dtype=dtype, engine=engine, origin=source.origin)
        from splatdistill.priors.embedded import MultiViewPrior

        return MultiViewPrior.load(path, device=str(device), dtype=dtype, engine=engine, origin=source.origin)
    _refuse(engine, name, "onnx")
    prior = _load_diffusion(source, device=device, dtype=dtype, max_memory=max_memory, encoder=encoder)
    from splatdistill.priors import engine as engines

    prior.compiled = engines.compiled(engine, prior)
    return prior


def _load_diffusion(source: Source, *, encoder: str, **settings: Any) -> CodedPrior:
    from splatdistill.priors.diffusion import DiffusionPrior
    from splatdistill.priors.vocabulary import META_FILE

    if encoder:
        from splatdistill.priors.find import find_encoder
        from splatdistill.priors.tiny_encoder import TinyEncoder

        settings["tiny"] = TinyEncoder.read(find_encoder(encoder))
    path = source.path
    if path.is_file():
        return DiffusionPrior.load_mvdream(source, **settings)
    if not (path / "model_index.json").is_file():
        raise ValueError(
            f"No prior in {path}: it has neither {META_FILE} nor model_index.json; name a diffusers model's folder."
        )
    if (path / "transformer").is_dir():
        from splatdistill.priors.flow import FlowPrior

        return FlowPrior.load(source, **settings)
    return DiffusionPrior.load(source, **settings)


def _refuse_encoder(encoder: str, name: str) -> None:
    """For priors without a VAE."""
    if encoder:
        raise ValueError(f"encoder: {name} has no VAE whose place an encoder could take; leave it out.")


def _refuse(engine: str, name: str, *refused: str) -> None:
    """ValueError, one sentence, for an engine that cannot compute this kind of prior."""
    if engine in refused and engine == "onnx":
        raise ValueError(f"network_engine: onnx computes the embedded kind of prior only, not {name}; take torch.")
    if engine in refused:
        raise ValueError(f"network_engine: {engine} is for priors that are one network, and {name} is not; take torch.")
