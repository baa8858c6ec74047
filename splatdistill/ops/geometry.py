"""Plain torch geometry that renderer, files and the operators' references share; differentiable, any float dtype."""

from __future__ import annotations

import torch
from torch import Tensor

SH_C0 = 0.28209479177387814  # Y_0^0, the constant spherical harmonic


def camera_centre(viewmat: Tensor) -> Tensor:
    """[3], in the world, of a camera [4,4]."""
    return -torch.linalg.solve(viewmat[:3, :3], viewmat[:3, 3])


def sh_basis(direction: Tensor, degree: int) -> Tensor:
    """Real spherical harmonics of unit directions [...,3] up to `degree` 0..3, [..., (degree+1)^2], signs and order
    of 3DGS.
    """
    x, y, z = direction.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    basis = [torch.full_like(x, SH_C0)]
    if degree > 0:
        basis += [-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x]
    if degree > 1:
        basis += [1.0925484305920792 * x * y, -1.0925484305920792 * y * z, 0.31539156525252005 * (2 * zz - xx - yy)]
        basis += [-1.0925484305920792 * x * z, 0.5462742152960396 * (xx - yy)]
    if degree > 2:
        basis += [-0.5900435899266435 * y * (3 * xx - yy), 2.890611442640554 * x * y * z]
        basis += [-0.4570457994644658 * y * (4 * zz - xx - yy), 0.3731763325901154 * z * (2 * zz - 3 * xx - 3 * yy)]
        basis += [-0.4570457994644658 * x * (4 * zz - xx - yy), 1.445305721320277 * z * (xx - yy)]
        basis += [-0.5900435899266435 * x * (xx - 3 * yy)]
    return torch.stack(basis, -1)


def rotation_matrices(quats: Tensor) -> Tensor:
    """[N,4] wxyz of any norm to [N,3,3]."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1, eps=0).unbind(-1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
        torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1),
        torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1),
    ]
    return torch.stack(rows, -2)
