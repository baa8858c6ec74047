"""The tables of docs/methods/comparison.md, from suites that `splatdistill bench` has made and judged.

    splatdistill bench benchmarks/suites/methods.yaml --methods sds,csd,multiview,vsd,esd,consistency \\
        --judges external,own --out DIR/methods
    splatdistill bench benchmarks/suites/flow.yaml --methods consistency,fsd,cfd --judges external,own --out DIR/flow
    splatdistill bench benchmarks/suites/fit.yaml --methods sds,sample_fit --judges external,own --out DIR/fit
    python benchmarks/compare_methods.py DIR/methods DIR/flow DIR/fit

Keeps of each the record, without the names of folders, and the contact sheet below benchmarks/results/compare, and
writes the section of the page that has the name of the suite. Suites that are not named stay as they are. So do methods
of a suite that the folder lacks, if the shipped prior is still the same: each method can be made on a day of its own.
Under a table stands what the outside judge says of each method over the first one, prompt by prompt and seed by seed.
Seconds are of the processor, which other work on the machine hardly changes.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import ROOT, machine, with_section
from evidence import read_json, write_json
from PIL import Image
from runs import prior_hash

from splatdistill.embedded.judge.networks import EmbeddedJudge
from splatdistill.evaluate import bench_table
from splatdistill.evaluate.external import interval, mean_of_means
from splatdistill.io.runs import Run

OUT = ROOT / "benchmarks" / "results" / "compare"
PAGE = ROOT / "docs" / "methods" / "comparison.md"
SCRIPT = "compare_methods.py"
CHANCE = 1e-3  # ratios below it say nothing
DISTANCES = {"frechet", "fid"}  # figures of whole methods
REAL = ("view_consistency", "saturation", "high_frequency")  # figures that real renders have too


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="+", type=Path, help="what `bench` had as --out")
    args = parser.parse_args()
    real = EmbeddedJudge.load().reference.real["plain"]
    text = PAGE.read_text()
    OUT.mkdir(parents=True, exist_ok=True)
    for folder in args.suites:
        found = read_json(folder / "bench.json")
        name, judges = Path(found["suite"]).stem, found["judges"]
        before = read_json(OUT / f"{name}.json")
        new, old = made(found, folder), kept(before, found)
        lines, rows = old.table + new.table, old.objects + new.objects
        methods = ",".join(line["method"] for line in lines)
        command = f"splatdistill bench benchmarks/suites/{name}.yaml --methods {methods} --judges {','.join(judges)}"
        gains = paired(rows)
        record = {
            "command": f"{command} --seeds {found['seeds']} --out DIR/{name}",
            "prior": prior_hash(), "real": {key: real[key] for key in REAL}, "judges": judges, "seeds": found["seeds"],
            "origins": old.origins | new.origins, "table": lines, "over_first": gains, "objects": rows,
        }  # fmt: skip
        sheet = OUT / f"{name}.jpg"
        stacked([*strips(sheet, before, old), *strips(folder / "contact.png", found, new)]).save(sheet, quality=88)
        write_json(record, OUT / f"{name}.json")
        shown = table(lines, judges=judges, real=record["real"])
        text = with_section(text, f"{shown}\n\n{sentence(gains)}", name=name, script=SCRIPT)
    PAGE.write_text(text)


@dataclass(frozen=True)
class Methods:
    """Of some methods: their lines of the table, rows of their objects, and where each was made: commit and machine."""

    table: list[dict[str, Any]]
    objects: list[dict[str, Any]]
    origins: dict[str, dict[str, str]]


def made(found: Mapping[str, Any], folder: Path) -> Methods:
    """What `bench` has in a folder."""
    columns = ("prompt", "method", "seed", *bench_table.heads(found["judges"]))
    rows: list[dict[str, Any]] = []
    origins: dict[str, dict[str, str]] = {}
    for row in found["objects"]:
        summary = Run(folder / "runs" / row["name"]).summary()
        origins.setdefault(row["method"], {"commit": str(summary["commit"])[:7], "machine": machine()})
        rows.append({key: row.get(key) for key in columns} | {"seconds": summary["seconds_cpu"]})
    distances = {
        name: {line["method"]: line[name] for line in found["table"]}
        for name in DISTANCES & {kind.partition(":")[0] for kind in found["judges"]}
    }
    return Methods(bench_table.cells(rows, judges=found["judges"], distances=distances), rows, origins)


def kept(before: Mapping[str, Any], found: Mapping[str, Any]) -> Methods:
    """The methods of a record that the folder lacks, of the same prior, judges and seeds."""
    alike = before.get("prior") == prior_hash() and all(before.get(key) == found[key] for key in ("judges", "seeds"))
    here = {row["method"] for row in found["objects"]}
    table, objects = (
        [row for row in before[key] if row["method"] not in here] if alike else [] for key in ("table", "objects")
    )
    return Methods(table, objects, {line["method"]: before["origins"][line["method"]] for line in table})


def strips(sheet: Path, record: Mapping[str, Any], wanted: Methods) -> list[Image.Image]:
    """Those of some methods, of a sheet with a strip for each method of its record."""
    if not wanted.table:
        return []
    every = [line["method"] for line in record["table"]]
    with Image.open(sheet) as picture:
        high = picture.height // len(every)
        return [
            picture.convert("RGB").crop((0, at * high, picture.width, (at + 1) * high))
            for at in map(every.index, (line["method"] for line in wanted.table))
        ]


def stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    """All of one width, one above the other."""
    sheet = Image.new("RGB", (pictures[0].width, sum(one.height for one in pictures)))
    top = 0
    for one in pictures:
        sheet.paste(one, (0, top))
        top += one.height
    return sheet


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
