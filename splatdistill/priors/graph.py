"""A CUDA graph of a function of tensors: its kernels are recorded once for each set of shapes and launched together
from then on, because the embedded prior's are so small that launching them takes longer than running them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

NAME = "cuda-graph"
MOST = 8
"""Sets of shapes that are recorded: each keeps the memory that the function works in."""
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
    """Records `call` on the current CUDA device. Everything happens on a stream and in a memory pool of its own, and
    only what this thread does is looked at.
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
        for mine, given in zip(self.inputs, inputs, strict=True):
            mine.copy_(given)
        self.graph.replay()
        return self.answer.clone()  # the next replay writes there


class Replayed:
    """A function of tensors that is recorded for each set of shapes and settings, and replayed where it is known.

    It must not wait for the device, and what it reads beside its inputs must stay where it is. The plain function
    answers what cannot be recorded: all calls after a recording failed, and shapes beyond the first `MOST`. A note on
    stderr says so once.
    """

    def __init__(self, call: Callable[..., Tensor], *, record: Recorder = record) -> None:
        self._call, self._record = call, record
        self._known: dict[Hashable, _Recorded] = {}
        self.failed = False
        self._noted = False

    def __call__(self, *inputs: Tensor, **settings: Hashable) -> Tensor:
        """What the function answers, in a tensor that is the caller's."""
        if self.failed:
            return self._call(*inputs, **settings)
        shapes = tuple((x.shape, x.stride(), x.dtype, x.device) for x in inputs)
        key = (shapes, tuple(sorted(settings.items())))
        if key not in self._known:
            if len(self._known) == MOST:
                self._note(f"more than {MOST} shapes of pictures were asked for")
                return self._call(*inputs, **settings)
            try:
                self._known[key] = self._recorded(inputs, settings)
            except RuntimeError as error:  # torch's errors of CUDA and of memory are among them
                self.failed = True
                self.forget()
                self._note(next(iter(str(error).splitlines()), type(error).__name__))
                return self._call(*inputs, **settings)
        return self._known[key].replay(inputs)

    def forget(self) -> None:
        """To be called when what the function reads beside its inputs has moved: all is recorded anew."""
        self._known.clear()

    def _recorded(self, inputs: tuple[Tensor, ...], settings: dict[str, Hashable]) -> _Recorded:
        mine = [x.clone() for x in inputs]
        graph, answer = self._record(lambda: self._call(*mine, **settings))
        return _Recorded(mine, graph, answer)

    def _note(self, reason: str) -> None:
        if not self._noted:
            print(f"Note: the network runs without a CUDA graph, which is slower: {reason}.", file=sys.stderr)
        self._noted = True
