"""A loaded model that turns parts into files of features; one in each worker."""

import hashlib
import io
import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .model import Backend, Features, load_model, patch_numbers, stream_features
from .parts import AT_ONCE, Ids, Item, Part, bytes_column, read_ids
from .stores import LASTING, WAITS, is_passing, log, open_place, patiently, write_whole

CHUNK = 256  # pictures in memory at once
LENGTH = b"length"  # in the metadata of a column: how many numbers each of its lists has
ORIGIN = b"dinov2_scale_origin"  # in the metadata of a part's file: the row group it is made of
MADE_OF = b"dinov2_scale_made_of"  # there too: a digest of the dataset's record
SMALL_COLUMNS = ["id", "stamp", "error", "again"]  # the others hold features
VERIFIED_ROWS = 16  # in memory at once; a part's patches take hundreds of MB
VERIFIED_BYTES = 2**20  # of a file, read at once
# What a file that is not what was written makes pyarrow raise; running out of memory is no damage.
OF_CONTENT = (AttributeError, LookupError, NotImplementedError, OSError, TypeError, ValueError)


@dataclass(frozen=True)
class Job:
    """What every worker is told; the same in every process.

    Example:
        >>> job = Job("/pictures", "/features", "tiny", settings={"size": 448})
        >>> job.dtype, job.settings
        ('float32', {'size': 448})
    """

    source: str  # an absolute path or a URL, as the next two
    out: str
    model: str
    backend: Backend = "auto"
    dtype: str = "float32"
    patches: bool = False
    column: str | None = None
    ids: Ids = "source"
    waits: tuple[float, ...] = WAITS  # seconds between tries
    settings: dict[str, Any] = field(default_factory=dict)  # of extract_features
    record: dict[str, Any] = field(default_factory=dict)  # what the numbers depend on, if known

    @property
    def made_of(self) -> str | None:
        """A digest of the record, which each part has too; None: there is no record."""
        if not self.record:
            return None
        # Values that are equal make equal records, so equal digests too: 112 and 112.0, 1 and True.
        values = {
            key: float(value) if isinstance(value, (int, float)) else value
            for key, value in self.record.items()
        }
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def fits(self, made_of: str | None) -> bool:
        """Tell whether a part may be one of this job's: parts of before have no digest."""
        return made_of in (None, self.made_of)


class Made(NamedTuple):
    """What became of a part."""

    name: str
    made: bool  # now; else it was there
    unread: int = 0  # rows that have no file, to be tried again


class Row(NamedTuple):
    """A row without its features."""

    id: str
    stamp: str | None  # of the file that was read; None: none was, so the next call tries it again
    error: str | None = None
    again: bool = False  # whether the error is a passing one


class Failure(NamedTuple):
    """Why there are no bytes of a picture."""

    reason: str
    again: bool  # whether they may be there later
    was_read: bool = False  # whether the file was, so that only another file will help


class Written(NamedTuple):
    """A part's file, without the features."""

    name: str
    ids: list[str]  # of `Item`s
    stamps: list[str | None]
    rows: int
    errors: int  # rows without features, for good
    again: int  # rows without features, to be tried again
    made_of: str | None  # digest of its dataset's record; None: the part has none


class StoreDownError(ConnectionError):
    """None of many pictures in a row could be read, for passing reasons.

    Example:
        >>> issubclass(StoreDownError, ConnectionError)  # what catches those catches this
        True
    """


def length_of(field: pa.Field) -> int:
    """Return how many numbers each list of a column of features has."""
    return int(field.metadata[LENGTH])


class DamagedError(ValueError):
    """A file of the dataset that is no part, or not as it was written."""


class _PartFile:
    """An opened file for pyarrow, which notes whether its store failed: that is no damage."""

    mode = "rb"
    closed = False  # by whoever opened it

    def __init__(self, opened: Any) -> None:
        self.opened = opened
        self.store_failed = False

    def read(self, size: int = -1) -> Any:
        try:
            return self.opened.read(size)
        except Exception:
            self.store_failed = True
            raise

    def seek(self, place: int, whence: int = io.SEEK_SET) -> Any:
        return self.opened.seek(place, whence)

    def tell(self) -> Any:
        return self.opened.tell()

    def close(self) -> None:
        """Leave it open: pyarrow closes what it has read, and a part may be read twice."""


@contextmanager
def open_part(fs: Any, path: str) -> Iterator[_PartFile]:
    """Open a part's file; whatever fails in it but for its store is a DamagedError."""
    with fs.open(path) as opened:
        file = _PartFile(opened)
        try:
            yield file
        except OF_CONTENT as error:
            if file.store_failed:
                raise
            raise DamagedError(f"{path} is not a whole part: {error}") from error


def read_columns(file: _PartFile, columns: list[str] | None = None) -> pa.Table:
    """Return columns of a part's file, or all of them, by their checksums as they were written.

    Parts of before have none, and are read as they are.
    """
    return pq.read_table(file, columns=columns, page_checksum_verification=True)


def read_written(fs: Any, path: str, *, verify: bool = False) -> Written:
    """Return what a part's file has, by its small columns.

    Args:
        fs: File system of the dataset.
        path: Of the file.
        verify: Whether the features are read too, to see whether they are as they were written.

    Raises:
        DamagedError: It is no part of a dataset, or not whole.
    """
    with open_part(fs, path) as file:
        table = read_columns(file, SMALL_COLUMNS)
        again = int(np.count_nonzero(table["again"].to_numpy()))
        errors = len(table) - table["error"].null_count - again
        name = path.rpartition("/")[2].removesuffix(".parquet")
        ids, stamps = table["id"].to_pylist(), table["stamp"].to_pylist()
        origin = _noted(table, ORIGIN)
        if origin:
            ids, stamps = [origin], stamps[:1]
        made_of = _noted(table, MADE_OF)
        if verify:
            _verify_features(file)
    return Written(name, ids, stamps, len(table), errors, again, made_of)


def _noted(table: pa.Table, key: bytes) -> str | None:
    """Return what the metadata of a part has for a key."""
    value = (table.schema.metadata or {}).get(key)
    return None if value is None else value.decode()


def _verify_features(file: _PartFile) -> None:
    """Read the columns of features, one after the other and a few rows at once."""
    parquet = pq.ParquetFile(
        file, buffer_size=VERIFIED_BYTES, pre_buffer=False, page_checksum_verification=True
    )
    schema = parquet.schema_arrow
    for column in {"cls", *schema.names} - set(SMALL_COLUMNS):
        width = length_of(schema.field(column))
        for rows in parquet.iter_batches(VERIFIED_ROWS, columns=[column], use_threads=False):
            lists = rows[column]
            if len(lists.flatten()) != width * (len(lists) - lists.null_count):
                raise ValueError(f"lists of {column!r} have not {width} numbers each")


class Extractor:
    """A loaded model that turns parts into files.

    Args:
        job: What to make, of what, where.

    Example:
        >>> from dinov2_scale import list_parts
        >>> [part] = list_parts("holiday")
        >>> job = Job("holiday", "features", "tiny")
        >>> Extractor(job).make(part)
        Made(name='part-000000', made=True, unread=0)
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.source, _ = open_place(job.source)
        self.fs, self.out = open_place(job.out)
        self.model = load_model(job.model, job.backend, job.dtype)
        self.schema = self._schema()

    def make(self, part: Part) -> Made:
        """Make what is missing of a part, and drop the rows of files that are gone."""
        target = f"{self.out}/{part.name}.parquet"
        known = self._known(target)
        if part.row_group >= 0:
            return self._make_row_group(part, target, known)
        table = self._of_pictures(part, known)
        if known is not None and table.equals(known):
            return Made(part.name, False)
        self._write(table, target)
        return Made(part.name, True)

    def _known(self, target: str) -> pa.Table | None:
        """Return what is there of a part; None: nothing that is whole and of this job's record."""

        def read() -> pa.Table | None:
            if not self.fs.exists(target):
                return None
            with open_part(self.fs, target) as file:
                return read_columns(file)

        self.fs.invalidate_cache()
        try:
            table = patiently(read, self.job.waits)
        except (FileNotFoundError, DamagedError):
            return None
        if table is None or not table.schema.equals(self.schema):
            return None
        return table if self.job.fits(_noted(table, MADE_OF)) else None

    def _of_pictures(self, part: Part, known: pa.Table | None) -> pa.Table:
        """Return the rows of a part's pictures, in its order; those that are known are kept."""
        kept = self._kept(part, known)
        missing = [item for item in part.items if item.id not in kept]
        if not missing and known is not None:
            return known.take([kept[item.id] for item in part.items])
        fresh = self._extract(self._read_pictures(missing))
        if not kept or known is None:
            return fresh
        start = len(known)
        place = kept | {item.id: start + i for i, item in enumerate(missing)}
        both = pa.concat_tables([known, fresh])
        return both.take([place[item.id] for item in part.items]).combine_chunks()

    def _kept(self, part: Part, known: pa.Table | None) -> dict[str, int]:
        """Return the rows of what is known, by id, that are of the files as they are."""
        if known is None:
            return {}
        stamps = {item.id: item.stamp for item in part.items}
        pairs = zip(known["id"].to_pylist(), known["stamp"].to_pylist(), strict=True)
        return {
            id_: row
            for row, (id_, stamp) in enumerate(pairs)
            if stamp is not None and stamp == stamps.get(id_)
        }

    def _make_row_group(self, part: Part, target: str, known: pa.Table | None) -> Made:
        [item] = part.items
        is_same = known is not None and _noted(known, ORIGIN) == item.id
        if known is not None and is_same and set(known["stamp"].to_pylist()) == {item.stamp}:
            return Made(part.name, False)
        try:
            rows = patiently(partial(self._read_row_group, item), self.job.waits)
        except Exception as error:
            if not is_passing(error) and not isinstance(error, LASTING):
                raise
            reason = f"{type(error).__name__}: {error}"
            log.warning("%s: %s; the next call tries it again", item.id, reason)
            if known is not None:  # of a file that is no longer there
                self.fs.rm_file(target)
            return Made(part.name, False, unread=item.rows)
        table = self._extract(iter(rows))
        self._write(table, target, {ORIGIN: item.id.encode()})
        return Made(part.name, True)

    def _read_row_group(self, item: Item) -> list[tuple[str, str, bytes | Failure]]:
        """Return id, stamp and bytes of each picture of a row group."""
        with self.source.open(item.path) as file:
            parquet = pq.ParquetFile(file)
            column = bytes_column(parquet.schema_arrow, item.id, self.job.column)
            ids = read_ids(parquet, item, column, self.job.ids)
            kind = parquet.schema_arrow.field(column).type
            name = f"{column}.bytes" if pa.types.is_struct(kind) else column
            table = parquet.read_row_group(item.row_group, columns=[name])
        rows: list[tuple[str, str, bytes | Failure]] = []
        for id_, value in zip(ids, table[column].to_pylist(), strict=True):
            data = value.get("bytes") if isinstance(value, dict) else value
            if data is None:
                data = Failure("ValueError: no bytes in this row", False, was_read=True)
            rows.append((id_, item.stamp, data))
        return rows

    def _read_pictures(self, items: list[Item]) -> Iterator[tuple[str, str, bytes | Failure]]:
        """Yield id, stamp and bytes of each picture; the next are fetched meanwhile."""
        chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
        with ThreadPoolExecutor(AT_ONCE) as pool:

            def begin(i: int) -> list[Future[bytes | Failure]]:
                return [pool.submit(self._fetch, item) for item in chunks[i]]

            coming = begin(0) if chunks else []
            for i, chunk in enumerate(chunks):
                found = [future.result() for future in coming]
                _raise_if_down(chunk, found)
                coming = begin(i + 1) if i + 1 < len(chunks) else []
                for item, data in zip(chunk, found, strict=True):
                    yield item.id, item.stamp, data

    def _fetch(self, item: Item) -> bytes | Failure:
        try:
            data = patiently(lambda: self.source.cat_file(item.path), self.job.waits)
        except Exception as error:
            if not is_passing(error) and not isinstance(error, OSError):
                raise
            reason = f"{type(error).__name__}: {error}"
            # A name in it need not be text.
            reason = reason.encode(errors="backslashreplace").decode()
            return Failure(reason, again=is_passing(error))
        return bytes(data)

    def _extract(self, pictures: Iterator[tuple[str, str, bytes | Failure]]) -> pa.Table:
        """Return a row for each picture, in the order in which they come."""
        rows: list[Row] = []
        sent: list[int] = []  # the rows of those that the model gets

        def readable() -> Iterator[bytes]:
            for id_, stamp, data in pictures:
                if isinstance(data, Failure):
                    known = stamp if data.was_read else None
                    rows.append(Row(id_, known, data.reason, data.again))
                    continue
                sent.append(len(rows))
                rows.append(Row(id_, stamp))
                yield data

        options = {"patches": self.job.patches} | self.job.settings
        tables = []
        done = 0
        for found in stream_features(self.model, readable(), chunk=CHUNK, **options):
            seen = [*found.index.tolist(), *(one.index for one in found.skipped)]
            end = sent[max(seen)] + 1  # those behind it belong to the next chunk
            for one in found.skipped:
                rows[sent[one.index]] = rows[sent[one.index]]._replace(error=one.reason)
            places = np.array([sent[index] for index in found.index], int) - done
            tables.append(self._table(rows[done:end], places, found))
            done = end
        tables.append(self._table(rows[done:], np.zeros(0, int), None))
        return pa.concat_tables(tables).combine_chunks()

    def _schema(self) -> pa.Schema:
        """Return the columns; lists have no fixed length, of which not all readers know nulls."""
        fields = [
            ("id", pa.string()),
            pa.field("cls", pa.list_(pa.float32()), metadata={LENGTH: str(self.model.dim)}),
            ("error", pa.string()),
            ("stamp", pa.string()),
            ("again", pa.bool_()),
        ]
        if self.job.patches:
            width = patch_numbers(self.model, self.job.settings.get("size"))
            of_any_length = pa.large_list(pa.float32())
            fields.insert(2, pa.field("patches", of_any_length, metadata={LENGTH: str(width)}))
        return pa.schema(fields)

    def _table(self, rows: list[Row], places: np.ndarray, found: Features | None) -> pa.Table:
        """Return rows with the features that were found, (N, D), at the places of N of them."""
        missing = np.ones(len(rows), bool)
        missing[places] = False

        def lists(name: str, values: Any) -> pa.Array:
            field = self.schema.field(name)
            width = length_of(field)
            ends = np.cumsum(np.where(missing, 0, width))
            numbers = np.zeros(0, np.float32)
            if len(places):
                numbers = np.reshape(values, (len(places), width))[np.argsort(places)].ravel()
            is_large = pa.types.is_large_list(field.type)
            kind = pa.LargeListArray if is_large else pa.ListArray
            offsets = np.append(0, ends).astype(np.int64 if is_large else np.int32)
            return kind.from_arrays(offsets, numbers, mask=pa.array(missing))

        columns: dict[str, Any] = {
            name: [getattr(row, name) for row in rows] for name in Row._fields
        }
        columns["cls"] = lists("cls", found.cls if found else None)
        if self.job.patches:
            columns["patches"] = lists("patches", found.patches if found else None)
        return pa.table(columns, schema=self.schema)

    def _write(self, table: pa.Table, target: str, notes: dict[bytes, bytes] | None = None) -> None:
        notes = dict(notes or {})
        if self.job.made_of is not None:
            notes[MADE_OF] = self.job.made_of.encode()
        table = table.replace_schema_metadata(notes)
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
        write_whole(self.fs, target, buffer.getvalue(), self.job.waits)


def _raise_if_down(items: list[Item], found: list[bytes | Failure]) -> None:
    """End the run when a store answers nothing any more, rather than wait for each picture."""
    failures = [one for one in found if isinstance(one, Failure) and one.again]
    if len(failures) == len(items) >= AT_ONCE:
        raise StoreDownError(
            f"none of {len(items)} pictures from {items[0].path} on can be read "
            f"({failures[0].reason}); what is made stays, call again to go on"
        )
