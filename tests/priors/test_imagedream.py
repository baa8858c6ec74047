"""ImageDream from its folder: every name has a place, the file has its published size, the answers are those of the
plain network and of its pipeline, and a run holds on to the picture.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionConfig, CLIPVisionModel

from splatdistill import cli, priors
from splatdistill.guidance.methods.sds import SDS, SDSConfig
from splatdistill.priors import imagedream
from splatdistill.priors.base import Choice, Picture
from splatdistill.priors.imagedream import ImageDreamPrior
from splatdistill.priors.network import DenoiserInput
from splatdistill.priors.pictured import Box, set_into
from splatdistill.scene.types import NoisyBatch
from tests.priors import families, plain_imagedream
from tests.priors.test_diffusion import CPU, ring
from tests.rounding import assert_same

PROMPT = "ab c"
BAR = 1e-5  # relative, that of every method's oracle
# Of ashawkey/imagedream-ipmv-diffusers, in bytes and half precision, as the hub lists them.
PUBLISHED = {"unet": 1_883_435_904, "image_encoder": 1_261_595_704}


def bytes_in_half_precision(shapes: dict[str, tuple[int, ...]]) -> int:
    """Of a safetensors file: the length of its header, the header in JSON padded to eight bytes, the numbers."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in sorted(shapes.items()):
        begin, end = end, end + 2 * int(np.prod(shape))
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [begin, end]}
    written = len(json.dumps(header, separators=(",", ":")))
    return 8 + (written + 7) // 8 * 8 + end


@pytest.fixture(scope="module")
def plain() -> plain_imagedream.UNet:
    return plain_imagedream.small()


@pytest.fixture(scope="module")
def folder(plain: plain_imagedream.UNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    encoder = families.vision(width=plain_imagedream.SMALL["states"], side=28, patch=14)
    root = tmp_path_factory.mktemp("imagedream") / "model"
    return families.imagedream_of_ashawkey(root, plain.state_dict(), encoder=encoder)


@pytest.fixture
def prior(folder: Path) -> ImageDreamPrior:
    found = priors.load(str(folder), device=CPU, dtype="fp32")
    assert isinstance(found, ImageDreamPrior)
    return found


def picture(seed: int = 0) -> Picture:
    """Smooth colours, and alpha that falls to the right."""
    rgb = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    rgb = torch.nn.functional.interpolate(rgb, (64, 64), mode="bilinear")[0]
    return Picture(torch.cat([rgb, torch.linspace(1, 0.3, 64).expand(1, 64, 64)]), ring(1))


def test_the_published_file_is_whole_to_the_byte_and_every_key_has_a_place() -> None:
    with torch.device("meta"):
        original = plain_imagedream.UNet(**plain_imagedream.ORIGINAL).state_dict()
        vision = CLIPVisionModel(CLIPVisionConfig(
            hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=16, image_size=224,
            patch_size=14,
        )).state_dict()  # fmt: skip
        unet, resampler = imagedream.make_unet(original), imagedream.make_resampler(original)
    assert bytes_in_half_precision({k: tuple(v.shape) for k, v in original.items()}) == PUBLISHED["unet"]
    named = {f"vision_model.{k.removeprefix('vision_model.')}": tuple(v.shape) for k, v in vision.items()}
    assert bytes_in_half_precision(named) == PUBLISHED["image_encoder"]
    sizes = [sum(p.numel() for p in part.parameters()) for part in (unet, resampler)]
    assert sum(sizes) == sum(value.numel() for value in original.values())
    # MVDream's, and keys and values of the picture's tokens in 16 layers: five of each width, and the middle one.
    assert sizes[0] == 865_910_724 + 16 * 1280 + 1280 + 1280 * 1280 + 1280 + 2 * 1024 * (5 * (320 + 640 + 1280) + 1280)


def answers(plain: plain_imagedream.UNet, prior: ImageDreamPrior, xt: Tensor, t: Tensor, shown: Tensor) -> Any:
    """What pipeline_mvdream.py asks its UNet, for two objects of four views: [8,C,h,w] without the picture and with it.
    shown: the picture in its frame, [3,S,S] in 0..1.
    """
    root = prior._folder.root
    words, text_encoder = (kind.from_pretrained(root, subfolder=part) for kind, part in (
        (CLIPTokenizer, "tokenizer"), (CLIPTextModel, "text_encoder"),
    ))  # fmt: skip
    vae = AutoencoderKL.from_pretrained(root, subfolder="vae")
    vision = CLIPVisionModel.from_pretrained(root, subfolder="image_encoder")
    told = words(["", PROMPT], padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    states = vision(clip_pixels(shown), output_hidden_states=True).hidden_states[-2]
    small = torch.nn.functional.interpolate(shown[None], (16, 16), mode="bilinear", antialias=True)
    latents = vae.encode(2 * small - 1).latent_dist.mode() * vae.config.scaling_factor
    camera = prior.embed(PROMPT, ring(8)).camera
    assert camera is not None
    five = [0, 1, 2, 3, 3, 4, 5, 6, 7, 7]
    cameras = camera[five].clone()
    cameras[4::5] = 0
    text = text_encoder(told)[0]
    found = [
        plain.answer(xt[five], t[five], text[[i] * 10], cameras, (states * i).expand(10, -1, -1), latents * i)
        for i in range(2)
    ]
    return [x.view(2, 5, *x.shape[1:])[:, :4].flatten(0, 1) for x in found]


def clip_pixels(shown: Tensor) -> Tensor:
    """[1,3,S,S] by transformers' own reader."""
    try:
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil as Reader
    except ImportError:  # before version 5
        from transformers import CLIPImageProcessor as Reader
    pixels = (shown * 255).byte().movedim(0, -1).numpy()
    return Reader(**families.CLIP_PICTURES)(pixels, return_tensors="pt")["pixel_values"]


def framed(seed: int = 0) -> Tensor:
    rgba = set_into(picture(seed).rgba, Box(0.1, 0.1, 0.8), size=imagedream.PIXELS)
    return rgba[:3] * rgba[3:] + (1 - rgba[3:])


@torch.no_grad()
def test_the_residual_is_the_guided_output_of_the_pipeline(
    plain: plain_imagedream.UNet, prior: ImageDreamPrior
) -> None:
    g = torch.Generator().manual_seed(2)
    xt, eps = (torch.randn(8, 4, 8, 8, generator=g) for _ in range(2))
    t = torch.tensor([300, 800]).repeat_interleave(4)
    prior.begin(Choice(PROMPT, picture=picture()))
    scale = 5.0
    sds = SDS(SDSConfig(guidance_scale=scale, weight="one", negative_prompt=""), prompt=PROMPT, group=4, steps=10)
    sds.bind(prior)
    alpha = prior.alphas_cumprod[t].sqrt()
    batch = NoisyBatch(xt, t, eps, xt, alpha, (1 - alpha**2).sqrt(), ring(8))

    residual = sds.residual(batch, prior, step=0)
    ours = (residual.coef[..., None, None, None] * torch.stack(list(residual.terms))).sum(0)
    blank, seen = answers(plain, prior, xt, t, framed())
    guided = blank + scale * (seen - blank)
    assert (ours - (guided - eps)).norm() <= BAR * guided.norm()
    assert (seen - blank).norm() > 1000 * BAR * guided.norm()  # so the bar tells the two apart


@torch.no_grad()
def test_the_network_answers_as_the_plain_one(plain: plain_imagedream.UNet, prior: ImageDreamPrior) -> None:
    """Four views that attend to each other and the picture's, and one that is on its own, in one call."""
    g = torch.Generator().manual_seed(3)
    xt, t = torch.randn(5, 4, 8, 8, generator=g), torch.tensor([7, 7, 7, 7, 990])
    states, latents = torch.randn(1, 5, 24, generator=g), torch.randn(1, 4, 8, 8, generator=g)
    text, cameras = torch.randn(5, 77, 32, generator=g), torch.randn(5, 16, generator=g)
    cameras[4] = 0
    resampler = imagedream.make_resampler(plain.state_dict())
    assert_same(lambda: (resampler(states), plain.image_embed(states)))
    tokens, five = plain.image_embed(states), [0, 1, 2, 3, 3]
    told = torch.cat([text, tokens.expand(5, -1, -1)], 1)
    zeroed = torch.cat([cameras[:4], torch.zeros(1, 16)])

    def both() -> tuple[Tensor, Tensor]:
        ours = prior.denoise(DenoiserInput(xt, t, told, cameras, latents.flatten(1), joint_rows=4))
        group = plain.answer(xt[five], t[five], text[five], zeroed, states.expand(5, -1, -1), latents)
        return ours, torch.cat([group[:4], plain(xt[4:], t[4:], told[4:], None, views=1)])

    assert_same(both)


def test_the_further_view_stands_behind_its_group_and_has_no_camera() -> None:
    rows, group, joint = 11, 4, 8
    xt = torch.arange(rows).float().view(rows, 1, 1, 1)
    inputs = DenoiserInput(
        xt, torch.arange(rows), xt.view(rows, 1, 1), 1 + torch.arange(rows * 16.0).view(rows, 16),
        -1 - torch.arange(rows).float().view(rows, 1), joint_rows=joint,
    )  # fmt: skip
    grown = imagedream.with_picture_views(inputs, joint=joint, group=group)
    assert grown.xt.flatten().tolist() == [0, 1, 2, 3, -4, 4, 5, 6, 7, -8, 8, 9, 10]
    assert grown.t.tolist() == grown.text.flatten().tolist() == [0, 1, 2, 3, 3, 4, 5, 6, 7, 7, 8, 9, 10]
    assert grown.cameras is not None and grown.joint_rows == 10
    absent = (grown.cameras == 0).all(1)
    assert absent.nonzero().flatten().tolist() == [4, 9]


@torch.no_grad()
def test_the_picture_moves_what_is_asked_with_the_prompt_and_nothing_else(prior: ImageDreamPrior) -> None:
    xt, t = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(4)), torch.full((4,), 500)

    def asked(seed: int) -> list[Tensor]:
        prior.begin(Choice(PROMPT, picture=picture(seed)))
        texts = [PROMPT, [f"{PROMPT}, {side} view" for side in ("front", "side", "side", "back")], "", "other words"]
        return prior.predict(xt, t, [prior.embed(text, ring()) for text in texts])

    first, second = asked(0), asked(1)
    same = [torch.equal(a, b) for a, b in zip(first, second, strict=True)]
    assert same == [False, False, True, True]


def test_broken_folders(folder: Path, plain: plain_imagedream.UNet, tmp_path: Path) -> None:
    def refused(says: str, spoil: Any) -> None:
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        spoil(copy)
        with pytest.raises(ValueError, match=says):
            priors.load(str(copy), device=CPU, dtype="fp32").begin(Choice(PROMPT, picture=picture()))

    def drop(copy: Path) -> None:
        index = json.loads((copy / "model_index.json").read_text())
        (copy / "model_index.json").write_text(json.dumps({k: v for k, v in index.items() if k != "image_encoder"}))

    def without(key: str, odd: str = "") -> Any:
        state = {k: v for k, v in plain.state_dict().items() if k != key} | ({odd: torch.zeros(1)} if odd else {})
        return lambda copy: save_file(state, copy / "unet" / "diffusion_pytorch_model.safetensors")

    refused("is ImageDream without its image_encoder, a CLIPVisionModel", drop)
    refused("feature_extractor does not say how", lambda copy: shutil.rmtree(copy / "feature_extractor"))
    refused("image_encoder has no .safetensors", lambda copy: (copy / "image_encoder" / "model.safetensors").unlink())
    refused("there is no place for label_emb.weight", without("", odd="label_emb.weight"))
    refused("does not fit: Missing key", without("middle_block.1.transformer_blocks.0.attn2.to_k_ip.weight"))
    refused("does not fit: Missing key", without("image_embed.norm_out.weight"))
    refused("has no image_embed.latents", without("image_embed.latents"))


def run(folder: Path, tmp_path: Path, *flags: str) -> int:
    words = ["train", "--config", "smoke", "--prior", str(folder), "--prompt", PROMPT, "--device", "cpu"]
    return cli.main([*words, "--size", "16", "--steps", "3", "--out", str(tmp_path), "--name", "run", *flags])


@pytest.mark.parametrize("method", ["multiview", "vsd"])
def test_a_run_is_shown_the_picture(folder: Path, tmp_path: Path, method: str) -> None:
    pixels = np.full((40, 30, 4), (200, 40, 30, 255), np.uint8)
    pixels[:8, :8, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "shown.png")
    assert run(folder, tmp_path, "--image", str(tmp_path / "shown.png"), "--method", method) == cli.DONE
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["step"] == 3 and summary["priors"] == {str(folder): str(folder)}


def test_without_a_picture_it_is_one_sentence(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, tmp_path) == cli.USAGE
    err = " ".join(capsys.readouterr().err.split())
    wanted = "is ImageDream, which is shown a picture of what it makes; name one with --image."
    assert err.startswith("splatdistill: image: ") and err.endswith(wanted) and err.count("splatdistill: ") == 1
    assert not (tmp_path / "run").exists()
    sample = [
        "prior",
        "sample",
        str(folder),
        "--prompt",
        PROMPT,
        "--device",
        "cpu",
        "--output",
        str(tmp_path / "x.png"),
    ]
    assert cli.main(sample) == cli.USAGE
    assert wanted in " ".join(capsys.readouterr().err.split())


def test_prior_check(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["prior", "check", str(folder), "--device", "cpu", "--dtype", "fp32"]) == cli.DONE
    lines = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    found = {key: value.strip() for key, value in lines.items()}
    assert found["views"] == "4 at once" and found["picture"] == "read, as 3 tokens and a view of its own"
    assert found["family"].startswith("imagedream: ") and re.match(
        r"5\.0  # DreamGaussian", found["sds.guidance_scale"]
    )
    assert "gradient norm" in found["step"]
