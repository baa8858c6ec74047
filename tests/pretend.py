"""A device that is not there: tensors that say "meta", compute on the CPU and count every wait for the device.

As on CUDA, tensors of both sides do not mix, numbers leave the device by a wait, and so do blocking copies.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

aten = torch.ops.aten
DEVICE = torch.device("meta")
# Their results, or the sizes of them, are needed on the CPU.
WAITING = {
    aten._local_scalar_dense.default, aten.is_nonzero.default, aten.equal.default, aten.nonzero.default,
    aten.masked_select.default, aten._linalg_check_errors.default,
}  # fmt: skip


class There(Tensor):
    """A tensor of the device; `here` holds its numbers."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> There:
        made = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            here.shape,
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            device=DEVICE,
        )
        made.here = here
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {}, waited=None)


def run(func: Any, args: Any, kwargs: dict[str, Any], *, waited: Callable[[str], None] | None) -> Any:
    flat, _ = tree_flatten((args, kwargs))
    there = [x for x in flat if isinstance(x, There)]
    made = [x for x in flat if isinstance(x, Tensor) and x.device == DEVICE and not isinstance(x, There)]
    assert not made, f"{func} takes a tensor that was made of Python numbers, by a blocking copy"
    target = kwargs.get("device")
    to_cpu = bool(there) and target is not None and torch.device(target).type == "cpu"
    to_device = not there and target is not None and torch.device(target).type == DEVICE.type
    copied = func is aten._to_copy.default and (to_cpu or (to_device and isinstance(flat[0], Tensor)))
    if waited is not None:
        if copied and not kwargs.get("non_blocking"):
            waited(f"{func}")
        if there and (func in WAITING or _boolean_index(func, args)):
            waited(f"{func}")
    if func is aten.copy_.default:
        assert all(isinstance(x, There) == isinstance(args[0], There) or x.dim() == 0 for x in args[:2]), (
            "a hidden copy"
        )
    elif there and not copied:
        strangers = [x for x in flat if isinstance(x, Tensor) and not isinstance(x, There) and x.dim() > 0]
        assert not strangers, f"{func} mixes tensors of the CPU and of the device"
    if to_device:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    elif there and not to_cpu and target is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    kwargs.pop("pin_memory", None)
    known = {id(x.here): x for x in there}
    out = func(*tree_map(_inside, args), **tree_map(_inside, kwargs))
    if to_cpu or not (there or to_device):
        return out
    return tree_map(lambda x: known[id(x)] if id(x) in known else _outside(x), out)


def _inside(x: Any) -> Any:
    return x.here if isinstance(x, There) else x


def _outside(x: Any) -> Any:
    return There(x) if isinstance(x, Tensor) else x


def _boolean_index(func: Any, args: Any) -> bool:
    """A mask as an index is a nonzero in disguise; an index of the CPU is a copy."""
    if func not in (aten.index.Tensor, aten.index_put.default, aten.index_put_.default):
        return False
    return any(isinstance(i, Tensor) and (i.dtype == torch.bool or not isinstance(i, There)) for i in args[1])


class Watch(TorchDispatchMode):
    """Makes DEVICE usable, and lists in `waits` where the CPU waited for it, as 'operator at file:line'."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.asleep = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, dict(kwargs or {}), waited=None if self.asleep else self._note)

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Waits in here do not count."""
        before, self.asleep = self.asleep, True
        try:
            yield
        finally:
            self.asleep = before

    def _note(self, what: str) -> None:
        ours = [f for f in traceback.extract_stack() if "/splatdistill/" in f.filename or "/test_" in f.filename]
        self.waits.append(f"{what} at {ours[-1].filename.rpartition('/')[2]}:{ours[-1].lineno}" if ours else what)
