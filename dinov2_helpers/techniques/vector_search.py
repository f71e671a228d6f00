"""The nearest of many unit vectors, under ids that stay: exact, or by an index that Faiss builds.

A `Space` holds all vectors, so that the exact answer is always at hand. Where there are so many
that reading all of them for each query takes too long, an index of Faiss finds candidates among
those that were there when it was built; what has changed since is searched exactly beside it.
"""

import hashlib
import logging
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from ..writing import write_whole
from .store import Changes, State, Store

log = logging.getLogger("dinov2_helpers")
Kind = Literal["auto", "exact", "hnsw", "ivf"]
Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]

EXACT_NUMBERS = 50_000_000  # 200 MB, which a core reads in some hundredths of a second
GRAPH_NUMBERS = 2_000_000_000  # 8 GB; a graph needs them once more, and 256 bytes for each vector
LINKS = 32  # of each vector in a graph, on each of its levels
GRAPH_EFFORT = 128  # candidates that a search of a graph keeps, and its building
LISTS_READ = 32  # of an IVF index, for each query
FEW = 0.2  # a filter that leaves a smaller share is searched exactly: a graph loses its way in it
TAIL = 0.1  # share of changed vectors above which an index is built again
LEFT = 0.5  # share of an index's own vectors below which it is built again: the rest were deleted
SCALE_ROWS = 20_000  # from which the mean and deviation of a query's similarities are taken


class Choice(NamedTuple):
    """A type of index, and why it is taken."""

    kind: Kind  # "exact", "hnsw" or "ivf"
    recipe: str  # as Faiss' index_factory reads it
    reason: str


class Nearest(NamedTuple):
    """The nearest vectors of one query, best first; never more than there are."""

    ids: Ids  # (k,)
    scores: Vectors  # (k,), cosines


def choose(n: int, dim: int, kind: Kind = "auto") -> Choice:
    """Choose the type of index for n vectors of `dim` numbers.

    Exact search reads all numbers for each query, and is right by definition: it is taken as long
    as that is fast. A graph (HNSW) answers in a fraction of a millisecond, and is taken while it
    fits into memory beside the vectors. Beyond that come inverted lists (IVF), 4 sqrt(n) of them
    as Faiss' guidelines have it, which hold their vectors in 16 bits.

    Args:
        n: Number of vectors.
        dim: Numbers of each.
        kind: "auto" for this rule, or the type that you want.

    Raises:
        ValueError: None of these types.

    Example:
        >>> choose(10_000, 768).recipe, choose(1_000_000, 768).recipe
        ('Flat', 'HNSW32,Flat')
    """
    if kind not in get_args(Kind):
        raise ValueError(f"index={kind!r}: choose one of {get_args(Kind)}")
    wanted, reason = kind, "it was asked for"
    numbers = n * dim
    if kind == "auto" and numbers <= EXACT_NUMBERS:
        wanted = "exact"
        reason = f"{4 * numbers / 1e6:,.0f} MB of vectors are read fast enough for each query"
    elif kind == "auto" and numbers <= GRAPH_NUMBERS:
        wanted = "hnsw"
        reason = f"{4 * numbers / 1e6:,.0f} MB are too much to read for each query, and fit twice"
    elif kind == "auto":
        wanted = "ivf"
        reason = f"{4 * numbers / 1e9:,.0f} GB are too much for a graph in memory"
    recipes: dict[str, str] = {
        "exact": "Flat",
        "hnsw": f"HNSW{LINKS},Flat",
        "ivf": f"IVF{max(1, min(round(4 * math.sqrt(n)), n // 39))},SQfp16",
    }
    return Choice(wanted, recipes[wanted], reason)


class Space:
    """The unit vectors of one kind in a store, kept up to date with it.

    It is for one thread at a time: what is read while another refreshes it is of two states.

    Args:
        store: The database.
        role: Of which model's vectors: "dinov2" or "clip".
        make: Turns vectors (N, D) as they are stored into unit vectors (N, E).
        key: What `make` depends on; an index that was built with another is not used.
        kind: As for `choose`.
    """

    def __init__(
        self,
        store: Store,
        role: str,
        make: Callable[[Vectors], Vectors],
        *,
        key: str,
        kind: Kind = "auto",
    ) -> None:
        self.store = store
        self.role = role
        self.make = make
        self.key = key
        self.kind = kind
        self.ids = np.empty(0, np.int64)  # (N,), rising
        self.flat: Any = None  # faiss.IndexFlatIP over all vectors, in the order of ids
        self.written = np.empty(0, np.int64)  # (N,), in which state each vector was written
        self.state: State | None = None
        self.built: _Built | None = None
        self._cover: _Cover | None = None  # of the built index, once it was asked for

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def vectors(self) -> Vectors:
        """All vectors (N, E), as Faiss holds them; not to be kept or changed."""
        import faiss

        n, dim = self.flat.ntotal, self.flat.d
        view: Vectors = faiss.rev_swig_ptr(self.flat.get_xb(), n * dim).reshape(n, dim)
        return view

    @property
    def choice(self) -> Choice:
        """The type of index for the vectors that are there now."""
        return choose(len(self), self.flat.d if self.flat is not None else 1, self.kind)

    # Being up to date

    def refresh(self) -> None:
        """Read what has changed in the database since the last time, in whatever process."""
        if self.state == self.store.state():
            return
        self._cover = None
        began_again = self.state is None or not self.store.was(self.state)
        since = -1 if began_again or self.state is None else self.state.number
        changes = self.store.changes(self.role, since)
        if began_again:
            self.ids, self.flat, self.built = np.empty(0, np.int64), None, None
        self._take(changes)
        self.state = changes.state
        if self.choice.kind == "exact" or not len(self):
            self.built = None
        elif (
            self.built is None
            or self.built.kind != self.choice.kind
            or self._is_outgrown(self.built)
        ):
            self.built = self._load() or self._build()

    def _take(self, changes: Changes) -> None:
        """Replace what has changed, drop what is gone, and keep the rest."""
        import faiss

        if not len(changes.ids):
            self.ids, self.written, self.flat = changes.ids, changes.written, None
            return
        fresh = self.make(changes.vectors) if len(changes.changed) else None
        dim = self.flat.d if fresh is None else fresh.shape[1]
        vectors = np.empty((len(changes.ids), dim), np.float32)
        here = np.isin(self.ids, changes.ids, assume_unique=True)  # (N,), what is still there
        if here.any():
            rows = np.searchsorted(changes.ids, self.ids[here])
            vectors[rows] = self.vectors[here]
        if fresh is not None:
            rows = np.searchsorted(changes.ids, changes.changed)
            vectors[rows] = fresh
        flat = faiss.IndexFlatIP(dim)
        flat.add(vectors)
        self.ids, self.written, self.flat = changes.ids, changes.written, flat

    # The index that Faiss builds

    def _is_outgrown(self, built: "_Built") -> bool:
        """Say whether too much was written or deleted since an index was built."""
        here = self._covered(built).here.sum()
        return bool(len(self) - here > TAIL * len(self) or here < LEFT * len(built.ids))

    def _covered(self, built: "_Built") -> "_Cover":
        """Say what the index has of the vectors as they are now."""
        places = np.searchsorted(built.ids, self.ids)
        places = np.minimum(places, len(built.ids) - 1)
        here = (built.ids[places] == self.ids) & (self.written <= built.state.number)
        return _Cover(here, places, bool(here.all()) and len(self) == len(built.ids))

    @property
    def _folder(self) -> Path:
        return self.store.folder / "cache"

    def _stem(self, kind: Kind) -> str:
        parts = (self.role, self.key, kind, LINKS, GRAPH_EFFORT)
        return f"{self.role}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:12]}"

    def _build(self) -> "_Built":
        import faiss

        choice = self.choice
        assert self.state is not None
        index = faiss.index_factory(self.flat.d, choice.recipe, faiss.METRIC_INNER_PRODUCT)
        if choice.kind == "hnsw":
            index.hnsw.efConstruction = GRAPH_EFFORT
        else:
            # folders are in order of what they show, so the first are not like the rest
            rows = np.random.default_rng(0).permutation(len(self))[: max(100_000, 60 * index.nlist)]
            index.train(self.vectors[np.sort(rows)])
        index.add(self.vectors)
        built = _Built(index, self.ids, self.state, choice.kind)
        try:
            built.write(self._folder, self._stem(choice.kind))
        except OSError as error:
            log.warning(
                "%s: the index is not kept, and will be built again: %s", self._folder, error
            )
        return built

    def _load(self) -> "_Built | None":
        """Read the latest index that was built from a state of this database, if there is one."""
        kind = self.choice.kind
        for path in sorted(self._folder.glob(f"{self._stem(kind)}-*.faiss"), reverse=True):
            built = _Built.read(path, kind)
            # one of another database, or of a time that a backup has undone, is none of this one
            if built is not None and self.store.was(built.state) and not self._is_outgrown(built):
                return built
        return None

    # Searching

    def search(self, query: Vectors, k: int, allowed: Ids | None = None) -> Nearest:
        """Return the k vectors of largest cosine to a query, exactly or by the index.

        Args:
            query: (E,), unit length.
            k: How many, 1 or more.
            allowed: Ids among which to look, each once; None: among all. Others are never returned.
        """
        if not len(self):
            return Nearest(np.empty(0, np.int64), np.empty(0, np.float32))
        rows = None
        if allowed is not None:
            rows = rows_among(self.ids, allowed)
            if not len(rows):
                return Nearest(np.empty(0, np.int64), np.empty(0, np.float32))
        if self.built is None or (rows is not None and len(rows) < FEW * len(self)):
            return self._exactly(query, k, rows)
        return self._by_index(self.built, query, k, rows)

    def _exactly(self, query: Vectors, k: int, rows: Ids | None) -> Nearest:
        """Search all vectors, or those of some rows."""
        if rows is None or len(rows) >= FEW * len(self):
            found, scores = _search(self.flat, query, k, rows)
            return Nearest(self.ids[found], scores)
        cosines = self.vectors[rows] @ query  # Faiss would ask of every vector whether it may
        best = np.argsort(-cosines, kind="stable")[:k]
        return Nearest(self.ids[rows[best]], cosines[best])

    def _by_index(self, built: "_Built", query: Vectors, k: int, rows: Ids | None) -> Nearest:
        """Search by the index what it covers, exactly what it does not, and merge.

        Where the index meets too few of those that are wanted, all is searched exactly: a walk
        through a graph ends among the nearest of all, and lists are read in part, though all that
        may be found is elsewhere.
        """
        if self._cover is None:
            self._cover = self._covered(built)
        cover = self._cover
        selected, outside = None, np.empty(0, np.int64)
        if rows is not None or not cover.whole:
            rows = np.arange(len(self)) if rows is None else rows
            selected = cover.places[rows[cover.here[rows]]]
            outside = rows[~cover.here[rows]]
        # among a few allowed ones that were met on the way the nearest need not be
        n, enough = (len(self), k) if selected is None else (len(selected), max(k, GRAPH_EFFORT))
        found, scores = _search(built.index, query, enough, selected, effort=2 * min(k, n))
        if len(found) < min(enough, n):
            return self._exactly(query, k, rows)
        ids, scores = built.ids[found[:k]], scores[:k]
        if len(outside):
            more = self._exactly(query, k, outside)
            ids, scores = np.concatenate([ids, more.ids]), np.concatenate([scores, more.scores])
            best = np.argsort(-scores, kind="stable")[:k]
            ids, scores = ids[best], scores[best]
        return Nearest(ids, scores)

    def cosines(self, query: Vectors, ids: Ids) -> Vectors:
        """Return the cosines of a query (E,) to vectors by their ids, (M,)."""
        rows = np.searchsorted(self.ids, ids)
        found: Vectors = self.vectors[rows] @ query
        return found

    def scale(self, query: Vectors) -> tuple[float, float]:
        """Return mean and deviation of a query's cosines to the vectors, or to many of them."""
        step = max(1, len(self) // SCALE_ROWS)
        cosines = self.vectors[::step] @ query
        return float(cosines.mean()), float(cosines.std())


def rows_among(ids: Ids, wanted: Ids) -> Ids:
    """Return where in ids (N,), rising, those wanted (M,) are; without those that are not there.

    `numpy.intersect1d` would sort all N for each query.

    Example:
        >>> rows_among(np.array([2, 5, 7]), np.array([1, 5, 7])).tolist()
        [1, 2]
    """
    if not len(ids):
        return np.empty(0, np.int64)
    rows = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    there: Ids = rows[ids[rows] == wanted]
    return there


def _search(
    index: Any, query: Vectors, k: int, rows: Ids | None, effort: int = 0
) -> tuple[Ids, Vectors]:
    """Search an index of Faiss, in some of its rows, and leave out what it did not find.

    Args:
        index: Of Faiss.
        query: (E,).
        k: How many.
        rows: (M,), in which to look; None: in all.
        effort: Candidates that a graph keeps, `GRAPH_EFFORT` at least.
    """
    import faiss

    n = index.ntotal if rows is None else len(rows)
    k = min(k, n)
    if not k:
        return np.empty(0, np.int64), np.empty(0, np.float32)
    selector = None
    if rows is not None:
        bits = np.zeros(index.ntotal, bool)
        bits[rows] = True
        selector = faiss.IDSelectorBitmap(np.packbits(bits, bitorder="little"))
    if isinstance(index, faiss.IndexHNSW):
        settings = faiss.SearchParametersHNSW(sel=selector, efSearch=max(GRAPH_EFFORT, effort))
    elif isinstance(index, faiss.IndexIVF):
        settings = faiss.SearchParametersIVF(sel=selector, nprobe=min(LISTS_READ, index.nlist))
    else:
        settings = faiss.SearchParameters(sel=selector)
    row = np.ascontiguousarray(query, np.float32)[None]  # (1, E)
    scores, found = index.search(row, k, params=settings)
    there = found[0] >= 0
    return found[0][there], scores[0][there]


class _Cover(NamedTuple):
    """What a built index has of the vectors that are there now."""

    here: NDArray[np.bool_]  # (N,), whether it has a vector as it is now
    places: Ids  # (N,), where it has it
    whole: bool  # whether that is all of them, and nothing else


class _Built(NamedTuple):
    """An index of Faiss, the ids of its rows, and the state of the database that it is of."""

    index: Any
    ids: Ids
    state: State
    kind: Kind

    def write(self, folder: Path, stem: str) -> None:
        """Write it as a file, and remove those of earlier states."""
        import faiss

        head = f"{self.state.number} {self.state.token} {len(self.ids)}\n".encode()
        content = head + self.ids.tobytes() + faiss.serialize_index(self.index).tobytes()
        digest = hashlib.sha256(content).hexdigest().encode()
        path = folder / f"{stem}-{self.state.number:012d}.faiss"
        write_whole(path, digest + b"\n" + content)
        for older in folder.glob(f"{stem}-*.faiss"):
            if older.name < path.name:
                older.unlink(missing_ok=True)

    @classmethod
    def read(cls, path: Path, kind: Kind) -> "_Built | None":
        """Read such a file; None if it is damaged, which is logged: Faiss would crash on it."""
        import faiss

        try:
            digest, _, content = path.read_bytes().partition(b"\n")
            if hashlib.sha256(content).hexdigest().encode() != digest:
                raise ValueError("its content has changed")
            head, _, rest = content.partition(b"\n")
            number, token, n = head.decode().split()
            ids = np.frombuffer(rest, np.int64, int(n))
            index = faiss.deserialize_index(np.frombuffer(rest, np.uint8, offset=8 * int(n)))
            return cls(index, ids, State(int(number), token), kind)
        except (OSError, ValueError, RuntimeError) as error:
            log.warning("%s is not used, and made again: %s", os.fspath(path), error)
            return None
