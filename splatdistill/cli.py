"""The `splatdistill` command. Each verb imports what it needs when it runs, so that help is instant and torch-free."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Union

import tyro
from tyro.conf import subcommand

from splatdistill.commands import assets, batch, bench, changes, info, train
from splatdistill.commands.common import DONE, FAILED, INTERRUPTED, USAGE, parse
from splatdistill.config.schema import TrainConfig
from splatdistill.io.files import NotWritten
from splatdistill.training.errors import RunFailure

__all__ = ["DONE", "FAILED", "INTERRUPTED", "USAGE", "main"]

VERBS: dict[str, tuple[type, Callable[[Any], int]]] = {
    "train": (train.Train, train.train),
    "batch": (batch.Batch, batch.batch),
    "bench": (bench.Bench, bench.bench),
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
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line (default: that of the process); returns 0 done, 1 failed, 2 bad input, 130 on Ctrl-C and
    for another signal 128 and its number.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args
    args = [arg for arg in args if arg != "--debug"]
    os.environ.setdefault("DIFFUSERS_DISABLE_REMOTE_CODE", "true")  # read when diffusers loads: a prior is data
    try:
        return _dispatch(args)
    except SystemExit as stop:  # tyro has said what it had to
        return stop.code if isinstance(stop.code, int) else USAGE
    except KeyboardInterrupt as stop:
        print(f"splatdistill: {stop or 'stopped.'}", file=sys.stderr)
        return getattr(stop, "code", INTERRUPTED)
    except Exception as error:
        if debug:
            traceback.print_exc()
        for sentence in getattr(error, "sentences", None) or [_sentence(error)]:
            print(f"splatdistill: {sentence}", file=sys.stderr)
        return USAGE if isinstance(error, ValueError) else FAILED


def _sentence(error: Exception) -> str:
    said = " ".join(str(error).split())
    if isinstance(error, ValueError | RunFailure | NotWritten):
        return said
    if type(error).__name__ == "OutOfMemoryError":  # torch's; to import it for this would take seconds
        return (
            "memory: there is too little even for the smallest part of a step; take fewer --num-views, a smaller "
            "--size, fewer --densify.max-splats or a smaller --prior."
        )
    return f"failed with {type(error).__name__}: {said} (--debug shows where)"


def _dispatch(args: list[str]) -> int:
    verb = args[0] if args else "--help"
    if verb not in VERBS:
        kinds = [Annotated[kind, subcommand(name)] for name, (kind, _) in VERBS.items()]
        description = "Text to 3D Gaussian objects by score distillation. --debug shows where an error arose."
        tyro.cli(Union[tuple(kinds)], prog="splatdistill", description=description, args=[verb])  # type: ignore[arg-type]  # noqa: UP007
        raise AssertionError("tyro exits on help and on an unknown verb")
    kind, run = VERBS[verb]
    if issubclass(kind, TrainConfig):
        return run(args[1:])
    return run(parse(kind, args[1:], verb=verb))
