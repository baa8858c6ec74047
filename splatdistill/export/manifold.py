"""Edges of two faces again, where simplifying laid parts of a closed surface onto each other. T triangles, M vertices.

Collapsing an edge keeps a closed surface closed in this sense: each edge is passed as often one way as the other. Any
choice of pairs of faces, one for each way, then makes a surface of it on which each edge has two faces (Guéziec et al.
2001, "Cutting and stitching"). Where two of its edges join the same two vertices, one gets a vertex in its middle.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np


def closed(points: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """points [M,3] and faces [T,3] of the same surface, in which each edge has two faces, one for each way. Vertices
    where parts only touch are there once for each part. ValueError where an edge is passed more often one way.
    """
    faces = without_folds(faces)
    if not len(faces):
        return points[:0], faces
    while True:
        forward, backward = _pairs(points, faces)
        points, faces = _cut(points, faces, forward, backward)
        edges = np.sort(_edges(faces)[forward], 1)
        _, which, times = np.unique(edges, axis=0, return_inverse=True, return_counts=True)
        crowded = np.flatnonzero(times[which.ravel()] > 1)
        if not len(crowded):
            return points, faces
        points, faces = _divided(points, faces, int(forward[crowded[0]]), int(backward[crowded[0]]))


def without_folds(faces: np.ndarray) -> np.ndarray:
    """faces [T,3] but for those that lie back to back, of the same three vertices: nothing is enclosed there. Faces of
    fewer than three vertices go too.
    """
    corners, which = np.unique(np.sort(faces, 1), axis=0, return_inverse=True)
    turned = (faces[:, 0] > faces[:, 1]) ^ (faces[:, 1] > faces[:, 2]) ^ (faces[:, 0] > faces[:, 2])
    net = np.zeros(len(corners), np.int64)
    np.add.at(net, which.ravel(), np.where(turned, -1, 1))
    net[(corners[:, 0] == corners[:, 1]) | (corners[:, 1] == corners[:, 2])] = 0
    kept = np.where((net < 0)[:, None], corners[:, ::-1], corners)
    return np.repeat(kept, np.abs(net), 0)


def _edges(faces: np.ndarray) -> np.ndarray:
    """[3T,2]: where each of the sides of the faces begins and ends."""
    return faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)


def _pairs(points: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two rows of sides [3T/2] that lie on each other, the first from the lower number to the higher. Where an edge has
    more than two faces, neighbours with the inside between them are paired, so that solids that touch come apart.
    """
    edges = _edges(faces)
    up = edges[:, 0] < edges[:, 1]
    _, which = np.unique(np.sort(edges, 1), axis=0, return_inverse=True)
    which = which.ravel()
    balance = np.zeros(which.max() + 1, np.int64)
    np.add.at(balance, which, np.where(up, 1, -1))
    if balance.any():
        raise ValueError("the surface has an edge that faces pass more often one way than the other.")
    rising = np.flatnonzero(up)
    first = rising[np.unique(which[rising], return_index=True)[1]]
    angle = _angles(points, edges, np.roll(faces, 1, axis=1).reshape(-1), first[which])
    order = np.lexsort((angle, which))
    return order[up[order]], order[~up[order]]


def _angles(points: np.ndarray, edges: np.ndarray, opposite: np.ndarray, first: np.ndarray) -> np.ndarray:
    """[3T] in 0..2 pi: the turn through the inside, about each side, from the face of the side `first` to its own."""
    low, high = points[edges.min(1)].astype(float), points[edges.max(1)].astype(float)
    axis = high - low
    axis /= np.linalg.norm(axis, axis=1, keepdims=True).clip(1e-30)
    arm = points[opposite] - low
    arm -= (arm * axis).sum(1, keepdims=True) * axis
    across = np.cross(arm, arm[first])
    return np.arctan2((across * axis).sum(1), (arm[first] * arm).sum(1)) % (2 * np.pi)


def _cut(
    points: np.ndarray, faces: np.ndarray, forward: np.ndarray, backward: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The surface with its faces joined along these pairs of sides and nowhere else."""
    sparse: Any = importlib.import_module("scipy.sparse")
    graphs: Any = importlib.import_module("scipy.sparse.csgraph")
    ends = np.arange(faces.size).reshape(-1, 3)[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)  # corners of each side
    one, other = ends[forward].ravel(), ends[backward][:, ::-1].ravel()
    joined = sparse.coo_matrix((np.ones(len(one)), (one, other)), shape=(faces.size, faces.size))
    _, label = graphs.connected_components(joined, directed=False)
    _, at = np.unique(label, return_index=True)
    return points[faces.ravel()[at]], label.reshape(-1, 3)


def _divided(points: np.ndarray, faces: np.ndarray, one: int, other: int) -> tuple[np.ndarray, np.ndarray]:
    """The surface with a vertex in the middle of the edge that these two sides lie on."""
    middle = len(points)
    points = np.concatenate([points, points[_edges(faces)[[one]]].mean(1)])
    added = faces[[one // 3, other // 3]]
    faces = faces.copy()
    for row, side in enumerate((one, other)):
        face, start = divmod(side, 3)
        faces[face, (start + 1) % 3] = middle
        added[row, start] = middle
    return points, np.concatenate([faces, added])
