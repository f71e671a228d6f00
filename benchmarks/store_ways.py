"""Ways to keep vectors under ids and to find the nearest, for `benchmarks.stores`: ours, others'.

All keep unit vectors under the ids 1, 2, ..., and a number that conditions are about: `shelf_of` an
id. None of them has more than one thread to compute with.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeAlias

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when Faiss is loaded
os.environ.setdefault("LANCE_CPU_THREADS", "1")  # read when LanceDB first computes
import faiss
import numpy as np
from numpy.typing import NDArray

from benchmarks.ways import need
from dinov2_helpers.techniques.store import Entry, Store
from dinov2_helpers.techniques.vector_search import GRAPH_EFFORT, Kind, Space, choose

K = 10
SHELVES = 100  # a condition leaves one of them, which is 1 % of the vectors
SHELF = 7  # that one
BATCH = 1_000  # rows of a transaction, and of what is written at once

Ids: TypeAlias = NDArray[np.int64]
Vectors: TypeAlias = NDArray[np.float32]


class Way(Protocol):
    """Vectors under ids."""

    def build(self, vectors: Vectors) -> None:
        """Keep vectors (N, D) under the ids 1 to N, so that a query finds them."""

    def query(self, vector: Vectors) -> Ids:
        """Return the ids of the K nearest to a vector (D,), best first."""

    def filtered(self, vector: Vectors) -> Ids:
        """Return the ids of the nearest among those on `SHELF`."""

    def replace(self, ids: Ids, vectors: Vectors) -> None:
        """Put others in the place of vectors, so that a query sees it."""

    def delete(self, ids: Ids) -> None:
        """Delete vectors, so that a query sees it."""

    def size(self) -> int:
        """Return the bytes on the disk, or in memory if it keeps nothing there."""


class Impossible(Exception):
    """What a way cannot do; the text says why."""


def shelf_of(ids: Ids) -> Ids:
    """Return the number of each id that conditions are about, 0 to 99."""
    return ids % SHELVES


def bytes_of(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


class Ours:
    """The database and the search of `ImageIndex`, without its models.

    Args:
        folder: An empty one.
        kind: Type of index.
    """

    def __init__(self, folder: Path, kind: Kind) -> None:
        no_model = {"name": "none", "fingerprint": ""}
        self.store = Store(folder, models={"dinov2": no_model, "clip": no_model})
        self.space = Space(self.store, "dinov2", lambda vectors: vectors, key="", kind=kind)

    def build(self, vectors: Vectors) -> None:
        """Write transactions, then read them back, as a search does."""
        ids = np.arange(1, len(vectors) + 1)
        for start in range(0, len(vectors), BATCH):
            part = slice(start, start + BATCH)
            self.store.write(_entries(ids[part], vectors[part]))
        self.space.refresh()

    def query(self, vector: Vectors) -> Ids:
        """Look for changes, search, and read the rows that were found."""
        return self._found(vector, None)

    def filtered(self, vector: Vectors) -> Ids:
        """Do the same under a condition of SQL."""
        return self._found(vector, self.store.select("width = ?", [SHELF]))

    def _found(self, vector: Vectors, allowed: Ids | None) -> Ids:
        self.space.refresh()
        ids = self.space.search(vector, K, allowed).ids
        for number in ids:
            self.store.row(int(number))
        return ids

    def replace(self, ids: Ids, vectors: Vectors) -> None:
        """Write them in one transaction."""
        self.store.write(_entries(ids, vectors))
        self.space.refresh()

    def delete(self, ids: Ids) -> None:
        """Delete them in one transaction."""
        self.store.delete(ids.tolist())
        self.space.refresh()

    def size(self) -> int:
        """Return the bytes of the folder."""
        return bytes_of(self.store.folder)


def _entries(ids: Ids, vectors: Vectors) -> list[Entry]:
    of_clip = np.zeros(1, np.float32)  # the vectors of one model are compared
    entries = []
    for number, shelf, vector in zip(ids, shelf_of(ids), vectors, strict=True):
        name = f"/pictures/{number:09d}.jpg"
        digest = f"{number:064x}"
        entries.append(
            Entry(name.encode(), name, 1, 1, digest, int(shelf), 480, {}, vector, of_clip)
        )
    return entries


class BareFaiss:
    """An index of Faiss under ids, in memory, of the recipe that `ImageIndex` would take.

    Args:
        kind: Type of index.
    """

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.index: Any = None
        self.inner: Any = None

    def build(self, vectors: Vectors) -> None:
        """Add all."""
        recipe = choose(len(vectors), vectors.shape[1], self.kind).recipe
        self.inner = faiss.index_factory(vectors.shape[1], recipe, faiss.METRIC_INNER_PRODUCT)
        if self.kind == "hnsw":
            self.inner.hnsw.efConstruction = GRAPH_EFFORT
        self.index = faiss.IndexIDMap2(self.inner)
        self.index.add_with_ids(vectors, np.arange(1, len(vectors) + 1))

    def query(self, vector: Vectors) -> Ids:
        """Search."""
        return self._found(vector, None)

    def filtered(self, vector: Vectors) -> Ids:
        """Search with a selector of ids, which somebody else must know."""
        ids = np.arange(SHELF, self.index.ntotal + 1, SHELVES)
        return self._found(vector, faiss.IDSelectorBatch(ids))

    def _found(self, vector: Vectors, selector: Any) -> Ids:
        if self.kind == "hnsw":
            settings = faiss.SearchParametersHNSW(sel=selector, efSearch=GRAPH_EFFORT)
        else:
            settings = faiss.SearchParameters(sel=selector)
        found: Ids = self.index.search(vector[None], K, params=settings)[1][0]
        return found[found > 0]

    def replace(self, ids: Ids, vectors: Vectors) -> None:
        """Remove and add."""
        self.delete(ids)
        self.index.add_with_ids(vectors, ids)

    def delete(self, ids: Ids) -> None:
        """Remove."""
        if self.kind == "hnsw":
            raise Impossible("a graph of Faiss removes nothing")
        self.index.remove_ids(ids)

    def size(self) -> int:
        """Return the bytes that it would write."""
        return len(faiss.serialize_index(self.index))


class Lance:
    """A table of LanceDB with an index of its ids.

    Args:
        folder: An empty one.
        indexed: Whether to build its IVF-PQ index, whose candidates it compares again (refinement).
    """

    LISTS_READ = 32  # as `ImageIndex` reads of its inverted lists
    REFINED = 10  # times K candidates are compared by their whole vectors

    def __init__(self, folder: Path, indexed: bool) -> None:
        self.lancedb, self.arrow, self.kinds = need("lancedb", "pyarrow", "lancedb.index")
        self.folder = folder
        self.indexed = indexed
        self.table: Any = None

    def build(self, vectors: Vectors) -> None:
        """Write a table, and an index of sqrt(n) lists if there is to be one."""
        ids = np.arange(1, len(vectors) + 1)
        database = self.lancedb.connect(self.folder)
        self.table = database.create_table("pictures", self._rows(ids, vectors))
        self.table.create_index("id", config=self.kinds.BTree())
        if self.indexed:
            recipe = self.kinds.IvfPq(
                distance_type="dot",
                num_partitions=round(len(vectors) ** 0.5),
                num_sub_vectors=vectors.shape[1] // 8,
            )
            self.table.create_index("vector", config=recipe)

    def _rows(self, ids: Ids, vectors: Vectors) -> Any:
        arrow = self.arrow
        columns = {
            "id": arrow.array(ids, arrow.int64()),
            "shelf": arrow.array(shelf_of(ids), arrow.int64()),
            "vector": arrow.FixedSizeListArray.from_arrays(vectors.ravel(), vectors.shape[1]),
        }
        return arrow.table(columns)

    def query(self, vector: Vectors) -> Ids:
        """Search the table."""
        return self._found(vector, None)

    def filtered(self, vector: Vectors) -> Ids:
        """Search the rows that meet a condition."""
        return self._found(vector, f"shelf = {SHELF}")

    def _found(self, vector: Vectors, where: str | None) -> Ids:
        search = self.table.search(vector, vector_column_name="vector").distance_type("dot")
        if self.indexed:
            search = search.nprobes(self.LISTS_READ).refine_factor(self.REFINED)
        if where:
            search = search.where(where, prefilter=True)
        found = search.limit(K).select(["id", "_distance"]).to_arrow()["id"]
        ids: Ids = found.to_numpy()
        return ids

    def replace(self, ids: Ids, vectors: Vectors) -> None:
        """Merge them into the table."""
        merge = self.table.merge_insert("id").when_matched_update_all()
        merge.when_not_matched_insert_all().execute(self._rows(ids, vectors))

    def delete(self, ids: Ids) -> None:
        """Delete by a condition."""
        self.table.delete(f"id IN ({', '.join(map(str, ids))})")

    def size(self) -> int:
        """Return the bytes of the folder."""
        return bytes_of(self.folder)


WAYS: dict[str, Callable[[Path], Way]] = {
    "bare Faiss, exact": lambda folder: BareFaiss("exact"),
    "ImageIndex, exact": lambda folder: Ours(folder, "exact"),
    "LanceDB, exact": lambda folder: Lance(folder, False),
    "bare Faiss, graph": lambda folder: BareFaiss("hnsw"),
    "ImageIndex, graph": lambda folder: Ours(folder, "hnsw"),
    "LanceDB, IVF-PQ": lambda folder: Lance(folder, True),
}
