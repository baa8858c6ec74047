"""The command in a real terminal, in pipes that close, and in a shell that completes; what it says to do next works."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

import splatdistill
from splatdistill import cli
from splatdistill.commands import short_help
from splatdistill.io import ply
from tests.cli.smoke import TINY
from tests.patience import PATIENCE

BIN = Path(sys.executable).parent
SGR = r"\x1b\[[0-9;]*m"
"""Codes of colours and weights."""


def environment(**more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR", "COLORTERM")}
    return kept | {"PATH": f"{BIN}:{os.environ['PATH']}", "TERM": "xterm-256color"} | more


def on_terminal(command: list[str], folder: Path, *, columns: int = 80, **more: str) -> str:
    """All that a command writes to a terminal of that width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    running = subprocess.Popen(
        command, cwd=folder, env=environment(**more), stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # the terminal has no writer any more
            break
        if not chunk:
            break
        written += chunk
    os.close(ours)
    assert running.wait(PATIENCE) == 0, written.decode()
    return written.decode()


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, env=environment(BROWSER="true"), capture_output=True, text=True,
        timeout=PATIENCE,
    )  # fmt: skip


@pytest.mark.parametrize("colours", [True, False])
def test_a_training_shows_the_time_left_and_its_pictures_and_what_to_do_next(tmp_path: Path, colours: bool) -> None:
    command = ["splatdistill", "train", *TINY, "--prompt", "a red ball", "--out", "my runs", "--name", "ball"]
    command += ["--preview", "--output.preview-every", "2"]
    text = on_terminal(command, tmp_path, **({} if colours else {"NO_COLOR": "1"}))
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n")
    bars = [line for line in plain.splitlines() if line.startswith("train ") and "/4" in line]
    assert bars and all(re.search(r"\d/4 +(\d:\d\d:\d\d|-:--:--)", line) for line in bars)
    assert all(len(line) <= 80 for line in bars)
    assert ("▀" in text) is colours and (re.search(SGR, text) is not None) is colours
    assert ("preview: this terminal shows no colours" in " ".join(plain.split())) is not colours
    assert "Look at it:        splatdistill view 'my runs/ball'" in plain


def test_the_commands_to_do_next_work_when_they_are_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", *TINY, "--prompt", "a red ball", "--out", "it's mine", "--name", "ball"]) == cli.DONE
    lines = re.findall(r"^[A-Z][\w ]+: +(splatdistill .*)$", capsys.readouterr().err, flags=re.M)
    assert [shlex.split(line)[1] for line in lines] == ["view", "export"]
    with subprocess.Popen(
        ["bash", "-c", f"exec {lines[0]} --port 0"], env=environment(BROWSER="true"), stdout=subprocess.PIPE, text=True
    ) as page:
        assert page.stdout and re.fullmatch(r"http://127\.0\.0\.1:\d+/\n", page.stdout.readline())
        page.terminate()
    exported = shell(lines[1], tmp_path)
    assert exported.returncode == 0 and (tmp_path / exported.stdout.strip()).is_file(), exported.stderr


@pytest.mark.parametrize("reader", ["head -1", "true"])
def test_a_reader_that_leaves_is_no_error(tmp_path: Path, reader: str) -> None:
    for command in ("train --help-all", "--help", "config", "vocab", "completion bash"):
        done = shell(f"splatdistill {command} | {reader}; exit ${{PIPESTATUS[0]}}", tmp_path)
        assert done.stderr == "" and done.returncode in (cli.DONE, cli.UNHEARD), command


def test_no_color_is_kept_and_colours_are_there_without_it(tmp_path: Path) -> None:
    for command in (["splatdistill", "train", "--help-all"], ["splatdistill", "--help"]):
        assert re.search(SGR, on_terminal(command, tmp_path))
        assert not re.search(SGR, on_terminal(command, tmp_path, NO_COLOR="1"))


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("--version", "-V"):
        assert cli.main([flag]) == cli.DONE
        assert capsys.readouterr() == (f"splatdistill {splatdistill.__version__}\n", "")


def test_bash_completes_verbs_flags_and_values(tmp_path: Path) -> None:
    done = shell("splatdistill completion bash > it.bash", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")

    def completed(line: str) -> set[str]:
        words = [*shlex.split(line), *([""] if line.endswith(" ") else [])]
        array = " ".join(map(shlex.quote, words))
        asked = f"source ./it.bash; COMP_WORDS=({array}); COMP_CWORD={len(words) - 1}; "
        asked += "complete -p splatdistill | grep -o '_[a-z_]*splatdistill' | head -1 > name; $(cat name); "
        return set(shell(asked + 'printf "%s\\n" "${COMPREPLY[@]}"', tmp_path).stdout.split())

    assert completed("splatdistill tr") == {"train"}
    assert completed("splatdistill train --prev") == {"--preview"}
    assert completed("splatdistill train --method c") == {"csd", "consistency", "cfd"}


def test_the_short_help_is_one_screen_of_flags_that_are_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main(["train", "-h"]) == cli.DONE
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80  # the terminal of old, and the smallest that people have
    assert cli.main(["train", "--help-all"]) == cli.DONE
    there = set(re.findall(r"--[a-z][\w.-]*", capsys.readouterr().out))
    named = [flag.split()[0] for flags in short_help.GROUPS.values() for flag in flags]
    assert set(named) <= there and len(named) == len(set(named))


def test_half_blocks_are_the_picture() -> None:
    from PIL import Image
    from rich.style import Style

    from splatdistill.utils.terminal import half_blocks

    picture = Image.new("RGB", (2, 2))
    for place, colour in {(0, 0): "red", (1, 0): "lime", (0, 1): "blue", (1, 1): "white"}.items():
        picture.paste(colour, (*place, place[0] + 1, place[1] + 1))
    text = half_blocks([picture.resize((64, 64), Image.Resampling.NEAREST)], width=64)
    assert text.plain.count("▀") == 32 * 16 and len(text.plain.splitlines()) == 16
    styles = [span.style for span in text.spans]
    assert styles[0] == Style(color="#ff0000", bgcolor="#ff0000") and styles[31].color.name == "#00ff00"
    assert styles[-1].bgcolor.name == "#ffffff" and styles[-32].color.name == "#0000ff"


def test_splats_of_a_previewed_run_are_those_of_another(tmp_path: Path) -> None:
    for name, more in (("plain", []), ("shown", ["--preview"])):
        command = ["train", *TINY, "--prompt", "a red ball", "--out", str(tmp_path), "--name", name, *more]
        assert cli.main(command) == cli.DONE
    a, b = (ply.read(tmp_path / name / "splats.ply") for name in ("plain", "shown"))
    assert all((a.tensors[key] == b.tensors[key]).all() for key in a.tensors)
