"""Depth of every pixel from one picture: a head on frozen features, fitted to measured depth.

Depth is measured along the optical axis, as everywhere in this package.
"""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..extraction import Features, Skipped, stream_features
from ..measure import bootstrap, depth_scores, fit_scale
from ..models import Model
from ..pictures.decode import ImageError
from ..pictures.files import printable
from .depth_results import DepthMaps, DepthScores
from .depth_ridge import CLS_FACTORS, PENALTIES, Line, Moments, Penalty, fit_ridge
from .depth_truth import Target, TrueDepth, position_in_input, report, targets_of, true_depth
from .familiar import Familiar
from .inputs import NotFittedError, features_of
from .keeping import load_object, save_object

log = logging.getLogger("dinov2_helpers")
Kind = Literal["ridge", "bins", "dpt"]
KIND = "depth-head"  # of the object, as it is kept
FOLDS = 4  # of the pictures, to choose a penalty by
EDGE = 0.005  # share of the training pixels on each side that is left out of the range
UNLIKE = 0.2  # share of unfamiliar patches from which on a picture is warned of
RATES = {"bins": 6e-3, "dpt": 3e-3}
BINS = {"bins": 64, "dpt": 32}
Floats = NDArray[np.float32]


class DepthHead:
    """Estimate depth from frozen DINOv2 features, after a fit on pictures with measured depth.

    Args:
        dinov2: From `load_dinov2`.
        head: "ridge": log depth of a patch is a linear function of its tokens, fitted in closed
            form to the mean log depth of the patch. "bins": a weighted mean of fixed depths.
            "dpt": a small network of convolutions, twice as fine as the patches, the best one and
            the slowest to fit. The last two are trained by gradient steps.
        layers: Blocks whose tokens are read, 0 the first and -1 the last. None: four, evenly
            spaced, the last one included (Oquab et al. 2024, section 7.4).
        cls: Whether the CLS token of each layer is joined to its patches; it knows most of how far
            a scene is as a whole.
        size: Shortest side in pixels that pictures are scaled to; more gives finer maps, at a cost
            that grows faster than the pixels. None: as they are.
        relative: Whether the depth to fit to is right up to one factor for each picture alone, as
            that of structure from motion is. What is predicted is relative then too.
        steps: Of training, for "bins" and "dpt".
        batch_size: Pictures in each step.
        rate: Learning rate at its largest; None: 0.006 for "bins", 0.003 for "dpt".
        seed: Of the folds that choose the penalty, of the first weights, of the batches.

    Attributes:
        blocks_: Numbers of the layers that are read, from 0.
        range_: (near, far), between which 99 % of the training pixels lie, in the unit of depth;
            as seen by the training camera, if there were several.
        focal_: Focal length of the training camera, in pixels of the pictures scaled to `size`;
            the geometric mean, if there were several. None: not known.
        penalty_: Of the ridge, on patches and on CLS, chosen on pictures held out.
        skipped_: Pictures that were not fitted on, each with why.
        n_pictures_: Number of those that were.

    Raises:
        ValueError: A setting that is impossible, which is named.

    Example:
        >>> from dinov2_helpers import load_dinov2, load_scenes
        >>> scenes = load_scenes("train", framing="portrait", surface="snow")
        >>> head = DepthHead(load_dinov2("tiny"), layers=[-1]).fit(scenes, focal=325)
        >>> maps = head.predict([scenes.image(0)])
        >>> maps.depth[0].shape, maps.unit
        ((224, 224), 'metres')
    """

    range_: tuple[float, float]
    focal_: float | None
    penalty_: Penalty | None
    skipped_: tuple[Skipped, ...]
    n_pictures_: int

    def __init__(
        self,
        dinov2: Model,
        *,
        head: Kind = "ridge",
        layers: Sequence[int] | None = None,
        cls: bool = True,
        size: int | None = 224,
        relative: bool = False,
        steps: int = 600,
        batch_size: int = 8,
        rate: float | None = None,
        seed: int = 0,
    ) -> None:
        if head not in get_args(Kind):
            raise ValueError(f"head={head!r}: choose one of {get_args(Kind)}")
        for name, value in (("steps", steps), ("batch_size", batch_size), ("size", size)):
            if value is not None and (isinstance(value, bool) or int(value) != value or value < 1):
                raise ValueError(f"{name}={value!r}: a whole number of 1 or more")
        if rate is not None and not rate > 0:
            raise ValueError(f"rate={rate}: it must be above 0")
        self.dinov2, self.head, self.cls, self.size = dinov2, head, cls, size
        self.layers, self.relative = layers, relative
        self.steps, self.batch_size, self.rate, self.seed = steps, batch_size, rate, seed
        self.blocks_ = _blocks(layers, dinov2.n_layers)
        self._line: Line | None = None
        self._network: Any = None
        self._familiar: Familiar | None = None

    def fit(
        self,
        pictures: Any,
        depth: Any = None,
        *,
        focal: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        unit: float | None = None,
        resize: bool = False,
        cache: str | os.PathLike[str] | None = None,
        progress: bool | None = None,
    ) -> "DepthHead":
        """Fit the head to pictures with measured depth.

        Pictures that cannot be read, and those whose depth cannot, are reported and left out.

        Args:
            pictures: A folder, many pictures, `Scenes`, or `Features` of them, as
                `extract_features` takes or gives them (with this object's layers and size).
            depth: One map for each, as `read_depth` takes it: arrays or files, NaN or 0 where
                nothing was measured; or a folder of files of the same names, or a dict by name.
                None: that of the `Scenes`.
            focal: Focal length in pixels of the pictures as they are, one or (N,); with it,
                `predict` can turn metres into those of another camera. With several, depth is
                fitted as it would be for one camera (Metric3D, Yin et al. 2023).
            groups: (N,) labels of pictures that are no independent evidence, such as the video
                that a frame is of: a penalty is chosen on other groups than it is fitted on.
            unit: As in `read_depth`; None: integers are millimetres, fractions are metres.
            resize: Whether maps of another size are brought to that of their picture.
            cache: Folder to keep features in, as for `extract_features`.
            progress: Whether to show bars; None: only on a terminal.

        Raises:
            FileNotFoundError, TypeError: As `extract_features`.
            ValueError: As there; or depth that does not go with the pictures, which is said before
                anything is computed; or a focal length that is not above 0.
        """
        if isinstance(pictures, Iterator):
            pictures = list(pictures)
        truth = true_depth(pictures, depth, unit, resize)
        n = len(truth.sources)
        focals = None if focal is None else _per_picture("focal", focal, n)
        if focals is not None and not (np.isfinite(focals).all() and (focals > 0).all()):
            raise ValueError("focal: a focal length in pixels is above 0")
        if focals is not None and self.relative:
            raise ValueError("focal: relative depth has no scale that a focal length could change")
        labels = np.arange(n) if groups is None else np.asarray(groups)
        if labels.shape != (n,):
            raise ValueError(f"groups of shape {labels.shape} for {n} pictures: one label for each")
        features = self._features(pictures, cache=cache, progress=progress)
        found, without = targets_of(features, truth)
        if not found:
            raise ValueError("depth: there is no picture whose depth can be used")
        rows = np.array([row for row, _ in found])
        order = position_in_input(features)[rows]
        targets = [target for _, target in found]
        shifts = self._shifts(features, rows, None if focals is None else focals[order])
        if self.relative:
            shifts = np.array([np.nanmean(target.patch) for target in targets])
        targets = [
            Target(*((one - shift).astype(np.float32) for one in target))
            for target, shift in zip(targets, shifts, strict=True)
        ]
        known = np.concatenate([target.fine[np.isfinite(target.fine)] for target in targets])
        near, far = np.exp(np.quantile(known, [EDGE, 1 - EDGE]))
        folds = _folds(labels[order], self.seed)
        self._familiar = self._get_familiar(features, rows, folds)
        if self.head == "ridge":
            self._fit_ridge(features, rows, targets, folds)
        else:
            limits = (float(known.min()), float(known.max()))
            self._train(features, rows, targets, limits, progress)
        self.range_ = (float(near), float(far))
        self.n_pictures_, self.skipped_ = len(rows), (*features.skipped, *without)
        return self

    def predict(
        self,
        pictures: Any,
        *,
        focal: ArrayLike | None = None,
        cache: str | os.PathLike[str] | None = None,
        progress: bool | None = None,
    ) -> DepthMaps:
        """Estimate the depth of each pixel.

        Maps are scaled bilinearly, in log depth, from the patches to the pictures' own pixels.
        Pictures unlike those of the fit are named in a warning.

        Args:
            pictures: As for `fit`.
            focal: Focal length in pixels of the pictures as they are, one or (N,); NaN: not known.
                Depth is multiplied by it over that of the training camera, both as scaled to
                `size`. That is right as far as the head goes by how large things look, which it
                has to learn from pictures of several focal lengths.
            cache: As for `fit`.
            progress: As for `fit`.

        Raises:
            NotFittedError: Before `fit`.
            FileNotFoundError, TypeError, ValueError: As `extract_features`; or a focal length for
                a head that was fitted without.
        """
        self._check_fitted()
        self._check_focal(focal)
        features = self._features(pictures, cache=cache, progress=progress)
        focals = None
        if focal is not None:
            n = len(features) + len(features.skipped)
            focals = _per_picture("focal", focal, n)[position_in_input(features)]
        return self._maps(features, focals)

    def stream(
        self, pictures: Any, *, chunk: int = 64, focal: float | None = None
    ) -> Iterator[DepthMaps]:
        """Estimate the depth of any number of pictures in bounded memory.

        Args:
            pictures: What `extract_features` takes; a generator is read no further than needed.
            chunk: Pictures of each yield.
            focal: As in `predict`, the same for all.

        Yields:
            What `predict` returns, for each `chunk` pictures; `index` counts on.

        Raises:
            As `predict`.
        """
        self._check_fitted()
        self._check_focal(focal)
        settings: dict[str, Any] = {"size": self.size, "fit": "resize", "layers": self.blocks_}
        for features in stream_features(
            self.dinov2, pictures, chunk=chunk, patches=False, **settings
        ):
            focals = None if focal is None else np.full(len(features), float(focal))
            yield self._maps(features, focals)

    def score(
        self,
        pictures: Any,
        depth: Any = None,
        *,
        given: Literal["nothing", "scale"] | None = None,
        focal: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        unit: float | None = None,
        resize: bool = False,
        cache: str | os.PathLike[str] | None = None,
        progress: bool | None = None,
    ) -> DepthScores:
        """Measure the head on pictures with known depth, in their own pixels.

        Args:
            pictures: As for `fit`.
            depth: As for `fit`.
            given: "scale": each prediction is first multiplied by what brings its median to that
                of the truth. None: "nothing", and "scale" for relative depth.
            focal: As for `predict`.
            groups: (N,) labels of pictures that are no independent evidence; the intervals are
                over these.
            unit: As for `fit`.
            resize: As for `fit`.
            cache: As for `fit`.
            progress: As for `fit`.

        Raises:
            NotFittedError: Before `fit`.
            FileNotFoundError, TypeError, ValueError: As `fit` and `predict`.
        """
        self._check_fitted()
        if given not in (None, "nothing", "scale"):
            raise ValueError(f"given={given!r}: choose 'nothing' or 'scale'")
        given = given or ("scale" if self.relative else "nothing")
        if isinstance(pictures, Iterator):
            pictures = list(pictures)
        truth = true_depth(pictures, depth, unit, resize)
        labels = np.arange(len(truth.sources)) if groups is None else np.asarray(groups)
        if len(labels) != len(truth.sources):
            raise ValueError(f"groups: {len(labels)} labels for {len(truth.sources)} pictures")
        features = self._features(pictures, cache=cache, progress=progress)
        maps = self.predict(features, focal=focal)
        order = position_in_input(features)
        rows, kept, without = [], [], []
        for k, (guess, place) in enumerate(zip(maps.depth, order, strict=True)):
            try:
                rows.append(_scores(guess, truth, int(place), maps.names[k], given))
                kept.append(k)
            except ImageError as error:
                without.append(Skipped(int(maps.index[k]), maps.names[k], error.reason))
        report(without, len(maps))
        if not rows:
            raise ValueError("depth: there is no picture whose depth can be used")
        values = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        clusters = labels[order[kept]]
        mean = {name: bootstrap(value, clusters=clusters) for name, value in values.items()}
        names = tuple(maps.names[k] for k in kept)
        skipped = (*maps.skipped, *without)
        return DepthScores(values, mean, given, names, maps.index[kept], skipped)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Keep the fitted head in a folder, which is made if need be.

        Raises:
            NotFittedError: Before `fit`.
            OSError: The folder cannot be written.
        """
        familiar = self._check_fitted()
        arrays: dict[str, NDArray[Any]] = {"mean": familiar.mean, "whiten": familiar.whiten}
        if self._line is not None:
            arrays["weights"] = self._line.weights
            arrays["intercept"] = np.array(self._line.intercept)
        else:
            state = self._network.state_dict()
            arrays |= {f"network.{name}": value.numpy() for name, value in state.items()}
        settings = {name: getattr(self, name) for name in _SETTINGS}
        settings["layers"] = None if self.layers is None else [int(one) for one in self.layers]
        learned = {
            "range": self.range_,
            "focal": self.focal_,
            "penalty": self.penalty_,
            "n_pictures": self.n_pictures_,
            "skipped": [[one.index, one.name, one.reason] for one in self.skipped_],
            "limit": familiar.limit,
        }
        record = {"constructor": settings, "learned": learned}
        save_object(folder, KIND, record, arrays, {"dinov2": self.dinov2})

    @classmethod
    def load(cls, folder: str | os.PathLike[str], dinov2: Model | None = None) -> "DepthHead":
        """Return a head that `save` kept.

        Args:
            folder: Of the head.
            dinov2: The model that it was fitted with; None: it is loaded by its name.

        Raises:
            KeptError: No head is there, it is damaged, or the model is another one.
            ModelError: The model cannot be loaded.
        """
        kept = load_object(folder, KIND)
        model = kept.model("dinov2", dinov2)
        with kept.understood():
            head = cls(model, **kept.settings["constructor"])
            learned, arrays = kept.settings["learned"], kept.arrays
            head.range_ = (learned["range"][0], learned["range"][1])
            head.focal_, head.n_pictures_ = learned["focal"], learned["n_pictures"]
            head.penalty_ = None if learned["penalty"] is None else Penalty(*learned["penalty"])
            head.skipped_ = tuple(Skipped(*one) for one in learned["skipped"])
            head._familiar = Familiar(arrays["mean"], arrays["whiten"], learned["limit"])
            if head.head == "ridge":
                head._line = Line(arrays["weights"], float(arrays["intercept"]))
            else:
                import torch

                prefix = "network."
                state = {
                    name.removeprefix(prefix): torch.from_numpy(value)
                    for name, value in arrays.items()
                    if name.startswith(prefix)
                }
                head._network = head._new_network(np.zeros(BINS[head.head], np.float32))
                head._network.load_state_dict(state)
                head._network.eval()
            return head

    # What is inside

    def _features(self, pictures: Any, **options: Any) -> Features:
        return features_of(
            self.dinov2,
            pictures,
            size=self.size,
            fit="resize",
            layers=self.blocks_,
            patches=False,
            **options,
        )

    def _check_fitted(self) -> Familiar:
        if self._familiar is None:
            raise NotFittedError("this DepthHead knows nothing yet: call fit(pictures, depth)")
        return self._familiar

    def _check_focal(self, focal: ArrayLike | None) -> None:
        if focal is not None and self.focal_ is None:
            raise ValueError(
                "focal: the head was fitted without, so there is nothing to compare it with; give "
                "fit the focal length of the training pictures"
            )

    def _tokens(self, features: Features, row: int) -> tuple[Floats, Floats]:
        """Return patches (h, w, L D) and CLS (L D) of a picture, its layers side by side."""
        layers = [features.layers[block] for block in self.blocks_]
        patches = np.concatenate([layer.patches[row] for layer in layers], axis=-1)
        return patches, np.concatenate([layer.cls[row] for layer in layers])

    def _last(self, features: Features, row: int) -> Floats:
        """Return the patches (h, w, D) by which a picture is familiar or not."""
        last: Floats = features.layers[self.blocks_[-1]].patches[row]
        return last

    def _scaled(self, features: Features, row: int) -> float:
        """Return by how much a picture was scaled, the geometric mean of both sides."""
        sides = features.grids[row] * self.dinov2.patch_size / features.sizes[row]
        return float(np.sqrt(sides[0] * sides[1]))

    def _shifts(
        self, features: Features, rows: NDArray[np.int64], focals: NDArray[np.float64] | None
    ) -> NDArray[np.float64]:
        """Return what to take from the log depth of pictures to see them by one camera, (N,)."""
        self.focal_ = None
        if focals is None:
            return np.zeros(len(rows))
        scaled = np.array([self._scaled(features, row) for row in rows])
        logs = np.log(focals * scaled)
        self.focal_ = float(np.exp(logs.mean()))
        shifts: NDArray[np.float64] = logs - logs.mean()
        return shifts

    def _get_familiar(
        self, features: Features, rows: NDArray[np.int64], folds: Sequence[NDArray[np.int64]]
    ) -> Familiar:
        def patches_of(fold: NDArray[np.int64]) -> Floats:
            each = [self._last(features, row) for row in rows[fold]]
            return np.concatenate([one.reshape(-1, one.shape[-1]) for one in each])

        return Familiar.of_folds([patches_of(fold) for fold in folds])

    def _fit_ridge(
        self,
        features: Features,
        rows: NDArray[np.int64],
        targets: Sequence[Target],
        folds: Sequence[NDArray[np.int64]],
    ) -> None:
        width = self.dinov2.width * len(self.blocks_)
        sums = []
        for fold in folds:
            moments = Moments.zero(width * (2 if self.cls else 1))
            for k in fold:
                patches, cls = self._tokens(features, rows[k])
                known = np.isfinite(targets[k].patch)
                moments.add(
                    patches[known].astype(np.float64),
                    (cls if self.cls else cls[:0]).astype(np.float64),
                    targets[k].patch[known].astype(np.float64),
                )
            sums.append(moments)
        factors = CLS_FACTORS if self.cls else (1.0,)
        penalties = [Penalty(one, one * factor) for one in PENALTIES for factor in factors]
        chosen = fit_ridge(sums, penalties, width)
        self._line = Line(chosen.line.weights.astype(np.float32), chosen.line.intercept)
        self.penalty_, self._network = chosen.penalty, None

    def _new_network(self, log_centres: Floats) -> Any:
        import torch

        from .depth_heads import BinsHead, SmallDPT

        width = self.dinov2.width * len(self.blocks_)
        centres = torch.from_numpy(log_centres)
        if self.head == "bins":
            return BinsHead(width, centres, cls=self.cls)
        return SmallDPT(width, len(self.blocks_), centres, cls=self.cls)

    def _train(
        self,
        features: Features,
        rows: NDArray[np.int64],
        targets: Sequence[Target],
        limits: tuple[float, float],
        progress: bool | None,
    ) -> None:
        import torch

        from .depth_heads import Inputs, Recipe, train_head

        def inputs_of(batch: NDArray[np.int64]) -> Inputs:
            patches, cls = zip(*(self._tokens(features, row) for row in rows[batch]), strict=True)
            return torch.from_numpy(np.stack(patches)), torch.from_numpy(np.stack(cls))

        centres = torch.linspace(*limits, BINS[self.head]).numpy()
        self._network = train_head(
            partial(self._new_network, centres),
            inputs_of,
            [target.fine for target in targets],
            Recipe(self.steps, self.batch_size, self.rate or RATES[self.head], self.seed),
            device=self.dinov2.device,
            progress=progress,
        )
        self._line = self.penalty_ = None

    def _log_depth(self, features: Features, row: int) -> Floats:
        """Return log depth for the training camera, (h, w) or finer."""
        patches, cls = self._tokens(features, row)
        if self._line is not None:
            n = patches.shape[-1]
            whole = float(cls @ self._line.weights[n:]) if self.cls else 0.0
            found = patches @ self._line.weights[:n] + (whole + self._line.intercept)
            return np.asarray(found, np.float32)
        import torch

        with torch.inference_mode():
            inputs = (torch.from_numpy(one).float()[None] for one in (patches, cls))
            return np.asarray(self._network(*inputs)[0].numpy())

    def _maps(self, features: Features, focals: NDArray[np.float64] | None) -> DepthMaps:
        import torch

        from .depth_heads import resized

        familiar = self._check_fitted()
        n = len(features)
        focal = np.full(n, np.nan) if focals is None else focals
        if (focal <= 0).any() or np.isinf(focal).any():
            raise ValueError("focal: a focal length in pixels is above 0")
        depth: list[Floats] = []
        beyond, unlike = np.zeros(n, np.float32), np.zeros(n, np.float32)
        near, far = np.log(self.range_)
        for row in range(n):
            size = (int(features.sizes[row][0]), int(features.sizes[row][1]))
            coarse = torch.from_numpy(self._log_depth(features, row))[None]
            logs = resized(coarse, size)[0].numpy()  # (H, W)
            beyond[row] = ((logs < near) | (logs > far)).mean()
            unlike[row] = familiar.unlike(self._last(features, row))
            if np.isfinite(focal[row]):
                assert self.focal_ is not None
                logs = logs + np.float32(
                    np.log(focal[row] * self._scaled(features, row) / self.focal_)
                )
            depth.append(np.exp(logs))
        _warn(features.names, unlike)
        return DepthMaps(
            depth=depth,
            unit="relative" if self.relative else "metres",
            focal=focal.astype(np.float32),
            beyond=beyond,
            unlike=unlike,
            names=features.names,
            index=features.index,
            skipped=features.skipped,
        )


_SETTINGS = ("head", "cls", "size", "relative", "steps", "batch_size", "rate", "seed")


def _blocks(layers: Sequence[int] | None, n_layers: int) -> tuple[int, ...]:
    """Return the numbers of blocks from 0 on, in order; ValueError: there is no such block."""
    if layers is None:
        return tuple(sorted({max(0, n_layers * k // 4 - 1) for k in (1, 2, 3, 4)}))
    found = sorted({int(layer) % n_layers for layer in layers if -n_layers <= layer < n_layers})
    if len(found) != len(layers) or not found:
        raise ValueError(f"layers={list(layers)}: different blocks from 0 to {n_layers - 1}")
    return tuple(found)


def _per_picture(name: str, values: ArrayLike, n: int) -> NDArray[np.float64]:
    if isinstance(values, Mapping):
        raise ValueError(f"{name}: one number, or one for each picture in their order")
    array = np.asarray(values, np.float64)
    if array.ndim and array.shape != (n,):
        raise ValueError(f"{name} of shape {array.shape} for {n} pictures: one, or one for each")
    return np.broadcast_to(array, (n,))


def _folds(labels: NDArray[Any], seed: int) -> list[NDArray[np.int64]]:
    """Return the rows of disjoint groups, about equally many groups in each of up to FOLDS."""
    _, group = np.unique(labels, return_inverse=True)
    order = np.random.default_rng(seed).permutation(group.max() + 1)
    parts = np.array_split(order, min(FOLDS, len(order)))
    return [np.flatnonzero(np.isin(group, part)) for part in parts]


def _scores(guess: Floats, truth: TrueDepth, place: int, name: str, given: str) -> dict[str, float]:
    height, width = guess.shape
    true = truth.read(place, (width, height), name)
    if not np.isfinite(true).any():
        raise ImageError(name, "its depth is known nowhere")
    factor = fit_scale(guess, true) if given == "scale" else 1.0
    return depth_scores(guess * factor, true)


def _warn(names: Sequence[str], unlike: Floats) -> None:
    strange = [printable(name) for name, share in zip(names, unlike, strict=True) if share > UNLIKE]
    if strange:
        log.warning(
            "%d of %d pictures look unlike those that this head was fitted on, so their depth is a "
            "guess: %s",
            len(strange),
            len(names),
            ", ".join(strange[:20]),
        )
