"""Which pictures are meant: a name for each of the input, and for each file passed over."""

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ..pictures.files import LeftOut, list_images, local_path


class Sources(NamedTuple):
    """The pictures of an input."""

    items: Iterable[tuple[str, Any]]  # name, and what `open_image` opens
    left_out: tuple[LeftOut, ...] = ()  # files of a folder that are no pictures


def name_sources(images: Any) -> Sources:
    """Name each picture of the input of `extract_features`.

    Raises:
        FileNotFoundError: A folder that does not exist or holds no picture.
        TypeError: Nothing that holds pictures.
    """
    images = getattr(images, "images", images)  # of Scenes
    if isinstance(images, str | os.PathLike):
        path = local_path(images)
        if path.is_file():
            return Sources([(os.fspath(images), path)])
        listing = list_images(path)
        return Sources(
            [(found.relative_to(path).as_posix(), found) for found in listing.paths],
            listing.left_out,
        )
    if isinstance(images, Mapping):
        return Sources((str(name), _local_if_path(source)) for name, source in images.items())
    if is_one_picture(images):
        images = [images]
    if hasattr(images, "columns"):
        raise TypeError(f"a table of {list(images.columns)}: give the column with the pictures")
    if not isinstance(images, Iterable):
        raise TypeError(
            f"{type(images).__name__} holds no pictures: give a folder, or one or many paths, PIL "
            "pictures or arrays"
        )
    return Sources(_numbered(images))


def is_one_picture(images: Any) -> bool:
    """Say whether this is a picture itself, and not a collection of some."""
    if isinstance(images, bytes | Image.Image):
        return True
    dimensions = getattr(images, "ndim", None)
    if dimensions is None:
        return False
    holds_numbers = not isinstance(images, np.ndarray) or images.dtype.kind in "biufc"
    return dimensions in (2, 3) and holds_numbers and not hasattr(images, "columns")


def _numbered(images: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    for number, image in enumerate(images):
        if isinstance(image, str | os.PathLike):
            yield os.fspath(image), local_path(image)
        else:
            yield f"image {number}", image


def _local_if_path(source: Any) -> Any:
    return local_path(source) if isinstance(source, str | os.PathLike) else source
