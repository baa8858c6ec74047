"""The loop: render, encode, noise, ask the prior, push the residual back into the splats, densify now and then."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from splatdistill import ops
from splatdistill.config import settings
from splatdistill.config.schema import TrainConfig
from splatdistill.guidance import make_guidance, retune
from splatdistill.io import ply, video
from splatdistill.io.runs import SPLATS
from splatdistill.priors.base import Choice, Prior, joined
from splatdistill.priors.profiled import TimedPrior
from splatdistill.rendering.renderer import make_renderer
from splatdistill.rendering.shading import sample_background, sample_lights, shade
from splatdistill.rendering.turntable import render_frames, write_contact_sheet, write_views
from splatdistill.scene import cameras as orbits
from splatdistill.scene.gaussians import Splats
from splatdistill.scene.types import NoisyBatch, RenderOutput
from splatdistill.training import checkpoint
from splatdistill.training.nonfinite import Health
from splatdistill.training.particle import Particle
from splatdistill.training.regularizers import regularizer
from splatdistill.training.run_log import Log
from splatdistill.training.splat_optimizer import check
from splatdistill.utils import rng
from splatdistill.utils.cpu import Usage
from splatdistill.utils.device import Readback, Stopwatch, network_settings, send
from splatdistill.utils.distributed import ALONE, Ranks
from splatdistill.utils.progress import Progress


def choice_of(config: TrainConfig) -> Choice:
    """What a run asks of its priors."""
    return Choice(
        config.prompt, seed=config.seed, instance=config.prior_instance, mixture=config.prior_mixture,
        nearest=config.nearest,
    )  # fmt: skip


class Trainer:
    """The state of a run between steps. `step` counts the steps done; `stage` holds the settings in force.

    others: priors by the names that stages give them. ranks: who else draws views of a step.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        prior: Prior,
        device: torch.device,
        others: Mapping[str, Prior] | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.config = config
        self.device = device
        self.stages = settings.stages(config)
        self.stage = config
        self.priors = {config.prior: prior, **(others or {})}
        for teacher in self.priors.values():
            teacher.begin(choice_of(config))
        self.prior = TimedPrior(prior, Stopwatch(device))
        self.renderer = make_renderer(device, config.renderer)
        self.ranks = ranks
        self.guidance = make_guidance(config, ranks=self.ranks)
        self.guidance.bind(self.prior)
        count = self.guidance.particles
        self.particles = [Particle(config, index=i, device=device, ranks=self.ranks) for i in range(count)]
        self.health = Health(device)
        self.step = 0
        self.seconds = 0.0
        self._begun, self._earlier = Usage.now(), Usage(0.0, 0.0)  # of this process, and of those before a resume
        self._told_starved = False
        self._measured: tuple[int, Readback] | None = None  # of a logged step, not yet in the log

    @property
    def splats(self) -> Splats:
        """Those of the first particle: the result, where there is one only."""
        return self.particles[0].splats

    def advance(self, log: Log) -> dict[str, float]:
        """One optimisation step; returns the numbers that it logged, or nothing. On CUDA those of a log step are
        logged a step later, when they have arrived by themselves.
        """
        start = time.perf_counter()
        config, step = self.config, self.step
        self._enter(step)
        logged = (step + 1) % config.output.log_every == 0 or step + 1 == config.steps
        batch, outputs, norms, nonfinite = self._gradients(step)
        verdict = check([particle.optimizer for particle in self.particles], num_nonfinite=nonfinite)
        for particle, output in zip(self.particles, outputs, strict=True):
            counts = particle.update(output, step=step, verdict=verdict)
            if counts is not None:
                log.event("densify", step=step + 1, num_splats=len(particle.splats), **counts)
        learned = self.guidance.update(batch, seed=config.seed, step=step, measure=logged)
        unlearned = learned.pop("skipped", None)
        self.health.note(verdict.skip if unlearned is None else verdict.skip | unlearned, step=step)
        numbers = self.report(log)
        self.step = step + 1
        if logged:
            norms = self.ranks.gather(norms)
            measured = {"grad_norm": norms.mean(), "nonfinite": nonfinite, "num_splats": self.num_splats, **learned}
            measured |= self.health.counts
            self._measured = self.step, Readback(measured)
        self.seconds += time.perf_counter() - start
        return numbers if self.device.type == "cuda" else self.report(log)

    def report(self, log: Log) -> dict[str, float]:
        """Writes what the last log step measured, if that was not done yet, and returns it."""
        if self._measured is None:
            return {}
        (step, readback), self._measured = self._measured, None
        numbers = readback.read()
        log.metrics(step, **numbers)
        log.summary(step=step, seconds_total=self.seconds, seconds_network=self.prior.seconds, **self._facts())
        return {**numbers, "network_share": self.prior.seconds / max(self.seconds, 1e-9)}

    def starvation(self) -> str | None:
        """One sentence, once, when this process did not get the cores that it was ready to use."""
        usage = Usage.now().since(self._begun)
        if self._told_starved or not usage.starved:
            return None
        assert usage.waiting is not None
        self._told_starved = True
        return (
            f"the threads of this run waited for a core in {usage.waiting / (usage.busy + usage.waiting):.0%} of the "
            "time in which they had work: other programs, or more --threads than there are cores, slow it down."
        )

    def _enter(self, step: int) -> None:
        """Puts the settings of the stage that `step` lies in into force, unless they are."""
        stage = [config for first, config in self.stages if first <= step][-1]
        if stage is self.stage:
            return
        if stage.prior != self.stage.prior:
            self.prior = TimedPrior(self.priors[stage.prior], self.prior.watch)
            self.guidance.bind(self.prior)
        self.stage = stage
        retune(self.guidance, stage)
        for particle in self.particles:
            particle.enter(stage)

    @property
    def num_splats(self) -> int:
        return sum(len(particle.splats) for particle in self.particles)

    def _gradients(self, step: int) -> tuple[NoisyBatch, list[RenderOutput], Tensor, Tensor]:
        """Fill the gradients of the splats; returns the noised renders, each particle's render, gradient norms per
        view and the non-finite count. All particles are seen from the same cameras.
        """
        config, seed, group = self.stage, self.config.seed, self.stage.camera.views_per_group
        views = orbits.sample(
            config.camera, num_views=config.num_views, size=config.size, generator=rng.generator(seed, step, "camera")
        )
        background = sample_background(
            config.background,
            num_views=config.num_views,
            group=group,
            generator=rng.generator(seed, step, "background"),
        )
        lights = sample_lights(
            config.light,
            views,
            group=group,
            progress=step / config.steps,
            generator=rng.generator(seed, step, "light"),
        )
        if self.prior.sees_alpha:
            background = torch.ones_like(background)
        if self.ranks.world > 1:
            mine = self.ranks.share(torch.arange(config.num_views))
            views, background = views.select(mine), background[mine]
            lights = lights.select(mine) if lights is not None else None
        background = send(background, self.device)
        outputs = [
            self.renderer.render(particle.splats, views, background=background, normals=lights is not None)
            for particle in self.particles
        ]
        pictures = [
            output.rgb if lights is None else shade(output, views, lights, background=background) for output in outputs
        ]
        if self.prior.sees_alpha:
            pictures = [torch.cat([x, output.alpha], -1) for x, output in zip(pictures, outputs, strict=True)]
        if len(outputs) > 1:
            views = views.select(torch.arange(len(views)).repeat(len(outputs)))
        # The graph is cut at the pictures: above them lies the prior's encoder, below them the rasteriser.
        rgb = joined([picture.detach() for picture in pictures]).requires_grad_()
        x0 = self.prior.encode(rgb)
        batch = self.guidance.noise(x0, views, self.prior, seed=seed, step=step)
        residual = self.guidance.residual(batch, self.prior, step=step)
        loss, norms, nonfinite = ops.residual(
            x0,
            terms=residual.terms,
            coef=residual.coef,
            weight=residual.weight,
            clamp=self.guidance.clamp(step),
            total_views=self.ranks.world * len(x0),
        )
        with self.prior.running():
            (loss * len(outputs) if len(outputs) > 1 else loss).backward()  # a mean over each particle's own views
        assert rgb.grad is not None
        shares = rgb.grad.chunk(len(outputs))
        for particle, output, picture, grad in zip(self.particles, outputs, pictures, shares, strict=True):
            extra = regularizer(config.regularize, output, particle.splats, largest=config.densify.split_scale)
            losses = [ops.loss_with_gradient(picture, gradient=grad)]
            if extra is not None:  # a mean over this rank's views, and the ranks are added up
                losses.append(extra / self.ranks.world if self.ranks.world > 1 else extra)
            torch.autograd.backward(losses)
            self.ranks.sum(particle.optimizer.grads)
        self.ranks.sum([nonfinite])
        return batch, outputs, norms, nonfinite

    def _facts(self) -> dict[str, object]:
        share = self.prior.seconds / max(self.seconds, 1e-9)
        return {
            "num_splats": self.num_splats,
            "network_share": round(share, 4),
            **self._usage(),
            "image_evaluations": self.ranks.world * self.prior.watch.pictures,
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
            "image_evaluations": self.ranks.world * self.prior.watch.pictures,
            "num_updates": int(self.particles[0].optimizer.num_updates),
            "threads": torch.get_num_threads(),
            "dtype": self.prior.dtype,
            "network_engine": self.prior.network_engine,
            "config": asdict(self.config),
        }
        if self.ranks.first:
            checkpoint.save(root, step=self.step, tensors=tensors, meta=meta, keep=self.config.output.keep)

    def restore(self, tensors: dict[str, Tensor], meta: dict) -> None:
        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v.to(self.device) for k, v in tensors.items() if k.startswith(prefix)}

        self._enter(max(0, meta["step"] - 1))  # the stage of the step that was saved, not of the one to come
        for index, particle in enumerate(self.particles):
            particle.load_state_dict(part(f"{index}."), num_updates=meta["num_updates"])
        self.guidance.load_state_dict(part("guidance."))
        self.step = meta["step"]
        self.seconds, self.prior.watch.seconds = meta["seconds_total"], meta["seconds_network"]
        self._earlier = Usage(meta.get("seconds_cpu", 0.0), meta.get("seconds_waiting"))
        self.prior.watch.pictures = meta.get("image_evaluations", 0) // self.ranks.world

    def preview(self, folder: Path) -> None:
        """Four pictures of the moment: front, side, back, top."""
        ring = orbits.turntable(self.config.camera, num_frames=4, size=128)
        top = orbits.turntable(self.config.camera, num_frames=1, size=128, elevation_deg=80.0)
        frames = [*render_frames(self.renderer, self.splats, ring), *render_frames(self.renderer, self.splats, top)]
        for name, index in (("front", 0), ("side", 1), ("back", 2), ("top", 4)):
            video.write_image(folder / f"{self.step:06d}-{name}.jpg", frames[index])

    def finish(self, folder: Path, log: Log, progress: Progress) -> None:
        """The result: splats.ply, turntable.mp4 and contact.png; splats-N.ply and contact-N.png of more particles."""
        ply.write(folder / SPLATS, self.splats.detach())
        write_views(self.renderer, self.splats, self.config, folder, progress)
        for index, particle in enumerate(self.particles[1:], 1):
            ply.write(folder / f"splats-{index}.ply", particle.splats.detach())
            write_contact_sheet(folder / f"contact-{index}.png", self.renderer, particle.splats, self.config)
        log.event("done", step=self.step, num_splats=self.num_splats)
