"""Read inspection pictures in the layout of MVTec AD: the sample data, or a folder of yours."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .images import ImageError, list_images, open_image


@dataclass(frozen=True)
class Inspection:
    """Pictures of one category: good ones to learn from; good ones and flaws to test on."""

    train: list[Path]
    test: list[Path]
    kinds: NDArray[np.str_]  # (N,), of each test picture: "good", or the name of its flaw
    truth: dict[tuple[str, str], Path]  # the mask of a flaw, by kind and picture's name

    def masks(self) -> NDArray[np.bool_]:
        """Return (N, H, W): where the flaws are; ValueError: a mask is missing, or sizes differ."""
        sizes = {open_image(path).size for path in self.test}
        if len(sizes) > 1:
            raise ValueError(f"pictures have several sizes, {sorted(sizes)}: bring them to one")
        found = np.zeros((len(self.test), *next(iter(sizes), (0, 0))[::-1]), bool)
        for i in np.flatnonzero(self.kinds != "good"):
            name, kind = self.test[i].stem, str(self.kinds[i])
            if not (path := self.truth.get((kind, name))):
                raise ValueError(f"{self.test[i]}: draw ground_truth/{kind}/{name}_mask.png")
            if (mask := open_image(path)).size not in sizes:
                raise ValueError(f"{path}: {mask.size} pixels, but its picture has {sizes}")
            found[i] = np.asarray(mask.convert("L")) > 127
        return found


def read_inspection(folder: str | os.PathLike[str]) -> Inspection:
    """Read `train/good`, `test/<kind>`, `ground_truth/<kind>` of a category, as far as they exist.

    Pictures that cannot be read are printed and left out; links out of the folder are not followed.
    FileNotFoundError: there is no picture at all; ValueError: fewer than two good ones in train.
    """
    root, found = Path(folder).expanduser(), dict[tuple[str, ...], Path]()
    for path in list_images(root):
        try:
            open_image(path)
            found[path.relative_to(root).parts] = path
        except ImageError as error:
            print(f"left out: {error}")
    if len(train := [path for p, path in found.items() if p[:2] == ("train", "good")]) < 2:
        raise ValueError(f"{folder}: {len(train)} good pictures in train/good: put 2 or more")
    test = {p: path for p, path in found.items() if p[0] == "test" and p[2:]}
    masks = {p: path for p, path in found.items() if p[0] == "ground_truth" and p[2:]}
    truth = {(p[1], path.stem.removesuffix("_mask")): path for p, path in masks.items()}
    return Inspection(train, [*test.values()], np.array([p[1] for p in test], dtype=str), truth)
