"""`train` and `config`: settings from defaults, preset, file and flags, and a run made with them."""

from __future__ import annotations

import os
import shlex
import sys
import warnings
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, fields, make_dataclass, replace
from io import StringIO
from itertools import pairwise, takewhile
from pathlib import Path
from subprocess import Popen
from typing import TYPE_CHECKING, Any

import tyro
from tyro.conf import Fixed, Suppress

from splatdistill.commands import short_help
from splatdistill.commands.common import (
    DONE,
    File,
    Folder,
    about_threads,
    colours_as_asked,
    note,
    parse,
    print_next,
    print_results,
    say,
)
from splatdistill.config import presets, registry, settings, validation, yaml_reader
from splatdistill.config.schema import GUIDANCE, METHODS, TrainConfig
from splatdistill.io import names
from splatdistill.io.kinds import Assumptions
from splatdistill.io.lock import refuse_held
from splatdistill.io.runs import SPLATS, Run
from splatdistill.training.advice import about_init, about_origins, about_priors
from splatdistill.training.errors import Stopped
from splatdistill.training.run_log import NoLog, check_writable
from splatdistill.utils import terminal
from splatdistill.utils.malloc import no_collections
from splatdistill.utils.progress import Progress

if TYPE_CHECKING:
    from splatdistill.io.video import Picture


@dataclass(frozen=True)
class Train(TrainConfig):
    """Make a 3D object from a prompt. Writes splats.ply, turntable.mp4 and contact.png into a run folder."""

    out: Path = Path("runs")
    """Parent of the run folder."""
    name: str = ""
    """Name of the run folder; empty derives one from the prompt and the settings."""
    config: File = None
    """YAML file of settings, or the name of a shipped recipe such as smoke."""
    resume: Folder = None
    """Run folder to go on with; only steps and output may differ from its settings."""
    profile: bool = False
    """Write trace.json.gz, a torch.profiler trace of a few steps, into the run folder."""
    view: bool = False
    """Show the training in the browser; the page stays after the last step, until Ctrl-C."""
    preview: bool = False
    """Draw the pictures of preview/ in the terminal too, if it has colours."""
    log: str = ""
    """Trackers that record the run, in its folder: tensorboard, wandb (offline), or both with a comma."""


@dataclass(frozen=True)
class Config(TrainConfig):
    """Print the settings in force as YAML, each with where it came from: default, the prior's family, file or flag."""

    config: File = None
    """YAML file of settings, or the name of a shipped recipe such as smoke."""


class TerminalPreview(NoLog):
    """Draws the pictures of a step above the bar."""

    shows = True

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def images(self, step: int, **images: Picture) -> None:
        from PIL import Image

        from splatdistill.io import video

        self._progress.show([Image.fromarray(video.to_uint8(image)) for image in images.values()])


def train(args: list[str]) -> int:
    if {"-h", "--help"} & {*args}:
        print(short_help.text(Train.__doc__ or ""), end="")
        return DONE
    args = ["--help" if word == "--help-all" else word for word in args]
    _refuse_loose_words(args)
    flags, config, origins = parse_settings(Train, args, verb="train")
    cautions = validation.validate(config)
    cautions += about_origins(config.prior, method=config.method, stages=config.stages, origins=origins)
    trackers = _trackers(flags.log)
    first = os.environ.get("RANK", "0") == "0"  # torchrun's; the first process alone looks, writes and talks
    if flags.resume is None:
        name = names.check_name(flags.name) if flags.name else names.run_name(config.prompt, settings.flatten(config))
        folder = flags.out / name
        if first:
            _check_new(flags, folder)
    else:
        folder = flags.resume
        _check_resume(flags, settings.flatten(config))
        if Run(folder).is_done(steps=config.steps):
            say(f"{folder} is done; --steps with more than {config.steps} goes on with it.")
            return DONE
    for sentence in [*cautions, *_notes(config, preview=flags.preview)]:
        if first:
            note(sentence)
    with no_collections():
        from splatdistill.priors.vocabulary import Advice
        from splatdistill.training.run import train as run_training
        from splatdistill.utils.device import pick_device
        from splatdistill.utils.distributed import ProcessGroup
        from splatdistill.utils.malloc import keep_freed_memory
        from splatdistill.viewer import beside  # pyright: ignore[reportMissingImports]

    warnings.simplefilter("ignore", Advice)  # it was said as a note
    keep_freed_memory()
    ranks = ProcessGroup.join(pick_device(config.device))
    with beside(folder) if flags.view and first else nullcontext() as viewer, _page_stays(viewer):
        bar = Progress(total=config.steps, log_every=config.output.log_every, stream=None if first else StringIO())
        with bar as progress:
            run_training(
                config,
                folder=folder,
                progress=progress,
                resume=flags.resume is not None,
                profile=flags.profile and first,
                command=shlex.join(["splatdistill", "train", *args]),
                ranks=ranks,
                logs=lambda step: [*trackers(folder, step), *([TerminalPreview(progress)] if flags.preview else [])],
            )
        ranks.leave()
        if first:
            _print_end(folder)
    return DONE


@contextmanager
def _page_stays(viewer: Popen[bytes] | None) -> Iterator[None]:
    """Keeps the page until Ctrl-C, after the last step or where the page asked to stop. A signal ends both."""
    stopped: Stopped | None = None
    try:
        yield
    except Stopped as stop:
        if viewer is None or not stop.asked:
            raise
        stopped = stop
        say(f"splatdistill: {stop}")
    if viewer is not None:
        say("The page stays until Ctrl-C.")
        with suppress(KeyboardInterrupt):
            viewer.wait()
    if stopped is not None:
        raise SystemExit(stopped.code)


def _notes(config: TrainConfig, *, preview: bool) -> list[str]:
    """What a user may not expect of these settings, on this machine and in this terminal."""
    taken = Assumptions(config.up, config.fit)
    found = [
        *about_threads(config.threads),
        *about_priors(config),
        *about_init(config.init, taken, config.camera, budget=config.densify.max_splats),
    ]
    if preview and not terminal.shows_pictures(sys.stderr):
        found.append("preview: this terminal shows no colours, so none is drawn; the files are in preview/ of the run.")
    return found


def _print_end(folder: Path) -> None:
    more = sorted(path.name for pattern in ("splats-*.ply", "contact-*.png") for path in folder.glob(pattern))
    print_results(folder, SPLATS, "turntable.mp4", "turntable_frames", "contact.png", *more)
    print_next(folder)


def config(args: list[str]) -> int:
    _, config, origins = parse_settings(Config, args, verb="config")
    print(settings.to_yaml(config, origins), end="")
    return DONE


@dataclass(frozen=True)
class Sources:
    """The flags that decide what the others default to."""

    method: str | None = None
    config: Path | None = None
    resume: Path | None = None
    prompts: Path | None = None
    prior: str | None = None


def sources(args: list[str]) -> Sources:
    with colours_as_asked():
        return tyro.cli(Sources, args=args, return_unknown_args=True, add_help=False)[0]


def parse_settings(
    kind: type[TrainConfig],
    args: list[str],
    *,
    verb: str,
    method: str | None = None,
    prior: str | None = None,
    defaults: tuple[str, Mapping[str, Any]] = ("", {}),
) -> tuple[Any, TrainConfig, presets.Origins]:
    """Parses in two passes: the first finds preset, file and run, whose values are the second's defaults.

    method, prior: overrule the flags. defaults: what to call their source in errors, and settings that lie over the
    files and under the flags. Returns the parsed flags, the settings among them, and where each setting came from.
    """
    from splatdistill.priors.families import layered  # NumPy loads here only

    args = _spelled(args)
    asked = sources(args)
    if asked.resume is not None and kind is Train:
        base = Run(asked.resume).settings()
        origins = dict.fromkeys(settings.flatten(base), "run")
        if asked.config is not None:
            base = settings.merge(base, yaml_reader.read(presets.find(asked.config)), where=str(asked.config))
    else:
        base, origins = layered(
            asked.config, method=method or asked.method, prior=prior or asked.prior, defaults=defaults
        )
    _refuse_foreign(args, base.method, fixed=settings.file_only(base))
    only = _for_method(kind, base.method)
    flags = parse(only, args, verb=verb, default=only(**vars(base)))
    config = TrainConfig(**{field.name: getattr(flags, field.name) for field in fields(TrainConfig)})
    config = presets.without_stages(replace(config, method=base.method), _named(args), origins)
    changed = [name for name in settings.differences(config, base) if name != "stages"]
    return flags, config, origins | dict.fromkeys(changed, "flag")


def _spelled(args: list[str]) -> list[str]:
    """Methods are names of settings, and these have no hyphen: --method sample-fit is --method sample_fit."""
    words = [word.replace("-", "_") if before == "--method" else word for before, word in pairwise(["", *args])]
    return [f"--method={word[9:].replace('-', '_')}" if word.startswith("--method=") else word for word in words]


def _named(args: list[str]) -> set[str]:
    """Dotted names of the settings that flags name."""
    return {word.partition("=")[0][2:].replace("-", "_") for word in args if word.startswith("--")}


def _for_method(kind: type[TrainConfig], method: str) -> type[Any]:
    """`kind` without flags for the sections that this method does not read."""
    others = [field for field in fields(kind) if field.name in METHODS and field.name != method]
    hidden = [(field.name, Suppress[Fixed[Any]], field) for field in others]
    only = make_dataclass(kind.__name__, hidden, bases=(kind,), frozen=True)
    only.__doc__ = f"{kind.__doc__}\n\nThese are the flags of --method {method}; `config` prints every setting."
    return only


def _refuse_loose_words(args: list[str]) -> None:
    """ValueError for a prompt without its flag or without quotes: the likeliest mistakes of all."""
    place = args.index("--prompt") + 1 if "--prompt" in args else 0
    words = list(takewhile(lambda word: not word.startswith("-"), args[place:]))
    if len(words) > bool(place):
        wanted = " ".join(words)
        raise ValueError(f'prompt: give it with its flag and in quotes: --prompt "{wanted}".')


def _refuse_foreign(args: list[str], method: str, *, fixed: Container[str]) -> None:
    """ValueError for a flag of another method's section, or of one of `fixed`, the settings without a flag."""
    short = registry.aliases(GUIDANCE)
    for flag in (word.partition("=")[0] for word in args if word.startswith("--")):
        name = flag.removeprefix("--").replace("-", "_")
        section = name.partition(".")[0]
        if "." in name and section in METHODS and section != method:
            raise ValueError(f"{flag}: --method {method} does not read it; it is for --method {section}.")
        if name in short and method not in short[name]:
            methods = " and ".join(short[name])
            raise ValueError(f"{flag}: --method {method} does not read it; it is for --method {methods}.")
        if name in fixed:
            raise ValueError(f"{flag}: {name} has no flag; set it in a file and name that with --config.")


def _trackers(names: str) -> Callable[[Path, int], list[Any]]:
    """What makes the trackers of these names for a folder and a first step. ValueError where one is not there."""
    if not names:
        return lambda folder, step: []
    from splatdistill.training import trackers  # loads torch

    found = trackers.chosen(names)
    return lambda folder, step: trackers.make(found, folder, step=step)


def _check_new(flags: Train, folder: Path) -> None:
    """Refuses what is there already or cannot be made, before anything is loaded."""
    if folder.exists():
        refuse_held(folder)
        raise ValueError(
            f"{folder} is there already; go on with --resume {folder}, or choose another --name or --seed."
        )
    check_writable(flags.out)


def _check_resume(flags: Train, after: Mapping[str, Any]) -> None:
    """ValueError where a run that goes on would become another one. after: all settings by their dotted names."""
    if flags.name:
        raise ValueError("name: a run that goes on keeps its name; leave out --name or --resume.")
    run = Run(flags.resume or Path())
    before = settings.flatten(run.settings())
    run.refuse_strange()
    refuse_held(run.folder)
    for name in before:
        if before[name] != after[name] and not name.startswith(settings.MAY_CHANGE_ON_RESUME):
            raise ValueError(
                f"resume: {name} is {before[name]!r} in {flags.resume}, but {after[name]!r} was asked for; "
                "begin a new run to change it."
            )
