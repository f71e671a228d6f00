"""Which words a text encoder was hardly taught."""

import re
from typing import Any

_END_OF_WORD = "</w>"
_SHORT = 2  # bytes of a piece that says nothing by itself


def spelt_out(tokenizer: Any, text: str) -> list[str]:
    """Return the words of a text that a tokenizer has only letter by letter.

    Byte-pair encoding (Sennrich et al. 2016, https://arxiv.org/abs/1508.07909) merges letters that
    stand together often. A word of which it has no piece longer than two letters was rare in what
    it was made from, and so most likely in the training of the text encoder.

    Args:
        tokenizer: That of a CLIP, whose pieces are bytes, the last of a word with `</w>`.
        text: In any language.

    Returns:
        The words, in their order.

    Example:
        >>> from dinov2_helpers import load_clip
        >>> spelt_out(load_clip("tiny").tokenizer, "a zebra on snow")
        ['zebra']
    """
    rare = []
    for word in re.findall(r"\w+", text):
        pieces = [piece.removesuffix(_END_OF_WORD) for piece in tokenizer.tokenize(word)]
        if len(pieces) > 1 and all(len(piece) <= _SHORT for piece in pieces):
            rare.append(word)
    return rare
