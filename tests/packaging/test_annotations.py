"""What a function asks for is what it reads, and it says so."""

from tests.packaging.annotations import docstrings, shapeless, takers
from tests.packaging.audit import ROOT, tracked


def _sources(*folders):
    paths = {path: str(path.relative_to(ROOT)) for path in tracked(".py")}
    return {name: path.read_text() for path, name in paths.items() if name.startswith(folders)}


def test_components_take_their_sections_and_not_all_settings():
    """Who takes all of a run's settings may read any of them. `config`, whose work is the whole, is left out."""
    sources = _sources("splatdistill/", "viewer/")
    found = [
        f"{path}:{where}"
        for path, source in sources.items()
        if not path.startswith("splatdistill/config/")
        for where in takers(source, "TrainConfig")
    ]
    assert 0 < len(found) <= 8, "\n".join(found)


def test_docstrings_state_the_shapes_of_tensors():
    """Of every function that takes or returns tensors; private ones of up to three lines need none."""
    sources = _sources("splatdistill/")
    documents = docstrings(sources.values())
    count, missed = 0, []
    for path, source in sources.items():
        some, found = shapeless(source, documents)
        count, missed = count + some, [*missed, *(f"{path}:{where}" for where in found)]
    share = 1 - len(missed) / count
    print(f"{share:.1%} of {count} tensor functions", *missed, sep="\n")
    assert count > 200 and share >= 0.95


def test_the_audit_finds_who_takes_a_value():
    source = """
def plain(a: TrainConfig): ...
def keyword(*, a: TrainConfig | None = None): ...
def many(a: Sequence[TrainConfig]): ...
async def later(a: "schema.TrainConfig"): ...
class A:
    def method(self, a: schema.TrainConfig): ...
def a_class(a: type[TrainConfig]): ...
def a_maker(a: Callable[[str], TrainConfig]): ...
def returns() -> TrainConfig: ...
def another(a: TrainConfigs): ...
"""
    found = [where.partition(": ")[2] for where in takers(source, "TrainConfig")]
    assert found == ["plain", "keyword", "many", "later", "method"]


def test_the_audit_finds_docstrings_without_shapes():
    source = """
def good(x: Tensor) -> Tensor:
    'x [V,3] to [V].'
def several(x: Tensor, t: Tensor) -> Tensor:
    'Like x [V,3]; t: [V].'
def left_out(x: Tensor, t: Tensor) -> Tensor:
    'Like x [V,3], at t.'
def silent(x: Tensor): ...
def referring(x: Tensor):
    'As `good`, in place.'
def sequences(x: list[torch.Tensor] | None):
    'Adds x up.'
def of_a_file(x: dict[str, Tensor]):
    'Writes x.'
def _short(x: Tensor):
    return x + 1
class Plan(Protocol):
    def make(self, x: Tensor):
        'x: [N,3].'
class A(Base):
    def make(self, x: Tensor): ...
    def forward(self, x: Tensor): ...
"""
    count, missed = shapeless(source, docstrings([source]))
    assert count == 9
    assert [where.partition(": ")[2] for where in missed] == [
        "left_out: t", "silent: x", "sequences: x", "forward: x"
    ]  # fmt: skip
