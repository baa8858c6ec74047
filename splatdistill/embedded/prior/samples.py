"""Samples of a prior: by DDIM and classifier-free guidance, four views a prompt, each beside the training picture
that is nearest to it, and the loss of its training.

`python -m splatdistill.embedded.prior.samples --prior FOLDER --corpus DIR_OR_PACK --out grid.png`
`python -m splatdistill.embedded.prior.samples --loss RUN --out loss.png`
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from splatdistill.embedded.corpus.captions import COLOURS, tint_of
from splatdistill.embedded.corpus.dataset import Corpus
from splatdistill.priors.base import Prior
from splatdistill.priors.gbuffer import paint
from splatdistill.scene.cameras import orbit

PROMPTS = (
    "a red armchair", "a hamburger", "a cactus", "a teddy bear", "a blue car", "a snowman", "a dog", "a yellow teapot",
    "a grand piano", "a green sofa", "a bus", "a birthday cake", "a horse", "a purple lamp", "a pink vase", "a chair",
    "a green umbrella", "an orange mug", "a white motorcycle", "a christmas tree", "a brown table", "a blue truck",
    "a fire hydrant", "a bicycle",
)  # fmt: skip
_COARSE = 16  # pixels; nearest pictures are sought at this size, then compared at full size
_CANDIDATES = 64


def ddim(
    prior: Prior,
    prompt: str,
    *,
    steps: int = 25,
    guidance_scale: float = 4.0,
    guide_above: int = 400,
    elevation_deg: float = 15.0,
    seed: int = 0,
) -> Tensor:
    """[4,H,W,3] in 0..1 on the CPU: front, right, back and left of what the prior makes of a prompt.

    guide_above: timestep down to which guidance acts; at low noise it draws halos and the grid of the network's patches
    (Kynkaanniemi 2024, arXiv 2404.07724).
    """
    azimuth, one = torch.arange(4) * (math.pi / 2), torch.ones(4)
    size, device = prior.image_size, prior.alphas_cumprod.device
    cameras = orbit(
        azimuth=azimuth, elevation=one * math.radians(elevation_deg), radius=one * 3, fovy=one * 0.65, size=size
    )
    conditions = [prior.embed(prompt, cameras), prior.embed("", cameras)]
    shape = prior.encode(torch.zeros(4, size, size, 3)).shape
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device)
    x0 = x
    for now, then in pairwise(ddim_timesteps(steps).to(device)):
        cond, uncond = prior.predict(x, now.expand(4), conditions)
        eps = uncond + (guidance_scale if now > guide_above else 1.0) * (cond - uncond)
        a, b = prior.alphas_cumprod[now], prior.alphas_cumprod[then]
        x0 = ((x - (1 - a).sqrt() * eps) / a.sqrt()).clamp(-1, 1)
        x = ddim_step(x, x0, a, b)
    return prior.decode(x0).cpu()


def ddim_timesteps(steps: int) -> Tensor:
    """[steps + 1] int64 from 999 to 0. Those of diffusers' DDIMScheduler have one stride, and end before 0 or at -1."""
    return torch.linspace(999, 0, steps + 1).round().long()


def ddim_step(x: Tensor, x0: Tensor, now: Tensor, then: Tensor) -> Tensor:
    """The next noisy images, like x, after the prediction x0 [V,C,h,w] (Song 2021, eq. 12, eta = 0); now, then: []
    alpha^2.

    Written out because DDIMScheduler knows no timesteps but its own, and other ones make other samples.
    """
    eps = (x - now.sqrt() * x0) / (1 - now).sqrt()
    return then.sqrt() * x0 + (1 - then).sqrt() * eps


class NearestRender:
    """Finds the training picture that is nearest to a sample: what a prior that only recalls would have drawn."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self.rows = torch.cat([torch.arange(o.first, o.first + 4 * o.rings) for o in corpus.objects])
        self.owner = torch.tensor([i for i, o in enumerate(corpus.objects) for _ in range(4 * o.rings)])
        self.luminance = torch.tensor([o.luminance for o in corpus.objects])
        self.num_colours = torch.tensor([o.num_colours for o in corpus.objects])
        factor = corpus.buffers.shape[1] // _COARSE
        chunks = (corpus.buffers[rows].cpu().permute(0, 3, 1, 2).float() for rows in self.rows.split(1024))
        self.coarse = torch.cat([F.avg_pool2d(c, factor).round().byte().permute(0, 2, 3, 1) for c in chunks])

    def __call__(self, views: Tensor, prompt: str) -> tuple[Tensor, float, str]:
        """The picture [H,W,3] closest to any of `views` [V,H,W,3], its root mean square distance (0..1) and its noun.

        Objects are taken in their own colours and in those that the prompt names.
        """
        size = self.corpus.buffers.shape[1]
        views = F.interpolate(views.permute(0, 3, 1, 2), (size, size), mode="area").permute(0, 2, 3, 1)
        small = F.interpolate(views.permute(0, 3, 1, 2), (_COARSE, _COARSE), mode="area").permute(0, 2, 3, 1)
        best, best_distance, noun = views[0], math.inf, ""
        for colours in ([], *([found] if (found := _named(prompt)) else [])):
            distances = torch.cat(
                [
                    torch.cdist(self._paint(self.coarse[part], part, colours).flatten(1), small.flatten(1)).amin(1)
                    for part in torch.arange(len(self.rows)).split(1024)
                ]
            )
            likely = distances.topk(min(_CANDIDATES, len(distances)), largest=False).indices
            pictures = self._paint(
                self.corpus.buffers[self.rows[likely].to(self.corpus.buffers.device)].cpu(), likely, colours
            )
            fine = torch.cdist(pictures.flatten(1), views.flatten(1)).amin(1) / (3 * size * size) ** 0.5
            i = int(fine.argmin())
            if float(fine[i]) < best_distance:
                best, best_distance = pictures[i], float(fine[i])
                noun = self.corpus.objects[int(self.owner[likely[i]])].record.noun
        return best, best_distance, noun

    def _paint(self, buffers: Tensor, rows: Tensor, colours: list[Tensor]) -> Tensor:
        """Pictures [R,H,W,3] on white of buffers [R,H,W,8], which are the rows [R] of the corpus. The first colours [3]
        of each object, the last one repeated.
        """
        owner = self.owner[rows]
        tints = torch.full((len(rows), 3, 3), torch.nan)
        for slot in range(3 if colours else 0):
            takes = self.num_colours[owner] > slot
            tints[takes, slot] = colours[min(slot, len(colours) - 1)]
        rgb, alpha = paint(buffers, tints, luminance=self.luminance[owner])
        return rgb * alpha + 1 - alpha


def sample_grid(
    prior: Prior,
    path: Path,
    *,
    prompts: Sequence[str] = PROMPTS,
    columns: int = 4,
    nearest: NearestRender | None = None,
    **settings: float,
) -> list[dict[str, str | float]]:
    """Writes a PNG with the four views of each prompt side by side, and after them the nearest training picture.

    Returns each prompt's nearest noun and distance. settings: of `ddim`.
    """
    rows, found = [], []
    for prompt in prompts:
        views = ddim(prior, prompt, **settings)  # type: ignore[arg-type]
        cells = list(views)
        if nearest:
            picture, distance, noun = nearest(views, prompt)
            gap = torch.ones(len(picture), 4, 3)
            cells += [gap, picture, gap, gap]
            found.append({"prompt": prompt, "nearest": noun, "rms": round(distance, 4)})
        rows.append(torch.cat(cells, 1))
    rows += [torch.ones_like(rows[0])] * (-len(rows) % columns)
    grid = torch.cat([torch.cat(rows[i : i + columns], 1) for i in range(0, len(rows), columns)], 0)
    Image.fromarray((grid * 255).round().byte().numpy()).save(path)
    return found


def draw_loss(run: Path, path: Path) -> None:
    """A picture of loss.jsonl of a run folder: the logged means and their running mean."""
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise ValueError("matplotlib is missing: `pip install matplotlib` brings it.") from error

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    log = run / "loss.jsonl"
    records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []
    if not records:
        raise ValueError(f"No losses in {log}: it is written every 50 steps of a training.")
    images = [r["images"] for r in records]
    loss = torch.tensor([r["loss"] for r in records])
    width = max(1, len(loss) // 40)
    mean = loss.unfold(0, width, 1).mean(1)
    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    axes.plot(images, loss, lw=0.6, color="0.7", label="50 steps")
    axes.plot(images[width - 1 :], mean, lw=1.4, label=f"{50 * width} steps")
    axes.set(xlabel="training images", ylabel="weighted squared error", yscale="log")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _named(prompt: str) -> list[Tensor]:
    """Colours of a prompt, in its order."""
    names = {word: colour for colour, (_, synonyms) in COLOURS.items() for word in (colour, *synonyms)}
    return [torch.from_numpy(tint_of(names[word])) for word in prompt.lower().split() if word in names]


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 1 with one sentence on stderr."""
    from splatdistill.priors.embedded import MultiViewPrior

    parser = argparse.ArgumentParser(prog="python -m splatdistill.embedded.prior.samples", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--prior", type=Path, help="exported prior to draw from")
    what.add_argument("--loss", type=Path, help="run folder whose loss to draw instead")
    parser.add_argument("--corpus", type=Path, help="folder or pack that it was trained on, for the nearest pictures")
    parser.add_argument("--out", type=Path, required=True, help="PNG to write")
    parser.add_argument("--prompts", nargs="+", default=PROMPTS)
    parser.add_argument("--columns", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--guidance-scale", type=float, default=4.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    try:
        if args.loss:
            draw_loss(args.loss, args.out)
            return 0
        prior = MultiViewPrior.load(args.prior, device=args.device)
        nearest = NearestRender(Corpus(args.corpus, seed=0)) if args.corpus else None
        found = sample_grid(
            prior, args.out, prompts=args.prompts, columns=args.columns, nearest=nearest,
            guidance_scale=args.guidance_scale, seed=args.seed,
        )  # fmt: skip
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    for row in found:
        print(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
