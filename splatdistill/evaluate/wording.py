"""Prompts as lists that a judge chooses from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

FEW = 10
"""With fewer different prompts than this the default pool joins them."""
_ARTICLES = frozenset({"a", "an", "the"})


def words(prompt: str) -> list[str]:
    """The words of a prompt in lower case, without articles."""
    return [word for word in re.findall(r"[a-z0-9]+", prompt.lower()) if word not in _ARTICLES]


def candidates(prompts: Sequence[str], pool: Sequence[str]) -> list[str]:
    """The prompts, each once, and where they are few those of the pool too.

    Left out of the pool is what is true of a prompt's object as well, or would be: "a red car" beside "a car".
    """
    own = list(dict.fromkeys(prompts))
    if len(own) >= FEW:
        return own
    sets = [frozenset(words(prompt)) for prompt in own]
    return own + [p for p in pool if not any(s <= set(words(p)) or set(words(p)) <= s for s in sets)]


def read_prompts(path: Path) -> list[str]:
    """The lines of a text file that are not empty; ValueError, one sentence, when there are none."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"prompts: {path} cannot be read as text.") from error
    if found := [line for line in lines if line]:
        return found
    raise ValueError(f"prompts: {path} holds no prompt; write one a line.")


def without_colours(prompt: str, colours: frozenset[str]) -> str:
    """The prompt less its colour words, with the right article: "a red armchair" becomes "an armchair"."""
    kept = " ".join(word for word in prompt.split() if word.strip(",.").lower() not in colours)
    if not words(kept):  # a colour is all that it names
        return prompt
    return re.sub(r"\b(a|an) (?=(\w))", lambda m: "an " if m[2].lower() in "aeiou" else "a ", kept)
