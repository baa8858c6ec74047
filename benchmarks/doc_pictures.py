"""The photographs of docs/figures: runs of `splatdistill train` and `edit` with default settings and seed 0.

`python benchmarks/doc_pictures.py` makes what is not in --runs yet, one run after another. It writes METHOD.webp (eight
views of "a red armchair" by each of --methods, and what those that edit make of the default's), turntables.webp where
the default method is one of them (six prompts by it), and pictures.json, which holds the command, commit, steps and
seconds of every run.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from common import ROOT, machine
from evidence import write_json
from PIL import Image

from splatdistill.config.presets import usual_method
from splatdistill.config.schema import GUIDANCE

FOLDER = ROOT / "docs" / "figures"
PROMPTS = ("a red armchair", "a motorcycle", "a dog", "a grand piano", "a green car with yellow wheels", "a snowman")
EDITED = "a blue armchair"
COLUMNS, TILE, MS = 3, 240, 70  # of the turntables; milliseconds of a frame
STRIP = 128  # pixels of a view of METHOD.webp
KEPT = (
    "prompt",
    "method",
    "seed",
    "steps",
    "num_splats",
    "image_evaluations",
    "seconds_total",
    "dtype",
    "threads",
    "commit",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "docs", help="where the run folders are or go")
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--methods", nargs="+", choices=GUIDANCE, default=list(GUIDANCE))
    args = parser.parse_args()
    default, _ = usual_method("embedded")
    turning = [run(args.runs, prompt=prompt, method=default) for prompt in PROMPTS if default in args.methods]
    by_method = {method: run(args.runs, prompt=PROMPTS[0], method=method) for method in args.methods}
    if turning:
        write_turntables(args.out / "turntables.webp", turning)
    for method, folder in by_method.items():
        write_strip(args.out / f"{method}.webp", folder)
    record = args.out / "pictures.json"
    known = json.loads(record.read_text())["runs"]
    rows = [row for row in known if row["method"] not in args.methods and shown(row, default)]
    rows += [facts(folder) for folder in dict.fromkeys([*turning, *by_method.values()])]
    write_json({"command": "python benchmarks/doc_pictures.py", "machine": machine(), "runs": rows}, record)


def shown(row: dict[str, Any], default: str) -> bool:
    """Whether a recorded run is in one of the pictures."""
    return row["prompt"] in (PROMPTS[0], EDITED, *(PROMPTS if row["method"] == default else ()))


def run(runs: Path, *, prompt: str, method: str) -> Path:
    """The folder of a finished run, which is made where there is none."""
    folder = runs / f"{method}-{prompt.replace(' ', '-')}"
    if GUIDANCE[method].needs_source:
        source, parent = run(runs, prompt=prompt, method=usual_method("embedded")[0]), runs / method
        splatdistill(*edit(source, method), "--out", str(parent), "--output", str(parent / "edited.ply"), "--force")
        (folder,) = (path for path in parent.iterdir() if path.is_dir())
    elif not (folder / "turntable.mp4").exists():
        splatdistill(*arguments(prompt, method), "--out", str(runs), "--name", folder.name)
    return folder


def splatdistill(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "splatdistill", *words], check=True)  # noqa: S603


def arguments(prompt: str, method: str) -> list[str]:
    return ["train", "--method", method, "--prompt", prompt]


def edit(source: Path | str, method: str) -> list[str]:
    return ["edit", str(source), "--from", PROMPTS[0], "--to", EDITED, "--method", method]


def write_turntables(path: Path, folders: list[Path]) -> None:
    """One looping picture: every object turns once in its tile."""
    turns = [iio.imread(folder / "turntable.mp4") for folder in folders]
    frames: list[Image.Image] = []
    for together in zip(*turns, strict=True):
        tiles = [
            Image.fromarray(np.asarray(frame)).resize((TILE, TILE), Image.Resampling.LANCZOS) for frame in together
        ]
        sheet = Image.new("RGB", (COLUMNS * TILE, -(-len(tiles) // COLUMNS) * TILE), "white")
        for i, tile in enumerate(tiles):
            sheet.paste(tile, (i % COLUMNS * TILE, i // COLUMNS * TILE))
        frames.append(sheet)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=MS, loop=0, quality=76, method=6)


def write_strip(path: Path, folder: Path) -> None:
    """The eight views of a contact sheet in one row."""
    sheet = Image.open(folder / "contact.png").convert("RGB")
    side = sheet.width // 4
    strip = Image.new("RGB", (8 * STRIP, STRIP), "white")
    for i in range(8):
        x, y = i % 4 * side, i // 4 * side
        view = sheet.crop((x, y, x + side, y + side)).resize((STRIP, STRIP), Image.Resampling.LANCZOS)
        strip.paste(view, (i * STRIP, 0))
    strip.save(path, quality=82, method=6)


def facts(folder: Path) -> dict[str, Any]:
    """What the summary of a run says, with the command that makes it again."""
    summary = json.loads((folder / "summary.json").read_text())
    method = summary["method"]
    words = [
        "splatdistill",
        *(edit("RUN", method) if GUIDANCE[method].needs_source else arguments(summary["prompt"], method)),
    ]
    return {"command": shlex.join(words), **{key: summary[key] for key in KEPT}}


if __name__ == "__main__":
    main()
