"""Reads what functions say about their arguments: in annotations and in docstrings. Used by the test beside it."""

import ast
from collections.abc import Iterator

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(source: str) -> Iterator[Function]:
    return (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def arguments(function: Function) -> list[ast.arg]:
    """All of them but *args and **kwargs."""
    return [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]


def mentions(annotation: ast.expr | None, name: str) -> bool:
    """Whether a value so annotated is or holds a `name`; a class, or a function that makes one, does not count."""
    if annotation is None:
        return False
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) in ("Callable", "type"):
        return False
    if isinstance(annotation, ast.Name | ast.Attribute):
        return ast.unparse(annotation).rpartition(".")[2] == name
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return mentions(ast.parse(annotation.value, mode="eval").body, name)
    return any(mentions(child, name) for child in ast.iter_child_nodes(annotation) if isinstance(child, ast.expr))


def takers(source: str, name: str) -> list[str]:
    """The functions that are given a `name`, as `line: function`."""
    found = [f for f in functions(source) if any(mentions(argument.annotation, name) for argument in arguments(f))]
    return [f"{f.lineno}: {f.name}" for f in found]
