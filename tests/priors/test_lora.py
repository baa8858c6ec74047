"""Adapters on a tiny random network: they start as the prior, leave it alone, know their own camera and go on."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from splatdistill.guidance.base import noisy_batch
from splatdistill.guidance.methods.esd import ESD, ESDConfig
from splatdistill.guidance.methods.vsd import VSD, VSDConfig
from splatdistill.priors import lora
from splatdistill.priors.embedded import MultiViewPrior
from splatdistill.priors.lora import ADAPTER, LoRAScore
from splatdistill.priors.network import keep_bf16
from splatdistill.priors.scores import make_score
from tests.priors.test_embedded import noise, ring, steps, tiny
from tests.rounding import assert_same

PROMPT = "a red car"


def score_of(prior: MultiViewPrior, **settings: Any) -> LoRAScore:
    score = make_score(prior, PROMPT, **{"particles": 1, "rank": 4, "lr": 3e-3, "dropout": 0.3, "seed": 0, **settings})
    assert isinstance(score, LoRAScore)
    return score


def batch_of(prior: MultiViewPrior, x0: torch.Tensor | None = None) -> Any:
    eps = torch.randn(4, 48, 8, 8, generator=torch.Generator().manual_seed(2))
    return noisy_batch(noise() if x0 is None else x0, ring(), prior, t=steps(), eps=eps)


def learn(score: LoRAScore, batch: Any, *, first: int = 0, last: int = 5, measure: bool = False) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for step in range(first, last):
        numbers = score.update(batch, seed=0, step=step, measure=measure and step == last - 1)
    return numbers


@pytest.mark.parametrize("prediction_type", ["v_prediction", "epsilon"])
def test_it_starts_as_the_prior_of_single_views_and_leaves_the_prior_alone(prediction_type: str) -> None:
    prior = tiny(prediction_type=prediction_type)
    conditions = [
        prior.embed(PROMPT, ring(), cross_view_attention=False),
        prior.embed(PROMPT, None),
        prior.embed(PROMPT, ring()),
    ]
    batch = batch_of(prior)
    before = prior.predict(batch.xt, batch.t, conditions)
    score = score_of(prior)
    for a, b in zip(score.predict(batch, [True, False]), before[:2], strict=True):
        torch.testing.assert_close(a, b)
    learn(score, batch)
    after = prior.predict(batch.xt, batch.t, conditions)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    with_camera, without = score.predict(batch, [True, False])
    assert (without - before[1]).abs().max() > 1e-4
    assert (with_camera - without).abs().max() > 1e-6


def test_a_prior_without_cameras_of_single_views_lends_no_token_and_views_do_not_see_each_other() -> None:
    prior = tiny()
    prior.supports_single_view_cameras = False
    score = score_of(prior)
    batch = batch_of(prior)
    learn(score, batch)
    before = score.predict(batch, [True, False])
    with torch.no_grad():
        prior.unet.class_embedding.linear_1.weight[:, :16].add_(1.0)  # type: ignore[union-attr]
    after = score.predict(batch, [True, False])
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    x0 = noise()
    x0[3] += 1.0
    changed = score.predict(batch_of(prior, x0), [True, False])
    assert_same(lambda: (score.predict(batch_of(prior, x0), [True])[0][:3], score.predict(batch, [True])[0][:3]))
    assert (changed[0][3] - after[0][3]).abs().max() > 1e-4


def test_attention_and_convolutions_adapt() -> None:
    score = score_of(tiny())
    for part in ("attn1.to_q", "attn2.to_v", "to_out.0", "proj_in", "proj_out", "resnets.0.conv1", "resnets.0.conv2"):
        assert any(f"{part}.lora_A" in name for name in score.parameters), part
    moved = {name: value.detach().clone() for name, value in score.parameters.items()}
    learn(score, batch_of(score.prior), last=2)
    still = [name for name, value in score.parameters.items() if torch.equal(value, moved[name])]
    assert still == []


def test_it_learns_the_renders_faster_than_the_frozen_network_knows_them() -> None:
    """Halves that change places from view to view: a plain picture would be lost in the network's group norms. One
    step's loss is of four draws, so the last fifty are averaged.
    """
    prior = tiny()
    score = score_of(prior, rank=16, lr=1e-2)
    halves = torch.tensor([-1.0, 1.0]).repeat_interleave(4).expand(1, 48, 8, 8)
    batch = batch_of(prior, torch.tensor([1.0, -1.0, 1.0, -1.0]).view(4, 1, 1, 1) * halves)
    learn(score, batch, last=150)
    numbers = [score.update(batch, seed=0, step=step, measure=True) for step in range(150, 200)]
    ratio = sum(n["lora_loss"] / n["frozen_loss"] for n in numbers) / len(numbers)
    assert ratio <= 0.8
    assert sum(n["camera_ratio"] for n in numbers) / len(numbers) > 0.01


def test_it_goes_on_from_its_state_bit_for_bit() -> None:
    whole, first, second = (score_of(tiny()) for _ in range(3))
    learn(whole, batch_of(whole.prior), last=4, measure=True)
    learn(first, batch_of(first.prior), last=2)
    second.load_state_dict(first.state_dict())
    learn(second, batch_of(second.prior), first=2, last=4)
    assert whole.state_dict().keys() == second.state_dict().keys()
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    batch = batch_of(whole.prior)
    for a, b in zip(whole.predict(batch, [True, False]), second.predict(batch, [True, False]), strict=True):
        assert torch.equal(a, b)


def test_seed_fixes_the_adapters() -> None:
    a, b, c = (score_of(tiny(), seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(a[name], c[name]) for name in a)


@pytest.mark.parametrize(("entropy", "rows"), [(None, [8, 4]), (0.0, [8, 4]), (1.0, [8, 4]), (0.5, [8, 8])])
def test_one_network_call_for_each_state_of_the_adapters(entropy: float | None, rows: list[int]) -> None:
    """VSD evaluates 3 pictures per view and ESD 4, or 3 at lambda 0 and 1."""
    prior = tiny()
    if entropy is None:
        method: Any = VSD(VSDConfig(), prompt=PROMPT, group=1, steps=10)
    else:
        method = ESD(ESDConfig(entropy=entropy), prompt=PROMPT, group=1, steps=10)
    method.bind(prior)
    seen: list[int] = []
    forward = prior.unet.forward
    prior.unet.forward = lambda xt, *a, **k: (seen.append(len(xt)), forward(xt, *a, **k))[1]  # type: ignore[method-assign]
    batch = method.noise(noise(), ring(), prior, seed=0, step=0)
    method.residual(batch, prior, step=0)
    assert seen == rows
    seen.clear()
    method.update(batch, seed=0, step=0, measure=False)
    assert seen == [4]


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("layer", [nn.Linear(6, 10), nn.Conv2d(6, 10, 3, stride=2, padding=1), nn.Conv2d(6, 10, 1)])
def test_an_adapted_layer_is_pefts_to_the_bit(layer: nn.Module, dtype: str) -> None:
    """Its answer, and the gradients of its input and its parameters, with the casts that peft and autocast make."""
    torch.manual_seed(0)
    layer = copy.deepcopy(layer).bfloat16() if dtype == "bf16" else layer
    network = nn.ModuleDict({"conv1": layer.requires_grad_(False)})
    inject_adapter_in_model(LoraConfig(r=3, lora_alpha=3, target_modules=["conv1"]), network, adapter_name=ADAPTER)
    parameters = {name: p for name, p in network.named_parameters() if ADAPTER in name}
    for parameter in parameters.values():
        parameter.data = torch.randn(parameter.shape)  # of fp32, and the second one not zero
    shape = (5, 6) if isinstance(layer, nn.Linear) else (5, 6, 4, 4)
    leaf = torch.randn(shape).requires_grad_()
    x = 1 * leaf  # autocast keeps its copy of a leaf, so that its gradient adds up in bf16
    theirs = network["conv1"]
    switch = lora._Switch(on=True)
    (ours,) = lora._replace_layers(network, switch)
    assert dict(network.named_parameters()).keys() >= parameters.keys()
    leaves = [ours.copies.get(name, p) for name, p in parameters.items()]
    assert all(leaf.dtype == next(layer.parameters()).dtype for leaf in leaves)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
        pairs = [(module(x), over) for module, over in ((theirs, list(parameters.values())), (ours, leaves))]
    found = [(out, *torch.autograd.grad(out.square().sum(), [leaf, *over], retain_graph=True)) for out, over in pairs]
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b.to(a.dtype))
    switch.on = False
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
        assert torch.equal(ours(x), layer(x))


def test_copies_in_another_type_follow_what_is_learned_and_loaded() -> None:
    """Steps are taken in fp32, where they are not lost; what the network computes with is their rounding."""
    prior = tiny()
    keep_bf16(prior.unet)
    prior.dtype = "bf16"
    score = score_of(prior, lr=1e-5)
    start = {name: value.detach().clone() for name, value in score.parameters.items()}
    learn(score, batch_of(prior), last=2)
    assert all(not torch.equal(value, start[name]) for name, value in score.parameters.items())
    other = score_of(tiny())
    assert other._copies == {}
    for loaded in (False, True):
        if loaded:
            score.load_state_dict(other.state_dict())
        assert len(score._copies) == sum("lora_" in name for name in score.parameters)
        for name, value in score._copies.items():
            assert value.dtype == torch.bfloat16 and torch.equal(value, score.parameters[name].bfloat16())


def test_gradients_of_parts_add_up_as_if_there_were_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three rows and one, after memory ran out in the second part: what the first try left is not counted twice."""
    found: list[dict[str, torch.Tensor]] = []
    calls: list[int] = []
    for fails in (False, True):
        score = score_of(tiny(), dropout=0.0)
        forward, step = score.forward, score._adam.step

        def short(xt: torch.Tensor, *rest: Any, forward: Any = forward) -> torch.Tensor:
            calls.append(len(xt))
            if len(calls) == 2:
                raise torch.OutOfMemoryError
            return forward(xt, *rest)

        def keep(*, skip: torch.Tensor, score: LoRAScore = score, step: Any = step) -> None:
            found.append({name: p.grad.clone() for name, p in score.parameters.items() if p.grad is not None})
            step(skip=skip)

        monkeypatch.setattr(score._adam, "step", keep)
        if fails:
            monkeypatch.setattr(score, "forward", short)
            score.micro_batches.rows = 3
        learn(score, batch_of(score.prior), last=1)
    assert calls == [3, 1, 1, 1, 1, 1] and found[0].keys() == found[1].keys()
    for name, grad in found[0].items():
        # Sums over four rows in another order: four roundings of 6e-8 in each of some 100 layers.
        assert (grad - found[1][name]).norm() <= 4 * 100 * 6e-8 * grad.norm(), name
