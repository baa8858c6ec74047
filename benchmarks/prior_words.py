"""Whether each part of an object has the colour that the prompt names: runs of a prior of known models, their splats
seen from eight sides, and the hue where the volume of the model that they became has that part.

`python benchmarks/prior_words.py --prior FOLDER --json FILE --sheet FILE.png`
"""

from __future__ import annotations

import argparse
import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import commit, machine
from PIL import Image
from torch import Tensor

from splatdistill import priors
from splatdistill.config import presets
from splatdistill.config.schema import TrainConfig
from splatdistill.embedded.corpus.captions import dominant_colour
from splatdistill.priors.gbuffer import ALPHA, PAINTS
from splatdistill.priors.known import Candidates, KnownPrior
from splatdistill.priors.vocabulary import Advice
from splatdistill.priors.zbuffer import draw
from splatdistill.scene.cameras import turntable
from splatdistill.training.run_log import NoLog
from splatdistill.training.trainer import Trainer

COMMAND = "python benchmarks/prior_words.py --prior FOLDER --json FILE --sheet FILE.png"
PROMPTS = (
    "a red chair with blue legs",
    "a green car with yellow wheels",
    "a red house with a blue roof",
    "a brown tree with purple leaves",
    "a yellow lamp with a red shade",
    "a white castle with red roofs",
    "a pink bed with blue legs",
    "an orange robot with blue arms",
    "a red mushroom with a yellow stem",
    "a blue sailboat with orange sails",
)
SURE = 0.8  # of a mask, from where a pixel counts as the part
FEWEST = 20  # pixels of a part, over all views


def nearest(prior: KnownPrior, candidates: Candidates, rgb: Tensor, cameras: Any) -> int:
    """Place of the candidate that pictures [V,H,W,3] in front of white are most like."""
    shown = rgb.permute(0, 3, 1, 2) * 2 - 1
    errors = [
        float((prior.pictures(candidates, place, cameras, size=rgb.shape[1])[:, :3] - shown).square().mean())
        for place in range(len(candidates.numbers))
    ]
    return int(np.argmin(errors))


def measure(prior: KnownPrior, config: TrainConfig) -> tuple[dict[str, Any], Tensor]:
    """Figures of one prompt, and its pictures [V,H,W,3]."""
    trainer = Trainer(config, prior=prior, device=torch.device("cpu"))
    for _ in range(config.steps):
        trainer.advance(NoLog())
    cameras = turntable(config.camera, num_frames=8, size=64)
    with torch.no_grad():
        rgb = trainer.renderer.render(trainer.splats, cameras, background=torch.ones(8, 3)).rgb
    candidates = prior.embed(config.prompt, cameras).candidates
    assert candidates is not None
    place = nearest(prior, candidates, rgb, cameras)
    number = candidates.numbers[place]
    seen = draw(prior.instances.mesh(number), cameras, size=64)
    wanted = prior.colours_of(config.prompt, number)
    parts = {}
    for slot, colour in enumerate(wanted):
        mask = (seen[..., PAINTS[slot]] > SURE) & (seen[..., ALPHA] > SURE)
        if colour and int(mask.sum()) >= FEWEST:
            parts[colour] = dominant_colour(rgb[mask].numpy())
    right = len(parts) > 1 and all(asked == found for asked, found in parts.items())
    return {"prompt": config.prompt, "became": prior.instances.known[number].key, "parts": parts, "right": right}, rgb


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prior", required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--sheet", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=150)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", Advice)
    prior = priors.load(args.prior, device=torch.device("cpu"), dtype="fp32")
    assert isinstance(prior, KnownPrior)
    base, _ = presets.load("sds")
    rows, pictures = [], []
    for prompt in PROMPTS:
        try:
            found, rgb = measure(prior, replace(base, prompt=prompt, prior=args.prior, steps=args.steps))
        except ValueError as error:  # a word that this prior does not know
            found, rgb = {"prompt": prompt, "refused": str(error), "right": False}, torch.ones(8, 64, 64, 3)
        print(json.dumps(found), flush=True)
        rows.append(found)
        pictures.append(torch.cat(list(rgb), 1))
    sheet = (torch.cat(pictures).clamp(0, 1) * 255).round().byte().numpy()
    Image.fromarray(sheet).save(args.sheet)
    result = {
        "command": f"{COMMAND} --steps {args.steps}", "commit": commit(), "machine": machine(),
        "right": sum(row["right"] for row in rows), "of": len(rows), "prompts": rows,
    }  # fmt: skip
    args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
