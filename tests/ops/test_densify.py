"""The densify operators against plain torch: equal masks, equal order, moments exact, children but for rounding."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from splatdistill.ops import densify, reference
from tests.ops.children import assert_children, assert_opacities
from tests.rounding import UNIT

Tensors = dict[str, Tensor]
THRESHOLDS: dict[str, Any] = {
    "grow_gradient": 0.5,
    "split_scale": math.log(0.05),
    "prune_scale": math.log(0.3),
    "prune_opacity": -2.0,
}
CHUNKS = 3000  # splats: more than two of the pieces that threads share out otherwise
GROUPS = 70_001  # splats: more than two of the pieces that threads share out when an event moves them


def splats(n: int, *, seed: int = 0) -> Tensors:
    g = torch.Generator().manual_seed(seed)
    return {
        "means": torch.randn(n, 3, generator=g),
        "quats": 3 * torch.randn(n, 4, generator=g),
        "scales": math.log(0.05) + 0.7 * torch.randn(n, 3, generator=g),
        "opacities": 2 * torch.randn(n, generator=g),
        "sh0": torch.randn(n, 1, 3, generator=g),
        "shN": torch.randn(n, 15, 3, generator=g),
        "id": torch.arange(n),
        "flag": torch.rand(n, 5, generator=g) < 0.5,
        "half": torch.randn(n, 7, generator=g).half(),
        "wide": torch.randn(n, 2, 9, generator=g).double(),
        "empty": torch.zeros(n, 0),
    }


def moments_of(tensors: Tensors) -> densify.Moments:
    names = ("means", "quats", "scales", "opacities", "sh0", "shN")
    return {name: {"exp_avg": tensors[name] + 1, "exp_avg_sq": tensors[name].square()} for name in names}


def gradients(n: int, *, seed: int = 0) -> Tensor:
    """Few different values, so that ties decide the budget, and some that are not numbers."""
    values = torch.randint(-1, 12, (n,), generator=torch.Generator().manual_seed(seed)) / 8.0
    values[3::97] = math.nan
    values[5::89] = math.inf
    return values


def plan_of(kind: Tensor) -> densify.Plan:
    return densify.Plan(kind, torch.bincount(kind, minlength=4))


def random_plan(n: int, *, seed: int = 0) -> densify.Plan:
    return plan_of(torch.randint(0, 4, (n,), dtype=torch.int8, generator=torch.Generator().manual_seed(seed)))


def assert_same(got: tuple[Tensors, densify.Moments], want: tuple[Tensors, densify.Moments]) -> None:
    assert list(got[0]) == list(want[0])
    for name, value in want[0].items():
        assert got[0][name].dtype == value.dtype
        assert name in ("means", "opacities") or torch.equal(got[0][name], value), name
    assert_children(got[0], want[0])
    assert [list(state) for state in got[1].values()] == [list(state) for state in want[1].values()]
    for name, state in want[1].items():
        for which, value in state.items():
            assert torch.equal(got[1][name][which], value), (name, which)


@pytest.mark.parametrize("n", [0, 1, 2, 1024, CHUNKS])
@pytest.mark.parametrize("budget", [0.0, 0.9, 1.0, 1.07, 2.0])
def test_masks_equal_the_reference(n: int, budget: float) -> None:
    tensors, grad = splats(n), gradients(n)
    tensors["scales"][7::53, 1] = math.nan
    tensors["opacities"][11::53] = math.nan
    arguments = THRESHOLDS | {"scales": tensors["scales"], "opacities": tensors["opacities"]}
    plan = densify.classify(grad, **arguments, max_splats=int(budget * n))
    want = reference.densify_classify(grad, **arguments, max_splats=int(budget * n))
    assert torch.equal(plan.kind, want)
    assert torch.equal(plan.counts, torch.bincount(want, minlength=4))
    assert n < CHUNKS or (plan.counts > 0).all() or budget <= 0.9


def test_every_budget_is_used_to_the_last_splat() -> None:
    tensors, grad = splats(300), gradients(300)
    arguments = THRESHOLDS | {"scales": tensors["scales"], "opacities": tensors["opacities"]}
    keep, clone, split, _ = densify.classify(grad, **arguments, max_splats=1000).counts.tolist()
    survivors, wanted = keep + clone + split, clone + split
    for extra in range(-1, wanted + 2):
        plan = densify.classify(grad, **arguments, max_splats=survivors + extra)
        assert int(plan.counts[1:3].sum()) == min(max(extra, 0), wanted)
        want = reference.densify_classify(grad, **arguments, max_splats=survivors + extra)
        assert torch.equal(plan.kind, want)


def test_thresholds_are_compared_as_float32() -> None:
    """0.1 in double is less than 0.1 in float32: comparing the wrong one would turn the splat at the edge."""
    edge = torch.full((1,), 0.1)
    arguments: dict[str, Any] = THRESHOLDS | {"scales": edge.expand(1, 3), "opacities": edge, "max_splats": 9}
    for which in ("grow_gradient", "split_scale", "prune_scale", "prune_opacity"):
        changed = arguments | {"prune_scale": 5.0, "split_scale": 5.0} | {which: 0.1}
        kind = densify.classify(edge, **changed).kind
        assert torch.equal(kind, reference.densify_classify(edge, **changed)), which


@pytest.mark.parametrize("n", [0, 1, 5, 1023, CHUNKS, GROUPS])
@pytest.mark.parametrize("key", [0, 7, 2**63 - 1])
def test_scatter_equals_the_reference(n: int, key: int) -> None:
    tensors = splats(n)
    plan = random_plan(n)
    got = densify.scatter(tensors, moments_of(tensors), plan=plan, key=key)
    assert_same(got, reference.densify_scatter(tensors, moments_of(tensors), kind=plan.kind, key=key))


@pytest.mark.parametrize("kind", [densify.KEEP, densify.CLONE, densify.SPLIT, densify.PRUNE])
def test_scatter_of_one_kind_alone(kind: int) -> None:
    tensors = splats(CHUNKS)
    plan = plan_of(torch.full((CHUNKS,), kind, dtype=torch.int8))
    got = densify.scatter(tensors, moments_of(tensors), plan=plan, key=3)
    assert_same(got, reference.densify_scatter(tensors, moments_of(tensors), kind=plan.kind, key=3))
    assert len(got[0]["means"]) == CHUNKS * [1, 2, 2, 0][kind]


def test_opacities_of_children_keep_every_digit() -> None:
    """From a logit of -20, where 1 - sqrt(1 - o) has no digit left in float32, to 60, where it is 1."""
    logits = torch.linspace(-20, 60, 801)
    tensors = splats(len(logits)) | {"opacities": logits}
    plan = plan_of(torch.full((len(logits),), densify.CLONE, dtype=torch.int8))
    out, _ = densify.scatter(tensors, {}, plan=plan, key=0)
    want, _ = reference.densify_scatter(tensors, {}, kind=plan.kind, key=0)
    assert_opacities(out["opacities"], want["opacities"])


def test_strided_inputs_and_parameters() -> None:
    tensors = splats(50)
    plan = random_plan(50)
    want = densify.scatter(tensors, {}, plan=plan, key=1)[0]
    strided = {name: torch.stack([v, v], -1)[..., 0] for name, v in tensors.items()}
    strided["means"].requires_grad_()
    got = densify.scatter(strided, {}, plan=plan, key=1)[0]
    for name, value in want.items():
        assert torch.equal(got[name], value)
        assert got[name].is_contiguous() and not got[name].requires_grad


def test_results_of_an_event_are_never_written_again() -> None:
    """Events use the memory of earlier ones again: only once nothing holds it."""
    kept: list[tuple[Tensor, Tensor]] = []
    tensors = splats(2000)
    for seed in range(8):
        tensors, _ = densify.scatter(tensors, {}, plan=random_plan(len(tensors["means"]), seed=seed), key=seed)
        kept.append((tensors["shN"], tensors["shN"].clone()))
        if seed % 3 == 2:
            kept.pop(0)
    assert all(torch.equal(now, then) for now, then in kept)
    starts = sorted((now.data_ptr(), now.data_ptr() + now.nbytes) for now, _ in kept)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(starts))


@pytest.mark.parametrize("num_views", [0, 1, 2, 7])
@pytest.mark.parametrize("n", [0, 1, CHUNKS])
def test_statistics_equal_the_reference(num_views: int, n: int) -> None:
    g = torch.Generator().manual_seed(n)
    grad = torch.randn(num_views, n, 2, generator=g)
    radii = torch.randint(-1, 3, (num_views, n, 2), dtype=torch.int32, generator=g)
    for bad in (math.nan, math.inf, -math.inf, 1e30):
        grad.view(-1)[torch.randint(0, max(grad.numel(), 1), (min(grad.numel(), 20),), generator=g)] = bad
    got = torch.rand(n, generator=g), torch.arange(n)
    want = got[0].clone(), got[1].clone()
    densify.accumulate(*got, probe_grad=grad, radii=radii)
    reference.densify_accumulate(*want, grad, radii)
    # No summand is negative, so each of V sums and of the three operations of a norm is one UNIT, in either program.
    torch.testing.assert_close(got[0], want[0], rtol=2 * (num_views + 3) * UNIT, atol=0)
    assert torch.equal(got[1], want[1])


def test_threads_do_not_change_a_bit() -> None:
    n = GROUPS
    tensors, grad, plan = splats(n), gradients(n), random_plan(n)
    probe = torch.randn(4, n, 2, generator=torch.Generator().manual_seed(2))

    def everything() -> list[Tensor]:
        grad_sum, count = torch.zeros(n), torch.zeros(n, dtype=torch.int64)
        densify.accumulate(grad_sum, count, probe_grad=probe, radii=(probe > 0).int())
        arguments = THRESHOLDS | {"scales": tensors["scales"], "opacities": tensors["opacities"]}
        made = densify.classify(grad, **arguments, max_splats=n)
        out, moved = densify.scatter(tensors, moments_of(tensors), plan=plan, key=5)
        return [grad_sum, count, *made, *out.values(), *(v for state in moved.values() for v in state.values())]

    one = everything()
    for threads in (2, 4):
        torch.set_num_threads(threads)
        assert all(torch.equal(a, b) for a, b in zip(one, everything(), strict=True))


def test_opcheck() -> None:
    ops = torch.ops.splatdistill
    tensors = splats(20)
    n = len(tensors["means"])
    statistics = torch.zeros(n), torch.zeros(n, dtype=torch.int64), torch.ones(2, n, 2), torch.ones(2, n, 2).int()
    torch.library.opcheck(ops.densify_accumulate.default, statistics)
    grow = torch.tensor(0.5)
    arguments = gradients(n), tensors["scales"], tensors["opacities"], grow, -3.0, -1.0, -2.0, 22
    torch.library.opcheck(ops.densify_classify.default, arguments)
    plan = random_plan(n)
    keep, clone, split, _ = plan.counts.tolist()
    rows = [*tensors.values(), *moments_of(tensors)["shN"].values()]
    torch.library.opcheck(ops.densify_scatter.default, (rows, 2, plan.kind, keep + 2 * (clone + split), 1))


def test_a_plan_that_does_not_add_up_is_refused() -> None:
    plan = random_plan(30)
    with pytest.raises(RuntimeError, match="kind does not lead to num_out rows"):
        densify.scatter(splats(30), {}, plan=plan._replace(counts=plan.counts + 1), key=0)


BAD_ACCUMULATE = {
    "grad_sum must be a tensor, got float.": {"grad_sum": 0.0},
    "grad_sum must be float32, got float64.": {"grad_sum": torch.zeros(4, dtype=torch.float64)},
    "grad_sum must be contiguous, it is written in place.": {"grad_sum": torch.zeros(4, 2)[:, 0]},
    "count must be int64, got int32.": {"count": torch.zeros(4, dtype=torch.int32)},
    "count must have shape [4], got [5].": {"count": torch.zeros(5, dtype=torch.int64)},
    "probe_grad must have shape [any, 4, 2], got [2, 3, 2].": {"probe_grad": torch.zeros(2, 3, 2)},
    "probe_grad must be on cpu, got meta.": {"probe_grad": torch.zeros(2, 4, 2, device="meta")},
    "radii must be int32, got float32.": {"radii": torch.zeros(2, 4, 2)},
    "radii must have shape [2, 4, 2], got [1, 4, 2].": {"radii": torch.zeros(1, 4, 2, dtype=torch.int32)},
}
BAD_CLASSIFY = {
    "mean_grad must be a tensor, got list.": {"mean_grad": [1.0]},
    "mean_grad must have shape [any], got [4, 1].": {"mean_grad": torch.zeros(4, 1)},
    "mean_grad must be float32, got float16.": {"mean_grad": torch.zeros(4, dtype=torch.float16)},
    "scales must have shape [4, 3], got [4].": {"scales": torch.zeros(4)},
    "opacities must be on cpu, got meta.": {"opacities": torch.zeros(4, device="meta")},
    "max_splats must be an integer from 0 to 9223372036854775807, got -1.": {"max_splats": -1},
}
BAD_SCATTER = {
    "key must be an integer from 0 to 9223372036854775807, got -1.": {"key": -1},
    "kind must be int8, got int64.": {"plan": densify.Plan(torch.zeros(4, dtype=torch.int64), torch.zeros(4))},
    "tensors must hold means, quats.": {"tensors": {"scales": torch.zeros(4, 3), "opacities": torch.zeros(4)}},
    "quats must have shape [4, 4], got [4, 3].": {"tensors": splats(4) | {"quats": torch.zeros(4, 3)}},
    "extra must have 4 rows, got shape [5].": {"tensors": splats(4) | {"extra": torch.zeros(5)}},
    "extra must be a tensor, got int.": {"tensors": splats(4) | {"extra": 5}},
    "means.exp_avg must have 4 rows, got shape [].": {"moments": {"means": {"exp_avg": torch.zeros(())}}},
    "means.exp_avg must be on cpu, got meta.": {"moments": {"means": {"exp_avg": torch.zeros(4, 3, device="meta")}}},
}


def accumulate_four(**changes: Any) -> None:
    arguments = {
        "grad_sum": torch.zeros(4),
        "count": torch.zeros(4, dtype=torch.int64),
        "probe_grad": torch.zeros(2, 4, 2),
        "radii": torch.zeros(2, 4, 2, dtype=torch.int32),
    }
    densify.accumulate(**(arguments | changes))


def classify_four(**changes: Any) -> None:
    tensors = splats(4)
    arguments = THRESHOLDS | {"mean_grad": torch.zeros(4), "max_splats": 9}
    arguments |= {"scales": tensors["scales"], "opacities": tensors["opacities"]}
    densify.classify(**(arguments | changes))


def scatter_four(**changes: Any) -> None:
    arguments: dict[str, Any] = {"tensors": splats(4), "moments": {}, "plan": random_plan(4), "key": 0}
    densify.scatter(**(arguments | changes))


@pytest.mark.parametrize(
    ("call", "change", "message"),
    [
        (call, change, message)
        for call, bad in (
            (accumulate_four, BAD_ACCUMULATE),
            (classify_four, BAD_CLASSIFY),
            (scatter_four, BAD_SCATTER),
        )
        for message, change in bad.items()
    ],
)
def test_bad_inputs_name_the_argument(call: Any, change: dict[str, Any], message: str) -> None:
    call()
    with pytest.raises(ValueError) as error:  # noqa: PT011  the whole message is compared below
        call(**change)
    assert str(error.value) == message
