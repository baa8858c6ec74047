"""The Fréchet distance between two sets of pictures in the features of a network (FID, 1706.08500).

A table of `bench` holds renders against the teacher's own samples, as 2402.18780 does. N pictures, D features.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

NORMAL_95 = 1.959964
"""A normal variable lies within so many standard deviations of its mean in 95 of 100 draws."""


class FeatureNetwork(Protocol):
    """name: what a table calls it."""

    name: str

    def features(self, rgb: Tensor) -> Tensor:
        """[N,H,W,3] in 0..1 to [N,D]."""
        ...


class Inception:
    """The network of FID, as torch-fidelity has it, with the weights of `path`.

    ValueError, one sentence, when torch-fidelity is not installed or the file does not hold these weights.
    """

    name = "InceptionV3"

    def __init__(self, path: Path) -> None:
        try:
            from torch_fidelity import FeatureExtractorInceptionV3  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ValueError("judges: FID needs torch-fidelity; `pip install torch-fidelity` brings it.") from error
        if not path.is_file():
            raise ValueError(f"judges: there is no file of Inception's weights called {path}.")
        try:
            made: Any = FeatureExtractorInceptionV3("fid", ["2048"], feature_extractor_weights_path=str(path))
        except Exception as error:  # of torch's own readers, a dozen kinds; none of them runs code from the file
            raise ValueError(
                f"judges: {path} does not hold the weights of torch-fidelity's InceptionV3, "
                "weights-inception-2015-12-05-6726825d.pth."
            ) from error
        self.network = made.eval()

    @torch.no_grad()
    def features(self, rgb: Tensor) -> Tensor:
        """[N,H,W,3] in 0..1 to [N,2048]; rounded to 8 bits, and resized to 299 pixels as TensorFlow does."""
        pictures = (rgb.permute(0, 3, 1, 2).clamp(0, 1) * 255).round().to(torch.uint8)
        with contextlib.redirect_stdout(io.StringIO()):
            return torch.cat([self.network(some)[0] for some in pictures.split(32)])


def distance(first: Tensor, second: Tensor) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of features [N,D] and [M,D], in float64; at least two of each.

    With X the centred features over sqrt(N - 1), C = X^T X. So the square roots of the eigenvalues of C1 C2 are the
    singular values of X1 X2^T, which needs no root of a matrix and is exact where N < D.
    """
    means, spreads = [], []
    for features in (first, second):
        x = features.double()
        means.append(x.mean(0))
        spreads.append((x - means[-1]) / math.sqrt(len(x) - 1))
    one, other = spreads
    cross = torch.linalg.svdvals(one @ other.T).sum()
    squared = (means[0] - means[1]).square().sum() + one.square().sum() + other.square().sum() - 2 * cross
    return max(0.0, float(squared))


def with_interval(first: Sequence[Tensor], second: Sequence[Tensor]) -> dict[str, float | None]:
    """mean: the distance between all of `first` and all of `second`, features [N,D] of each prompt. low, high: 95 % by
    the jackknife over prompts, None for one prompt. A bootstrap would not do: it repeats pictures, which makes every
    distance larger.
    """
    whole, count = distance(torch.cat(list(first)), torch.cat(list(second))), len(first)
    if count == 1:
        return {"mean": whole, "low": None, "high": None}
    left_out = [
        distance(*(torch.cat([x for j, x in enumerate(groups) if j != i]) for groups in (first, second)))
        for i in range(count)
    ]
    middle = sum(left_out) / count
    spread = NORMAL_95 * math.sqrt((count - 1) / count * sum((x - middle) ** 2 for x in left_out))
    return {"mean": whole, "low": max(0.0, whole - spread), "high": whole + spread}
