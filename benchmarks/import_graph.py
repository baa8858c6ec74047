"""Counts the packages of splatdistill and the imports between them, in the working tree or at a commit.

    python benchmarks/import_graph.py                    # the working tree
    python benchmarks/import_graph.py --commit 69a9e0c   # a commit of this repository
    python benchmarks/import_graph.py --edges            # each package with what it imports

A package is a folder or a module directly below splatdistill; in `embedded` it is one below that, because prior, judge
and corpus are apart. Imports inside functions count. A circle is a set of modules that import each other in turn.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from common import ROOT

TOP = "splatdistill"
Edges = dict[str, set[str]]


def sources(commit: str | None) -> dict[str, str]:
    """Text of every module by its dotted name, packages with `.__init__`."""
    if commit is None:
        files = {str(p.relative_to(ROOT)): p.read_text(encoding="utf-8") for p in (ROOT / TOP).rglob("*.py")}
    else:
        command = ["git", "-C", str(ROOT), "archive", commit, TOP]
        packed = subprocess.run(command, check=True, capture_output=True).stdout  # noqa: S603
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            members = [(member.name, archive.extractfile(member)) for member in archive if member.name.endswith(".py")]
            files = {name: file.read().decode() for name, file in members if file}
    return {str(Path(name).with_suffix("")).replace("/", "."): text for name, text in files.items()}


def imports(module: str, text: str, known: set[str]) -> Iterator[str]:
    """The modules of `known` that a module imports."""
    package = module.rpartition(".")[0]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*parents, *([node.module] if node.module else [])])
            for alias in node.names:
                name = f"{source}.{alias.name}"
                found = name if name in known else source
                if found in known and found != TOP:
                    yield found


def graph(modules: Mapping[str, str]) -> Edges:
    known = {name.removesuffix(".__init__") for name in modules}
    return {
        name.removesuffix(".__init__"): set(imports(name, text, known)) - {name.removesuffix(".__init__")}
        for name, text in modules.items()
    }


def package_of(module: str) -> str:
    parts = module.split(".")[1:]
    deeper = parts[:1] == ["embedded"] and len(parts) > 1
    return ".".join(parts[: 2 if deeper else 1]) or TOP


def between(edges: Edges, *, packages: Mapping[str, str]) -> Edges:
    """The edges of modules as those of their packages."""
    found: Edges = {package: set() for package in packages.values()}
    for module, targets in edges.items():
        here = packages[module]
        found[here] |= {packages[target] for target in targets} - {here}
    return found


def circles(edges: Edges) -> list[list[str]]:
    """The sets of more than one node in which each is reached from each (Tarjan)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for target in sorted(edges[node]):
            if target not in order:
                visit(target)
            if target in stack:
                low[node] = min(low[node], low[target])
        if low[node] == order[node]:
            at = stack.index(node)
            members = stack[at:]
            del stack[at:]
            if len(members) > 1:
                found.append(sorted(members))

    for node in sorted(edges):
        if node not in order:
            visit(node)
    return found


def measure(commit: str | None) -> tuple[dict[str, object], Edges]:
    modules = graph(sources(commit))
    packages = between(modules, packages={name: package_of(name) for name in modules})
    counts: dict[str, object] = {
        "packages": len(packages),
        "imports between packages": sum(len(targets) for targets in packages.values()),
        "modules": len(modules),
        "circles of modules": circles(modules),
        "circles of packages": circles(packages),
    }
    return counts, packages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commit", help="count this commit in place of the working tree")
    parser.add_argument("--edges", action="store_true", help="name the imports")
    flags = parser.parse_args()
    counts, packages = measure(flags.commit)
    print(json.dumps(counts, indent=1))
    if flags.edges:
        for package, targets in sorted(packages.items()):
            print(f"{package} -> {', '.join(sorted(targets))}")


if __name__ == "__main__":
    main()
