"""How well the small meshes show their models in views that they were never held against, as they are packed.

`python benchmarks/prior_meshes.py --corpus DIR --instances DIR --json FILE --sheet FILE.png`
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from common import commit, machine
from PIL import Image, ImageDraw
from torch import Tensor

from splatdistill.embedded.corpus.layout import BUFFERS, INDEX, TEST_RINGS, Record, read_index
from splatdistill.embedded.prior.rings import VIEWS, see
from splatdistill.priors.gbuffer import ALBEDO, ALPHA, SHADING
from splatdistill.priors.instances import Instances

COMMAND = "python benchmarks/prior_meshes.py --corpus DIR --instances DIR --json FILE --sheet FILE.png"
WORST, RANDOM, COLUMNS = 24, 48, 6


def on_white(buffers: Tensor) -> Tensor:
    """Pictures [V,3,H,W] in 0..1 of G-buffers [V,H,W,8]."""
    alpha = buffers[..., ALPHA, None]
    return (buffers[..., ALBEDO] * buffers[..., SHADING, None] * alpha + 1 - alpha).permute(0, 3, 1, 2)


def psnr(difference: Tensor) -> float:
    """Of pictures in 0..1."""
    return float(-10 * difference.square().mean().log10())


@torch.no_grad()
def measure(instances: Instances, number: int, record: Record, buffers: np.ndarray) -> tuple[dict[str, Any], Tensor]:
    """Figures of one model, and truth and mesh [V,3,H,W] side by side."""
    views = list(range(len(record.azimuth) - VIEWS * TEST_RINGS, len(record.azimuth)))
    seen = see(instances, number, record, views, size=buffers.shape[1])
    truth = torch.from_numpy(buffers[record.first + views[0] : record.first + views[-1] + 1]).float() / 255
    a, b = on_white(truth), on_white(seen)
    fog = [
        float(((x > 0.05) & (x < 0.95)).sum() / (x > 0.05).sum().clamp(min=1))
        for x in (truth[..., ALPHA], seen[..., ALPHA])
    ]
    figures = {
        "key": record.key, "noun": record.noun, "psnr_32": psnr(F.avg_pool2d(a - b, 2)), "psnr_64": psnr(a - b),
        "alpha_error": float((truth - seen)[..., ALPHA].abs().mean()), "fog_truth": fog[0], "fog": fog[1],
    }  # fmt: skip
    return figures, torch.cat([a, b], -1)


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Means, and the tails of the PSNR."""
    of = {name: np.array([row[name] for row in rows]) for name in rows[0] if name not in ("key", "noun")}
    out = {name: round(float(values.mean()), 4) for name, values in of.items()}
    for name in ("psnr_32", "psnr_64"):
        out |= {
            f"{name}_p10": round(float(np.quantile(of[name], 0.1)), 2),
            f"{name}_min": round(float(of[name].min()), 2),
        }
    return out


def draw(path: Path, cells: Sequence[tuple[str, Tensor]]) -> None:
    """Two views of each model: truth, mesh, truth, mesh."""
    side = cells[0][1].shape[-2]
    rows = -(-len(cells) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (4 * side + 6), rows * (side + 12)), "white")
    write = ImageDraw.Draw(sheet)
    for i, (label, views) in enumerate(cells):
        x, y = i % COLUMNS * (4 * side + 6), i // COLUMNS * (side + 12)
        strip = torch.cat(list(views[:2]), -1).permute(1, 2, 0)
        sheet.paste(Image.fromarray((strip.clamp(0, 1) * 255).round().byte().numpy()), (x, y + 12))
        write.text((x, y), label[:40], fill="black")
    sheet.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("corpus", "instances", "json", "sheet"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    records = {r.key: r for r in read_index(json.loads((args.corpus / INDEX).read_text()))}
    buffers = np.load(args.corpus / BUFFERS, mmap_mode="c")
    instances = Instances.load(args.instances)
    rows, pictures = [], []
    for number, known in enumerate(instances.known):
        figures, picture = measure(instances, number, records[known.key], buffers)
        rows.append(figures)
        pictures.append((picture * 255).round().byte())
    worst = sorted(range(len(rows)), key=lambda i: rows[i]["psnr_32"])[:WORST]
    others = random.Random(0).sample(range(len(rows)), min(RANDOM, len(rows)))  # noqa: S311
    draw(
        args.sheet,
        [(f"{rows[i]['psnr_32']:.1f} {rows[i]['key']}", pictures[i].float() / 255) for i in [*worst, *others]],
    )
    size = sum(path.stat().st_size for path in args.instances.iterdir())
    kinds = {"toys": "toys/", "files": "models/"}
    groups = {name: [r for r in rows if r["key"].startswith(start)] for name, start in kinds.items()}
    groups["furniture"] = [r for r in rows if not r["key"].startswith(tuple(kinds.values()))]
    result = {
        "command": COMMAND, "commit": commit(), "machine": machine(),
        "models": len(rows), "nouns": len(instances.of_noun),
        "nouns_with_several": sum(len(n) > 1 for n in instances.of_noun.values()),
        "bytes": size, **summary(rows),
        "by_source": {name: {"models": len(group), **summary(group)} for name, group in groups.items() if group},
        "worst": [{"key": rows[i]["key"], "psnr_32": round(rows[i]["psnr_32"], 2)} for i in worst],
    }  # fmt: skip
    args.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({k: v for k, v in result.items() if k != "worst"}, indent=1))


if __name__ == "__main__":
    main()
