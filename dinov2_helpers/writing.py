"""Where files are written, and files that are whole or not there."""

import os
import secrets
from pathlib import Path


def home_path(path: str | os.PathLike[str]) -> Path:
    """Return a path in which `~` is the home folder; "~name" of no user is a name like any other.

    `Path.expanduser` fails on such a name, with a text that does not say it.
    """
    return Path(os.path.expanduser(path))


def partial_path(folder: Path) -> Path:
    """Return a hidden file that is not there yet, to be renamed when it is whole.

    Its name has nothing of the later one, which may be as long as the file system allows.
    """
    return folder / f".{secrets.token_hex(8)}.partial"


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a reader never meets half of it.

    Args:
        path: The file; its folder is made if need be.
        data: All that it is to hold.

    Raises:
        OSError: It cannot be written; what stood there before is left as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_path(path.parent)
    try:
        partial.write_bytes(data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
