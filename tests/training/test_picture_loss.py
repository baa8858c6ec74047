"""`--image`: how a picture is read and freed of its ground, and that splats are held to it at its camera."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from splatdistill import cli
from splatdistill.config.schema import CameraConfig, ReferenceConfig
from splatdistill.priors.base import Picture
from splatdistill.priors.pictured import box_of, cut
from splatdistill.rendering.renderer import make_renderer
from splatdistill.scene.gaussians import Splats, init_ball
from splatdistill.scene.types import Cameras
from splatdistill.training.picture_loss import LARGEST, PictureLoss, camera_of, picture_of, read
from splatdistill.training.run_log import NoLog
from splatdistill.training.trainer import Trainer
from tests.rounding import GRAY, assert_within
from tests.training.test_trainer import SMALL, linear_prior

CPU = torch.device("cpu")
SIZE = 32


def disc(*, hole: bool = False) -> tuple[Tensor, Tensor]:
    """A red disc on a bluish gray ground, with a hole of the colour of the ground in it: rgb [64,96,3] in 0..255 and
    where the disc is [64,96].
    """
    y, x = torch.meshgrid(torch.arange(64), torch.arange(96), indexing="ij")
    away = ((x - 60) ** 2 + (y - 30) ** 2).sqrt()
    rgb = torch.tensor([180, 185, 200]).expand(64, 96, 3).clone()
    rgb[away < 20] = torch.tensor([200, 30, 20])
    if hole:
        rgb[away < 6] = torch.tensor([180, 185, 200])
    return rgb, away < 20


def saved(path: Path, array: Tensor | np.ndarray, **how: object) -> Path:
    Image.fromarray(np.asarray(array, dtype=np.uint8)).save(path, **how)
    return path


@pytest.mark.parametrize("suffix", ["png", "webp", "jpg"])
def test_a_plain_ground_is_taken_away_and_what_it_encloses_is_not(tmp_path: Path, suffix: str) -> None:
    rgb, shown = disc(hole=True)
    found = read(saved(tmp_path / f"disc.{suffix}", rgb, **({"lossless": True} if suffix == "webp" else {})))
    assert found.shape == (4, 64, 96)
    if suffix == "jpg":  # its blocks of 8 pixels blur the edge
        assert (found[3][shown].mean() > 0.97) and found[3][torch.roll(~shown, 0)].mean() < 0.2
    else:
        assert torch.equal(found[3], shown.float())  # the hole belongs to the disc: no ground leads to it


def test_an_alpha_channel_is_taken_as_it_is(tmp_path: Path) -> None:
    rgb, shown = disc()
    alpha = torch.where(shown, 255, 0).clone()
    alpha[30, 60] = 100
    found = read(saved(tmp_path / "disc.png", torch.cat([rgb, alpha[..., None]], -1)))
    assert_within(found[3], alpha / 255, GRAY * 1e-3)  # the same bytes: nothing but the quotient is rounded
    assert_within(found[:3], rgb.movedim(-1, 0) / 255, GRAY * 1e-3)


def test_a_camera_that_was_held_aside_is_turned_back(tmp_path: Path) -> None:
    rgb, _ = disc()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    path = tmp_path / "disc.png"
    Image.fromarray(rgb.numpy().astype(np.uint8)).save(path, exif=exif)
    assert torch.equal(read(path)[:3], torch.rot90(rgb.movedim(-1, 0) / 255, -1, (1, 2)))


def busy() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 40, 3))


FAULTS = {
    "none": (lambda path: None, "cannot be read: No such file or directory."),
    "text": (lambda path: path.write_text("a ball"), "cannot be read: it is no PNG, JPEG, WEBP that is whole."),
    "busy": (lambda path: saved(path, busy()), "has neither an alpha channel nor a plain ground; cut its object out"),
    "small": (lambda path: saved(path, np.zeros((4, 40, 3))), "has less than 8 pixels a side."),
    "wide": (lambda path: saved(path, np.zeros((8, LARGEST + 1, 3))), f"is larger than {LARGEST} pixels a side"),
    "empty": (lambda path: saved(path, np.zeros((40, 40, 4))), "image: the picture shows nothing"),
    "plain": (lambda path: saved(path, np.full((40, 40, 3), 7)), "image: the picture shows nothing"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_picture_that_cannot_be_taken_is_one_sentence(
    fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, said = FAULTS[fault]
    path = tmp_path / "picture.png"
    make(path)
    words = [
        "train",
        "--prompt",
        "a red ball",
        "--image",
        str(path),
        "--out",
        str(tmp_path / "runs"),
        "--config",
        "smoke",
    ]
    assert cli.main(words) == cli.USAGE
    err = " ".join(capsys.readouterr().err.split())
    assert said in err and err.startswith("splatdistill: image: ") and err.count("splatdistill: ") == 1
    assert not (tmp_path / "runs").exists()


def test_half_a_picture_is_refused(tmp_path: Path) -> None:
    whole = saved(tmp_path / "whole.png", busy()).read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"image: .* cannot be read: "):
        read(tmp_path / "half.png")


def ball(colour: float) -> Splats:
    splats = init_ball(replace(SMALL.splats, num_init=400, opacity=0.9), seed=1)
    return Splats(**{**splats.tensors, "sh0": torch.full((400, 1, 3), colour)})


def view(splats: Splats, camera: Cameras) -> Tensor:
    """[4,S,S] straight colours and alpha, as the camera sees the splats."""
    seen = make_renderer(CPU).render(splats, camera, background=torch.zeros(1, 3))
    return torch.cat([seen.rgb / seen.alpha.clamp(min=1e-6), seen.alpha], -1)[0].movedim(-1, 0).detach()


def test_splats_are_not_moved_by_a_picture_of_themselves_and_others_are() -> None:
    camera = camera_of(ReferenceConfig(), CameraConfig(), size=SIZE)
    rgba = view(ball(0.5), camera)
    box = box_of(rgba[3])
    # Cut out at its own size and laid back, its pixels are where they were; what is cut off covers less than half.
    reference = PictureLoss(Picture(cut(rgba, size=round(box.side * SIZE)), camera), box)
    losses = []
    for colour in (0.5, -1.0):
        splats = ball(colour).requires_grad_()
        loss = reference.loss(splats, make_renderer(CPU), size=SIZE)
        loss.backward()
        losses.append((float(loss.detach()), float(splats.sh0.grad.abs().sum())))
    (own, still), (other, moved) = losses
    assert own < 0.02 * other and still < 0.2 * moved
    again = replace(reference, weight=3.0).loss(ball(-1.0), make_renderer(CPU), size=SIZE).detach()
    assert float(again) == pytest.approx(3 * other)


def test_the_camera_is_that_of_the_turntable_where_the_settings_leave_it() -> None:
    from splatdistill.scene.cameras import turntable

    ours, first = (
        camera_of(ReferenceConfig(), CameraConfig(), size=SIZE),
        turntable(CameraConfig(), num_frames=1, size=SIZE),
    )
    for name in ("viewmats", "Ks"):
        assert_within(getattr(ours, name), getattr(first, name), 2**-18)  # a few roundings of numbers up to 64
    aside = camera_of(ReferenceConfig(azimuth_deg=90.0, elevation_deg=0.0), CameraConfig(), size=SIZE)
    assert float(aside.azimuth) == pytest.approx(math.pi / 2)


def test_a_run_comes_nearer_to_its_picture_than_without(tmp_path: Path) -> None:
    rgb, _ = disc()
    config = replace(SMALL, image=str(saved(tmp_path / "disc.png", rgb)))
    shown = picture_of(config.image, config.reference, config.camera)
    away = []
    for weight in (0.0, 1.0):
        trainer = Trainer(replace(config, reference=ReferenceConfig(weight=weight)), prior=linear_prior(), device=CPU)
        for _ in range(15):
            trainer.advance(NoLog())
        away.append(float(PictureLoss(shown).loss(trainer.splats.detach(), trainer.renderer, size=SIZE).detach()))
    assert away[1] < 0.8 * away[0]  # in fifteen steps
