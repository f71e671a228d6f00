"""Cut things out of pictures: without masks, by a few masks, by a click, by a text."""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..extraction import Features, Skipped
from ..models import Model
from ..pictures.decode import ImageError, open_image
from .dense import Dense, Floats, Kind, Reader, enlarge, read, report, skipped_text, unit
from .foreground import (
    ClusterVotes,
    FirstComponent,
    NormalisedCut,
    Scorer,
    UnlikeBorder,
    border,
    threshold_without_masks,
)
from .inputs import NotFittedError
from .keeping import load_object, save_object
from .mask_probe import LinearProbe, best_threshold, choose, shares_of
from .mask_sources import MaskSource, truths_of
from .refine import as_record, from_record, lab_of, refinement, refining_size
from .segmentation_results import Segmentation, Segmentations, SoftMasks
from .things import (
    Bools,
    Clicked,
    Named,
    ReadsPictures,
    Thing,
    find_things,
    fits,
    painted,
    part_at,
    patch_vectors,
    text_vectors,
    vectors_of_things,
)

log = logging.getLogger("dinov2_helpers")
Method = Literal["auto", "probe", "clusters", "pca", "cut", "border"]
Foreground = Literal["auto", "fitted", "inside", "smallest", "largest", "other"]
KIND = "segmenter"
SOFTNESS = 0.15  # a probability goes from 0.27 to 0.73 within so many deviations of the scores
LARGEST_TILE = 2048  # pixels a side


class Segmenter:
    """Things against ground, in pictures of any size.

    Fitted on pictures alone, it stands on the assumption that things are seldom at the edge of a
    picture. Fitted on masks, 5 to 50 are typical, it learns what they mark.

    Args:
        dinov2: The model.
        method: "probe" is a linear probe on masks, with layer, penalty and threshold chosen on
            those held out. The others learn from no mask, and take the threshold from masks if
            there are some: "clusters" over pictures that vote; "pca", the first component; "cut",
            the normalised cut of each picture; "border", what is unlike the picture's border.
            "auto": the probe if masks are given, else clusters; or the border, with a warning,
            where clusters find nothing in most pictures, as they do in those of many kinds.
        facet: "token", "query", "key" or "value" of a patch. None: tokens for the probe, else keys.
        layer: Block, 0 the first and -1 the last. None: for tokens and the probe, of four from the
            middle to the last, the best on masks held out; else the one at 5/7 of the depth.
        size: Shortest side in pixels that the model sees. None: the picture's own.
        tile: Side in pixels of overlapping tiles, for small things in large pictures. None: no
            tiles, unless a picture has more than 4,096 patches at that size.
        foreground: Which side of a picture's mask is the thing. "fitted": as it was learned.
            "inside": the one that has less of the border. "smallest", "largest": by area.
            "other": the opposite of what was learned. "auto": "fitted" for the probe, "inside" for
            the others.
        refine: "crf", "guided", "none", or a `DenseCrf` or `GuidedFilter` of your own settings.
        clusters: Number of clusters, 2 or more.
        smallest: Share of a picture below which a part is no thing, 0 to 1.
        seed: Of clusters, and of the order in which masks are held out.
        cache: As for `extract_features`.

    Attributes:
        method_: The method that was taken.
        kind_: Facet and layer that were taken.
        scorer_: What scores patches.
        threshold_: Score above which a patch is of a thing.
        scale_: Scores by which the logit of the probability changes by 1.
        tried_: Mean IoU on held-out masks of all that was tried; empty without masks.
        n_pictures_: Number of pictures that it was fitted on.
        skipped_: Those that could not be used.

    Raises:
        ValueError: A setting that is impossible, which is named.

    Source: clusters, Amir et al. 2021; cut, Wang et al. 2022 (TokenCut); first component, Oquab et
    al. 2024, section 7.5; CRF, Krähenbühl & Koltun 2011; guided filter, He et al. 2010.

    Example:
        >>> from dinov2_helpers import load_dinov2, load_scenes
        >>> from dinov2_helpers.techniques import Segmenter
        >>> scenes = load_scenes("train", framing="portrait")
        >>> segmenter = Segmenter(load_dinov2("tiny")).fit(scenes.images[:8])
        >>> segmenter.predict(scenes.images[8:10]).masks[0].shape
        (224, 224)
    """

    def __init__(
        self,
        dinov2: Model,
        *,
        method: Method = "auto",
        facet: Literal["token", "query", "key", "value"] | None = None,
        layer: int | None = None,
        size: int | None = 224,
        tile: int | None = None,
        foreground: Foreground = "auto",
        refine: Any = "crf",
        clusters: int = 16,
        smallest: float = 0.002,
        seed: int = 0,
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        self.dinov2 = dinov2
        self.method = method
        self.facet = facet
        self.layer = layer
        self.size = size
        self.tile = tile
        self.foreground = foreground
        self.refine = refine
        self.clusters = clusters
        self.smallest = smallest
        self.seed = seed
        self.cache = cache
        self._check_choices()
        self._check_numbers()

    def _check_choices(self) -> None:
        choices = {
            "method": (self.method, get_args(Method)),
            "facet": (self.facet, (None, "token", "query", "key", "value")),
            "foreground": (self.foreground, get_args(Foreground)),
        }
        for name, (value, known) in choices.items():
            if value not in known:
                raise ValueError(f"{name}={value!r} is none of {known}")
        refinement(self.refine)

    def _check_numbers(self) -> None:
        n_layers, patch = self.dinov2.n_layers, self.dinov2.patch_size
        if self.layer is not None and not -n_layers <= self.layer < n_layers:
            raise ValueError(f"layer={self.layer}: {self.dinov2.name} has 0 to {n_layers - 1}")
        if self.size is not None and self.size < 2 * patch:
            raise ValueError(f"size={self.size}: it must be {2 * patch} or more, or None")
        if self.tile is not None and not 2 * patch <= self.tile <= LARGEST_TILE:
            raise ValueError(f"tile={self.tile}: it must be {2 * patch} to {LARGEST_TILE}, or None")
        if self.clusters < 2 or not 0 <= self.smallest < 1:
            raise ValueError(
                f"clusters={self.clusters}, smallest={self.smallest}: 2 or more, and 0 to 1"
            )

    # Fitting

    def fit(self, pictures: Any, masks: Any = None) -> "Segmenter":
        """Learn what is a thing.

        Args:
            pictures: A folder, a list, or `Features` made with size=`size`, fit="resize" and the
                layers or facets that are needed.
            masks: None; or one for each picture, files or arrays of any kind that `read_mask`
                reads, in the order of the pictures; or a folder or dict of masks by the pictures'
                names, whose endings may differ.

        Returns:
            Itself. Pictures that cannot be used, or that have no mask where others have one, are
            in `skipped_`, and a warning of the logger "dinov2_helpers" names them.

        Raises:
            FileNotFoundError, TypeError, ValueError: As `extract_features`.
            ValueError: The method needs masks, there are not as many as pictures, or they cover
                all or nothing; or no picture can be used.
        """
        method = self._method(masks is not None)
        given = MaskSource(masks) if masks is not None else None
        skipped: list[Skipped] = []
        found = list(_without_pictures(read(self._reader, pictures, self._kinds(method), skipped)))
        truths: dict[int, Bools] = {}
        if given:
            given.check_number(len(found) + len(skipped))
            truths = truths_of(given, found, skipped)
            found = [one for one in found if one.index in truths]
        if not found:
            raise ValueError(f"no picture to fit on; {skipped_text(skipped)}")
        self.method_ = method
        self.tried_: dict[str, float] = {}
        if method == "probe":
            self._fit_probe(found, [truths[one.index] for one in found])
        else:
            self._fit_without(found, [truths[one.index] for one in found] if given else [])
            self._give_up_clusters(found)
        self.n_pictures_ = len(found)
        self.skipped_ = tuple(sorted(skipped, key=lambda one: one.index))
        report(self.skipped_)
        return self

    def _method(self, with_masks: bool) -> Method:
        if self.method == "probe" and not with_masks:
            raise ValueError("method='probe' learns from masks: give fit(pictures, masks)")
        if self.method != "auto":
            return self.method
        return "probe" if with_masks else "clusters"

    @property
    def _reader(self) -> Reader:
        return Reader(self.dinov2, self.size, self.tile, self.cache)

    def _kinds(self, method: Method) -> list[Kind]:
        """Return which maps `fit` reads."""
        n_layers = self.dinov2.n_layers
        facet = self.facet or ("token" if method == "probe" else "key")
        if self.layer is not None:
            return [Kind(facet, self.layer % n_layers)]
        if facet != "token" or method != "probe":
            return [Kind(facet, round((n_layers - 1) * 5 / 7))]
        layers = np.linspace(n_layers // 2, n_layers - 1, 4).round().astype(int)
        return [Kind(facet, int(layer)) for layer in np.unique(layers)]

    def _fit_probe(self, found: Sequence[Dense], masks: Sequence[Bools]) -> None:
        kinds = list(found[0].maps)
        maps = {kind: [one.maps[kind] for one in found] for kind in kinds}
        grids = [one.shape[:2] for one in maps[kinds[0]]]
        shares = [shares_of(mask, grid) for mask, grid in zip(masks, grids, strict=True)]
        if len(found) == 1:
            log.warning("One mask: nothing is held out, so layer and threshold are not chosen")
            self.kind_, strength, self.threshold_ = kinds[0], 1e-3, 0.0
        else:
            choice = choose(maps, shares, masks, self.seed)
            self.kind_, strength, self.threshold_ = choice[:3]
            self.tried_ = choice.scores
        self.scorer_: Scorer = LinearProbe.fit(maps[self.kind_], shares, strength)
        self._set_scale([self.scorer_.score(one) for one in maps[self.kind_]])

    def _fit_without(self, found: Sequence[Dense], masks: Sequence[Bools]) -> None:
        (self.kind_,) = found[0].maps
        maps = [one.maps[self.kind_] for one in found]
        if self.method_ == "clusters":
            self.scorer_ = ClusterVotes.fit(maps, self.clusters, self.seed)
        elif self.method_ == "pca":
            self.scorer_ = FirstComponent.fit(maps)
        else:
            self.scorer_ = NormalisedCut() if self.method_ == "cut" else UnlikeBorder()
        scores = [self.scorer_.score(one) for one in maps]
        if masks:
            self.threshold_, score = best_threshold(scores, masks)
            self.tried_ = {f"{self.method_}, threshold {self.threshold_:.3g}": score}
        else:
            self.threshold_ = threshold_without_masks(self.scorer_, scores)
        self._set_scale(scores)

    def _give_up_clusters(self, found: Sequence[Dense]) -> None:
        """Where "auto" took clusters and they find nothing in most pictures, take the border."""
        if self.method != "auto" or self.method_ != "clusters":
            return
        scores = [self.scorer_.score(one.maps[self.kind_]) for one in found]
        empty = sum(not (one > self.threshold_).any() for one in scores)
        if empty <= len(found) / 2:
            return
        log.warning(
            "Clusters find nothing in %d of %d pictures, which show too many kinds of things: "
            "method='border' is taken, which looks at each by itself. A few masks do better",
            empty,
            len(found),
        )
        self.method_ = "border"
        self._fit_without(found, [])

    def _set_scale(self, scores: Sequence[Floats]) -> None:
        deviation = float(np.std(np.concatenate([one.ravel() for one in scores])))
        self.scale_ = SOFTNESS * deviation or 1.0

    # Masks of pictures

    def each(self, pictures: Any, skipped: list[Skipped] | None = None) -> Iterator[Segmentation]:
        """Yield the masks of pictures one by one, in memory that their number does not fill.

        Args:
            pictures: As for `fit`. `Features` hold no colours: they need refine="none".
            skipped: To which pictures are added that cannot be used. None: a warning names them
                at the end.

        Raises:
            NotFittedError: Before `fit`.
            FileNotFoundError, TypeError, ValueError: As `extract_features`.
        """
        self._check_fitted()
        if isinstance(pictures, Features) and refinement(self.refine):
            raise ValueError(
                "features hold no colours to refine by: give pictures, or refine='none'"
            )
        listed = [] if skipped is None else skipped
        for one in read(self._reader, pictures, [self.kind_], listed):
            yield self._segment(one)
        if skipped is None:
            report(listed)

    def predict(self, pictures: Any) -> Segmentations:
        """Return the masks of pictures, each in the picture's own pixels.

        Args:
            pictures: As for `each`.

        Raises:
            NotFittedError, FileNotFoundError, TypeError, ValueError: As `each`.
        """
        skipped: list[Skipped] = []
        found = list(self.each(pictures, skipped))
        report(skipped)
        return Segmentations(
            masks=tuple(one.mask for one in found),
            names=tuple(one.name for one in found),
            index=np.array([one.index for one in found], np.int64),
            turned=np.array([one.turned for one in found], bool),
            notes=tuple(one.note for one in found),
            skipped=tuple(skipped),
        )

    def predict_soft(self, pictures: Any) -> SoftMasks:
        """Return the probability of each pixel to be of a thing; arguments and errors as `predict`.

        The probability is a logistic curve at the threshold, refined; it is no promise that so
        many pixels are right.
        """
        skipped: list[Skipped] = []
        found = list(self.each(pictures, skipped))
        report(skipped)
        return SoftMasks(
            probabilities=tuple(one.probability for one in found),
            names=tuple(one.name for one in found),
            index=np.array([one.index for one in found], np.int64),
            skipped=tuple(skipped),
        )

    def _segment(self, one: Dense) -> Segmentation:
        scores = self.scorer_.score(one.maps[self.kind_])
        turned, note = self._side(scores > self.threshold_)
        sign = -1 if turned else 1
        logits = sign * (scores - self.threshold_) / self.scale_
        probability = self._in_pixels(logits, one)
        return Segmentation(one.name, one.index, probability > 0.5, probability, turned, note)

    def _side(self, mask: Bools) -> tuple[bool, str]:
        """Say whether a mask of patches (h, w) is to be turned round, and why."""
        rule = self.foreground
        if rule == "auto":
            rule = "fitted" if self.method_ == "probe" else "inside"
        if rule == "fitted":
            return False, "as fitted"
        if rule == "other":
            return True, "the other side than that of the fit"
        if rule == "inside":
            at_edge = border(*mask.shape)
            inside = mask[~at_edge] if (~at_edge).any() else mask
            turned = bool(mask[at_edge].mean() > inside.mean())
            return turned, "the side that has less of the border" + _as_fitted(turned)
        turned = bool((mask.mean() > 0.5) == (rule == "smallest"))
        return turned, f"the {rule} side" + _as_fitted(turned)

    def _in_pixels(self, logits: Floats, one: Dense) -> Floats:
        """Return the probability in the picture's own pixels (H, W), refined by its colours."""
        method = refinement(self.refine)
        if method is None or one.picture is None:
            return _logistic(enlarge(logits, one.size))
        size = refining_size(logits.shape, self.dinov2.patch_size)
        start = _logistic(enlarge(logits, size))
        refined = method(start, lab_of(one.picture, size))
        return np.clip(enlarge(refined, one.size), 0, 1)

    def _one(self, picture: Any) -> Dense:
        """Read one picture."""
        opened, skipped = open_image(picture), list[Skipped]()
        found = list(read(self._reader, [opened], [self.kind_], skipped))
        if skipped:
            raise ImageError("picture", skipped[0].reason)
        return found[0]

    # Things

    def things(self, picture: Any) -> tuple[Thing, ...]:
        """Return the things of one picture apart, the largest first.

        Things that touch each other are one: a mask does not know where one ends.

        Args:
            picture: What `open_image` opens.

        Raises:
            NotFittedError: Before `fit`.
            ImageError: It cannot be read.
        """
        self._check_fitted()
        found = self._segment(self._one(picture))
        return find_things(found.mask, found.probability, self.smallest)

    def by_name(
        self,
        picture: Any,
        words: str | Sequence[str],
        reader: ReadsPictures,
        *,
        way: Literal["crops", "patches"] = "crops",
        against: Sequence[str] = (),
        templates: Sequence[str] = ("{}", "a photo of a {}", "a picture of a {}"),
    ) -> tuple[Named, ...]:
        """Say which thing of a picture each text speaks of.

        Things are found without words, and then compared with the texts. A thing that is asked for
        and not shown is not noticed: the best of those that are shown is given, with its score.

        Args:
            picture: What `open_image` opens.
            words: One text or several.
            reader: What embeds texts and pictures in one space: a `Clip`, a `Lit`, a `Bridge`.
            way: "crops": each thing is cut out and embedded as a picture of its own, for a CLIP
                and a bridge know whole pictures. "patches": each patch is embedded, which a `Lit`
                with a head for patches can do and a `Bridge` can try; a thing is the mean of its
                patches' scores.
            against: More texts to tell them from, such as all names that may occur. With a single
                text and none of these the score is its plain cosine.
            templates: What each text is put into, at `{}`.

        Returns:
            One for each of the words, in their order.

        Raises:
            NotFittedError: Before `fit`.
            ImageError: The picture cannot be read.
            ValueError: There are no words, or the reader knows no patches.
        """
        self._check_fitted()
        asked = [words] if isinstance(words, str) else list(words)
        if not asked or not templates:
            raise ValueError("words and templates are empty: say what to look for")
        texts = [*asked, *(text for text in against if text not in asked)]
        opened = open_image(picture)
        things = self.things(opened)
        heat = np.full((opened.height, opened.width), np.nan, np.float32)
        if not things:
            return tuple(Named(text, None, 0.0, heat) for text in asked)
        vectors_of_texts = text_vectors(reader, texts, templates)
        if way == "crops":
            vectors = vectors_of_things(reader, opened, things)
            found = fits(vectors, vectors_of_texts)  # (things, texts)
            heats = [painted(heat, things, column) for column in found.T]
        else:
            patches = fits(patch_vectors(reader, opened, self.size), vectors_of_texts)  # (h, w, K)
            heats = [enlarge(patches[..., k], heat.shape) for k in range(len(asked))]
            found = np.array([[one[thing.mask].mean() for one in heats] for thing in things])
        best = found.argmax(0)
        return tuple(
            Named(text, things[best[k]], float(found[best[k], k]), heats[k])
            for k, text in enumerate(asked)
        )

    def by_click(
        self, picture: Any, x: float, y: float, *, threshold: float | None = None
    ) -> Clicked:
        """Return what is like the patch at a pixel, by the cosine.

        Args:
            picture: What `open_image` opens.
            x: Pixels from the left, 0 to the picture's width.
            y: Pixels from the top, 0 to its height.
            threshold: Cosine above which a patch is alike. None: the threshold of Otsu (1979),
                which separates the cosines of this picture into two groups.

        Raises:
            NotFittedError: Before `fit`, which chooses facet and layer.
            ImageError: The picture cannot be read.
            ValueError: The pixel is outside of the picture.
        """
        self._check_fitted()
        one = self._one(picture)
        height, width = one.size
        if not (0 <= x < width and 0 <= y < height):
            raise ValueError(f"pixel ({x}, {y}) is outside of the picture, {width}x{height} px")
        patches = unit(one.maps[self.kind_])  # (h, w, D)
        h, w = patches.shape[:2]
        likeness = patches @ patches[int(y * h / height), int(x * w / width)]  # (h, w)
        cut_at = _otsu(likeness) if threshold is None else threshold
        scale = SOFTNESS * float(likeness.std()) or 1.0
        mask = self._in_pixels((likeness - cut_at) / scale, one) > 0.5
        return Clicked(enlarge(likeness, one.size), mask, part_at(mask, int(x), int(y)))

    # Keeping

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write it into a folder; NotFittedError: before `fit`; OSError: it cannot be written."""
        self._check_fitted()
        settings = {
            "method": self.method,
            "facet": self.facet,
            "layer": self.layer,
            "size": self.size,
            "tile": self.tile,
            "foreground": self.foreground,
            "refine": as_record(refinement(self.refine)),
            "clusters": self.clusters,
            "smallest": self.smallest,
            "seed": self.seed,
        }
        fitted = {
            "method": self.method_,
            "kind": list(self.kind_),
            "threshold": self.threshold_,
            "scale": self.scale_,
            "tried": self.tried_,
            "n_pictures": self.n_pictures_,
        }
        record = {"settings": settings, "fitted": fitted}
        save_object(folder, KIND, record, self.scorer_.arrays(), {"dinov2": self.dinov2})

    @classmethod
    def load(cls, folder: str | os.PathLike[str], dinov2: Model | None = None) -> "Segmenter":
        """Read what `save` wrote.

        Args:
            folder: Where it is.
            dinov2: The model that it was fitted with. None: the one of its name is loaded.

        Raises:
            KeptError: There is none, it is damaged, or the model is another.
        """
        kept = load_object(folder, KIND)
        model = kept.model("dinov2", dinov2)
        with kept.understood():
            settings, fitted = dict(kept.settings["settings"]), kept.settings["fitted"]
            settings["refine"] = from_record(settings["refine"])
            found = cls(model, **settings)
            found.method_ = fitted["method"]
            facet, layer = fitted["kind"]
            found.kind_ = Kind(facet, int(layer))
            found.threshold_, found.scale_ = float(fitted["threshold"]), float(fitted["scale"])
            found.tried_, found.n_pictures_ = fitted["tried"], int(fitted["n_pictures"])
            found.skipped_ = ()
            found.scorer_ = _scorer(found.method_, kept.arrays)
        return found

    def _check_fitted(self) -> None:
        if not hasattr(self, "scorer_"):
            raise NotFittedError("this Segmenter has learned nothing yet: call fit(pictures)")


def _logistic(logits: Floats) -> Floats:
    from scipy.special import expit

    found: Floats = expit(logits).astype(np.float32)
    return found


def _otsu(values: Floats) -> float:
    from skimage.filters import threshold_otsu

    if np.ptp(values) == 0:
        return float(values.flat[0])
    return float(threshold_otsu(values))


def _as_fitted(turned: bool) -> str:
    return ", which is the other one than that of the fit" if turned else ", as fitted"


def _without_pictures(found: Iterator[Dense]) -> Iterator[Dense]:
    for one in found:
        yield replace(one, picture=None)


def _scorer(method: str, arrays: dict[str, NDArray[Any]]) -> Scorer:
    """Return what was saved as arrays."""
    if method == "probe":
        return LinearProbe(arrays["weights"], float(arrays["offset"][0]))
    if method == "clusters":
        return ClusterVotes(arrays["centres"], arrays["votes"])
    if method == "pca":
        return FirstComponent(arrays["mean"], arrays["direction"])
    if method == "cut":
        return NormalisedCut(float(arrays["tau"][0]))
    return UnlikeBorder()
