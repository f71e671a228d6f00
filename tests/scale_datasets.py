"""Datasets of features, read and compared; a store that loses connections."""

import fsspec
import numpy as np
import pyarrow.dataset
from fsspec.implementations.memory import MemoryFileSystem

CLOSE = 1e-5


def read(out):
    """A dataset as {id: (cls or None, error or None)}; no id comes twice."""
    table = pyarrow.dataset.dataset(out).to_table()
    ids = table["id"].to_pylist()
    assert len(ids) == len(set(ids))
    values = zip(table["cls"].to_pylist(), table["error"].to_pylist(), strict=True)
    return dict(zip(ids, values, strict=True))


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key, (cls, error) in one.items():
        assert other[key][1] == error
        if error is None:
            assert np.abs(np.subtract(cls, other[key][0])).max() < CLOSE


class Flaky(MemoryFileSystem):
    """A store in memory that raises what `failures` has for a file's name, and notes its reads."""

    protocol = "flaky"
    store = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012
    failures = {}  # noqa: RUF012
    reads = []  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(str(path).replace("flaky://", "memory://"))

    def note(self, path):
        name = path.rpartition("/")[2]
        self.reads.append(name)
        if self.failures.get(name):
            raise self.failures[name].pop(0)

    def cat_file(self, path, start=None, end=None, **options):
        if "/in/" in path:
            self.note(path)
        return super().cat_file(path, start, end, **options)

    def _open(self, path, mode="rb", **options):
        if "/in/" in path and mode == "rb":
            self.note(path)
        return super()._open(path, mode, **options)

    def pipe_file(self, path, value, mode="overwrite", **options):
        if "/in/" not in path and self.failures.get("write"):
            raise self.failures["write"].pop(0)
        return super().pipe_file(path, value, mode, **options)


fsspec.register_implementation("flaky", Flaky, clobber=True)
