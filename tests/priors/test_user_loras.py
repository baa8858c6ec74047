"""LoRAs of the user: what they change is what diffusers' own pipelines change, and what does not fit is reported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor

from splatdistill import cli, priors
from splatdistill.priors.scores import make_score
from tests.priors import families, tiny_dits
from tests.priors.test_diffusion import CPU
from tests.rounding import assert_same

TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
MODELS: dict[str, Callable[[Path], Path]] = {
    name: (families.FAMILIES | tiny_dits.DITS)[name]
    for name in ("sd15", "sdxl", "sd3", "pixart", "z-image", "lumina2", "qwen-image", "sana")
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("loras")
    return {name: make(root / name / "model") for name, make in MODELS.items()}


def write_lora(model: Path, file: Path, *, seed: int = 0, text: bool = False) -> Path:
    """A random LoRA, made by peft and written by the pipeline of a model."""
    pipeline: Any = diffusers.DiffusionPipeline.from_pretrained(model, local_files_only=True)
    part = "unet" if hasattr(pipeline, "unet") else "transformer"
    layers = {f"{part}_lora_layers": drawn(getattr(pipeline, part), TARGETS, seed)}
    if text:
        layers["text_encoder_lora_layers"] = drawn(pipeline.text_encoder, ["q_proj", "v_proj"], seed + 1)
    if hasattr(pipeline, "save_lora_weights"):
        pipeline.save_lora_weights(file.parent, weight_name=file.name, **layers)
    else:
        save_file({f"{part}.{key}": value for key, value in layers[f"{part}_lora_layers"].items()}, file)
    return file


def drawn(network: Any, targets: list[str], seed: int) -> dict[str, Tensor]:
    inject_adapter_in_model(LoraConfig(r=2, lora_alpha=2, target_modules=targets), network)
    g = torch.Generator().manual_seed(seed)
    state = get_peft_model_state_dict(network)
    return {key: 0.3 * torch.randn(value.shape, generator=g) for key, value in state.items()}


def load(model: Path, *loras: object, **settings: Any) -> Any:
    asked = {"image_size": 16, "loras": [str(lora) for lora in loras], **settings}
    return priors.load(str(model), device=CPU, dtype="fp32", **asked)


def answer(prior: Any, prompt: str = "a red chair") -> Tensor:
    g = torch.Generator().manual_seed(3)
    xt = torch.randn(prior.encode(torch.zeros(1, 16, 16, 3)).shape, generator=g)
    return prior.predict(xt, torch.tensor([400]), [prior.embed(prompt, None)])[0]


@pytest.mark.parametrize("name", MODELS)
def test_weights_with_a_lora_are_those_of_diffusers(models: dict[str, Path], tmp_path: Path, name: str) -> None:
    """W + weight B A for every layer that it names, and every other weight as before."""
    file = write_lora(models[name], tmp_path / "style.safetensors")
    plain, changed = load(models[name]), load(models[name], f"{file}:0.5")
    before, after = plain.network.state_dict(), changed.network.state_dict()
    assert before.keys() == after.keys()
    state = {key.partition(".")[2]: value for key, value in load_file(file).items()}
    layers = {key.partition(".lora_A")[0] for key in state if ".lora_A" in key}
    assert layers
    for key, value in after.items():
        layer = key.removesuffix(".weight")
        if layer in layers and key.endswith(".weight"):
            down, up = (state[f"{layer}.lora_{part}.weight"] for part in "AB")
            assert_same(lambda value=value, key=key, up=up, down=down: (value, before[key] + 0.5 * up @ down))
            assert not torch.equal(value, before[key])
        else:
            assert torch.equal(value, before[key]), key
    assert str(file) in changed.origin and changed.origin.endswith(":0.5")
    assert not torch.equal(answer(plain), answer(changed))


def test_two_loras_add_up_and_weight_zero_changes_nothing(models: dict[str, Path], tmp_path: Path) -> None:
    one = write_lora(models["sd15"], tmp_path / "one.safetensors")
    two = write_lora(models["sd15"], tmp_path / "two.safetensors", seed=5)
    plain = load(models["sd15"]).network.state_dict()
    off = load(models["sd15"], f"{one}:0").network.state_dict()
    assert all(torch.equal(plain[key], value) for key, value in off.items())
    parts = [load(models["sd15"], lora).network.state_dict() for lora in (one, f"{two}:-2")]
    both = load(models["sd15"], one, f"{two}:-2").network.state_dict()
    for key, value in both.items():
        assert_same(lambda key=key, value=value: (value, parts[0][key] + (parts[1][key] - plain[key])))


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_what_it_has_for_the_text_encoder_is_read_too(models: dict[str, Path], tmp_path: Path, name: str) -> None:
    """Prompt states against the pipeline's with the same file."""
    file = write_lora(models[name], tmp_path / "style.safetensors", text=True)
    pipeline: Any = diffusers.DiffusionPipeline.from_pretrained(models[name], local_files_only=True)
    pipeline.load_lora_weights(str(file))
    theirs = pipeline.encode_prompt(
        "a red chair", device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    ours = load(models[name], file).embed("a red chair", None).text
    torch.testing.assert_close(ours, theirs[0])
    assert not torch.equal(ours, load(models[name]).embed("a red chair", None).text)


def test_the_adapters_of_vsd_come_and_go_without_it(models: dict[str, Path], tmp_path: Path) -> None:
    file = write_lora(models["sd15"], tmp_path / "style.safetensors")
    prior = load(models["sd15"], file)
    before, weights = answer(prior), dict(prior.network.state_dict())
    score: Any = make_score(prior, "a red chair", particles=1, rank=2, lr=1e-3, dropout=0.1, seed=0)
    assert torch.equal(answer(prior), before)  # adapters are off for the prior
    score.remove()
    assert all(torch.equal(value, weights[key]) for key, value in prior.network.state_dict().items())


def test_kohyas_names_are_read(models: dict[str, Path], tmp_path: Path) -> None:
    """As trainers outside diffusers write them, with an alpha that scales."""
    file = write_lora(models["sd15"], tmp_path / "style.safetensors")
    state = {}
    for key, value in load_file(file).items():
        layer, _, end = key.removeprefix("unet.").partition(".lora_")
        name = "lora_unet_" + layer.replace(".", "_")
        state[f"{name}.lora_{'down' if end.startswith('A') else 'up'}.weight"] = value
        state[f"{name}.alpha"] = torch.tensor(1.0)  # half of the rank
    save_file(state, tmp_path / "kohya.safetensors")
    ours = load(models["sd15"], tmp_path / "kohya.safetensors").network.state_dict()
    wanted = load(models["sd15"], f"{file}:0.5").network.state_dict()
    for key, value in ours.items():
        assert_same(lambda key=key, value=value: (value, wanted[key]))


def as_sd21(folder: Path) -> Path:
    """The same names, and another width of the texts."""
    torch.manual_seed(0)
    pipeline = diffusers.StableDiffusionPipeline(
        vae=families.vae(), text_encoder=families.clip(width=40), tokenizer=families.clip_tokenizer(folder / "words"),
        unet=families.unet(cross_attention_dim=40), scheduler=diffusers.DDIMScheduler(), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    return families.saved(pipeline, folder / "wide")


def another(folder: Path, models: dict[str, Path]) -> Path:
    return write_lora(models["sd3"], folder / "style.safetensors")


def wide(folder: Path, models: dict[str, Path]) -> Path:
    return write_lora(as_sd21(folder), folder / "style.safetensors")


def inversion(folder: Path, models: dict[str, Path]) -> Path:
    save_file({"emb_params": torch.zeros(2, 8)}, folder / "word.safetensors")
    return folder / "word.safetensors"


def whole(folder: Path, models: dict[str, Path]) -> Path:
    return models["sd15"] / "vae" / "diffusion_pytorch_model.safetensors"


def pickled(folder: Path, models: dict[str, Path]) -> Path:
    (folder / "style.pt").write_bytes(b"x")
    return folder / "style.pt"


def cut(folder: Path, models: dict[str, Path]) -> Path:
    file = write_lora(models["sd15"], folder / "style.safetensors")
    file.write_bytes(file.read_bytes()[:40])
    return file


def nothing(folder: Path, models: dict[str, Path]) -> Path:
    return folder / "nowhere.safetensors"


def two_files(folder: Path, models: dict[str, Path]) -> Path:
    for name in "ab":
        (folder / f"{name}.safetensors").touch()
    return folder


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            another,
            r"style\.safetensors was made for another model: \d+ of its layers do not fit, such as transformer",
        ),
        (
            wide,
            r"was made for another model: \d+ of its layers do not fit, such as \S+to_k \(40 wide where this model has",
        ),
        (inversion, r"word\.safetensors is a textual inversion, a word for a prompt, which this version does not read"),
        (whole, "is no LoRA: no name of its weights says so"),
        (pickled, r"style\.pt is no \.safetensors file, and others could run code"),
        (cut, "cannot be read as safetensors; download it again"),
        (nothing, "there is no file '.*nowhere.safetensors'; name one, or an id of the Hugging Face hub"),
        (two_files, "has 2 files of safetensors; name the one that is meant"),
    ],
)
def test_what_does_not_fit_is_told_before_the_run(
    models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Any, said: str
) -> None:
    path = make(tmp_path, models)
    with pytest.raises(ValueError, match=f"^lora: .*{said}") as caught:
        load(models["sd15"], path)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
    capsys.readouterr()
    arguments = [
        "train",
        "--config",
        "smoke",
        "--prior",
        str(models["sd15"]),
        "--prompt",
        "a chair",
        "--lora",
        str(path),
    ]
    arguments += ["--out", str(tmp_path / "out"), "--name", "run", "--device", "cpu", "--dtype", "fp32"]
    assert cli.main(arguments) == cli.USAGE
    assert capsys.readouterr().err.splitlines()[-1] == f"splatdistill: {caught.value}"
    assert not (tmp_path / "out" / "run").exists()


def test_other_priors_take_none(tmp_path: Path) -> None:
    for name in ("embedded", "analytic"):
        with pytest.raises(ValueError, match=rf"^lora: {name} is no diffusers model, to which LoRAs could be added"):
            priors.load(name, device=CPU, dtype="fp32", loras=["style.safetensors"])
