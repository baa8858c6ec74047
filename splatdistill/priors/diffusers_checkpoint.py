"""A diffusers folder: checked by its small files before any weight is read, loaded part by part, never run as code."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import torch
import transformers
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError, safe_open
from transformers import AutoTokenizer, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from splatdistill.io.foreign import refuse_code, refuse_gaps
from splatdistill.priors.resolve import INDEX
from splatdistill.priors.text_encoders import TextEncoder, fingerprint

_CLIP = ("CLIPTextModel", "CLIPTextModelWithProjection")
_ENCODERS = (
    *_CLIP,
    "T5EncoderModel",
    "Qwen3Model",
    "Qwen3ForCausalLM",
    "Gemma2Model",
    "Qwen2_5_VLForConditionalGeneration",
)
_SHARD = re.compile(r"(?P<name>[^.]+(?P<variant>\.\w+)?)-\d{5}-of-(?P<count>\d{5})\.safetensors")


class DiffusersCheckpoint:
    """parts: the classes that model_index.json names for the parts that are there, such as {"vae": "AutoencoderKL"}.

    Every method raises ValueError, one sentence, for a folder that is not whole.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.index = self._json(INDEX)
        named = {name: value for name, value in self.index.items() if isinstance(value, list) and len(value) == 2}
        self.parts: dict[str, str] = {name: value[1] for name, value in named.items() if value[1]}

    @property
    def pipeline(self) -> str:
        """The class of the pipeline."""
        return str(self.index.get("_class_name"))

    @property
    def text_encoders(self) -> list[str]:
        """Names of the text encoders."""
        return [name for name in ("text_encoder", "text_encoder_2", "text_encoder_3") if name in self.parts]

    def config(self, part: str) -> dict[str, Any]:
        """The configuration of a part with weights."""
        return self._json(f"{part}/config.json")

    def scheduler(self) -> dict[str, Any]:
        return self._json("scheduler/scheduler_config.json")

    def check(self, part: str) -> list[Path]:
        """The files of a part's weights: the plain ones, or where those are missing their fp16 twins."""
        refuse_code(self.config(part), where=f"prior: {self.root / part / 'config.json'}")
        files = sorted((self.root / part).glob("*.safetensors"))
        plain = [path for path in files if ".fp16" not in path.name and "non_ema" not in path.name]
        chosen = plain or [path for path in files if ".fp16" in path.name]
        if chosen:
            self._check_shards(part, chosen)
            return chosen
        others = sorted(path.name for end in ("*.bin", "*.ckpt", "*.pt") for path in (self.root / part).glob(end))
        if others:
            raise ValueError(
                f"prior: {self.root / part} has no .safetensors file, only {others[0]}, which could run code; take a "
                "copy of the model in safetensors."
            )
        raise ValueError(f"prior: {self.root} is not whole: {part} has no .safetensors file; download it again.")

    def _check_shards(self, part: str, files: list[Path]) -> None:
        """ValueError where one of the files that weights are split into is missing, or the index of them."""
        split = {path: match for path in files if (match := _SHARD.fullmatch(path.name))}
        for match in split.values():
            wanted = [
                f"{match['name']}-{i:05}-of-{match['count']}.safetensors" for i in range(1, int(match["count"]) + 1)
            ]
            wanted.append(f"{match['name'].split('.')[0]}.safetensors.index{match['variant'] or ''}.json")
            missing = [name for name in wanted if not (self.root / part / name).is_file()]
            if missing:
                raise ValueError(
                    f"prior: {self.root} is not whole: the weights of its {part} are in {int(match['count'])} files, "
                    f"and {missing[0]} is missing; download that too."
                )

    def num_parameters(self, *parts: str) -> int:
        """Of those of the parts that are there, counted from the headers of their files."""
        total = 0
        for part in (part for part in parts if part in self.parts):
            for path in self.check(part):
                try:
                    with safe_open(path, "pt") as file:
                        total += sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())
                except (SafetensorError, OSError) as error:
                    raise self._broken(part, error) from error
        return total

    def load(self, part: str, kind: Any) -> Any:
        """A frozen model of diffusers, fp32 on the CPU. kind: its class."""
        diffusers_logging.disable_progress_bar()
        diffusers_logging.set_verbosity_error()  # what it would warn of is read from its report here
        twin = all(".fp16" in path.name for path in self.check(part))
        try:
            model, info = kind.from_pretrained(
                self.root,
                subfolder=part,
                torch_dtype=torch.float32,
                variant="fp16" if twin else None,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
            )
            refuse_gaps(info, model.state_dict())
        except Exception as error:  # a stranger's configuration can make the library raise anything
            raise self._broken(part, error) from error
        return model.eval().requires_grad_(False)

    def load_text_encoder(self, part: str, *, device: torch.device, dtype: str) -> TextEncoder:
        """A text encoder with its tokenizer. CLIP is small and runs in fp32, the others in `dtype`."""
        transformers_logging.disable_progress_bar()
        transformers_logging.set_verbosity_error()
        name = self.parts[part]
        if name not in _ENCODERS:
            raise ValueError(f"prior: {self.root / part} is a {name}; {', '.join(_ENCODERS)} are known.")
        kind = torch.bfloat16 if name not in _CLIP and dtype == "bf16" else torch.float32
        tokenizer_folder = self.root / part.replace("text_encoder", "tokenizer")
        files = self.check(part)
        try:
            model = self._of_transformers(part, files, dtype=kind)
            reader: Any = CLIPTokenizer if name in _CLIP else AutoTokenizer
            if not tokenizer_folder.is_dir():
                raise ValueError(f"it has no folder {tokenizer_folder.name}")
            tokenizer = reader.from_pretrained(tokenizer_folder, local_files_only=True, trust_remote_code=False)
        except ImportError as error:
            raise ValueError(
                f"prior: the tokenizer in {tokenizer_folder} needs two packages: pip install sentencepiece protobuf."
            ) from error
        except Exception as error:
            raise self._broken(part, error) from error
        try:
            model = model.to(device)
        except torch.OutOfMemoryError:  # T5 may be larger than what the UNet has left: a few prompts are no work
            model = model.cpu()
        return TextEncoder(model, tokenizer)

    def load_image_encoder(self, part: str) -> Any:
        """A frozen encoder of pictures, fp32 on the CPU."""
        transformers_logging.disable_progress_bar()
        transformers_logging.set_verbosity_error()
        files = self.check(part)
        try:
            return self._of_transformers(part, files, dtype=torch.float32)
        except Exception as error:
            raise self._broken(part, error) from error

    def _of_transformers(self, part: str, files: list[Path], *, dtype: torch.dtype) -> Any:
        """A frozen model on the CPU, of the class that model_index.json names. files: of its weights."""
        model, info = getattr(transformers, self.parts[part]).from_pretrained(
            self.root,
            subfolder=part,
            dtype=dtype,
            variant="fp16" if all(".fp16" in path.name for path in files) else None,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
        refuse_gaps(info, model.state_dict())
        return model.eval().requires_grad_(False)

    def fingerprint(self, *extra: object) -> str:
        """Of everything that decides how a prompt is encoded."""
        roots = [
            self.root / part for name in self.text_encoders for part in (name, name.replace("text_enc", "tokeniz"))
        ]
        return fingerprint([root for root in roots if root.exists()], *extra)

    def _json(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads((self.root / name).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ValueError(f"prior: {self.root} is not whole: it has no {name}; download it again.") from error
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(f"prior: {self.root / name} cannot be read as JSON.") from error
        if not isinstance(found, dict):
            raise ValueError(f"prior: {self.root / name} must hold settings.")
        return found

    def _broken(self, part: str, reason: object) -> ValueError:
        first = re.split(r"\.\s|\n", str(reason).strip() or type(reason).__name__)[0].rstrip(".")
        return ValueError(f"prior: {part} in {self.root} cannot be loaded: {first}.")
