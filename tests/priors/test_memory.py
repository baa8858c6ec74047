"""Estimates of memory against what autograd keeps, counted on tensors without numbers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks

from splatdistill.priors import memory
from splatdistill.priors.codec import Latents
from splatdistill.priors.diffusion import place

SIZE = 512
# An attention of the CPU keeps a little more than one of CUDA, 9852 bytes a pixel for 9786; nothing else may differ.
TOLERANCE = 0.01


@pytest.fixture(scope="module", params=["bf16", "fp32"])
def kept(request: pytest.FixtureRequest) -> tuple[str, float, float]:
    """Precision; bytes kept of one view through an encoder of SD 1.5's size; the same of its first block alone and of
    what lies between blocks.
    """
    dtype: str = request.param
    with torch.device("meta"):
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,  # type: ignore[arg-type]
            up_block_types=("UpDecoderBlock2D",) * 4,  # type: ignore[arg-type]
            block_out_channels=(128, 256, 512, 512),  # type: ignore[arg-type]
            layers_per_block=2,
            latent_channels=4,
        )
    codec = Latents(place(vae.to_empty(device="cpu"), device=torch.device("cpu"), dtype=dtype), dtype=dtype)
    normed = F.group_norm
    with pytest.MonkeyPatch.context() as patch, FakeTensorMode(allow_non_fake_inputs=True):
        # Autocast does this on CUDA alone.
        patch.setattr(F, "group_norm", lambda x, *args, **kwargs: normed(x.float(), *args, **kwargs))
        whole = saved_bytes(codec, 3)
        codec.save_memory()
        between = saved_bytes(codec, 3)
        codec.vae.disable_gradient_checkpointing()
        codec.latents = lambda x: first_block(codec, x)  # type: ignore[method-assign]
        first = saved_bytes(codec, 128)
    return dtype, whole, between + first


def first_block(codec: Latents, x: Tensor) -> Tensor:
    block: nn.Module = codec.vae.encoder.down_blocks[0]  # type: ignore[assignment]
    with torch.autocast("cpu", torch.bfloat16, enabled=codec.bf16):
        return block(x.bfloat16() if codec.bf16 else x)


def saved_bytes(codec: Latents, channels: int) -> float:
    """Bytes of the tensors that autograd keeps of `latents`, the weights aside."""
    weights = {parameter.untyped_storage()._cdata for parameter in codec.vae.parameters()}
    found: dict[int, Tensor] = {}  # alive, so that no address comes twice

    def pack(x: Tensor) -> Tensor:
        if x.untyped_storage()._cdata not in weights:
            found[x.untyped_storage()._cdata] = x
        return x

    images = torch.empty(1, channels, SIZE, SIZE, requires_grad=True)
    with saved_tensors_hooks(pack, lambda x: x):
        codec.latents(images)
    return float(sum(x.untyped_storage().nbytes() for x in found.values()))


def test_a_view_is_estimated_as_what_is_kept_of_it(kept: tuple[str, float, float]) -> None:
    dtype, whole, _ = kept
    need = memory.estimate(0, image_size=SIZE, encoder=dtype, dtype=dtype)
    assert need.view == pytest.approx(whole, rel=TOLERANCE)


def test_blocks_that_are_repeated_one_by_one_keep_the_largest(kept: tuple[str, float, float]) -> None:
    dtype, _, repeated = kept
    need = memory.estimate(0, image_size=SIZE, encoder=dtype, dtype=dtype)
    assert need.least == pytest.approx(repeated, rel=0.03)  # one share for both: 0.59 and 0.62
