"""Which models the corpus takes, what they are called, which way they face and whether they may be painted.

The table itself is furniture.csv: one line a noun. `first` are the models that the first prior saw: the nouns that have
some are the core. A model is `library/number`, or `library/number@yaw` with the degrees that turn its front to +z.

models.csv is the table of a folder of GLB files, one line a file, for models that no library numbers.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path

TABLE = Path(__file__).with_name("furniture.csv")
FILES = Path(__file__).with_name("models.csv")
_LIBRARIES = {"CC0": "BlendSwap-CC-0", "BY": "BlendSwap-CC-BY", "KL": "KatorLegaz", "S": "Scopia", "R": "Reallusion"}


@dataclass(frozen=True)
class Noun:
    """One kind of object. models: keys as in the table, libraries in full, those of `first` before the others."""

    name: str
    models: tuple[str, ...]
    paintable: bool = False
    synonyms: tuple[str, ...] = ()
    category: str = ""
    first: tuple[str, ...] = ()

    @property
    def core(self) -> bool:
        return bool(self.first)


@dataclass(frozen=True)
class File:
    """One row of models.csv. front: degrees that turn its front to +z. parts: names for its paints, by material."""

    name: str
    noun: str
    front: float
    parts: tuple[str, ...]
    licence: str
    creator: str
    source: str

    @property
    def key(self) -> str:
        return f"models/{self.name}"


def read_files(path: Path = FILES) -> tuple[File, ...]:
    """The rows of a table of GLB files. Columns: file, noun, front, parts (by semicolons), licence, creator, source."""
    with path.open(newline="", encoding="utf-8") as file:
        return tuple(
            File(
                name=row["file"],
                noun=row["noun"],
                front=float(row["front"] or 0),
                parts=tuple(part for part in row["parts"].split(";") if part),
                licence=row["licence"],
                creator=row["creator"],
                source=row["source"],
            )
            for row in csv.DictReader(file)
        )


def with_files(nouns: tuple[Noun, ...], files: tuple[File, ...]) -> tuple[Noun, ...]:
    """The nouns with the models of a table of files, and further nouns for what only that table has."""
    keys: dict[str, tuple[str, ...]] = {}
    for file in files:
        keys[file.noun] = (*keys.get(file.noun, ()), f"{file.key}@{file.front:g}")
    known = [replace(noun, models=noun.models + keys.pop(noun.name, ())) for noun in nouns]
    # Flat colours a part: all of them take paint. PLURALS and synonyms are those of the furniture so far.
    return (*known, *(Noun(name, models, paintable=True) for name, models in keys.items()))


def read_table(path: Path = TABLE) -> tuple[Noun, ...]:
    """The nouns of a table, in its order. Columns: noun, category, paint, synonyms, first, models; lists by spaces, but
    synonyms by semicolons.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    nouns = []
    for row in rows:
        first, others = _keys(row["first"]), _keys(row["models"])
        nouns.append(
            Noun(
                name=row["noun"],
                models=first + others,
                paintable=row["paint"] == "yes",
                synonyms=tuple(s for s in row["synonyms"].split(";") if s),
                category=row["category"],
                first=first,
            )
        )
    return tuple(nouns)


def _keys(text: str) -> tuple[str, ...]:
    pairs = (key.split("/", 1) for key in text.split())
    return tuple(f"{_LIBRARIES[library]}/{number}" for library, number in pairs)


def split_key(key: str) -> tuple[str, float]:
    """`library/number@yaw` to (`library/number`, yaw in degrees)."""
    model, _, yaw = key.partition("@")
    return model, float(yaw or 0)


NOUNS = read_table()
"""Of the furniture alone, which the shipped prior and judge were trained on."""
EVERY_NOUN = with_files(NOUNS, read_files())
PLURALS = frozenset(
    name for noun in NOUNS for name in (noun.name, *noun.synonyms)
    if name.split()[-1] in {"sneakers", "shoes", "trainers", "glasses", "scissors", "slippers", "headphones", "pliers"}
)  # fmt: skip
