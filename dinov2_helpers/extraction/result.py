"""What comes out of an extraction."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from ..pictures.files import LeftOut
from ..pictures.pixels import Fit

Maps: TypeAlias = NDArray[np.float32] | list[NDArray[np.float32]]
Pooling = Literal["cls", "mean", "both"]


@dataclass(frozen=True)
class Skipped:
    """A picture without features: its position in the input, its name, and why."""

    index: int
    name: str
    reason: str


class Layer(NamedTuple):
    """Output of a block after the final layer norm: `cls` (N, D), `patches` (N, h, w, D).

    Of a model without CLS, `cls` is the mean of the patches; in the last block, what its head
    makes of them.
    """

    cls: NDArray[np.float32]
    patches: Maps


class Origin(NamedTuple):
    """What features were made with: the model's name, and `size` and `fit` as they were given."""

    model: str
    size: int | None
    fit: Fit


@dataclass(frozen=True, eq=False)
class Features:
    """Features of N pictures in the order of the input, without those that could not be read.

    All features are float32. What is given as (N, h, w, ...) is one array where all pictures have
    the same grid of patches, and a list of N arrays (h, w, ...) where they have not.
    """

    cls: NDArray[np.float32]  # (N, D), CLS token after the final layer norm
    patches: Maps | None  # (N, h, w, D), patch tokens after it, registers dropped; if wanted
    layers: dict[int, Layer]  # of each wanted block; the last one shares its arrays with the above
    attention: Maps | None  # (N, heads, h, w) in 0-1, from the CLS token, in the last block
    facets: dict[str, Maps]  # of each wanted facet (N, h, w, D), heads one after another
    index: NDArray[np.int64]  # (N,), position in the input
    names: tuple[str, ...]  # paths as given (in a folder: relative to it), or "image 3"
    sizes: NDArray[np.int64]  # (N, 2), height and width in pixels of the upright picture
    grids: NDArray[np.int64]  # (N, 2), patches down and across
    coverage: Maps  # (N, h, w) in 0-1, how much of a patch shows the picture and not padding
    skipped: tuple[Skipped, ...]  # the pictures that could not be used
    note: str  # what was done to the geometry of the pictures
    origin: Origin  # what made them
    left_out: tuple[LeftOut, ...] = field(default=())  # files of the folder that are no pictures

    def __len__(self) -> int:
        return len(self.cls)

    def __repr__(self) -> str:
        left_out = f", {len(self.left_out)} files left out" if self.left_out else ""
        return f"{len(self)} pictures, {len(self.skipped)} skipped{left_out}; {self.note}"

    @property
    def grid(self) -> tuple[int, int]:
        """Patches (down, across), if all pictures have the same.

        Raises:
            ValueError: They have different grids, or there is no picture.
        """
        if not len(self):
            raise ValueError("no pictures, so no grid")
        if (self.grids != self.grids[0]).any():
            raise ValueError("the pictures have different grids; see `grids`")
        return int(self.grids[0, 0]), int(self.grids[0, 1])

    def pooled(self, how: Pooling = "cls") -> NDArray[np.float32]:
        """Return one vector per picture, float32.

        Args:
            how: "cls", the CLS token, (N, D); "mean", the mean of the patches weighted by
                `coverage`, (N, D); or "both", CLS and mean side by side, (N, 2 D), as DINOv2's
                linear evaluation takes them (Oquab et al. 2024, appendix B.3).

        Raises:
            ValueError: None of these; or a mean without patches.
        """
        if how not in get_args(Pooling):
            raise ValueError(f"pooled({how!r}): choose one of {get_args(Pooling)}")
        if how == "cls":
            return self.cls
        if self.patches is None:
            raise ValueError(f"pooled({how!r}) needs extract_features(..., patches=True)")
        means = np.empty_like(self.cls)  # (N, D)
        for row, (patches, share) in enumerate(zip(self.patches, self.coverage, strict=True)):
            weights = share / share.sum()  # (h, w)
            means[row] = np.tensordot(weights, patches, 2)  # (h, w) x (h, w, D) -> (D,)
        if how == "mean":
            return means
        return np.concatenate([self.cls, means], axis=1)


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of N pictures in the order of the input, without those that cannot be read."""

    vectors: NDArray[np.float32]  # (N, D), unit length
    index: NDArray[np.int64]  # (N,), position in the input
    names: tuple[str, ...]  # as in `Features`
    skipped: tuple[Skipped, ...]  # the pictures that could not be used
    left_out: tuple[LeftOut, ...] = ()  # files of the folder that are no pictures
