"""`train --help` on one screen: the flags that most runs need, grouped by what a person wants."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator

from splatdistill.config.schema import METHODS
from splatdistill.utils import terminal

GROUPS = {
    "Make": {
        "--prompt TEXT": 'what to make, for example "a red armchair"',
        "--image FILE": "a picture of it, to hold the object to",
        "--seed N": "another object of the same prompt",
        "--init FILE": "begin with the splats of a file, to edit them",
        "--nearest": "make the nearest known object, where yours is not",
    },
    "How": {
        "--method NAME": f"{', '.join(METHODS[:4])} or one of {len(METHODS) - 4} others",
        "--prior TEACHER": "`splatdistill prior list` has their names",
        "--steps N": "optimisation steps",
        "--size PIXELS": "side of the training renders",
        "--num-views N": "views per step",
        "--config FILE": "settings as YAML, or a recipe such as smoke",
    },
    "Machine": {
        "--device NAME": "auto, cpu or cuda",
        "--threads N": "threads of the CPU",
        "--max-memory GB": "of the GPU, at most",
    },
    "Watch": {
        "--view": "the training as a page in the browser",
        "--preview": "pictures of it here in the terminal",
        "--log NAMES": "tensorboard, wandb, or both with a comma",
    },
    "Keep": {
        "--out FOLDER": "where run folders are made; runs, if not given",
        "--name NAME": "of the run folder",
        "--resume RUN": "go on with a run that was stopped",
    },
}
WORDS = 28  # the column at which explanations begin


def text(description: str) -> str:
    """The page, as wide as the terminal. description: what the verb does."""
    width = terminal.columns(sys.stdout)
    paragraphs = [
        'usage: splatdistill train --prompt "a red armchair" [flags]',
        " ".join(description.split()),
    ]
    end = "--help-all explains every flag; put --method NAME first for another method."
    lines = [*(line for said in paragraphs for line in textwrap.wrap(said, width)), *_rows(width), *_wrap(end, width)]
    return "\n".join(lines) + "\n"


def _rows(width: int) -> Iterator[str]:
    for title, flags in GROUPS.items():
        for index, (flag, words) in enumerate(flags.items()):
            start = f"{title if index == 0 else '':<9}{flag:<{WORDS - 9}}"
            yield from textwrap.wrap(words, max(width, WORDS + 12), initial_indent=start, subsequent_indent=" " * WORDS)


def _wrap(sentence: str, width: int) -> list[str]:
    return textwrap.wrap(sentence, width, break_on_hyphens=False)
