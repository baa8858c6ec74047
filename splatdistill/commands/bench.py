"""`bench`: a suite of prompts by several methods and seeds, judged, in one table."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from splatdistill.batch import plan
from splatdistill.batch.plan import Job
from splatdistill.commands.common import DONE, File, about_threads, make_all, note
from splatdistill.commands.layouts import LAYOUTS, Layout
from splatdistill.config import settings
from splatdistill.config.schema import METHODS, TrainConfig
from splatdistill.io.files import replacing
from splatdistill.io.runs import SPLATS, Run
from splatdistill.training.advice import about_priors
from splatdistill.training.run_log import check_writable

JUDGES = ("own", "external", "frechet")
OF_A_FILE = {"clip": "FOLDER_OR_ID", "fid": "WEIGHTS"}  # judges that are named with what they load
RUNS, SAMPLES, SHEET = "runs", "samples", "contact.png"
TILE = 96  # pixels


@dataclass(frozen=True)
class Bench:
    """Make every prompt of a suite by every method with every seed, judge them, and write one table. The same command
    again goes on where it was stopped.
    """

    suite: Positional[Path]
    """File of prompts, as --prompts of batch; its settings hold for all."""
    out: Path
    """Folder for the runs, bench.json, bench.md, bench.tex and contact.png."""
    methods: Annotated[str, arg(metavar="A,B,...")] = "sds"
    """The methods, with commas."""
    seeds: int = 3
    """Seeds 0, 1, ... of each prompt."""
    judges: Annotated[str, arg(metavar="A,B,...")] = "own"
    """own (the shipped judge), external (an ImageNet classifier), clip:FOLDER_OR_ID, frechet (distance to the teacher's
    own samples in features of that classifier), fid:WEIGHTS (in those of Inception), with commas.
    """
    layouts: Annotated[str, arg(metavar="A,B,...")] = ""
    """t3bench (meshes) or gpteval3d (renders), with commas: write the objects as their scorers read them."""
    prior: str = "embedded"
    """The teacher, as --prior of train."""
    config: File = None
    """YAML file of settings, as --config of train."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 1
    """CPU threads."""


def bench(flags: Bench) -> int:
    methods, judges, layouts = _methods(flags.methods), _judges(flags.judges), _layouts(flags.layouts)
    if flags.seeds < 1:
        raise ValueError(f"seeds must be at least 1; it is {flags.seeds}.")
    jobs = _jobs(flags, methods)
    for layout in layouts:
        layout.check(jobs)
    if {"frechet", "fid"} & {name.partition(":")[0] for name in judges} and any(job.config.image for job in jobs):
        raise ValueError("judges: frechet and fid take samples of words alone; leave them out, or `image`.")
    check_writable(flags.out)
    notes = [note for job in jobs for note in about_priors(job.config)]
    for sentence in dict.fromkeys([*notes, *about_threads(flags.threads)]):
        note(sentence)
    make_all(jobs, flags.out / RUNS)
    _report(flags, jobs, judges)
    for layout in layouts:
        print(layout.write(flags.out, jobs, runs=flags.out / RUNS, suite=flags.suite.stem, device=flags.device))
    return DONE


def _methods(text: str) -> list[str]:
    found = [name.strip() for name in text.split(",")]
    if unknown := [name for name in found if name not in METHODS]:
        raise ValueError(f"methods: {settings.shown(unknown[0])} is unknown; the methods are {', '.join(METHODS)}.")
    return list(dict.fromkeys(found))


def _judges(text: str) -> list[str]:
    found = [name.strip() for name in text.split(",")]
    for name in found:
        kind, _, source = name.partition(":")
        if name not in JUDGES and not (kind in OF_A_FILE and source):
            known = f"{', '.join(JUDGES)}, {' and '.join(f'{key}:{what}' for key, what in OF_A_FILE.items())}"
            raise ValueError(f"judges: {settings.shown(name)} is unknown; the judges are {known}.")
    for kind, what in OF_A_FILE.items():
        if sum(name.startswith(f"{kind}:") for name in found) > 1:
            raise ValueError(f"judges: a table has one {kind} model; name one {kind}:{what}.")
    if {"external", "frechet"} & set(found):
        from splatdistill.evaluate.external import ImageNet

        ImageNet()  # what is not installed is told before hours of work
    if weights := _source(found, "fid"):
        from splatdistill.evaluate.frechet import Inception

        Inception(Path(weights))
    return list(dict.fromkeys(found))


def _layouts(text: str) -> list[Layout]:
    found = [name.strip() for name in text.split(",") if text]
    if unknown := [name for name in found if name not in LAYOUTS]:
        raise ValueError(f"layouts: {settings.shown(unknown[0])} is unknown; the layouts are {', '.join(LAYOUTS)}.")
    return [LAYOUTS[name] for name in dict.fromkeys(found)]


def _source(judges: Sequence[str], kind: str) -> str:
    """What the judge of this kind loads; nothing where there is none."""
    return next((name.partition(":")[2] for name in judges if name.startswith(f"{kind}:")), "")


def _jobs(flags: Bench, methods: Sequence[str]) -> list[Job]:
    """Every run, those of one method after another."""
    from splatdistill.priors.families import layered

    if flags.suite.suffix.lower() == ".json":  # it would be read as lines of text
        raise ValueError(
            f"{flags.suite}: a suite is .txt or .yaml; copy the file with the ending .yaml, which reads JSON."
        )
    file = plan.read(flags.suite)
    if "method" in file.defaults or any({"method", "seed"} & entry.values.keys() for entry in file.entries):
        raise ValueError(f"{flags.suite}: methods and seeds are those of --methods and --seeds; leave them out here.")

    @functools.cache
    def base(method: str | None, prior: str | None) -> TrainConfig:
        defaults = (f"{flags.suite}, defaults", file.defaults)
        made, _ = layered(flags.config, method=method, prior=prior or flags.prior, defaults=defaults)
        return replace(made, prior=prior or flags.prior, device=flags.device, threads=flags.threads)

    swept = plan.swept(flags.suite, file.entries, {"method": list(methods), "seed": list(range(flags.seeds))})
    jobs = plan.jobs(replace(file, entries=swept), method=methods[0], base=base)
    return sorted(jobs, key=lambda job: methods.index(job.config.method))


def _report(flags: Bench, jobs: Sequence[Job], judges: Sequence[str]) -> None:
    from splatdistill.evaluate import bench_table

    rows, distances = _judged(flags, jobs, judges)
    lines = bench_table.cells(rows, judges=judges, distances=distances)
    record = {"suite": str(flags.suite), "judges": list(judges), "seeds": flags.seeds, "table": lines, "objects": rows}
    texts = {
        "bench.json": json.dumps(record, indent=1) + "\n",
        "bench.md": bench_table.markdown(lines, judges=judges),
        "bench.tex": bench_table.latex(lines, judges=judges),
    }
    for name, text in texts.items():
        with replacing(flags.out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    _sheet(flags.out, jobs)
    print(texts["bench.md"], end="")
    print(*(flags.out / name for name in (*texts, SHEET)), sep="\n")


def _judged(
    flags: Bench, jobs: Sequence[Job], judges: Sequence[str]
) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """A row for each run, with what the judges say of it and what it cost; and by figure and method the distances of
    whole methods.
    """
    from splatdistill.commands import teacher_samples
    from splatdistill.embedded.judge import shipped
    from splatdistill.evaluate import EvalObject
    from splatdistill.io import ply
    from splatdistill.rendering.renderer import make_renderer
    from splatdistill.utils.device import pick_device

    device = pick_device(flags.device)
    renderer = make_renderer(device)
    folders = [flags.out / RUNS / job.run for job in jobs]
    subjects = [
        EvalObject(
            folder.name, job.config.prompt, ply.read(folder / SPLATS).to(device), job.config.camera,
            Run(folder).summary() | {"method": job.config.method, "seed": job.config.seed},
        )
        for folder, job in zip(folders, jobs, strict=True)
    ]  # fmt: skip
    result = shipped.evaluate(subjects, renderer=renderer, external="external" in judges)[0]
    rows = result["objects"]
    for row in rows:
        row["external_ratio"] = row["external"]["ratio"] if row.get("external", {}).get("counted") else None
        row["diversity"] = result["diversity"].get(_group(row))
    if clip := _source(judges, "clip"):
        theirs = shipped.evaluate(subjects, renderer=renderer, clip=clip)[0]
        for row, other in zip(rows, theirs["objects"], strict=True):
            row |= {name: other[name] for name in ("r_precision", "geometry_r_precision", "similarity")}
            row["clip_diversity"] = theirs["diversity"].get(_group(row))
    distances: dict[str, dict[str, Any]] = {}
    for kind in [name.partition(":")[0] for name in judges if name.partition(":")[0] in ("frechet", "fid")]:
        distances[kind], spread = teacher_samples.judge(
            subjects, jobs, features=teacher_samples.network(_source(judges, kind)),
            renderer=renderer, folder=flags.out / SAMPLES, device=device,
        )  # fmt: skip
        for row, value in zip(rows, spread, strict=True):
            row[f"{kind}_diversity"] = value
    return rows, distances


def _group(row: Mapping[str, Any]) -> str:
    """As `evaluate` names the objects of one method and prompt."""
    return f"{row['method']}: {row['prompt']}"


def _sheet(out: Path, jobs: Sequence[Job]) -> None:
    """A row for each method: a view of each object with the first seed, as its own contact sheet shows it."""
    import numpy as np
    from PIL import Image

    from splatdistill.io import video

    first = [job for job in jobs if job.config.seed == 0]
    methods = list(dict.fromkeys(job.config.method for job in first))
    columns = len(first) // len(methods)
    sheet = Image.new("RGB", (TILE * columns, TILE * len(methods)), "white")
    for number, job in enumerate(first):
        with Image.open(out / RUNS / job.run / "contact.png") as seen:
            side = seen.width // 4
            view = seen.crop((side, 0, 2 * side, side)).resize((TILE, TILE))
        sheet.paste(view, (TILE * (number % columns), TILE * (number // columns)))
    video.write_image(out / SHEET, np.asarray(sheet))
