"""pyproject, lock, Makefile, README, changelog and package tell one story."""

import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

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


def test_torch_is_pinned_by_the_makefile_alone():
    """One version has other files, and so other hashes, for CPUs and for CUDA."""
    assert re.search(r"^TORCH := torch==[\d.]+$", MAKEFILE, flags=re.M)
    assert "torch" not in {_normal(name) for name, _, _ in _locked()}


def test_the_build_does_not_fetch_torch():
    assert not any("torch" in requirement for requirement in PROJECT["build-system"]["requires"])


def _locked():
    """(name, version, hashes) of each entry of the lock."""
    entries = re.sub(r"\\\n", " ", LOCK).splitlines()
    split = [re.split(r"==|\s+", entry) for entry in entries if not entry.startswith("#")]
    return [(name, version, hashes) for name, version, *hashes in split]


def test_every_entry_of_the_lock_is_an_exact_pin_with_its_hashes():
    assert _locked()
    for name, version, hashes in _locked():
        assert re.fullmatch(r"[A-Za-z0-9._-]+", name) and re.fullmatch(r"[0-9][\w.!]*", version)
        assert hashes and all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", word) for word in hashes), name


def test_the_lock_satisfies_every_direct_dependency():
    groups = [PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"].values()]
    wanted = {re.split(r"[^\w.-]", requirement)[0] for group in groups for requirement in group} - {"torch"}
    pinned = {_normal(name) for name, _, _ in _locked()}
    assert {_normal(name) for name in wanted} - pinned == set()


def test_what_builds_a_wheel_is_in_the_lock():
    (names,) = re.findall(r"^WHEEL_TOOLS := (.*)$", MAKEFILE, flags=re.M)
    assert set(names.split(r"\|")) - {name for name, _, _ in _locked()} == set()


@pytest.fixture
def small(tmp_path):
    """A project with this Makefile, an empty package, and a wheel for its lock that pip finds in this folder alone."""
    shutil.copyfile(ROOT / "Makefile", tmp_path / "Makefile")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "empty"\nversion = "1"\n')
    (tmp_path / "empty.py").touch()
    with zipfile.ZipFile(tmp_path / "tiny-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1\n")
        wheel.writestr("tiny-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("tiny-1.dist-info/RECORD", "")
    return tmp_path


@pytest.mark.parametrize("mistake", ["", "another hash", "no hash"])
def test_make_venv_takes_a_file_with_the_hash_of_the_lock_alone(small, mistake):
    """What pip would install is resolved, its hash compared, and nothing installed."""
    digest = hashlib.sha256((small / "tiny-1-py3-none-any.whl").read_bytes()).hexdigest()
    if mistake == "another hash":
        digest = f"{int(digest[0], 16) ^ 1:x}{digest[1:]}"
    line = "tiny==1\n" if mistake == "no hash" else f"tiny==1 --hash=sha256:{digest}\n"
    (small / "requirements-dev.lock").write_text(line)
    environment = os.environ | {"PIP_DRY_RUN": "1", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(small)}
    environment |= {"PIP_EXTRA_INDEX_URL": "", "PIP_CONFIG_FILE": os.devnull}
    words = ["make", "venv", f"VENV={Path(sys.executable).parents[1]}", "STAMP=installed"]
    done = subprocess.run(words, cwd=small, env=environment, capture_output=True, text=True, check=False)
    said = {"": "", "another hash": "DO NOT MATCH THE HASHES", "no hash": "Hashes are required"}[mistake]
    assert (done.returncode == 0) == (not mistake) == (small / "installed").exists(), done.stdout + done.stderr
    assert said in done.stderr


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
