"""Contact sheets of a corpus, to find wrong names, wrong fronts and wrong paint by eye."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from splatdistill.embedded.corpus.captions import tint_of
from splatdistill.embedded.corpus.dataset import Corpus, Object
from splatdistill.priors.gbuffer import paint

_PER_SHEET, _COLUMNS, _LABEL = 96, 8, 12  # objects, and pixels below each


def model_sheets(source: Path, out: Path) -> Iterator[Path]:
    """Writes PNGs into a folder: for each object its front-most and its side-most view, then the front painted red and
    blue; below them its noun and number. Objects that are held out are among them.
    """
    out.mkdir(parents=True, exist_ok=True)
    objects: list[tuple[Corpus, Object]] = []
    for split in ("train", "held-out"):
        try:
            corpus = Corpus(source, seed=0, split=split)
        except ValueError:  # a small corpus may hold nothing out
            continue
        objects += [(corpus, thing) for thing in corpus.objects]
    objects.sort(key=lambda pair: pair[1].first)
    size = objects[0][0].buffers.shape[1]
    for start in range(0, len(objects), _PER_SHEET):
        page = objects[start : start + _PER_SHEET]
        rows = -(-len(page) // _COLUMNS)
        sheet = Image.new("RGB", (_COLUMNS * (3 * size + 6), rows * (size + _LABEL)), "white")
        write = ImageDraw.Draw(sheet)
        for i, (corpus, thing) in enumerate(page):
            x, y = i % _COLUMNS * (3 * size + 6), i // _COLUMNS * (size + _LABEL)
            for k, picture in enumerate(_pictures(corpus, thing)):
                sheet.paste(Image.fromarray((picture * 255).round().byte().numpy()), (x + k * size, y))
            where = thing.record.key.replace("BlendSwap-CC-", "")
            mark = "*" if thing.paintable else ""
            write.text((x, y + size), f"{thing.record.noun}{mark} {where}"[:33], fill="black")
        path = out / f"models-{start // _PER_SHEET:02d}.png"
        sheet.save(path)
        yield path


def _pictures(corpus: Corpus, thing: Object) -> list[Tensor]:
    """Three pictures [H,W,3] in 0..1 of an object, on white: front and side, and the front in other paints."""
    azimuth, elevation = torch.tensor(thing.record.azimuth), torch.tensor(thing.record.elevation)
    level = (elevation - 0.3).abs()
    front, side = (int(((azimuth - a).abs() + 0.5 * level).argmin()) for a in (0.0, 0.9))
    rows = torch.tensor([front, side, front]) + thing.first
    tints = torch.full((3, 3, 3), torch.nan)
    first = 0 if thing.record.toy else 2
    for slot in range(thing.num_colours):
        tints[first:, slot] = torch.from_numpy(tint_of(("red", "blue", "yellow")[slot]))
    rgb, alpha = paint(corpus.buffers[rows], tints, luminance=torch.full((3,), thing.luminance))
    return list(rgb * alpha + 1 - alpha)
