"""All methods on the embedded prior at an equal budget of image evaluations, judged by `splatdistill eval`.

`python benchmarks/compare_methods.py` makes every run of the plan below that is not done yet, then judges them and
writes compare_methods.json, a strip of pictures per method and, once the plan is done, the tables of
docs/methods/comparison.md. It can be stopped at any time: what is done stays done, and `--minutes` stops it by itself.
`--suite` takes a part of the plan.

An image evaluation is one picture through a network forwards. The learning of VSD's and ESD's second score counts one
more per view. Methods that name the side in words do not condition on the camera: so is a text-to-image model used.
Rows "with camera token" are the presets as they are: the embedded prior can take the camera of a view.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from common import ROOT, commit, machine, with_section
from compare_report import SECTION, tables
from PIL import Image

from splatdistill import priors
from splatdistill.config.presets import load
from splatdistill.config.schema import GUIDANCE, TrainConfig
from splatdistill.config.settings import merge
from splatdistill.embedded.corpus.splits import held_out_pair
from splatdistill.embedded.judge.networks import EmbeddedJudge
from splatdistill.evaluate import EvalObject, evaluate
from splatdistill.io import ply
from splatdistill.rendering.renderer import make_renderer
from splatdistill.training.run import train
from splatdistill.utils.device import pick_device
from splatdistill.utils.malloc import keep_freed_memory
from splatdistill.utils.progress import Progress

BUDGET = 3200  # image evaluations of a run
LEDGER = "ledger.json"
OUT = Path("benchmarks/results/compare")
PAGE = ROOT / "docs" / "methods" / "comparison.md"
VIEW = 96  # pixels of a picture in a strip
SCALE = 7.5  # where all have the same guidance
COMPARED = ("sds", "vsd", "esd", "csd", "consistency", "multiview")
GUIDED = ("guidance_scale", "guidance_scale_final")
WORDS = {"views": {"view_dependent_prompts": "on", "camera_embedding": False}}
PROMPTS = (
    "a hamburger", "a red lamp", "a blue lamp", "a christmas tree", "a cactus", "a traffic cone", "a red fire hydrant",
    "a birthday cake", "a green vase", "a teddy bear", "a yellow bus", "a red armchair", "a blue sofa", "a cupcake",
    "a purple umbrella", "a snowman", "a basketball", "a soccer ball", "a palm tree", "a white mug", "a blue car",
    "a green teapot", "a pink gift", "a brown table",
)  # fmt: skip
FRONTED = (  # the judge was shown to tell their fronts
    "a biplane", "a cat", "a chicken", "a dog", "a grand piano", "a guitar", "a rabbit", "a snowman", "a teddy bear",
    "a toy train",
)  # fmt: skip
FEW = ("a hamburger", "a red lamp", "a red armchair", "a blue car", "a teddy bear", "a yellow bus")


@dataclass(frozen=True)
class Row:
    """Runs that are one line of a table: a method with its settings, on these prompts with these seeds."""

    suite: str
    label: str
    method: str
    prompts: Sequence[str]
    settings: dict[str, Any] = field(default_factory=dict)
    seeds: Sequence[int] = (0,)
    budget: int = BUDGET

    def runs(self) -> Iterator[tuple[str, TrainConfig]]:
        """Name and settings of each run."""
        base = merge(load(self.method)[0], self.settings, where=self.label)
        steps = self.budget // (GUIDANCE[self.method].evaluations * base.num_views)
        for prompt in self.prompts:
            for seed in self.seeds:
                name = f"{self.suite}-{self.label}-{prompt}-{seed}".replace(" ", "-")
                quiet = {"frames": 8, "preview_every": steps, "save_every": steps}
                one = {"prompt": prompt, "seed": seed, "steps": steps, "output": quiet, "network_engine": "torch"}
                yield name, merge(base, one, where=name)


def plan(pool: Sequence[str]) -> list[Row]:
    """Every row. pool: the 40 prompts of R-Precision."""
    words = {m: {} if m == "multiview" else WORDS for m in COMPARED}
    guided = {m: {f.name for f in fields(GUIDANCE[m].Settings)} & set(GUIDED) for m in COMPARED}
    same_scale = {m: {m: dict.fromkeys(sorted(names), SCALE)} for m, names in guided.items() if names}
    rows = [Row("methods", m, m, PROMPTS, settings) for m, settings in words.items()]
    lone = [m for m in COMPARED if m != "multiview"]
    rows += [Row("methods", f"{m} with camera token", m, PROMPTS) for m in lone]
    rows += [Row("scale", m, m, PROMPTS, words[m] | scale) for m, scale in same_scale.items()]
    rows += [Row("janus", m, m, FRONTED, settings, seeds=(0, 1)) for m, settings in words.items()]
    rows.append(Row("janus", "sds with camera token", "sds", FRONTED, seeds=(0, 1)))
    rows.append(Row("precision", "default", TrainConfig().method, pool))
    unseen = [prompt for prompt in pool if held_out_pair(*prompt.split(" ", 2)[1:])]  # by the prior, in training
    rows.append(Row("precision", "unseen pairs", TrainConfig().method, unseen, seeds=(0, 1, 2, 3)))
    in_groups = {v: {"camera": {"views_per_group": v}} for v in (1, 4)}  # two at once the prior does not know
    rows += [Row("views", f"V = {v}", "multiview", FEW, settings) for v, settings in in_groups.items()]
    lit = {"start": 0.3}
    rows += [
        Row("ablation", "plain", "sds", FEW),
        Row("ablation", "shaded", "sds", FEW, {"light": lit | {"textureless": 0.0}}),
        Row("ablation", "shaded and textureless", "sds", FEW, {"light": lit}),
        Row("ablation", "view words", "sds", FEW, WORDS),
        Row(
            "ablation",
            "neither words nor token",
            "sds",
            FEW,
            {"views": {"view_dependent_prompts": "off", "camera_embedding": False}},
        ),
    ]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--suite", nargs="+", help="methods, scale, janus, precision, views, ablation; all unless given"
    )
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no run after this time")
    parser.add_argument("--runs", type=Path, default=Path("runs/compare"), help="where the run folders go")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    keep_freed_memory()
    begun = time.monotonic()
    judge = EmbeddedJudge.load()
    rows = [row for row in plan(judge.reference.pool) if not args.suite or row.suite in args.suite]
    planned = [run for row in rows for run in row.runs()]
    todo = [(name, config) for name, config in planned if not done(args.runs / name, ledger(config))]
    for number, (name, config) in enumerate(todo):
        if time.monotonic() - begun > 60 * args.minutes:
            break
        print(f"{number + 1}/{len(todo)} {name}", flush=True)
        folder = args.runs / name
        shutil.rmtree(folder, ignore_errors=True)  # half done, or made with other settings
        with Progress(total=config.steps) as progress:
            train(config, folder=folder, progress=progress, command=f"compare_methods.py: {name}")
        (folder / LEDGER).write_text(json.dumps(ledger(config)))
    record(rows, judge=judge, runs=args.runs, out=args.out)


def done(folder: Path, mark: dict[str, str]) -> bool:
    """Whether the run is there, whole, and made with these settings and this prior."""
    path = folder / LEDGER
    return path.exists() and json.loads(path.read_text()) == mark


def ledger(config: TrainConfig) -> dict[str, str]:
    """What a run depends on; written last."""
    return {"settings": repr(config), "prior": prior_hash()}


@cache
def prior_hash() -> str:
    """Of the weights that are shipped."""
    weights = hashlib.sha256()
    for path in sorted(priors.EMBEDDED.rglob("*.safetensors")):
        weights.update(path.read_bytes())
    return weights.hexdigest()[:16]


def record(rows: Sequence[Row], *, judge: EmbeddedJudge, runs: Path, out: Path) -> None:
    """Judges what is done and writes it; lines of suites that were not asked for stay, if they are of this prior."""
    out.mkdir(parents=True, exist_ok=True)
    made = []
    renderer = make_renderer(pick_device("auto"))
    for row in rows:
        planned = list(row.runs())
        finished = [(name, config) for name, config in planned if done(runs / name, ledger(config))]
        if not finished:
            continue
        result, _ = evaluate(
            [subject(runs / name, config) for name, config in finished],
            judge=judge,
            probe=judge,
            reference=judge.reference,
            renderer=renderer,
        )
        line = {
            "suite": row.suite, "label": row.label, "method": row.method, "settings": row.settings,
            "planned": len(planned), **result["overall"], "among": len(result["among"]),
            "janus_probe": result["janus_probe"], "objects": result["objects"],
        }  # fmt: skip
        made.append(line)
        if row.suite == "methods":
            write_strip(out / f"{row.label.replace(' ', '-')}.jpg", [runs / name for name, _ in finished])
    about = {
        "command": "python benchmarks/compare_methods.py", "machine": machine(), "commit": commit(),
        "prior": prior_hash(), "judge": judge.name, "budget": BUDGET,
    }  # fmt: skip
    path = out / "compare_methods.json"  # read late: another process may have judged other suites meanwhile
    before = json.loads(path.read_text()) if path.exists() else {}
    kept = before["rows"] if before.get("prior") == about["prior"] else []
    found = {(line["suite"], line["label"]): line for line in [*kept, *made]}
    everything = [(row.suite, row.label) for row in plan(judge.reference.pool)]
    lines = {key: found[key] for key in everything if key in found}
    path.write_text(json.dumps({**about, "rows": list(lines.values())}, indent=1) + "\n")
    whole = len(lines) == len(everything) and all(len(line["objects"]) == line["planned"] for line in lines.values())
    if whole and out == OUT:
        PAGE.write_text(with_section(PAGE.read_text(), tables(lines, real=judge.reference.real), **SECTION))


def subject(folder: Path, config: TrainConfig) -> EvalObject:
    summary = json.loads((folder / "summary.json").read_text())
    return EvalObject(folder.name, config.prompt, ply.read(folder / "splats.ply"), config.camera, summary)


def write_strip(path: Path, folders: Sequence[Path]) -> None:
    """One view of each object, 12 in a row."""
    strip = Image.new("RGB", (12 * VIEW, -(-len(folders) // 12) * VIEW), "white")
    for i, folder in enumerate(folders):
        sheet = Image.open(folder / "contact.png")
        side = sheet.width // 4
        view = sheet.crop((side, 0, 2 * side, side)).resize((VIEW, VIEW), Image.Resampling.LANCZOS)  # at 45 degrees
        strip.paste(view, (i % 12 * VIEW, i // 12 * VIEW))
    strip.save(path, quality=88)


if __name__ == "__main__":
    main()
