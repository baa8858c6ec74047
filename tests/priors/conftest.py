"""Encoded prompts of tests are kept apart, and random models are the same each time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.pinned import pin_fp32


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    pin_fp32(folder)
    monkeypatch.setenv("SPLATDISTILL_CACHE", str(folder))
    torch.manual_seed(0)
    return folder


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of every family."""
    from tests.priors import families  # takes seconds

    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("hub")
    return {name: make(root / name / "model") for name, make in families.FAMILIES.items()}
