"""True depth for pictures: found, checked against their sizes, and brought to their patches."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..extraction import Features, Skipped
from ..extraction.sources import is_one_picture, name_sources
from ..pictures.annotations import read_depth
from ..pictures.decode import ImageError, upright_size
from ..pictures.files import list_images, local_path, printable, shared_last_parts
from ..samples import Scenes

log = logging.getLogger("dinov2_helpers")
FINE = 4  # true values along a patch's side that a trained head is compared with


@dataclass(frozen=True, eq=False)
class TrueDepth:
    """The depth that was measured for some pictures, in the order of the input.

    Args:
        sources: What `read_depth` opens, one for each picture of the input.
        unit: As in `read_depth`.
        resize: Whether maps of another size are brought to that of their picture.
    """

    sources: Sequence[Any]
    unit: float | None
    resize: bool

    def read(self, row: int, size: tuple[int, int], name: str) -> NDArray[np.float32]:
        """Return the depth (H, W) of a picture of some (width, height); ImageError: as there."""
        source = self.sources[row]
        return read_depth(
            source, unit=self.unit, size=size, resize=self.resize, name=_named(source, name)
        )


def true_depth(pictures: Any, depth: Any, unit: float | None, resize: bool) -> TrueDepth:
    """Find the depth of pictures, and check sizes before anything is computed.

    Args:
        pictures: What `extract_features` takes, or its result; not a generator.
        depth: One map, a file or an array, for each picture of the input, those too that cannot be
            read; or a dict of picture names to such; or a folder with files of the same names, of
            whatever suffix. None: that of the `Scenes` that `pictures` is.
        unit: As in `read_depth`.
        resize: As in `read_depth`.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: Not one map for each picture, or maps of another size than their pictures.
    """
    names, sizes = _names_and_sizes(pictures)
    if depth is None:
        depth = _of_scenes(pictures)
    elif isinstance(depth, str | os.PathLike) and local_path(depth).is_dir():
        depth = _of_folder(depth, names)
    if isinstance(depth, Mapping):
        missing = [name for name in names if name not in depth]
        if missing:
            raise ValueError(
                f"depth: none for {len(missing)} of {len(names)} pictures, the first of them "
                f"{printable(missing[0])}"
            )
        sources = [depth[name] for name in names]
    else:
        sources = [depth] if _is_one_map(depth) else list(depth)
    if len(sources) != len(names):
        raise ValueError(f"depth: {len(sources)} maps for {len(names)} pictures: one for each")
    if not resize:
        _check_sizes(names, sizes, sources)
    return TrueDepth(sources, unit, resize)


def _is_one_map(depth: Any) -> bool:
    """Say whether depth is one map; an array (N, H, W) is one for each picture."""
    if isinstance(depth, str | os.PathLike):
        return True
    return is_one_picture(depth) and getattr(depth, "ndim", 2) == 2


def _names_and_sizes(pictures: Any) -> tuple[list[str], list[tuple[int, int] | None]]:
    """Return names and (width, height) of the pictures of an input; None: not readable."""
    if isinstance(pictures, Features):
        at = {int(index): (int(w), int(h)) for index, (h, w) in _indexed(pictures)}
        names = dict(zip(map(int, pictures.index), pictures.names, strict=True))
        names |= {one.index: one.name for one in pictures.skipped}
        return [names[i] for i in sorted(names)], [at.get(i) for i in sorted(names)]
    items = list(name_sources(pictures).items)
    return [name for name, _ in items], [_size_of(source) for _, source in items]


def _indexed(features: Features) -> Iterator[tuple[Any, Any]]:
    return zip(features.index, features.sizes, strict=True)


def _size_of(source: Any) -> tuple[int, int] | None:
    try:
        return upright_size(source)
    except (ImageError, TypeError, OSError, IndexError):
        return None  # it is reported where it is read


def _of_scenes(pictures: Any) -> list[Any]:
    if not isinstance(pictures, Scenes):
        raise ValueError("depth: needed, unless the pictures are Scenes with depth of their own")
    lacking = [row["file_name"] for row in pictures.table if "depth_file_name" not in row]
    if lacking:
        raise ValueError(f"depth: the table has no depth_file_name for {printable(lacking[0])}")
    return [pictures.folder / row["depth_file_name"] for row in pictures.table]


def _of_folder(folder: Any, names: Sequence[str]) -> dict[str, Any]:
    root = local_path(folder)
    by_stem = {
        path.relative_to(root).with_suffix("").as_posix(): path for path in list_images(root).paths
    }
    stems = {name: os.path.splitext(name.replace("\\", "/"))[0] for name in names}
    shared = shared_last_parts(stems.values())  # a map of that name may be that of any of them
    last = {name: stem.rpartition("/")[2] for name, stem in stems.items()}
    found = {
        name: by_stem.get(stems[name], None if last[name] in shared else by_stem.get(last[name]))
        for name in names
    }
    return {name: path for name, path in found.items() if path is not None}


def _check_sizes(
    names: Sequence[str], sizes: Sequence[tuple[int, int] | None], sources: Sequence[Any]
) -> None:
    other = []
    for name, size, source in zip(names, sizes, sources, strict=True):
        of_depth = _size_of(source)
        if size is not None and of_depth is not None and size != of_depth:
            other.append((name, size, of_depth))
    if other:
        name, size, of_depth = other[0]
        raise ValueError(
            f"depth: {len(other)} of {len(names)} maps have another size than their picture; "
            f"{printable(name)} is {size[0]}x{size[1]} px, its depth {of_depth[0]}x{of_depth[1]}. "
            "If they show the same, give resize=True, which takes the nearest value"
        )


def _named(source: Any, name: str) -> str:
    return "" if isinstance(source, str | os.PathLike) else f"depth of {name}"


class Target(NamedTuple):
    """What heads are fitted to, of one picture; log of depth, NaN where nothing is known."""

    patch: NDArray[np.float32]  # (h, w), mean over each patch
    fine: NDArray[np.float32]  # (FINE h, FINE w), at the pixel nearest to the centre of each cell


def targets_of(
    features: Features, truth: TrueDepth
) -> tuple[list[tuple[int, Target]], list[Skipped]]:
    """Read the depth of each picture that has features, and bring it to its patches.

    Returns:
        Rows of the features with their targets; and pictures whose depth cannot be read, or is
        known nowhere, which are reported in a warning.
    """
    found: list[tuple[int, Target]] = []
    skipped: list[Skipped] = []
    for row, (name, depth) in enumerate(_each(features, truth)):
        index = int(features.index[row])
        if isinstance(depth, ImageError):
            skipped.append(Skipped(index, name, f"its depth cannot be used: {depth}"))
        elif not np.isfinite(depth).any():
            skipped.append(Skipped(index, name, "its depth is known nowhere"))
        else:
            down, across = map(int, features.grids[row])
            found.append((row, _target(depth, (down, across))))
    report(skipped, len(features))
    return found, skipped


def report(skipped: Sequence[Skipped], n: int) -> None:
    """Log pictures whose depth was of no use."""
    if skipped:
        lines = [f"  {one.index}: {printable(one.name)}: {one.reason}" for one in skipped[:20]]
        log.warning("Depth of %d of %d pictures skipped:\n%s", len(skipped), n, "\n".join(lines))


def _each(
    features: Features, truth: TrueDepth
) -> Iterator[tuple[str, NDArray[np.float32] | ImageError]]:
    order = position_in_input(features)
    for row, name in enumerate(features.names):
        height, width = map(int, features.sizes[row])
        try:
            yield name, truth.read(int(order[row]), (width, height), name)
        except ImageError as error:
            yield name, error


def position_in_input(features: Features) -> NDArray[np.int64]:
    """Return the place of each picture among all of the input, (N,), those skipped counted."""
    all_of_them = np.sort([*features.index, *(one.index for one in features.skipped)])
    return np.asarray(np.searchsorted(all_of_them, features.index), np.int64)


def _target(depth: NDArray[np.float32], grid: tuple[int, int]) -> Target:
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(depth)  # (H, W)
    down, across = (_centres(n, FINE * k) for n, k in zip(depth.shape, grid, strict=True))
    fine = logs[np.ix_(down, across)]
    return Target(_mean_of_patches(logs, grid), fine)


def _centres(n_pixels: int, cells: int) -> NDArray[np.int64]:
    """Return the pixel at the centre of each of some equal cells, (cells,)."""
    return ((np.arange(cells) + 0.5) * n_pixels / cells).astype(np.int64)


def _mean_of_patches(logs: NDArray[np.float32], grid: tuple[int, int]) -> NDArray[np.float32]:
    """Return the mean of the known values of each patch, (h, w); NaN: none is known."""
    known = np.isfinite(logs)
    down, across = (
        ((np.arange(n) + 0.5) * cells / n).astype(np.int64)
        for n, cells in zip(logs.shape, grid, strict=True)
    )
    patch = (down[:, None] * grid[1] + across)[known]  # number of the patch of each known pixel
    n_patches = grid[0] * grid[1]
    count = np.bincount(patch, minlength=n_patches)
    total = np.bincount(patch, logs[known], minlength=n_patches)
    mean = np.divide(total, count, out=np.full(n_patches, np.nan), where=count > 0)
    return mean.reshape(grid).astype(np.float32)
