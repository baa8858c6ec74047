"""Which words a prior knows, and what to tell the user about the others. No torch here, so that asking is instant."""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splatdistill.priors.reading import Reading, read, singulars, words_of

META_FILE = "splatdistill.json"
MODELS = Path("models", "instances.json")
"""The list of models in a folder of a prior that keeps one."""
SIMILAR = Path(__file__).with_name("similar.npz")
MIN_SIMILARITY = 0.6  # cosine; below it another object would come out than the one asked for
MIN_OFFERED = 0.5  # cosine of the second and third


class Advice(UserWarning):
    """What a prior says of a prompt that it does not wholly understand."""


def read_meta(folder: str | Path) -> dict[str, Any]:
    """The contents of splatdistill.json of a prior. ValueError, one sentence, where it is missing or damaged."""
    path = Path(folder) / META_FILE
    if not path.exists():
        raise ValueError(f"No prior in {Path(folder)}: it has no {META_FILE}.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"The prior in {folder} is damaged: {META_FILE} cannot be read as JSON.") from error
    if not isinstance(found, dict):
        raise ValueError(f"The prior in {folder} is damaged: {META_FILE} must hold settings.")
    return found


@dataclass(frozen=True)
class Vocabulary:
    """The words of one prior. nouns and colours map each name to its synonyms; words are all that its encoder knows;
    shapes are the nouns of which two may stand together as one of the relations says. models: how many of each noun
    it knows. paints: whether each part can have a colour of its own.
    """

    nouns: dict[str, list[str]]
    colours: dict[str, list[str]]
    paintable: frozenset[str]
    words: frozenset[str]
    shapes: frozenset[str] = frozenset()
    relations: tuple[str, ...] = ()
    models: Mapping[str, int] = field(default_factory=dict)
    paints: bool = False

    @classmethod
    def load(cls, folder: str | Path) -> Vocabulary:
        """Reads splatdistill.json of a prior's folder. ValueError, one sentence, when there is none."""
        meta, known = read_meta(folder), Path(folder) / MODELS
        try:
            read = json.loads(known.read_text(encoding="utf-8"))["known"] if known.exists() else None
            models = None if read is None else [model["noun"] for model in read]
            return cls.from_meta(meta, models=models)
        except (KeyError, TypeError, AttributeError, ValueError, OSError) as error:
            raise ValueError(f"The prior in {folder} is damaged: its words cannot be read ({error!r:.80}).") from error

    @classmethod
    def from_meta(cls, meta: dict[str, Any], *, models: Iterable[str] | None = None) -> Vocabulary:
        """The words that the contents of a splatdistill.json name. models: the noun of each model, where they are
        listed; those that the file does not name are known as well.
        """
        counts = Counter(list(models or meta["nouns"]))
        more = {noun: [] for noun in counts if noun not in meta["nouns"]}
        return cls(
            nouns=meta["nouns"] | more,
            colours=meta["colours"],
            paintable=frozenset([*meta["paintable"], *more]),
            words=frozenset(word for name in [*meta["words"], *more] for word in words_of(name)),
            shapes=frozenset(meta.get("shapes", ())),
            relations=tuple(meta.get("relations", ())),
            models=counts,
            paints=meta.get("paints", False),
        )

    def stats(self) -> dict[str, int]:
        """How much this prior knows."""
        counts = [self.models.get(noun, 1) for noun in self.nouns]
        return {
            "objects": len(counts),
            "objects with several models": sum(count > 1 for count in counts),
            "models": sum(counts),
            "names of objects": len(self._names),
            "colours": len(self.colours),
        }

    def read(self, prompt: str) -> Reading:
        """The prompt taken apart."""
        return read(prompt, names=self._names, colours=self._colour_names, words=self.words)

    def normalise(self, prompt: str, *, nearest: bool = False) -> str:
        """What is encoded: lower case, single spaces, no punctuation but commas; plurals become singular where
        only that is known. nearest: an unknown object becomes the nearest known one.
        """
        text, head = self._plain(prompt), self.read(prompt).head
        near = self.near(head) if nearest and head else []
        if near and head:
            text = re.sub(rf"\b{head.split()[-1]}\b", near[0], text)
        return text

    def refusal(self, prompt: str, *, nearest: bool = False) -> str | None:
        """Why this prior cannot make what a prompt asks for, one sentence; None if it can."""
        head = self.read(prompt).head
        near = self.near(head) if head else []
        if not head or (near and nearest):
            return None
        if not near:
            return f"This prior does not know '{head}' nor anything near it; `splatdistill vocab` lists what it knows."
        return (
            f"This prior does not know '{head}'; the nearest it knows: {', '.join(near)}. Name one of them, or take "
            "the first with --nearest."
        )

    def check(self, prompt: str, *, nearest: bool = False) -> list[str]:
        """Plain sentences about what the prior will not understand; empty when it knows all words and one noun."""
        reading = self.read(prompt)
        if refusal := self.refusal(prompt, nearest=nearest):
            return [refusal]
        messages, taken = [], reading.head.split()[-1] if reading.head else None
        nouns = list(reading.nouns)
        if reading.head:
            nouns = self.near(reading.head)[:1]
            messages.append(f"This prior does not know '{reading.head}' and takes it for '{nouns[0]}'.")
        parts = {word for part, _ in reading.parts for word in part.split()}
        messages += [self._about(word) for word in reading.unknown if word != taken and word not in parts]
        if not nouns and not reading.unknown:
            messages.append("The prompt names no object; `splatdistill vocab` lists the ones this prior knows.")
        return messages + self._about_nouns(nouns, prompt) + self._about_colours(nouns, reading)

    def about_picture(self, prompt: str) -> list[str]:
        """A sentence where a prompt names colours and a picture shows them too."""
        reading = self.read(prompt)
        if not reading.colour and not reading.parts:
            return []
        return ["image: parts that the picture shows have its colours; those of the prompt are for the others."]

    def near(self, words: str, *, most: int = 3) -> list[str]:
        """The known nouns that unknown words most likely mean, the nearest first: by meaning, or by spelling if the
        table of meanings does not have the words. Empty when nothing is near.
        """
        rows, kinds, vectors = _similar()
        tried = [form for phrase in (words, words.split()[-1]) for form in singulars(phrase)]
        word = next((form for form in tried if form in rows), None)
        if word is None:
            close = difflib.get_close_matches(tried[0], list(self._names), n=most, cutoff=0.8)
            return list(dict.fromkeys(self._names[name] for name in close))
        mine = kinds[rows[word]]
        # Only first names: a synonym such as palm or coach has other meanings.
        known = [noun for noun in self.nouns if noun in rows and kinds[rows[noun]] in (mine, 0)]
        if not known:
            return []
        cosines = vectors[[rows[noun] for noun in known]] @ vectors[rows[word]]
        best = [int(i) for i in np.argsort(-cosines, kind="stable")[:most]]
        if cosines[best[0]] < MIN_SIMILARITY:
            return []
        return [known[i] for i in best if cosines[i] >= MIN_OFFERED]

    @cached_property
    def _names(self) -> dict[str, str]:
        """Every name and synonym, as prompts are split, with its noun. What is a noun itself is no other's synonym."""
        synonyms = {name: noun for noun, names in self.nouns.items() for name in names}
        return {
            " ".join(words_of(name)): noun for name, noun in (synonyms | {noun: noun for noun in self.nouns}).items()
        }

    @cached_property
    def _colour_names(self) -> dict[str, str]:
        return {name: colour for colour, synonyms in self.colours.items() for name in (colour, *synonyms)}

    def _about(self, word: str) -> str:
        close = difflib.get_close_matches(word, list(self.colours), n=1, cutoff=0.7)
        if close:
            return f"This prior does not know '{word}' and leaves it out; the nearest it knows: {close[0]}."
        return f"This prior does not know '{word}' and leaves it out."

    def _about_nouns(self, nouns: list[str], prompt: str) -> list[str]:
        text = self._plain(prompt)
        related = self.shapes.issuperset(nouns) and any(re.search(rf"\b{r}\b", text) for r in self.relations)
        if len(nouns) < 2 or (len(nouns) == 2 and related):
            return []
        return [f"The prompt names {' and '.join(nouns)}, but this prior was trained on single objects."]

    def _about_colours(self, nouns: list[str], reading: Reading) -> list[str]:
        messages = [
            f"This prior saw every {noun} in its own colours only, so '{reading.colour}' may not show."
            for noun in nouns
            if reading.colour and noun not in self.paintable
        ]
        if not self.paints:
            messages += [
                f"This prior colours whole objects only, so '{colour} {part}' may not show as asked."
                for part, colour in reading.parts
                if nouns
            ]
        return messages + [
            f"The prompt says '{colour}' as well, but not of which part; say it as in \"a red chair with blue legs\"."
            for colour in reading.loose
        ]

    def _plain(self, prompt: str) -> str:
        return " ".join(self._known_form(word) for word in words_of(prompt)).replace(" ,", ",")

    def _known_form(self, word: str) -> str:
        return next((form for form in singulars(word) if form in self.words), word)


@cache
def _similar() -> tuple[dict[str, int], NDArray[np.uint8], NDArray[np.float32]]:
    """The table of meanings that `splatdistill.embedded.prior.similar` makes: row of each word, its kind [N] (only
    words of one kind are alike; 0 is any), and unit vectors [N,D].
    """
    with np.load(SIMILAR, allow_pickle=False) as file:
        words, kinds = file["words"].tobytes().decode().split("\n"), file["kinds"]
        vectors = file["vectors"].astype(np.float32)
    rows = {word: row for row, word in enumerate(words)}
    return rows, kinds, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
