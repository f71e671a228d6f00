"""A byte-level BPE tokenizer in the format of CLIP's, for the few hundred words of our captions.

CLIP's pattern splits a text into runs of letters, so a Chinese sentence is one "word". Its
characters are learned as pieces of their own; as the first byte of a character is never a later
byte of another, no piece can reach across two of them.
"""

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

CONTEXT = 32  # tokens that an English caption may have, with the two that mark start and end
WORD_END = "</w>"
START, END = "<|startoftext|>", "<|endoftext|>"

Pair = tuple[str, str]


def learn_merges(words: Iterable[str]) -> list[Pair]:
    """Merge the most frequent pair of pieces again and again, until each word is one piece.

    Byte-pair encoding (Sennrich et al. 2016, algorithm 1). The trainer of `tokenizers` breaks ties
    differently in each process; here the alphabet breaks them, so that a run can be repeated.

    Args:
        words: Lower case. One that is a single character of several bytes, as a Chinese one, also
            becomes a piece that does not end a word.
    """
    spelt: list[list[str]] = []
    for word in dict.fromkeys(words):
        letters = _letters(word)
        spelt.append([*letters[:-1], letters[-1] + WORD_END])
        if len(word) == 1 < len(letters):
            spelt.append(letters)
    merges: list[Pair] = []
    while counts := Counter(pair for pieces in spelt for pair in pairwise(pieces)):
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        spelt = [_merge(pieces, best) for pieces in spelt]
    return merges


def _letters(word: str) -> list[str]:
    """Spell a word, byte by byte, in the letters that stand for bytes in CLIP's vocabulary."""
    spelling = ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(word)
    return list(spelling[0][0])


def _merge(pieces: list[str], pair: Pair) -> list[str]:
    """Join each occurrence of a pair, from the left."""
    merged: list[str] = []
    for piece in pieces:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return merged


def make_tokenizer(words: Iterable[str], context: int = CONTEXT) -> CLIPTokenizer:
    """Make a tokenizer in which each given word or Chinese character is one token.

    Every other text is spelt, byte by byte, so no word is unknown.

    Args:
        words: As for `learn_merges`.
        context: Largest number of tokens of a text, with the two that mark start and end.

    Returns:
        A tokenizer that `CLIPTokenizer.from_pretrained` reads back from its folder.
    """
    merges = learn_merges(words)
    alphabet = sorted(ByteLevel.alphabet())
    pieces = [*alphabet, *(letter + WORD_END for letter in alphabet)]
    pieces += [a + b for a, b in merges] + [START, END]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    options: Any = {"vocab": vocabulary, "merges": merges}
    return CLIPTokenizer(**options, model_max_length=context)
