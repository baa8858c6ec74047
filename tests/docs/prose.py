"""Sentences and words of a Markdown page, as a reader meets them: no code, no tables, no headings."""

from __future__ import annotations

import re

BANNED = (
    "told", "untold", "lone", "looks", "beside", "whatever", "of its own", "hears", "speaks", "whisper", "company",
    "yardstick", "films?", "towers?", "view words", "second score", "pictures? through the networks?",
    "images? through the networks?", "by heart", "and it is said",
)  # fmt: skip
"""Words of our own making, as patterns, for which the field has a term or plain English has a shorter one."""

_FENCE = re.compile(r"^ *(`{3,}|~{3,}).*?^ *\1 *$", re.M | re.S)
_GENERATED = re.compile(r"<!-- (?P<name>[\w ]+): written by .*?<!-- end of (?P=name) -->", re.S)
_COMMENT = re.compile(r"<!--.*?-->", re.S)
_ITEM = re.compile(r"^ *(?:[-*]|\d+\.) +")
_END = re.compile(r"(?<=[.!?])[)\"*]* +(?=[\"(*`A-Z0-9-])|(?<=[.!?])$")
_WORD = re.compile(r"\w")


def without_code(text: str) -> str:
    """The page without fenced blocks, comments and what a script writes from records."""
    return _COMMENT.sub("", _GENERATED.sub("", _FENCE.sub("", text)))


def sentences(text: str) -> list[str]:
    """Of paragraphs and list items. A link is its text, an image nothing, and code in a line one word."""
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", without_code(text))
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"`[^`]*`|\$[^$]*\$", "Code", text)
    found: list[str] = []
    for block in _blocks(text):
        found += [part.strip() for part in _END.split(block) if _WORD.search(part)]
    return found


def words(sentence: str) -> int:
    """Those that hold a letter or a digit."""
    return sum(1 for word in sentence.split() if _WORD.search(word))


def banned(text: str) -> list[str]:
    """Banned words of a page, tables and headings included."""
    text = re.sub(r"`[^`]*`", "", without_code(text))
    text = re.sub(r"\]\([^)]*\)", "]", text)
    return [word for word in BANNED if re.search(rf"\b{word}\b", " ".join(text.split()), flags=re.I)]


def _blocks(text: str) -> list[str]:
    """Paragraphs and list items, each as one line."""
    blocks, current = [], ""
    for line in [*text.splitlines(), ""]:
        heading = line.startswith(("#", "|", ">", "(")) and not current.strip()
        if heading or not line.strip() or _ITEM.match(line):
            blocks.append(current)
            current = "" if heading or not line.strip() else _ITEM.sub("", line)
        else:
            current += " " + line.strip()
    return [" ".join(block.split()) for block in blocks if _WORD.search(block)]
