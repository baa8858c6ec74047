"""`bench --layouts`: the folders of T3Bench and GPTEval3D, read by the rules of their scorers.

T3Bench's run_eval_quality.py finds a mesh by glob and loads it with trimesh; GPTEval3D's T23DMethod lists the numbers
of prompts and opens `rgb_%d.png`. Both were read at the commits that the tests name.
"""

from __future__ import annotations

import glob
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image

from splatdistill import cli
from splatdistill.batch.plan import Job
from splatdistill.commands.layouts import LAYOUTS, SIDE, VIEWS
from splatdistill.config.schema import TrainConfig
from splatdistill.io import ply
from tests.clients.letter import SPACING, letter

PROMPT = "a letter F, it's coloured"
TOP, AXIS = 0.5, 0.6
"""How high the letter reaches, and how far its blue axis reaches to the front; world units."""


def jobs(*seeds: int) -> list[Job]:
    config = replace(TrainConfig(), prompt=PROMPT, method="sds", steps=30)
    return [Job(f"run-{seed}", replace(config, seed=seed), f"line {seed + 1}") for seed in seeds]


def written(name: str, tmp_path: Path, *seeds: int) -> Path:
    """The folder of a layout that holds the letter F once for each seed."""
    for job in jobs(*seeds):
        (tmp_path / "runs" / job.run).mkdir(parents=True, exist_ok=True)
        ply.write(tmp_path / "runs" / job.run / "splats.ply", letter())
    LAYOUTS[name].check(jobs(*seeds))
    return LAYOUTS[name].write(tmp_path, jobs(*seeds), runs=tmp_path / "runs", suite="prompt_single", device="cpu")


def test_t3bench_finds_a_coloured_mesh_with_z_up(tmp_path: Path) -> None:
    folder = written("t3bench", tmp_path, 0, 1)
    found: list[str] = []
    for method in ("sds_single", "sds-seed1_single"):  # THU-LYJ-Lab/T3Bench 0d0a84a, run_eval_quality.py
        pattern = f"outputs_mesh_t3/{method}/{PROMPT.replace(' ', '_')}*/save/it*-export/model.obj"
        found += glob.glob(pattern, root_dir=folder)
    assert len(found) == 2
    mesh: Any = trimesh.load(folder / found[0])
    assert mesh.visual.kind == "vertex" and mesh.is_watertight
    # Our up, +y, is their +z; our front, +z, their +x; a cell of the mesh's grid is a hundredth.
    vertices, colours = np.asarray(mesh.vertices), np.asarray(mesh.visual.vertex_colors)[:, :3] / 255
    assert vertices[:, 2].max() == pytest.approx(TOP, abs=SPACING)  # a splat reaches as far
    tip = vertices[:, 0] > AXIS - 0.1
    assert tip.any() and (colours[tip].argmax(1) == 2).all()  # the axis to the front is blue
    red = vertices[:, 1] > 0.45  # that to the right, our +x, their +y, is red
    assert red.any() and (colours[red].argmax(1) == 0).all()
    assert np.linalg.det(np.stack([vertices[tip].mean(0), vertices[red].mean(0), [0, 0, 1]])) > 0
    before = (folder / found[0]).stat().st_mtime_ns
    written("t3bench", tmp_path, 0, 1)
    assert (folder / found[0]).stat().st_mtime_ns == before


@pytest.mark.slow
def test_gpteval3d_reads_pictures_and_normals_once_round(tmp_path: Path) -> None:
    method = written("gpteval3d", tmp_path, 0) / "methods" / "sds"
    # 3DTopia/GPTEval3D 2a0a40a, gpteval3d/utils/t23d_tournament.py
    assert {int(name) for name in os.listdir(method)} == {0}
    for kind in ("rgb", "normal"):
        assert len(list(method.glob(f"0/0/{kind}_*.png"))) == VIEWS == 120
        for view in (0, VIEWS // 4, VIEWS - 1):
            with Image.open(method / "0" / "0" / f"{kind}_{view}.png") as file:
                assert file.size == (SIDE, SIDE) == (512, 512) and file.mode == "RGB"
    rgb, normal = (np.asarray(Image.open(method / "0" / "0" / f"{kind}_0.png")) / 255 for kind in ("rgb", "normal"))
    assert rgb[0, 0].tolist() == [1, 1, 1] and normal[0, 0].tolist() == [0, 0, 0]
    solid = normal.sum(-1) > 0
    # The first view is from the front: most of what it sees faces their +x, and the letter's stem stands on the left.
    assert np.median(normal[solid][:, 0]) > 0.8
    orange = solid & (rgb[..., 0] > 0.8) & (rgb[..., 2] < 0.3) & (rgb[..., 1] > 0.5)
    rows, columns = np.nonzero(orange)
    upper = rows < np.median(rows)
    assert columns[upper].mean() > columns[~upper].mean()  # its bars, above, point to the right


FAULTS = {
    "an unknown one": (("--layouts", "none"), "layouts: 'none' is unknown; the layouts are t3bench, gpteval3d."),
    "a prompt that names no folder": (("--layouts", "t3bench"), "T3Bench names folders after prompts, and 'either/or'"),
    "one place for two": (("--layouts", "gpteval3d"), "layouts: gpteval3d has one place for 2 runs, methods/sds/0/0"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_has_no_place_is_one_sentence_before_any_run(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    args, said = FAULTS[fault]
    grid = "grid: {steps: [4, 5]}" if fault == "one place for two" else ""
    Path("suite.yaml").write_text(f"prompts: [either/or]\n{grid}\n")
    assert cli.main(["bench", "suite.yaml", "--prior", "analytic", *args, "--out", "out"]) == cli.USAGE
    err = capsys.readouterr().err
    assert said in err and err.count("splatdistill: ") == 1
    assert not Path("out").exists()
