"""The loop: render, encode, noise, ask the prior, push the residual back into the splats, densify now and then."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from splatdistill.config import settings
from splatdistill.config.schema import GUIDANCE, TrainConfig
from splatdistill.guidance import group_of, make_guidance, retune
from splatdistill.io import ply
from splatdistill.io.kinds import Assumptions
from splatdistill.io.runs import SPLATS
from splatdistill.priors.base import Choice, Prior, joined
from splatdistill.priors.pictured import USUAL, Match
from splatdistill.priors.profiled import ProfiledPrior
from splatdistill.rendering.renderer import make_renderer
from splatdistill.rendering.turntable import Turntable, render_frames, write_contact_sheet, write_views
from splatdistill.scene import cameras as orbits
from splatdistill.scene.gaussians import INITS, Splats
from splatdistill.scene.types import SurfaceViews
from splatdistill.training import checkpoint
from splatdistill.training.beginning import initial_splats
from splatdistill.training.gaussian_model import GaussianModel, Learning
from splatdistill.training.nonfinite import NonfiniteMonitor
from splatdistill.training.picture_loss import PictureLoss, picture_of
from splatdistill.training.region import apart
from splatdistill.training.run_log import Log
from splatdistill.training.step import Drawn, Rendered, Sampling, apply, draw, render, score
from splatdistill.utils import rng
from splatdistill.utils.cpu import Usage
from splatdistill.utils.device import AsyncScalars, Stopwatch, network_settings
from splatdistill.utils.distributed import SINGLE_PROCESS, ProcessGroup
from splatdistill.utils.process_state import random_numbers
from splatdistill.utils.progress import Progress


@dataclass(frozen=True)
class Observed:
    """What the last step saw. images: of each object [V,H,W,3], or [V,H,W,4] with alpha, in 0..1 as the prior got them.
    norms: [P*V] of the gradient of x0, for the views of one object after another.
    """

    images: tuple[Tensor, ...]
    norms: Tensor


class Trainer:
    """The state of a run between steps. `step` counts the steps done; `stage` holds the settings in force; `observed`
    is what the last step saw.

    others: priors by the names that stages give them. ranks: who else draws views of a step.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        prior: Prior,
        device: torch.device,
        others: Mapping[str, Prior] | None = None,
        ranks: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        self.config = config
        self.device = device
        self.stages = settings.stages(config)
        self.stage: TrainConfig = config
        self.priors = {config.prior: prior, **(others or {})}
        section = getattr(config, config.method)
        picture = picture_of(config.image, config.reference, config.camera) if config.image else None
        choice = Choice(
            config.prompt, seed=config.seed, instance=config.prior_instance, mixture=config.prior_mixture,
            nearest=config.nearest, source=getattr(section, "source_prompt", ""),
            source_instance=getattr(section, "source_instance", 0), picture=picture,
        )  # fmt: skip
        shown = [teacher.begin(choice) for teacher in self.priors.values()]
        self.prior_model = shown[0]
        match = getattr(prior, "match", None)  # of a prior that found its model in the picture
        box = match.box if isinstance(match, Match) else USUAL
        self.reference = PictureLoss(picture, box, config.reference.weight) if picture else None
        self.prior = ProfiledPrior(prior, Stopwatch(device))
        self.renderer = make_renderer(device, config.renderer)
        self.ranks = ranks
        self.guidance = make_guidance(config, ranks=self.ranks)
        self.guidance.bind(self.prior)
        self.source: Splats | None = None  # what the run began with, where a method asks for that
        self.particles = [self._model(index) for index in range(self.guidance.particles)]
        self.nonfinite = NonfiniteMonitor(device)
        self.step = 0
        self.observed: Observed | None = None
        self.seconds = 0.0
        self._begun, self._earlier = Usage.now(), Usage(0.0, 0.0)  # of this process, and of those before a resume
        self._said_starved = False
        self._measured: tuple[int, AsyncScalars] | None = None  # of a logged step, not yet in the log

    def _model(self, index: int) -> GaussianModel:
        """An object of the run at step 0; the first has the seed of the run."""
        config = self.config
        seed = rng.key(config.seed, index, "init") if index else config.seed
        taken = Assumptions(config.up, config.fit)
        splats = initial_splats(config.init, config.splats, seed=seed, taken=taken, camera=config.camera)
        # Turned harmonics may lie in memory in another order than the operators read.
        splats = Splats(**{name: x.to(self.device).contiguous() for name, x in splats.tensors.items()})
        if any(GUIDANCE[stage.method].needs_source for _, stage in self.stages):
            self.source = Splats(**{name: x.clone() for name, x in splats.tensors.items()})
        splats, fixed = apart(splats, config.init, config.splats, taken=taken)
        budget = 0 if config.init in INITS else len(splats)  # a file keeps all that it has
        return GaussianModel(splats, self.learning, seed=seed, budget=budget, fixed=fixed, ranks=self.ranks)

    @property
    def sampling(self) -> Sampling:
        """What the steps of this stage are drawn from."""
        c = self.stage
        return Sampling(c.camera, c.background, c.light, num_views=c.num_views, size=c.size, steps=c.steps)

    @property
    def learning(self) -> Learning:
        """How the objects learn in this stage."""
        c = self.stage
        return Learning(c.optim, c.densify, c.regularize, steps=c.steps)

    @property
    def splats(self) -> Splats:
        """Those of the first particle: the result, where there is one only."""
        return self.particles[0].shown

    def advance(self, log: Log) -> dict[str, float]:
        """One optimisation step; returns the numbers that it logged, or nothing. On CUDA those of a log step are
        logged a step later, when they have arrived by themselves.
        """
        start = time.perf_counter()
        config, step = self.config, self.step
        self._enter(step)
        logged = (step + 1) % config.output.log_every == 0 or step + 1 == config.steps
        seed, ranks, alpha = config.seed, self.ranks, self.prior.sees_alpha
        drawn = draw(
            self.sampling, seed=seed, step=step, device=self.device, on_white=alpha, ranks=ranks,
            camera_step=self.guidance.camera_step(step),
        )  # fmt: skip
        rendered = [render(p.shown, drawn, renderer=self.renderer, with_alpha=alpha) for p in self.particles]
        images = [one.image for one in rendered]
        scored = score(
            images, drawn.cameras, guidance=self.guidance, prior=self.prior, seed=seed, step=step, ranks=ranks,
            surface=self._surface(rendered), source=self._source(drawn),
        )  # fmt: skip
        self.observed = Observed(tuple(image.detach() for image in images), scored.norms)
        extra = [] if self.reference is None else [self._held(p.shown, self.reference) for p in self.particles]
        verdict, changes = apply(self.particles, rendered, scored, step=step, ranks=ranks, extra=extra)
        for particle, counts in zip(self.particles, changes, strict=True):
            if counts is not None:
                log.event("densify", step=step + 1, num_splats=len(particle.shown), **counts)
        learned = self.guidance.update(scored.batch, seed=seed, step=step, measure=logged)
        unlearned = learned.pop("skipped", None)
        self.nonfinite.note(verdict.skip if unlearned is None else verdict.skip | unlearned, step=step)
        numbers = self.report(log)
        self.step = step + 1
        if logged:
            norms = ranks.gather(scored.norms)
            measured = {
                "grad_norm": norms.mean(),
                "nonfinite": scored.num_nonfinite,
                "num_splats": self.num_splats,
                **learned,
            }
            measured |= self.nonfinite.counts
            self._measured = self.step, AsyncScalars(measured)
        self.seconds += time.perf_counter() - start
        return numbers if self.device.type == "cuda" else self.report(log)

    def report(self, log: Log) -> dict[str, float]:
        """Writes what the last log step measured, if that was not done yet, and returns it."""
        if self._measured is None:
            return {}
        (step, readback), self._measured = self._measured, None
        numbers = readback.read()
        log.metrics(step, **numbers)
        log.summary(**{**self.facts(), "step": step})
        return {**numbers, "network_share": self.prior.seconds / max(self.seconds, 1e-9)}

    def _held(self, splats: Splats, reference: PictureLoss) -> Tensor:
        """[] what holds an object to the picture that it shall look like."""
        return reference.loss(splats, self.renderer, size=self.stage.size)

    def _surface(self, rendered: Sequence[Rendered]) -> SurfaceViews | None:
        """Where the renders show the objects, if the method asks for that."""
        if not self.guidance.needs_surface:
            return None
        seen = [one.output for one in rendered]
        return SurfaceViews(*(joined([getattr(one, name).detach() for one in seen]) for name in ("depth", "alpha")))

    def _source(self, drawn: Drawn) -> Tensor | None:
        """What the run began with as this step sees it, [V,H,W,3] or [V,H,W,4], if the method asks for that."""
        if not self.guidance.needs_source:
            return None
        assert self.source is not None
        with torch.no_grad():
            return render(self.source, drawn, renderer=self.renderer, with_alpha=self.prior.sees_alpha).image

    def starvation(self) -> str | None:
        """One sentence, once, when this process did not get the cores that it was ready to use."""
        usage = Usage.now().since(self._begun)
        if self._said_starved or not usage.starved:
            return None
        assert usage.waiting is not None
        self._said_starved = True
        return (
            f"the threads of this run waited for a core in {usage.waiting / (usage.busy + usage.waiting):.0%} of the "
            "time in which they had work: other programs, or more --threads than there are cores, slow it down."
        )

    def _enter(self, step: int) -> None:
        """Puts the settings of the stage that `step` lies in into force, unless they are."""
        stage = [config for first, config in self.stages if first <= step][-1]
        if stage is self.stage:
            return
        before, self.stage = self.stage, stage
        if stage.prior != before.prior:
            self.prior = ProfiledPrior(self.priors[stage.prior], self.prior.stopwatch)
        with random_numbers():
            if stage.method != before.method:
                self.guidance = make_guidance(stage, ranks=self.ranks)
            retune(self.guidance, getattr(stage, stage.method), prompt=stage.prompt, views=stage.views)
            self.guidance.group = group_of(stage.method, stage.camera)
            if (stage.prior, stage.method) != (before.prior, before.method):
                self.guidance.bind(self.prior)
        for particle in self.particles:
            particle.enter(self.learning)

    @property
    def num_splats(self) -> int:
        return sum(len(particle.splats) + len(particle.fixed or ()) for particle in self.particles)

    def facts(self) -> dict[str, object]:
        """What the summary says of the run so far, and of how it is computed."""
        share = self.prior.seconds / max(self.seconds, 1e-9)
        return {
            "step": self.step,
            "seconds_total": self.seconds,
            "seconds_network": self.prior.seconds,
            "num_splats": self.num_splats,
            "network_share": round(share, 4),
            **self._usage(),
            "image_evaluations": self.ranks.world * self.prior.stopwatch.images,
            "prior_model": self.prior_model,
            "dtype": self.prior.dtype,
            "network_engine": self.prior.network_engine,
            **network_settings(self.device, dtype=self.prior.dtype),
            "threads": torch.get_num_threads(),
        }

    def _usage(self) -> dict[str, float | None]:
        """Seconds of all threads since the loop began, previews and checkpoints included."""
        usage = Usage.now().since(self._begun).plus(self._earlier)
        waiting = None if usage.waiting is None else round(usage.waiting, 3)
        return {"seconds_cpu": round(usage.busy, 3), "seconds_waiting": waiting}

    def save(self, root: Path) -> None:
        """Everything that the next step depends on, but for randomness, which follows from (seed, step); for all ranks
        to call.
        """
        tensors = {
            f"{index}.{name}": value
            for index, particle in enumerate(self.particles)
            for name, value in particle.state_dict().items()
        }
        tensors |= {f"guidance.{name}": value for name, value in self.guidance.state_dict().items()}
        meta = {
            "seconds_total": self.seconds,
            "seconds_network": self.prior.seconds,
            **self._usage(),
            "image_evaluations": self.ranks.world * self.prior.stopwatch.images,
            "num_updates": int(self.particles[0].optimizer.num_updates),
            "threads": torch.get_num_threads(),
            "dtype": self.prior.dtype,
            "network_engine": self.prior.network_engine,
            "config": asdict(self.config),
        }
        if self.ranks.is_main:
            checkpoint.save(root, step=self.step, tensors=tensors, meta=meta, keep=self.config.output.keep)

    def restore(self, saved: checkpoint.Saved) -> None:
        """Takes the run up where `save` left it."""
        tensors, meta = saved.tensors, saved.meta

        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v.to(self.device) for k, v in tensors.items() if k.startswith(prefix)}

        self._enter(max(0, meta["step"] - 1))  # the stage of the step that was saved, not of the one to come
        for index, particle in enumerate(self.particles):
            particle.load_state_dict(part(f"{index}."), num_updates=meta["num_updates"])
        self.guidance.load_state_dict(part("guidance."))
        self.step = meta["step"]
        self.seconds, self.prior.stopwatch.seconds = meta["seconds_total"], meta["seconds_network"]
        self._earlier = Usage(meta.get("seconds_cpu", 0.0), meta.get("seconds_waiting"))
        self.prior.stopwatch.images = meta.get("image_evaluations", 0) // self.ranks.world

    def preview(self, log: Log) -> None:
        """Shows the log the object from the front, the side, the back and the top."""
        ring = orbits.turntable(self.config.camera, num_frames=4, size=128)
        top = orbits.turntable(self.config.camera, num_frames=1, size=128, elevation_deg=80.0)
        front, side, back, _ = render_frames(self.renderer, self.splats, ring)
        (above,) = render_frames(self.renderer, self.splats, top)
        log.images(self.step, front=front, side=side, back=back, top=above)

    def finish(self, folder: Path, progress: Progress) -> None:
        """The result: splats.ply, turntable.mp4 and contact.png; splats-N.ply and contact-N.png of more particles."""
        ply.write(folder / SPLATS, self.splats.detach())
        out = self.config.output
        turntable = Turntable(self.config.camera, frames=out.frames, size=out.size)
        write_views(folder, self.renderer, self.splats, turntable, progress)
        for index, particle in enumerate(self.particles[1:], 1):
            ply.write(folder / f"splats-{index}.ply", particle.shown.detach())
            write_contact_sheet(folder / f"contact-{index}.png", self.renderer, particle.shown, turntable)
