"""The objects that a prior knows by heart: a decoder, and a small file with the planes of each of them."""

from __future__ import annotations

import json
import lzma
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from splatdistill.priors.triplane import TriPlanes

INDEX, PLANES, DECODER = "instances.json", "planes.xz", "decoder.safetensors"


@dataclass(frozen=True)
class Instance:
    """One model. luminance: of its bare surface under each of three paints, 0..1; parts: names of what each covers,
    several by semicolons, "" where it covers nothing; heights: where each lies, 0 at the lowest point of the object and
    1 at its highest. bare: it has no look of its own, so all of its paints need a colour.
    """

    noun: str
    key: str
    luminance: Sequence[float]
    parts: Sequence[str] = field(default_factory=list)
    heights: Sequence[float] = field(default_factory=list)
    bare: bool = False


class Instances:
    """codes: [N,3,C,S,S] int8, planes divided by `step` and rounded, in the order of `known`."""

    def __init__(self, model: TriPlanes, codes: Tensor, *, step: float, known: Sequence[Instance]) -> None:
        assert len(codes) == len(known)
        self.model, self.codes, self.step, self.known = model.requires_grad_(False), codes, step, list(known)
        self.of_noun: dict[str, list[int]] = {}
        for number, instance in enumerate(self.known):
            self.of_noun.setdefault(instance.noun, []).append(number)

    @classmethod
    def load(cls, folder: Path) -> Instances:
        """ValueError, one sentence, for a folder that holds none or is damaged."""
        if not (folder / INDEX).exists():
            raise ValueError(f"No volumes in {folder}: it has no {INDEX}.")
        index = json.loads((folder / INDEX).read_text())
        model = TriPlanes(**index["shape"])
        try:
            model.load_state_dict(load_file(folder / DECODER))
            flat = np.frombuffer(lzma.decompress((folder / PLANES).read_bytes()), dtype=np.int8)
            # Bytes of one cell of all objects lie together in the file, where they are most alike.
            codes = torch.from_numpy(flat.reshape(-1, len(index["known"])).T.copy()).view(-1, *model.shape)
        except (lzma.LZMAError, EOFError, ValueError, RuntimeError, OSError) as error:
            raise ValueError(f"The volumes in {folder} are damaged: copy the folder again.") from error
        return cls(model, codes, step=index["step"], known=[Instance(**known) for known in index["known"]])

    def save(self, folder: Path) -> None:
        """Writes the folder: index, decoder, planes."""
        folder.mkdir(parents=True, exist_ok=True)
        _, channels, side, _ = self.model.shape
        shape = {"channels": channels, "side": side, "hidden": self.model.decoder[0].out_features}
        index = {"shape": shape, "step": self.step, "known": [asdict(known) for known in self.known]}
        (folder / INDEX).write_text(json.dumps(index, indent=0) + "\n")
        save_file({k: v.contiguous() for k, v in self.model.state_dict().items()}, folder / DECODER)
        flat = self.codes.flatten(1).T.contiguous().numpy().tobytes()
        (folder / PLANES).write_bytes(lzma.compress(flat, preset=9 | lzma.PRESET_EXTREME))

    def planes(self, numbers: Sequence[int]) -> Tensor:
        """[B,3,C,S,S] in fp32 of some objects."""
        return self.codes[list(numbers)].float() * self.step


def quantise(planes: Tensor, step: float) -> Tensor:
    """Planes of any shape as whole multiples of `step`, int8 and like them."""
    return (planes / step).round().clamp(-127, 127).to(torch.int8)
