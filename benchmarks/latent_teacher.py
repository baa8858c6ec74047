"""A small latent diffusion model of our own in the layout of Stable Diffusion, trained on one core in under two hours.

    python benchmarks/latent_teacher.py --out build/latent

It is there to run the path of real teachers without a download: a VAE, a text encoder, view words, guidance 100. It
knows one model each of six nouns, rendered from the cameras of the family latent-512. OUT holds the renders, the
state of both trainings, which the same command goes on with, and `pipeline`, a diffusers folder for --prior. The models
are those of Debian's package sweethome3d-furniture.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import latent_networks
import numpy as np
import torch
from torch import Tensor, nn

from splatdistill.config import presets
from splatdistill.embedded.corpus.build import preview_cameras, select_models
from splatdistill.embedded.corpus.captions import tint
from splatdistill.embedded.corpus.dataset import BatchPlan, Corpus, Object
from splatdistill.embedded.corpus.furniture import load_mesh
from splatdistill.embedded.corpus.layout import BUFFERS, INDEX, Record, write_index
from splatdistill.embedded.corpus.render import Caster
from splatdistill.embedded.judge.images import prompt_of
from splatdistill.embedded.network_training import NetworkTrainer, PeriodicTask, falling_rate, run
from splatdistill.priors.precision import has_fast_bf16
from splatdistill.priors.prompts import seen_from
from splatdistill.scene.cameras import sample
from splatdistill.utils.rng import generator, key

MODELS = {
    "armchair": "Scopia/24", "lamp": "Scopia/56", "chicken": "BlendSwap-CC-0/94", "horse": "BlendSwap-CC-0/97",
    "table": "Scopia/61", "soccer ball": "BlendSwap-CC-BY/71",
}  # fmt: skip
"""By noun, of models whose renders both judges read as that noun, at 32 pixels too. The lamp, the table and the ball
look much alike from all sides.
"""
PALETTE = ("red", "green", "blue")
"""What is painted is painted so: the fewer words, the sooner a network of this size tells them apart."""
RINGS, SIZE, RAYS = 100, 64, 2
FRONT_DEG = (30.0, 45.0)
"""What the published configurations call the front: both, because VSD has the one and SDS the other."""
WITHOUT_VIEW, PAINTED, MIXED, WHITE = 0.05, 0.6, 0.25, 0.8
"""Shares of pictures: for prompts without view words, in a named colour, of two pictures, on white."""
MIXING = 0.5
"""Deviation of what is added to each weight of a channel in another, of recoloured pictures."""
MAX_SNR = 5.0
KL, HUE = 1e-5, 4.0
"""Weights in the loss of the autoencoder: without the second it gives up red and green for sharper edges."""


@dataclass(frozen=True)
class Settings:
    """Of one of the two trainings, as `embedded.network_training` reads them; it ends after `minutes`."""

    minutes: float
    batch: int = 16
    lr: float = 1e-3
    warmup: int = 100
    decay: float = 0.6
    ema: float = 0.998
    weight_decay: float = 1e-2
    max_images: int = 10**9
    seed: int = 0


class Pictures:
    """Batches of renders in drawn colours on drawn grounds, with captions as the product writes prompts."""

    def __init__(self, folder: Path, *, seed: int) -> None:
        self.corpus, self.seed = Corpus(folder, seed=seed), seed

    def draw(self, step: int, *, num_images: int, purpose: str) -> tuple[Tensor, list[str]]:
        """rgb [B,3,SIZE,SIZE] in -1..1 and B captions; a function of (seed, purpose, step)."""
        draw = random.Random(key(self.seed, step, purpose))  # noqa: S311 (nothing secret here)
        things = [draw.choice(self.corpus.objects) for _ in range(num_images)]
        rows = [draw.randrange(4 * thing.rings) for thing in things]
        colours = [draw.choice(PALETTE) if t.paintable and draw.random() < PAINTED else None for t in things]
        tints = torch.full((num_images, 3, 3), math.nan)
        for place, colour in enumerate(colours):
            if colour:
                tints[place, 0] = torch.from_numpy(tint(colour, draw))
        plan = BatchPlan(
            rows=torch.tensor([t.first + r for t, r in zip(things, rows, strict=True)]), tints=tints,
            luminance=torch.tensor([t.luminance for t in things]), ground=torch.tensor(_grounds(num_images, draw)),
            captions=[_caption(*of, draw) for of in zip(things, rows, colours, strict=True)],
            camera=torch.zeros(num_images, 16), views=1,
        )  # fmt: skip
        painted = self.corpus.paint(plan, size=SIZE)
        return painted.rgb.permute(0, 3, 1, 2) * 2 - 1, painted.captions

    def recoloured(self, step: int, *, num_images: int) -> Tensor:
        """rgb [B,3,SIZE,SIZE] in -1..1: mixtures of two pictures, half of them with one weight 0, whose channels are
        mixed at random around the ground in the corner.
        """
        rgb, _ = self.draw(step, num_images=2 * num_images, purpose="recoloured")
        draw = torch.Generator().manual_seed(key(self.seed, step, "recoloured"))
        share = torch.rand(num_images, 1, 1, 1, generator=draw) - 0.5
        rgb = torch.lerp(rgb[:num_images], rgb[num_images:], share.clamp(min=0))
        mixing = torch.eye(3) + MIXING * torch.randn(num_images, 3, 3, generator=draw)
        ground = rgb[:, :, :1, :1]
        return (ground + torch.einsum("bij,bjhw->bihw", mixing, rgb - ground)).clamp(-1, 1)


def _grounds(number: int, draw: random.Random) -> list[list[float]]:
    """White or gray: with grounds of all colours the networks take several times as long."""
    return [[1.0] * 3 if draw.random() < WHITE else [draw.uniform(0.3, 0.95)] * 3 for _ in range(number)]


def _caption(thing: Object, row: int, colour: str | None, draw: random.Random) -> str:
    text = prompt_of(thing.record.noun, colour)
    if draw.random() < WITHOUT_VIEW:
        return text
    off_front = abs(math.degrees(thing.record.azimuth[row]))
    front = draw.choice(FRONT_DEG)
    return seen_from(text, "front" if off_front < front else "back" if off_front > 180 - front else "side")


def render(out: Path, *, furniture: str | None, seed: int = 0) -> None:
    """Writes a corpus of RINGS times four views of each of MODELS, from the cameras that the family draws."""
    camera = presets.load("sds", family="latent-512")[0].camera
    wanted = {key_: noun for noun, key_ in MODELS.items()}
    buffers, records = [], []
    for noun, model, yaw in select_models(furniture):
        if wanted.get(model.key) != noun.name:
            continue
        draw = generator(seed, key(seed, 0, noun.name), "camera")
        cameras = sample(camera, num_views=4 * RINGS, size=SIZE, generator=draw)
        caster = Caster(load_mesh(model, yaw_deg=yaw))
        paint, shares = caster.choose_paint(preview_cameras())
        buffers.append(caster.gbuffer(cameras, paint=paint, rays=RAYS))
        known = {"noun": noun.name, "key": model.key, "paint_share": round(shares[0], 4)}
        records.append(Record.make(cameras, first=4 * RINGS * len(records), **known))
        print(f"{noun.name}: {len(buffers[-1])} pictures", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    np.save(out / BUFFERS, np.concatenate(buffers))
    (out / INDEX).write_text(json.dumps(write_index(records, size=SIZE, seed=seed, toys={})))


class _Trainer(NetworkTrainer):
    """What both trainings do alike."""

    config: Settings

    def __init__(self, settings: Settings, parts: nn.Module, pictures: Pictures) -> None:
        self.pictures, self.bf16 = pictures, has_fast_bf16()
        self.optimise(parts.to(memory_format=torch.channels_last), settings)  # type: ignore[call-overload]

    @property
    def done(self) -> float:
        return min(self.seconds / (60 * self.config.minutes), 1.0)

    def learning_rate(self) -> float:
        return falling_rate(self.config, step=self.step, done=self.done)

    def autocast(self) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.bf16)

    def follow(self, out: Path, *, tasks: Sequence[PeriodicTask] = ()) -> None:
        """Trains for what is left of the minutes, from the state in `out` where there is one."""
        out.mkdir(parents=True, exist_ok=True)
        if (out / self.state_file).exists():
            self.restore(out)
        save = PeriodicTask(5.0, lambda: self.save(out))
        run(self, out=out, minutes=self.config.minutes - self.seconds / 60, tasks=[save, *tasks])
        if self.done < 0.9:  # a signal; saving, too, takes of the minutes
            raise SystemExit("Stopped; the same command goes on.")


class AutoencoderTrainer(_Trainer):
    """Pictures to latents and back, and for robustness mixtures of two pictures, which early renders are like."""

    def losses(self) -> dict[str, Tensor]:
        rgb, _ = self.pictures.draw(self.step, num_images=self.config.batch, purpose="autoencoder")
        draw = torch.Generator().manual_seed(key(self.config.seed, self.step, "mixed"))
        share = torch.rand(len(rgb), 1, 1, 1, generator=draw) * (torch.rand(len(rgb), 1, 1, 1, generator=draw) < MIXED)
        rgb = torch.lerp(rgb, rgb.roll(1, 0), share).contiguous(memory_format=torch.channels_last)
        vae: Any = self.parts
        with self.autocast():
            posterior = vae.encode(rgb).latent_dist
            found = vae.decode(posterior.sample(draw)).sample
        error = found.float() - rgb
        hue = (error - error.mean(1, keepdim=True)).abs().mean()
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        loss = error.abs().mean() + error.square().mean() + HUE * hue + KL * kl
        return {"loss": loss, "l1": error.abs().mean(), "hue": hue, "kl": kl}


class DenoiserTrainer(_Trainer):
    """The UNet and the text encoder, on v of the latents of a trained autoencoder."""

    def __init__(self, settings: Settings, pictures: Pictures, *, vae: Any, words: Any, scheduler: Any) -> None:
        torch.manual_seed(settings.seed)
        self.unet, self.text = latent_networks.unet(), latent_networks.text_encoder(words)
        self.vae, self.words, self.signal_power = vae, words, scheduler.alphas_cumprod
        super().__init__(settings, nn.ModuleDict({"unet": self.unet, "text": self.text}), pictures)

    def losses(self) -> dict[str, Tensor]:
        """[] mean of min(1, MAX_SNR / (SNR + 1)) |v - v_hat|^2, the squared error of x0 times min(SNR + 1, MAX_SNR).

        Each picture is there twice, with its caption and with none, under one noise: what the draw does to both is the
        same, and hardly reaches their difference, which guidance multiplies by 100. A quarter are recoloured pictures
        without a caption: from colours that no object has, the difference then leads back to those of the caption.
        """
        draw = torch.Generator().manual_seed(key(self.config.seed, self.step, "denoise"))
        pairs = 3 * self.config.batch // 8
        rgb, captions = self.pictures.draw(self.step, num_images=pairs, purpose="denoiser")
        rgb = torch.cat([rgb, self.pictures.recoloured(self.step, num_images=self.config.batch - 2 * pairs)])
        with torch.no_grad(), self.autocast():
            x0 = self.vae.encode(rgb.contiguous(memory_format=torch.channels_last)).latent_dist.mode().float()
        x0 = x0 * self.vae.config["scaling_factor"]
        t = (len(self.signal_power) * torch.rand(len(x0), generator=draw) ** 0.75).long()
        noise = torch.randn(x0.shape, generator=draw)
        x0, t, noise = (torch.cat([of, of[:pairs]]) for of in (x0, t, noise))
        captions = [""] * (len(x0) - pairs) + captions
        kept = self.signal_power[t].view(-1, 1, 1, 1)
        alpha, sigma = kept.sqrt(), (1 - kept).sqrt()
        known = {text: place for place, text in enumerate(dict.fromkeys(captions))}
        ids = self.words(list(known), padding="max_length", truncation=True, return_tensors="pt")["input_ids"]
        xt = (alpha * x0 + sigma * noise).contiguous(memory_format=torch.channels_last)
        with self.autocast():
            states = self.text(ids).last_hidden_state[[known[text] for text in captions]]
            found = self.unet(xt, t, states, return_dict=False)[0]
        weight = (MAX_SNR * (1 - kept)).clamp(max=1)
        return {"loss": (weight * (found.float() - (alpha * noise - sigma * x0)).square()).mean()}


def train(out: Path, *, furniture: str | None, vae_minutes: float, minutes: float) -> Path:
    """The folder of the trained pipeline."""
    if not (out / "renders" / INDEX).exists():
        render(out / "renders", furniture=furniture)
    pictures = Pictures(out / "renders", seed=0)
    torch.manual_seed(0)
    first = AutoencoderTrainer(Settings(vae_minutes, batch=8, lr=2e-4, ema=0.995), latent_networks.vae(), pictures)
    first.follow(out / "autoencoder")
    words = latent_networks.tokenizer(out / "words", [prompt_of(noun, c) for noun in MODELS for c in (None, *PALETTE)])
    scheduler = latent_networks.scheduler()
    with first.averaged():
        vae: Any = first.parts.requires_grad_(False)
        latents = vae.encode(pictures.draw(0, num_images=256, purpose="scale")[0]).latent_dist.mode()
        vae.register_to_config(scaling_factor=1 / float(latents.std()))
        second = DenoiserTrainer(Settings(minutes), pictures, vae=vae, words=words, scheduler=scheduler)

        def export() -> None:
            with second.averaged():
                latent_networks.save(out / "pipeline", vae, second.unet, second.text, words, scheduler)

        second.follow(out / "denoiser", tasks=[PeriodicTask(5.0, export)])
    about = {"vae": asdict(first.config), "denoiser": asdict(second.config)}
    seen = {"vae_images": first.images, "denoiser_images": second.images, "bf16": second.bf16, "models": MODELS}
    (out / "training.json").write_text(json.dumps({**about, **seen}, indent=1) + "\n")
    return out / "pipeline"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--furniture", help="folder of .sh3f files (default: where Debian puts them)")
    parser.add_argument("--vae-minutes", type=float, default=6.0)
    parser.add_argument("--minutes", type=float, default=90.0, help="of the UNet and the text encoder")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(train(args.out, furniture=args.furniture, vae_minutes=args.vae_minutes, minutes=args.minutes))


if __name__ == "__main__":
    main()
