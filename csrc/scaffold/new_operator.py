"""Writes the skeleton of an operator, which compiles and whose tests pass: `make new-op NAME=shrink`.

The skeleton multiplies numbers by a factor. Replace that, file after file, by what the operator is to do; what belongs
where is in CONTRIBUTING.md. Nothing that exists is overwritten. Exit code 2 and one sentence for a name that cannot be
taken.
"""

from __future__ import annotations

import keyword
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# Templates, and where each goes. The reference is added at the end of the file that all operators share.
FILES = {
    "common.h.in": "csrc/common/{}.h",
    "cpu.cpp.in": "csrc/cpu/{}.cpp",
    "cuda.cu.in": "csrc/cuda/{}.cu",
    "bind.cpp.in": "csrc/bind/{}.cpp",
    "cpu_check.cpp.in": "csrc/cpu/check/{}.cpp",
    "cuda_check.cu.in": "csrc/cuda/check/{}.cu",
    "ops.py.in": "splatdistill/ops/{}.py",
    "test.py.in": "tests/ops/test_{}.py",
}
REFERENCE = "splatdistill/ops/reference.py"


def write(name: str, root: Path) -> list[str]:
    """The files written, relative to `root`. ValueError, one sentence, for a name that is taken or is none."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or keyword.iskeyword(name):
        raise ValueError(f"NAME must be lower-case words joined by _, such as shrink or depth_order, got {name!r}.")
    reference = root / REFERENCE
    paths = {template: root / path.format(name) for template, path in FILES.items()}
    taken = [path for path in paths.values() if path.exists()]
    if taken:
        raise ValueError(f"{taken[0].relative_to(root)} exists already: choose another NAME.")
    if re.search(rf"^(def|class) {name}\b|^{name}\b", reference.read_text(encoding="utf-8"), flags=re.M):
        raise ValueError(f"{REFERENCE} defines {name} already: choose another NAME.")
    camel = "".join(word.capitalize() for word in name.split("_"))

    def filled(template: str) -> str:
        return (HERE / template).read_text(encoding="utf-8").replace("@name@", name).replace("@Name@", camel)

    for template, path in paths.items():
        path.write_text(filled(template), encoding="utf-8")
    with reference.open("a", encoding="utf-8") as file:
        file.write(filled("reference.py.in"))
    return sorted([*(str(path.relative_to(root)) for path in paths.values()), REFERENCE])


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: make new-op NAME=name", file=sys.stderr)
        return 2
    try:
        written = write(sys.argv[1], ROOT)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print("\n".join(written))
    return 0


if __name__ == "__main__":
    sys.exit(main())
