"""Steps left out because a number was not finite: how many there were, and when there were too many to go on."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from splatdistill.ops.update import count_skip
from splatdistill.training.errors import RunFailure

IN_A_ROW = 5
AMONG = 1000  # steps, of which SHARE may be left out
SHARE = 0.01


class Health:
    """The counts stay on the device, where a step adds to them without a wait; a log step carries them home."""

    def __init__(self, device: torch.device) -> None:
        self._counts = torch.zeros(3, dtype=torch.int64, device=device)

    def note(self, skipped: Tensor, *, step: int) -> None:
        """skipped: [] bool, of this step."""
        count_skip(self._counts, skipped, fresh=step % AMONG == 0)

    @property
    def counts(self) -> dict[str, Tensor]:
        """`skipped`, of these thousand steps, and the longest row of them, `skipped_in_a_row`."""
        _, longest, total = self._counts.clone().unbind()
        return {"skipped": total, "skipped_in_a_row": longest}

    @staticmethod
    def verdict(numbers: Mapping[str, float], *, step: int) -> RunFailure | None:
        """What to end the run with. numbers: what a log step measured, nothing for other steps."""
        row, total = numbers.get("skipped_in_a_row", 0), numbers.get("skipped", 0)
        if row < IN_A_ROW and total < SHARE * AMONG:
            return None
        said = f"{row:.0f} steps in a row" if row >= IN_A_ROW else f"{total:.0f} of {AMONG} steps"
        return RunFailure(
            f"steps: {said} up to step {step} had numbers that are not finite and were left out; the splats are those "
            "of before, in a checkpoint; try --dtype fp32, a lower guidance scale or smaller learning rates."
        )
