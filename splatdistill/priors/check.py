"""What `splatdistill prior` says: the families that have names, and what one prior is, with one step to try it out."""

from __future__ import annotations

import math
import time
from typing import Any

import torch

from splatdistill import priors
from splatdistill.config.plugins import package_of
from splatdistill.priors.diffusion import LatentPrior
from splatdistill.priors.families import run_with
from splatdistill.priors.imagedream import ImageDreamPrior
from splatdistill.priors.latent_space import LatentSpace
from splatdistill.priors.network import NetworkPrior
from splatdistill.priors.offload import GB, estimate
from splatdistill.priors.resolve import is_here, model_families
from splatdistill.priors.sampling import ring
from splatdistill.priors.transformer import TransformerPrior

PROMPT = "a red chair"
VAE_PARAMETERS = {
    "AutoencoderKL": 83_700_000, "AutoencoderKLFlux2": 84_000_000, "AutoencoderKLQwenImage": 126_900_000,
}  # fmt: skip
"""Of the VAEs of the families, by their class; benchmarks/teacher_memory.py counts them."""


HEADER = ("name", "what", "M parameters", "pixels", "GB", "licence", "from")


def table() -> list[str]:
    """A line for each family, and each prior of another package: name, what it is, its network's parameters, the side
    of its pictures, memory for four views, licence, where it comes from.
    """
    rows: list[tuple[str, ...]] = [HEADER]
    for name, facts in model_families().items():
        sources = [f"{source} (here)" if is_here(source) else source for source in facts["sources"]]
        licence = facts["licence"] + (", to be accepted first" if facts["gated"] else "")
        numbers = (f"{facts['parameters_m']:,}", str(facts["image_size"]), f"{memory_of(facts):.2g}")
        rows.append((name, facts["what"], *numbers, licence, ", ".join(sources)))
    for name, point in priors.offered().items():
        rows.append((name, "a prior of another package", "", "", "", "", package_of(point)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER) - 1)]
    return ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[-1]]) for row in rows]


def memory_of(facts: dict[str, Any], *, image_size: int = 0) -> float:
    """GB for SDS with four views in bf16, estimated. facts: of a family; image_size: as of `priors.load`."""
    vae = facts["vae"]
    parameters = facts["parameters_m"] * 1_000_000 + (VAE_PARAMETERS[vae] if vae else 0)
    need = estimate(
        parameters, image_size=image_size or facts["image_size"], encoder=facts["encoder"], dtype="bf16",
        vae=vae, network=facts["network"],
    )  # fmt: skip
    return need.total(num_views=4) / GB


def describe(name: str, *, device: torch.device, dtype: str, **settings: Any) -> dict[str, str]:
    """Loads the prior `name` and makes one step with it: encode, two scores for each view, backward. settings: more of
    `priors.load`.
    """
    prior = priors.load(name, device=device, dtype=dtype, **settings)
    facts = {"prior": name, "origin": prior.origin, "kind": type(prior).__name__}
    weights = 0
    if isinstance(prior, NetworkPrior):
        weights = sum(p.numel() for p in prior.network.parameters())
        facts |= {"network": f"{type(prior.network).__name__}, {weights / 1e6:.4g} M parameters"}
        facts |= {"predicts": prior.prediction}
    facts |= {
        "image": f"{prior.image_size} x {prior.image_size} pixels",
        "views": f"{prior.num_views} at once" if prior.num_views > 1 else "one by one",
        "cameras": "conditioned on" if prior.knows_cameras else "not conditioned on",
        "precision": prior.dtype,
    }
    if isinstance(prior, ImageDreamPrior):
        facts["picture"] = f"read, as {prior.num_tokens} tokens and a view of its own"
    if isinstance(prior, TransformerPrior) and prior.kind.offset:
        facts["guidance"] = f"a scale of its own pipeline is {prior.kind.offset:g} more here"
    if isinstance(prior, LatentPrior):
        precision, kinds = "", {"network": type(prior.network).__name__}
        if isinstance(prior.latent_space, LatentSpace):
            vae = prior.latent_space.vae
            weights += sum(p.numel() for p in vae.parameters())
            precision, kinds["vae"] = "bf16" if prior.latent_space.bf16 else "fp32", type(vae).__name__
        need = estimate(weights, image_size=prior.image_size, encoder=precision, dtype=prior.dtype, **kinds)
        facts["memory"] = (
            f"about {need.total(num_views=4) / GB:.2g} GB for four views, {need.least / GB:.2g} GB at least "
            "(estimated, not measured)"
        )
        facts["network kept"] = "in main memory, sent layer by layer" if prior.offloaded else f"on {device}"
    cameras = ring(prior)
    conditions = [prior.embed(PROMPT, cameras), prior.embed("", cameras)]
    shape = (prior.num_views, prior.image_size, prior.image_size, 4 if prior.sees_alpha else 3)
    rgb = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()
    begun = time.perf_counter()
    x0 = prior.encode(rgb)
    t = torch.full((prior.num_views,), len(prior.alphas_cumprod) // 2, device=device)
    cond, uncond = prior.predict(x0.detach(), t, conditions)
    (grad,) = torch.autograd.grad(x0, rgb, cond - uncond)
    size = float(grad.norm())
    if not math.isfinite(size):
        raise ValueError(f"prior: a step with {name} gave numbers that are not finite; try --dtype fp32.")
    facts["step"] = f"{len(rgb)} view(s) in {time.perf_counter() - begun:.2f} s, gradient norm {size:.3g}"
    return facts | run_with(name)
