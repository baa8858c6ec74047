"""Numbers in few bits, as the formats of splats pack them. N rows.

A column is an array [N] of its own: numpy goes through those several times as fast as through columns of a table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

BLOCK = 4096  # rows
_SPREAD = ((16, 0x030000FF), (8, 0x0300F00F), (4, 0x030C30C3), (2, 0x09249249))


def columns(table: np.ndarray) -> np.ndarray:
    """[K,N] float32: the columns of a table [N,K], each in one piece."""
    return np.ascontiguousarray(table.T, np.float32)


def in_blocks(change: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, out: np.ndarray) -> np.ndarray:
    """`out`, filled with `change` of as many `rows` at a time as stay in the cache of a core."""
    for at in range(0, len(rows), BLOCK):
        out[at : at + BLOCK] = change(rows[at : at + BLOCK])
    return out


def to_bytes(units: np.ndarray) -> np.ndarray:
    """uint8 of numbers in 0..1, of any shape."""
    return rounded(units * np.float32(255), 255, np.uint8)


def rounded(values: np.ndarray, top: int, kind: type[np.unsignedinteger]) -> np.ndarray:
    """The nearest whole numbers within 0..top, as that kind of integer. `values`, which are float, are overwritten."""
    np.rint(values, out=values)
    np.clip(values, 0, top, out=values)
    return values.astype(kind)


def pack(units: np.ndarray | Sequence[np.ndarray], widths: tuple[int, ...]) -> np.ndarray:
    """[N] uint32 of columns float32 in 0..1, the first one in the highest bits."""
    packed = np.zeros(len(units[0]), np.uint32)
    for column, width in zip(units, widths, strict=True):
        top = 2**width - 1
        packed <<= np.uint32(width)
        packed |= rounded(column * np.float32(top), top, np.uint32)
    return packed


def unpack(packed: np.ndarray, widths: tuple[int, ...]) -> list[np.ndarray]:
    """Columns [N] float32 in 0..1: the inverse of `pack`."""
    shifts = np.cumsum((0, *widths[:0:-1]))[::-1].tolist()
    return [
        (packed >> np.uint32(shift) & np.uint32(2**width - 1)).astype(np.float32) * np.float32(1 / (2**width - 1))
        for shift, width in zip(shifts, widths, strict=True)
    ]


def largest_and_others(quats: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which of 4 is the largest [N] uint8, and the others as columns [3,N] in their order, of [N,4] unit with that one
    made positive.
    """
    table = columns(quats)
    a, b, c, d = (table[i] for i in range(4))
    ab, cd = np.abs(b) > np.abs(a), np.abs(d) > np.abs(c)  # a play-off in two rounds
    first, second = _chosen(ab, b, a), _chosen(cd, d, c)
    later = np.abs(second) > np.abs(first)
    sign = np.copysign(np.float32(1), _chosen(later, second, first))
    others = np.stack([_chosen(later | ab, a, b), _chosen(later, b, c), _chosen(later & cd, c, d)])
    largest = _chosen(later, 2 + cd.view(np.uint8), ab.view(np.uint8))
    return largest, others * sign


def _chosen(where: np.ndarray, there: np.ndarray, elsewhere: np.ndarray) -> np.ndarray:
    return np.where(where, there, elsewhere)


def from_largest_and_others(largest: np.ndarray, others: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
    """[N,4] float32 unit, the inverse of `largest_and_others`."""
    a, b, c = others
    rest = np.sqrt(np.maximum(1 - (a * a + b * b + c * c), 0))
    quats = np.empty((len(rest), 4), np.float32)
    quats[:, 0] = np.where(largest == 0, rest, a)
    quats[:, 1] = np.where(largest == 1, rest, np.where(largest > 1, b, a))
    quats[:, 2] = np.where(largest == 2, rest, np.where(largest > 2, c, b))
    quats[:, 3] = np.where(largest == 3, rest, c)
    return quats


def morton_order(means: np.ndarray) -> np.ndarray:
    """An order [N] in which neighbours in the file are neighbours in space, of means [N,3]."""
    key = np.zeros(len(means), np.uint32)
    for axis, places in enumerate(columns(means)):
        low, high = places.min(), places.max()
        cells = ((places - low) * np.float32(1023 / max(high - low, 1e-12))).astype(np.uint32)
        for shift, mask in _SPREAD:
            cells = (cells | cells << np.uint32(shift)) & np.uint32(mask)
        key |= cells << np.uint32(axis)
    return sorted_order(key)


def sorted_order(keys: np.ndarray) -> np.ndarray:
    """The order [N] that sorts uint32, equal ones as they came: one sort of numbers that hold key and place."""
    both = keys.astype(np.uint64) << np.uint64(32) | np.arange(len(keys), dtype=np.uint64)
    both.sort()
    return (both & np.uint64(0xFFFFFFFF)).astype(np.int64)
