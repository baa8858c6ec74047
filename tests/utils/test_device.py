"""Devices by name: what torch.cuda asks of a device, on a machine that has none."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from splatdistill.priors import offload
from splatdistill.utils.device import indexed, pick_device, send
from tests.packaging.audit import ROOT

NEED = offload.estimate(1_000_000_000, image_size=512, encoder="bf16", dtype="bf16")


@pytest.fixture
def second_of_two(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, int]]:
    """Two GPUs of 80 GB of which the second is in use; returns the limits of memory that are set."""
    limits: list[tuple[float, int]] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=80e9))
    monkeypatch.setattr("torch.cuda.memory._lazy_init", lambda: None)
    monkeypatch.setattr(
        torch._C, "_cuda_setMemoryFraction", lambda share, index: limits.append((share, index)), raising=False
    )
    return limits


@pytest.mark.usefixtures("second_of_two")
def test_a_device_is_the_one_in_use_with_its_index() -> None:
    assert pick_device("cuda") == pick_device("auto") == torch.device("cuda", 1)
    assert indexed(torch.device("cuda", 0)) == torch.device("cuda", 0)
    assert pick_device("cpu") == indexed(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_limit_of_memory_is_set_for_the_device_in_use(device: str, second_of_two: list[tuple[float, int]]) -> None:
    assert not offload.must_offload(NEED, device=torch.device(device), max_memory=40.0, where="it")
    assert second_of_two == [(0.5, 1)]


def test_what_repeats_its_elements_is_sent_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pinned memory is filled by a copy into strides like the source's, which torch refuses where they overlap."""
    pinned: list[torch.Tensor] = []

    def pin(x: torch.Tensor) -> torch.Tensor:
        pinned.append(torch.empty_strided(x.shape, x.stride()).copy_(x))
        return pinned[-1]

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    white = torch.ones(3)
    assert send(white.expand(4, 3), torch.device("meta")).shape == (4, 3)
    assert torch.equal(pinned[0], torch.ones(4, 3))
    with pytest.raises(RuntimeError, match="single memory location"):
        pin(white.expand(4, 3))


def cuda_calls() -> Iterator[tuple[str, str]]:
    """File and function of every call of torch.cuda that hands something over."""
    for top in ("splatdistill", "benchmarks", "viewer"):
        for path in sorted((ROOT / top).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and (node.args or node.keywords):
                    name = ast.unparse(node.func)
                    if name.startswith("torch.cuda."):
                        yield path.name, name.removeprefix("torch.cuda.")


def test_no_function_that_refuses_a_device_without_index_is_called_elsewhere() -> None:
    """A function whose source asks for the index with no word of what is optional refuses such a device."""
    strict = set()
    for file, name in cuda_calls():
        function = getattr(torch.cuda, name)
        source = inspect.getsource(function) if inspect.isfunction(function) else ""
        if "_get_device_index(device)" in source:
            strict.add((file, name))
    # The first gets `indexed(device)`, the second an integer.
    assert strict == {("offload.py", "set_per_process_memory_fraction"), ("distributed.py", "set_device")}
