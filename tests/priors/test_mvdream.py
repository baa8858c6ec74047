"""MVDream from its original checkpoint: every name has a place, and the networks answer as the plain ones do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from splatdistill import priors
from splatdistill.priors import mvdream
from splatdistill.priors.diffusion import DiffusionPrior
from splatdistill.priors.network import DenoiserInput, Text
from tests.priors import families, plain_mvdream
from tests.priors.test_diffusion import CPU, ring
from tests.rounding import assert_same

KEYS = Path(__file__).with_name("mvdream_keys.txt")


@pytest.fixture(scope="module")
def plain() -> plain_mvdream.MVDream:
    return plain_mvdream.small()


@pytest.fixture(scope="module")
def checkpoint(plain: plain_mvdream.MVDream, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mvdream") / "small.safetensors"
    save_file({key: value.contiguous() for key, value in plain.state_dict().items()}, path)
    return path


@pytest.fixture(scope="module")
def prior(checkpoint: Path) -> DiffusionPrior:
    found = priors.load(str(checkpoint), device=CPU, dtype="fp32")
    assert isinstance(found, DiffusionPrior)
    return found


def test_the_list_of_the_original_is_whole_and_every_key_has_a_place() -> None:
    listed = dict(line.rsplit(" ", 1) for line in KEYS.read_text().splitlines())
    with torch.device("meta"):
        original = plain_mvdream.MVDream(**plain_mvdream.ORIGINAL).state_dict()
        shapes = {key: "x".join(map(str, value.shape)) or "scalar" for key, value in original.items()}
        assert shapes == listed
        parts = mvdream._split(original, KEYS)
        sizes = [
            sum(p.numel() for p in model.parameters())
            for model in (
                mvdream.make_unet(parts["unet"]), mvdream.make_vae(parts["vae"]),
                mvdream.make_text_encoder(parts["text"]),
            )
        ]  # fmt: skip
    # Stable Diffusion 2.1's UNet of 865,910,724 with a camera's two layers; its VAE; its text encoder.
    camera = 16 * 1280 + 1280 + 1280 * 1280 + 1280
    assert sizes == [865_910_724 + camera, 83_653_863, 340_387_840]


@pytest.mark.parametrize("together", [True, False])
def test_unet(plain: plain_mvdream.MVDream, prior: DiffusionPrior, together: bool) -> None:
    g = torch.Generator().manual_seed(1)
    xt, text = torch.randn(8, 4, 8, 8, generator=g), torch.randn(8, 77, 64, generator=g)
    t, cameras = torch.tensor([7, 300, 600, 990]).repeat_interleave(2), torch.randn(8, 16, generator=g)
    unet: Any = plain.model["diffusion_model"]
    seen = cameras if together else None

    def answers() -> tuple[torch.Tensor, torch.Tensor]:
        theirs = unet(xt, t, text, seen, views=4 if together else 1)
        return prior.denoise(DenoiserInput(xt, t, text, seen, joint_rows=len(xt) * together)), theirs

    with torch.no_grad():
        assert_same(answers)


def test_vae(plain: plain_mvdream.MVDream, prior: DiffusionPrior) -> None:
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2)) * 2 - 1
    vae, latent_space = plain.first_stage_model, prior.latent_space
    with torch.no_grad():
        latents = vae.encode(images) * 0.18215
        assert_same(lambda: (latent_space.encode(images), vae.encode(images) * 0.18215))
        assert_same(lambda: (latent_space.decode(latents), vae.decode(latents / 0.18215)))


def test_text(plain: plain_mvdream.MVDream, prior: DiffusionPrior) -> None:
    """CLIP's own numbers for these words, between its start 49406 and end 49407, padded with 0."""
    words = [320, 736, 4269]  # a red chair
    tokens = torch.tensor([[49406, *words, 49407, *[0] * 72]])
    with torch.no_grad():
        assert_same(lambda: (prior.embed("A red  chair", None).text, plain.cond_stage_model["model"](tokens)))
    assert isinstance(prior.texts.get(""), Text)


# What open_clip 2.7.0 makes of these with ftfy 6.3.1, between its start and its end.
OPEN_CLIP = {
    "": [],
    "highly detailed!": [5302, 12609, 256],
    "hello!!": [3306, 748],
    "hello! !": [3306, 256, 256],
    "!!!": [995],
    "! a red chair": [256, 320, 736, 4269],
    'a "red" chair': [320, 257, 736, 257, 4269],
    "don\u2019t": [847, 713],
    "don&rsquo;t": [847, 713],
    "a baker\u2019s \u201csourdough\u201d loaf": [320, 7743, 568, 257, 29921, 257, 18273],
    "\u2018quoted\u2019 \u201elow\u201c": [262, 27706, 262, 257, 1042, 257],
    "salt &amp; co": [6611, 261, 1320],
    "a caf\u00e9": [320, 15304],
    "a cafe\u0301 table": [320, 15304, 2175],
    "\ufb01ne": [3797],
    "\uff46\uff55\uff4c\uff4c": [1476],
    "na\u00efve\tpiano\nforte": [1097, 35689, 563, 7894, 27367],
    "A  DSLR photo of a Corgi,  wearing a top hat": [320, 33740, 1125, 539, 320, 31320, 267, 3309, 320, 1253, 3801],
    "it's 3d, 12 legs": [585, 568, 274, 323, 267, 272, 273, 7072],
}


def test_prompts_are_read_as_open_clip_reads_them() -> None:
    found = mvdream.make_tokenizer()(list(OPEN_CLIP), max_length=77)
    for tokens, mask, words in zip(found["input_ids"], found["attention_mask"], OPEN_CLIP.values(), strict=True):
        read = [49406, *words, 49407]
        assert tokens.tolist() == [*read, *[0] * (77 - len(read))]
        assert int(mask.sum()) == len(read)
    (cut,) = mvdream.make_tokenizer()(["word! " * 90], max_length=77)["input_ids"].tolist()
    assert (len(cut), cut[:3], cut[-1]) == (77, [49406, 2653, 256], 49407)


def test_levels_of_noise_are_those_of_the_file(plain: plain_mvdream.MVDream, prior: DiffusionPrior) -> None:
    assert torch.equal(prior.alphas_cumprod, plain.alphas_cumprod)
    assert (prior.prediction, prior.num_views, prior.image_size) == ("epsilon", 4, 256)


def test_its_own_file_and_the_hubs_folder_are_the_same_model(
    plain: plain_mvdream.MVDream, prior: DiffusionPrior, checkpoint: Path, tmp_path: Path
) -> None:
    torch.save({"state_dict": plain.state_dict()}, tmp_path / "original.pt")
    same = priors.load(str(tmp_path / "original.pt"), device=CPU, dtype="fp32")
    unet = {k.removeprefix("model.diffusion_model."): v for k, v in plain.state_dict().items() if ".diffusion_" in k}
    folder = priors.load(str(families.mvdream_of_ashawkey(tmp_path / "hub", unet)), device=CPU, dtype="fp32")
    assert folder.num_views == 4 and folder.knows_cameras
    for other in (same, folder):
        assert isinstance(other, DiffusionPrior)
        for name, value in prior.unet.state_dict().items():
            assert torch.equal(value, other.unet.state_dict()[name]), name


def test_diffusers_own_conversion_agrees(plain: plain_mvdream.MVDream, prior: DiffusionPrior) -> None:
    from diffusers.loaders import single_file_utils

    state = dict(plain.state_dict())
    unet = single_file_utils.convert_ldm_unet_checkpoint(dict(state), {**prior.unet.config, "class_embed_type": None})
    vae = single_file_utils.convert_ldm_vae_checkpoint(dict(state), dict(prior.latent_space.vae.config))  # type: ignore[union-attr]
    for theirs, ours in ((unet, prior.unet), (vae, prior.latent_space.vae)):  # type: ignore[union-attr]
        names = {name for name in ours.state_dict() if not name.startswith("class_embedding")}
        assert names == set(theirs)
        for name in names:
            assert torch.equal(theirs[name].reshape(-1), ours.state_dict()[name].reshape(-1)), name


def test_a_key_without_a_place_fails(plain: plain_mvdream.MVDream, tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    state = {key: value.contiguous() for key, value in plain.state_dict().items()}
    unet, text = "model.diffusion_model.", "cond_stage_model.model."
    for odd in ("other.weight", f"{unet}label_emb.0.0.weight", "first_stage_model.loss.w", f"{text}visual.proj"):
        save_file({**state, odd: torch.zeros(1)}, path)
        name = re.escape(odd.removeprefix(unet).removeprefix("first_stage_model."))
        with pytest.raises(ValueError, match=f"no place for (its )?{name}"):
            priors.load(str(path), device=CPU, dtype="fp32").embed("x", None)
    save_file({key: value for key, value in state.items() if not key.endswith("out.2.bias")}, path)
    with pytest.raises(ValueError, match="the checkpoint does not fit: Missing key"):
        priors.load(str(path), device=CPU, dtype="fp32")
    save_file({key: value for key, value in state.items() if "first_stage" not in key}, path)
    with pytest.raises(ValueError, match="is no MVDream checkpoint: it has no vae"):
        priors.load(str(path), device=CPU, dtype="fp32")


class Code:
    """What a pickle could run."""

    def __reduce__(self) -> Any:
        return (print, ("this must not run",))


def test_a_file_that_holds_code_is_not_opened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": Code()}, tmp_path / "bad.pt")
    with pytest.raises(ValueError, match=r"bad\.pt holds more than tensors, or is cut, and is not opened"):
        priors.load(str(tmp_path / "bad.pt"), device=CPU, dtype="fp32")
    (tmp_path / "cut.pt").write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match=r"cut\.pt"):
        priors.load(str(tmp_path / "cut.pt"), device=CPU, dtype="fp32")
    assert "must not run" not in capsys.readouterr().out


def test_views_are_told_their_cameras(prior: DiffusionPrior) -> None:
    xt, t = torch.randn(4, 4, 32, 32), torch.full((4,), 500)
    conditioned, bare = prior.embed("a chair", ring()), prior.embed("a chair", None)
    a, b = prior.predict(xt, t, [conditioned, bare])
    assert (a - b).abs().max() > 1e-4
