"""Reads what functions say about their arguments: in annotations and in docstrings. Used by the test beside it."""

import ast
import re
from collections.abc import Iterable, Iterator

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


SHAPE = r"(?:\[[^\]\n]*\]|\blike\b|\bany shapes?\b)"  # [V,3]; like another tensor; any
MAPPINGS = ("dict", "Mapping", "MutableMapping")  # of names to tensors, as checkpoints hold: the shapes differ
OF_THE_CLASS = ("__init__", "forward", "__call__")  # what they take may stand in the docstring of their class
MAX_HELPER = 3  # lines of a private function that needs no docstring, for it says less than them


def holds_tensors(annotation: ast.expr | None) -> bool:
    """Whether a value so annotated is a tensor, or several in a row."""
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) in MAPPINGS:
        return False
    if isinstance(annotation, ast.BinOp):
        return holds_tensors(annotation.left) or holds_tensors(annotation.right)
    return mentions(annotation, "Tensor")


def shapeless(source: str, documents: dict[str, str]) -> tuple[int, list[str]]:
    """How many functions take or return tensors, and those whose docstring leaves out the shape of one, as `line:
    function: what`. documents: docstrings by function, to which `As `name`` refers and which methods inherit.
    """
    found: list[str] = []
    count = 0
    for function, owner in _outer(ast.parse(source)):
        taken = [argument.arg for argument in arguments(function) if holds_tensors(argument.annotation)]
        if not (taken or holds_tensors(function.returns)) or _is_helper(function):
            continue
        count += 1
        text, returns = _text(function, owner, documents), holds_tensors(function.returns)
        shapes = len(re.findall(SHAPE, text))
        left_out = [name for name in taken if not _says(text, name)]
        if len(taken) == 1 and shapes >= 1 + returns:  # one shape is that of the only argument
            left_out = []
        if returns and not shapes:
            left_out.append("what it returns")
        if left_out:
            found.append(f"{function.lineno}: {function.name}: {', '.join(left_out)}")
    return count, found


def docstrings(sources: Iterable[str]) -> dict[str, str]:
    """Every docstring, by the name of its function and by `Class.function`; the one that says most, where several have
    a name.
    """
    found: dict[str, str] = {}
    for source in sources:
        for function, owner in _outer(ast.parse(source)):
            text = ast.get_docstring(function) or ""
            names = [function.name]
            if owner is not None:
                names.append(f"{owner.name}.{function.name}")
                if any(ast.unparse(base) == "Protocol" for base in owner.bases):
                    names.append(f"Protocol.{function.name}")
            for name in names:
                found[name] = max(found.get(name, ""), text, key=len)
    return found


def _outer(tree: ast.Module) -> Iterator[tuple[Function, ast.ClassDef | None]]:
    """Functions of the module and of its classes, those inside other functions left out."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node, None
        if isinstance(node, ast.ClassDef):
            yield from ((child, node) for child in node.body if isinstance(child, ast.FunctionDef))


def _is_helper(function: Function) -> bool:
    body = function.body[ast.get_docstring(function) is not None :]
    lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
    return function.name.startswith("_") and not function.name.startswith("__") and lines <= MAX_HELPER


def _text(function: Function, owner: ast.ClassDef | None, documents: dict[str, str]) -> str:
    """What is said of a function: by itself, by what it refers to, or by a base or protocol of its class."""
    text = ast.get_docstring(function) or ""
    if owner is not None and function.name in OF_THE_CLASS:
        text += " " + (ast.get_docstring(owner) or "")
    if owner is not None and not text:
        bases = [ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in owner.bases] + ["Protocol"]
        text = next((documents[f"{b}.{function.name}"] for b in bases if f"{b}.{function.name}" in documents), "")
    for name in re.findall(r"[Aa]s (?:of )?`([\w.]+)`", text):
        text += " " + documents.get(name, "")
    return " ".join(text.split())


def _says(text: str, name: str) -> bool:
    """Whether a shape stands close behind a name."""
    return re.search(rf"\b{re.escape(name)}\b[^.;]{{0,80}}?{SHAPE}", text) is not None
