"""What there is: `vocab`, `prior` and `info`; and `cache`, what is kept of it."""

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


PICTURES = (".png", ".jpg", ".webp")
"""How files of pictures may end."""


@dataclass(frozen=True)
class PriorFlags:
    """List the diffusion models that --prior has names for, check one (what it is, what it needs, one step), or draw
    pictures with it.
    """

    action: Positional[Literal["list", "check", "sample"]]
    """list names them and needs no weights; check and sample load one."""
    name: Positional[str] = ""
    """With check and sample: what --prior of train takes."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of the network; auto takes bf16 on a GPU and where the processor is faster with it."""
    max_memory: float = 0.0
    """Most memory in GB that the model may take on a GPU; 0 is all of it."""
    encoder: str = ""
    """Not with list: what encodes pictures in place of the model's VAE, as --encoder of train."""
    lora: tuple[str, ...] = ()
    """Not with list: LoRAs that are added to the model, as --lora of train."""
    prior_size: int = 0
    """Not with list: side in pixels of the pictures that the model sees, as --prior-size of train."""
    prompt: str = ""
    """With sample: what to draw."""
    negative_prompt: str = ""
    """With sample: what to draw nothing of."""
    guidance_scale: float | None = None
    """With sample: how much the prompt counts, in the form eps_u + s (eps_c - eps_u). If not given, the usual one of
    the model's family, which is 1 for the shipped prior.
    """
    steps: int = 30
    """With sample: of the sampler."""
    seed: int = 0
    """With sample: of the noise."""
    output: Path = Path("sample.png")
    """With sample: the file, with the views of one object side by side where the model sees several at once."""


def prior(flags: PriorFlags) -> int:
    if (flags.action != "list") != bool(flags.name):
        raise ValueError("prior: say `prior list`, or `prior check NAME` or `prior sample NAME` with the name of one.")
    if flags.action == "sample" and not flags.prompt.strip():
        raise ValueError('prompt is empty; say what to draw, for example --prompt "a red armchair".')
    if flags.output.suffix.lower() not in PICTURES:
        raise ValueError(f"output: {flags.output} must end in {', '.join(PICTURES[:-1])} or {PICTURES[-1]}.")
    if flags.steps < 1:
        raise ValueError(f"steps must be at least 1; it is {flags.steps}.")
    for field in ("max_memory", "prior_size", "seed"):
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
    if flags.action == "check":
        print_table(check.describe(flags.name, device=device, **settings))
        return DONE
    from splatdistill.config import presets
    from splatdistill.priors import families

    scale = flags.guidance_scale
    if scale is None:
        scale = presets.sampling_guidance(families.family_of(flags.name))
    if flags.negative_prompt and scale == 1:
        raise ValueError("negative_prompt: at a guidance scale of 1 it counts for nothing; name a --guidance-scale.")
    import torch

    from splatdistill import priors
    from splatdistill.io.video import write_image
    from splatdistill.priors.base import Choice
    from splatdistill.priors.sampling import sample

    pictures = sample(
        priors.load(flags.name, device=device, **settings), Choice(flags.prompt, seed=flags.seed),
        negative_prompt=flags.negative_prompt, guidance_scale=scale, steps=flags.steps, device=device,
    )  # fmt: skip
    write_image(flags.output, torch.cat(list(pictures), 1))
    print(flags.output)
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
    level = level_in_words(built["simd_level"], levels=built["simd_levels"], wanted=os.environ.get("SPLATDISTILL_SIMD"))
    lines |= {f"extension {key}": value for key, value in (built | {"simd_level": level}).items()}
    print_table(lines | kept())
    return DONE


def kept() -> dict[str, str]:
    """What lies in caches, in words: in ours by kind, and what torch has compiled of gsplat."""
    from splatdistill.io import cache
    from splatdistill.rendering.renderer import compiled_kernels

    lines = {"cache": str(cache.cache_folder())} | {f"cache {held.what}": str(held) for held in cache.contents()}
    for folder in compiled_kernels():
        lines[f"gsplat kernels, {folder.parent.name}"] = f"{folder} ({cache.size(folder)[1] / 1e6:.2f} MB; torch's)"
    return lines


@dataclass(frozen=True)
class Cache:
    """Remove what splatdistill keeps to save time: `splatdistill info` names and sizes it. Runs make it anew. Weights
    from the Hugging Face hub are none of it, nor are gsplat's kernels, which torch compiles.
    """

    action: Positional[Literal["clear"]]


def cache(flags: Cache) -> int:
    from splatdistill.io import cache

    before = sum(held.num_bytes for held in cache.contents())
    cache.clear()
    print(f"{cache.cache_folder()}: {before / 1e6:.2f} MB removed.")
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
