"""The multi-view prior on tiny random networks: attention across views, absent cameras, v to epsilon, messages."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from splatdistill.config.schema import GUIDANCE, CameraConfig, TrainConfig
from splatdistill.embedded.prior import architecture as network
from splatdistill.guidance import make_guidance
from splatdistill.guidance.base import noisy_batch
from splatdistill.priors.base import Condition
from splatdistill.priors.embedded import NUM_MARKS, MultiViewPrior, encode_text, pixel_shuffle, pixel_unshuffle
from splatdistill.priors.schedule import Schedule
from splatdistill.priors.scores import make_score
from splatdistill.priors.vocabulary import META_FILE
from splatdistill.scene.cameras import orbit
from tests.guidance.toys import FOR_ANY_PRIOR, assemble
from tests.rounding import assert_same


def tiny(*, prediction_type: str = "v_prediction") -> MultiViewPrior:
    torch.manual_seed(0)
    parts = network.create(channels=(16, 32, 32), text_width=16)
    parts.scheduler.register_to_config(prediction_type=prediction_type)
    return MultiViewPrior(
        parts.unet.eval(),
        text_encoder=parts.text_encoder.eval(),
        volume=parts.volume.eval(),
        tokenizer=parts.tokenizer,
        schedule=Schedule.from_config(parts.scheduler.config),
        meta=network.meta(image_size=32),
    )


@pytest.fixture(scope="module")
def prior():
    return tiny()


def ring(num: int = 4):
    one = torch.ones(num)
    azimuth = torch.arange(num) * (2 * math.pi / 4) + 0.3
    return orbit(azimuth=azimuth, elevation=0.2 * one, radius=3 * one, fovy=0.7 * one, size=16)


def noise(num: int = 4):
    return torch.randn(num, 48, 8, 8, generator=torch.Generator().manual_seed(1))


def steps(num: int = 4, t: int = 400):
    return torch.full((num,), t)


def test_encode_is_differentiable_and_decode_inverts_it(prior):
    rgb = torch.rand(2, 32, 32, 3, requires_grad=True)
    x0 = prior.encode(rgb)
    assert x0.shape == (2, 48, 8, 8)
    torch.testing.assert_close(prior.decode(x0), rgb)
    x0.sum().backward()
    torch.testing.assert_close(rgb.grad, torch.full_like(rgb, 2.0))
    assert prior.encode(torch.rand(2, 40, 40, 3)).shape == (2, 48, 8, 8)
    torch.testing.assert_close(pixel_shuffle(pixel_unshuffle(torch.ones(1, 4, 4, 3), 2), 2), torch.ones(1, 4, 4, 3))


def test_views_with_cameras_see_each_other_and_views_without_do_not(prior):
    xt, changed = noise(), noise()
    changed[3] += 1.0
    for cameras, joined in ((ring(), True), (None, False)):
        condition = prior.embed("a red sofa", cameras)
        (a,), (b,) = prior.predict(xt, steps(), [condition]), prior.predict(changed, steps(), [condition])
        moved = (a[:3] - b[:3]).abs().amax() > 1e-5
        assert bool(moved) is joined
        assert (a[3] - b[3]).abs().amax() > 1e-5


def test_groups_do_not_mix(prior):
    xt, changed = noise(8), noise(8)
    changed[7] += 1.0
    condition = prior.embed("a sofa", ring(8))
    (a,), (b,) = prior.predict(xt, steps(8), [condition]), prior.predict(changed, steps(8), [condition])
    torch.testing.assert_close(a[:4], b[:4])
    assert (a[4:7] - b[4:7]).abs().amax() > 1e-5


def test_permuting_views_with_their_cameras_permutes_the_output(prior):
    order = torch.tensor([2, 0, 3, 1])
    condition = prior.embed("a dog", ring())
    assert condition.camera is not None
    turned = Condition(text=condition.text, camera=condition.camera[order], pooled=condition.pooled)

    def answers():
        (a,), (b,) = prior.predict(noise(), steps(), [condition]), prior.predict(noise()[order], steps(), [turned])
        return a[order], b

    assert_same(answers)


def test_a_zero_camera_row_is_no_camera_whatever_the_projection_learned():
    prior = tiny()
    condition = prior.embed("a dog", None)
    (before,) = prior.predict(noise(), steps(), [condition])
    with torch.no_grad():
        prior.unet.class_embedding.linear_1.weight[:, :16].add_(1.0)  # type: ignore[union-attr]
    (after,) = prior.predict(noise(), steps(), [condition])
    torch.testing.assert_close(before, after)
    (conditioned,) = prior.predict(noise(), steps(), [prior.embed("a dog", ring())])
    assert (conditioned - before).abs().amax() > 1e-4


def test_one_call_answers_all_conditions_in_their_order(prior, monkeypatch):
    conditions = [prior.embed("a dog", None), prior.embed("a sofa", ring()), prior.embed("", ring())]

    def answers():
        alone = [prior.predict(noise(), steps(), [c])[0] for c in conditions]
        return torch.stack(alone), torch.stack(prior.predict(noise(), steps(), conditions))

    assert_same(answers)
    calls = []
    forward = prior.unet.forward
    monkeypatch.setattr(prior.unet, "forward", lambda *a, **k: calls.append(1) or forward(*a, **k))
    prior.predict(noise(), steps(), conditions)
    assert len(calls) == 1


def test_v_becomes_epsilon():
    v_prior, eps_prior = tiny(), tiny(prediction_type="epsilon")
    xt, t = noise(), torch.tensor([10, 200, 600, 990])
    (eps,) = v_prior.predict(xt, t, [v_prior.embed("a car", None)])
    (v,) = eps_prior.predict(xt, t, [eps_prior.embed("a car", None)])
    signal = v_prior.alphas_cumprod[t].view(-1, 1, 1, 1)
    torch.testing.assert_close(eps, signal.sqrt() * v + (1 - signal).sqrt() * xt)
    assert eps.dtype == torch.float32 and not eps.requires_grad


def test_text_is_encoded_once(prior, monkeypatch):
    prior.embed("a green car", ring())
    monkeypatch.setattr(prior, "text_encoder", None)
    assert prior.embed("a green car", ring()).text.shape == (1, network.MAX_WORDS, 16)


def test_the_sum_of_words_knows_no_order_and_leaves_the_marks_out(prior):
    red, words, nothing = (
        encode_text([p], text_encoder=prior.text_encoder, tokenizer=prior.tokenizer).pooled
        for p in ("red", "car red , a", "")
    )
    table = prior.text_encoder.get_input_embeddings().weight
    known = prior.tokenizer.get_vocab()
    torch.testing.assert_close(red[0], table[known["red"]])
    torch.testing.assert_close(words[0], sum(table[known[w]] for w in ("a", "red", "car", ",")))
    assert torch.equal(nothing, torch.zeros_like(nothing))
    assert {known[mark] for mark in prior.tokenizer.all_special_tokens} == set(range(NUM_MARKS))


def test_the_sum_of_words_counts_where_nothing_attends_to_text(prior):
    conditioned = prior.embed("a red car", ring())
    silent = Condition(text=conditioned.text, camera=conditioned.camera, pooled=torch.zeros_like(conditioned.pooled))
    (a,), (b,) = prior.predict(noise(), steps(), [conditioned]), prior.predict(noise(), steps(), [silent])
    assert (a - b).abs().max() > 1e-3


def test_a_prompt_is_read_as_the_vocabulary_reads_it(prior):
    plain = prior.embed("a red car", None).text
    assert torch.equal(prior.embed("A red  cars!", None).text, plain)
    assert not torch.equal(prior.embed("a green car", None).text, plain)


def test_a_folder_is_written_and_read_back(tmp_path):
    parts = network.create(channels=(16, 32, 32), text_width=16)
    network.save(parts, tmp_path / "prior", image_size=16)
    prior = MultiViewPrior.load(tmp_path / "prior", dtype="fp32")
    assert prior.dtype == "fp32" and prior.num_views == 4
    for name, value in prior.unet.state_dict().items():
        torch.testing.assert_close(value, parts.unet.state_dict()[name].half().float())
    assert not list((tmp_path / "prior").rglob("*.bin"))


def test_messages(prior, tmp_path):
    with pytest.raises(ValueError, match=f"No prior in .*nothing: it has no {META_FILE}; train one with"):
        MultiViewPrior.load(tmp_path / "nothing")
    network.save(network.create(channels=(16, 32, 32), text_width=16), tmp_path / "torn", image_size=16)
    (tmp_path / "torn" / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"The prior in .*torn is not whole: "):
        MultiViewPrior.load(tmp_path / "torn")
    with pytest.raises(ValueError, match="must be a multiple of 4"):
        prior.predict(noise(3), steps(3), [prior.embed("a dog", ring(3))])


def test_every_view_may_have_words_of_its_own(prior):
    words = ["a car, front view", "a car, side view", "a car, back view", "a car, side view"]
    for token in (True, False):
        conditioned = prior.embed(words, ring(), use_camera_embedding=token)
        (together,) = prior.predict(noise(), steps(), [conditioned])
        swapped = prior.embed([words[1], *words[1:]], ring(), use_camera_embedding=token)
        (other,) = prior.predict(noise(), steps(), [swapped])
        assert (together[0] - other[0]).abs().amax() > 1e-5
        assert ((together[1:] - other[1:]).abs().amax() > 1e-6) == token  # joint views notice, single ones do not
    alone = prior.embed(words[0], None)
    apart = prior.embed(words, ring(), use_camera_embedding=False)

    def answers():
        (first,), (rows,) = prior.predict(noise()[:1], steps(1), [alone]), prior.predict(noise(), steps(), [apart])
        return rows[:1], first

    assert_same(answers)


def test_views_that_are_alone_hear_their_cameras_and_not_each_other(prior):
    alone = prior.embed("a car", ring(), cross_view_attention=False)

    def answers():
        (together,), each = prior.predict(noise(), steps(), [alone]), []
        for row in range(4):
            one = slice(row, row + 1)
            seen = prior.embed("a car", ring().select(one), cross_view_attention=False)
            each += prior.predict(noise()[one], steps(1), [seen])
        return together, torch.cat(each)

    assert_same(answers)
    together, _ = answers()
    joint, silent = prior.predict(noise(), steps(), [prior.embed("a car", ring()), prior.embed("a car", None)])
    assert min((together - other).abs().amax() for other in (joint, silent)) > 1e-5


@pytest.mark.parametrize("group", [1, 4])
@pytest.mark.parametrize("method", [name for name in FOR_ANY_PRIOR if not GUIDANCE[name].single_view])
def test_a_method_shows_a_view_to_those_of_its_group_alone(prior, method, group):
    config = TrainConfig(method=method, prompt="a red sofa", camera=CameraConfig(views_per_group=group))
    guidance = make_guidance(config)
    guidance.bind(prior)
    moved = []
    for last in (0.0, 1.0):
        x0 = noise()
        x0[3] += last
        batch = noisy_batch(x0, ring(), prior, t=steps(), eps=noise())
        residual = guidance.residual(replace(batch, source=batch.x0.detach()), prior, step=0)
        moved.append(assemble(residual))
    assert bool((moved[0][:3] - moved[1][:3]).abs().amax() > 1e-5) is (group == 4)


def test_a_network_without_a_camera_token_is_refused(tmp_path):
    network.save(network.create(channels=(16, 32, 32), text_width=16), tmp_path / "plain", image_size=16)
    config = tmp_path / "plain" / "unet" / "config.json"
    config.write_text(config.read_text().replace('"class_embed_type": "projection"', '"class_embed_type": null'))
    with pytest.raises(ValueError, match=r"The prior in .*plain has no camera token, so it cannot tell views apart\."):
        MultiViewPrior.load(tmp_path / "plain")


def test_weights_kept_in_bf16_answer_as_weights_converted_in_each_call(tmp_path):
    """Norms stay in fp32, and so do the adapters of a second score, which learns in small steps."""
    network.save(network.create(channels=(16, 32, 32), text_width=16), tmp_path / "prior", image_size=16)
    kept, converted = (MultiViewPrior.load(tmp_path / "prior", dtype="bf16") for _ in range(2))
    converted.unet.float()
    types = {type(module).__name__: module.weight.dtype for module in kept.unet.modules() if hasattr(module, "weight")}
    assert types == {"Conv2d": torch.bfloat16, "Linear": torch.bfloat16, "GroupNorm": torch.float32,
                     "LayerNorm": torch.float32}  # fmt: skip
    cameras = ring()
    answers = [
        p.predict(noise(), steps(), [p.embed("a red car", cameras), p.embed("", None)]) for p in (kept, converted)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*answers, strict=True))
    score = make_score(kept, "a red car", particles=1, rank=2, lr=1e-3, dropout=0.1, seed=0)
    assert {parameter.dtype for parameter in score.parameters.values()} == {torch.float32}
