"""Philox against the published vectors, and the normals made of it: the oracle of what densify draws.

The C++ has the same vectors in csrc/cpu/check; test_densify.py holds its draws against these.
"""

from __future__ import annotations

import math

import torch

from splatdistill.ops import reference
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


def test_known_answers():
    counter, key, result = (torch.tensor(column) for column in zip(*KNOWN, strict=True))
    assert reference.philox_words(counter, key).tolist() == result.tolist()


def test_a_row_depends_on_key_and_id_alone():
    ids = torch.arange(100)
    all_rows = reference.philox_normal(7, ids, 6)
    assert torch.equal(reference.philox_normal(7, ids[40:41], 3), all_rows[40:41, :3])
    assert not torch.equal(reference.philox_normal(8, ids, 6), all_rows)


def test_moments_are_those_of_a_normal():
    draws = 50_000
    x = reference.philox_normal(3, torch.arange(draws), 4).double()
    # Five standard deviations: those of a normal's first, second and fourth moments are 1, sqrt(2) and sqrt(96).
    five = 5 / draws**0.5
    assert x.mean(0).abs().max() < five
    assert (x.var(0) - 1).abs().max() < 2**0.5 * five
    assert (torch.corrcoef(x.T) - torch.eye(4)).abs().max() < five
    assert (x.pow(4).mean(0) - 3).abs().max() < 96**0.5 * five
    assert x.abs().max() <= (2 * math.log(2**24)) ** 0.5 * (1 + UNIT)  # of the smallest uniform number, 2^-24
