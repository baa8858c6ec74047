"""A prompt taken apart: which known objects it names, which colours belong to what, and which words are unknown."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

FILLER = frozenset(
    "a an the of with and in on photo picture image 3d render rendering dslr high quality view pair one two three some "
    "its toy front side back overhead".split()
)
_JOINTS = frozenset(
    (
        "with",
        "and",
        ",",
        "on",
        "in",
        "under",
        "beside",
        "next",
        "near",
        "of",
        "made",
        "from",
        "that",
        "holding",
        "wearing",
        "riding",
    )
)
_PARTS_FOLLOW = frozenset(("with",))


@dataclass(frozen=True)
class Reading:
    """nouns: known objects by their first names, in the order of the text. colour: of the whole object. parts: each
    part that has a colour of its own, with it. loose: further colours that belong to nothing. unknown: words in the
    order of the text. head: the word or words where the object would stand, if they are none that is known.
    """

    nouns: tuple[str, ...] = ()
    colour: str | None = None
    parts: tuple[tuple[str, str], ...] = ()
    loose: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    head: str | None = None


@dataclass
class _Phrase:
    """Words between two joints. opened: whether it or one before it, with nothing but "and" and commas between, stood
    behind "with". kinds: each word, nouns and colours by first names, with what it is: noun, colour, known, filler or
    unknown.
    """

    opened: bool
    kinds: list[tuple[str, str]]

    def of(self, *kinds: str) -> list[str]:
        return [word for word, kind in self.kinds if kind in kinds]


def words_of(prompt: str) -> list[str]:
    """Lower-case words and commas."""
    return re.findall(r"[a-z0-9]+|,", prompt.lower())


def singulars(word: str) -> list[str]:
    """What a word may be the plural of, itself first."""
    forms = [word]
    if word.endswith("s") and len(word) > 2:
        forms.append(word[:-1])
    if word.endswith("es") and len(word) > 3:
        forms.append(word[:-2])
    if word.endswith("ies") and len(word) > 4:
        forms.append(word[:-3] + "y")
    if word.endswith("ves") and len(word) > 4:
        forms += [word[:-3] + "f", word[:-3] + "fe"]
    return forms


def read(prompt: str, *, names: Mapping[str, str], colours: Mapping[str, str], words: Collection[str]) -> Reading:
    """names, colours: every name and synonym with its first name. words: all that the prior knows."""
    phrases = _phrases(words_of(prompt), names=names, colours=colours, words=words)
    nouns: dict[str, None] = {}
    whole: list[str] = []
    parts: list[tuple[str, str]] = []
    loose: list[str] = []
    head: str | None = None
    # A word may be known as a part of a name only: "cat" of "cartoon cat" is no object then.
    main = next((p for kind in ("noun", "unknown", "known") for p in phrases if p.of(kind)), None)
    before = True
    for phrase in phrases:
        found, shown, others = phrase.of("noun"), phrase.of("colour"), phrase.of("known", "unknown")
        if phrase is main:
            before = False
            nouns |= dict.fromkeys(found)
            whole += shown
            head = None if found else " ".join(others)
        elif before:
            whole += shown
        elif phrase.opened and shown and (found or others):
            parts.append((" ".join([*others, *found]), shown[0]))
            loose += shown[1:]
        elif not (whole or found or others):
            whole += shown  # a chair in red
        else:
            if not phrase.opened:
                nouns |= dict.fromkeys(found)
            loose += [] if found else shown  # a second object has colours of its own
    unknown = dict.fromkeys(word for phrase in phrases for word in phrase.of("unknown"))
    return Reading(
        tuple(nouns), whole[0] if whole else None, tuple(parts), (*whole[1:], *loose), tuple(unknown), head or None
    )


def _phrases(
    tokens: list[str], *, names: Mapping[str, str], colours: Mapping[str, str], words: Collection[str]
) -> list[_Phrase]:
    phrases = [_Phrase(False, [])]
    longest = max((name.count(" ") + 1 for name in names), default=1)
    i = 0
    while i < len(tokens):
        token = tokens[i]
        taken, name = _noun_at(tokens, i, names=names, longest=longest)
        colour = next((colours[form] for form in singulars(token) if form in colours), None)
        part = phrases[-1].opened and i + 1 < len(tokens) and tokens[i + 1] not in _JOINTS
        if taken == 1 and colour and (part or _goes_on(tokens, i + 1, names=names, longest=longest)):
            taken = 0  # an orange car, with orange sails, but an orange
        if taken:
            phrases[-1].kinds.append((name, "noun"))
            i += taken
            continue
        if colour:
            phrases[-1].kinds.append((colour, "colour"))
        elif token in _JOINTS:
            stays = phrases[-1].opened and token in ("and", ",")
            phrases.append(_Phrase(stays or token in _PARTS_FOLLOW, []))
        else:
            known = next((form for form in singulars(token) if form in words), None)
            kind = "filler" if token in FILLER else "known" if known else "unknown"
            phrases[-1].kinds.append((known or token, kind))
        i += 1
    return [phrase for phrase in phrases if phrase.kinds]


def _noun_at(tokens: list[str], start: int, *, names: Mapping[str, str], longest: int) -> tuple[int, str]:
    """How many words the longest name has that begins here, and its noun; plurals count where only they differ."""
    for length in range(min(longest, len(tokens) - start), 0, -1):
        first, last = tokens[start : start + length - 1], tokens[start + length - 1]
        for form in singulars(last):
            if (name := " ".join([*first, form])) in names:
                return length, names[name]
    return 0, ""


def _goes_on(tokens: list[str], start: int, *, names: Mapping[str, str], longest: int) -> bool:
    """Whether a noun follows before the phrase ends."""
    for i in range(start, len(tokens)):
        if tokens[i] in _JOINTS:
            return False
        if _noun_at(tokens, i, names=names, longest=longest)[0]:
            return True
    return False
