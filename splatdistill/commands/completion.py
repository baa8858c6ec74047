"""The `completion` verb: tyro's scripts, and what zsh and fish need in them besides."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any, Literal

import tyro
from tyro.conf import Positional

from splatdistill.commands.common import DONE

CHANGES = {
    # tyro's script is a file for zsh's fpath. Under `eval` it has to register its function, as that file's name does.
    "zsh": (
        '\n_tyro_splatdistill "$@"\n',
        '\nif [[ "${funcstack[1]}" == _splatdistill ]]; then\n  _tyro_splatdistill "$@"\n'
        "else\n  compdef _tyro_splatdistill splatdistill\nfi\n",
    ),
    # Linux takes no word of a command above 128 KiB, and the description of our flags is longer.
    "fish": (
        '($python_cmd -c "$pycode" $words $current)',
        '(printf "%s" "$pycode" | $python_cmd - $words $current)',
    ),
}
"""By shell: a part of tyro's script, and what takes its place."""


@dataclass(frozen=True)
class Completion:
    """Print a script that completes verbs, flags and their values in a shell."""

    shell: Positional[Literal["bash", "zsh", "fish"]]
    """The line for ~/.bashrc, or ~/.zshrc after compinit, is eval "$(splatdistill completion SHELL)"; that for
    config.fish is splatdistill completion fish | source.
    """


def completion(flags: Completion, command: Any) -> int:
    """Prints the script for a shell. command: the type that tyro makes the whole command line of."""
    caught = io.StringIO()
    try:
        with redirect_stdout(caught):
            tyro.cli(command, prog="splatdistill", args=["--tyro-print-completion", flags.shell])
    except SystemExit:  # tyro exits once it is printed
        pass
    script = caught.getvalue()
    if flags.shell in CHANGES:
        script = script.replace(*CHANGES[flags.shell])
    print(script, end="")
    return DONE
