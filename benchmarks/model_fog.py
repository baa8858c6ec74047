"""How much of the renders of the models themselves counts as fog, at the size and from the views of `eval`.

    python benchmarks/model_fog.py RATING --json benchmarks/results/prior/model_fog.json

No object made of these models can have less. RATING is the record of external_rating.py, whose models these are. They
are drawn at twice the side and averaged, so that a pixel of the outline is covered in part.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from common import commit, machine, progress

from splatdistill import priors
from splatdistill.config.presets import load
from splatdistill.evaluate import NUM_VIEWS, SOLID_SIZE
from splatdistill.evaluate.metrics import solidity
from splatdistill.priors.base import Choice
from splatdistill.scene.cameras import turntable

FINER = 2  # times the side


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rating", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    runs = json.loads(args.rating.read_text())["of_runs"]
    prior: Any = priors.load("embedded", device=torch.device("cpu"), dtype="fp32")
    camera = load("sds")[0].camera
    cameras = turntable(camera, num_frames=NUM_VIEWS, size=FINER * SOLID_SIZE)
    places = {known.key: number for number, known in enumerate(prior.instances.known)}
    fog: dict[str, float] = {}
    for run in runs:
        noun, model = run["noun"], run["model"]
        if model in fog or model is None:
            continue
        instance = 1 + list(prior.instances.of_noun[noun]).index(places[model])
        prior.begin(Choice(run["prompt"], instance=instance))
        candidates = prior.embed(run["prompt"], cameras).candidates
        drawn = prior.pictures(candidates, [0], cameras, size=FINER * SOLID_SIZE)[0]
        alpha = F.avg_pool2d(0.5 + 0.5 * drawn[:, 3:], FINER).movedim(1, -1)
        fog[model] = solidity(alpha, torch.ones(1))["fog"]
        progress(f"{model}: {fog[model]:.3f}")
    of_runs = [fog[run["model"]] for run in runs if run["model"] in fog]
    result = {
        "command": "python benchmarks/model_fog.py RATING --json FILE", "commit": commit(), "machine": machine(),
        "runs": len(of_runs), "mean": statistics.mean(of_runs), "median": statistics.median(of_runs), "fog": fog,
    }  # fmt: skip
    args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
