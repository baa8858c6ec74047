"""Trains the refiner, for minutes or days: the same command goes on from the state in --out.

`python -m splatdistill.embedded.prior.train_refiner --corpus DIR --features DIR --out DIR --warm-start PRIOR`
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import safe_open

from splatdistill.embedded.corpus.dataset import read_source
from splatdistill.embedded.corpus.layout import TEST_RINGS, read_index
from splatdistill.embedded.network_training import AVERAGE, PeriodicTask, run
from splatdistill.embedded.prior.refiner import RefineConfig, RefineTrainer, create
from splatdistill.embedded.prior.rings import VIEWS, Rings, render_features
from splatdistill.priors.gbuffer import CHANNELS
from splatdistill.priors.instances import Instances

WARM = Path(__file__).with_name("weights")


def prepare(config: RefineConfig, *, rings: Sequence[Rings], out: Path, warm: Path) -> RefineTrainer:
    """A trainer that begins, or continues the run in `out`. ValueError, one sentence, where it cannot."""
    torch.manual_seed(config.seed)
    refiner = create(warm)
    if refiner.fine is None and (len(rings) > 1 or _trained_fine(out)):
        refiner.add_fine()
    trainer = RefineTrainer(config, refiner=refiner, rings=rings)
    if (out / RefineTrainer.state_file).exists():
        trainer.restore(out)
    elif (out / AVERAGE).exists():
        trainer.restore_average(out)
    return trainer


def _trained_fine(out: Path) -> bool:
    """Whether the run in a folder has layers for fine pictures."""
    for path in (out / AVERAGE).glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            if any(name.startswith("fine.") for name in file.keys()):
                return True
    return False


def add_sources(parser: argparse.ArgumentParser, *, meshes: bool = True) -> None:
    """The arguments that `read_rings` reads. meshes: they are needed whether there are features or not."""
    parser.add_argument("--corpus", type=Path, required=True, nargs="+", help="what `corpus build` or `pack` wrote")
    parser.add_argument("--instances", type=Path, required=meshes, help="folder of meshes that `fit --pack` wrote")
    parser.add_argument(
        "--features",
        type=Path,
        nargs="+",
        help="folder that `embedded.prior.rings` wrote (else they are rendered now), of each corpus",
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda, without --features")
    parser.add_argument("--rings", type=int, default=13, help="that are rendered of each model at most, likewise")
    parser.add_argument("--test-rings", type=int, default=TEST_RINGS, help="of each model, that are not trained on")


def read_rings(args: argparse.Namespace, *, seed: int) -> list[Rings]:
    """Those of each corpus and of its features on disk, the smaller pictures first; or of one corpus, rendered now from
    its cameras in half its size and in its own.
    """
    if args.features:
        if len(args.features) != len(args.corpus):
            raise ValueError(f"--features: {len(args.features)} folders for {len(args.corpus)} of --corpus; give both.")
        return [Rings.open(*pair, seed=seed) for pair in zip(args.corpus, args.features, strict=True)]
    if len(args.corpus) > 1:
        raise ValueError("--corpus: several of them need --features, one for each.")
    if not args.instances:
        raise ValueError("One of --features and --instances is needed: what shows the known meshes.")
    index, pixels = read_source(args.corpus[0])
    device, records, instances = torch.device(args.device), read_index(index), Instances.load(args.instances)
    buffers = torch.from_numpy(pixels).to(device)
    rings = range(min(args.rings, *(len(r.azimuth) // VIEWS for r in records)))
    out = []
    for size in (index["size"] // 2, index["size"]):
        shape = (len(instances.known) * len(rings) * VIEWS, size, size, CHANNELS)
        features = torch.empty(shape, dtype=torch.uint8, device=device)
        render_features(records, instances, features, rings=rings)
        out.append(
            Rings(buffers, features, records=records, known=instances.known, rings=rings, seed=seed,
                  test_rings=args.test_rings)
        )  # fmt: skip
    return out


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 1 with one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m splatdistill.embedded.prior.train_refiner", description=__doc__)
    add_sources(parser, meshes=False)
    parser.add_argument("--out", type=Path, required=True, help="run folder: state and loss.jsonl")
    parser.add_argument("--warm-start", type=Path, default=WARM, help="exported prior to begin a new run from")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after this time")
    parser.add_argument("--fall-by-time", action="store_true", help="the learning rate reaches 0 then")
    parser.add_argument("--save-minutes", type=float, default=5.0)
    for name, value in asdict(RefineConfig()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    args = parser.parse_args(argv)
    config = RefineConfig(**{name: getattr(args, name) for name in asdict(RefineConfig())})
    try:
        rings = read_rings(args, seed=config.seed)
        trainer = prepare(config, rings=rings, out=args.out, warm=args.warm_start)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    args.out.mkdir(parents=True, exist_ok=True)
    millions = sum(p.numel() for p in trainer.parameters.values()) / 1e6
    print(f"{millions:.2f} M parameters, {len(trainer.rings.known)} models, step {trainer.step}", flush=True)

    def save() -> None:
        trainer.save_average(args.out)
        trainer.save(args.out)

    task = PeriodicTask(args.save_minutes, save)
    run(trainer, out=args.out, minutes=args.minutes, tasks=[task], fall_by_time=args.fall_by_time)
    return 0


if __name__ == "__main__":
    sys.exit(main())
