"""Closed surfaces of which some vertices became one: what simplifying leaves."""

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st

from splatdistill.export.manifold import closed, without_folds

TETRAHEDRON = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])


def as_one(shape: trimesh.Trimesh, pairs: list[tuple[int, int]]) -> np.ndarray:
    """[T,3]: its faces with the second vertex of each pair replaced by the first."""
    faces = np.array(shape.faces)
    for kept, gone in pairs:
        faces[faces == gone] = kept
    return faces


def test_tetrahedra_at_an_edge_come_apart() -> None:
    points = np.array([[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 1, 0], [-1, 0, 0], [-1, -1, 0]], float)
    both = np.concatenate([TETRAHEDRON, np.array([0, 1, 4, 5])[TETRAHEDRON]])
    assert trimesh.Trimesh(points, TETRAHEDRON, process=False).volume > 0
    assert not trimesh.Trimesh(points, both, process=False).is_watertight  # four faces at the edge 0, 1
    made = trimesh.Trimesh(*closed(points, both), process=False)
    assert made.is_watertight and made.is_winding_consistent
    assert len(made.faces) == len(both) and made.body_count == 2


def test_an_edge_that_two_parts_share_gets_a_vertex_in_its_middle() -> None:
    """A torus of six tubes of three corners, an edge of which lies on one across the hole."""
    ring = trimesh.creation.torus(2.0, 0.5, major_sections=6, minor_sections=3)
    apart = [edge for edge in ring.edges_unique if ring.vertices[edge][0, 2] != ring.vertices[edge][1, 2]]
    one = apart[0]
    far = max(apart, key=lambda edge: np.linalg.norm(ring.vertices[edge].mean(0) - ring.vertices[one].mean(0)))
    faces = as_one(ring, list(zip(one, far, strict=True)))
    made = trimesh.Trimesh(*closed(ring.vertices, faces), process=False)
    assert made.is_watertight and made.is_winding_consistent


@given(st.lists(st.tuples(st.integers(0, 41), st.integers(0, 41)), max_size=60))
def test_whatever_became_one_each_edge_has_two_faces_again(pairs: list[tuple[int, int]]) -> None:
    ball = trimesh.creation.icosphere(1)
    faces = as_one(ball, pairs)
    points, made = closed(ball.vertices, faces)
    shape = trimesh.Trimesh(points, made, process=False)
    if not len(made):
        return
    assert shape.is_watertight and shape.is_winding_consistent
    # Neither folds nor the choice of pairs encloses anything: the volume is that of the faces as they came.
    a, b, c = ball.vertices[faces].transpose(1, 0, 2)
    # Some hundred terms of at most 1/6 with ten roundings in float64 each: 1e-13, in each of the two, and a half more.
    assert shape.volume == pytest.approx((a * np.cross(b, c)).sum() / 6, abs=3e-13)


def test_parts_that_touch_keep_a_vertex_each() -> None:
    points = np.array([[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 1, 0], [0, 0, -1], [-1, 0, 0], [-1, -1, 0]], float)
    both = np.concatenate([TETRAHEDRON, np.array([0, 4, 5, 6])[TETRAHEDRON[:, ::-1]]])
    shape = trimesh.Trimesh(*closed(points, both), process=False)
    assert len(shape.vertices) == len(points) + 1 and shape.body_count == 2 and shape.is_watertight


def test_a_whole_surface_stays_as_it_is() -> None:
    ball = trimesh.creation.icosphere(2)
    points, faces = closed(ball.vertices, ball.faces)
    assert len(points) == len(ball.vertices) and len(faces) == len(ball.faces)
    shape = trimesh.Trimesh(points, faces, process=False)
    # The same 320 terms in another order: 320 roundings in float64 of 1.1e-16 are 4e-14, in each of the two.
    assert (shape.volume, shape.area) == pytest.approx((ball.volume, ball.area), rel=1e-13)


def test_faces_back_to_back_are_left_out() -> None:
    # A fin of two triangles on an edge, each of them twice.
    fin = np.array([[0, 1, 4], [1, 0, 4], [1, 4, 5], [4, 1, 5]])

    def turned(faces: np.ndarray) -> set[tuple[int, ...]]:
        return {tuple(np.roll(face, -int(face.argmin()))) for face in faces}

    assert turned(without_folds(np.concatenate([TETRAHEDRON, fin]))) == turned(TETRAHEDRON)
    thrice = np.concatenate([TETRAHEDRON, TETRAHEDRON[:1], TETRAHEDRON[:1, ::-1]])
    assert turned(without_folds(thrice)) == turned(TETRAHEDRON) and len(without_folds(thrice)) == 4
    assert not len(without_folds(np.array([[1, 1, 2]])))


def test_an_open_surface_is_refused() -> None:
    with pytest.raises(ValueError, match="more often one way"):
        closed(np.eye(3), np.array([[0, 1, 2]]))
