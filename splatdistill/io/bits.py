"""Numbers in few bits, as the formats of splats pack them. N rows.

A column is an array [N] of its own: numpy goes through those several times as fast as through columns of a table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

BLOCK = 1 << 17  # numbers that stay in the cache of a core
_SPREAD = ((16, 0x030000FF), (8, 0x0300F00F), (4, 0x030C30C3), (2, 0x09249249))


def columns(table: np.ndarray) -> np.ndarray:
    """[K,N] float32: the columns of a table [N,K], each in one piece."""
    return np.ascontiguousarray(table.T, np.float32)


def as_one(table: np.ndarray, kind: str) -> np.ndarray:
    """[N] of a table [N,K] of numbers of some kind, each row one thing: numpy copies those several times as fast."""
    table = np.ascontiguousarray(table, kind)
    return table.view(f"V{table.itemsize * table.shape[1]}")[:, 0]


def as_numbers(rows: np.ndarray, kind: str) -> np.ndarray:
    """[N,K] numbers of some kind: the inverse of `as_one`, for rows [N] that need not lie side by side."""
    return np.ascontiguousarray(rows)[:, None].view(kind)


def blocks(table: np.ndarray) -> Iterator[slice]:
    """All rows of a table in order, as many at a time as stay in the cache of a core."""
    step = max(1, BLOCK * len(table) // max(1, table.size))
    return (slice(at, at + step) for at in range(0, len(table), step))


def in_blocks(change: Callable[[np.ndarray], np.ndarray], table: np.ndarray, out: np.ndarray) -> np.ndarray:
    """`out`, filled with `change` of some rows of `table` at a time."""
    for rows in blocks(table):
        out[rows] = change(table[rows])
    return out


def to_bytes(units: np.ndarray) -> np.ndarray:
    """uint8 of numbers in 0..1, of any shape."""
    return rounded(units * np.float32(255), 255, np.uint8)


def rounded(values: np.ndarray, top: int | np.ndarray, kind: type[np.integer]) -> np.ndarray:
    """The nearest whole numbers within 0..top, as that kind of integer. `values`, which are float, are overwritten."""
    np.rint(values, out=values)
    np.clip(values, 0, top, out=values)
    return values.astype(kind)


def pack(units: np.ndarray, widths: tuple[int, ...]) -> np.ndarray:
    """[N] uint32 of columns [K,N] float32 in 0..1, the first one in the highest bits."""
    tops = _tops(widths).astype(np.float32)
    packed, *lower = rounded(units * tops, tops, np.int32)  # conversions to and from numbers with a sign are faster
    for part, width in zip(lower, widths[1:], strict=True):
        packed <<= np.int32(width)
        packed |= part
    return packed.view(np.uint32)


def unpack(packed: np.ndarray, widths: tuple[int, ...]) -> np.ndarray:
    """[K,N] float32 in 0..1, of less than 32 bits each: the inverse of `pack`."""
    tops = _tops(widths)
    shifts = np.cumsum((0, *widths[:0:-1]), dtype=np.uint32)[::-1, None]
    units = (packed >> shifts & tops).view(np.int32).astype(np.float32)
    units *= (1 / tops).astype(np.float32)
    return units


def _tops(widths: tuple[int, ...]) -> np.ndarray:
    """[K,1]: the largest number of so many bits."""
    return np.array([[2**width - 1] for width in widths], np.uint32)


def largest_and_others(quats: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which of 4 is the largest [N] uint8, and the others as columns [3,N] in their order, of [N,4] unit with that one
    made positive.
    """
    a, b, c, d = columns(quats).view(np.int32)
    ab, cd = _larger(b, a), _larger(d, c)  # a play-off in two rounds
    first, second = _chosen(ab, b, a), _chosen(cd, d, c)
    later = _larger(second, first)
    sign = _chosen(later, second, first) & ~_SIZE
    others = np.stack([_chosen(later | ab, a, b), _chosen(later, b, c), _chosen(later & cd, c, d)])
    return _chosen(later, 2 - cd, -ab).astype(np.uint8), (others ^ sign).view(np.float32)


def from_largest_and_others(largest: np.ndarray, others: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
    """[N,4] float32 unit, the inverse of `largest_and_others`."""
    a, b, c = others
    rest = np.sqrt(np.maximum(1 - (a * a + b * b + c * c), 0)).view(np.int32)
    a, b, c = (part.view(np.int32) for part in others)
    place = largest.astype(np.int32)
    none, one, two = (_below(place, of) for of in (1, 2, 3))  # where so many of the others come first, or fewer
    quats = np.empty((len(rest), 4), np.int32)
    quats[:, 0] = _chosen(none, rest, a)
    quats[:, 1] = _chosen(none, a, _chosen(one, rest, b))
    quats[:, 2] = _chosen(one, b, _chosen(two, rest, c))
    quats[:, 3] = _chosen(two, c, rest)
    return quats.view(np.float32)


_SIZE = np.int32(2**31 - 1)
"""The bits of a float32 but its sign. As whole numbers they grow as the float does."""


def _larger(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """-1 where a float32 is further from 0 than the other one, and 0 elsewhere, of the bits of both as int32."""
    return _below(other & _SIZE, one & _SIZE)


def _below(number: np.ndarray, other: np.ndarray | int) -> np.ndarray:
    """-1 where a number is below the other one, and 0 elsewhere, of int32 in 0..2^31 - 1."""
    return number - other >> np.int32(31)


def _chosen(mask: np.ndarray, there: np.ndarray, elsewhere: np.ndarray) -> np.ndarray:
    """One number where `mask` is -1 and the other where it is 0. np.where branches, and a processor guesses half of
    the branches wrong: it takes eight times as long.
    """
    return elsewhere ^ (there ^ elsewhere) & mask


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
    both = keys.astype(np.uint64)
    both <<= np.uint64(32)
    both |= np.arange(len(keys), dtype=np.uint64)
    both.sort()
    both &= np.uint64(0xFFFFFFFF)
    return both.view(np.int64)
