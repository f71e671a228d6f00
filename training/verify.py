"""Checks that the files under ``data/`` are the ones that were released.

    python -m training.verify            compares every file with data/MANIFEST.sha256
    python -m training.verify --write    writes that list anew

The list has the format of the ``sha256sum`` tool. The check exits with 1 and names every file that
changed, is missing or is not listed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dinov2_helpers.hashes import sha256_of

MANIFEST = "MANIFEST.sha256"


def digests(data: Path) -> dict[str, str]:
    """Hashes what is in a folder.

    Args:
        data: the folder.

    Returns:
        Path relative to the folder, with forward slashes, and SHA-256 of every file below it but
        the manifest and hidden files, sorted by path.
    """
    names = {path.relative_to(data).as_posix(): path for path in data.rglob("*") if path.is_file()}
    return {
        name: sha256_of(path)
        for name, path in sorted(names.items())
        if name != MANIFEST and not any(part.startswith(".") for part in name.split("/"))
    }


def write_manifest(data: Path) -> int:
    """Writes the list of a folder's files into it; returns how many there are."""
    found = digests(data)
    lines = "".join(f"{digest}  {name}\n" for name, digest in found.items())
    (data / MANIFEST).write_text(lines, encoding="utf-8", newline="\n")
    return len(found)


def read_manifest(data: Path) -> dict[str, str]:
    """The released hashes: path and SHA-256.

    Raises:
        FileNotFoundError: the folder has no manifest.
        ValueError: a line is not "<sha256>  <path>".
    """
    path = data / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: python -m training.verify --write makes it")
    listed = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        digest, separator, name = line.partition("  ")
        if not separator or len(digest) != 64:
            raise ValueError(f'{path}, line {number}: is not "<sha256>  <path>"')
        listed[name] = digest
    return listed


def differences(data: Path) -> list[str]:
    """One line per file that changed, is missing or is not listed; empty if all is well."""
    listed, found = read_manifest(data), digests(data)
    changed = [name for name in found if name in listed and found[name] != listed[name]]
    return [
        *(f"changed: {name}" for name in changed),
        *(f"missing: {name}" for name in listed if name not in found),
        *(f"not listed: {name}" for name in found if name not in listed),
    ]


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("data"), help="the folder to check")
    parser.add_argument("--write", action="store_true", help=f"write {MANIFEST} instead")
    args = parser.parse_args()
    if args.write:
        print(f"{write_manifest(args.data)} files listed in {args.data / MANIFEST}")
        return 0
    try:
        wrong = differences(args.data)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(str(error))
    if wrong:
        print("\n".join(wrong))
        return 1
    print(f"{len(read_manifest(args.data))} files are as released")
    return 0


if __name__ == "__main__":
    sys.exit(main())
