"""Features on disk, each entry named by all that it depends on, behind its checksum."""

import hashlib
import logging
import os
import zlib
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load, save

from ..models.load import Model
from ..pictures.decode import Opened
from ..pictures.files import printable
from ..writing import home_path, write_whole
from .fingerprint import fingerprint
from .job import Record, Settings

log = logging.getLogger("dinov2_helpers")


class Cache:
    """A folder of features by content of the picture, weights, settings and code.

    Args:
        model: Whose features they are.
        settings: How they are made.
        folder: Where they are kept; it is made if need be.
    """

    def __init__(self, model: Model, settings: Settings, folder: str | os.PathLike[str]) -> None:
        self.folder = home_path(folder)
        self.writable = True
        self.digest = hashlib.sha256(f"{fingerprint(model)} {settings}".encode())

    def entry(self, opened: Opened) -> Path:
        """Return where the features of a picture are, or would be."""
        digest = self.digest.copy()
        digest.update(repr((opened.image.size, opened.size, opened.box)).encode())
        digest.update(opened.image.tobytes())
        return self.folder / digest.hexdigest()

    def read(self, entry: Path) -> Record:
        """Return what was kept; nothing if there is nothing, or if it is damaged."""
        with suppress(OSError, SafetensorError):
            data = entry.read_bytes()
            if data[:4] == zlib.crc32(data[4:]).to_bytes(4, "little"):
                return load(data[4:])
        return {}

    def write(self, entry: Path, record: Record) -> None:
        """Keep the features of a picture; after the first failure, which is said, no more."""
        if not self.writable:
            return
        data = save(record)
        try:
            write_whole(entry, zlib.crc32(data).to_bytes(4, "little") + data)
        except OSError as error:
            self.writable = False
            log.warning(
                "The cache %s cannot be written: %s; going on without it.",
                printable(self.folder),
                error,
            )
