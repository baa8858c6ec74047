"""Fits small tri-planes to the models of a corpus: a shared decoder on some of them, then, with it frozen, all of them
in shards.

`python -m splatdistill.embedded.corpus.fit --corpus DIR --out DIR` goes on where it was stopped;
`priors.instances` reads what `--pack FOLDER` writes.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from splatdistill.embedded.corpus.layout import BUFFERS, INDEX, TEST_RINGS, Record, read_index
from splatdistill.embedded.corpus.procedural import BY_NAME
from splatdistill.priors.gbuffer import ALBEDO, ALPHA, CHANNELS, LUMA, PAINTS, SHADING
from splatdistill.priors.instances import Instance, Instances, quantise
from splatdistill.priors.triplane import TriPlanes, pixel_rays
from splatdistill.priors.vocabulary import VOLUMES
from splatdistill.utils.rng import key

DECODER = "decoder.safetensors"
_NEAR = 0.35
"""Share of the rays near an object that is nearly nothing. With 0.9 for all, swords stood in fog: 21.7 dB, now 27.8."""
SIDE = 0.15  # rad, elevation from which heights are seen best


@dataclass(frozen=True)
class FitConfig:
    """objects: whose planes move in one step. rays: of each of them; near: most of those at the object or beside it, a
    share that thin objects do not reach, since more of what is about them is empty.
    smooth: weight of the squared steps between neighbours in a plane, which makes the planes small in a file.
    """

    objects: int = 12
    rays: int = 224
    near: float = 0.9
    depth: int = 16
    lr: float = 0.06
    decoder_lr: float = 5e-3
    smooth: float = 0.2
    decoder_objects: int = 240
    decoder_steps: int = 2400
    steps: int = 600
    seed: int = 0


@dataclass
class Target:
    """The training views of one object. buffers: [V,S,S,8] uint8; near: flat indices of pixels on it or beside it."""

    record: Record
    buffers: Tensor
    origins: Tensor
    directions: Tensor
    near: Tensor

    @classmethod
    def read(cls, record: Record, buffers: NDArray[np.uint8], *, test_rings: int = TEST_RINGS) -> Target:
        """Of the buffers of a corpus, but for its last rings."""
        size = buffers.shape[1]
        views = len(record.azimuth) - 4 * test_rings
        mine = torch.from_numpy(np.array(buffers[record.first : record.first + views]))
        origins, directions = pixel_rays(record.cameras(range(views), size=size), size=size)
        alpha = (mine[..., ALPHA] > 0).float()
        near = F.max_pool2d(alpha[:, None], 5, 1, 2)[:, 0].flatten().nonzero()[:, 0]
        return cls(record, mine.view(-1, CHANNELS), origins, directions.view(-1, 3), near.int())

    def draw(self, num: int, *, near: float, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Origins, directions [R,3] and G-buffer values [R,8] in 0..1 of R random rays."""
        share = len(self.near) / len(self.directions)
        some = round(num * min(near, _NEAR + share)) if len(self.near) else 0
        rows = torch.randint(len(self.directions), (num,), generator=generator)
        if some:
            rows[:some] = self.near[torch.randint(len(self.near), (some,), generator=generator)].long()
        pixels = len(self.directions) // len(self.origins)
        return self.origins[rows // pixels], self.directions[rows], self.buffers[rows].float() / 255


def loss(seen: Tensor, truth: Tensor, *, ground: Tensor) -> Tensor:
    """Squared error of the G-buffer, seen and truth [B,R,8], each value times alpha, and of the picture on `ground`
    [B,R,3].
    """
    alpha, true_alpha = seen[..., ALPHA, None], truth[..., ALPHA, None]
    parts = (seen * alpha - truth * true_alpha).square().sum(-1) + (alpha - true_alpha)[..., 0].square()
    pictures = (
        x[..., ALBEDO] * x[..., SHADING, None] * a + (1 - a) * ground for x, a in ((seen, alpha), (truth, true_alpha))
    )
    return (parts + (next(pictures) - next(pictures)).square().sum(-1)).mean()


def fit_decoder(model: TriPlanes, targets: Sequence[Target], config: FitConfig) -> Tensor:
    """Trains decoder and mean planes together with planes [N,3,C,S,S] of the targets, which it returns.

    Adam by rows: only the planes of a step's objects move, so the moments of the others do not fade.
    """
    draw = torch.Generator().manual_seed(key(config.seed, 0, "fit"))
    planes = torch.zeros(len(targets), *model.shape)
    first, second, visits = torch.zeros_like(planes), torch.zeros_like(planes), torch.zeros(len(targets))
    shared = torch.optim.Adam(
        [{"params": model.decoder.parameters()}, {"params": [model.mean]}], lr=config.decoder_lr, betas=(0.9, 0.99)
    )
    begin = time.monotonic()
    for step in range(config.decoder_steps):
        rate = learning_rate(step, config.decoder_steps)
        for group in shared.param_groups:
            group["lr"] = config.decoder_lr * rate
        rows = torch.randperm(len(targets), generator=draw)[: config.objects]
        mine = planes[rows].requires_grad_()
        value = _step(model, mine, [targets[i] for i in rows.tolist()], config, draw)
        shared.zero_grad(set_to_none=True)
        value.backward()
        shared.step()
        visits[rows] += 1
        _adam(planes, mine, rows, first, second, visits, lr=config.lr * rate)
        if step % 100 == 99:
            print(f"decoder: step {step + 1}, loss {value.item():.5f}, {time.monotonic() - begin:.0f} s", flush=True)
    return planes


def fit_planes(model: TriPlanes, targets: Sequence[Target], config: FitConfig) -> Tensor:
    """Planes [N,3,C,S,S] of a few targets, all in each step, with everything that is shared frozen."""
    draw = torch.Generator().manual_seed(key(config.seed, 1, targets[0].record.key))
    model.requires_grad_(False)
    planes = torch.zeros(len(targets), *model.shape, requires_grad=True)
    optimizer = torch.optim.Adam([planes], lr=config.lr, betas=(0.9, 0.99))
    for step in range(config.steps):
        optimizer.param_groups[0]["lr"] = config.lr * learning_rate(step, config.steps)
        optimizer.zero_grad(set_to_none=True)
        # Each object's own loss, whatever the number of objects.
        (_step(model, planes, targets, config, draw) * len(targets)).backward()
        optimizer.step()
    return planes.detach()


def learning_rate(step: int, steps: int) -> float:
    """1 after a short rise, then a cosine down to 0."""
    return min(1.0, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / steps))


def _step(
    model: TriPlanes, planes: Tensor, targets: Sequence[Target], config: FitConfig, draw: torch.Generator
) -> Tensor:
    """[] the loss of one step: rays drawn from B targets against the planes [B,3,C,P,P] of their objects."""
    drawn = [target.draw(config.rays, near=config.near, generator=draw) for target in targets]
    origins, directions, truth = (torch.stack(parts) for parts in zip(*drawn, strict=True))
    shift = torch.rand(*directions.shape[:2], config.depth, generator=draw)
    seen = model.render(planes, origins, directions, depth=config.depth, shift=shift)
    ground = torch.rand(len(planes), 1, 3, generator=draw)
    rough = planes.diff(dim=-1).square().mean() + planes.diff(dim=-2).square().mean()
    return loss(seen, truth, ground=ground) + config.smooth * rough


@torch.no_grad()
def _adam(
    planes: Tensor, mine: Tensor, rows: Tensor, first: Tensor, second: Tensor, visits: Tensor, *, lr: float
) -> None:
    """One step of Adam, for some objects among N. planes: [N,...], changed in the `rows` [B]; mine: [B,...], their
    copies with a gradient; first, second: moments like planes; visits: [N], steps that each object has had.
    """
    assert mine.grad is not None
    m = first[rows].lerp_(mine.grad, 0.1)
    v = second[rows].lerp_(mine.grad.square(), 0.01)
    first[rows], second[rows] = m, v
    count = visits[rows].view(-1, 1, 1, 1, 1)
    planes[rows] = mine.detach() - lr * (m / (1 - 0.9**count)) / ((v / (1 - 0.99**count)).sqrt() + 1e-8)


def luminance(buffers: NDArray[np.uint8]) -> list[float]:
    """Mean luminance of the bare surface under each of the three paints of views [V,S,S,8]; 0.5 where there is none."""
    g = buffers.astype(np.float32) / 255
    means = []
    for slot in PAINTS:
        painted = (g[..., ALPHA] > 0.9) & (g[..., slot] > 0.9)
        means.append(float((g[painted][:, ALBEDO] @ np.array(LUMA, np.float32)).mean()) if painted.any() else 0.5)
    return means


def heights(buffers: NDArray[np.uint8]) -> list[float]:
    """Where each of the three paints lies in views [V,S,S,8] from the side: 0 at the object's lowest row, 1 at its
    highest, a mean over the views; 0.5 where there is none.
    """
    g = buffers.astype(np.float32) / 255
    size = g.shape[1]
    rows = np.arange(size)[::-1] + 0.5
    seen = np.any(g[..., ALPHA] > 0.5, axis=2)  # [V,S]
    low = np.where(seen, rows, size).min(1, keepdims=True)
    high = np.where(seen, rows, 0).max(1, keepdims=True)
    place = (rows - low) / np.maximum(high - low, 1)
    found = []
    for slot in PAINTS:
        weight = (g[..., slot] * g[..., ALPHA]).sum(2)
        found.append(round(float((weight * place).sum() / weight.sum()), 3) if weight.sum() > 1 else 0.5)
    return found


def describe(record: Record, buffers: NDArray[np.uint8]) -> Instance:
    """What is known of a model beside its volume. buffers: of the whole corpus."""
    mine = buffers[record.first : record.first + len(record.azimuth)]
    level = sorted(range(len(mine)), key=lambda i: abs(record.elevation[i] - SIDE))[: len(mine) // 3]
    parts = record.parts
    if record.toy:
        parts = ["whole", *(re.sub(r"\b(an?|the)\b|{}", "", extra).strip() for extra in BY_NAME[record.noun].extras)]
    return Instance(
        record.noun, record.key, luminance(mine[::3]), tuple(parts), heights=heights(mine[level]), bare=record.toy
    )


def order(records: Sequence[Record]) -> list[Record]:
    """What is fitted, in rounds of four models a noun, those of many models first, so that a part of it is a sample of
    all nouns; two shapes that stand together are no object.
    """
    whole = sorted((r for r in records if not r.relation), key=lambda r: r.key)
    count, rank, seen = Counter(r.noun for r in whole), {}, Counter()
    for r in whole:
        rank[r.key] = seen[r.noun] // 4
        seen[r.noun] += 1
    return sorted(whole, key=lambda r: (rank[r.key], -count[r.noun], r.noun, r.key))


def run(corpus: Path, out: Path, config: FitConfig) -> None:
    """Fits everything that `out` does not hold yet."""
    records, buffers = read_corpus(corpus)
    out.mkdir(parents=True, exist_ok=True)
    model = TriPlanes()
    if (out / DECODER).exists():
        model.load_state_dict(load_file(out / DECODER))
    else:
        draw = np.random.default_rng(key(config.seed, 0, "decoder"))
        some = draw.permutation(len(records))[: config.decoder_objects]
        fit_decoder(model, [Target.read(records[i], buffers) for i in some], config)
        _save({k: v.detach() for k, v in model.state_dict().items()}, out / DECODER)
    done = fitted(out)
    left = [r for r in records if r.key not in done]
    begin = time.monotonic()
    for start in range(0, len(left), config.objects):
        some = left[start : start + config.objects]
        planes = fit_planes(model, [Target.read(r, buffers) for r in some], config)
        _save({r.key: p.half() for r, p in zip(some, planes, strict=True)}, out / f"shard-{len(done):05d}.safetensors")
        done |= {r.key for r in some}
        took = time.monotonic() - begin
        print(f"{start + len(some)}/{len(left)} {some[-1].noun}: {took:.0f} s", flush=True)


def read_corpus(corpus: Path) -> tuple[list[Record], NDArray[np.uint8]]:
    """What is to be fitted, in order, and the buffers of all. ValueError, one sentence, without a built corpus."""
    if not (corpus / INDEX).exists():
        raise ValueError(f"No corpus in {corpus}: build it with `python -m splatdistill.embedded.corpus build`.")
    return order(read_index(json.loads((corpus / INDEX).read_text()))), np.load(corpus / BUFFERS, mmap_mode="r")


def fitted(out: Path) -> set[str]:
    """The keys of the models that a run has fitted."""
    return {name for path in out.glob("shard-*.safetensors") for name in load_file(path)}


def pack(corpus: Path, out: Path, folder: Path, *, step: float) -> Instances:
    """Everything that is fitted as a folder for `priors.instances`, its planes rounded to whole multiples of `step`."""
    records, buffers = read_corpus(corpus)
    planes = {name: p for path in sorted(out.glob("shard-*.safetensors")) for name, p in load_file(path).items()}
    model = TriPlanes()
    model.load_state_dict(load_file(out / DECODER))
    known = [describe(r, buffers) for r in records if r.key in planes]
    codes = torch.stack([quantise(planes[i.key].float(), step) for i in known])
    packed = Instances(model, codes, step=step, known=known)
    packed.save(folder)
    return packed


def add(model: Path, *, noun: str, front_deg: float, instances: Path, out: Path, config: FitConfig) -> float:
    """Fits a GLB file of the user's own with the decoder of a folder of volumes, or of a prior that has one, and writes
    that folder with the model in it to `out`. Returns the PSNR in dB of its views in front of white.
    """
    from splatdistill.embedded.corpus.build import render_mesh
    from splatdistill.embedded.corpus.meshes import read_glb

    whole = (instances / VOLUMES).exists()
    if out.exists():
        raise ValueError(f"--out: {out} is there already; name a new folder.")
    if not (noun := " ".join(noun.lower().split())):
        raise ValueError("--noun: say what the model is called.")
    known = Instances.load((instances / VOLUMES).parent if whole else instances)
    name = f"own/{model.name}"
    if any(instance.key == name for instance in known.known):
        raise ValueError(f"{instances} already holds {name}: rename the file, or begin from another folder.")
    cameras, views, shares, parts = render_mesh(read_glb(model, yaw_deg=front_deg), noun=noun)
    record = Record.make(cameras, noun=noun, key=name, first=0, paint_share=shares[0], parts=parts)
    target = Target.read(record, views, test_rings=0)
    codes = quantise(fit_planes(known.model, [target], config), known.step)
    seen = known.model.picture(codes[0].float() * known.step, cameras, size=views.shape[1])
    truth = torch.from_numpy(views).float() / 255
    error = F.mse_loss(_on_white(seen), _on_white(truth))
    mine = describe(record, views)
    more = Instances(known.model, torch.cat([known.codes, codes]), step=known.step, known=[*known.known, mine])
    if whole:
        shutil.copytree(instances, out)
    more.save((out / VOLUMES).parent if whole else out)
    return float(-10 * error.log10())


def _on_white(buffers: Tensor) -> Tensor:
    alpha = buffers[..., ALPHA, None]
    return buffers[..., ALBEDO] * buffers[..., SHADING, None] * alpha + 1 - alpha


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    """Whole or not at all."""
    unfinished = path.with_name(path.name + ".part")
    save_file({k: v.contiguous() for k, v in tensors.items()}, unfinished)
    unfinished.rename(path)


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 1 with one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m splatdistill.embedded.corpus.fit", description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True, help="folder that `corpus build` wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run: decoder and shards")
    parser.add_argument("--pack", type=Path, help="write this folder from what is fitted, and fit nothing")
    parser.add_argument("--step", type=float, default=0.2, help="to whose multiples packed planes are rounded")
    args = parser.parse_args(argv)
    try:
        if args.pack:
            pack(args.corpus, args.out, args.pack, step=args.step)
        else:
            run(args.corpus, args.out, FitConfig())
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
