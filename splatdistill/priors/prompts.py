"""What a prompt becomes for one side of the object. No torch here."""

from __future__ import annotations

SIDES = ("front", "side", "back", "overhead")


def seen_from(prompt: str, word: str) -> str:
    """The prompt for one side of the object."""
    return f"{prompt}, {word} view"


def siblings(prompt: str) -> list[str]:
    """What a run with this prompt may ask for as well: the prompt alone, from every side, and no prompt."""
    plain = next((prompt.removesuffix(end) for side in SIDES if prompt.endswith(end := seen_from("", side))), prompt)
    return [""] if not plain else [plain, *(seen_from(plain, side) for side in SIDES), ""]
