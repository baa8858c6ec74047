"""Which of a model's three paints a word of the prompt means, by the names and heights of what each of them covers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from splatdistill.priors.instances import Instance
from splatdistill.priors.reading import Reading, singulars

SLOTS = 3
NAMED, ALIKE, GUESSED, ABSENT = 3, 2, 1, 0
"""How sure a part is: a paint has its name, has that of something like it, is the likeliest, or there is none."""

_ALIKE = (
    {"wheel", "tire", "tyre", "rubber", "rim", "track"},
    {"leg", "foot", "feet", "base", "stand", "frame", "chrome", "metal", "steel", "tube", "hoof", "hooves"},
    {"window", "glass", "windscreen", "pane"},
    {"seat", "cushion", "cushin", "cushing", "pillow", "fabric", "cloth", "leather", "textile", "carpet", "mattress"},
    {"leaf", "leaves", "foliage", "needle", "crown"},
    {"trunk", "bark", "stem", "stalk", "wood"},
    {"roof", "top", "tip", "dome", "lid", "cap"},
    {"handle", "grip", "hilt", "knob"},
    {"shade", "lampshade", "screen"},
    {"shirt", "clothes", "jacket", "dress", "coat"},
    {"blade", "edge", "iron"},
    {"hair", "mane", "fur"},
)
_LOW = {"wheel", "tire", "tyre", "leg", "foot", "feet", "base", "stand", "hoof", "shoe", "trunk", "stem", "track"}
_HIGH = {"roof", "top", "tip", "dome", "lid", "cap", "hat", "hair", "leaf", "leaves", "shade", "crown", "head", "sail"}


@dataclass(frozen=True)
class Painted:
    """A colour, or None for its own, for each paint of a model. sure: how sure the least sure part is. absent: parts
    that it cannot show in a colour of their own, "" the whole.
    """

    colours: tuple[str | None, ...]
    sure: int
    absent: tuple[str, ...] = ()


def assign(instance: Instance, reading: Reading) -> Painted:
    """The colours of a prompt on one model: parts first, the surest before others, then the whole on the largest paint
    that is left.
    """
    covered = [slot for slot, name in enumerate([*instance.parts, "", "", ""][:SLOTS]) if name]
    if not covered:
        covered = [0]
    taken: dict[int, str] = {}
    absent, sure = [], NAMED
    left = dict(reading.parts)
    while left:
        free = [slot for slot in covered if slot not in taken]
        ranked = [(*_match(instance, slot, part, paints=len(covered)), -slot, part) for slot in free for part in left]
        found, _, slot, part = max(ranked, default=(ABSENT, 0.0, 0, next(iter(left))))
        sure = min(sure, found)
        if found == ABSENT:
            absent += left
            break
        taken[-slot] = left.pop(part)
    if reading.colour:
        free = [slot for slot in covered if slot not in taken]
        if free:
            taken[free[0]] = reading.colour
        else:
            absent.append("")
            sure = ABSENT
    return Painted(tuple(taken.get(slot) for slot in range(SLOTS)), sure, tuple(absent))


def able(instances: Sequence[Instance], reading: Reading) -> list[int]:
    """Places of those that show the prompt's colours as surely as the surest of them, all where none can."""
    sure = [assign(instance, reading).sure for instance in instances]
    # A name and one that means the like are equally good: materials have few names.
    level = [min(s, ALIKE) for s in sure]
    return [i for i, s in enumerate(level) if s == max(level)]


def _match(instance: Instance, slot: int, part: str, *, paints: int) -> tuple[int, float]:
    """How sure it is that a paint, one of so many, is this part, and how well its height suits."""
    name = instance.parts[slot].lower() if slot < len(instance.parts) else ""
    words = {form for word in part.split() for form in singulars(word)}
    like = {other for group in _ALIKE if group & words for other in group}
    height = instance.heights[slot] if slot < len(instance.heights) else 0.5
    suits = 1 - height if words & _LOW else height if words & _HIGH else 0.5
    for level, wanted in ((NAMED, words), (ALIKE, like)):
        hits = [any(_names(material, word) for word in wanted) for material in name.split(";")]
        # The largest paint is the whole, unless half of what it covers is the part, and it lies where that does. The
        # only one is a part if its materials are nothing else.
        if slot:
            good = any(hits)
        elif paints > 1:
            good = 2 * sum(hits) >= len(hits) and suits >= 0.5
        else:
            good = all(hits)
        if good:
            return level, suits
    return (GUESSED if paints > 1 and (slot or words & (_LOW | _HIGH)) else ABSENT), suits


def _names(name: str, word: str) -> bool:
    """Whether the name of a material has a word in it; short ones only at the beginning of one of its own."""
    return word in name if len(word) > 3 else re.search(rf"(?<![a-z]){re.escape(word)}", name) is not None
