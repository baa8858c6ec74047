"""A model folder is data: code that lies in it, and files that could hold code, are never run."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from splatdistill import priors
from tests.priors import families

EVIL = """
from pathlib import Path
Path({mark!r}).touch()
class Evil:
    from_pretrained = classmethod(lambda cls, *args, **kwargs: cls())
"""
AUTO = ("AutoConfig", "AutoModel", "AutoModelForCausalLM", "UNet2DConditionModel")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole DeepFloyd with code beside every part, and every configuration asking for it."""
    folder = families.deepfloyd(tmp_path / "model")
    code = EVIL.format(mark=str(tmp_path / "ran"))
    for place in (folder, *(path for path in folder.iterdir() if path.is_dir())):
        for name in ("evil.py", "pipeline.py", "modeling_evil.py", "tokenization_evil.py", "model.py"):
            (place / name).write_text(code)
        for path in place.glob("*config.json"):
            asked = {"auto_map": {**dict.fromkeys(AUTO, "evil.Evil"), "AutoTokenizer": ["evil.Evil", "evil.Evil"]}}
            asked |= {"custom_pipeline": "evil", "_custom": "evil.Evil"}
            path.write_text(json.dumps({**json.loads(path.read_text()), **asked}))
    return folder


def load(folder: Path) -> None:
    """Everything: the text encoder comes with the first prompt."""
    priors.load(str(folder), device=torch.device("cpu"), dtype="fp32").embed("a chair", None)


@pytest.mark.parametrize("tokenizer", ["T5Tokenizer", "EvilTokenizer"])
def test_code_in_a_model_folder_is_not_run(folder: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: str) -> None:
    monkeypatch.setattr("builtins.input", lambda *args: "y")  # who is asked would agree
    for name, change in {
        "model_index.json": {"unet": ["evil", "Evil"]},
        "tokenizer/tokenizer_config.json": {"tokenizer_class": tokenizer},
    }.items():
        (folder / name).write_text(json.dumps({**json.loads((folder / name).read_text()), **change}))
    with suppress(ValueError):
        load(folder)
    assert not (folder.parent / "ran").exists()


def test_pickles_beside_no_safetensors_are_refused(folder: Path) -> None:
    (weights,) = (folder / "unet").glob("*.safetensors")
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ValueError, match=r"only diffusion_pytorch_model\.bin, which could run code"):
        load(folder)
