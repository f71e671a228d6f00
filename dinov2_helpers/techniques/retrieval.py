"""A folder of pictures as a store on disk that is searched by words, by a picture, or by both."""

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ..clip import Clip, load_clip
from ..extraction import Embeddings, Features, Skipped, fingerprint, stream_features
from ..extraction.result import Pooling
from ..extraction.sources import is_one_picture
from ..hashes import sha256_of
from ..lit import Lit, project
from ..models import Model, load_dinov2
from ..pictures.decode import ImageError, open_image
from ..pictures.files import LeftOut, describe_left_out, list_images, local_path, printable
from .bridge import Bridge
from .hits import Hit, Hits
from .keeping import Kept, KeptError
from .store import DTYPES, Entry, Store, holds_store
from .vector_search import Choice, Ids, Kind, Space, choose, rows_among
from .vectors import Vectors, unit

__all__ = ["Added", "Hit", "Hits", "ImageIndex", "Info"]

log = logging.getLogger("dinov2_helpers")
Attributes: TypeAlias = (
    "Mapping[str, Any] | Sequence[Mapping[str, Any]] | Callable[[Path], Mapping[str, Any]] | None"
)
BATCH = 64  # pictures of a transaction
BRIDGE_LEAST = 100  # pictures from which a store fits its bridge
BRIDGE_MOST = 20_000  # pictures that it is fitted on
CANDIDATES = 10  # times k: how many each index gives to be fused


@dataclass(frozen=True)
class Added:
    """What `ImageIndex.add` did.

    Args:
        new: Number of pictures that were added.
        renewed: Number of known files whose content had changed.
        known: Number of known files that are as they were.
        skipped: Pictures that cannot be used; `index` is the position in the input.
        left_out: Files of the folder that are no pictures.
    """

    new: int
    renewed: int
    known: int
    skipped: tuple[Skipped, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True)
class Info:
    """What a store holds.

    Args:
        folder: Where it is.
        pictures: Number of pictures.
        bytes: Size on the disk, caches included.
        models: Names of the models, by role.
        dtype: How the numbers of vectors are kept.
        state: Number of transactions that changed the pictures.
        search: Type of index for as many vectors, and why.
    """

    folder: Path
    pictures: int
    bytes: int
    models: dict[str, str]
    dtype: str
    state: int
    search: Choice


class _File(NamedTuple):
    """A file that is to be looked at, as it was when that began."""

    place: int  # in the input
    path: Path
    size: int
    mtime_ns: int
    sha256: str
    attributes: Mapping[str, Any]
    is_known: bool


class _Part(NamedTuple):
    """What a query asks one of the spaces."""

    space: Space
    vector: NDArray[np.float32]  # (E,), unit length
    weight: float


class ImageIndex:
    """Pictures on disk that are found by words, by a picture, or by both.

    The vectors of DINOv2 and of CLIP lie with paths and attributes in a SQLite database in a folder
    of its own. What `add` and `delete` have said is done stays done, whatever happens to the
    process. Open it in any number of processes; each sees what another has written. One that is
    open may be used by several threads at once, of which one at a time compares vectors.

    Words are compared with CLIP's vectors of the pictures and, through a `Bridge` that the store
    fits on its own pictures, with DINOv2's; pictures with DINOv2's. Several similarities are
    added with weights, each as deviations from its mean over the store, so that they are on one
    scale ("late fusion"); the score of a picture does not depend on `where`.

    Args:
        folder: Of the store; it is made if need be. The pictures stay where they are.
        dinov2: The model that looks at pictures. None: the one that the store was made with, or
            `load_dinov2()` for a new one. It is loaded when it is first needed.
        clip: The model that reads words, a `Clip`, or a `Lit` for English and Chinese. None: as
            `dinov2`, or `load_clip()`.
        by: What of DINOv2 pictures are compared by: "cls", what they show; "mean", what most of
            their patches show; "both". All are stored.
        bridge: Share of the bridge in a search by words, 0 to 1; it is 0 with a `Lit`, which is a
            bridge itself, and for fewer than `BRIDGE_LEAST` pictures.
        words: Share of the words in a search by words and a picture, 0 to 1.
        index: Type of index: "exact", "hnsw", "ivf", or "auto" for the rule of
            `vector_search.choose`, by which up to some tens of thousands of pictures are searched
            exactly.
        dtype: How a new store keeps numbers: "float32", or "float16" for half the space.
        exact: Whether all pixels of large JPEG files are decoded, as for `extract_features`.
        cache: Folder for features, as there.
        progress: As there.

    Raises:
        KeptError: The store was made with other models, is damaged or of a later version. All
            methods raise it for damage, and where another process keeps writing.
        ValueError: Impossible settings.

    Source: Faiss, Douze et al. 2024, "The Faiss library"; late fusion after standardising, Fox &
    Shaw 1994, "Combination of multiple searches", with z-scores.

    Example:
        >>> import tempfile
        >>> from dinov2_helpers import load_clip, load_dinov2, load_scenes
        >>> toys = load_scenes("test", framing="portrait").images[:8]
        >>> folder = tempfile.TemporaryDirectory()
        >>> with ImageIndex(folder.name, load_dinov2("tiny"), load_clip("tiny")) as index:
        ...     added = index.add(toys)
        ...     hits = index.search("a dog", k=3, where="width >= 224")
        >>> added.new, len(hits), hits[0].rank
        (8, 3, 1)
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        dinov2: Model | None = None,
        clip: Clip | Lit | None = None,
        *,
        by: Pooling = "cls",
        bridge: float = 0.5,
        words: float = 0.65,
        index: Kind = "auto",
        dtype: str = "float32",
        exact: bool = False,
        cache: str | os.PathLike[str] | None = None,
        progress: bool | None = None,
    ) -> None:
        _check_share("bridge", bridge)
        _check_share("words", words)
        choose(0, 1, index)
        if by not in ("cls", "mean", "both"):
            raise ValueError(f"by={by!r}: choose 'cls', 'mean' or 'both'")
        if dtype not in DTYPES:
            raise ValueError(f"dtype={dtype!r}: choose one of {DTYPES}")
        self.by = by
        self.bridge = bridge
        self.words = words
        self.index = index
        self.exact = exact
        self.cache = cache
        self.progress = progress
        # held by whoever uses what is in memory: models that are being loaded, spaces, the bridge;
        # and taken before the store's own lock, never while that is held
        self._lock = threading.RLock()
        self._models: dict[str, Any] = {}
        path = local_path(folder)
        models = None
        if not holds_store(path):
            self._models = {"dinov2": dinov2 or load_dinov2(), "clip": clip or load_clip()}
            models = {role: _record_of(model) for role, model in self._models.items()}
        self.store = Store(path, models=models, dtype=dtype)
        self._kept = Kept(self.store.folder, {}, {}, self.store.models)
        try:
            for role, model in (("dinov2", dinov2), ("clip", clip)):
                if model is not None:
                    self._models[role] = self._kept.model(role, model)
        except KeptError:
            self.store.close()
            raise
        self._spaces: dict[str, Space] = {}
        self._bridge: Bridge | None = None
        self._is_own = False  # whether the bridge is fitted on the pictures of the store

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        dinov2: Model | None = None,
        clip: Clip | Lit | None = None,
        **settings: Any,
    ) -> "ImageIndex":
        """Open a store that is there already; the arguments are those of the constructor.

        Raises:
            KeptError: There is no store in the folder, or as for the constructor.
        """
        path = local_path(folder)
        if not holds_store(path):
            raise KeptError(f"{printable(path)} holds no index of pictures: make one with add()")
        return cls(path, dinov2, clip, **settings)

    @property
    def dinov2(self) -> Model:
        """The model that looks at pictures."""
        model: Model = self._model("dinov2")
        return model

    @property
    def clip(self) -> Clip | Lit:
        """The model that reads words."""
        model: Clip | Lit = self._model("clip")
        return model

    def _model(self, role: str) -> Any:
        with self._lock:
            if role not in self._models:
                self._models[role] = self._kept.model(role)
            return self._models[role]

    # Its life

    def __len__(self) -> int:
        return len(self.store)

    def __enter__(self) -> "ImageIndex":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database; a second time does nothing."""
        with self._lock:
            self.store.close()

    def add(self, pictures: Any, attributes: Attributes = None) -> Added:
        """Add the pictures of a folder or list; known files are skipped, changed ones renewed.

        A file is known by its path, and unchanged if size and time are; a changed one whose
        content is as before keeps its vectors. Each batch of pictures is on the disk before the
        next begins, so that a run that was stopped is called again and does what is missing.

        Args:
            pictures: A folder, the path of a picture, or many of these paths.
            attributes: What you know of the pictures, for `where` and for hits: a dict for all of
                them, a list with one for each, or a function of the path. Known pictures get them
                too; one that is given twice gets the first. None: none for new ones, and those of
                known ones stay.

        Raises:
            FileNotFoundError: The folder does not exist or holds no picture.
            TypeError: Pictures that are no files, or attributes that JSON cannot hold.
            ValueError: Not as many attributes as pictures, or NaN among them.
        """
        paths, left_out = _paths_of(pictures)
        given = _attributes_of(attributes, paths)
        counts = {"new": 0, "renewed": 0, "known": 0}
        skipped = list[Skipped]()
        numbered = _each_once(paths, given)
        with tqdm(total=len(set(paths)), disable=_disabled(self.progress)) as bar:
            while batch := list(islice(numbered, BATCH)):
                self._add_batch(batch, counts, skipped)
                bar.update(len(batch))
        return Added(**counts, skipped=tuple(skipped), left_out=left_out)

    def _add_batch(
        self,
        batch: Sequence[tuple[int, Path, Mapping[str, Any] | None]],
        counts: dict[str, int],
        skipped: list[Skipped],
    ) -> None:
        files = list[_File]()
        described = dict[int, Mapping[str, Any]]()
        for index, path, attributes in batch:
            try:
                found = self._look_at(index, path, attributes, described)
            except ImageError as error:
                log.warning("%s", error)
                skipped.append(Skipped(index, printable(path), error.reason))
                continue
            if found is None:
                counts["known"] += 1
            else:
                files.append(found)
        if described:
            self.store.set_attributes(described)
        if not files:
            return
        entries = dict[int, Entry]()
        for position, entry in self._entries(files, skipped):
            entries[position] = entry
        if entries:
            self.store.write(list(entries.values()))
        for position in entries:
            counts["renewed" if files[position].is_known else "new"] += 1

    def _look_at(
        self,
        index: int,
        path: Path,
        attributes: Mapping[str, Any] | None,
        described: dict[int, Mapping[str, Any]],
    ) -> _File | None:
        """Return what is to be read anew, None for what is known, noting new attributes of it."""
        with _reading(path):
            status = path.stat()
        known = self.store.known(os.fsencode(path))
        if known and attributes is not None and dict(attributes) != known.attributes:
            described[known.id] = attributes
        if known and (known.size, known.mtime_ns) == (status.st_size, status.st_mtime_ns):
            return None
        with _reading(path):
            content = sha256_of(path)
        if known and content == known.sha256:
            self.store.touch(known.id, status.st_size, status.st_mtime_ns)
            return None
        if attributes is None:
            attributes = known.attributes if known else {}
        facts = (status.st_size, status.st_mtime_ns, content)
        return _File(index, path, *facts, attributes, known is not None)

    def _entries(
        self, files: Sequence[_File], skipped: list[Skipped]
    ) -> Iterator[tuple[int, Entry]]:
        """Yield what is to be written, by position in `files`, and note what cannot be read."""
        features = self._look([file.path for file in files])
        skipped += [
            Skipped(files[one.index].place, one.name, one.reason) for one in features.skipped
        ]
        if not len(features):
            return
        readable = [files[position].path for position in features.index]
        embeddings = self._embed(readable, features)
        pooled = features.pooled("both")  # (N, 2 D)
        row_of = {int(row): number for number, row in enumerate(embeddings.index)}
        for row, position in enumerate(features.index):
            if row not in row_of:  # its file was changed or removed between the two models
                reason = "it was changed while it was read"
                skipped.append(Skipped(files[position].place, features.names[row], reason))
                continue
            file, (height, width) = files[position], map(int, features.sizes[row])
            yield (
                int(position),
                Entry(
                    path=os.fsencode(file.path),
                    name=printable(file.path),
                    size=file.size,
                    mtime_ns=file.mtime_ns,
                    sha256=file.sha256,
                    width=width,
                    height=height,
                    attributes=file.attributes,
                    dinov2=pooled[row],
                    clip=embeddings.vectors[row_of[row]],
                ),
            )

    def _look(self, pictures: Any) -> Features:
        """Return DINOv2's features of a batch; one of which nothing can be read has none."""
        chunk = max(BATCH, len(pictures))
        (found,) = stream_features(
            self.dinov2, pictures, chunk=chunk, exact=self.exact, cache=self.cache
        )
        return found

    def _embed(self, pictures: Any, features: Features) -> Embeddings:
        """Return CLIP's vectors of pictures; a `Lit` on the same DINOv2 needs only its features."""
        clip = self.clip
        if isinstance(clip, Lit) and fingerprint(clip.dinov2) == fingerprint(self.dinov2):
            return Embeddings(_projected(clip, features), np.arange(len(features)), (), ())
        return clip.embed_images(pictures, exact=self.exact, cache=self.cache, progress=False)

    def delete(
        self,
        where: str | None = None,
        params: Sequence[Any] = (),
        *,
        ids: Iterable[int] | None = None,
    ) -> int:
        """Delete pictures from the store, by condition or by ids; their files stay.

        Returns:
            How many there were.

        Raises:
            TypeError: An id that is no whole number.
            WhereError: As `Store.select`.
            ValueError: Neither of the two, or both.
        """
        if (where is None) == (ids is None):
            raise ValueError("delete needs where=..., or ids=..., and not both")
        if ids is None:
            assert where is not None
            ids = self.store.select(where, params).tolist()
        wanted = list(ids)
        if others := [one for one in wanted if not _is_whole(one)]:
            raise TypeError(f"ids: {others[0]!r} is no id of a picture, which is a whole number")
        with self._lock:  # what a search in another thread has found stays until it is shown
            return self.store.delete(wanted)

    def forget_missing(self) -> int:
        """Delete the pictures whose files are gone; return how many.

        One whose folder cannot be looked into now is not known to be gone.

        Raises:
            FileNotFoundError: None of the files is there, as if their disk were not.
        """
        paths = self.store.paths()
        gone = [number for number, path in paths if _is_gone(path)]
        if gone and len(gone) == len(paths):
            raise FileNotFoundError(
                f"none of the {len(gone)} pictures is there, such as {printable(paths[0][1])}: is "
                "their disk connected? delete(where='1') deletes them all"
            )
        return self.delete(ids=gone)

    def compact(self) -> None:
        """Give the space of deleted pictures back to the disk."""
        self.store.compact()

    def info(self) -> Info:
        """Say what the store holds."""
        files = [path for path in self.store.folder.rglob("*") if path.is_file()]
        n = len(self)
        dim = self.dinov2.dim * (2 if self.by == "both" else 1)
        return Info(
            folder=self.store.folder,
            pictures=n,
            bytes=sum(path.stat().st_size for path in files),
            models={role: model["name"] for role, model in self.store.models.items()},
            dtype=self.store.dtype,
            state=self.store.state().number,
            search=choose(n, dim, self.index),
        )

    # Searching

    def search(
        self,
        words: str | None = None,
        picture: Any = None,
        k: int = 10,
        *,
        where: str | None = None,
        params: Sequence[Any] = (),
        bridge: float | None = None,
        weight: float | None = None,
    ) -> Hits:
        """Find the pictures that are most like words, a picture, or both.

        Args:
            words: What is looked for. With "lit-tiny" it may be Chinese.
            picture: What `open_image` opens; or the id of a picture in the store, which is then
                left out of the hits.
            k: How many hits, 1 or more; there are fewer if fewer pictures meet `where`.
            where: A condition of SQL over the columns `id`, `name`, `size`, `mtime_ns`, `sha256`,
                `width`, `height` and the JSON `attributes`, such as
                "width > 500 AND attributes->>'$.brand' = ?". It is obeyed exactly. It can read
                these columns and nothing else.
            params: Values for its question marks.
            bridge: Share of the bridge in the words; None: that of the constructor.
            weight: Share of the words beside a picture; None: `words` of the constructor.

        Returns:
            The hits, best first. `score` is a cosine where one similarity decides, else a weighted
            sum of deviations from the means.

        Raises:
            TypeError, ValueError: Neither words nor picture; a text that is too long.
            WhereError: As `Store.select`.
            ImageError: The picture cannot be read, or gives no features.
            KeptError: No picture has the id.
        """
        if not _is_whole(k) or k < 1:
            raise ValueError(f"k={k}: it must be a whole number, 1 or more")
        if words is not None and not isinstance(words, str):
            raise TypeError(f"words is a {type(words).__name__}; a picture goes into picture=...")
        if words is None and picture is None:
            raise ValueError("a search needs words, picture=..., or both")
        allowed = None if where is None else self.store.select(where, params)
        own = int(picture) if _is_whole(picture) else None
        looked = None if picture is None or own is not None else self._looked(picture)
        with self._lock:
            parts = self._parts(words, looked if own is None else own, bridge, weight)
            ids, scores = _fused(parts, k + (own is not None), allowed)
            found = [(i, s) for i, s in zip(ids.tolist(), scores.tolist(), strict=True) if i != own]
            return self._hits(found[:k], words or "")

    def _looked(self, picture: Any) -> NDArray[np.float32]:
        """Return the unit vector of a picture, which DINOv2 makes while other threads search."""
        name = os.fsdecode(picture) if isinstance(picture, str | os.PathLike) else "picture"
        features = self._look({name: open_image(picture)})
        if not len(features):  # it was read, and gives no features
            raise ImageError(name, features.skipped[0].reason)
        return _parts_of(features.pooled("both"), self.by)[0]

    def _parts(
        self,
        words: str | None,
        picture: NDArray[np.float32] | int | None,
        bridge: float | None,
        weight: float | None,
    ) -> list[_Part]:
        """Return what a query asks of which space, as the store is now; the lock is held."""
        by_words = 1.0
        if words is not None and picture is not None:
            by_words = self.words if weight is None else _check_share("weight", weight)
        parts = list[_Part]()
        if picture is not None:
            space = self._space("picture")
            parts.append(_Part(space, self._picture_vector(space, picture), 1 - by_words))
        if words is not None:
            (vector,) = self.clip.embed_texts([words])  # a tokenizer is for one thread at a time
            bridged = self._bridged(bridge)
            share = 0.0
            if bridged is not None:
                share = self.bridge if bridge is None else bridge
                parts.append(_Part(bridged, vector, by_words * share))
            parts.append(_Part(self._space("words"), vector, by_words * (1 - share)))
        return [part for part in parts if part.weight > 0] if len(parts) > 1 else parts

    def _picture_vector(
        self, space: Space, picture: NDArray[np.float32] | int
    ) -> NDArray[np.float32]:
        """Return the vector itself, or that of the picture of an id."""
        if not isinstance(picture, int):
            return picture
        place = int(np.searchsorted(space.ids, picture))
        if place == len(space) or space.ids[place] != picture:
            raise KeptError(f"{self.store.folder} holds no picture of id {picture}")
        return space.vectors[place].copy()

    def _space(self, name: str) -> Space:
        """Return the vectors that pictures or words are compared with, as they are now."""
        if name not in self._spaces:
            if name == "picture":
                self._spaces[name] = Space(
                    self.store,
                    "dinov2",
                    lambda vectors: _parts_of(vectors, self.by),
                    key=self.by,
                    kind=self.index,
                )
            else:
                self._spaces[name] = Space(self.store, "clip", unit, key="", kind=self.index)
        self._spaces[name].refresh()
        return self._spaces[name]

    def _hits(self, found: Sequence[tuple[int, float]], words: str) -> Hits:
        hits = list[Hit]()
        for number, score in found:
            row = self.store.row(number)
            if row is not None:  # another process may have deleted it just now
                path = Path(os.fsdecode(row.path))
                size = (row.width, row.height)
                hits.append(Hit(len(hits) + 1, score, path, number, row.attributes, *size))
        return Hits(tuple(hits), words)

    # The bridge

    def fit_bridge(self, pictures: Any) -> Bridge:
        """Fit the bridge on pictures of your choice instead of those in the store, and keep it.

        Args:
            pictures: As for `Bridge.fit`: some hundreds of the kind that is searched, unlabelled.

        Raises:
            FileNotFoundError, TypeError, ValueError: As `Bridge.fit`.
        """
        bridge = Bridge(self.dinov2, self.clip, cache=self.cache, progress=self.progress)
        fitted = bridge.fit(pictures)
        with self._lock:
            fitted.save(self.store.folder / "bridge")
            self._is_own = False
            self._take_bridge(fitted)
        return fitted

    def _take_bridge(self, fitted: Bridge) -> Space:
        """Compare words with what a bridge makes of DINOv2's vectors."""
        self._bridge = fitted

        def cross(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
            places = np.arange(len(vectors))
            return fitted.transform(Vectors(vectors, places, ("",) * len(vectors)))

        key = sha256(fitted.matrix_.tobytes() + fitted.offset_.tobytes()).hexdigest()
        space = Space(self.store, "dinov2", cross, key=key, kind=self.index)
        self._spaces["bridge"] = space
        return space

    def _bridged(self, share: float | None) -> Space | None:
        """Return what words are compared with through the bridge, if there is one."""
        wanted = self.bridge if share is None else _check_share("bridge", share)
        if not wanted or isinstance(self.clip, Lit):
            return None
        n = len(self)
        if self._bridge is None:
            self._bridge = self._kept_bridge("bridge")
        outgrown = self._bridge is not None and self._is_own and n >= 2 * self._bridge.n_pictures_
        if self._bridge is None or (outgrown and self._bridge.n_pictures_ < BRIDGE_MOST):
            self._is_own = True
            self._bridge = self._own_bridge(n)
        if self._bridge is None:
            return None
        space = self._spaces.get("bridge") or self._take_bridge(self._bridge)
        space.refresh()
        return space

    def _own_bridge(self, n: int) -> Bridge | None:
        """Return a bridge fitted on the pictures of the store: a cache, made again when needed."""
        if n < BRIDGE_LEAST:
            return None
        self._spaces.pop("bridge", None)
        kept = self._kept_bridge("cache")
        if kept is not None and kept.n_pictures_ >= min(n, BRIDGE_MOST) / 2:
            return kept
        x, y = (self.store.changes(role) for role in ("dinov2", "clip"))
        both = np.intersect1d(x.changed, y.changed)
        chosen = np.sort(np.random.default_rng(0).permutation(both)[:BRIDGE_MOST])
        looked = x.vectors[np.searchsorted(x.changed, chosen)]
        read = unit(y.vectors[np.searchsorted(y.changed, chosen)])
        places, names = np.arange(len(chosen)), ("",) * len(chosen)
        pairs = Vectors(looked, places, names), Embeddings(read, places, names, ())
        fitted = Bridge(self.dinov2, self.clip).fit(*pairs)
        try:
            fitted.save(self.store.folder / "cache")
        except OSError as error:
            log.warning("%s: the bridge is not kept: %s", printable(self.store.folder), error)
        return fitted

    def _kept_bridge(self, folder: str) -> Bridge | None:
        path = self.store.folder / folder
        if not (path / "bridge.json").is_file():
            return None
        try:
            return Bridge.load(path, self.dinov2, self.clip)
        except KeptError:
            if folder != "cache":
                raise
            log.warning("%s: the bridge is damaged, and is fitted again", printable(path))
            return None


def _fused(parts: Sequence[_Part], k: int, allowed: Ids | None) -> tuple[Ids, NDArray[np.float32]]:
    """Return ids and scores of the k best by one similarity, or by the weighted sum of several."""
    if len(parts) == 1:
        space, vector, _ = parts[0]
        return space.search(vector, k, allowed)
    ids = parts[0].space.ids
    if any(not np.array_equal(part.space.ids, ids) for part in parts[1:]):
        # another process has written between the reading of two spaces
        for part in parts[1:]:
            ids = ids[rows_among(ids, part.space.ids)]
        allowed = ids if allowed is None else allowed
    if allowed is not None:
        ids = allowed = ids[rows_among(ids, allowed)]
    if any(part.space.built is not None for part in parts):
        found = [space.search(vector, CANDIDATES * k, allowed).ids for space, vector, _ in parts]
        ids = np.unique(np.concatenate(found))
    scores = np.zeros(len(ids), np.float32)
    for space, vector, weight in parts:
        if len(ids):
            mean, deviation = space.scale(vector)
            scores += weight * (space.cosines(vector, ids) - mean) / (deviation or 1.0)
    best = np.argsort(-scores, kind="stable")[:k]
    return ids[best], scores[best]


def _parts_of(stored: NDArray[np.float32], by: Pooling) -> NDArray[np.float32]:
    """Return unit vectors (N, D) or (N, 2 D) of CLS and mean side by side (N, 2 D)."""
    dim = stored.shape[1] // 2
    cls, mean = unit(stored[:, :dim]), unit(stored[:, dim:])
    if by == "both":
        return unit(np.concatenate([cls, mean], axis=1))
    return cls if by == "cls" else mean


def _projected(lit: Lit, features: Features) -> NDArray[np.float32]:
    """Return the vectors that a `Lit` makes of its DINOv2's features, (N, E) of length 1."""
    import torch

    pooled = torch.from_numpy(features.pooled("both")).to(lit.head["mean"].device)
    with torch.inference_mode():
        return project(lit.head, pooled).cpu().numpy()


def _paths_of(pictures: Any) -> tuple[list[Path], tuple[LeftOut, ...]]:
    """Return the absolute paths of pictures, and what is left out of a folder."""
    left_out: tuple[LeftOut, ...] = ()
    pictures = getattr(pictures, "images", pictures)  # of Scenes
    if isinstance(pictures, str | os.PathLike):
        path = local_path(pictures)
        if path.is_file():
            pictures = [path]
        else:
            pictures, left_out = list_images(path)
    several = isinstance(pictures, Iterable) and not is_one_picture(pictures)
    paths = list[Path]()
    for one in pictures if several else [pictures]:
        if not isinstance(one, str | os.PathLike):
            raise TypeError(
                f"{type(one).__name__} is no file: an index holds the paths of pictures"
            )
        paths.append(local_path(one).absolute())
    if left_out:
        log.warning("%s", describe_left_out(left_out))
    return paths, left_out


def _each_once(
    paths: Sequence[Path], attributes: Iterable[Mapping[str, Any] | None]
) -> Iterator[tuple[int, Path, Mapping[str, Any] | None]]:
    """Yield pictures with their positions and attributes where they are given first."""
    seen = set[Path]()
    for place, (path, of_it) in enumerate(zip(paths, attributes, strict=True)):
        if path not in seen:
            seen.add(path)
            yield place, path, of_it


def _attributes_of(
    attributes: Attributes, paths: Sequence[Path]
) -> Iterable[Mapping[str, Any] | None]:
    """Return the attributes of each picture, or None for each."""
    if attributes is None:
        return [None] * len(paths)
    if callable(attributes):
        return map(attributes, paths)
    if isinstance(attributes, Mapping):
        return [attributes] * len(paths)
    if len(attributes) != len(paths):
        raise ValueError(f"{len(attributes)} attributes for {len(paths)} pictures")
    return attributes


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Raise an ImageError where a file cannot be read, or no file can have such a name."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(path, f"cannot be read: {reason}") from error


def _is_gone(path: bytes) -> bool:
    """Say whether there is no such file, and not only no right or no connection to see it."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _record_of(model: Model | Lit) -> dict[str, str]:
    made = model.fingerprint() if isinstance(model, Lit) else fingerprint(model)
    return {"name": model.name, "fingerprint": made}


def _check_share(name: str, share: float) -> float:
    if not 0 <= share <= 1:
        raise ValueError(f"{name}={share}: it must be within 0 to 1")
    return float(share)


def _is_whole(number: Any) -> bool:
    return isinstance(number, int | np.integer) and not isinstance(number, bool)


def _disabled(progress: bool | None) -> bool | None:
    return None if progress is None else not progress
