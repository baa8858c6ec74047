"""What a judge is worth, measured on renders of the real models that it never saw: other views, other instances.

The models are drawn from 8 sides as `splatdistill eval` draws splats. Synthetic Janus objects are made of the same
pictures: their front views, mirrored, stand in for those from behind.
"""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from splatdistill.config.schema import CameraConfig
from splatdistill.embedded.corpus.build import select_models
from splatdistill.embedded.corpus.captions import COLOURS, tint
from splatdistill.embedded.corpus.dataset import Corpus
from splatdistill.embedded.corpus.furniture import load_mesh
from splatdistill.embedded.corpus.layout import BUFFERS, INDEX, Record, write_index
from splatdistill.embedded.corpus.nouns import NOUNS, split_key
from splatdistill.embedded.corpus.render import Caster
from splatdistill.embedded.corpus.splits import held_out_instances
from splatdistill.embedded.judge.images import one_tint, prompt_of
from splatdistill.embedded.judge.networks import IMAGE_SIZE, EmbeddedJudge
from splatdistill.evaluate import GEOMETRY_GROUND, NUM_VIEWS, metrics
from splatdistill.io.video import to_uint8
from splatdistill.priors.gbuffer import SHADING, paint
from splatdistill.scene.cameras import turntable

ELEVATION, CHOICE = 15.0, (10.0, 20.0)
"""Degrees: the views that figures are measured on, and those that the probe's nouns and threshold are chosen on."""
NO_FRONT = frozenset((
    "basketball", "birthday cake", "cactus", "christmas tree", "cupcake", "fire hydrant", "gift", "hamburger", "lamp",
    "mug", "palm tree", "soccer ball", "table", "traffic cone", "tree", "umbrella", "vase",
))  # fmt: skip
"""Kinds of things without a front; a single model has marks that give its front side away all the same."""
_CHOSEN_FLAGGED, _CHOSEN_FALSE = 0.95, 0.025  # half as far from perfect as the bars of the probe
_THRESHOLDS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6)

Calls = dict[str, list[tuple[Tensor, Tensor]]]
"""By noun: for every object the probability of a front [8], as it is and with two fronts."""


@dataclass(frozen=True)
class Turn:
    """8 views of one model, painted or not. rgb: [8,H,W,3] on white; alpha: [8,H,W,1]; geometry: as `eval` draws it."""

    noun: str
    key: str
    colour: str | None
    elevation: float
    rgb: Tensor
    alpha: Tensor
    geometry: Tensor


class Turntables:
    """A folder of turntable renders of all models of some nouns, in the layout of a corpus; made once, then read."""

    def __init__(self, folder: Path, *, furniture: str | None, nouns: Collection[str]) -> None:
        if not (folder / INDEX).exists():
            _build(folder, furniture=furniture, nouns=nouns)
        self.corpus = Corpus(folder, seed=0)

    def turns(self, elevation: float, *, colours: Sequence[str | None], seed: int) -> Iterator[Turn]:
        """Every model in each of the colours; None is its own look, and the others are for paintable ones."""
        draw = random.Random(seed)  # noqa: S311 (nothing secret here)
        offset = NUM_VIEWS * (ELEVATION, *CHOICE).index(elevation)
        for thing in self.corpus.objects:
            views = self.corpus.buffers[thing.first + offset : thing.first + offset + NUM_VIEWS]
            luminance = torch.full((NUM_VIEWS,), thing.luminance)
            for colour in colours if thing.paintable else [c for c in colours if c is None]:
                shade = np.full(3, np.nan, dtype=np.float32) if colour is None else tint(colour, draw)
                rgb, alpha = paint(views, one_tint(np.stack([shade] * NUM_VIEWS)), luminance=luminance)
                shading = views[..., SHADING, None].float() / 255
                geometry = (shading * alpha + GEOMETRY_GROUND * (1 - alpha)).expand(-1, -1, -1, 3)
                key, noun = thing.record.key, thing.record.noun
                yield Turn(noun, key, colour, elevation, rgb * alpha + (1 - alpha), alpha, geometry)


def _build(folder: Path, *, furniture: str | None, nouns: Collection[str]) -> None:
    tables = [
        turntable(CameraConfig(), num_frames=NUM_VIEWS, size=IMAGE_SIZE, elevation_deg=elevation)
        for elevation in (ELEVATION, *CHOICE)
    ]
    views: list[NDArray[np.uint8]] = []
    records = []
    for noun, model, yaw in (chosen for chosen in select_models(furniture) if chosen[0].name in nouns):
        caster = Caster(load_mesh(model, yaw_deg=yaw))
        painted, shares = caster.choose_paint(tables[0])
        angles = ("azimuth", "elevation", "radius")
        cameras: dict[str, Any] = {k: torch.cat([getattr(t, k) for t in tables]).tolist() for k in angles}
        first = sum(len(v) for v in views)
        records.append(Record(noun=noun.name, key=model.key, paint_share=shares[0], first=first, **cameras))
        views.append(np.concatenate([caster.gbuffer(table, paint=painted) for table in tables]))
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / BUFFERS, np.concatenate(views))
    (folder / INDEX).write_text(json.dumps(write_index(records, size=IMAGE_SIZE, seed=0)), encoding="utf-8")


def with_two_fronts(views: Tensor) -> Tensor:
    """8 views [8,H,W,C] of a synthetic Janus object: from behind it shows the mirror images of its front half."""
    behind = {3: 1, 4: 0, 5: 7}
    return torch.stack([views[behind[i]].flip(1) if i in behind else views[i] for i in range(NUM_VIEWS)])


def measure(judge: EmbeddedJudge, tables: Turntables, *, sheet: Path | None = None) -> dict[str, Any]:
    """Every figure of the card. sheet: where to draw the pictures that were read wrong."""
    pool = judge.config["pool"]
    nouns = {noun for prompt in pool if (noun := judge.noun(prompt))}
    colours = sorted({colour for colour in COLOURS if any(colour in prompt.split() for prompt in pool)})
    plain = [prompt_of(noun, None) for noun in judge.config["nouns"]]  # the corpus may know more by now
    away = {split_key(k)[0] for noun in NOUNS for k in held_out_instances(noun.models, seen=noun.first)}
    painted = [turn for turn in tables.turns(ELEVATION, colours=colours, seed=1) if turn.noun in nouns]
    own = list(tables.turns(ELEVATION, colours=[None], seed=1))
    few, bare = [turn for turn in own if turn.noun in nouns], [prompt_of(noun, None) for noun in sorted(nouns)]
    wrong: list[tuple[Tensor, str]] = []
    coloured = _retrieval(judge, painted, pool, wrong=wrong)
    natural = _retrieval(judge, own, plain, wrong=wrong)
    if sheet is not None:
        _draw(sheet, wrong)
    geometry, geometry_all = (_retrieval(judge, t, p, geometry=True) for t, p in ((few, bare), (own, plain)))
    return {
        "r_precision": coloured,
        "r_precision_held_out_instances": _retrieval(judge, [t for t in painted if t.key in away], pool),
        "nouns": natural,
        "nouns_held_out_instances": _retrieval(judge, [t for t in own if t.key in away], plain),
        "geometry": geometry,
        "geometry_held_out_instances": _retrieval(judge, [t for t in few if t.key in away], bare, geometry=True),
        "geometry_all_nouns": geometry_all,
        "real": {
            "coloured": _figures(judge, painted, coloured, geometry),
            "plain": _figures(judge, own, natural, geometry_all),
        },
        "probe": _probe(judge, tables),
    }


def _retrieval(
    judge: EmbeddedJudge,
    turns: Sequence[Turn],
    among: Sequence[str],
    *,
    geometry: bool = False,
    wrong: list[tuple[Tensor, str]] | None = None,
) -> dict[str, float]:
    """Shares of views and of objects that find their own prompt; geometry: without colours in picture and prompt.
    wrong: gets the views rgb [H,W,3] that were read wrong, each with what they were read as.
    """
    texts = judge.embed_texts(among)
    by_view, by_object = [], []
    for turn in turns:
        pictures = turn.geometry if geometry else turn.rgb
        images = judge.embed_images(pictures)
        index = list(among).index(prompt_of(turn.noun, None if geometry else turn.colour))
        right = metrics.retrieved(images, texts, torch.full((NUM_VIEWS,), index))
        by_view.append(float(right.mean()))
        by_object.append(float(metrics.retrieved(metrics.mean_direction(images)[None], texts, torch.tensor([index]))))
        if wrong is not None:
            read = (images @ texts.T).argmax(1)
            missed = torch.nonzero(right < 1)[:, 0].tolist()
            wrong += [(pictures[view], f"{among[index]}: {among[int(read[view])]}") for view in missed]
    count = max(len(by_view), 1)
    return {"views": round(sum(by_view) / count, 4), "objects": round(sum(by_object) / count, 4),
            "num_objects": len(by_view), "prompts": len(among), "chance": round(1 / len(among), 4)}  # fmt: skip


def _figures(
    judge: EmbeddedJudge, turns: Sequence[Turn], retrieval: dict[str, float], geometry: dict[str, float]
) -> dict[str, float]:
    """The columns that `eval` shows for real renders."""
    rows = [
        {"view_consistency": metrics.view_consistency(judge.embed_images(t.rgb)), **metrics.appearance(t.rgb, t.alpha)}
        for t in turns
    ]
    return {
        "r_precision": retrieval["views"],
        "r_precision_object": retrieval["objects"],
        "geometry_r_precision": geometry["views"],
        **{name: round(sum(row[name] for row in rows) / len(rows), 4) for name in rows[0]},
    }


def _probe(judge: EmbeddedJudge, tables: Turntables) -> dict[str, Any]:
    """Chooses threshold and nouns on some views, measures on others."""
    chosen, held = _calls(judge, tables, CHOICE, seed=2), _calls(judge, tables, (ELEVATION,), seed=3)
    candidates = {threshold: _tellable(chosen, threshold) for threshold in _THRESHOLDS}
    threshold = max(_THRESHOLDS, key=lambda t: (len(candidates[t]), -abs(t - 0.4)))
    nouns, every = candidates[threshold], sorted(held)

    def share(of: Sequence[str], *, janus: bool) -> float:
        return round(_flagged([row for noun in of for row in held[noun]], threshold, janus=janus), 4)

    return {
        "threshold": threshold, "nouns": nouns, "objects": sum(len(held[noun]) for noun in nouns),
        "mirrored_flagged": share(nouns, janus=True), "real_flagged": share(nouns, janus=False),
        "mirrored_flagged_all_nouns": share(every, janus=True), "real_flagged_all_nouns": share(every, janus=False),
    }  # fmt: skip


def _tellable(calls: Calls, threshold: float) -> list[str]:
    """The nouns whose objects the probe gets right nearly always, with one front and with two."""
    return [
        noun
        for noun, rows in sorted(calls.items())
        if noun not in NO_FRONT
        and _flagged(rows, threshold, janus=True) >= _CHOSEN_FLAGGED
        and _flagged(rows, threshold, janus=False) <= _CHOSEN_FALSE
    ]


def _flagged(rows: Sequence[tuple[Tensor, Tensor]], threshold: float, *, janus: bool) -> float:
    """The share of objects that are called a Janus, of the synthetic ones or of the real ones."""
    flags = [metrics.is_janus((row[janus] >= threshold).tolist()) for row in rows]
    return sum(flags) / max(len(flags), 1)


def _calls(judge: EmbeddedJudge, tables: Turntables, elevations: Sequence[float], *, seed: int) -> Calls:
    """What the probe says of every object in some colours, sharp and blurred as Gaussians are."""
    out: Calls = {}
    draw = random.Random(seed)  # noqa: S311 (nothing secret here)
    for elevation in elevations:
        for turn in tables.turns(elevation, colours=[None, *draw.sample(list(COLOURS), 6)], seed=seed):
            soft = F.avg_pool2d(turn.rgb.permute(0, 3, 1, 2), 3, 1, 1, count_include_pad=False).permute(0, 2, 3, 1)
            for rgb in (turn.rgb, soft):
                pair = judge.front(rgb), judge.front(with_two_fronts(rgb))
                out.setdefault(turn.noun, []).append(pair)
    return out


def _draw(path: Path, wrong: Sequence[tuple[Tensor, str]], *, columns: int = 12, rows: int = 10) -> None:
    """A sheet of some of the wrong views [H,W,3], each above what it was read as."""
    side, text = 2 * IMAGE_SIZE, 26
    sheet = Image.new("RGB", (columns * side, rows * (side + text)), "white")
    pen = ImageDraw.Draw(sheet)
    picked = random.Random(0).sample(list(wrong), min(columns * rows, len(wrong)))  # noqa: S311
    for i, (picture, label) in enumerate(picked):
        corner = (i % columns * side, i // columns * (side + text))
        sheet.paste(Image.fromarray(to_uint8(picture)).resize((side, side)), corner)
        pen.text((corner[0], corner[1] + side), "\n".join(label.split(": ")), fill="black")
    sheet.save(path)
