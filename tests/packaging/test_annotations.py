"""What a function asks for is what it reads, and it says so."""

from tests.packaging.annotations import takers
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
