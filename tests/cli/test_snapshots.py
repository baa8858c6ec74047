"""What the command line says to the likeliest mistakes, word for word, and which flags it has.

What a terminal shows is here too, at three widths. All are an interface: a change shows here first. `python -m
tests.cli.test_snapshots` writes mistakes.txt, flags.txt and screens.txt anew; read what changed before you commit it.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import tempfile
from pathlib import Path

import pytest
import torch

from splatdistill import cli
from splatdistill.config.schema import METHODS
from splatdistill.io import ply
from tests.cli import screens
from tests.io.scenes import asymmetric

HERE = Path(__file__).parent
MISTAKES, FLAGS, SCREENS = HERE / "mistakes.txt", HERE / "flags.txt", HERE / "screens.txt"
FLAG = r"^[^\w-]*(--[a-z][\w.-]*)"  # at the beginning of a line of help
COMMANDS = [
    "trian --prompt 'a red chair'",
    "frobnicate",
    "train",
    "train --prompt ''",
    "train --promt 'a red chair'",
    "train --prompt a red chair",
    "train 'a red chair'",
    "train --prompt 'a red chair' --method sdx",
    "train --prompt 'a red chair' --steps many",
    "train --prompt 'a red chair' --densify.start half",
    "train --prompt 'a red chair' --steps 0",
    "train --prompt 'a red chair' --guidance-scale 100",
    "train --prompt 'a red chair' --lr 0.01",
    "train --prompt 'a red chair' --densify.intervall 3",
    "train --prompt 'a red chair' --method csd --sds.t-min 0.1",
    "train --prompt 'a red chair' --particles 4",
    "train --prompt 'a red chair' --prior nothing",
    "train --prompt 'a zyzzyva'",
    "train --prompt 'a red chair' --encoder nothing",
    "train --prompt 'a red ball' --prior analytic --network-engine compile",
    "train --prompt 'a red chair' --config none.yaml",
    "train --prompt 'a red chair' --config typo.yaml",
    "train --prompt 'a red chair' --config broken.yaml",
    "train --prompt 'a red chair' --device cuda",
    "train --prompt 'a red chair' --num-views 3",
    "train --prompt 'a red chair' --size big",
    "train --prompt 'a red chair' --out file",
    "train --prompt 'a red chair' --out . --name taken",
    "train --prompt 'a red chair' --name ../x",
    "train --prompt 'a red chair' --init cube",
    "train --prompt 'a red chair' --image none.png",
    "train --prompt 'a red chair' --image typo.yaml",
    "train --prompt 'a red chair' --config smoke --init ply:none.ply",
    "train --prompt 'a red chair' --log tensorbord",
    "train --resume nowhere",
    "export nowhere",
    "export cut.ply",
    "export good.ply --output good.ply",
    "export good.ply --format obj",
    "render",
    "compose good.ply good.ply --output scene.obj",
    "eval good.ply",
    "prior check",
    "completion tcsh",
]


def said(command: str) -> tuple[int, str]:
    """Exit code and everything that is printed, on a terminal of 100 columns without colours."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        code = cli.main(shlex.split(command))
    return code, "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def prepare(folder: Path) -> None:
    (folder / "typo.yaml").write_text("densfy:\n  interval: 3\n")
    (folder / "broken.yaml").write_text("steps: 3\ncamera: {fill: [\n")
    (folder / "file").touch()
    (folder / "taken").mkdir()
    ply.write(folder / "good.ply", asymmetric(3))
    (folder / "cut.ply").write_bytes((folder / "good.ply").read_bytes()[:-5])


def mistakes() -> str:
    """A transcript of COMMANDS."""
    lines = []
    for command in COMMANDS:
        code, text = said(command)
        assert code == cli.USAGE, f"{command} ends with {code}: {text}"
        lines.append(f"$ splatdistill {command}\n{text}")
    return "\n".join(lines)


def flags() -> str:
    """A line for each verb; those of `train` for each method."""
    verbs = [verb for verb in cli.VERBS if verb not in ("train", "config")]
    commands = [*(f"{verb} --method {method}" for verb in ("train", "config") for method in METHODS), *verbs]
    whole = {command: "--help-all" if command.startswith("train") else "--help" for command in commands}
    shown = {command: re.findall(FLAG, said(f"{command} {whole[command]}")[1], flags=re.M) for command in commands}
    return "".join(f"{command}: {' '.join(found)}\n" for command, found in shown.items())


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path)


def test_mistakes_are_explained_word_for_word(terminal: None, tmp_path: Path) -> None:
    assert len(COMMANDS) >= 25
    before = sorted(path.name for path in tmp_path.iterdir())
    assert mistakes() == MISTAKES.read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_no_flag_comes_or_goes_unseen(terminal: None) -> None:
    assert flags() == FLAGS.read_text(encoding="utf-8")


def test_a_terminal_of_any_width_shows_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    assert screens.transcript() == SCREENS.read_text(encoding="utf-8")
    for shown in screens.SCREENS:
        *_, last = screens.training(shown).splitlines()
        assert "1:21:20" in last or "4880 s left" in last, shown


if __name__ == "__main__":
    os.environ |= {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    work = Path(tempfile.mkdtemp())
    prepare(work)
    os.chdir(work)
    MISTAKES.write_text(mistakes(), encoding="utf-8")
    FLAGS.write_text(flags(), encoding="utf-8")
    del os.environ["NO_COLOR"]
    SCREENS.write_text(screens.transcript(), encoding="utf-8")
    shutil.rmtree(work)
