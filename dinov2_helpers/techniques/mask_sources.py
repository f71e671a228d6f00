"""Which mask belongs to which picture: by order, or by name."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

from ..extraction import Skipped
from ..pictures.annotations import read_mask
from ..pictures.decode import ImageError
from ..pictures.files import list_images, local_path, printable, shared_last_parts
from .dense import Dense
from .things import Bools

ENDINGS = ("", "_mask", "-mask", ".mask")  # of the name of a mask, after that of its picture


class NoMaskError(ValueError):
    """A picture has no mask where others have one."""


class MaskSource:
    """The masks of pictures.

    Args:
        masks: A folder; a dict of names to masks; or a list, or an array (N, H, W), in the order of
            the pictures.

    Raises:
        FileNotFoundError: The folder does not exist or holds no mask.
        TypeError: None of these.
    """

    def __init__(self, masks: Any) -> None:
        self.by_name: dict[str, Any] | None = None
        self.shared: set[str] = set()  # names without folder of several pictures
        if isinstance(masks, str | os.PathLike):
            root = local_path(masks)
            listed = list_images(root).paths
            self.by_name = {_stem(path.relative_to(root)): path for path in listed}
        elif isinstance(masks, Mapping):
            self.by_name = {_stem(name): mask for name, mask in masks.items()}
        elif hasattr(masks, "__len__") and hasattr(masks, "__getitem__"):
            self.in_order = masks
        else:
            raise TypeError(f"{type(masks).__name__} holds no masks: give a folder, list or dict")

    def expect(self, names: Iterable[str]) -> None:
        """Take note of the names of all pictures: which of them only their folders tell apart."""
        self.shared = shared_last_parts(map(_stem, names))

    def check_number(self, n_pictures: int) -> None:
        """Raise a ValueError if there is not one for each picture, where their order tells."""
        if self.by_name is None and len(self.in_order) != n_pictures:
            raise ValueError(f"{len(self.in_order)} masks for {n_pictures} pictures: give one each")

    def read(self, index: int, name: str, size: tuple[int, int]) -> Bools:
        """Return the mask of a picture, (H, W).

        Args:
            index: Position of the picture in the input.
            name: Of the picture.
            size: (width, height) of the picture, which the mask must have.

        Raises:
            ImageError: It cannot be read, or has another size.
            NoMaskError: There is none.
        """
        if self.by_name is None:
            if index >= len(self.in_order):
                raise NoMaskError("it has no mask")
            source = self.in_order[index]
        else:
            source = self._named(name)
        if source is None:
            raise NoMaskError("it has no mask")
        try:
            return read_mask(source, size=size, name="" if _is_path(source) else f"mask of {name}")
        except ImageError as error:
            raise NoMaskError(f"its mask cannot be used: {error}") from error

    def _named(self, name: str) -> Any:
        assert self.by_name is not None
        stem = _stem(name)
        last = PurePath(stem).name
        for candidate in (stem, last):
            for ending in ENDINGS:
                if candidate + ending not in self.by_name:
                    continue
                if candidate != stem and last in self.shared:
                    raise NoMaskError(
                        f"{printable(last + ending)} may be the mask of any of several pictures of "
                        "that name: put masks into folders that are called as those of the pictures"
                    )
                return self.by_name[candidate + ending]
        return None


def _stem(name: Any) -> str:
    return PurePath(os.fspath(name)).with_suffix("").as_posix()


def _is_path(source: Any) -> bool:
    return isinstance(source, str | os.PathLike) and not isinstance(source, np.ndarray)


def truths_of(
    masks: MaskSource, found: Sequence[Dense], skipped: list[Skipped]
) -> dict[int, Bools]:
    """Return the masks of pictures by position in the input; those without are skipped."""
    truths = {}
    masks.expect([*(one.name for one in found), *(one.name for one in skipped)])
    for one in found:
        try:
            truths[one.index] = masks.read(one.index, one.name, one.size[::-1])
        except NoMaskError as error:
            skipped.append(Skipped(one.index, one.name, str(error)))
    return truths
