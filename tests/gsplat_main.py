"""The parameters of `gsplat.rasterization` on gsplat's main branch, as names and defaults: what 1.6 will be made of.

Read at commit 2a907639c1777c68f48c4a792232714d8e8cb854 of nerfstudio-project/gsplat. Take a newer one when it is there.
"""

from __future__ import annotations

from inspect import Parameter, Signature
from typing import Any

REQUIRED: Any = Parameter.empty
PARAMETERS: dict[str, Any] = {
    **dict.fromkeys("means quats scales opacities colors viewmats Ks width height".split(), REQUIRED),
    "near_plane": 0.01, "far_plane": 1e10, "radius_clip": 0.0, "eps2d": 0.3, "sh_degree": None, "packed": True,
    "tile_size": None, "backgrounds": None, "render_mode": "RGB", "sparse_grad": False, "absgrad": False,
    "rasterize_mode": "classic", "channel_chunk": 32, "distributed": False, "camera_model": "pinhole",
    "segmented": False, "covars": None, "with_ut": False, "with_eval3d": False, "return_normals": False,
    "global_z_order": True, "rays": None, "radial_coeffs": None, "tangential_coeffs": None,
    "thin_prism_coeffs": None, "ftheta_coeffs": None, "lidar_coeffs": None, "external_distortion_coeffs": None,
    "rolling_shutter": "GLOBAL", "viewmats_rs": None, "ut_params": None, "extra_signals": None,
    "extra_signals_sh_degree": None, "renderer_config": None,
}  # fmt: skip
SIGNATURE = Signature(
    [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=value) for name, value in PARAMETERS.items()]
)
