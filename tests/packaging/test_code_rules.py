"""Rules that hold for every source file: nothing loaded can run code, and every test asserts something."""

import ast
from collections import Counter

import pytest

import splatdistill
from tests.packaging.audit import (
    ROOT,
    bare_tolerances,
    of_one_system,
    oracle_uses,
    other_readers,
    silent_tests,
    tracked,
    unnamed_encodings,
    unsafe_code,
)


def _relative(path):
    return str(path.relative_to(ROOT))


def test_nothing_that_is_loaded_can_run_code():
    faults = [f"{_relative(p)}:{fault}" for p in tracked(".py") for fault in unsafe_code(p.read_text())]
    assert faults == []


def test_files_of_a_run_have_one_reader_and_yaml_another():
    """A second reader goes without the guards of the first."""
    shipped = [p for p in tracked(".py") if _relative(p).startswith(("splatdistill/", "viewer/"))]
    readers = {_relative(p) for p in shipped if other_readers(p.read_text())}
    assert readers == {"splatdistill/io/runs.py", "splatdistill/config/yaml_reader.py"}
    for planted in ('open(run / "config.yaml")', "yaml.safe_load(text)", 'read(run, "summary.json")'):
        assert len(other_readers(planted)) == 1
    assert other_readers("yaml.safe_dump(values)") == []


SHIPPED = ("splatdistill/", "viewer/", "configs/", "csrc/", "setup.py")


def test_text_files_name_their_encoding():
    faults = [
        f"{_relative(p)}:{fault}"
        for p in tracked(".py")
        if _relative(p).startswith(SHIPPED)
        for fault in unnamed_encodings(p.read_text(encoding="utf-8"))
    ]
    assert faults == []
    for planted in ("path.read_text()", "open(name)", 'path.open("a")', "path.write_text(x, newline='')"):
        assert len(unnamed_encodings(planted)) == 1
    for fine in ('path.open("rb")', "archive.open(name)", 'open(name, "w", encoding="utf-8")', "write_text(path, x)"):
        assert unnamed_encodings(fine) == []


def test_what_one_system_alone_has_is_in_one_module():
    """The allocator of glibc has its own, which does nothing elsewhere."""
    faults = {_relative(p) for p in tracked(".py") if of_one_system(p.read_text(encoding="utf-8"))}
    found = {path for path in faults if path.startswith(("splatdistill/", "viewer/"))}
    assert found == {"splatdistill/utils/system.py"}
    for planted in ("import fcntl", "from resource import getrusage", "os.kill(1, 2)", "signal.SIGHUP", "os.setpgrp",
                    'open("/proc/self/stat")', "select.poll()", "Popen(x, start_new_session=True)"):  # fmt: skip
        assert len(of_one_system(planted)) == 1, planted


def test_the_oracle_has_no_caller_in_the_product():
    """What tests compare with must not be what runs; the operators alone fall back on it."""
    shipped = [p for p in tracked(".py") if _relative(p).startswith(("splatdistill/", "viewer/"))]
    callers = {_relative(p) for p in shipped if oracle_uses(p.read_text())}
    assert all(path.startswith("splatdistill/ops/") for path in callers), callers
    for planted in ("from splatdistill.ops import reference", "import splatdistill.ops.reference as r",
                    "from splatdistill.ops.reference import project", "ops.reference.residual"):  # fmt: skip
        assert len(oracle_uses(planted)) == 1
    assert oracle_uses("from splatdistill.ops.geometry import SH_C0") == []


def test_no_file_and_no_class_of_the_package_has_a_name_twice():
    """What a stranger looks for by name, he finds in one place; `base` alone is a convention. A class of the public API
    may have the name of the one inside that it is the face of.
    """
    shipped = [p for p in tracked(".py") if _relative(p).startswith("splatdistill/")]
    files = Counter(p.stem for p in shipped if p.stem not in ("__init__", "__main__", "base"))
    public = {*splatdistill.__all__}
    classes = Counter(
        node.name
        for p in shipped
        for node in ast.parse(p.read_text()).body
        if isinstance(node, ast.ClassDef) and not (p.parent.name == "api" and node.name in public)
    )
    assert len(classes) > 100
    assert [name for names in (files, classes) for name, count in names.items() if count > 1] == []


def test_every_test_asserts_something():
    modules = [p for p in tracked(".py") if p.name.startswith("test_")]
    assert modules
    silent = [f"{_relative(p)}: {name}" for p in modules for name in silent_tests(p.read_text())]
    assert silent == []


def test_every_tolerance_says_where_it_comes_from():
    tests = [p for p in tracked(".py") if _relative(p).startswith("tests/")]
    assert tests
    assert [f"{_relative(p)}:{fault}" for p in tests for fault in bare_tolerances(p.read_text())] == []


@pytest.mark.parametrize(
    ("source", "bare"),
    [
        ("torch.testing.assert_close(a, b, rtol=1e-5, atol=0)", ["1: 1e-05"]),
        ("assert a == pytest.approx(b, abs=3 * 1e-3)", ["1: 3 * 0.001"]),
        ("assert a == approx(b, 1e-3)", ["1: 0.001"]),
        ("assert not np.allclose(a, b, atol=-1e-2)", ["1: -0.01"]),
        ("assert (a - b).abs().max() < 1e-4  # noqa: X", ["1: 0.0001"]),
        ("assert 0 <= error <= 1e-4 and name", ["1: 0.0001"]),
        ("assert_within(\n    a,\n    b,\n    0.5,\n)", ["1: 0.5"]),
        ("# In eight bits.\nassert a == approx(b, abs=0.002)", []),
        ("assert a == approx(\n    b,\n    abs=0.002,  # in eight bits\n)", []),
        ("assert_within(a, b, 2 * UNIT)", []),
        ("torch.testing.assert_close(a, b, rtol=0, atol=0)", []),
        ("torch.testing.assert_close(a, b)", []),
        ("assert share < 0.5 and seconds > 1e-9", []),
    ],
)
def test_the_audit_finds_tolerances_that_are_a_number_alone(source, bare):
    assert bare_tolerances(source) == bare


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "import dill as d",
        "from pickle import loads",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "yaml.load(text, Loader=yaml.SafeLoader)",
        "yaml.unsafe_load(text)",
        "eval('1')",
        "exec(text)",
        "subprocess.run(line, shell=True)",
        "os.system(line)",
        "np.load(path, allow_pickle=True)",
        "AutoModel.from_pretrained(path, trust_remote_code=True)",
        "AutoModel.from_pretrained(path, trust_remote_code=None)",
        "subprocess.run(line, shell=flag)",
        "from os import system",
        "from yaml import unsafe_load as read",
        "from torch import load",
        "yaml.Loader(text).get_single_data()",
        "torch.hub.load(name)",
        "__import__(name)",
    ],
)
def test_the_audit_finds_planted_faults(line):
    assert len(unsafe_code(f"def f():\n    {line}\n")) == 1


@pytest.mark.parametrize(
    "line",
    [
        "model.eval()",
        "Model(a).eval()",
        "torch.load(path, weights_only=True)",
        "yaml.safe_load(text)",
        "AutoModel.from_pretrained(path, trust_remote_code=False)",
        "from yaml import safe_load",
        "re.compile('a')",
    ],
)
def test_the_audit_lets_safe_code_pass(line):
    assert unsafe_code(line) == []


def test_the_audit_finds_tests_that_assert_nothing():
    source = """
def _same(a, b):
    assert a == b
def _through(a):
    _same(a, a)
def test_silent():
    run()
def test_direct():
    assert run()
def test_through_helpers():
    _through(1)
def test_raises():
    with pytest.raises(ValueError):
        run()
def test_program():
    subprocess.run([sys.executable, "-c", code], check=True)
class TestGroup:
    def test_silent_method(self):
        run()
"""
    assert silent_tests(source) == ["test_silent", "test_silent_method"]
