"""The gallery of a batch: one HTML file beside the run folders, which it links to by relative paths."""

from __future__ import annotations

import html
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

_STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem; padding: 0 1rem }
main { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)) }
article { border: 1px solid #8886; border-radius: .5rem; overflow: hidden }
article > div { padding: .2rem .8rem .8rem } h2 { font-size: 1rem; margin: .4rem 0; overflow-wrap: anywhere }
video, img { background: #fff; display: block; width: 100% } video { aspect-ratio: 1 }
p { margin: .3rem 0; overflow-wrap: anywhere } .note { opacity: .7; font-size: .87rem } .failed { color: #c33 }
"""
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
    return "\n".join([
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width'>",
        f"<title>{title}</title><style>{_STYLE}</style>",
        f"<h1>{title}</h1><p>{counts}; {seconds:,.0f} seconds of training.</p><main>",
        *cards, "</main></html>", "",
    ])  # fmt: skip


def _card(out: Path, job: Job, record: Mapping[str, Any], settings: Mapping[str, str]) -> str:
    state = _state(record)
    link = quote(job.run)
    parts = ["<article>"]
    if state == DONE:
        if (out / job.run / "turntable.mp4").is_file():
            parts.append(f"<video src='{link}/turntable.mp4' autoplay controls loop muted playsinline></video>")
        parts.append(f"<img src='{link}/contact.png' alt='Eight views' loading='lazy'>")
    parts.append(f"<div><h2>{_e(job.config.prompt)}</h2>")
    if state == DONE:
        files = [name for name in (SPLATS, "contact.png", CONFIG) if (out / job.run / name).is_file()]
        links = " ".join(f"<a href='{link}/{name}'>{name}</a>" for name in files)
        parts.append(f"<p>{record['seconds']:,.0f} s. {links}</p>")
    else:
        parts.append(f"<p class='{state}'>{state}{_e(': ' + record['error'] if 'error' in record else '')}</p>")
    said = ", ".join(f"{name} {value}" for name, value in settings.items())
    parts.append(f"<p class='note'>{_e(job.run)}<br>{_e(said)}</p></div></article>")
    return "".join(parts)


def _state(record: Mapping[str, Any]) -> str:
    return record.get("state", WAITING)


def _e(text: str) -> str:
    return html.escape(text, quote=True)
