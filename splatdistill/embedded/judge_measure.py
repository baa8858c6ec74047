"""What a judge is worth, measured on renders of the real models that it never saw: other views, other instances.

The models are drawn from 8 sides as `splatdistill eval` draws splats, and once more as synthetic Janus objects: the
front half of the mesh and its mirror image.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from splatdistill.cameras import turntable
from splatdistill.config import CameraConfig
from splatdistill.embedded.corpus.build import select_models
from splatdistill.embedded.corpus.captions import COLOURS, article, tint
from splatdistill.embedded.corpus.dataset import Corpus, paint
from splatdistill.embedded.corpus.furniture import Mesh, load_mesh
from splatdistill.embedded.corpus.layout import BUFFERS, INDEX
from splatdistill.embedded.corpus.nouns import NOUNS, PLURALS
from splatdistill.embedded.corpus.render import Caster
from splatdistill.embedded.judge import IMAGE_SIZE, MAX_FALSE, MIN_FLAGGED, Judge
from splatdistill.embedded.judge_pictures import held_out
from splatdistill.evaluate import GEOMETRY_GROUND, NUM_VIEWS, metrics
from splatdistill.io.video import to_uint8

ELEVATION, CHOICE = 15.0, (5.0, 30.0)
"""Degrees: the views that figures are measured on, and those that the probe's nouns and threshold are chosen on."""
_THRESHOLDS = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)


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
    """A folder of turntable renders in the layout of a corpus; made once, then read."""

    def __init__(self, folder: Path, *, furniture: str | None, mirrored: bool) -> None:
        if not (folder / INDEX).exists():
            _build(folder, furniture=furniture, mirrored=mirrored)
        corpus = Corpus(folder, seed=0)
        records = {record["first"]: record for record in json.loads((folder / INDEX).read_text())["models"]}
        self.buffers = corpus.buffers
        self.things = [(thing, records[thing.first]["key"]) for group in corpus.by_noun for thing in group]

    def turns(self, elevation: float, *, colours: Sequence[str | None], seed: int) -> Iterator[Turn]:
        """Every model in each of the colours; None is its own look, and the others are for paintable ones."""
        draw = random.Random(seed)  # noqa: S311 (nothing secret here)
        offset = NUM_VIEWS * (ELEVATION, *CHOICE).index(elevation)
        for thing, key in self.things:
            views = self.buffers[thing.first + offset : thing.first + offset + NUM_VIEWS]
            for colour in colours if thing.paintable else [c for c in colours if c is None]:
                shade = None if colour is None else tint(colour, draw)
                alpha = views[..., 5:].astype(np.float32) / 255
                rgb = paint(views, shade, luminance=thing.luminance) * alpha + (1 - alpha)
                geometry = views[..., 3:4].astype(np.float32) / 255 * alpha + GEOMETRY_GROUND * (1 - alpha)
                pictures = [rgb, alpha, np.repeat(geometry, 3, -1)]
                tensors = [torch.from_numpy(p.astype(np.float32)) for p in pictures]
                yield Turn(thing.noun.name, key, colour, elevation, *tensors)


def _build(folder: Path, *, furniture: str | None, mirrored: bool) -> None:
    tables = [
        turntable(CameraConfig(), num_frames=NUM_VIEWS, size=IMAGE_SIZE, elevation_deg=elevation)
        for elevation in (ELEVATION, *CHOICE)
    ]
    views, models = [], []
    for noun, model, yaw in select_models(furniture):
        mesh = load_mesh(model, yaw_deg=yaw)
        caster = Caster(mirror_front(mesh) if mirrored else mesh)
        painted, share = caster.choose_paint(tables[0])
        cameras = {k: torch.cat([getattr(t, k) for t in tables]).tolist() for k in ("azimuth", "elevation", "radius")}
        first = sum(len(v) for v in views)
        models.append({"noun": noun.name, "key": model.key, "paint_share": share, "first": first, **cameras})
        views.append(np.concatenate([caster.gbuffer(table, paint=painted) for table in tables]))
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / BUFFERS, np.concatenate(views))
    (folder / INDEX).write_text(json.dumps({"size": IMAGE_SIZE, "seed": 0, "models": models}))


def mirror_front(mesh: Mesh) -> Mesh:
    """The triangles before the middle (+z) and their mirror image behind it: an object with two fronts and no back."""
    kept = mesh.vertices[mesh.faces].mean(1)[:, 2] > 0
    front, back = np.array([1.0, 1, 1]), np.array([1.0, 1, -1])
    faces = mesh.faces[kept]
    return dataclasses.replace(
        mesh,
        vertices=np.concatenate([mesh.vertices * side for side in (front, back)]),
        normals=np.concatenate([mesh.normals * side for side in (front, back)]),
        uv=np.concatenate([mesh.uv, mesh.uv]),
        faces=np.concatenate([faces, faces[:, ::-1] + len(mesh.vertices)]),
        face_material=np.concatenate([mesh.face_material[kept]] * 2),
    )


def prompt_of(noun: str, colour: str | None) -> str:
    phrase = f"{colour} {noun}" if colour else noun
    return f"{article(phrase, plural=noun in PLURALS)} {phrase}"


def measure(judge: Judge, *, real: Turntables, mirrored: Turntables, sheet: Path | None = None) -> dict[str, Any]:
    """Every figure of the card. sheet: where to draw the pictures that were read wrong."""
    pool = judge.config["pool"]
    nouns = {judge.noun(prompt) for prompt in pool}
    colours = sorted({colour for colour in COLOURS if any(colour in prompt.split() for prompt in pool)})
    plain = [prompt_of(noun.name, None) for noun in NOUNS]
    away = {model for noun in NOUNS for model in held_out(noun.models)}
    painted = [turn for turn in real.turns(ELEVATION, colours=colours, seed=1) if turn.noun in nouns]
    own = list(real.turns(ELEVATION, colours=[None], seed=1))
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
        "probe": _probe(judge, real, mirrored),
    }


def _retrieval(
    judge: Judge,
    turns: Sequence[Turn],
    among: Sequence[str],
    *,
    geometry: bool = False,
    wrong: list[tuple[Tensor, str]] | None = None,
) -> dict[str, float]:
    """Shares of views and of objects that find their own prompt; geometry: without colours in picture and prompt."""
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
    judge: Judge, turns: Sequence[Turn], retrieval: dict[str, float], geometry: dict[str, float]
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


def _probe(judge: Judge, real: Turntables, mirrored: Turntables) -> dict[str, Any]:
    """Chooses threshold and nouns on some views, measures on others; half of the pictures are blurred."""
    chosen = {kind: _calls(judge, tables, CHOICE, seed=2) for kind, tables in (("real", real), ("two", mirrored))}
    sorted_out = {threshold: _tellable(chosen, threshold) for threshold in _THRESHOLDS}
    threshold = max(_THRESHOLDS, key=lambda t: (len(sorted_out[t]), -abs(t - 0.5)))
    nouns = sorted_out[threshold]
    held = {kind: _calls(judge, tables, (ELEVATION,), seed=3) for kind, tables in (("real", real), ("two", mirrored))}

    def share(kind: str, of: Sequence[str]) -> float:
        flags = [metrics.is_janus((row >= threshold).tolist()) for noun in of for row in held[kind].get(noun, [])]
        return round(sum(flags) / max(len(flags), 1), 4)

    everything = sorted(held["real"])
    return {
        "threshold": threshold, "nouns": nouns,
        "objects": sum(len(held["two"][noun]) for noun in nouns),
        "mirrored_flagged": share("two", nouns), "real_flagged": share("real", nouns),
        "mirrored_flagged_all_nouns": share("two", everything), "real_flagged_all_nouns": share("real", everything),
    }  # fmt: skip


def _tellable(calls: dict[str, dict[str, list[Tensor]]], threshold: float) -> list[str]:
    """The nouns whose objects the probe gets right nearly always, with one front and with two."""

    def rate(kind: str, noun: str) -> float:
        rows = calls[kind].get(noun, [])
        return sum(metrics.is_janus((row >= threshold).tolist()) for row in rows) / max(len(rows), 1)

    return [n for n in sorted(calls["real"]) if rate("two", n) >= MIN_FLAGGED and rate("real", n) <= MAX_FALSE]


def _calls(judge: Judge, tables: Turntables, elevations: Sequence[float], *, seed: int) -> dict[str, list[Tensor]]:
    """By noun: the probability of a front [8] for every object."""
    out: dict[str, list[Tensor]] = {}
    draw = random.Random(seed)  # noqa: S311 (nothing secret here)
    for elevation in elevations:
        for turn in tables.turns(elevation, colours=[None, *draw.sample(list(COLOURS), 3)], seed=seed):
            soft = F.avg_pool2d(turn.rgb.permute(0, 3, 1, 2), 3, 1, 1, count_include_pad=False).permute(0, 2, 3, 1)
            out.setdefault(turn.noun, []).extend(judge.front(rgb) for rgb in (turn.rgb, soft))
    return out


def _draw(path: Path, wrong: Sequence[tuple[Tensor, str]], *, columns: int = 12, rows: int = 10) -> None:
    side, text = 2 * IMAGE_SIZE, 26
    sheet = Image.new("RGB", (columns * side, rows * (side + text)), "white")
    pen = ImageDraw.Draw(sheet)
    picked = random.Random(0).sample(list(wrong), min(columns * rows, len(wrong)))  # noqa: S311
    for i, (picture, label) in enumerate(picked):
        corner = (i % columns * side, i // columns * (side + text))
        sheet.paste(Image.fromarray(to_uint8(picture)).resize((side, side)), corner)
        pen.text((corner[0], corner[1] + side), "\n".join(label.split(": ")), fill="black")
    sheet.save(path)
