"""Loads the native operators; importing this module makes `torch.ops.splatdistill` available."""

from __future__ import annotations

import functools
import os
import platform
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch  # the extension needs torch's libraries in the process

from splatdistill.ops import _loading

_PACKAGE = Path(__file__).resolve().parents[1]
_loading.check_torch(torch.__version__)
try:
    from splatdistill import _C  # pyright: ignore[reportAttributeAccessIssue]
except ImportError as error:
    raise _loading.CannotLoad(_loading.reason(str(error), torch=torch.__version__, package=_PACKAGE)) from error


def native(device: torch.device) -> bool:
    """Whether the operators, but for the rasteriser, have kernels that run on `device`."""
    return device.type == "cpu" or (device.type == "cuda" and _C.has_cuda() and _runs_on(device.index))


@functools.cache
def _runs_on(index: int | None) -> bool:
    """Whether that CUDA device runs the kernels. A note on stderr, once, where it does not."""
    if not torch.cuda.is_available():
        return True  # fake tensors, which run nothing
    error = _C.cuda_error(torch.cuda.current_device() if index is None else index)
    if error is not None:
        print(
            f"Note: splatdistill's CUDA kernels do not run on this device ({error}), so slower torch code takes their "
            "place; a newer driver, or an installation from source with SPLATDISTILL_CUDA_ARCHS set for this device, "
            "brings them back.",
            file=sys.stderr,
        )
    return error is None


def build_info() -> dict[str, Any]:
    """`simd_level`, the level in use, `simd_levels`, those compiled, worst first, and how the extension was built:
    versions, compiler, flags. In place of these, `record` says so where this Python cannot read them.
    """
    info: dict[str, Any] = {"simd_level": _C.simd_level(), "simd_levels": _C.simd_levels()}
    try:
        from splatdistill import _build_info  # pyright: ignore[reportAttributeAccessIssue]
    except ImportError:  # the operators do not depend on it
        return info | {"record": _record_of_another([path.name for path in _PACKAGE.glob("_build_info.*")])}
    return info | _build_info.build_info()


def _record_of_another(files: Sequence[str]) -> str:
    """Why there is no record of the build. files: those of the record; a wheel serves several Pythons and has one."""
    found = [match for name in files if (match := re.search(r"\.c(?:p|python-)(\d)(\d+)", name))]
    if not found:
        return "none"
    return f"only for Python {found[0][1]}.{found[0][2]}, and this is {platform.python_version()}"


def check_level(wanted: str | None, *, levels: Sequence[str], level: str) -> None:
    """ValueError, one sentence, for an instruction-set level that there is none of; a note on stderr for one that this
    processor lacks.

    wanted: SPLATDISTILL_SIMD. levels: those compiled, empty where that is not known. level: the one in use.
    """
    if not wanted or wanted == level:
        return
    if wanted not in levels:
        raise ValueError(
            f"SPLATDISTILL_SIMD: there is no instruction-set level {wanted!r} in this extension; take "
            f"{', '.join(levels[:-1])} or {levels[-1]}, or leave it unset for the best that the processor has."
        )
    print(f"Note: SPLATDISTILL_SIMD names {wanted}, which this processor lacks; {level} is used.", file=sys.stderr)


check_level(os.environ.get("SPLATDISTILL_SIMD"), levels=_C.simd_levels(), level=_C.simd_level())
