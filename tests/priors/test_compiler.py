"""torch.compile as an engine: what is compiled, what it says, and what happens where it cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from splatdistill.priors import compiler, load
from splatdistill.priors import engine as engines
from splatdistill.priors.compiler import COST, NAME, Compiled
from splatdistill.priors.embedded import MultiViewPrior
from tests.priors.test_embedded import noise, ring, steps, tiny
from tests.priors.test_lora import batch_of, learn, score_of
from tests.rounding import assert_within, bound

PROMPT = "a red car"
CPU = torch.device("cpu")


def ask(prior: MultiViewPrior, num: int = 4) -> Tensor:
    conditions = [prior.embed(PROMPT, ring(num)), prior.embed("", ring(num)), prior.embed("a car", None)]
    return torch.cat(prior.predict(noise(num), steps(num), conditions))


class Backend:
    """A compiler that changes nothing, and counts what it is given and how often that runs."""

    def __init__(self) -> None:
        self.compiled = self.runs = 0

    def __call__(self, module: Any, inputs: Any) -> Any:
        self.compiled += 1

        def run(*given: Any) -> Any:
            self.runs += 1
            return module(*given)

        return run


def refuse(module: Any, inputs: Any) -> Any:
    raise RuntimeError("no such compiler\nand more")


def test_predictions_are_those_of_the_network_and_its_cost_is_told_once_before(capsys: Any) -> None:
    """Traced operations are the network's own, so the bits are too; each set of shapes is compiled once."""
    prior, backend = tiny(), Backend()
    expected = [ask(prior), ask(prior, 8)]
    prior.compiled = Compiled(prior.network, backend=backend)
    assert (prior.network_engine, capsys.readouterr().err) == (NAME, "")
    assert torch.equal(ask(prior), expected[0])
    assert capsys.readouterr().err == f"{COST}\n"
    of_one_shape = backend.compiled
    for _ in range(2):
        assert torch.equal(ask(prior), expected[0])
    assert backend.compiled == of_one_shape and backend.runs == 3 * of_one_shape
    assert torch.equal(ask(prior, 8), expected[1]) and backend.compiled == 2 * of_one_shape
    assert prior.network_engine == NAME and capsys.readouterr().err == ""


def test_the_second_score_learns_on_the_network_itself() -> None:
    """To the bit; and the adapters are not heard by the predictions."""
    plain, changed, backend = tiny(), tiny(), Backend()
    changed.compiled = Compiled(changed.network, backend=backend)
    before, states = ask(changed), []
    runs = backend.runs
    for prior in (plain, changed):
        score = score_of(prior)
        learn(score, batch_of(prior), first=0, last=2)
        states.append(score.state_dict())
    assert backend.runs == runs
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert torch.equal(ask(changed), before) and torch.equal(ask(plain), before)


def test_what_cannot_be_compiled_runs_as_it_is_with_one_note(capsys: Any) -> None:
    prior = tiny()
    expected = ask(prior)
    prior.compiled = Compiled(prior.network, backend=refuse)
    for _ in range(2):
        assert torch.equal(ask(prior), expected)
    first, second = capsys.readouterr().err.splitlines()
    assert first == COST
    assert second == "Note: the network runs as it is, because torch cannot compile it (no such compiler)."
    assert prior.network_engine == "torch"


class Faulty(nn.Module):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def forward(self, x: Tensor) -> Tensor:
        raise self.error


@pytest.mark.parametrize("error", [ValueError("wrong"), RuntimeError("worse"), torch.OutOfMemoryError("out of memory")])
def test_an_error_of_the_network_itself_is_raised_and_no_reason_to_give_up(error: Exception, capsys: Any) -> None:
    """Memory that ran out means fewer rows, for the code as for the network."""
    network = Compiled(Faulty(error), backend="eager")
    with pytest.raises(type(error), match=str(error)):
        network(torch.ones(1))
    assert not network.failed and capsys.readouterr().err == f"{COST}\n"


def test_memory_that_runs_out_in_the_code_is_not_hidden() -> None:
    def backend(module: Any, inputs: Any) -> Any:
        def run(*given: Any) -> Any:
            raise torch.OutOfMemoryError("out of memory")

        return run

    network = Compiled(nn.Linear(2, 2), backend=backend)
    with pytest.raises(torch.OutOfMemoryError), torch.no_grad():
        network(torch.ones(1, 2))
    assert not network.failed


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd15", "sd3"])
def test_models_of_diffusers_folders_are_compiled_too(folders: dict[str, Path], family: str) -> None:
    answers = []
    for engine in ("torch", NAME):
        prior: Any = load(str(folders[family]), device=CPU, dtype="fp32", engine=engine)
        assert prior.network_engine == engine
        if engine == NAME:
            assert prior.compiled._backend == "inductor"
            prior.compiled = Compiled(prior.network, backend=(backend := Backend()))
        x0 = prior.encode(torch.rand(2, 16, 16, 3, generator=torch.Generator().manual_seed(0)))
        conditions = [prior.embed("ab", None), prior.embed("", None)]
        answers.append(torch.cat(prior.predict(x0, steps(2), conditions)))
    assert torch.equal(*answers) and backend.runs > 0


def test_priors_that_are_no_network_on_the_device_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^network_engine: compile is for priors that are one network, [^\n]*\.$"):
        load("analytic", device=CPU, dtype="fp32", engine=NAME)
    prior = tiny()
    assert engines.compiled("torch", prior) is None
    prior.offloaded = True
    with pytest.raises(ValueError, match=r"^network_engine: compile needs the whole network on the device, [^\n]*\.$"):
        engines.compiled(NAME, prior)


def test_the_embedded_prior_takes_it_in_place_of_packed_weights() -> None:
    prior: Any = load("embedded", device=CPU, dtype="fp32", engine=NAME)
    assert prior.network_engine == NAME and {4, 8} == set(prior.refiner.engines)


@pytest.mark.slow
def test_with_the_default_backend_answers_agree_but_for_rounding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """In fp32, where it adds up in another order. Where there is no C++ compiler it must say so and go on."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    prior = tiny()
    expected, rounding = ask(prior), 2 * bound(lambda: ask(tiny()), samples=2).max()
    prior.compiled = Compiled(prior.network)
    assert_within(ask(prior), expected, rounding)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == compiler.COST and (len(said) == 1) == (prior.network_engine == NAME)


@pytest.mark.slow
def test_without_a_cpp_compiler_there_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    import torch._inductor.config as inductor

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(inductor.cpp, "cxx", (None, str(tmp_path / "no-compiler")))
    network = nn.Sequential(nn.Linear(5, 7), nn.SiLU()).requires_grad_(False)
    x = torch.rand(3, 5)
    made = Compiled(network)
    assert torch.equal(made(x), network(x)) and made.failed
    assert capsys.readouterr().err.count("Note: the network runs as it is, because torch cannot compile it (") == 1
