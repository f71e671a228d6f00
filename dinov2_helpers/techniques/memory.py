"""What normal patches look like: memories that rebuild a patch, and a subspace that holds it.

Each has seen maps of good patches, and tells of other maps how far each patch is from normal.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..threads import small_solves

Array = NDArray[np.float32]
PROJECTED = 32  # numbers of the random projection in which a coreset is chosen
TABLE = 2**22  # products of vectors with a bank that are held at once, 16 MiB
GROUP = 32  # rows of a bank of which only the best is looked at first


def unit(x: Array) -> Array:
    """Return vectors (..., D) scaled to length 1."""
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def rows_of(maps: Sequence[Array]) -> Array:
    """Return the patches of maps, each (h, w, D), one below the other: (M, D)."""
    return np.concatenate([one.reshape(-1, one.shape[-1]) for one in maps])


def directions(rows: Array, n: int) -> Array:
    """Return the n directions that hold most of the squared length of rows.

    It is PCA without centring: products of vectors, and so cosines, stay what they are but for
    what is left out. The sign of each makes its entry of largest size positive.

    Args:
        rows: (M, D).
        n: 1 or more; at most D are returned.

    Returns:
        (D, n), columns of length 1 at right angles, the strongest first.
    """
    squared = rows.T @ rows
    with small_solves(len(squared)):
        _, vectors = np.linalg.eigh(squared)
    found = vectors[:, ::-1][:, :n]
    sign = np.sign(np.take_along_axis(found, np.abs(found).argmax(0)[None], axis=0))
    return np.ascontiguousarray(found * sign, np.float32)


def coreset(rows: Array, n: int, seed: int = 0) -> NDArray[np.int64]:
    """Choose rows that cover all others: greedily, always the one farthest from those chosen.

    Distances are those of a random projection to 32 numbers (PatchCore, Roth et al. 2022, 3.2 and
    algorithm 1; Johnson and Lindenstrauss 1984).

    Args:
        rows: (M, D).
        n: How many, 1 to M.
        seed: Of the projection and of the first row.

    Returns:
        (n,) numbers of rows, in the order of choice: its beginnings are smaller coresets.
    """
    rng = np.random.default_rng(seed)
    points = rows @ rng.normal(size=(rows.shape[1], PROJECTED)).astype(np.float32)  # (M, 32)
    chosen = [int(rng.integers(len(points)))]
    distance = np.full(len(points), np.inf)
    while len(chosen) < n:
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(1))
        chosen.append(int(distance.argmax()))
    return np.array(chosen, np.int64)


def rebuild_error(x: Array, neighbours: Array, ridge: float = 0.1) -> Array:
    """Return how far vectors are from the best mixture of their neighbours.

    The weights of a mixture add up to one, as in locally linear embedding (Saul and Roweis 2003,
    section 2); with the ridge it trusts no single neighbour. Of one neighbour, it is the squared
    distance to it.

    Args:
        x: (n, D).
        neighbours: (n, k, D).
        ridge: Share of the neighbours' own spread that is added to the diagonal.

    Returns:
        (n,) squared distances, 0 or more.
    """
    middle = neighbours.mean(1)  # (n, D)
    spread = neighbours - middle[:, None]  # (n, k, D)
    gram = spread @ spread.transpose(0, 2, 1)  # (n, k, k)
    k = gram.shape[1]
    size = np.trace(gram, axis1=1, axis2=2) / k  # (n,)
    gram += (ridge * size + 1e-6)[:, None, None] * np.eye(k, dtype=gram.dtype)
    rest = (x - middle)[..., None]  # (n, D, 1)
    weights = np.linalg.solve(gram, spread @ rest)  # (n, k, 1)
    left = rest - spread.transpose(0, 2, 1) @ weights  # (n, D, 1)
    found: Array = (left[..., 0] ** 2).sum(1)
    return found


def nearest_rows(x: Array, bank: Array, k: int) -> tuple[Array, NDArray[np.int64]]:
    """Find the rows of a bank of largest inner product, exactly and in bounded memory.

    A block of vectors is multiplied by the whole bank at once. To sort all products would take as
    long again, so the rows are parted into groups: the k best of all lie in the k groups whose
    best is best, and only these are looked through.

    Args:
        x: (n, D) vectors.
        bank: (M, D).
        k: How many are wanted; at most M are returned.

    Returns:
        (n, k) inner products, the largest first, and (n, k) rows of the bank. Which of several
        equal ones comes first, or comes at all where more are equal than are wanted, is not said.
    """
    k = min(k, len(bank))
    step = max(1, TABLE // len(bank))
    products = np.empty((len(x), k), np.float32)
    rows = np.empty((len(x), k), np.int64)
    for start in range(0, len(x), step):
        block = slice(start, start + step)
        table = x[block] @ bank.T  # (step, M)
        rows[block] = largest(table, k)
        products[block] = np.take_along_axis(table, rows[block], axis=1)
    return products, rows


def largest(table: Array, k: int) -> NDArray[np.int64]:
    """Return where the k largest numbers of each row of (n, M) are, the largest first: (n, k)."""
    if k == 1:
        return table.argmax(axis=1)[:, None]
    candidates = _candidates(table, k)  # (n, c)
    values = np.take_along_axis(table, candidates, axis=1)
    best = np.argpartition(-values, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(values, best, axis=1), axis=1)
    best = np.take_along_axis(best, order, axis=1)
    return np.take_along_axis(candidates, best, axis=1)


def _candidates(table: Array, k: int) -> NDArray[np.int64]:
    """Return columns of (n, M) among which the k largest numbers of each row are: (n, c)."""
    n, m = table.shape
    groups = m // GROUP  # of the columns g, g + groups, g + 2 groups, ...
    if groups <= k:
        return np.broadcast_to(np.arange(m), (n, m))
    best = table[:, : groups * GROUP].reshape(n, GROUP, groups).max(axis=1)  # (n, groups)
    chosen = np.argpartition(-best, k - 1, axis=1)[:, :k]
    columns = chosen[:, None] + groups * np.arange(GROUP)[:, None]  # (n, GROUP, k)
    in_no_group = np.arange(groups * GROUP, m)
    rest = np.broadcast_to(in_no_group, (n, len(in_no_group)))
    return np.concatenate([columns.reshape(n, -1), rest], axis=1)


class Memory(Protocol):
    """What has seen good patches."""

    def errors(self, one: Array) -> Array:
        """Return how odd each patch of a map (h, w, D) is: (h, w), higher is odder."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what the constructor takes as arrays, to be kept."""


class Anywhere:
    """Good patches as a bank in which the place of a patch does not matter.

    Args:
        bank: (M, D).
        k: Neighbours from which a patch is rebuilt; those of the largest inner product.
    """

    def __init__(self, bank: Array, k: int) -> None:
        self.bank, self.k = np.ascontiguousarray(bank, np.float32), min(k, len(bank))

    def neighbours(self, x: Array, k: int) -> NDArray[np.int64]:
        """Return the rows of the bank nearest to vectors (n, D): (n, k), the nearest first."""
        _, rows = nearest_rows(x, self.bank, k)
        return rows

    def errors(self, one: Array) -> Array:
        """Return the squared distance of each patch to what its neighbours rebuild: (h, w)."""
        x = one.reshape(-1, one.shape[-1])
        return rebuild_error(x, self.bank[self.neighbours(x, self.k)]).reshape(one.shape[:2])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the bank."""
        return {"bank": self.bank}


class SamePlace:
    """Good patches by their place, for parts that lie still.

    A patch is compared with those of each good picture at its own place and next to it.

    Args:
        bank: (N, h, w, D).
        k: Pictures from whose best patches a patch is rebuilt.
        reach: How many patches away "next to" is.
    """

    def __init__(self, bank: Array, k: int, reach: int = 1) -> None:
        self.bank, self.k, self.reach = np.asarray(bank, np.float32), min(k, len(bank)), reach
        beside = ((reach, reach), (reach, reach), (0, 0), (0, 0))
        padded = np.pad(self.bank.transpose(1, 2, 0, 3), beside)  # (h + 2r, w + 2r, N, D)
        self.by_place = np.ascontiguousarray(padded)

    def misfit(self, one: Array) -> str:
        """Say why a map (h, w, D) cannot be compared with the good ones; "" if it can be."""
        (h, w), (high, wide) = one.shape[:2], self.bank.shape[1:3]
        if (h, w) == (high, wide):
            return ""
        return (
            f"it has {h}x{w} patches, where the good ones have {high}x{wide}: cut it to their "
            "shape, or fit with same_place=False (--anywhere)"
        )

    def nearby(self, one: Array) -> tuple[Array, NDArray[np.int64]]:
        """Return the cosine of each patch to the best of each picture, and where that is.

        Args:
            one: (h, w, D).

        Returns:
            (h, w, N) cosines (inner products), and (h, w, N) places: down * (2 reach + 1) + across.

        Raises:
            ValueError: The map has another shape than the good ones.
        """
        h, w = one.shape[:2]
        misfit = self.misfit(one)
        if misfit:
            raise ValueError(f"this picture cannot be compared: {misfit}")
        side = 2 * self.reach + 1
        cosine = np.full((h, w, len(self.bank)), -1, np.float32)
        place = np.zeros(cosine.shape, np.int64)
        for number in range(side**2):
            down, across = divmod(number, side)
            window = self.by_place[down : down + h, across : across + w]  # (h, w, N, D)
            found = np.matmul(window, one[..., None])[..., 0]  # (h, w, N)
            np.putmask(place, found > cosine, number)
            np.maximum(cosine, found, out=cosine)
        return cosine, place

    def errors(self, one: Array) -> Array:
        """Return the squared distance of each patch to what its neighbours rebuild: (h, w)."""
        h, w, dim = one.shape
        cosine, place = self.nearby(one)
        best = np.argsort(-cosine, axis=2, kind="stable")[..., : self.k]  # (h, w, k)
        down, across = np.divmod(np.take_along_axis(place, best, 2), 2 * self.reach + 1)
        row, column = np.mgrid[:h, :w]
        found = self.by_place[row[..., None] + down, column[..., None] + across, best]
        error = rebuild_error(one.reshape(-1, dim), found.reshape(h * w, self.k, dim))
        return error.reshape(h, w)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the bank."""
        return {"bank": self.bank}


class Subspace:
    """The principal components of good patches: what they cannot express is odd.

    Args:
        mean: (D,) of good patches.
        components: (r, D), of length 1 and at right angles.
    """

    def __init__(self, mean: Array, components: Array) -> None:
        self.mean, self.components = mean, components

    @classmethod
    def of(cls, rows: Array, variance: float) -> "Subspace":
        """Keep as many components, after centring, as have that share of the variance.

        Args:
            rows: (M, D).
            variance: Between 0 and 1; SubspaceAD takes 0.99.
        """
        mean = rows.mean(0)  # (D,)
        centred = rows - mean
        squared = centred.T @ centred
        with small_solves(len(squared)):
            values, vectors = np.linalg.eigh(squared)
        share = np.cumsum(values[::-1]) / values.sum()
        n = int(np.searchsorted(share, variance)) + 1
        return cls(mean, np.ascontiguousarray(vectors[:, ::-1][:, :n].T))

    def errors(self, one: Array) -> Array:
        """Return the squared length of what is left of each patch: (h, w)."""
        centred = one - self.mean
        left = centred - centred @ self.components.T @ self.components
        found: Array = (left**2).sum(-1)
        return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return mean and components."""
        return {"mean": self.mean, "components": self.components}


def lies_still(maps: Sequence[Array], reach: int = 1, most: float = 1.15) -> bool:
    """Say whether good patches are found at their place: whether a part always lies alike.

    One half of the pictures looks for its patches in the other half, at the same place and
    anywhere. If the same place is nearly as good, it lies still.

    Args:
        maps: Patches of N good pictures, each (h, w, D), of length 1 or nearly so.
        reach: As in `SamePlace`.
        most: How many times as far a patch may be at the same place.

    Returns:
        False too where shapes differ, or of one picture.
    """
    if len(maps) < 2 or len({one.shape for one in maps}) > 1:
        return False
    half = len(maps) // 2
    here = SamePlace(np.stack(maps[:half]), 1, reach)
    at_place = np.mean([1 - here.nearby(one)[0].max(2) for one in maps[half:]])
    cosine, _ = nearest_rows(rows_of(maps[half:]), rows_of(maps[:half]), 1)
    return bool(at_place / np.mean(1 - cosine) < most)


def reweighted(one: Array, error: Array, memory: Anywhere, beside: int = 9) -> float:
    """Score a picture by its oddest patch, less where the memory itself is sparse.

    Args:
        one: (h, w, D).
        error: (h, w), its squared distances to the nearest patch of the bank.
        memory: The bank.
        beside: Neighbours of the nearest patch that are looked at.

    Returns:
        The score of PatchCore (Roth et al. 2022, equations 6 and 7): the distance, times one less
        its share of the softmax over the distances to the nearest patch's neighbours.
    """
    x = one.reshape(-1, one.shape[-1])[error.argmax()]  # (D,)
    nearest = memory.neighbours(x[None], 1)[0, 0]
    around = memory.neighbours(memory.bank[nearest][None], beside)[0]
    distance = np.linalg.norm(memory.bank[around] - x, axis=1)
    here = float(np.linalg.norm(memory.bank[nearest] - x))
    weight = 1 - np.exp(here - distance.max()) / np.exp(distance - distance.max()).sum()
    return float(weight * here)
