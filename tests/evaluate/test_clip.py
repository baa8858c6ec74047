"""A real CLIP as the judge: the model class with tiny random weights, and what is no CLIP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

from splatdistill import cli
from splatdistill.config.schema import SplatsConfig
from splatdistill.evaluate.clip import Clip
from splatdistill.io import ply
from splatdistill.scene.gaussians import init_ball

WORDS = ["<pad>", "<unk>", "a", "red", "blue", "car", "<s>", "</s>"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip")
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": 6, "eos_token_id": 7, "pad_token_id": 0}
    text = {**shape, "vocab_size": len(WORDS), "max_position_embeddings": 8, **ends}
    config = CLIPConfig(text_config=text, vision_config={**shape, "image_size": 32, "patch_size": 16}, projection_dim=8)
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(path)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 6), ("</s>", 7)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(path)
    return path


def test_it_embeds_pictures_and_prompts_into_one_space(folder: Path) -> None:
    clip = Clip(str(folder))
    texts = clip.embed_texts(["a red car", "a car", "a red car"])
    images = clip.embed_images(torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(0)))
    assert texts.shape == (3, 8) and images.shape == (2, 8)
    torch.testing.assert_close(torch.cat([texts, images]).norm(dim=-1), torch.ones(5))
    torch.testing.assert_close(texts[0], texts[2])
    alone = clip.embed_texts(["a car"])
    torch.testing.assert_close(texts[1:2], alone)  # what stands beside a prompt does not change it
    assert clip.image_size == 32 and str(folder) in clip.name
    assert clip.embed_texts(["a red car " * 20]).shape == (1, 8)


def test_pictures_reach_the_network_as_its_own_processor_would_send_them(folder: Path) -> None:
    clip = Clip(str(folder))
    seen = []
    hook = clip.model.vision_model.embeddings.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(args[0] if args else kwargs["pixel_values"]), with_kwargs=True
    )
    clip.embed_images(torch.full((1, 32, 32, 3), 0.5))
    hook.remove()
    expected = (0.5 - torch.tensor([0.48145466, 0.4578275, 0.40821073])) / torch.tensor(
        [0.26862954, 0.26130258, 0.27577711]
    )
    torch.testing.assert_close(seen[0][0, :, 7, 9], expected)


def test_eval_judges_by_it_and_says_so(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ply.write(tmp_path / "ball.ply", init_ball(SplatsConfig(num_init=100), seed=0))
    (tmp_path / "prompts.txt").write_text("a red car\na blue car\n")
    arguments = ["eval", str(tmp_path / "ball.ply"), "--prompt", "a red car", "--clip", str(folder)]
    files = ["--prompts", str(tmp_path / "prompts.txt"), "--output", str(tmp_path / "out")]
    assert cli.main([*arguments, *files]) == cli.DONE
    assert f"Judged by CLIP {folder}" in capsys.readouterr().out
    result = json.loads((tmp_path / "out" / "eval.json").read_text())
    assert result["judge"] == f"CLIP {folder}" and "own judge" in result["janus_probe"]["name"]
    # What our judge scored on real renders says nothing about another one.
    assert all(set(figures) == {"saturation", "contrast", "high_frequency"} for figures in result["real"].values())


def test_what_is_no_clip_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"it has no config\.json"):
        Clip(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match=r"is not a CLIP: its config\.json says model_type 'bert'"):
        Clip(str(tmp_path))
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(ValueError, match="does not load as a CLIP model"):
        Clip(str(tmp_path))
    with pytest.raises(ValueError, match="'nobody/nothing' does not load as a CLIP model"):
        Clip("nobody/nothing")
