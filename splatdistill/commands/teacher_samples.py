"""The Fréchet distance of `bench`: renders of the objects against pictures that their teacher draws by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from splatdistill.io import names

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from splatdistill.batch.plan import Job
    from splatdistill.evaluate import EvalObject
    from splatdistill.evaluate.frechet import FeatureNetwork
    from splatdistill.priors.base import Prior
    from splatdistill.rendering.renderer import Renderer
    from splatdistill.scene.types import Cameras

NUM_VIEWS = 8
"""Pictures of each object, and of each prompt and seed of the teacher; more where it sees more at once."""


def network(weights: str) -> FeatureNetwork:
    """Inception with the weights of that file, or without one the ImageNet classifier. ValueError where it is not
    installed.
    """
    from splatdistill.evaluate.external import ImageNet
    from splatdistill.evaluate.frechet import Inception

    return Inception(Path(weights)) if weights else ImageNet()


def judge(
    subjects: Sequence[EvalObject],
    jobs: Sequence[Job],
    *,
    features: FeatureNetwork,
    renderer: Renderer,
    folder: Path,
    device: torch.device,
) -> tuple[dict[str, dict[str, float | None]], list[float | None]]:
    """By method the distance between its renders and the teacher's samples, and for each object the diversity of its
    method and prompt over seeds, None for a single seed. jobs: of the subjects. folder: keeps the samples, a picture
    for each prompt and seed, and those that it holds are not drawn again.
    """
    import torch

    from splatdistill.evaluate import frechet, metrics

    drawn = _Samples(folder, device)
    renders: dict[tuple[str, str], list[Tensor]] = {}
    samples: dict[tuple[str, str], list[Tensor]] = {}
    seen: dict[Path, Tensor] = {}
    for subject, job in zip(subjects, jobs, strict=True):
        path, cameras = drawn.of(job)
        if path not in seen:
            seen[path] = features.features(_read(path, len(cameras)))
        key = job.config.method, job.config.prompt
        renders.setdefault(key, []).append(features.features(_render(subject, cameras, renderer)))
        samples.setdefault(key, []).append(seen[path])
    spread = {
        key: metrics.diversity([torch.nn.functional.normalize(x, dim=-1) for x in objects])
        for key, objects in renders.items()
        if len(objects) > 1
    }

    def of(method: str, features: Mapping[tuple[str, str], Sequence[Tensor]]) -> list[Tensor]:
        return [torch.cat(list(each)) for key, each in features.items() if key[0] == method]

    methods = dict.fromkeys(job.config.method for job in jobs)
    distances = {method: frechet.with_interval(of(method, renders), of(method, samples)) for method in methods}
    return distances, [spread.get((job.config.method, job.config.prompt)) for job in jobs]


def _render(subject: EvalObject, cameras: Cameras, renderer: Renderer) -> Tensor:
    """[V,H,W,3] on white, on the CPU."""
    import torch

    device = subject.splats.device
    with torch.no_grad():
        seen = renderer.render(
            subject.splats, cameras.to(device), background=torch.ones(len(cameras), 3, device=device)
        )
    return seen.rgb.clamp(0, 1).cpu()


class _Samples:
    """Draws what is not there yet; the last teacher stays loaded."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.folder, self.device = folder, device
        self._teacher: tuple[tuple[Any, ...], Prior] | None = None

    def of(self, job: Job) -> tuple[Path, Cameras]:
        """The file of the samples of the prompt and seed of a run, its views side by side, and their cameras in that
        order.
        """
        import torch

        from splatdistill.config import presets
        from splatdistill.io.video import write_image
        from splatdistill.priors import families, sampling
        from splatdistill.priors.base import Choice

        prior, config = self._load(job), job.config
        choice = Choice(
            config.prompt, seed=config.seed, instance=config.prior_instance, mixture=config.prior_mixture,
            nearest=config.nearest,
        )  # fmt: skip
        which = {"choice": repr(choice), "prior": config.prior, "encoder": config.encoder, "side": config.prior_size}
        path = self.folder / f"{names.run_name(config.prompt, which | {'loras': list(config.lora)})}.png"
        parts = -(-NUM_VIEWS // prior.num_views)
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            scale = presets.sampling_guidance(families.family_of(config.prior))
            rows = [
                sampling.sample(
                    prior, choice, guidance_scale=scale, part=i, parts=parts, device=self.device
                )
                for i in range(parts)
            ]  # fmt: skip
            write_image(path, torch.cat(list(torch.cat(rows)), 1))
        return path, sampling.ring(prior, parts=parts)

    def _load(self, job: Job) -> Prior:
        from splatdistill import priors

        config = job.config

        asked = (config.prior, config.dtype, config.max_memory, config.encoder, config.prior_size, config.lora)
        if self._teacher is None or self._teacher[0] != asked:
            prior = priors.load(
                config.prior, device=self.device, dtype=config.dtype, max_memory=config.max_memory,
                encoder=config.encoder, image_size=config.prior_size, loras=config.lora,
            )  # fmt: skip
            self._teacher = asked, prior
        return self._teacher[1]


def _read(path: Path, count: int) -> Tensor:
    """The `count` pictures that stand side by side in a file, [V,H,W,3] in 0..1."""
    import numpy as np
    import torch
    from PIL import Image

    with Image.open(path) as file:
        row = torch.from_numpy(np.asarray(file.convert("RGB")).copy())  # pyright: ignore[reportUnknownMemberType]
    return torch.stack(row.chunk(count, 1)).float() / 255
