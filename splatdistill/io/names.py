"""Names of run folders. Prompts are data: whatever they hold, the name stays inside its parent folder."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping


def run_name(prompt: str, settings: Mapping[str, object]) -> str:
    """`<slug of the prompt>-<8 hex digits>`; the digits cover `settings`, those that the run
    reads by their dotted names, so the same command has the same name.
    """
    text = json.dumps(settings, sort_keys=True)
    return f"{slug(prompt)}-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"


def slug(text: str) -> str:
    """`[a-z0-9-]{1,64}`: the words of `text` in lower case, accents dropped, 'object' when none are left."""
    plain = unicodedata.normalize("NFKD", text[:1000]).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain)[:65].strip("-")[:64].strip("-") or "object"


def check_name(name: str) -> str:
    """`name` if it can name a folder on any system and stays inside its parent, else ValueError."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name) or name.endswith("."):
        raise ValueError(
            f"name: {name[:80]!r} cannot name a run; use up to 100 letters, digits, '-', '_' and '.', "
            "beginning with a letter or digit."
        )
    return name
