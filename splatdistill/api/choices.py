"""What there is to choose from, and the settings that a choice comes to. Torch is loaded for a prior alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from splatdistill.config import settings as layers
from splatdistill.config import validation
from splatdistill.config.schema import GUIDANCE
from splatdistill.config.schema import TrainConfig as Config
from splatdistill.priors import SHIPPED, offered
from splatdistill.priors import load as load_any
from splatdistill.priors.families import family_of, layered, listed
from splatdistill.priors.resolve import model_families
from splatdistill.training.advice import about_init, about_priors

if TYPE_CHECKING:
    from splatdistill.priors.base import Prior

__all__ = ["Config", "configure", "list_methods", "list_priors", "load_prior"]

NAMED = {"embedded": "what comes with the package", "analytic": "a beach ball whose score is known in closed form"}


def list_methods() -> dict[str, str]:
    """The guidance methods by name, each with its paper; those of other packages are among them.

    Returns: name to paper. Raises: nothing. Source: `splatdistill.guidance.methods`, one file a method.

    Example:
        >>> import splatdistill
        >>> list(splatdistill.list_methods())[:3]
        ['sds', 'vsd', 'esd']
    """
    return {name: method.paper for name, method in GUIDANCE.items()}


def list_priors() -> dict[str, str]:
    """The teachers that have a name: those that are shipped, families of diffusion models, and those of other packages.
    A folder with a diffusers model, MVDream's checkpoint or an id of the Hugging Face hub will do as well.

    Returns: name to what it is. Raises: nothing. Source: `splatdistill prior list`, which adds sizes and licences.

    Example:
        >>> import splatdistill
        >>> splatdistill.list_priors()["embedded"]
        'what comes with the package'
    """
    families = {name: str(facts["what"]) for name, facts in model_families().items()}
    return NAMED | families | dict.fromkeys(offered(), "a prior of another package")


def load_prior(name: str, *, device: str = "auto", dtype: str = "auto", engine: str = "auto", **settings: Any) -> Prior:
    """A teacher, to be used for several objects without loading it again: `distill(..., prior=load_prior(...))`.

    name: one of `list_priors()`, a folder, a file or an id of the hub. device: auto, cpu or cuda. dtype: auto, fp32 or
    bf16, of its network. engine: auto, torch, onnx, cuda-graph or compile, what computes its predictions. settings:
    `max_memory` in GB, `encoder`, `image_size` in pixels and `loras`, as the flags of `splatdistill train`.

    Returns: a `splatdistill.priors.base.Prior`: `encode` takes [V,H,W,3] in 0..1 to x0 [V,C,h,w], `predict` takes
    x_t [V,C,h,w] to fp32 epsilon of that shape.
    Raises: ValueError, one sentence, for a name that is nothing and weights that are missing or too large.
    Source: the prior's own paper; `prior.origin` says where its weights are from.

    Example:
        >>> import splatdistill
        >>> splatdistill.load_prior("analytic").image_size
        64
    """
    from splatdistill.utils.device import pick_device
    from splatdistill.utils.process_state import random_numbers

    with random_numbers():
        return load_any(name, device=pick_device(device), dtype=dtype, engine=engine, **settings)


def configure(
    prompt: str,
    *,
    method: str | None = None,
    prior: str | Prior | None = None,
    file: str | Path | None = None,
    threads: int | None = None,
    **settings: Any,
) -> Config:
    """The settings of a run: defaults, then the family of the prior, then `file`, then `settings`, as on the command
    line. Nothing is loaded and nothing is changed in silence.

    prompt: what to make. method: one of `list_methods()`. prior: one of `list_priors()` or a loaded one. file: YAML, or
    the name of a shipped recipe such as "smoke". threads: of the CPU; None takes as many as the caller has. settings:
    any setting of `splatdistill config`, those of a section as a mapping: steps=200, densify={"interval": 100}.

    Returns: a frozen dataclass; lengths are in world units, angles in degrees where a name ends in _deg, sizes in px.
    A step renders [num_views,size,size,3].
    Raises: ValueError, one sentence, for an empty prompt, a name that is unknown, or a value out of range.
    Source: `splatdistill config --method M --prior P` prints the same settings, each with where it is from.

    Example:
        >>> import splatdistill
        >>> config = splatdistill.configure("a red ball", method="csd", prior="analytic", steps=50)
        >>> config.method, config.steps
        ('csd', 50)
    """
    name = prior if isinstance(prior, str) or prior is None else prior.origin
    given = {"prompt": prompt, **settings} | ({} if name is None else {"prior": name})
    given |= {} if threads is None else {"threads": threads}
    if not isinstance(prompt, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"prompt must be text; it is {layers.shown(prompt)}.")
    family = None if isinstance(prior, str) or name is None else _family_of_loaded(name)
    where = Path(file) if file is not None else None
    config, _ = layered(where, method=method, prior=name, family=family, defaults=("settings", given))
    config = replace(config, method=method or config.method)
    validation.validate(config)
    return config


def _family_of_loaded(origin: str) -> str:
    """That of a prior by where it is from; "" for one that is nowhere. The hub is not asked."""
    here = origin in SHIPPED or origin in NAMED or Path(origin).exists()
    return family_of(origin) if here or listed(origin) else ""


def loader(prior: Prior | str | None) -> Callable[..., Prior] | None:
    """What gives a loaded prior whichever is asked for; None where it is to be loaded by its name."""
    if prior is None or isinstance(prior, str):
        return None

    def load(name: str, **_: Any) -> Prior:
        return prior

    return load


def warn_of(config: Config, *, stacklevel: int) -> None:
    """Says as a UserWarning what a user may not expect of these settings, and what a prior does not know of the prompt;
    ValueError, one sentence, where it cannot make the object at all.
    """
    from splatdistill.io.kinds import Assumptions

    cautions = validation.validate(config)
    taken = Assumptions(config.up, config.fit)
    cautions += about_priors(config, words=False)
    cautions += about_init(config.init, taken, config.camera, budget=config.densify.max_splats)
    for sentence in cautions:
        warnings.warn(sentence, stacklevel=stacklevel + 1)


def shown_call(config: Config, settings: Mapping[str, Any]) -> str:
    """The call of `distill` that made a run, for its record."""
    more = "".join(f", {name}={value!r}" for name, value in settings.items() if value is not None)
    return f"splatdistill.distill({config.prompt!r}{more})"
