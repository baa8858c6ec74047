"""Both sides of the operators' benchmarks compute the same."""

from __future__ import annotations

import bm_densify
import bm_residual
import torch

from tests.ops.children import assert_children


def test_the_densify_event_has_the_same_result_in_torch():
    calls = bm_densify.event_calls(500)
    (ours, our_moments), (want, want_moments) = calls["ours"](), calls["torch"]()
    assert len(want["means"]) > 500
    for name, tensor in want.items():
        assert name in ("means", "opacities") or torch.equal(ours[name], tensor), name
        assert all(torch.equal(value, want_moments[name][which]) for which, value in our_moments[name].items()), name
    assert_children(ours, want)


def test_a_tenth_grows_by_both_ways_and_some_are_pruned():
    tensors, _ = bm_densify.event_calls(10_000)["torch"]()
    grown_less_pruned = len(tensors["means"]) - 10_000
    assert 600 < grown_less_pruned < 1000  # 1000 grow, 200 go
    halves = (tensors["scales"][1:] == tensors["scales"][:-1]).all(-1).sum()
    assert 800 < halves < 1200  # parent and child have the same scales


def test_the_residual_has_the_same_gradient_in_eager_torch():
    for make in (bm_residual.residual_calls, bm_residual.noising_calls):
        calls = make((2, 3, 8, 8))
        grads = []
        for name in ("ours", "eager"):
            grads.append(calls[name]())
        torch.testing.assert_close(grads[0], grads[1])
