"""Densify: statistics, masks, budget and moments, and the policy's calendar."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from splatdistill.config.schema import DensifyConfig, OptimConfig, SplatsConfig
from splatdistill.ops import densify as op
from splatdistill.ops import reference
from splatdistill.ops.update import Statistics
from splatdistill.scene.gaussians import Splats, init_ball
from splatdistill.scene.types import RenderOutput
from splatdistill.training.densifier import Densifier
from splatdistill.training.splat_optimizer import SplatOptimizer, check
from tests.rounding import UNIT, assert_within

THRESHOLDS = {
    "grow_gradient": 1.0,
    "split_scale": math.log(0.1),
    "prune_scale": math.log(1.0),
    "prune_opacity": -2.0,
}


def classify(mean_grad: list[float], scale: list[float], opacity: list[float], *, max_splats: int) -> list[int]:
    scales = torch.tensor(scale).log()[:, None].expand(-1, 3) - torch.tensor([0.0, 0.5, 1.0])
    plan = op.classify(
        torch.tensor(mean_grad), scales=scales, opacities=torch.tensor(opacity), max_splats=max_splats, **THRESHOLDS
    )
    return plan.kind.tolist()


def plan_of(kind: Tensor) -> op.Plan:
    return op.Plan(kind.to(torch.int8), torch.bincount(kind.long(), minlength=4))


def some_tensors(n: int, *, seed: int = 0) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    g = torch.Generator().manual_seed(seed)
    shapes = {
        "means": (3,),
        "quats": (4,),
        "scales": (3,),
        "opacities": (),
        "sh0": (1, 3),
        "shN": (3, 3),
        "extra": (2, 5),
    }
    tensors = {name: torch.randn(n, *shape, generator=g) for name, shape in shapes.items()}
    moments = {
        name: {which: torch.randn(n, *shape, generator=g) for which in ("exp_avg", "exp_avg_sq")}
        for name, shape in shapes.items()
        if name != "extra"
    }
    return tensors, moments


def test_small_grow_by_cloning_large_by_splitting_faint_and_huge_go() -> None:
    kinds = classify(
        [2.0, 2.0, 0.5, 2.0, 2.0], [0.05, 0.2, 0.05, 2.0, 0.05], [0.0, 0.0, 0.0, 0.0, -3.0], max_splats=100
    )
    assert kinds == [op.CLONE, op.SPLIT, op.KEEP, op.PRUNE, op.PRUNE]


def test_budget_goes_to_the_largest_gradients_and_ties_to_the_lowest_index() -> None:
    kinds = classify([2.0, 5.0, 3.0, 5.0, 4.0], [0.05] * 5, [0.0] * 5, max_splats=7)
    assert kinds == [op.KEEP, op.CLONE, op.KEEP, op.CLONE, op.KEEP]
    assert classify([3.0] * 4, [0.05] * 4, [0.0] * 4, max_splats=6) == [op.CLONE, op.CLONE, op.KEEP, op.KEEP]
    assert classify([3.0] * 4, [0.05] * 4, [0.0] * 4, max_splats=3) == [op.KEEP] * 4
    # a pruned splat makes room for one more
    assert classify([3.0] * 3, [0.05] * 3, [0.0, 0.0, -3.0], max_splats=3) == [op.CLONE, op.KEEP, op.PRUNE]


def test_nothing_grows_without_gradient() -> None:
    g = torch.tensor([0.0, math.nan])
    thresholds = {**THRESHOLDS, "grow_gradient": 0.0}
    plan = op.classify(g, scales=torch.full((2, 3), -4.0), opacities=torch.zeros(2), max_splats=9, **thresholds)
    assert plan.kind.tolist() == [op.KEEP, op.KEEP]


def test_statistics_sum_norms_so_opposing_views_do_not_cancel() -> None:
    grad = torch.tensor([[[3.0, 4.0], [1.0, 0.0]], [[-3.0, -4.0], [math.nan, 0.0]]])
    radii = torch.tensor([[[2, 2], [2, 2]], [[1, 1], [0, 1]]], dtype=torch.int32)
    grad_sum, count = torch.zeros(2), torch.zeros(2, dtype=torch.int64)
    op.accumulate(grad_sum, count, probe_grad=grad, radii=radii)
    assert grad_sum.tolist() == [10.0, 1.0]
    assert count.tolist() == [2, 1]
    flipped, again = torch.zeros(2), torch.zeros(2, dtype=torch.int64)
    op.accumulate(flipped, again, probe_grad=grad.flip(0), radii=radii.flip(0))
    assert torch.equal(grad_sum, flipped) and torch.equal(count, again)


def test_scatter_keeps_order_extra_tensors_and_survivors_moments() -> None:
    tensors, moments = some_tensors(5)
    kind = torch.tensor([op.KEEP, op.PRUNE, op.CLONE, op.SPLIT, op.KEEP], dtype=torch.int8)
    out, moved = op.scatter(tensors, moments, plan=plan_of(kind), key=7)
    source = [0, 2, 2, 3, 3, 4]
    assert torch.equal(out["extra"], tensors["extra"][source])
    for name in ("quats", "sh0", "shN"):
        assert torch.equal(out[name], tensors[name][source])
    assert torch.equal(out["means"][[0, 1, 2, 5]], tensors["means"][[0, 2, 2, 4]])
    for name, state in moments.items():
        for which, value in state.items():
            assert torch.equal(moved[name][which][[0, 1, 5]], value[[0, 2, 4]])
            assert moved[name][which][[2, 3, 4]].eq(0).all()


def test_clone_and_split_share_the_opacity() -> None:
    tensors, moments = some_tensors(3)
    kind = torch.tensor([op.KEEP, op.CLONE, op.SPLIT], dtype=torch.int8)
    out, _ = op.scatter(tensors, moments, plan=plan_of(kind), key=7)
    before, after = torch.sigmoid(tensors["opacities"]), torch.sigmoid(out["opacities"])
    assert torch.equal(out["opacities"][0], tensors["opacities"][0])
    covered = 1 - (1 - after[[1, 3]]) * (1 - after[[2, 4]])
    # By the chain rule at most half of the error of a logit, which assert_opacities counts, for each of two children;
    # then a sigmoid and four operations on numbers up to 1 here, and a sigmoid there.
    of_logits = (6 + 4 * out["opacities"].abs().max()) * UNIT
    assert_within(covered, before[1:], 2 * 0.5 * of_logits + 10 * UNIT)


def test_split_children_are_samples_of_the_parent() -> None:
    """Whitened by the parent's own covariance, the offsets of many splits are standard normal, and A differs from B."""
    n = 4000
    tensors, _ = some_tensors(1)
    tensors = {name: value.expand(n, *value.shape[1:]).clone() for name, value in tensors.items()}
    out, _ = op.scatter(tensors, {}, plan=plan_of(torch.full((n,), op.SPLIT)), key=11)
    offset = out["means"] - tensors["means"][0]
    inverse = tensors["quats"][:1] * torch.tensor([1.0, -1, -1, -1])
    white = reference.rotate(inverse.expand(2 * n, 4), offset) / torch.exp(tensors["scales"][0])
    # Of 2n draws the mean has the variance 1 / 2n, and a second moment at most twice that: five standard deviations.
    assert_within(white.mean(0), torch.zeros(3), 5 / (2 * n) ** 0.5)
    assert_within(white.T.cov(), torch.eye(3), 5 * (2 / (2 * n)) ** 0.5)
    assert not torch.equal(offset[0], offset[1])
    assert torch.equal(out["scales"], (tensors["scales"][0] - math.log(1.6)).expand(2 * n, 3))


def test_scatter_is_a_function_of_its_key() -> None:
    tensors, moments = some_tensors(6)
    kind = torch.full((6,), op.SPLIT, dtype=torch.int8)
    first, again, other = (op.scatter(tensors, moments, plan=plan_of(kind), key=key)[0]["means"] for key in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("n", [0, 1, 3])
@pytest.mark.parametrize("kind", [op.KEEP, op.CLONE, op.SPLIT, op.PRUNE])
def test_scatter_at_the_edges(n: int, kind: int) -> None:
    tensors, moments = some_tensors(n)
    out, moved = op.scatter(tensors, moments, plan=plan_of(torch.full((n,), kind)), key=1)
    size = n * [1, 2, 2, 0][kind]
    assert all(len(v) == size for v in out.values())
    assert all(len(m) == size for state in moved.values() for m in state.values())


def policy(config: DensifyConfig, *, n: int = 50, steps: int = 100) -> tuple[Densifier, SplatOptimizer]:
    optimizer = SplatOptimizer(init_ball(SplatsConfig(num_init=n), seed=0), OptimConfig(), steps=steps)
    return Densifier(config, num_splats=n, steps=steps, device=torch.device("cpu")), optimizer


def seen(n: int, *, seed: int = 0) -> RenderOutput:
    probe = torch.zeros(2, n, 2)
    probe.grad = torch.randn(2, n, 2, generator=torch.Generator().manual_seed(seed))
    blank = torch.zeros(0)
    return RenderOutput(blank, blank, blank, blank, torch.ones(2, n, 2, dtype=torch.int32), probe)


def take_step(optimizer: SplatOptimizer, statistics: Statistics, *, step: int) -> None:
    verdict = check([optimizer], num_nonfinite=torch.zeros((), dtype=torch.int64))
    optimizer.update(step, verdict=verdict, statistics=statistics)


def test_calendar() -> None:
    densifier, _ = policy(DensifyConfig(start=0.2, stop=0.5, interval=15))
    assert [step + 1 for step in range(100) if densifier.due(step)] == [20, 35, 50, 65, 80]


def test_event_grows_the_top_quantile_then_only_prunes() -> None:
    densifier, optimizer = policy(DensifyConfig(start=0.2, stop=0.5, interval=15, grow_quantile=0.9))
    optimizer.splats.means.grad = torch.ones_like(optimizer.splats.means)
    take_step(optimizer, densifier.statistics(seen(50)), step=0)
    counts = densifier.event(optimizer, seed=0, step=34)
    assert counts["cloned"] + counts["split"] == 5 and counts["pruned"] == 0
    assert len(optimizer.splats) == len(densifier.grad_sum) == 55
    assert densifier.grad_sum.eq(0).all()
    take_step(optimizer, densifier.statistics(seen(55)), step=36)
    with torch.no_grad():
        optimizer.splats.opacities[:3] = -9.0
    assert densifier.event(optimizer, seed=0, step=64) == {"cloned": 0, "split": 0, "pruned": 3}
    assert len(optimizer.splats) == 52


def test_a_scene_of_nothing_but_faint_splats_is_kept() -> None:
    densifier, optimizer = policy(DensifyConfig())
    with torch.no_grad():
        optimizer.splats.opacities[:] = -9.0
    assert densifier.event(optimizer, seed=0, step=10)["pruned"] == 0
    assert len(optimizer.splats) == 50


def test_moments_and_bias_correction_go_on_after_an_event() -> None:
    """A prune-free event that grows nothing must not change the next update by a bit."""
    config = DensifyConfig(grow_gradient=1e9)
    (densifier, optimizer), (_, plain) = policy(config), policy(config)
    for step in range(3):
        for which in (optimizer, plain):
            g = torch.Generator().manual_seed(step)
            for value in which.splats.tensors.values():
                value.grad = torch.randn(value.shape, generator=g)
            take_step(which, densifier.statistics(seen(50)), step=step)
        tensors, moments = op.scatter(
            optimizer.splats.detach().tensors, optimizer.moments(), plan=plan_of(torch.zeros(50)), key=1
        )
        optimizer.replace(Splats(**tensors), moments)
    assert densifier.due(9)
    for name, value in plain.splats.tensors.items():
        assert torch.equal(value, optimizer.splats.tensors[name]), name
