"""Any bytes for every reader: `python -m tests.security.fuzz TARGET FOLDER --runs N --seconds S`, with atheris.

Each target takes bytes and says whether they were accepted; all but one kind of error is a foreign one, and ends the
fuzzer. FOLDER keeps what was found on the way, and counts.json.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from splatdistill.batch import plan
from splatdistill.config import presets, settings, validation, yaml_reader
from splatdistill.config.schema import TrainConfig
from splatdistill.io import formats, names, ply
from splatdistill.io.kinds import READ
from splatdistill.scene.gaussians import FIELDS

SEEDS = Path(__file__).with_name("seeds")
Target = Callable[[bytes], bool]
_FOLDER = tempfile.TemporaryDirectory(prefix="splatdistill-fuzz")


def _path(data: bytes, suffix: str) -> Path:
    path = Path(_FOLDER.name) / f"any.{suffix}"
    path.write_bytes(data)
    return path


def _reader(kind: str) -> Target:
    def read(data: bytes) -> bool:
        path = _path(data, kind)
        try:
            splats = formats.read(path)
        except (ply.PlyError, formats.FormatError) as error:
            return _refused(error, path)
        assert len(splats) > 0 and all(torch.isfinite(splats.tensors[name]).all() for name in FIELDS)
        return True

    return read


def points(data: bytes) -> bool:
    """A coloured point cloud."""
    path = _path(data, "ply")
    try:
        places, colors = ply.read_points(path)
    except ply.PlyError as error:
        return _refused(error, path)
    assert torch.isfinite(places).all() and 0 <= colors.min() <= colors.max() <= 1
    return True


def config(data: bytes) -> bool:
    """A file of settings, for the method that it names."""
    path = _path(data, "yaml")
    try:
        method = yaml_reader.read(path).get("method", "sds")
        config, _ = presets.load(method, file=path)
        validation.validate(replace(config, prompt=config.prompt or "a ball"))
    except ValueError as error:
        return _refused(error)
    again = settings.merge(TrainConfig(method=config.method), _reread(settings.to_yaml(config)), where="again")
    assert settings.flatten(again) == settings.flatten(config)
    return True


def prompts(data: bytes) -> bool:
    """A file of prompts, and the runs that it asks for."""
    path = _path(data, "yaml")
    try:
        file = plan.read(path)
        plan.jobs(file, method=None, base=lambda method, _: presets.load(method or "sds")[0])
    except plan.BadLines as error:
        return any(_refused(ValueError(sentence), path) for sentence in error.sentences)
    except ValueError as error:
        return _refused(error, path)
    return True


def prompt(data: bytes) -> bool:
    """A prompt, and a name for a run."""
    text = data.decode("utf-8", errors="surrogateescape")
    config = TrainConfig(prompt=text)
    assert re.fullmatch(r"[a-z0-9-]{1,64}-[0-9a-f]{8}", names.run_name(text, {"prompt": text}))
    try:
        assert (Path("/out") / names.check_name(text)).resolve().parent == Path("/out")
    except ValueError as error:
        _refused(error)
    try:
        validation.validate(config)
    except ValueError as error:
        return _refused(error)
    assert _reread(settings.to_yaml(config))["prompt"] == text
    return True


def _reread(text: str) -> dict[str, object]:
    return yaml_reader.read(_path(text.encode(), "again.yaml"))


def _refused(error: ValueError, path: Path | None = None) -> bool:
    """False. What is said must be our own: one short sentence that names the file where there is one."""
    said = str(error)
    assert type(error) is ValueError or type(error).__module__.startswith("splatdistill."), type(error)
    assert "\n" not in said and len(said) < 600 and said[-1] in ".?" and str(path or "") in said, said
    return False


TARGETS: dict[str, Target] = {**{kind: _reader(kind) for kind in READ}}
TARGETS |= {"points": points, "config": config, "prompt": prompt, "prompts": prompts}


def main(args: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    flags = parser.parse_args(args)
    torch.set_num_threads(1)
    import atheris

    target = TARGETS[flags.target]
    counts = {"executions": 0, "accepted": 0, "slowest_refusal_s": 0.0}
    flags.folder.mkdir(parents=True, exist_ok=True)

    def once(data: bytes) -> None:
        begun = time.process_time()
        accepted = target(data)
        counts["executions"] += 1
        counts["accepted"] += accepted
        if not accepted:
            counts["slowest_refusal_s"] = max(counts["slowest_refusal_s"], time.process_time() - begun)
        if counts["executions"] % 500 == 0 or counts["executions"] == flags.runs:  # the fuzzer ends without a farewell
            (flags.folder / "counts.json").write_text(json.dumps(counts))

    for module in (
        formats,
        formats.signatures,
        formats.antimatter,
        formats.compressed_ply,
        formats.glb,
        formats.ksplat,
        formats.sog,
        formats.spz,
        ply,
        sys.modules["splatdistill.io.ply_header"],
        names,
        presets,
        settings,
        validation,
        sys.modules["splatdistill.config.yaml_reader"],
    ):
        for name, value in list(vars(module).items()):
            if getattr(value, "__module__", None) == module.__name__ and type(value) is type(main):
                setattr(module, name, atheris.instrument_func(value))
    seeds = SEEDS / flags.target
    limits = [f"-runs={flags.runs}", f"-max_total_time={flags.seconds}", f"-seed={flags.seed}", "-max_len=8192"]
    quiet = ["-verbosity=0", f"-artifact_prefix={flags.folder}/", "-timeout=20", "-rss_limit_mb=4096"]
    atheris.Setup([sys.argv[0], *limits, *quiet, str(flags.folder), str(seeds)], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
