"""CDS against Gaussian closed forms: golden draw, fixed point, the sign that converges, timesteps, fixed noise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from splatdistill.guidance.methods.consistency import Consistency, ConsistencyConfig
from splatdistill.priors.analytic import AnalyticPrior
from tests.guidance.toys import (
    Counting,
    assemble,
    assert_sums_to_zero,
    cameras,
    draw,
    gaussian,
    levels,
    prompt_prior,
    scalar,
)
from tests.rounding import assert_rounded, assert_within, bound


def cds(*, at: int | None = None, steps: int = 3000, **settings) -> Consistency:
    """Consistent3D's own settings. `at`: t' for the whole run."""
    if at is not None:
        settings |= {"target": at / 1000, "target_final": at / 1000}
    published = {"target": 0.7, "target_final": 0.1, "gap": 0.1, "gap_range": 0.2, "schedule": "sqrt"}
    scales = {"guidance_scale": 1.0, "guidance_scale_final": 1.0}
    return Consistency(ConsistencyConfig(**{**published, **scales, **settings}), prompt="x", group=1, steps=steps)


def gradient(method: Consistency, prior: AnalyticPrior, *, z: Tensor, eps: Tensor, t: int) -> Tensor:
    from tests.guidance.toys import gradient as assembled

    return assembled(method, prior, z=z, eps=eps, t=t)


@pytest.fixture
def prior() -> AnalyticPrior:
    return prompt_prior(x=gaussian(1.3, 0.7), empty=gaussian(0.2, 0.7))


def test_golden_draw(prior: AnalyticPrior) -> None:
    assert_rounded(lambda: gradient(cds(at=450), prior, z=scalar(-0.4), eps=scalar(0.8), t=620), 0.00910424, off=5e-9)


def closed_form(prior: AnalyticPrior, z: Tensor, eps: Tensor, t: int, lower: int) -> Tensor:
    (_, _, high), (_, _, low) = levels(prior, t), levels(prior, lower)
    return (z - 1.3 + high * eps) * 0.49 * (high - low) / ((0.49 + high**2) * (0.49 + low**2))


@pytest.mark.parametrize(("t", "lower"), [(300, 100), (620, 450), (980, 700)])
def test_it_is_the_closed_form(prior: AnalyticPrior, t: int, lower: int) -> None:
    z, eps = draw(6, 2, 1, 1), draw(2, 1, 1, seed=1).expand(6, 2, 1, 1)
    assert_rounded(lambda: gradient(cds(at=lower), prior, z=z, eps=eps, t=t), closed_form(prior, z, eps, t, lower))


@pytest.mark.parametrize("sign", [1, -1])
def test_descent_reaches_the_fixed_point_and_the_other_sign_leaves_it(prior: AnalyticPrior, sign: int) -> None:
    """The fixed point mu - S_t eps* carries the fixed noise. Taking the paper's x_0 difference literally diverges."""
    z = scalar(-0.6)
    for _ in range(3000):
        z = z - sign * gradient(cds(at=450), prior, z=z, eps=scalar(0.8), t=620)
        if z.abs() > 10:
            break
    if sign > 0:
        # A wrong push moves the end by itself over the slope, which is also the share of what is left that goes in
        # each step: after 3,000 steps at more than 0.03 that is nothing.
        end = scalar(-0.665009)
        slope = closed_form(prior, end + 1, scalar(0.8), 620, 450) - closed_form(prior, end, scalar(0.8), 620, 450)
        wrong = bound(lambda: gradient(cds(at=450), prior, z=end, eps=scalar(0.8), t=620))
        assert slope > 0.03
        assert_within(z, end, 5e-7 + wrong / slope)
    else:
        assert z.abs().item() > 10


def test_guidance_moves_the_fixed_point_linearly(prior: AnalyticPrior) -> None:
    _, _, high = levels(prior, 620)
    expected = 0.2 + 3.0 * (1.3 - 0.2) - high * 0.8
    method = cds(at=450, guidance_scale=3.0, guidance_scale_final=3.0)
    assert_rounded(lambda: gradient(method, prior, z=expected.view(1, 1, 1, 1), eps=scalar(0.8), t=620), 0.0)
    assert abs(gradient(method, prior, z=expected.view(1, 1, 1, 1) + 1, eps=scalar(0.8), t=620).item()) > 1e-3


def test_equal_timesteps_and_data_at_one_point_push_nothing(prior: AnalyticPrior) -> None:
    z, eps = draw(3, 1, 1, 1), scalar(0.8).expand(3, 1, 1, 1)
    assert_rounded(lambda: gradient(cds(at=450), prior, z=z, eps=eps, t=450), 0.0)
    dirac = prompt_prior(x=gaussian(1.3, 0.0), empty=gaussian(1.3, 0.0))
    assert_rounded(lambda: gradient(cds(at=450), dirac, z=z, eps=eps, t=620), 0.0)


def known_and_any(prior: AnalyticPrior, z: Tensor, t: int, lower: int, scale: float) -> Tensor:
    """The gradient without noise where a prompt means one picture, 1.3, and the empty one N(0.2, 0.7^2)."""
    (_, _, high), (_, _, low) = levels(prior, t), levels(prior, lower)

    def answer(y: Tensor, ratio: Tensor) -> Tensor:
        return scale * 1.3 + (1 - scale) * (0.2 + 0.49 / (0.49 + ratio**2) * (y - 0.2))

    here = answer(z, high)
    return (answer(here + low / high * (z - here), low) - here) / low


@pytest.mark.parametrize(("t", "lower", "leads"), [(150, 50, True), (400, 300, True), (900, 850, False)])
def test_a_known_picture_is_led_to_with_guidance_and_below_the_spread_of_all_pictures_alone(
    t: int, lower: int, leads: bool
) -> None:
    """Without guidance nothing is said of it, and where noise hides all pictures guidance leads away."""
    one = prompt_prior(x=gaussian(1.3, 0.0), empty=gaussian(0.2, 0.7))
    z, still = draw(6, 1, 1, 1), torch.zeros(6, 1, 1, 1, dtype=torch.float64)
    assert_rounded(lambda: gradient(cds(at=lower, t_min=0.02), one, z=z, eps=still, t=t), 0.0)
    guided = cds(at=lower, t_min=0.02, guidance_scale=3.0, guidance_scale_final=3.0)
    assert_rounded(lambda: gradient(guided, one, z=z, eps=still, t=t), known_and_any(one, z, t, lower, scale=3.0))
    near, far = (known_and_any(one, scalar(x), t, lower, scale=3.0) for x in (1.3, 2.3))
    assert bool(far > near) is leads


def test_timesteps_fall_as_published(prior: AnalyticPrior) -> None:
    method = cds()
    assert [method.target(step, 1000) for step in (100, 750, 1500, 3000)] == [590, 400, 275, 100]
    linear = cds(schedule="linear")
    assert linear.target(1500, 1000) == 400
    seen: set[int] = set()
    for step in range(0, 3000, 5):
        t = method.noise(torch.zeros(4, 1, 1, 1), cameras(4), prior, seed=0, step=step).t
        gap = t - method.target(step, 1000)
        assert gap.min() >= 100 and gap.max() <= 299 and t.max() <= 980
        seen |= set(gap.tolist())
    assert min(seen) < 103 and max(seen) > 296


def test_views_of_a_group_share_their_timestep(prior: AnalyticPrior) -> None:
    method = Consistency(ConsistencyConfig(), prompt="x", group=4, steps=10)
    t = method.noise(torch.zeros(8, 1, 1, 1), cameras(8), prior, seed=0, step=3).t
    assert t[:4].unique().numel() == t[4:].unique().numel() == 1 and t[0] != t[4]


def test_the_noise_is_fixed_saved_and_restored(prior: AnalyticPrior) -> None:
    method = cds()
    first = method.noise(torch.zeros(4, 3, 2, 2), cameras(4), prior, seed=5, step=0)
    later = method.noise(torch.zeros(4, 3, 2, 2), cameras(4), prior, seed=5, step=77)
    assert torch.equal(first.eps, later.eps) and torch.equal(first.eps[0], first.eps[3])
    again = cds()
    again.load_state_dict(method.state_dict())
    assert torch.equal(again.noise(torch.zeros(4, 3, 2, 2), cameras(4), prior, seed=99, step=77).eps, first.eps)


def test_two_network_calls_of_two_scores_and_coefficients_that_sum_to_zero(prior: AnalyticPrior) -> None:
    counting = Counting(prior)
    method = cds(guidance_scale=7.5, guidance_scale_final=4.0)
    batch = method.noise(draw(3, 1, 1, 1), cameras(3), prior, seed=0, step=700)
    residual = method.residual(batch, prior, step=700)
    assert counting.calls == [6, 6]
    assert_sums_to_zero(residual.coef)
    assert torch.isfinite(assemble(residual)).all()
