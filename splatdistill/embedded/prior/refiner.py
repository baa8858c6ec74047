"""Trains the denoiser that sees the known meshes of a noun, weighed by which of them the noisy views may show."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from safetensors.torch import load_file
from torch import Tensor

from splatdistill.embedded.network_training import NetworkTrainer, falling_rate
from splatdistill.embedded.prior.rings import VIEWS, RingPlan, Rings
from splatdistill.priors import refine
from splatdistill.priors.embedded import MultiViewPrior, encode_text
from splatdistill.priors.known import FINE, TOKENS
from splatdistill.priors.mixture import MOST, coarse, keep_likely, weights
from splatdistill.priors.precision import has_fast_bf16
from splatdistill.priors.refine import PICTURE, Accuracy, Refiner, statistics
from splatdistill.priors.vocabulary import META_FILE, MODELS
from splatdistill.priors.volume import CELLS
from splatdistill.utils.device import send
from splatdistill.utils.rng import key

LEAST_ERROR = 1e-4
"""Of the parts of a pixel's expected squared error."""


@dataclass(frozen=True)
class RefineConfig:
    """One run. noisy: share of the timesteps that is uniform in 900..999, where several candidates are open; the others
    are uniform in 0..999. hottest: temperatures are drawn between 1 and this, evenly in their logarithm. single: share
    of steps without cross-view attention, each view weighed by itself.
    """

    batch: int = 32
    lr: float = 6e-4
    warmup: int = 100
    decay: float = 0.5
    max_images: int = 100_000
    ema: float = 0.998
    weight_decay: float = 1e-2
    noisy: float = 0.25
    hottest: float = 256.0
    single: float = 0.2
    seed: int = 0


@dataclass(frozen=True)
class Mixed:
    """A batch of G rings of V views, R = G V rows. target, xt, features: [R,4,H,W]; spread, between: [R,1,H,W]; alpha,
    sigma: [R,1,1,1]; t: [R]; cameras: [R,16]. joint: views of a ring attend to each other.
    """

    target: Tensor
    xt: Tensor
    features: Tensor
    spread: Tensor
    between: Tensor
    cameras: Tensor
    t: Tensor
    alpha: Tensor
    sigma: Tensor
    joint: bool = True


def create(warm: Path) -> Refiner:
    """A refiner that begins from an exported prior: from another refiner, or from one of the first kind."""
    return _continue(warm) if (warm / MODELS).exists() else _begin(warm)


def _continue(warm: Path) -> Refiner:
    meta = json.loads((warm / META_FILE).read_text(encoding="utf-8"))
    unet: UNet2DConditionModel = UNet2DConditionModel.from_pretrained(warm / "unet")  # type: ignore[assignment]
    tokens = load_file(warm / TOKENS)["tokens"]
    refiner = Refiner(unet.float().train(), tokens=tokens, patch=meta["patch"], num_views=meta["num_views"])
    if (warm / FINE).exists():
        refiner.add_fine().load_state_dict(load_file(warm / FINE))
    return refiner


def _begin(warm: Path) -> Refiner:
    """What the UNet of a prior of the first kind sees of the picture and of the volume's colours and alpha is what the
    new one sees of them; its answer begins at 0.
    """
    old = MultiViewPrior.load(warm, dtype="fp32")
    patch, config = old.patch, dict(old.unet.config)
    cells = patch**2
    config |= {"in_channels": 2 * PICTURE * cells, "out_channels": PICTURE * cells}
    unet: UNet2DConditionModel = UNet2DConditionModel.from_config(config)  # type: ignore[assignment]
    state = old.unet.state_dict()
    with torch.no_grad():
        into = unet.conv_in.weight.zero_()  # [96,128,3,3]
        was = state["conv_in.weight"]
        into[:, : 3 * cells] = was[:, : 3 * cells]
        # The old features are premultiplied: colours on white are those plus 1 - alpha.
        side = patch // CELLS
        colours, alphas = was[:, 3 * cells :].unflatten(1, (-1, CELLS, CELLS)).split([8, 1], 1)
        for channel, weight in ((0, colours[:, 0]), (1, colours[:, 1]), (2, colours[:, 2])):
            into[:, (PICTURE + channel) * cells :][:, :cells] = _spread(weight, side)
        into[:, (PICTURE + 3) * cells :] = _spread((colours[:, :3].sum(1) + alphas[:, 0]) / 2, side)
        constant = ((alphas[:, 0] - colours[:, :3].sum(1)) / 2).sum((1, 2, 3, 4))
        state["conv_in.weight"] = into.clone()
        state["conv_in.bias"] = state["conv_in.bias"] + constant
        state["conv_out.weight"] = torch.zeros_like(unet.conv_out.weight)
        state["conv_out.bias"] = torch.zeros(PICTURE * cells)
        unet.load_state_dict(state)
        tokens = encode_text([""], text_encoder=old.text_encoder, tokenizer=old.tokenizer).tokens
    return Refiner(unet.train(), tokens=tokens.clone(), patch=patch, num_views=VIEWS)


def _spread(weight: Tensor, side: int) -> Tensor:
    """Weights [O,cells,cells,3,3] of means over side x side pixels to those [O,(cells side)^2,3,3] of the pixels."""
    wide = weight.repeat_interleave(side, 1).repeat_interleave(side, 2) / side**2
    return wide.flatten(1, 2)


@dataclass(frozen=True)
class Noise:
    """Of G rings. t: [G] timesteps; temperature: [G]; alpha, sigma: [G]."""

    t: Tensor
    temperature: Tensor
    alpha: Tensor
    sigma: Tensor


def mix(
    rings: Rings, plan: RingPlan, noise: Noise, *, accuracy: Accuracy, generator: torch.Generator, joint: bool = True
) -> Mixed:
    """Noisy rings, with their candidates' blend under the posterior. Where views are not `joint`, each of them is a
    ring of its own in the plan, and its temperature is in proportion to the pixels.

    The target is drawn from the very weights that blend the features: what the network learns is the score of the
    tempered mixture, not that of the sharp one which it could read off the noisy picture. At temperature 1 both are the
    same, since the picture's own model has the distribution that the weights say.
    """
    num, views = plan.order.shape
    alpha, sigma = (x[:, None, None, None, None] for x in (noise.alpha, noise.sigma))
    shown = rings.truth(plan, plan.target)
    xt = alpha * shown + sigma * torch.randn(shown.shape, generator=generator, device=shown.device)
    known = rings.known_pictures(plan)
    weight = weigh(xt, known, plan, noise, accuracy=accuracy)
    likely = keep_likely(weight)
    rank = torch.multinomial(likely.T, 1, generator=generator)[:, 0]
    target = rings.truth(plan, starts(plan) + rank)
    share = likely[place_in_ring(plan), plan.of_ring].view(-1, 1, 1, 1, 1)

    def total(values: Tensor) -> Tensor:
        return values.new_zeros(num, *values.shape[1:]).index_add_(0, plan.of_ring, share * values)

    features = total(known)
    between = total((known - features[plan.of_ring]).square().mean(-3, keepdim=True))
    spread = total(accuracy.variance(known))
    columns = [x.flatten(0, 1) for x in (target, xt, features, spread, between, rings.cameras(plan))]
    rows = [x.repeat_interleave(views) for x in (noise.t, noise.alpha, noise.sigma)]
    return Mixed(*columns, t=rows[0], alpha=rows[1].view(-1, 1, 1, 1), sigma=rows[2].view(-1, 1, 1, 1), joint=joint)


def starts(plan: RingPlan) -> Tensor:
    """[G]: where in the list of a plan each ring's candidates begin."""
    count = torch.zeros_like(plan.ring).index_add_(0, plan.of_ring, torch.ones_like(plan.of_ring))
    return count.cumsum(0) - count


def place_in_ring(plan: RingPlan) -> Tensor:
    """[M]: 0 for the first candidate of a ring, 1 for the next."""
    place = torch.arange(len(plan.of_ring), device=plan.of_ring.device)
    return place - starts(plan)[plan.of_ring]


def weigh(xt: Tensor, known: Tensor, plan: RingPlan, noise: Noise, *, accuracy: Accuracy) -> Tensor:
    """Posterior weights [MOST,G] of the candidates' pictures known [M,V,4,S,S] at rings xt [G,V,4,S,S]; 0 where a ring
    has fewer.
    """
    factor = xt.shape[-1] // refine.COARSE
    small = coarse(known, factor)
    place = place_in_ring(plan)
    wide = small.new_zeros(MOST, len(plan), *small.shape[1:]).index_put_((place, plan.of_ring), small)
    logits = small.new_full((MOST, len(plan)), -torch.inf).index_put_((place, plan.of_ring), plan.logits)
    return weights(
        coarse(xt, factor), wide, alpha=noise.alpha, sigma=noise.sigma / factor, logits=logits,
        temperature=noise.temperature, floor=accuracy.coarse,
    )  # fmt: skip


@torch.no_grad()
def measure_accuracy(rings: Rings, *, draws: int = 200) -> Accuracy:
    """That of the meshes in training views, by least squares over the pixels of some rings."""
    total, right = torch.zeros(3, 3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    small = []
    for step in range(draws):
        plan = rings.plan(step, 1, stream="accuracy").to(rings.device)
        known, truth = rings.known_pictures(plan), rings.truth(plan, torch.arange(len(plan.numbers)))
        wrong = (known - truth).square().mean(-3).flatten()
        alpha, local = statistics(known)
        columns = torch.stack([torch.ones_like(wrong), alpha.flatten(), local.flatten()]).double()
        total += (columns @ columns.T / len(wrong)).cpu()
        right += (columns @ wrong.double() / len(wrong)).cpu()
        factor = known.shape[-1] // refine.COARSE
        small.append(F.avg_pool2d((known - truth).flatten(0, 1), factor).square().mean())
    plain, inside, edge = torch.linalg.solve(total, right).clamp(min=LEAST_ERROR).tolist()
    return Accuracy(plain, inside, edge, coarse=float(torch.stack(small).mean().sqrt()))


class RefineTrainer(NetworkTrainer):
    """The refiner, its average and its optimizer; every step is a function of (seed, step) and of the state.

    rings: of one size of picture or of several, whose steps take turns.
    """

    log_every = 25

    def __init__(self, config: RefineConfig, *, refiner: Refiner, rings: Sequence[Rings]) -> None:
        self.refiner, self.all_rings, self.rings = refiner.to(rings[0].device), list(rings), rings[0]
        self.device = self.rings.device
        self.accuracies = [measure_accuracy(one) for one in rings]
        refiner.unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.signal_power = schedule().alphas_cumprod.to(self.device)
        self.bf16 = self.device.type == "cuda" or has_fast_bf16()
        self.optimise(refiner, config)

    def batch(self, step: int) -> Mixed:
        """What a step learns from."""
        which = step % len(self.all_rings)
        rings, accuracy = self.all_rings[which], self.accuracies[which]
        draw = torch.Generator().manual_seed(key(self.config.seed, step, "refine"))
        num = self.config.batch // VIEWS
        joint = bool(torch.rand((), generator=draw) >= self.config.single)
        uniform, noisy, heat = torch.rand(3, num if joint else self.config.batch, generator=draw)
        t = (1000 * torch.where(noisy < self.config.noisy, 0.9 + 0.1 * uniform, uniform)).long().clamp(max=999)
        temperature = self.config.hottest**heat / (1 if joint else VIEWS)
        plan = rings.plan(step, num)
        plan = (plan if joint else plan.single_views()).to(self.device)
        t, temperature = send(t, self.device), send(temperature, self.device)
        power = self.signal_power[t]
        noise = Noise(t, temperature, alpha=power.sqrt(), sigma=(1 - power).sqrt())
        here = torch.Generator(self.device).manual_seed(key(self.config.seed, step, "noise"))
        with torch.no_grad():
            return mix(rings, plan, noise, accuracy=accuracy, generator=here, joint=joint)

    def learning_rate(self) -> float:
        return falling_rate(self.config, step=self.step, done=self.done)

    def losses(self) -> dict[str, Tensor]:
        """The loss, and what it would be without the network: their ratio is what the network gains."""
        loss, without = self.loss(self.batch(self.step))
        return {"loss": loss, "without": without}

    def loss(self, mixed: Mixed) -> tuple[Tensor, Tensor]:
        """[] mean square of what is left, in units of what is expected of the whole picture; and the same without the
        network.

        Not in the units of each pixel: where a mesh is wrong about a pixel that it seems sure of, that one alone
        would be the loss.
        """
        with torch.autocast(mixed.xt.device.type, torch.bfloat16, enabled=self.bf16):
            out, base, unit = self.refiner(
                mixed.xt, mixed.t, features=mixed.features, spread=mixed.spread, between=mixed.between,
                cameras=mixed.cameras, alpha=mixed.alpha, sigma=mixed.sigma, cross_view_attention=mixed.joint,
            )  # fmt: skip
        scale = unit.square().mean((1, 2, 3), keepdim=True).sqrt()
        rest, share = ((mixed.target - base) / scale).detach(), unit / scale
        return F.mse_loss(share * out, rest), rest.square().mean()


def schedule() -> DDPMScheduler:
    """That of the embedded prior."""
    return DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2", prediction_type="sample")
