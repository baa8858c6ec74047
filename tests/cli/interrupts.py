"""Ctrl-C in the middle of trainings."""

from __future__ import annotations

from typing import Any

import pytest

from splatdistill.training.trainer import Trainer


def interrupt_at(monkeypatch: pytest.MonkeyPatch, *numbers: int) -> list[int]:
    """Interrupts steps of these numbers, counted from 1 through all trainings. Returns how many there were so far, in
    a list of one number.
    """
    advance, steps = Trainer.advance, [0]

    def cut(self: Trainer, log: Any) -> dict[str, float]:
        steps[0] += 1
        if steps[0] in numbers:
            raise KeyboardInterrupt
        return advance(self, log)

    monkeypatch.setattr(Trainer, "advance", cut)
    return steps
