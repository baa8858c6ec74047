"""The judge: a small network that says which words fit a picture, and whether it shows an object's front. No CLIP.

`python -m splatdistill.embedded.judge --corpus DIR --out DIR` trains one, `--measure FOLDER` measures one again. It
shares no weights and no network with the prior: it has its own words and encoders and was trained on other renders.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from splatdistill.evaluate import ReferenceStats

WEIGHTS = Path(__file__).with_name("weights")
CONFIG = "config.json"
PARTS = ("words", "sides")
"""The two networks, each in its own file."""
IMAGE_SIZE = 64
NUM_SIDES = 8
"""Azimuths that the judge tells apart, 45 degrees from one to the next; 0 is the front."""
MIN_FLAGGED, MAX_FALSE = 0.90, 0.05
"""What the Janus probe must reach on mirrored-front objects, and may not exceed on real ones."""
_FILLER = frozenset({"a", "an", "the", "of", "pair"})
_FRAME = re.compile(r"^(?:an? |the )?(?:photo|picture|image|(?:3d )?render(?:ing)?) of ")


class ImageEncoder(nn.Module):
    """Pictures [B,3,64,64] in 0..1 to features [B,F]: halved four times, a residual block at each size but the first.

    widths: channels at 32, 16, 8 and 4 pixels.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = [_convolution(3, widths[0], stride=2)]
        for before, width in pairwise(widths):
            layers += [_convolution(before, width, stride=2), _Residual(width)]
        self.layers = nn.Sequential(*layers)
        self.squeeze = nn.Conv2d(widths[-1], widths[-1] // 4, 1)
        self.num_features = widths[-1] // 4 * (IMAGE_SIZE // 2 ** len(widths)) ** 2

    def forward(self, rgb: Tensor) -> Tensor:
        x = ((rgb - 0.6) / 0.3).contiguous(memory_format=torch.channels_last)
        return self.squeeze(self.layers(x)).flatten(1)


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = _convolution(width, width), _convolution(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """x [V,C,h,w] to the same shape, [V,C,h,w]."""
        return x + self.second(self.first(x))


def _convolution(before: int, after: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())


class WordsEncoder(nn.Module):
    """Word numbers [T,L], 0 after the last word, to [T,D]: word vectors and a GRU, whose last state is the answer."""

    def __init__(self, num_words: int, *, width: int, embed: int) -> None:
        super().__init__()
        self.words = nn.Embedding(num_words + 1, width, padding_idx=0)
        self.recurrent = nn.GRU(width, 2 * width, batch_first=True)
        self.project = nn.Linear(2 * width, embed)

    def forward(self, tokens: Tensor) -> Tensor:
        states = self.recurrent(self.words(tokens))[0]
        last = (tokens != 0).sum(1) - 1
        return self.project(states[torch.arange(len(tokens)), last])


class WordsNetwork(nn.Module):
    """Both encoders of the judge, and the temperature of the training."""

    def __init__(self, *, num_words: int, widths: Sequence[int], text_width: int, embed: int) -> None:
        super().__init__()
        self.image = ImageEncoder(widths)
        self.text = WordsEncoder(num_words, width=text_width, embed=embed)
        self.project = nn.Linear(self.image.num_features, embed)
        self.log_scale = nn.Parameter(torch.tensor(2.3))

    def pictures(self, rgb: Tensor) -> Tensor:
        """[B,D] of unit length, for pictures [B,3,64,64] in 0..1."""
        return F.normalize(self.project(self.image(rgb).float()), dim=-1)

    def captions(self, tokens: Tensor) -> Tensor:
        """[T,D] of unit length, of tokens [T,L]."""
        return F.normalize(self.text(tokens), dim=-1)


class SidesNetwork(nn.Module):
    """Pictures [B,3,64,64] in 0..1 to logits [B,8] of the side that they show: an encoder of its own, and one layer."""

    def __init__(self, *, widths: Sequence[int]) -> None:
        super().__init__()
        self.image = ImageEncoder(widths)
        self.sides = nn.Linear(self.image.num_features, NUM_SIDES)

    def forward(self, rgb: Tensor) -> Tensor:
        return self.sides(self.image(rgb).float())


class EmbeddedJudge:
    """The trained networks with their words and with what was measured of them: judge, front probe and reference
    figures of `eval`.

    config: widths, text_width, embed; words; nouns and colours with their synonyms; pool; measured, see README.md.
    """

    image_size = IMAGE_SIZE

    def __init__(self, words: WordsNetwork, sides: SidesNetwork, config: Mapping[str, Any]) -> None:
        self.words, self.sides, self.config = words.eval(), sides.eval(), dict(config)
        self.name = f"splatdistill's own judge ({len(config['nouns'])} nouns, {len(config['colours'])} colours)"
        self.numbers = number_words(config)
        self.probe_warning = probe_warning(config.get("measured", {}))

    @classmethod
    def load(cls, folder: Path = WEIGHTS) -> EmbeddedJudge:
        """ValueError, one sentence, when the folder holds no judge."""
        try:
            config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
            networks = create_words(config), create_sides(config)
            for name, network in zip(PARTS, networks, strict=True):
                network.load_state_dict(load_file(folder / f"{name}.safetensors"))  # copies fp16 into fp32
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ValueError(f"{folder} holds no judge that can be read ({type(error).__name__}).") from error
        return cls(*networks, config)

    def save_config(self, folder: Path) -> None:
        (folder / CONFIG).write_text(json.dumps(self.config, indent=1) + "\n", encoding="utf-8")

    @torch.no_grad()
    def embed_images(self, rgb: Tensor) -> Tensor:
        """[V,H,W,3] in 0..1 to [V,D] of unit length."""
        return self.words.pictures(_fit(rgb))

    def reads(self, prompt: str) -> bool:
        """Whether a prompt has words, and all of them are known."""
        found = _words(prompt)
        return bool(found) and all(word in self.numbers for word in found)

    @torch.no_grad()
    def embed_texts(self, prompts: Sequence[str]) -> Tensor:
        """T prompts that `reads` lets through to [T,D] of unit length."""
        return self.words.captions(tokens(prompts, self.numbers))

    @torch.no_grad()
    def front(self, rgb: Tensor) -> Tensor:
        """[V,H,W,3] in 0..1 to [V]: how probable it is that a view shows the front."""
        return self.sides(_fit(rgb)).softmax(-1)[:, 0]

    def is_front(self, rgb: Tensor) -> Tensor:
        """[V,H,W,3] in 0..1 to [V] bool."""
        return self.front(rgb) >= self.config["measured"]["probe"]["threshold"]

    def has_front(self, prompt: str) -> bool:
        """Whether the object of a prompt is among those whose front the probe distinguished from their other sides."""
        return self.noun(prompt) in self.config.get("measured", {}).get("probe", {}).get("nouns", ())

    def noun(self, prompt: str) -> str | None:
        """The noun that a prompt names; the longest name wins, so that a palm tree is no tree."""
        names = {name: noun for noun, others in self.config["nouns"].items() for name in (noun, *others)}
        found = (name for name in sorted(names, key=len, reverse=True) if re.search(rf"\b{name}\b", prompt.lower()))
        return names.get(next(found, ""))

    @property
    def reference(self) -> ReferenceStats:
        colours = {name for colour, others in self.config["colours"].items() for name in (colour, *others)}
        return ReferenceStats(tuple(self.config["pool"]), frozenset(colours), self.config["measured"]["real"])


def create_words(config: Mapping[str, Any]) -> WordsNetwork:
    """A fresh network; weights come from torch's global generator."""
    num_words, widths = len(config["words"]), config["widths"]
    network = WordsNetwork(num_words=num_words, widths=widths, text_width=config["text_width"], embed=config["embed"])
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def create_sides(config: Mapping[str, Any]) -> SidesNetwork:
    """The same for the sides."""
    return SidesNetwork(widths=config["widths"]).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def write_tensors(network: nn.Module, path: Path) -> None:
    """A network as fp16 safetensors."""
    state = network.state_dict()
    tensors = {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in state.items()}
    save_file(tensors, path, metadata={"format": "pt"})


def number_words(config: Mapping[str, Any]) -> dict[str, int]:
    """Words to their numbers, from 1."""
    return {word: number for number, word in enumerate(config["words"], 1)}


def tokens(prompts: Sequence[str], numbers: Mapping[str, int]) -> Tensor:
    """Word numbers [T,L], 0 after the last word, of prompts with known words alone."""
    numbered = [torch.tensor([numbers[word] for word in _words(prompt)]) for prompt in prompts]
    return nn.utils.rnn.pad_sequence(numbered, batch_first=True)


def _words(prompt: str) -> list[str]:
    text = _FRAME.sub("", prompt.lower())
    return [word for word in re.findall(r"[a-z0-9]+", text) if word not in _FILLER]


def probe_warning(measured: Mapping[str, Any]) -> str:
    """Why the Janus probe is not to be trusted, one sentence; nothing when it is."""
    probe = measured.get("probe")
    if not probe or not probe["nouns"]:
        return "the probe was not shown to tell the front of any object."
    flagged, false = probe["mirrored_flagged"], probe["real_flagged"]
    if flagged >= MIN_FLAGGED and false <= MAX_FALSE:
        return ""
    return (
        f"the probe flags {flagged:.0%} of mirrored-front objects ({MIN_FLAGGED:.0%} needed) and {false:.0%} of real "
        f"ones ({MAX_FALSE:.0%} allowed)."
    )


def _fit(rgb: Tensor) -> Tensor:
    """Views rgb [V,H,W,3] as [V,3,S,S] of the side S that the judge was trained with."""
    x = rgb.permute(0, 3, 1, 2)
    if x.shape[-2:] != (IMAGE_SIZE, IMAGE_SIZE):
        x = F.interpolate(x, size=(IMAGE_SIZE, IMAGE_SIZE), mode="bilinear", antialias=True)
    return x
