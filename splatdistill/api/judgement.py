"""What a judge reads in finished objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from splatdistill.api.distilling import Result
from splatdistill.api.splats import Splats
from splatdistill.embedded.judge import shipped
from splatdistill.rendering.renderer import make_renderer


def judge(
    objects: Result | Sequence[Result] | Splats,
    *,
    prompt: str = "",
    prompts: Sequence[str] | None = None,
    clip: str = "",
    external: bool = False,
) -> dict[str, Any]:
    """Is each prompt read in its object, and how does that compare with real renders? As `splatdistill eval`.

    objects: results of `distill`, or the splats of a file together with `prompt`. prompts: what the objects' prompts
    compete with; None takes those of the objects and, where these are few, a pool of 40. clip: a CLIP model, folder or
    id of the hub, that judges in place of the small judge that is shipped. external: an ImageNet classifier judges too.

    Returns: plain data: `overall` means, `objects` one record each, shares in 0..1, with `chance`. 8 views of
    each object are drawn, [8,64,64,3] in 0..1.
    Raises: ValueError, one sentence, for splats without a prompt and for words that the judge does not know.
    Source: R-precision is DreamFields' (Jain et al., arXiv 2112.01455); `splatdistill/evaluate` has each figure.

    Example:
        >>> import splatdistill
        >>> result = splatdistill.distill("a red ball", prior="analytic", steps=2, size=16, threads=1)
        >>> splatdistill.judge(result)["overall"]["objects"]
        1
    """
    if isinstance(objects, Splats):
        if not prompt.strip():
            raise ValueError("prompt is empty; say what the splats should be, for example prompt='a red armchair'.")
        made = [shipped.named_object("splats", prompt, objects, objects.camera, {})]
    else:
        results = [objects] if isinstance(objects, Result) else list(objects)
        if not results:
            raise ValueError("judge: there is no object; give one result or more.")
        made = [_of_result(result) for result in results]
    found, _ = shipped.evaluate(
        made, renderer=make_renderer(made[0].splats.device), prompts=prompts, clip=clip, external=external
    )
    return found


def _of_result(result: Result) -> Any:
    c = result.config
    summary = {"method": c.method, "seed": c.seed, "steps": c.steps, "seconds_total": result.seconds}
    return shipped.named_object(c.prompt, c.prompt, result.splats, c.camera, summary)
