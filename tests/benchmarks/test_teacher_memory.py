"""The numbers that memory is estimated with, against the published shapes; and the page that is made of them."""

from __future__ import annotations

import pytest
import teacher_memory

from splatdistill.priors import offload
from splatdistill.priors.check import VAE_PARAMETERS
from splatdistill.priors.resolve import model_families

PUBLISHED_M = {
    "sd15": 860, "pixart-sigma": 610, "z-image": 6_150, "flux2-klein-base": 3_880, "lumina2": 2_600,
    "sd35-large": 8_060, "qwen-image": 20_430, "sana": 590,
}  # fmt: skip
"""As model cards and papers round them."""
ROUNDED = 0.01  # of numbers with two or three digits


@pytest.mark.parametrize("name", teacher_memory.SHAPES)
def test_real_shapes(name: str) -> None:
    shapes = teacher_memory.SHAPES[name]
    network, vae = shapes["network"]["_class_name"], shapes["vae"]["_class_name"]
    size = teacher_memory.parameters(shapes["network"]) / 1e6
    assert size == pytest.approx(PUBLISHED_M[name], rel=ROUNDED)
    listed = [facts["parameters_m"] for facts in model_families().values() if shapes["source"] in facts["sources"]]
    assert listed == [pytest.approx(size, abs=1)] or name == "sana"  # whole millions
    assert offload.ENCODER_BYTES[vae] == pytest.approx(teacher_memory.encoder_bytes(shapes["vae"]), rel=ROUNDED)
    # SANA's are so few that the number has two digits.
    assert offload.NETWORK_VALUES[network] == pytest.approx(teacher_memory.network_values(shapes), rel=3 * ROUNDED)
    counted = teacher_memory.parameters(shapes["vae"])
    assert VAE_PARAMETERS.get(vae, counted) == pytest.approx(counted, rel=ROUNDED)


def test_the_page_is_that_of_the_numbers() -> None:
    assert (teacher_memory.ROOT / "docs" / "teachers.md").read_text() == teacher_memory.page()


def test_the_preset_for_a_small_gpu_fits_it() -> None:
    from splatdistill.config import presets

    config, _ = presets.load("sds", file=teacher_memory.ROOT / "configs" / "8gb.yaml")
    facts = model_families()[config.prior]
    assert teacher_memory.memory_of(facts, image_size=config.prior_size) < config.max_memory < 8
