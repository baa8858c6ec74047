"""USD, opened by OpenUSD itself: the schema, the values, and the package."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from splatdistill.io import formats
from splatdistill.io.kinds import FormatError
from tests.io.scenes import asymmetric
from tests.rounding import UNIT

pxr = pytest.importorskip("pxr")


@pytest.mark.parametrize("degree", range(4))
@pytest.mark.parametrize("kind", ["usda", "usdz"])
def test_openusd_finds_the_splats(tmp_path: Path, kind: str, degree: int) -> None:
    from pxr import Usd, UsdGeom, UsdVol

    splats = asymmetric(30, degree=degree)
    formats.write(tmp_path / f"a.{kind}", splats)
    stage = Usd.Stage.Open(str(tmp_path / f"a.{kind}"))
    assert UsdGeom.GetStageUpAxis(stage) == "Y" and UsdGeom.GetStageMetersPerUnit(stage) == 1
    prim = stage.GetDefaultPrim()
    assert prim.IsA(UsdVol.ParticleField3DGaussianSplat)
    field = UsdVol.ParticleField3DGaussianSplat(prim)
    values = {
        "positions": splats.means, "scales": splats.scales.exp(), "opacities": splats.opacities.sigmoid(),
        "radiance:sphericalHarmonicsCoefficients": torch.cat([splats.sh0, splats.shN], 1).reshape(-1, 3),
    }  # fmt: skip
    for name, wanted in values.items():
        found = np.array(prim.GetAttribute(name).Get())
        np.testing.assert_allclose(found, wanted.numpy(), rtol=8 * UNIT, atol=0, err_msg=name)
    turns = [[q.GetReal(), *q.GetImaginary()] for q in field.GetOrientationsAttr().Get()]
    np.testing.assert_allclose(turns, splats.quats.numpy(), rtol=0, atol=8 * UNIT)
    assert prim.GetAttribute("radiance:sphericalHarmonicsDegree").Get() == degree
    low, high = (np.array(corner) for corner in field.GetExtentAttr().Get())
    assert (low < splats.means.numpy().min(0)).all() and (high > splats.means.numpy().max(0)).all()
    known = set(prim.GetPrimDefinition().GetPropertyNames())
    assert {p.GetName() for p in prim.GetAuthoredProperties()} <= known  # nothing that the schema does not have


def test_a_package_is_stored_on_boundaries_of_64_bytes(tmp_path: Path) -> None:
    formats.write(tmp_path / "a.usdz", asymmetric(30))
    with zipfile.ZipFile(tmp_path / "a.usdz") as archive:
        (entry,) = archive.infolist()
        assert entry.compress_type == zipfile.ZIP_STORED
    header = (tmp_path / "a.usdz").read_bytes()[entry.header_offset :][:30]
    assert entry.filename == "splats.usda" and (30 + sum(struct.unpack_from("<HH", header, 26))) % 64 == 0


def test_usd_is_not_read(tmp_path: Path) -> None:
    for kind in ("usda", "usdz"):
        formats.write(tmp_path / f"a.{kind}", asymmetric(3))
        with pytest.raises(FormatError, match="is USD, which is written but not read"):
            formats.read(tmp_path / f"a.{kind}")
