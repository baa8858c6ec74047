"""Which models the corpus takes, what they are called, which way they face and whether they may be painted."""

from __future__ import annotations

from dataclasses import dataclass

_CC0, _BY, _KATOR, _SCOPIA = "BlendSwap-CC-0", "BlendSwap-CC-BY", "KatorLegaz", "Scopia"


@dataclass(frozen=True)
class Noun:
    """One kind of object.

    models: keys `library/number`, or `library/number@yaw` with the degrees that turn its front to +z.
    """

    name: str
    models: tuple[str, ...]
    paintable: bool = False
    synonyms: tuple[str, ...] = ()


def _keys(library: str, *numbers: int | str) -> tuple[str, ...]:
    return tuple(f"{library}/{number}" for number in numbers)


NOUNS: tuple[Noun, ...] = (
    Noun("armchair", _keys(_CC0, 86) + _keys(_BY, 95) + _keys(_KATOR, 47) + _keys(_SCOPIA, 24), True, ("easy chair",)),
    Noun("basketball", _keys(_CC0, 78)),
    Noun("bed", _keys(_CC0, 5, 88) + _keys(_BY, 77), True),
    Noun("bicycle", _keys(_BY, 88), True, ("bike",)),
    Noun("biplane", _keys(_CC0, 10), True, ("airplane", "plane")),
    Noun("birthday cake", _keys(_SCOPIA, 128), False, ("cake",)),
    Noun("boat", _keys(_BY, 133), True, ("rowboat",)),
    Noun("bus", _keys(_SCOPIA, 247), True, ("coach",)),
    Noun("cactus", _keys(_CC0, 107)),
    Noun("car", _keys(_BY, 94) + _keys(_KATOR, 59, 69) + _keys(_SCOPIA, 250), True, ("automobile",)),
    Noun("cat", _keys(_SCOPIA, 161), False, ("kitten",)),
    Noun("chair", _keys(_CC0, 31) + _keys(_BY, 24) + _keys(_SCOPIA, 30), True),
    Noun("chicken", _keys(_CC0, 94), False, ("hen",)),
    Noun("christmas tree", _keys(_SCOPIA, 130), False, ("fir tree",)),
    Noun("cupcake", _keys(_CC0, 142), False, ("muffin",)),
    Noun("dog", _keys(_SCOPIA, 162) + _keys(_BY, 89), False, ("puppy",)),
    Noun("fire hydrant", _keys(_KATOR, 79), True, ("hydrant",)),
    Noun("gift", _keys(_BY, 26), True, ("present", "gift box")),
    Noun("grand piano", _keys(_CC0, 30), True, ("piano",)),
    Noun("guitar", _keys(_CC0, 76), True, ("electric guitar",)),
    Noun("hamburger", _keys(_BY, 96), False, ("burger", "cheeseburger")),
    Noun("horse", _keys(_CC0, 97) + _keys(_BY, 97), False, ("pony",)),
    Noun("lamp", _keys(_CC0, 15) + _keys(_BY, 98) + _keys(_SCOPIA, 55, 65), True, ("table lamp",)),
    Noun("motorcycle", _keys(_SCOPIA, 173), True, ("motorbike",)),
    Noun("mug", _keys(_KATOR, 28), True, ("cup", "coffee mug")),
    Noun("palm tree", _keys(_SCOPIA, 362), False, ("palm", "coconut tree")),
    Noun("rabbit", _keys(_SCOPIA, 205), False, ("bunny",)),
    Noun("sneakers", _keys(_SCOPIA, 147), True, ("shoes", "trainers")),
    Noun("snowman", _keys(_BY, 72)),
    Noun("soccer ball", _keys(_BY, 71), False, ("football",)),
    Noun("sofa", _keys(_CC0, 132) + _keys(_KATOR, 56, 57) + _keys(_SCOPIA, 75), True, ("couch", "settee")),
    Noun("table", _keys(_CC0, 27) + _keys(_SCOPIA, 61, 338), True, ("desk",)),
    Noun("teapot", _keys(_SCOPIA, 123), True),
    Noun("teddy bear", _keys(_CC0, 51), True, ("teddy", "bear")),
    Noun("toy train", _keys(_BY, "106@90"), False, ("train",)),
    Noun("traffic cone", _keys(_SCOPIA, 262), False, ("cone",)),
    Noun("tree", _keys(_SCOPIA, 351, 365, 382)),
    Noun("truck", _keys(_SCOPIA, 212), True, ("lorry",)),
    Noun("umbrella", _keys(_CC0, 60), True, ("parasol",)),
    Noun("vase", _keys(_SCOPIA, 41, 42, 43), True, ("pot",)),
)  # fmt: skip
PLURALS = frozenset({"sneakers", "shoes", "trainers"})


def split_key(key: str) -> tuple[str, float]:
    """`library/number@yaw` to (`library/number`, yaw in degrees)."""
    model, _, yaw = key.partition("@")
    return model, float(yaw or 0)
