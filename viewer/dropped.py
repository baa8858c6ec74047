"""Files that were dropped on the page. The readers of every command read them, so the page takes what `view` takes."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from splatdistill.io.kinds import FormatError
from splatdistill.io.signatures import kind_of_file

from .rundir import Item

MAX_BYTES = 1 << 30
MAX_FILES = 50


class Dropped:
    """A temporary folder, with each file in a folder under a safe name. FormatError, one sentence that
    names the file as its owner does, for what cannot be shown.
    """

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._count = 0

    async def take(self, name: str, body: AsyncIterator[bytes]) -> Item:
        """The file as something to look at."""
        path = await self.keep(name, body)
        try:
            return await run_in_threadpool(_shown, path, name)
        except (ValueError, OSError):
            path.unlink(missing_ok=True)
            raise

    def close(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    async def keep(self, name: str, body: AsyncIterator[bytes]) -> Path:
        """Where the bytes lie until the end, or until they are removed."""
        if self._count >= MAX_FILES:
            raise FormatError(f"{MAX_FILES} files were dropped already; start `splatdistill view` again to drop more.")
        self._folder = self._folder or Path(tempfile.mkdtemp(prefix="splatdistill-dropped-"))
        self._count += 1
        path = self._folder / str(self._count) / (re.sub(r"[^A-Za-z0-9._-]+", "_", name)[-100:].lstrip(".") or "file")
        path.parent.mkdir()
        size = 0
        with path.open("wb") as file:
            async for chunk in body:
                size += len(chunk)
                if size > MAX_BYTES:
                    path.unlink()
                    raise FormatError(f"{name} is larger than {MAX_BYTES >> 30} GiB; open it with `splatdistill view`.")
                file.write(chunk)
        return path


def _shown(path: Path, name: str) -> Item:
    try:
        kind_of_file(path)
        from splatdistill.io import formats  # loads torch

        found = formats.open_file(path)
    except ValueError as error:
        raise FormatError(str(error).replace(str(path), name)) from None
    return Item(path, dropped=name, notes=[found.sentence().replace(str(path), name)] if found.assumed else [])
