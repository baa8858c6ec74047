"""Which words a prior knows, and what to tell the user about the others. No torch here, so that asking is instant."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

META_FILE = "splatdistill.json"
SIMILAR = Path(__file__).with_name("similar.npz")
MIN_SIMILARITY = 0.6  # cosine; below it another object would come out than the one asked for

_FILLER = frozenset("a an the of with and in on photo picture image 3d render rendering dslr high quality".split())


@dataclass(frozen=True)
class Vocabulary:
    """The words of one prior. nouns and colours map each name to its synonyms; words are all that its encoder knows;
    shapes are the nouns of which two may stand together as one of the relations says.
    """

    nouns: dict[str, list[str]]
    colours: dict[str, list[str]]
    paintable: frozenset[str]
    words: frozenset[str]
    shapes: frozenset[str] = frozenset()
    relations: tuple[str, ...] = ()

    @classmethod
    def load(cls, folder: str | Path) -> Vocabulary:
        """Reads splatdistill.json of a prior's folder. ValueError, one sentence, when there is none."""
        path = Path(folder) / META_FILE
        if not path.exists():
            raise ValueError(f"No prior in {Path(folder)}: it has no {META_FILE}.")
        return cls.from_meta(json.loads(path.read_text()))

    @classmethod
    def from_meta(cls, meta: dict[str, Any]) -> Vocabulary:
        """The words that the contents of a splatdistill.json name."""
        return cls(
            nouns=meta["nouns"],
            colours=meta["colours"],
            paintable=frozenset(meta["paintable"]),
            words=frozenset(meta["words"]),
            shapes=frozenset(meta.get("shapes", ())),
            relations=tuple(meta.get("relations", ())),
        )

    def normalise(self, prompt: str) -> str:
        """What the prior is told: lower case, single spaces, no punctuation but commas; plurals become singular where
        only that is known, and an unknown object becomes the nearest known one.
        """
        text, taken = self._plain(prompt), self.stand_ins(prompt)
        return re.sub(r"[a-z0-9]+", lambda word: taken.get(word[0], word[0]), text)

    def stand_ins(self, prompt: str) -> dict[str, str]:
        """The unknown words of a prompt that a known object is near to, with that object."""
        text = self._plain(prompt)
        nearest = {word: self.nearest(word) for word in self._unknown(text)}
        return {word: noun for word, noun in nearest.items() if noun and not re.search(rf"\b{noun}\b", text)}

    def check(self, prompt: str) -> list[str]:
        """Plain sentences about what the prior will not understand; empty when it knows all words and one noun."""
        plain, text = self._plain(prompt), self.normalise(prompt)
        found, rest = self._take_nouns(text)
        taken, unknown = self.stand_ins(prompt), self._unknown(plain)
        messages = [
            f"This prior does not know '{word}' and takes it for '{taken[word]}'."
            if word in taken
            else self._about(word)
            for word in unknown
        ]
        if not found and not unknown:
            messages.append("The prompt names no object; `splatdistill vocab` lists the ones this prior knows.")
        related = self.shapes.issuperset(found) and any(re.search(rf"\b{r}\b", text) for r in self.relations)
        if len(found) > 1 and not (len(found) == 2 and related):
            names = " and ".join(found)
            messages.append(f"The prompt names {names}, but this prior was trained on single objects.")
        colours = [c for c, synonyms in self.colours.items() if set(rest.split()) & {c, *synonyms}]
        messages += [
            f"This prior saw every {noun} in its own colours only, so '{colours[0]}' may not show."
            for noun in found
            if colours and noun not in self.paintable
        ]
        return messages

    def nearest(self, word: str) -> str | None:
        """The known noun that an unknown word most likely means: by meaning, or by spelling if the table of meanings
        does not have the word. None when nothing is near.
        """
        rows, kinds, vectors = _similar()
        word = next((w for w in (word, word.removesuffix("s"), word.removesuffix("es")) if w in rows), word)
        if word in rows:
            mine = kinds[rows[word]]
            # Only first names: a synonym such as palm or coach has other meanings.
            known = [noun for noun in self.nouns if noun in rows and kinds[rows[noun]] in (mine, 0)]
            if not known:
                return None
            cosines = vectors[[rows[noun] for noun in known]] @ vectors[rows[word]]
            best = int(np.argmax(cosines))
            return known[best] if cosines[best] >= MIN_SIMILARITY else None
        close = difflib.get_close_matches(word, list(self._names), n=1, cutoff=0.8)
        return self._names[close[0]] if close else None

    @cached_property
    def _names(self) -> dict[str, str]:
        """Every name and synonym with its noun."""
        return {name: noun for noun, synonyms in self.nouns.items() for name in (noun, *synonyms)}

    def _about(self, word: str) -> str:
        close = difflib.get_close_matches(word, list(self.colours), n=1, cutoff=0.7)
        if close:
            return f"This prior does not know '{word}'; the nearest it knows: {close[0]}."
        return f"This prior does not know '{word}' nor anything near it; `splatdistill vocab` lists what it knows."

    def _plain(self, prompt: str) -> str:
        words = re.findall(r"[a-z0-9]+|,", prompt.lower())
        return " ".join(self._known_form(word) for word in words).replace(" ,", ",")

    def _unknown(self, text: str) -> list[str]:
        words = dict.fromkeys(re.findall(r"[a-z0-9]+", text))
        return [word for word in words if word not in self.words and word not in _FILLER]

    def _known_form(self, word: str) -> str:
        if word in self.words:
            return word
        singulars = (word.removesuffix("s"), word.removesuffix("es"))
        return next((s for s in singulars if s in self.words), word)

    def _take_nouns(self, text: str) -> tuple[list[str], str]:
        """The known nouns of a text and what is left of it; longer names first, so that "palm tree" is no "tree"."""
        found = []
        for name, noun in sorted(self._names.items(), key=lambda pair: -len(pair[0])):
            text, hits = re.subn(rf"\b{re.escape(name)}\b", " ", text)
            if hits and noun not in found:
                found.append(noun)
        return found, text


@cache
def _similar() -> tuple[dict[str, int], NDArray[np.uint8], NDArray[np.float32]]:
    """The table of meanings that `splatdistill.embedded.similar` makes: row of each word, its kind [N] (only words of
    one kind are alike; 0 is any), and unit vectors [N,D].
    """
    with np.load(SIMILAR, allow_pickle=False) as file:
        words, kinds = file["words"].tobytes().decode().split("\n"), file["kinds"]
        vectors = file["vectors"].astype(np.float32)
    rows = {word: row for row, word in enumerate(words)}
    return rows, kinds, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
