"""The header of a .ply, as tolerant as the programs that read such files, and bounded.

Elements and properties may come in any number and order; lines may end in LF or CRLF and words be parted by several
blanks. What follows the header is not looked at here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from splatdistill.io.kinds import MAX_HEADER, FormatError

MAX_PROPERTIES = 512
TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4",
    "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
    "float": "f4", "double": "f8", "float32": "f4", "float64": "f8",
}  # fmt: skip
"""Kinds of numbers as numpy calls them: the digit is their size in bytes."""
FORMATS = ("ascii", "binary_little_endian", "binary_big_endian")


@dataclass
class Element:
    """A table of the file. properties: types by name, in file order; a list has no type of ours, but "list"."""

    name: str
    count: int
    properties: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def stride(self) -> int | None:
        """Bytes of a row; None where a list makes rows differ."""
        if "list" in self.properties.values():
            return None
        return sum(int(TYPES[kind][1]) for kind in self.properties.values())


@dataclass(frozen=True)
class Header:
    """format: one of FORMATS. comments: without the word. num_bytes: up to the first byte of data."""

    format: str
    elements: list[Element]
    comments: list[str]
    num_bytes: int

    def element(self, name: str) -> Element | None:
        """The first element of that name."""
        return next((element for element in self.elements if element.name == name), None)

    def before(self, name: str) -> int | None:
        """Bytes of binary data in front of an element; None where a list makes that unknown."""
        total = 0
        for element in self.elements:
            if element.name == name:
                break
            if element.stride is None:
                return None
            total += element.count * element.stride
        return total


def parse(start: bytes) -> Header:
    """The header of a file that begins with `start`, its first MAX_HEADER bytes or all; FormatError otherwise."""
    first = re.match(rb"ply[\t ]*(\r?\n)", start)
    if first is None:
        raise FormatError("is not a .ply file: it does not begin with 'ply'.")
    end = re.search(rb"\n[\t ]*end_header[\t ]*\r?\n", start[:MAX_HEADER])
    if end is None:
        raise FormatError(f"has no end_header within its first {MAX_HEADER // 1024} KiB.")
    lines = [line.removesuffix(b"\r") for line in start[first.end() : max(first.end(), end.start())].split(b"\n")]
    form, elements, comments = "", list[Element](), list[str]()
    for line in lines:
        words = line.decode("latin-1").split()
        if words[:1] in (["comment"], ["obj_info"]):
            comments.append(" ".join(words[1:]))  # any text: nothing depends on what others say here
            continue
        # Other control characters are read differently by different programs, plyfile among them.
        if not re.fullmatch(rb"[\t\x20-\x7e]*", line):
            raise FormatError("has a header that is not plain ASCII.")
        if words[:1] == ["format"] and len(words) == 3 and words[1] in FORMATS and not form:
            form = words[1]
        elif words:
            _element_or_property(words, elements)
    if not form:
        raise FormatError(f"names no format in its header; {', '.join(FORMATS)} are read.")
    return Header(form, elements, comments, end.end())


def _element_or_property(words: list[str], elements: list[Element]) -> None:
    shown = " ".join(words)[:80]
    if words[0] == "element" and len(words) == 3 and re.fullmatch("[0-9]{1,12}", words[2]):
        if any(element.name == words[1] for element in elements):
            raise FormatError(f"has the element {words[1][:80]!r} twice.")
        elements.append(Element(words[1], int(words[2])))
    elif words[0] == "property" and elements and _is_property(words):
        properties = elements[-1].properties
        if words[-1] in properties:
            raise FormatError(f"has the property {words[-1][:80]!r} twice.")
        properties[words[-1]] = words[1]
        if sum(len(element.properties) for element in elements) > MAX_PROPERTIES:
            raise FormatError(f"has more than {MAX_PROPERTIES} properties.")
    else:
        raise FormatError(f"has a header line that no .ply has: {shown!r}.")


def _is_property(words: list[str]) -> bool:
    if len(words) == 3:
        return words[1] in TYPES
    return len(words) == 5 and words[1] == "list" and words[2] in TYPES and words[3] in TYPES
