"""A step of score distillation in four parts, which a notebook can call one by one: draw, render, score, apply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from splatdistill import ops
from splatdistill.config.schema import BackgroundConfig, CameraConfig, LightConfig
from splatdistill.guidance.base import Guidance
from splatdistill.ops.update import Verdict
from splatdistill.priors.base import joined
from splatdistill.priors.profiled import ProfiledPrior
from splatdistill.rendering.renderer import Renderer
from splatdistill.rendering.shading import Lights, sample_background, sample_lights, shade
from splatdistill.scene import cameras as orbits
from splatdistill.scene.gaussians import Splats
from splatdistill.scene.types import Cameras, NoisyBatch, RenderOutput, SurfaceViews
from splatdistill.training.gaussian_model import GaussianModel
from splatdistill.training.splat_optimizer import check
from splatdistill.utils import rng
from splatdistill.utils.device import send
from splatdistill.utils.distributed import SINGLE_PROCESS, ProcessGroup


@dataclass(frozen=True)
class Sampling:
    """What the random part of a step is drawn from: num_views of size x size pixels. steps: of the whole run, over
    which the lights change.
    """

    camera: CameraConfig
    background: BackgroundConfig
    light: LightConfig
    num_views: int
    size: int
    steps: int


@dataclass(frozen=True)
class Drawn:
    """The random part of a step: V cameras of this process, what lies behind the object [V,3] on the device, and the
    lights, None where images show plain colours.
    """

    cameras: Cameras
    background: Tensor
    lights: Lights | None


@dataclass(frozen=True)
class Rendered:
    """output: of the renderer, with the graph to the splats. image: [V,H,W,3], or [V,H,W,4] with alpha, as the prior
    gets it.
    """

    output: RenderOutput
    image: Tensor


@dataclass(frozen=True)
class Scored:
    """batch: the noised renders. gradient: of the images, [P*V,H,W,3] or [P*V,H,W,4] for P objects one after another.
    norms: [P*V] of the gradient of x0. num_nonfinite: [] int64, elements of it that were not finite, of all processes
    once `backward` is done.
    """

    batch: NoisyBatch
    gradient: Tensor
    norms: Tensor
    num_nonfinite: Tensor


def draw(
    sampling: Sampling,
    *,
    seed: int,
    step: int,
    device: torch.device,
    on_white: bool = False,
    ranks: ProcessGroup = SINGLE_PROCESS,
    camera_step: int | None = None,
) -> Drawn:
    """Cameras, background and lights of a step, this process's share. on_white: whatever the settings say, because the
    prior sees alpha. camera_step: the step whose cameras are taken, where that is another one.
    """
    num_views, group, progress = sampling.num_views, sampling.camera.views_per_group, step / sampling.steps

    def stream(name: str) -> torch.Generator:
        return rng.generator(seed, step, name)

    of_cameras = rng.generator(seed, step if camera_step is None else camera_step, "camera")
    cameras = orbits.sample(sampling.camera, num_views=num_views, size=sampling.size, generator=of_cameras)
    background = sample_background(
        sampling.background, num_views=num_views, group=group, generator=stream("background")
    )
    lights = sample_lights(sampling.light, cameras, group=group, progress=progress, generator=stream("light"))
    if on_white:
        background = torch.ones_like(background)
    if ranks.world > 1:
        mine = ranks.shard(torch.arange(num_views))
        cameras, background = cameras.select(mine), background[mine]
        lights = lights.select(mine) if lights is not None else None
    return Drawn(cameras, send(background, device), lights)


def render(splats: Splats, drawn: Drawn, *, renderer: Renderer, with_alpha: bool = False) -> Rendered:
    """The splats as the cameras see them, lit where lights were drawn."""
    cameras, background, lights = drawn.cameras, drawn.background, drawn.lights
    output = renderer.render(splats, cameras, background=background, normals=lights is not None)
    image = output.rgb if lights is None else shade(output, cameras, lights, background=background)
    return Rendered(output, torch.cat([image, output.alpha], -1) if with_alpha else image)


def score(
    images: Sequence[Tensor],
    cameras: Cameras,
    *,
    guidance: Guidance[Any],
    prior: ProfiledPrior,
    seed: int,
    step: int,
    ranks: ProcessGroup = SINGLE_PROCESS,
    surface: SurfaceViews | None = None,
    source: Tensor | None = None,
) -> Scored:
    """Noises the images, asks the prior and takes the residual back to the images.

    images: [V,H,W,3] or [V,H,W,4] of each object; all are seen from the same V cameras. The graph is cut at the images:
    above them lies the prior's encoder, below them the rasteriser. surface: where they show the objects, for noise that
    lies on these. source: like one of the images, what the run began with.
    """
    count = len(images)
    if count > 1:
        cameras = cameras.select(torch.arange(len(cameras)).repeat(count))
    rgb = joined([image.detach() for image in images]).requires_grad_()
    x0 = prior.encode(rgb)
    guidance.surface = surface
    batch = guidance.noise(x0, cameras, prior, seed=seed, step=step)
    if source is not None:
        with torch.no_grad():
            batch = replace(batch, source=prior.encode(source.repeat(count, 1, 1, 1)))
    residual = guidance.residual(batch, prior, step=step)
    loss, norms, num_nonfinite = ops.residual(
        x0,
        terms=residual.terms,
        coef=residual.coef,
        weight=residual.weight,
        clamp=guidance.clamp(step),
        total_views=ranks.world * len(x0),
    )
    with prior.running():
        torch.autograd.backward(loss * count if count > 1 else loss)  # a mean over the views of each object
    assert rgb.grad is not None
    return Scored(batch, rgb.grad, norms, num_nonfinite)


def backward(
    models: Sequence[GaussianModel],
    rendered: Sequence[Rendered],
    scored: Scored,
    *,
    ranks: ProcessGroup = SINGLE_PROCESS,
    extra: Sequence[Tensor] = (),
) -> None:
    """Takes the gradient of the images, those of the regularizers, and that of an `extra` loss [] of each object, where
    there is one, back to the splats; sums over the processes.
    """
    shares = scored.gradient.chunk(len(models))
    for index, (model, one, gradient) in enumerate(zip(models, rendered, shares, strict=True)):
        regular = model.regularization(one.output)
        losses = [ops.loss_with_gradient(one.image, gradient=gradient)]
        # A mean over this process's views, and the processes are summed.
        more = [*([] if regular is None else [regular]), *extra[index : index + 1]]
        losses += [loss / ranks.world if ranks.world > 1 else loss for loss in more]
        torch.autograd.backward(losses)
        ranks.all_reduce(model.optimizer.grads)
    ranks.all_reduce([scored.num_nonfinite])


def apply(
    models: Sequence[GaussianModel],
    rendered: Sequence[Rendered],
    scored: Scored,
    *,
    step: int,
    ranks: ProcessGroup = SINGLE_PROCESS,
    extra: Sequence[Tensor] = (),
) -> tuple[Verdict, list[dict[str, int] | None]]:
    """Updates the splats of all objects, or of none where a gradient is not finite, and densifies where that is due:
    the verdict, and what densify did to each object. extra: a further loss [] of each, or none.
    """
    backward(models, rendered, scored, ranks=ranks, extra=extra)
    verdict = check([model.optimizer for model in models], num_nonfinite=scored.num_nonfinite)
    return verdict, [
        model.update(one.output, step=step, verdict=verdict) for model, one in zip(models, rendered, strict=True)
    ]
