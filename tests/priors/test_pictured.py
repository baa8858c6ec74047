"""A picture of what to make: where it lies, and which model in which paint shows the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from splatdistill.priors.gbuffer import ALBEDO, ALPHA, CHANNELS, PAINTS, SHADING, paint
from splatdistill.priors.pictured import FEWEST, Box, box_of, cut, extent, matched, set_into, tints_of
from tests.rounding import UNIT, assert_within

SIZE = 32
LUMINANCE = torch.tensor([0.5, 0.3, 0.6])


def model(seed: int, *, rows: slice = slice(6, 26), columns: slice = slice(4, 28)) -> Tensor:
    """Buffers [S,S,8] of a box with its three paints in three bands, light and dark at random, and a look of its own
    that no paint has: stripes across the bands.
    """
    g = torch.Generator().manual_seed(seed)
    found = torch.zeros(SIZE, SIZE, CHANNELS)
    within = found[rows, columns]
    for stripe in within.tensor_split(4, 1):
        stripe[..., ALBEDO] = 0.2 + 0.6 * torch.rand(3, generator=g)
    within[..., SHADING] = 0.5 + 0.5 * torch.rand(within.shape[:2], generator=g)
    within[..., ALPHA] = 1
    for band, channel in zip(within.tensor_split(3), PAINTS, strict=True):
        band[..., channel] = 1
    return found


def picture(buffers: Tensor, tints: Tensor | None) -> Tensor:
    """[4,S,S] of a model in its paint."""
    rgb, alpha = paint(buffers[None], None if tints is None else tints[None], luminance=LUMINANCE[None])
    return torch.cat([rgb, alpha], -1)[0].movedim(-1, 0)


@pytest.mark.parametrize("seed", range(5))
def test_the_paint_of_a_picture_is_found_again(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    tints = 0.1 + 0.6 * torch.rand(3, 3, generator=g)  # at most 1.3 times as bright, which clips nothing
    buffers = model(seed)
    found = tints_of(buffers, picture(buffers, tints), luminance=LUMINANCE)
    # A product of three numbers and its quotient by two of them, all in 0..2, the divisor above DARK.
    assert_within(found, tints, 32 * UNIT / 0.1)


def test_a_paint_that_hardly_shows_has_no_colour() -> None:
    buffers = model(0)
    shown = picture(buffers, torch.full((3, 3), 0.4))
    buffers[..., PAINTS[1]] = 0
    buffers[10, 4 : 4 + FEWEST - 1, PAINTS[1]] = 1
    found = tints_of(buffers, shown, luminance=LUMINANCE)
    assert found[1].isnan().all() and not found[[0, 2]].isnan().any()


@pytest.mark.parametrize("own", [True, False])
def test_the_model_of_a_picture_is_found_in_its_paint_wherever_it_lies(own: bool) -> None:
    shapes = [(slice(6, 26), slice(4, 28)), (slice(2, 30), slice(10, 22)), (slice(9, 20), slice(8, 24))]
    buffers = torch.stack([model(k, rows=rows, columns=columns) for k, (rows, columns) in enumerate(shapes)])
    tints = None if own else torch.tensor([[0.6, 0.1, 0.1], [0.1, 0.6, 0.1], [0.1, 0.1, 0.6]])
    for place, buffer in enumerate(buffers):
        shown = picture(buffer, tints)
        wide = torch.zeros(4, 70, 90)
        wide[:, 30 : 30 + SIZE, 5 : 5 + SIZE] = shown  # a photograph that is not square
        found = matched(buffers, cut(wide, size=64), luminance=LUMINANCE.expand(3, 3), bare=[False] * 3)
        assert found.place == place and found.box == box_of(buffer[..., ALPHA])
        assert found.tints.isnan().all() == own
        bare = matched(buffers, cut(wide, size=64), luminance=LUMINANCE.expand(3, 3), bare=[True] * 3)
        assert not bare.tints.isnan().any()  # without a look of its own a model takes all from the picture


@pytest.mark.parametrize(("rows", "columns"), [((3, 27), (8, 16)), ((10, 14), (0, 24)), ((0, 32), (0, 32))])
def test_what_is_cut_out_is_laid_back_where_it_was(rows: tuple[int, int], columns: tuple[int, int]) -> None:
    g = torch.Generator().manual_seed(0)
    rgba = torch.zeros(4, SIZE, SIZE)
    rgba[:3] = torch.rand(3, SIZE, SIZE, generator=g)
    rgba[3, slice(*rows), slice(*columns)] = 1
    box = box_of(rgba[3])
    side = round(box.side * SIZE)
    back = set_into(cut(rgba, size=side), box, size=SIZE)
    assert torch.equal(back[3], rgba[3])
    # Colours are multiplied by an alpha of 1 and divided by it, and no pixel is resized.
    assert_within(back[:3] * back[3], rgba[:3] * rgba[3], 8 * UNIT)


def test_a_box_that_reaches_out_of_the_frame_is_cut_off() -> None:
    whole = torch.ones(4, 16, 16)
    laid = set_into(whole, Box(-0.25, 0.5, 1.0), size=16)
    assert laid.shape == (4, 16, 16)
    assert laid[3, 8:, :12].min() == 1 and laid[3, :8].max() == 0 and laid[3, :, 12:].max() == 0


def test_a_picture_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="image: the picture shows nothing but its ground"):
        extent(torch.zeros(8, 8))
