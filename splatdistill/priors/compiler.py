"""torch.compile for a frozen network: norms, activations and sums between its products become single kernels."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from splatdistill.utils.memory import ran_out

NAME = "compile"
COST = (
    "Note: network_engine: torch compiles the network before its first answer, and again for inputs of another shape, "
    "which may take minutes each time."
)


class Compiled:
    """A network that answers as compiled code, for inputs of few different shapes.

    It says what that costs before the first answer, on stderr. Where torch cannot compile, a note says so once, and the
    network itself answers from then on. An error of the network itself is raised as ever.
    """

    def __init__(self, network: nn.Module, *, backend: str | Callable[..., Any] = "inductor") -> None:
        """backend: of torch.compile; all but the default are for tests."""
        self._network, self._backend = network, backend
        self._compiled: Any = None
        self.failed = False

    def _options(self) -> dict[str, Any] | None:
        """On a CPU the weights become constants, which oneDNN packs once."""
        on_cpu = all(parameter.device.type == "cpu" for parameter in self._network.parameters())
        return {"freezing": True} if self._backend == "inductor" and on_cpu else None

    def __call__(self, *inputs: Any, **settings: Any) -> Any:
        if self.failed:
            return self._network(*inputs, **settings)
        try:
            if self._compiled is None:
                print(COST, file=sys.stderr)
                self._compiled = torch.compile(
                    self._network, dynamic=False, backend=self._backend, options=self._options()
                )
            return self._compiled(*inputs, **settings)
        except RuntimeError as error:  # those of torch.compile are among them
            if ran_out(error):  # fewer rows may fit
                raise
            cause = getattr(error, "inner_exception", error)  # what the compiler says, without torch's frame about it
            reason = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
        answer = self._network(*inputs, **settings)  # raises what was its own error
        self.failed = True
        print(f"Note: the network runs as it is, because torch cannot compile it ({reason}).", file=sys.stderr)
        return answer
