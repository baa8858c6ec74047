"""A gate on the operations of a step that needs no GPU: ATen operations of SDS and of VSD with the embedded prior.

    python benchmarks/operations.py [--write]

A small network on a GPU takes the time of its launches, and each operation is one launch or a few. A step that logs
nothing and does not densify is counted under a TorchDispatchMode, below autograd, so that the backward counts too.

What counts: every operation that reaches the dispatcher, on tensors of the CPU (cameras, noise) as well. What does not:
views and other changes of metadata, which launch nothing. The tensors are those of a CPU, with the code path that a
CUDA device takes: bf16, no CPU engine, gsplat's interface. What differs from a GPU:

- gsplat counts as one operation forward and one backward; on a GPU it launches some forty kernels.
- Each tensor that is sent to the device counts once as `copies`, and is not among the operations.
- Autocast on a CPU leaves norms in bf16, where CUDA's casts to fp32 and back.
- An operation on a GPU may be several kernels, such as a group norm; a CUDA graph replays all of `predict` at once.

Compared with results/operations.json: a row with more operations fails. If the growth was meant, say so in the commit
and run with --write; the same after an improvement. Operations differ from torch to torch, so the record names its own,
and under another one only the bars are looked at.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast
from unittest import mock

import evidence
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from splatdistill import ops, priors
from splatdistill.config.presets import load
from splatdistill.guidance.variational import VariationalGuidance
from splatdistill.priors.base import Prior
from splatdistill.priors.known import KnownPrior
from splatdistill.rendering.renderer import GsplatRenderer
from splatdistill.training.run_log import NoLog
from splatdistill.training.trainer import Trainer
from splatdistill.utils import device

TABLE = Path(__file__).parent / "results" / "operations.json"
PROMPT = "a red lamp"
CPU = torch.device("cpu")
BARS = {"sds outside predict": 130, "sds predict": 300, "vsd in all": 3600}
"""What is aimed at. `predict` may exceed its own where a CUDA graph replays it."""
AIM = {"vsd in all": 2500}
MISSED = {"sds predict"}
"""Rows that are above their bar today."""
WARM_UP = 2  # steps, in which texts are encoded and what is kept is made
Counts = dict[str, int]


class Count(TorchDispatchMode):
    """Operations by the part of the step that they belong to."""

    def __init__(self) -> None:
        super().__init__()
        self.part = "outside predict"
        self.found: dict[str, Counter[str]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # An unsafe view is a view that autograd need not know of.
        if not func.is_view and not func.name().startswith(("aten::_unsafe_view", "aten::lift_fresh")):
            self.note(func.name())
        return func(*args, **(kwargs or {}))

    def note(self, name: str) -> None:
        self.found.setdefault(self.part, Counter())[name] += 1

    def within(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call`, whose operations belong to `part`."""

        def counted(*args: Any, **kwargs: Any) -> Any:
            before, self.part = self.part, part
            try:
                return call(*args, **kwargs)
            finally:
                self.part = before

        return counted

    def sent(self, x: Tensor, where: torch.device) -> Tensor:
        """`device.send` to a device that is another one."""
        self.found.setdefault("copies", Counter())["send"] += 1
        return x


def rasterization(*splats: Tensor, backgrounds: Tensor, sh_degree: int | None, **_: Any) -> tuple[Any, ...]:
    """gsplat's interface on our rasteriser, which is one operation; what surrounds it here does not count."""
    means, quats, scales, opacities, colors, viewmats, Ks, width, height = splats
    with _disable_current_modes():
        probe = torch.zeros(len(viewmats), len(means), 2, requires_grad=torch.is_grad_enabled())
    inputs = ops.RasterInputs(means, quats, scales, opacities, colors, viewmats, Ks, backgrounds, probe)
    drawn = ops.rasterize(inputs, ops.RasterSettings(int(width), int(height), sh_degree))
    with _disable_current_modes():
        image = torch.cat([drawn.rgb, drawn.depth], -1)
    return image, drawn.alpha, {"means2d": probe, "radii": drawn.radii}


@contextmanager
def as_on_cuda(count: Count) -> Iterator[None]:
    """The branches that tensors of a CUDA device take, for those of a CPU."""
    modules = [m for name, m in sys.modules.items() if name.startswith("splatdistill.") and hasattr(m, "send")]
    with ExitStack() as stack:
        # Not mock.patch.dict, which would also take away what is imported meanwhile.
        installed = sys.modules.pop("gsplat", None)
        sys.modules["gsplat"] = cast(ModuleType, SimpleNamespace(rasterization=rasterization))
        stack.callback(lambda: sys.modules.pop("gsplat") and installed and sys.modules.update(gsplat=installed))
        stack.enter_context(mock.patch.object(torch, "equal", return_value=False))  # asked on a CPU only
        for module in modules:
            if module is not device:
                stack.enter_context(mock.patch.object(module, "send", count.sent))
        yield


def count_step(method: str, prior: Prior) -> dict[str, Counter[str]]:
    """Operations of one step by part of the step and by name."""
    config = replace(load(method)[0], prompt=PROMPT, device="cpu")
    trainer = Trainer(config, prior=prior, device=CPU)
    trainer.renderer = GsplatRenderer()
    count, log = Count(), NoLog()
    counted: list[tuple[str, Any, str]] = [("predict", trainer.prior, "predict")]
    if isinstance(trainer.guidance, VariationalGuidance):
        counted += [("second score", trainer.guidance.score, "predict"), ("learning", trainer.guidance, "update")]
    for part, owner, name in counted:
        setattr(owner, name, count.within(part, getattr(owner, name)))
    with as_on_cuda(count):
        for _ in range(WARM_UP):
            trainer.advance(log)
        count.found.clear()
        with count:
            trainer.advance(log)
    return count.found


def measure(methods: tuple[str, ...] = ("sds", "vsd")) -> dict[str, Counter[str]]:
    """All that is counted, by row and by name."""
    torch.set_num_threads(1)
    prior: Prior = priors.load("embedded", device=CPU, dtype="bf16", engine="torch")
    assert isinstance(prior, KnownPrior) and not prior.refiner.engines
    rows = {}
    for method in methods:
        found = count_step(method, prior)
        rows |= {f"{method} {part}": names for part, names in found.items()}
        rows[f"{method} in all"] = sum((names for part, names in found.items() if part != "copies"), Counter[str]())
    return rows


def compare(rows: Counts, table: Counts) -> tuple[list[str], bool]:
    """Lines to print, and whether no row has more than its record and none is missing or new."""
    lines, good = [], rows.keys() == table.keys()
    for name in sorted(rows.keys() | table.keys()):
        now, then = rows.get(name), table.get(name)
        good &= now is not None and then is not None and now <= then
        word = "FAILED" if now is None or then is None or now > then else "better" if now < then else "same"
        lines.append(f"{word} {name}: {now}, recorded {then}" + (": --write it" if word == "better" else ""))
    return lines, good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the table instead of comparing with it")
    parser.add_argument("--names", action="store_true", help="print the operations of each row too")
    args = parser.parse_args()
    found = measure()
    rows = {row: sum(names.values()) for row, names in found.items()}
    if args.names:
        for row, names in found.items():
            print(row, dict(names.most_common()))
    for row, bar in BARS.items():
        print(f"{row}: {rows[row]}, bar {bar}" + (f", aim {AIM[row]}" if row in AIM else ""))
    if args.write:
        record = {"bench": "operations", "torch": torch.__version__, "commit": evidence.commit()}
        evidence.write_json({**record, "command": evidence.command(), "bars": BARS, "rows": rows}, TABLE)
        return 0
    table = evidence.read_json(TABLE)
    if table["torch"] != torch.__version__:
        print(f"The table is of torch {table['torch']}: rows were not compared.")
        return 0
    lines, good = compare(rows, table["rows"])
    print("\n".join(lines))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
