"""What every training of a network here shares: the optimizer, averaged weights, and a state on disk to go on from."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

STATE = "state.safetensors"


class OptimiserConfig(Protocol):
    """What a configuration, a dataclass, says of the optimizer. batch: pictures a step; lr: learning rate.

    warmup: steps over which it rises; decay: last fraction of `max_images` over which it falls linearly to 0; ema: of
    the average.
    """

    @property
    def batch(self) -> int: ...
    @property
    def lr(self) -> float: ...
    @property
    def warmup(self) -> int: ...
    @property
    def decay(self) -> float: ...
    @property
    def max_images(self) -> int: ...
    @property
    def ema(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...


class Optimised:
    """Parameters, their running average and AdamW. A subclass computes a loss and its gradient and calls `advance`."""

    def optimise(self, parts: nn.Module, config: OptimiserConfig) -> None:
        """Takes charge of all parameters of `parts`."""
        self.parts, self.schedule = parts.train(), config
        self.parameters = dict(parts.named_parameters())
        self.average = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.optimizer = torch.optim.AdamW(
            self.groups(),
            lr=config.lr,
            betas=(0.9, 0.99),
            eps=1e-10,  # the deepest levels have gradients near 1e-8, which the default would damp
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.step, self.images, self.seconds = 0, 0, 0.0

    def groups(self) -> list[dict[str, Any]]:
        """The optimizer's groups; gain: of the learning rate."""
        return [{"params": list(self.parameters.values()), "gain": 1.0}]

    def advance(self, config: OptimiserConfig) -> None:
        """One step along the gradients that are there, which are clipped to norm 1."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate() * group["gain"]
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        self.optimizer.step()
        self.step += 1
        self.images += config.batch
        decay = min(config.ema, (1 + self.step) / (10 + self.step))
        get_ema_multi_avg_fn(decay)(list(self.average.values()), list(self.parameters.values()), self.step)

    def _learning_rate(self) -> float:
        config = self.schedule
        remaining = (config.max_images - self.images) / max(config.decay * config.max_images, 1)
        return config.lr * min(1.0, (self.step + 1) / config.warmup, max(remaining, 0.0))

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """The networks carry the averaged weights inside this block."""
        kept = {name: p.detach().clone() for name, p in self.parameters.items()}
        self._assign(self.average)
        self.parts.eval()
        yield
        self._assign(kept)
        self.parts.train()

    def _assign(self, values: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, p in self.parameters.items():
                p.copy_(values[name])

    def save(self, out: Path) -> None:
        """The whole state as safetensors and JSON, each under a temporary name first."""
        tensors = {f"raw.{name}": p.detach() for name, p in self.parameters.items()}
        tensors |= {f"average.{name}": value for name, value in self.average.items()}
        for name, p in self.parameters.items():
            for moment in ("exp_avg", "exp_avg_sq"):
                tensors[f"{moment}.{name}"] = self.optimizer.state[p][moment]
        state = {"step": self.step, "images": self.images, "seconds": self.seconds, "config": asdict(self.schedule)}  # type: ignore[call-overload]
        metadata = {"state": json.dumps(state)}
        save_file({k: v.contiguous() for k, v in tensors.items()}, out / f"{STATE}.new", metadata=metadata)
        os.replace(out / f"{STATE}.new", out / STATE)

    def restore(self, out: Path) -> None:
        """Continues from `save`; the config given now holds from here on. ValueError for a run of other networks."""
        try:
            file = safe_open(out / STATE, framework="pt")
        except SafetensorError as error:
            raise ValueError(f"{out / STATE} is damaged ({error}): begin anew in another --out.") from error
        with file:
            state = json.loads(file.metadata()["state"])
            held = {name for name in file.keys() if name.startswith("raw.")}
            for name, p in self.parameters.items():
                if f"raw.{name}" not in held or file.get_slice(f"raw.{name}").get_shape() != list(p.shape):
                    raise ValueError(
                        f"The run in {out} has another network or vocabulary ({name} differs): use another --out, or "
                        "its prior folder with --warm-start."
                    )
            self._assign({name: file.get_tensor(f"raw.{name}") for name in self.parameters})
            for name, p in self.parameters.items():
                self.average[name].copy_(file.get_tensor(f"average.{name}"))
                moments = {m: file.get_tensor(f"{m}.{name}") for m in ("exp_avg", "exp_avg_sq")}
                # channels_last weights need moments of the same strides, or the fused step is slow.
                moments = {m: torch.empty_like(p).copy_(value) for m, value in moments.items()}
                count = torch.tensor(float(state["step"]), device=p.device)
                self.optimizer.state[p] = {"step": count, **moments}
        self.step, self.images, self.seconds = state["step"], state["images"], state["seconds"]
