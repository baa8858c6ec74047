"""The tables of docs/methods/comparison.md, from the rows that compare_methods.py has judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Rows = Mapping[tuple[str, str], Mapping[str, Any]]  # by suite and label

SECTION = {"name": "comparison", "script": "compare_methods.py"}


def tables(rows: Rows, *, real: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown. real: figures of real renders by kind of prompt, as the judge's yardstick has them."""
    labels = [label for suite, label in rows if suite == "methods"]
    scaled = [label for suite, label in rows if suite == "scale"]
    few = [key for key in rows if key[0] in ("views", "ablation")]
    main = [_line(label, rows["methods", label], rows.get(("janus", label))) for label in labels]
    parts = [
        _table(
            ("method", "R-Precision", "geometry", "Janus rate", "a front", "consistency", "saturation",
             "high frequency", "seconds"),
            [*main, _real(real)],
        ),
        _table(
            ("all at guidance scale 7.5", "R-Precision", "geometry", "saturation", "high frequency"),
            [[f"`{x}`", *_judged(rows["scale", x]), *_look(rows["scale", x])] for x in scaled],
        ),
        _table(
            ("on six prompts", "method", "R-Precision", "geometry", "consistency", "saturation"),
            [
                [label, f"`{rows[suite, label]['method']}`", *_judged(rows[suite, label]),
                 f"{rows[suite, label]['view_consistency']:.2f}", _look(rows[suite, label])[0]]
                for suite, label in few
            ],
        ),
    ]  # fmt: skip
    return "\n\n".join(parts)


def _line(label: str, row: Mapping[str, Any], janus: Mapping[str, Any] | None) -> list[str]:
    rates = ["not run"] * 2 if janus is None else ["n/a"] * 2
    if janus is not None and janus["janus_rate"] is not None:
        rates = [_share(janus["janus_rate"]), _share(janus["front_rate"])]
    return [f"`{label}`", *_judged(row), *rates, f"{row['view_consistency']:.2f}", *_look(row), f"{row['seconds']:.0f}"]


def _real(real: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The same of real renders."""

    def both(name: str, digits: int) -> str:
        return " and ".join(f"{real[kind][name]:.{digits}f}" for kind in ("plain", "coloured"))

    looks = [both("view_consistency", 2), both("saturation", 2), both("high_frequency", 3)]
    return ["real renders, plain and recoloured", "", "", "", "", *looks, ""]


def _judged(row: Mapping[str, Any]) -> list[str]:
    return [_share(row["r_precision_object"]), _share(row["geometry_r_precision_object"])]


def _look(row: Mapping[str, Any]) -> list[str]:
    return [f"{row['saturation']:.2f}", f"{row['high_frequency']:.3f}"]


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    aligned = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, aligned, *lines))
