"""Which family of configs/priors a teacher belongs to, by its small files, before any weight is read. No torch."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from splatdistill.config import presets, settings, yaml_reader
from splatdistill.config.schema import METHODS, TrainConfig
from splatdistill.priors.resolve import model_families, peek, read_small
from splatdistill.priors.vocabulary import META_FILE, MODELS

LARGEST_512 = 64  # side of the latents of a model of 512 pixels


def family_of(prior: str) -> str:
    """The family of what --prior takes, "" where it has none: a prior of another package, or nothing that is
    here or on the hub.
    """
    from splatdistill.priors import SHIPPED

    if prior == "analytic":
        return prior
    path = SHIPPED.get(prior) or Path(prior).expanduser()
    if os.path.exists(path):  # unlike Path.exists it has an answer for names too long for a path
        return _of_path(path)
    if facts := listed(prior):
        return _of_facts(facts)
    if prior.endswith((".pt", ".ckpt", ".safetensors")):
        return "mvdream"  # the one model that is read from a file
    with tempfile.TemporaryDirectory(prefix="splatdistill") as folder:
        found = peek(prior, Path(folder))
        return _of_path(found) if found else ""


def layered(
    file: Path | None,
    *,
    method: str | None,
    prior: str | None,
    family: str | None = None,
    defaults: tuple[str, Mapping[str, Any]] = ("", {}),
) -> tuple[TrainConfig, presets.Origins]:
    """The settings of a run before its flags, and where each is from. file: YAML, or the name of a shipped recipe.
    method, prior: overrule it. family: of the prior, where that is known. defaults: what to call their source in
    errors, and settings that lie over the file and the family. ValueError, one sentence, as of `presets.load` and
    `settings.merge`.
    """
    values = yaml_reader.read(presets.find(file)) if file is not None else {}
    teacher = prior or defaults[1].get("prior") or values.get("prior") or TrainConfig.prior
    if family is None:
        family = family_of(teacher) if isinstance(teacher, str) else ""  # `merge` says what else it may be
    asked, usual = method or values.get("method"), ("", "")
    if not asked and not {*values, *defaults[1]} & {*METHODS, "stages"}:  # such settings were written for the default
        usual = presets.usual_method(family)
    base, origins = presets.load(asked or usual[0] or TrainConfig.method, file=file, family=family)
    origins |= {"method": f"prior {family}: {usual[1]}"} if usual[0] else {}
    named = settings.keys(defaults[1])
    base = settings.merge(presets.without_stages(base, named, origins), defaults[1], where=defaults[0])
    return presets.with_stage_families(base, family_of), origins


def listed(prior: str) -> dict[str, Any]:
    """What the list of models says of a name or an id, empty where it is not there."""
    known = model_families()
    ids = {source.partition("@")[0]: facts for facts in known.values() for source in facts["sources"]}
    return known.get(prior) or ids.get(prior.partition("@")[0]) or {}


def run_with(prior: str) -> dict[str, str]:
    """What `prior check` says of a run with this prior by its usual method: family, licence, and each setting of the
    family with its source.
    """
    facts = listed(prior)
    licence = str(facts.get("licence", "not listed here; read it where the weights are from"))
    licence += ", to be accepted on the hub before it can be fetched" if facts.get("gated") else ""
    name = family_of(prior)
    if not name:
        return {"licence": licence, "family": "none that is known, so the defaults of each method are taken"}
    method = presets.usual_method(name)[0] or TrainConfig.method
    config, origins = presets.load(method, family=name)
    values, start = settings.flatten(config), f"prior {name}: "
    of_family = {key: source.removeprefix(start) for key, source in origins.items() if source.startswith(start)}
    return {
        "licence": licence,
        "family": f"{name}: {presets.find_family(name, method).about}",
        f"--method {method}": f"is run with what follows; `splatdistill config --method M --prior {prior}` has others",
        **{key: f"{values[key]}  # {source}" for key, source in of_family.items()},
    }


def _of_facts(facts: Mapping[str, Any]) -> str:
    """Of an entry of the list of models."""
    for name in ("MVDream", "ImageDream"):
        if facts["what"].startswith(name):
            return name.lower()
    if facts["predicts"] == "flow":
        return "flow"
    if not facts["encoder"]:
        return "pixel-64"
    return "latent-512" if facts["image_size"] <= 8 * LARGEST_512 else "latent-1024"


def _of_path(path: Path) -> str:
    if path.is_file():
        return "mvdream"
    if (path / META_FILE).is_file():
        return "embedded" if (path / MODELS).is_file() else "pretrained"
    index = read_small(path / "model_index.json")
    network = read_small(path / ("transformer" if "transformer" in index else "unet") / "config.json")
    if not (index and network):
        return ""
    if str(read_small(path / "scheduler" / "scheduler_config.json").get("_class_name")).startswith("FlowMatch"):
        return "flow"
    if network.get("_class_name") == "MultiViewUNetModel" and network.get("ip_dim"):
        return "imagedream"
    if network.get("_class_name") == "MultiViewUNetModel" or network.get("projection_class_embeddings_input_dim") == 16:
        return "mvdream"
    if not any(index.get("vae") or ()):
        return "pixel-64"
    side = network.get("sample_size")
    return "latent-512" if isinstance(side, int) and side <= LARGEST_512 else "latent-1024"
