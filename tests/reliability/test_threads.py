"""The same seed gives the same bits for 1, 2 and 4 threads. Each operator has a test of its own in tests/ops."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from splatdistill.config.schema import OptimConfig
from splatdistill.training import checkpoint
from tests.training.test_trainer import SMALL, run


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_run_has_the_same_bits_for_any_number_of_threads(tmp_path: Path) -> None:
    """More splats than an operator gives to one thread, and two events of densify."""
    config = replace(
        SMALL,
        steps=50,
        size=24,
        splats=replace(SMALL.splats, num_init=3000),
        densify=replace(SMALL.densify, start=0.3, interval=15, max_splats=3500),
        optim=OptimConfig(
            means=8e-3, scales=1e-2, quats=1e-2, opacities=5e-2, sh0=3e-2
        ),  # none fades after the last event
        regularize=replace(SMALL.regularize, opacity=0.0),
        output=replace(SMALL.output, save_every=50),
    )
    ends = []
    for threads in (1, 2, 4):
        run(tmp_path / str(threads), replace(config, threads=threads))
        tensors, meta, _ = checkpoint.load(tmp_path / str(threads) / "checkpoints")
        assert meta["threads"] == threads
        ends.append({name: value.numpy().tobytes() for name, value in tensors.items()})
    assert len(ends[0]["0.splats.means"]) == 3500 * 3 * 4
    assert ends[0] == ends[1] == ends[2]
