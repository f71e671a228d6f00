"""The sample data with its ground truth, and any folder of pictures in the same layout.

That is Hugging Face's *imagefolder*: a `metadata.jsonl` with one JSON object per picture, beside
the files that it names. Pixel coordinates are (x, y) with the centre of the top left pixel at
(0.5, 0.5); cameras follow OpenCV (x right, y down, z forward), in metres.
"""

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from .data import data_dir
from .pictures.annotations import read_class_map, read_depth
from .pictures.decode import open_image, upright_size
from .pictures.files import local_path, printable

TOYS = "dog cat car truck airplane boat rocket house tree mushroom snowman mug chair lamp duck fish"
CLASS_NAMES = tuple(TOYS.split())
"""The toy classes; the value v > 0 in a class mask stands for `CLASS_NAMES[v - 1]`."""

PHOTOGRAPHS = json.loads((Path(__file__).parent / "photographs.json").read_text(encoding="utf-8"))
"""Pictures inside scikit-image and scikit-learn, by name: "wheel", "file", "source" (licence)."""


def _matches(value: Any, wanted: Any) -> bool:
    """Compare a field with a value, with any of several values, or by a function."""
    if callable(wanted):
        return bool(wanted(value))
    several = isinstance(wanted, Collection) and not isinstance(wanted, str)
    return value in wanted if several else value == wanted


def _records(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one dict per object of a picture: the object's fields and the picture's columns."""
    return [{**one, **row, "n_objects": len(row["objects"])} for one in row["objects"] or [{}]]


@dataclass(frozen=True)
class Scenes:
    """Pictures with their ground truth; files are read when they are asked for."""

    folder: Path  # of metadata.jsonl; the file names in the table are relative to it
    table: list[dict[str, Any]] = field(repr=False)  # one dict per picture, as in metadata.jsonl
    classes: tuple[str, ...] = CLASS_NAMES  # what the values in the class masks mean, from 1

    def __len__(self) -> int:
        return len(self.table)

    def _path(self, i: int, column: str) -> Path:
        row, source = self.table[i], self.folder / "metadata.jsonl"
        if column not in row:
            raise KeyError(f"{source}: no {column!r} for {row['file_name']}")
        return _inside(self.folder, row[column], source)

    def _size(self, i: int) -> tuple[int, int]:
        """Return (width, height) of picture i, which its annotations must have too."""
        return upright_size(self._path(i, "file_name"))

    @property
    def images(self) -> list[Path]:
        """The paths of the pictures."""
        return [self._path(i, "file_name") for i in range(len(self))]

    def image(self, i: int) -> Image.Image:
        """Return picture i, RGB."""
        return open_image(self._path(i, "file_name"))

    def depth(self, i: int) -> NDArray[np.float32]:
        """Return the depth of picture i, (H, W) metres along the optical axis, NaN for sky.

        Files of integers are in millimetres, of floating-point values in metres (`read_depth`).

        Raises:
            ImageError: The file, which is named, cannot be read, is no depth, or has another size
                than its picture.
        """
        return read_depth(self._path(i, "depth_file_name"), size=self._size(i))

    def class_mask(self, i: int) -> NDArray[Any]:
        """Return (H, W) integers: 0 for background, v for `classes[v - 1]`.

        Raises:
            ImageError: The file, which is named, cannot be read, has a value beyond the classes,
                or another size than its picture.
        """
        path = self._path(i, "class_mask_file_name")
        return read_class_map(path, classes=self.classes, size=self._size(i))

    def instance_mask(self, i: int) -> NDArray[Any]:
        """Return (H, W) integers: 0 for background, v for the object whose "instance" is v.

        Raises:
            ImageError: As `class_mask`; any number may be one of an object.
        """
        return read_class_map(self._path(i, "instance_mask_file_name"), size=self._size(i))

    def select(self, **where: Any) -> "Scenes":
        """Return the pictures that meet every condition.

        A condition names a column, `n_objects`, or a field of the objects, and gives a value,
        several values, or a function of the value: `select(surface="grass", azimuth=[0, 15])`.
        Conditions on objects must all hold for one and the same object. Write `class_` for "class".
        A name that no picture knows is a KeyError.
        """
        where = {key.rstrip("_"): wanted for key, wanted in where.items()}
        known = set[str]().union(*(record for row in self.table for record in _records(row)))
        if self.table and not where.keys() <= known:
            raise KeyError(f"no picture has {sorted(where.keys() - known)}; known: {sorted(known)}")

        def meets(record: dict[str, Any]) -> bool:
            return all(key in record and _matches(record[key], where[key]) for key in where)

        table = [row for row in self.table if any(map(meets, _records(row)))]
        return replace(self, table=table)

    def labels(self, name: str) -> NDArray[Any]:
        """Return a column, or a field of the only object of each picture ("class"), as (N,).

        Such a field of a picture that has several objects, or none, is a ValueError.
        """
        for row in self.table:
            if name not in row and (n := len(row["objects"])) != 1:
                raise ValueError(f"{row['file_name']} has {n} objects: select(n_objects=1) first")
        return np.array([_records(row)[0][name] for row in self.table])


def _inside(folder: Path, name: Any, source: Path) -> Path:
    """Return a file that a table names; its text must not lead out, though a link may."""
    try:
        text = os.fspath(name)
    except TypeError:
        raise ValueError(f"{source}: {name!r} is not the name of a file") from None
    if not (folder / text).exists():
        text = text.replace("\\", "/")  # as programs on Windows write it
    steps = PurePosixPath(os.path.normpath(text.replace("\\", "/"))).parts
    if PureWindowsPath(text).anchor or steps[:1] in (("/",), ("..",)):
        raise ValueError(f"{source}: {text!r} leads out of the folder")
    return folder / text


def read_scenes(folder: str | os.PathLike[str]) -> Scenes:
    """Read the table of a folder in the layout of `data/scenes`; only "file_name" is needed.

    The files may be links that lead anywhere, as in the caches of Hugging Face and DVC; their
    names may not. Blank lines are passed over, and `"objects": null` is like none.

    Raises:
        FileNotFoundError: The folder has no `metadata.jsonl`.
        ValueError: A line of it is not a JSON object with a "file_name", or its "objects" are not
            a list of objects.
    """
    path = local_path(folder) / "metadata.jsonl"
    table: list[dict[str, Any]] = []
    for n, line in enumerate(path.read_bytes().splitlines(), 1):
        if line.strip():
            table.append(_row(line, f"{printable(path)}, line {n}"))
    return Scenes(path.parent, table)


def _row(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
        name = os.fspath(row["file_name"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{where}: needs a 'file_name' ({error!r})") from error
    objects = row.get("objects") or []
    if not isinstance(objects, list) or not all(isinstance(one, dict) for one in objects):
        raise ValueError(f"{where}: 'objects' are not a list of objects")
    return row | {"file_name": name, "objects": objects}


def load_scenes(split: str, **where: Any) -> Scenes:
    """Return the sample scenes of a split; conditions as in `Scenes.select`.

    Splits are "train", "test", and "camouflage": toys that have nearly the colour of their ground.

    Example:
        >>> dogs = load_scenes("test", class_="dog", surface="grass")
        >>> dogs.table[0]["caption_en"], dogs.depth(0).shape
        ('a white dog on grass', (224, 224))
    """
    return read_scenes(data_dir() / "scenes" / split).select(**where)


def load_views(split: str, **where: Any) -> Scenes:
    """Return the views of single toys of a split; they add "toy_id", "kind", "azimuth"...

    Example:
        >>> views = load_views("test", class_="dog")
        >>> len(views), views.image(0).size
        (40, (224, 224))
    """
    return read_scenes(data_dir() / "views" / split).select(**where)


def unproject(points: ArrayLike, depth: ArrayLike, camera: Mapping[str, Any]) -> NDArray[Any]:
    """Return the world points (N, 3) that a "camera" sees at pixels (N, 2) and depth (N,)."""
    pose = np.asarray(camera["world_from_camera"], dtype=float)
    rays = np.insert(np.asarray(points, dtype=float), 2, 1, axis=1)
    local = rays @ np.linalg.inv(camera["intrinsics"]).T * np.asarray(depth)[:, None]
    return local @ pose[:3, :3].T + pose[:3, 3]


def project(world: ArrayLike, camera: Mapping[str, Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the pixel coordinates (N, 2) and depth (N,) of points of the world (N, 3)."""
    pose = np.asarray(camera["world_from_camera"], dtype=float)
    local = (np.asarray(world) - pose[:3, 3]) @ pose[:3, :3]
    image = local @ np.asarray(camera["intrinsics"], dtype=float).T
    return image[:, :2] / image[:, 2:], local[:, 2]


def photographs() -> dict[str, Image.Image]:
    """Return the `PHOTOGRAPHS`, RGB, by name; nothing is downloaded.

    Example:
        >>> photographs()["brick"].size
        (512, 512)
    """
    return {n: open_image(resources.files(p["wheel"]) / p["file"]) for n, p in PHOTOGRAPHS.items()}
