"""The loop: render, encode, noise, ask the prior, push the residual back into the splats, densify now and then."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from splatdistill import cameras as orbits
from splatdistill import checkpoint, ops, presets, priors, rng
from splatdistill.config import TrainConfig
from splatdistill.control import Control, Stopped
from splatdistill.densify import Densifier
from splatdistill.device import Readback, Stopwatch, send
from splatdistill.guidance import make_guidance, retune
from splatdistill.io import ply, video
from splatdistill.lighting import Lights, sample_background, sample_lights, shade, sun
from splatdistill.logs import Progress, RunLog
from splatdistill.optim import MOMENTS, SplatOptimizer
from splatdistill.priors.base import Condition, Prior, Variational
from splatdistill.priors.meta import check_group
from splatdistill.regularize import regularizer
from splatdistill.renderer import Renderer, make_renderer
from splatdistill.splats import INITS, Splats, init_points, with_sh_degree
from splatdistill.types import Cameras, NoisyBatch, RenderOutput


def train(
    config: TrainConfig,
    *,
    folder: Path,
    progress: Progress,
    resume: bool = False,
    command: str = "",
    profile: bool = False,
) -> Splats:
    """Run (or go on with) the run in `folder` to its last step; writes everything a run folder holds.

    ValueError, one sentence, for anything the user can put right; nothing is written before the prior and the
    initial splats have loaded. profile: trace a few steps into trace.json.gz. Raises Stopped, a KeyboardInterrupt, when
    it was asked to stop through the run folder.
    """
    tensors, meta = checkpoint.load(folder / "checkpoints") if resume else ({}, {})
    # Bits depend on these two, so a resumed run takes them from its checkpoint.
    torch.set_num_threads(meta.get("threads") or config.threads or torch.get_num_threads())
    device = pick_device(config.device)
    names = dict.fromkeys(stage.prior for _, stage in presets.stages(config))  # all now: a missing one is told at once
    dtype = meta.get("dtype", config.dtype)
    teachers = {name: priors.load(name, device=device, dtype=dtype, max_memory=config.max_memory) for name in names}
    for _, stage in presets.stages(config):
        check_group(teachers[stage.prior].num_views, stage)
    trainer = Trainer(config, prior=teachers[config.prior], device=device, others=teachers)
    if resume:
        trainer.restore(tensors, meta)
    log = RunLog(folder, config, command=command, start_step=trainer.step)
    log.summary(priors={name: teacher.origin for name, teacher in teachers.items()})
    control = Control(folder, log)
    progress.update(trainer.step)
    with ExitStack() as stack:
        trace = stack.enter_context(tracer(folder / "trace.json.gz")) if profile else None
        while trainer.step < config.steps:
            numbers = trainer.advance(log)
            if numbers:
                progress.update(trainer.step, **numbers)
            stop = control.obey(trainer.splats, step=trainer.step)
            if stop or trainer.step % config.output.save_every == 0 or trainer.step == config.steps:
                trainer.report(log)
                trainer.save(folder / "checkpoints")
            if trainer.step % config.output.preview_every == 0:
                trainer.preview(folder / "preview")
            if stop:
                raise Stopped
            if trace is not None:
                trace.step()
    trainer.finish(folder, log, progress)
    return trainer.splats


def pick_device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: cuda was asked for, but torch sees no CUDA device here; use --device cpu.")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


def tracer(path: Path) -> torch.profiler.profile:
    """Traces four steps, once the first four are over, and writes them to `path` for chrome://tracing or Perfetto."""
    return torch.profiler.profile(
        schedule=torch.profiler.schedule(wait=2, warmup=2, active=4, repeat=1),
        on_trace_ready=lambda trace: trace.export_chrome_trace(str(path)),
    )


class Trainer:
    """The state of a run between steps. `step` counts the steps done; `stage` holds the settings in force.

    others: priors by the names that stages give them.
    """

    def __init__(
        self, config: TrainConfig, *, prior: Prior, device: torch.device, others: Mapping[str, Prior] | None = None
    ) -> None:
        self.config = config
        self.device = device
        self.stages = presets.stages(config)
        self.stage = config
        self.priors = {config.prior: prior, **(others or {})}
        self.prior = TimedPrior(prior, Stopwatch(device))
        self.renderer = make_renderer(device, config.renderer)
        self.guidance = make_guidance(config)
        self.guidance.bind(self.prior)
        count = getattr(getattr(config, config.method), "particles", 1)
        self.particles = [Particle(config, index=index, device=device) for index in range(count)]
        self.step = 0
        self.seconds = 0.0
        self._measured: tuple[int, Readback] | None = None  # of a logged step, not yet in the log

    @property
    def splats(self) -> Splats:
        """Those of the first particle: the result, where there is one only."""
        return self.particles[0].splats

    def advance(self, log: RunLog) -> dict[str, float]:
        """One optimisation step; returns the numbers that it logged, or nothing. On CUDA those of a log step are
        logged a step later, when they have arrived by themselves.
        """
        start = time.perf_counter()
        config, step = self.config, self.step
        self._enter(step)
        logged = (step + 1) % config.output.log_every == 0 or step + 1 == config.steps
        batch, outputs, norms, nonfinite = self._gradients(step)
        for particle, output in zip(self.particles, outputs, strict=True):
            counts = particle.update(output, step=step)
            if counts is not None:
                log.event("densify", step=step + 1, num_splats=len(particle.splats), **counts)
        learned = self.guidance.update(batch, seed=config.seed, step=step, measure=logged)
        numbers = self.report(log)
        self.step = step + 1
        if logged:
            measured = {"grad_norm": norms.mean(), "nonfinite": nonfinite, "num_splats": self.num_splats, **learned}
            self._measured = self.step, Readback(measured)
        self.seconds += time.perf_counter() - start
        return numbers if self.device.type == "cuda" else self.report(log)

    def report(self, log: RunLog) -> dict[str, float]:
        """Writes what the last log step measured, if that was not done yet, and returns it."""
        if self._measured is None:
            return {}
        (step, readback), self._measured = self._measured, None
        numbers = readback.read()
        log.metrics(step, **numbers)
        log.summary(step=step, seconds_total=self.seconds, seconds_network=self.prior.seconds, **self._facts())
        return {**numbers, "network_share": self.prior.seconds / max(self.seconds, 1e-9)}

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
        background = send(background, self.device)
        lights = sample_lights(
            config.light,
            views,
            group=group,
            progress=step / config.steps,
            generator=rng.generator(seed, step, "light"),
        )
        outputs = [
            self.renderer.render(particle.splats, views, background=background, normals=lights is not None)
            for particle in self.particles
        ]
        pictures = [
            output.rgb if lights is None else shade(output, views, lights, background=background) for output in outputs
        ]
        views = views.select(torch.arange(len(views)).repeat(len(outputs)))
        # The graph is cut at the pictures: above them lies the prior's encoder, below them the rasteriser.
        rgb = torch.cat([picture.detach() for picture in pictures]).requires_grad_()
        x0 = self.prior.encode(rgb)
        batch = self.guidance.noise(x0, views, self.prior, seed=seed, step=step)
        residual = self.guidance.residual(batch, self.prior, step=step)
        loss, norms, nonfinite = ops.residual(
            x0,
            terms=residual.terms,
            coef=residual.coef,
            weight=residual.weight,
            clamp=self.guidance.clamp(step),
        )
        with self.prior.watch.timed():
            (loss * len(outputs)).backward()  # a mean over each particle's own views
        assert rgb.grad is not None
        shares = rgb.grad.chunk(len(outputs))
        for particle, output, picture, grad in zip(self.particles, outputs, pictures, shares, strict=True):
            extra = regularizer(config.regularize, output, particle.splats, largest=config.densify.split_scale)
            roots, grads = [picture], [grad]
            if extra is not None:
                roots, grads = [picture, extra], [grad, torch.ones_like(extra)]
            torch.autograd.backward(roots, grads)
        return batch, outputs, norms, nonfinite

    def _facts(self) -> dict[str, object]:
        share = self.prior.seconds / max(self.seconds, 1e-9)
        return {
            "num_splats": self.num_splats,
            "network_share": round(share, 4),
            "image_evaluations": self.prior.watch.pictures,
            "dtype": self.prior.dtype,
            "threads": torch.get_num_threads(),
        }

    def save(self, root: Path) -> None:
        """Everything that the next step depends on, but for randomness, which follows from (seed, step)."""
        tensors = {
            f"{index}.{name}": value
            for index, particle in enumerate(self.particles)
            for name, value in particle.state_dict().items()
        }
        tensors |= {f"guidance.{name}": value for name, value in self.guidance.state_dict().items()}
        meta = {
            "seconds_total": self.seconds,
            "seconds_network": self.prior.seconds,
            "image_evaluations": self.prior.watch.pictures,
            "num_updates": self.particles[0].optimizer.num_updates,
            "threads": torch.get_num_threads(),
            "dtype": self.prior.dtype,
            "config": asdict(self.config),
        }
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
        self.prior.watch.pictures = meta.get("image_evaluations", 0)

    def preview(self, folder: Path) -> None:
        """Four pictures of the moment: front, side, back, top."""
        ring = orbits.turntable(self.config.camera, num_frames=4, size=128)
        top = orbits.turntable(self.config.camera, num_frames=1, size=128, elevation_deg=80.0)
        frames = [*render_frames(self.renderer, self.splats, ring), *render_frames(self.renderer, self.splats, top)]
        for name, index in (("front", 0), ("side", 1), ("back", 2), ("top", 4)):
            video.write_image(folder / f"{self.step:06d}-{name}.jpg", frames[index])

    def finish(self, folder: Path, log: RunLog, progress: Progress) -> None:
        """The result: splats.ply, turntable.mp4 and contact.png; splats-N.ply and contact-N.png of more particles."""
        ply.write(folder / "splats.ply", self.splats.detach())
        write_views(self.renderer, self.splats, self.config, folder, progress)
        for index, particle in enumerate(self.particles[1:], 1):
            ply.write(folder / f"splats-{index}.ply", particle.splats.detach())
            write_contact_sheet(folder / f"contact-{index}.png", self.renderer, particle.splats, self.config)
        log.event("done", step=self.step, num_splats=self.num_splats)


class Particle:
    """One object of a run: its splats with their optimiser and the statistics of densify."""

    def __init__(self, config: TrainConfig, *, index: int, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.seed = rng.key(config.seed, index, "init") if index else config.seed
        self.optimizer = SplatOptimizer(
            initial_splats(config, seed=self.seed).to(device), config.optim, steps=config.steps
        )
        self.densifier = self._densifier()

    @property
    def splats(self) -> Splats:
        return self.optimizer.splats

    def enter(self, stage: TrainConfig) -> None:
        """Goes on under other settings; what densify measured under the old ones is dropped."""
        self.config = stage
        self.optimizer.config = stage.optim
        self.densifier = self._densifier()

    def update(self, output: RenderOutput, *, step: int) -> dict[str, int] | None:
        """One step along the gradients, then densify if it is due: returns what that did."""
        self.densifier.accumulate(output)
        self.optimizer.update(step)
        return self.densifier.event(self.optimizer, seed=self.seed, step=step) if self.densifier.due(step) else None

    def _densifier(self) -> Densifier:
        return Densifier(self.config.densify, num_splats=len(self.splats), steps=self.config.steps, device=self.device)

    def state_dict(self) -> dict[str, Tensor]:
        tensors = {f"splats.{name}": value for name, value in self.splats.tensors.items()}
        for name, state in self.optimizer.moments().items():
            tensors |= {f"adam.{name}.{key}": value for key, value in state.items()}
        return tensors | {"densify.grad_sum": self.densifier.grad_sum, "densify.count": self.densifier.count}

    def load_state_dict(self, tensors: dict[str, Tensor], *, num_updates: int) -> None:
        names = [name.removeprefix("splats.") for name in tensors if name.startswith("splats.")]
        splats = Splats(**{name: tensors[f"splats.{name}"] for name in names})
        moments = {
            name: {key: tensors[f"adam.{name}.{key}"] for key in MOMENTS}
            for name in names
            if f"adam.{name}.{MOMENTS[0]}" in tensors
        }
        self.optimizer.num_updates = num_updates
        self.optimizer.replace(splats, moments)
        self.densifier = self._densifier()
        self.densifier.grad_sum, self.densifier.count = tensors["densify.grad_sum"], tensors["densify.count"]


class TimedPrior:
    """A prior that adds up the seconds spent in its network, its encoder and the second score, and the pictures that
    went forward through the two networks.
    """

    def __init__(self, prior: Prior, watch: Stopwatch) -> None:
        self._prior = prior
        self.watch = watch
        self.alphas_cumprod, self.num_views = prior.alphas_cumprod, prior.num_views
        self.image_size, self.dtype, self.knows_cameras = prior.image_size, prior.dtype, prior.knows_cameras
        self.origin = prior.origin
        self.decode, self.embed = prior.decode, prior.embed

    @property
    def seconds(self) -> float:
        return self.watch.seconds

    def encode(self, rgb: Tensor) -> Tensor:
        with self.watch.timed():
            return self._prior.encode(rgb)

    def predict(self, xt: Tensor, t: Tensor, conditions: Sequence[Condition]) -> list[Tensor]:
        self.watch.pictures += len(xt) * len(conditions)
        with self.watch.timed():
            return self._prior.predict(xt, t, conditions)

    def variational(
        self, prompt: str, *, particles: int, rank: int, lr: float, dropout: float, seed: int
    ) -> Variational:
        score = self._prior.variational(prompt, particles=particles, rank=rank, lr=lr, dropout=dropout, seed=seed)
        return TimedScore(score, self, particles=particles)


class TimedScore:
    """A second score whose seconds and pictures are added to those of its prior."""

    def __init__(self, score: Variational, prior: TimedPrior, *, particles: int) -> None:
        self._score = score
        self._prior = prior
        self._particles = particles
        self.state_dict, self.load_state_dict = score.state_dict, score.load_state_dict

    def predict(self, batch: NoisyBatch, told: Sequence[bool]) -> list[Tensor]:
        self._prior.watch.pictures += len(batch.xt) * len(told)
        with self._prior.watch.timed():
            return self._score.predict(batch, told)

    def update(self, batch: NoisyBatch, *, seed: int, step: int, measure: bool) -> dict[str, Tensor]:
        self._prior.watch.pictures += len(batch.xt) // self._particles  # each particle shows one view in turn
        with self._prior.watch.timed():
            return self._score.update(batch, seed=seed, step=step, measure=measure)


def initial_splats(config: TrainConfig, *, seed: int) -> Splats:
    """The splats of step 0: the ball, the shell, or those or the points of a file."""
    kind, _, path = config.init.partition(":")
    if config.init in INITS:
        return INITS[config.init](config.splats, seed=seed)
    if kind == "points" and path:
        points, colors = ply.read_points(Path(path))
        return init_points(config.splats, points=points, colors=colors, seed=seed)
    if kind != "ply" or not path:
        raise ValueError(f"init: {config.init!r} is neither 'ball' nor 'shell' nor 'ply:FILE' nor 'points:FILE'.")
    return with_sh_degree(ply.read(Path(path)), config.splats.sh_degree)


@torch.no_grad()
def render_frames(
    renderer: Renderer, splats: Splats, views: Cameras, *, lights: Lights | None = None
) -> Iterator[Tensor]:
    """One picture [H,W,3] in 0..1 per camera on white, a few cameras at a time. lights: one for each camera."""
    for i in range(0, len(views), 4):
        index = slice(i, i + 4)
        some = views.select(index)
        background = torch.ones(len(some), 3, device=splats.device)
        output = renderer.render(splats, some, background=background, normals=lights is not None)
        lit = output.rgb if lights is None else shade(output, some, lights.select(index), background=background)
        yield from lit.clamp(0, 1).cpu()


def write_views(
    renderer: Renderer,
    splats: Splats,
    config: TrainConfig,
    folder: Path,
    progress: Progress,
    *,
    light: tuple[float, float] | None = None,
) -> None:
    """turntable.mp4 and contact.png of `splats` into `folder`. light: azimuth and elevation (rad) of a far light; None
    shows plain colours.
    """
    out = config.output
    views = orbits.turntable(config.camera, num_frames=out.frames, size=out.size)
    frames = render_frames(renderer, splats, views, lights=_sun(light, len(views)))
    frames = progress.track(frames, total=out.frames, label="turntable")
    video.write_turntable(folder / "turntable.mp4", frames)
    write_contact_sheet(folder / "contact.png", renderer, splats, config, light=light)


def write_contact_sheet(
    path: Path,
    renderer: Renderer,
    splats: Splats,
    config: TrainConfig,
    *,
    light: tuple[float, float] | None = None,
) -> None:
    """A picture of 8 views of `splats`."""
    views = orbits.turntable(config.camera, num_frames=8, size=config.output.size)
    video.write_contact_sheet(path, list(render_frames(renderer, splats, views, lights=_sun(light, len(views)))))


def _sun(light: tuple[float, float] | None, num_views: int) -> Lights | None:
    return None if light is None else sun(azimuth=light[0], elevation=light[1], num_views=num_views)
