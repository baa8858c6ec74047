"""The refiner: what it takes over from the first prior, what it answers untrained, and a training that goes on."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from splatdistill.embedded.corpus.layout import BUFFERS, INDEX, read_index, write_index
from splatdistill.embedded.corpus.pack import render_procedural
from splatdistill.embedded.prior import architecture as network
from splatdistill.embedded.prior.refiner import (
    LEAST_ERROR,
    Noise,
    RefineConfig,
    RefineTrainer,
    create,
    measure_accuracy,
    mix,
    schedule,
    weigh,
)
from splatdistill.embedded.prior.rings import FEATURES, FEATURES_INDEX, RingPlan, Rings
from splatdistill.embedded.prior.train_refiner import main
from splatdistill.priors import refine
from splatdistill.priors.embedded import MultiViewPrior
from splatdistill.priors.instances import Instance
from splatdistill.priors.mixture import blend, keep_likely
from splatdistill.priors.refine import Accuracy, infer_posterior
from tests.rounding import UNIT, assert_same, assert_within, bound

ACCURACY = Accuracy(plain=0.01, inside=0.01, edge=0.1, coarse=0.05)
CONFIG = RefineConfig(batch=8, warmup=2, max_images=10_000, decay=0.0, lr=2e-3)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Toys of one family, and features that are the truth itself with an error of a few grays."""
    folder = tmp_path_factory.mktemp("refine")
    records, views = render_procedural(number=3, rings=3, seed=0, size=16, first=0, processes=1)
    mine = [r for r in records if r.noun == "house"]
    np.save(folder / BUFFERS, views)
    made_of = {"number": 3, "rings": 3, "seed": 0}
    (folder / INDEX).write_text(json.dumps(write_index(mine, size=16, seed=0, toys=made_of)))
    seen = np.concatenate([views[r.first : r.first + 12] for r in mine])
    noise = np.random.default_rng(0).integers(-20, 21, seen.shape)
    np.save(folder / FEATURES, (seen + noise).clip(0, 255).astype(np.uint8))
    known = [{"noun": r.noun, "key": r.key, "luminance": [0.6] * 3, "parts": []} for r in mine]
    (folder / FEATURES_INDEX).write_text(json.dumps({"rings": [0, 1, 2], "known": known}))
    return folder


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """A small prior of the first kind."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("warm") / "prior"
    network.save(network.create(channels=(16, 32, 32), text_width=16), folder, image_size=16)
    return folder


def noise_at(t: int, *, num: int = 1, temperature: float = 1.0) -> Noise:
    power = schedule().alphas_cumprod[torch.full((num,), t)]
    return Noise(torch.full((num,), t), torch.full((num,), temperature), alpha=power.sqrt(), sigma=(1 - power).sqrt())


def together(plans: list[RingPlan]) -> RingPlan:
    """One plan of the rings of several."""
    columns = zip(*(vars(plan).values() for plan in plans), strict=True)
    joined = dict(zip(vars(plans[0]), (torch.cat(column) for column in columns), strict=True))
    counts = torch.tensor([len(plan.numbers) for plan in plans])
    rings = torch.tensor([len(plan) for plan in plans])
    joined["of_ring"] += (rings.cumsum(0) - rings).repeat_interleave(counts)
    joined["target"] += (counts.cumsum(0) - counts).repeat_interleave(rings)
    return RingPlan(**joined)


def trainer(data, warm, config=CONFIG) -> RefineTrainer:
    return RefineTrainer(config, refiner=create(warm), rings=[Rings.open(data, data, seed=config.seed)])


def test_the_first_layer_sees_of_colours_and_alpha_what_it_saw_before(warm):
    """Inside the picture, as padding with zeros is another colour before and after."""
    old, new = MultiViewPrior.load(warm, dtype="fp32").unet, create(warm).unet
    draw = torch.Generator().manual_seed(0)
    noisy = torch.randn(1, 3, 16, 16, generator=draw)
    colours = torch.rand(1, 3, 8, 8, generator=draw) * 2 - 1
    alpha = torch.rand(1, 1, 8, 8, generator=draw)
    before = torch.cat([colours * alpha, torch.zeros(1, 5, 8, 8), alpha], 1)
    wide = torch.cat([colours * alpha + 1 - alpha, 2 * alpha - 1], 1)
    wide = wide.repeat_interleave(2, -1).repeat_interleave(2, -2)
    seen_before = torch.cat([F.pixel_unshuffle(noisy, 4), F.pixel_unshuffle(before, 2)], 1)
    noisy_alpha = torch.randn(1, 1, 16, 16, generator=draw)
    seen_now = torch.cat([F.pixel_unshuffle(x, 4) for x in (noisy, noisy_alpha, wide)], 1)
    inner = slice(1, -1)
    # The weights of the new layer are rounded a few times as it is made, and once more here.
    assert_same(
        lambda: (old.conv_in(seen_before)[..., inner, inner], new.conv_in(seen_now)[..., inner, inner]),
    )


@pytest.mark.parametrize("bare", [False, True])
def test_half_of_what_is_drawn_of_every_noun_has_its_own_look_where_it_has_one(data, bare):
    records = read_index(json.loads((data / INDEX).read_text()))
    records = [dataclasses.replace(r, noun=f"noun {i}", toy=bare) for i, r in enumerate(records)]
    known = [Instance(noun=r.noun, key=r.key, luminance=[0.6] * 3) for r in records]
    buffers, features = (torch.from_numpy(np.load(data / name)) for name in (BUFFERS, FEATURES))
    plan = Rings(buffers, features, records=records, known=known, rings=[0, 1, 2], seed=0).plan(0, 900)
    own, shown = plan.tints.isnan().all(-1).all(-1), plan.numbers[plan.target]
    for number in range(len(known)):
        mine = own[shown == number].float()
        assert len(mine) > 200
        # Four deviations of a share of so many draws.
        assert (mine.mean() - (0.0 if bare else 0.5)).abs() <= (0.0 if bare else 4 * 0.5 / len(mine) ** 0.5)


def test_untrained_it_adds_nothing_to_the_linear_answer(data, warm):
    it = trainer(data, warm)
    loss, without = it.loss(it.batch(0))
    assert loss.item() == without.item() and loss.isfinite()


def test_the_network_gains(data, warm):
    it = trainer(data, warm)
    history = [it.train_step() for _ in range(40)]
    gain = [sum(step["loss"] / step["without"] for step in part) / 10 for part in (history[:10], history[-10:])]
    assert gain[1] < 0.95 < gain[0] * 1.05


def test_resuming_equals_not_stopping_bit_for_bit(data, warm, tmp_path):
    straight, stopped = trainer(data, warm), trainer(data, warm)
    for _ in range(3):
        straight.train_step()
    for _ in range(2):
        stopped.train_step()
    stopped.save(tmp_path)
    resumed = trainer(data, warm)
    resumed.restore(tmp_path)
    resumed.train_step()
    assert (resumed.step, resumed.images) == (3, 24)
    for name, p in straight.parameters.items():
        assert torch.equal(resumed.parameters[name], p), name
        assert torch.equal(resumed.average[name], straight.average[name]), name


def test_targets_have_the_distribution_by_which_the_features_are_blended(data, warm):
    """At the highest temperature the three candidates are alike, whichever is shown."""
    rings = Rings.open(data, data, seed=0)
    num = 300
    nan = torch.full((3, 3), torch.nan)
    ring = rings.ring([0, 1, 2], ring=0, tints=nan, logits=torch.zeros(3), target=0)
    mixed = mix(
        rings, together([ring] * num), noise_at(999, num=num, temperature=torch.inf), accuracy=ACCURACY,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    truth, known = rings.truth(ring, torch.arange(3)), rings.known_pictures(ring)
    which = torch.stack([(mixed.target[::4] - truth[k, 0]).abs().flatten(1).amax(1) == 0 for k in range(3)])
    assert which.sum().item() == num
    # Binomial with p = 1/3: five standard deviations.
    assert (which.float().mean(1) - 1 / 3).abs().max() < 5 * (2 / 9 / num) ** 0.5
    thirds = torch.full((3, 1), 1 / 3)
    assert_within(mixed.features[:4], known.mean(0), bound(lambda: blend(thirds, known[:, None])[0][0]))


def test_a_batch_blends_as_the_prior_does_ring_by_ring(data, warm):
    rings = Rings.open(data, data, seed=0)
    plan, noise = rings.plan(0, 5), noise_at(950, num=5, temperature=64.0)
    shown = rings.truth(plan, plan.target)
    known = rings.known_pictures(plan)
    scale = [x.view(-1, 1, 1, 1, 1) for x in (noise.alpha, noise.sigma)]
    xt = scale[0] * shown + scale[1] * torch.randn(shown.shape, generator=torch.Generator().manual_seed(0))
    weight = weigh(xt, known, plan, noise, accuracy=ACCURACY)
    mixed = mix(rings, plan, noise, accuracy=ACCURACY, generator=torch.Generator().manual_seed(0))
    assert torch.equal(mixed.xt, xt.flatten(0, 1))
    for ring in range(5):
        mine = plan.of_ring == ring

        def both(ring: int = ring, mine: torch.Tensor = mine) -> tuple[torch.Tensor, torch.Tensor]:
            found = infer_posterior(
                xt[ring, None], known[mine], accuracy=ACCURACY, alpha=noise.alpha[:1], sigma=noise.sigma[:1],
                logits=plan.logits[mine], temperature=64.0,
            )  # fmt: skip
            return found.weight[:, 0], weight[: int(mine.sum()), ring]

        assert_same(both)
        found = infer_posterior(
            xt[ring, None], known[mine], accuracy=ACCURACY, alpha=noise.alpha[:1], sigma=noise.sigma[:1],
            logits=plan.logits[mine], temperature=64.0,
        )  # fmt: skip
        rows = slice(4 * ring, 4 * ring + 4)
        likely = keep_likely(found.weight)
        for mine_of, theirs in (
            (mixed.features[rows], found.features[0]), (mixed.spread[rows], found.spread[0]),
            (mixed.between[rows], found.between[0]),
        ):  # fmt: skip
            # Sums of at most three candidates, whose weights differ by the error of a softmax.
            assert_within(mine_of, theirs, 64 * UNIT * (likely.amax() * theirs.abs() + UNIT))


def test_views_on_their_own_keep_their_candidates(data, warm):
    rings = Rings.open(data, data, seed=0)
    plan = rings.plan(2, 3)
    single = plan.single_views()
    assert len(single) == 12 and len(single.numbers) == 4 * len(plan.numbers)
    assert (single.of_ring.diff() >= 0).all()
    for ring in range(3):
        for view in range(4):
            here = single.of_ring == 4 * ring + view
            assert torch.equal(single.numbers[here], plan.numbers[plan.of_ring == ring])
            assert torch.equal(single.logits[here], plan.logits[plan.of_ring == ring])
    assert torch.equal(single.numbers[single.target], plan.numbers[plan.target].repeat_interleave(4))
    shown = [rings.known_pictures(p)[p.target].flatten(0, 1) for p in (single, plan)]
    assert torch.equal(*shown)
    assert torch.equal(rings.cameras(single).flatten(0, 1), rings.cameras(plan).flatten(0, 1))


def test_little_noise_leaves_the_shown_candidate_alone(data, warm):
    rings = Rings.open(data, data, seed=0)
    plan = rings.ring([0, 1, 2], ring=1, tints=torch.full((3, 3), torch.nan), logits=torch.zeros(3), target=2)
    noise = noise_at(300)
    shown = rings.truth(plan, plan.target)
    draw = torch.Generator().manual_seed(0)
    xt = noise.alpha * shown + noise.sigma * torch.randn(shown.shape, generator=draw)
    weight = weigh(xt, rings.known_pictures(plan), plan, noise, accuracy=ACCURACY)
    assert weight[2, 0] > 0.99


def test_the_expected_error_of_meshes_is_right_on_average(data, warm):
    """Least squares with a constant leaves no mean error where it was fitted, where no part of it was held at LEAST."""
    rings = Rings.open(data, data, seed=0)
    found = measure_accuracy(rings, draws=20)
    plans = [rings.plan(step, 1, stream="accuracy") for step in range(20)]
    drawn = [(rings.known_pictures(p), rings.truth(p, torch.arange(len(p.numbers)))) for p in plans]
    expected = torch.stack([found.variance(known).double().mean() for known, _ in drawn]).mean()
    wrong = torch.stack([(known - truth).square().double().mean() for known, truth in drawn]).mean()
    assert min(found.plain, found.inside, found.edge) > LEAST_ERROR
    # Each summand, none of them negative, comes from 16 operations in fp32 at most; they are summed in fp64.
    assert float(expected) == pytest.approx(float(wrong), rel=16 * UNIT)
    # Pictures of 16 pixels are not made smaller here, so all of the error is in them. The sum in fp32 may have any
    # order, and the root halves its error.
    assert found.coarse == pytest.approx(float(wrong) ** 0.5, rel=0.5 * drawn[0][0].numel() * UNIT)


def test_the_command_trains_goes_on_and_says_what_is_missing(data, warm, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(refine, "COARSE", 8)
    args = ["--corpus", str(data), "--features", str(data), "--warm-start", str(warm), "--batch", "8"]
    run = [*args, "--out", str(tmp_path / "run")]
    assert main([*run, "--max-images", "16"]) == 0
    assert main([*run, "--max-images", "24"]) == 0
    assert "step 2" in capsys.readouterr().out
    assert main([*args[:2], "--features", str(tmp_path), *args[4:], "--out", str(tmp_path / "none")]) == 1
    assert "holds no features.json" in capsys.readouterr().err and not (tmp_path / "none").exists()
    assert dataclasses.asdict(RefineConfig())["batch"] == 32
