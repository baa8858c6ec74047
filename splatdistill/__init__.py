"""Text to 3D Gaussian objects by score distillation. Importing this package loads nothing heavy.

The names of `__all__` are the public API; each is loaded when it is first used. `__init__.pyi` has their types.

    import splatdistill
    result = splatdistill.distill("a red armchair", steps=200)
    result.splats.save("armchair.ply")
"""

import importlib as _importlib
import os as _os
import sys as _sys
from typing import Any as _Any

from splatdistill.utils.cpu import limit_spinning as _limit_spinning

__version__ = "0.2.0"
__all__ = [  # pyright: ignore[reportUnsupportedDunderAll]  the stub has them
    "Cameras", "Config", "Result", "Splats", "Step", "Trainer", "__version__", "configure",  # pyright: ignore
    "distill", "judge", "list_methods", "list_priors", "load_prior", "orbit",  # pyright: ignore
]  # fmt: skip

_WHERE = {
    "Cameras": "scene.types", "Config": "api.choices", "Result": "api.distilling", "Splats": "api.splats",
    "Step": "api.steps", "Trainer": "api.steps", "configure": "api.choices", "distill": "api.distilling",
    "judge": "api.judgement", "list_methods": "api.choices", "list_priors": "api.choices",
    "load_prior": "api.choices", "orbit": "api.splats",
}  # fmt: skip

_limit_spinning(_os.environ, loaded="torch" in _sys.modules)


def __getattr__(name: str) -> _Any:
    """The public name, from the module that has it."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(_importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """With the public names that were not used yet."""
    return sorted({*globals(), *__all__})
