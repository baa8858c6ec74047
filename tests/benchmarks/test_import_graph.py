"""The packages of splatdistill and the imports between them stay few, and nothing imports in a circle."""

import import_graph
import pytest


def test_few_packages_import_one_another_and_nothing_in_a_circle():
    counts, packages = import_graph.measure(None)
    assert counts["circles of modules"] == counts["circles of packages"] == []
    # About half of 47 and 188, the counts of commit 69a9e0c, from before the modules lay in packages.
    assert counts["packages"] == len(packages) <= 22
    assert counts["imports between packages"] == sum(map(len, packages.values())) <= 90


def test_an_import_is_found_however_it_is_written():
    known = {"splatdistill", "splatdistill.ops", "splatdistill.ops.update", "splatdistill.io"}
    for line, found in {
        "import splatdistill.io": {"splatdistill.io"},
        "from splatdistill import ops": {"splatdistill.ops"},
        "from splatdistill.ops import update": {"splatdistill.ops.update"},
        "from splatdistill.ops.update import check": {"splatdistill.ops.update"},
        "def late():\n    from . import update": {"splatdistill.ops.update"},
        "from ..io import ply": {"splatdistill.io"},
        "from splatdistill import __version__": set(),
        "import torch": set(),
    }.items():
        assert set(import_graph.imports("splatdistill.ops.densify", line, known)) == found, line


@pytest.mark.parametrize(
    ("edges", "found"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b"}, "b": {"c"}, "c": {"a"}}, [["a", "b", "c"]]),
        ({"a": {"b"}, "b": {"a", "c"}, "c": {"d"}, "d": {"c"}}, [["c", "d"], ["a", "b"]]),
        ({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}, []),
    ],
)
def test_circles_are_the_sets_that_reach_each_other(edges, found):
    assert import_graph.circles(edges) == found
