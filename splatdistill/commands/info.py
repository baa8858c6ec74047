"""What there is: `vocab`, `prior` and `info`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from splatdistill.commands.common import DONE, print_table


@dataclass(frozen=True)
class Vocab:
    """List the objects and colours that a prior knows."""

    prior: str = "embedded"
    """The teacher: embedded, or a folder with a model like it."""
    stats: bool = False
    """Count what it knows instead."""


def vocab(flags: Vocab) -> int:
    from splatdistill.priors import SHIPPED
    from splatdistill.priors.vocabulary import Vocabulary

    vocabulary = Vocabulary.load(SHIPPED.get(flags.prior) or Path(flags.prior))
    if flags.stats:
        print_table(vocabulary.stats())
        return DONE
    for title, table in (("Objects", vocabulary.nouns), ("Colours", vocabulary.colours)):
        print(f"{title}:")
        for word in sorted(table):
            print(f"  {word}" + (f" ({', '.join(table[word])})" if table[word] else ""))
    return DONE


@dataclass(frozen=True)
class PriorFlags:
    """List the diffusion models that --prior has names for, or check one: what it is, what it needs, one step."""

    action: Positional[Literal["list", "check"]]
    """list names them and needs no weights; check loads one."""
    name: Positional[str] = ""
    """With check: whatever --prior of train takes."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of the network; auto takes bf16 on a GPU and where the processor is faster with it."""
    max_memory: float = 0.0
    """Most memory in GB that the model may take on a GPU; 0 is all of it."""
    encoder: str = ""
    """With check: what encodes pictures in place of the model's VAE, as --encoder of train."""
    lora: tuple[str, ...] = ()
    """With check: LoRAs that are added to the model, as --lora of train."""
    prior_size: int = 0
    """With check: side in pixels of the pictures that the model sees, as --prior-size of train."""


def prior(flags: PriorFlags) -> int:
    if (flags.action == "check") != bool(flags.name):
        raise ValueError("prior: say `prior list`, or `prior check NAME` with the name of one.")
    for field in ("max_memory", "prior_size"):
        if (value := getattr(flags, field)) < 0:
            raise ValueError(f"{field} must not be negative; it is {value:g}.")
    from splatdistill.priors import check

    if flags.action == "list":
        print("\n".join(check.table()))
        print("GB: memory for SDS with four views in bf16, estimated and not measured.")
        return DONE
    from splatdistill.utils.device import pick_device

    device = pick_device(flags.device)
    settings: dict[str, Any] = {"dtype": flags.dtype, "max_memory": flags.max_memory, "encoder": flags.encoder}
    settings |= {"image_size": flags.prior_size, "loras": flags.lora}
    found = check.describe(flags.name, device=device, **settings)
    print_table(found)
    return DONE


@dataclass(frozen=True)
class Info:
    """Print versions, devices and how the extension was built."""


def info(flags: Info) -> int:
    import torch

    from splatdistill import ops
    from splatdistill.io.video import has_encoder
    from splatdistill.priors import EMBEDDED, engine, precision
    from splatdistill.utils import cpu
    from splatdistill.utils.provenance import commit, versions

    lines = {**versions(), "commit": commit() or "none", "processor": cpu.processor()}
    lines |= {"threads": torch.get_num_threads(), "threads wait": cpu.waiting_policy()}
    lines |= {"dtype auto on cpu": precision.measured()}
    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    lines |= {"devices": ", ".join(["cpu", *cuda]), "ffmpeg": "found" if has_encoder() else "not found"}
    lines |= {"onnxruntime": "found" if engine.installed() else "not found"}
    lines |= {"embedded prior": "found" if (EMBEDDED / "splatdistill.json").exists() else "not found"}
    built = ops.build_info()
    level = level_in_words(
        built["simd_level"], levels=built.get("simd_levels", ()), wanted=os.environ.get("SPLATDISTILL_SIMD")
    )
    lines |= {f"extension {key}": value for key, value in (built | {"simd_level": level}).items()}
    print_table(lines)
    return DONE


def level_in_words(level: str, *, levels: Sequence[str], wanted: str | None) -> str:
    """The instruction-set level in use, and why if it is not the best: a slow machine must not be a riddle.

    levels: those that the extension was built with. wanted: what SPLATDISTILL_SIMD names.
    """
    if wanted and wanted != level:
        return f"{level}; the processor lacks {wanted}, which SPLATDISTILL_SIMD names"
    if level == "generic" and not wanted and len(levels) > 1:
        return "generic; the processor is below AVX2 (x86-64-v3), so the operators run slower"
    return level
