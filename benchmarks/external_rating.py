"""What the external judge says of finished runs: the probability that an ImageNet classifier gives the right classes,
over that of real renders, and how much of the objects is fog.

    python benchmarks/external_rating.py RUN... --json FILE

Prompts whose noun is not among the fixed ones of evaluate/external_reference.json are left out and counted. The median
is over nouns, each the mean of its runs; its interval draws nouns anew.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import commit, machine
from compare_methods import subject

from splatdistill.evaluate import SOLID_SIZE, draw, external, metrics
from splatdistill.io.runs import Run
from splatdistill.rendering.renderer import make_renderer

DRAWS = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    judge, renderer = external.ImageNet(), make_renderer(torch.device("cpu"))
    classes, reference = external.Classes.read(), external.Reference.read()
    rows: list[dict[str, Any]] = []
    left_out = 0
    for run in args.runs:
        made = subject(run, Run(run).settings())
        noun = classes.noun(made.prompt)
        if noun not in reference.fixed:
            left_out += 1
            continue
        with torch.no_grad():
            views = draw(made, size=judge.image_size, renderer=renderer)
            large = views if judge.image_size == SOLID_SIZE else draw(made, size=SOLID_SIZE, renderer=renderer)
        found = judge.score(made.prompt, views.rgb, views.alpha)
        solid = metrics.solidity(large.alpha, torch.sigmoid(made.splats.opacities))
        ratio = found["mass"] / found["real"]
        rows.append(
            {"prompt": made.prompt, "noun": noun, "seed": made.summary["seed"], **found, "ratio": ratio, **solid}
        )
        print(json.dumps(rows[-1]), flush=True)
    by_noun: defaultdict[str, list[float]] = defaultdict(list)
    for row in rows:
        by_noun[row["noun"]].append(row["ratio"])
    ratios = np.array([np.mean(values) for values in by_noun.values()])
    drawn = np.median(ratios[np.random.default_rng(0).integers(0, len(ratios), (DRAWS, len(ratios)))], 1)
    result = {
        "command": "python benchmarks/external_rating.py RUN... --json FILE", "commit": commit(), "machine": machine(),
        "judge": external.ImageNet.name, "nouns": len(ratios), "runs": len(rows), "left_out": left_out,
        "median_ratio": float(np.median(ratios)), "interval": np.percentile(drawn, (2.5, 97.5)).tolist(),
        "fog": float(np.mean([row["fog"] for row in rows])), "faint": float(np.mean([row["faint"] for row in rows])),
        "of_runs": rows,
    }  # fmt: skip
    args.json.write_text(json.dumps(result, indent=1) + "\n")
    print({key: value for key, value in result.items() if key != "of_runs"})


if __name__ == "__main__":
    main()
