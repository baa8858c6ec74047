"""One object on several processes, as torchrun starts them: each draws its share of every step's views, and gradients
are added up. Whatever is random is drawn for all views everywhere, so the number of processes changes rounding alone.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor

_PATIENCE = timedelta(days=7)  # a paused run waits in a collective


@dataclass(frozen=True)
class ProcessGroup:
    """This process among those that share a run; alone by default. Every method is for all ranks to call together."""

    rank: int = 0
    world: int = 1

    @classmethod
    def join(cls, device: torch.device) -> ProcessGroup:
        """Meets the others that torchrun has started; nothing is done where it has started one, or did not start us."""
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if world == 1:
            return cls()
        if device.type == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        # An optimizer's first step would import this, and then it holds the group, whose threads outlive `leave`.
        importlib.import_module("torch._dynamo")
        # Small messages between hosts must not wait for a GPU, so there is a way for either.
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
        return cls(dist.get_rank(), world)

    def leave(self) -> None:
        if self.world > 1:
            dist.destroy_process_group()

    @property
    def is_main(self) -> bool:
        """Whether this is the rank that writes."""
        return self.rank == 0

    def check(self, num_views: int, *, group: int) -> None:
        """ValueError, one sentence, for views that cannot be shared evenly. group: views that stay together."""
        if num_views % (group * self.world):
            groups = f" in groups of {group}" if group > 1 else ""
            raise ValueError(
                f"num_views: {num_views} views{groups} cannot be shared by {self.world} processes; "
                f"take a multiple of {group * self.world}."
            )

    def shard(self, rows: Tensor, *, particles: int = 1) -> Tensor:
        """This rank's part of `rows` [P*V,...] of a step: of each of the P particles, its views."""
        if self.world == 1:
            return rows
        shares = cast(Tensor, rows.unflatten(0, (particles, self.world, -1)))
        return shares[:, self.rank].flatten(0, 1)

    def all_reduce(self, tensors: Iterable[Tensor]) -> None:
        """Adds tensors of any shape and one type up over the ranks, in place; the same bits everywhere."""
        tensors = list(tensors)
        if self.world == 1 or not tensors:
            return
        flat = torch.cat([x.reshape(-1) for x in tensors])
        dist.all_reduce(flat)  # pyright: ignore[reportUnknownMemberType]
        for x, added in zip(tensors, torch.split(flat, [x.numel() for x in tensors]), strict=True):
            x.copy_(added.view_as(x))

    def gather(self, rows: Tensor) -> Tensor:
        """[world*R,...] of every rank's `rows` [R,...], in the order of the ranks."""
        if self.world == 1:
            return rows
        all_rows = [torch.empty_like(rows) for _ in range(self.world)]
        dist.all_gather(all_rows, rows.contiguous())  # pyright: ignore[reportUnknownMemberType]
        return torch.cat(all_rows)

    def any(self, flag: bool) -> bool:
        """Whether a rank says so. Through the CPU: no GPU is waited for."""
        if self.world == 1:
            return flag
        sent = torch.tensor([flag], dtype=torch.int64)
        dist.all_reduce(sent, op=dist.ReduceOp.MAX)  # pyright: ignore[reportUnknownMemberType]
        return bool(sent.item())

    def broadcast(self, tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
        """The first rank's tensors, whatever their shapes, on every rank."""
        if self.world == 1:
            return dict(tensors)
        sent = [{name: (x.shape, x.dtype) for name, x in tensors.items()}]
        dist.broadcast_object_list(sent, device=torch.device("cpu"))
        out: dict[str, Tensor] = {}
        for name, (shape, dtype) in sent[0].items():
            mine = tensors[name].detach().contiguous() if self.is_main else None
            out[name] = torch.empty(shape, dtype=dtype, device=device) if mine is None else mine
            dist.broadcast(out[name], 0)
        return out


SINGLE_PROCESS = ProcessGroup()
