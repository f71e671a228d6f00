"""A bridge from DINOv2 to the words of a CLIP: one matrix, fitted on pictures without a label."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, cast, get_args

import numpy as np
from numpy.typing import NDArray

from ..clip import Clip
from ..extraction import Embeddings, Features, Maps
from ..extraction.result import Pooling
from ..lit import Lit
from ..models import Model
from ..threads import small_solves
from .answers import Answers
from .ground import Ground
from .inputs import NotFittedError
from .keeping import KeptError, load_object, save_object
from .naming import answer_by_names, probabilities
from .vectors import Reading, Vectors, unit, vectors_of
from .words import TEMPLATES, Templates, check_names, name_vectors

Floats = NDArray[np.float64]
Scaling = Literal["standard", "none"]
STRENGTHS = tuple(float(x) for x in 10.0 ** np.arange(-4, 1.5, 0.5))
KIND = "bridge"
GROUND = 1000  # pictures at most that tell what is usual


@dataclass(frozen=True)
class Crossed(Embeddings):
    """Embeddings by a bridge, which also say how far from the pictures of its fit they are."""

    # (N,), as `Ground.logarithms` gives them
    distances: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))


class Bridge:
    """Ridge regression from DINOv2's vectors of pictures to CLIP's of the same pictures.

    Both models look at the same unlabelled pictures; the matrix that takes one's vectors to the
    other's has a closed form. After that, names can be compared with what DINOv2 sees. It has the
    methods of a `Clip`, `embed_images` and `embed_texts`, and can take the place of one.

    Args:
        dinov2: The model whose pictures are to be named.
        clip: The model whose words they get: a `Clip` or a `Lit`.
        names: What the pictures may show, if it is known. The penalty is chosen, and the
            temperature learned, for these. A bridge for them alone it is not.
        templates: As for `prompts`.
        pooling: What of DINOv2 crosses: "cls", "mean" or "both".
        scaling: "standard" brings every feature to a deviation of 1 before the penalty, which
            then weighs CLS and mean alike; "none" leaves them.
        strengths: Penalties to choose from, each a multiple of the features' mean variance.
        folds: Parts into which pictures are divided to choose; each is held out once.
        size: Of the pictures for DINOv2, as for `extract_features`.
        cache: As there.
        progress: As there.

    Attributes:
        matrix_: (2 D, d) float32, or (D, d) if one vector crosses.
        offset_: (d,) float32.
        strength_: The penalty that was chosen.
        held_out_: What each strength scored on pictures that were held out. With names: the mean
            divergence (Kullback-Leibler, nats) of the bridge's profile over the names from CLIP's
            own, the smaller the better; without: the mean cosine to CLIP's vectors, the larger
            the better.
        temperature_: What cosines are divided by before a softmax: with names, that at which the
            held-out profiles come closest to CLIP's; without, CLIP's own.
        context_: (D,) float32, the mean CLS token of the pictures.
        ground_: What tells pictures that are unlike all of these, see `familiarity`.
        n_pictures_: Number of pictures that it was fitted on.
        skipped_: Those that could not be used.

    Source: Hoerl & Kennard 1970, "Ridge Regression"; a linear map from a vision model to CLIP's
    space: Moayeri et al. 2023, "Text-To-Concept (and Back) via Cross-Model Alignment".

    Example:
        >>> from dinov2_helpers import load_clip, load_dinov2, load_scenes
        >>> from dinov2_helpers.techniques import Bridge
        >>> toys = load_scenes("train", framing="portrait", surface="grass")
        >>> bridge = Bridge(load_dinov2("tiny"), load_clip("tiny")).fit(toys)
        >>> bridge.predict(toys.images[:2], ["dog", "house"]).probabilities.shape
        (2, 2)
    """

    def __init__(
        self,
        dinov2: Model,
        clip: Clip | Lit,
        *,
        names: Sequence[str] = (),
        templates: Templates = TEMPLATES,
        pooling: Pooling = "both",
        scaling: Scaling = "standard",
        strengths: Sequence[float] = STRENGTHS,
        folds: int = 5,
        size: int | None = None,
        cache: str | os.PathLike[str] | None = None,
        progress: bool | None = None,
    ) -> None:
        if len(names):
            check_names(names)
        if pooling not in get_args(Pooling):
            raise ValueError(f"pooling={pooling!r}: choose one of {get_args(Pooling)}")
        if scaling not in get_args(Scaling):
            raise ValueError(f"scaling={scaling!r}: choose one of {get_args(Scaling)}")
        if not len(strengths) or not min(strengths) > 0:
            raise ValueError(f"strengths={strengths}: one or more are needed, all above 0")
        if folds < 2:
            raise ValueError(f"folds={folds}: it must be 2 or more")
        self.dinov2 = dinov2
        self.clip = clip
        self.names = tuple(names)
        self.templates = templates
        self.pooling = pooling
        self.scaling = scaling
        self.strengths = tuple(float(strength) for strength in strengths)
        self.folds = folds
        self.size = size
        self.cache = cache
        self.progress = progress

    @property
    def name(self) -> str:
        """Which models it joins."""
        return f"{self.dinov2.name} through {self.clip.name}"

    @property
    def dim(self) -> int:
        """Numbers of a vector in the common space."""
        return self.clip.dim

    @property
    def temperature(self) -> float:
        """What it divides cosines by before a softmax; NotFittedError: before `fit`."""
        self._check_fitted()
        return self.temperature_

    def fit(self, pictures: Any, embeddings: Embeddings | None = None) -> "Bridge":
        """Fit the matrix on pictures, without labels.

        Some hundred pictures of the kind that is to be named are enough for a few names; it names
        best what they show.

        Args:
            pictures: What `extract_features` takes, or its result, with patches for a pooling
                other than "cls".
            embeddings: Of the same pictures, from `clip.embed_images`, if they are made already;
                needed where `pictures` are features.

        Raises:
            FileNotFoundError, TypeError, ValueError: As `extract_features`.
            ValueError: Features without embeddings, or fewer than two pictures in common.
        """
        x, y = self._pairs(pictures, embeddings)
        texts = name_vectors(self.clip, self.names, self.templates) if self.names else None
        self.n_pictures_ = len(x)
        self.context_ = x[:, : self.dinov2.dim].mean(0).astype(np.float32)
        with small_solves(x.shape[1]):
            held_out = self._cross_fitted(x, y)  # (strengths, N, d)
        if texts is None:
            cosines = [float((found * y).sum(1).mean()) for found in held_out]
            best = int(np.argmax(cosines))
            self.held_out_ = dict(zip(self.strengths, cosines, strict=True))
            self.temperature_ = self.clip.temperature
        else:
            wanted = probabilities(y @ texts.T, self.clip.temperature)  # (N, K)
            profiles = [found @ texts.T for found in held_out]
            lost = [divergence(one, wanted, self.clip.temperature) for one in profiles]
            best = int(np.argmin(lost))
            self.held_out_ = dict(zip(self.strengths, lost, strict=True))
            self.temperature_ = _best_temperature(profiles[best], wanted)
        self.strength_ = self.strengths[best]
        with small_solves(x.shape[1]):
            solved = Ridge(x, y, self.scaling).solve(self.strength_)
        self.matrix_ = solved.matrix.astype(np.float32)
        self.offset_ = solved.offset.astype(np.float32)
        self.ground_ = self._ground(x, held_out[best])
        return self

    def _ground(self, x: Floats, crossed: NDArray[np.float32]) -> Ground:
        """Learn from at most `GROUND` pictures what is usual."""
        rows = np.unique(np.linspace(0, len(x) - 1, GROUND).astype(int))
        tokens = x[rows, : self.dinov2.dim].astype(np.float32)
        fold = np.arange(len(rows)) % min(self.folds, len(rows))
        folds = [fold == number for number in range(fold.max() + 1)]
        return Ground.of_folds([tokens[f] for f in folds], [crossed[rows][f] for f in folds])

    def _pairs(self, pictures: Any, embeddings: Embeddings | None) -> tuple[Floats, Floats]:
        """Return the vectors of the pictures that both models could read, (N, ...) each."""
        if embeddings is None and isinstance(pictures, Features | Vectors):
            raise ValueError("features of DINOv2 alone: give embeddings=clip.embed_images(...) too")
        if isinstance(pictures, Iterator):
            pictures = list(pictures)  # two models have to read them
        found = self._read(pictures)
        if embeddings is None:
            options = {"cache": self.cache, "progress": self.progress}
            embeddings = self.clip.embed_images(pictures, **options)
        _, ours, theirs = np.intersect1d(found.index, embeddings.index, return_indices=True)
        if len(ours) < 2:
            raise ValueError(f"{len(ours)} pictures that both models can read: a bridge needs more")
        self.skipped_ = found.skipped
        x, y = found.vectors[ours], embeddings.vectors[theirs]
        return x.astype(np.float64), y.astype(np.float64)

    def _cross_fitted(self, x: Floats, y: Floats) -> list[NDArray[np.float32]]:
        """Return for each strength the vectors of all pictures by fits that did not see them."""
        folds = min(self.folds, len(x))
        fold = np.arange(len(x)) % folds
        found = [np.empty(y.shape, np.float32) for _ in self.strengths]
        for number in range(folds):
            out = fold == number
            fitted = Ridge(x[~out], y[~out], self.scaling)
            for vectors, strength in zip(found, self.strengths, strict=True):
                matrix, offset = fitted.solve(strength)
                vectors[out] = unit(x[out] @ matrix + offset)
        return found

    def transform(self, features: Any) -> NDArray[np.float32]:
        """Take pictures to CLIP's space.

        Args:
            features: `Features`, with patches unless CLS alone crosses; or pictures as for `fit`.
                What cannot be read has no row: `embed_images` says which.

        Returns:
            Unit vectors (N, d) float32.

        Raises:
            NotFittedError: Before `fit`.
            ValueError: As `extract_features`; features of another model.
        """
        return self.embed_images(features).vectors

    def embed_images(self, images: Any) -> Crossed:
        """Return the same as `transform` with names and what was skipped, as a `Clip` does."""
        self._check_fitted()
        found = self._read(images)
        vectors = unit(found.vectors @ self.matrix_ + self.offset_)
        distances = self.ground_.logarithms(found.vectors[:, : self.dinov2.dim])
        return Crossed(vectors, found.index, found.names, found.skipped, distances=distances)

    def familiarity(self, crossed: Embeddings, texts: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return how familiar pictures are, (N,): the smaller of two answers.

        One is the cosine to the nearest text; the other is how near the picture's CLS token is to
        those of the fit (Mahalanobis distance). Each is in deviations of pictures that were held
        out, from their mean. A bridge takes what it has never seen to a mixture of what it knows,
        and there the cosine alone does not tell.

        Args:
            crossed: From `embed_images`.
            texts: (K, d), unit length.

        Raises:
            NotFittedError: Before `fit`.
            ValueError: The embeddings do not come from `embed_images` of a bridge.
        """
        self._check_fitted()
        if not isinstance(crossed, Crossed):
            raise ValueError(
                "these embeddings do not tell how far they are from the pictures of the fit: give "
                "pictures, features, or what bridge.embed_images returns"
            )
        return self.ground_.familiarity(crossed.distances, crossed.vectors, texts)

    def embed_texts(self, texts: Any) -> NDArray[np.float32]:
        """Return the embeddings of N texts by the CLIP, (N, d) float32, unit length."""
        return self.clip.embed_texts(texts)

    def transform_patches(self, features: Features, *, context: bool = True) -> Maps:
        """Take every patch to CLIP's space, as if all patches of a picture were like it.

        Where CLS and mean cross, a patch stands in the place of the mean, beside the CLS token of
        its picture: the average over a picture, before it is scaled, is what `transform` gives.
        That names a patch well where it is known to show something. To find *where* it is, leave
        the context out, or compare with the other names by a softmax.

        Args:
            features: With patches, of any size and fit.
            context: False puts the mean CLS token of the fit in the place of the picture's.

        Returns:
            Unit vectors (N, h, w, d) float32, or a list of N arrays (h, w, d) where grids differ.

        Raises:
            NotFittedError: Before `fit`.
            ValueError: Features without patches, or of another model.
        """
        self._check_fitted()
        if features.patches is None:
            raise ValueError("the features lack patches: extract with patches=True")
        if features.origin.model != self.dinov2.name:
            raise ValueError(f"features of {features.origin.model}, not of {self.dinov2.name}")
        matrix = self.matrix_[-self.dinov2.dim :]  # of the mean, or of all that crosses
        maps = []
        for cls, patches in zip(features.cls, features.patches, strict=True):
            crossed = patches @ matrix + self.offset_  # (h, w, d)
            if self.pooling == "both":
                token = cls if context else self.context_
                crossed = crossed + token @ self.matrix_[: self.dinov2.dim]
            maps.append(unit(crossed))
        return np.stack(maps) if len({one.shape for one in maps}) == 1 else maps

    def predict(self, pictures: Any, names: Sequence[str] = ()) -> Answers:
        """Name pictures; `familiarity` is that of `familiarity`, in deviations.

        `ZeroShot(bridge, names)` does the same, keeps the names, and can say "none of these".

        Args:
            pictures: As for `transform`.
            names: What they may show; none: the names of the constructor.

        Raises:
            NotFittedError: Before `fit`.
            ValueError: As `transform`; there are no names.
        """
        wanted = list(names) or list(self.names)
        texts = name_vectors(self, wanted, self.templates)
        found = self.embed_images(pictures)
        familiarity = self.familiarity(found, texts)
        return answer_by_names(found, wanted, texts, self.temperature, familiarity=familiarity)

    def predict_patches(
        self, features: Features, names: Sequence[str] = (), *, context: bool = True
    ) -> Maps:
        """Return the probabilities of names for each patch, (N, h, w, K), or N arrays (h, w, K).

        Args:
            features: As for `transform_patches`.
            names: As for `predict`.
            context: As for `transform_patches`.
        """
        texts = name_vectors(self, list(names) or list(self.names), self.templates)
        vectors = self.transform_patches(features, context=context)
        maps = [probabilities(one @ texts.T, self.temperature) for one in vectors]
        return np.stack(maps) if isinstance(vectors, np.ndarray) else maps

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the bridge into a folder; OSError: it cannot be written."""
        self._check_fitted()
        templates = self.templates
        settings = {
            "names": self.names,
            "templates": dict(templates) if hasattr(templates, "keys") else templates,
            "pooling": self.pooling,
            "scaling": self.scaling,
            "strengths": self.strengths,
            "folds": self.folds,
            "size": self.size,
            "learned": {
                "strength_": self.strength_,
                "temperature_": self.temperature_,
                "n_pictures_": self.n_pictures_,
            },
            "held_out": list(self.held_out_.values()),
        }
        arrays = {"matrix": self.matrix_, "offset": self.offset_, "context": self.context_}
        arrays |= self.ground_.arrays()
        save_object(folder, KIND, settings, arrays, {"dinov2": self.dinov2, "clip": self.clip})

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        dinov2: Model | None = None,
        clip: Clip | Lit | None = None,
    ) -> "Bridge":
        """Read what `save` wrote.

        Args:
            folder: The folder.
            dinov2: The model; None: that of the recorded name is loaded.
            clip: The same for CLIP.

        Raises:
            KeptError: No bridge there, or one between other models.
            ModelError: A recorded model cannot be loaded.
        """
        kept = load_object(folder, KIND)
        words = cast(Clip | Lit, kept.model("clip", clip))
        model = kept.model("dinov2", dinov2)
        with kept.understood():
            settings = dict(kept.settings)
            learned, held_out = settings.pop("learned"), settings.pop("held_out")
            loaded = cls(model, words, **settings)
            for name, value in learned.items():
                setattr(loaded, name, value)
            loaded.held_out_ = dict(zip(loaded.strengths, held_out, strict=True))
            loaded.skipped_ = ()
            loaded.matrix_ = kept.arrays["matrix"]
            loaded.offset_ = kept.arrays["offset"]
            loaded.context_ = kept.arrays["context"]
        try:
            loaded.ground_ = Ground.from_arrays(kept.arrays)
        except KeyError:
            raise KeptError(
                f"{folder} holds a bridge of an earlier version of this package: fit it again"
            ) from None
        return loaded

    def _read(self, pictures: Any) -> Vectors:
        reading = Reading(self.pooling, self.size, self.cache, self.progress)
        return vectors_of(self.dinov2, pictures, reading)

    def _check_fitted(self) -> None:
        if not hasattr(self, "matrix_"):
            raise NotFittedError("this Bridge has no matrix yet: call fit(pictures)")


class Linear(NamedTuple):
    """The map x @ matrix + offset."""

    matrix: Floats  # (D, d)
    offset: Floats  # (d,)


class Ridge:
    """Ridge regression of y (N, d) on x (N, D) for any number of penalties.

    The penalty is `strength` times the mean variance of the features times N, so that one strength
    means the same for any number of pictures and any scale of features.
    """

    def __init__(self, x: Floats, y: Floats, scaling: Scaling) -> None:
        self.mean_x, self.mean_y = x.mean(0), y.mean(0)
        deviation = x.std(0)
        varies = deviation > 1e-6 * np.abs(x).max()
        self.scale = np.ones(x.shape[1])
        if scaling == "standard":
            self.scale[varies] = 1 / deviation[varies]
        centred = (x - self.mean_x) * self.scale
        self.values, self.vectors = np.linalg.eigh(centred.T @ centred)
        self.projected = self.vectors.T @ (centred.T @ (y - self.mean_y))  # (D, d)

    def solve(self, strength: float) -> Linear:
        """Return the map for a penalty."""
        penalty = strength * self.values.sum() / len(self.values)
        # where no feature varies, every map is as good as none
        inverse = 1 / np.maximum(self.values + penalty, np.finfo(np.float64).tiny)
        matrix = self.scale[:, None] * (self.vectors @ (inverse[:, None] * self.projected))
        return Linear(matrix, self.mean_y - self.mean_x @ matrix)


def divergence(cosines: NDArray[Any], wanted: NDArray[Any], temperature: float) -> float:
    """Return the mean Kullback-Leibler divergence of profiles from those wanted, in nats.

    Args:
        cosines: (N, K), which a softmax turns into profiles.
        wanted: (N, K), each row adds up to 1.
        temperature: Of the softmax.
    """
    from scipy.special import log_softmax, xlogy

    logs = log_softmax(np.asarray(cosines, np.float64) / temperature, axis=1)
    return float((xlogy(wanted, wanted) - wanted * logs).sum(1).mean())


def _best_temperature(cosines: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Return the temperature at which profiles come closest to those wanted."""
    from scipy.optimize import minimize_scalar

    def lost(logarithm: float) -> float:
        return divergence(cosines, wanted, float(np.exp(logarithm)))

    return float(np.exp(minimize_scalar(lost, bounds=(-6, 2), method="bounded").x))
