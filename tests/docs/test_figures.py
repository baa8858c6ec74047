"""Drawings, photographs and the GPU page are what the code and the records say today."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from splatdistill.config.schema import METHODS
from tests.docs.pages import README
from tests.packaging.audit import ROOT

FIGURES = ROOT / "docs" / "figures"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("matplotlib", reason="matplotlib comes with the development environment")
    import doc_figures

    out = tmp_path_factory.mktemp("figures")
    doc_figures.draw_all(out)
    return out


def shape(path: Path) -> tuple[list[str], int]:
    """The text of a drawing, and how many strokes and marks it has; coordinates may round otherwise elsewhere."""
    text = path.read_text()
    return re.findall(r">([^<>\n]+)</text>", text), text.count("<path") + text.count("<use")


def test_drawings_are_those_of_the_code(drawn: Path) -> None:
    names = sorted(path.name for path in drawn.iterdir())
    assert len(names) == 9
    stale = [name for name in names if shape(drawn / name) != shape(FIGURES / name)]
    assert stale == [], "run `make figures`"


def test_cameras_stand_where_the_drawing_says() -> None:
    """Azimuth 0 is on +z and grows towards +x, and each camera faces the middle."""
    import doc_figures
    import numpy as np

    for degrees, place in ((0, (0, 0, 1)), (90, (1, 0, 0)), (180, (0, 0, -1)), (-90, (-1, 0, 0))):
        eye, forward = doc_figures.camera_at(degrees)
        assert np.argmax(np.abs(eye)) == np.argmax(np.abs(place))
        assert float(eye @ np.array(place)) > 2
        assert float(forward @ np.array(place)) < -0.9  # -1 where the camera faces the middle squarely


def test_turntables_loop_and_are_small() -> None:
    path = FIGURES / "turntables.webp"
    assert path.stat().st_size <= 1_500_000
    with Image.open(path) as picture:
        assert getattr(picture, "n_frames", 1) >= 24
        assert picture.info["loop"] == 0
    assert "docs/figures/turntables.webp" in README.read_text()


def test_pictures_of_methods_are_recorded_and_shown() -> None:
    """A method without one says so, and how to make it."""
    record = json.loads((FIGURES / "pictures.json").read_text())
    import doc_pictures

    pages = {method: (ROOT / "docs" / "methods" / f"{method}.md").read_text() for method in METHODS}
    shown = {method for method, page in pages.items() if f"](../figures/{method}.webp)" in page}
    of_chair = (doc_pictures.PROMPTS[0], doc_pictures.EDITED)
    assert {run["method"] for run in record["runs"] if run["prompt"] in of_chair} == shown
    assert {path.stem for path in FIGURES.glob("*.webp")} == shown | {"turntables"}
    assert all("no picture of it yet: `python benchmarks/doc_pictures.py`" in pages[m] for m in set(METHODS) - shown)
    assert {run["prompt"] for run in record["runs"] if run["method"] == "sample_fit"} == set(doc_pictures.PROMPTS)
    for run in record["runs"]:
        assert run["seed"] == 0
        assert re.fullmatch(r"[0-9a-f]{7,40}", run["commit"])
    for method in shown:
        with Image.open(FIGURES / f"{method}.webp") as picture:
            assert picture.size == (8 * doc_pictures.STRIP, doc_pictures.STRIP)


def test_the_gpu_page_has_the_figures_of_its_records() -> None:
    import gpu_page
    from common import with_section

    page = gpu_page.PAGE.read_text()
    records = gpu_page.read()
    assert page == with_section(page, gpu_page.section(records), **gpu_page.SECTION), "run benchmarks/gpu_page.py"
    assert all(f"`{record['commit'][:7]}`" in page for record in records.values())


def test_the_gpu_page_names_no_other_time() -> None:
    """Milliseconds, gigabytes and times faster stand in the table of the records alone, but for counted traffic."""
    import gpu_page

    text = re.sub(r"<!-- gpu records.*?end of gpu records -->", "", gpu_page.PAGE.read_text(), flags=re.S)
    assert re.findall(r"\d[\d.]* (?:ms|x|times)\b", text) == []
