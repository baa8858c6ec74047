"""Numbers in few bits, against what Python's own whole numbers and numpy's slow ways say, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from splatdistill.io import bits, compressed_ply, formats
from tests.io.scenes import asymmetric

RNG = np.random.default_rng(0)


def turns() -> np.ndarray:
    """Quaternions of which many have two, three or four largest numbers, of either sign, and zeros of either sign."""
    some = RNG.choice(np.array([0.0, -0.0, 0.5, -0.5, 0.1, -0.1, 1.0, -1.0], np.float32), (2000, 4))
    return np.concatenate([some, RNG.standard_normal((2001, 4)).astype(np.float32)])


def test_the_largest_of_four_is_the_first_of_the_largest_and_the_others_keep_their_order_and_bits() -> None:
    quats = turns()
    largest, others = bits.largest_and_others(quats)
    assert largest.dtype == np.uint8
    assert np.array_equal(largest, np.abs(quats).argmax(1))
    rest = np.stack([np.delete(quat, at) for quat, at in zip(quats, largest, strict=True)])
    signs = np.copysign(np.float32(1), np.take_along_axis(quats, largest[:, None].astype(np.intp), 1))
    assert np.array_equal(others.T.view(np.int32), (rest * signs).view(np.int32))


def test_the_others_come_back_in_their_places_with_the_same_bits() -> None:
    quats = turns()
    largest, others = bits.largest_and_others(quats)
    back = bits.from_largest_and_others(largest, others)
    rest = np.stack([np.delete(quat, at) for quat, at in zip(back, largest, strict=True)])
    assert np.array_equal(rest.T.view(np.int32), others.view(np.int32))
    a, b, c = others
    found = np.take_along_axis(back, largest[:, None].astype(np.intp), 1)[:, 0]
    assert np.array_equal(found, np.sqrt(np.maximum(1 - (a * a + b * b + c * c), 0)))


@pytest.mark.parametrize("widths", [(11, 10, 11), (10, 10, 10), (8, 8, 8, 8), (2, 10, 10, 10)])
def test_packed_numbers_are_those_of_pythons_arithmetic(widths: tuple[int, ...]) -> None:
    whole = [[0, 2**width - 1, *RNG.integers(2**width, size=99).tolist()] for width in widths]
    units = np.array([np.array(row) / (2**w - 1) for row, w in zip(whole, widths, strict=True)], np.float32)
    wanted = []
    for numbers in zip(*whole, strict=True):
        packed = 0
        for number, width in zip(numbers, widths, strict=True):
            packed = packed << width | number
        wanted.append(packed)
    packed = bits.pack(units, widths)
    assert packed.tolist() == wanted
    steps = bits.unpack(packed, widths) * np.array([[2**width - 1] for width in widths])
    assert np.array_equal(np.rint(steps), whole)


def test_rows_that_are_one_thing_are_the_same_numbers_again() -> None:
    table = RNG.standard_normal((57, 3)).astype(np.float32)
    row = np.dtype([("before", "u1"), ("numbers", "V12")])
    rows = np.zeros(57, row)
    rows["numbers"] = bits.as_one(table.T.copy().T, "<f4")  # of any layout
    assert np.array_equal(bits.as_numbers(rows["numbers"], "<f4"), table)


@pytest.mark.parametrize("kind", ["compressed.ply", "splat", "spz", "glb"])
def test_a_file_does_not_depend_on_how_many_splats_are_packed_at_a_time(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    splats = asymmetric(compressed_ply.CHUNK * 3 + 5, degree=2)
    whole = formats.encode(splats, kind)
    arrays = formats.FORMATS[kind].decode(whole)
    monkeypatch.setattr(bits, "BLOCK", 64)
    monkeypatch.setattr(compressed_ply, "_BLOCK", compressed_ply.CHUNK)
    assert formats.encode(splats, kind) == whole
    found = formats.FORMATS[kind].decode(whole)
    assert all(np.array_equal(found[name], value) for name, value in arrays.items())
