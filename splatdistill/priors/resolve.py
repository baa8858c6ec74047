"""Where the weights behind a name are: a path first, then the hub's cache, then the hub. No torch here."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODELS = Path(__file__).with_name("models.json")
"""Names of families, each with the ids that carry its weights, in the order in which they are tried."""
_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[\w./-]+))?(?::(?P<file>[\w./-]+))?")
_PARTS = ("model_index.json", "*/config.json", "scheduler/*", "tokenizer*/*", "*/*.index.json")
_WEIGHTS = tuple(
    f"{folder}/{name}{part}.safetensors"
    for folder, name in (
        ("unet", "diffusion_pytorch_model"), ("transformer", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"), ("text_encoder*", "model"),
    )
    for part in ("", "-0*-of-0*")
)  # fmt: skip  # of the plain files: no fp16 twins, no pickles
ENCODER_WEIGHTS = "diffusion_pytorch_model.safetensors"
"""Of a model that is a folder of its own."""


@dataclass(frozen=True)
class ModelSource:
    """A folder or file that is here. origin: where it came from, for the record: its path, or ID@REVISION."""

    path: Path
    origin: str


def model_families() -> dict[str, dict[str, Any]]:
    return json.loads(MODELS.read_text(encoding="utf-8"))


def resolve(name: str) -> ModelSource:
    """What `--prior name` means: a path, the name of a family, or ID[@REVISION][:FILE] on the Hugging Face hub.

    ValueError, one sentence, when it is nowhere: it names the places that were looked at and the command that helps.
    """
    path = Path(name).expanduser()
    if os.path.exists(path):  # unlike Path.exists it has an answer for names too long for a path
        return ModelSource(path, str(path))
    known = model_families()
    sources = known[name]["sources"] if name in known else [name]
    if name not in known and not _ID.fullmatch(name):
        raise ValueError(
            f"prior: there is no prior or folder called {name!r}; use embedded, analytic, a family of "
            "`splatdistill prior list`, a diffusers folder, or an id of the Hugging Face hub."
        )
    if name.startswith((".", "/", "~")):
        raise ValueError(f"prior: there is no folder {path}.")
    for source in sources:  # what is here already wins over what would have to be fetched first
        found = _fetch(source, here=True)
        if isinstance(found, ModelSource):
            return found
    reasons = {}
    for source in sources:
        found = _fetch(source, here=False)
        if isinstance(found, ModelSource):
            return found
        reasons[source] = found
    raise ValueError(_nowhere(name, path, reasons))


def resolve_encoder(name: str) -> ModelSource:
    """What `--encoder name` means: a folder, or ID[@REVISION] on the Hugging Face hub. ValueError as in `resolve`."""
    path = Path(name).expanduser()
    if os.path.exists(path):
        return ModelSource(path, str(path))
    match = _ID.fullmatch(name)
    if match is None or match["file"] or name.startswith((".", "/", "~")):
        raise ValueError(f"encoder: there is no folder {name!r}; name one, or an id of the Hugging Face hub.")
    for here in (True, False):
        found = _fetch(name, here=here, index="config.json", patterns=("config.json", ENCODER_WEIGHTS))
        if isinstance(found, ModelSource):
            return found
    raise ValueError(_nowhere(name, path, {name: found}, field="encoder"))


def peek(name: str, folder: Path) -> Path | None:
    """A folder with the small files of an id of the hub: in its cache, or fetched into `folder`, so that no part of a
    copy gets into the cache; None where there are none.
    """
    from huggingface_hub import snapshot_download

    match = None if name.startswith((".", "/", "~")) else _ID.fullmatch(name)
    if match is None:
        return None
    small: dict[str, Any] = {"revision": match["revision"], "allow_patterns": ["model_index.json", "*/*config.json"]}
    for place in ("cache", "hub"):
        small |= {"local_files_only": True} if place == "cache" else {"local_files_only": False, "local_dir": folder}
        try:
            return Path(snapshot_download(match["repo"], **small))
        except (OSError, ValueError):
            continue
    return None


def is_here(source: str) -> bool:
    """Whether one of the ids that `model_families` lists lies in the hub's cache."""
    return isinstance(_fetch(source, here=True), ModelSource)


def _nowhere(name: str, path: Path, reasons: Mapping[str, str], *, field: str = "prior") -> str:
    from huggingface_hub.constants import HF_HUB_CACHE

    repo, _, file = next(iter(reasons)).partition(":")
    tried = "; ".join(f"{source}: {reason}" for source, reason in reasons.items())
    return (
        f"{field}: {name} is not here: there is no {path.absolute()}, and nothing of it in {HF_HUB_CACHE} ({tried}); "
        f"where there is a network, `hf download {' '.join(part for part in (repo, file) if part)}` fetches it, and "
        f"--{field} takes the folder."
    )


def _fetch(
    source: str, *, here: bool, index: str = "model_index.json", patterns: Sequence[str] = (*_PARTS, *_WEIGHTS)
) -> ModelSource | str:
    """The source, or in a few words why not. here: look into the cache only. index: the file that every whole copy
    has.
    """
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    match = _ID.fullmatch(source)
    assert match is not None
    repo, revision, file = match["repo"], match["revision"], match["file"]
    try:
        if file:
            got = Path(hf_hub_download(repo, file, revision=revision, local_files_only=here))
            return ModelSource(got, f"{repo}@{_commit(got)}:{file}")
        got = Path(snapshot_download(repo, revision=revision, local_files_only=here, allow_patterns=list(patterns)))
    except GatedRepoError:
        return "its licence must be accepted on the hub first, then `hf auth login`"
    except LocalEntryNotFoundError:
        return "the hub cannot be reached"
    except RepositoryNotFoundError:
        return "the hub has no such id"
    except (OSError, ValueError) as error:
        return str(error).strip().splitlines()[0].rstrip(".")
    if here and not (got / index).is_file():
        return "only a part of it is in the cache"
    return ModelSource(got, f"{repo}@{_commit(got)}")


def _commit(path: Path) -> str:
    """The revision in .../snapshots/REVISION/..."""
    parts = path.parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts else "unknown"
