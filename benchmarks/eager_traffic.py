"""A gate on the memory traffic of a step with Stable Diffusion 1.5, counted on tensors without numbers, anywhere.

One step of SDS as the training makes it, between the pictures and their gradient: four views of 512 pixels through the
VAE, two conditions through the UNet, the residual, and the way back through the VAE. Model and numbers are those of
`gpu_diffusion.py`, in bf16.

The rule: every ATen operation below autograd reads each of its tensor arguments once and writes each of its tensor
results once, weights included. An operation that returns a view moves nothing. What an operation reads again, what a
cache saves and what a compiler would fuse is not seen, so this is no time; it tells one version of the code from
another. `saved_bytes` are those that autograd keeps from the forward to the backward, the weights aside.

The networks run as on CUDA, where autocast would hand norms fp32. Each part is compared with
results/eager_traffic.json: more bytes or operations fail. If that was meant, say so in the commit and run
`python benchmarks/eager_traffic.py --write`; the same after an improvement. The operations are those of one version of
torch and diffusers, which the record names: with another one nothing is compared but the bar.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import evidence
import gpu_diffusion
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from splatdistill import ops
from splatdistill.guidance import make_guidance
from splatdistill.priors.assembly import place
from splatdistill.priors.diffusion import DiffusionPrior
from splatdistill.scene.cameras import turntable

RECORD = Path(__file__).parent / "results" / "eager_traffic.json"
BAR_GB = 75
VIEWS, SIDE = 4, 512
CPU, NOWHERE = torch.device("cpu"), torch.device("meta")
MOVES_NOTHING = {"aten::_unsafe_view"}  # views that do not say so


@dataclass
class Traffic:
    """Of one part of a step: bytes, and operations that are no views."""

    read_bytes: int = 0
    written_bytes: int = 0
    operations: int = 0

    @property
    def bytes(self) -> int:
        return self.read_bytes + self.written_bytes


class Counted(TorchDispatchMode):
    """Adds what runs inside to `traffic`."""

    def __init__(self, traffic: Traffic) -> None:
        super().__init__()
        self.traffic = traffic

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not moves_nothing(func):
            self.traffic.read_bytes += num_bytes((args, kwargs))
            self.traffic.written_bytes += num_bytes(out)
            self.traffic.operations += 1
        return out


def moves_nothing(func: Any) -> bool:
    """Questions about a tensor, and views of one."""
    kinds = [result.alias_info for result in func._schema.returns]
    return (
        func.namespace == "prim"
        or func._schema.name in MOVES_NOTHING
        or any(kind is not None and not kind.is_write for kind in kinds)
    )


def num_bytes(tree: Any) -> int:
    return sum(x.numel() * x.element_size() for x in tree_leaves(tree) if isinstance(x, Tensor))


def hollow(model: nn.Module, mode: FakeTensorMode, *, dtype: str) -> Any:
    """A model of the meta device as the priors place it, with fake weights."""
    placed = place(model, device=NOWHERE, dtype=dtype)
    with mode:
        return placed.to_empty(device=CPU)


def make_prior(mode: FakeTensorMode) -> DiffusionPrior:
    with patch.object(gpu_diffusion, "place", lambda model, *, dtype, **_: hollow(model, mode, dtype=dtype)):
        return gpu_diffusion.prior_of(*gpu_diffusion.networks(NOWHERE, tiny=False), device=CPU, dtype="bf16")


@contextmanager
def norms_as_on_cuda() -> Iterator[None]:
    """Autocast hands norms fp32 on CUDA, but not on a CPU."""

    def widened(norm: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda x, *args, **kwargs: norm(x.float() if torch.is_autocast_enabled("cpu") else x, *args, **kwargs)

    with (
        patch.object(F, "group_norm", widened(F.group_norm)),
        patch.object(F, "layer_norm", widened(F.layer_norm)),
    ):
        yield


@contextmanager
def saved(weights: nn.Module) -> Iterator[dict[int, int]]:
    """Bytes of each storage that autograd keeps of what runs inside, but for the weights; by the storage."""
    own = {parameter.untyped_storage()._cdata for parameter in weights.parameters()}
    found: dict[int, int] = {}
    alive: list[Tensor] = []  # so that no address comes twice

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage._cdata not in own:
            found[storage._cdata] = storage.nbytes()
            alive.append(x)
        return x

    with saved_tensors_hooks(pack, lambda x: x):
        yield found


def count() -> dict[str, Any]:
    """Traffic of the parts of a step, and what is kept between them."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    prior, config = make_prior(mode), gpu_diffusion.settings("sds", tiny=False)
    unworded = replace(config.views, view_dependent_prompts="off")  # words follow from numbers, which there are none of
    config = replace(config, views=unworded)
    cameras = turntable(config.camera, num_frames=VIEWS, size=SIDE)
    guidance = make_guidance(config)
    guidance.bind(prior)
    parts = {name: Traffic() for name in ("encode", "score", "backward")}
    with mode, norms_as_on_cuda():
        rgb = torch.empty(VIEWS, SIDE, SIDE, 3, requires_grad=True)
        with Counted(parts["encode"]), saved(prior.latent_space.vae) as kept:  # type: ignore[union-attr]
            x0 = prior.encode(rgb)
        with Counted(parts["score"]):
            batch = guidance.noise(x0, cameras, prior, seed=0, step=0)
            residual = guidance.residual(batch, prior, step=0)
            loss = ops.residual(x0, terms=residual.terms, coef=residual.coef, weight=residual.weight).loss
        with Counted(parts["backward"]):
            loss.backward(torch.tensor(1.0))  # a constant: the residual asks whether it is 1
    assert rgb.grad is not None
    return {
        **{name: asdict(part) for name, part in parts.items()},
        "total_gb": round(sum(part.bytes for part in parts.values()) / 1e9, 2),
        "saved_bytes": sum(kept.values()),
    }


def versions() -> dict[str, str]:
    return {name: version(name).partition("+")[0] for name in ("torch", "diffusers")}


def flat(cell: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    out: dict[str, float] = {}
    for name, value in cell.items():
        out |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return out


def compare(found: Mapping[str, Any], table: Mapping[str, Any]) -> tuple[list[str], bool]:
    """Lines to print, and whether nothing grew. Both: what `count` returns."""
    now, then = flat(found), flat(table)
    lines, good = [], now.keys() == then.keys()
    if not good:
        lines.append(f"FAILED only on one side: {', '.join(sorted(now.keys() ^ then.keys()))}")
    for name in sorted(now.keys() & then.keys()):
        if now[name] > then[name]:
            lines.append(f"FAILED {name}: {now[name]}, recorded {then[name]}")
            good = False
        elif now[name] < then[name]:
            lines.append(f"better {name}: {now[name]}, recorded {then[name]}; keep it with --write")
    return lines, good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="record what is counted now")
    args = parser.parse_args()
    found = count()
    if args.write:
        evidence.write_json({"command": evidence.command(), "versions": versions(), "step": found}, RECORD)
        return 0
    table = json.loads(RECORD.read_text())
    print(json.dumps(found, indent=1))
    if table["versions"] != versions():
        print(f"Not compared: the record is of {table['versions']}, here is {versions()}.")
        return 0
    lines, good = compare(found, table["step"])
    print("\n".join(lines or ["as recorded"]))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
