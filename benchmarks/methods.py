"""Six guidance methods with its default settings on the embedded prior: do they finish, how fast, what do they make?

`python benchmarks/methods.py` trains each prompt with each method, one after another, and writes PROMPT.jpg (a row of
eight views for each method), methods.json and the table of docs/methods/index.md. `--methods` redoes some of them and
keeps the other rows.
Fields of a row beside those of summary.json, from the run's log:
  lora_over_frozen  loss of the variational score on fresh renders over that of the network without it, mean of the
                    logged steps in the middle third of the run
  camera_ratio      how much its camera changes what the variational score says, relative, mean of the last half
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from common import ROOT, machine, with_section
from PIL import Image, ImageDraw

from splatdistill.config.presets import load
from splatdistill.config.schema import GUIDANCE
from splatdistill.training.run import train
from splatdistill.utils.progress import Progress

METHODS = ("sds", "vsd", "esd", "csd", "consistency", "multiview")
"""Those of the record; the others have no pictures yet."""
SECTION = {"name": "methods", "script": "methods.py"}
PROMPTS = ["a red armchair", "a teddy bear"]
VIEW, LABEL = 112, 96  # pixels
OUT = Path("benchmarks/results/methods")
PAGE = ROOT / "docs" / "methods" / "index.md"
KEPT = ("prompt", "method", "seed", "steps", "num_splats", "image_evaluations", "seconds_total", "network_share",
        "dtype", "threads", "commit")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--prompts", nargs="+", default=PROMPTS)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the run folders go")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    record = args.out / "methods.json"
    rows = (
        {} if not record.exists() else {(r["prompt"], r["method"]): r for r in json.loads(record.read_text())["runs"]}
    )
    for method in args.methods:
        for prompt in args.prompts:
            folder = args.runs / f"methods-{method}-{prompt.replace(' ', '-')}-{args.seed}"
            run(method, prompt, args.seed, folder)
            rows[prompt, method] = figures(folder)
            write_row(args.out / f"{prompt.replace(' ', '-')}.jpg", folder / "contact.png", METHODS.index(method))
            write(rows.values(), record)


def write(rows: Iterable[dict[str, Any]], record: Path) -> None:
    """The rows into `record`, and into PAGE where it is the repository's own."""
    result = {"command": "python benchmarks/methods.py", "machine": machine(), "runs": list(rows)}
    record.write_text(json.dumps(result, indent=1) + "\n")
    if record.parent == OUT and {row["method"] for row in result["runs"]} == set(METHODS):
        PAGE.write_text(with_section(PAGE.read_text(), table(result["runs"]), **SECTION))


def run(method: str, prompt: str, seed: int, folder: Path) -> None:
    config = replace(load(method)[0], prompt=prompt, seed=seed, network_engine="torch")
    with Progress(total=config.steps) as progress:
        train(config, folder=folder, progress=progress, command=f"methods.py --methods {method} --prompts {prompt!r}")


def figures(folder: Path) -> dict[str, Any]:
    """The row of a finished run."""
    summary = json.loads((folder / "summary.json").read_text())
    row = {key: summary[key] for key in KEPT}
    logged = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    if "lora_loss" in logged[-1]:
        middle = [r for r in logged if row["steps"] / 3 < r["step"] <= row["steps"] * 2 / 3]
        row["lora_over_frozen"] = mean(r["lora_loss"] for r in middle) / mean(r["frozen_loss"] for r in middle)
        row["camera_ratio"] = mean(r["camera_ratio"] for r in logged[len(logged) // 2 :])
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a row for each method, from the runs of all prompts."""
    lines = [
        "| `--method` | paper | network evaluations per view and step | seconds |",
        "| --- | --- | ---: | ---: |",
    ]
    for method in METHODS:
        kind = GUIDANCE[method]
        mine = [row for row in rows if row["method"] == method]
        seconds = mean(row["seconds_total"] for row in mine)
        lines.append(f"| `{method}` | {kind.paper} | {kind.evaluations} | {seconds:.0f} |")
    return "\n".join(lines)


def write_row(path: Path, contact: Path, index: int) -> None:
    """Puts the eight views of a run's contact sheet into its row of the picture at `path`."""
    size = (LABEL + 8 * VIEW, len(METHODS) * VIEW)
    sheet = Image.open(path) if path.exists() else Image.new("RGB", size, "white")
    middle = (index + 0.5) * VIEW
    ImageDraw.Draw(sheet).text((LABEL / 2, middle), METHODS[index], "black", anchor="mm", font_size=14)
    views = Image.open(contact)
    side = views.width // 4
    for i in range(8):
        column, row = i % 4 * side, i // 4 * side
        view = views.crop((column, row, column + side, row + side)).resize((VIEW, VIEW), Image.Resampling.LANCZOS)
        sheet.paste(view, (LABEL + i * VIEW, index * VIEW))
    sheet.save(path, quality=88)


if __name__ == "__main__":
    main()
