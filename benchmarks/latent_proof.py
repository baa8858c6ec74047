"""Objects by a latent diffusion model on a CPU: the whole path of Stable Diffusion's settings, without a download.

    python benchmarks/latent_proof.py --pipeline build/latent/pipeline --runs build/latent/runs

Trains each of PROMPTS by SDS at guidance 100 and by VSD at 7.5 with the model of `latent_teacher.py`, through the
command line, and one object by two teachers, the shipped one and then this one, with the hand-over of Magic3D. Two
judges name the objects among all nouns that they know: ours, and an ImageNet classifier. Runs that are done are
kept. Writes benchmarks/results/latent_proof.json and latent_proof.jpg after each.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from common import ROOT, command, commit, machine
from evidence import write_json
from PIL import Image
from runs import subject
from torch import Tensor

from splatdistill.embedded.judge.images import prompt_of
from splatdistill.embedded.judge.networks import EmbeddedJudge
from splatdistill.evaluate import EvalObject, draw, external
from splatdistill.io.runs import METRICS, Run
from splatdistill.io.video import to_uint8
from splatdistill.rendering.renderer import make_renderer

PROMPTS = ("a red armchair", "a green lamp", "a chicken", "a horse", "a table", "a soccer ball")
METHODS = ("sds", "vsd")
SETTINGS = ROOT / "benchmarks" / "latent_proof.yaml"
OUT = ROOT / "benchmarks" / "results"
BAR = 5
ADAPTED = 0.8
"""Largest share of the frozen network's loss that the adapters of VSD may have."""
TILE = 80  # pixels


class Judges:
    """Names an object among all nouns that each of the two judges knows."""

    def __init__(self) -> None:
        self.own, self.external = EmbeddedJudge.load(), external.ImageNet()
        self.classes = external.Classes.read()
        self.nouns = sorted(self.own.config["nouns"])
        self.renderer = make_renderer(torch.device("cpu"))

    @torch.no_grad()
    def name(self, made: EvalObject) -> dict[str, Any]:
        """What both read in eight views, and whether that is the noun of the prompt. Our judge reads among its nouns in
        the colours of PROMPTS; the classifier takes the noun whose likeliest class is likeliest, and nouns with the
        same class tie.
        """
        small = draw(made, size=self.own.image_size, renderer=self.renderer)
        among = [prompt_of(noun, colour) for noun in self.nouns for colour in (None, "red", "green", "blue")]
        scores = self.own.embed_images(small.rgb).mean(0) @ self.own.embed_texts(among).T
        read = among[int(scores.argmax())]
        large = draw(made, size=self.external.image_size, renderer=self.renderer)
        found = self.external.probabilities(large.rgb, large.alpha)
        known = {noun for noun, classes in self.classes.classes.items() if classes}
        masses = {noun: self.external.mass(found, noun) for noun in sorted(known)}
        noun = self.own.noun(made.prompt)
        assert noun in masses
        best = max(masses, key=lambda name: masses[name])
        return {
            "own": read, "own_right": self.own.noun(read) == noun,
            "external": noun if masses[noun] == masses[best] else best, "external_mass": masses[noun],
            "external_right": masses[noun] == masses[best],
        }  # fmt: skip


def two_teachers(pipeline: Path, runs: Path) -> Path:
    """Settings of a run that the shipped prior begins and the latent one ends, closer and at twice the size."""
    stage = {"start": 0.5, "prior": str(pipeline.resolve()), "size": 128, "camera": {"zoom": 1.2}}
    path = runs / "two_teachers.yaml"
    path.write_text(yaml.safe_dump({"method": "sds", "steps": 180, "stages": [stage]}))
    return path


def train(prompt: str, *, name: str, runs: Path, method: str, prior: str, config: Path, threads: int) -> Path:
    """The folder of a run, made by the command line unless it is done."""
    folder = runs / name
    if not (folder / "splats.ply").exists():
        words = ["train", "--method", method, "--prior", prior, "--prompt", prompt, "--config", str(config)]
        words += ["--threads", str(threads), "--out", str(runs), "--name", name]
        subprocess.run([Path(sys.executable).with_name("splatdistill"), *words], check=True)  # noqa: S603
    return folder


def adapters(folder: Path) -> float:
    """The loss of VSD's adapters as a share of the frozen network's, over the second half of a run."""
    records = [json.loads(line) for line in Run(folder).text(METRICS).splitlines()]
    losses = [(row["lora_loss"], row["frozen_loss"]) for row in records if "lora_loss" in row]
    half = losses[len(losses) // 2 :]
    return sum(learned for learned, _ in half) / sum(frozen for _, frozen in half)


def strip(made: EvalObject, renderer: Any) -> Tensor:
    """[TILE,8 TILE,3] of the eight views."""
    return torch.cat(list(draw(made, size=TILE, renderer=renderer).rgb), 1)


def jobs(pipeline: Path, runs: Path) -> Iterator[tuple[str, str, str, Path]]:
    """Method, prompt, prior and settings of each run; the last one has two teachers."""
    for method in METHODS:
        for prompt in PROMPTS:
            yield method, prompt, str(pipeline), SETTINGS
    yield "sds", PROMPTS[0], "embedded", two_teachers(pipeline, runs)


def summed(rows: Sequence[dict[str, Any]], pipeline: Path) -> dict[str, Any]:
    """The record of all runs."""
    of_one = [row for row in rows if row["settings"] == SETTINGS.name]
    right = {
        f"{method}, {judge}": sum(row[f"{judge}_right"] for row in of_one if row["method"] == method)
        for method in METHODS
        for judge in ("own", "external")
    }
    worst = max((row["adapters"] for row in rows if "adapters" in row), default=1.0)
    training = json.loads((pipeline.parent / "training.json").read_text())
    return {
        "command": command(), "commit": commit(), "machine": machine(), "right": right, "of": len(PROMPTS), "bar": BAR,
        "adapters_worst": worst, "adapters_bar": ADAPTED, "met": min(right.values()) >= BAR and worst < ADAPTED,
        "training": training, "runs": list(rows),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    judges, rows, strips = Judges(), [], []
    args.runs.mkdir(parents=True, exist_ok=True)
    for method, prompt, prior, config in jobs(args.pipeline, args.runs):
        name = f"{config.stem}-{method}-{prompt.replace(' ', '-')}"
        folder = train(
            prompt, name=name, runs=args.runs, method=method, prior=prior, config=config, threads=args.threads
        )
        made = subject(folder, Run(folder).settings())
        row = {"method": method, "prompt": prompt, "settings": config.name, **judges.name(made)}
        row |= {"adapters": adapters(folder)} if method == "vsd" else {}
        row |= {key: made.summary.get(key) for key in ("seconds_total", "num_splats")}
        print(json.dumps(row), flush=True)
        rows.append(row)
        strips.append(strip(made, judges.renderer))
        keep(rows, strips, args.pipeline)


def keep(rows: Sequence[dict[str, Any]], strips: Sequence[Tensor], pipeline: Path) -> None:
    """Writes the record and the sheet of the runs so far."""
    Image.fromarray(to_uint8(torch.cat(list(strips)).clamp(0, 1))).save(OUT / "latent_proof.jpg", quality=85)
    record = summed(rows, pipeline)
    write_json(record, OUT / "latent_proof.json")
    print({key: value for key, value in record.items() if key not in ("runs", "training")}, flush=True)


if __name__ == "__main__":
    main()
