"""Settings of every test: one thread per worker, fp32, seeded, no network, GPU tests skipped with a reason."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub
os.environ.setdefault("OMP_NUM_THREADS", "1")

import random

import numpy as np
import pytest
import torch

from tests.pinned import pin_fp32

try:
    from hypothesis import settings
except ImportError:  # a machine for the GPU tests alone; tests that need it fail there
    pass
else:
    settings.register_profile("repeatable", derandomize=True, deadline=None, print_blob=True)
    settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Two workers share two cores; a test about threads sets its own number and puts it back."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Nothing of the user's is read or written, and no test depends on which type is faster here."""
    folder = tmp_path_factory.mktemp("cache")
    pin_fp32(folder)
    os.environ["SPLATDISTILL_CACHE"] = str(folder)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """A test and its fixtures draw the same numbers alone, in any order and on any worker."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  what libraries draw from
    torch.manual_seed(0)


def pytest_collection_modifyitems(items):
    """Tests marked `gpu` are collected everywhere and skipped where torch sees no CUDA device."""
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA device; torch sees none")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(skip)
