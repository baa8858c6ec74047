"""Any bytes give a result or one sentence of our own. `make soak` does the same with atheris, and takes the time."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from splatdistill.config.schema import METHODS, TrainConfig
from tests.security import hostile
from tests.security.fuzz import SEEDS, TARGETS

BAD = [pytest.param(target, data, id=f"{target}: {name}") for target, name, data in hostile.files()]
SEED_BYTES = {target: [path.read_bytes() for path in sorted((SEEDS / target).iterdir())] for target in TARGETS}


@pytest.mark.parametrize("target", TARGETS)
def test_good_seeds_are_accepted_and_the_others_refused(target: str) -> None:
    for path in (SEEDS / target).iterdir():
        assert TARGETS[target](path.read_bytes()) == path.name.startswith("good"), path.name


@pytest.mark.parametrize(("target", "data"), BAD)
def test_costly_files_are_refused(target: str, data: bytes) -> None:
    assert not TARGETS[target](data)


@pytest.mark.parametrize("target", [name for name in TARGETS if name not in ("ply", "prompt")])  # those: tests/io
@settings(max_examples=60)
@given(data=st.data())
def test_any_change_of_a_seed_gives_a_result_or_a_sentence(target: str, data: st.DataObject) -> None:
    raw = bytearray(data.draw(st.sampled_from(SEED_BYTES[target])))
    for _ in range(data.draw(st.integers(1, 4))):
        at, cut = data.draw(st.integers(0, len(raw))), data.draw(st.integers(0, 12))
        raw[at : at + cut] = data.draw(
            st.binary(max_size=12) | st.sampled_from([b"9" * 9, b"\n", b": ", b"[", b"1e400"])
        )
    assert TARGETS[target](bytes(raw)) in (True, False)


@settings(max_examples=200)
@given(text=st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: raw.decode("utf-8", "surrogateescape")))
def test_any_prompt_is_data(text: str) -> None:
    assert TARGETS["prompt"](text.encode("utf-8", "surrogatepass")) in (True, False)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates()
VALUES = st.recursive(
    SCALARS, lambda x: st.lists(x, max_size=3) | st.dictionaries(SCALARS, x, max_size=2), max_leaves=4
)


def _names(kind: Any) -> st.SearchStrategy[dict[Any, Any]]:
    """Settings by their right names, mostly, with any values, mostly wrong ones."""
    fields = {
        field.name: _names(type(value)) | VALUES if dataclasses.is_dataclass(value) else VALUES
        for field in dataclasses.fields(kind)
        for value in [getattr(kind(), field.name)]
    }
    fields |= {"method": st.sampled_from(METHODS)} if "method" in fields else {}
    return st.fixed_dictionaries({}, optional={name: value for name, value in fields.items()})


@settings(max_examples=100)
@given(values=_names(TrainConfig))
def test_any_settings_are_taken_or_explained(values: dict[Any, Any]) -> None:
    assert TARGETS["config"](yaml.safe_dump(values, allow_unicode=True).encode("utf-8", "surrogatepass")) in (
        True,
        False,
    )
