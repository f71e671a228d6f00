"""The database under an `ImageIndex`: one SQLite file, whole after every interruption.

Each batch is one transaction in SQLite's write-ahead log with `synchronous=FULL`: when `write` has
returned, the batch is on the disk, and a batch that was interrupted is not there at all. Any
number of processes may read while one writes. A counter, raised in each transaction, says to what
state of the database anything made from it belongs.
"""

import json
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from ..writing import home_path
from .keeping import KeptError

FORMAT = 1  # of the database; raised when older code could not read it
NAME = "pictures.sqlite"
PATIENCE = 30.0  # seconds to wait for another process that writes
LONGEST_WHERE = 20.0  # seconds that a condition may take
LARGEST_ID = 2**63 - 1
DTYPES = ("float32", "float16")
COLUMNS = ("id", "name", "size", "mtime_ns", "sha256", "width", "height", "attributes")

# How SQLite begins to say what is wrong with a file, and not with a statement: Python 3.10 tells
# no codes.
_BUSY = ("database is locked", "database table is locked", "database schema is locked")
_DAMAGED = ("database disk image is malformed", "malformed database", "file is not a database")
_NO_ACCESS = (
    *("attempt to write a readonly database", "disk I/O error", "database or disk is full"),
    *("unable to open database file", "access permission denied"),
)

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE states (state INTEGER PRIMARY KEY, token TEXT NOT NULL);
CREATE TABLE files (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- AUTOINCREMENT: that of a deleted row is not reused
    path BLOB NOT NULL UNIQUE,             -- names of files are bytes
    name TEXT NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    attributes TEXT NOT NULL,
    changed INTEGER NOT NULL               -- the state in which its vectors were written
);
CREATE INDEX files_changed ON files (changed);
CREATE TABLE vectors (
    id INTEGER PRIMARY KEY REFERENCES files (id) ON DELETE CASCADE,
    dinov2 BLOB NOT NULL,
    clip BLOB NOT NULL
);
CREATE VIEW pictures AS
    SELECT id, name, size, mtime_ns, sha256, width, height, attributes FROM files;
"""
_WRITE_FILE = """
INSERT INTO files (path, name, size, mtime_ns, sha256, width, height, attributes, changed)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (path) DO UPDATE SET
    size = excluded.size, mtime_ns = excluded.mtime_ns, sha256 = excluded.sha256,
    width = excluded.width, height = excluded.height, attributes = excluded.attributes,
    changed = excluded.changed
RETURNING id
"""


@dataclass(frozen=True)
class Entry:
    """A picture as it is written: its file, its attributes and its vectors.

    Args:
        path: Its file, absolute, as bytes.
        name: The same as text that can be printed; what `where` sees.
        size: Bytes of the file.
        mtime_ns: When it was last changed, in nanoseconds since 1970.
        sha256: Of its content, in hexadecimal.
        width: Pixels of the upright picture.
        height: The same.
        attributes: What you know of it, as JSON can hold it.
        dinov2: (2 D,), CLS and mean patch side by side.
        clip: (E,), unit length.
    """

    path: bytes
    name: str
    size: int
    mtime_ns: int
    sha256: str
    width: int
    height: int
    attributes: Mapping[str, Any]
    dinov2: NDArray[np.float32] = field(repr=False)
    clip: NDArray[np.float32] = field(repr=False)


class Known(NamedTuple):
    """What the database knows of a file."""

    id: int
    size: int
    mtime_ns: int
    sha256: str
    attributes: dict[str, Any]


class Row(NamedTuple):
    """A picture as a hit shows it."""

    path: bytes
    width: int
    height: int
    attributes: dict[str, Any]


class State(NamedTuple):
    """A state of the database: its number, and a word that no other database has for it."""

    number: int
    token: str


class Changes(NamedTuple):
    """What happened to the vectors of one model since a state."""

    state: State
    ids: NDArray[np.int64]  # (N,), of all pictures now, rising
    written: NDArray[np.int64]  # (N,), number of the state in which their vectors were written
    changed: NDArray[np.int64]  # (M,), of those that are new or renewed, rising
    vectors: NDArray[np.float32]  # (M, D), theirs


class WhereError(ValueError):
    """A condition that is no condition, or wants more than to read the columns of pictures."""


class Store:
    """The open database of a folder.

    Where the folder cannot be written it is only read, as it was when it was opened unless a
    process that can write had it open then.

    Args:
        folder: The folder; it is made if need be.
        models: Name and fingerprint of each model, by role, for a new database.
        dtype: How the numbers of vectors are kept in a new database, "float32" or "float16".
        must_exist: Whether a folder without a database is refused.

    Attributes:
        folder: The folder.
        models: As recorded.
        dtype: As recorded.

    Raises:
        KeptError: There is none, it is damaged, or of a later version; or another process has been
            writing for longer than `PATIENCE`. All methods raise it for the latter and for damage.
        OSError: The folder cannot be written; all methods that have to write raise it.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        models: Mapping[str, Mapping[str, str]] | None = None,
        dtype: str = "float32",
        must_exist: bool = False,
    ) -> None:
        if dtype not in DTYPES:
            raise ValueError(f"dtype={dtype!r}: choose one of {DTYPES}")
        self.folder = home_path(folder).absolute()
        self.path = self.folder / NAME
        if not self.path.is_file() and (must_exist or models is None):
            raise KeptError(f"{self.folder} holds no index of pictures: there is no {NAME} in it")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._reader: sqlite3.Connection | None = None
        can_write = os.access(self.folder, os.W_OK) and (
            not self.path.exists() or os.access(self.path, os.W_OK)
        )
        with _explained(self.path):
            self._mode = "rwc" if can_write else _mode_to_read(self.path)
            self._connection = _connect(self.path, self._mode)
        try:
            with _explained(self.path):
                if can_write:
                    self._connection.execute("PRAGMA journal_mode=WAL")
                self._connection.execute("PRAGMA synchronous=FULL")
                self._connection.execute("PRAGMA foreign_keys=ON")
                if not _has_tables(self._connection):
                    self._make(models, dtype)
                meta = dict(self._connection.execute("SELECT key, value FROM meta").fetchall())
            with _understood(self.path):
                version = int(meta["format"])
                self.models: dict[str, dict[str, str]] = json.loads(meta["models"])
                self.dtype = str(meta["dtype"])
            if version > FORMAT:
                raise KeptError(f"{self.path} was written by a later version: update this package")
        except BaseException:
            self._connection.close()
            raise

    def _make(self, models: Mapping[str, Mapping[str, str]] | None, dtype: str) -> None:
        """Make the tables, unless they are there, or another process has just made them."""
        with self._transaction() as connection:
            if _has_tables(connection):
                return
            if models is None:
                raise KeptError(
                    f"{self.path} holds no index of pictures: it has no tables, as when the "
                    "process that made it was stopped. Delete it and index the pictures again"
                )
            for statement in _SCHEMA.split(";\n"):
                connection.execute(statement)
            record = {"format": str(FORMAT), "models": json.dumps(models), "dtype": dtype}
            connection.executemany("INSERT INTO meta VALUES (?, ?)", record.items())
            connection.execute("INSERT INTO states VALUES (0, ?)", [secrets.token_hex(8)])

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold the right to write; all that is done inside is kept as one, or not at all."""
        with self._held() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # SQLite ends it itself when the disk is full
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _held(self) -> Iterator[sqlite3.Connection]:
        """Hold the connection; what SQLite says of the file is raised with name and remedy."""
        with self._lock, _explained(self.path):
            yield self._connection

    def _next_state(self, connection: sqlite3.Connection) -> int:
        number = int(connection.execute("SELECT max(state) + 1 FROM states").fetchone()[0])
        connection.execute("INSERT INTO states VALUES (?, ?)", [number, secrets.token_hex(8)])
        return number

    # Writing

    def write(self, entries: Sequence[Entry]) -> list[int]:
        """Write pictures, new ones or those whose path is known, in one transaction.

        When it has returned they are on the disk. A path that is known keeps its id.

        Returns:
            Their ids, in the order of the entries.

        Raises:
            TypeError: Attributes that JSON cannot hold.
            ValueError: Vectors that are not finite, or of another length than those in it; or NaN
                among attributes.
        """
        blobs = [(self._blob(one, "dinov2"), self._blob(one, "clip")) for one in entries]
        ids = list[int]()
        with self._transaction() as connection:
            self._check_lengths(connection, blobs)
            state = self._next_state(connection)
            for one, (dinov2, clip) in zip(entries, blobs, strict=True):
                text = _json_of(one.attributes, one.name)
                facts = (one.size, one.mtime_ns, one.sha256, one.width, one.height, text, state)
                ((number,),) = connection.execute(_WRITE_FILE, (one.path, one.name, *facts))
                connection.execute(
                    "INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", (number, dinov2, clip)
                )
                ids.append(number)
        return ids

    def _blob(self, entry: Entry, role: str) -> bytes:
        vector = np.asarray(getattr(entry, role), self.dtype)
        if vector.ndim != 1 or not np.isfinite(vector).all():
            raise ValueError(f"{entry.name}: its vector of {role} is no row of finite numbers")
        return vector.tobytes()

    def _check_lengths(
        self, connection: sqlite3.Connection, blobs: Sequence[tuple[bytes, bytes]]
    ) -> None:
        query = "SELECT length(dinov2), length(clip) FROM vectors LIMIT 1"
        lengths = {tuple(map(len, pair)) for pair in blobs} | set(connection.execute(query))
        if len(lengths) > 1:
            raise ValueError(f"vectors of several lengths, {sorted(lengths)} bytes, in one store")

    def touch(self, number: int, size: int, mtime_ns: int) -> None:
        """Note that a file has the same content, and another size or time on the disk."""
        with self._transaction() as connection:
            query = "UPDATE files SET size = ?, mtime_ns = ? WHERE id = ?"
            connection.execute(query, (size, mtime_ns, number))

    def set_attributes(self, attributes: Mapping[int, Mapping[str, Any]]) -> None:
        """Replace the attributes of pictures, by id, in one transaction."""
        texts = [(_json_of(of, f"picture {number}"), number) for number, of in attributes.items()]
        with self._transaction() as connection:
            connection.executemany("UPDATE files SET attributes = ? WHERE id = ?", texts)

    def delete(self, ids: Iterable[int]) -> int:
        """Delete pictures by id, in one transaction; return how many there were."""
        wanted = [(int(number),) for number in ids if _can_be_id(number)]
        with self._transaction() as connection:
            deleted = connection.executemany("DELETE FROM files WHERE id = ?", wanted).rowcount
            if deleted > 0:
                self._next_state(connection)
        return max(deleted, 0)

    def compact(self) -> None:
        """Give the space of deleted pictures back to the disk."""
        with self._held() as connection:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    # Reading

    def __len__(self) -> int:
        with self._held() as connection:
            return int(connection.execute("SELECT count(*) FROM files").fetchone()[0])

    def state(self) -> State:
        """Return the state that it is in; any process may have changed it since."""
        query = "SELECT state, token FROM states ORDER BY state DESC LIMIT 1"
        with self._held() as connection, _understood(self.path):
            return State(*connection.execute(query).fetchone())

    def was(self, state: State) -> bool:
        """Say whether it was in a state once."""
        query = "SELECT 1 FROM states WHERE state = ? AND token = ?"
        with self._held() as connection:
            return connection.execute(query, state).fetchone() is not None

    def changes(self, role: str, since: int = -1) -> Changes:
        """Return the vectors of a model that were written after a state, and all ids.

        Args:
            role: "dinov2" or "clip".
            since: Number of the state; -1: all vectors.
        """
        if role not in ("dinov2", "clip"):
            raise ValueError(f"vectors of {role!r}: there are those of dinov2 and clip")
        with self._snapshot() as connection:
            state = self.state()
            everything = connection.execute("SELECT id, changed FROM files ORDER BY id").fetchall()
            rows = connection.execute(
                f"SELECT id, {role} FROM files JOIN vectors USING (id) "
                "WHERE changed > ? ORDER BY id",
                [since],
            ).fetchall()
        with _understood(self.path):
            changed = np.array([number for number, _ in rows], np.int64)
            numbers = np.frombuffer(b"".join(blob for _, blob in rows), self.dtype)
            vectors = numbers.reshape(len(rows), -1 if rows else 0).astype(np.float32)
            ids, written = np.array(everything, np.int64).reshape(-1, 2).T.copy()
        return Changes(state, ids, written, changed, vectors)

    @contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection]:
        """Read several times from one and the same state."""
        with self._held() as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                if connection.in_transaction:
                    connection.execute("COMMIT")

    def known(self, path: bytes) -> Known | None:
        """Return what is known of a file."""
        query = "SELECT id, size, mtime_ns, sha256, attributes FROM files WHERE path = ?"
        with self._held() as connection:
            found = connection.execute(query, [path]).fetchone()
        if found is None:
            return None
        number, size, mtime_ns, digest, attributes = found
        with _understood(self.path):
            return Known(number, size, mtime_ns, digest, json.loads(attributes))

    def row(self, number: int) -> Row | None:
        """Return a picture by its id."""
        if not _can_be_id(number):
            return None
        query = "SELECT path, width, height, attributes FROM files WHERE id = ?"
        with self._held() as connection:
            found = connection.execute(query, [int(number)]).fetchone()
        if found is None:
            return None
        path, width, height, attributes = found
        with _understood(self.path):
            return Row(path, width, height, json.loads(attributes))

    def paths(self) -> list[tuple[int, bytes]]:
        """Return id and path of each picture, by rising id."""
        with self._held() as connection:
            return connection.execute("SELECT id, path FROM files ORDER BY id").fetchall()

    def select(self, where: str, params: Sequence[Any] = ()) -> NDArray[np.int64]:
        """Return the ids of the pictures that meet a condition, rising, (M,).

        It is run on a connection that can only read, and of that only the columns of pictures.

        Args:
            where: What follows WHERE in SQL, over the columns `COLUMNS`, such as
                "width > 500 AND attributes->>'$.brand' = ?".
            params: Values for the question marks.

        Raises:
            WhereError: SQLite does not understand it, it wants to do more than read these
                columns, or it takes too long.
        """
        with self._held():
            if self._reader is None:
                self._reader = _reading(self.path, self._mode.replace("rwc", "ro"))
            end = time.monotonic() + LONGEST_WHERE
            self._reader.set_progress_handler(lambda: time.monotonic() > end, 10_000)
            try:
                # the line break ends a comment, so that the bracket is always closed
                query = f"SELECT id FROM pictures WHERE ({where}\n) ORDER BY id"
                rows = self._reader.execute(query, tuple(params)).fetchall()
                return np.array([number for (number,) in rows], np.int64)
            except (sqlite3.Error, sqlite3.Warning, ValueError, TypeError, OverflowError) as error:
                if str(error).startswith((*_BUSY, *_DAMAGED, *_NO_ACCESS)):
                    raise
                raise WhereError(
                    f"where={where!r}: {error}. It is a condition of SQL over the columns "
                    f"{', '.join(COLUMNS)}, such as \"width > 500 AND attributes->>'$.brand' = ?\""
                ) from error

    def close(self) -> None:
        """Close the database; a second time does nothing."""
        with self._lock:
            if self._reader is not None:
                self._reader.close()
                self._reader = None
            self._connection.close()


def _can_be_id(number: int) -> bool:
    """Say whether a row can have a number; SQLite cannot even be asked of larger ones."""
    return 0 < number <= LARGEST_ID


def _json_of(attributes: Mapping[str, Any], name: str) -> str:
    """Return attributes as text; an error names the picture."""
    try:
        text = json.dumps(dict(attributes), ensure_ascii=False, allow_nan=False)
        # bytes of names that are no text, as os.fsdecode keeps them, become JSON's own escapes
        return text.encode("utf-8", "backslashreplace").decode()
    except (TypeError, ValueError) as error:
        text = f"{name}: its attributes cannot be kept as JSON: {error}"
        raise (TypeError if isinstance(error, TypeError) else ValueError)(text) from error


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Raise what SQLite says of a file as an error that names it and the remedy."""
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError):  # of the caller, not of the file
        raise
    except sqlite3.DatabaseError as error:
        said = str(error)
        if said.startswith(_BUSY):
            raise KeptError(f"{path}: another process is writing into it; try again") from error
        if said.startswith(_NO_ACCESS):
            raise OSError(f"{path} cannot be read or written: {said}") from error
        raise _damaged(path, said) from error


@contextmanager
def _understood(path: Path) -> Iterator[None]:
    """Raise a KeptError where what was read of a database is nothing that was written into it."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, repr(error)) from error


def _damaged(path: Path, said: str) -> KeptError:
    return KeptError(
        f"{path} cannot be read as an index of pictures, for it is damaged: {said}. Delete it, "
        "with the files beside it whose names begin so and the folder cache, and index the "
        "pictures again"
    )


def _has_tables(connection: sqlite3.Connection) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE name = 'meta'"
    return connection.execute(query).fetchone() is not None


def holds_store(folder: Path) -> bool:
    """Say whether a folder holds a database with tables, be it damaged.

    A process that is stopped while it makes one leaves a file without tables.
    """
    path = folder / NAME
    if not path.is_file():
        return False
    if not path.stat().st_size:
        return False
    try:
        with closing(_connect(path, "ro")) as connection:
            return _has_tables(connection)
    except sqlite3.DatabaseError:  # whoever opens it says why
        return True


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    # as a URI, for Python takes no path of bytes that are no text
    address = f"file:{quote(os.fsencode(path))}?mode={mode}"
    return sqlite3.connect(
        address, uri=True, timeout=PATIENCE, isolation_level=None, check_same_thread=False
    )


def _mode_to_read(path: Path) -> str:
    """Return how a database is opened by who cannot write into its folder.

    SQLite keeps notes beside a file that it reads, unless they are there, or the file is said not
    to change. It would not see what an unfinished log beside it holds then.
    """
    try:
        with closing(_connect(path, "ro")) as connection:
            _has_tables(connection)
    except sqlite3.OperationalError as error:
        log = path.with_name(f"{path.name}-wal")
        is_unfinished = log.exists() and log.stat().st_size > 0
        if is_unfinished or not str(error).startswith(_NO_ACCESS):
            raise
        return "ro&immutable=1"
    return "ro"


def _reading(path: Path, mode: str) -> sqlite3.Connection:
    """Connect so that nothing but the columns of pictures can be read, and nothing written."""
    connection = _connect(path, mode)
    connection.execute("PRAGMA query_only=ON")

    def authorize(
        action: int, what: str | None, column: str | None, _database: str | None, view: str | None
    ) -> int:
        if action == sqlite3.SQLITE_SELECT:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_READ and (what == "pictures" or view == "pictures"):
            return sqlite3.SQLITE_OK
        # SQLite tells so of a table of which it needs no column; so the number of files can be read
        if action == sqlite3.SQLITE_READ and what == "files" and not column:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_FUNCTION and (column or "").lower() != "load_extension":
            return sqlite3.SQLITE_OK
        return sqlite3.SQLITE_DENY

    connection.set_authorizer(authorize)
    return connection
