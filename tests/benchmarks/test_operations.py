"""The gate on the operations of a step: what it counts, when it fails, and the steps of today against the record."""

from __future__ import annotations

import evidence
import operations
import pytest
import torch

RECORD = evidence.read_json(operations.TABLE)


def test_the_steps_of_sds_and_vsd_keep_to_their_record() -> None:
    found = {row: sum(names.values()) for row, names in operations.measure().items()}
    if RECORD["torch"] == torch.__version__:
        lines, good = operations.compare(found, RECORD["rows"])
        assert good, "\n".join(lines)
    assert {row for row, bar in operations.BARS.items() if found[row] > bar} == operations.MISSED


def test_views_do_not_count_and_the_backward_does() -> None:
    count = operations.Count()
    x = torch.rand(2, 3, requires_grad=True)
    with count:
        y = count.within("product", lambda: x.view(3, 2).t() * 2)()
        y.sum().backward()
    assert count.found["product"] == {"aten::mul.Tensor": 1}
    assert count.found["outside predict"]["aten::mul.Tensor"] == 1 and x.grad is not None
    assert not any("view" in name or "aten::t" in name for names in count.found.values() for name in names)


@pytest.mark.parametrize(
    ("rows", "word", "good"),
    [({"a": 2}, "same", True), ({"a": 1}, "better", True), ({"a": 3}, "FAILED", False), ({}, "FAILED", False),
     ({"a": 2, "b": 0}, "FAILED", False)],
)  # fmt: skip
def test_growth_and_rows_that_only_one_side_has_fail(rows: dict[str, int], word: str, good: bool) -> None:
    lines, passed = operations.compare(rows, {"a": 2})
    assert passed == good and any(line.startswith(word) for line in lines)
