"""What the external judge says of finished runs: the probability that an ImageNet classifier gives the right classes,
over that of real renders of the same model, and how much of the objects is fog.

    python benchmarks/external_rating.py RUN... --json FILE

A run says which model its prior showed; one that shows no single model, or one that evaluate/external_reference.json
lacks or the classifier does not recognise, is left out and counted. The median is over nouns, each the mean of its
runs; its interval draws nouns and runs anew.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import commit, machine
from runs import subject

from splatdistill.evaluate import SOLID_SIZE, draw, external, metrics
from splatdistill.io.runs import Run
from splatdistill.rendering.renderer import make_renderer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    judge, renderer = external.ImageNet(), make_renderer(torch.device("cpu"))
    rows: list[dict[str, Any]] = []
    for run in args.runs:
        made = subject(run, Run(run).settings())
        model = made.summary.get("prior_model")
        with torch.no_grad():
            views = draw(made, size=judge.image_size, renderer=renderer)
            large = views if judge.image_size == SOLID_SIZE else draw(made, size=SOLID_SIZE, renderer=renderer)
        found = judge.score(made.prompt, views.rgb, views.alpha, model=model)
        solid = metrics.solidity(large.alpha, torch.sigmoid(made.splats.opacities))
        own = {"prompt": made.prompt, "seed": made.summary["seed"], "model": model, "num_splats": len(made.splats)}
        rows.append({**own, **found, **solid, "counted": found["counted"] and model is not None})
        print(json.dumps(rows[-1]), flush=True)
    counted = [row for row in rows if row["counted"]]
    summary = judge.summary(rows)
    result = {
        "command": "python benchmarks/external_rating.py RUN... --json FILE", "commit": commit(), "machine": machine(),
        "judge": judge.name, "nouns": len(summary["nouns"]), "runs": len(counted), "left_out": len(rows) - len(counted),
        "median_ratio": summary["median_ratio"], "interval": summary["interval"],
        "fog": float(np.mean([row["fog"] for row in rows])), "faint": float(np.mean([row["faint"] for row in rows])),
        "of_runs": rows,
    }  # fmt: skip
    args.json.write_text(json.dumps(result, indent=1) + "\n")
    print({key: value for key, value in result.items() if key != "of_runs"})


if __name__ == "__main__":
    main()
