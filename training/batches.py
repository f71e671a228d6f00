"""Batches in which neither a colour nor a class alone tells pictures apart."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Cell = tuple[str, str]  # class and colour


class Squares:
    """Draws batches a part of which are *squares*: two classes, each in the same two colours.

    A square of a red dog, a blue-grey dog, a red car and a blue-grey car teaches both: what dogs
    have in common, and what red things have. A contrastive loss finds hard negatives in it that a
    batch drawn at random has by chance only.

    Args:
        facts: What each picture shows, as `training.world.material` writes it.
        share: Share of a batch that is drawn as squares; the rest is drawn evenly from all
            pictures.

    Raises:
        ValueError: No two classes share two colours, so that there is no square.
    """

    def __init__(self, facts: Sequence[Mapping[str, Any]], share: float = 0.5) -> None:
        self.n, self.share = len(facts), share
        rows: dict[Cell, list[int]] = defaultdict(list)
        for row, one in enumerate(facts):
            if len(one["objects"]) == 1:
                rows[one["objects"][0]["class"], one["objects"][0]["colour"]].append(row)
        self._rows = dict(rows)
        colours: dict[str, set[str]] = defaultdict(set)
        for name, colour in self._rows:
            colours[name].add(colour)
        self._pairs: list[tuple[str, str, list[str]]] = []
        names = sorted(colours)
        for index, first in enumerate(names):
            for second in names[index + 1 :]:
                common = sorted(colours[first] & colours[second])
                if len(common) > 1:
                    self._pairs.append((first, second, common))
        if share and not self._pairs:
            raise ValueError("no two classes share two colours: render with --colours crossed")

    def square(self, rng: np.random.Generator) -> list[int]:
        """Draw four rows: two classes, each in the same two colours."""
        first, second, common = self._pairs[rng.integers(len(self._pairs))]
        colours = rng.choice(len(common), 2, replace=False)
        cells = [(name, common[k]) for name in (first, second) for k in colours]
        return [int(rng.choice(self._rows[cell])) for cell in cells]

    def draw(self, rng: np.random.Generator, n: int) -> NDArray[np.int64]:
        """Draw the rows of a batch, all different, in random order.

        Args:
            rng: Source of every choice.
            n: Number of rows; all of them, if there are fewer.
        """
        n = min(n, self.n)
        chosen: dict[int, None] = {}
        for _ in range(int(self.share * n) // 4):
            chosen |= dict.fromkeys(self.square(rng))
        for row in rng.permutation(self.n):
            if len(chosen) >= n:
                break
            chosen[int(row)] = None
        return rng.permutation(np.array(list(chosen), np.int64))
