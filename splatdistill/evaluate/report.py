"""The report of an evaluation: one HTML file with its pictures inside, and nothing fetched from elsewhere."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from splatdistill.evaluate import Views
from splatdistill.io.files import write_text
from splatdistill.io.video import to_uint8
from splatdistill.utils.provenance import commit, versions

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: .6rem 0 } td, th { padding: .15rem .7rem .15rem 0; text-align: left }
td.n { text-align: right; font-variant-numeric: tabular-nums } img { width: 100%; max-width: 768px; display: block }
article { border-top: 1px solid #ddd; margin-top: 1.5rem } .note { color: #666 }
"""
_COLUMNS = {
    "r_precision": "R-Precision", "r_precision_object": "of objects", "geometry_r_precision": "geometry",
    "view_consistency": "consistency", "janus_rate": "Janus rate", "front_rate": "a front", "saturation": "saturation",
    "contrast": "contrast", "high_frequency": "high frequency", "seconds": "seconds",
    "image_evaluations": "image evaluations", "peak_memory_mb": "peak MB",
}  # fmt: skip


def write(folder: Path, result: Mapping[str, Any], pictures: Sequence[Views]) -> list[Path]:
    """Writes eval.json and report.html and returns their paths. result, pictures: what `evaluate` returned."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"output: nothing can be written to {folder}: {error.strerror}.") from error
    record = {"versions": versions(), "commit": commit(), **result}
    texts = {"eval.json": json.dumps(record, indent=1) + "\n", "report.html": page(result, pictures)}
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]


def page(result: Mapping[str, Any], pictures: Sequence[Views]) -> str:
    """The HTML of the report."""
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>splatdistill eval</title>",
        f"<style>{_STYLE}</style><h1>Evaluation of {len(pictures)} object{'s' * (len(pictures) != 1)}</h1>",
        f"<p>{_e(sentence(result))}</p>",
        _table(result),
    ]
    if "external" in result:
        parts.append(_external(result["external"]))
    if result["diversity"]:
        rows = "".join(f"<tr><td>{_e(k)}<td class=n>{_n(v)}" for k, v in result["diversity"].items())
        parts.append(f"<h2>Diversity across seeds</h2><table>{rows}</table>")
    parts += [_article(row, views) for row, views in zip(result["objects"], pictures, strict=True)]
    listed = "; ".join(_e(prompt) for prompt in result["among"])
    parts.append(f"<details><summary>The {len(result['among'])} prompts</summary><p>{listed}</p></details></html>")
    return "\n".join(parts) + "\n"


def sentence(result: Mapping[str, Any]) -> str:
    """Who judged, among what, and whether the Janus probe may be believed."""
    chance = result["chance"]
    text = (
        f"Judged by {result['judge']}, each of 8 views among {len(result['among'])} prompts: chance is "
        f"{_n(chance['r_precision'])}, for geometry (no colours in picture and prompt) "
        f"{_n(chance['geometry_r_precision'])}."
    )
    probe = result["janus_probe"]
    if probe["warning"]:
        return f"{text} No Janus rate: {probe['warning']}"
    return text if probe["name"] == result["judge"] else f"{text} Fronts are called by {probe['name']}."


def summary_line(overall: Mapping[str, Any]) -> str:
    """The means over all objects in one line of text; figures that are not there are left out."""
    known = [f"{title} {_n(overall[key])}" for key, title in _COLUMNS.items() if overall.get(key) is not None]
    return f"{overall['objects']} object{'s' * (overall['objects'] != 1)}: {', '.join(known)}"


def external_sentence(external: Mapping[str, Any]) -> str:
    """What the external judge found in all objects, and what it could not score."""
    nouns, median, interval = (external[key] for key in ("nouns", "median_ratio", "interval"))
    text = f"Judged from outside by {external['judge']}: "
    if median is None:
        text += "no object of a noun whose real renders it recognises."
    else:
        spread = "" if interval is None else f" (95 % {_n(interval[0])} to {_n(interval[1])})"
        text += (
            f"probability of the right classes over that of real renders {_n(median)}{spread}, "
            f"median of {len(nouns)} noun{'s' * (len(nouns) != 1)}."
        )
    if external["not_scored"]:
        text += f" Not scored, because ImageNet lacks the noun: {_listed(external['not_scored'])}."
    if external["not_counted"]:
        known = _listed(external["not_counted"])
        text += f" Scored but not counted, because it does not recognise real renders of them: {known}."
    return text


def external_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each object that was scored: its probability, that of real renders, their ratio, what it is read as."""
    return [
        f"{row['prompt']}: {_n(own['mass'])}, real {_n(own['real'])}, ratio {_n(own['ratio'])}, "
        f"read as {own['read_as']}"
        for row in rows
        if (own := row["external"])["mass"] is not None
    ]


def _listed(prompts: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(prompts))


def _external(external: Mapping[str, Any]) -> str:
    rows = "".join(f"<tr><td>{_e(noun)}<td class=n>{_n(ratio)}" for noun, ratio in external["nouns"].items())
    return f"<h2>From outside</h2><p>{_e(external_sentence(external))}</p><table>{rows}</table>"


def _table(result: Mapping[str, Any]) -> str:
    rows = {"all": result["overall"], **(result["methods"] if len(result["methods"]) > 1 else {})}
    rows |= {f"real renders, {kind} prompts": figures for kind, figures in result["real"].items()}
    head = "".join(f"<th>{title}" for title in _COLUMNS.values())
    body = "".join(
        f"<tr><td>{_e(name)}" + "".join(f"<td class=n>{_n(row.get(key))}" for key in _COLUMNS)
        for name, row in rows.items()
    )
    return f"<table><tr><th>{head}{body}</table>"


def _article(row: Mapping[str, Any], views: Views) -> str:
    facts = [f"{title} {_n(row[key])}" for key, title in _COLUMNS.items() if row.get(key) is not None]
    front = ""
    if row["front"] is not None:
        angles = ", ".join(f"{45 * i}°" for i, called in enumerate(row["front"]) if called)
        front = f" Called front at: {angles or 'no view'}."
    origin = " ".join(str(row[key]) for key in ("method", "steps") if row[key] is not None)
    return (
        f"<article><h2>{_e(row['prompt'])}</h2><p class=note>{_e(row['name'])} {_e(origin)}</p>"
        f"<img alt='8 views, with and without colours' src='{_sheet(views)}'>"
        f"<p>Read as “{_e(row['read_as'])}”. {_e(', '.join(facts))}.{front}</p>{_outside(row)}</article>"
    )


def _outside(row: Mapping[str, Any]) -> str:
    return "".join(f"<p>From outside: {_e(line)}.</p>" for line in external_lines([row] if "external" in row else []))


def _sheet(views: Views) -> str:
    """A data URL: the views in a row, and below them their geometry."""
    rows = [torch.cat(list(strip), 1) for strip in (views.rgb, views.geometry)]
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(to_uint8(torch.cat(rows)))).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _e(text: object) -> str:
    return html.escape(str(text), quote=True)


def _n(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if abs(value) < 100 and not isinstance(value, int) else f"{value:,.0f}"
