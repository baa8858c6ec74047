"""Philox against the published vectors, and the normals made of it."""

from __future__ import annotations

import math

import pytest
import torch

from splatdistill import ops
from tests.rounding import UNIT

# Known answers of Philox4x32-10 published with Random123 (kat_vectors): counter, key, result.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize("words", [torch.ops.splatdistill.philox_words, ops.reference.philox_words])
def test_known_answers(words):
    counter, key, result = (torch.tensor(column) for column in zip(*KNOWN, strict=True))
    assert words(counter, key).tolist() == result.tolist()


def test_twins_give_the_same_words():
    g = torch.Generator().manual_seed(0)
    counter, key = (torch.randint(0, 2**32, (500, n), generator=g) for n in (4, 2))
    got = torch.ops.splatdistill.philox_words(counter, key)
    assert torch.equal(got, ops.reference.philox_words(counter, key))


@pytest.mark.parametrize("key", [0, 1, 2**63 - 1, 2**63, 2**64 - 1])
@pytest.mark.parametrize("num", [0, 1, 3, 4, 9])
def test_twins_give_the_same_normals(key, num):
    ids = torch.tensor([0, 1, 2**32 - 1, 2**32, 2**63 - 1, -1])
    got = ops.philox_normal(key, ids, num)
    assert got.shape == (6, num)
    # Both compute in float64 and round once, so they may be neighbours; near 0 sine and cosine err by 1e-15.
    torch.testing.assert_close(got, ops.reference.philox_normal(key, ids, num), rtol=2 * UNIT, atol=1e-14)


def test_a_row_depends_on_key_and_id_alone():
    ids = torch.arange(100)
    all_rows = ops.philox_normal(7, ids, 6)
    assert torch.equal(ops.philox_normal(7, ids[40:41], 3), all_rows[40:41, :3])
    assert not torch.equal(ops.philox_normal(8, ids, 6), all_rows)


def test_moments_are_those_of_a_normal():
    draws = 50_000
    x = ops.philox_normal(3, torch.arange(draws), 4).double()
    # Five standard deviations: those of a normal's first, second and fourth moments are 1, sqrt(2) and sqrt(96).
    five = 5 / draws**0.5
    assert x.mean(0).abs().max() < five
    assert (x.var(0) - 1).abs().max() < 2**0.5 * five
    assert (torch.corrcoef(x.T) - torch.eye(4)).abs().max() < five
    assert (x.pow(4).mean(0) - 3).abs().max() < 96**0.5 * five
    assert x.abs().max() <= (2 * math.log(2**24)) ** 0.5 * (1 + UNIT)  # of the smallest uniform number, 2^-24


def test_opcheck():
    torch.library.opcheck(torch.ops.splatdistill.philox_normal.default, (5, torch.arange(4), 3))
    counter, key = torch.zeros(2, 4, dtype=torch.int64), torch.zeros(2, 2, dtype=torch.int64)
    torch.library.opcheck(torch.ops.splatdistill.philox_words.default, (counter, key))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, torch.arange(2), 3), "key must be an integer from 0 to 18446744073709551615, got -1."),
        ((0, torch.arange(2), -1), "num must be an integer from 0 to 2147483648, got -1."),
        ((0, [1, 2], 3), "ids must be a tensor, got list."),
        ((0, torch.zeros(2), 3), "ids must be int64, got float32."),
        ((0, torch.zeros(2, 2, dtype=torch.int64), 3), "ids must have shape [any], got [2, 2]."),
    ],
)
def test_bad_inputs_name_the_argument(arguments, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011  the whole message is compared below
        ops.philox_normal(*arguments)
    assert str(error.value) == message
