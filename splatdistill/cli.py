"""The `splatdistill` command. Each verb imports what it needs when it runs, so that help is instant and torch-free."""

from __future__ import annotations

import json
import math
import os
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, make_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

import tyro
from tyro.conf import Fixed, FlagCreatePairsOff, Positional, Suppress, arg, subcommand

from splatdistill import presets
from splatdistill.config import METHODS, RendererName, TrainConfig
from splatdistill.io import names

if TYPE_CHECKING:
    from splatdistill.splats import Splats

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
File = Annotated[Path | None, arg(metavar="FILE")]
Folder = Annotated[Path | None, arg(metavar="FOLDER")]
SHORT = {"particles": ("vsd", "esd"), "lambda": ("esd",)}  # flags without a section, and whose they are
MAY_CHANGE = ("steps", "output.", "max_memory")  # on resume; everything else would make it another run


@dataclass(frozen=True)
class Train(TrainConfig):
    """Make a 3D object from a prompt. Writes splats.ply, turntable.mp4 and contact.png into a run folder."""

    out: Path = Path("runs")
    """Parent of the run folder."""
    name: str = ""
    """Name of the run folder; empty derives one from the prompt and the settings."""
    config: File = None
    """YAML file of settings, or the name of a shipped preset such as smoke."""
    resume: Folder = None
    """Run folder to go on with; only steps and output may differ from its settings."""
    profile: bool = False
    """Write trace.json.gz, a torch.profiler trace of a few steps, into the run folder."""


@dataclass(frozen=True)
class Config(TrainConfig):
    """Print the settings in force as YAML, each with where it came from: default, preset, file or flag."""

    config: File = None
    """YAML file of settings, or the name of a shipped preset such as smoke."""


@dataclass(frozen=True)
class Export:
    """Write the splats of a run as a file of their own."""

    source: Positional[Path]
    """Run folder, or .ply file."""
    format: Literal["ply"] = "ply"
    """File format: ply in the INRIA layout."""
    output: File = None
    """File to write; the name of the run in the current folder if not given."""
    force: bool = False
    """Replace the output if it is there."""


@dataclass(frozen=True)
class Render:
    """Draw the turntable and the contact sheet of 8 views."""

    source: Positional[Path]
    """Run folder, or .ply file."""
    output: Folder = None
    """Folder to write to; the run folder, or the .ply file's name without its suffix, if not given."""
    frames: int = 60
    """Frames of the turntable."""
    size: int = 256
    """Side of the frames and tiles, pixels."""
    renderer: RendererName = "auto"
    """What draws: cpu (ours), gsplat (CUDA only), or auto, which is gsplat on CUDA."""
    light: Annotated[str, arg(metavar="AZ,EL")] = ""
    """Light the splats from this azimuth (0 in front, growing to the right) and elevation, degrees."""


@dataclass(frozen=True)
class Vocab:
    """List the objects and colours that a prior knows."""

    prior: str = "embedded"
    """The teacher: embedded, or a folder with a model like it."""


@dataclass(frozen=True)
class Prior:
    """List the diffusion models that --prior has names for, or check one: what it is, what it needs, one step."""

    action: Positional[Literal["list", "check"]]
    """list names them and needs no weights; check loads one."""
    name: Positional[str] = ""
    """With check: whatever --prior of train takes."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of the network; auto takes bf16 where the processor has it."""
    max_memory: float = 0.0
    """Most memory in GB that the model may take on a GPU; 0 is all of it."""


@dataclass(frozen=True)
class Info:
    """Print versions, devices and how the extension was built."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line (default: that of the process); returns 0 done, 1 failed, 2 bad input, 130 on Ctrl-C."""
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args
    args = [arg for arg in args if arg != "--debug"]
    os.environ.setdefault("DIFFUSERS_DISABLE_REMOTE_CODE", "true")  # read when diffusers loads: a prior is data
    try:
        return _dispatch(args)
    except SystemExit as stop:  # tyro has said what it had to
        return stop.code if isinstance(stop.code, int) else USAGE
    except KeyboardInterrupt:
        print("splatdistill: stopped.", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if debug:
            traceback.print_exc()
        wrong_input = isinstance(error, ValueError)
        said = " ".join(str(error).split())
        cause = said if wrong_input else f"failed with {type(error).__name__}: {said} (--debug shows where)"
        print(f"splatdistill: {cause}", file=sys.stderr)
        return USAGE if wrong_input else FAILED


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
    return run(_parse(kind, args[1:], verb=verb))


def _parse(kind: type, args: list[str], *, verb: str, default: Any = None) -> Any:
    extra = {} if default is None else {"default": default}
    return tyro.cli(kind, prog=f"splatdistill {verb}", args=args, config=(FlagCreatePairsOff,), **extra)


@dataclass(frozen=True)
class _Sources:
    """The flags that decide what the others default to."""

    method: str | None = None
    config: Path | None = None
    resume: Path | None = None


def _settings(kind: type[TrainConfig], args: list[str], *, verb: str) -> tuple[Any, TrainConfig, presets.Origins]:
    """Parses in two passes: the first finds preset, file and run, whose values are the second's defaults.

    Returns the parsed flags, the settings among them, and where each setting came from.
    """
    asked, _ = tyro.cli(_Sources, args=args, return_unknown_args=True, add_help=False)
    if asked.resume is not None and kind is Train:
        base = _settings_of(asked.resume)
        origins = dict.fromkeys(presets.flatten(base), "run")
        if asked.config is not None:
            base = presets.merge(base, presets.read(presets.find(asked.config)), where=str(asked.config))
    else:
        values = presets.read(presets.find(asked.config)) if asked.config is not None else {}
        base, origins = presets.load(asked.method or values.get("method", "sds"), file=asked.config)
    _refuse_foreign(args, base)
    only = _for_method(kind, base.method)
    flags = _parse(only, args, verb=verb, default=only(**vars(base)))
    config = TrainConfig(**{field.name: getattr(flags, field.name) for field in fields(TrainConfig)})
    return flags, config, origins | dict.fromkeys(presets.differences(config, base), "flag")


def _for_method(kind: type[TrainConfig], method: str) -> type[Any]:
    """`kind` without flags for the sections that this method does not read."""
    others = [field for field in fields(kind) if field.name in METHODS and field.name != method]
    hidden = [(field.name, Suppress[Fixed[Any]], field) for field in others]
    only = make_dataclass(kind.__name__, hidden, bases=(kind,), frozen=True)
    only.__doc__ = f"{kind.__doc__}\n\nThese are the flags of --method {method}; `config` prints every setting."
    return only


def _refuse_foreign(args: list[str], config: TrainConfig) -> None:
    """ValueError for a flag of another method's section, or of a setting that has no flag."""
    for flag in (word.partition("=")[0] for word in args if word.startswith("--")):
        name = flag.removeprefix("--").replace("-", "_")
        section = name.partition(".")[0]
        if "." in name and section in METHODS and section != config.method:
            raise ValueError(f"{flag}: --method {config.method} does not read it; it is for --method {section}.")
        if name in SHORT and config.method not in SHORT[name]:
            methods = " and ".join(SHORT[name])
            raise ValueError(f"{flag}: --method {config.method} does not read it; it is for --method {methods}.")
        if name in presets.file_only():
            raise ValueError(f"{flag}: {name} has no flag; set it in a file and name that with --config.")


def _train(args: list[str]) -> int:
    flags, config, _ = _settings(Train, args, verb="train")
    warnings = presets.validate(config)
    if flags.resume is None:
        folder = _new_folder(flags, config)
    else:
        folder = flags.resume
        _check_resume(flags, config)
        if _is_done(folder, config):
            print(f"{folder} is done; --steps with more than {config.steps} goes on with it.", file=sys.stderr)
            return DONE
    for sentence in [*warnings, *_about_priors(config)]:
        print(f"Note: {sentence}", file=sys.stderr)
    from splatdistill.logs import Progress
    from splatdistill.memory import keep_freed_memory
    from splatdistill.train import train

    keep_freed_memory()
    with Progress(total=config.steps, log_every=config.output.log_every) as progress:
        # A run that was stopped before its first checkpoint begins again.
        resume = (folder / "checkpoints" / "latest").is_file()
        train(
            config,
            folder=folder,
            progress=progress,
            resume=resume,
            profile=flags.profile,
            command=shlex.join(["splatdistill", "train", *args]),
        )
    more = sorted(path.name for pattern in ("splats-*.ply", "contact-*.png") for path in folder.glob(pattern))
    _print_results(folder, "splats.ply", "turntable.mp4", "turntable_frames", "contact.png", *more)
    return DONE


def _new_folder(flags: Train, config: TrainConfig) -> Path:
    """Where a new run goes; refuses what is there already or cannot be made, before anything is loaded."""
    folder = flags.out / (names.check_name(flags.name) if flags.name else names.run_name(config))
    if folder.exists():
        raise ValueError(
            f"{folder} is there already; go on with --resume {folder}, or choose another --name or --seed."
        )
    parent = flags.out
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    try:  # asking the system is the only sure way: permissions, read-only disks, a file in place of a folder
        tempfile.TemporaryDirectory(dir=parent, prefix=".splatdistill").cleanup()
    except OSError as error:
        raise ValueError(f"out: nothing can be written to {flags.out}: {error.strerror}.") from error
    return folder


def _settings_of(run: Path) -> TrainConfig:
    if not (run / "config.yaml").is_file():
        raise ValueError(f"{run} is not a run folder: it has no config.yaml.")
    return presets.merge(TrainConfig(), presets.read(run / "config.yaml"), where=str(run / "config.yaml"))


def _check_resume(flags: Train, config: TrainConfig) -> None:
    if flags.name:
        raise ValueError("name: a run that goes on keeps its name; leave out --name or --resume.")
    before, after = presets.flatten(_settings_of(flags.resume or Path())), presets.flatten(config)
    for name in before:
        if before[name] != after[name] and not name.startswith(MAY_CHANGE):
            raise ValueError(
                f"resume: {name} is {before[name]!r} in {flags.resume}, but {after[name]!r} was asked for; "
                "begin a new run to change it."
            )


def _is_done(folder: Path, config: TrainConfig) -> bool:
    """Whether the last thing that happened in the run was its end, at this many steps or more."""
    events = folder / "events.jsonl"
    lines = events.read_text(encoding="utf-8").splitlines() if events.exists() else []
    try:
        last = json.loads(lines[-1])
    except (IndexError, ValueError):
        return False
    return last.get("kind") == "done" and last.get("step", 0) >= config.steps


def _about_prior(config: TrainConfig) -> list[str]:
    """What the prior will make of the cameras and of the prompt's words; ValueError when it knows no word."""
    from splatdistill.priors import EMBEDDED
    from splatdistill.priors.meta import about_cameras
    from splatdistill.priors.words import META_FILE, Vocabulary

    folder = EMBEDDED if config.prior == "embedded" else Path(config.prior)
    if not (folder / META_FILE).is_file():  # a prior without a list of words, or none: then `train` says so
        return []
    vocabulary = Vocabulary.load(folder)
    known = {**vocabulary.nouns, **vocabulary.colours}
    text = " ".join([*known, *(word for synonyms in known.values() for word in synonyms)])
    messages = vocabulary.check(config.prompt)
    if not set(vocabulary.normalise(config.prompt).replace(",", " ").split()) & set(text.split()):
        raise ValueError(f"prompt: this prior knows no word of {config.prompt!r}. {messages[0]}")
    return [*about_cameras(folder, config), *messages]


def _about_priors(config: TrainConfig) -> list[str]:
    """The same for every stage, each sentence once."""
    return list(dict.fromkeys(said for _, stage in presets.stages(config) for said in _about_prior(stage)))


def _config(args: list[str]) -> int:
    _, config, origins = _settings(Config, args, verb="config")
    print(presets.to_yaml(config, origins), end="")
    return DONE


def _export(flags: Export) -> int:
    from splatdistill.io import ply

    splats = _read_splats(flags.source)
    output = flags.output or Path(f"{flags.source.resolve().stem}.{flags.format}")
    if output.exists() and not flags.force:
        raise ValueError(f"{output} is there already; name another --output, or replace it with --force.")
    if not output.parent.is_dir():
        raise ValueError(f"output: there is no folder {output.parent}.")
    ply.write(output, splats)
    print(output)
    return DONE


def _render(flags: Render) -> int:
    is_run = flags.source.is_dir()
    config = _settings_of(flags.source) if is_run else TrainConfig()
    config = replace(config, output=replace(config.output, frames=flags.frames, size=flags.size))
    presets.validate(replace(config, prompt=config.prompt or "a file"))
    light = _direction(flags.light) if flags.light else None
    splats = _read_splats(flags.source)
    folder = flags.output or (flags.source if is_run else flags.source.with_suffix(""))
    from splatdistill.logs import Progress
    from splatdistill.renderer import make_renderer
    from splatdistill.train import pick_device, write_views

    device = pick_device("auto")
    folder.mkdir(parents=True, exist_ok=True)
    with Progress(total=flags.frames) as progress:
        renderer = make_renderer(device, flags.renderer)
        write_views(renderer, splats.to(device), config, folder, progress, light=light)
    _print_results(folder, "turntable.mp4", "turntable_frames", "contact.png")
    return DONE


def _direction(text: str) -> tuple[float, float]:
    """AZ,EL in degrees as radians."""
    try:
        azimuth, elevation = (float(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"light must be AZ,EL in degrees, for example --light -45,30; it is {text!r}.") from error
    if not math.isfinite(azimuth) or not -90 <= elevation <= 90:
        raise ValueError(
            f"light: the elevation must be within -90 and 90 degrees and the azimuth finite; it is {text!r}."
        )
    return math.radians(azimuth), math.radians(elevation)


def _read_splats(source: Path) -> Splats:
    from splatdistill.io import ply

    if source.is_dir() and not (source / "splats.ply").is_file():
        raise ValueError(f"{source} has no splats.ply; if it is a run, go on with it: train --resume {source}.")
    return ply.read(source / "splats.ply" if source.is_dir() else source)


def _print_results(folder: Path, *files: str) -> None:
    for name in files:
        if (folder / name).exists():
            print(folder / name)
    if not (folder / "turntable.mp4").exists():
        print("Note: no ffmpeg was found, so the turntable is a folder of pictures.", file=sys.stderr)


def _vocab(flags: Vocab) -> int:
    from splatdistill.priors import EMBEDDED
    from splatdistill.priors.words import Vocabulary

    vocabulary = Vocabulary.load(EMBEDDED if flags.prior == "embedded" else Path(flags.prior))
    for title, table in (("Objects", vocabulary.nouns), ("Colours", vocabulary.colours)):
        print(f"{title}:")
        for word in sorted(table):
            print(f"  {word}" + (f" ({', '.join(table[word])})" if table[word] else ""))
    return DONE


def _prior(flags: Prior) -> int:
    if (flags.action == "check") != bool(flags.name):
        raise ValueError("prior: say `prior list`, or `prior check NAME` with the name of one.")
    if flags.max_memory < 0:
        raise ValueError(f"max_memory must not be negative; it is {flags.max_memory:g}.")
    from splatdistill.priors import check

    if flags.action == "list":
        print("\n".join(check.table()))
        print("GB: memory for SDS with four views in bf16, estimated and not measured.")
        return DONE
    from splatdistill.train import pick_device

    found = check.describe(flags.name, device=pick_device(flags.device), dtype=flags.dtype, max_memory=flags.max_memory)
    _print_table(found)
    return DONE


def _print_table(lines: Mapping[str, object]) -> None:
    width = max(len(key) for key in lines)
    for key, value in lines.items():
        print(f"{key:<{width}}  {value}")


def _info(flags: Info) -> int:
    import torch

    from splatdistill import ops
    from splatdistill.io.video import has_encoder
    from splatdistill.logs import commit, versions
    from splatdistill.priors import EMBEDDED

    lines = {**versions(), "commit": commit() or "none", "threads": torch.get_num_threads()}
    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    lines |= {"devices": ", ".join(["cpu", *cuda]), "ffmpeg": "found" if has_encoder() else "not found"}
    lines |= {"embedded prior": "found" if (EMBEDDED / "splatdistill.json").exists() else "not found"}
    lines |= {f"extension {key}": value for key, value in ops.build_info().items()}
    _print_table(lines)
    return DONE


VERBS: dict[str, tuple[type, Callable[[Any], int]]] = {
    "train": (Train, _train),
    "render": (Render, _render),
    "export": (Export, _export),
    "config": (Config, _config),
    "vocab": (Vocab, _vocab),
    "prior": (Prior, _prior),
    "info": (Info, _info),
}
