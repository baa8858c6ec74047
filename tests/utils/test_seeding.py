"""What tests/conftest.py promises: unseeded draws are those of seed 0 in each test."""

import random

import numpy as np
import pytest
import torch


@pytest.fixture
def drawn() -> torch.Tensor:
    return torch.rand(3)


@pytest.mark.parametrize("again", [0, 1])
def test_each_test_draws_the_same_numbers(drawn: torch.Tensor, again: int) -> None:
    assert torch.equal(drawn, torch.rand(3, generator=torch.Generator().manual_seed(0)))
    assert np.random.rand() == np.random.RandomState(0).rand()  # noqa: NPY002
    assert random.random() == random.Random(0).random()
