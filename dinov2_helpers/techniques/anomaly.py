"""A detector of flaws that has seen good pictures alone, to keep and to use tomorrow.

Patches of good pictures are remembered. A patch of a new picture is odd by how far it is from the
best mixture of its nearest good ones, and a picture by its oddest patches.
"""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..extraction.reports import report_skipped, skipped_text
from ..extraction.result import Skipped
from ..models import Model
from . import memory
from .conformal import ConformalThreshold, check_alpha, threshold
from .inputs import NotFittedError
from .inspection import Evaluation, appraise, read_layout
from .keeping import load_object, save_object
from .memory import Anywhere, Memory, SamePlace, Subspace
from .patches import Combine, Described, PatchReader

Array = NDArray[np.float32]
Method = Literal["rebuild", "nearest", "subspace"]
ImageScore = Literal["top", "max", "reweighted"]
KIND = "anomaly-detector"
BLURRED_AT = 224  # pixels of the shortest side to which `blur` refers
MAY_BE_NONE = ("dimensions", "tiles")  # of the settings that are whole numbers
ENOUGH = 1024  # pixels of the shortest side beyond which a blurred map is only enlarged
log = logging.getLogger("dinov2_helpers")


@dataclass(frozen=True)
class AnomalyScores:
    """What a detector says of N pictures, in the order of the input.

    Args:
        values: (N,) scores, squared distances of patches of length 1; higher is odder.
        flawed: (N,) bool, whether a score is above the detector's threshold.
        patch_maps: Of each picture (h, w) float32, the same of each patch.
        sizes: (N, 2), height and width in pixels of the upright picture.
        names: As in `Features`.
        index: (N,), position in the input.
        skipped: The pictures that could not be used, or have another shape than the good ones
            where the place of a patch counts.
        pixel_threshold: What a map exceeds where it is called flawed.
        blur: Of maps, in pixels of a picture whose shortest side is 224.

    Example:
        >>> from dinov2_helpers import load_dinov2, photographs
        >>> brick = photographs()["brick"]
        >>> good = [brick.crop((x, 0, x + 128, 128)) for x in range(0, 320, 64)]
        >>> detector = AnomalyDetector(load_dinov2("tiny"), size=112, false_alarms=0.2).fit(good)
        >>> found = detector.score(good[:2])
        >>> found.flawed.tolist(), found.map(0).shape, bool(found.mask(0).any())
        ([False, False], (128, 128), False)
    """

    values: NDArray[np.float64]
    flawed: NDArray[np.bool_]
    patch_maps: tuple[Array, ...]
    sizes: NDArray[np.int64]
    names: tuple[str, ...]
    index: NDArray[np.int64]
    skipped: tuple[Skipped, ...]
    pixel_threshold: float
    blur: float

    def __len__(self) -> int:
        return len(self.values)

    def map(self, i: int) -> Array:
        """Return how odd each pixel of a picture is, (H, W) in the picture's own pixels."""
        height, width = self.sizes[i]
        return enlarge(self.patch_maps[i], (int(height), int(width)), self.blur)

    def mask(self, i: int) -> NDArray[np.bool_]:
        """Return which pixels are called flawed, (H, W)."""
        found: NDArray[np.bool_] = self.map(i) > self.pixel_threshold
        return found

    def drawn(self, i: int, picture: Any) -> NDArray[np.uint8]:
        """Draw a map over its picture, with the threshold as a contour, black beside white.

        Args:
            i: Which of the pictures.
            picture: The picture itself, as `open_image` takes it.

        Returns:
            (H, W, 3). The last colour is twice the threshold or more, in every picture.
        """
        from .. import plotting
        from ..pictures import open_image

        heat = self.map(i)
        over = plotting.overlay(open_image(picture), heat, limits=(0, 2 * self.pixel_threshold))
        return contoured(over, heat > self.pixel_threshold)


class AnomalyDetector:
    """Finds flaws in pictures of a part or a surface of which it has seen good ones.

    Args:
        dinov2: The model; what comes after the last of the `layers` is not computed.
        size: Shortest side in pixels of what it sees. The whole picture is seen, never a crop.
        layers: Blocks whose patches are used, 0 the first and -1 the last. None: the middle one.
        method: "rebuild" a patch from its k nearest good ones (Saul and Roweis 2003 for the
            weights); "nearest", distance to the nearest good one (AnomalyDINO, Damm et al. 2025;
            PatchCore, Roth et al. 2022); "subspace", what the principal components of good patches
            leave over (SubspaceAD).
        k: Neighbours to rebuild from; used by "rebuild" alone.
        same_place: Whether a patch is compared only with good ones at its own place or next to it.
            "auto": if good pictures show that the part always lies alike.
        dimensions: Patches are kept as so many numbers, by PCA without centring; None: as they are.
            "subspace" takes them as they are.
        variance: Share of the variance that the components have; used by "subspace" alone.
        coreset: Share of the bank that is kept, by a greedy choice; below 1 the place of a patch
            does not count.
        combine: Of several layers the "mean" of patches of length 1, or "join", one after another.
        neighbourhood: Side in patches of the square over which patches are averaged; 1: none.
        tiles: None: the picture as a whole. Else it is enlarged to a shortest side of tiles * size
            and seen through overlapping windows of `size`, for flaws smaller than a patch.
        image_score: A picture's score: "top", the mean of its oddest patches; "max", the oddest;
            "reweighted", as in PatchCore, which takes method="nearest" and same_place=False.
        top: Share of the patches that are the oddest, above 0 to 1.
        blur: Standard deviation of the maps' blur, in pixels of a picture with a shortest side of
            224 px.
        false_alarms: Share of good pictures that may be called flawed, between 0 and 1.
        folds: Parts of the good pictures that are held out in turn for the threshold, 2 or more.
        seed: Of the coreset.

    Attributes:
        n_good_: Number of good pictures in the memory.
        same_place_: Whether the place of a patch counts.
        held_out_: (M,) scores of good pictures that were not in the memory that scored them.
        threshold_: The `ConformalThreshold` of the score of a picture.
        pixel_threshold_: The same for the highest pixel of a good picture's map.
        skipped_: Pictures of `fit` that could not be used, or for the threshold not compared.

    Raises:
        ValueError: A setting is impossible; it is named.

    Example:
        >>> from dinov2_helpers import load_dinov2, photographs
        >>> brick = photographs()["brick"]
        >>> good = [brick.crop((x, 0, x + 128, 128)) for x in range(0, 320, 64)]
        >>> flawed = good[0].copy()
        >>> flawed.paste((200, 30, 30), (40, 40, 80, 70))
        >>> detector = AnomalyDetector(load_dinov2("tiny"), size=112, false_alarms=0.2).fit(good)
        >>> found = detector.score([flawed])
        >>> bool(found.flawed[0]), found.map(0).shape
        (True, (128, 128))

    Source: PatchCore (Roth et al. 2022, section 3), AnomalyDINO (Damm et al. 2025, section 3),
        SubspaceAD, and notebook 06 for the mixture, the same place and what each is worth.
    """

    def __init__(
        self,
        dinov2: Model,
        *,
        size: int = 448,
        layers: Iterable[int] | None = None,
        method: Method = "rebuild",
        k: int = 10,
        same_place: bool | Literal["auto"] = "auto",
        dimensions: int | None = 64,
        variance: float = 0.99,
        coreset: float = 1.0,
        combine: Combine = "mean",
        neighbourhood: int = 1,
        tiles: int | None = None,
        image_score: ImageScore = "top",
        top: float = 0.01,
        blur: float = 4.0,
        false_alarms: float = 0.05,
        folds: int = 4,
        seed: int = 0,
    ) -> None:
        self.dinov2 = dinov2
        self.size, self.method, self.k = size, method, k
        self.layers = None if layers is None else tuple(int(layer) for layer in layers)
        self.same_place, self.dimensions, self.variance = same_place, dimensions, variance
        self.coreset, self.combine, self.neighbourhood = coreset, combine, neighbourhood
        self.tiles, self.image_score, self.top, self.blur = tiles, image_score, top, blur
        self.false_alarms, self.folds, self.seed = false_alarms, folds, seed
        for name, value in self.get_params().items():
            setattr(self, name, _plain(value))
        self._check()
        blocks = (dinov2.n_layers // 2,) if self.layers is None else self.layers
        numbers = tuple(layer % dinov2.n_layers for layer in blocks)
        self._reader = PatchReader(dinov2, size, numbers, combine, neighbourhood, tiles)

    def _check(self) -> None:
        """Raise a ValueError that names a setting that is impossible."""
        _one_of("method", self.method, get_args(Method))
        _one_of("same_place", self.same_place, ("auto", True, False))
        _one_of("combine", self.combine, get_args(Combine))
        _one_of("image_score", self.image_score, get_args(ImageScore))
        check_alpha(self.false_alarms, "false_alarms")
        counts: dict[str, tuple[int | None, int]] = {
            "size": (self.size, self.dinov2.patch_size),
            "k": (self.k, 1),
        }
        counts |= {"neighbourhood": (self.neighbourhood, 1), "folds": (self.folds, 2)}
        counts |= {"dimensions": (self.dimensions, 1), "tiles": (self.tiles, 1)}
        counts |= {"seed": (self.seed, 0)}
        for name, (value, least) in counts.items():
            if value is None and name in MAY_BE_NONE:
                continue
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name}={value}: it must be a whole number of {least} or more")
        if not 0 <= self.blur < float("inf"):
            raise ValueError(f"blur={self.blur}: it must be 0 or more pixels")
        for name in ("coreset", "top", "variance"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}: a share above 0 and up to 1")
        last = self.dinov2.n_layers - 1
        wrong = [layer for layer in self.layers or () if not -last - 1 <= layer <= last]
        if wrong or self.layers == ():
            raise ValueError(
                f"layers={self.layers}: one or more of 0 to {last}, or -1 to -{last + 1}"
            )
        if self.same_place is True and (self.coreset < 1 or self.method == "subspace"):
            raise ValueError("same_place=True needs the whole bank: coreset=1, no subspace")
        if self.image_score == "reweighted" and (self.method != "nearest" or self.same_place):
            raise ValueError("image_score='reweighted' takes method='nearest', same_place=False")

    # Learning

    def fit(self, good: Any, *, calibration: Any = None, **options: Any) -> "AnomalyDetector":
        """Remember good pictures, and find the threshold.

        Args:
            good: A folder, a list or `Features` of 2 good pictures or more.
            calibration: Good pictures that are not remembered and serve the threshold alone: with
                them the promise holds exactly. None: the good ones are held out in `folds`; each
                part is scored by a memory of the others. The memory of all is larger and scores new
                pictures a little lower, so that false alarms are fewer rather than more; a proof
                there is only for twice the share (Barber et al. 2021, theorem 4).
            **options: Of `extract_features`: `exact`, `cache`, `progress`, `batch_size`.

        Raises:
            FileNotFoundError, TypeError, ValueError: As `extract_features`; or fewer than 2 good
                pictures; or they have several shapes, and same_place=True; or no picture of
                `calibration` has their shape, where the place of a patch counts.
        """
        described = self._reader.read(good, **options)
        maps = described.maps
        if len(maps) < 2:
            lost = described.skipped
            why = f"; {skipped_text(lost, len(maps) + len(lost))}" if lost else ""
            raise ValueError(f"{len(maps)} good pictures: give 2 or more{why}")
        if self.same_place is True and len({one.shape for one in maps}) > 1:
            raise ValueError("the good pictures have several shapes: cut them to one, the part in "
                             "the middle, or set same_place=False")  # fmt: skip
        self.skipped_ = described.skipped
        self.n_good_ = len(maps)
        self.same_place_ = self._lies_still(maps)
        self._turn, self._memory = self._remember(maps)
        if calibration is None:
            held_out = list(self._held_out(described))
        else:
            others, misfits = self._comparable(self._reader.read(calibration, **options))
            n = len(others.maps) + len(others.skipped)
            self.skipped_ += others.skipped
            if not others.maps:
                raise ValueError(f"no picture for the threshold; {skipped_text(others.skipped, n)}")
            report_skipped(misfits, n)
            held_out = list(self._judged(others, self._turn, self._memory))
        self.held_out_ = np.array([score for score, _, _ in held_out])
        self._peaks = np.array([peak for _, _, peak in held_out])
        self._calibrated = calibration is not None
        self._set_thresholds()
        if not self.threshold_.holds:
            log.warning("%s", self.promise())
        return self

    def set_false_alarms(self, false_alarms: float) -> "AnomalyDetector":
        """Move the threshold to another share of false alarms, without fitting again."""
        check_alpha(false_alarms, "false_alarms")
        self._check_fitted()
        self.false_alarms = _plain(false_alarms)
        self._set_thresholds()
        return self

    def promise(self) -> str:
        """Say in words what the threshold promises, and what it does not."""
        self._check_fitted()
        how = (
            "were never remembered" if self._calibrated else f"were held out, in {self.folds} parts"
        )
        return (
            f"{self.threshold_.promise('good picture')} They {how}. "
            "It holds for good pictures like these; how many flaws pass only flaws could tell."
        )

    def _set_thresholds(self) -> None:
        self.threshold_: ConformalThreshold = threshold(self.held_out_, self.false_alarms)
        self.pixel_threshold_: ConformalThreshold = threshold(self._peaks, self.false_alarms)

    def _lies_still(self, maps: Sequence[Array]) -> bool:
        if self.coreset < 1 or self.method == "subspace":
            return False
        if self.same_place != "auto":
            return bool(self.same_place)
        turn = self._directions(maps)
        return memory.lies_still([_turned(one, turn) for one in maps])

    def _directions(self, maps: Sequence[Array]) -> Array | None:
        if self.dimensions is None or self.method == "subspace":
            return None
        return memory.directions(memory.rows_of(maps), self.dimensions)

    def _remember(self, maps: Sequence[Array]) -> tuple[Array | None, Memory]:
        """Return the directions of good pictures, and the memory of them in these directions."""
        turn = self._directions(maps)
        turned = [_turned(one, turn) for one in maps]
        if self.method == "subspace":
            return turn, Subspace.of(memory.rows_of(turned), self.variance)
        k = self.k if self.method == "rebuild" else 1
        if self.same_place_:
            return turn, SamePlace(np.stack(turned), k)
        bank = memory.rows_of(turned)
        if self.coreset < 1:
            kept = max(1, round(self.coreset * len(bank)))
            bank = bank[memory.coreset(bank, kept, self.seed)]
        return turn, Anywhere(bank, k)

    def _held_out(self, good: Described) -> Iterator[tuple[float, Array, float]]:
        """Judge each good picture by a memory without its own part."""
        part = np.arange(len(good.maps)) % min(self.folds, len(good.maps))
        found: dict[int, tuple[float, Array, float]] = {}
        for fold in np.unique(part):
            rest = np.flatnonzero(part == fold)
            turn, remembered = self._remember([good.maps[i] for i in np.flatnonzero(part != fold)])
            maps = [good.maps[i] for i in rest]
            held = Described(maps, (), rest, good.sizes[rest], ())
            for row, judged in zip(rest, self._judged(held, turn, remembered), strict=True):
                found[int(row)] = judged
        for number in range(len(good.maps)):
            yield found[number]

    # Asking

    def score(self, pictures: Any, **options: Any) -> AnomalyScores:
        """Score pictures, and say which are flawed.

        Args:
            pictures: A folder, a list or `Features`. Those that cannot be read are skipped; so are
                those of another shape than the good ones, where the place of a patch counts.
            **options: As for `fit`.

        Raises:
            NotFittedError: Nothing was learned yet.
            FileNotFoundError, TypeError: As `extract_features`.
            ValueError: None of the pictures can be used; they are named, with the reason.
        """
        self._check_fitted()
        parts, judged, misfits = [], [], list[Skipped]()
        for read in self._reader.stream(pictures, **options):
            part, of_another_shape = self._comparable(read)
            parts.append(part)
            misfits += of_another_shape
            judged += list(self._judged(part, self._turn, self._memory))
        skipped = tuple(lost for part in parts for lost in part.skipped)
        n = len(judged) + len(skipped)
        if not judged:
            raise ValueError(f"no picture to score; {skipped_text(skipped, n)}")
        report_skipped(misfits, n)
        values = np.array([value for value, _, _ in judged])
        return AnomalyScores(
            values=values,
            flawed=values > self.threshold_.value,
            patch_maps=tuple(one for _, one, _ in judged),
            sizes=np.concatenate([part.sizes for part in parts]),
            names=tuple(name for part in parts for name in part.names),
            index=np.concatenate([part.index for part in parts]),
            skipped=skipped,
            pixel_threshold=self.pixel_threshold_.value,
            blur=self.blur,
        )

    def evaluate(
        self, folder: str | os.PathLike[str], *, flawed: Iterable[str] = (), **options: Any
    ) -> Evaluation:
        """Score the test pictures of a folder in the layout of MVTec AD, and how well that went.

        Args:
            folder: With test/good, test/KIND and ground_truth/KIND/NAME_mask.png. Kinds without
                ground truth, such as test/new, are scored and counted nowhere.
            flawed: Kinds that are flaws although no masks were drawn of them.
            **options: As for `fit`.

        Raises:
            NotFittedError, FileNotFoundError, ValueError: As `score`; or no picture in test/.
        """
        self._check_fitted()
        layout = read_layout(folder, flawed)
        return appraise(self.score(layout.test, **options), layout)

    def _comparable(self, described: Described) -> tuple[Described, list[Skipped]]:
        """Skip pictures that the memory cannot be compared with; return the others, and these."""
        if not isinstance(self._memory, SamePlace):
            return described, []
        reasons = [self._memory.misfit(one) for one in described.maps]
        misfits = [
            Skipped(int(described.index[row]), described.names[row], reason)
            for row, reason in enumerate(reasons)
            if reason
        ]
        if not misfits:
            return described, []
        rows = [row for row, reason in enumerate(reasons) if not reason]
        fitting = Described(
            maps=[described.maps[row] for row in rows],
            names=tuple(described.names[row] for row in rows),
            index=described.index[rows],
            sizes=described.sizes[rows],
            skipped=tuple(sorted([*described.skipped, *misfits], key=lambda one: one.index)),
        )
        return fitting, misfits

    def _judged(
        self, described: Described, turn: Array | None, remembered: Memory
    ) -> Iterator[tuple[float, Array, float]]:
        """Yield the score, the map (h, w) and the highest pixel of each picture."""
        for one, (height, width) in zip(described.maps, described.sizes, strict=True):
            turned = _turned(one, turn)
            errors = remembered.errors(turned)
            peak = enlarge(errors, (int(height), int(width)), self.blur).max()
            yield self._image_score(turned, errors, remembered), errors, float(peak)

    def _image_score(self, one: Array, errors: Array, remembered: Memory) -> float:
        if self.image_score == "max":
            return float(errors.max())
        if self.image_score == "reweighted":
            assert isinstance(remembered, Anywhere)
            return memory.reweighted(one, errors, remembered)
        return top_mean(errors, self.top)

    # Keeping

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Keep all that it takes to score pictures later.

        Raises:
            NotFittedError: Nothing was learned yet.
            OSError: The folder cannot be written.
        """
        self._check_fitted()
        learned = {
            "n_good": self.n_good_,
            "same_place": self.same_place_,
            "calibrated": self._calibrated,
        }
        arrays = {"held_out": self.held_out_, "peaks": self._peaks, **self._memory.arrays()}
        if self._turn is not None:
            arrays["turn"] = self._turn
        settings = {"settings": self.get_params(), "learned": learned}
        save_object(folder, KIND, settings, arrays, {"dinov2": self.dinov2})

    @classmethod
    def load(cls, folder: str | os.PathLike[str], dinov2: Model | None = None) -> "AnomalyDetector":
        """Return a detector that was saved.

        Args:
            folder: Where it was saved to.
            dinov2: The model that it was made with. None: the one of that name is loaded.

        Raises:
            KeptError: There is none, it is damaged, or it was made with another model.
            ModelError: The model cannot be loaded.
        """
        kept = load_object(folder, KIND)
        model = kept.model("dinov2", dinov2)
        with kept.understood():
            found = cls(model, **kept.settings["settings"])
            learned, arrays = kept.settings["learned"], kept.arrays
            found.n_good_, found.skipped_ = learned["n_good"], ()
            found.same_place_, found._calibrated = learned["same_place"], learned["calibrated"]
            found.held_out_, found._peaks = arrays["held_out"], arrays["peaks"]
            found._turn = arrays.get("turn")
            found._memory = found._remembered(arrays)
            found._set_thresholds()
            return found

    def get_params(self) -> dict[str, Any]:
        """Return the settings by name, all but the model."""
        names = (
            "size", "layers", "method", "k", "same_place", "dimensions", "variance", "coreset",
            "combine", "neighbourhood", "tiles", "image_score", "top", "blur", "false_alarms",
            "folds", "seed",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}

    def _remembered(self, arrays: dict[str, NDArray[Any]]) -> Memory:
        if self.method == "subspace":
            return Subspace(arrays["mean"], arrays["components"])
        k = self.k if self.method == "rebuild" else 1
        return SamePlace(arrays["bank"], k) if self.same_place_ else Anywhere(arrays["bank"], k)

    def remembered_bytes(self) -> int:
        """Return how many bytes the memory of good pictures takes.

        Raises:
            NotFittedError: Nothing was learned yet.
        """
        self._check_fitted()
        arrays = [*self._memory.arrays().values()]
        if self._turn is not None:
            arrays.append(self._turn)
        return sum(one.nbytes for one in arrays)

    def _check_fitted(self) -> None:
        if not hasattr(self, "threshold_"):
            raise NotFittedError(
                "this detector has seen no good picture: call fit(good) first, or load one"
            )

    def __repr__(self) -> str:
        settings = f"size={self.size}, method={self.method!r}, false_alarms={self.false_alarms}"
        state = f"{self.n_good_} good pictures" if hasattr(self, "n_good_") else "not fitted"
        return f"AnomalyDetector({self.dinov2.name}, {settings}): {state}"


def top_mean(errors: Array, share: float = 0.01) -> float:
    """Return the mean of the highest share of a map (h, w), of at least one value."""
    values = np.sort(errors, axis=None)
    return float(values[-max(1, round(share * values.size)) :].mean())


def enlarge(errors: Array, size: tuple[int, int], blur: float = 4.0) -> Array:
    """Return a map (h, w) in the pixels of its picture, blurred.

    Args:
        errors: (h, w).
        size: Height and width of the picture.
        blur: Standard deviation, in pixels of a picture whose shortest side is 224.

    Returns:
        (H, W) float32. Of a picture of more than 1,024 pixels it is blurred at that size, and
        then enlarged.
    """
    from scipy.ndimage import gaussian_filter

    height, width = size
    scale = min(1.0, ENOUGH / min(size))
    small = max(1, round(width * scale)), max(1, round(height * scale))
    bilinear = Image.Resampling.BILINEAR
    large = np.asarray(Image.fromarray(errors.astype(np.float32)).resize(small, bilinear))
    found: Array = gaussian_filter(large, blur * min(small) / BLURRED_AT)
    if small != (width, height):
        found = np.asarray(Image.fromarray(found).resize((width, height), bilinear))
    return found


def contoured(picture: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return a picture (H, W, 3) with the outline of a mask (H, W), black outside of white."""
    from scipy.ndimage import binary_dilation

    width = max(1, round(min(mask.shape) / 224))
    white = binary_dilation(mask, iterations=width) & ~mask
    black = binary_dilation(mask, iterations=2 * width) & ~mask & ~white
    found = np.where(white[..., None], np.uint8(255), picture)
    return np.where(black[..., None], np.uint8(0), found)


def _turned(one: Array, turn: Array | None) -> Array:
    return one if turn is None else one @ turn


def _plain(value: Any) -> Any:
    """Return a number of numpy as one of Python's, which JSON can hold, and all else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def _one_of(name: str, value: Any, allowed: Sequence[Any]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}={value!r} is none of {tuple(allowed)}")
