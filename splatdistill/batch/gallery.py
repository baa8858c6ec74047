"""The gallery of a batch: one HTML file beside the run folders, which it links to by relative paths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from splatdistill.batch.ledger import DONE, FAILED, RUNNING, WAITING, Ledger
from splatdistill.batch.plan import Job
from splatdistill.config import settings
from splatdistill.io.files import write_text
from splatdistill.io.runs import CONFIG, SPLATS
from splatdistill.utils.templates import fill

_TEMPLATE = Path(__file__).with_name("gallery.html.jinja")
_SHOWN = ("method", "steps", "seed")  # of each run; whatever else differs between the runs is added


def write(out: Path, jobs: Sequence[Job], ledger: Ledger) -> Path:
    """Writes OUT/report.html of what the ledger says now about these jobs."""
    path = out / "report.html"
    write_text(path, page(out, jobs, {job.run: ledger.read(job.run) for job in jobs}))
    return path


def page(out: Path, jobs: Sequence[Job], records: Mapping[str, Mapping[str, Any]]) -> str:
    """The HTML. records: those of the ledger, by run."""
    states = Counter(_state(records[job.run]) for job in jobs)
    counts = ", ".join(f"{states[state]} {state}" for state in (DONE, FAILED, RUNNING, WAITING) if states[state])
    seconds = sum(record.get("seconds", 0.0) for record in records.values())
    title = f"{len(jobs)} prompt{'s' * (len(jobs) != 1)}"
    flat = [{name: str(value) for name, value in settings.flatten(job.config).items()} for job in jobs]
    found: dict[str, set[str]] = {}
    for name, value in ((name, value) for values in flat for name, value in values.items()):
        found.setdefault(name, set()).add(value)
    differing = [name for name, values in found.items() if len(values) > 1 and name not in ("prompt", *_SHOWN)]
    cards = []
    for job, values in zip(jobs, flat, strict=True):
        shown = {name: values[name] for name in (*_SHOWN, *differing) if name in values}
        cards.append(_card(out, job, records[job.run], shown))
    return fill(_TEMPLATE, title=title, counts=counts, seconds=f"{seconds:,.0f}", cards=cards)


def _card(out: Path, job: Job, record: Mapping[str, Any], settings: Mapping[str, str]) -> dict[str, Any]:
    """What the gallery shows of a run."""
    state, folder = _state(record), out / job.run
    return {
        "run": job.run,
        "link": quote(job.run),
        "prompt": job.config.prompt,
        "state": state,
        "done": state == DONE,
        "error": record.get("error"),
        "seconds": f"{record.get('seconds', 0.0):,.0f}",
        "video": (folder / "turntable.mp4").is_file(),
        "files": [name for name in (SPLATS, "contact.png", CONFIG) if (folder / name).is_file()],
        "settings": ", ".join(f"{name} {value}" for name, value in settings.items()),
    }


def _state(record: Mapping[str, Any]) -> str:
    return record.get("state", WAITING)
