"""Every public name is there, loads without torch, and says shapes, units, errors, source and an example that runs."""

from __future__ import annotations

import doctest
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import splatdistill
from tests.packaging.audit import ROOT

NAMES = [name for name in splatdistill.__all__ if name != "__version__"]
UNITS = r"world units|degrees|\brad\b|pixels|\bpx\b|seconds|steps|0\.\.1|name to"


def test_there_are_at_most_fifteen_names_and_all_of_them_are_there() -> None:
    assert len(set(splatdistill.__all__)) == len(splatdistill.__all__) <= 15
    assert set(splatdistill.__all__) <= set(dir(splatdistill))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        splatdistill.nothing  # noqa: B018


def test_no_name_is_that_of_a_subpackage() -> None:
    """An import of the subpackage would put itself into the place of the name."""
    modules = {path.stem for path in (ROOT / "splatdistill").iterdir()} | {"viewer", "configs"}
    assert not modules & {*NAMES}


def test_the_stub_names_what_the_package_loads() -> None:
    """Type checkers read the one, Python the other."""
    stub = (ROOT / "splatdistill" / "__init__.pyi").read_text()
    found = dict(re.findall(r"^from splatdistill\.(\S+) import \w+ as (\w+)$", stub, flags=re.M))
    pairs = re.findall(r"^from splatdistill\.(\S+) import (\w+) as (\w+)$", stub, flags=re.M)
    assert found and all(name == alias for _, name, alias in pairs)
    assert {name: module for module, name, _ in pairs} == splatdistill._WHERE  # pyright: ignore


def test_choosing_loads_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys, splatdistill as s; assert not {'torch', 'numpy', 'diffusers'} & set(sys.modules); "
        "s.list_methods(); s.list_priors(); s.configure('a red armchair', steps=3); s.Config(); dir(s); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_an_import_loads_four_modules_of_ours_and_a_few_of_python() -> None:
    """It is quick because it loads little; seconds are the machine's."""
    code = "import sys; before = set(sys.modules); import splatdistill; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    others = [name for name in loaded if name.partition(".")[0] not in sys.stdlib_module_names]
    assert others == ["splatdistill", "splatdistill.utils", "splatdistill.utils.cpu", "splatdistill.utils.system"]
    assert len(loaded) <= 30  # 22 where site loads nothing; `inspect` alone brings 12 of them


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_documented_whole(name: str) -> None:
    text = inspect.getdoc(getattr(splatdistill, name)) or ""
    assert re.search(r"\[[A-Za-z0-9_,-]+\]|name to|R-precision", text), "no shape"
    assert re.search(UNITS, text), "no unit"
    for part in ("Raises:", "Source:", "Example:"):
        assert part in text, f"no {part}"
    signature = inspect.signature(getattr(splatdistill, name))
    if name not in ("Config", "Cameras"):  # each setting of Config has a text of its own
        missing = [
            key for key in signature.parameters if not re.search(rf"\b{key}\b", text) and not key.startswith("_")
        ]
        assert missing in ([], ["tensors"]), missing


@pytest.mark.parametrize("owner", ["Splats", "Step", "Trainer", "Result"])
def test_their_methods_are_documented_with_their_arguments(owner: str) -> None:
    kind = getattr(splatdistill, owner)
    members = {
        k: v
        for k, v in vars(kind).items()
        if not k.startswith("_") and (callable(v) or isinstance(v, property | classmethod))
    }
    for name, member in members.items():
        text = inspect.getdoc(getattr(kind, name)) or ""
        assert text, f"{owner}.{name}"
        if isinstance(member, property):
            continue
        own = [
            key for key in inspect.signature(getattr(kind, name)).parameters if key not in ("self", "path", "device")
        ]
        assert [key for key in own if not re.search(rf"\b{key}\b", text)] == [], f"{owner}.{name}"


@pytest.mark.parametrize("name", NAMES)
def test_its_example_runs(name: str) -> None:
    parser = doctest.DocTestParser()
    test = parser.get_doctest(inspect.getdoc(getattr(splatdistill, name)) or "", {}, name, None, 0)
    assert test.examples
    result = doctest.DocTestRunner(verbose=False).run(test)
    assert (result.failed, result.attempted) == (0, len(test.examples))
