"""Prompts as the pipelines of diffusers read them: the pipeline itself does it, with its templates and instructions.

Several put an instruction before a prompt, but none before what guidance pushes away from. So "" is read as their
negative prompt, and every other prompt, also one to push away from, as a description.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import diffusers
from torch import Tensor

from splatdistill.priors.text_encoders import TextEncoders, encode_sd3

Read = tuple[Sequence[Tensor], Tensor | None]
"""Tokens [T,D] of each prompt, without padding where it is left out; and pooled [P,W] or None."""


def read_sd3(encoders: TextEncoders, prompts: Sequence[str], *, config: Any) -> tuple[Tensor, Tensor]:
    """Stable Diffusion 3: states [P,T,D] and projections [P,W]."""
    return encode_sd3(encoders, prompts, width=config["joint_attention_dim"])


def read_masked(name: str, encoders: TextEncoders, prompts: Sequence[str], *, config: Any) -> Read:
    """PixArt-Sigma, Lumina and SANA: states of the tokens that their mask keeps."""
    pipeline, found = _pipeline(name, encoders), []
    call = inspect.signature(pipeline.__call__).parameters
    instruction = {key: call[key].default for key in ("complex_human_instruction",) if key in call}
    for prompt in prompts:
        both = pipeline.encode_prompt(prompt, negative_prompt="", **instruction)
        states, mask = both[:2] if prompt else both[2:]
        found.append(states[0][mask[0].bool()])
    return found, None


def read_z_image(encoders: TextEncoders, prompts: Sequence[str], *, config: Any) -> Read:
    """Z-Image: states of the last layer but one, without padding."""
    pipeline = _pipeline("ZImagePipeline", encoders)
    return pipeline.encode_prompt(list(prompts), do_classifier_free_guidance=False)[0], None


def read_flux2(encoders: TextEncoders, prompts: Sequence[str], *, config: Any) -> Read:
    """FLUX.2 klein: states of three layers side by side, of all tokens, padding too."""
    return _pipeline("Flux2KleinPipeline", encoders).encode_prompt(list(prompts))[0], None


def read_qwen(encoders: TextEncoders, prompts: Sequence[str], *, config: Any) -> Read:
    """Qwen-Image: states of the last layer after its template."""
    pipeline = _pipeline("QwenImagePipeline", encoders)
    most = inspect.signature(pipeline.__call__).parameters["max_sequence_length"].default
    return [pipeline.encode_prompt(prompt, max_sequence_length=most)[0][0] for prompt in prompts], None


def _pipeline(name: str, encoders: TextEncoders) -> Any:
    """A pipeline with its text encoder alone."""
    kind: Any = getattr(diffusers, name)
    parts: dict[str, Any] = {part: None for part in kind._get_signature_keys(kind)[0]}
    encoder = encoders["text_encoder"]
    return kind(**parts | {"text_encoder": encoder.model, "tokenizer": encoder.tokenizer})
