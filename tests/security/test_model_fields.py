"""A model folder that lacks a tensor is refused, and so is one that asks for code; no other end has no sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from splatdistill import priors
from splatdistill.evaluate.clip import Clip
from splatdistill.io.foreign import refuse_code, refuse_gaps
from splatdistill.priors.diffusers_checkpoint import DiffusersCheckpoint
from tests.evaluate import test_clip
from tests.security import model_fields

clip_folder = test_clip.folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("models")
    return {make.__name__: make(out / make.__name__) for make in model_fields.FAMILIES}


def load(folder: Path) -> None:
    DiffusersCheckpoint(folder).load_text_encoder("text_encoder", device=torch.device("cpu"), dtype="fp32")


def check(part: Path) -> None:
    DiffusersCheckpoint(part.parent).check(part.name)


@pytest.mark.parametrize("name", [make.__name__ for make in model_fields.FAMILIES])
def test_a_text_encoder_that_lacks_any_tensor_is_refused(models: dict[str, Path], name: str) -> None:
    """Loaded anyway, it would read prompts with random numbers, other ones at each start."""
    weights = models[name] / "text_encoder" / "model.safetensors"
    load(models[name])
    for _ in model_fields.without_tensors(weights):
        with pytest.raises(ValueError, match=r"^prior: text_encoder in .* cannot be loaded: its weights lack \S+\.$"):
            load(models[name])
    load(models[name])


def test_a_clip_that_lacks_any_tensor_is_refused(clip_folder: Path) -> None:
    Clip(str(clip_folder))
    for _ in model_fields.without_tensors(clip_folder / "model.safetensors"):
        with pytest.raises(ValueError, match=r"does not load as a CLIP model \(its weights lack \S+\); name a folder"):
            Clip(str(clip_folder))


def test_layers_that_the_settings_leave_out_are_refused(models: dict[str, Path]) -> None:
    config = models["sd15"] / "text_encoder" / "config.json"
    before = config.read_text()
    config.write_text(model_fields.changed(config, "num_hidden_layers", 2))
    with pytest.raises(ValueError, match=r"its config\.json has no place for \S*layers\.2\."):
        load(models["sd15"])
    config.write_text(before)


@pytest.mark.parametrize(
    "value", ["owner/kernel", "owner/kernel@main:forward", "flash_attention_2", {"": "owner/kernel"}]
)
@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "experts_implementation"])
def test_kernels_from_elsewhere_are_refused(
    models: dict[str, Path], clip_folder: Path, key: str, value: object
) -> None:
    clip = clip_folder / "config.json"
    for config, name in (
        (models["deepfloyd"] / "text_encoder" / "config.json", key),
        (models["sd15"] / "unet" / "config.json", key),
        (clip, f"text_config.{key}"),
        (clip, key),
    ):
        before = config.read_text()
        config.write_text(model_fields.changed(config, name, value))
        try:
            with pytest.raises(ValueError, match=rf"config\.json asks for {key} .*, which may be code from elsewhere"):
                Clip(str(clip_folder)) if config is clip else check(config.parent)
        finally:
            config.write_text(before)


def test_what_torch_has_itself_is_let_through() -> None:
    for value in (None, "eager", "sdpa", {"text_config": "sdpa", "": None}):
        refuse_code({"attn_implementation": value, "inner": [{"attn_implementation": value}]}, where="x")
    refuse_code({"torch_dtype": "float16", "architectures": ["A/b"], "quantization_config": None}, where="x")
    deep: dict[str, object] = {}
    for _ in range(500):
        deep = {"a": deep}
    for bad in ({"quantization_config": {"quant_method": "mxfp4"}}, {"a": [{"use_kernels": True}]}, deep):
        with pytest.raises(ValueError, match=r"code from elsewhere|more than 20 levels"):
            refuse_code(bad, where="x")


def test_reports_are_read() -> None:
    refuse_gaps({"missing_keys": [], "unexpected_keys": ["position_ids", "decoder.0.w"]}, ["layers.0.w"])
    with pytest.raises(ValueError, match=r"^its weights lack a\.b$"):
        refuse_gaps({"missing_keys": {"c", "a.b"}}, [])
    with pytest.raises(ValueError, match=r"no place for layers\.7\.w"):
        refuse_gaps({"unexpected_keys": ["layers.7.w"]}, ["layers.0.w"])


def test_some_fields_of_some_models_changed(models: dict[str, Path]) -> None:
    """A few of those that `python -m tests.security.model_fields` goes through, all that are in the small files."""
    for name, folder in models.items():
        found = list(model_fields.fields(folder))
        for index in range(0, len(found), 23):
            path, field = found[index]
            before, value = path.read_text(), model_fields.VALUES[index % len(model_fields.VALUES)]
            path.write_text(model_fields.changed(path, field, value))
            end = model_fields.drawn(folder)
            path.write_text(before)
            assert end in ("refused", "draws"), (name, path.name, field, value, end)


NUMBERS = {
    "downsample_padding": ([0, 1], [None, "x", -1, 3, 0.5, True, [1, 1]]),
    "freq_shift": ([0, -1, 0.5, 3], [None, "x", [], True, 8, 1e400]),  # 8: half of the width, which divides by nothing
    "layers_per_block": ([1, [1, 1]], [None, "x", 0, -1, 0.5, True, [], [0, 1], [1, "x"]]),
    "addition_embed_type_num_heads": ([2, 3, 8], [None, "x", 0, -1, 0.5, True, [], 16]),  # of a width of 24
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_that_nobody_can_compute_with_are_named(models: dict[str, Path], name: str) -> None:
    """diffusers takes them, and its networks fail later, at the first picture."""
    folder = models["deepfloyd"]
    path, (good, bad) = folder / "unet" / "config.json", NUMBERS[name]
    before = path.read_text()
    for value in (*good, *bad):
        path.write_text(model_fields.changed(path, name, value))
        try:
            if value in good and not isinstance(value, bool):
                assert model_fields.drawn(folder) == "draws", value
            else:
                with pytest.raises(
                    ValueError, match=rf"^prior: {name} in \S*config\.json must be [^\n]*; it is [^\n]*\.$"
                ):
                    priors.load(str(folder), device=torch.device("cpu"), dtype="fp32")
        finally:
            path.write_text(before)


def test_a_unet_that_lacks_a_tensor_is_refused(models: dict[str, Path]) -> None:
    (weights,) = (models["sd15"] / "unet").glob("*.safetensors")
    before, whole = weights.read_bytes(), load_file(weights)
    whole.pop("conv_out.weight")
    save_file(whole, weights, {"format": "pt"})
    assert model_fields.drawn(models["sd15"]) == "refused"
    weights.write_bytes(before)
    index = models["sd15"] / "model_index.json"
    text = index.read_text()
    index.write_text(json.dumps([json.loads(text)]))
    assert model_fields.drawn(models["sd15"]) == "refused"
    index.write_text(text)
