"""Conditioning ablation of the embedded prior: its error on training rings with right and wrong captions and cameras.

`python benchmarks/prior_error.py --corpus DIR` (a corpus of `python -m splatdistill.embedded.corpus build`) prints and
writes the mean squared error of x0 per timestep: with the right caption and cameras, with another ring's caption, with
the cameras turned by a quarter, and with the caption left out. A condition that changes nothing was not learned.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from common import commit, machine
from torch import Tensor

from splatdistill.embedded.corpus.dataset import CaptionedBatch, Corpus
from splatdistill.priors import EMBEDDED
from splatdistill.priors.base import Condition
from splatdistill.priors.embedded import MultiViewPrior, encode_text
from splatdistill.utils import rng

TIMES = (300, 600, 800, 950, 980, 990, 999)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--prior", type=Path, default=EMBEDDED)
    parser.add_argument("--rings", type=int, default=96)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/prior_error.json"))
    args = parser.parse_args()
    prior = MultiViewPrior.load(args.prior)
    batch = Corpus(args.corpus, seed=args.seed).batch(
        0, mode="ring", size=prior.image_size, num_images=4 * args.rings, drop_caption=0.0
    )
    cells = [measure(prior, batch, t, seed=args.seed) for t in TIMES]
    for cell in cells:
        print(cell)
    command = f"python benchmarks/prior_error.py --corpus DIR --rings {args.rings} --seed {args.seed}"
    result = {"command": command, "commit": commit(), "machine": machine(), "mean_squared_error_of_x0": cells}
    args.json.write_text(json.dumps(result, indent=1) + "\n")


def measure(prior: MultiViewPrior, batch: CaptionedBatch, t: int, *, seed: int) -> dict[str, float]:
    """One row of the table at timestep t."""
    x0 = prior.encode(batch.rgb)
    signal = prior.alphas_cumprod[t]
    eps = torch.randn(x0.shape, generator=rng.generator(seed, t, "noise"))
    xt = signal.sqrt() * x0 + (1 - signal).sqrt() * eps
    turned = batch.camera.unflatten(0, (-1, 4)).roll(1, dims=1).flatten(0, 1)
    others = [*batch.captions[4:], *batch.captions[:4]]
    told: dict[str, tuple[list[str], Tensor]] = {
        "right": (batch.captions, batch.camera),
        "other_caption": (others, batch.camera),
        "turned_cameras": (batch.captions, turned),
        "no_caption": ([""] * len(x0), batch.camera),
    }
    row: dict[str, float] = {"t": t}
    for name, (captions, camera) in told.items():
        total = 0.0
        for part in torch.arange(len(x0)).split(16):  # four rings a call
            words = [captions[i] for i in part]
            text = encode_text(words, text_encoder=prior.text_encoder, tokenizer=prior.tokenizer)
            condition = Condition(text.tokens, camera[part], pooled=text.pooled)
            (guess,) = prior.predict(xt[part], torch.full((len(part),), t), [condition])
            clean = (xt[part] - (1 - signal).sqrt() * guess) / signal.sqrt()
            total += float((clean - x0[part]).square().mean()) * len(part) / len(x0)
        row[name] = round(total, 5)
    return row


if __name__ == "__main__":
    main()
