"""From the features of single pictures to arrays of all, without a second copy."""

from collections.abc import Iterator, Sequence
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psutil import virtual_memory

from ..models.load import Model
from ..pictures.pixels import geometry
from .job import Job, Record, Settings
from .result import Features, Layer, Maps, Origin, Skipped


def layer_names(model: Model, layer: int) -> tuple[str, str]:
    """Return the names in a record of a block's CLS and patches; the last one is the output."""
    number = layer % model.n_layers
    if number == model.n_layers - 1:
        return "cls", "patches"
    return f"cls {number}", f"patches {number}"


def inner_layers(model: Model, settings: Settings) -> tuple[int, ...]:
    """Return the wanted blocks but for the last, whose output the model gives anyhow, once each."""
    numbers = {layer % model.n_layers for layer in settings.inside.layers}
    return tuple(sorted(numbers - {model.n_layers - 1}))


def keeps_patches(model: Model, settings: Settings) -> bool:
    """Say whether the patches of the output are wanted, as such or as those of the last block."""
    last = model.n_layers - 1
    return settings.patches or any(i % model.n_layers == last for i in settings.inside.layers)


class Column:
    """One feature of all pictures: an array while all have one shape, else a row for each.

    Args:
        n: Largest number of pictures.
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self.array: NDArray[np.float32] | None = None  # (n, ...)
        self.rows: dict[int, NDArray[np.float32]] | None = None
        self.filled: set[int] = set()
        self.lock = Lock()  # several threads fill it

    def put(self, row: int, value: NDArray[np.float32]) -> None:
        """Store the feature of a picture."""
        with self.lock:
            place = self._place(row, value)
        if place is not None:
            place[...] = value

    def _place(self, row: int, value: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Return where to copy a value to; None if it was stored as it is."""
        if self.array is None:
            # memory that nothing was written to takes no room yet
            self.array = np.empty((self.n, *value.shape), np.float32)
        if self.rows is None and self.array.shape[1:] != value.shape:
            self.rows = {filled: self.array[filled] for filled in self.filled}
        self.filled.add(row)
        if self.rows is None:
            return self.array[row]
        self.rows[row] = np.array(value, np.float32)
        return None

    def take(self, rows: Sequence[int]) -> Maps:
        """Return the features of these pictures, in ascending order; nothing is copied twice."""
        if self.rows is not None:
            return [self.rows[row] for row in rows]
        if self.array is None:
            return np.empty((0,), np.float32)
        for place, row in enumerate(rows):
            if place != row:
                self.array[place] = self.array[row]
        return self.array[: len(rows)]


class Gathering:
    """Collects the features of up to n pictures; several threads may hand them in.

    Args:
        model: Whose features they are.
        settings: What was asked for.
        n: Largest number of pictures.
    """

    def __init__(self, model: Model, settings: Settings, n: int) -> None:
        self.model, self.settings, self.n = model, settings, n
        self.columns: dict[str, Column] = {}
        self.jobs: dict[int, Job] = {}
        self.lock = Lock()

    def add(self, job: Job, record: Record) -> None:
        """Take over the features of a picture, which need its pixels no more."""
        job.pixels, job.record, job.keep = None, {}, None
        with self.lock:
            self.jobs[job.row] = job
            columns = [(self._column(name), value) for name, value in record.items()]
        for column, value in columns:
            column.put(job.row, value)

    def _column(self, name: str) -> Column:
        if name not in self.columns:
            self.columns[name] = Column(self.n)
        return self.columns[name]

    def expect(self, jobs: Sequence[Job]) -> None:
        """Raise a MemoryError if the features of all that are to come cannot fit into memory.

        Args:
            jobs: Some of them, by whose sizes the others are judged.
        """
        if not jobs:
            return
        each = sum(self._bytes(job) for job in jobs) / len(jobs)
        left = self.n - len(self.jobs)
        free = virtual_memory().available
        if left * each > free:
            raise MemoryError(
                f"the features of {left:,} pictures take about {left * each / 1e9:.1f} GB, and "
                f"{free / 1e9:.1f} GB of memory are free: give patches=False or a lower `size`, "
                "or take them in chunks with stream_features"
            )

    def _bytes(self, job: Job) -> int:
        inside, dim = self.settings.inside, self.model.dim
        _, (width, height) = geometry(job.size, self.model, self.settings.size, self.settings.fit)
        patches = (width // self.model.patch_size) * (height // self.model.patch_size)
        maps = len(inside.facets) + len(inner_layers(self.model, self.settings))
        maps += keeps_patches(self.model, self.settings)
        numbers = dim + maps * patches * dim
        if inside.attention:
            numbers += self.model.n_heads * patches
        return 4 * numbers

    def features(self, skipped: Sequence[Skipped]) -> Features:
        """Return all that was collected, in the order of the input."""
        rows = sorted(self.jobs)
        jobs = [self.jobs[row] for row in rows]
        taken = {name: column.take(rows) for name, column in self.columns.items()}
        shapes = Shapes(self.model, self.settings, jobs)
        none = np.empty((0, *shapes.typical_grid, self.model.dim), np.float32)

        def maps(name: str) -> Any:
            return taken.get(name, none)

        def vectors(name: str) -> Any:
            return taken.get(name, np.empty((0, self.model.dim), np.float32))

        layers = {}
        for layer in self.settings.inside.layers:
            cls, patches = layer_names(self.model, layer)
            layers[layer] = Layer(vectors(cls), maps(patches))
        return Features(
            cls=vectors("cls"),
            patches=maps("patches") if self.settings.patches else None,
            layers=layers,
            attention=maps("attention") if self.settings.inside.attention else None,
            facets={facet: maps(facet) for facet in self.settings.inside.facets},
            index=np.array([job.index for job in jobs], np.int64),
            names=tuple(job.name for job in jobs),
            sizes=shapes.sizes,
            grids=shapes.grids,
            coverage=shapes.coverage(),
            skipped=tuple(sorted(skipped, key=lambda one: one.index)),
            note=shapes.note(),
            origin=Origin(self.model.name, self.settings.size, self.settings.fit),
        )


class Shapes:
    """What became of the geometry of pictures.

    Args:
        model: What saw them.
        settings: How they were fitted.
        jobs: The pictures.
    """

    def __init__(self, model: Model, settings: Settings, jobs: Sequence[Job]) -> None:
        self.model, self.fit, self.size = model, settings.fit, settings.size
        found = [geometry(job.size, model, self.size, self.fit) for job in jobs]
        pairs = np.array(found, np.int64).reshape(-1, 2, 2)  # (N, scaled and fitted, width, height)
        self.sizes = np.array([job.size for job in jobs], np.int64).reshape(-1, 2)[:, ::-1]
        self.scaled, self.fitted = pairs[:, 0, ::-1], pairs[:, 1, ::-1]  # (N, height and width)
        self.grids = self.fitted // model.patch_size

    @property
    def typical_grid(self) -> tuple[int, int]:
        """Patches (down, across) of a square picture."""
        _, (width, height) = geometry((224, 224), self.model, self.size, self.fit)
        return height // self.model.patch_size, width // self.model.patch_size

    def coverage(self) -> Maps:
        """Return how much of each patch shows the picture and not padding, in 0-1."""
        shown = self.scaled if self.fit == "pad" else self.fitted
        column = Column(len(self.grids))
        for row, ((height, width), (down, across)) in enumerate(
            zip(shown, self.grids, strict=True)
        ):
            column.put(row, np.outer(self._filled(height, down), self._filled(width, across)))
        if not len(self.grids):
            return np.empty((0, *self.typical_grid), np.float32)
        return column.take(range(len(self.grids)))

    def _filled(self, length: int, n: int) -> NDArray[np.float32]:
        """Return 1 where a patch is filled, a fraction where the picture ends inside it: (n,)."""
        return np.clip(length / self.model.patch_size - np.arange(n), 0, 1).astype(np.float32)

    def note(self) -> str:
        """Say in one line what was done."""
        patch, n = self.model.patch_size, len(self.grids)
        if self.fit == "resize":
            changed = int((self.sizes != self.fitted).any(axis=1).sum())
            return f"resize: {changed} of {n} resampled to sides that are multiples of {patch} px"
        if self.fit == "pad":
            changed = int((self.scaled != self.fitted).any(axis=1).sum())
            return f"pad: {changed} of {n} filled at right and bottom to multiples of {patch} px"
        return f"crop: {self._crop_note()}"

    def _crop_note(self) -> str:
        """Say what the processor does to a picture, seen by what it does to a square."""
        preprocessing = self.model.preprocessing
        (scaled, _), (width, height) = geometry((1000, 1000), self.model, self.size, "crop")
        scaling = f"shortest side to {scaled} px" if preprocessing.resize else "not scaled"
        if preprocessing.crop is None:
            return f"{scaling}, then in whole patches"
        side = f"{width} px" if width == height else f"{width}x{height} px"
        return f"{scaling}, then the central {side}"


def split_rows(arrays: Record) -> Iterator[Record]:
    """Yield the record of each picture of a batch, as views into its arrays (N, ...)."""
    n = len(next(iter(arrays.values())))
    for row in range(n):
        yield {name: array[row] for name, array in arrays.items()}
