"""Numbers in few bits, as the formats of splats pack them. N rows."""

from __future__ import annotations

import numpy as np


def to_bytes(units: np.ndarray) -> np.ndarray:
    """uint8 of numbers in 0..1, of any shape."""
    return np.rint(units * 255).clip(0, 255).astype("u1")


def pack(units: np.ndarray, widths: tuple[int, ...]) -> np.ndarray:
    """[N] uint32: columns in 0..1, the first one in the highest bits."""
    packed = np.zeros(len(units), np.uint32)
    for column, width in zip(units.T, widths, strict=True):
        top = 2**width - 1
        packed = packed << width | np.rint(column.astype(np.float64) * top).clip(0, top).astype(np.uint32)
    return packed


def unpack(packed: np.ndarray, widths: tuple[int, ...]) -> np.ndarray:
    """[N,len(widths)] float32 in 0..1: the inverse of `pack`."""
    shifts = np.cumsum((0, *widths[:0:-1]))[::-1]
    columns = [
        (packed >> int(shift) & (2**width - 1)) / (2**width - 1) for shift, width in zip(shifts, widths, strict=True)
    ]
    return np.stack(columns, -1).astype(np.float32)


def largest_and_others(quats: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which of 4 is the largest [N], and the others [N,3] in their order, of [N,4] unit with that one made positive."""
    largest = np.abs(quats).argmax(-1)
    quats = quats * np.where(np.take_along_axis(quats, largest[:, None], 1) < 0, -1.0, 1.0)
    return largest, quats[np.arange(4) != largest[:, None]].reshape(-1, 3)


def from_largest_and_others(largest: np.ndarray, others: np.ndarray) -> np.ndarray:
    """[N,4] unit, the inverse of `largest_and_others`."""
    quats = np.empty((len(others), 4))
    quats[np.arange(4) != largest[:, None]] = others.ravel()
    rest = np.sqrt((1 - (others.astype(np.float64) ** 2).sum(-1)).clip(0))
    np.put_along_axis(quats, largest[:, None].astype(np.int64), rest[:, None], 1)
    return quats


def morton_order(means: np.ndarray) -> np.ndarray:
    """An order [N] in which neighbours in the file are neighbours in space, of means [N,3]."""
    low, high = means.min(0), means.max(0)
    cells = ((means - low) / np.maximum(high - low, 1e-12) * 1023).astype(np.uint32)
    key = np.zeros(len(means), np.uint32)
    for bit in range(10):
        for axis in range(3):
            key |= (cells[:, axis] >> bit & 1) << (3 * bit + axis)
    return np.argsort(key, kind="stable")
