"""`scene`: a file of objects with places becomes one scene, each made by itself, parted, and improved together."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import Positional

from splatdistill.batch.plan import Job
from splatdistill.commands.changes import SLOW, digest, little_noise, one_stage, slowed
from splatdistill.commands.common import DONE, File, about_threads, make_all, note
from splatdistill.commands.scene_file import Asked, read_parts
from splatdistill.config import settings
from splatdistill.config.schema import GUIDANCE, TrainConfig
from splatdistill.io import names
from splatdistill.io.files import replacing, write_text
from splatdistill.io.runs import SPLATS
from splatdistill.training.advice import about_priors
from splatdistill.training.run_log import check_writable

if TYPE_CHECKING:
    from splatdistill.export.placing import Pose
    from splatdistill.scene.gaussians import Splats

PARTS, TOGETHER, INITS = "parts", "together", "begins"
SCENE, RECORD = "scene.ply", "scene.json"
ONE_OBJECT = ("embedded", "pretrained")
"""Families whose pictures show one object and nothing else: such a prior is not asked about others around it."""
AROUND = 1.5
"""How far other parts are seen around one, in radii of the ball that its cameras look at."""


@dataclass(frozen=True)
class Scene:
    """Make a scene of several objects, each with a prompt and a place, none of which overlap. The same command again
    goes on where it was stopped.
    """

    file: Positional[Path]
    """YAML file with `parts`, a list of {prompt, at: [x, y, z]}, each also with extent, turn (degrees about +y) and
    settings; and, if wanted, `prompt` of the whole and `defaults` of all parts.
    """
    out: Path
    """Folder for the runs, scene.ply, scene.json, turntable.mp4 and contact.png."""
    rounds: int = 1
    """How often all parts are improved once they stand in their places; 0 leaves them as they were made."""
    prior: str = "embedded"
    """The teacher, as --prior of train."""
    config: File = None
    """YAML file of settings, as --config of train."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 1
    """CPU threads."""


def scene(flags: Scene) -> int:
    if flags.rounds < 0:
        raise ValueError(f"rounds must be 0 or more; it is {flags.rounds}.")
    asked = read_parts(flags.file, config=flags.config, prior=flags.prior, device=flags.device, threads=flags.threads)
    check_writable(flags.out)
    cautions = [sentence for job in asked.jobs for sentence in _about(job)]
    if asked.prompt and flags.rounds and not _sees_several(asked.whole.config.prior):
        cautions.append(
            f"prompt: {asked.whole.config.prior} knows single objects only, so that of the whole is not read."
        )
    for sentence in dict.fromkeys([*cautions, *about_threads(flags.threads)]):
        note(sentence)
    begun = time.perf_counter()
    make_all(asked.jobs, flags.out / PARTS)
    return _finish(flags, asked, begun=begun)


def _about(job: Job) -> list[str]:
    """What the prior will make of a part; ValueError, which names the part, for an object that it does not know."""
    try:
        return about_priors(job.config)
    except ValueError as error:
        raise ValueError(f"{job.where}: {error}") from error


def _sees_several(prior: str) -> bool:
    """Whether the teacher can be asked about pictures of more than one object."""
    from splatdistill.priors.families import family_of

    return family_of(prior) not in ONE_OBJECT


def _finish(flags: Scene, asked: Asked, *, begun: float) -> int:
    """Places the parts, improves them there, and writes the scene."""
    from splatdistill.export import placing
    from splatdistill.io import formats, ply
    from splatdistill.io.frames import concatenate

    parts = [ply.read(flags.out / PARTS / job.run / SPLATS) for job in asked.jobs]
    poses = [placing.pose_of(part, place) for part, place in zip(parts, asked.places, strict=True)]
    poses, moves, before = _parted(asked, parts, poses)
    alone = time.perf_counter()
    for number in range(1, flags.rounds + 1):
        parts = _improved(flags, asked, parts, poses, number=number)
    poses, again, _ = _parted(asked, parts, poses)
    standing = [pose.into_scene(part) for pose, part in zip(poses, parts, strict=True)]
    made = concatenate(standing)
    formats.write(flags.out / SCENE, made)
    seconds = {"parts": round(alone - begun, 1), "together": round(time.perf_counter() - alone, 1)}
    _look(flags.out, made)
    lines = [
        {"prompt": job.config.prompt, "run": job.run, "num_splats": len(part), "at": list(place.at),
         "extent": place.extent, "turn": place.turn, "scale": pose.scale, "translation": list(pose.move),
         "moved": [one + other for one, other in zip(move, more, strict=True)]}
        for job, part, place, pose, move, more in zip(
            asked.jobs, parts, asked.places, poses, moves, again, strict=True
        )
    ]  # fmt: skip
    record = {"file": str(flags.file), "prompt": asked.prompt, "parts": lines, "overlap": {
        "before": before, "after": _overlap(standing)}, "rounds": flags.rounds, "seconds": seconds}  # fmt: skip
    write_text(flags.out / RECORD, json.dumps(record, indent=1) + "\n")
    print(*(flags.out / name for name in (SCENE, RECORD, "contact.png")), sep="\n")
    return DONE


def _parted(
    asked: Asked, parts: Sequence[Splats], poses: Sequence[Pose]
) -> tuple[list[Pose], list[tuple[float, float, float]], dict[str, Any]]:
    """The poses in which no parts overlap, how far each moved for that, and what overlapped before. ValueError where a
    part would have to leave its place by more than its own extent.
    """
    from splatdistill.export import placing

    standing = [pose.into_scene(part) for pose, part in zip(poses, parts, strict=True)]
    moves = placing.parted([placing.bounds(part) for part in standing])
    for number, (job, place, move) in enumerate(zip(asked.jobs, asked.places, moves, strict=True), 1):
        far = math.hypot(*move)
        if far > place.extent:
            raise ValueError(
                f"{job.where}: it overlaps the parts before it and would have to move by {far:.3g}, more than its "
                f"extent {place.extent:g}; give it another place."
            )
        if far:
            by = ", ".join(f"{value:.3g}" for value in move)
            note(f"part {number}, {job.config.prompt!r}, overlapped and is moved by ({by}).")
    return [pose.moved(move) for pose, move in zip(poses, moves, strict=True)], moves, _overlap(standing)


def _overlap(standing: Sequence[Splats]) -> dict[str, Any]:
    """Pairs that overlap, how deep the deepest is (world units), and splats whose centre lies within another part."""
    from splatdistill.export import placing

    bounded = [placing.bounds(part) for part in standing]
    gaps = placing.gaps(bounded)
    return {
        "pairs": int((gaps < 0).sum()) // 2,
        "deepest": max(0.0, -float(gaps.min())),
        "splats_inside": placing.inside(standing, bounded),
    }


def _improved(
    flags: Scene, asked: Asked, parts: Sequence[Splats], poses: Sequence[Pose], *, number: int
) -> list[Splats]:
    """A round: each part in its own frame, where a teacher that sees several objects sees the others around it, which
    stay; then the whole by its prompt, by such a teacher. A part that was fitted to views of itself would be fitted to
    the same ones again, and stays.
    """
    import torch

    from splatdistill.io.frames import ball, concatenate, transform
    from splatdistill.training.region import picked

    parts = list(parts)
    for index, (job, pose) in enumerate(zip(asked.jobs, poses, strict=True)):
        if GUIDANCE[job.config.method].fits_views:
            continue
        around = [other for other in range(len(parts)) if other != index] if _sees_several(job.config.prior) else []
        others = [pose.out_of_scene(poses[other].into_scene(parts[other])) for other in around]
        # What is made once and seen alone is improved once.
        name = f"round-{number}-part-{1 + (index if others else asked.jobs.index(job))}"
        parts[index] = _improve(flags, job, parts[index], others, name=name)
    if not asked.prompt or not _sees_several(asked.whole.config.prior):
        return parts
    made = concatenate([pose.into_scene(part) for pose, part in zip(poses, parts, strict=True)])
    middle, extent = ball(made)
    scale = asked.whole.config.camera.object_radius / extent
    x, y, z = (float(v) for v in middle)
    seen = transform(made, scale=scale, translation=(-scale * x, -scale * y, -scale * z))
    seen = _improve(flags, asked.whole, seen, (), name=f"round-{number}-whole")
    made = transform(seen, scale=1 / scale, translation=(x, y, z))
    owners = torch.repeat_interleave(torch.tensor([len(part) for part in parts]))  # [N] the part of each splat
    return [pose.out_of_scene(picked(made, owners == index)) for index, pose in enumerate(poses)]


def _improve(flags: Scene, job: Job, splats: Splats, others: Sequence[Splats], *, name: str) -> Splats:
    """N splats after a run that begins with them: as many, in their order. others: what is seen around them, and
    stays.
    """
    import numpy as np
    import torch

    from splatdistill.io import formats, ply
    from splatdistill.io.frames import concatenate
    from splatdistill.scene.gaussians import with_sh_degree
    from splatdistill.training.region import picked

    config = job.config
    begins, radius = flags.out / INITS, AROUND * config.camera.object_radius
    begins.mkdir(exist_ok=True)
    near = [picked(other, other.means.norm(dim=-1) < radius) for other in others]
    shown = concatenate([splats, *near])
    file, mask, count = begins / f"{name}.ply", begins / f"{name}.npy", len(splats)
    formats.write(file, shown, how=formats.Written(sh_degree=shown.sh_degree))
    if len(shown) > count:
        with replacing(mask) as temporary:
            np.save(temporary, np.arange(len(shown)) < count)
    values: dict[str, Any] = {
        "init": str(file), "up": "auto", "fit": False, "steps": max(1, config.steps // 4),
        "splats": {"num_init": count, "sh_degree": "auto", "box": (), "mask": str(mask) if len(shown) > count else ""},
        "densify": {"max_splats": count, "start": 1.0},  # no event: splats keep their number and order
        **slowed(config.optim, SLOW), **one_stage(config.stages, size=config.size), **little_noise(config.method),
    }  # fmt: skip
    made = settings.merge(config, values, where="scene")
    run = names.run_name(made.prompt, settings.flatten(made) | {"source": digest(file)})
    make_all([replace(job, run=run, config=made)], flags.out / TOGETHER)
    found = ply.read(flags.out / TOGETHER / run / SPLATS)
    return with_sh_degree(picked(found, torch.arange(len(found)) < count), splats.sh_degree)


def _look(out: Path, made: Splats) -> None:
    """Turntable and contact sheet of the whole."""
    from splatdistill.io.frames import fitted
    from splatdistill.rendering.renderer import make_renderer
    from splatdistill.rendering.turntable import Turntable, write_views
    from splatdistill.utils.device import pick_device
    from splatdistill.utils.progress import Progress

    config, device = TrainConfig(), pick_device("auto")
    seen = fitted(made, radius=config.camera.object_radius)[0].to(device)
    turntable = Turntable(config.camera, frames=config.output.frames, size=config.output.size)
    with Progress(total=turntable.frames) as progress:
        write_views(out, make_renderer(device), seen, turntable, progress)
