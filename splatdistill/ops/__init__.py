"""Native operators, each with a pure torch twin in `reference`."""

from splatdistill.ops import reference
from splatdistill.ops._library import build_info
from splatdistill.ops.gradient import loss_with_gradient
from splatdistill.ops.products import Products, products
from splatdistill.ops.rasterize import Raster, RasterInputs, RasterSettings, rasterize
from splatdistill.ops.residual import ResidualLoss, noising, residual

__all__ = [
    "Products", "Raster", "RasterInputs", "RasterSettings", "ResidualLoss", "build_info", "loss_with_gradient",
    "noising", "products", "rasterize", "reference", "residual",
]  # fmt: skip
