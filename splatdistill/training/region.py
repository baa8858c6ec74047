"""Which splats of a file may change: those in a box, those that a mask names, or all. N splats."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from splatdistill.config.schema import SplatsConfig
from splatdistill.io import formats
from splatdistill.io.frames import ball, concatenate, convert_frame, transform
from splatdistill.io.kinds import Assumptions
from splatdistill.io.runs import SPLATS
from splatdistill.scene.gaussians import INITS, Splats


def apart(splats: Splats, init: str, config: SplatsConfig, *, taken: Assumptions) -> tuple[Splats, Splats | None]:
    """The `splats` that began with the file `init`: those that may change, and those that may not, None for none of
    these. ValueError, one sentence, where the settings leave nothing to change or name what the file has not.
    """
    chosen = chosen_of(init, config, taken=taken)
    if chosen is None:
        return splats, None
    chosen = chosen.to(splats.device)
    return picked(splats, chosen), picked(splats, ~chosen)


def picked(splats: Splats, chosen: Tensor) -> Splats:
    """Those splats of N that a mask [N] of bool names, in their order."""
    return Splats(**{name: value[chosen] for name, value in splats.tensors.items()})


def chosen_of(init: str, config: SplatsConfig, *, taken: Assumptions) -> Tensor | None:
    """[N] bool, which splats of the file `init` may change, None for all of them."""
    if not config.box and not config.mask:
        return None
    if init in INITS or init.startswith("points:"):
        raise ValueError(f"splats.box and splats.mask choose among the splats of a file; init is {init!r}.")
    is_run = Path(init).is_dir()
    found = formats.open_file(Path(init) / SPLATS if is_run else Path(init), replace(taken, fit=False))
    chosen = torch.ones(len(found.splats), dtype=torch.bool)
    if config.box:
        theirs = convert_frame(found.splats, source="+y", target="+y" if is_run else found.up)
        chosen &= _inside(theirs.means, config.box)
    if config.mask:
        chosen &= _read_mask(Path(config.mask), count=len(chosen))
    if not chosen.any():
        raise ValueError(f"splats.{'box' if config.box else 'mask'}: none of the {len(chosen)} splats lies in it.")
    return chosen


def _inside(means: Tensor, box: tuple[float, ...]) -> Tensor:
    """[N] bool, which of means [N,3] lie in a box."""
    if len(box) != 6 or not np.isfinite(box).all():
        raise ValueError(
            f"splats.box must be six finite numbers, its lowest and its highest corner; it has {len(box)}."
        )
    low, high = (torch.tensor(corner, dtype=means.dtype) for corner in (box[:3], box[3:]))
    if not (low < high).all():
        raise ValueError(f"splats.box must be the lowest corner, then the highest; it is {', '.join(map(str, box))}.")
    return ((means >= low) & (means <= high)).all(-1)


def _read_mask(path: Path, *, count: int) -> Tensor:
    """[count] bool of a .npy file."""
    found: Any
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"splats.mask: {path} cannot be read as a .npy file of true and false.") from error
    if getattr(found, "dtype", None) != np.bool_ or found.ndim != 1:  # an archive of several has none
        raise ValueError(f"splats.mask: {path} must hold true or false for each splat, a list of type bool.")
    chosen = torch.from_numpy(found)  # pyright: ignore[reportUnknownMemberType]
    if len(chosen) != count:
        raise ValueError(f"splats.mask: {path} is of {len(chosen)} splats, and the file of --init has {count}.")
    return chosen


def placed(splats: Splats, *, radius: float) -> bool:
    """Whether the splats lie where the cameras look, a ball of `radius` (world units), and fill half of it."""
    middle, extent = ball(splats)
    return 0.5 * radius <= extent and float(middle.square().sum().sqrt()) + extent <= 1.2 * radius


def restored(before: Splats, after: Splats, chosen: Tensor | None, *, radius: float) -> Splats:
    """The splats of a file after a run: those that could not change as they were, bit for bit, then the others. before:
    N splats of the file, as it has them. after: those of the run, the ones that learned first. chosen: [N] bool, which
    could change, None for all. radius: of the ball that a run with `fit` made of them, 0 without.
    """
    learned = len(after) - (0 if chosen is None else int((~chosen).sum()))
    changed = Splats(**{name: value[:learned] for name, value in after.tensors.items()})
    if radius:
        middle, extent = ball(before)
        x, y, z = (float(v) for v in middle)
        changed = transform(changed, scale=extent / radius, translation=(x, y, z))
    return changed if chosen is None else concatenate([picked(before, ~chosen), changed])
