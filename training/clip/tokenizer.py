"""A byte-level BPE tokenizer in the format of CLIP's, for the few hundred words of our captions."""

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

CONTEXT = 32  # tokens, with the two that mark start and end
WORD_END = "</w>"
START, END = "<|startoftext|>", "<|endoftext|>"

Pair = tuple[str, str]


def learn_merges(words: Iterable[str]) -> list[Pair]:
    """Merge the most frequent pair of pieces again and again, until each word is one piece.

    Byte-pair encoding (Sennrich et al. 2016, algorithm 1). The trainer of `tokenizers` breaks ties
    differently in each process; here the alphabet breaks them, so that a run can be repeated.

    Args:
        words: Lower case, of letters that UTF-8 writes in one byte.
    """
    spelt = {word: [*word[:-1], word[-1] + WORD_END] for word in words}
    merges: list[Pair] = []
    while counts := Counter(pair for pieces in spelt.values() for pair in pairwise(pieces)):
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        spelt = {word: _merge(pieces, best) for word, pieces in spelt.items()}
    return merges


def _merge(pieces: list[str], pair: Pair) -> list[str]:
    """Join each occurrence of a pair, from the left."""
    merged: list[str] = []
    for piece in pieces:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return merged


def make_tokenizer(words: Iterable[str]) -> CLIPTokenizer:
    """Make a tokenizer in which each given word is one token.

    Every other text is spelt, byte by byte, so no word is unknown.

    Args:
        words: As for `learn_merges`.

    Returns:
        A tokenizer that `CLIPTokenizer.from_pretrained` reads back from its folder.
    """
    merges = learn_merges(words)
    alphabet = sorted(ByteLevel.alphabet())
    pieces = [*alphabet, *(letter + WORD_END for letter in alphabet)]
    pieces += [a + b for a, b in merges] + [START, END]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    options: Any = {"vocab": vocabulary, "merges": merges}
    return CLIPTokenizer(**options, model_max_length=CONTEXT)
