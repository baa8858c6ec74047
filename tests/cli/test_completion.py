"""The scripts of `splatdistill completion` in real shells: each starts with its line of docs/usage.md, and keys are
typed on a terminal.
"""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.test_terminal import environment
from tests.packaging.audit import ROOT
from tests.patience import PATIENCE, wait_for

READY = "what next?"
DUMP = "\x14"  # Ctrl-T, which the start files bind to writing the line that was typed so far
CLEAR = "\x15"  # Ctrl-U
CODES = r"\x1b(\][^\a]*\a|\[[0-9;?]*[A-Za-z]|[=>]|\(B)"
"""What a shell tells its terminal in place of text."""
START = {
    "bash": 'PS1={ready!r}\n{line}\ndump() {{ printf %s "$READLINE_LINE" > typed; }}\nbind -x \'"\\C-t": dump\'\n',
    "zsh": "PS1={ready!r}\nautoload -Uz compinit\ncompinit -u -D\n{line}\n"
    'dump() {{ print -rn -- "$BUFFER" > typed }}\nzle -N dump\nbindkey "^T" dump\n',
    "fish": "function fish_prompt; printf {ready!r}; end\nset -g fish_greeting\n{line}\n"
    "bind \\ct 'commandline > typed'\n",
}
FILES = {"bash": ".bashrc", "zsh": ".zshrc", "fish": ".config/fish/config.fish"}
COMPLETED = {
    "splatdistill tr": "splatdistill train",
    "splatdistill train --prev": "splatdistill train --preview",
    "splatdistill train --method cs": "splatdistill train --method csd",
    "splatdistill train --sds.guid": "splatdistill train --sds.guidance-scale",
    "splatdistill completion --he": "splatdistill completion --help",
}


def documented(shell: str) -> str:
    (line,) = re.findall(rf"^\| {shell} \|.*\| `(.*)` \|$", (ROOT / "docs" / "usage.md").read_text(), flags=re.M)
    return line.replace("\\|", "|")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_documented_line_completes_verbs_flags_and_values(shell: str, tmp_path: Path) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"needs Debian's package {shell}, and there is none")
    start = tmp_path / FILES[shell]
    start.parent.mkdir(parents=True, exist_ok=True)
    start.write_text(START[shell].format(ready=READY, line=documented(shell)))
    (tmp_path / "data" / "fish" / "generated_completions").mkdir(parents=True)  # else fish reads all manual pages
    home = environment(
        HOME=str(tmp_path), ZDOTDIR=str(tmp_path), XDG_CONFIG_HOME=str(tmp_path / ".config"),
        XDG_DATA_HOME=str(tmp_path / "data"),
    )  # fmt: skip
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        ["setsid", "--ctty", program, "-i"], cwd=tmp_path, env=home, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    try:
        complaint = re.sub(CODES, "", read_until(ours, READY)).replace(READY, "").strip()
        assert complaint in ("", "#", "%")  # zsh marks a line without an end so
        for typed, completed in COMPLETED.items():
            os.write(ours, f"{typed}\t{DUMP}".encode())
            wait_for(lambda: (tmp_path / "typed").is_file() and (tmp_path / "typed").read_text(), what=completed)
            assert (tmp_path / "typed").read_text().rstrip() == completed
            (tmp_path / "typed").unlink()
            os.write(ours, CLEAR.encode())
    finally:
        running.kill()
        running.wait(PATIENCE)
        os.close(ours)


def read_until(terminal: int, text: str) -> str:
    """What the terminal shows until that text."""
    shown, deadline = b"", time.monotonic() + PATIENCE
    while text.encode() not in shown:
        assert time.monotonic() < deadline, shown.decode()
        if select.select([terminal], [], [], 1.0)[0]:
            shown += os.read(terminal, 65536)
    return shown.decode(errors="replace")
