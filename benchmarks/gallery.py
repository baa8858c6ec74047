"""The pictures of docs/prior.md: six prompts with the default run, each sheet beside its nearest training render.

`python benchmarks/gallery.py --corpus DIR` (a corpus of `python -m splatdistill.embedded.corpus build`) trains the
prompts one after another and writes NAME.jpg and gallery.json. Nearest: the smallest squared distance between one
of the eight views at 64 pixels and any training picture on white, in its own look and in the colour of the prompt.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from common import commit, machine
from PIL import Image
from torch import Tensor

from splatdistill.config.presets import load, usual_method
from splatdistill.config.settings import flatten
from splatdistill.embedded.corpus.dataset import Corpus
from splatdistill.embedded.prior.samples import NearestRender
from splatdistill.io.names import run_name
from splatdistill.io.video import to_uint8
from splatdistill.rendering.renderer import make_renderer
from splatdistill.rendering.turntable import render_frames
from splatdistill.scene.cameras import turntable
from splatdistill.scene.gaussians import Splats
from splatdistill.training.run import train
from splatdistill.utils.progress import Progress

PROMPTS = ["a red armchair", "a motorcycle", "a dog", "a grand piano", "a green car with yellow wheels", "a snowman"]
TILE = 112  # pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the run folders go")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gallery"))
    parser.add_argument("--prompts", nargs="+", default=PROMPTS)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    nearest = NearestRender(Corpus(args.corpus, seed=0))
    rows, default = [], load(usual_method("embedded")[0])[0]
    for prompt in args.prompts:
        config = replace(default, prompt=prompt, seed=args.seed, network_engine="torch")
        folder = args.runs / f"gallery-{run_name(config.prompt, flatten(config))}"
        with Progress(total=config.steps) as progress:
            command = f"gallery.py --prompts {prompt!r}"
            splats = train(config, folder=folder, progress=progress, command=command).splats
        summary = json.loads((folder / "summary.json").read_text())
        distance = write_sheet(args.out / f"{prompt.replace(' ', '-')}.jpg", splats, nearest, prompt)
        keep = ("prompt", "seed", "steps", "num_splats", "seconds_total", "network_share", "dtype", "threads")
        rows.append({key: summary[key] for key in keep} | {"rms_to_nearest_training_render": distance})
    result = {
        "command": "python benchmarks/gallery.py --corpus DIR",
        "commit": commit(),
        "machine": machine(),
        "runs": rows,
    }
    (args.out / "gallery.json").write_text(json.dumps(result, indent=1) + "\n")


def write_sheet(path: Path, splats: Splats, nearest: NearestRender, prompt: str) -> float:
    """Eight views in a row, a gap, the nearest training render; returns its distance (root mean square, 0..1)."""
    config, renderer = load("sds")[0].camera, make_renderer(torch.device("cpu"))

    def views(size: int) -> Tensor:
        return torch.stack(list(render_frames(renderer, splats, turntable(config, num_frames=8, size=size))))

    picture, distance, _ = nearest(views(64), prompt)
    sheet = Image.new("RGB", (9 * TILE + 8, TILE), "white")
    for i, view in enumerate(views(TILE)):
        sheet.paste(Image.fromarray(to_uint8(view)), (i * TILE, 0))
    sheet.paste(Image.new("RGB", (4, TILE), "black"), (8 * TILE + 2, 0))
    sheet.paste(Image.fromarray(to_uint8(picture)).resize((TILE, TILE), Image.Resampling.BICUBIC), (8 * TILE + 8, 0))
    sheet.save(path, quality=88)
    return distance


if __name__ == "__main__":
    main()
