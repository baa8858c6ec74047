"""The loop: render, encode, noise, ask the prior, push the residual back into the splats, densify now and then."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from splatdistill import cameras as orbits
from splatdistill import checkpoint, ops, priors, rng
from splatdistill.config import RegularizeConfig, TrainConfig
from splatdistill.densify import Densifier
from splatdistill.guidance import make_guidance
from splatdistill.io import ply, video
from splatdistill.lighting import sample_background
from splatdistill.logs import Progress, RunLog
from splatdistill.optim import MOMENTS, SplatOptimizer
from splatdistill.priors.base import Condition, Prior
from splatdistill.renderer import Renderer, make_renderer
from splatdistill.splats import Splats, init_ball, with_sh_degree
from splatdistill.types import Cameras, RenderOutput


def train(config: TrainConfig, *, folder: Path, progress: Progress, resume: bool = False, command: str = "") -> Splats:
    """Run (or go on with) the run in `folder` to its last step; writes everything a run folder holds.

    ValueError, one sentence, for anything the user can put right; nothing is written before the prior and the
    initial splats have loaded.
    """
    tensors, meta = checkpoint.load(folder / "checkpoints") if resume else ({}, {})
    # Bits depend on these two, so a resumed run takes them from its checkpoint.
    torch.set_num_threads(meta.get("threads") or config.threads or torch.get_num_threads())
    device = pick_device(config.device)
    prior = priors.load(config.prior, device=device, dtype=meta.get("dtype", config.dtype))
    trainer = Trainer(config, prior=prior, device=device)
    if resume:
        trainer.restore(tensors, meta)
    log = RunLog(folder, config, command=command, start_step=trainer.step)
    progress.update(trainer.step)
    while trainer.step < config.steps:
        numbers = trainer.advance(log)
        if numbers:
            progress.update(trainer.step, **numbers)
        if trainer.step % config.output.save_every == 0 or trainer.step == config.steps:
            trainer.save(folder / "checkpoints")
        if trainer.step % config.output.preview_every == 0:
            trainer.preview(folder / "preview")
    trainer.finish(folder, log, progress)
    return trainer.splats


def pick_device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: cuda was asked for, but torch sees no CUDA device here; use --device cpu.")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


class Trainer:
    """The state of a run between steps. `step` counts the steps done."""

    def __init__(self, config: TrainConfig, *, prior: Prior, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.prior = TimedPrior(prior, device)
        self.renderer = make_renderer(device)
        self.guidance = make_guidance(config)
        self.guidance.bind(self.prior)
        self.optimizer = SplatOptimizer(initial_splats(config).to(device), config.optim, steps=config.steps)
        self.densifier = self._densifier()
        self.step = 0
        self.seconds = 0.0

    @property
    def splats(self) -> Splats:
        return self.optimizer.splats

    def advance(self, log: RunLog) -> dict[str, float]:
        """One optimisation step; returns the logged numbers on log steps, else nothing."""
        start = time.perf_counter()
        config, step = self.config, self.step
        output, norms, nonfinite = self._gradients(step)
        self.densifier.accumulate(output)
        self.optimizer.update(step)
        if self.densifier.due(step):
            counts = self.densifier.event(self.optimizer, seed=config.seed, step=step)
            log.event("densify", step=step + 1, num_splats=len(self.splats), **counts)
        self.step = step + 1
        self.seconds += time.perf_counter() - start
        if self.step % config.output.log_every and self.step < config.steps:
            return {}
        numbers = {
            "grad_norm": float(norms.mean()),
            "nonfinite": int(nonfinite),
            "num_splats": len(self.splats),
            "network_share": self.prior.seconds / max(self.seconds, 1e-9),
        }
        log.metrics(self.step, **{k: v for k, v in numbers.items() if k != "network_share"})
        log.summary(step=self.step, seconds_total=self.seconds, seconds_network=self.prior.seconds, **self._facts())
        return numbers

    def _gradients(self, step: int) -> tuple[RenderOutput, Tensor, Tensor]:
        """Fill the gradients of the splats; returns the render, per-view gradient norms [V] and the non-finite
        count.
        """
        config, seed, group = self.config, self.config.seed, self.config.camera.views_per_group
        views = orbits.sample(
            config.camera, num_views=config.num_views, size=config.size, generator=rng.generator(seed, step, "camera")
        )
        background = sample_background(
            config.background,
            num_views=config.num_views,
            group=group,
            generator=rng.generator(seed, step, "background"),
        )
        output = self.renderer.render(self.splats, views, background=background.to(self.device))
        # The graph is cut at the picture: above it lies the prior's encoder, below it the rasteriser.
        rgb = output.rgb.detach().requires_grad_()
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
        with self.prior.timed():
            loss.backward()
        assert rgb.grad is not None
        extra = regularizer(config.regularize, output, self.splats, largest=config.densify.split_scale)
        roots, grads = [output.rgb], [rgb.grad]
        if extra is not None:
            roots, grads = [output.rgb, extra], [rgb.grad, torch.ones_like(extra)]
        torch.autograd.backward(roots, grads)
        return output, norms, nonfinite

    def _densifier(self) -> Densifier:
        return Densifier(self.config.densify, num_splats=len(self.splats), steps=self.config.steps, device=self.device)

    def _facts(self) -> dict[str, object]:
        share = self.prior.seconds / max(self.seconds, 1e-9)
        return {
            "num_splats": len(self.splats),
            "network_share": round(share, 4),
            "dtype": self.prior.dtype,
            "threads": torch.get_num_threads(),
        }

    def save(self, root: Path) -> None:
        """Everything that the next step depends on, but for randomness, which follows from (seed, step)."""
        tensors = {f"splats.{name}": value for name, value in self.splats.tensors.items()}
        for name, state in self.optimizer.moments().items():
            tensors |= {f"adam.{name}.{key}": value for key, value in state.items()}
        tensors |= {"densify.grad_sum": self.densifier.grad_sum, "densify.count": self.densifier.count}
        tensors |= {f"guidance.{name}": value for name, value in self.guidance.state_dict().items()}
        meta = {
            "seconds_total": self.seconds,
            "seconds_network": self.prior.seconds,
            "num_updates": self.optimizer.num_updates,
            "threads": torch.get_num_threads(),
            "dtype": self.prior.dtype,
            "config": asdict(self.config),
        }
        checkpoint.save(root, step=self.step, tensors=tensors, meta=meta, keep=self.config.output.keep)

    def restore(self, tensors: dict[str, Tensor], meta: dict) -> None:
        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v.to(self.device) for k, v in tensors.items() if k.startswith(prefix)}

        splats = Splats(**part("splats."))
        moments = {
            name: {key: tensors[f"adam.{name}.{key}"].to(self.device) for key in MOMENTS}
            for name in splats.tensors
            if f"adam.{name}.exp_avg" in tensors
        }
        self.optimizer.num_updates = meta["num_updates"]
        self.optimizer.replace(splats, moments)
        self.densifier = self._densifier()
        self.densifier.grad_sum, self.densifier.count = part("densify.")["grad_sum"], part("densify.")["count"]
        self.guidance.load_state_dict(part("guidance."))
        self.step = meta["step"]
        self.seconds, self.prior.seconds = meta["seconds_total"], meta["seconds_network"]

    def preview(self, folder: Path) -> None:
        """Four pictures of the moment: front, side, back, top."""
        ring = orbits.turntable(self.config.camera, num_frames=4, size=128)
        top = orbits.turntable(self.config.camera, num_frames=1, size=128, elevation_deg=80.0)
        frames = [*render_frames(self.renderer, self.splats, ring), *render_frames(self.renderer, self.splats, top)]
        for name, index in (("front", 0), ("side", 1), ("back", 2), ("top", 4)):
            video.write_image(folder / f"{self.step:06d}-{name}.jpg", frames[index])

    def finish(self, folder: Path, log: RunLog, progress: Progress) -> None:
        """The result: splats.ply, turntable.mp4 and contact.png."""
        ply.write(folder / "splats.ply", self.splats.detach())
        write_views(self.renderer, self.splats, self.config, folder, progress)
        log.event("done", step=self.step, num_splats=len(self.splats))


class TimedPrior:
    """A prior that adds up the seconds spent in its network and encoder."""

    def __init__(self, prior: Prior, device: torch.device) -> None:
        self._prior = prior
        self._cuda = device.type == "cuda"
        self.seconds = 0.0
        self.alphas_cumprod, self.num_views = prior.alphas_cumprod, prior.num_views
        self.image_size, self.dtype, self.knows_cameras = prior.image_size, prior.dtype, prior.knows_cameras
        self.decode, self.embed = prior.decode, prior.embed

    @contextmanager
    def timed(self) -> Iterator[None]:
        if self._cuda:
            torch.cuda.synchronize()
        start = time.perf_counter()
        yield
        if self._cuda:
            torch.cuda.synchronize()
        self.seconds += time.perf_counter() - start

    def encode(self, rgb: Tensor) -> Tensor:
        with self.timed():
            return self._prior.encode(rgb)

    def predict(self, xt: Tensor, t: Tensor, conditions: Sequence[Condition]) -> list[Tensor]:
        with self.timed():
            return self._prior.predict(xt, t, conditions)


def initial_splats(config: TrainConfig) -> Splats:
    """The splats of step 0: the ball, or those of a file."""
    kind, _, path = config.init.partition(":")
    if kind == "ball":
        return init_ball(config.splats, seed=config.seed)
    if kind != "ply" or not path:
        raise ValueError(f"init: {config.init!r} is neither 'ball' nor 'ply:FILE'.")
    return with_sh_degree(ply.read(Path(path)), config.splats.sh_degree)


def regularizer(config: RegularizeConfig, output: RenderOutput, splats: Splats, *, largest: float) -> Tensor | None:
    """Sum over pixels, mean over views (as the distillation gradient), or None when every weight is 0."""
    terms = []
    if config.opacity:
        terms.append(config.opacity * (output.alpha * (1 - output.alpha)).sum() / len(output.alpha))
    if config.sparsity:
        terms.append(config.sparsity * output.alpha.sum() / len(output.alpha))
    if config.scale:
        terms.append(config.scale * torch.relu(torch.exp(splats.scales) - largest).square().sum())
    return torch.stack(terms).sum() if terms else None


@torch.no_grad()
def render_frames(renderer: Renderer, splats: Splats, views: Cameras) -> Iterator[Tensor]:
    """One picture [H,W,3] in 0..1 per camera on white, a few cameras at a time."""
    for i in range(0, len(views), 4):
        some = views.select(slice(i, i + 4))
        background = torch.ones(len(some), 3, device=splats.device)
        yield from renderer.render(splats, some, background=background).rgb.clamp(0, 1).cpu()


def write_views(renderer: Renderer, splats: Splats, config: TrainConfig, folder: Path, progress: Progress) -> None:
    """turntable.mp4 and contact.png (8 views) of `splats` into `folder`."""
    out = config.output
    views = orbits.turntable(config.camera, num_frames=out.frames, size=out.size)
    frames = progress.track(render_frames(renderer, splats, views), total=out.frames, label="turntable")
    video.write_turntable(folder / "turntable.mp4", frames)
    sheet = orbits.turntable(config.camera, num_frames=8, size=out.size)
    video.write_contact_sheet(folder / "contact.png", list(render_frames(renderer, splats, sheet)))
