"""What the trainings of shipped networks share: optimizer, average, a state on disk, and the loop with its log."""

from __future__ import annotations

import contextlib
import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from huggingface_hub import save_torch_state_dict
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.swa_utils import get_ema_multi_avg_fn

from splatdistill.training.signals import SignalHandler
from splatdistill.utils.adam import MOMENTS

SHARD = "15MB"
AVERAGE = "average"


class OptimiserConfig(Protocol):
    """What a configuration, a dataclass, says of the optimizer. batch: images a step; lr: learning rate.

    warmup: steps over which it rises; ema: of the average.
    """

    @property
    def batch(self) -> int: ...
    @property
    def lr(self) -> float: ...
    @property
    def warmup(self) -> int: ...
    @property
    def max_images(self) -> int: ...
    @property
    def ema(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...


class NetworkTrainer(ABC):
    """Parameters, their running average and AdamW. A subclass calls `optimise` and computes `losses`."""

    config: Any
    state_file, log_file = "state.safetensors", "loss.jsonl"
    log_every = 50
    """Steps."""
    betas, eps = (0.9, 0.99), 1e-10
    """Of AdamW. The deepest levels have gradients near 1e-8, which the default would damp."""
    math_attention = True
    """On a CPU torch's flash backward is slower for so few tokens."""

    def optimise(self, parts: nn.Module, config: OptimiserConfig) -> None:
        """Takes charge of all that `parts` consists of."""
        self.parts, self.config = parts.train(), config
        self.parameters = dict(parts.named_parameters())
        self.average = {name: x.detach().clone() for name, x in parts.state_dict().items()}
        self.optimizer = torch.optim.AdamW(
            self.groups(), lr=config.lr, betas=self.betas, eps=self.eps, weight_decay=config.weight_decay, fused=True
        )
        self.step, self.images, self.seconds = 0, 0, 0.0
        self.share_of_time = 0.0

    @property
    def done(self) -> float:
        """The share of the run that is over, by images or, where the rate is to fall by it, by time."""
        return max(self.images / self.config.max_images, self.share_of_time)

    def groups(self) -> list[dict[str, Any]]:
        """The optimizer's groups; gain: of the learning rate."""
        return [{"params": list(self.parameters.values()), "gain": 1.0}]

    @abstractmethod
    def losses(self) -> dict[str, Tensor]:
        """What this step is logged with, scalars on the device; `loss` is what it lowers."""

    @abstractmethod
    def learning_rate(self) -> float: ...

    def about(self) -> dict[str, Any]:
        """What else a line of the log says."""
        return {}

    def train_step(self) -> dict[str, Tensor]:
        """One optimizer step; returns `losses`. Gradients are clipped to norm 1."""
        self.optimizer.zero_grad(set_to_none=True)
        on_cpu = next(iter(self.parameters.values())).device.type == "cpu"
        math = self.math_attention and on_cpu
        with sdpa_kernel(SDPBackend.MATH) if math else contextlib.nullcontext():
            losses = self.losses()
            losses["loss"].backward()
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate() * group["gain"]
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        self.optimizer.step()
        self.step += 1
        self.images += self.config.batch
        self._update_average()
        return {name: value.detach() for name, value in losses.items()}

    @torch.no_grad()
    def _update_average(self) -> None:
        # Not AveragedModel: its first update would copy the weights, and each reads a number back from a tensor.
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        now = {name: x.detach() for name, x in self.parts.state_dict().items()}
        floats = [name for name, x in now.items() if x.is_floating_point()]
        get_ema_multi_avg_fn(decay)([self.average[n] for n in floats], [now[n] for n in floats], self.step)
        for name in now.keys() - set(floats):
            self.average[name].copy_(now[name])

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """The networks carry the averaged weights inside this block."""
        kept = {name: x.detach().clone() for name, x in self.parts.state_dict().items()}
        self._assign(self.average)
        self.parts.eval()
        yield
        self._assign(kept)
        self.parts.train()

    @torch.no_grad()
    def _assign(self, values: dict[str, Tensor]) -> None:
        for name, x in self.parts.state_dict().items():
            x.copy_(values[name])

    def save(self, out: Path) -> None:
        """The whole state as safetensors and JSON, under a temporary name first."""
        tensors = {f"raw.{name}": x.detach() for name, x in self.parts.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.items()}
        for name, p in self.parameters.items():
            tensors |= {f"{moment}.{name}": self.optimizer.state[p][moment] for moment in MOMENTS}
        state = {"step": self.step, "images": self.images, "seconds": self.seconds, "config": asdict(self.config)}
        path, metadata = out / self.state_file, {"state": json.dumps(state)}
        save_file({k: v.contiguous() for k, v in tensors.items()}, f"{path}.new", metadata=metadata)
        os.replace(f"{path}.new", path)

    def save_average(self, out: Path) -> None:
        """The averaged weights alone, in fp16, in files of SHARD at most, which travel where the state does not."""
        folder = out / AVERAGE
        folder.mkdir(parents=True, exist_ok=True)
        values = {name: x.half().contiguous() for name, x in self.average.items()}
        save_torch_state_dict(values, folder, max_shard_size=SHARD)
        (folder / "run.json").write_text(
            json.dumps({"step": self.step, "images": self.images, "seconds": self.seconds}), encoding="utf-8"
        )

    def restore_average(self, out: Path) -> None:
        """Continues from `save_average`, with new moments. ValueError, one sentence, where the weights do not fit."""
        folder = out / AVERAGE
        values = {k: v for path in sorted(folder.glob("*.safetensors")) for k, v in load_file(path).items()}
        if {k: v.shape for k, v in values.items()} != {k: v.shape for k, v in self.average.items()}:
            raise ValueError(f"{folder} does not hold the weights of this network.")
        self._assign(values)
        for name, value in self.average.items():
            value.copy_(values[name])
        known = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        self.step, self.images, self.seconds = known["step"], known["images"], known["seconds"]

    def restore(self, out: Path) -> None:
        """Continues from `save`; the config given now holds from here on. ValueError for a run of other networks."""
        path = out / self.state_file
        try:
            file = safe_open(path, framework="pt")
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged ({error}): begin anew in another --out.") from error
        with file:
            metadata = file.metadata()  # version 0.1 of the judge wrote its two numbers one by one
            state = json.loads(metadata["state"]) if "state" in metadata else metadata
            held = {self.current_name(key): key for key in file.keys()}
            for name, x in self.parts.state_dict().items():
                key = held.get(f"raw.{name}")
                if key is None or file.get_slice(key).get_shape() != list(x.shape):
                    raise ValueError(
                        f"The run in {out} has another network or vocabulary ({name} differs): use another --out, or "
                        "its prior folder with --warm-start."
                    )
            self._assign({name: file.get_tensor(held[f"raw.{name}"]) for name in self.average})
            for name, value in self.average.items():
                value.copy_(file.get_tensor(held[f"average.{name}"]))
            self.step, self.seconds = int(state["step"]), float(state["seconds"])
            self.images = state.get("images", self.step * self.config.batch)
            for name, p in self.parameters.items():
                # channels_last weights need moments of the same strides, or the fused step is slow.
                moments = {m: torch.empty_like(p).copy_(file.get_tensor(held[f"{m}.{name}"])) for m in MOMENTS}
                self.optimizer.state[p] = {"step": torch.tensor(float(self.step), device=p.device), **moments}

    def current_name(self, name: str) -> str:
        """What a tensor of an older state is called now."""
        return name


def falling_rate(config: Any, *, step: int, done: float) -> float:
    """The learning rate that rises over `config.warmup` steps and falls linearly to 0 over the last fraction
    `config.decay` of a run, of which the share `done` is over.
    """
    remaining = (1 - done) / max(config.decay, 1e-6)
    return config.lr * min(1.0, (step + 1) / config.warmup, max(remaining, 0.0))


@dataclass(frozen=True)
class PeriodicTask:
    """What a run does every so many minutes, and at its end. after_signal: also at the end that a signal makes."""

    minutes: float
    call: Callable[[], None]
    after_signal: bool = True


def run(
    trainer: NetworkTrainer, *, out: Path, minutes: float, tasks: Sequence[PeriodicTask], fall_by_time: bool = False
) -> None:
    """Trains until `max_images`, `minutes` or SIGTERM; logs means of `losses`. Tasks do not count as training time.

    fall_by_time: the learning rate reaches 0 when the minutes are over, for a machine of unknown speed.
    """
    begin = last = time.monotonic()
    done, losses, logged = [begin] * len(tasks), [], trainer.seconds
    with SignalHandler() as signals, (out / trainer.log_file).open("a", encoding="utf-8") as log:
        while trainer.images < trainer.config.max_images and not signals.number and last - begin < 60 * minutes:
            if fall_by_time:
                trainer.share_of_time = (last - begin) / (60 * minutes)
            losses.append(trainer.train_step())
            full = len(losses) == trainer.log_every
            means = _means(losses) if full else {}  # the one place that waits for the device
            now = time.monotonic()
            trainer.seconds += now - last
            if full:
                speed = len(losses) * trainer.config.batch / (trainer.seconds - logged)
                record = {
                    "step": trainer.step, "images": trainer.images, **means, "minutes": round(trainer.seconds / 60, 2),
                    **trainer.about(), "images_per_second": round(speed, 1),
                }  # fmt: skip
                log.write(json.dumps(record) + "\n")
                log.flush()
                print(record, flush=True)
                losses, logged = [], trainer.seconds
            for number, task in enumerate(tasks):
                if now - done[number] > 60 * task.minutes:
                    task.call()
                    done[number] = time.monotonic()
            last = time.monotonic()
        for task in tasks:
            if task.after_signal or not signals.number:
                task.call()


def _means(losses: Sequence[dict[str, Tensor]]) -> dict[str, float]:
    return {name: round(torch.stack([step[name] for step in losses]).mean().item(), 5) for name in losses[0]}
