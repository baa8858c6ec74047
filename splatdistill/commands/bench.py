"""`bench`: a suite of prompts by several methods and seeds, judged, in one table."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from splatdistill.batch import plan
from splatdistill.batch.plan import Job
from splatdistill.commands.common import DONE, File, about_threads, make_all, note
from splatdistill.config import settings
from splatdistill.config.schema import METHODS, TrainConfig
from splatdistill.io.files import replacing
from splatdistill.io.runs import SPLATS, Run
from splatdistill.training.advice import about_priors
from splatdistill.training.run_log import check_writable

JUDGES = ("own", "external")
RUNS, SHEET = "runs", "contact.png"
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
    """own (the shipped judge), external (an ImageNet classifier), or clip:FOLDER_OR_ID, with commas."""
    prior: str = "embedded"
    """The teacher, as --prior of train."""
    config: File = None
    """YAML file of settings, as --config of train."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 1
    """CPU threads."""


def bench(flags: Bench) -> int:
    methods, judges = _methods(flags.methods), _judges(flags.judges)
    if flags.seeds < 1:
        raise ValueError(f"seeds must be at least 1; it is {flags.seeds}.")
    jobs = _jobs(flags, methods)
    check_writable(flags.out)
    notes = [note for job in jobs for note in about_priors(job.config)]
    for sentence in dict.fromkeys([*notes, *about_threads(flags.threads)]):
        note(sentence)
    make_all(jobs, flags.out / RUNS)
    return _report(flags, jobs, judges)


def _methods(text: str) -> list[str]:
    found = [name.strip() for name in text.split(",")]
    if unknown := [name for name in found if name not in METHODS]:
        raise ValueError(f"methods: {settings.shown(unknown[0])} is unknown; the methods are {', '.join(METHODS)}.")
    return list(dict.fromkeys(found))


def _judges(text: str) -> list[str]:
    found = [name.strip() for name in text.split(",")]
    for name in found:
        if name not in JUDGES and not (name.startswith("clip:") and len(name) > len("clip:")):
            known = f"{', '.join(JUDGES)} and clip:FOLDER_OR_ID"
            raise ValueError(f"judges: {settings.shown(name)} is unknown; the judges are {known}.")
    if sum(name.startswith("clip:") for name in found) > 1:
        raise ValueError("judges: a table has one CLIP model; name one clip:FOLDER_OR_ID.")
    if "external" in found:
        from splatdistill.evaluate.external import ImageNet

        ImageNet()  # what is not installed is told before hours of work
    return list(dict.fromkeys(found))


def _jobs(flags: Bench, methods: Sequence[str]) -> list[Job]:
    """Every run, those of one method after another."""
    from splatdistill.priors.families import layered

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


def _report(flags: Bench, jobs: Sequence[Job], judges: Sequence[str]) -> int:
    from splatdistill.evaluate import bench_table

    rows = _judged(flags, jobs, judges)
    lines = bench_table.cells(rows, judges=judges)
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
    return DONE


def _judged(flags: Bench, jobs: Sequence[Job], judges: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each run: what the judges say of it, and what it cost."""
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
    rows = shipped.evaluate(subjects, renderer=renderer, external="external" in judges)[0]["objects"]
    for row in rows:
        row["external_ratio"] = row["external"]["ratio"] if row.get("external", {}).get("counted") else None
    if clip := next((name.partition(":")[2] for name in judges if name.startswith("clip:")), ""):
        theirs = shipped.evaluate(subjects, renderer=renderer, clip=clip)[0]["objects"]
        for row, other in zip(rows, theirs, strict=True):
            row |= {name: other[name] for name in ("r_precision", "geometry_r_precision")}
    return rows


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
