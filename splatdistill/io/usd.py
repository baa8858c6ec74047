"""Splats as OpenUSD's ParticleField3DGaussianSplat (26.03 and later), in text and as a package; written, not read.

Values are float32 and linear: scales in world units, opacities in 0..1. +y is up.
"""

from __future__ import annotations

import io
import zipfile

import numpy as np

from splatdistill.io.kinds import Arrays

_ALIGNED = 64  # bytes: where the contents of a file in a .usdz begin
_HEADER = 30  # bytes of a file's header in a zip, without its name


def encode(a: Arrays) -> bytes:
    """A layer of text with one prim, /Splats."""
    n = len(a["means"])
    harmonics = np.concatenate([a["sh0"], a["shN"]], 1)
    count = harmonics.shape[1]
    degree = round(count**0.5) - 1
    scales = np.exp(a["scales"].astype(np.float64))
    reach = 3 * scales.max(1, keepdims=True)  # beyond three standard deviations nothing shows
    bounds = np.stack([(a["means"] - reach).min(0), (a["means"] + reach).max(0)])
    attributes = [
        f"float3[] extent = {_tuples(bounds)}",
        f"point3f[] positions = {_tuples(a['means'])}",
        f"quatf[] orientations = {_tuples(a['quats'])}",
        f"float3[] scales = {_tuples(scales)}",
        f"float[] opacities = [{', '.join(_numbers(a['opacities']))}]",
        f"uniform int radiance:sphericalHarmonicsDegree = {degree}",
        f"float3[] radiance:sphericalHarmonicsCoefficients = {_tuples(harmonics.reshape(n * count, 3))} (\n"
        f"        elementSize = {count}\n    )",
        'uniform token projectionModeHint = "perspective"',
        'uniform token sortingModeHint = "cameraDistance"',
    ]
    head = '#usda 1.0\n(\n    defaultPrim = "Splats"\n    metersPerUnit = 1\n    upAxis = "Y"\n)\n\n'
    body = "".join(f"    {line}\n" for line in attributes)
    return f'{head}def ParticleField3DGaussianSplat "Splats"\n{{\n{body}}}\n'.encode()


def encode_zip(a: Arrays) -> bytes:
    """The layer as a .usdz: a zip without compression, its contents on a boundary of 64 bytes."""
    out = io.BytesIO()
    entry = zipfile.ZipInfo("splats.usda")
    pad = -(_HEADER + len(entry.filename) + 4) % _ALIGNED  # a field that is skipped: 4 bytes, then nothing
    entry.extra = b"\x86\x19" + pad.to_bytes(2, "little") + bytes(pad)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(entry, encode(a))
    return out.getvalue()


def _tuples(rows: np.ndarray) -> str:
    flat = _numbers(rows)
    width = rows.shape[1]
    return "[" + ", ".join(f"({', '.join(flat[i : i + width])})" for i in range(0, len(flat), width)) + "]"


def _numbers(values: np.ndarray) -> list[str]:
    """Each float32 as text, in order, without loss."""
    return [f"{value:.9g}" for value in values.astype(np.float32).ravel().tolist()]
