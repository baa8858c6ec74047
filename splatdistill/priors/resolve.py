"""Where the weights behind a name are: a path first, then the hub's cache, then the hub. No torch here."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

MODELS = Path(__file__).with_name("models.json")
"""Names of families, each with the ids that carry its weights, in the order in which they are tried."""
_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[\w./-]+))?(?::(?P<file>[\w./-]+))?")
INDEX = "model_index.json"
_PARTS = (INDEX, "*/config.json", "scheduler/*", "tokenizer*/*", "*/preprocessor_config.json", "*/*.index.json")
_ENCODERS = ("text_encoder", "image_encoder")
_NAMES = {"unet": "diffusion_pytorch_model", "transformer": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}


def _weights(folder: str, *, variant: str = "") -> list[str]:
    """Patterns of the files of weights in a part's folder: the plain ones, or those of a variant; no pickles."""
    name = _NAMES.get(folder, "model") + (f".{variant}" if variant else "")
    return [f"{folder}/{name}{part}.safetensors" for part in ("", "-0*-of-0*")]


_WEIGHTS = tuple(pattern for folder in (*_NAMES, "text_encoder*", "image_encoder") for pattern in _weights(folder))
LORA_WEIGHTS = "pytorch_lora_weights.safetensors"
"""What diffusers calls the file of a LoRA."""
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
        return ModelSource(_in_cache(path), str(path))
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


def _in_cache(path: Path) -> Path:
    """The files behind a folder of the hub's cache, models--OWNER--NAME, or the path itself."""
    snapshots = path if path.name == "snapshots" else path / "snapshots"
    if not snapshots.is_dir() or (path / INDEX).is_file():
        return path
    main = snapshots.with_name("refs") / "main"
    found = snapshots / main.read_text(encoding="utf-8").strip() if main.is_file() else None
    if found is None or not found.is_dir():
        found = max(snapshots.iterdir(), key=lambda folder: folder.stat().st_mtime, default=None)
    return found or path


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


def resolve_lora(name: str) -> ModelSource:
    """What `--lora name` means: a file, a folder with one, or ID[@REVISION][:FILE] on the Hugging Face hub. ValueError
    as in `resolve`.
    """
    path = Path(name).expanduser()
    if os.path.isfile(path):
        return ModelSource(path, str(path))
    if os.path.isdir(path):
        files = sorted(path.glob("*.safetensors"))
        if len(files) != 1:
            raise ValueError(f"lora: {path} has {len(files)} files of safetensors; name the one that is meant.")
        return ModelSource(files[0], str(path))
    match = _ID.fullmatch(name)
    if match is None or name.startswith((".", "/", "~")):
        raise ValueError(f"lora: there is no file {name!r}; name one, or an id of the Hugging Face hub.")
    for here in (True, False):
        found = _fetch(name, here=here, index=LORA_WEIGHTS, patterns=(LORA_WEIGHTS,))
        if isinstance(found, ModelSource):
            return found if found.path.is_file() else _lora_in(found, name)
    raise ValueError(_nowhere(name, path, {name: found}, field="lora"))


def _lora_in(found: ModelSource, name: str) -> ModelSource:
    """The file of a LoRA in a snapshot of the hub."""
    if not (found.path / LORA_WEIGHTS).is_file():
        raise ValueError(f"lora: {name} has no {LORA_WEIGHTS}; name its file, as in {name}:FILE.safetensors.")
    return ModelSource(found.path / LORA_WEIGHTS, found.origin)


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
    source: str, *, here: bool, index: str = INDEX, patterns: Sequence[str] = (*_PARTS, *_WEIGHTS)
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
        fetch = partial(snapshot_download, repo, revision=revision, local_files_only=here)
        got = Path(fetch(allow_patterns=list(patterns)))
        missing = _without_weights(got) if index == INDEX else []
        if missing and not here:  # of some models there is nothing but a variant in half precision
            fetch(allow_patterns=[pattern for part in missing for pattern in _weights(part, variant="fp16")])
            missing = _without_weights(got)
    except GatedRepoError:
        return f"its licence must be accepted at https://huggingface.co/{repo} first, then `hf auth login`"
    except LocalEntryNotFoundError:
        return "the hub cannot be reached"
    except RepositoryNotFoundError:
        return "the hub has no such id"
    except (OSError, ValueError) as error:
        return str(error).strip().splitlines()[0].rstrip(".")
    if here and (missing or not (got / index).is_file()):
        return "only a part of it is in the cache"
    if missing:
        return f"the hub has no .safetensors file of its {missing[0]}"
    return ModelSource(got, f"{repo}@{_commit(got)}")


def _without_weights(folder: Path) -> list[str]:
    """Parts that have a configuration and no weights."""
    parts = (path.parent for path in sorted(folder.glob("*/config.json")))
    return [
        part.name
        for part in parts
        if (part.name in _NAMES or part.name.startswith(_ENCODERS)) and not any(part.glob("*.safetensors"))
    ]


def _commit(path: Path) -> str:
    """The revision in .../snapshots/REVISION/..."""
    parts = path.parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts else "unknown"


def read_small(path: Path) -> dict[str, Any]:
    """A small JSON file of a model, empty where it is none; `priors.load` says what is wrong with it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
