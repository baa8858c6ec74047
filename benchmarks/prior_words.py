"""Whether each part of an object has the colour that the prompt names: runs of a prior of known models, and the colour
of their splats where the mesh of the model that they became has that part.

`python benchmarks/prior_words.py --corpus FOLDER --json FILE --sheet FILE.png`

The corpus is one of 128 pixels: its G-buffers say which pixels are which part of the real mesh, and how light they are.
A picture of splats from the same cameras is divided by that light: in the shade white paint is gray. It is the splats'
own colour, less the ground behind thin ones; `covered` says how much of a part hides the ground. Prompts that FILE
holds of the same commit are not run again.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import commit, machine
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from splatdistill import priors
from splatdistill.config import presets
from splatdistill.config.schema import TrainConfig
from splatdistill.embedded.corpus.captions import dominant_colour
from splatdistill.embedded.corpus.dataset import read_source
from splatdistill.embedded.corpus.layout import Record, read_index
from splatdistill.priors.gbuffer import ALPHA, PAINTS, SHADING
from splatdistill.priors.known import KnownPrior
from splatdistill.priors.vocabulary import Advice
from splatdistill.scene.cameras import turntable
from splatdistill.scene.types import Cameras
from splatdistill.training.run_log import NoLog
from splatdistill.training.trainer import Trainer

COMMAND = "python benchmarks/prior_words.py --corpus FOLDER --json FILE --sheet FILE.png"
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
DARKEST, FAINT = 0.3, 0.1  # light and alpha of a pixel, where nothing is divided by less
SURE = 0.8  # of a mask, from where a pixel counts as the part
FEWEST = 100  # pixels of a part, over all views: the thinnest legs have a thousand


def nearest(pictures: Sequence[Tensor], rgb: Tensor) -> int:
    """Place of the pictures [V,4,H,W] of a model that views [V,H,W,3] in front of white are most like."""
    shown = rgb.permute(0, 3, 1, 2) * 2 - 1
    return int(np.argmin([float((one[:, :3] - shown).square().mean()) for one in pictures]))


def train(prior: KnownPrior, config: TrainConfig) -> Trainer:
    """A finished run."""
    trainer = Trainer(config, prior=prior, device=torch.device("cpu"))
    for _ in range(config.steps):
        trainer.advance(NoLog())
    return trainer


@torch.no_grad()
def show(trainer: Trainer, cameras: Cameras, *, ground: float = 1.0) -> tuple[Tensor, Tensor]:
    """[V,H,W,3] of the splats of a run in front of a gray, 1 for white, and their alpha [V,H,W,1]."""
    output = trainer.renderer.render(trainer.splats, cameras, background=torch.full((len(cameras), 3), ground))
    return output.rgb, output.alpha


def parts_of(record: Record, buffers: NDArray[np.uint8], trainer: Trainer) -> list[dict[str, Any]]:
    """For each paint of a model: how many pixels its mesh covers there, which share of them the splats cover, and the
    colour of these.
    """
    views = len(record.azimuth)
    real = buffers[record.first : record.first + views] / np.float32(255)
    shown = show(trainer, record.cameras(range(views), size=real.shape[1]), ground=0.0)
    rgb, alpha = (x.numpy() for x in shown)
    paint = rgb / alpha.clip(min=FAINT) / real[..., SHADING, None].clip(min=DARKEST)
    parts = []
    for slot in PAINTS:
        mask = (real[..., slot] > SURE) & (real[..., ALPHA] > SURE)
        there = mask & (alpha[..., 0] > FAINT)
        parts.append({
            "pixels": int(mask.sum()), "covered": round(float(alpha[mask].mean()), 3) if mask.any() else 0.0,
            "found": dominant_colour(paint[there].clip(0, 1)),
        })  # fmt: skip
    return parts


def measure(prior: KnownPrior, config: TrainConfig, corpus: Path) -> tuple[dict[str, Any], Tensor]:
    """Figures of one prompt, and its pictures [V,H,W,3]."""
    cameras = turntable(config.camera, num_frames=8, size=64)
    trainer = train(prior, config)
    rgb, _ = show(trainer, cameras)
    candidates = prior.embed(config.prompt, cameras).candidates
    assert candidates is not None
    pictures = list(prior.pictures(candidates, range(len(candidates.numbers)), cameras, size=64))
    number = candidates.numbers[nearest(pictures, rgb)]
    key = prior.instances.known[number].key
    index, buffers = read_source(corpus)
    record = next(record for record in read_index(index) if record.key == key)
    wanted = prior.colours_of(config.prompt, number)
    found = parts_of(record, buffers, trainer)
    parts = [{"asked": asked, **part} for asked, part in zip(wanted, found, strict=True) if asked]
    right = len(parts) > 1 and all(p["pixels"] >= FEWEST and p["asked"] == p["found"] for p in parts)
    return {"prompt": config.prompt, "became": key, "parts": parts, "right": right}, rgb


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prior", default="embedded")
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--sheet", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=400)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", Advice)
    prior = priors.load(args.prior, device=torch.device("cpu"), dtype="auto")
    assert isinstance(prior, KnownPrior)
    base, _ = presets.load("sds")
    rows = done(args.json, args.sheet, "prompts")
    for prompt in PROMPTS[len(rows) :]:
        try:
            found, rgb = measure(prior, replace(base, prompt=prompt, prior=args.prior, steps=args.steps), args.corpus)
        except ValueError as error:  # a word that this prior does not know
            found, rgb = {"prompt": prompt, "refused": str(error), "right": False}, torch.ones(8, 64, 64, 3)
        print(json.dumps(found), flush=True)
        rows.append(found)
        add_row(args.sheet, rgb)
        result = {
            "command": f"{COMMAND} --steps {args.steps}", "commit": commit(), "machine": machine(),
            "right": sum(row["right"] for row in rows), "of": len(rows), "prompts": rows,
        }  # fmt: skip
        args.json.write_text(json.dumps(result, indent=1) + "\n")


def done(path: Path, sheet: Path, name: str) -> list[dict[str, Any]]:
    """The rows of a record of this commit; the sheet of any other one is removed."""
    record = json.loads(path.read_text()) if path.exists() else {}
    if record.get("commit") == commit():
        return record[name]
    sheet.unlink(missing_ok=True)
    return []


def add_row(sheet: Path, pictures: Tensor) -> None:
    """A row of pictures [N,H,W,3] below those that a sheet has."""
    row = (torch.cat(list(pictures), 1).clamp(0, 1) * 255).round().byte().numpy()
    above = [np.asarray(Image.open(sheet))] if sheet.exists() else []
    Image.fromarray(np.concatenate([*above, row])).save(sheet)


if __name__ == "__main__":
    main()
