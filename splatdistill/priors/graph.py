"""CUDA graphs: the kernels of a call are recorded once for each set of shapes, and from then on launched together. The
embedded prior's are so small that launching them one by one takes longer than running them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

NAME = "cuda-graph"
MOST = 8
"""Calls that are recorded: each keeps the memory that it works in."""
_WARM_UP = 3  # calls before the recording, in which libraries choose their algorithms and allocate what they keep


class Graph(Protocol):
    def replay(self) -> None:
        """Runs what was recorded, on the memory that it was recorded on."""
        ...


Recorder = Callable[[Callable[[], Tensor]], tuple[Graph, Tensor]]
"""Records a call; returns the recording and the tensor that holds the answer after each replay. RuntimeError when it
cannot be recorded.
"""


def record(call: Callable[[], Tensor]) -> tuple[Graph, Tensor]:
    """Records `call` on the current CUDA device: on a stream and in a memory pool of its own, whatever other threads do
    meanwhile. Also what it answers, of any shape, which a replay overwrites.
    """
    here, side = torch.cuda.current_stream(), torch.cuda.Stream()
    side.wait_stream(here)
    with torch.cuda.stream(side):
        for _ in range(_WARM_UP):
            call()
    here.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
        answer = call()
    return graph, answer


@dataclass(frozen=True)
class _Recorded:
    inputs: list[Tensor]
    graph: Graph
    answer: Tensor

    def replay(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """The answer to other inputs, of any shapes that were recorded."""
        for mine, given in zip(self.inputs, inputs, strict=True):
            mine.copy_(given)
        self.graph.replay()
        return self.answer.clone()  # the next replay writes there


class Graphs:
    """Functions of tensors, recorded at the first call with new shapes or settings and replayed at every later one.

    A function must not wait for the device. What it reads or writes beside its inputs must stay where it is, and
    calling it again must do no harm. It is called as it is once a recording failed, and for what comes after the first
    `MOST` recordings; a note on stderr says so once.
    """

    def __init__(self, *, record: Recorder = record) -> None:
        self._record = record
        self._known: dict[Hashable, _Recorded] = {}
        self._noted = False
        self.failed = False

    def run(self, call: Callable[..., Tensor], *inputs: Tensor, **settings: Any) -> Tensor:
        """What `call` answers, in a tensor [R,...] that is the caller's own. settings: hashable, and part of what it
        does.
        """
        if self.failed:
            return call(*inputs, **settings)
        shapes = tuple((x.shape, x.stride(), x.dtype) for x in inputs)
        key = call, shapes, tuple(settings.items())
        if key not in self._known:
            if len(self._known) >= MOST:
                self._note(f"{MOST} calls of other shapes are recorded already, and those run with one")
                return call(*inputs, **settings)
            mine = [x.clone() for x in inputs]
            try:
                graph, answer = self._record(lambda: call(*mine, **settings))
            except RuntimeError as error:  # torch's errors of CUDA and of memory are among them
                self.failed = True
                self.forget()
                self._note(next(iter(str(error).splitlines()), type(error).__name__))
                return call(*inputs, **settings)
            self._known[key] = _Recorded(mine, graph, answer)
        return self._known[key].replay(inputs)

    def forget(self) -> None:
        """Drops all recordings: what the functions read beside their inputs is no longer where it was."""
        self._known.clear()

    def _note(self, reason: str) -> None:
        if not self._noted:
            print(f"Note: the network runs without a CUDA graph, which is slower ({reason}).", file=sys.stderr)
        self._noted = True
