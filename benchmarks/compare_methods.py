"""The tables of docs/methods/comparison.md, from suites that `splatdistill bench` has made and judged.

    splatdistill bench benchmarks/suites/methods.yaml --methods sds,csd,multiview,vsd,esd,consistency \\
        --judges external,own --out DIR/methods
    splatdistill bench benchmarks/suites/flow.yaml --methods consistency,fsd,cfd --judges external,own --out DIR/flow
    splatdistill bench benchmarks/suites/fit.yaml --methods sds,sample_fit --judges external,own --out DIR/fit
    python benchmarks/compare_methods.py DIR/methods DIR/flow DIR/fit

Keeps of each the record, without the names of folders, and the contact sheet below benchmarks/results/compare, and
writes the section of the page that has the name of the suite. Suites that are not named stay as they are. Under a table
stands what the outside judge says of each method over the first one, prompt by prompt and seed by seed.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common import ROOT, commit, machine, with_section
from evidence import read_json, write_json
from PIL import Image
from runs import prior_hash

from splatdistill.embedded.judge.networks import EmbeddedJudge
from splatdistill.evaluate import bench_table
from splatdistill.evaluate.external import interval, mean_of_means

OUT = ROOT / "benchmarks" / "results" / "compare"
PAGE = ROOT / "docs" / "methods" / "comparison.md"
SCRIPT = "compare_methods.py"
CHANCE = 1e-3  # ratios below it say nothing
REAL = ("view_consistency", "saturation", "high_frequency")  # figures that real renders have too


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="+", type=Path, help="what `bench` had as --out")
    args = parser.parse_args()
    real = EmbeddedJudge.load().reference.real["plain"]
    text = PAGE.read_text()
    for folder in args.suites:
        found = read_json(folder / "bench.json")
        name = Path(found["suite"]).stem
        methods = ",".join(dict.fromkeys(row["method"] for row in found["objects"]))
        columns = ("prompt", "method", "seed", *bench_table.heads(found["judges"]))
        command = (
            f"splatdistill bench benchmarks/suites/{name}.yaml --methods {methods} --judges {','.join(found['judges'])}"
        )
        lines, gains = bench_table.cells(found["objects"], judges=found["judges"]), paired(found["objects"])
        record = {
            "command": f"{command} --seeds {found['seeds']} --out DIR/{name}", "commit": commit(), "machine": machine(),
            "prior": prior_hash(), "real": {key: real[key] for key in REAL}, "table": lines,
            "over_first": gains,
            "objects": [{key: row.get(key) for key in columns} for row in found["objects"]],
        }  # fmt: skip
        write_json(record, OUT / f"{name}.json")
        with Image.open(folder / "contact.png") as sheet:
            sheet.convert("RGB").save(OUT / f"{name}.jpg", quality=88)
        shown = table(lines, judges=found["judges"], real=record["real"])
        text = with_section(text, f"{shown}\n\n{sentence(gains)}", name=name, script=SCRIPT)
    PAGE.write_text(text)


def paired(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Method -> the geometric mean, over prompts and seeds, of its outside ratio over the first method's, with its
    95 % interval.
    """
    first, *others = dict.fromkeys(row["method"] for row in rows)
    ratio = {(row["method"], row["prompt"], row["seed"]): row["external_ratio"] for row in rows}
    found: dict[str, dict[str, float]] = {}
    for method in others:
        groups: dict[str, list[float]] = {}
        for (of, prompt, seed), value in ratio.items():
            if of == method and value is not None:
                base = max(ratio[first, prompt, seed], CHANCE)
                groups.setdefault(prompt, []).append(math.log(max(value, CHANCE) / base))
        if groups:
            low, high = interval(list(groups.values()), of=mean_of_means)
            found[method] = dict(
                zip(
                    ("mean", "low", "high"),
                    map(math.exp, (mean_of_means(list(groups.values())), low, high)),
                    strict=True,
                )
            )
    return found


def sentence(gains: Mapping[str, Mapping[str, float]]) -> str:
    """What `paired` found, in words."""
    parts = [f"`{method}` {x['mean']:.2f} ({x['low']:.2f} to {x['high']:.2f})" for method, x in gains.items()]
    return f"What the outside judge says over the first method, object by object: {', '.join(parts)}."


def table(lines: Sequence[Mapping[str, Any]], *, judges: Sequence[str], real: Mapping[str, float]) -> str:
    """What `bench` writes, and a line of real renders."""
    values = (f"{real[name]:.3f}" if name in real else "" for name in bench_table.heads(judges))
    return bench_table.markdown(lines, judges=judges) + "| " + " | ".join(["real renders", *values]) + " |"


if __name__ == "__main__":
    main()
