"""The letter F with three axes: an object that no turn and no mirror leaves alike, in shape and in colour."""

from __future__ import annotations

from pathlib import Path

import torch

from splatdistill.io import formats
from splatdistill.io.kinds import Up
from splatdistill.ops.geometry import SH_C0
from splatdistill.scene.gaussians import Splats

SPACING = 0.03  # world units between splats
# Each box: its corners, and its colour at z = 0 and below, and above.
_BOXES = (
    ((-0.25, -0.5, -0.08), (-0.05, 0.5, 0.08), (0.1, 0.6, 0.6), (0.95, 0.7, 0.1)),
    ((-0.05, 0.3, -0.08), (0.4, 0.5, 0.08), (0.1, 0.6, 0.6), (0.95, 0.7, 0.1)),
    ((-0.05, -0.04, -0.08), (0.22, 0.14, 0.08), (0.1, 0.6, 0.6), (0.95, 0.7, 0.1)),
    ((-0.4, -0.6, -0.3), (0.5, -0.54, -0.24), (0.9, 0.1, 0.1), (0.9, 0.1, 0.1)),
    ((-0.46, -0.54, -0.3), (-0.4, 0.2, -0.24), (0.1, 0.7, 0.1), (0.1, 0.7, 0.1)),
    ((-0.46, -0.6, -0.24), (-0.4, -0.54, 0.6), (0.15, 0.2, 0.9), (0.15, 0.2, 0.9)),
)


def letter(*, degree: int = 0) -> Splats:
    """Some 3000 flat splats, turned at random; with harmonics of `degree` the colours depend on the view."""
    g = torch.Generator().manual_seed(3)
    parts = [_box(*map(torch.tensor, box)) for box in _BOXES]
    means, colours = (torch.cat(column) for column in zip(*parts, strict=True))
    n, harmonics = len(means), (degree + 1) ** 2 - 1
    return Splats(
        means=means,
        quats=torch.nn.functional.normalize(torch.randn(n, 4, generator=g), dim=-1),
        scales=torch.log(SPACING * torch.tensor([0.7, 0.55, 0.4])).repeat(n, 1),
        opacities=torch.full((n,), 2.5),
        sh0=((colours - 0.5) / SH_C0)[:, None],
        shN=0.25 * (torch.rand(1, harmonics, 3, generator=g) - 0.5).repeat(n, 1, 1),
    )


def suffix(kind: str) -> str:
    """How the files of a kind end: a kind is a format, and for .spz the version after a space."""
    return kind.partition(" ")[0]


def write(path: Path, kind: str, *, degree: int, up: Up | None = None) -> None:
    """The letter as a file of a kind, as `export` writes it. up: another axis than that of the format."""
    how = formats.Written(up=up, spz_version=int(kind.partition(" ")[2] or 4))
    formats.write(path, letter(degree=degree), kind=suffix(kind), how=how)


def _box(low: torch.Tensor, high: torch.Tensor, below: torch.Tensor, above: torch.Tensor) -> tuple[torch.Tensor, ...]:
    axes = [torch.arange(a + SPACING / 2, b, SPACING) for a, b in zip(low.tolist(), high.tolist(), strict=True)]
    means = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    return means, torch.where(means[:, 2:] > 0, above, below)
