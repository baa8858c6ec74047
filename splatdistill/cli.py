"""The `splatdistill` command. Each verb imports what it needs when it runs, so that help is instant and torch-free."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from io import TextIOWrapper
from typing import Annotated, Any, Union

import tyro
from tyro.conf import subcommand

from splatdistill import __version__
from splatdistill.commands import assets, batch, bench, changes, completion, info, scenes, train
from splatdistill.commands.common import (
    DONE,
    FAILED,
    INTERRUPTED,
    USAGE,
    about_memory,
    colours_as_asked,
    nobody_reads,
    not_installed,
    parse,
    say,
)
from splatdistill.config.schema import TrainConfig
from splatdistill.io.files import NotWritten
from splatdistill.training.errors import RunFailure

__all__ = ["DONE", "FAILED", "INTERRUPTED", "USAGE", "main"]

VERBS: dict[str, tuple[type, Callable[[Any], int]]] = {
    "train": (train.Train, train.train),
    "batch": (batch.Batch, batch.batch),
    "bench": (bench.Bench, bench.bench),
    "scene": (scenes.Scene, scenes.scene),
    "edit": (changes.Edit, changes.edit),
    "refine": (changes.Refine, changes.refine),
    "render": (assets.Render, assets.render),
    "eval": (assets.Eval, assets.evaluate),
    "export": (assets.Export, assets.export),
    "compose": (assets.Compose, assets.compose),
    "view": (assets.View, assets.view),
    "config": (train.Config, train.config),
    "vocab": (info.Vocab, info.vocab),
    "prior": (info.PriorFlags, info.prior),
    "info": (info.Info, info.info),
    "cache": (info.Cache, info.cache),
    "completion": (completion.Completion, lambda flags: completion.completion(flags, _any_verb())),
}
UNHEARD = 141  # what a shell says of a program whose reader has gone: 128 and SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line (default: that of the process); returns 0 done, 1 failed, 2 bad input, 130 on Ctrl-C and
    for another signal 128 and its number; 141 where nobody reads what is printed any more.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args
    args = [arg for arg in args if arg != "--debug"]
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr is: a terminal need not know every letter
    os.environ.setdefault("DIFFUSERS_DISABLE_REMOTE_CODE", "true")  # read when diffusers loads: a prior is data
    try:
        code = _exit_code(args)
        if sys.stdout is not None:  # closed before Python began
            sys.stdout.flush()
        return code
    except BrokenPipeError as error:
        return UNHEARD if nobody_reads() else _failed(error, debug=debug)
    except KeyboardInterrupt as stop:
        say(f"splatdistill: {stop or 'stopped.'}")
        return getattr(stop, "code", INTERRUPTED)
    except Exception as error:
        return _failed(error, debug=debug)


def _exit_code(args: list[str]) -> int:
    try:
        return _dispatch(args)
    except SystemExit as stop:  # tyro has said what it had to
        return DONE if stop.code is None else stop.code if isinstance(stop.code, int) else USAGE


def _failed(error: Exception, *, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    for sentence in getattr(error, "sentences", None) or [_sentence(error)]:
        say(f"splatdistill: {sentence}")
    return USAGE if isinstance(error, ValueError) else FAILED


def _sentence(error: Exception) -> str:
    said = " ".join(str(error).split())
    if isinstance(error, ValueError | RunFailure | NotWritten):
        return said
    if isinstance(error, ModuleNotFoundError) and (missing := not_installed(error.name or "")):
        return missing
    return about_memory(error) or f"failed with {type(error).__name__}: {said} (--debug shows where)"


def _dispatch(args: list[str]) -> int:
    verb = args[0] if args else "--help"
    if verb in ("--version", "-V"):
        print(f"splatdistill {__version__}")
        return DONE
    if verb not in VERBS and not verb.startswith("-"):
        near = get_close_matches(verb, VERBS, n=1)
        hint = f"did you mean {near[0]}?" if near else "`splatdistill --help` lists the verbs."
        raise ValueError(f"there is no verb {verb!r}; {hint}")
    if verb not in VERBS:
        description = (
            "Text to 3D Gaussian objects by score distillation. --version prints the version; --debug shows where an "
            "error arose."
        )
        with colours_as_asked():
            tyro.cli(_any_verb(), prog="splatdistill", description=description, args=[verb])
        raise AssertionError("tyro exits on help and on an unknown flag")
    kind, run = VERBS[verb]
    if issubclass(kind, TrainConfig):
        return run(args[1:])
    return run(parse(kind, args[1:], verb=verb))


def _any_verb() -> Any:
    """What tyro makes the whole command of."""
    kinds = [Annotated[kind, subcommand(name)] for name, (kind, _) in VERBS.items()]
    return Union[tuple(kinds)]  # type: ignore[arg-type]  # noqa: UP007
