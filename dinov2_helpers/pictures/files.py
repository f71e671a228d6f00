"""What is a picture: which files of a folder are read, and by name and reason all that are not.

Names of files are bytes. `printable` writes any of them in a message, whatever it holds.
"""

import importlib.util
import logging
import os
import re
import stat
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import features

logger = logging.getLogger(__name__)

HEIF_SUFFIXES = (".heic", ".heif", ".hif", ".heics", ".heifs")
HEIF_IS_MISSING = "HEIC, which needs a plug-in: pip install pillow-heif"

# Pillow's formats that are read, and their suffixes. They are named one by one, because Pillow's
# reader of EPS would run Ghostscript on a file that only claims to be a .png.
_SUFFIXES_OF = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "DIB": (),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "AVIF": (".avif", ".avifs"),
    "JPEG2000": (".jp2", ".j2k", ".jpx", ".jpc", ".jpf", ".j2c"),
    "HEIF": HEIF_SUFFIXES,
}
# The first bytes of these formats; "...." is any four bytes.
_FIRST_BYTES = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        rb"\xff\xd8\xff",  # JPEG, MPO
        rb"\x89PNG\r\n\x1a\n",
        rb"RIFF....WEBP",
        rb"BM....\0\0\0\0..\0\0[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0",
        rb"GIF8[79]a",
        rb"II[\x2a\x2b]\0|MM\0[\x2a\x2b]",  # TIFF and BigTIFF of either byte order
        rb"P[1-6]\s+(#[^\n]*\n|\d)|P[fF]\s+\d",
        rb"....ftyp(avi[fs]|(mif1|msf1).{4,48}avi[fs])",
        rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",  # JPEG 2000
    )
)
_FIRST_BYTES_OF_HEIF = re.compile(rb"....ftyp(hei[cmxs]|hev[cmxs]|mif1|msf1)", re.DOTALL)
# a suffix is a word; the ends of "scan.0001" and of "no. 5 of mine" are parts of the name
_A_SUFFIX = re.compile(r"\.[a-z][a-z0-9_]{0,11}", re.IGNORECASE)
# characters that do not print by themselves, but join emoji and letters of some scripts
_JOINERS = "\u200c\u200d"


def _readable_formats() -> tuple[str, ...]:
    optional = {
        "AVIF": features.check("avif"),
        "JPEG2000": features.check("jpg_2000"),
        "WEBP": features.check("webp"),
        "HEIF": importlib.util.find_spec("pillow_heif") is not None,
    }
    return tuple(name for name in _SUFFIXES_OF if optional.get(name, True))


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of features that an older or newer Pillow does not know
    FORMATS: tuple[str, ...] = _readable_formats()
"""Pillow's names of the formats that can be read here."""

SUFFIXES: tuple[str, ...] = tuple(suffix for name in FORMATS for suffix in _SUFFIXES_OF[name])
"""The suffixes of pictures, in small letters, that can be read here."""


class LeftOut(NamedTuple):
    """A file, folder or link that a listing leaves out."""

    name: str  # relative to the folder, with "/" between its parts
    reason: str


class Listing(NamedTuple):
    """The pictures of a folder, and all else that is in it."""

    paths: list[Path]
    left_out: tuple[LeftOut, ...]


def printable(name: str | os.PathLike[str] | os.PathLike[bytes] | bytes) -> str:
    r"""Return the name of a file as text of one line that any stream and figure can show.

    Bytes that are no text, line breaks, and characters that do not print are escaped: `\xff`,
    `\n`, `\u202e`. It never fails, and leaves all other names as they are.
    """
    try:
        text = os.fsdecode(name)
    except (TypeError, UnicodeError):
        text = str(name)
    return "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if character.isprintable() or character in _JOINERS:
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no text, as os.fsdecode keeps it
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape", "backslashreplace").decode()


def local_path(path: str | os.PathLike[str] | os.PathLike[bytes] | bytes) -> Path:
    r"""Return the path that a person means: `~` is the home folder, and `\` may separate folders.

    A file or folder whose name has these characters in it comes first.
    """
    text = os.fsdecode(path)
    slashed = text.replace("\\", "/")
    # Path's own `expanduser` fails on the name of an unknown user
    meant = (text, os.path.expanduser(text), slashed, os.path.expanduser(slashed))
    return Path(next(filter(os.path.lexists, meant), meant[1]))


def shared_last_parts(paths: Iterable[str]) -> set[str]:
    """Return the last parts of paths that several of them have, in folders of their own.

    What goes by such a name alone may belong to any of them.

    Example:
        >>> shared_last_parts(["left/0", "right/0", "right/1"])
        {'0'}
    """
    counts = Counter(path.rpartition("/")[2] for path in set(paths))
    return {name for name, n in counts.items() if n > 1}


def list_images(folder: str | os.PathLike[str]) -> Listing:
    """Find the pictures of a folder and of those in it, and all that is left out.

    A picture is a file whose name has one of the `SUFFIXES`, or has no suffix and begins as a
    picture does. Links to files and folders are followed, in the folder and out of it, and go by
    their own names; but a folder is listed once, whatever leads to it. What is hidden (".name") is
    left out. Each folder is in the order of its names, before those in it; links to folders come
    last.

    Returns:
        The paths, each beginning with `folder`; and the names of what is left out, each with its
        reason. A hidden or unreadable folder is one entry.

    Raises:
        FileNotFoundError: There is no such folder, or no picture in it; the text says what there
            is instead.
        NotADirectoryError: It is a file.

    Example:
        >>> paths, left_out = list_images("holiday")
        >>> print(describe_left_out(left_out))
        3 left out: 2 HEIC, which needs a plug-in: pip install pillow-heif (1.HEIC, 2.HEIC); 1 ...
    """
    root = _existing(folder)
    listing = sort_files(root)
    if not listing.paths:
        raise _no_picture(root, listing.left_out)
    return listing


def sort_files(root: Path) -> Listing:
    """Do what `list_images` does with a folder that exists; it may hold no picture."""
    paths = list[Path]()
    left_out = list[LeftOut]()
    for found in _walk(root):
        if isinstance(found, LeftOut):
            left_out.append(found)
        else:
            paths.append(found)
    return Listing(paths, tuple(left_out))


def iter_images(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the pictures of a folder one by one, as `list_images` finds them.

    What is left out is logged as one warning at the end, counted and named.

    Raises:
        FileNotFoundError, NotADirectoryError: As `list_images`.

    Example:
        >>> [path.name for path in iter_images("holiday")]
        ['3.png']
    """
    left_out = list[LeftOut]()
    root, empty = _existing(folder), True
    for found in _walk(root):
        if isinstance(found, LeftOut):
            left_out.append(found)
        else:
            empty = False
            yield found
    if empty:
        raise _no_picture(root, left_out)
    if left_out:
        logger.warning("%s: %s", printable(root), describe_left_out(left_out))


def describe_left_out(left_out: Sequence[LeftOut]) -> str:
    """Say how much is left out by each reason, with the first few names; "" if there is nothing."""
    names = defaultdict[str, list[str]](list)
    for name, reason in left_out:
        names[reason].append(printable(name))
    most_first = sorted(names.items(), key=lambda item: -len(item[1]))
    parts = [f"{len(same)} {reason} ({_first(same, 3)})" for reason, same in most_first[:8]]
    rest = sum(len(same) for _, same in most_first[8:])
    if rest:
        parts.append(f"{rest} for other reasons")
    return f"{len(left_out)} left out: {'; '.join(parts)}" if parts else ""


def _first(names: Sequence[str], n: int) -> str:
    more = ["..."] if len(names) > n else []
    return ", ".join([*names[:n], *more])


def _existing(folder: str | os.PathLike[str]) -> Path:
    root = local_path(folder)
    try:
        is_folder = stat.S_ISDIR(root.stat().st_mode)
    except FileNotFoundError:
        raise FileNotFoundError(f"{printable(root)}: there is no such folder") from None
    if not is_folder:
        raise NotADirectoryError(f"{printable(root)} is a file, and not a folder with pictures")
    return root


def _no_picture(root: Path, left_out: Sequence[LeftOut]) -> FileNotFoundError:
    instead = describe_left_out(left_out) or "it is empty"
    known = " ".join(SUFFIXES)
    return FileNotFoundError(f"{printable(root)}: no picture in it ({known}); {instead}")


def _walk(root: Path) -> Iterator[Path | LeftOut]:
    """Yield the pictures and what is left out, each folder before those in it.

    Links to folders come last, so that a folder that has a name of its own goes by that.
    """
    waiting, links = [_Folder(root, "", ())], list[_Folder]()
    listed = dict[tuple[int, int], str]()  # names of folders by their identities
    while waiting or links:
        folder = waiting.pop() if waiting else links.pop(0)
        try:
            here = _identity(folder.path)
            with os.scandir(folder.path) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            yield LeftOut(folder.name or ".", f"{UNREADABLE_FOLDER}: {error.strerror}")
            continue
        if here in folder.above:
            yield LeftOut(folder.name, "a link back to a folder that it is in")
            continue
        if here in listed:
            same = listed[here]
            yield LeftOut(folder.name, f"a link to a folder that is listed already, {same}")
            continue
        listed[here] = printable(folder.name)
        inside = list[_Folder]()
        for entry in entries:
            path = folder.path / entry.name
            name = f"{folder.name}/{entry.name}" if folder.name else entry.name
            reason = _reason_against(entry)
            if reason == _A_FOLDER:
                found_in = links if entry.is_symlink() else inside
                found_in.append(_Folder(path, name, (*folder.above, here)))
            else:
                yield LeftOut(name, reason) if reason else path
        waiting += reversed(inside)


_A_FOLDER = "a folder"
UNREADABLE_FOLDER = "a folder that cannot be read"


class _Folder(NamedTuple):
    path: Path
    name: str  # relative to the root, "" for the root
    above: tuple[tuple[int, int], ...]  # identities of the folders that it is in


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _reason_against(entry: "os.DirEntry[str]") -> str:
    """Say why something is no picture; "" if it is one, `_A_FOLDER` if it may hold some."""
    if entry.name.startswith("."):
        return "hidden"
    if entry.is_symlink():
        try:
            entry.stat()
        except OSError as error:
            return f"a link that leads to nothing: {error.strerror}"
    if entry.is_dir():
        return _A_FOLDER
    if not entry.is_file():
        return "not a regular file"  # reading a pipe would never end
    return _reason_by_name(Path(entry.path))


def _reason_by_name(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return ""
    if suffix in HEIF_SUFFIXES:
        return HEIF_IS_MISSING
    if _A_SUFFIX.fullmatch(suffix):
        return f"of a kind that is not read, {suffix}"
    try:
        with path.open("rb") as file:
            first = file.read(64)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if any(pattern.match(first) for pattern in _FIRST_BYTES):
        return ""
    if _FIRST_BYTES_OF_HEIF.match(first):
        return "" if "HEIF" in FORMATS else HEIF_IS_MISSING
    return "without a suffix, and no picture"
