"""The judge that comes with the package, and those that take its place, in front of finished objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from splatdistill import evaluate as judging
from splatdistill.config.schema import CameraConfig
from splatdistill.embedded.judge.networks import EmbeddedJudge
from splatdistill.evaluate import EvalObject, Renderer, Views
from splatdistill.scene.gaussians import Splats


def evaluate(
    subjects: Sequence[EvalObject],
    *,
    renderer: Renderer,
    prompts: Sequence[str] | None = None,
    clip: str = "",
    external: bool = False,
) -> tuple[dict[str, Any], list[Views]]:
    """As `splatdistill.evaluate.evaluate`. clip: the CLIP model that judges in place of ours, a folder or an id of the
    hub. external: an ImageNet classifier judges too.
    """
    shipped = EmbeddedJudge.load()
    judge, reference = shipped, shipped.reference
    if clip:
        from splatdistill.evaluate.clip import Clip

        judge, reference = Clip(clip), reference.for_another_judge()
    classifier = None
    if external:
        from splatdistill.evaluate.external import ImageNet

        classifier = ImageNet()
    return judging.evaluate(
        subjects, judge=judge, probe=shipped, reference=reference, renderer=renderer, prompts=prompts,
        external=classifier,
    )  # fmt: skip


def named_object(
    name: str, prompt: str, splats: Splats, camera: CameraConfig, summary: Mapping[str, Any]
) -> EvalObject:
    """An object to evaluate, with what its run says of itself."""
    return EvalObject(name, prompt, splats, camera, summary)
