"""What settings are made of: numbers with their ranges, and what every guidance method reads. Without torch.

A range stands in the type of its field, as constraints of annotated-types that `constraints.check` reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeGuard

from annotated_types import Ge, Gt, Interval
from tyro.conf import Suppress as FileOnly  # few people change these: they have no flag and are set in a file

__all__ = ["FileOnly"]

Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Fraction = Annotated[float, Interval(ge=0, le=1)]
Count = Annotated[int, Gt(0)]
Whole = Annotated[int, Ge(0)]
Ends = tuple[NonNegative, NonNegative]
Weight = Literal["sigma2", "one", "sigma_over_alpha", "fantasia", "flow"]
Schedule = Literal["uniform", "linear", "sqrt"]
UpAxis = Literal["auto", "+y", "-y", "+z", "-z"]
Degree = Literal["auto", 0, 1, 2, 3]


def is_mapping(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether a value that was read is a mapping; that its keys are text is for `merge` to find out."""
    return isinstance(value, Mapping)


def is_list(value: object) -> TypeGuard[Sequence[Any]]:
    """Whether a value is a list, or the tuple that a setting makes of one."""
    return isinstance(value, list | tuple)


@dataclass(frozen=True)
class ViewsConfig:
    """View-dependent prompts: the side that a camera sees, added as in "a red armchair, back view"."""

    view_dependent_prompts: Literal["auto", "on", "off"] = "auto"
    """Whether prompts name the side; auto does where the prior cannot be conditioned on the camera. A method that
    scores every view on its own, as vsd and esd, can do that only with a prior that has learned cameras of those.
    """
    camera_embedding: FileOnly[bool] = True
    """Condition the prior on every camera, if it knows any, so that views of a group see each other; without, words
    alone name the side. VSD and ESD score single views, so they do it only with a prior that has learned cameras of
    those.
    """
    front_deg: FileOnly[NonNegative] = 45.0
    """Views closer than this to the front or the back have that word, the others are side views; degrees."""
    overhead_deg: FileOnly[NonNegative] = 60.0
    """Views from higher than this are overhead views, degrees."""


@dataclass(frozen=True)
class MethodConfig:
    """What every guidance method reads."""

    negative_prompt: str = ""
    """Takes the place of the empty prompt in the unconditional branch. In it, {prompt} stands for the prompt."""
    weight: Weight = "sigma2"
    """Weight over timesteps: sigma^2, 1, sigma/alpha (capped at 13), alpha sigma^2 (fantasia) or 1 + sigma/alpha (flow:
    a flow's own)."""
    clamp: Ends = (0.0, 0.0)
    """Largest absolute gradient per element at the first and at the last step; 0 0 leaves it alone."""

    def check(self, name: str, *, views: ViewsConfig) -> None:
        """ValueError, one sentence, for settings that exclude each other. name: of the method, which the sentence says.
        views: of the run.
        """
        if (self.clamp[0] == 0) != (self.clamp[1] == 0):
            raise ValueError(f"{name}.clamp must be above 0 at both ends, or 0 0 for none.")


@dataclass(frozen=True)
class AnnealedConfig(MethodConfig):
    """Timesteps drawn uniformly from a range whose ends move over the run. Where the ends are equal, nothing is drawn:
    t_min_first = t_max and t_min = t_max_final is a timestep that only falls.
    """

    t_min: Fraction = 0.02
    """Lowest timestep, as a fraction of the schedule."""
    t_min_first: FileOnly[Fraction] = 0.0
    """Lowest timestep at the first step, from which it falls to t_min; 0 is t_min all along."""
    t_max: Fraction = 0.98
    """Highest timestep at the first step, as a fraction of the schedule."""
    t_max_final: Fraction = 0.5
    """Highest timestep once annealed, as a fraction of the schedule."""
    anneal: Fraction = 1.0
    """Fraction of the steps over which the range moves, 0..1; 0 starts with the final range."""
    schedule: Schedule = "linear"
    """How the range moves: linear, sqrt (fast, then slow) or uniform (it stays as it is at the first step)."""

    def check(self, name: str, *, views: ViewsConfig) -> None:
        super().check(name, views=views)
        if self.t_min > min(self.t_max, self.t_max_final):
            raise ValueError(f"{name}.t_min must not exceed {name}.t_max and {name}.t_max_final.")
        if self.t_min_first > self.t_max:
            raise ValueError(f"{name}.t_min_first must not exceed {name}.t_max.")
