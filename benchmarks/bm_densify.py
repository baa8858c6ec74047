"""A densify event, and a step's statistics, against the same in torch (`ops.reference`).

Splats of SH degree 3 with both Adam moments. A tenth of them grow (half cloned, half split) and about 2 % are pruned,
as in an event of the default run. One thread each, taken in turn. The torch version draws its split samples with
torch's own generator: the comparison is with the best torch there is, not with the slow oracle of ours.
"""

from __future__ import annotations

import math
from typing import Any

import common
import torch
from torch import Tensor

from splatdistill.ops import densify, reference

SIZES = (10_000, 100_000, 1_000_000)
SHAPES = {"means": (3,), "quats": (4,), "scales": (3,), "opacities": (), "sh0": (1, 3), "shN": (15, 3)}
NUM_VIEWS = 4
KEY = 1


def main() -> None:
    args = common.parser(__doc__).parse_args()
    torch.set_num_threads(args.threads)
    reference.philox_normal = lambda key, ids, num: torch.randn(len(ids), num)
    cells = []
    for size in SIZES[:2] if args.quick else SIZES:
        for name, calls in (("event", event_calls(size)), ("statistics", statistics_calls(size))):
            samples = common.alternate(calls, rounds=5 if args.quick else 15, budget=25.0)
            cells.append(common.cell(f"{name} {size // 1000}k", samples["ours"], samples["torch"], num_splats=size))
            common.progress(common.shown(cells[-1]))
    common.write(common.record("densify", cells, quick=args.quick, threads=args.threads), args.json)


def event_calls(size: int) -> dict[str, Any]:
    g = torch.Generator().manual_seed(0)
    tensors = {name: torch.randn(size, *shape, generator=g) for name, shape in SHAPES.items()}
    tensors["scales"] = math.log(0.02) + 0.3 * tensors["scales"]
    moments = {
        name: {which: torch.randn(size, *shape, generator=g) for which in ("exp_avg", "exp_avg_sq")}
        for name, shape in SHAPES.items()
    }
    mean_grad = torch.rand(size, generator=g)
    rules: dict[str, Any] = {
        "scales": tensors["scales"],
        "opacities": tensors["opacities"],
        "grow_gradient": 0.9,  # mean_grad is uniform
        "split_scale": float(tensors["scales"].amax(-1).median()),
        "prune_scale": math.log(0.5),
        "prune_opacity": -2.05,  # 2 % of standard normal numbers
        "max_splats": 2 * size,
    }

    def ours() -> object:
        return densify.scatter(tensors, moments, plan=densify.classify(mean_grad, **rules), key=KEY)

    def in_torch() -> object:
        kind = reference.densify_classify(mean_grad, **rules)
        return reference.densify_scatter(tensors, moments, kind=kind, key=KEY)

    return {"ours": ours, "torch": in_torch}


def statistics_calls(size: int) -> dict[str, Any]:
    g = torch.Generator().manual_seed(0)
    probe_grad = torch.randn(NUM_VIEWS, size, 2, generator=g)
    radii = torch.randint(0, 8, (NUM_VIEWS, size, 2), generator=g, dtype=torch.int32)

    def sums() -> tuple[Tensor, Tensor]:
        return torch.zeros(size), torch.zeros(size, dtype=torch.int64)

    ours, in_torch = sums(), sums()
    return {
        "ours": lambda: densify.accumulate(*ours, probe_grad=probe_grad, radii=radii),
        "torch": lambda: reference.densify_accumulate(*in_torch, probe_grad, radii),
    }


if __name__ == "__main__":
    main()
