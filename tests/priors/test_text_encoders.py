"""Prompts: each family's reading against its pipeline in diffusers, the cache, and encoders that are dropped."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from splatdistill import priors
from splatdistill.priors import text_encoders as text_module
from splatdistill.priors.diffusers_checkpoint import DiffusersCheckpoint
from splatdistill.priors.diffusion import LatentPrior
from splatdistill.priors.prompts import seen_from, siblings
from tests.priors import families
from tests.priors.test_diffusion import CPU, load

PROMPT = "A Red chair"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("texts")
    return {name: make(root / name / "model") for name, make in families.FAMILIES.items()}


@pytest.mark.parametrize("family", ["sd15", "sd21", "sdxl", "if", "sd3"])
def test_prompts_are_read_as_diffusers_reads_them(folders: dict[str, Path], family: str) -> None:
    folder = folders[family]
    kind: Any = {
        "sdxl": diffusers.StableDiffusionXLPipeline, "if": diffusers.IFPipeline,
        "sd3": diffusers.StableDiffusion3Pipeline,
    }.get(family, diffusers.StableDiffusionPipeline)  # fmt: skip
    pipeline = kind.from_pretrained(folder, local_files_only=True)
    empty = None if family == "sdxl" else ""  # where none was given SDXL's pipeline takes zeros
    if family in ("sd15", "sd21"):
        cond, uncond = pipeline.encode_prompt(PROMPT, CPU, 1, True, empty)
        vectors: list[Any] = [None, None]
    elif family == "if":
        cond, uncond = pipeline.encode_prompt(PROMPT, True, device=CPU, negative_prompt=empty)
        vectors = [None, None]
    elif family == "sdxl":
        cond, uncond, *vectors = pipeline.encode_prompt(PROMPT, device=CPU, negative_prompt=empty)
    else:
        cond, uncond, *vectors = pipeline.encode_prompt(PROMPT, None, None, device=CPU, negative_prompt=empty)
    prior = load(folder)
    for prompt, tokens, vector in ((PROMPT, cond, vectors[0]), ("", uncond, vectors[1])):
        condition = prior.embed(prompt, None)
        torch.testing.assert_close(condition.text, tokens.detach())
        assert (condition.pooled is None) == (vector is None)
        if vector is not None:
            torch.testing.assert_close(condition.pooled, vector.detach())


@pytest.mark.parametrize("tokens", [16, 248])
def test_a_clip_reads_as_many_tokens_as_its_folder_says(tmp_path: Path, tokens: int) -> None:
    """248 are those of Long-CLIP. The prompt is longer than 77 letters, which are a token each here."""
    scheduler = diffusers.DDIMScheduler(**families.SD)
    folder = families.stable_diffusion(tmp_path / "words" / "model", scheduler, tokens=tokens)
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    prompt = "chair " * 20
    expected, _ = pipeline.encode_prompt(prompt, CPU, 1, False)
    assert expected.shape[1] == tokens
    torch.testing.assert_close(load(folder).embed(prompt, None).text, expected.detach())


def test_a_flow_without_t5_reads_zeros_in_its_place(tmp_path: Path) -> None:
    prior = load(families.sd3(tmp_path / "small" / "model", with_t5=False))
    text = prior.embed(PROMPT, None).text
    assert text.shape == (1, 77 + 256, 72)
    assert text[:, :77].abs().sum() > 0 and not text[:, 77:].any()


def test_encoders_are_dropped_and_a_prompt_is_encoded_once_for_all_runs(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[weakref.ref[Any]] = []
    load_text_encoder = DiffusersCheckpoint.load_text_encoder

    def watched(self: DiffusersCheckpoint, *args: Any, **kwargs: Any) -> Any:
        made = load_text_encoder(self, *args, **kwargs)
        loaded.append(weakref.ref(made.model))
        return made

    monkeypatch.setattr(DiffusersCheckpoint, "load_text_encoder", watched)
    first = load(folders["sd15"])
    assert loaded == []
    states = first.embed([seen_from(PROMPT, side) for side in ("front", "back", "side", "overhead")], None).text
    empty = first.embed("", None).text
    gc.collect()
    assert len(loaded) == 1 and loaded[0]() is None
    second = load(folders["sd15"])
    assert torch.equal(second.embed(seen_from(PROMPT, "front"), None).text, states[:1])
    assert torch.equal(second.embed("", None).text, empty)
    assert len(loaded) == 1
    second.embed("blurry", None)
    assert len(loaded) == 2


def test_other_weights_or_words_are_another_key(folders: dict[str, Path], own_cache: Path) -> None:
    keys = {DiffusersCheckpoint(folders[name]).fingerprint("fp32") for name in ("sd15", "sd21", "sdxl")}
    assert len(keys | {DiffusersCheckpoint(folders["sd15"]).fingerprint("bf16")}) == 4
    load(folders["sd15"]).embed("x", None)
    one = len(list(own_cache.rglob("*.safetensors")))
    load(folders["sd21"]).embed("x", None)
    assert len(list(own_cache.rglob("*.safetensors"))) == 2 * one == 12


def test_a_cut_file_of_the_cache_is_made_anew(folders: dict[str, Path], own_cache: Path) -> None:
    before = load(folders["sd15"]).embed("x", None).text
    for path in own_cache.rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:40])
    assert torch.equal(load(folders["sd15"]).embed("x", None).text, before)


def test_a_cache_that_cannot_be_written_is_done_without(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPLATDISTILL_CACHE", str(tmp_path / "file"))
    assert load(folders["sd15"]).embed("x", None).text.shape == (1, 77, families.WIDTH)


def test_what_a_run_may_ask_for_is_known_from_its_prompt() -> None:
    sides = ["a, front view", "a, side view", "a, back view", "a, overhead view"]
    assert siblings("a") == siblings("a, back view") == ["a", *sides, ""]
    assert siblings("") == [""]


def test_a_tokenizer_that_needs_more_packages_says_so(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(*args: Any, **kwargs: Any) -> Any:
        raise ImportError("sentencepiece")

    monkeypatch.setattr("splatdistill.priors.diffusers_checkpoint.AutoTokenizer.from_pretrained", lacking)
    prior = priors.load(str(folders["if"]), device=CPU, dtype="fp32")
    assert isinstance(prior, LatentPrior)
    with pytest.raises(ValueError, match=r"needs two packages: pip install sentencepiece protobuf\."):
        prior.embed("x", None)
    assert text_module.IF_TOKENS == 77
