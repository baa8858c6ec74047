"""What computes the frozen network: every engine against the UNet and against float64, and which one is taken."""

from __future__ import annotations

import copy
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from splatdistill.embedded.prior import architecture as network
from splatdistill.io.cache import ENGINES
from splatdistill.priors import engine as engines
from splatdistill.priors import load
from splatdistill.priors.embedded import MultiViewPrior
from splatdistill.priors.engine import CLOSE, difference, pick
from splatdistill.priors.packed import PackedUNet, UNetInput, ask
from splatdistill.priors.scores import make_score
from tests.priors.test_embedded import noise, ring, steps

CPU = torch.device("cpu")
needs_onnx = pytest.mark.skipif(not engines.installed(), reason="onnxruntime is not installed")
ONNX = pytest.param("onnx", marks=needs_onnx)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("prior") / "prior"
    network.save(network.create(channels=(16, 32, 48), text_width=16), root, image_size=32)
    return root


def prior_of(folder: Path, name: str = "torch") -> MultiViewPrior:
    return MultiViewPrior.load(folder, dtype="fp32", engine=name)


def engine_of(prior: MultiViewPrior, name: str) -> Any:
    if name == "torch":
        return PackedUNet(prior.unet)
    from splatdistill.priors.onnx_engine import OnnxUNet

    return OnnxUNet(prior.unet)


def question(prior: MultiViewPrior, rows: int, joint_rows: int, side: int = 8) -> UNetInput:
    draw = torch.Generator().manual_seed(rows)
    tokens = torch.randn(rows, prior.unet.config["projection_class_embeddings_input_dim"], generator=draw)
    tokens[rows // 2 :] *= torch.arange(rows - rows // 2)[:, None] > 0  # one row has none
    return UNetInput(
        torch.randn(rows, prior.unet.config["in_channels"], side, side, generator=draw),
        torch.randint(0, 1000, (rows,), generator=draw),
        torch.randn(rows, network.MAX_WORDS, 16, generator=draw),
        tokens,
        num_views=4,
        joint_rows=joint_rows,
    )


@pytest.mark.parametrize("name", ["torch", ONNX])
@pytest.mark.parametrize(("rows", "joint_rows", "side"), [(8, 8, 8), (8, 4, 8), (4, 0, 8), (1, 0, 8), (8, 8, 6)])
def test_an_engine_is_as_exact_as_the_network(folder: Path, name: str, rows: int, joint_rows: int, side: int) -> None:
    """The same sums in another order: both are as far from float64 as rounding takes them, so neither is more than a
    few times farther than the other, and they differ by no more than both errors together.
    """
    prior = prior_of(folder)
    asked, engine = question(prior, rows, joint_rows, side), engine_of(prior, name)
    with torch.no_grad():
        wide = {key: getattr(asked, key).double() for key in ("sample", "text", "class_labels")}
        exact = ask(copy.deepcopy(prior.unet).double(), replace(asked, **wide))
        plain, found = (f(asked).double() for f in (lambda q: ask(prior.unet, q), engine))
    plain_error, error = (float((x - exact).norm() / exact.norm()) for x in (plain, found))
    assert 0 < plain_error < CLOSE and error < 4 * plain_error
    assert difference(engine, lambda q: ask(prior.unet, q), asked) <= error + plain_error
    assert torch.equal(engine(asked), engine(asked))


@pytest.mark.parametrize("name", ["torch", ONNX])
def test_bits_do_not_depend_on_what_was_asked_before(folder: Path, name: str) -> None:
    """Else a run that is taken up in its second stage would go on with others."""
    first, second = (engine_of(prior_of(folder), name) for _ in range(2))
    prior = prior_of(folder)
    large, small = question(prior, 8, 8), question(prior, 4, 4)
    first(large)
    assert torch.equal(first(small), second(small))


@pytest.mark.parametrize("name", ["torch", ONNX])
def test_a_prior_with_an_engine_predicts_as_one_without(folder: Path, name: str) -> None:
    with_engine, without = prior_of(folder, name), prior_of(folder)
    without.engine = None
    assert (with_engine.network_engine, without.network_engine) == (name, "torch")
    answers = []
    for prior in (with_engine, without):
        conditions = [prior.embed("a red car", ring()), prior.embed("", ring()), prior.embed("a car", None)]
        answers.append(torch.cat(prior.predict(noise(), steps(), conditions)))
    assert float((answers[0] - answers[1]).norm() / answers[1].norm()) < CLOSE


def test_adapters_do_not_reach_the_engine(folder: Path) -> None:
    """The prior stays the prior while the second score learns on the same network."""
    prior = prior_of(folder)
    conditions = [prior.embed("a red car", ring())]
    before = prior.predict(noise(), steps(), conditions)[0]
    score: Any = make_score(prior, "a red car", particles=1, rank=2, lr=1e-2, dropout=0.5, seed=3)
    with torch.no_grad():
        for parameter in score.parameters.values():
            parameter.add_(0.1)
    prior.engine = (
        pick("torch", prior.unet, dtype="fp32", trial=prior._trial()) if prior.engine is None else prior.engine
    )
    assert torch.equal(prior.predict(noise(), steps(), conditions)[0], before)


def test_what_is_asked_for_is_taken_or_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "installed", lambda: False)
    assert prior_of(folder, "auto").network_engine == "torch"
    with pytest.raises(ValueError, match=r"^network_engine: onnxruntime is not installed; `pip install"):
        prior_of(folder, "onnx")
    with pytest.raises(
        ValueError, match=r"^network_engine must be auto, torch, onnx, cuda-graph or compile, not jax\.$"
    ):
        prior_of(folder, "jax")
    with pytest.raises(ValueError, match=r"^network_engine: onnx computes the embedded prior in fp32 on a CPU only"):
        MultiViewPrior.load(folder, dtype="bf16", engine="onnx")
    assert MultiViewPrior.load(folder, dtype="bf16", engine="auto").engine is None
    with pytest.raises(
        ValueError, match=r"^network_engine: onnx computes the embedded kind of prior only, not analytic"
    ):
        load("analytic", device=CPU, dtype="fp32", engine="onnx")


@needs_onnx
def test_auto_takes_onnxruntime_only_where_it_is_exact(
    folder: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prior_of(folder, "auto").network_engine == "onnx"
    from splatdistill.priors.onnx_engine import OnnxUNet

    right = OnnxUNet.__call__
    monkeypatch.setattr(OnnxUNet, "__call__", lambda self, asked: right(self, asked) * (1 + 3 * CLOSE))
    assert prior_of(folder, "auto").network_engine == "onnx"  # as is known from the first time
    (own_cache / ENGINES).unlink()
    assert prior_of(folder, "auto").network_engine == prior_of(folder, "auto").network_engine == "torch"


@needs_onnx
def test_both_are_asked_once_for_a_model_and_a_processor(
    folder: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(engines, "difference", lambda *_: asked.append(1) or 0.5 * CLOSE)
    for content in ("", "{", "[]", None, None):
        if content is not None:
            (own_cache / ENGINES).write_text(content)
        assert prior_of(folder, "auto").network_engine == "onnx"
    assert len(asked) == 3
    (key,) = json.loads((own_cache / ENGINES).read_text())
    prior = prior_of(folder, "torch")
    prior.unet.conv_in.weight.data[0, 0, 0, 0] += 1
    pick("auto", prior.unet, dtype="fp32", trial=prior._trial())
    monkeypatch.setattr(engines, "processor", lambda: "another")
    assert prior_of(folder, "auto").network_engine == "onnx"
    assert len(asked) == 5 and len(json.loads((own_cache / ENGINES).read_text())) == 3
    assert f"torch {torch.__version__}, onnxruntime " in key


def test_torch_does_not_import_onnxruntime(folder: Path) -> None:
    loaded = {name for name in ("onnx", "onnxruntime") if name in sys.modules}
    prior_of(folder)
    assert loaded == {name for name in ("onnx", "onnxruntime") if name in sys.modules}
