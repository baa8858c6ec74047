"""Words for pictures: captions, colour names, and the colours that they stand for."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from splatdistill.embedded.corpus.nouns import PLURALS, Noun
from splatdistill.embedded.corpus.procedural import FAMILIES, RELATIONS, SHAPES, Family

# Name: (sRGB 0..1, synonyms).
COLOURS: dict[str, tuple[tuple[float, float, float], tuple[str, ...]]] = {
    "red": ((0.80, 0.07, 0.08), ("crimson", "scarlet")),
    "orange": ((0.95, 0.48, 0.05), ("tangerine",)),
    "yellow": ((0.95, 0.82, 0.08), ("golden",)),
    "green": ((0.12, 0.58, 0.16), ("emerald",)),
    "blue": ((0.10, 0.25, 0.80), ("navy",)),
    "purple": ((0.48, 0.13, 0.62), ("violet",)),
    "pink": ((0.96, 0.50, 0.68), ("rose",)),
    "white": ((0.94, 0.94, 0.93), ()),
    "black": ((0.08, 0.08, 0.09), ()),
    "gray": ((0.50, 0.50, 0.51), ("grey",)),
    "brown": ((0.43, 0.25, 0.11), ("chestnut",)),
}
VIEW_WORDS = ("front", "side", "back", "overhead")
MAX_CAPTION = 14  # words; the encoder reads no more
_PATTERNS = ("{a} {x}", "{a} {x}", "{a} {x}", "{x}", "a photo of {a} {x}", "a 3d render of {a} {x}")
_FRAME = {"a", "an", "pair", "of", "photo", "3d", "render", "view", ",", ".", "the", "with", "and", "toy", *VIEW_WORDS}


def caption(noun: Noun, *, colour: str | None, view: str | None, draw: random.Random) -> str:
    """One caption in lower case; the plain form comes most often, synonyms in a quarter of the cases."""
    name = draw.choice(noun.synonyms) if noun.synonyms and draw.random() < 0.25 else noun.name
    phrase = f"{_spoken(colour, draw)} {name}" if colour else name
    text = draw.choice(_PATTERNS).format(a=article(phrase, plural=name in PLURALS), x=phrase).strip()
    if noun.category and not view and draw.random() < 0.06:
        text = f"{text}, {noun.category}"
    return f"{text}, {view} view" if view else text


def procedural_caption(family: Family, *, colours: Sequence[str], view: str | None, draw: random.Random) -> str:
    """As `caption` for a procedural object: colours are those of its parts, the whole first. The parts are left out now
    and then, and where they would make the caption longer than the encoder reads.
    """
    name = draw.choice(family.synonyms) if family.synonyms and draw.random() < 0.25 else family.name
    toy = "toy " if draw.random() < 0.1 and not name.startswith(("toy", "cartoon")) else ""
    head = f"{_spoken(colours[0], draw)} {toy}{name}" if draw.random() < 0.93 else f"{toy}{name}"
    extras = [extra.format(_spoken(c, draw)) for extra, c in zip(family.extras, colours[1:], strict=True)]
    if draw.random() < 0.25:
        draw.shuffle(extras)
        extras = extras[: draw.randrange(len(extras) + 1)]
    while True:
        text = f"{article(head)} {head}" + (f" with {' and '.join(extras)}" if extras else "")
        text = _an(f"{text}, {view} view" if view else text)
        if num_words(text) <= MAX_CAPTION:
            return text
        extras.pop()


def relation_caption(
    upper: tuple[str, str], word: str, lower: tuple[str, str], *, view: str | None, draw: random.Random
) -> str:
    """ "a red cone on a blue cube": `upper` and `lower` are (colour, shape), `word` one of RELATIONS."""
    first, second = (f"{_spoken(colour, draw)} {shape}" for colour, shape in (upper, lower))
    text = f"{article(first)} {first} {word} {article(second)} {second}"
    return f"{text}, {view} view" if view else text


def _spoken(colour: str, draw: random.Random) -> str:
    others = COLOURS[colour][1]
    return draw.choice(others) if others and draw.random() < 0.25 else colour


def _an(text: str) -> str:
    return re.sub(r"\ba (?=[aeiou])", "an ", text)


def num_words(text: str) -> int:
    """Tokens that the word-level tokenizer makes of a text, its two marks at the ends left out."""
    return len(re.findall(r"\w+|[^\w\s]", text))


def article(phrase: str, *, plural: bool = False) -> str:
    """a, an, or "a pair of"."""
    if plural:
        return "a pair of"
    return "an" if phrase[0] in "aeiou" else "a"


def vocabulary(nouns: Iterable[Noun], families: Iterable[Family] = FAMILIES) -> list[str]:
    """Every word that a caption can hold, sorted."""
    words = set(_FRAME)
    for name, (_, synonyms) in COLOURS.items():
        words.update((name, *synonyms))
    for noun in nouns:
        for phrase in (noun.name, noun.category, *noun.synonyms):
            words.update(phrase.split())
    for family in families:
        for phrase in (family.name, *family.synonyms, *family.extras):
            words.update(phrase.replace("{}", "").split())
        if family.name in SHAPES:
            words.update(word for relation in RELATIONS for word in relation.split())
    return sorted(words)


def tint(colour: str, draw: random.Random) -> NDArray[np.floating]:
    """An sRGB colour [3] that goes by this name, jittered."""
    base = np.array(COLOURS[colour][0])
    return (
        (base * draw.uniform(0.85, 1.12) + np.array([draw.gauss(0, 0.025) for _ in range(3)]))
        .clip(0, 1)
        .astype(np.float32)
    )


def tint_of(colour: str) -> NDArray[np.floating]:
    """The sRGB colour [3] that a name stands for."""
    return np.array(COLOURS[colour][0], dtype=np.float32)


def dominant_colour(pixels: NDArray[np.floating]) -> str | None:
    """The colour name that at least 60 % of the pixels [N,3] go by, or None."""
    if not len(pixels):
        return None
    names = list(COLOURS)
    counts = np.bincount(_classify(pixels), minlength=len(names))
    best = int(counts.argmax())
    return names[best] if counts[best] >= 0.6 * len(pixels) else None


def _classify(pixels: NDArray[np.floating]) -> NDArray[np.int64]:
    """Index into COLOURS by hue, saturation and value: distance in RGB calls dark reds brown and pale blues gray."""
    names = list(COLOURS)
    high, low = pixels.max(1), pixels.min(1)
    chroma = high - low
    r, g, b = pixels.T
    safe = np.maximum(chroma, 1e-6)
    hue = np.where(high == r, (g - b) / safe % 6, np.where(high == g, (b - r) / safe + 2, (r - g) / safe + 4)) * 60
    edges = np.array([15, 42, 68, 165, 255, 300, 345])
    by_hue = ["red", "orange", "yellow", "green", "blue", "purple", "pink", "red"]
    out = np.array([names.index(n) for n in by_hue])[np.digitize(hue, edges)]
    out = np.where((hue > 12) & (hue < 50) & ((high < 0.62) | (chroma < 0.45)), names.index("brown"), out)
    out = np.where(((hue >= 345) | (hue < 15)) & (high > 0.75) & (low > 0.35), names.index("pink"), out)
    flat = chroma < np.maximum(0.16 * high, 0.05)
    shade = np.where(high < 0.2, names.index("black"), np.where(high > 0.8, names.index("white"), names.index("gray")))
    return np.where(flat | (high < 0.12), shade, out)
