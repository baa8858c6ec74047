"""The suites of the comparison: they are read, the outside judge counts their nouns, and their tables are whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import compare_methods
import pytest
from PIL import Image

from splatdistill.batch import plan
from splatdistill.evaluate import bench_table
from splatdistill.evaluate.external import Classes, Reference

SUITES = sorted((Path(compare_methods.__file__).parent / "suites").glob("*.yaml"))
EXACT = 8 * 2.0**-52  # a few logarithms
PAGES = ("fit", "flow", "methods")
"""Those that the page shows."""


@pytest.mark.parametrize("suite", SUITES, ids=lambda path: path.stem)
def test_every_prompt_is_there_once_and_can_be_judged(suite: Path) -> None:
    prompts = [entry.values["prompt"] for entry in plan.read(suite).entries]
    assert len(set(prompts)) == len(prompts)
    counted = Reference.read().fixed
    assert all(Classes.read().noun(prompt) in counted for prompt in prompts)


def test_the_smaller_suite_shares_its_runs_with_the_larger() -> None:
    fit, flow, methods = (
        {e.values["prompt"] for e in plan.read(path).entries} for path in SUITES if path.stem in PAGES
    )
    assert fit | flow == methods and not fit & flow and (len(flow), len(methods)) == (12, 24)


def test_methods_are_compared_object_by_object() -> None:
    """Half the judge's share for three of four objects, and twice for the last: 2^-(2/4) as a geometric mean."""
    shares = {("a", 0): 0.4, ("a", 1): 0.8, ("b", 0): 0.2, ("b", 1): 0.1}
    factor = {("a", 0): 0.5, ("a", 1): 0.5, ("b", 0): 0.5, ("b", 1): 2.0}
    rows = [
        {
            "method": method,
            "prompt": at[0],
            "seed": at[1],
            "external_ratio": share * (factor[at] if method == "x" else 1),
        }
        for method in ("sds", "x")
        for at, share in shares.items()
    ]
    found = compare_methods.paired(rows)["x"]
    assert abs(found["mean"] - 2**-0.5) < EXACT and found["low"] <= found["mean"] <= found["high"]
    assert "`x` 0.71 (" in compare_methods.sentence({"x": found})


def test_a_table_has_real_renders_beside_the_methods() -> None:
    judges = ("external", "own")
    rows = [
        {"method": method, "prompt": "a", "high_frequency": 0.02, "external_ratio": None, "seconds": 3.0}
        for method in ("sds", "vsd")
    ]
    made = compare_methods.table(bench_table.cells(rows, judges=judges), judges=judges, real={"high_frequency": 0.039})
    lines = made.splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["`sds`", "`vsd`", "real renders"]
    column = lines[0].split("|").index(" high frequency ")
    assert lines[-1].split("|")[column] == " 0.039 " and "0.020" in lines[2].split("|")[column]


def bench_folder(folder: Path, method: str, *, colour: str, ratio: float) -> Path:
    """What `bench` leaves of one method with two prompts, of which one has two seeds."""
    rows: list[dict[str, Any]] = [
        {"name": f"{prompt}-{seed}", "prompt": prompt, "method": method, "seed": seed, "external_ratio": ratio}
        for prompt, seed in (("a", 0), ("a", 1), ("b", 0))
    ]
    for row in rows:
        run = folder / "runs" / row["name"]
        run.mkdir(parents=True)
        (run / "summary.json").write_text(
            json.dumps({"seconds_cpu": 3.0, "commit": "0123456789", "seconds_total": 9.0})
        )
    cell = {"mean": 20.0 * ratio, "low": None, "high": None}
    found = {"suite": "suites/x.yaml", "judges": ["external", "frechet"], "seeds": 2, "objects": rows,
             "table": [{"method": method, "frechet": cell}]}  # fmt: skip
    (folder / "bench.json").write_text(json.dumps(found))
    Image.new("RGB", (8, 4), colour).save(folder / "contact.png")
    return folder


def test_methods_of_another_day_stay_while_the_prior_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, out = tmp_path / "page.md", tmp_path / "out"
    page.write_text(f"<!-- x: written by benchmarks/{compare_methods.SCRIPT} -->\nnothing\n<!-- end of x -->\n")
    monkeypatch.setattr(compare_methods, "PAGE", page)
    monkeypatch.setattr(compare_methods, "OUT", out)

    def add(method: str, colour: str, ratio: float) -> Any:
        folder = bench_folder(tmp_path / f"{method}-{ratio}", method, colour=colour, ratio=ratio)
        monkeypatch.setattr("sys.argv", ["compare_methods.py", str(folder)])
        compare_methods.main()
        return json.loads((out / "x.json").read_text())

    add("sds", "red", 0.5)
    found = add("vsd", "blue", 0.25)
    assert [line["method"] for line in found["table"]] == ["sds", "vsd"]
    assert [line["frechet"]["mean"] for line in found["table"]] == [10.0, 5.0]
    assert [line["seconds"] for line in found["table"]] == [3.0, 3.0] and len(found["objects"]) == 6
    assert {method: where["commit"] for method, where in found["origins"].items()} == {
        "sds": "0123456",
        "vsd": "0123456",
    }
    assert all(where["machine"] for where in found["origins"].values())
    assert found["over_first"]["vsd"]["mean"] == pytest.approx(0.5)
    assert "`vsd` 0.50 (" in page.read_text() and page.read_text().count("| `") == 2
    with Image.open(out / "x.jpg") as sheet:
        assert sheet.size == (8, 8)
        (red, _, _), (_, _, blue) = (sheet.getpixel((4, y)) for y in (1, 6))  # type: ignore[misc]
        assert red > 200 and blue > 200
    found = add("sds", "white", 0.75)  # again: its line takes the place of the one before
    assert {line["method"]: line["frechet"]["mean"] for line in found["table"]} == {"vsd": 5.0, "sds": 15.0}
    monkeypatch.setattr(compare_methods, "prior_hash", lambda: "another")
    assert [line["method"] for line in add("csd", "gray", 0.5)["table"]] == ["csd"]


@pytest.mark.parametrize("suite", PAGES)
def test_the_page_has_a_section_for_each_suite(suite: str) -> None:
    text = compare_methods.PAGE.read_text()
    assert text.count(f"<!-- {suite}: written by benchmarks/{compare_methods.SCRIPT} -->") == 1
    assert text.count(f"<!-- end of {suite} -->") == 1
