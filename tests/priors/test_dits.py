"""Diffusion transformers against diffusers' own pipelines: the guided answer, the levels of noise, the latents."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.pipelines.flux2 import pipeline_flux2_klein as flux2
from diffusers.pipelines.qwenimage import pipeline_qwenimage as qwen
from torch import Tensor

from splatdistill import priors
from splatdistill.guidance.base import noisy_batch
from splatdistill.guidance.methods.sds import SDS, SDSConfig
from splatdistill.priors.dits import DITS
from splatdistill.priors.transformer import TransformerPrior
from splatdistill.training.trainer import Trainer
from tests.guidance.toys import FOR_ANY_PRIOR
from tests.priors import tiny_dits
from tests.priors.test_diffusion import CPU, TINY, Silent, ring
from tests.priors.test_latent_space import assert_slope, gradient, pictures
from tests.rounding import UNIT, assert_same, assert_within

PROMPT, SCALE = "a red chair", 7.5
PUBLISHED = 1e-5
"""Relative, of the guided residual: a claim about quality. Some 100 layers round to 6e-8 of what they answer, and the
guidance multiplies the difference of two such answers."""
CALLS: dict[str, dict[str, Any]] = {
    "sd3": {"guidance_scale": SCALE},
    "pixart": {"guidance_scale": SCALE, "use_resolution_binning": False, "clean_caption": False},
    "z-image": {}, "flux2": {"guidance_scale": SCALE}, "lumina2": {"guidance_scale": SCALE, "cfg_normalization": False},
    "qwen-image": {"true_cfg_scale": SCALE, "negative_prompt": ""},
    "sana": {"guidance_scale": SCALE, "use_resolution_binning": False},
}  # fmt: skip
"""How each pipeline is asked to guide as we do."""


@pytest.fixture(scope="module")
def dits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("dits")
    return {name: make(root / name / "model") for name, make in tiny_dits.DITS.items()}


def load(folder: Path, **settings: Any) -> TransformerPrior:
    prior = priors.load(str(folder), device=CPU, dtype="fp32", image_size=tiny_dits.SIDE, **settings)
    assert isinstance(prior, TransformerPrior)
    return prior


class Seen(Exception):
    """What a test wanted to see has come by."""


def run_pipeline(folder: Path, x: Tensor, time: float, *, decodes: bool = False, **settings: Any) -> Tensor:
    """What the pipeline of a folder hands to its scheduler for pictures x [V,C,h,w] at one timestep; or to its VAE, if
    that step left them as they are.
    """
    pipeline: Any = diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.check_inputs = lambda *_, **__: None  # SANA's wants sides that its VAE, not ours, can halve
    scheduler, given = pipeline.scheduler, []

    def decode(latents: Tensor, **_: Any) -> None:
        given.append(latents)
        raise Seen

    def set_timesteps(
        num_inference_steps: Any = None, device: Any = None, sigmas: Any = None, mu: Any = None, timesteps: Any = None
    ) -> None:
        scheduler.timesteps, scheduler.num_inference_steps = torch.tensor([time]), 1

    def step(answer: Tensor, t: Tensor, sample: Tensor, **_: Any) -> tuple[Tensor]:
        given.append(answer)
        return (sample,)

    scheduler.set_timesteps, scheduler.step, pipeline.vae.decode = set_timesteps, step, decode
    sides = {"height": tiny_dits.SIDE, "width": tiny_dits.SIDE}
    with suppress(Seen):
        pipeline(prompt=[PROMPT] * len(x), latents=x, output_type="pt", num_inference_steps=1, **sides, **settings)
    return given[decodes]


def residual(prior: TransformerPrior, z: Tensor, eps: Tensor, t: int) -> Tensor:
    """Of SDS, in the flow's own units for a flow."""
    weight: Any = "flow" if prior.prediction == "flow" else "one"
    method = SDS(SDSConfig(guidance_scale=SCALE, weight=weight), prompt=PROMPT, group=1, steps=10)
    batch = noisy_batch(z, ring(len(z)), prior, t=torch.full((len(z),), t), eps=eps)
    found = method.residual(batch, prior, step=0)
    total = sum(c.view(-1, 1, 1, 1) * term for c, term in zip(found.coef, found.terms, strict=True))
    return found.weight.view(-1, 1, 1, 1) * total


def as_tokens(x: Tensor) -> Tensor:
    """Qwen-Image's packed latents [V,n,4 C] of x [V,C,h,w]."""
    return diffusers.QwenImagePipeline._pack_latents(x, *x.shape)


@pytest.mark.parametrize("t", [250, 600])
@pytest.mark.parametrize("name", tiny_dits.DITS)
def test_the_guided_residual_is_that_of_its_own_pipeline(dits: dict[str, Path], name: str, t: int) -> None:
    prior, g = load(dits[name]), torch.Generator().manual_seed(1)
    shape = prior.encode(torch.zeros(2, tiny_dits.SIDE, tiny_dits.SIDE, 3)).shape
    z, eps = torch.randn(shape, generator=g), torch.randn(shape, generator=g)
    time = float(prior._times[t])
    if prior.prediction == "flow":
        x, wanted = (1 - time / 1000) * z + time / 1000 * eps, eps - z
    else:
        signal = prior.alphas_cumprod[t]
        x, wanted = signal.sqrt() * z + (1 - signal).sqrt() * eps, eps
    asked = dict(CALLS[name])
    if offset := prior.kind.offset:
        asked["guidance_scale"] = SCALE - offset
    latents = as_tokens(x) if name == "qwen-image" else x
    theirs = run_pipeline(dits[name], latents, time, **asked)
    ours = residual(prior, z, eps, t)
    if name == "qwen-image":  # it shortens each guided token to the length of the prompted one, which we do not
        plain = prior.predict((x * _size(prior, t)), torch.full((2,), t), [prior.embed(PROMPT, None)])[0]
        length = as_tokens(velocity(prior, plain, x, t)).norm(dim=-1, keepdim=True)
        guided = as_tokens(ours + wanted)
        ours, wanted, theirs = guided * length / guided.norm(dim=-1, keepdim=True), 0.0, theirs
    elif name == "flux2":
        wanted, ours = wanted.flatten(2).mT, ours.flatten(2).mT
    error = (ours - (theirs - wanted)).norm() / (theirs - wanted).norm()
    assert error <= PUBLISHED, float(error)


def _size(prior: TransformerPrior, t: int) -> Tensor:
    signal = prior.alphas_cumprod[t]
    return signal.sqrt() + (1 - signal).sqrt()


def velocity(prior: TransformerPrior, eps: Tensor, x: Tensor, t: int) -> Tensor:
    """eps - x0 of a flow's noise at x."""
    signal = prior.alphas_cumprod[t]
    share = (1 - signal).sqrt() / _size(prior, t)
    return (eps - x) / (1 - share)


@pytest.mark.parametrize("name", tiny_dits.DITS)
def test_latents_are_those_that_its_pipeline_decodes(dits: dict[str, Path], name: str) -> None:
    """What comes out of the VAE's encoder is what the pipeline hands to its decoder for our latents of it."""
    prior: Any = load(dits[name])
    rgb = torch.rand(2, tiny_dits.SIDE, tiny_dits.SIDE, 3, generator=torch.Generator().manual_seed(5))
    images, vae = 2 * rgb.permute(0, 3, 1, 2) - 1, prior.latent_space.vae
    with torch.no_grad():
        answer = vae.encode(images.unsqueeze(2) if name == "qwen-image" else images)
    raw = answer.latent if name == "sana" else answer.latent_dist.mode()
    x0 = prior.encode(rgb)
    found = run_pipeline(dits[name], as_tokens(x0) if name == "qwen-image" else x0, 500.0, decodes=True, **CALLS[name])
    # Scale and shift, there and back: four operations.
    assert_within(found, raw, 4 * UNIT * (raw.abs() + raw.abs().max()))
    assert prior.decode(x0).shape == rgb.shape


@pytest.mark.parametrize("name", tiny_dits.DITS)
def test_gradient_through_its_vae_is_that_of_finite_differences(dits: dict[str, Path], name: str) -> None:
    """In float64; along five random directions."""
    space: Any = load(dits[name]).latent_space
    space.vae.double()
    space._mean, space._std = space._mean.double(), space._std.double()
    space.latents = lambda x: (space._encoded(x) - space._mean) / space._std
    images, g = pictures(2).double(), torch.Generator().manual_seed(4)
    direction = torch.randn(space.latents(images).shape, generator=g, dtype=torch.float64)
    grad = gradient(space, images, direction)
    if name == "sana":  # its linear attention has kinks, which differences step over
        leaf = images.clone().requires_grad_()
        assert torch.equal(grad, torch.autograd.grad(space.latents(leaf), leaf, direction)[0])
        return
    for _ in range(5):
        step = torch.randn(images.shape, generator=g, dtype=torch.float64)

        def along(h: float, step: Tensor = step) -> Tensor:
            return (space.latents(images + h * step) * direction).sum()

        assert_slope(along, (grad * step).sum())


@pytest.mark.parametrize("name", tiny_dits.DITS)
def test_levels_of_noise_are_those_of_its_scheduler(dits: dict[str, Path], name: str) -> None:
    """A thousand steps of the folder's own scheduler, shifted for a picture of this size."""
    prior: Any = load(dits[name])
    pipeline: Any = diffusers.DiffusionPipeline.from_pretrained(dits[name], local_files_only=True)
    scheduler = pipeline.scheduler
    if name == "pixart":
        assert torch.equal(prior.alphas_cumprod, scheduler.alphas_cumprod)
        return
    even = np.linspace(1.0, 1e-3, 1000)
    share, off = prior._times.flip(0) / 1000, 2e-6 if name == "flux2" else 0.0
    if name == "sana":
        scheduler.set_timesteps(999)  # it begins at 0.999; between our levels, h^2 / 8 times the curvature, 12, at most
        levels, off = scheduler.sigmas[:999], 12 / 8 * 1e-6
        share = torch.from_numpy(np.interp(1 - np.linspace(1e-3, 1, 1000), even[::-1], share.numpy()[::-1]))[:999]
    else:
        tokens = (tiny_dits.SIDE // 4) ** 2
        mu = None
        if name == "flux2":
            mu = flux2.compute_empirical_mu(tokens, num_steps=200)
        elif name == "qwen-image":
            mu = qwen.calculate_shift(tokens, 256, 8192, 0.5, 0.9)
        scheduler.register_to_config(shift_terminal=None)  # where sampling ends, not what the network knows
        scheduler.set_timesteps(sigmas=list(even), mu=mu)
        levels = scheduler.sigmas[:1000]
    # Some ten operations in float32 on both sides; FLUX.2's own numbers for the shift are rounded to six digits.
    assert_within(share, levels.double(), 40 * UNIT * levels + off)


@pytest.mark.parametrize("method", FOR_ANY_PRIOR)
@pytest.mark.parametrize("name", [name for name in tiny_dits.DITS if name != "sd3"])
def test_one_step_of_every_method(dits: dict[str, Path], name: str, method: Any) -> None:
    prior = load(dits[name])
    config = replace(TINY, method=method)
    if method == "multiview":
        with pytest.raises(ValueError, match="needs a prior with a camera token; this one has none"):
            Trainer(config, prior=prior, device=CPU)
        return
    trainer = Trainer(config, prior=prior, device=CPU)
    before = trainer.splats.sh0.detach().clone()
    trainer.advance(Silent())  # type: ignore[arg-type]
    assert torch.isfinite(trainer.splats.sh0).all()
    assert not torch.equal(trainer.splats.sh0, before)


@pytest.mark.parametrize("name", tiny_dits.DITS)
def test_texts_of_several_lengths_in_one_call_are_as_each_alone(dits: dict[str, Path], name: str) -> None:
    prior, g = load(dits[name]), torch.Generator().manual_seed(6)
    xt = torch.randn(prior.encode(torch.zeros(3, 16, 16, 3)).shape, generator=g)
    t, prompts = torch.tensor([100, 500, 900]), ["a red chair", "", "a small bench with a hat"]
    together = torch.cat(prior.predict(xt, t, [prior.embed(prompts, None), prior.embed("", None)]))
    for row, prompt in enumerate([*prompts, "", "", ""]):
        one = slice(row % 3, row % 3 + 1)

        def both(row: int = row, prompt: str = prompt, one: slice = one) -> tuple[Tensor, Tensor]:
            return together[row : row + 1], prior.predict(xt[one], t[one], [prior.embed(prompt, None)])[0]

        assert_same(both)


@pytest.mark.parametrize("name", tiny_dits.DITS)
def test_bf16_changes_little(dits: dict[str, Path], name: str) -> None:
    exact = load(dits[name])
    coarse = priors.load(str(dits[name]), device=CPU, dtype="bf16", image_size=tiny_dits.SIDE)
    rgb = torch.rand(2, tiny_dits.SIDE, tiny_dits.SIDE, 3, generator=torch.Generator().manual_seed(7))
    t = torch.tensor([300, 700])
    a, b = (prior.encode(rgb) for prior in (exact, coarse))
    assert (a - b).norm() / a.norm() < 0.06  # some ten layers, each rounded to 2^-8, and SANA's linear attention
    (a,), (b,) = (prior.predict(a, t, [prior.embed("a chair", None)]) for prior in (exact, coarse))
    assert b.dtype == torch.float32 and (a - b).norm() / a.norm() < 0.03


def changed(folder: Path, part: str, **values: Any) -> None:
    path = folder / part
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


SCHEDULER = "scheduler/scheduler_config.json"


@pytest.mark.parametrize(
    ("name", "part", "values", "reason"),
    [
        ("flux2", "model_index.json", {"is_distilled": True}, "its model_index.json says is_distilled"),
        ("flux2", "transformer/config.json", {"guidance_embeds": True}, r"takes the guidance scale .*guidance_embeds"),
        ("sana", "transformer/config.json", {"guidance_embeds": True}, r"takes the guidance scale .*guidance_embeds"),
        ("sana", SCHEDULER, {"_class_name": "SCMScheduler"}, "its scheduler is SCMScheduler, for pictures in a few"),
        ("z-image", SCHEDULER, {"shift": 3.0}, "the shift of Z-Image-Turbo, 3, where that of Z-Image has 6"),
        ("sd15", "unet/config.json", {"time_cond_proj_dim": 256}, r"takes the guidance scale .*time_cond_proj_dim"),
        ("sd15", SCHEDULER, {"_class_name": "LCMScheduler"}, "its scheduler is LCMScheduler"),
    ],
)
def test_distilled_models_are_refused_with_that_reason(
    dits: dict[str, Path], folders: dict[str, Path], tmp_path: Path, name: str, part: str, values: Any, reason: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree({**dits, **folders}[name], copy)
    changed(copy, part, **values)
    with pytest.raises(ValueError, match=rf"^prior: .*copy is distilled: .*{reason}.*take the model that it was"):
        load(copy)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("sd-turbo", "turbo"), ("sdxl_turbo", "turbo"), ("stable-diffusion-3.5-large-turbo", "turbo"),
        ("LCM_Dreamshaper_v7", "lcm"), ("SDXL-Lightning", "lightning"), ("Z-Image-De-Turbo", ""), ("hyperion", ""),
        ("models--stabilityai--sd-turbo/snapshots/0123abcd", "turbo"),
    ],
)  # fmt: skip
def test_few_step_models_are_known_by_their_names(
    folders: dict[str, Path], tmp_path: Path, name: str, word: str
) -> None:
    copy = Path(shutil.copytree(folders["sd15"], tmp_path / name))
    if not word:
        assert load_any(copy)
        return
    with pytest.raises(ValueError, match=rf"is distilled: '{word}' in its name .* says so \(rename the folder if"):
        load_any(copy)


def load_any(folder: Path) -> Any:
    return priors.load(str(folder), device=CPU, dtype="fp32")


@pytest.mark.parametrize(
    ("network", "pipeline", "said"),
    [
        ("FluxTransformer2DModel", "FluxPipeline", r"FluxTransformer2DModel \(FLUX\.1, whose guidance is distilled"),
        ("WanTransformer3DModel", "WanPipeline", r"WanTransformer3DModel \(Wan, which makes videos\) for WanPipeline"),
        ("SomeTransformer2DModel", "SomePipeline", "SomeTransformer2DModel for SomePipeline, which this version does"),
        ("QwenImageTransformer2DModel", "QwenImageEditPipeline", "for QwenImageEditPipeline, which this version does"),
        ("Flux2Transformer2DModel", "Flux2Pipeline", "for Flux2Pipeline, which this version does not read"),
    ],
)
def test_other_transformers_are_told_by_name(
    dits: dict[str, Path], tmp_path: Path, network: str, pipeline: str, said: str
) -> None:
    copy = Path(shutil.copytree(dits["lumina2"], tmp_path / "copy"))
    changed(copy, "transformer/config.json", _class_name=network)
    changed(copy, "model_index.json", _class_name=pipeline)
    with pytest.raises(ValueError, match=rf"^prior: .*copy holds .*{said}.*it reads Stable Diffusion 1.*SANA\.$"):
        load(copy)


def test_every_row_is_tried() -> None:
    made = {json_class(make) for make in tiny_dits.DITS.values()}
    assert made == {kind.pipeline for kind in DITS.values()}


def json_class(make: Callable[[Path], Path]) -> str:
    with TemporaryDirectory() as folder:
        torch.manual_seed(0)
        return json.loads((make(Path(folder) / "model") / "model_index.json").read_text())["_class_name"]


def test_a_side_that_its_patches_do_not_fill_is_refused(dits: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match=r"prior_size: .* must be a multiple of 4 pixels, and 18 is not"):
        priors.load(str(dits["z-image"]), device=CPU, dtype="fp32", image_size=18)
