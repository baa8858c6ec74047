"""What `edit` and `refine` reach on the shipped prior: colours, other models of a noun, and damaged objects.

    python benchmarks/editing.py --json benchmarks/results/editing.json --picture benchmarks/results/editing.jpg

The sources are splats on the surfaces of the prior's own models, in its paint: no training makes them, and what an edit
should come to is known. Three parts, each of which `--parts` can name alone:

  colour  ten objects in another colour, all above a quarter of their height (a box). `hue`: degrees between the mean
          colour of what changes and that of the same model painted so. `silhouette_iou`, and whether every splat
          outside of the box has the bits that it had.
  shape   five objects become another model of their noun. `nearer`: by how many dB the result is nearer to that one.
  refine  ten objects with noise, blur, or half of their splats: PSNR to the model itself and the outside judge's mass,
          before and after.
"""

from __future__ import annotations

import argparse
import colorsys
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import commit, machine, progress
from PIL import Image
from torch import Tensor

from splatdistill import cli, priors
from splatdistill.config.presets import load
from splatdistill.evaluate import NUM_VIEWS
from splatdistill.evaluate.change import SIDE, looked_at, psnr_of_views
from splatdistill.evaluate.external import ImageNet
from splatdistill.io import formats
from splatdistill.ops.geometry import SH_C0
from splatdistill.priors.base import Choice
from splatdistill.priors.gbuffer import paint
from splatdistill.priors.sampling import ring
from splatdistill.rendering.renderer import make_renderer
from splatdistill.scene.cameras import turntable
from splatdistill.scene.gaussians import FIELDS, Splats

CPU = torch.device("cpu")
COLOURS = (
    ("armchair", "red", "blue"), ("car", "blue", "red"), ("lamp", "green", "purple"), ("mug", "red", "green"),
    ("teapot", "yellow", "blue"), ("vase", "blue", "orange"), ("sofa", "purple", "green"), ("bus", "yellow", "red"),
    ("chair", "green", "red"), ("table", "red", "blue"),
)  # fmt: skip
SHAPES = ("armchair", "car", "lamp", "chair", "table")
KINDS = ("noise", "blur", "half")
NEAR = 30.0  # degrees of hue: half of the way from one of six colours to the next


class Studio:
    """Makes sources of the prior's models, and looks at splats. count: of the splats of an object."""

    def __init__(self, *, count: int) -> None:
        self.count = count
        self.prior: Any = priors.load("embedded", device=CPU, dtype="fp32")
        self.camera = load("sds")[0].camera
        self.renderer = make_renderer(CPU)

    def models(self, noun: str) -> int:
        return len(self.prior.instances.of_noun.get(noun, ()))

    def source(self, prompt: str, instance: int) -> Splats:
        """Splats on the surface of a model in the paint of a prompt, as wide as the way to their neighbours."""
        self.prior.begin(Choice(prompt, instance=instance))
        candidates = self.prior.embed(prompt, ring(self.prior)).candidates
        number = candidates.numbers[0]
        mesh, known = self.prior.instances.mesh(number), self.prior.instances.known[number]
        rgb = paint(mesh.values[None, :, None], candidates.tints[:1], luminance=torch.tensor([known.luminance]))[0]
        g = torch.Generator().manual_seed(0)
        a, b, c = (mesh.vertices[mesh.faces[:, corner]] for corner in range(3))
        area = torch.linalg.cross(b - a, c - a).norm(dim=-1)
        face = torch.multinomial(area, self.count, replacement=True, generator=g)
        u, v = torch.rand(2, self.count, 1, generator=g)
        u, v = torch.where(u + v > 1, 1 - u, u), torch.where(u + v > 1, 1 - v, v)
        means = a[face] + u * (b - a)[face] + v * (c - a)[face]
        near = torch.cat([torch.cdist(part, means).topk(4, largest=False).values[:, 1:] for part in means.split(512)])
        wide = (0.7 * near.mean(1)).clamp(2e-3, 0.1).log()[:, None].expand(-1, 3).clone()
        quats = torch.nn.functional.normalize(torch.randn(self.count, 4, generator=g), dim=-1)
        return Splats(
            means=means, quats=quats, scales=wide, opacities=torch.full((self.count,), 3.0),
            sh0=(rgb[0, face, 0][:, None] - 0.5) / SH_C0, shN=torch.zeros(self.count, 0, 3),
        )  # fmt: skip

    def model(self, prompt: str, instance: int) -> tuple[Tensor, Tensor]:
        """Pictures of the model itself, as `look` has them of splats."""
        self.prior.begin(Choice(prompt, instance=instance))
        cameras = turntable(self.camera, num_frames=NUM_VIEWS, size=SIDE)
        candidates = self.prior.embed(prompt, cameras).candidates
        rgba = 0.5 + 0.5 * self.prior.pictures(candidates, [0], cameras, size=SIDE)[0].movedim(1, -1)
        return rgba[..., :3], rgba[..., 3:]

    def look(self, splats: Splats) -> tuple[Tensor, Tensor]:
        return looked_at(splats, self.camera, self.renderer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=["colour", "shape", "refine"])
    parser.add_argument("--objects", type=int, default=10, help="of each part, at most")
    parser.add_argument("--steps", type=int, default=0, help="0: what is usual for the verb")
    parser.add_argument("--size", type=int, default=64, help="side of the renders in pixels")
    parser.add_argument("--count", type=int, default=4000, help="splats of a source")
    parser.add_argument("--runs", type=Path, default=Path("runs/editing"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path)
    args = parser.parse_args()
    args.runs.mkdir(parents=True, exist_ok=True)
    studio = Studio(count=args.count)
    strips: list[Tensor] = []
    parts: dict[str, Callable[..., list[dict[str, Any]]]] = {"colour": colours, "shape": shapes, "refine": damaged}
    found = {name: parts[name](studio, args, strips) for name in args.parts}
    record = {
        "command": "python benchmarks/editing.py", "machine": machine(), "commit": commit(),
        "settings": {name: getattr(args, name) for name in ("objects", "steps", "size", "count")},
        **found,
    }  # fmt: skip
    if args.json:
        before = json.loads(args.json.read_text()) if args.json.exists() else {}
        args.json.write_text(json.dumps({**before, **record}, indent=1) + "\n", encoding="utf-8")
    if args.picture:
        sheet = (torch.cat(strips).clamp(0, 1) * 255).byte().numpy()
        Image.fromarray(sheet).resize((sheet.shape[1] // 2, sheet.shape[0] // 2)).save(args.picture, quality=88)


def command(args: argparse.Namespace, verb: str, name: str, *flags: object) -> Splats:
    """Runs one command line on NAME.ply and returns what it wrote."""
    source, output = args.runs / f"{name}.ply", args.runs / f"{name}-{verb}.ply"
    usual = ("--steps", args.steps, "--size", args.size, "--out", args.runs, "--output", output, "--force")
    words = [verb, source, "--device", "cpu", *usual, *flags]
    if cli.main([str(word) for word in words]) != cli.DONE:
        raise SystemExit(f"{verb} of {name} failed.")
    return formats.read(output)


def strip(*pictures: Tensor) -> Tensor:
    """Two views of each of some objects, side by side."""
    return torch.cat([view for rgb in pictures for view in rgb[[0, 3]]], 1)


def colours(studio: Studio, args: argparse.Namespace, strips: list[Tensor]) -> list[dict[str, Any]]:
    rows = []
    for noun, old, new in COLOURS[: args.objects]:
        source, wanted = (studio.source(f"a {colour} {noun}", 1) for colour in (old, new))
        name = f"{old}-{noun}"
        formats.write(args.runs / f"{name}.ply", source)
        source = formats.read(args.runs / f"{name}.ply")
        low, high = source.means[:, 1].min(), source.means[:, 1].max()
        floor = float(low + 0.25 * (high - low))
        inside = source.means[:, 1] > floor
        # In the world of the file y points down.
        box = f"--box=-9,-9,-9,9,{-floor},9"
        result = command(args, "edit", name, "--from", f"a {old} {noun}", "--to", f"a {new} {noun}", box)
        outside = int((~inside).sum())
        before, after, target = (studio.look(one) for one in (source, result, wanted))
        upper = studio.look(part(source, inside))[1] > 0.95
        upper &= studio.look(part(source, ~inside))[1] < 0.05
        paintwork = upper[..., 0] & ((before[0] - target[0]).abs().amax(-1) > 0.2)
        hue = apart(after[0][paintwork].mean(0), target[0][paintwork].mean(0))
        covered = [(x[1] > 0.5) for x in (before, after)]
        row = {
            "noun": noun, "from": old, "to": new, "hue": round(hue, 1), "reached": hue < NEAR,
            "silhouette_iou": round(int((covered[0] & covered[1]).sum()) / int((covered[0] | covered[1]).sum()), 4),
            "outside_equal": all(torch.equal(result.tensors[k][:outside], source.tensors[k][~inside]) for k in FIELDS),
        }  # fmt: skip
        rows.append(row)
        strips.append(strip(before[0], after[0], target[0]))
        progress(str(row))
    return rows


def shapes(studio: Studio, args: argparse.Namespace, strips: list[Tensor]) -> list[dict[str, Any]]:
    """A source of model 1 in one colour becomes model 2: "a red chair" and "red chair" mean the same to the prior."""
    rows = []
    for noun in [noun for noun in SHAPES if studio.models(noun) > 1][: args.objects]:
        source, wanted = (studio.source(f"a red {noun}", instance) for instance in (1, 2))
        name = f"shape-{noun}"
        formats.write(args.runs / f"{name}.ply", source)
        flags = ("--from", f"a red {noun}", "--to", f"red {noun}", "--prior-instance", 2, "--shape")
        result = command(args, "edit", name, *flags)
        before, after, target = (studio.look(one)[0] for one in (source, result, wanted))
        start, end = (sum(psnr_of_views(one, target)) / len(target) for one in (before, after))
        row = {"noun": noun, "psnr": [round(start, 2), round(end, 2)], "reached": end > start + 3.0}
        rows.append(row)
        strips.append(strip(before, after, target))
        progress(str(row))
    return rows


def damaged(studio: Studio, args: argparse.Namespace, strips: list[Tensor]) -> list[dict[str, Any]]:
    judge, rows = ImageNet(), []
    for number, (noun, colour, _) in enumerate(COLOURS[: args.objects]):
        kind, prompt = KINDS[number % len(KINDS)], f"a {colour} {noun}"
        clean = studio.source(prompt, 1)
        name = f"damaged-{noun.replace(' ', '-')}"
        formats.write(args.runs / f"{name}.ply", damage(clean, kind))
        result = command(args, "refine", name, "--prompt", prompt)
        source = formats.read(args.runs / f"{name}.ply")
        before, after, target = studio.look(source), studio.look(result), studio.model(prompt, 1)
        psnr = [round(sum(psnr_of_views(one[0], target[0])) / len(target[0]), 2) for one in (before, after)]
        mass = [judge.score(prompt, *one)["mass"] for one in (before, after, target)]
        rose = psnr[1] > psnr[0], None if None in mass else mass[1] > mass[0]
        row = {"noun": noun, "damage": kind, "psnr": psnr, "mass": mass, "psnr_rose": rose[0], "mass_rose": rose[1]}
        rows.append(row)
        strips.append(strip(before[0], after[0], target[0]))
        progress(str(row))
    return rows


def damage(splats: Splats, kind: str) -> Splats:
    """noise: places by 0.02 and colours by 0.15; blur: twice as wide; half: every other splat is gone."""
    g = torch.Generator().manual_seed(1)
    t = {name: value.clone() for name, value in splats.tensors.items()}
    if kind == "noise":
        t["means"] += 0.02 * torch.randn(t["means"].shape, generator=g)
        t["sh0"] += 0.15 / SH_C0 * torch.randn(t["sh0"].shape, generator=g)
    elif kind == "blur":
        t["scales"] += math.log(2.0)
    else:
        t = {name: value[::2] for name, value in t.items()}
    return Splats(**t)


def part(splats: Splats, chosen: Tensor) -> Splats:
    return Splats(**{name: value[chosen] for name, value in splats.tensors.items()})


def apart(one: Tensor, other: Tensor) -> float:
    """Degrees between the hues of two colours [3] in 0..1."""
    a, b = (360 * colorsys.rgb_to_hsv(*colour.tolist())[0] for colour in (one, other))
    return min(abs(a - b), 360 - abs(a - b))


if __name__ == "__main__":
    main()
