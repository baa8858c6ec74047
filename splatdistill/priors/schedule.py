"""Noise levels as a scheduler's folder has them, and what the network predicts at them, turned into epsilon.

Everything is written as alpha x0 + sigma eps with alpha^2 + sigma^2 = 1. A rectified flow's straight path
(1 - s) x0 + s eps is the same path scaled: divided by sqrt((1 - s)^2 + s^2), which is 1 / (alpha + sigma).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Prediction = Literal["epsilon", "v_prediction", "sample", "flow"]
"""The noise; alpha eps - sigma x0; x0 itself; or a flow's velocity eps - x0."""
_BETAS = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr")

_COSINE = "squaredcos_cap_v2"


@dataclass(frozen=True)
class Schedule:
    """alphas_cumprod: [T], alpha^2 of each timestep. times: [T], what the network gets at each of them."""

    alphas_cumprod: Tensor
    times: Tensor
    prediction: Prediction

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, tokens: int = 0) -> Schedule:
        """From the contents of a scheduler_config.json. tokens: patches of a picture of the native size, where the
        shift of a flow depends on them; 0 where that is unknown. ValueError, one sentence, for what cannot be written
        so.
        """
        kind = config.get("_class_name", "")
        if kind.startswith("FlowMatch"):
            return cls.flow(_shifted(_dynamic_shift(config, tokens) or config.get("shift", 1.0), config))
        if config.get("prediction_type") == "flow_prediction" and config.get("use_flow_sigmas"):
            return cls.flow(_shifted(config.get("flow_shift", 1.0), config))
        prediction = config.get("prediction_type") or "epsilon"
        if prediction not in ("epsilon", "v_prediction", "sample"):
            raise ValueError(f"its network predicts {prediction!r}; epsilon, v_prediction, sample and flows are known.")
        if config.get("beta_schedule") == _COSINE and not any(config.get(key) for key in _BETAS[-2:]):
            return cls.of(cosine(config.get("num_train_timesteps", 1000)), prediction=prediction)
        from diffusers.schedulers.scheduling_ddpm import DDPMScheduler  # takes seconds

        scheduler = DDPMScheduler(**{key: config[key] for key in _BETAS if key in config})
        return cls.of(scheduler.alphas_cumprod, prediction=prediction)

    @classmethod
    def of(cls, alphas_cumprod: Tensor, *, prediction: Prediction = "epsilon") -> Schedule:
        """That of alphas_cumprod [1000], a timestep each."""
        return cls(alphas_cumprod, times=torch.arange(len(alphas_cumprod)), prediction=prediction)

    @classmethod
    def flow(cls, sigmas: Tensor) -> Schedule:
        """Of a straight path whose share of noise at each timestep is `sigmas` [T], rising to 1."""
        s = sigmas.double()
        levels = (1 - s) ** 2 / ((1 - s) ** 2 + s**2)
        return cls(levels.float(), times=sigmas.float() * len(sigmas), prediction="flow")


def _shifted(shift: float, config: Mapping[str, Any]) -> Tensor:
    """The share of noise at each timestep of a flow, [T] rising to 1."""
    share = torch.arange(1, config.get("num_train_timesteps", 1000) + 1, dtype=torch.float32)
    share = share / len(share)
    return shift * share / (1 + (shift - 1) * share)


def _dynamic_shift(config: Mapping[str, Any], tokens: int) -> float:
    """The shift that a flow's scheduler takes for pictures of so many patches, 0 where it takes a fixed one."""
    if not config.get("use_dynamic_shifting"):
        return 0.0
    if not tokens or config.get("time_shift_type", "exponential") != "exponential":
        raise ValueError("its shift depends on the picture's size in a way that is not known here.")
    few, many = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    return math.exp(low + (high - low) * (tokens - few) / (many - few))


def cosine(num: int) -> Tensor:
    """alphas_cumprod [num] of the squared cosine (Nichol and Dhariwal 2021), its betas capped at 0.999, as diffusers
    rounds it.
    """
    signal = [math.cos((i / num + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(num + 1)]
    betas = [min(1 - after / before, 0.999) for before, after in itertools.pairwise(signal)]
    return torch.cumprod(1.0 - torch.tensor(betas, dtype=torch.float32), dim=0)


def to_epsilon(prediction: Prediction, out: Tensor, xt: Tensor, *, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The noise that a network's answer `out` at xt [R,C,h,w] means; alpha, sigma: [R,1,1,1]."""
    if prediction == "v_prediction":
        return alpha * out + sigma * xt
    if prediction == "flow":
        return (xt + alpha * out) / (alpha + sigma)
    if prediction == "sample":
        return (xt - alpha * out) / sigma
    return out


def target(prediction: Prediction, x0: Tensor, eps: Tensor, *, alpha: Tensor, sigma: Tensor) -> Tensor:
    """What a network should have answered at alpha x0 + sigma eps, like x0. x0, eps: [V,C,h,w]; alpha, sigma:
    [V,1,1,1].
    """
    if prediction == "v_prediction":
        return alpha * eps - sigma * x0
    if prediction == "flow":
        return eps - x0
    return x0 if prediction == "sample" else eps


def alpha_sigma(alphas_cumprod: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """alpha and sigma, [R,1,1,1] each, of alphas_cumprod [1000], at timesteps t [R] int64."""
    signal = alphas_cumprod.to(t.device)[t].view(-1, 1, 1, 1)
    return signal.sqrt(), (1 - signal).sqrt()
