"""The page of each method has the coefficients, costs and defaults of the code."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import torch

from splatdistill.config.presets import load
from splatdistill.config.schema import GUIDANCE, METHODS, TrainConfig
from splatdistill.guidance.base import Guidance
from splatdistill.scene.types import NoisyBatch, Residual
from tests.docs.pages import README
from tests.guidance.toys import batch_at, gaussian, prompt_prior, scalar
from tests.packaging.audit import ROOT
from tests.rounding import UNIT, assert_within

PAGES = {name: (ROOT / "docs" / "methods" / f"{name}.md").read_text() for name in METHODS}
INDEX = (ROOT / "docs" / "methods" / "index.md").read_text()
S, LAM, SHARE = 3.5, 0.25, 0.75  # guidance scale, lambda of ESD, share of CSD's negative prompt: exact in float32


def table(method: str) -> list[str]:
    """The coefficients of a page, in order."""
    rows = re.search(r"\| term \| coefficient \|\n\| --- \| --- \|\n((?:\|.*\n)+)", PAGES[method])
    assert rows
    return re.findall(r"\| `([^`]+)` \|$", rows[1], flags=re.M)


def value(text: str, names: dict[str, float]) -> float:
    """A coefficient such as `-(1 - lam)`: sums and products of names and numbers."""
    for name in sorted(names, key=len, reverse=True):
        text = re.sub(rf"\b{name}\b", repr(names[name]), text)
    assert re.fullmatch(r"[-+*/(). \de]+", text), text
    return _sum(re.findall(r"\d[\d.e]*|[-+*/()]", text))


def _sum(tokens: list[str]) -> float:
    total = _product(tokens)
    while tokens and tokens[0] in "+-":
        total += _product(tokens) if tokens.pop(0) == "+" else -_product(tokens)
    return total


def _product(tokens: list[str]) -> float:
    out = _factor(tokens)
    while tokens and tokens[0] in "*/":
        out = out * _factor(tokens) if tokens.pop(0) == "*" else out / _factor(tokens)
    return out


def _factor(tokens: list[str]) -> float:
    token = tokens.pop(0)
    if token == "-":
        return -_factor(tokens)
    if token == "(":
        inside = _sum(tokens)
        tokens.pop(0)
        return inside
    return float(token)


def residual(method: str, **settings: Any) -> tuple[Residual, NoisyBatch]:
    """What a method makes of one view, half-way through a run."""
    prior = prompt_prior(x=gaussian(1.3, 0.7), empty=gaussian(0.2, 0.9), bad=gaussian(-0.5, 0.8))
    config = replace(GUIDANCE[method].Settings(), **settings)
    guidance: Guidance[Any] = GUIDANCE[method](config, prompt="x", group=1, steps=100)  # type: ignore[call-arg]
    batch = replace(batch_at(prior, z=scalar(-0.4), eps=scalar(0.8), t=600), source=scalar(-0.1))
    if method == "consistency":
        guidance.noise(batch.x0, batch.cameras, prior, seed=0, step=50)
    return guidance.residual(batch, prior, step=50), batch


@pytest.mark.parametrize("method", ["sds", "consistency", "dds", "ism", "rfds", "fsd", "cfd", "bridge", "nfsd"])
def test_coefficients_of_guided_scores(method: str) -> None:
    scale = {"guidance_scale": S, **({"guidance_scale_final": S} if method == "consistency" else {})}
    if method in ("bridge", "nfsd"):
        scale |= {"negative_prompt": "bad"}
    found = residual(method, **scale)[0].coef.flatten().tolist()
    assert found == [value(text, {"s": S}) for text in table(method)]


def test_coefficients_of_csd() -> None:
    found, _ = residual("csd", negative_prompt="bad", negative_weight=SHARE, negative_weight_final=SHARE)
    assert found.coef.flatten().tolist() == [value(text, {"a": SHARE}) for text in table("csd")]


def test_coefficients_of_ssd() -> None:
    found = residual("ssd", guidance_scale=S, enhancement=LAM, likeness=SHARE, source_prompt="bad")[0].coef.flatten()
    names = {"s": S, "e": LAM, "a": SHARE, "p": float(found[-2])}
    assert found.tolist() == [value(text, names) for text in table("ssd")]
    # k e^(t/T) alpha in float32: two functions and two products.
    alpha = residual("ssd")[1].alpha.double()
    pull = 0.075 * torch.tensor(0.6).double().exp() * alpha
    assert_within(found[-2:-1], pull, 8 * UNIT * pull)


def test_coefficients_of_sdi() -> None:
    found, _ = residual("sdi", guidance_scale=S)
    coef = found.coef.flatten().double()
    names = {"s": S, "sigma": -1 / float(coef[2]), "alpha": -float(coef[3]) / float(coef[2])}
    expected = torch.tensor([value(text, names) for text in table("sdi")], dtype=torch.float64)
    assert_within(coef, expected, 4 * UNIT * expected.abs())


def test_coefficients_of_multiview() -> None:
    found, batch = residual("multiview", guidance_scale=S, rescale=0.5)
    coef = found.coef.flatten().double()
    k = -float(coef[2])
    assert k != 1
    names = {"s": S, "k": k, "alpha": float(batch.alpha), "sigma": float(batch.sigma)}
    expected = torch.tensor([value(text, names) for text in table("multiview")], dtype=torch.float64)
    # At most four roundings to float32 make a coefficient of k, alpha and sigma.
    assert_within(coef, expected, 4 * UNIT * expected.abs())


def test_coefficients_of_the_scores_of_renders() -> None:
    """Those of the guided score are as for SDS; the method's own row follows."""
    for method, names in (("vsd", {}), ("esd", {"lam": LAM})):
        config = replace(GUIDANCE[method].Settings(), **({"entropy": LAM} if names else {}))
        row = GUIDANCE[method](config, prompt="x", group=1, steps=1).row()  # type: ignore[call-arg, attr-defined]
        texts = table(method)
        assert texts[:2] == table("sds")[:2]
        assert [value(text, names) for text in texts[2:]] == [coefficient for coefficient, _ in row]


def test_costs_are_those_of_the_code() -> None:
    for method, kind in GUIDANCE.items():
        assert re.search(rf"\*\*Cost\.\*\* {kind.evaluations} network evaluations per view and step", PAGES[method])
        rows = re.findall(rf"^\| \[`{method}`\].*", README.read_text() + INDEX, flags=re.M)
        assert rows
        for row in rows:
            assert row.split("|")[3].strip() == str(kind.evaluations)
            assert kind.paper.rpartition(" ")[2] in row


@pytest.mark.parametrize("method", METHODS)
def test_settings_have_the_values_of_the_table(method: str) -> None:
    """A number in a row of one setting is its default, and that in the last column what the shipped prior takes."""
    default, shipped = TrainConfig(), load(method)[0]
    rows = re.findall(rf"^\| `({method}\.\w+)`[^|`]*\|([^|]+)\|(?:([^|]+)\|)?$", PAGES[method], flags=re.M)
    assert rows
    for name, plain, embedded in rows:
        for text, config in ((plain, default), (embedded, shipped)):
            if re.fullmatch(r" *[\d.e-]+ *", text or ""):
                assert getattr(getattr(config, method), name.partition(".")[2]) == float(text), name
