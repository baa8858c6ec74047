"""Held-out splits: the answers of today, that they keep apart what they say, and that batches obey them."""

from __future__ import annotations

import hashlib
from itertools import product
from pathlib import Path

from splatdistill.embedded.corpus.captions import COLOURS
from splatdistill.embedded.corpus.dataset import Corpus, choose_colours
from splatdistill.embedded.corpus.nouns import NOUNS, split_key
from splatdistill.embedded.corpus.procedural import FAMILIES, RELATIONS, SHAPES
from splatdistill.embedded.corpus.splits import held_out_instances, held_out_pair, held_out_relation

PAIRS = [
    f"{colour} {noun.name}"
    for noun in (*(n for n in NOUNS if n.paintable), *FAMILIES)
    for colour in COLOURS
    if held_out_pair(colour, noun.name)
]
INSTANCES = sorted(k for n in NOUNS for k in held_out_instances(n.models, seen=n.first))
COLOURED = list(product(COLOURS, SHAPES))
RELATED = [
    f"{' '.join(upper)} {word} {' '.join(lower)}"
    for word in RELATIONS
    for upper, lower in product(COLOURED, COLOURED)
    if held_out_relation(upper, word, lower)
]


def test_the_splits_are_those_that_were_committed():
    folder = Path(__file__).parent
    for name, answers in (("pairs", PAIRS), ("instances", INSTANCES)):
        assert (folder / f"held_out_{name}.txt").read_text().splitlines() == answers
    digest = hashlib.sha256("\n".join(RELATED).encode()).hexdigest()
    assert (folder / "held_out_relations.sha256").read_text().strip() == digest


def test_they_hold_out_about_the_shares_that_they_say():
    num_pairs = len(COLOURS) * (sum(n.paintable for n in NOUNS) + len(FAMILIES))
    assert 0.07 < len(PAIRS) / num_pairs < 0.13
    assert 0.08 < len(RELATED) / (len(RELATIONS) * len(COLOURED) ** 2) < 0.12
    for noun in NOUNS:
        held = held_out_instances(noun.models, seen=noun.first)
        assert len(held) <= max(1, round(0.2 * len(noun.models))) and held <= set(noun.models)
        assert not held if len(noun.models) < 4 else True


def test_no_model_that_the_first_prior_saw_is_held_out():
    first = {split_key(k)[0] for n in NOUNS for k in n.first}
    assert not first & {split_key(k)[0] for k in INSTANCES}


def test_both_words_of_a_held_out_pair_are_seen_with_others():
    for noun in FAMILIES:
        assert any(not held_out_pair(colour, noun.name) for colour in COLOURS)
    for colour in COLOURS:
        assert any(not held_out_pair(colour, noun.name) for noun in NOUNS if noun.paintable)


def test_training_and_held_out_objects_are_disjoint_and_whole(corpus_folder):
    keys = [
        {o.record.key for o in Corpus(corpus_folder, seed=0, split=split).objects} for split in ("train", "held-out")
    ]
    assert not keys[0] & keys[1] and keys[1]
    assert keys[0] | keys[1] == {r.key for r in Corpus(corpus_folder, seed=0).records}


def test_no_batch_shows_a_held_out_colour(corpus_folder):
    import random

    corpus, draw = Corpus(corpus_folder, seed=0), random.Random(0)
    for thing in corpus.objects:
        for _ in range(200):
            colours = choose_colours(thing, draw)
            if thing.record.relation and colours:
                word, lower = thing.record.relation
                assert not held_out_relation((colours[0], thing.record.noun), word, (colours[1], lower))
            elif colours:
                assert not held_out_pair(colours[0], thing.noun.name)
            elif thing.colour and thing.paintable:
                assert not held_out_pair(thing.colour, thing.noun.name)
