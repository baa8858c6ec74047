"""Memory of the teachers that have names, from their published shapes on torch's meta device: nothing is computed.

Parameters are exact. Counted are the bytes that autograd keeps of a VAE's encoder, and the most bytes alive during one
row of the network; a device's own allocator rounds up and is not in here. `--write` writes docs/teachers.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any
from unittest import mock

import diffusers
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from splatdistill.priors.check import memory_of
from splatdistill.priors.dits import DITS, Question
from splatdistill.priors.resolve import model_families

ROOT = Path(__file__).resolve().parents[1]
SHAPES: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("teachers.json").read_text())
ATTENTION = "scaled_dot_product_attention"
TEXT = 256  # tokens of a prompt: what most of these pad to, or twice that
PICTURE = 1024  # pixels along one side; per pixel the numbers differ little with it


def build(part: dict[str, Any]) -> Any:
    """A network or a VAE with published shapes, without memory behind it."""
    settings = {key: value for key, value in part.items() if key != "_class_name"}
    with torch.device("meta"):
        return getattr(diffusers, part["_class_name"])(**settings).bfloat16().eval()


def parameters(part: dict[str, Any]) -> int:
    return sum(p.numel() for p in build(part).parameters())


def storages(network: Any) -> set[int]:
    """Of its weights and buffers."""
    return {x.untyped_storage()._cdata for x in (*network.parameters(), *network.buffers())}


def encoder_bytes(part: dict[str, Any]) -> float:
    """Per picture and pixel: what autograd keeps of the encoder in bf16, its weights aside."""
    vae = build(part).requires_grad_(False)
    weights = storages(vae)
    kept: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage.nbytes()
        return x

    shape = (1, 3, 1, PICTURE, PICTURE) if "QwenImage" in part["_class_name"] else (1, 3, PICTURE, PICTURE)
    images = torch.empty(shape, device="meta", dtype=torch.bfloat16, requires_grad=True)
    with saved_tensors_hooks(pack, lambda x: x), mock.patch.object(F, ATTENTION, fused_attention):
        out = vae.encode(images, return_dict=False)
    del out
    return sum(kept.values()) / PICTURE**2


class Alive(TorchDispatchMode):
    """Bytes of tensors that operators made and that are still there, and the most of them at once."""

    def __init__(self, given: set[int]) -> None:
        """given: storages that are there before, such as those of the weights."""
        super().__init__()
        self.given, self.most = given, 0
        self._held: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self._held = {key: held for key, held in self._held.items() if not held[0].expired()}
        for x in tree_leaves(out):
            if isinstance(x, Tensor) and (storage := x.untyped_storage())._cdata not in self.given:
                self._held.setdefault(storage._cdata, (StorageWeakRef(storage), storage.nbytes()))
        self.most = max(self.most, sum(size for _, size in self._held.values()))
        return out


class Fused(torch.autograd.Function):
    """Attention as devices compute it, without the matrix of all pairs. Shapes alone."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = torch.empty_like(q)
        ctx.save_for_backward(q, k, v, out)
        return out


def fused_attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
    return Fused.apply(query, key, value)  # type: ignore[return-value]


def network_values(shapes: dict[str, Any]) -> float:
    """Per picture and pixel: values that one row of the network holds at once, in its own type."""
    part = shapes["network"]
    network, side = build(part), PICTURE // shapes["shrinks"]
    x = torch.empty(1, shapes["channels"], side, side, device="meta", dtype=torch.bfloat16)
    text = torch.empty(1, TEXT, shapes["text"], device="meta", dtype=torch.bfloat16)
    time = torch.empty(1, device="meta")
    fused = mock.patch.object(F, ATTENTION, fused_attention)
    counted = mock.patch.object(Tensor, "tolist", return_value=[TEXT])  # Lumina's mask, which has no numbers here
    with torch.no_grad(), fused, counted, Alive(storages(network)) as alive:
        if part["_class_name"] in DITS:
            pooled = torch.empty(1, part.get("pooled_projection_dim", 1), device="meta", dtype=torch.bfloat16)
            DITS[part["_class_name"]].ask(network, Question(x, time, text, (TEXT,), pooled, network.config))
        else:
            network(x, time, text, return_dict=False)
    return alive.most / 2 / PICTURE**2


HEAD = """# Teachers

The models that `--prior` has names for, written by `benchmarks/teacher_memory.py --write`. GB: memory for SDS with four
views in bf16, **estimated and not measured**. It counts the weights of network and VAE, and activations. Those are
what autograd keeps of the encoder per view, and what the network holds for two rows per view, on the published shapes.
Text encoders are not in it: they are loaded for the prompts of a run, and dropped before its first step. With less
memory, views and blocks are evaluated one by one.

Any folder or id of one of these classes is read, under any name. SANA is read and has no name here. The card of its
weights gives two licences: NVIDIA's Open Model License in its metadata, and "NSCL v2-custom" in its text. Models with
guidance or steps distilled are refused.

MV-Adapter, six views by Stable Diffusion XL, is not read. diffusers has its condition encoder, a `T2IAdapter`. It lacks
the attention along rows that joins the views, in a second branch of each self-attention. MV-Adapter's rays are of
orthographic cameras, where ours have a perspective. A separate class shifts its schedule to more noise.
"""
TABLES = (
    ("name", "M parameters", "GB at its own size", "GB at 512", "GB at 256", "licence"),
    ("class", "noise level is given as", "prediction", "latents are", "its pipeline's scale w is our s ="),
)
TIMES = {"_share": "s", "_share_of_picture": "1 - s", "_one_less": "1 - s", "<lambda>": "1000 s"}


def row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def memory_rows() -> list[str]:
    rows = []
    for name, facts in model_families().items():
        sizes = [memory_of(facts, image_size=size) for size in (0, 512, 256) if facts["encoder"] or not size]
        own, *others = [f"{size:.2g}" for size in sizes]
        gb = [f"{own} ({facts['image_size']} pixels)", *others, "", ""][:3]
        gate = ", to be accepted on the hub first" if facts["gated"] else ""
        rows.append(row(name, f"{facts['parameters_m']:,}", *gb, facts["licence"] + gate))
    return rows


def class_rows() -> list[str]:
    rows = []
    for name, kind in DITS.items():
        time = TIMES[kind.time.__name__] if kind.flow else "the timestep"
        sign = "eps - x0" if kind.sign > 0 else "x0 - eps"
        shape = "2 x 2 packed" if kind.packed else "2 x 2 in channels, normalised" if "Flux2" in name else "as they are"
        scale = f"w + {kind.offset:g}" if kind.offset else "w"
        rows.append(row(f"`{name}` ({kind.what})", time, sign if kind.flow else "eps", shape, scale))
    return rows


def page() -> str:
    parts = [HEAD]
    for head, rows in zip(TABLES, (memory_rows(), class_rows()), strict=True):
        parts.append("\n".join([row(*head), row(*["---"] * len(head)), *rows]) + "\n")
    return "\n".join(parts)


def counted() -> dict[str, dict[str, float]]:
    """Of each teacher with published shapes here: M parameters of network and VAE, bytes and values per pixel."""
    return {
        name: {
            "network_m": parameters(shapes["network"]) / 1e6,
            "vae_m": parameters(shapes["vae"]) / 1e6,
            "encoder_bytes": encoder_bytes(shapes["vae"]),
            "network_values": network_values(shapes),
        }
        for name, shapes in SHAPES.items()
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/teachers.md from the numbers of the package")
    if parser.parse_args().write:
        (ROOT / "docs").mkdir(exist_ok=True)
        (ROOT / "docs" / "teachers.md").write_text(page())
    for name, numbers in counted().items():
        print(name, {key: round(value, 1) for key, value in numbers.items()})
