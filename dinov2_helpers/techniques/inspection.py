"""Test pictures in the layout of MVTec AD, and how well a detector does on them."""

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .. import measure
from ..measure import Interval
from ..pictures import ImageError, list_images, printable, read_mask
from ..pictures.files import local_path, shared_last_parts

log = logging.getLogger("dinov2_helpers")


class Scored(Protocol):
    """Scores of pictures, as `AnomalyScores` has them."""

    @property
    def values(self) -> NDArray[np.float64]:
        """Score of each picture, (N,)."""

    @property
    def flawed(self) -> NDArray[np.bool_]:
        """Verdict on each, (N,)."""

    @property
    def index(self) -> NDArray[np.int64]:
        """Position of each in the input, (N,)."""

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Height and width of each in pixels, (N, 2)."""

    def map(self, i: int) -> NDArray[np.float32]:
        """Return the map of a picture, (H, W)."""


@dataclass(frozen=True)
class Layout:
    """A folder in the layout of MVTec AD (Bergmann et al. 2019).

    Args:
        train: Pictures of train/good, none or more.
        test: Pictures of test/KIND.
        kinds: Of each of them: "good", the name of a flaw, or of a folder of unlabelled pictures.
        flaws: The kinds that are flaws, in the order of their names.
        masks: Of each test picture the file of its mask, or None.
    """

    train: list[Path]
    test: list[Path]
    kinds: tuple[str, ...]
    flaws: tuple[str, ...]
    masks: tuple[Path | None, ...]


@dataclass(frozen=True)
class KindScore:
    """How well one kind of flaw is found.

    Args:
        n: Number of its pictures.
        image_auroc: Against all good pictures; None if there is none.
        pixel_auroc: The same of pixels; None without masks.
        aupro: Area under the per-region overlap curve; None without masks.
        found: Share that is called flawed.
    """

    n: int
    image_auroc: Interval | None
    pixel_auroc: float | None
    aupro: float | None
    found: Interval


@dataclass(frozen=True)
class Evaluation:
    """How well a detector does on test pictures; what cannot be measured is None.

    Args:
        scores: Of all test pictures, the unlabelled ones too.
        kinds: Of each of these pictures.
        image_auroc: Good ones against flawed ones, with the interval over pictures drawn anew.
        pixel_auroc: Of all pixels of good pictures, and of flawed ones with masks.
        aupro: Area under the per-region overlap curve up to 0.3, of the same pixels.
        false_alarms: Share of the good pictures that is called flawed.
        found: Share of the flawed ones that is.
        by_kind: The same for each kind of flaw.
        unlabelled: Names of kinds that were counted nowhere.
    """

    scores: Any
    kinds: tuple[str, ...]
    image_auroc: Interval | None
    pixel_auroc: float | None
    aupro: float | None
    false_alarms: Interval | None
    found: Interval | None
    by_kind: dict[str, KindScore]
    unlabelled: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{'':>16} {'image AUROC':<24} {'pixel':<6} {'AUPRO':<6} called flawed"]
        total = self.image_auroc, self.pixel_auroc, self.aupro, self.found
        lines.append(_line("all flaws", *total))
        for name, one in self.by_kind.items():
            lines.append(_line(name, one.image_auroc, one.pixel_auroc, one.aupro, one.found))
        lines.append(_line("good", None, None, None, self.false_alarms))
        if self.unlabelled:
            listed = ", ".join(map(printable, self.unlabelled))
            lines.append(f"Scored and not counted, since no masks are in ground_truth: {listed}")
        return "\n".join(lines)


def _line(
    name: str,
    image: Interval | None,
    pixel: float | None,
    aupro: float | None,
    found: Interval | None,
) -> str:
    numbers = ["-" if x is None else f"{x:.3f}" for x in (pixel, aupro)]
    called = "-" if found is None else f"{found:.0%}"
    area = "-" if image is None else str(image)
    return f"{printable(name):>16} {area:<24} {numbers[0]:<6} {numbers[1]:<6} {called}"


def read_layout(folder: str | os.PathLike[str], flawed: Iterable[str] = ()) -> Layout:
    """Find the pictures of train/good, test/KIND and ground_truth/KIND.

    Args:
        folder: The folder of one category.
        flawed: Kinds that are flaws although they have no ground truth.

    Raises:
        FileNotFoundError: There is no such folder, or no picture in its test/KIND.
    """
    root = local_path(folder)
    parts = {path.relative_to(root).parts: path for path in list_images(root).paths}
    train = [path for part, path in parts.items() if part[:2] == ("train", "good")]
    # by kind and name below its folder: spot and "a/0" of ground_truth/spot/a/0_mask.png
    masks = {
        (part[1], "/".join((*part[2:-1], path.stem.removesuffix("_mask")))): path
        for part, path in parts.items()
        if part[0] == "ground_truth" and len(part) > 2
    }
    below = {
        path: (part[1], "/".join((*part[2:-1], path.stem)))
        for part, path in parts.items()
        if part[0] == "test" and part[2:]
    }
    tested = [(kind, path) for path, (kind, _) in below.items()]
    shared = {
        kind: shared_last_parts(name for one, name in below.values() if one == kind)
        for kind in {kind for kind, _ in tested}
    }

    def mask_of(path: Path) -> Path | None:
        kind, name = below[path]
        # a mask without folders, of a picture in some, must be of no other
        alone = None if path.stem in shared[kind] else masks.get((kind, path.stem))
        return masks.get((kind, name), alone)

    if not tested:
        raise FileNotFoundError(f"{printable(root)}: no picture in test/good or test/KIND")
    kinds = tuple(kind for kind, _ in tested)
    labelled = {kind for kind, _ in masks} | set(flawed)
    return Layout(
        train=train,
        test=[path for _, path in tested],
        kinds=kinds,
        flaws=tuple(sorted((labelled & set(kinds)) - {"good"})),
        masks=tuple(mask_of(path) for _, path in tested),
    )


def appraise(scores: Scored, layout: Layout) -> Evaluation:
    """Measure scores of the test pictures of a layout against what is known of them."""
    kinds = tuple(layout.kinds[i] for i in scores.index)
    kind = np.array(kinds)
    good = np.flatnonzero(kind == "good")
    flaws = {name: np.flatnonzero(kind == name) for name in layout.flaws}
    flaws = {name: rows for name, rows in flaws.items() if len(rows)}
    wanted = np.concatenate([good, *flaws.values()])
    masks = _masks(scores, layout, [int(i) for i in wanted])
    everything = np.concatenate([*flaws.values(), np.empty(0, int)]).astype(int)
    maps = {i: scores.map(i) for i in masks}

    def kind_score(rows: NDArray[np.int64]) -> KindScore:
        known = [int(i) for i in rows if int(i) in masks]
        pixels = known + [int(i) for i in good] if known and len(good) else []
        heat, truth = [maps[i] for i in pixels], [masks[i] for i in pixels]
        return KindScore(
            n=len(rows),
            image_auroc=image_auroc(scores.values[good], scores.values[rows]),
            pixel_auroc=measure.pixel_auroc(heat, truth) if pixels else None,
            aupro=measure.aupro(heat, truth) if pixels else None,
            found=measure.share(scores.flawed[rows]),
        )

    total = kind_score(everything) if len(everything) else None
    return Evaluation(
        scores=scores,
        kinds=kinds,
        image_auroc=total.image_auroc if total else None,
        pixel_auroc=total.pixel_auroc if total else None,
        aupro=total.aupro if total else None,
        false_alarms=measure.share(scores.flawed[good]) if len(good) else None,
        found=total.found if total else None,
        by_kind={name: kind_score(rows) for name, rows in flaws.items()},
        unlabelled=tuple(sorted(set(kinds) - {"good", *layout.flaws})),
    )


def image_auroc(
    good: NDArray[np.float64], flawed: NDArray[np.float64], draws: int = measure.DRAWS
) -> Interval | None:
    """Return the AUROC of flawed against good pictures, with its interval over pictures drawn anew.

    Args:
        good: (G,) scores.
        flawed: (F,) scores.
        draws: Of the bootstrap; of good and flawed ones together.

    Returns:
        None if there are no good or no flawed ones.
    """
    if not len(good) or not len(flawed):
        return None
    wins = (flawed[:, None] > good) + 0.5 * (flawed[:, None] == good)  # (F, G)

    def score(rows: NDArray[np.int64]) -> float:
        times = np.bincount(rows, minlength=len(good) + len(flawed))  # of each picture
        of_flawed, of_good = times[: len(flawed)], times[len(flawed) :]
        pairs = of_flawed.sum() * of_good.sum()
        return float(of_flawed @ wins @ of_good / pairs) if pairs else float("nan")

    return measure.bootstrap_of(score, len(good) + len(flawed), draws=draws)


def _masks(scores: Scored, layout: Layout, rows: Sequence[int]) -> dict[int, NDArray[np.bool_]]:
    """Return the mask of each of these pictures; what is missing, misfit or empty is reported."""
    found, lost = {}, []
    for row in map(int, rows):
        place = int(scores.index[row])
        height, width = (int(side) for side in scores.sizes[row])
        if layout.kinds[place] == "good":
            found[row] = np.zeros((height, width), bool)
            continue
        name = f"{layout.kinds[place]}/{layout.test[place].name}"
        path = layout.masks[place]
        if path is None:
            lost.append(f"{name}: no mask")
            continue
        try:
            mask = read_mask(path, size=(width, height))
        except ImageError as error:
            lost.append(f"{name}: {error.reason}")
            continue
        if mask.all() or not mask.any():
            lost.append(f"{name}: its mask is {'full' if mask.any() else 'empty'}")
            continue
        found[row] = mask
    if lost:
        listed = "; ".join(printable(one) for one in lost[:10])
        log.warning("%d pictures count for images and not for pixels: %s", len(lost), listed)
    return found
