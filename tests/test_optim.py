"""Adam against torch's own, to the bit, with steps that are skipped and gradients in another order of memory."""

from __future__ import annotations

import torch

from splatdistill.optim import MOMENTS, Adam


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
