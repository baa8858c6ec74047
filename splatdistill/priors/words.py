"""Which words a prior knows, and what to tell the user about the others. No torch here, so that asking is instant."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

META_FILE = "splatdistill.json"

# Everyday words for things that look like a known noun; only entries whose noun the prior knows are used.
_LIKE = {
    "airplane": "biplane", "aircraft": "biplane", "jet": "biplane", "ball": "soccer ball", "bench": "sofa",
    "bowl": "vase", "bulldog": "dog", "canoe": "boat", "cheeseburger": "hamburger",
"dessert": "cupcake", "donkey": "horse", "duck": "chicken", "flowerpot": "vase",
    "hare": "rabbit", "hen": "chicken", "jar": "vase", "jug": "teapot", "kettle": "teapot", "lantern": "lamp",
    "locomotive": "toy train", "mare": "horse", "minivan": "car", "oak": "tree", "pie": "birthday cake",
    "plant": "cactus", "puppet": "teddy bear", "pup": "dog", "pylon": "traffic cone", "rooster": "chicken",
    "sandwich": "hamburger", "scooter": "motorcycle", "seat": "chair", "ship": "boat", "stool": "chair",
    "taxi": "car", "throne": "armchair", "tomcat": "cat", "toy": "teddy bear", "ukulele": "guitar", "van": "truck",
    "vehicle": "car", "violin": "guitar", "yacht": "boat",
}  # fmt: skip
_FILLER = frozenset("a an the of with and in on photo picture image 3d render rendering dslr high quality".split())


@dataclass(frozen=True)
class Vocabulary:
    """The words of one prior. nouns and colours map each name to its synonyms; words are all that its encoder knows."""

    nouns: dict[str, list[str]]
    colours: dict[str, list[str]]
    paintable: frozenset[str]
    words: frozenset[str]

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
        )

    def normalise(self, prompt: str) -> str:
        """Lower case, single spaces, no punctuation but commas; plurals become singular where only that is known."""
        words = re.findall(r"[a-z0-9]+|,", prompt.lower())
        return " ".join(self._known_form(word) for word in words).replace(" ,", ",")

    def check(self, prompt: str) -> list[str]:
        """Plain sentences about what the prior will not understand; empty when it knows all words and one noun."""
        text = self.normalise(prompt)
        found, rest = self._take_nouns(text)
        unknown = [w for w in re.findall(r"[a-z0-9]+", rest) if w not in self.words and w not in _FILLER]
        messages = [self._about(word) for word in dict.fromkeys(unknown)]
        if not found and not unknown:
            messages.append("The prompt names no object; `splatdistill vocab` lists the ones this prior knows.")
        if len(found) > 1:
            names = " and ".join(found)
            messages.append(f"The prompt names {names}, but this prior was trained on single objects.")
        colours = [c for c, synonyms in self.colours.items() if set(rest.split()) & {c, *synonyms}]
        messages += [
            f"This prior saw every {noun} in its own colours only, so '{colours[0]}' may not show."
            for noun in found
            if colours and noun not in self.paintable
        ]
        return messages

    def nearest(self, word: str, *, count: int = 3) -> list[str]:
        """Known nouns that a word may stand for, the likeliest first."""
        names = {name: noun for noun, synonyms in self.nouns.items() for name in (noun, *synonyms)}
        names |= {like: noun for like, noun in _LIKE.items() if noun in self.nouns}
        if word in names:
            return [names[word]]
        close = difflib.get_close_matches(word, list(names), n=count, cutoff=0.7)
        return list(dict.fromkeys(names[name] for name in close))

    def _about(self, word: str) -> str:
        close = self.nearest(word) or self._near_colour(word)
        if close:
            return f"This prior does not know '{word}'; the nearest it knows: {', '.join(close)}."
        return f"This prior does not know '{word}'; `splatdistill vocab` lists what it knows."

    def _near_colour(self, word: str) -> list[str]:
        return difflib.get_close_matches(word, list(self.colours), n=1, cutoff=0.7)

    def _known_form(self, word: str) -> str:
        if word in self.words:
            return word
        singulars = (word.removesuffix("s"), word.removesuffix("es"))
        return next((s for s in singulars if s in self.words), word)

    def _take_nouns(self, text: str) -> tuple[list[str], str]:
        """The known nouns of a text and what is left of it; longer names first, so that "palm tree" is no "tree"."""
        names = [(name, noun) for noun, synonyms in self.nouns.items() for name in (noun, *synonyms)]
        found = []
        for name, noun in sorted(names, key=lambda pair: -len(pair[0])):
            text, hits = re.subn(rf"\b{re.escape(name)}\b", " ", text)
            if hits and noun not in found:
                found.append(noun)
        return found, text
