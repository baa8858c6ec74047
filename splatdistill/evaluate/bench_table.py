"""A table of methods from the judged objects of a suite: means with 95 % intervals, as Markdown and as LaTeX.

The bootstrap draws prompts again, and the seeds of each. What a clock or the memory says has no interval: it is of one
machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from splatdistill.evaluate.external import interval, mean_of_means

JUDGED = {
    "own": {"r_precision_object": "R-Precision", "geometry_r_precision_object": "geometry", "janus": "Janus",
            "view_consistency": "consistency", "saturation": "saturation", "high_frequency": "high frequency",
            "fog": "fog", "diversity": "diversity"},
    "external": {"external_ratio": "outside judge"},
    "clip": {"r_precision": "CLIP R-Precision", "geometry_r_precision": "CLIP geometry", "similarity": "CLIP score",
             "clip_diversity": "CLIP diversity"},
    "frechet": {"frechet": "Fréchet distance", "frechet_diversity": "feature diversity"},
    "fid": {"fid": "FID", "fid_diversity": "Inception diversity"},
}  # fmt: skip
"""Columns of each kind of judge: a figure of an object, or of a method where it is a distance, and the head."""
COST = {"image_evaluations": "evaluations", "seconds": "seconds", "peak_memory_mb": "MB"}


def cells(
    rows: Sequence[Mapping[str, Any]],
    *,
    judges: Sequence[str],
    distances: Mapping[str, Mapping[str, Mapping[str, float | None]]] | None = None,
) -> list[dict[str, Any]]:
    """A line for each method, in the order in which `rows`, one for each object, name them. Of a figure: mean, low and
    high end of its interval, and of how many objects it is; None where no object has it. distances: such figures of
    whole methods, by the name of the figure and the method.
    """
    known_distances = distances or {}
    lines: list[dict[str, Any]] = []
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        line: dict[str, Any] = {"method": method, "objects": len(mine)}
        for kind in judges:
            for name in JUDGED[kind.partition(":")[0]]:
                whole = known_distances.get(name)
                line[name] = _cell(mine, name) if whole is None else dict(whole[method])
        for name in COST:
            known = [row[name] for row in mine if row.get(name) is not None]
            line[name] = sum(known) / len(known) if known else None
        lines.append(line)
    return lines


def _cell(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, float] | None:
    groups: dict[str, list[float]] = {}
    for row in rows:
        if row.get(name) is not None:
            groups.setdefault(row["prompt"], []).append(float(row[name]))
    if not groups:
        return None
    low, high = interval(list(groups.values()), of=mean_of_means)
    count = sum(len(group) for group in groups.values())
    return {"mean": mean_of_means(list(groups.values())), "low": low, "high": high, "objects": count}


def heads(judges: Sequence[str]) -> dict[str, str]:
    """Figure -> head of its column."""
    judged = {name: head for kind in judges for name, head in JUDGED[kind.partition(":")[0]].items()}
    return judged | COST


def markdown(lines: Sequence[Mapping[str, Any]], *, judges: Sequence[str]) -> str:
    columns = heads(judges)
    rows = [["method", *columns.values()], ["---", *["---:"] * len(columns)]]
    rows += [
        [f"`{line['method']}`", *(_text(line[name], "{:.3f} ({:.3f}..{:.3f})") for name in columns)] for line in lines
    ]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def latex(lines: Sequence[Mapping[str, Any]], *, judges: Sequence[str]) -> str:
    columns = heads(judges)
    rows = [["method", *columns.values()]]
    rows += [
        [line["method"], *(_text(line[name], "${:.3f}$ {{\\small $[{:.3f}, {:.3f}]$}}") for name in columns)]
        for line in lines
    ]
    body = [" & ".join(row) + " \\\\" for row in rows]
    return "\n".join(
        [f"\\begin{{tabular}}{{l{'r' * len(columns)}}}", "\\hline", body[0], "\\hline", *body[1:], "\\hline",
         "\\end{tabular}", ""]
    )  # fmt: skip


def _text(cell: Any, form: str) -> str:
    if cell is None:
        return "n/a"
    if isinstance(cell, int | float):
        return f"{cell:.0f}"
    return f"{cell['mean']:.3f}" if cell["low"] is None else form.format(cell["mean"], cell["low"], cell["high"])
