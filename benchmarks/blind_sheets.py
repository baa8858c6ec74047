"""Sheets of objects without their names: can somebody who knows 400 nouns say which is which?

    python benchmarks/blind_sheets.py draw --out FOLDER
    python benchmarks/blind_sheets.py score --out FOLDER --answers ANSWERS.json --json FILE

`draw` makes 24 nouns in the default run, one seed, and writes a sheet of each under a number. Eight of them were in no
version of README.md. `among.txt` lists the 400 nouns to choose from; `key.json` says which number is which noun.
Nobody opens the key, or any folder but `sheets`, before ANSWERS.json is committed: {"01": "owl", ...}. A sheet that is
there is not made again, and an unfinished run goes on. `score` counts answers by the noun that the prior reads in them.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import ROOT, commit, machine
from PIL import Image

from splatdistill.config import presets
from splatdistill.embedded.corpus.captions import article
from splatdistill.embedded.corpus.nouns import PLURALS
from splatdistill.io.video import to_uint8
from splatdistill.priors import SHIPPED
from splatdistill.priors.vocabulary import Vocabulary
from splatdistill.rendering.renderer import make_renderer
from splatdistill.rendering.turntable import render_frames
from splatdistill.scene.cameras import turntable
from splatdistill.scene.gaussians import Splats
from splatdistill.training.run import train
from splatdistill.utils.progress import Progress

NOUNS, NEW, AMONG = 24, 8, 400
COLUMNS, TILE = 4, 224  # of a sheet; pixels
KEY = "key.json"


def in_readme() -> str:
    """All that any version of README.md added, in lower case."""
    command = ["git", "log", "-p", "--format=", "--", "README.md"]
    log = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    added = [line[1:] for line in log.stdout.splitlines() if line.startswith("+")]
    return "\n".join([*added, (ROOT / "README.md").read_text()]).lower()


def known() -> Vocabulary:
    """The words of the shipped prior."""
    return Vocabulary.load(SHIPPED["embedded"])


def choose(nouns: list[str], text: str, *, number: int, draw: random.Random) -> list[str]:
    """So many nouns, a third of which the text never names, in an order that tells nothing."""
    named = [noun for noun in nouns if re.search(rf"\b{re.escape(noun)}s?\b", text)]
    new = [noun for noun in nouns if noun not in named]
    few = number * NEW // NOUNS
    chosen = draw.sample(named, number - few) + draw.sample(new, few)
    draw.shuffle(chosen)
    return chosen


def key_of(out: Path, number: int) -> dict[str, str]:
    """The noun of each sheet: drawn and written once, then read."""
    path = out / KEY
    if not path.exists():
        draw = random.SystemRandom()  # nobody can work the key out from the code
        nouns = sorted(known().models)
        chosen = choose(nouns, in_readme(), number=number, draw=draw)
        others = draw.sample([noun for noun in nouns if noun not in chosen], min(AMONG, len(nouns)) - len(chosen))
        out.mkdir(parents=True, exist_ok=True)
        (out / "among.txt").write_text("\n".join(sorted([*chosen, *others])) + "\n")
        path.write_text(json.dumps({f"{i:02}": noun for i, noun in enumerate(chosen, 1)}, indent=1) + "\n")
    return json.loads(path.read_text())


def sheet(splats: Splats) -> Image.Image:
    """Eight sides of an object."""
    cameras = turntable(presets.load("sds")[0].camera, num_frames=2 * COLUMNS, size=TILE)
    picture = Image.new("RGB", (COLUMNS * TILE, 2 * TILE))
    for i, view in enumerate(render_frames(make_renderer(torch.device("cpu")), splats, cameras)):
        picture.paste(Image.fromarray(to_uint8(view)), (i % COLUMNS * TILE, i // COLUMNS * TILE))
    return picture


def draw_sheets(out: Path, *, number: int, seed: int) -> None:
    """What is missing of the sheets; says numbers alone."""
    base, _ = presets.load("sds")
    (out / "sheets").mkdir(parents=True, exist_ok=True)
    for place, noun in key_of(out, number).items():
        path, folder = out / "sheets" / f"{place}.png", out / "runs" / place
        if path.exists():
            continue
        config = replace(base, prompt=f"{article(noun, plural=noun in PLURALS)} {noun}", seed=seed)
        begun = (folder / "checkpoints").exists()
        with Progress(total=config.steps) as progress:
            trainer = train(config, folder=folder, resume=begun, progress=progress, command="blind_sheets.py")
        unfinished = path.with_suffix(".part")
        sheet(trainer.splats).save(unfinished, "PNG")
        unfinished.rename(path)
        print(path, flush=True)


def score(key: dict[str, str], answers: dict[str, str], vocabulary: Vocabulary) -> list[dict[str, Any]]:
    """A row for each sheet."""
    rows = []
    for place, noun in key.items():
        answer = answers.get(place, "")
        rows.append(
            {"sheet": place, "noun": noun, "answer": answer, "right": noun in vocabulary.read(answer).nouns[:1]}
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("draw", "score"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--nouns", type=int, default=NOUNS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--answers", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.verb == "draw":
        draw_sheets(args.out, number=args.nouns, seed=args.seed)
        return
    if not args.answers or not args.json:
        parser.error("score needs --answers and --json")
    rows = score(json.loads((args.out / KEY).read_text()), json.loads(args.answers.read_text()), known())
    among = len((args.out / "among.txt").read_text().splitlines())
    result = {
        "command": "python benchmarks/blind_sheets.py score --out FOLDER --answers FILE --json FILE",
        "commit": commit(), "machine": machine(), "right": sum(row["right"] for row in rows), "of": len(rows),
        "among": among, "chance": 1 / among, "sheets": rows,
    }  # fmt: skip
    args.json.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{result['right']} of {len(rows)}")


if __name__ == "__main__":
    main()
