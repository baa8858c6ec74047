"""How many steps the default needs: quality by the external judge against cost, as a Pareto front.

`taskset -c 0 python benchmarks/steps_front.py` makes every run below that is not done yet, in the order that says most
first, then judges all that are done and writes steps_front.json, the front as a picture and a contact sheet. It can be
stopped at any time: what is done stays done as long as the settings and the shipped prior stay the same. `--minutes`
stops it by itself, `--settings` takes some of the settings, `--judge-only` trains nothing.

A setting passes where the mean over prompts and seeds of log(mass / mass of 600 steps with the same prompt and seed)
has a lower 95 % bound of at least log 0.85. Masses under chance (1 / 1000) count as chance; pairs of two such masses
say nothing and are counted as at_chance. The bootstrap draws prompts and, within each, seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from common import commit, machine
from PIL import Image
from runs import ledger, subject

from splatdistill.config.presets import load
from splatdistill.config.schema import GUIDANCE, TrainConfig
from splatdistill.config.settings import merge
from splatdistill.evaluate import draw, external
from splatdistill.guidance.base import Term, evaluate
from splatdistill.guidance.methods.sds import SDS
from splatdistill.priors.base import Prior
from splatdistill.rendering.renderer import make_renderer
from splatdistill.scene.types import NoisyBatch
from splatdistill.training.run import train
from splatdistill.utils.malloc import keep_freed_memory
from splatdistill.utils.progress import Progress

OUT = Path("benchmarks/results/steps_front")
BASE = "600"
BAR = math.log(0.85)
CHANCE = 1e-3  # of one class among 1000
LEDGER = "ledger.json"
VIEW = 96  # pixels of a picture in the contact sheet
PROMPTS = (
    "an armchair", "a car", "a chair", "a chicken", "a dog", "a grand piano",
    "a hamburger", "a horse", "a lamp", "a motorcycle", "a mug", "a rabbit",
)  # fmt: skip
SEEDS = (0, 1, 2)
RATES = {"means": 8e-3, "scales": 1e-2, "quats": 1e-2, "opacities": 5e-2, "sh0": 1.5e-2}
INTERVAL = 50  # steps from one densification to the next, where a setting has none of its own


@dataclass(frozen=True)
class Setting:
    """rates: what the learning rates are multiplied by. guided_above: fraction of the schedule below which the
    conditional score alone is used. more: further settings of the run.
    """

    name: str
    steps: int
    rates: float = 1.0
    guided_above: float = 0.0
    more: Mapping[str, Any] = field(default_factory=dict)

    def config(self, prompt: str, seed: int) -> TrainConfig:
        base = load(TrainConfig().method)[0]
        rates = {name: self.rates * rate for name, rate in RATES.items()}
        quiet = {"frames": 8, "preview_every": self.steps, "save_every": self.steps}
        mine = {"prompt": prompt, "seed": seed, "steps": self.steps, "optim": rates, "output": quiet}
        mine["densify"] = {"interval": INTERVAL}
        fixed = {"threads": 1, "dtype": "fp32", "network_engine": "torch", "device": "cpu"}
        return merge(merge(base, {**mine, **fixed}, where=self.name), self.more, where=self.name)


DEFAULT = Setting("400 x2.4, densify every 34", 400, 2.4, more={"densify": {"interval": 34}})
FIRST = (Setting(BASE, 600), DEFAULT, Setting("300 x1.5", 300, 1.5), Setting("400", 400))
LATER = (
    Setting("200 x1.5", 200, 1.5),
    Setting("200 x1.5, densify every 17", 200, 1.5, more={"densify": {"interval": 17}}),
    Setting("250 x1.5, densify every 21", 250, 1.5, more={"densify": {"interval": 21}}),
    Setting("300", 300), Setting("200", 200), Setting("200 x2", 200, 2.0),
    Setting("150 x2, 8 views", 150, 2.0, more={"num_views": 8}),
    Setting("300 x1.5, guided above 0.4", 300, 1.5, guided_above=0.4),
    Setting("300 x1.5, 32 px first", 300, 1.5, more={"size": 32, "stages": [{"start": 0.5, "size": 64}]}),
)  # fmt: skip


class GuidedAbove(SDS):
    """SDS that asks for the conditional score alone where all timesteps are below a fraction of the schedule."""

    above = 0.0

    def _guided(self, batch: NoisyBatch, prior: Prior) -> list[Term]:
        if bool((batch.t < self.above * len(prior.alphas_cumprod)).all()):
            cameras = batch.cameras
            return evaluate(
                batch, prior, [(1.0, self.encode_prompt(prior, self.view_dependent_prompts(cameras), cameras))]
            )
        return super()._guided(batch, prior)


def plan() -> list[tuple[Setting, str, int]]:
    """Every run: seed by seed the settings that decide most, then the others; settings of a group side by side."""
    groups = [(group, seed) for seed in SEEDS for group in (FIRST[:2], FIRST[2:])]
    groups += [((setting,), seed) for seed in SEEDS for setting in LATER]
    return [(setting, prompt, seed) for group, seed in groups for prompt in PROMPTS for setting in group]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", nargs="+", help="names of settings; all unless given")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no run after this time")
    parser.add_argument("--judge-only", action="store_true", help="train nothing; judge what is done")
    parser.add_argument("--runs", type=Path, default=Path("runs/steps_front"), help="where the run folders go")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    begun = time.monotonic()
    runs = [run for run in plan() if not args.settings or run[0].name in args.settings]
    for number, (setting, prompt, seed) in enumerate(runs, 1):
        if args.judge_only or time.monotonic() - begun > 60 * args.minutes:
            break
        if finished(args.runs, setting, prompt, seed) is None:
            print(f"{number}/{len(runs)} {setting.name}: {prompt}, seed {seed}", flush=True)
            make(args.runs, setting, prompt, seed)
    write(args.runs, args.out, judge=external.ImageNet())


def folder_of(runs: Path, setting: Setting, prompt: str, seed: int) -> Path:
    return runs / f"{setting.name}-{prompt}-{seed}".replace(" ", "-").replace(",", "")


def mark(setting: Setting, prompt: str, seed: int) -> dict[str, str]:
    """What a run depends on."""
    return {**ledger(setting.config(prompt, seed)), "guided_above": str(setting.guided_above)}


def make(runs: Path, setting: Setting, prompt: str, seed: int) -> None:
    """One run; its ledger, written last, holds the CPU seconds too, which a busy machine changes least."""
    folder, config = folder_of(runs, setting, prompt, seed), setting.config(prompt, seed)
    shutil.rmtree(folder, ignore_errors=True)  # half done, or made with another prior
    begun = time.process_time()
    GuidedAbove.above = setting.guided_above
    GUIDANCE["sds"] = cast(Any, GuidedAbove if setting.guided_above else SDS)
    with Progress(total=config.steps) as progress:
        train(config, folder=folder, progress=progress, command=f"steps_front.py: {setting.name}")
    seconds = time.process_time() - begun
    (folder / LEDGER).write_text(json.dumps({**mark(setting, prompt, seed), "cpu_seconds": seconds}))


def finished(runs: Path, setting: Setting, prompt: str, seed: int) -> dict[str, Any] | None:
    """The ledger of a run that is whole and was made with these settings and this prior."""
    path = folder_of(runs, setting, prompt, seed) / LEDGER
    if not path.exists():
        return None
    found = json.loads(path.read_text())
    wanted = mark(setting, prompt, seed)
    return found if all(found.get(key) == value for key, value in wanted.items()) else None


def write(runs: Path, out: Path, *, judge: external.ImageNet) -> None:
    """Judges what is done; writes the figures, the front and the sheet."""
    out.mkdir(parents=True, exist_ok=True)
    made = [(*run, found) for run in plan() if (found := finished(runs, *run)) is not None]
    objects = [score(runs, *run, judge=judge) for run in made]
    lines = lines_of(objects)
    record = {
        "command": "taskset -c 0 python benchmarks/steps_front.py", "machine": machine(), "commit": commit(),
        "prior": made[0][3]["prior"] if made else None, "judge": judge.name, "bar": "lower bound >= log 0.85",
        "settings": lines, "objects": objects,
    }  # fmt: skip
    (out / "steps_front.json").write_text(json.dumps(record, indent=1) + "\n")
    for line in lines:
        print(f"{line['name']:28} {line['image_evaluations']:6.0f} pictures {line['cpu_seconds']:6.1f} CPU s  "
              f"{line['pairs']:2d} pairs ({line['at_chance']} at chance)  exp(mean) {math.exp(line['mean']):.2f} "
              f"[{math.exp(line['interval'][0]):.2f}, {math.exp(line['interval'][1]):.2f}]  over real "
              f"{line['over_real']:.2f}")  # fmt: skip
    if lines:
        draw_front(lines, out / "steps_front.png")
        draw_sheet(runs, out / "sheet.jpg")


@cache
def _renderer():
    return make_renderer(torch.device("cpu"), "cpu")


def score(
    runs: Path, setting: Setting, prompt: str, seed: int, found: Mapping[str, Any], *, judge: external.ImageNet
) -> dict[str, Any]:
    thing = subject(folder_of(runs, setting, prompt, seed), setting.config(prompt, seed))
    views = draw(thing, size=judge.image_size, renderer=_renderer())
    answer = judge.score(prompt, views.rgb, views.alpha)
    return {
        "setting": setting.name, "prompt": prompt, "seed": seed, "mass": answer["mass"], "real": answer["real"],
        "read_as": answer["read_as"], "image_evaluations": thing.summary["image_evaluations"],
        "cpu_seconds": round(found["cpu_seconds"], 1),
    }  # fmt: skip


def lines_of(objects: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One line a setting, over the runs that have their twin of BASE."""
    base = {(row["prompt"], row["seed"]): row for row in objects if row["setting"] == BASE}
    lines = []
    for setting in (*FIRST, *LATER):
        rows = [row for row in objects if row["setting"] == setting.name and (row["prompt"], row["seed"]) in base]
        if not rows:
            continue
        pairs: dict[str, list[float]] = {}
        for row in rows:
            twin = base[row["prompt"], row["seed"]]
            pairs.setdefault(row["prompt"], []).append(_log(row["mass"]) - _log(twin["mass"]))
        low, high = interval(list(pairs.values()))
        dim = [row for row in rows if max(row["mass"], base[row["prompt"], row["seed"]]["mass"]) <= CHANCE]
        over_real = sorted(row["mass"] / row["real"] for row in rows)
        lines.append({
            "name": setting.name, "steps": setting.steps, "rates": setting.rates, "pairs": len(rows),
            "at_chance": len(dim), "prompts": len(pairs), "seeds": sorted({row["seed"] for row in rows}),
            "image_evaluations": _mean([row["image_evaluations"] for row in rows]),
            "cpu_seconds": sorted(row["cpu_seconds"] for row in rows)[len(rows) // 2],
            "mean": _mean([_mean(values) for values in pairs.values()]), "interval": [low, high],
            "passes": low >= BAR, "over_real": over_real[len(over_real) // 2],
        })  # fmt: skip
    return lines


def interval(groups: Sequence[Sequence[float]], *, draws: int = 10_000) -> tuple[float, float]:
    """95 % percentile bootstrap of the mean of the groups' means; groups and their members are drawn again."""
    pick = random.Random(0)  # noqa: S311 (nothing secret here)
    means = sorted(
        _mean([_mean(pick.choices(group, k=len(group))) for group in pick.choices(groups, k=len(groups))])
        for _ in range(draws)
    )
    return means[round(0.025 * draws)], means[round(0.975 * draws) - 1]


def _log(mass: float) -> float:
    return math.log(max(mass, CHANCE))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def draw_front(lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(12, 4.6), sharey=True)
    titles = {"image_evaluations": "images denoised", "cpu_seconds": "CPU seconds, one core (median)"}
    for axis, (key, title) in zip(axes, titles.items(), strict=True):
        for line in lines:
            value, low, high = (math.exp(x) for x in (line["mean"], *line["interval"]))
            colour = "tab:green" if line["passes"] else "tab:gray"
            axis.errorbar(line[key], value, yerr=[[value - low], [high - value]], fmt="o", color=colour, capsize=3)
            axis.annotate(line["name"], (line[key], value), xytext=(5, 4), textcoords="offset points", fontsize=8)
        ordered = sorted(lines, key=lambda line: line[key])
        front = [a for i, a in enumerate(ordered) if all(a["mean"] > b["mean"] for b in ordered[:i])]
        axis.plot([a[key] for a in front], [math.exp(a["mean"]) for a in front], color="tab:blue", lw=1, zorder=0)
        axis.axhline(0.85, color="tab:red", lw=0.8, ls="--")
        axis.set_xlabel(title)
        axis.margins(x=0.15)
    axes[0].set_ylabel(f"external mass over that of {BASE} steps\n(geometric mean, 95 % bootstrap)")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def draw_sheet(runs: Path, path: Path) -> None:
    """Seed 0 of every prompt, a row a setting, at 45 degrees."""
    settings = [s for s in (*FIRST, *LATER) if any(finished(runs, s, prompt, 0) for prompt in PROMPTS)]
    sheet = Image.new("RGB", (len(PROMPTS) * VIEW, len(settings) * VIEW), "white")
    for row, setting in enumerate(settings):
        for column, prompt in enumerate(PROMPTS):
            if finished(runs, setting, prompt, 0) is not None:
                contact = Image.open(folder_of(runs, setting, prompt, 0) / "contact.png")
                side = contact.width // 4
                view = contact.crop((side, 0, 2 * side, side)).resize((VIEW, VIEW), Image.Resampling.LANCZOS)
                sheet.paste(view, (column * VIEW, row * VIEW))
    sheet.save(path, quality=88)


if __name__ == "__main__":
    main()
