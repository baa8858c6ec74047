"""What changes an object that is there already: `edit` by words, `refine` by a prompt."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from splatdistill.batch.plan import Job
from splatdistill.commands.common import AS_IT_SAYS, DONE, File, Taken, about_threads, make, new_file, note, open_splats
from splatdistill.config import settings, validation
from splatdistill.config.schema import MethodName, OptimConfig, Stages, TrainConfig
from splatdistill.io import kinds, names
from splatdistill.io.files import replacing
from splatdistill.io.runs import SPLATS, Run
from splatdistill.training.advice import about_priors
from splatdistill.training.run_log import check_writable

if TYPE_CHECKING:
    from splatdistill.io.formats import Opened
    from splatdistill.scene.gaussians import Splats

REPORT, SHEET = "change.json", "before-after.png"
GEOMETRY = ("means", "scales", "quats", "opacities")
REACH = 14.0
"""Least rate of colours times the steps: falling to a tenth over the run, it takes a channel from 0 to 1 and half as
far again.
"""
SLOW = 0.1  # of the rates that make an object, for the geometry of one that is made


@dataclass(frozen=True)
class Changing:
    """What both verbs read. The same command again goes on where it was stopped."""

    source: Positional[Path]
    """Run folder, or file of splats of any format that is read. It stays as it is."""
    output: File = None
    """File to write, whose suffix names its format, in the world of the source; if not given, a .ply in this folder."""
    force: bool = False
    """Replace the output if it is there."""
    box: Annotated[str, arg(metavar="X,Y,Z,X,Y,Z")] = ""
    """Lowest and highest corner of the part that may change, in the world of the source; all else stays, to the bit."""
    mask: File = None
    """A .npy file with true or false for each splat of the source: which may change."""
    prior: str = "embedded"
    """The teacher, as --prior of train."""
    prior_instance: int = 0
    """Which of its models of the object a prior of known models takes, from 1; 0 is what the source is most like."""
    steps: int = 0
    """Optimisation steps; 0 takes what is usual with the prior."""
    size: int = 0
    """Side of the renders that the prior sees, pixels; 0 takes what is usual with the prior."""
    seed: int = 0
    """Fixes every random draw."""
    threads: int = 1
    """CPU threads."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    config: File = None
    """YAML file of settings, as --config of train."""
    out: Path = Path("runs")
    """Parent of the run folder, with logs, checkpoints, change.json and before-after.png."""
    taken: Taken = AS_IT_SAYS
    """How a file is taken; a run keeps its frame. What lies elsewhere than cameras look is moved there, and back."""


@dataclass(frozen=True)
class Edit(Changing):
    """Change an object by words: from what it is to what it shall be."""

    old: Annotated[str, arg(name="from")] = ""
    """What the object is now, for example "a red armchair"."""
    new: Annotated[str, arg(name="to")] = ""
    """What it shall be, for example "a blue armchair"."""
    method: Literal["dds", "ssd"] = "dds"
    """dds: the difference of both texts; ssd: with a further pull towards the source."""
    shape: bool = False
    """Let the shape change as much as the colours: positions, sizes and opacities learn at their usual rates."""


@dataclass(frozen=True)
class Refine(Changing):
    """Improve an object by a prompt, with little noise: its place, degree and number of splats stay."""

    prompt: str = ""
    """What the object is, for example "a red armchair"."""
    method: MethodName = "sds"
    """The guidance method."""


def edit(flags: Edit) -> int:
    for name, text in (("from", flags.old), ("to", flags.new)):
        if not text.strip():
            raise ValueError(f"{name} is empty; say what the object is and shall be: --from TEXT --to TEXT.")
    if " ".join(flags.old.lower().split()) == " ".join(flags.new.lower().split()):
        raise ValueError(f"to: it is what --from says, {flags.new!r}, so there is nothing to change.")
    special: dict[str, Any] = {flags.method: {"source_prompt": flags.old}}
    return _change(
        flags, verb="edit", prompts=(flags.old, flags.new), special=special, slow=1.0 if flags.shape else SLOW
    )


def refine(flags: Refine) -> int:
    prompts = flags.prompt, flags.prompt
    return _change(flags, verb="refine", prompts=prompts, special=little_noise(flags.method), slow=SLOW)


def little_noise(method: str) -> dict[str, Any]:
    """Settings of a method for a run that improves what is there: timesteps that leave it to be seen."""
    low = {"t_min": 0.02, "t_max": 0.5, "t_max_final": 0.1, "t_min_first": 0.0}
    section = getattr(TrainConfig(), method)
    return {method: {key: value for key, value in low.items() if hasattr(section, key)}}


def one_stage(stages: Stages, *, size: int) -> dict[str, Any]:
    """Settings without stages, which would put the method's usual timesteps back: what they show finely is shown so
    from the start on. size: of the first of them, pixels.
    """
    sizes = [stage["size"] for stage in stages if "size" in stage]
    return {"stages": (), "size": max([size, *sizes])} if stages else {}


def slowed(optim: OptimConfig, slow: float) -> dict[str, Any]:
    """Settings with the rates of the geometry times `slow`."""
    return {"optim": {name: slow * getattr(optim, name) for name in GEOMETRY}}


def _change(
    flags: Edit | Refine, *, verb: str, prompts: tuple[str, str], special: Mapping[str, Any], slow: float
) -> int:
    suffix = {"edit": "edited", "refine": "refined"}[verb]
    output = new_file(flags.output or Path(f"{_stem(flags.source)}-{suffix}.ply"), force=flags.force)
    kind = kinds.kind_of(output)
    if flags.source.exists() and output.exists() and output.samefile(flags.source):
        raise ValueError(f"output: {output} is the source, which stays as it is; name another file.")
    found = open_splats(flags.source, replace(flags.taken, fit=False))
    config = _settings(flags, found, verb=verb, prompts=prompts, special=special, slow=slow)
    folder = flags.out / names.run_name(prompts[1], settings.flatten(config) | {"source": digest(found.path)})
    cautions = [*validation.validate(config), *about_threads(config.threads), *about_priors(config)]
    cautions += about_priors(replace(config, prompt=prompts[0])) if prompts[0] != prompts[1] else []
    for sentence in dict.fromkeys(cautions):
        note(sentence)
    job = Job(folder.name, config, str(flags.source))
    if not Run(folder).is_done(steps=config.steps):
        check_writable(flags.out)
        make(job, folder)
    _finish(job, folder, found, prompts=prompts, output=output, kind=kind)
    print(output, folder / REPORT, folder / SHEET, sep="\n")
    return DONE


def _settings(
    flags: Edit | Refine, found: Opened, *, verb: str, prompts: tuple[str, str], special: Mapping[str, Any], slow: float
) -> TrainConfig:
    """Of the run: the family of the prior, the file of --config, what the verb is, and the flags."""
    from splatdistill.io.frames import fitted
    from splatdistill.priors.families import family_of, layered
    from splatdistill.training.region import chosen_of, placed

    base, _ = layered(flags.config, method=flags.method, prior=flags.prior)
    camera = base.camera.object_radius
    is_run, count = flags.source.is_dir(), len(found.splats)
    region = {"box": _corners(flags.box), "mask": str(flags.mask or "")}
    values: dict[str, Any] = {
        "prompt": prompts[1], "prior": flags.prior, "prior_instance": flags.prior_instance, "seed": flags.seed,
        "threads": flags.threads, "device": flags.device, "init": str(flags.source), "up": flags.taken.up,
        "fit": not is_run and (flags.taken.fit or not placed(found.splats, radius=camera)),
        "splats": {"sh_degree": flags.taken.sh_degree, **region},
        **slowed(base.optim, slow), **one_stage(base.stages, size=base.size), **special,
    }  # fmt: skip
    values |= {name: getattr(flags, name) for name in ("steps", "size") if getattr(flags, name)}
    merged = settings.merge(base, values, where=verb)
    if verb == "edit":  # few steps would not reach another colour at the rate that makes an object of gray splats
        merged = replace(merged, optim=replace(merged.optim, sh0=max(merged.optim.sh0, REACH / merged.steps)))
    chosen = chosen_of(merged.init, merged.splats, taken=kinds.Assumptions(merged.up, merged.fit))
    count = count if chosen is None else int(chosen.sum())
    merged = replace(
        merged, densify=replace(merged.densify, max_splats=count), splats=replace(merged.splats, num_init=count)
    )
    if family_of(flags.prior) == "embedded":
        splats = fitted(found.splats, radius=camera)[0] if merged.fit else found.splats
        number, alike = _most_like(merged.prior, splats, prompts)
        if verb == "edit":
            merged = settings.merge(merged, {flags.method: {"source_instance": number}}, where=verb)
        if alike and not merged.prior_instance:
            merged = replace(merged, prior_instance=number)
    if merged.fit:
        note("the object lies elsewhere than cameras look: it is moved there, and back.")
    return merged


def _most_like(teacher: str, splats: Splats, prompts: tuple[str, str]) -> tuple[int, bool]:
    """Which of the prior's models the object is most like, in the paint of the words for it, and whether the words for
    the result mean the same kind of object. In the run pictures would not tell that: their colours are wrong.
    """
    import torch

    from splatdistill import priors
    from splatdistill.priors.sampling import ring
    from splatdistill.rendering.renderer import make_renderer

    prior: Any = priors.load(teacher, device=torch.device("cpu"), dtype="fp32")
    cameras = ring(prior)
    seen = make_renderer(torch.device("cpu")).render(splats, cameras, background=torch.ones(len(cameras), 3))
    x0 = prior.encode(torch.cat([seen.rgb, seen.alpha], -1).detach())
    number = prior.most_like(prompts[0], x0, cameras)
    nouns = [prior.vocabulary.read(prompt).nouns for prompt in prompts]
    if number:
        note(f"of the prior's models, the source is most like number {number} of its kind.")
    return number, bool(number) and nouns[0] == nouns[1]


def _finish(job: Job, folder: Path, found: Opened, *, prompts: tuple[str, str], output: Path, kind: str) -> None:
    """Writes the object in the world of its source, and what has changed."""
    import torch

    from splatdistill.evaluate.change import compared, looked_at
    from splatdistill.io import formats, video
    from splatdistill.io.frames import fitted
    from splatdistill.rendering.renderer import make_renderer
    from splatdistill.training.region import chosen_of, restored
    from splatdistill.utils.device import pick_device

    config = job.config
    radius = config.camera.object_radius if config.fit else 0.0
    chosen = chosen_of(config.init, config.splats, taken=kinds.Assumptions(config.up, config.fit))
    after = formats.read(folder / SPLATS)
    result = restored(found.splats, after, chosen, radius=radius)
    up = found.up if kind == "ply" and found.path.suffix == ".ply" else None
    formats.write(output, result, kind=kind, how=formats.Written(up))
    device = pick_device(config.device)
    renderer = make_renderer(device, config.renderer)
    before: Splats = fitted(found.splats, radius=radius)[0] if radius else found.splats
    seen = [looked_at(splats.to(device), config.camera, renderer) for splats in (before, after)]
    figures = compared(seen[0], seen[1], prompts=prompts, judge=_judge())
    unchanged = 0 if chosen is None else int((~chosen).sum())
    record = {"source": str(found.path), "prompts": list(prompts), "num_splats": [len(found.splats), len(result)],
              "untouched": unchanged, **figures}  # fmt: skip
    with replacing(folder / REPORT) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    rows = [torch.cat(list(rgb[::2]), 1) for rgb, _ in seen]  # the source above, the result below
    video.write_image(folder / SHEET, torch.cat(rows))
    views = figures["psnr_of_views"]
    print(f"PSNR to the source {figures['psnr']:.1f} dB, from {min(views):.1f} to {max(views):.1f} by view.")
    print(f"Silhouettes agree by {figures['silhouette_iou']:.1%}.")
    if "external" in figures:
        masses = [one["mass"] for one in figures["external"]]
        if None not in masses:
            print(f"The outside judge gives the object {masses[0]:.3f} before and {masses[1]:.3f} after.")


def _judge() -> Any:
    """The outside judge, None where it is not installed."""
    from splatdistill.evaluate.external import ImageNet

    try:
        return ImageNet()
    except ValueError as error:
        note(str(error))
        return None


def _corners(text: str) -> list[float]:
    """X,Y,Z,X,Y,Z as numbers."""
    try:
        found = [float(part) for part in text.split(",")] if text else []
    except ValueError as error:
        raise ValueError(f"box must be six numbers X,Y,Z,X,Y,Z; it is {text!r}.") from error
    if found and len(found) != 6:
        raise ValueError(f"box must be six numbers, its lowest and its highest corner; it has {len(found)}.")
    return found


def _stem(source: Path) -> str:
    return source.resolve().name.partition(".")[0] if source.is_file() else source.resolve().name


def digest(path: Path) -> str:
    """SHA-256 of a file in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
