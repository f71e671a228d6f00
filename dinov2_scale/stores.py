"""Files on this machine or in a store: where they are, read with patience, written whole."""

import asyncio
import errno
import logging
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import fsspec

Result = TypeVar("Result")
Location = str | os.PathLike[str]

log = logging.getLogger("dinov2_helpers")

WAITS = (1.0, 4.0, 16.0)  # seconds before the second, third and fourth try
DAY = 24 * 3600  # seconds; no writer takes as long for one file
ASIDE = "_partial-"  # readers of datasets pass over names that start with _ or .

# The answer will be the same however often one asks.
LASTING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
LASTING_CODES = {
    errno.EDQUOT,
    errno.EINVAL,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.EROFS,
}
# What code of ours, or a damaged file, raises; never a store's passing state.
FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    NameError,
    NotImplementedError,
    TypeError,
    ValueError,
)


def is_passing(error: Exception) -> bool:
    """Tell whether the same call may succeed later: a lost connection, a time-out, a busy store."""
    if isinstance(error, (ConnectionError, TimeoutError, asyncio.TimeoutError)):
        return True
    if isinstance(error, (*LASTING, *FAULTS)):
        return False
    # The rest are OSErrors such as EIO and ESTALE, and what clients of stores raise of their own.
    return getattr(error, "errno", None) not in LASTING_CODES


def patiently(call: Callable[[], Result], waits: Sequence[float] = WAITS) -> Result:
    """Return what a call returns; after a passing error wait and call again, then raise it."""
    for wait in waits:
        try:
            return call()
        except Exception as error:
            if not is_passing(error):
                raise
            log.info("%s: %s; tried again in %g s", type(error).__name__, error, wait)
        time.sleep(wait)
    return call()


def open_place(location: Location) -> tuple[Any, str]:
    """Return the file system of a location, and the absolute path there.

    What exists on this machine is taken literally, whatever is in its name.
    """
    text = os.fspath(location)
    local = os.path.expanduser(text)
    is_url = "://" in text or "::" in text
    if is_url and not os.path.exists(local):
        fs, path = fsspec.url_to_fs(text)
        return fs, str(path)
    return fsspec.filesystem("file"), Path(os.path.abspath(local)).as_posix()


def is_local(fs: Any) -> bool:
    """Tell whether a file system is this machine's own."""
    return "file" in fs.protocol if isinstance(fs.protocol, tuple) else fs.protocol == "file"


def absolute(location: Location) -> str:
    """Return a location that means the same in every process: an absolute path, or its URL."""
    fs, path = open_place(location)
    return path if is_local(fs) else os.fspath(location)


def stamp_of(info: Mapping[str, Any]) -> str:
    """Return what changes when a file is replaced: its size, and a checksum or else a time.

    Args:
        info: What a file system says of a file; stores name their checksums and times differently.
    """
    for name in ("ETag", "etag", "checksum", "md5Hash", "content_md5", "crc32c"):
        if info.get(name):
            return f"{info.get('size')} {info[name]}"
    for name in ("mtime", "LastModified", "last_modified", "updated", "modified", "created"):
        if info.get(name):
            return f"{info.get('size')} {info[name]}"
    return str(info.get("size"))


def write_whole(fs: Any, target: str, data: bytes, waits: Sequence[float] = WAITS) -> None:
    """Write a file that is never seen by halves: aside, then renamed, in a store copied, whole."""
    folder, _, _ = target.rpartition("/")
    fs.makedirs(folder, exist_ok=True)
    # The time tells when its writer can no longer be alive, also where a store keeps none.
    aside = f"{folder}/{ASIDE}{int(time.time())}-{secrets.token_hex(8)}"
    try:
        patiently(lambda: fs.pipe_file(aside, data), waits)
        if is_local(fs):
            os.replace(aside, target)
        else:
            patiently(lambda: fs.mv(aside, target), waits)
    except BaseException:
        if fs.exists(aside):
            fs.rm_file(aside)
        raise


def remove_stale(fs: Any, folder: str) -> None:
    """Remove what writers that died more than a day ago have left aside; nobody else's files."""
    for path in fs.ls(folder, detail=False):
        name = str(path).rpartition("/")[2]
        written, _, _ = name.removeprefix(ASIDE).partition("-")
        if name.startswith(ASIDE) and written.isdigit() and time.time() - int(written) > DAY:
            fs.rm_file(path)
