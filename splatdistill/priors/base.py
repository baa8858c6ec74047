"""What guidance asks of a prior: encode renders, embed a prompt, predict noise. Nothing here knows a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from splatdistill.scene.types import Cameras, NoisyBatch


@dataclass(frozen=True)
class Condition:
    """One thing a prior can be asked about V views. text: [V,T,D] token states, or [1,T,D] for all views; camera:
    [V,16] embedding, or None for no camera; pooled: [V,P] or [1,P], one vector for the whole text, where the network
    wants that too, or latents of a picture that it is shown. cross_view_attention: views with a camera attend to each
    other. lengths: how many of the tokens of each row count, where texts of several lengths were padded with zeros; ()
    for all.
    """

    text: Tensor
    camera: Tensor | None
    pooled: Tensor | None = field(default=None, kw_only=True)
    cross_view_attention: bool = field(default=True, kw_only=True)
    lengths: tuple[int, ...] = field(default=(), kw_only=True)

    def mixed(self, others: Sequence[Condition], *, shares: Tensor) -> Condition:
        """This condition and K-1 `others` of the same cameras, whose words have these shares [K,V] at each view."""

        def sum_of(tensors: Sequence[Tensor | None]) -> Tensor | None:
            """[V,...] of K tensors [V,...] or [1,...]."""
            pairs = zip(shares, tensors, strict=True)
            found = [share.to(x).view(-1, *[1] * (x.ndim - 1)) * x for share, x in pairs if x is not None]
            return torch.stack(found).sum(0) if found else None

        text = sum_of([self.text, *(other.text for other in others)])
        assert text is not None
        return replace(self, text=text, pooled=sum_of([self.pooled, *(other.pooled for other in others)]))


def joined(rows: Sequence[Tensor]) -> Tensor:
    """Tensors [R,...] one after another, [sum of R,...]; a single one as it is, so that its reader knows it again."""
    return rows[0] if len(rows) == 1 else torch.cat(list(rows))


def padded(rows: Sequence[Tensor]) -> Tensor:
    """Rows of texts [R,T,D] of several lengths one after another, zeros behind the shorter ones."""
    longest = max(row.shape[1] for row in rows)
    if all(row.shape[1] == longest for row in rows):
        return joined(rows)
    return joined([torch.nn.functional.pad(row, (0, 0, 0, longest - row.shape[1])) for row in rows])


@dataclass(frozen=True, eq=False)
class Picture:
    """What to make, as one camera sees it. rgba: [4,S,S] in 0..1, straight colours; the object's longer side fills it.
    camera: of one view, whose frame is wider than that.
    """

    rgba: Tensor
    camera: Cameras


@dataclass(frozen=True)
class Choice:
    """What a run asks of its prior. prompt: what to make. seed: of the run, which picks among the models of a noun.
    instance: number of the model, from 1; 0 leaves it to the seed. mixture: all of them are left open. nearest: an
    unknown object becomes the nearest known one. source: words for what the run begins with, if a method tells them;
    source_instance: number of its model, from 1; 0 leaves that to its pictures. picture: of what to make, if there is
    one; a prior may leave it to the trainer, which holds the splats to it.
    """

    prompt: str = ""
    seed: int = 0
    instance: int = 0
    mixture: bool = False
    nearest: bool = False
    source: str = ""
    source_instance: int = 0
    picture: Picture | None = None

    def refuse_instances(self, origin: str) -> None:
        """ValueError for a choice among models, by a prior that has no list of them."""
        for asked, flag in ((self.instance, "prior_instance"), (self.mixture, "prior_mixture")):
            if asked:
                raise ValueError(f"{flag}: the prior {origin} keeps no list of models to choose from; leave it out.")


class VariationalScore(Protocol):
    """The score of a run's own noised renders, which VSD and ESD subtract from the prior's."""

    def predict(self, batch: NoisyBatch, with_camera: Sequence[bool]) -> list[Tensor]:
        """fp32 epsilon like x_t [V,C,h,w] for each entry of `with_camera`: with the cameras of the batch or not; no
        gradient.
        """
        ...

    def update(self, batch: NoisyBatch, *, seed: int, step: int, measure: bool) -> dict[str, Tensor]:
        """Learns from the renders batch.x0; returns scalars for the log if asked to `measure`."""
        ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...


class Prior(Protocol):
    """A pretrained denoiser with a frozen network.

    alphas_cumprod: [1000] of its schedule. num_views: views it sees jointly (1 for single-view priors).
    image_size: its native render side in pixels. dtype: fp32 or bf16, the precision its network runs in.
    knows_cameras: whether conditions can tell it where a view is seen from. supports_single_view_cameras: also
    where a view is scored on its own. sees_alpha: pictures are in front of white and have alpha. origin: where its
    weights are from, for the record of a run. network_engine: what computes its predictions, as in `engine.NAMES`.
    """

    alphas_cumprod: Tensor
    num_views: int
    image_size: int
    dtype: str
    knows_cameras: bool
    supports_single_view_cameras: bool
    sees_alpha: bool
    origin: str

    @property
    def network_engine(self) -> str: ...

    def begin(self, choice: Choice) -> str | None:
        """What a run calls once, before its first question: the key of the one model that it will show, None where that
        is open. ValueError, one sentence, for what this prior lacks.
        """
        ...

    def encode(self, rgb: Tensor) -> Tensor:
        """[V,H,W,3] in 0..1, or [V,H,W,4] if it `sees_alpha`, to x0 [V,C,h,w], differentiable; resizes to the native
        size.
        """
        ...

    def decode(self, x0: Tensor) -> Tensor:
        """x0 [V,C,h,w] to [V,H,W,3] in 0..1; for previews only."""
        ...

    def embed(
        self,
        prompt: str | Sequence[str],
        cameras: Cameras | None,
        *,
        use_camera_embedding: bool = True,
        cross_view_attention: bool = True,
    ) -> Condition:
        """The condition for a prompt, or one prompt for each view, seen by these cameras; text is encoded once per
        string. With cameras=None or use_camera_embedding=False the network is not conditioned on the camera, and views
        do not attend to each other. Without cross_view_attention they do not either, and only a prior that
        `supports_single_view_cameras` is conditioned on the camera.
        """
        ...

    def predict(self, xt: Tensor, t: Tensor, conditions: Sequence[Condition]) -> list[Tensor]:
        """fp32 epsilon for each of K conditions, K tensors like xt [V,C,h,w], in one network call; t: [V] int64.

        No gradient.
        """
        ...
