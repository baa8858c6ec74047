"""What a prior's folder says about the cameras it was trained on. No torch here, so that asking is instant."""

from __future__ import annotations

import json
from pathlib import Path

from splatdistill.config.schema import CameraConfig
from splatdistill.priors.vocabulary import META_FILE


def check_group(num_views: int, *, group: int, supports_single_view_cameras: bool) -> None:
    """ValueError when a prior that sees `num_views` views jointly gets groups of another size, or single views if it
    does not know cameras of those. group: camera.views_per_group, of a method that scores groups.
    """
    allowed = (num_views, 1) if supports_single_view_cameras else (num_views,)
    if num_views != 1 and group not in allowed:
        alone = " (or 1)" if supports_single_view_cameras else ""
        raise ValueError(
            f"camera.views_per_group must be {num_views}, the number of views that this prior sees at once{alone}; it "
            f"is {group}."
        )


def about_cameras(folder: Path, camera: CameraConfig, *, grouped: bool) -> list[str]:
    """Plain sentences about cameras that the prior has not seen; ValueError when its views cannot be grouped so.
    grouped: whether the method scores views in groups, or each on its own.
    """
    meta = json.loads((folder / META_FILE).read_text(encoding="utf-8"))
    if grouped:  # this kind of folder always supports single views
        check_group(meta.get("num_views", 1), group=camera.views_per_group, supports_single_view_cameras=True)
    trained = meta.get("cameras", {})
    if camera.kind == "outward":
        return ["camera.kind outward needs a prior trained on scenes; this one may know objects only."]
    # Elevations further out were rare in training, but they were there.
    seen = {"elevation_deg": "elevation_deg_rare", "fovy_deg": "fovy_deg", "fill": "fill"}
    found = []
    for name, key in seen.items():
        low, high = (x * camera.zoom if name == "fill" else x for x in getattr(camera, name))
        if key in trained and not (trained[key][0] <= low and high <= trained[key][1]):
            first, last = trained[key]
            found.append(
                f"camera.{name} ({low:g} to {high:g}) leaves what this prior was trained on ({first:g} to {last:g}); "
                "it may not know such views."
            )
    return found
