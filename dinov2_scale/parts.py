"""What there is to extract: pictures of a folder or store, or Parquet files of them, in parts."""

import glob
import json
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .model import SUFFIXES, UNREADABLE_FOLDER, LeftOut, describe_left_out, sort_files
from .stores import (
    ASIDE,
    WAITS,
    Location,
    is_local,
    is_passing,
    log,
    open_place,
    patiently,
    stamp_of,
)

RECORD = "_dataset.json"  # beside the parts of a dataset of features
AT_ONCE = 16  # object stores answer many in the time of one
Ids = Literal["source", "row"]


class Item(NamedTuple):
    """A picture, or a row group of a Parquet file of pictures, as it was found."""

    id: str  # of the picture; of a row group "file:row group"
    path: str
    stamp: str  # another one when the file has been replaced
    row_group: int = -1  # -1: a picture
    rows: int = 1


class Part(NamedTuple):
    """What one call works on: pictures, or one row group of a Parquet file of pictures.

    Example:
        >>> [part] = list_parts("holiday")
        >>> Part.from_json(part.to_json()) == part
        True
    """

    name: str  # of its file, without the suffix
    items: list[Item]

    @property
    def row_group(self) -> int:
        """The row group in its Parquet file; -1: the part has pictures."""
        return self.items[0].row_group

    def to_json(self) -> bytes:
        """Return the part as JSON, which keeps names that are no UTF-8."""
        return json.dumps(self).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Part":
        """Return the part that `to_json` gave."""
        name, items = json.loads(data)
        return cls(name, [Item(*item) for item in items])


@dataclass
class Listing:
    """All that a source has, in the order of its names."""

    items: list[Item] = field(default_factory=list)
    column: str | None = None  # of the bytes, in Parquet files
    unlisted: list[str] = field(default_factory=list)  # ids of folders that cannot be listed
    root: str = ""  # what those ids are relative to

    def parts(self, part: int) -> list[Part]:
        """Cut into parts of so many pictures, or of one row group each."""
        return cut(self.items, self.items, part)


def list_parts(
    source: Location, part: int = 1024, *, column: str | None = None, ids: Ids = "source"
) -> list[Part]:
    r"""Cut a source into parts.

    Of a folder on this machine the pictures are those that `extract_features` finds. Hidden files
    are left out, and so are datasets of features (Parquet files beside a `_dataset.json`). What is
    left out is counted and named in a warning of the logger "dinov2_helpers".

    The id of a picture is its path below the source, with "/". Bytes that are no UTF-8 are written
    as `\xNN` (and a backslash that would read as such a byte as `\x5c`), so that two names never
    have one id; `name_of(id)` gives the name back.

    Args:
        source: A folder or a glob (`*`, `?`, `[0-9]`) of pictures; or of Parquet files, or one,
            with a column of the bytes of image files, or of Hugging Face's struct of "bytes" and
            "path". What exists is taken literally, whatever is in its name.
        part: Pictures per part. Of Parquet files each row group that has rows is a part.
        column: That of the bytes, where Parquet files have several.
        ids: "source": the ids of rows of Parquet files are those of their column "id", else the
            struct's "path", else "file:row group:row"; "row": always the last.

    Raises:
        FileNotFoundError: There is neither a picture nor a Parquet file.
        ValueError: There are both; a Parquet file is damaged or has no column of bytes, or several
            and none is named; ids come twice.

    Example:
        >>> [part] = list_parts("holiday")
        >>> part.name, [item.id for item in part.items]
        ('part-000000', ['3.png'])
    """
    if part < 1:
        raise ValueError(f"part={part}: 1 or more")
    return list_source(source, column=column, ids=ids).parts(part)


def list_source(
    source: Location,
    *,
    column: str | None = None,
    ids: Ids = "source",
    waits: Sequence[float] = WAITS,
) -> Listing:
    """List a source, as `list_parts` says."""
    fs, path = open_place(source)
    fs.invalidate_cache()
    found = patiently(lambda: _find(fs, path), waits)
    if found is None:
        raise FileNotFoundError(f"{source}: there is nothing of that name")
    _warn(source, found)
    tables = patiently(lambda: _without_datasets(fs, found.tables), waits)
    if bool(tables) == bool(found.pictures):
        many = f"{len(found.pictures)} pictures and {len(tables)} Parquet files"
        if tables:
            raise ValueError(f"{source}: {many}; name one kind, by a glob such as '*.png'")
        raise FileNotFoundError(f"{source}: {many}; pictures are {' '.join(SUFFIXES)}")
    listing = Listing(root=path, unlisted=found.unlisted)
    if tables:
        _list_row_groups(fs, tables, listing, _Rows(column, ids), waits)
    elif column is not None:
        raise ValueError(f"column={column!r} is for Parquet files; {source} has pictures")
    else:
        listing.items = found.pictures
    return listing


def cut(items: list[Item], all_items: list[Item], part: int) -> list[Part]:
    """Cut items into parts, each named by the place of its first in the whole source."""
    if items and items[0].row_group >= 0:
        part = 1
    place = {item.id: i for i, item in enumerate(all_items)} if items else {}
    pieces = [items[start : start + part] for start in range(0, len(items), part)]
    return [Part(f"part-{place[piece[0].id] // part:06d}", piece) for piece in pieces]


def id_of(name: str) -> str:
    r"""Return a file's name as text that any reader of UTF-8 takes, and that gives it back.

    Bytes that are no UTF-8 become `\xNN`, as does a backslash that would read as such a byte.
    """
    text = os.fsencode(name).decode("utf-8", "surrogateescape")
    text = re.sub(r"\\(?=x[0-9a-f]{2})", lambda _: r"\x5c", text)
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def name_of(id_: str) -> str:
    r"""Return the name of the file, as `os.fsdecode` gives it, that has an id of `id_of`.

    Example:
        >>> print(name_of(r"a\x5cx41.png"))  # the backslash was in the name
        a\x41.png
    """
    pieces = re.split(r"\\x([0-9a-f]{2})", id_)  # text, byte, text, byte, ..., text
    data = [bytes.fromhex(x) if i % 2 else os.fsencode(x) for i, x in enumerate(pieces)]
    return os.fsdecode(b"".join(data))


class _Rows(NamedTuple):
    """How the rows of Parquet files are read."""

    column: str | None
    ids: Ids


@dataclass
class _Found:
    """Files by kind."""

    pictures: list[Item] = field(default_factory=list)
    tables: list[Item] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    unlisted: list[str] = field(default_factory=list)

    def add(self, item: Item) -> None:
        """Put a file where it belongs."""
        suffix = PurePosixPath(item.path).suffix.lower()
        if suffix in SUFFIXES:
            self.pictures.append(item)
        elif suffix == ".parquet":
            self.tables.append(item)
        elif not PurePosixPath(item.path).name.startswith((ASIDE, RECORD)):
            reason = f"of a kind that is not read, {suffix}" if suffix else "without a suffix"
            self.left_out.append(LeftOut(item.id, reason))


def _find(fs: Any, path: str) -> _Found | None:
    """Return the files of a path; None: there is nothing."""
    found = _Found()
    if is_local(fs) and os.path.isdir(path):
        _add_folder(found, Path(path))
    elif is_local(fs) and os.path.exists(path):
        _add_local(found, path.rpartition("/")[0], [path])
    elif fs.exists(path):
        root = path if fs.isdir(path) else path.rpartition("/")[0]
        _add_remote(found, root, fs.find(path, detail=True))
    elif glob.has_magic(path):
        root, pattern = _split_pattern(fs, path)
        if is_local(fs):
            _add_local(found, root, sorted(fs.glob(pattern)))
        else:
            _add_remote(found, root, fs.glob(pattern, detail=True))
    else:
        return None
    return found


def _add_folder(found: _Found, root: Path) -> None:
    """Add the pictures that `extract_features` finds in a folder, and the Parquet files in it."""
    pictures, left_out = sort_files(root)
    for path in pictures:
        kind, stamp = _look_at(path.as_posix())
        item = Item(id_of(path.relative_to(root).as_posix()), path.as_posix(), stamp)
        if kind == "file":
            found.pictures.append(item)
        else:
            found.left_out.append(LeftOut(item.id, kind))
    for name, reason in left_out:
        path = root / name
        if reason.startswith(UNREADABLE_FOLDER):
            found.unlisted.append(id_of(name))
        if path.suffix.lower() == ".parquet" and path.is_file():
            _, stamp = _look_at(path.as_posix())
            found.tables.append(Item(id_of(name), path.as_posix(), stamp))
        elif not path.name.startswith((ASIDE, RECORD)):
            found.left_out.append(LeftOut(id_of(name), reason))


def _add_local(found: _Found, root: str, paths: Iterable[str]) -> None:
    """Add files that are named one by one, or by a glob."""
    for path in paths:
        relative = _relative(path, root)
        if _is_hidden(relative):
            continue
        kind, stamp = _look_at(path)
        if kind == "file":
            found.add(Item(id_of(relative), path, stamp))
        elif kind != "folder":
            found.left_out.append(LeftOut(id_of(relative), kind))


def _look_at(path: str) -> tuple[str, str]:
    """Return what a path is, and its stamp if it is a file; of a link, what it leads to."""
    try:
        status = os.stat(path)
    except PermissionError:
        return "file", "no permission"
    except OSError as error:
        if is_passing(error):
            raise
        return "a link to nothing", ""
    if stat.S_ISDIR(status.st_mode):
        return "folder", ""
    if not stat.S_ISREG(status.st_mode):
        return "no regular file", ""  # a pipe would never end
    return "file", stamp_of({"size": status.st_size, "mtime": status.st_mtime_ns})


def _add_remote(found: _Found, root: str, files: dict[str, dict[str, Any]]) -> None:
    for path, info in sorted(files.items()):
        relative = _relative(path, root)
        if info.get("type") != "directory" and not _is_hidden(relative):
            found.add(Item(id_of(relative), path, stamp_of(info)))


def _relative(path: str, root: str) -> str:
    return path.removeprefix(root).lstrip("/") or PurePosixPath(path).name


def _is_hidden(relative: str) -> bool:
    return "/." in f"/{relative}"


def _split_pattern(fs: Any, path: str) -> tuple[str, str]:
    """Return the folder that a glob starts from, and the glob; folders that exist are literal."""
    names = path.split("/")
    known = 0
    for i, name in enumerate(names):
        if glob.has_magic(name) and not fs.exists("/".join(names[: i + 1])):
            break
        known = i + 1
    root = "/".join(names[:known])
    literal = [glob.escape(root)] if known else []
    return root, "/".join([*literal, *names[known:]])


def _warn(source: Location, found: _Found) -> None:
    if found.left_out:
        log.warning("%s: %s", id_of(os.fspath(source)), describe_left_out(found.left_out))


def _without_datasets(fs: Any, tables: list[Item]) -> list[Item]:
    """Leave out the features that lie in the source: what a call writes is no source of the next.

    As elsewhere, names that start with _ are no tables.
    """
    tables = [table for table in tables if "/_" not in f"/{table.id}"]
    folders = {table.path.rpartition("/")[0] for table in tables}
    features = {folder for folder in folders if fs.exists(f"{folder}/{RECORD}")}
    return [table for table in tables if table.path.rpartition("/")[0] not in features]


def _list_row_groups(
    fs: Any, tables: list[Item], listing: Listing, rows: _Rows, waits: Sequence[float]
) -> None:
    """List the row groups of Parquet files, and see to it that no id comes twice."""
    look = partial(_row_groups, fs, rows=rows, waits=waits)
    hashes = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for column, items, hashed in pool.map(look, tables):
            listing.column = listing.column or column
            listing.items += items
            hashes.append(hashed)
    # Eight bytes for each row are enough to see whether any id can have come twice.
    values, counts = np.unique(np.concatenate(hashes), return_counts=True)
    suspects = set(values[counts > 1].tolist())
    if suspects:
        _check_doubles(fs, listing.items, rows, suspects)


def _row_groups(
    fs: Any, table: Item, *, rows: _Rows, waits: Sequence[float]
) -> tuple[str, list[Item], np.ndarray]:
    """Return the column of bytes, the row groups, and a hash of each of their ids."""

    def look() -> tuple[str, list[Item], np.ndarray]:
        with fs.open(table.path) as file:
            parquet = pq.ParquetFile(file)
            column = bytes_column(parquet.schema_arrow, table.id, rows.column)
            items = []
            hashes = []
            for group in range(parquet.metadata.num_row_groups):
                count = parquet.metadata.row_group(group).num_rows
                if count:
                    item = Item(f"{table.id}:{group}", table.path, table.stamp, group, count)
                    items.append(item)
                    hashes += [hash(id_) for id_ in read_ids(parquet, item, column, rows.ids)]
            return column, items, np.array(hashes, np.int64)

    try:
        return patiently(look, waits)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{table.id}: no Parquet file, or a damaged one: {error}") from error


def read_ids(parquet: pq.ParquetFile, item: Item, column: str, ids: Ids) -> list[str]:
    """Return the ids of the rows of a row group, without reading its pictures."""
    places = [f"{item.id}:{i}" for i in range(item.rows)]
    schema = parquet.schema_arrow
    if ids == "row":
        return places
    if "id" in schema.names:
        given = parquet.read_row_group(item.row_group, columns=["id"])["id"].to_pylist()
    elif _has_path(schema.field(column).type):
        table = parquet.read_row_group(item.row_group, columns=[f"{column}.path"])
        given = [value["path"] if value else None for value in table[column].to_pylist()]
    else:
        return places
    pairs = zip(given, places, strict=True)
    return [place if value is None else str(value) for value, place in pairs]


def _has_path(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and any(part.name == "path" for part in kind)


def _check_doubles(fs: Any, items: list[Item], rows: _Rows, suspects: set[int]) -> None:
    """Raise a ValueError if one of the ids with these hashes comes twice."""
    seen: Counter[str] = Counter()
    for item in items:
        with fs.open(item.path) as file:
            parquet = pq.ParquetFile(file)
            column = bytes_column(parquet.schema_arrow, item.id, rows.column)
            found = read_ids(parquet, item, column, rows.ids)
        seen.update(id_ for id_ in found if hash(id_) in suspects)
    doubles = [id_ for id_, count in seen.items() if count > 1]
    if doubles:
        raise ValueError(
            f"{len(doubles)} ids come twice, as {doubles[0]!r} {seen[doubles[0]]} times: give "
            "ids='row', which makes them file:row group:row, or make them unique in the source"
        )


def bytes_column(schema: pa.Schema, name: str, column: str | None) -> str:
    """Return the column of a Parquet file that has the bytes of pictures.

    Raises:
        ValueError: There is none, or there are several and none is named; it names the choices.
    """
    choices = [one.name for one in schema if _holds_bytes(one.type)]
    if column is not None and column not in choices:
        raise ValueError(f"{name}: column={column!r} has no bytes of pictures; choose of {choices}")
    if column is None and len(choices) != 1:
        raise ValueError(
            f"{name}: {len(choices)} columns with bytes {choices}; name one with column="
        )
    return column or choices[0]


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(part.name == "bytes" and _holds_bytes(part.type) for part in kind)
    return bool(
        pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    )
