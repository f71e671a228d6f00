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
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from .data import data_dir
from .pictures import open_image

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
        path = self.folder / row[column]
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise ValueError(f"{source}: {row[column]!r} leads out of the folder")
        return path

    def _array(self, i: int, column: str) -> NDArray[Any]:
        with Image.open(self._path(i, column)) as image:
            return np.asarray(image)

    @property
    def images(self) -> list[Path]:
        """The paths of the pictures."""
        return [self._path(i, "file_name") for i in range(len(self))]

    def image(self, i: int) -> Image.Image:
        """Return picture i, RGB."""
        return open_image(self._path(i, "file_name"))

    def depth(self, i: int) -> NDArray[np.float32]:
        """Return the depth of picture i, (H, W) metres along the optical axis, NaN for sky."""
        millimetres = self._array(i, "depth_file_name")
        return np.where(millimetres > 0, millimetres / 1000, np.nan).astype(np.float32)

    def class_mask(self, i: int) -> NDArray[np.uint8]:
        """Return (H, W): 0 for background, v for `classes[v - 1]`."""
        return self._array(i, "class_mask_file_name")

    def instance_mask(self, i: int) -> NDArray[np.uint8]:
        """Return (H, W): 0 for background, v for the object whose "instance" is v."""
        return self._array(i, "instance_mask_file_name")

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


def read_scenes(folder: str | Path) -> Scenes:
    """Read the table of a folder in the layout of `data/scenes`; only "file_name" is needed.

    Raises:
        FileNotFoundError: The folder has no `metadata.jsonl`.
        ValueError: A line of it is not a JSON object with a "file_name".
    """
    path = Path(folder) / "metadata.jsonl"
    table: list[dict[str, Any]] = []
    for n, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            row = json.loads(line)
            table.append({"objects": []} | row | {"file_name": os.fspath(row["file_name"])})
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {n}: needs a 'file_name' ({error!r})") from error
    return Scenes(path.parent, table)


def load_scenes(split: str, **where: Any) -> Scenes:
    """Return the sample scenes of a split, "train" or "test"; conditions as in `Scenes.select`."""
    return read_scenes(data_dir() / "scenes" / split).select(**where)


def load_views(split: str, **where: Any) -> Scenes:
    """Return the views of single toys of a split; they add "toy_id", "kind", "azimuth"..."""
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
    """Return the `PHOTOGRAPHS`, RGB, by name; nothing is downloaded."""
    return {n: open_image(resources.files(p["wheel"]) / p["file"]) for n, p in PHOTOGRAPHS.items()}
