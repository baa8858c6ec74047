"""Trains the embedded prior, on a CPU or one GPU; the same command continues a run.

`python -m splatdistill.embedded.prior.pretrain --corpus DIR_OR_PACK --out DIR --recipe small`
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from splatdistill.embedded.corpus.dataset import Corpus
from splatdistill.embedded.network_training import PeriodicTask, run
from splatdistill.embedded.prior import architecture as network
from splatdistill.embedded.prior.denoiser import DenoiserConfig, DenoiserTrainer, warm_start
from splatdistill.embedded.prior.samples import sample_grid

RECIPES = {
    "small": DenoiserConfig(),  # hours on a CPU
    # One GPU, in runs of some minutes: `max_images` is to be set from the speed that the log shows.
    "full": DenoiserConfig(batch=512, max_images=6_000_000, ema=0.999),
}


def export(trainer: DenoiserTrainer, out: Path) -> None:
    """Saves the state and the averaged weights as a diffusers folder `prior`."""
    trainer.save(out)
    with trainer.averaged():
        network.save(trainer.networks, out / "prior", image_size=trainer.config.resolution, nouns=trainer.corpus.nouns)


def draw_samples(trainer: DenoiserTrainer, out: Path) -> None:
    """A picture of samples, four views a prompt."""
    (out / "samples").mkdir(exist_ok=True)
    with trainer.averaged():
        sample_grid(trainer.prior(), out / "samples" / f"{trainer.images:08d}.png")


def tasks(trainer: DenoiserTrainer, out: Path, *, save_minutes: float, sample_minutes: float) -> list[PeriodicTask]:
    """What a run does beside training. Samples are left out where a signal ends it: who stops a run wants it to end."""
    save = PeriodicTask(save_minutes, lambda: export(trainer, out))
    return [save, PeriodicTask(sample_minutes, lambda: draw_samples(trainer, out), after_signal=False)]


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 1 with one sentence on stderr."""
    args = _parse(sys.argv[1:] if argv is None else argv)
    config = DenoiserConfig(**{name: getattr(args, name) for name in asdict(DenoiserConfig())})
    try:
        trainer = prepare(
            config, corpus=args.corpus, out=args.out, warm=args.warm_start, device=args.device, compiled=args.compile
        )
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    args.out.mkdir(parents=True, exist_ok=True)
    about = {
        **asdict(config), "corpus": args.corpus.name, "warm_start": args.warm_start is not None,
        "device": args.device, "num_objects": len(trainer.corpus.objects), "bf16": trainer.bf16,
        "torch": torch.__version__,
        "machine": torch.cuda.get_device_name() if trainer.device.type == "cuda" else platform.machine(),
    }  # fmt: skip
    (args.out / "config.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
    millions = sum(p.numel() for p in trainer.parameters.values()) / 1e6
    print(f"{millions:.2f} M parameters, {len(trainer.corpus.objects)} objects, step {trainer.step}", flush=True)
    todo = tasks(trainer, args.out, save_minutes=args.save_minutes, sample_minutes=args.sample_minutes)
    run(trainer, out=args.out, minutes=args.minutes, tasks=todo)
    return 0


def prepare(
    config: DenoiserConfig, *, corpus: Path, out: Path, warm: Path | None, device: str, compiled: bool = False
) -> DenoiserTrainer:
    """A trainer that begins, or continues the run in `out`. ValueError, one sentence, where it cannot."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch sees no CUDA device here.")
    pictures = Corpus(corpus, seed=config.seed)
    if pictures.buffers.shape[1] % config.resolution:
        raise ValueError(f"--resolution must divide the corpus's {pictures.buffers.shape[1]} pixels.")
    if config.batch % network.NUM_VIEWS:
        raise ValueError(f"--batch must be a multiple of {network.NUM_VIEWS}.")
    if device.startswith("cuda"):
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
    torch.manual_seed(config.seed)
    networks = network.create(nouns=pictures.nouns)
    continues = (out / DenoiserTrainer.state_file).exists()
    if warm and not continues:
        warm_start(networks, warm)
    trainer = DenoiserTrainer(
        config, networks=networks, corpus=pictures, device=torch.device(device), compiled=compiled
    )
    if continues:
        trainer.restore(out)
    return trainer


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m splatdistill.embedded.prior.pretrain", description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True, help="folder or pack of `splatdistill.embedded.corpus`")
    parser.add_argument(
        "--out", type=Path, required=True, help="run folder: state, loss.jsonl, samples, exported prior"
    )
    parser.add_argument("--recipe", choices=tuple(RECIPES), default="small", help="defaults of what follows")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--warm-start", type=Path, help="exported prior to begin a new run from")
    parser.add_argument("--compile", action="store_true", help="minutes of compiling for steps a quarter faster")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after this time")
    parser.add_argument("--save-minutes", type=float, default=5.0)
    parser.add_argument("--sample-minutes", type=float, default=10.0)
    for name, value in asdict(DenoiserConfig()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value))
    recipe = RECIPES[parser.parse_known_args(argv)[0].recipe]
    parser.set_defaults(**asdict(recipe))
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
