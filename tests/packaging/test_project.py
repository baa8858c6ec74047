"""pyproject, lock, Makefile, README, changelog and package tell one story."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib

import splatdistill
from tests.packaging.audit import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements-dev.lock").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


def _code_blocks(name):
    return re.findall(r"^```\w*\n(.*?)^```", (ROOT / name).read_text(), flags=re.M | re.S)


def test_versions_agree():
    newest = re.search(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)
    assert newest
    assert newest[1] == splatdistill.__version__ == importlib.metadata.version("splatdistill")


def test_torch_is_pinned_alike_in_makefile_and_lock():
    pin = re.search(r"torch==\S+", MAKEFILE)
    assert pin
    assert pin[0] in LOCK.splitlines()


def test_the_build_does_not_fetch_torch():
    assert not any("torch" in requirement for requirement in PROJECT["build-system"]["requires"])


def test_every_line_of_the_lock_is_an_exact_pin():
    lines = [line for line in LOCK.splitlines() if line and not line.startswith("#")]
    assert lines
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][\w.!]*", line)] == []


def test_the_lock_satisfies_every_direct_dependency():
    groups = [PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"].values()]
    wanted = {re.split(r"[^\w.-]", requirement)[0] for group in groups for requirement in group}
    pinned = {line.split("==")[0] for line in LOCK.splitlines() if "==" in line}
    assert {_normal(name) for name in wanted} - {_normal(name) for name in pinned} == set()


def _normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_package_folder_is_installed():
    """A folder with an __init__.py that pyproject forgets would be missing from the wheel."""
    setuptools = PROJECT["tool"]["setuptools"]
    inside = {".".join(p.parent.relative_to(ROOT).parts) for p in (ROOT / "splatdistill").rglob("__init__.py")}
    mapped = set(setuptools["package-dir"])
    assert inside == set(setuptools["packages"]) - mapped
    assert all((ROOT / folder / "__init__.py").is_file() for folder in setuptools["package-dir"].values())


def test_documented_make_targets_exist():
    targets = set(re.findall(r"^([a-z][\w-]*):", MAKEFILE, flags=re.M))
    documents = [
        "README.md",
        "CONTRIBUTING.md",
        *(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md")),
    ]
    named = {
        t for d in documents for block in _code_blocks(d) for t in re.findall(r"^make ([\w-]+)", block, flags=re.M)
    }
    named |= {t for d in documents for t in re.findall(r"`make ([\w-]+)`", (ROOT / d).read_text())}
    assert {"demo", "test"} <= named <= targets


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, splatdistill; print(sorted({'torch', 'numpy', 'diffusers', 'transformers'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"
