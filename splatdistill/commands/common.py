"""What several verbs share: kinds of flags, exit codes, run folders and files of splats."""

from __future__ import annotations

import os
import re
import shlex
import sys
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO, cast, get_args, get_origin

import tyro
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, arg
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from splatdistill.io.kinds import Assumptions, Up
from splatdistill.io.runs import SPLATS, Run
from splatdistill.utils import terminal
from splatdistill.utils.malloc import no_collections
from splatdistill.utils.memory import ran_out
from splatdistill.utils.progress import Progress
from splatdistill.utils.system import num_cores, unheard

if TYPE_CHECKING:
    from splatdistill.batch.plan import Job
    from splatdistill.io.formats import Opened
    from splatdistill.scene.gaussians import Splats
    from splatdistill.scene.types import Cameras

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
File = Annotated[Path | None, arg(metavar="FILE")]
AS_IT_SAYS = Assumptions()
Taken = Annotated[Assumptions, OmitArgPrefixes]
Folder = Annotated[Path | None, arg(metavar="FOLDER")]


NUMBERS = ConstructorRegistry()
IN_WORDS: dict[Any, str] = {int: "a whole number", float: "a number"}


@NUMBERS.primitive_rule
def _number(kind: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """As tyro reads numbers, and tuples of so many, but what is none gets a sentence of ours in place of Python's."""
    is_tuple = get_origin(kind.type) is tuple
    parts = [get_args(part)[0] if get_origin(part) is Annotated else part for part in get_args(kind.type)]
    parts = parts if is_tuple else [kind.type]
    if not all(part in IN_WORDS for part in parts):
        return None

    def fits(x: Any) -> bool:
        return (
            isinstance(x, tuple) and len(cast("tuple[Any, ...]", x)) == len(parts) if is_tuple else type(x) is parts[0]
        )

    return PrimitiveConstructorSpec(
        nargs=len(parts),
        metavar=" ".join(part.__name__.upper() for part in parts),
        instance_from_str=lambda args: tuple(map(_read, parts, args)) if is_tuple else _read(parts[0], args[0]),
        is_instance=fits,
        str_from_instance=lambda x: [*map(str, x)] if is_tuple else [str(x)],
    )


def _read(kind: Any, word: str) -> Any:
    try:
        return kind(word)
    except ValueError:
        raise ValueError(f"it takes {IN_WORDS[kind]}, and {word!r} is none.") from None


def parse(kind: type, args: list[str], *, verb: str, default: Any = None) -> Any:
    extra = {} if default is None else {"default": default}
    with colours_as_asked():
        return tyro.cli(
            kind, prog=f"splatdistill {verb}", args=args, config=(FlagCreatePairsOff,), registry=NUMBERS, **extra
        )


def printable(text: str) -> str:
    """A text that may hold words of a stranger's file, without what a terminal would obey."""
    return "".join(char if char.isprintable() or char == "\n" else "?" for char in text)


class _NoTerminal:
    """A stream that says that it is no terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def isatty(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def colours_as_asked() -> Generator[None, None, None]:
    """tyro knows nothing of NO_COLOR, but writes none where stdout is no terminal."""
    with redirect_stdout(sys.stdout if terminal.may_colour() else cast(TextIO, _NoTerminal(sys.stdout))):
        yield


def say(text: str) -> None:
    """A sentence for the person at the terminal."""
    print(terminal.wrapped(printable(text), sys.stderr), file=sys.stderr)


def nobody_reads() -> bool:
    """Whether the pipe that broke is one that we print to, as after `| head`; Python then need not write the rest."""
    broken = unheard([stream for stream in (sys.stdout, sys.stderr) if stream is not None])
    for stream in broken:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return bool(broken)


def not_installed(module: str) -> str | None:
    """What to do where a package that every installation needs is not there; None for any other module."""
    try:
        required = metadata.requires("splatdistill") or []
    except metadata.PackageNotFoundError:
        return None
    for line in required:
        if "extra ==" not in line and re.split(r"[^\w.-]", line)[0] == module:
            return f"{module} is not installed, and splatdistill needs it: `pip install '{line}'`."
    return None


def note(sentence: str) -> None:
    say(f"Note: {sentence}")


def read_splats(source: Path, taken: Assumptions, *, seen: float | None = None) -> Splats:
    """The splats of a run folder or of a file; of a file stderr gets what was assumed. seen: radius of the ball about
    the origin that cameras will look at, world units; ValueError where most splats of a file lie outside.
    """
    return open_splats(source, taken, seen=seen).splats


def open_splats(source: Path, taken: Assumptions, *, seen: float | None = None) -> Opened:
    """The same with what the file was taken for."""
    from splatdistill.io import formats

    if not source.exists():
        raise ValueError(f"There is no run folder or file of splats called {source}.")
    if source.is_dir() and Run(source).file(SPLATS) is None:
        there = " that can be read" if os.path.lexists(source / SPLATS) else ""
        raise ValueError(f"{source} has no {SPLATS}{there}; if it is a run, go on with it: train --resume {source}.")
    if source.is_dir():
        return formats.open_file(source / SPLATS)
    found = formats.open_file(source, taken)
    if found.assumed:
        note(found.sentence())
    if seen is not None:
        from splatdistill.io.frames import refuse_out_of_sight

        refuse_out_of_sight(found.splats, radius=seen, name=str(source))
    return found


def new_file(output: Path, *, force: bool) -> Path:
    """`output` if it can be written. ValueError where it is there, unless `force`d, or its folder is not."""
    if output.exists() and not force:
        raise ValueError(f"{output} is there already; name another --output, or replace it with --force.")
    if not output.parent.is_dir():
        raise ValueError(f"output: there is no folder {output.parent}.")
    return output


def make(job: Job, folder: Path) -> None:
    """A run in its folder, from its last checkpoint on where there is one, with its progress on stderr."""
    with no_collections():
        from splatdistill.priors.vocabulary import Advice
        from splatdistill.training.run import train
        from splatdistill.utils.malloc import keep_freed_memory

    warnings.simplefilter("ignore", Advice)  # it was said as a note
    keep_freed_memory()
    with Progress(total=job.config.steps, log_every=job.config.output.log_every) as progress:
        resume = (folder / "checkpoints" / "latest").is_file()
        train(job.config, folder=folder, progress=progress, resume=resume)


def make_all(jobs: Sequence[Job], parent: Path) -> None:
    """Every run in its folder below `parent`, one after another, but for those that are done."""
    for number, job in enumerate(jobs, 1):
        folder, config = parent / job.run, job.config
        if not Run(folder).is_done(steps=config.steps):
            print(f"{number}/{len(jobs)} {config.method}: {config.prompt}, seed {config.seed}", file=sys.stderr)
            make(job, folder)


def placed_cameras(given: Cameras | None, turntable: Cameras, *, up: Up) -> tuple[Cameras, Cameras]:
    """Cameras in our world and the same in the file's, in which `up` points up: given ones are in the file's."""
    import torch

    from splatdistill.io import camera_files
    from splatdistill.io.frames import TO_OURS
    from splatdistill.ops.geometry import rotation_matrices

    turn = rotation_matrices(torch.tensor([TO_OURS[up]], dtype=torch.float64))[0]
    if given is None:
        return turntable, camera_files.turned(turntable, turn.T)
    return camera_files.turned(given, turn), given


def about_memory(error: BaseException) -> str:
    """What to do about an error, where it says that memory ran out; else nothing."""
    if not ran_out(error):
        return ""
    return (
        "memory: there is too little even for the smallest part of a step; take fewer --num-views, a smaller --size, "
        "fewer --densify.max-splats or a smaller --prior."
    )


def about_threads(threads: int, *, runs: int = 1) -> list[str]:
    """A note for more threads than this process has cores, where so many runs share them."""
    cores = num_cores()
    if threads * runs <= cores:
        return []
    asked = f"{threads} threads" if runs == 1 else f"{runs} runs with {threads} thread{'s' * (threads != 1)} each"
    here = f"{cores} core{'s' * (cores != 1)}"
    return [f"threads: {asked} share the {here} that this process may use, which is slower than {cores} in all."]


def print_results(folder: Path, *files: str) -> None:
    for name in files:
        if (folder / name).exists():
            print(folder / name)
    if not (folder / "turntable.mp4").exists():
        note("no ffmpeg was found, so the turntable is a folder of pictures.")


def print_next(folder: Path) -> None:
    """What people do with a run that is done: commands to paste."""
    run = shlex.quote(str(folder))
    print(
        f"Look at it:        splatdistill view {run}\nUse it elsewhere:  splatdistill export {run} --format glb",
        file=sys.stderr,
    )


def print_table(lines: Mapping[str, object]) -> None:
    width = max(len(key) for key in lines)
    for key, value in lines.items():
        print(f"{key:<{width}}  {value}")
