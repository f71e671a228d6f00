"""Fingerprints of files."""

import hashlib
from pathlib import Path

CHUNK_BYTES = 2**24


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, which may be larger than the memory, in hexadecimal.

    Raises:
        OSError: It cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        chunk = file.read(CHUNK_BYTES)
        while chunk:
            digest.update(chunk)
            chunk = file.read(CHUNK_BYTES)
    return digest.hexdigest()
