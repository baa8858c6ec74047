"""The drawings of docs/figures, from the code that they explain: `make figures` draws them again.

Axes and cameras come from scene.cameras, ranges of timesteps from guidance.schedules with each method's own settings,
and badges from pyproject.toml. SVG keeps text as text, so a test can compare what the drawings say.
"""

from __future__ import annotations

import argparse
import math
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from common import ROOT

import splatdistill
from splatdistill.config.base import AnnealedConfig
from splatdistill.config.presets import load
from splatdistill.config.schema import METHODS, CameraConfig
from splatdistill.guidance.schedules import timestep_range
from splatdistill.scene import cameras
from splatdistill.utils import rng

FOLDER = ROOT / "docs" / "figures"
STEPS = 150  # whose cameras are drawn
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "splatdistill", "font.size": 10, "font.family": "sans-serif",
    "axes.spines.top": False, "axes.spines.right": False,
}  # fmt: skip
RED, GREEN, BLUE, GRAY = "#c0392b", "#27853f", "#2b62c0", "0.45"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FOLDER)
    draw_all(parser.parse_args().out)


def draw_all(out: Path) -> None:
    """Writes every drawing into the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    drawings: dict[str, Callable[[Path], None]] = {
        "axes": axes, "cameras": training_cameras, "timesteps": timesteps, "guidance": guidance
    }  # fmt: skip
    for name, drawing in drawings.items():
        with plt.rc_context(STYLE):
            drawing(out / f"{name}.svg")
    for name, (label, value) in badges().items():
        (out / f"badge-{name}.svg").write_text(badge(label, value))


def save(figure: Any, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None, "Creator": None}, bbox_inches="tight")
    plt.close(figure)


def axes(path: Path) -> None:
    """World axes, and where `orbit` puts cameras of four azimuths."""
    figure = plt.figure(figsize=(7.0, 4.6))
    space: Any = figure.add_subplot(projection="3d", computed_zorder=False)
    for color, direction, label in (
        (RED, (1, 0, 0), "+x"),
        (GREEN, (0, 1, 0), "+y, up"),
        (BLUE, (0, 0, 1), "+z, front"),
    ):
        tip = 1.3 * np.array(direction)
        space.quiver(0, 0, 0, *plot_order(tip), color=color, linewidth=2.5, arrow_length_ratio=0.12)
        space.text(*plot_order(1.1 * tip), label, color=color, fontsize=12)
    for degrees in (0, 90, 180, -90):
        eye, forward = camera_at(degrees)
        space.scatter(*plot_order(eye), color="0.2", s=40, marker="s")
        space.quiver(*plot_order(eye), *plot_order(0.55 * forward), color="0.2", linewidth=1.2)
        space.text(*plot_order(1.16 * eye), f"azimuth {degrees}°", fontsize=9, ha="center")
    turn = np.linspace(0, 2 * math.pi, 73)
    space.plot(*plot_order(2.2 * np.stack([np.sin(turn), 0 * turn, np.cos(turn)])), color="0.7", linewidth=0.8)
    space.set(xlim=(-1.7, 1.7), ylim=(-1.7, 1.7), zlim=(-0.6, 1.4))
    space.set_box_aspect((1.7, 1.7, 1), zoom=0.95)
    space.view_init(elev=24, azim=-62)
    space.set_axis_off()
    save(figure, path)


def plot_order(point: Any) -> Any:
    """World x, y, z as matplotlib's axes, whose third one points up: x to the right, z towards the reader."""
    return np.stack([point[0], -np.asarray(point[2]), point[1]])


def camera_at(degrees: float) -> tuple[Any, Any]:
    """Place and direction of the camera that `orbit` puts at an azimuth, elevation 0 and distance 2.2."""
    one = torch.ones(1)
    camera = cameras.orbit(azimuth=one * math.radians(degrees), elevation=0 * one, radius=2.2 * one, fovy=one, size=64)
    to_world = torch.linalg.inv(camera.viewmats[0])
    return to_world[:3, 3].numpy(), to_world[:3, 2].numpy()


def training_cameras(path: Path) -> None:
    """Azimuth and elevation of the cameras of a default run's first steps; one group is marked."""
    config = CameraConfig()
    drawn = [
        cameras.sample(config, num_views=4, size=64, generator=rng.generator(0, step, "camera"))
        for step in range(STEPS)
    ]
    figure, plot = plt.subplots(figsize=(6.4, 2.9), layout="constrained")
    azimuth, elevation = (
        np.degrees(torch.cat([getattr(views, name) for views in drawn]).numpy()) for name in ("azimuth", "elevation")
    )
    plot.scatter(azimuth, elevation, s=7, color="0.7", label=f"cameras of {STEPS} steps")
    plot.scatter(azimuth[:4], elevation[:4], s=60, color=RED, label="one step: a group of four views")
    plot.set(xlabel="azimuth, degrees", ylabel="elevation, degrees", xlim=(-185, 185), xticks=range(-180, 181, 45))
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    save(figure, path)


def timesteps(path: Path) -> None:
    """Where each method draws timesteps, with the defaults of the code and those of the shipped prior."""
    figure, panels = plt.subplots(1, 2, figsize=(7.6, 3.1), sharey=True, layout="constrained")
    progress = np.linspace(0, 1, 101)
    for panel, (prior, family) in zip(panels, (("sd15", "latent-512"), ("embedded", "embedded")), strict=True):
        seen: dict[tuple[Any, ...], list[str]] = {}
        for method in METHODS[:6]:  # the others are variants
            try:
                config = getattr(load(method, family=family)[0], method)
            except ValueError:  # this family cannot teach by it
                continue
            if isinstance(config, AnnealedConfig):
                ends = [timestep_range(config, progress=float(x)) for x in progress]
                seen.setdefault(tuple(ends), []).append(method)
        for color, (ends, names) in zip((BLUE, RED, GREEN, GRAY), seen.items(), strict=False):
            low, high = np.array(ends).T
            panel.fill_between(progress, low, high, alpha=0.14, color=color, linewidth=0)
            panel.plot(progress, high, color=color, label=", ".join(names))
            panel.plot(progress, low, color=color)
        panel.set(xlabel="part of the run that is done", xlim=(0, 1), ylim=(0, 1), title=f"--prior {prior}")
        panel.legend(frameon=False, fontsize=8)
    panels[0].set_ylabel("timestep / 1000")
    save(figure, path)


def guidance(path: Path) -> None:
    """The line through both scores, with the scale in both ways of writing."""
    figure, plot = plt.subplots(figsize=(8.4, 2.3))
    uncond, cond = np.array([0.0, 0.0]), np.array([1.0, 0.2])
    ends = [uncond + s * (cond - uncond) for s in (-0.3, 4.4)]
    plot.plot(*np.transpose(ends), color="0.75", linewidth=1)
    for s, name in ((0, "unconditional"), (1, "conditional"), (2, ""), (4, "guided")):
        x, y = uncond + s * (cond - uncond)
        plot.scatter(x, y, s=55, color=RED if s > 1 else BLUE, zorder=3)
        plot.annotate(
            f"s = {s}, w = {s - 1}\n{name}", (x, y), (0, -12), textcoords="offset points", va="top", fontsize=9
        )
    plot.set(xlim=(-0.6, 5.4), ylim=(-0.75, 1.4))
    plot.set_axis_off()
    save(figure, path)


def badges() -> dict[str, tuple[str, str]]:
    """What is true of the package, from its own files: name of the badge, label and value."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    torch_range = next(wanted for wanted in project["dependencies"] if wanted.startswith("torch"))
    platform = next(c.rpartition(" ")[2] for c in project["classifiers"] if c.startswith("Operating System"))
    return {
        "version": ("version", splatdistill.__version__),
        "python": ("python", project["requires-python"]),
        "torch": ("torch", torch_range.removeprefix("torch")),
        "platform": ("platform", platform),
        "licence": ("licence", project["license"]),
    }


def badge(label: str, value: str) -> str:
    """An SVG of one line: label on gray, value on blue."""
    left, right = (7 * len(text) + 12 for text in (label, value))
    shown = value.replace(">", "&gt;")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" '
        f'aria-label="{label}: {shown}"><title>{label}: {shown}</title>'
        f'<rect width="{left + right}" height="20" rx="3" fill="#2b62c0"/><rect width="{left}" height="20" rx="3" '
        f'fill="#555"/><g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">'
        f'<text x="{left / 2:g}" y="14">{label}</text><text x="{left + right / 2:g}" y="14">{shown}</text></g></svg>\n'
    )


if __name__ == "__main__":
    main()
