"""The wheel, built from a copy of the sources, holds everything and works where the sources are not."""

import gzip
import os
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.packaging.audit import ROOT, tracked

sys.path.insert(0, str(ROOT / ".ci"))
import wheels

# One group: one worker builds the wheel once.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("wheel")]
EPOCH = 1_700_000_000  # any


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The files of the working tree, without what git ignores."""
    source = tmp_path_factory.mktemp("source")
    for path in tracked():
        target = source / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return source


@pytest.fixture(scope="module", autouse=True)
def one_architecture():
    """In place of four: time alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPLATDISTILL_CUDA_ARCHS", "90")
        yield


@pytest.fixture(scope="module")
def sdist(source, tmp_path_factory):
    copy = tmp_path_factory.mktemp("of-sdist") / "copy"  # what it leaves behind must not reach the wheel
    shutil.copytree(source, copy)
    made = wheels.build("build_sdist", copy, tmp_path_factory.mktemp("sdist") / "out", epoch=EPOCH)
    wheels.even(made, epoch=EPOCH)
    return made


@pytest.fixture(scope="module")
def unpacked(sdist, tmp_path_factory):
    (folder,) = wheels.unpack(gzip.decompress(sdist.read_bytes()), tmp_path_factory.mktemp("unpacked")).iterdir()
    return folder


@pytest.fixture(scope="module")
def wheel(unpacked, tmp_path_factory):
    return wheels.build("build_wheel", unpacked, tmp_path_factory.mktemp("wheel") / "out", epoch=EPOCH)


def test_a_wheel_from_the_tree_has_the_bytes_of_one_from_the_source_distribution(wheel, source, tmp_path):
    """In another folder, at another time."""
    again = wheels.build("build_wheel", source, tmp_path / "out", epoch=EPOCH)
    assert again.name == wheel.name
    first, second = (
        {name: packed.read(name) for name in packed.namelist()}
        for packed in (zipfile.ZipFile(wheel), zipfile.ZipFile(again))
    )
    assert [name for name in first.keys() | second.keys() if first.get(name) != second.get(name)] == []
    assert again.read_bytes() == wheel.read_bytes()


def test_a_source_distribution_says_nothing_of_when_and_where_it_was_packed(sdist, tmp_path):
    later = tmp_path / sdist.name
    shutil.copyfile(sdist, later)
    wheels.even(later, epoch=EPOCH)
    assert later.read_bytes() == sdist.read_bytes()
    plain = gzip.decompress(sdist.read_bytes())
    assert os.environ.get("USER", "root").encode() + b"\0" not in plain[:512] and sdist.read_bytes()[4:8] == (
        EPOCH.to_bytes(4, "little")
    )


def test_one_wheel_serves_every_python(wheel):
    assert re.fullmatch(r"splatdistill-[\d.]+-cp311-abi3-\w+\.whl", wheel.name)
    names = [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith((".so", ".pyd"))]
    assert sorted(re.sub(r"\..*", "", name) for name in names) == ["splatdistill/_C", "splatdistill/_build_info"]


@pytest.mark.parametrize(("version", "machine"), [("3.10", True), ("3.11", True), ("3.14", True), ("3.12", False)])
def test_pip_takes_it_where_it_runs_and_nowhere_else(wheel, tmp_path, version, machine):
    platform = wheel.stem.split("-")[-1] if machine else "linux_riscv64"
    words = ["--dry-run", "--no-deps", "--no-index", "--target", str(tmp_path), "--only-binary=:all:"]
    words += ["--python-version", version, "--implementation", "cp", "--abi", "abi3", "--platform", platform]
    command = [sys.executable, "-m", "pip", "install", *words, str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if machine and version != "3.10":
        assert done.returncode == 0 and "Would install splatdistill" in done.stdout
    else:
        assert done.returncode != 0 and "is not a supported wheel on this platform" in done.stderr


def test_the_operators_name_no_folder_and_no_openmp_of_their_own(wheel, tmp_path):
    """What torch brings serves both: a second OpenMP runtime in a process means twice the threads."""
    zipfile.ZipFile(wheel).extractall(tmp_path)
    (library,) = (tmp_path / "splatdistill").glob("_C.*")
    needed = subprocess.run(["objdump", "-p", library], check=True, capture_output=True, text=True).stdout
    assert "libtorch_cpu.so" in needed and not re.search(r"NEEDED\s+lib\w*omp", needed)
    data = library.read_bytes()
    assert str(ROOT).encode() not in data and b"site-packages" not in data
    assert b"\0./csrc/bind/gram.cpp\0" in data  # what a failed check calls it


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
