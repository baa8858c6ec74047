"""Noise levels and what networks predict at them: closed forms of methods that know the answer."""

from __future__ import annotations

from functools import partial
from typing import Any, get_args

import pytest
import torch

from splatdistill.priors.schedule import Prediction, Schedule, alpha_sigma, target, to_epsilon
from tests.rounding import DOUBLE, UNIT, assert_rounded, assert_within

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
MEAN, STD, Z, EPS = 1.3, 0.7, -0.4, 0.8


def numbers(*values: float) -> list[torch.Tensor]:
    return [torch.tensor(value, dtype=torch.float64).view(1, 1, 1, 1) for value in values]


@pytest.mark.parametrize("prediction", get_args(Prediction))
def test_what_a_network_should_have_answered_is_read_back_as_the_noise(prediction: Any) -> None:
    g = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(6, 3, 4, 4, generator=g).double(), torch.randn(6, 3, 4, 4, generator=g).double()
    alpha, sigma = alpha_sigma(
        Schedule.from_config(SD).alphas_cumprod.double(), torch.tensor([1, 20, 200, 500, 800, 980])
    )
    answer = target(prediction, x0, eps, alpha=alpha, sigma=sigma)
    xt = alpha * x0 + sigma * eps
    assert_rounded(lambda: to_epsilon(prediction, answer, xt, alpha=alpha, sigma=sigma), eps, unit=DOUBLE)


def test_golden_draw_of_sds() -> None:
    """Data N(1.3, 0.7^2), z = -0.4, eps = 0.8 at t = 500: eps_hat - eps = -1.011016, whatever is predicted."""
    alpha, sigma = alpha_sigma(Schedule.from_config(SD).alphas_cumprod.double(), torch.tensor([500]))
    z, eps = numbers(Z, EPS)
    x = alpha * z + sigma * eps
    exact = sigma * (x - alpha * MEAN) / (alpha**2 * STD**2 + sigma**2)
    x0 = (x - sigma * exact) / alpha
    for prediction in get_args(Prediction):
        answer = target(prediction, x0, exact, alpha=alpha, sigma=sigma)
        found = partial(to_epsilon, prediction, answer, x, alpha=alpha, sigma=sigma)
        # The levels of noise are in float32.
        assert_rounded(lambda found=found: found() - eps, -1.011016, off=5e-7)


def test_golden_draw_of_a_flow() -> None:
    """At s = 0.5: v = -1.608054 and its residual v - (eps - z) = -2.808054, which is (eps_hat - eps) / (1 - s)."""
    s = 0.5
    schedule = Schedule.flow(torch.tensor([s, 1.0], dtype=torch.float64))
    alpha, sigma = alpha_sigma(schedule.alphas_cumprod.double(), torch.tensor([0]))
    x = (1 - s) * Z + s * EPS
    c = (1 - s) ** 2 * STD**2 + s**2
    v = -MEAN + (s - (1 - s) * STD**2) * (x - (1 - s) * MEAN) / c
    assert v == pytest.approx(-1.608054, abs=5.1e-7)  # in float64; the published number has six decimals
    (answer,), (noisy,) = numbers(v), numbers(x)

    def eps() -> torch.Tensor:
        return to_epsilon("flow", answer, noisy * (alpha + sigma), alpha=alpha, sigma=sigma)

    assert_rounded(lambda: (eps() - EPS) / (1 - s), -2.808054, off=5e-7)
    assert_rounded(eps, s * (x - (1 - s) * MEAN) / c)  # of RFDS-Rev: its reversed noise


def test_a_flows_levels_are_its_path_scaled() -> None:
    config = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0, "num_train_timesteps": 1000}
    schedule = Schedule.from_config(config)
    s = (torch.arange(1, 1001).double() / 1000) * 3 / (1 + 2 * torch.arange(1, 1001).double() / 1000)
    torch.testing.assert_close(schedule.times.double(), 1000 * s, rtol=6 * UNIT, atol=0)  # six operations
    alpha, sigma = alpha_sigma(schedule.alphas_cumprod, torch.arange(1000))
    share = (sigma / (alpha + sigma)).flatten().double()
    # What is stored is alpha^2, near 1 where little noise is: an error e of it moves sigma = sqrt(1 - alpha^2), and so
    # the share, by e / (2 sigma^2) of itself. Five operations follow.
    assert_within(share, s, share * UNIT * (1 / (2 * sigma.flatten().double() ** 2) + 5) * 2)
    assert schedule.alphas_cumprod[-1] == 0 and schedule.prediction == "flow"


def test_schedulers_of_any_kind_and_those_that_cannot_be_told() -> None:
    v = Schedule.from_config({**SD, "_class_name": "PNDMScheduler", "prediction_type": "v_prediction"})
    assert v.prediction == "v_prediction" and len(v.alphas_cumprod) == 1000
    assert Schedule.from_config({**SD, "rescale_betas_zero_snr": True}).alphas_cumprod[-1] == 0
    trained = Schedule.from_config({"trained_betas": [0.1, 0.2, 0.3]})
    torch.testing.assert_close(trained.alphas_cumprod, torch.tensor([0.9, 0.72, 0.504]))
    dynamic = {"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True}
    with pytest.raises(ValueError, match="its shift depends on the picture's size in a way that is not known here"):
        Schedule.from_config(dynamic)
    with pytest.raises(ValueError, match="in a way that is not known here"):
        Schedule.from_config({**dynamic, "time_shift_type": "linear"}, tokens=64)
    with pytest.raises(ValueError, match="its network predicts 'noise'"):
        Schedule.from_config({**SD, "prediction_type": "noise"})
