"""Steps of SDS and VSD on the GPU, with the embedded prior: time of a step, and where it goes.

`parts_ms` are means over the steps: on CUDA the device's time between two events, so that `other` (camera draws, the
residual, what lies between) is the rest of the wall-clock time. `launches` counts one step, and is written after the
times, as the profiler may fail. gsplat waits for the device twice in each picture; any other wait is ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import common
import gpu_common
import torch

from splatdistill import priors
from splatdistill.config.presets import load
from splatdistill.guidance.variational import VariationalGuidance
from splatdistill.training.run_log import NoLog
from splatdistill.training.trainer import Trainer
from splatdistill.utils.device import Stopwatch

PROMPT = "a red lamp"
METHODS = ("sds", "vsd")
STEPS = {"sds": 10_000, "vsd": 100}  # at most: the whole default run, and enough of the other
SECONDS = 14.0  # of each method at most, whatever the number of steps
WARM_UP = 10
LOG = NoLog()


def main() -> None:
    args = gpu_common.parser(__doc__).parse_args()
    device = gpu_common.require(args.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    quick = args.quick or device.type == "cpu"
    record = gpu_common.record("step", device, args.out, prompt=PROMPT, runs=[])
    for method in METHODS:
        config = replace(load(method)[0], prompt=PROMPT, device=args.device)
        warm_up = 1 if quick else WARM_UP
        steps = warm_up + 3 if quick else min(STEPS[method], config.steps - 1)  # one is left to count launches in
        trainer = Trainer(config, prior=priors.load(config.prior, device=device, dtype=config.dtype), device=device)
        found = measure(trainer, device, warm_up=warm_up, steps=steps, seconds=SECONDS)
        run = {"method": method, **found, "config": asdict(config)}
        record.write(runs=[*record.found["runs"], run])
        run["launches"] = gpu_common.launches(lambda trainer=trainer: trainer.advance(LOG), device)
        record.write(runs=[*record.found["runs"][:-1], run])


def measure(trainer: Trainer, device: torch.device, *, warm_up: int, steps: int, seconds: float) -> dict[str, Any]:
    """Time of the steps after `warm_up`, up to step `steps` or for `seconds`, and of their parts."""
    watches = watch_parts(trainer, device)
    for _ in range(warm_up):
        trainer.advance(LOG)
    gpu_common.wait(device)
    before, prior_before = {name: watch.seconds for name, watch in watches.items()}, trainer.prior.seconds
    begun = time.perf_counter()
    while trainer.step < steps and time.perf_counter() - begun < seconds:
        trainer.advance(LOG)
    gpu_common.wait(device)
    wall = time.perf_counter() - begun
    done = trainer.step - warm_up
    for watch in (*watches.values(), trainer.prior.watch):
        watch.collect()
    parts = {name: 1e3 * (watch.seconds - before[name]) / done for name, watch in watches.items()}
    parts["other"] = 1e3 * wall / done - sum(parts.values())
    step_ms, network = 1e3 * wall / done, trainer.prior.seconds - prior_before
    common.progress(f"{step_ms:.2f} ms a step: " + ", ".join(f"{name} {ms:.2f}" for name, ms in parts.items()))
    return {
        "steps": done,
        "seconds": common.significant(wall),
        "step_ms": common.significant(step_ms),
        "parts_ms": {name: common.significant(ms) for name, ms in parts.items()},
        "network_share": common.significant(network / wall),
        "num_splats": trainer.num_splats,
        "dtype": trainer.prior.dtype,
        "peak_memory_mb": round(torch.cuda.max_memory_allocated() / 1e6, 1) if device.type == "cuda" else None,
    }


def watch_parts(trainer: Trainer, device: torch.device) -> dict[str, Stopwatch]:
    """Clocks on the parts of a step, put around what the trainer calls."""
    (particle,) = trainer.particles
    watches: dict[str, Stopwatch] = {}

    def clock(part: str, owner: Any, name: str) -> None:
        watch = watches.setdefault(part, Stopwatch(device))
        original: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with watch.timed():
                return original(*args, **kwargs)

        setattr(owner, name, timed)

    clock("render", trainer.renderer, "render")
    clock("encode", trainer.prior, "encode")
    clock("network", trainer.prior, "predict")
    clock("backward", torch.autograd, "backward")
    clock("densify", particle.densifier, "event")
    clock("update", particle.optimizer, "update")
    if isinstance(trainer.guidance, VariationalGuidance):
        clock("second_score", trainer.guidance.score, "predict")
        clock("learning", trainer.guidance, "update")
    return watches


if __name__ == "__main__":
    main()
