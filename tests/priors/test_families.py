"""The family of a teacher is known before its weights load: by name, id, file, or the small files of a folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from splatdistill.config import presets
from splatdistill.priors import SHIPPED
from splatdistill.priors.families import family_of
from splatdistill.priors.resolve import model_families
from tests.priors import families as tiny

OF_FOLDERS = {
    "sd15": "latent-512", "sd21": "latent-512", "mvdream": "mvdream", "sdxl": "latent-512", "if": "pixel-64",
    "sd3": "flow",
}  # fmt: skip  # all of them are tiny
OF_NAMES = {
    "sd15": "latent-512", "sd21-base": "latent-512", "sd21": "latent-1024", "sdxl": "latent-1024", "mvdream": "mvdream",
    "imagedream": "imagedream",
    "if-m": "pixel-64", "if": "pixel-64", "sd3": "flow", "sd35-medium": "flow",
}  # fmt: skip


def without_weights(folder: Path) -> Path:
    for path in folder.rglob("*.safetensors"):
        path.unlink()
    return folder


@pytest.mark.parametrize("name", OF_FOLDERS)
def test_a_folder_is_known_without_its_weights(name: str, tmp_path: Path) -> None:
    folder = without_weights(tiny.FAMILIES[name](tmp_path / "model"))
    assert family_of(str(folder)) == OF_FOLDERS[name]
    for part in ("unet", "transformer"):
        config = folder / part / "config.json"
        if config.is_file() and OF_FOLDERS[name] == "latent-512":
            config.write_text(json.dumps(json.loads(config.read_text()) | {"sample_size": 96}))
            assert family_of(str(folder)) == "latent-1024"


def test_names_ids_and_files(tmp_path: Path) -> None:
    known = model_families()
    for name, family in OF_NAMES.items():
        assert {family_of(x) for x in (name, *known[name]["sources"])} == {family}
    assert all(presets.shipped(f"priors/{family_of(name)}").is_file() for name in known)
    assert {name: family_of(name) for name in (*SHIPPED, "analytic")} == {
        "embedded": "embedded", "analytic": "analytic",
    }  # fmt: skip
    assert family_of(str(SHIPPED["embedded"])) == "embedded"
    (tmp_path / "mvdream.safetensors").touch()
    assert family_of(str(tmp_path / "mvdream.safetensors")) == "mvdream"


@pytest.mark.parametrize("name", ["nothing", "no/such-model", "./nowhere", "x" * 5000, ""])
def test_what_is_nowhere_has_no_family(name: str) -> None:
    assert family_of(name) == ""


def test_broken_folders_have_no_family(tmp_path: Path) -> None:
    folder = without_weights(tiny.FAMILIES["sd15"](tmp_path / "model"))
    for name in ("model_index.json", "unet/config.json"):
        (folder / name).write_text("[]")
        assert family_of(str(folder)) == ""


def test_an_id_is_looked_at_without_a_part_of_a_copy_in_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = without_weights(tiny.FAMILIES["sd3"](tmp_path / "model"))
    asked: list[dict[str, Any]] = []

    def hub(repo: str, **settings: Any) -> str:
        asked.append(settings)
        if settings["local_files_only"]:
            raise huggingface_hub.errors.LocalEntryNotFoundError("not here")
        return str(shutil.copytree(made, settings["local_dir"], dirs_exist_ok=True))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub)
    assert family_of("somebody/a-flow@main") == "flow"
    assert [x["local_files_only"] for x in asked] == [True, False]
    assert all(x["revision"] == "main" and not any("safetensors" in y for y in x["allow_patterns"]) for x in asked)
    assert not Path(asked[-1]["local_dir"]).exists()
