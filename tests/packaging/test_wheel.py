"""The wheel, built from a copy of the sources, holds everything and works where the sources are not."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.packaging.audit import ROOT, tracked

# One group: one worker builds the wheel once.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("wheel")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    source = tmp_path_factory.mktemp("source")
    for path in tracked():
        target = source / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    out = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps"]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}  # for ninja
    subprocess.run([*pip, "-w", str(out), "."], cwd=source, env=environment, check=True)
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_is_complete(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = [path.relative_to(ROOT) for path in tracked()]
    modules = {str(p) for p in sources if p.parts[0] == "splatdistill" and p.suffix == ".py"}
    presets = {f"splatdistill/{p}" for p in sources if p.parts[0] == "configs"}
    folders = (
        "splatdistill/embedded/prior/weights",
        "splatdistill/embedded/judge/weights",
    )
    weights = {str(p) for p in sources if any(p.is_relative_to(folder) for folder in folders)}
    shown = [p for p in sources if p.parts[0] == "viewer" and "web" not in p.parts and p.suffix != ".md"]
    page = {f"splatdistill/{p}" for p in shown}
    wanted = modules | presets | weights | page | {"splatdistill/py.typed", "splatdistill/__init__.pyi"}
    assert not any(name.startswith("splatdistill/viewer/web") for name in names)
    assert sorted(wanted - names) == []
    assert any(name.startswith("splatdistill/_C.") and name.endswith(".so") for name in names)
    for notice in ("LICENSE", "ATTRIBUTION.md", "THIRD_PARTY_LICENSES"):
        assert any(name.endswith(f".dist-info/licenses/{notice}") for name in names)


def test_the_wheel_holds_nothing_else(wheel):
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"splatdistill"}


def test_the_wheel_works_without_the_sources(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    code = "import splatdistill, splatdistill.configs as c; print(splatdistill.__file__, c.__file__, sep='\\n')"
    located = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    ).stdout.split()
    assert [path for path in located if not path.startswith(str(tmp_path / "site"))] == []
    info = subprocess.run(
        [sys.executable, "-m", "splatdistill", "info"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert info.returncode == 0, info.stderr
