"""Evaluates finished objects: what a judge reads in their pictures, and how these compare with real renders."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Protocol

import torch
from torch import Tensor

from splatdistill.config.schema import CameraConfig
from splatdistill.evaluate import metrics
from splatdistill.evaluate.wording import candidates, without_colours, words
from splatdistill.rendering.renderer import Renderer
from splatdistill.rendering.shading import Lights, shade, sun
from splatdistill.scene.cameras import turntable
from splatdistill.scene.gaussians import Splats

NUM_VIEWS = 8
SIZE = 64
"""Side in pixels of the pictures that colours and contrasts are measured on, so that they compare."""
SOLID_SIZE = 224
"""Side of those on which fog is measured: in small ones most of it would be the outline."""
GEOMETRY_GROUND = 0.4
"""Gray behind textureless pictures: the objects are white there."""
_LAMP = {"azimuth": math.radians(32), "elevation": math.radians(48)}  # where the judge's training had its key light
_AMBIENT = 0.62
_JUDGED = ("r_precision", "r_precision_object", "geometry_r_precision", "geometry_r_precision_object",
           "similarity", "view_consistency", "read_as")  # fmt: skip
_MEANS = (*_JUDGED[:-1], "saturation", "contrast", "high_frequency", "fog", "faint",
          "seconds", "image_evaluations", "peak_memory_mb")  # fmt: skip


class Judge(Protocol):
    """Puts pictures and prompts into one space. name: what the report calls it; image_size: the side it wants, px."""

    name: str
    image_size: int

    def embed_images(self, rgb: Tensor) -> Tensor:
        """[V,H,W,3] in 0..1 to [V,D] of unit length."""
        ...

    def reads(self, prompt: str) -> bool:
        """Whether it knows the words of a prompt."""
        ...

    def embed_texts(self, prompts: Sequence[str]) -> Tensor:
        """T prompts that it reads to [T,D] of unit length."""
        ...


class FrontProbe(Protocol):
    """Calls views front or not. name: what the report calls it; probe_warning: why its calls are not to be trusted, one
    sentence, or nothing.
    """

    name: str
    probe_warning: str

    def has_front(self, prompt: str) -> bool:
        """Whether the object of a prompt has a front that the probe was shown to tell from its other sides."""
        ...

    def is_front(self, rgb: Tensor) -> Tensor:
        """[V,H,W,3] in 0..1 to [V] bool."""
        ...


class Classifier(Protocol):
    """Knows the world from elsewhere, and says how probable the right classes are. name: what the report calls it;
    image_size: the side it wants, px.
    """

    name: str
    image_size: int

    def score(self, prompt: str, rgb: Tensor, alpha: Tensor, *, model: str | None = None) -> dict[str, Any]:
        """Figures of views rgb [V,H,W,3] on white with alpha [V,H,W,1]; model: of the corpus, where one is meant."""
        ...

    def summary(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Of all objects, from what `score` gave for each together with its prompt."""
        ...


@dataclass(frozen=True)
class ReferenceStats:
    """What objects are held against.

    pool: prompts that join the runs' own. colours: words that name colours; geometry is judged without them. real:
    figures of real renders by kind of prompt, coloured or plain.
    """

    pool: tuple[str, ...]
    colours: frozenset[str]
    real: Mapping[str, Mapping[str, float]]

    def kind(self, prompt: str) -> str:
        return "coloured" if self.colours & set(words(prompt)) else "plain"

    def for_another_judge(self) -> ReferenceStats:
        """Without the figures that depend on the judge which measured them."""
        kept = ("saturation", "contrast", "high_frequency")
        real = {kind: {name: figures[name] for name in kept} for kind, figures in self.real.items()}
        return replace(self, real=real)


@dataclass(frozen=True)
class EvalObject:
    """One object to evaluate. summary: of its run, empty for a file; its `prior_model`, where there is one, is the key
    of the model of the corpus that the prior was asked for.
    """

    name: str
    prompt: str
    splats: Splats
    camera: CameraConfig
    summary: Mapping[str, Any]


@dataclass(frozen=True)
class Views:
    """NUM_VIEWS pictures round one object. rgb: [V,H,W,3] on white; alpha: [V,H,W,1]; geometry: [V,H,W,3] without
    colours, lit, on gray.
    """

    rgb: Tensor
    alpha: Tensor
    geometry: Tensor


@torch.no_grad()
def draw(subject: EvalObject, *, size: int, renderer: Renderer) -> Views:
    """The views of an object from the turntable's cameras, on the CPU."""
    cameras = turntable(subject.camera, num_frames=NUM_VIEWS, size=size)
    device = subject.splats.device
    output = renderer.render(subject.splats, cameras, background=torch.ones(NUM_VIEWS, 3, device=device), normals=True)
    ground = torch.full((NUM_VIEWS, 3), GEOMETRY_GROUND, device=device)
    geometry = shade(output, cameras, _geometry_lights(), background=ground)
    return Views(*(x.clamp(0, 1).cpu() for x in (output.rgb, output.alpha, geometry)))


def _geometry_lights() -> Lights:
    lights = sun(**_LAMP, num_views=NUM_VIEWS)
    return replace(
        lights, ambient=torch.full_like(lights.ambient, _AMBIENT), textureless=torch.ones_like(lights.textureless)
    )


def evaluate(
    subjects: Sequence[EvalObject],
    *,
    judge: Judge,
    probe: FrontProbe,
    reference: ReferenceStats,
    renderer: Renderer,
    prompts: Sequence[str] | None = None,
    external: Classifier | None = None,
) -> tuple[dict[str, Any], list[Views]]:
    """The results as plain data, and the views of each subject for a report.

    prompts: what the prompt of each picture competes with; None stands for the subjects' own and, where these are few,
    the pool. external: further judges. A prompt that the judge cannot read is left out of what it is asked; its figures
    are None for such an object.
    ValueError, one sentence, for a prompt that `prompts` lacks.
    """
    own = [subject.prompt for subject in subjects]
    if prompts and (missing := [prompt for prompt in own if prompt not in prompts]):
        raise ValueError(f"prompts: the list lacks {missing[0]!r}, the prompt of one of the runs; add it.")
    asked = list(dict.fromkeys(prompts or own))
    among = [prompt for prompt in asked if judge.reads(prompt)]
    scorer = _Scorer(judge, among if among and prompts else candidates(among, reference.pool), reference.colours)
    rows, pictures, embedded = [], [], []
    for subject in subjects:
        small = draw(subject, size=SIZE, renderer=renderer)
        views = small if judge.image_size == SIZE else draw(subject, size=judge.image_size, renderer=renderer)
        large = draw(subject, size=SOLID_SIZE, renderer=renderer)
        figures, images = scorer.score(views, subject.prompt)
        front = probe.is_front(small.rgb).tolist() if probe.has_front(subject.prompt) else None
        rows.append(
            {
                **_about(subject),
                **figures,
                **_finite(metrics.appearance(small.rgb, small.alpha)),
                **_finite(metrics.solidity(large.alpha, torch.sigmoid(subject.splats.opacities))),
                "front": front,
                "janus": None if front is None or probe.probe_warning else metrics.is_janus(front),
                **_external(external, subject, renderer),
            }
        )
        pictures.append(small)
        embedded.append(images)
    result = {
        "judge": judge.name,
        "among": scorer.among,
        "not_read": [prompt for prompt in asked if prompt not in among],
        "chance": {"r_precision": 1 / len(scorer.among), "geometry_r_precision": 1 / len(scorer.plain)},
        "real": {kind: dict(figures) for kind, figures in reference.real.items()},
        "janus_probe": {"name": probe.name, "warning": probe.probe_warning},
        "overall": _summary(rows),
        "methods": {method: _summary(list(group)) for method, group in _by(rows, "method")},
        "diversity": _diversity(rows, embedded),
        "objects": [{**row, "kind": reference.kind(row["prompt"])} for row in rows],
    }
    if external is not None:
        result["external"] = external.summary([{"prompt": row["prompt"], **row["external"]} for row in rows])
    return result, pictures


def _external(classifier: Classifier | None, subject: EvalObject, renderer: Renderer) -> dict[str, Any]:
    if classifier is None:
        return {}
    views = draw(subject, size=classifier.image_size, renderer=renderer)
    model = subject.summary.get("prior_model")
    return {"external": classifier.score(subject.prompt, views.rgb, views.alpha, model=model)}


class _Scorer:
    """Retrieval among a list of prompts, and among what is left of them without colours."""

    def __init__(self, judge: Judge, among: Sequence[str], colours: frozenset[str]) -> None:
        self.judge, self.among, self.colours = judge, list(among), colours
        self.plain = list(dict.fromkeys(without_colours(prompt, colours) for prompt in among))
        self.texts, self.plain_texts = judge.embed_texts(self.among), judge.embed_texts(self.plain)

    def score(self, views: Views, prompt: str) -> tuple[dict[str, Any], Tensor | None]:
        """The judge's figures of an object: is its prompt found, and as what is it read? And its embedded views [V,D].
        All None for a prompt that the judge does not read.
        """
        if prompt not in self.among:
            return dict.fromkeys(_JUDGED), None
        images, geometry = self.judge.embed_images(views.rgb), self.judge.embed_images(views.geometry)
        read = metrics.mean_direction(images) @ self.texts.T
        plain = self.plain.index(without_colours(prompt, self.colours))
        figures = {
            **_retrieval("", images, self.texts, self.among.index(prompt)),
            **_retrieval("geometry_", geometry, self.plain_texts, plain),
            "similarity": float((images @ self.texts[self.among.index(prompt)]).mean()),
            "view_consistency": metrics.view_consistency(images),
            "read_as": self.among[int(read.argmax())],
        }
        assert set(figures) == set(_JUDGED)
        return figures, images


def _retrieval(prefix: str, images: Tensor, texts: Tensor, index: int) -> dict[str, float]:
    """Shares of the views `images` [V,D], and of the object as a whole, that are nearest to the text `index` of texts
    [T,D]; prefix: of the names.
    """
    truth = torch.full((len(images),), index)
    whole = metrics.mean_direction(images)[None]
    return {
        f"{prefix}r_precision": float(metrics.retrieved(images, texts, truth).mean()),
        f"{prefix}r_precision_object": float(metrics.retrieved(whole, texts, truth[:1])),
    }


def _finite(figures: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no word for numbers that are not finite."""
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}


def _about(subject: EvalObject) -> dict[str, Any]:
    summary = subject.summary
    return {
        "name": subject.name,
        "prompt": subject.prompt,
        **{key: summary.get(key) for key in ("method", "seed", "steps", "image_evaluations", "peak_memory_mb")},
        "seconds": summary.get("seconds_total"),
        "num_splats": len(subject.splats),
    }


def _by(rows: Sequence[dict[str, Any]], *keys: str) -> list[tuple[str, list[dict[str, Any]]]]:
    def key(row: dict[str, Any]) -> str:
        return ": ".join(str(row[name] or "file") for name in keys)

    return [(name, list(group)) for name, group in groupby(sorted(rows, key=key), key)]


def _summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over objects, of those that have a figure. The Janus rate is over objects of prompts with a front, and
    front_rate is the share of these that show one at all: a shapeless object is no Janus either.
    """
    means = {}
    for name in _MEANS:
        known = [row[name] for row in rows if row[name] is not None]
        means[name] = sum(known) / len(known) if known else None
    called = [row["janus"] for row in rows if row["janus"] is not None]
    shown = [any(row["front"]) for row in rows if row["janus"] is not None]
    return {
        "objects": len(rows),
        **means,
        "janus_rate": sum(called) / len(called) if called else None,
        "front_rate": sum(shown) / len(shown) if shown else None,
        "janus_objects": len(called),
    }


def _diversity(rows: Sequence[dict[str, Any]], embedded: Sequence[Tensor | None]) -> dict[str, float]:
    """By method and prompt, of views embedded [V,D], where there are several objects of both; None for those that the
    judge does not read.
    """
    read = [{**row, "images": images} for row, images in zip(rows, embedded, strict=True) if images is not None]
    groups = _by(read, "method", "prompt")
    return {name: metrics.diversity([row["images"] for row in group]) for name, group in groups if len(group) > 1}
