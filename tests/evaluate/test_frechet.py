"""The Fréchet distance: closed forms, SciPy's root of a matrix, and what the network of FID is handed."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from splatdistill.evaluate import frechet

FLOAT64 = 1e-9  # a root of a matrix of 6 x 6 in float64, relative: some hundred roundings, times its condition


def drawn(count: int, *, seed: int, width: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=generator, dtype=torch.float64)
    return torch.randn(count, width, generator=generator, dtype=torch.float64) @ mix


def test_it_is_the_formula_of_the_paper() -> None:
    first, second = drawn(40, seed=0), drawn(25, seed=1) + 0.5
    c1, c2 = first.T.cov(), second.T.cov()
    root = torch.tensor(sqrtm((c1 @ c2).numpy()).real)
    want = (first.mean(0) - second.mean(0)).square().sum() + torch.trace(c1 + c2 - 2 * root)
    assert frechet.distance(first, second) == pytest.approx(float(want), rel=FLOAT64)
    assert frechet.distance(second, first) == pytest.approx(float(want), rel=FLOAT64)


def test_closed_forms_also_where_pictures_are_fewer_than_features() -> None:
    x = drawn(4, seed=2)
    scale = float(x.square().sum())
    assert frechet.distance(x, x) == pytest.approx(0, abs=FLOAT64 * scale)
    shift = torch.arange(6.0, dtype=torch.float64)
    assert frechet.distance(x, x + shift) == pytest.approx(float(shift.square().sum()), rel=FLOAT64)
    # Twice as wide about one mean: tr(C + 4 C - 4 C) is the trace of C.
    centred = x - x.mean(0)
    assert frechet.distance(centred, 2 * centred) == pytest.approx(float(torch.trace(x.T.cov())), rel=FLOAT64)


def test_the_interval_is_the_jackknife_over_prompts() -> None:
    """For two sets that differ by shifts alone the distance is the square of the mean shift, left out by hand."""
    x = drawn(5, seed=3)
    shifts = [0.0, 1.0, 4.0]
    first = [x for _ in shifts]
    cell = frechet.with_interval(first, [x + shift for shift in shifts])
    everything = torch.cat(first), torch.cat([x + shift for shift in shifts])
    assert cell["mean"] == frechet.distance(*everything)
    left = [
        frechet.distance(torch.cat([x, x]), torch.cat([x + shifts[j] for j in range(3) if j != i])) for i in range(3)
    ]
    middle = sum(left) / 3
    half = frechet.NORMAL_95 * math.sqrt(2 / 3 * sum((value - middle) ** 2 for value in left))
    assert cell["mean"] is not None and cell["low"] is not None and cell["high"] is not None
    assert cell["high"] == pytest.approx(cell["mean"] + half)
    assert cell["low"] == pytest.approx(max(0.0, cell["mean"] - half))
    assert frechet.with_interval(first[:1], [x + 1]) | {"mean": 0} == {"mean": 0, "low": None, "high": None}


def test_inception_gets_bytes_and_says_in_one_sentence_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "weights.pth"
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(
        ValueError, match=r"^judges: FID needs torch-fidelity; `pip install torch-fidelity` brings it\.$"
    ):
        frechet.Inception(weights)
    given: list[Tensor] = []

    class Network:
        def __init__(self, name: str, features: list[str], feature_extractor_weights_path: str) -> None:
            if Path(feature_extractor_weights_path).read_text() != "sound":
                raise RuntimeError("many\nlines")
            assert features == ["2048"]

        def eval(self) -> Any:
            return self

        def __call__(self, pictures: Tensor) -> tuple[Tensor]:
            given.append(pictures)
            return (pictures.double().mean((2, 3)),)

    monkeypatch.setitem(sys.modules, "torch_fidelity", SimpleNamespace(FeatureExtractorInceptionV3=Network))
    with pytest.raises(ValueError, match=r"^judges: there is no file of Inception's weights called .*weights\.pth\.$"):
        frechet.Inception(weights)
    weights.write_text("other")
    with pytest.raises(ValueError, match=r"^judges: .*weights\.pth does not hold the weights of .*\.pth\.$"):
        frechet.Inception(weights)
    weights.write_text("sound")
    rgb = torch.tensor([0.0, 0.2, 1.0]).expand(40, 5, 7, 3)
    found = frechet.Inception(weights).features(rgb)
    assert found.tolist() == [[0, 51, 255]] * 40  # whole numbers of 255ths
    assert [(x.dtype, tuple(x.shape)) for x in given] == [(torch.uint8, (32, 3, 5, 7)), (torch.uint8, (8, 3, 5, 7))]
