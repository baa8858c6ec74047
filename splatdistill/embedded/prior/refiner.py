"""Trains the denoiser that sees the known volumes of a noun, weighed by which of them the noisy views may show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor

from splatdistill.embedded.network_training import NetworkTrainer, falling_rate
from splatdistill.embedded.prior.rings import VIEWS, DrawnRings, Rings
from splatdistill.priors import refine
from splatdistill.priors.embedded import MultiViewPrior, encode_text
from splatdistill.priors.mixture import keep_likely
from splatdistill.priors.precision import has_fast_bf16
from splatdistill.priors.refine import Accuracy, Refiner, infer_posterior, statistics
from splatdistill.priors.volume import CELLS
from splatdistill.utils.rng import key

PICTURE = 4
"""Channels: colours on white, and alpha."""
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
    """A refiner that begins from an exported prior of the first kind: what its UNet sees of the picture and of the
    volume's colours and alpha is what the new one sees of them; its answer begins at 0.
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


def mix(
    rings: list[DrawnRings],
    *,
    accuracy: Accuracy,
    t: Tensor,
    temperature: Tensor,
    signal_power: Tensor,
    generator: torch.Generator,
    joint: bool = True,
) -> Mixed:
    """Noisy rings at timesteps t [G], with their candidates' blend under the posterior at `temperature` [G]. If they
    are not `joint`, their views are weighed one by one, in proportion to their pixels.

    The target is drawn from the very weights that blend the features: what the network learns is the score of the
    tempered mixture, not that of the sharp one which it could read off the noisy picture. At temperature 1 both are the
    same, since the picture's own model has the distribution that the weights say. signal_power: [1000] alpha^2 of the
    schedule.
    """
    parts = []
    views = VIEWS if joint else 1
    rings = rings if joint else [view for ring in rings for view in ring.single_views()]
    for number, ring in enumerate(rings):
        power = signal_power[t[number]]
        alpha, sigma = power.sqrt(), (1 - power).sqrt()
        shown = ring.truth[ring.target]
        xt = alpha * shown + sigma * torch.randn(shown.shape, generator=generator)
        found = infer_posterior(
            xt[None], ring.known, accuracy=accuracy, alpha=alpha[None], sigma=sigma[None], logits=ring.logits,
            temperature=temperature[number] * views / VIEWS,
        )  # fmt: skip
        target = int(torch.multinomial(keep_likely(found.weight)[:, 0], 1, generator=generator))
        parts.append((ring.truth[target], xt, found.features[0], found.spread[0], found.between[0], ring.cameras))
    columns = [torch.cat(column) for column in zip(*parts, strict=True)]
    rows = t.repeat_interleave(views)
    power = signal_power[rows].view(-1, 1, 1, 1)
    return Mixed(*columns, t=rows, alpha=power.sqrt(), sigma=(1 - power).sqrt(), joint=joint)


@torch.no_grad()
def measure_accuracy(rings: Rings, *, draws: int = 200) -> Accuracy:
    """That of the volumes in training views, by least squares over the pixels of some draws."""
    total, right = torch.zeros(3, 3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    small = []
    for step in range(draws):
        ring = rings.draw(step, slot=-1)
        wrong = (ring.known - ring.truth).square().mean(-3).flatten()
        alpha, local = statistics(ring.known)
        columns = torch.stack([torch.ones_like(wrong), alpha.flatten(), local.flatten()]).double()
        total += columns @ columns.T / len(wrong)
        right += columns @ wrong.double() / len(wrong)
        factor = ring.known.shape[-1] // refine.COARSE
        small.append(F.avg_pool2d((ring.known - ring.truth).flatten(0, 1), factor).square().mean())
    plain, inside, edge = torch.linalg.solve(total, right).clamp(min=LEAST_ERROR).tolist()
    return Accuracy(plain, inside, edge, coarse=float(torch.stack(small).mean().sqrt()))


class RefineTrainer(NetworkTrainer):
    """The refiner, its average and its optimizer; every step is a function of (seed, step) and of the state."""

    log_every = 25

    def __init__(self, config: RefineConfig, *, refiner: Refiner, rings: Rings) -> None:
        self.refiner, self.rings = refiner, rings
        self.accuracy = measure_accuracy(rings)
        refiner.unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.signal_power = schedule().alphas_cumprod
        self.bf16 = has_fast_bf16()
        self.optimise(refiner, config)

    def batch(self, step: int) -> Mixed:
        """What a step learns from."""
        draw = torch.Generator().manual_seed(key(self.config.seed, step, "refine"))
        num = self.config.batch // VIEWS
        joint = bool(torch.rand((), generator=draw) >= self.config.single)
        uniform, which, heat = torch.rand(3, num if joint else self.config.batch, generator=draw)
        t = (1000 * torch.where(which < self.config.noisy, 0.9 + 0.1 * uniform, uniform)).long().clamp(max=999)
        rings = [self.rings.draw(step, slot) for slot in range(num)]
        return mix(
            rings, accuracy=self.accuracy, t=t, temperature=self.config.hottest**heat, signal_power=self.signal_power,
            generator=draw, joint=joint,
        )  # fmt: skip

    def learning_rate(self) -> float:
        return falling_rate(self.config, step=self.step, images=self.images)

    def losses(self) -> dict[str, Tensor]:
        """The loss, and what it would be without the network: their ratio is what the network gains."""
        loss, without = self.loss(self.batch(self.step))
        return {"loss": loss, "without": without}

    def loss(self, mixed: Mixed) -> tuple[Tensor, Tensor]:
        """[] mean square of what is left, in units of what is expected of the whole picture; and the same without the
        network.

        Not in the units of each pixel: where a volume is wrong about a pixel that it seems sure of, that one alone
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
