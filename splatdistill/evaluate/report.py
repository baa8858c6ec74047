"""The report of an evaluation: one HTML file with its pictures inside, and nothing fetched from elsewhere."""

from __future__ import annotations

import base64
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
from splatdistill.utils.templates import fill

_TEMPLATE = Path(__file__).with_name("report.html.jinja")
_COLUMNS = {
    "r_precision": "R-Precision", "r_precision_object": "of objects", "geometry_r_precision": "geometry",
    "similarity": "similarity", "view_consistency": "consistency", "janus_rate": "Janus rate",
    "front_rate": "a front", "saturation": "saturation",
    "contrast": "contrast", "high_frequency": "high frequency", "fog": "fog", "faint": "faint splats",
    "seconds": "seconds",
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
    external = result.get("external")
    rows = {"all": result["overall"], **(result["methods"] if len(result["methods"]) > 1 else {})}
    rows |= {f"real renders, {kind} prompts": figures for kind, figures in result["real"].items()}
    return fill(
        _TEMPLATE,
        sentence=sentence(result),
        columns=_COLUMNS,
        rows=rows,
        figure=_n,
        external=external and {"sentence": external_sentence(external), "nouns": external["nouns"]},
        diversity=result["diversity"],
        articles=[_article(row, views) for row, views in zip(result["objects"], pictures, strict=True)],
        among=result["among"],
    )


def sentence(result: Mapping[str, Any]) -> str:
    """Who judged, among what, what it could not read, and whether the Janus probe may be believed."""
    chance, unread = result["chance"], result["not_read"]
    without = f"does not know the words of {_listed(unread)}, and has no figures of these; a CLIP of --clip has"
    if all(row["prompt"] in unread for row in result["objects"]):
        return f"{result['judge'][0].upper()}{result['judge'][1:]} {without}."
    text = (
        f"Judged by {result['judge']}, each of 8 views among {len(result['among'])} prompts: chance is "
        f"{_n(chance['r_precision'])}, for geometry (no colours in picture and prompt) "
        f"{_n(chance['geometry_r_precision'])}."
    )
    if unread:
        text += f" It {without}."
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


def _article(row: Mapping[str, Any], views: Views) -> dict[str, Any]:
    """What the report says of an object."""
    front = ""
    if row["front"] is not None:
        angles = ", ".join(f"{45 * i}°" for i, called in enumerate(row["front"]) if called)
        front = f" Called front at: {angles or 'no view'}."
    return {
        "prompt": row["prompt"],
        "name": row["name"],
        "origin": " ".join(str(row[key]) for key in ("method", "steps") if row[key] is not None),
        "sheet": _sheet(views),
        "read_as": row["read_as"],
        "facts": ", ".join(f"{title} {_n(row[key])}" for key, title in _COLUMNS.items() if row.get(key) is not None),
        "front": front,
        "outside": external_lines([row] if "external" in row else []),
    }


def _sheet(views: Views) -> str:
    """A data URL: the views in a row, and below them their geometry."""
    rows = [torch.cat(list(strip), 1) for strip in (views.rgb, views.geometry)]
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(to_uint8(torch.cat(rows)))).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _n(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if abs(value) < 100 and not isinstance(value, int) else f"{value:,.0f}"
