"""Estimates of memory against what autograd keeps, counted on tensors without numbers."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from eager_traffic import CPU, NOWHERE, SIDE, hollow, saved
from gpu_diffusion import networks
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from splatdistill.priors import offload
from splatdistill.priors.latent_space import LatentSpace
from splatdistill.priors.tiny_encoder import TinyLatentSpace

# The shares and bytes that `memory` holds have two digits, 0.62 and 12,120, so the product may be off by 0.005 / 0.62.
# An attention of the CPU keeps a little more than one of CUDA: one number for each of its rows, of 512 channels.
TOLERANCE = 0.01


@pytest.fixture(scope="module", params=["bf16", "fp32"])
def kept(request: pytest.FixtureRequest) -> tuple[str, float, float]:
    """Precision; bytes kept of one view through an encoder of SD 1.5's size; the same of its first block alone and of
    what lies between blocks.
    """
    dtype: str = request.param
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    latent_space = LatentSpace(hollow(networks(NOWHERE, tiny=False)[1], mode, dtype=dtype), dtype=dtype)
    with mode:
        whole = saved_bytes(latent_space, 3)
        latent_space.save_memory()
        between = saved_bytes(latent_space, 3)
        latent_space.vae.disable_gradient_checkpointing()
        latent_space.latents = lambda x: first_block(latent_space, x)  # type: ignore[method-assign]
        first = saved_bytes(latent_space, 128)
    return dtype, whole, between + first


def first_block(latent_space: LatentSpace, x: Tensor) -> Tensor:
    block: nn.Module = latent_space.vae.encoder.down_blocks[0]  # type: ignore[assignment]
    return block(x.bfloat16() if latent_space.bf16 else x)


def saved_bytes(latent_space: LatentSpace, channels: int) -> float:
    """Bytes that autograd keeps of the `latents` of one view."""
    images = torch.empty(1, channels, SIDE, SIDE, device=CPU, requires_grad=True)
    with saved(latent_space.vae) as found:
        latent_space.latents(images)
    return float(sum(found.values()))


def test_a_view_is_estimated_as_what_is_kept_of_it(kept: tuple[str, float, float]) -> None:
    dtype, whole, _ = kept
    need = offload.estimate(0, image_size=SIDE, encoder=dtype, dtype=dtype)
    assert need.view == pytest.approx(whole, rel=TOLERANCE)


def test_blocks_that_are_repeated_one_by_one_keep_the_largest(kept: tuple[str, float, float]) -> None:
    dtype, _, repeated = kept
    need = offload.estimate(0, image_size=SIDE, encoder=dtype, dtype=dtype)
    assert need.least == pytest.approx(repeated, rel=TOLERANCE)


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_a_view_through_a_tiny_encoder_is_estimated_as_what_is_kept_of_it(dtype: str) -> None:
    """That of Stable Diffusion's, which has the default settings."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with torch.device("meta"):
        model = AutoencoderTiny()
    latent_space = TinyLatentSpace(hollow(model, mode, dtype=dtype), dtype=dtype)
    with mode:
        whole = saved_bytes(latent_space, 3)
    need = offload.estimate(0, image_size=SIDE, encoder=dtype, dtype=dtype, vae="AutoencoderTiny")
    assert need.view == pytest.approx(whole, rel=TOLERANCE) and need.least == need.view
