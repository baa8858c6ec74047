"""Loads the native operators; importing this module makes `torch.ops.splatdistill` available."""

from __future__ import annotations

from typing import Any

import torch  # the extension needs torch's libraries in the process

try:
    from splatdistill import _C  # pyright: ignore[reportAttributeAccessIssue]
except ImportError as error:
    raise ImportError(
        f"The native extension of splatdistill does not load ({error}): build it with "
        "`pip install --no-build-isolation -e .` in the repository."
    ) from error


def native(device: torch.device) -> bool:
    """Whether the operators, but for the rasteriser, have kernels for tensors on `device`."""
    return device.type == "cpu" or (device.type == "cuda" and _C.has_cuda())


def build_info() -> dict[str, Any]:
    """How the extension was built (versions, compiler, flags, levels compiled) and `simd_level`, the one in use."""
    info: dict[str, Any] = {"simd_level": _C.simd_level()}
    try:
        from splatdistill import _build_info  # pyright: ignore[reportAttributeAccessIssue]
    except ImportError:  # built for another Python; the operators do not depend on it
        return info
    return info | _build_info.build_info()
