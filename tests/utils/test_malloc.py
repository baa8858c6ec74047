"""Memory that a step frees stays for the next one."""

from __future__ import annotations

import gc
import platform
import subprocess
import sys

import pytest

STEPS = """
import resource
import torch

torch.set_num_threads(1)
from splatdistill.utils.malloc import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

print(keep_freed_memory())
for _ in range(8):
    begun = faults()
    kept = [torch.ones(250_000) for _ in range(16)]
    del kept
print(faults() - begun)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks the allocator of glibc")
def test_a_step_pays_for_no_fresh_pages():
    run = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True)
    kept, pages = run.stdout.split()
    assert kept == "True"
    assert int(pages) < 40  # 3875 otherwise


def test_another_allocator_is_left_alone(monkeypatch):
    import ctypes

    from splatdistill.utils.malloc import keep_freed_memory

    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert keep_freed_memory() is False


def test_collections_come_back_after_an_error() -> None:
    from splatdistill.utils.malloc import no_collections

    assert gc.isenabled()
    with pytest.raises(ValueError, match="x"), no_collections():  # noqa: PT012
        assert not gc.isenabled()
        raise ValueError("x")
    assert gc.isenabled()
    gc.disable()  # as whoever imports us may have it
    try:
        with no_collections():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
