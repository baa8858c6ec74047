"""What `train --image` reaches on the shipped prior: does it find the model in a picture, and do the colours come out?

    python benchmarks/picture_prompt.py --zip cc0_models.zip --table cc0_models.csv --json ... --picture ...

The pictures are ray casts of the original models, in their own materials, which the prior never draws: it has meshes of
few triangles in few colours, and a z-buffer. Each is cut out on a transparent ground, off the middle and at another
size than the prior's frame.

  found   every noun with several models: whether the prior takes the one in the picture, for each of its models.
  made    ten nouns: a run of `train` with a picture of the second of its models and "a NOUN" as the prompt. In every
          second picture red, green and blue stand in each other's place, so that its colours are not the model's own.
          `instance`: whether the model was found. By the picture's camera and from behind: `hue`, degrees between the
          mean colours of the original and of the result, and `psnr`.
"""

from __future__ import annotations

import argparse
import colorsys
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from common import commit, machine
from external_reference import RAYS, _zipped
from PIL import Image
from torch import Tensor

from splatdistill import cli, priors
from splatdistill.config.presets import load
from splatdistill.config.schema import ReferenceConfig
from splatdistill.embedded.corpus.meshes import ModelMesh
from splatdistill.embedded.corpus.render import Caster
from splatdistill.io import ply
from splatdistill.io.video import to_uint8
from splatdistill.priors.base import Choice
from splatdistill.priors.gbuffer import ALBEDO, ALPHA, SHADING
from splatdistill.rendering.renderer import make_renderer
from splatdistill.scene.gaussians import Splats
from splatdistill.training.picture_loss import camera_of, picture_of

CPU = torch.device("cpu")
NOUNS = ("armchair", "car", "lamp", "chair", "table", "house", "sofa", "truck", "tree", "boat")
SIDE = 192
NEAR = 30.0  # degrees of hue: half of the way from one of six colours to the next
GRAY = 0.15  # saturation below which a mean colour has no hue


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zip", type=Path, required=True, help="zip of GLB files")
    parser.add_argument("--table", type=Path, required=True, help="its table: file, noun")
    parser.add_argument("--runs", type=Path, default=Path("runs/pictures"))
    parser.add_argument("--parts", nargs="+", default=["found", "made"])
    parser.add_argument("--nouns", type=int, default=10_000, help="of found, at most")
    parser.add_argument("--made", nargs="+", default=list(NOUNS), help="nouns of made")
    parser.add_argument("--models", type=int, default=3, help="of each noun, at most")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path)
    args = parser.parse_args()
    args.runs.mkdir(parents=True, exist_ok=True)
    prior: Any = priors.load("embedded", device=CPU, dtype="fp32")
    tasks = {key: read for _, key, read in _zipped(args.zip, args.table)}
    command = "python benchmarks/picture_prompt.py"
    record: dict[str, Any] = {"command": command, "machine": machine(), "commit": commit()}
    if "found" in args.parts:
        record["found"] = found(prior, tasks, args)
    if "made" in args.parts:
        record["made"] = made(prior, tasks, args)
    if args.json:
        args.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def drawn(mesh: ModelMesh, *, azimuth_deg: float = 0.0, swapped: bool = False) -> Tensor:
    """[SIDE,SIDE,4] in 0..1 of a model in its own colours, or with red, green and blue in each other's place."""
    camera = camera_of(ReferenceConfig(azimuth_deg=azimuth_deg), load("sds")[0].camera, size=SIDE)
    none = np.zeros(len(mesh.materials), dtype=bool)
    g = torch.from_numpy(Caster(mesh).gbuffer(camera, paint=none, rays=RAYS)).float()[0] / 255
    rgb = g[..., ALBEDO] * g[..., SHADING, None]
    return torch.cat([rgb[..., [1, 2, 0]] if swapped else rgb, g[..., ALPHA, None]], -1)


def aside(rgba: Tensor) -> Tensor:
    """The same in a larger picture, off its middle, as no camera of ours would have it."""
    return F.pad(rgba, (0, 0, 20, 60, 10, 70))


def save(path: Path, rgba: Tensor) -> Path:
    Image.fromarray(to_uint8(rgba)).save(path)
    return path


def models_of(prior: Any, noun: str, tasks: dict[str, Any]) -> list[tuple[int, str]]:
    """Number from 1 and key of a noun's models whose originals are there."""
    keys = [prior.instances.known[number].key for number in prior.instances.of_noun.get(noun, ())]
    return [(place, key) for place, key in enumerate(keys, 1) if key in tasks] if len(keys) > 1 else []


def found(prior: Any, tasks: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    nouns = [noun for noun in sorted(prior.instances.of_noun) if models_of(prior, noun, tasks)][: args.nouns]
    rows = []
    for noun in nouns:
        for number, key in models_of(prior, noun, tasks)[: args.models]:
            path = save(args.runs / "found.png", aside(drawn(tasks[key]())))
            shown = picture_of(str(path), ReferenceConfig(), load("sds")[0].camera)
            prior.begin(Choice(f"a {noun}", picture=shown))
            rows.append({"noun": noun, "model": key, "of": len(prior.instances.of_noun[noun]),
                         "found": prior.choice.instance == number})  # fmt: skip
    right = sum(row["found"] for row in rows)
    chance = sum(1 / row["of"] for row in rows) / len(rows)
    print(f"found: {right} of {len(rows)} models of {len(nouns)} nouns; by chance {chance:.0%}")
    return {"pictures": len(rows), "right": right, "chance": round(chance, 4),
            "wrong": [row for row in rows if not row["found"]]}  # fmt: skip


def made(prior: Any, tasks: dict[str, Any], args: argparse.Namespace) -> list[dict[str, Any]]:
    rows, strips = [], []
    for index, noun in enumerate(args.made):
        _, key = models_of(prior, noun, tasks)[:2][-1]
        mesh, swapped = tasks[key](), index % 2 == 1
        sides = [drawn(mesh, azimuth_deg=azimuth, swapped=swapped) for azimuth in (0.0, 180.0)]
        path, folder = save(args.runs / f"{noun}.png", aside(sides[0])), args.runs / noun
        words = ["train", "--prompt", f"a {noun}", "--image", str(path), "--out", str(args.runs), "--name", noun,
                 "--threads", "1", "--device", "cpu"]  # fmt: skip
        if not (folder / "splats.ply").exists() and cli.main(words) != cli.DONE:
            raise RuntimeError(f"{noun}: the run failed")
        splats = ply.read(folder / "splats.ply")
        model = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["prior_model"]
        row: dict[str, Any] = {"noun": noun, "model": key, "swapped": swapped, "instance": model == key}
        for name, rgba, azimuth in zip(("front", "back"), sides, (0.0, 180.0), strict=True):
            seen = look(splats, azimuth_deg=azimuth)
            row[name] = alike(rgba, seen)
            strips += [on_white(rgba), on_white(seen)]
        rows.append(row)
        print(row, flush=True)
    if args.picture:
        tiles = torch.stack(strips).unflatten(0, (-1, 8)) if len(strips) % 8 == 0 else torch.stack(strips)[None]
        lines = torch.cat([torch.cat(list(line), 1) for line in tiles])
        Image.fromarray(to_uint8(lines)).save(args.picture, quality=85)
    return rows


def look(splats: Splats, *, azimuth_deg: float) -> Tensor:
    """[SIDE,SIDE,4] in 0..1, straight colours, as a camera at the height of the picture's sees the splats."""
    camera = camera_of(ReferenceConfig(azimuth_deg=azimuth_deg), load("sds")[0].camera, size=SIDE)
    with torch.no_grad():
        seen = make_renderer(CPU).render(splats, camera, background=torch.zeros(1, 3))
    alpha = seen.alpha[0].clamp(0, 1)
    return torch.cat([(seen.rgb[0] / alpha.clamp(min=1e-6)).clamp(0, 1), alpha], -1)


def on_white(rgba: Tensor) -> Tensor:
    return rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]


def alike(one: Tensor, other: Tensor) -> dict[str, Any]:
    """How far two pictures [S,S,4] are from each other. hue: degrees between their mean colours, None where one of them
    is gray; right: less than NEAR, or both gray.
    """
    mine, theirs = hue(one), hue(other)
    away = None if mine is None or theirs is None else abs((mine - theirs + 180) % 360 - 180)
    psnr = -10 * math.log10(max(float((on_white(one) - on_white(other)).square().mean()), 1e-9))
    right = mine is theirs is None or (away is not None and away < NEAR)
    hue_away = None if away is None else round(away, 1)
    return {"hue": hue_away, "gray": [mine is None, theirs is None], "right": right, "psnr": round(psnr, 2)}


def hue(rgba: Tensor) -> float | None:
    """Degrees, of the mean colour of what shows; None for gray."""
    h, s, _ = colorsys.rgb_to_hsv(*rgba[rgba[..., 3] > 0.5][:, :3].mean(0).tolist())
    return 360 * h if s > GRAY else None


if __name__ == "__main__":
    main()
