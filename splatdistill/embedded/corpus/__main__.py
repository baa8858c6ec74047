"""Command line of the corpus: render it, or write the credits."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from splatdistill.embedded.corpus.build import attribution, build


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m splatdistill.embedded.corpus", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    render = verbs.add_parser("build", help="render all models into OUT")
    credits_ = verbs.add_parser("credits", help="write ATTRIBUTION.md")
    for verb in (render, credits_):
        verb.add_argument("--out", type=Path, required=True)
        verb.add_argument("--furniture", help="folder of .sh3f files (default: where Debian puts them)")
    render.add_argument(
        "--rings", type=int, default=12, help="rings of 4 views for each model; nouns with few models get more"
    )
    render.add_argument("--size", type=int, default=64, help="side of the pictures in pixels")
    render.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    try:
        if args.verb == "build":
            build(args.out, furniture=args.furniture, rings=args.rings, size=args.size, seed=args.seed)
        else:
            args.out.write_text(attribution(args.furniture))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
