"""What the judge is trained towards: every caption true of a picture against all false ones, and its side."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import Tensor

from splatdistill.embedded.corpus.captions import COLOURS
from splatdistill.embedded.corpus.nouns import NOUNS
from splatdistill.embedded.judge.images import UNKNOWN
from splatdistill.embedded.judge.networks import NUM_SIDES


class Captions:
    """Every caption that the corpus allows: colour with noun, noun alone, colour alone; UNKNOWN stands for none.

    noun, colour: [T] indices.
    """

    def __init__(self) -> None:
        nouns, colours = range(len(NOUNS)), range(len(COLOURS))
        pairs = [(n, c) for n in nouns for c in (UNKNOWN, *colours)] + [(UNKNOWN, c) for c in colours]
        self.noun, self.colour = torch.tensor(pairs).T
        self.pairs = pairs

    def texts(self, draw: random.Random) -> list[str]:
        """Words for each, with a synonym in a quarter of the cases."""

        def say(name: str, others: tuple[str, ...]) -> str:
            return draw.choice(others) if others and draw.random() < 0.25 else name

        nouns = [say(noun.name, noun.synonyms) for noun in NOUNS] + [""]
        colours = [say(name, synonyms) for name, (_, synonyms) in COLOURS.items()] + [""]
        return [f"{colours[c]} {nouns[n]}" for n, c in self.pairs]

    def truth(self, noun: Tensor, colour: Tensor) -> tuple[Tensor, Tensor]:
        """[B,T] which captions are true of pictures, and which are false; of the rest nobody knows. noun, colour: [B]
        numbers of what the pictures show.
        """
        same_noun = (self.noun == UNKNOWN) | (self.noun == noun[:, None])
        no_colour, known = self.colour == UNKNOWN, (colour != UNKNOWN)[:, None]
        same_colour = no_colour | (known & (self.colour == colour[:, None]))
        return same_noun & same_colour, ~same_noun | (known & ~same_colour)


def contrastive_loss(logits: Tensor, true: Tensor, false: Tensor) -> Tensor:
    """InfoNCE of each true caption against all false ones of its picture, mean over true ones; logits: [B,T]. true,
    false: [B,T] bool.
    """
    against = logits.masked_fill(~false, -math.inf).logsumexp(1, keepdim=True)
    return ((F.softplus(against - logits) * true).sum(1) / true.sum(1)).mean()


def side_targets(azimuth: Tensor) -> Tensor:
    """[B,8] shares of the two nearest of the 8 sides for azimuths [B] rad."""
    position = torch.remainder(azimuth / (2 * math.pi) * NUM_SIDES, NUM_SIDES)
    lower = position.floor()
    share = (position - lower)[:, None]
    one, other = (F.one_hot((lower.long() + k) % NUM_SIDES, NUM_SIDES) for k in (0, 1))
    return one * (1 - share) + other * share
