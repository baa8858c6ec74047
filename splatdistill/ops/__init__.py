"""Native operators, each with a pure torch twin in `reference`."""

from splatdistill.ops import reference
from splatdistill.ops._library import build_info
from splatdistill.ops.gradient import loss_with_gradient
from splatdistill.ops.gram import Gram, gram
from splatdistill.ops.rasterize import Raster, RasterInputs, RasterSettings, rasterize
from splatdistill.ops.residual import ResidualLoss, noising, residual

__all__ = [
    "Gram", "Raster", "RasterInputs", "RasterSettings", "ResidualLoss", "build_info", "gram", "loss_with_gradient",
    "noising", "rasterize", "reference", "residual",
]  # fmt: skip
