"""HTML from templates, in which whatever a value holds stays text."""

from __future__ import annotations

from pathlib import Path


def fill(template: Path, **values: object) -> str:
    """The text of a template of jinja2 with these values, escaped; a value that is missing is an error.

    Values may be functions, which the template calls.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(template.parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    return environment.get_template(template.name).render(values)
