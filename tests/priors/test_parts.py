"""The plain networks of the embedded prior against those of diffusers and transformers: equal bits, for the same
kernels are called in the same order; and what is read from a folder, with whose classes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from splatdistill.embedded.prior import architecture as network
from splatdistill.guidance.base import noisy_batch
from splatdistill.priors import EMBEDDED, parts
from splatdistill.priors.clip_text import CLIPText
from splatdistill.priors.embedded import MultiViewPrior
from splatdistill.priors.schedule import Schedule
from splatdistill.priors.scores import make_score
from splatdistill.priors.unet import UNet, supports
from tests.priors.test_embedded import noise, ring, steps

PROMPTS = ["a red armchair", "", "Foo, a GREEN car! " + 20 * "a "]


@pytest.fixture(scope="module")
def theirs() -> network.PriorNetworks:
    torch.manual_seed(0)
    made = network.create(channels=(16, 32, 48), text_width=16)
    for part in (made.unet, made.text_encoder, made.volume):
        part.eval()
    return made


@pytest.fixture(scope="module")
def folder(theirs: network.PriorNetworks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("prior") / "prior"
    network.save(theirs, root, image_size=32)
    return root


def plain_unet(theirs: network.PriorNetworks) -> UNet:
    ours = UNet(json.loads(theirs.unet.to_json_string())).eval()
    ours.load_state_dict(theirs.unet.state_dict())
    return ours


def answers(unet: Any, dtype: torch.dtype, side: int, *, memory_format: torch.memory_format) -> list[torch.Tensor]:
    """The answer, and the gradients of a function of it with respect to the input, the text and every parameter."""
    unet = unet.to(dtype).to(memory_format=memory_format)
    draw = torch.Generator().manual_seed(2)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draw).to(dtype)

    x = drawn(3, unet.config["in_channels"], side, side).contiguous(memory_format=memory_format).requires_grad_()
    text, classes = drawn(3, network.MAX_WORDS, 16).requires_grad_(), drawn(3, 32).requires_grad_()
    out = unet(x, torch.tensor([0, 400, 999]), text, class_labels=classes, return_dict=False)[0]
    return [out, *torch.autograd.grad((out * drawn(*out.shape)).sum(), [x, text, classes, *unet.parameters()])]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    "memory_format", [torch.contiguous_format, torch.channels_last], ids=["planar", "channels last"]
)
@pytest.mark.parametrize("side", [8, 6])  # 6 becomes 3 and 2, so upsampling must ask for a size
def test_unet_answers_and_learns_to_the_bit(theirs: Any, dtype: Any, memory_format: Any, side: int) -> None:
    settings: dict[str, Any] = {"memory_format": memory_format}
    expected, found = (answers(unet, dtype, side, **settings) for unet in (theirs.unet, plain_unet(theirs)))
    theirs.unet.float()
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_unet_is_made_in_the_same_order(theirs: Any) -> None:
    """Adapters draw their first weights layer by layer, so a seeded run depends on the order."""
    layers = [
        [name for name, module in unet.named_modules() if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)]
        for unet in (theirs.unet, plain_unet(theirs))
    ]
    assert layers[0] == layers[1]


@pytest.mark.parametrize(
    "change",
    [
        {"act_fn": "gelu"}, {"class_embed_type": None}, {"resnet_time_scale_shift": "default"}, {"dropout": 0.1},
        {"up_block_types": ["AttnUpBlock2D"] * 3}, {"use_linear_projection": True}, {"attention_head_dim": [4, 4, 4]},
        {"num_attention_heads": 8}, {"mid_block_type": "UNetMidBlock2D"}, {"something_new": "on"},
        {"flip_sin_to_cos": False}, {"downsample_padding": 0}, {"down_block_types": None},
    ],
    ids=str,
)  # fmt: skip
def test_other_networks_are_left_to_diffusers(theirs: Any, change: dict[str, Any]) -> None:
    config = json.loads(theirs.unet.to_json_string())
    assert supports(config) and not supports({**config, **change})


def test_a_folder_of_another_network_is_read_with_diffusers(folder: Path, tmp_path: Path) -> None:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    torch.manual_seed(0)
    made = network.create(channels=(16, 32, 32), text_width=16)
    config = {**made.unet.config, "use_linear_projection": True, "_use_default_values": []}
    made.unet = UNet2DConditionModel.from_config(config)
    network.save(made, tmp_path / "other", image_size=32)
    prior = MultiViewPrior.load(tmp_path / "other", dtype="fp32")
    assert type(prior.unet) is UNet2DConditionModel and type(prior.text_encoder) is CLIPText
    (eps,) = prior.predict(noise(), steps(), [prior.embed("a red car", ring())])
    assert torch.isfinite(eps).all()
    assert type(MultiViewPrior.load(folder, dtype="fp32").unet) is UNet


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_texts_are_read_to_the_bit(theirs: Any, folder: Path, dtype: torch.dtype) -> None:
    ours, tokenizer = parts.load_text_encoder(folder).to(dtype), parts.load_tokenizer(folder)
    other = type(theirs.text_encoder).from_pretrained(folder / "text_encoder").eval().to(dtype)
    ids = theirs.tokenizer(
        PROMPTS, padding="max_length", truncation=True, max_length=network.MAX_WORDS, return_tensors="pt"
    )["input_ids"]
    assert torch.equal(tokenizer(PROMPTS, max_length=network.MAX_WORDS)["input_ids"], ids)
    assert tokenizer.get_vocab() == theirs.tokenizer.get_vocab()
    assert tokenizer.all_special_tokens == theirs.tokenizer.all_special_tokens
    assert type(ours) is CLIPText and type(other) is not CLIPText
    expected, found = (
        [out := encoder(ids).last_hidden_state, *torch.autograd.grad(out.sin().sum(), list(encoder.parameters()))]
        for encoder in (other, ours.requires_grad_())
    )
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


@pytest.mark.parametrize("num", [1000, 50])
def test_the_cosine_schedule_is_that_of_diffusers(num: int) -> None:
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    scheduler = DDPMScheduler(num_train_timesteps=num, beta_schedule="squaredcos_cap_v2", prediction_type="sample")
    schedule = Schedule.from_config(scheduler.config)
    assert torch.equal(schedule.alphas_cumprod, scheduler.alphas_cumprod) and schedule.prediction == "sample"


def test_a_second_score_learns_the_same_on_either_network(theirs: Any, folder: Path) -> None:
    """vsd and esd on a seeded run: adapters on the plain UNet begin, learn and answer as on that of diffusers."""
    ours = MultiViewPrior.load(folder, dtype="fp32")
    kept = type(theirs.unet).from_pretrained(folder / "unet").eval().requires_grad_(False)
    other = MultiViewPrior(
        kept.to(memory_format=torch.channels_last), text_encoder=ours.text_encoder, volume=ours.volume,
        tokenizer=ours.tokenizer, schedule=parts.load_schedule(folder), meta=network.meta(image_size=32),
    )  # fmt: skip
    learned = []
    for prior in (other, ours):
        score: Any = make_score(prior, "a red car", particles=1, rank=2, lr=1e-2, dropout=0.5, seed=3)
        batch = noisy_batch(noise(), ring(), prior, t=steps(), eps=noise())
        measured = [score.update(batch, seed=1, step=step, measure=True) for step in range(2)]
        learned.append([*score.parameters.values(), *(x for m in measured for x in m.values())])
        learned[-1] += score.predict(batch, [True, False])
    assert len(learned[0]) > 50
    assert all(torch.equal(a, b) for a, b in zip(*learned, strict=True))


def test_loading_leaves_the_random_numbers_alone(folder: Path) -> None:
    before = torch.get_rng_state()
    MultiViewPrior.load(folder, dtype="fp32")
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("unet/config.json", r"unet/config\.json cannot be read"),
        ("text_encoder/model.safetensors", r"text_encoder/model\.safetensors cannot be read"),
        ("volume/config.json", r"volume/config\.json cannot be read"),
        ("tokenizer/tokenizer.json", r"tokenizer\.json cannot be read"),
        ("tokenizer/tokenizer_config.json", r"tokenizer/tokenizer_config\.json cannot be read"),
        ("scheduler/scheduler_config.json", r"scheduler/scheduler_config\.json cannot be read"),
    ],
)
def test_a_folder_that_is_not_whole(theirs: Any, tmp_path: Path, path: str, reason: str) -> None:
    network.save(theirs, tmp_path / "torn", image_size=32)
    for harm in (lambda file: file.write_bytes(b"no"), lambda file: file.unlink()):
        harm(tmp_path / "torn" / path)
        with pytest.raises(ValueError, match=rf"^The prior in .*torn is not whole: .*{reason}"):
            MultiViewPrior.load(tmp_path / "torn")


def test_weights_of_another_shape(theirs: Any, tmp_path: Path) -> None:
    network.save(theirs, tmp_path / "torn", image_size=32)
    file = tmp_path / "torn" / "unet" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "in_channels": 5}))
    with pytest.raises(ValueError, match=r"not whole: unet: its config\.json and its weights do not fit"):
        MultiViewPrior.load(tmp_path / "torn")


def test_train_with_the_embedded_prior_imports_no_large_library(tmp_path: Path) -> None:
    """Each of them takes longer to import than the prior to load."""
    code = (
        "import sys\nfrom splatdistill.cli import main\n"
        f"rc = main(['train', '--prompt', 'a red chair', '--steps', '1', '--out', {str(tmp_path)!r}, '--size', '16',"
        " '--splats.num-init', '50', '--output.frames', '2', '--output.size', '16'])\n"
        "large = {'diffusers', 'transformers', 'peft', 'scipy', 'sympy', 'torch._dynamo', 'torch._inductor',"
        " 'huggingface_hub', 'matplotlib', 'pandas', 'sklearn'}\n"
        "print(rc, sorted(large & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr
    assert EMBEDDED.is_dir()
