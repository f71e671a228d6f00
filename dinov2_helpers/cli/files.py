"""Which pictures a command line means, and where its output goes."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ..pictures.files import LeftOut, list_images, local_path, printable
from ..writing import home_path, partial_path
from .session import CommandError, Session

ONE_OR_MORE = "pictures and folders of them"


def find_pictures(named: Sequence[str], session: Session) -> dict[str, Path]:
    """Find the pictures of files and folders.

    Those of a single folder go by their paths in it, all others by the path as it is given. What
    is given twice is taken once. A file that is not there, or may not be looked at, is found out
    when it is opened.

    Args:
        named: Files and folders.
        session: Told what is left out of folders, and of folders that hold none.

    Returns:
        The paths by the names that messages and tables give the pictures.

    Raises:
        FileNotFoundError: The only one named is a folder without a picture.
        CommandError: None of those named is there or can be looked at, or none holds a picture.
    """
    places = [local_path(name) for name in named]
    if not any(os.path.lexists(place) for place in places):
        first, more = printable(named[0]), f" (nor {len(named) - 1} more)" if named[1:] else ""
        raise CommandError(f"{first}: {_why_absent(places[0])}{more}")
    # not `Path.is_dir`, which fails on a name that is too long or that may not be looked at
    if len(places) == 1 and os.path.isdir(places[0]):
        listing = list_images(places[0])
        session.report_left_out(listing.left_out)
        return {path.relative_to(places[0]).as_posix(): path for path in listing.paths}
    paths: dict[str, Path] = {}
    left_out: list[LeftOut] = []
    for name, place in zip(named, places, strict=True):
        if not os.path.isdir(place):
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


def _why_absent(path: Path) -> str:
    """Say why a file or folder cannot be found."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return "there is no such file or folder"
    except OSError as error:
        return f"cannot be looked at: {error.strerror}"
    return "it was not there a moment ago"


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


def check_free(
    targets: Iterable[Path], *, force: bool = False, pictures: Iterable[Path] = ()
) -> None:
    """See to it, before anything is computed, that no file of the user's is lost.

    Args:
        targets: Files that are to be written.
        force: Whether those that are there may be replaced.
        pictures: Those that are used, and their masks: they are never replaced. They are looked at
            only if a target is there.

    Raises:
        CommandError: A file is there already, or is one of the pictures; two would have one name;
            or a folder has it.
    """
    wanted = list(targets)
    twice = [path for path, times in Counter(wanted).items() if times > 1]
    if twice:
        raise CommandError(f"two results would be called {printable(twice[0])}: rename a picture")
    there = [path for path in wanted if os.path.lexists(path)]
    if not there:
        return
    for path in there:
        if path.is_dir():
            raise CommandError(f"cannot write {printable(path)}: it is a folder")
    read = {_identity(path) for path in pictures} - {None}
    for path in there:
        if _identity(path) in read:
            raise CommandError(
                f"{printable(path)} is one of the pictures or masks that are used, and would be "
                "replaced: write elsewhere"
            )
    if not force:
        more = f", and {len(there) - 1} more" if there[1:] else ""
        raise CommandError(f"{printable(there[0])} is there already{more}: --force replaces it")


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file by whatever name; None: there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def check_keeping(named: str, kind: str, *, force: bool) -> None:
    """See to it that a folder can be written, and that nothing kept in it is lost.

    Args:
        named: The folder.
        kind: Of what is to be kept.
        force: Whether an older one may be replaced.

    Raises:
        CommandError: The folder holds one already, or cannot be written.
    """
    folder = output_folder(named)
    if os.path.lexists(folder / f"{kind}.json") and not force:
        raise CommandError(f"{printable(folder)} holds one already ({kind}): --force replaces it")


def output_file(named: str, *, force: bool, pictures: Iterable[Path] = ()) -> Path:
    """Return a file that is to be written later, after a look whether it can be.

    Args:
        named: The file.
        force: As in `check_free`.
        pictures: As there.

    Raises:
        CommandError: As `check_free` and `output_folder`.
    """
    path = home_path(named)
    check_free([path], force=force, pictures=pictures)
    output_folder(str(path.parent))
    return path


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
    path = home_path(named)
    if os.path.isdir(path):
        raise CommandError(f"cannot write {printable(path)}: it is a folder")
    partial = partial_path(path.parent)
    new = _missing(path.parent)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()
    except OSError as error:
        _remove_empty(new)
        raise CommandError(f"cannot write {printable(path)}: {error.strerror}") from None
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
        _remove_empty(new)


def output_folder(named: str) -> Path:
    """Return a folder that is to be written into, after a look whether it can be.

    One that is not there is made for the look, and is gone again afterwards: whatever writes the
    first file makes it, so that nothing is left of a run that comes to nothing.

    Raises:
        CommandError: It cannot be made, or nothing can be written into it.
    """
    folder = home_path(named)
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise CommandError(f"cannot write into {printable(folder)}: it is a file, and no folder")
    probe = partial_path(folder)
    new = _missing(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise CommandError(f"cannot write into {printable(folder)}: {error.strerror}") from None
    finally:
        _remove_empty(new)
    return folder


def _missing(folder: Path) -> list[Path]:
    """Return a folder and those that it is in, as far as they are not there, innermost first."""
    return [path for path in (folder, *folder.parents) if not os.path.lexists(path)]


def _remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders that hold nothing; the others stay."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
