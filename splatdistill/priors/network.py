"""What all priors with a network share: conditions as rows of one call, epsilon, micro-batches, adapters."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splatdistill.priors import compiler, graph
from splatdistill.priors.attention import install_view_attention
from splatdistill.priors.base import Choice, Condition, joined, padded
from splatdistill.priors.offload import MicroBatches
from splatdistill.priors.packed import Engine
from splatdistill.priors.precision import has_fast_bf16
from splatdistill.priors.schedule import Prediction, Schedule, alpha_sigma, to_epsilon
from splatdistill.scene.cameras import camera_token
from splatdistill.scene.types import Cameras
from splatdistill.utils.device import send


@dataclass(frozen=True)
class Text:
    """One prompt as a network reads it. tokens: [1,T,D]; pooled: [1,P] where the network wants one vector as well, or
    a picture's latents.
    """

    tokens: Tensor
    pooled: Tensor | None = None


@dataclass(frozen=True)
class DenoiserInput:
    """What a network is asked at R rows. xt: [R,C,h,w]; t: [R]; text: [R,T,D] or [1,T,D]; cameras: [R,16] embeddings,
    None or zeros for no camera; pooled: [R,P] or [1,P]. The first `joint_rows` rows attend to each other in groups.
    lengths: how many tokens count, of each row or of the one text; () for all.
    """

    xt: Tensor
    t: Tensor
    text: Tensor
    cameras: Tensor | None = None
    pooled: Tensor | None = None
    joint_rows: int = 0
    lengths: tuple[int, ...] = ()


class Adapters(Protocol):
    """What is on a network beside its own layers, and can be taken off again."""

    def remove(self) -> None: ...


class NetworkPrior(ABC):
    """The `Prior` protocol on a frozen network, but for pictures and words."""

    knows_cameras = False
    supports_single_view_cameras = False
    mixed = False
    """In bf16: convolutions and linear layers alone, under autocast, in place of the whole network."""
    sees_alpha = False
    ragged = False
    """Texts are as long as they are, and distinguished from what pads them."""
    engine: Engine | None = None
    """What computes `infer` in place of the network."""
    graphs: graph.Graphs | None = None
    """What replays predictions and the variational score, where they are made of many small kernels."""
    compiled: compiler.Compiled | None = None
    """What runs in place of the frozen network for predictions."""

    def __init__(
        self,
        network: nn.Module,
        *,
        schedule: Schedule,
        num_views: int,
        image_size: int,
        dtype: str,
        origin: str,
        device: torch.device | None = None,
        offloaded: bool = False,
        native_size: int = 0,
    ) -> None:
        """device: where it computes, if that is not where its weights are. offloaded: they are in main memory.
        native_size: the side in pixels that it was made for, where it sees pictures of another.
        """
        self.network, self.offloaded = network, offloaded
        self.device = device or next(network.parameters()).device
        self.alphas_cumprod: Tensor = schedule.alphas_cumprod.to(self.device)
        self.prediction: Prediction = schedule.prediction
        self.num_views, self.image_size, self.dtype, self.origin = num_views, image_size, dtype, origin
        self.native_size = native_size or image_size
        self.micro_batches = MicroBatches()
        self.adapters: Adapters | None = None
        # Of the last call, as it came in and as the device got it.
        self._token: tuple[Tensor | None, Tensor | None] = None, None
        self._asked: list[Any] = []
        self._answered: tuple[Tensor, Tensor | None]

    def begin(self, choice: Choice) -> None:
        """ValueError for a choice among models, which a network alone does not list."""
        choice.refuse_instances(self.origin)

    @abstractmethod
    def encode(self, rgb: Tensor) -> Tensor:
        """[V,H,W,3] in 0..1 to x0 [V,C,h,w], differentiable; resizes to the native size."""

    @abstractmethod
    def decode(self, x0: Tensor) -> Tensor:
        """x0 [V,C,h,w] to [V,H,W,3] in 0..1."""

    @abstractmethod
    def _encode(self, prompt: str) -> Text: ...

    @property
    @abstractmethod
    def time_embedding(self) -> nn.Module:
        """The part of the network whose last linear layer answers with its embedding of the timestep."""

    @abstractmethod
    def denoise(self, inputs: DenoiserInput, *, run: Callable[..., Any] | None = None) -> Tensor:
        """The network's own answer [R,C,h,w] in fp32, as `prediction` names it; differentiable.

        run: what is called in place of the network.
        """

    @property
    def network_engine(self) -> str:
        if self.graphs is not None and not self.graphs.failed:
            return graph.NAME
        if self.compiled is not None and not self.compiled.failed:
            return compiler.NAME
        return self.engine.name if self.engine else "torch"

    def _as_read(self, x: Tensor) -> Tensor:
        """In the network's own type, unless autocast converts to it."""
        return x.bfloat16() if self.dtype == "bf16" and not self.mixed else x

    def infer(self, inputs: DenoiserInput) -> Tensor:
        """As `denoise`, of the frozen network: without a gradient, and maybe by an engine of its own."""
        return self.denoise(inputs, run=self.compiled)

    def embed(
        self,
        prompt: str | Sequence[str],
        cameras: Cameras | None,
        *,
        use_camera_embedding: bool = True,
        cross_view_attention: bool = True,
    ) -> Condition:
        """One condition for V cameras, or for as many views as there are prompts where no camera is given; `predict`
        repeats a single one.
        """
        read = [self._encode(p) for p in ([prompt] if isinstance(prompt, str) else prompt)]
        text = padded([x.tokens for x in read])
        lengths = tuple(x.tokens.shape[1] for x in read) if self.ragged else ()
        pooled = joined([x.pooled for x in read if x.pooled is not None]) if read[0].pooled is not None else None
        knows = self.knows_cameras if cross_view_attention else self.supports_single_view_cameras
        if cameras is None or not use_camera_embedding or not knows:
            return Condition(text=text, camera=None, pooled=pooled, lengths=lengths)
        here = camera_token(cameras)
        if here is not self._token[0]:
            self._token = here, send(here, self.device)
        return Condition(text=text, camera=self._token[1], pooled=pooled, cross_view_attention=cross_view_attention)

    @torch.no_grad()
    def predict(self, xt: Tensor, t: Tensor, conditions: Sequence[Condition]) -> list[Tensor]:
        """fp32 epsilon for each of K conditions, K tensors like xt [V,C,h,w], in one network call; t: [V] int64.

        With cross-view attention, views of conditions with cameras attend to each other in consecutive groups of
        `num_views`.
        """
        num = len(xt)
        # Rows that attend to each other go first, because the joint rows of the view attention are the first ones.
        together = [c.cross_view_attention and c.camera is not None for c in conditions]
        order = sorted(range(len(conditions)), key=lambda k: not together[k])
        joint = num * sum(together)
        if joint and num % self.num_views:
            raise ValueError(f"The number of views ({num}) must be a multiple of {self.num_views} for this prior.")
        text, pooled = self._texts([conditions[k] for k in order], num)
        cameras = joined([c if (c := conditions[k].camera) is not None else xt.new_zeros(num, 16) for k in order])
        inputs = (text, cameras) if pooled is None else (text, cameras, pooled)
        rows = [c.lengths * (num // len(c.lengths)) for k in order if (c := conditions[k]).lengths]
        lengths = tuple(itertools.chain(*rows))
        found = self.recorded(self._epsilon, xt.detach(), t, *inputs, joint=joint, lengths=lengths)
        found = found.chunk(len(conditions))
        return [found[order.index(k)] for k in range(len(conditions))]

    def _epsilon(
        self,
        xt: Tensor,
        t: Tensor,
        text: Tensor,
        cameras: Tensor,
        pooled: Tensor | None = None,
        *,
        joint: int,
        lengths: tuple[int, ...] = (),
    ) -> Tensor:
        """fp32 epsilon [K V,C,h,w] for K conditions, one after another, the first `joint` rows joint. xt: [V,C,h,w]; t:
        [V]; text: [K V,T,D]; cameras: [K V,16]; pooled: [K V,P]; lengths: of K V texts, or () for all their tokens.
        """
        num = len(text) // len(xt)
        x, rows = xt.repeat(num, 1, 1, 1), t.repeat(num)

        def answer(part: slice) -> Tensor:
            some = None if pooled is None else pooled[part]
            left = max(0, joint - part.start)
            asked = DenoiserInput(
                x[part], rows[part], text[part], cameras[part], some, joint_rows=left, lengths=lengths[part]
            )
            return self.infer(asked)

        out = self.micro_batches.run(answer, len(x), group=self.num_views if joint else 1)
        alpha, sigma = alpha_sigma(self.alphas_cumprod, rows)
        return to_epsilon(self.prediction, out, x, alpha=alpha, sigma=sigma)

    def recorded(self, call: Callable[..., Tensor], *inputs: Tensor, **settings: Any) -> Tensor:
        """`call(*inputs, **settings)` [R,...], by a CUDA graph where there is one and memory holds all rows at once."""
        if self.graphs is None or self.micro_batches.rows is not None:
            return call(*inputs, **settings)
        return self.graphs.run(call, *inputs, **settings)

    def _texts(self, conditions: Sequence[Condition], num: int) -> tuple[Tensor, Tensor | None]:
        """Token states [K num,T,D] and vectors [K num,P] of K conditions for `num` views each. Those of the last call
        are kept, because a run asks with the same words in every step.
        """
        asked = [num, *(x for condition in conditions for x in (condition.text, condition.pooled))]
        if len(asked) != len(self._asked) or any(a is not b for a, b in zip(asked, self._asked, strict=True)):
            vectors = [p.expand(num, -1) for condition in conditions if (p := condition.pooled) is not None]
            text = padded([condition.text.expand(num, -1, -1) for condition in conditions])
            self._asked, self._answered = asked, (text, joined(vectors) if vectors else None)
        return self._answered


class UNetPrior(NetworkPrior):
    """A UNet of diffusers, or one with its interface. With a camera embedding it gets cross-view attention."""

    def __init__(self, unet: nn.Module, **settings: Any) -> None:
        super().__init__(unet, **settings)
        self.knows_cameras = self.unet.config["class_embed_type"] == "projection"
        self.views = install_view_attention(unet) if self.knows_cameras else None
        # SDXL is conditioned on the size of an image, its crop and the size that it should have.
        size = self.native_size
        self._sizes = torch.tensor([[size, size, 0, 0, size, size]], device=self.device)

    @property
    def unet(self) -> Any:
        return self.network

    @property
    def time_embedding(self) -> nn.Module:
        return self.unet.time_embedding

    @property
    def together(self) -> int:
        """How many rows of the network attend to each other."""
        return self.num_views

    def denoise(self, inputs: DenoiserInput, *, run: Callable[..., Any] | None = None) -> Tensor:
        xt, cameras, pooled = inputs.xt, inputs.cameras, inputs.pooled
        if self.views is not None:
            self.views.num_views, self.views.joint_rows = self.together, inputs.joint_rows
            cameras = cameras if cameras is not None else xt.new_zeros(len(xt), 16)
        pooled = None if pooled is None else pooled.expand(len(xt), -1)
        sample, conditioning = self._unet_inputs(xt, cameras, pooled)
        sample = self._as_read(sample).contiguous(memory_format=torch.channels_last)
        text = self._as_read(inputs.text).expand(len(xt), -1, -1)
        with torch.autocast(xt.device.type, torch.bfloat16, enabled=self.dtype == "bf16" and self.mixed):
            out = (run or self.network)(sample, inputs.t, text, return_dict=False, **conditioning)[0].float()
        return out[:, : xt.shape[1]]  # DeepFloyd's second half is a variance

    def _unet_inputs(self, xt: Tensor, cameras: Tensor | None, pooled: Tensor | None) -> tuple[Tensor, dict[str, Any]]:
        """The UNet's `sample` [R,...], and its conditioning beside timestep and text. xt: [R,C,h,w]; cameras: [R,16];
        pooled: [R,P].
        """
        more: dict[str, Any] = {} if cameras is None else {"class_labels": self._as_read(cameras)}
        if pooled is not None:
            sizes = self._sizes.expand(len(xt), -1)
            more["added_cond_kwargs"] = {"text_embeds": self._as_read(pooled), "time_ids": sizes}
        return xt, more


def resize(rgb: Tensor, size: int) -> Tensor:
    """[V,H,W,3] to [V,size,size,3], differentiable."""
    if rgb.shape[1:3] == (size, size):
        return rgb
    images = rgb.permute(0, 3, 1, 2)
    images = F.interpolate(images, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return images.permute(0, 2, 3, 1)


def pick_dtype(name: str, *, device: str) -> str:
    """fp32 or bf16 for auto, fp32 or bf16; auto is bf16 on a GPU, and on a processor that is faster with it."""
    if name not in ("auto", "bf16", "fp32"):
        raise ValueError(f"dtype must be auto, bf16 or fp32, not {name}.")
    if name != "auto":
        return name
    return "bf16" if device.startswith("cuda") or has_fast_bf16() else "fp32"


def keep_bf16(network: nn.Module) -> None:
    """Convolutions and linear layers in bf16, which autocast would convert anew in every call; norms stay in fp32."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.bfloat16()
