"""CUDA graphs without CUDA: a stand-in that records a call by keeping it, and does it again on the same memory. What is
recorded, what falls back, and that replays are what was there before. The real one is tested where there is a device.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from splatdistill.embedded.prior import architecture as network
from splatdistill.priors import engine as engines
from splatdistill.priors import load
from splatdistill.priors.embedded import MultiViewPrior
from splatdistill.priors.graph import MOST, NAME, Graph, Graphs, record
from tests.priors.test_embedded import noise, ring, steps, tiny
from tests.priors.test_lora import batch_of, learn, score_of

PROMPT = "a red car"


class Again:
    """A recording that is the call itself, whose answer lies where that of the recorded call did."""

    def __init__(self, call: Callable[[], Tensor]) -> None:
        for _ in range(3):  # as warm-up: a call that does harm when it is made again is found
            call()
        self.call, self.answer, self.replays = call, call(), 0
        self.answer.fill_(torch.nan)  # recording computes nothing

    def replay(self) -> None:
        self.replays += 1
        with torch.no_grad():
            self.answer.copy_(self.call())


class Recorder:
    def __init__(self) -> None:
        self.made: list[Again] = []

    def __call__(self, call: Callable[[], Tensor]) -> tuple[Graph, Tensor]:
        self.made.append(Again(call))
        return self.made[-1], self.made[-1].answer


def refuse(call: Callable[[], Tensor]) -> tuple[Graph, Tensor]:
    raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nand more")


def test_replays_are_the_call_on_inputs_that_lie_where_they_were_recorded() -> None:
    seen: list[int] = []

    def double(x: Tensor, y: Tensor, *, times: int) -> Tensor:
        seen.append(x.data_ptr())
        return times * x + y

    recorder = Recorder()
    graphs = Graphs(record=recorder)
    draw = torch.Generator().manual_seed(0)
    pairs = [(torch.randn(3, 2, generator=draw), torch.randn(2, generator=draw)) for _ in range(4)]
    before = [(x.clone(), y.clone()) for x, y in pairs]
    answers = [graphs.run(double, x, y, times=2) for x, y in pairs]
    for (x, y), (was_x, was_y), answer in zip(pairs, before, answers, strict=True):
        assert torch.equal(answer, 2 * was_x + was_y)  # all at the end: no replay wrote over an earlier answer
        assert torch.equal(x, was_x) and torch.equal(y, was_y)
    assert len(recorder.made) == 1 and recorder.made[0].replays == 4
    assert len(set(seen)) == 1 and seen[0] not in {x.data_ptr() for x, _ in pairs}


def test_shapes_orders_of_memory_types_and_settings_have_recordings_of_their_own() -> None:
    recorder = Recorder()
    graphs = Graphs(record=recorder)
    x = torch.arange(6.0).view(2, 3)
    for _ in range(2):
        for one, times in ((x, 1), (x, 2), (x[:1], 1), (x.t().contiguous().t(), 1), (x.double(), 1)):
            answer = graphs.run(lambda_free, one, times=times)
            assert torch.equal(answer, one * times) and answer.dtype == one.dtype
    assert [made.replays for made in recorder.made] == [2] * 5
    graphs.forget()
    graphs.run(lambda_free, x, times=1)
    assert len(recorder.made) == 6


def lambda_free(x: Tensor, *, times: int) -> Tensor:
    return x * times


def test_what_comes_after_the_first_shapes_is_called_as_it_is_with_one_note(capsys: Any) -> None:
    recorder = Recorder()
    graphs = Graphs(record=recorder)
    for rows in (*range(1, MOST + 4), 1):
        x = torch.ones(rows)
        assert torch.equal(graphs.run(lambda_free, x, times=3), 3 * x)
    assert len(recorder.made) == MOST and recorder.made[0].replays == 2
    assert capsys.readouterr().err.count("Note: ") == 1 and not graphs.failed


def test_a_recording_that_fails_is_told_once_and_never_tried_again(capsys: Any) -> None:
    prior = tiny()
    expected = prior.predict(noise(), steps(), [prior.embed(PROMPT, ring())])
    prior.graphs = Graphs(record=refuse)
    assert prior.network_engine == NAME
    for _ in range(2):
        found = prior.predict(noise(), steps(), [prior.embed(PROMPT, ring())])
        assert torch.equal(found[0], expected[0])
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "operation not permitted when stream is capturing)" in said
    assert prior.network_engine == "torch"


def test_a_fault_of_the_call_itself_is_not_hidden() -> None:
    def wrong(x: Tensor) -> Tensor:
        raise ValueError("no such thing")

    with pytest.raises(ValueError, match="no such thing"):
        Graphs(record=Recorder()).run(wrong, torch.ones(1))


def test_a_prior_predicts_with_graphs_what_it_predicts_without() -> None:
    """For each number of conditions and of views, with changing pictures, timesteps, cameras and words."""
    plain, recorded, recorder = tiny(), tiny(), Recorder()
    recorded.graphs = Graphs(record=recorder)
    for turn in range(3):
        for num in (4, 8):
            xt, t = noise(num) + turn, steps(num, 100 + 300 * turn)
            found = []
            for prior in (plain, recorded):
                conditions = [prior.embed(PROMPT if turn < 2 else "a dog", ring(num)), prior.embed("", ring(num))]
                conditions += [prior.embed("a car", None)]
                found.append([*prior.predict(xt, t, conditions[:2]), *prior.predict(xt, t, conditions[::-1])])
            assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert [made.replays for made in recorder.made] == [3] * 4


def test_a_second_score_learns_with_graphs_what_it_learns_without() -> None:
    """To the bit, over steps that log and steps that do not: replays read what the last step wrote."""
    states, answers = [], []
    recorder = Recorder()
    for recording in (False, True):
        prior = tiny()
        prior.graphs = Graphs(record=recorder) if recording else None
        score = score_of(prior)
        batch = batch_of(prior)
        prior.predict(batch.xt, batch.t, [prior.embed(PROMPT, ring())])
        for step in range(3):
            learn(score, batch, first=step, last=step + 1, measure=step == 1)
            answers.append(score.predict(batch, [True, False]))
        states.append(score.state_dict())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert all(
        torch.equal(a, b) for x, y in zip(answers[:3], answers[3:], strict=True) for a, b in zip(x, y, strict=True)
    )
    assert [made.replays for made in recorder.made] == [1, 3, 3]


def test_a_new_second_score_drops_what_was_recorded_with_the_last() -> None:
    prior, recorder = tiny(), Recorder()
    prior.graphs = Graphs(record=recorder)
    conditions = [prior.embed(PROMPT, ring())]
    before = prior.predict(noise(), steps(), conditions)[0]
    for _ in range(2):
        score_of(prior)
        assert torch.equal(prior.predict(noise(), steps(), conditions)[0], before)
    assert [made.replays for made in recorder.made] == [1, 1, 1]


def test_rows_in_chunks_are_not_recorded() -> None:
    prior, recorder = tiny(), Recorder()
    prior.graphs, prior.micro_batches.rows = Graphs(record=recorder), 4
    prior.predict(noise(8), steps(8), [prior.embed(PROMPT, ring(8))])
    assert recorder.made == []


def test_graphs_are_for_cuda_and_can_be_declined(tmp_path: Path, capsys: Any) -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda", 0)
    assert [engines.graphs(name, cuda) is not None for name in ("auto", NAME, "torch")] == [False, True, False]
    assert engines.graphs("auto", cpu) is None and capsys.readouterr().err == ""
    network.save(network.create(channels=(16, 32, 48), text_width=16), tmp_path / "prior", image_size=32)
    capsys.readouterr()
    prior = MultiViewPrior.load(tmp_path / "prior", dtype="fp32", engine=NAME)  # as a run that began on a GPU goes on
    assert prior.graphs is None and prior.network_engine == "torch"
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith("Note: network_engine: there are CUDA graphs on CUDA devices only")


@pytest.mark.gpu
def test_on_cuda_replays_answer_and_learn_as_torch_does() -> None:
    """A recording may choose other algorithms, so both are held against the CPU: they are no farther apart than each of
    them may be from the exact answer.
    """
    cuda, cpu = torch.device("cuda", torch.cuda.current_device()), torch.device("cpu")
    answers: dict[str, list[Tensor]] = {}
    for name, device in ((NAME, cuda), ("torch", cuda), ("cpu", cpu)):
        engine = "torch" if name == "cpu" else name
        prior = load("embedded", device=device, dtype="fp32", engine=engine)
        assert isinstance(prior, MultiViewPrior) and (prior.graphs is not None) == (name == NAME)
        found = answers[name] = []
        for turn in range(2):
            xt = torch.randn(4, 48, 16, 16, generator=torch.Generator().manual_seed(turn)).to(device)
            conditions = [prior.embed(PROMPT, ring()), prior.embed("", ring())]
            found += prior.predict(xt, steps(t=300 + 300 * turn).to(device), conditions)
        score: Any = score_of(prior, lr=1e-3)
        for step in range(2):
            x0 = torch.rand(4, 48, 16, 16, generator=torch.Generator().manual_seed(7 + step)).to(device)
            batch = batch_on(prior, x0)
            score.update(batch, seed=0, step=step, measure=False)
            if step == 0:  # later ones are of parameters that Adam has moved by the sign of rounding errors too
                found += [grad.clone() for grad in score._grads]
            found += [score.predict(batch, [True])[0]] if step == 0 else []
        assert prior.network_engine == engine
    for recorded, plain, exact in zip(*([x.cpu() for x in found] for found in answers.values()), strict=True):
        assert bool(torch.isfinite(recorded).all())
        assert (recorded - plain).norm() <= 2 * (plain - exact).norm() + 1e-6 * exact.norm()


def batch_on(prior: MultiViewPrior, x0: Tensor) -> Any:
    from splatdistill.guidance.base import noisy_batch

    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(2)).to(x0.device)
    return noisy_batch(x0, ring(), prior, t=steps().to(x0.device), eps=eps)


@pytest.mark.gpu
def test_on_cuda_a_call_that_cannot_be_recorded_falls_back(capsys: Any) -> None:
    def waits(x: Tensor) -> Tensor:
        return x * float(x.sum())

    x = torch.ones(3, device="cuda")
    graphs = Graphs(record=record)
    for _ in range(2):
        assert torch.equal(graphs.run(waits, x), 3 * x)
    assert graphs.failed and capsys.readouterr().err.count("Note: ") == 1
