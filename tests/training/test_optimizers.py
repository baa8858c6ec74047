"""Adam against torch's own, to the bit, with steps that are skipped and gradients in another order of memory. Then the
fused one of the splats against it.
"""

from __future__ import annotations

import pytest
import torch

from splatdistill.config.schema import OptimConfig, SplatsConfig
from splatdistill.scene.gaussians import Splats, init_ball
from splatdistill.training.splat_optimizer import BETAS, EPS, SplatOptimizer, check
from splatdistill.utils.adam import MOMENTS, Adam
from tests.ops.test_update import SAME_BITS, seen


def test_adam_is_torchs_fused_one_to_the_bit() -> None:
    draw = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=draw) for shape in ((50, 3), (7,), (), (4, 5, 3, 3))]
    start[-1] = start[-1].contiguous(memory_format=torch.channels_last)
    one, other = ([x.clone().requires_grad_() for x in start] for _ in range(2))
    ours = Adam([{"params": one[:2], "lr": 0.1}, {"params": one[2:], "lr": 0.0}], betas=(0.9, 0.99), eps=1e-15)
    groups = [{"params": other[:2], "lr": 0.1}, {"params": other[2:], "lr": 0.0}]
    theirs = torch.optim.Adam(groups, betas=(0.9, 0.99), eps=1e-15, fused=True)
    taken = 0
    for step in range(6):
        skip = torch.tensor(step in (0, 3))
        grads = [torch.randn(x.shape, generator=draw) * (torch.inf if skip else 1) for x in start]
        for adam in (ours, theirs):
            adam.param_groups[1]["lr"] = 0.01 * step
            for group, some in zip(adam.param_groups, (grads[:2], grads[2:]), strict=True):
                for x, grad in zip(group["params"], some, strict=True):
                    # torch's pairs elements by their place in memory; ours has to find the order by itself.
                    mine = grad.clone() if adam is ours else torch.empty_like(x).copy_(grad)
                    x.grad = mine if step != 1 or x.dim() else None  # one has no gradient for once
        taken += not skip
        theirs.found_inf = skip.float()  # type: ignore[attr-defined]
        theirs.step()
        ours.step(skip=skip)
        assert ours.num_updates == taken and all(x.grad is None for x in one)
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
        for a, b in zip(one, other, strict=True):
            for key in ("step", *MOMENTS):
                assert (a in ours.state) == (b in theirs.state)
                assert a not in ours.state or torch.equal(ours.state[a][key], theirs.state[b][key])


@pytest.mark.parametrize("num_optimizers", [1, 3])
def test_that_of_the_splats_is_adam(num_optimizers: int) -> None:
    """Over steps, some of which are skipped because of one of several optimisers, and with a tensor that never learns.
    What is left is what a checkpoint keeps.
    """
    config, n = OptimConfig(final=0.1), 43
    fused, separate = [], []
    for seed in range(num_optimizers):
        splats = init_ball(SplatsConfig(num_init=n, sh_degree=2), seed=seed)
        fused.append(SplatOptimizer(splats, config, steps=10))
        twin = Splats(**{name: x.detach().clone().requires_grad_() for name, x in splats.tensors.items()})
        groups = [{"params": [x], "lr": 0.0, "name": name} for name, x in twin.tensors.items()]
        separate.append((twin, Adam(groups, betas=BETAS, eps=EPS)))
    draw, taken = torch.Generator().manual_seed(3), 0
    for step in range(8):
        bad = torch.tensor(step in (0, 5))
        for i, (optimizer, (twin, _)) in enumerate(zip(fused, separate, strict=True)):
            for name, x in optimizer.splats.tensors.items():
                if name == "shN":
                    continue
                grad = torch.randn(x.shape, generator=draw)
                if bad and i == num_optimizers - 1 and name == "quats":
                    grad[4, 2] = torch.nan
                x.grad, twin.tensors[name].grad = grad.clone(), grad
        verdict = check(fused, num_nonfinite=torch.tensor(0))
        taken += not bad
        assert verdict.skip == bad
        for optimizer, (_, adam) in zip(fused, separate, strict=True):
            for group in adam.param_groups:
                group["lr"] = getattr(config, group["name"]) * 0.1 ** (step / 10)
            adam.step(skip=bad)
            optimizer.update(step, verdict=verdict, statistics=seen(n))
            assert optimizer.num_updates == taken and optimizer.grads == []
    for optimizer, (twin, adam) in zip(fused, separate, strict=True):
        moments = optimizer.moments()
        assert list(moments) == [name for name in twin.tensors if name != "shN"]
        for name, x in twin.tensors.items():
            assert same(optimizer.splats.tensors[name], x)
            assert all(same(moments[name][key], adam.state[x][key]) for key in MOMENTS if name != "shN")


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.equal(a, b) if SAME_BITS else torch.allclose(a, b, rtol=1e-5, atol=1e-5)
