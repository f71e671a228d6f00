"""Which pictures a command line means, and where its output goes."""

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..pictures.files import LeftOut, list_images, local_path, printable
from .session import CommandError, Session

ONE_OR_MORE = "pictures and folders of them"


def find_pictures(named: Sequence[str], session: Session) -> dict[str, Path]:
    """Find the pictures of files and folders.

    Those of a single folder go by their paths in it, all others by the path as it is given. What
    is given twice is taken once. A file that is not there is found out when it is opened.

    Args:
        named: Files and folders.
        session: Told what is left out of folders, and of folders that hold none.

    Returns:
        The paths by the names that messages and tables give the pictures.

    Raises:
        FileNotFoundError: The only one named is a folder without a picture.
        CommandError: None of those named is there, or none holds a picture.
    """
    places = [local_path(name) for name in named]
    if not any(os.path.lexists(place) for place in places):
        first, more = printable(named[0]), f" (nor {len(named) - 1} more)" if named[1:] else ""
        raise CommandError(f"{first}: there is no such file or folder{more}")
    if len(places) == 1 and places[0].is_dir():
        listing = list_images(places[0])
        session.report_left_out(listing.left_out)
        return {path.relative_to(places[0]).as_posix(): path for path in listing.paths}
    paths: dict[str, Path] = {}
    left_out: list[LeftOut] = []
    for name, place in zip(named, places, strict=True):
        if not place.is_dir():
            paths[name] = place
            continue
        try:
            listing = list_images(place)
        except FileNotFoundError as error:
            session.warn(str(error))
            continue
        left_out += listing.left_out
        paths |= {str(Path(name) / path.relative_to(place)): path for path in listing.paths}
    session.report_left_out(left_out)
    if not paths:
        raise CommandError("there is no picture in any of these folders")
    return paths


def output_paths(names: Sequence[str], folder: Path, suffix: str) -> list[Path]:
    """Return a file below a folder for each of N pictures.

    The folders that the pictures are in are kept, from the one on that has them all; so are the
    suffixes of all, if two pictures differ in nothing else.

    Args:
        names: Paths of pictures, N, all different.
        folder: Where the files are to be.
        suffix: What their names end in, such as ".png".

    Example:
        >>> [str(path) for path in output_paths(["/a/b.jpg", "/a/c/d.png"], Path("out"), ".npy")]
        ['out/b.npy', 'out/c/d.npy']
    """
    whole = [os.path.abspath(name) for name in names]
    top = os.path.commonpath([os.path.dirname(path) for path in whole]) if whole else ""
    inside = [Path(os.path.relpath(path, top)) for path in whole]
    stems = [path.with_suffix("") for path in inside]
    chosen = stems if len(set(stems)) == len(stems) else inside
    return [folder / path.with_name(path.name + suffix) for path in chosen]


@contextmanager
def whole_file(named: str) -> Iterator[Path]:
    """Give a file to write to, which takes its place under the wanted name when it is whole.

    It is made at once, so that what cannot be written is known before anything is computed. If the
    work fails, what stood there before is left as it was.

    Args:
        named: Where the file is to be; its folder is made if need be.

    Yields:
        The file to write to, empty.

    Raises:
        CommandError: It cannot be written.
    """
    path = Path(named).expanduser()
    if os.path.isdir(path):
        raise CommandError(f"cannot write {printable(path)}: it is a folder")
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()
    except OSError as error:
        raise CommandError(f"cannot write {printable(path)}: {error.strerror}") from None
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def output_folder(named: str) -> Path:
    """Make a folder to write into, if need be.

    Raises:
        CommandError: It cannot be made, or nothing can be written into it.
    """
    folder = Path(named).expanduser()
    probe = folder / f".{secrets.token_hex(4)}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise CommandError(f"cannot write into {printable(folder)}: {error.strerror}") from None
    return folder
