"""The gate on eager traffic: its rule on operations of known size, and today's code against the record."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import eager_traffic
import pytest
import torch
from eager_traffic import Counted, Traffic
from torch import Tensor, nn

N = 1000  # elements


def counted(call: Callable[[Tensor], object], x: Tensor) -> Traffic:
    traffic = Traffic()
    with Counted(traffic):
        call(x)
    return traffic


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda x: x + x.roll(1), Traffic(4 * N + 8 * N, 8 * N, 2)),
        (lambda x: x.add_(1), Traffic(4 * N, 4 * N, 1)),
        (lambda x: x.bfloat16(), Traffic(4 * N, 2 * N, 1)),
        (lambda x: torch.cat([x, x]), Traffic(8 * N, 8 * N, 1)),
        (lambda x: x.view(10, -1).transpose(0, 1)[3:].unsqueeze(0), Traffic()),
        (lambda x: x.float(), Traffic()),
        (lambda x: x.view(10, -1) @ x.view(-1, 10), Traffic(8 * N, 4 * 100, 1)),
    ],
)
def test_arguments_are_read_and_results_written_once(call: Callable[[Tensor], object], expected: Traffic) -> None:
    assert counted(call, torch.zeros(N)) == expected


def test_what_is_kept_is_counted_once_for_each_storage_and_without_weights() -> None:
    layer = nn.Linear(N, N, bias=False)
    x = torch.zeros(1, N, requires_grad=True)
    with eager_traffic.saved(layer) as kept:
        y = layer(x)  # keeps x for the weight, and the weight
        (y.exp().sum() + y.view(-1).square().sum()).backward()  # keep exp(y); y
    assert sum(kept.values()) == 3 * 4 * N


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return eager_traffic.count()


def test_a_step_moves_no_more_than_is_recorded(found: dict[str, Any]) -> None:
    table = json.loads(eager_traffic.RECORD.read_text())
    if table["versions"] != eager_traffic.versions():
        pytest.skip(f"the record is of {table['versions']}")
    assert eager_traffic.compare(found, table["step"]) == ([], True)


def test_a_step_stays_under_the_bar(found: dict[str, Any]) -> None:
    """Of any version of torch and diffusers. With norms in fp32 under autocast it moved 123 GB."""
    assert found["total_gb"] <= eager_traffic.BAR_GB


def test_more_bytes_or_operations_fail_and_fewer_are_told(found: dict[str, Any]) -> None:
    for part, name in (("encode", "read_bytes"), ("score", "operations"), ("backward", "written_bytes")):
        more = copy.deepcopy(found)
        more[part][name] += 1
        lines, good = eager_traffic.compare(more, found)
        assert not good and lines == [f"FAILED {part}.{name}: {more[part][name]}, recorded {found[part][name]}"]
        lines, good = eager_traffic.compare(found, more)
        assert good and lines[0].startswith(f"better {part}.{name}")
    assert not eager_traffic.compare({}, found)[1]
