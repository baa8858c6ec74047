"""Files and folders that are no prior: each gets one true sentence, and none a traceback or half a load."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionPipeline
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import load_file, save_file
from torch import Tensor

from splatdistill import cli, priors
from splatdistill.priors.resolve import ModelSource, resolve
from tests.priors import families, plain_mvdream, tiny_dits
from tests.priors.test_diffusion import CPU

UNET, VAE = "unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"


def weights(path: Path, *names: str) -> Path:
    save_file({name: torch.zeros(2, 2) for name in names}, path)
    return path


def one_file(folder: Path, *, xl: bool = False) -> Path:
    """A checkpoint of Stable Diffusion in its original names, as model shops have them."""
    state: dict[str, Tensor] = plain_mvdream.small().state_dict()
    kept = {key: value.contiguous() for key, value in state.items() if "camera_embed" not in key}
    if xl:
        kept["conditioner.embedders.1.model.logit_scale"] = torch.zeros(1)
    save_file(kept, folder / "dreamshaper.safetensors")
    return folder / "dreamshaper.safetensors"


def lora(folder: Path) -> Path:
    """As peft and diffusers save it."""
    names = [f"unet.down_blocks.0.attentions.0.to_q.lora_{part}.weight" for part in "AB"]
    return weights(folder / "style.safetensors", *names)


def kohya(folder: Path) -> Path:
    names = [f"lora_unet_down_blocks_0_attentions_0_to_q.{part}.weight" for part in ("lora_down", "lora_up")]
    return weights(folder / "style.safetensors", *names)


def gguf(folder: Path) -> Path:
    (folder / "model.gguf").write_bytes(b"GGUF")
    return folder / "model.gguf"


def a_picture(folder: Path) -> Path:
    (folder / "corgi.png").write_bytes(b"png")
    return folder / "corgi.png"


def cut(folder: Path) -> Path:
    file = lora(folder)
    file.write_bytes(file.read_bytes()[:20])
    return file


def a_control_net(folder: Path) -> Path:
    net = ControlNetModel(
        block_out_channels=(8, 8), down_block_types=("DownBlock2D",) * 2, norm_num_groups=4, cross_attention_dim=8,
        conditioning_embedding_out_channels=(8, 8), layers_per_block=1,
    )  # fmt: skip
    save_file(net.state_dict(), folder / "canny.safetensors")
    return folder / "canny.safetensors"


def copy_of(file: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        whole = families.sd15(folder / "x" / "model")
        return Path(shutil.copy(whole / file, folder / "copy.safetensors"))

    return make


def a_part(folder: Path) -> Path:
    return families.sd15(folder / "x" / "model") / "unet"


def a_part_alone(folder: Path) -> Path:
    return Path(shutil.copytree(a_part(folder), folder / "alone"))


def a_language_model(folder: Path) -> Path:
    tiny_dits.qwen3(1).save_pretrained(folder / "llm")
    return folder / "llm"


def a_folder_above(folder: Path) -> Path:
    families.sd15(folder / "x" / "model")
    return folder / "x"


def lora_folder(folder: Path) -> Path:
    (folder / "l").mkdir()
    return lora(folder / "l").parent


def a_folder_with_one_file(folder: Path) -> Path:
    (folder / "l").mkdir()
    return one_file(folder / "l").parent


def a_run(folder: Path) -> Path:
    (folder / "splats.ply").write_text("ply")
    return folder


def split(folder: Path, *, lose: str) -> Path:
    """A model whose UNet was saved in several files, of which one is lost."""
    whole = families.sd15(folder / "x" / "model")
    shutil.rmtree(whole / "unet")
    torch.manual_seed(0)
    families.unet().save_pretrained(whole / "unet", max_shard_size="100KB")
    (whole / "unet" / lose).unlink()
    return whole


def no_index(folder: Path) -> Path:
    return split(folder, lose="diffusion_pytorch_model.safetensors.index.json")


def no_shard(folder: Path) -> Path:
    names = sorted(path.name for path in (split(folder, lose="config.json") / "unet").glob("*-00002-of-*"))
    shutil.rmtree(folder / "x")
    return split(folder, lose=names[0])


def an_empty_folder(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


WRONG: list[tuple[Callable[[Path], Path], str]] = [
    (one_file, r"dreamshaper\.safetensors is a checkpoint in one file, .*StableDiffusionPipeline as P; P\.from_single"),
    (lambda folder: one_file(folder, xl=True), "is a checkpoint in one file, .* StableDiffusionXLPipeline as P"),
    (lora, r"style\.safetensors is a LoRA, which changes a model; give it to --lora, and to --prior the model that it"),
    (kohya, r"style\.safetensors is a LoRA, which changes a model; give it to --lora"),
    (lambda folder: weights(folder / "word.safetensors", "emb_params"), "is a textual inversion, a word for a prompt"),
    (lambda folder: weights(folder / "word.safetensors", "clip_l", "clip_g"), "is a textual inversion"),
    (a_control_net, "is a ControlNet, which guides by pictures; a prior needs the text-to-image model"),
    (copy_of(VAE), "is a VAE alone; a prior needs the whole model, a diffusers folder"),
    (copy_of(UNET), "is a network alone, of a UNet; a prior needs the whole model"),
    (gguf, r"holds quantised weights \(GGUF\), and a prior needs a diffusers folder"),
    (a_picture, r"corgi\.png is no file of weights; a prior is a diffusers folder or MVDream's checkpoint"),
    (cut, "cannot be read as safetensors; download it again"),
    (a_part, r"unet is one part of a model, its UNet2DConditionModel; name the folder above it, .*model\.$"),
    (a_part_alone, "alone is one part of a model, its UNet2DConditionModel; name a whole one"),
    (a_language_model, "is a model of transformers, Qwen3Model, which makes no pictures by diffusion"),
    (a_folder_above, r"has no model_index\.json, but model in it has; name .*model\.$"),
    (lora_folder, "holds a LoRA, which changes a model; give it to --lora"),
    (a_folder_with_one_file, r"has no model_index\.json; dreamshaper\.safetensors in it is a checkpoint in one file"),
    (a_run, "is the folder of a run, which has no prior in it; `splatdistill view` shows what it made"),
    (an_empty_folder, "empty is empty"),
    (no_index, r"its unet are in \d+ files, and diffusion_pytorch_model\.safetensors\.index\.json is missing"),
    (no_shard, r"its unet are in \d+ files, and diffusion_pytorch_model-00002-of-\d+\.safetensors is missing"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "said"), WRONG, ids=[f"{i}" for i in range(len(WRONG))])
def test_what_is_no_prior_is_one_sentence_that_says_what_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], Path], said: str
) -> None:
    path = make(tmp_path)
    with pytest.raises(ValueError, match=said) as caught:
        priors.load(str(path), device=CPU, dtype="fp32")
    sentence = str(caught.value)
    assert sentence.startswith(f"prior: {path}"[: len("prior: ") + 5]) and sentence.endswith(".")
    assert "\n" not in sentence
    capsys.readouterr()
    assert cli.main(["prior", "check", str(path), "--device", "cpu", "--dtype", "fp32"]) == cli.USAGE
    assert capsys.readouterr().err == f"splatdistill: {sentence}\n"


def test_the_command_that_is_named_for_a_checkpoint_in_one_file_is_one_of_diffusers() -> None:
    assert callable(StableDiffusionPipeline.from_single_file)


def test_mvdreams_checkpoint_is_not_taken_for_another(tmp_path: Path) -> None:
    save_file(plain_mvdream.small().state_dict(), tmp_path / "mvdream.safetensors")
    assert priors.load(str(tmp_path / "mvdream.safetensors"), device=CPU, dtype="fp32").num_views == 4


@pytest.mark.parametrize("named", ["", "snapshots"])
def test_a_folder_of_the_hubs_cache_is_its_main_revision(tmp_path: Path, named: str) -> None:
    cache = tmp_path / "models--somebody--corgi"
    for revision in ("aaaa", "bbbb"):
        (cache / "snapshots" / revision).mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("aaaa")
    assert resolve(str(cache / named)) == ModelSource(cache / "snapshots" / "aaaa", str(cache / named))


class Hub:
    """huggingface_hub's `snapshot_download` on a folder in place of the hub, with the hub's own filter."""

    def __init__(self, repo: Path, cache: Path) -> None:
        self.repo, self.cache = repo, cache / "snapshots" / "0123"

    def __call__(self, repo: str, *, allow_patterns: Any, local_files_only: bool, **_: Any) -> str:
        if local_files_only and not self.cache.is_dir():
            raise huggingface_hub.errors.LocalEntryNotFoundError("not here")
        files = [str(path.relative_to(self.repo)) for path in self.repo.rglob("*") if path.is_file()]
        for name in [] if local_files_only else filter_repo_objects(files, allow_patterns=allow_patterns):
            (self.cache / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.repo / name, self.cache / name)
        return str(self.cache)


def renamed(folder: Path, end: str) -> Path:
    for path in [*folder.glob("*/*.safetensors")]:
        path.rename(path.with_name(path.name.replace(".safetensors", end)))
    return folder


def test_of_a_model_in_half_precision_alone_that_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = renamed(families.sd15(tmp_path / "repo" / "model"), ".fp16.safetensors")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", Hub(repo, tmp_path / "cache"))
    prior: Any = priors.load("somebody/half", device=CPU, dtype="fp32")
    stored = load_file(repo / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    assert torch.equal(prior.network.conv_in.weight, stored["conv_in.weight"])


def test_where_there_are_both_the_plain_files_alone_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = families.sd15(tmp_path / "repo" / "model")
    for path in [*repo.glob("*/*.safetensors")]:
        shutil.copy(path, path.with_name(path.name.replace(".safetensors", ".fp16.safetensors")))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", Hub(repo, tmp_path / "cache"))
    found = resolve("somebody/both").path
    assert [*found.glob("unet/*.safetensors")] == [found / UNET] and not any(found.rglob("*.fp16*"))


def test_a_model_without_safetensors_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = renamed(families.sd15(tmp_path / "repo" / "model"), ".bin")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", Hub(repo, tmp_path / "cache"))
    with pytest.raises(ValueError, match=r"somebody/old: the hub has no \.safetensors file of its text_encoder"):
        resolve("somebody/old")


class Gated(huggingface_hub.errors.GatedRepoError):
    """As the hub's client raises it, without an answer of a server."""

    def __init__(self) -> None:
        Exception.__init__(self, "gated")


def test_a_gated_model_says_where_its_licence_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(repo: str, *, local_files_only: bool, **_: Any) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("not here") if local_files_only else Gated()

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refused)
    where = r"its licence must be accepted at https://huggingface\.co/stabilityai/\S+ first, then `hf auth login`"
    with pytest.raises(ValueError, match=where):
        resolve("sd35-medium")


def test_lists_of_files_that_are_fetched_are_those_that_are_read(tmp_path: Path) -> None:
    """Every file of weights that diffusers writes for each family is asked for."""
    from splatdistill.priors import resolve as module

    for name, make in (families.FAMILIES | tiny_dits.DITS).items():
        folder = make(tmp_path / name / "model")
        written = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
        written = [path for path in written if not path.endswith("generation_config.json")]  # of writing, not reading
        wanted = [*filter_repo_objects(written, allow_patterns=[*module._PARTS, *module._WEIGHTS])]
        assert sorted(wanted) == sorted(written), name
        assert json.loads((folder / "model_index.json").read_text())
