"""The notebook runs from its first cell to its last, and is kept with what it showed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.examples import notebooks


def outputs(cell) -> set[str]:
    """The kinds of what a cell shows."""
    return {kind for output in cell.outputs for kind in (output.get("data") or {output.output_type: ""})}


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_it_is_kept_with_its_outputs_and_small() -> None:
    cells = code_cells(notebooks.read())
    shown = [kind for cell in cells for kind in outputs(cell)]
    assert "image/png" in shown and "text/html" in shown and "error" not in shown
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert notebooks.NOTEBOOK.stat().st_size < 1_500_000
    assert str(notebooks.ROOT) not in notebooks.NOTEBOOK.read_text(encoding="utf-8")


@pytest.mark.slow
def test_every_cell_runs_and_shows_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPLATDISTILL_SMOKE", "1")
    kept = [outputs(cell) for cell in code_cells(notebooks.read())]
    again = notebooks.executed(notebooks.read(), tmp_path)
    assert [outputs(cell) for cell in code_cells(again)] == kept
    assert list(tmp_path.iterdir()) == []
    (turntable,) = [o for cell in code_cells(again) for o in cell.outputs if "image/gif" in str(o.get("data", ""))]
    assert turntable.data["text/html"].startswith("<img")
