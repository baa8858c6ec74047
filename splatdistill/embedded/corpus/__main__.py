"""Command line of the corpus: render it, pack it for another machine, look at its models, or write the credits."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from splatdistill.embedded.corpus import pack
from splatdistill.embedded.corpus.layout import BUFFERS, INDEX
from splatdistill.priors.gbuffer import CHANNELS


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 1 with one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m splatdistill.embedded.corpus", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    render = verbs.add_parser("build", help="render all models into OUT")
    small = verbs.add_parser("pack", help="put a built corpus into one file")
    sheets = verbs.add_parser(
        "contact-sheets", help="images of all models with their names, front and side, plain and painted"
    )
    credits_ = verbs.add_parser("credits", help="write ATTRIBUTION.md")
    fit = verbs.add_parser("fit", help="teach a folder of meshes a model of your own: MODEL.glb")
    for verb in (render, small, sheets, credits_, fit):
        verb.add_argument("--out", type=Path, required=True)
    for verb in (render, credits_):
        verb.add_argument("--furniture", help="folder of .sh3f files (default: where Debian puts them), or none")
        verb.add_argument("--nouns", choices=("core", "all"), default="all", help="core: the 40 of the first prior")
        verb.add_argument("--cc0-only", action="store_true", help="only models that nobody need be credited for")
    render.add_argument("--models", type=Path, help="folder or zip archive of the GLB files that models.csv names")
    render.add_argument("--per-noun", type=int, default=0, help="models of each noun at most, its first ones; 0: all")
    render.add_argument("--rings", type=int, default=13, help="rings of 4 views for each model")
    render.add_argument(
        "--procedural",
        type=int,
        default=24,
        help="objects of each procedural family, made here from --seed; 0 for none",
    )
    render.add_argument("--size", type=int, default=64, help="side of the pictures in pixels")
    render.add_argument("--rays", type=int, default=2, help="rays a side in each pixel of a model")
    render.add_argument("--seed", type=int, default=0)
    render.add_argument("--processes", type=int, default=2)
    for verb in (small, sheets):
        verb.add_argument("--corpus", type=Path, required=True, help="folder that `build` wrote")
    small.add_argument("--rings", type=int, default=6, help="rings of 4 views that are kept of each model")
    small.add_argument("--rendered", action="store_true", help="pack procedural objects as models are, not as seeds")
    small.add_argument("--most-mib", type=int, default=20, help="refuse a larger pack")
    small.add_argument(
        "--procedural", type=int, help="objects of each procedural family where the pack is read (default: as built)"
    )
    fit.add_argument("model", type=Path, help="GLB file, +y up")
    fit.add_argument("--noun", required=True, help="what it is called; one that is known gets another model")
    fit.add_argument("--front-deg", type=float, default=0.0, help="turn about +y that brings its front to +z")
    fit.add_argument("--instances", type=Path, required=True, help="folder of meshes, or prior, to begin from")
    args = vars(parser.parse_args(argv))
    verb = args.pop("verb")
    try:
        {"build": _build, "pack": _pack, "contact-sheets": _contact_sheets, "credits": _credits, "fit": _fit}[verb](
            **args
        )
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _build(**args: object) -> None:
    try:
        from splatdistill.embedded.corpus.build import build
    except ModuleNotFoundError as error:
        raise ValueError(f"{error.name} is missing: `pip install 'splatdistill[prior]'` brings it.") from error
    build(**args)  # type: ignore[arg-type]


def _fit(*, model: Path, noun: str, front_deg: float, instances: Path, out: Path) -> None:
    from splatdistill.embedded.corpus.fit import add

    try:
        found = add(model, noun=noun, front_deg=front_deg, instances=instances, out=out)
    except ModuleNotFoundError as error:
        raise ValueError(f"{error.name} is missing: `pip install 'splatdistill[prior]'` brings it.") from error
    print(f"{out}: {noun} fitted, {found:.1f} dB on its own views")


def _pack(*, corpus: Path, out: Path, rings: int, procedural: int | None, rendered: bool, most_mib: int) -> None:
    if not (corpus / INDEX).exists():
        raise ValueError(f"No corpus in {corpus}: `build --out {corpus}` makes one; only a built folder can be packed.")
    index, buffers = json.loads((corpus / INDEX).read_text(encoding="utf-8")), np.load(corpus / BUFFERS, mmap_mode="r")
    assert buffers.shape[-1] == CHANNELS
    if procedural is not None:
        index["toys"]["number"] = procedural
    pack.write(out, index=index, buffers=buffers, rings=rings, rendered=rendered)
    size = out.stat().st_size
    print(f"{out}: {size / 2**20:.1f} MiB")
    if size > most_mib << 20:
        raise ValueError(f"The pack is larger than {most_mib} MiB: give fewer --rings or a larger --most-mib.")


def _contact_sheets(*, corpus: Path, out: Path) -> None:
    from splatdistill.embedded.corpus.contact_sheets import model_sheets

    for path in model_sheets(corpus, out):
        print(path)


def _credits(*, out: Path, furniture: str | None, nouns: str, cc0_only: bool) -> None:
    from splatdistill.embedded.corpus.build import attribution, select_models
    from splatdistill.embedded.corpus.nouns import read_files

    chosen = select_models(furniture, nouns=nouns, cc0_only=cc0_only)
    out.write_text(attribution(chosen, read_files() if nouns == "all" else ()), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
