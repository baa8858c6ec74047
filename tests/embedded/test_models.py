"""Models from a folder of GLB files: what is read, what is left out, and the table of them."""

from __future__ import annotations

import zipfile
from collections import Counter

import numpy as np
import pytest
import torch

from splatdistill.embedded.corpus.nouns import EVERY_NOUN, NOUNS, File, Noun, read_files, with_files
from splatdistill.scene.cameras import orbit

pytest.importorskip("embreex")
import trimesh

from splatdistill.embedded.corpus.build import _render_model, file_tasks
from splatdistill.embedded.corpus.meshes import glb_names, read_glb
from splatdistill.embedded.corpus.render import Caster


def row(name: str, **values) -> File:
    known = {"noun": "box", "front": 0.0, "parts": (), "licence": "CC0-1.0", "creator": "me", "source": "here"}
    return File(name, **{**known, **values})


def box(colours=((200, 30, 30), (30, 30, 200)), scale=(1.0, 0.5, 2.0)) -> bytes:
    """A box for each colour, one above the other."""
    scene = trimesh.Scene()
    for i, colour in enumerate(colours):
        part = trimesh.creation.box(extents=scale)
        part.apply_translation([0, i * scale[1], 0])
        material = trimesh.visual.material.PBRMaterial(baseColorFactor=[*colour, 255], name=f"part-{i}")
        part.visual = trimesh.visual.TextureVisuals(material=material)
        scene.add_geometry(part)
    return scene.export(file_type="glb")


def test_colours_are_as_the_file_has_them_and_the_model_fits_the_ball(tmp_path):
    (tmp_path / "box.glb").write_bytes(box())
    mesh = read_glb(tmp_path / "box.glb")
    assert np.linalg.norm(mesh.vertices, axis=1).max() == pytest.approx(1, abs=1e-6)  # where enclosing_ball stops
    colours = sorted((m.colour * 255).round().astype(int).tolist() for m in mesh.materials)
    assert colours == [[30, 30, 200], [200, 30, 30]]
    assert sorted(m.name for m in mesh.materials) == ["part-0", "part-1"]
    turned = read_glb(tmp_path, "box.glb", yaw_deg=90)
    np.testing.assert_allclose(np.ptp(turned.vertices, axis=0), np.ptp(mesh.vertices, axis=0)[[2, 1, 0]])


def test_what_cannot_be_used_is_named_left_out_and_counted(tmp_path, capsys):
    (tmp_path / "good.glb").write_bytes(box())
    (tmp_path / "unlisted.glb").write_bytes(box())
    (tmp_path / "broken.glb").write_bytes(box()[:90])
    (tmp_path / "text.glb").write_bytes(b"no model at all")
    empty = trimesh.Scene([trimesh.PointCloud(np.eye(3))]).export(file_type="glb")
    (tmp_path / "points.glb").write_bytes(empty)
    table = [row(n) for n in ("good.glb", "broken.glb", "text.glb", "points.glb", "absent.glb")]
    tasks = file_tasks(tmp_path, rings=1, table=table)
    assert [task.key for task in tasks] == ["models/good.glb"]
    said = capsys.readouterr().out
    for name in ("broken.glb cannot be read", "text.glb cannot be read", "points.glb holds no triangles"):
        assert f"left out: {name}" in said
    assert "left out: unlisted.glb has no row in models.csv." in said
    assert "5 files" in said and "1 read, 4 left out; 1 rows of the table have no file there." in said


def test_a_zip_archive_does_as_a_folder_does(tmp_path):
    path = tmp_path / "models.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("inside/box.glb", box())
    assert glb_names(path) == ["inside/box.glb"]
    (task,) = file_tasks(path, rings=2, table=[row("box.glb", parts=("lid", "body", ""), front=90.0)])
    cameras, views, shares, parts = _render_model(task, size=16, rays=1, seed=0)
    assert views.shape == (8, 16, 16, 8) and len(cameras) == 8 and parts == ["lid", "body", ""]
    assert shares[0] > shares[1] > 0 == shares[2]


@pytest.mark.parametrize(("made", "said"), [(None, "no folder and no zip archive"), ("folder", "holds no .glb file")])
def test_a_folder_without_models_is_one_sentence(tmp_path, made, said):
    if made:
        (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=said):
        glb_names(tmp_path / "empty")


def test_each_group_of_colours_has_a_paint_of_its_own(tmp_path):
    (tmp_path / "box.glb").write_bytes(
        box(colours=((200, 30, 30), (205, 35, 30), (30, 30, 200), (20, 200, 20), (9, 9, 9)))
    )
    mesh = read_glb(tmp_path / "box.glb")
    one = torch.ones(4)
    cameras = orbit(azimuth=torch.arange(4) * 1.57, elevation=one * 0.1, radius=one * 3.3, fovy=one * 0.66, size=24)
    paint, shares = Caster(mesh).choose_paint(cameras)
    # Two reds together show most, of the three others only two have a paint left.
    assert sorted(Counter(paint.tolist()).items()) == [(-1, 1), (0, 2), (1, 1), (2, 1)]
    assert shares == sorted(shares, reverse=True)
    view = Caster(mesh).gbuffer(cameras, paint=paint)
    assert (view[..., [4, 6, 7]].astype(int).sum(-1) <= 255 + 2).all()  # each rounded up by half a step at most


def test_the_table_names_each_file_once_with_its_licence():
    files = read_files()
    assert len({f.name for f in files}) == len(files) > 900
    assert all(f.noun == f.noun.strip().lower() and f.licence == "CC0-1.0" and f.creator and f.source for f in files)
    assert all(f.front in (0, 90, -90, 180) for f in files)


def test_nouns_of_both_tables_are_one():
    files = (row("sofa-09.glb", noun="sofa", front=90.0), row("yak.glb", noun="yak"))
    sofa, yak = with_files((Noun("sofa", ("S/1",), synonyms=("couch",)),), files)
    assert sofa.models == ("S/1", "models/sofa-09.glb@90") and sofa.synonyms == ("couch",)
    assert (yak.name, yak.models, yak.paintable) == ("yak", ("models/yak.glb@0",), True)
    assert len({n.name for n in EVERY_NOUN}) == len(EVERY_NOUN) > len(NOUNS)
