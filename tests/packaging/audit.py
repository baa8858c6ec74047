"""Finds in source text what the project forbids. Used by the tests beside it, which also feed it planted faults."""

import ast
import io
import subprocess
import tokenize
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

UNSAFE_MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {
    *("yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load", "os.system", "os.popen"),
    *("yaml.Loader", "yaml.FullLoader", "yaml.UnsafeLoader", "yaml.CLoader", "yaml.CFullLoader", "yaml.CUnsafeLoader"),
    *("subprocess.getoutput", "subprocess.getstatusoutput", "runpy.run_path", "torch.hub.load", "torch.jit.load"),
}
UNSAFE_FLAGS = (
    "shell",
    "allow_pickle",
    "trust_remote_code",
)  # left out or False; None may ask who sits there
COMPARING_CALLS = {"approx", "allclose", "isclose", "assert_close", "assert_allclose", "assert_within"}
TOLERANCES = {"abs", "rel", "atol", "rtol", "allowed"}
SMALL = 1e-3  # what is said to be less than this number is said to be 0
ASSERTING_CALLS = {"gradcheck", "gradgradcheck", "opcheck", "raises", "warns"}


@cache
def tracked(*suffixes: str) -> list[Path]:
    """Files under version control, with one of the suffixes where any is given; generated bundles are left out."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    paths = [ROOT / name for name in listing.split("\0") if name]
    return [path for path in paths if path.is_file() and (not suffixes or path.suffix in suffixes)]


def _dotted(node: ast.expr) -> str:
    """`a.b.c` of a chain of names; `?.c` when the chain starts at a call or subscript."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return "?"


def _is_constant(call: ast.Call, name: str, value: object) -> bool:
    return any(k.arg == name and isinstance(k.value, ast.Constant) and k.value.value is value for k in call.keywords)


def _call_fault(call: ast.Call) -> str | None:
    name = _dotted(call.func)
    if name in {"eval", "exec", "compile", "__import__"}:
        return f"{name}()"
    if name in UNSAFE_CALLS:
        return f"{name}()"
    if name == "torch.load" and not _is_constant(call, "weights_only", True):
        return "torch.load() without weights_only=True"
    given = {k.arg for k in call.keywords}
    unsafe = [flag for flag in UNSAFE_FLAGS if flag in given and not _is_constant(call, flag, False)]
    return f"{unsafe[0]} that is not False" if unsafe else None


RUN_FILES = {"config.yaml", "summary.json", "command.txt", "metrics.jsonl", "events.jsonl"}


def other_readers(source: str) -> list[str]:
    """Every name of a run's file, and every call that loads YAML, as `line: what`: one module may have them each."""
    faults = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and node.value in RUN_FILES:
            faults.append(f"{node.lineno}: {node.value}")
        if isinstance(node, ast.Call) and (name := _dotted(node.func)).startswith("yaml.") and "dump" not in name:
            faults.append(f"{node.lineno}: {name}()")
    return faults


def oracle_uses(source: str) -> list[str]:
    """Every use of `splatdistill.ops.reference`, as `line: what`."""
    faults = []
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute) and node.attr == "reference":
            names = [_dotted(node)]
        faults += [f"{node.lineno}: {name}" for name in names if ".ops.reference." in f".{name}."]
    return faults


def unsafe_code(source: str) -> list[str]:
    """Every way of running code found in data, as `line: what`."""
    faults = []
    for node in ast.walk(ast.parse(source)):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
            faults += [
                f"{node.lineno}: {name}"
                for name in (f"{node.module}.{alias.name}" for alias in node.names)
                if name in UNSAFE_CALLS or name == "torch.load"
            ]
        faults += [f"{node.lineno}: {name}" for name in modules if name.split(".")[0] in UNSAFE_MODULES]
        if isinstance(node, ast.Call) and (fault := _call_fault(node)):
            faults.append(f"{node.lineno}: {fault}")
    return faults


def _asserts(function: ast.AST, helpers: set[str]) -> bool:
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            last = _dotted(node.func).rsplit(".", 1)[-1]
            if _is_constant(node, "check", True):  # a program that must end well
                return True
            if last in helpers | ASSERTING_CALLS or last.lstrip("_").startswith(("assert", "check")):
                return True
    return False


def silent_tests(source: str) -> list[str]:
    """Names of test functions that assert nothing, neither themselves nor through a function of the same file."""
    functions = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    helpers: set[str] = set()
    while True:
        found = {f.name for f in functions if not f.name.startswith("test") and _asserts(f, helpers)}
        if found == helpers:
            break
        helpers = found
    return [f.name for f in functions if f.name.startswith("test") and not _asserts(f, helpers)]


def bare_tolerances(source: str) -> list[str]:
    """Tolerances that are a number alone, neither 0 nor made of a name as bounds of rounding are, as `line: text`.

    A comment on a line of the statement, or on the one before it, can say where the number comes from.
    """
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    says = {t.start[0] for t in tokens if t.type == tokenize.COMMENT and not t.string.startswith(("# noqa", "# fmt"))}
    faults: dict[int, str] = {}
    for statement in ast.walk(ast.parse(source)):
        if isinstance(statement, ast.Assert | ast.Expr):
            bounds = [bound for node in ast.walk(statement) for bound in _bounds(node) if _is_number(bound)]
            lines = range(statement.lineno - 1, (statement.end_lineno or statement.lineno) + 1)
            if bounds and not says & set(lines):
                faults[statement.lineno] = ", ".join(map(ast.unparse, bounds))
    return [f"{line}: {text}" for line, text in sorted(faults.items())]


def _bounds(node: ast.AST) -> list[ast.expr]:
    """The tolerances of a comparison."""
    if isinstance(node, ast.Call) and _dotted(node.func).rsplit(".", 1)[-1] in COMPARING_CALLS:
        first = 1 if _dotted(node.func).endswith("approx") else 2  # after what is compared
        return [*node.args[first:], *(k.value for k in node.keywords if k.arg in TOLERANCES)]
    if isinstance(node, ast.Compare) and isinstance(node.ops[-1], ast.Lt | ast.LtE):
        last = node.comparators[-1]
        small = isinstance(last, ast.Constant) and isinstance(last.value, float) and last.value <= SMALL
        return [last] if small else []
    return []


def _is_number(node: ast.expr) -> bool:
    """Whether it is made of numbers alone and is not 0."""
    parts = [part for part in ast.walk(node) if not isinstance(part, ast.operator | ast.unaryop)]
    if not all(isinstance(part, ast.BinOp | ast.UnaryOp | ast.Constant) for part in parts):
        return False
    return any(isinstance(p.value, int | float) and p.value for p in parts if isinstance(p, ast.Constant))


def unnamed_encodings(source: str) -> list[str]:
    """Files opened as text without the name of an encoding, 'line: call'. Without it Windows takes that of its country.

    A first argument that is no string is no mode, so that `archive.open(member)` is left alone.
    """
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or any(word.arg == "encoding" for word in node.keywords):
            continue
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("read_text", "write_text"):
            found.append(f"{node.lineno}: {node.func.attr}")
        is_builtin = isinstance(node.func, ast.Name) and node.func.id == "open"
        if is_builtin or (isinstance(node.func, ast.Attribute) and node.func.attr == "open"):
            modes = node.args[is_builtin:]
            mode = modes[0] if modes else ast.Constant("r")
            if isinstance(mode, ast.Constant) and isinstance(mode.value, str) and "b" not in mode.value:
                found.append(f"{node.lineno}: open")
    return found


ONE_SYSTEM = {
    *(
        "os.kill",
        "os.killpg",
        "os.fork",
        "os.setsid",
        "os.setpgrp",
        "os.getpgid",
        "os.getuid",
        "os.geteuid",
        "os.uname",
    ),
    *("os.sched_getaffinity", "os.statvfs", "os.mkfifo", "os.fchmod", "os.getloadavg", "select.poll", "select.epoll"),
    *("signal.SIGHUP", "signal.SIGUSR1", "signal.SIGUSR2", "signal.SIGKILL", "signal.SIGALRM", "signal.alarm"),
    *("signal.CTRL_BREAK_EVENT", "signal.SIGBREAK", "signal.pthread_kill"),
}
ONE_SYSTEM_MODULES = {"fcntl", "resource", "msvcrt", "winreg", "termios", "tty", "pwd", "grp", "pty"}


def of_one_system(source: str) -> list[str]:
    """Uses of what Linux, all of POSIX, or Windows alone has, 'line: name'."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names = [name for name in names if name in ONE_SYSTEM_MODULES]
        if isinstance(node, ast.Attribute) and _dotted(node) in ONE_SYSTEM:
            names.append(_dotted(node))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("/proc/"):
            names.append(node.value)
        if isinstance(node, ast.keyword) and node.arg in ("start_new_session", "preexec_fn", "creationflags"):
            names.append(node.arg)
        found += [f"{getattr(node, 'lineno', 0)}: {name}" for name in names]
    return found
