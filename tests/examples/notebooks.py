"""Executes the notebook of the examples, as CI does with a few steps. Run as a module it keeps the outputs:

python -m tests.examples.notebooks
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from tests.packaging.audit import ROOT

NOTEBOOK = ROOT / "examples" / "first_steps.ipynb"


def read(path: Path = NOTEBOOK) -> Any:
    return nbformat.read(path, as_version=4)


def executed(notebook: Any, folder: Path) -> Any:
    """The notebook with the outputs of a kernel that works in `folder`. CellExecutionError for a cell that raises."""
    NotebookClient(
        notebook, timeout=None, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # the times of this machine
    return notebook


def main() -> None:
    notebook = executed(read(), ROOT / "examples")
    notebook.metadata.language_info = {"name": "python"}
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    main()
