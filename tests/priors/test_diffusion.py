"""Every family from its folder: one step of every method, exact scores, counts, chunks, and what bad folders say."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from splatdistill import ops, priors
from splatdistill.config.schema import GUIDANCE, SplatsConfig, TrainConfig
from splatdistill.guidance import make_guidance, retune
from splatdistill.guidance.base import noisy_batch
from splatdistill.guidance.methods.csd import CSDConfig
from splatdistill.guidance.methods.sds import SDS, SDSConfig
from splatdistill.priors.diffusion import LatentPrior
from splatdistill.priors.scores import make_score
from splatdistill.scene.cameras import orbit
from splatdistill.training.trainer import Trainer
from tests.guidance.toys import FOR_ANY_PRIOR
from tests.priors import families
from tests.rounding import DOUBLE, FACTOR, UNIT, assert_rounded, assert_same, assert_within, bound, moved

CPU = torch.device("cpu")
TINY = TrainConfig(prompt="a red chair", steps=10, size=16, num_views=4, splats=SplatsConfig(num_init=60))


@pytest.fixture
def copied(folders: dict[str, Path], tmp_path: Path) -> Path:
    """A Stable Diffusion folder to spoil."""
    return Path(shutil.copytree(folders["sd15"], tmp_path / "copy"))


def load(folder: Path, **settings: Any) -> LatentPrior:
    prior = priors.load(str(folder), device=CPU, dtype="fp32", **settings)
    assert isinstance(prior, LatentPrior)
    return prior


def ring(num: int = 4) -> Any:
    one = torch.ones(num)
    azimuth = torch.arange(num) * (torch.pi / 2) + 0.3
    return orbit(azimuth=azimuth, elevation=0.2 * one, radius=3 * one, fovy=0.7 * one, size=16)


class Silent:
    def metrics(self, *args: Any, **values: Any) -> None: ...

    event = summary = metrics


@contextmanager
def counted(prior: LatentPrior) -> Iterator[list[int]]:
    """Rows of each call of the network."""
    rows: list[int] = []
    forward = prior.network.forward

    def count(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        rows.append(len(x))
        return forward(x, *args, **kwargs)

    prior.network.forward = count  # type: ignore[method-assign]
    yield rows
    prior.network.forward = forward  # type: ignore[method-assign]


@pytest.mark.parametrize("method", FOR_ANY_PRIOR)
@pytest.mark.parametrize("family", families.FAMILIES)
def test_one_step_of_every_method_on_every_family(folders: dict[str, Path], family: str, method: Any) -> None:
    prior = load(folders[family])
    config = replace(TINY, method=method)
    if method == "multiview" and family != "mvdream":
        with pytest.raises(ValueError, match="multiview needs a prior with a camera token; this one has none"):
            Trainer(config, prior=prior, device=CPU)
        return
    trainer = Trainer(config, prior=prior, device=CPU)
    before = trainer.splats.sh0.detach().clone()
    with counted(prior) as rows:
        trainer.advance(Silent())  # type: ignore[arg-type]
    assert sum(rows) == 4 * GUIDANCE[method].evaluations
    assert torch.isfinite(trainer.splats.sh0).all()
    assert not torch.equal(trainer.splats.sh0, before)


def test_what_a_folder_says_is_taken(folders: dict[str, Path]) -> None:
    sd15, sd21, sdxl, deepfloyd, sd3 = (load(folders[name]) for name in ("sd15", "sd21", "sdxl", "if", "sd3"))
    assert [p.prediction for p in (sd15, sd21, sdxl, deepfloyd, sd3)] == [
        "epsilon", "v_prediction", "epsilon", "epsilon", "flow",
    ]  # fmt: skip
    assert [p.image_size for p in (sd15, sdxl, deepfloyd, sd3)] == [16, 16, 16, 16]
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    # Each factor is rounded from 1 and a rounded beta, and so is each product.
    exact = (1 - betas).cumprod(0)
    assert_within(sd15.alphas_cumprod, exact, 3 * UNIT * torch.arange(1, 1001) * exact)
    assert (deepfloyd.alphas_cumprod - sd15.alphas_cumprod).abs().max() > 0.1  # squared cosine
    rgb = torch.rand(2, 24, 24, 3)
    shapes = [tuple(p.encode(rgb).shape) for p in (sd15, sdxl, deepfloyd, sd3)]
    assert shapes == [(2, 4, 8, 8), (2, 4, 8, 8), (2, 3, 16, 16), (2, 4, 8, 8)]
    raw = sd3.latent_space.vae.encode(torch.zeros(1, 3, 16, 16)).latent_dist.mean  # type: ignore[union-attr]
    torch.testing.assert_close(sd3.latent_space.encode(torch.zeros(1, 3, 16, 16)), (raw - 0.0609) * 1.5305)
    for p in (sd15, deepfloyd, sd3):
        x0 = p.encode(rgb)
        assert p.decode(x0).shape == (2, 16, 16, 3)
        again = p.latent_space.encode(p.latent_space.decode(x0)) if p is deepfloyd else None
        assert again is None or torch.equal(again, x0)
    latent_space: Any = sd3.latent_space
    with torch.no_grad():  # decode undoes scale and shift
        assert_same(lambda: (latent_space.decode((raw - 0.0609) * 1.5305), latent_space.vae.decode(raw).sample))
    assert all(not p.requires_grad for p in sd15.network.parameters())
    assert sd15.origin == str(folders["sd15"])


def gaussian(mean: float, std: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The exact noise prediction at x = alpha x0 + sigma eps of x0 from N(mean, std^2)."""
    return lambda x, alpha, sigma: sigma * (x - alpha * mean) / (alpha**2 * std**2 + sigma**2)


def exact_network(prior: LatentPrior, cond: Tensor) -> Callable[..., Any]:
    """What a perfect network answers: prompts that read `cond` mean N(0.4, 0.5^2), others N(-0.2, 0.8^2)."""

    def answer(x: Tensor, t: Tensor | None = None, text: Tensor | None = None, **kwargs: Any) -> tuple[Tensor]:
        text = kwargs.get("encoder_hidden_states", text)
        assert text is not None
        x = x.double()
        if prior.prediction == "flow":  # x = (1 - s) x0 + s eps, and it is given 1000 s
            s = (kwargs["timestep"].double() / 1000).view(-1, 1, 1, 1)
            alpha, sigma = 1 - s, s
        else:
            assert t is not None
            signal = prior.alphas_cumprod[t].double().view(-1, 1, 1, 1)
            alpha, sigma = signal.sqrt(), (1 - signal).sqrt()
        is_prompt = torch.tensor([torch.equal(row, cond[0]) for row in text]).view(-1, 1, 1, 1)
        eps = torch.where(is_prompt, gaussian(0.4, 0.5)(x, alpha, sigma), gaussian(-0.2, 0.8)(x, alpha, sigma))
        x0 = (x - sigma * eps) / alpha
        v = alpha * eps - sigma * x0
        return ({"epsilon": eps, "v_prediction": v, "flow": eps - x0}[prior.prediction].float(),)

    return answer


@pytest.mark.parametrize("family", ["sd15", "sd21", "sd3"])
def test_eps_v_and_flow_give_the_residual_of_a_float64_reference(folders: dict[str, Path], family: str) -> None:
    prior = load(folders[family])
    cond = prior.embed("a red chair", None)
    prior.network.forward = exact_network(prior, cond.text)  # type: ignore[method-assign]
    g = torch.Generator().manual_seed(1)
    z, eps = torch.randn(4, 4, 8, 8, generator=g), torch.randn(4, 4, 8, 8, generator=g)
    t = torch.tensor([60, 300, 600, 950])
    method = SDS(SDSConfig(guidance_scale=7.5, weight="flow"), prompt="a red chair", group=1, steps=10)

    def gradient() -> Tensor:
        x0 = z.float().requires_grad_()
        batch = noisy_batch(x0, ring(), prior, t=t, eps=eps.float())
        residual = method.residual(batch, prior, step=0)
        ops.residual(x0, terms=residual.terms, coef=residual.coef, weight=residual.weight)[0].backward()
        assert x0.grad is not None
        return x0.grad

    # The reference: methods.md 6.8 for flows, 6.1 and 6.2 for the others, in float64.
    z, eps = z.double(), eps.double()
    if family == "sd3":
        s = (t.double() + 1) / 1000
        s = (3 * s / (1 + 2 * s)).view(-1, 1, 1, 1)
        alpha, sigma = 1 - s, s
    else:
        signal = prior.alphas_cumprod[t].double().view(-1, 1, 1, 1)
        alpha, sigma = signal.sqrt(), (1 - signal).sqrt()
    x = alpha * z + sigma * eps
    scores = [gaussian(*density)(x, alpha, sigma) for density in ((0.4, 0.5), (-0.2, 0.8))]
    guided = scores[1] + 7.5 * (scores[0] - scores[1])
    weight = 1 + (sigma / alpha).clamp(max=13.0)
    expected = weight * (guided - eps) / len(z)
    if family == "sd3":  # where the cap is not reached this is the velocity's own residual
        velocities = [score - (x - sigma * score) / alpha for score in scores]
        own = velocities[1] + 7.5 * (velocities[0] - velocities[1]) - (eps - z)
        # Some ten operations in float64 on numbers of at most the largest velocity, which the guidance multiplies.
        largest = torch.stack([*velocities, eps, z]).abs().max()
        assert_within(expected[:3], own[:3] / len(z), 10 * 2 * 7.5 * DOUBLE * largest)
    assert_rounded(gradient, expected)


def test_a_negative_prompt_is_evaluated_once_more(folders: dict[str, Path]) -> None:
    prior = load(folders["sd15"])
    config = replace(TINY, method="csd", csd=CSDConfig(negative_prompt="blurry", negative_weight=0.5))
    trainer = Trainer(config, prior=prior, device=CPU)
    with counted(prior) as rows:
        trainer.advance(Silent())  # type: ignore[arg-type]
    assert rows == [3 * 4]


def test_the_prompt_stands_in_its_own_negative_prompt() -> None:
    """At the start and after a stage begins; the settings of the run keep what was written."""
    config = replace(TINY, sds=SDSConfig(negative_prompt="{prompt}, blurry, {prompt}!"))
    guidance = make_guidance(config)
    assert guidance.config.negative_prompt == "a red chair, blurry, a red chair!"
    retune(guidance, SDSConfig(negative_prompt="not {prompt}"), prompt=config.prompt, views=config.views)
    assert guidance.config.negative_prompt == "not a red chair"
    assert config.sds.negative_prompt == "{prompt}, blurry, {prompt}!"


@pytest.mark.parametrize("family", ["sd15", "sdxl", "mvdream", "sd3"])
def test_chunks_of_views_give_what_all_at_once_gives(folders: dict[str, Path], family: str) -> None:
    prior = load(folders[family])
    conditions = [prior.embed("a red chair", ring(8)), prior.embed("", ring(8))]
    xt = torch.randn(8, *prior.encode(torch.rand(1, 16, 16, 3)).shape[1:])
    t = torch.full((8,), 300)
    whole = torch.stack(prior.predict(xt, t, conditions))
    allowed = 2 * bound(lambda: torch.stack(prior.predict(xt, t, conditions)), samples=2).max()
    forward, refused = prior.network.forward, []

    def small_device(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if len(x) > 5:
            refused.append(len(x))
            raise torch.OutOfMemoryError("out of memory")
        return forward(x, *args, **kwargs)

    prior.network.forward = small_device  # type: ignore[method-assign]
    chunked = torch.stack(prior.predict(xt, t, conditions))
    assert refused == [16, 8] and prior.micro_batches.rows == 4
    assert_within(chunked, whole, allowed)
    refused.clear()
    prior.predict(xt, t, conditions)
    assert refused == []  # it has learned


def test_the_second_score_learns_the_same_in_chunks(folders: dict[str, Path]) -> None:
    def learned(prior: Any, most: int) -> dict[str, Tensor]:
        """The gradients, which the first moments of Adam are a tenth of."""
        score = make_score(prior, "a red chair", particles=1, rank=2, lr=1e-3, dropout=0.5, seed=0)
        forward = prior.network.forward

        def small_device(x: Tensor, *args: Any, **kwargs: Any) -> Any:
            if len(x) > most:
                raise torch.OutOfMemoryError("out of memory")
            return forward(x, *args, **kwargs)

        prior.network.forward = small_device  # type: ignore[method-assign]
        z = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(3))
        batch = noisy_batch(z, ring(), prior, t=torch.full((4,), 300), eps=torch.zeros_like(z))
        score.update(batch, seed=0, step=0, measure=True)
        prior.network.forward = forward
        return {k: v for k, v in score.state_dict().items() if k.startswith("exp_avg.")}

    prior = load(folders["sd15"])
    whole, chunked = learned(prior, 99), learned(load(folders["sd15"]), 2)
    off = moved(lambda: learned(prior, 99))
    for name, value in whole.items():
        assert_within(chunked[name], value, 2 * FACTOR * off[name].max())


def test_views_of_mvdream_see_each_other_in_fours_whatever_the_chunks(folders: dict[str, Path]) -> None:
    prior = load(folders["mvdream"])
    assert prior.num_views == 4 and prior.knows_cameras
    xt, t = torch.randn(4, 4, 8, 8), torch.full((4,), 300)
    condition = prior.embed("a chair", ring())
    (a,) = prior.predict(xt, t, [condition])
    xt[3] += 1
    (b,) = prior.predict(xt, t, [condition])
    assert (a[:3] - b[:3]).abs().max() > 1e-5
    with pytest.raises(ValueError, match="must be a multiple of 4"):
        prior.predict(xt[:3], t[:3], [prior.embed("a chair", ring(3))])


def test_deepfloyds_variance_is_left_out(folders: dict[str, Path]) -> None:
    prior = load(folders["if"])
    xt, t = torch.randn(2, 3, 16, 16), torch.full((2,), 300)
    condition = prior.embed("a chair", None)
    (eps,) = prior.predict(xt, t, [condition])
    raw = prior.network(xt, t, condition.text.expand(2, -1, -1), return_dict=False)[0]
    assert raw.shape[1] == 6
    torch.testing.assert_close(eps, raw[:, :3])


def test_bf16_changes_little(folders: dict[str, Path]) -> None:
    exact = load(folders["sd15"])
    coarse = priors.load(str(folders["sd15"]), device=CPU, dtype="bf16")
    rgb, t = torch.rand(4, 16, 16, 3), torch.full((4,), 300)
    assert coarse.dtype == "bf16"
    for a, b in ((exact.encode(rgb), coarse.encode(rgb)),):
        assert (a - b).norm() / a.norm() < 0.03
    xt = torch.randn(4, 4, 8, 8)
    (a,), (b,) = (p.predict(xt, t, [p.embed("a chair", None)]) for p in (exact, coarse))
    assert b.dtype == torch.float32
    assert (a - b).norm() / a.norm() < 0.03


def test_fp16_twins_are_read_where_there_are_no_others(copied: Path) -> None:
    before = load(copied).network.state_dict()
    for path in [*copied.glob("*/*.safetensors")]:
        path.rename(path.with_name(path.name.replace(".safetensors", ".fp16.safetensors")))
    after = load(copied).network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def spoil_nothing_but(config: str, **values: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / config
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return spoil


def only_pickles(folder: Path) -> None:
    for path in folder.glob("unet/*.safetensors"):
        path.rename(path.with_suffix(".bin"))


def no_weights(folder: Path) -> None:
    for path in folder.glob("vae/*.safetensors"):
        path.unlink()


def cut(folder: Path) -> None:
    (path,) = folder.glob("unet/*.safetensors")
    path.write_bytes(path.read_bytes()[:-1000])


def no_text(folder: Path) -> None:
    shutil.rmtree(folder / "text_encoder")


def not_json(folder: Path) -> None:
    (folder / "unet" / "config.json").write_text("{")


UNET = "unet/config.json"


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (only_pickles, r"unet has no \.safetensors file, only diffusion_pytorch_model\.bin, which could run code"),
        (no_weights, r"copy is not whole: vae has no \.safetensors file; download it again"),
        (no_text, r"copy is not whole: it has no text_encoder/config\.json; download it again"),
        (cut, r"unet in .*copy cannot be loaded: "),
        (not_json, r"unet/config\.json cannot be read as JSON"),
        (
            spoil_nothing_but(UNET, _class_name="UNet3DConditionModel"),
            r"holds UNet3DConditionModel \(a UNet of videos\) for StableDiffusionPipeline, which this version does not",
        ),
        (spoil_nothing_but(UNET, in_channels=7), "takes 7 channels where a picture has 4: it upscales"),
        (spoil_nothing_but(UNET, num_class_embeds=1000), "wants a noise level or a class: it upscales"),
        (spoil_nothing_but(UNET, sample_size=[8, 16]), r"was made for pictures of \[8, 16\]; only square ones"),
        (spoil_nothing_but(UNET, block_out_channels=[16, 64]), r"unet in .*copy cannot be loaded: "),
        (spoil_nothing_but("model_index.json", text_encoder=[None, None]), "has no text encoder, which is no model"),
        (
            spoil_nothing_but("scheduler/scheduler_config.json", prediction_type="flow_x"),
            "its network predicts 'flow_x'",
        ),
        (spoil_nothing_but("scheduler/scheduler_config.json", beta_schedule="odd"), "levels of noise that are not"),
    ],
)
def test_a_bad_folder_is_one_sentence(copied: Path, spoil: Callable[[Path], None], sentence: str) -> None:
    spoil(copied)
    with pytest.raises(ValueError, match=sentence) as caught:
        load(copied)
    said = str(caught.value)
    assert said.startswith("prior: ") and said.endswith(".") and "\n" not in said and said.count(". ") == 0


def test_too_little_memory_is_told_before_anything_is_loaded(copied: Path) -> None:
    (path,) = copied.glob("unet/*.safetensors")
    with pytest.raises(ValueError, match=r"max_memory: .*copy needs about .* GB even one view at a time, but 1e-05 GB"):
        load(copied, max_memory=1e-5)
    assert path.exists()


def test_what_is_kept_in_main_memory_answers_the_same(folders: dict[str, Path]) -> None:
    """Here both are main memory; the hooks that send each layer are real."""
    from splatdistill.priors.assembly import place
    from splatdistill.priors.diffusers_checkpoint import DiffusersCheckpoint

    kind = type(load(folders["sd15"]).network)
    plain, hooked = (
        place(DiffusersCheckpoint(folders["sd15"]).load("unet", kind), device=CPU, dtype="fp32", offload=o)
        for o in (False, True)
    )
    x, t, text = torch.randn(2, 4, 8, 8), torch.tensor([3, 900]), torch.randn(2, 77, families.WIDTH)
    torch.testing.assert_close(hooked(x, t, text).sample, plain(x, t, text).sample)
    prior = load(folders["sd15"])
    prior.offloaded = True
    with pytest.raises(ValueError, match=r"max_memory: vsd and esd train on the prior's network"):
        make_guidance(replace(TINY, method="vsd")).bind(prior)
