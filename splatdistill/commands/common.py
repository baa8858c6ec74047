"""What several verbs share: kinds of flags, exit codes, run folders and files of splats."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, arg

from splatdistill.io.kinds import Assumptions, Up
from splatdistill.io.runs import SPLATS
from splatdistill.utils.cpu import num_cores
from splatdistill.utils.malloc import no_collections
from splatdistill.utils.progress import Progress

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


def parse(kind: type, args: list[str], *, verb: str, default: Any = None) -> Any:
    extra = {} if default is None else {"default": default}
    return tyro.cli(kind, prog=f"splatdistill {verb}", args=args, config=(FlagCreatePairsOff,), **extra)


def read_splats(source: Path, taken: Assumptions) -> Splats:
    """The splats of a run folder or of a file; of a file stderr hears what was assumed."""
    return open_splats(source, taken).splats


def open_splats(source: Path, taken: Assumptions) -> Opened:
    """The same with what the file was taken for."""
    from splatdistill.io import formats

    if not source.exists():
        raise ValueError(f"There is no run folder or file of splats called {source}.")
    if source.is_dir() and not (source / SPLATS).is_file():
        raise ValueError(f"{source} has no {SPLATS}; if it is a run, go on with it: train --resume {source}.")
    if source.is_dir():
        return formats.open_file(source / SPLATS)
    found = formats.open_file(source, taken)
    if found.assumed:
        print(f"Note: {found.sentence()}", file=sys.stderr)
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
        print("Note: no ffmpeg was found, so the turntable is a folder of pictures.", file=sys.stderr)


def print_table(lines: Mapping[str, object]) -> None:
    width = max(len(key) for key in lines)
    for key, value in lines.items():
        print(f"{key:<{width}}  {value}")
