"""Features in a file: `.npz` for NumPy, `.parquet` for everything that reads tables."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..extraction import Features
from ..extraction.result import Pooling
from ..pictures.files import printable
from .session import CommandError

if TYPE_CHECKING:
    import pyarrow

SUFFIXES = (".npz", ".parquet")


class FeaturesFile(Protocol):
    """Takes features part by part, and writes them."""

    def add(self, features: Features) -> None:
        """Take the features of some more pictures."""
        ...

    def finish(self) -> None:
        """Write all that is left to write."""
        ...

    def close(self) -> None:
        """Let go of the file, finished or not."""
        ...


def features_file(path: Path, suffix: str, pooling: Pooling, patches: bool) -> FeaturesFile:
    """Return what writes features to a file.

    Args:
        path: The file to write to, whatever its name.
        suffix: Of its later name: ".npz" or ".parquet".
        pooling: How a picture becomes one vector, and the name of the column.
        patches: Whether the patches are written too.

    Raises:
        CommandError: Parquet is wanted, and pyarrow is not installed.
    """
    kind = _Parquet if suffix == ".parquet" else _Npz
    return kind(path, pooling, patches)


def _grids_differ() -> CommandError:
    return CommandError(
        "the pictures have different numbers of patches, which no table can hold: leave --patches "
        "out, or take --fit crop or pad with a --size"
    )


class _Npz:
    """Arrays `id` (N,), `cls` (or `mean`, `both`) (N, D), `size` (N, 2), `patches` (N, h, w, D)."""

    def __init__(self, path: Path, pooling: Pooling, patches: bool) -> None:
        self.path, self.pooling, self.patches = path, pooling, patches
        self.parts: list[dict[str, NDArray[Any]]] = []
        self.about: dict[str, str] = {}

    def add(self, features: Features) -> None:
        part: dict[str, NDArray[Any]] = {
            "id": np.array([printable(name) for name in features.names]),  # (n,)
            self.pooling: features.pooled(self.pooling),  # (n, D)
            "size": features.sizes,  # (n, 2)
        }
        if self.patches:
            part["patches"] = _one_array(features)  # (n, h, w, D)
        self.parts.append(part)
        self.about = _about(features)

    def finish(self) -> None:
        try:
            whole = {
                name: np.concatenate([part[name] for part in self.parts]) for name in self.parts[0]
            }
        except ValueError:
            raise _grids_differ() from None
        arrays: dict[str, Any] = whole | {k: np.array(text) for k, text in self.about.items()}
        with self.path.open("wb") as file:
            np.savez(file, **arrays)

    def close(self) -> None:
        self.parts = []


class _Parquet:
    """Columns `id`, `cls` (or `mean`, `both`), `height`, `width`, `patches`; a row group a part.

    Columns and ids are those of `dinov2_scale`. The metadata of the schema say what made them.
    """

    def __init__(self, path: Path, pooling: Pooling, patches: bool) -> None:
        try:
            import pyarrow.parquet
        except ImportError:
            raise CommandError(
                "Parquet needs the package pyarrow: pip install pyarrow, or write .npz"
            ) from None
        self.pa, self.pq = pyarrow, pyarrow.parquet
        self.path, self.pooling, self.patches = path, pooling, patches
        self.writer: Any = None

    def add(self, features: Features) -> None:
        columns: dict[str, Any] = {
            "id": self.pa.array([printable(name) for name in features.names], self.pa.string()),
            self.pooling: self._lists(features.pooled(self.pooling)),
            "height": self.pa.array(features.sizes[:, 0], self.pa.int32()),
            "width": self.pa.array(features.sizes[:, 1], self.pa.int32()),
        }
        if self.patches:
            columns["patches"] = self._lists(_one_array(features))
        table = self.pa.table(columns).replace_schema_metadata(_about(features))
        if self.writer is None:
            self.writer = self.pq.ParquetWriter(self.path, table.schema)
        if table.schema != self.writer.schema:
            raise _grids_differ()
        self.writer.write_table(table)

    def finish(self) -> None:
        self.close()

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()

    def _lists(self, array: NDArray[np.float32]) -> "pyarrow.Array":
        """Return an array (n, ...) as a column of lists of fixed lengths."""
        column = self.pa.array(array.reshape(-1))
        for length in reversed(array.shape[1:]):
            column = self.pa.FixedSizeListArray.from_arrays(column, length)
        return column


def _one_array(features: Features) -> NDArray[np.float32]:
    """Return the patches as (n, h, w, D)."""
    if isinstance(features.patches, np.ndarray):
        return features.patches
    raise _grids_differ()


def _about(features: Features) -> dict[str, str]:
    """Say what made features: the model, the size and the fit, and in words."""
    origin = features.origin
    return {
        "model": origin.model,
        "size_option": str(origin.size or ""),
        "fit": origin.fit,
        "note": features.note,
    }
