"""What `benchmarks.techniques` measures: each object of the library, at work on the sample data.

A case is built from a `Bench` and has works: to fit, or to ask, with features that are made already
or from files, the passes through the models included. Beside a work stand others that compute the
same and return it, to be compared; or, without, something that is worth a ratio.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when Faiss is loaded
import faiss
import numpy as np
from numpy.typing import NDArray

from benchmarks.ways import need
from dinov2_helpers import (
    data_dir,
    extract_features,
    load_clip,
    load_diffusion,
    load_dinov2,
    load_scenes,
)
from dinov2_helpers.extraction import Features
from dinov2_helpers.samples import Scenes
from dinov2_helpers.techniques import (
    AnomalyDetector,
    Bridge,
    DepthHead,
    FewShot,
    Guide,
    ImageIndex,
    KnnClassifier,
    Segmenter,
    ZeroShot,
    correspondences,
    pca_rgb,
    search,
)
from dinov2_helpers.techniques.anomaly import top_mean

FEATURES = "features"  # given already
FILES = "files"  # decoded, and passed through the models
CATEGORY = "mug"  # of data/defects
NAMES = ("dog", "car", "house", "mug", "boat")
WORDS = "a red car on grass"
NEIGHBOURS = 10
FOCAL = 325.0  # pixels
STEPS = 4  # of a diffusion

Array: TypeAlias = NDArray[Any]
Call: TypeAlias = Callable[[], Any]


class Work(NamedTuple):
    """Something that an object does to so many pictures at once."""

    name: str
    given: str  # FEATURES or FILES
    pictures: int
    run: Call  # returns what others are compared with, if there are any
    others: Mapping[str, Call] = {}  # by name; None is returned where nothing is to be compared


class Bench:
    """The material of all cases.

    Args:
        n_fit: Pictures to learn from.
        n_ask: Pictures to ask about.
        scratch: An empty folder.
    """

    def __init__(self, n_fit: int, n_ask: int, scratch: Path) -> None:
        self.scratch = scratch
        self.dinov2 = load_dinov2("tiny", device="cpu")
        one_toy: dict[str, Any] = {"framing": "portrait", "n_objects": 1}
        self.learn = _drawn(load_scenes("train", **one_toy), n_fit)
        self.ask = _drawn(load_scenes("test", **one_toy), n_ask)

    def features(self, pictures: Any, **settings: Any) -> Features:
        """Extract the features of pictures."""
        return extract_features(self.dinov2, pictures, progress=False, **settings)


def _drawn(scenes: Scenes, n: int) -> Scenes:
    """Return n of the scenes, or all if there are fewer; their order is of the toys."""
    rows = np.random.default_rng(0).permutation(len(scenes))[:n]
    return replace(scenes, table=[scenes.table[row] for row in rows])


def knn(bench: Bench) -> list[Work]:
    """`KnnClassifier` beside scikit-learn's, with DINO's weights."""
    learn, ask = bench.features(bench.learn.images), bench.features(bench.ask.images)
    labels = bench.learn.labels("class")
    own = KnnClassifier(bench.dinov2, k=NEIGHBOURS).fit(learn, labels)
    (neighbors,) = need("sklearn.neighbors")

    def weights(distances: Array) -> Array:
        return np.exp((1 - distances) / own.temperature)

    def new() -> Any:
        return neighbors.KNeighborsClassifier(NEIGHBOURS, metric="cosine", weights=weights)

    def fit() -> None:
        KnnClassifier(bench.dinov2, k=NEIGHBOURS).fit(learn, labels)

    def fit_other() -> None:
        new().fit(learn.cls, labels)

    other = new().fit(learn.cls, labels)
    return [
        Work("fit", FEATURES, len(learn), fit, {"scikit-learn": fit_other}),
        Work(
            "predict",
            FEATURES,
            len(ask),
            lambda: own.predict(ask).probabilities,
            {"scikit-learn": lambda: other.predict_proba(ask.cls)},
        ),
        Work("predict", FILES, len(ask), lambda: own.predict(bench.ask.images)),
    ]


def neighbours(bench: Bench) -> list[Work]:
    """`search` beside scikit-learn and bare Faiss, on 2,000 vectors of the models' length."""
    rng = np.random.default_rng(0)
    gallery, queries = (rng.normal(size=(n, 192)).astype(np.float32) for n in (2000, 200))
    (neighbors,) = need("sklearn.neighbors")

    def bare() -> Array:
        x, y = queries.copy(), gallery.copy()
        faiss.normalize_L2(x)
        faiss.normalize_L2(y)
        index = faiss.IndexFlatIP(y.shape[1])
        index.add(y)
        found: Array = index.search(x, NEIGHBOURS)[0]
        return found

    def other() -> Array:
        found = neighbors.NearestNeighbors(n_neighbors=NEIGHBOURS, metric="cosine").fit(gallery)
        distances: Array = found.kneighbors(queries)[0]
        return 1 - distances

    def run() -> Array:
        return search(queries, gallery, k=NEIGHBOURS).cosines

    others = {"bare Faiss": bare, "scikit-learn": other}
    return [Work("search of 2,000", FEATURES, len(queries), run, others)]


def patches(bench: Bench) -> list[Work]:
    """`correspondences` beside scikit-image, and `pca_rgb`."""
    pairs = [bench.features([path]) for path in bench.ask.images[:2]]
    found = bench.features(bench.ask.images)
    (feature,) = need("skimage.feature")
    one, two = (np.asarray(each.patches)[0].reshape(-1, bench.dinov2.dim) for each in pairs)

    def run() -> Array:
        return np.sort(correspondences(bench.dinov2, *pairs).scores)

    def other() -> Array:
        rows = feature.match_descriptors(one, two, metric="cosine", cross_check=True)
        a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (one, two))
        return np.sort((a[rows[:, 0]] * b[rows[:, 1]]).sum(1))

    return [
        Work("correspondences", FEATURES, 2, run, {"scikit-image": other}),
        Work("pca_rgb", FEATURES, len(found), lambda: pca_rgb(found)),
    ]


def zero_shot(bench: Bench) -> list[Work]:
    """`ZeroShot` by the embedded CLIP."""
    clip, images = load_clip("tiny"), bench.ask.images
    own = ZeroShot(clip, NAMES)
    embedded = clip.embed_images(images, progress=False)
    own.predict(embedded)

    def names() -> None:
        _ = ZeroShot(clip, NAMES).texts_

    return [
        Work(f"read {len(NAMES)} names", FILES, 1, names),
        Work("predict", FEATURES, len(images), lambda: own.predict(embedded)),
        Work("predict", FILES, len(images), lambda: own.predict(images)),
    ]


def bridge(bench: Bench) -> list[Work]:
    """`Bridge` beside ridge regressions of scikit-learn that choose the same penalty."""
    clip, images = load_clip("tiny"), bench.learn.images
    learn, ask = bench.features(images), bench.features(bench.ask.images)
    embedded = clip.embed_images(images, progress=False)
    x, y = learn.pooled("both"), embedded.vectors
    own = Bridge(bench.dinov2, clip)
    other = RidgeByFolds(own.strengths, own.folds)

    def run() -> Array:
        matrix: Array = own.fit(learn, embedded).matrix_
        return matrix

    return [
        Work("fit", FEATURES, len(learn), run, {"scikit-learn": lambda: other.fit(x, y)}),
        Work("transform", FEATURES, len(ask), lambda: own.transform(ask)),
        Work("transform", FILES, len(ask), lambda: own.transform(bench.ask.images)),
    ]


class RidgeByFolds:
    """Ridge regressions of scikit-learn on standardised columns, with the bridge's penalties.

    Args:
        strengths: Penalties, in multiples of the number of pictures.
        folds: Of pictures held out, every so-manieth; the best mean cosine decides.
    """

    def __init__(self, strengths: Sequence[float], folds: int) -> None:
        self.linear, self.preprocessing = need("sklearn.linear_model", "sklearn.preprocessing")
        self.strengths, self.folds = strengths, folds

    def fit(self, x: Array, y: Array) -> Array:
        """Return the matrix (D, d) from the columns as they come."""
        fold = np.arange(len(x)) % self.folds
        cosines = {strength: 0.0 for strength in self.strengths}
        for number, strength in itertools.product(range(self.folds), self.strengths):
            out = fold == number
            scaler, model = self._one(x[~out], y[~out], strength)
            guess = model.predict(scaler.transform(x[out]))
            guess /= np.linalg.norm(guess, axis=1, keepdims=True)
            cosines[strength] += float((guess * y[out]).sum())
        best = max(cosines, key=lambda strength: cosines[strength])
        scaler, model = self._one(x, y, best)
        matrix: Array = (model.coef_ / scaler.scale_).T
        return matrix

    def _one(self, x: Array, y: Array, strength: float) -> tuple[Any, Any]:
        x = x.astype(np.float64)
        scaler = self.preprocessing.StandardScaler().fit(x)
        model = self.linear.Ridge(alpha=strength * len(x))
        return scaler, model.fit(scaler.transform(x), y)


def few_shot(bench: Bench) -> list[Work]:
    """`FewShot` by nearest mean; and by the regression that is scikit-learn's own."""
    learn, ask = bench.features(bench.learn.images), bench.features(bench.ask.images)
    labels = bench.learn.labels("class")
    mean = FewShot(bench.dinov2).fit(learn, labels)
    regression = FewShot(bench.dinov2, head="logistic")
    (linear,) = need("sklearn.linear_model")
    unit = learn.cls / np.linalg.norm(learn.cls, axis=1, keepdims=True)

    def run() -> Array:
        coefficients: Array = regression.fit(learn, labels).coefficients_
        return coefficients

    def other() -> Array:
        model = linear.LogisticRegression(C=regression.regularisation, max_iter=2000)
        coefficients: Array = model.fit(unit, labels).coef_
        return coefficients

    return [
        Work("fit, mean", FEATURES, len(learn), lambda: mean.fit(learn, labels)),
        Work("fit, logistic", FEATURES, len(learn), run, {"scikit-learn": other}),
        Work("predict, mean", FEATURES, len(ask), lambda: mean.predict(ask)),
        Work("predict, mean", FILES, len(ask), lambda: mean.predict(bench.ask.images)),
    ]


def segmentation(bench: Bench) -> list[Work]:
    """`Segmenter` by masks and without; features hold no colours to refine masks by."""
    learn, ask, dinov2 = bench.learn.images, bench.ask.images, bench.dinov2
    masks = [bench.learn.class_mask(i) > 0 for i in range(len(learn))]
    layer = dinov2.n_layers - 1
    settings: dict[str, Any] = {"fit": "resize", "size": 224, "layers": [layer]}
    fitted, asked = (bench.features(images, **settings) for images in (learn, ask))
    coarse = Segmenter(dinov2, layer=layer, refine="none").fit(fitted, masks)
    fine = Segmenter(dinov2, layer=layer).fit(learn, masks)
    unaided = Segmenter(dinov2)
    return [
        Work("fit by masks", FEATURES, len(learn), lambda: coarse.fit(fitted, masks)),
        Work("fit without masks", FILES, len(learn), lambda: unaided.fit(learn)),
        Work("predict, not refined", FEATURES, len(ask), lambda: coarse.predict(asked)),
        Work("predict, not refined", FILES, len(ask), lambda: coarse.predict(ask)),
        Work("predict, refined by CRF", FILES, len(ask), lambda: fine.predict(ask)),
    ]


def retrieval(bench: Bench) -> list[Work]:
    """`ImageIndex`; `benchmarks.stores` has its store beside others, at larger sizes."""
    models = (bench.dinov2, load_clip("tiny"))
    images, numbers = bench.learn.images, itertools.count()
    own = ImageIndex(bench.scratch / "index", *models, progress=False)
    own.add(images)
    own.search(WORDS)  # fits its bridge

    def add() -> None:
        with ImageIndex(bench.scratch / f"new-{next(numbers)}", *models, progress=False) as new:
            new.add(images)

    return [
        Work("add, two models", FILES, len(images), add),
        Work("search by a picture in it", FEATURES, 1, lambda: own.search(picture=1)),
        Work("search by words", FILES, 1, lambda: own.search(WORDS)),
        Work("search by a picture", FILES, 1, lambda: own.search(picture=bench.ask.images[0])),
    ]


def depth(bench: Bench) -> list[Work]:
    """`DepthHead`, a ridge on four layers and CLS."""
    head = DepthHead(bench.dinov2)
    settings: dict[str, Any] = {"fit": "resize", "size": 224, "layers": head.blocks_}
    learn, ask = (bench.features(one.images, **settings) for one in (bench.learn, bench.ask))
    true = [bench.learn.depth(i) for i in range(len(learn))]
    images = bench.ask.images
    head.fit(learn, true, focal=FOCAL)
    return [
        Work("fit", FEATURES, len(learn), lambda: head.fit(learn, true, focal=FOCAL)),
        Work("predict", FEATURES, len(ask), lambda: head.predict(ask)),
        Work("predict", FILES, len(ask), lambda: head.predict(images, progress=False)),
    ]


def anomaly(bench: Bench) -> list[Work]:
    """`AnomalyDetector` as it comes; and the nearest patch beside bare Faiss and scikit-learn."""
    folder = data_dir() / "defects" / CATEGORY
    good = sorted((folder / "train" / "good").iterdir())[: len(bench.learn)]
    images = sorted((folder / "test" / "good").iterdir())[: len(bench.ask)]
    own = AnomalyDetector(bench.dinov2)
    middle = bench.dinov2.n_layers // 2
    settings: dict[str, Any] = {"fit": "resize", "size": own.size, "layers": [middle]}
    learn, ask = (bench.features(paths, **settings) for paths in (good, images))
    own.fit(learn)
    plain = AnomalyDetector(
        bench.dinov2, method="nearest", same_place=False, dimensions=None, layers=[middle]
    ).fit(learn)
    bank, maps = (_unit_patches(found.layers[middle].patches) for found in (learn, ask))
    others = nearest_patch(bank.reshape(-1, bank.shape[-1]), maps)
    return [
        Work("fit", FEATURES, len(learn), lambda: own.fit(learn)),
        Work("score", FEATURES, len(ask), lambda: own.score(ask)),
        Work("score", FILES, len(ask), lambda: own.score(images, progress=False)),
        Work("score, nearest patch", FEATURES, len(ask), lambda: plain.score(ask).values, others),
    ]


def _unit_patches(patches: Any) -> Array:
    """Return maps (N, h, w, D) of patches of length 1."""
    maps = np.asarray(patches)
    unit: Array = maps / np.linalg.norm(maps, axis=-1, keepdims=True)
    return unit


def nearest_patch(bank: Array, maps: Array) -> dict[str, Call]:
    """Return ways to score maps (N, h, w, D) by the nearest of a bank (M, D), as (N,)."""
    (neighbors,) = need("sklearn.neighbors")
    index = faiss.IndexFlatL2(bank.shape[1])
    index.add(bank)
    brute = neighbors.NearestNeighbors(n_neighbors=1, algorithm="brute").fit(bank)

    def scored(distances: Callable[[Array], Array]) -> Array:
        return np.array([top_mean(distances(one.reshape(-1, one.shape[-1]))) for one in maps])

    def by_faiss(rows: Array) -> Array:
        found: Array = index.search(rows, 1)[0]
        return found

    def by_sklearn(rows: Array) -> Array:
        found: Array = brute.kneighbors(rows)[0] ** 2
        return found

    return {"bare Faiss": partial(scored, by_faiss), "scikit-learn": partial(scored, by_sklearn)}


def guidance(bench: Bench) -> list[Work]:
    """`Guide` beside the pipeline that it steers, unguided: what steering costs."""
    (torch,) = need("torch")
    pipeline = load_diffusion("tiny")
    pipeline.set_progress_bar_config(disable=True)
    guide = Guide(bench.dinov2, bench.ask.image(0), size=112)

    def guided() -> None:
        guide.sample(pipeline, WORDS, steps=STEPS, guidance_scale=4.0, progress=False)

    def unguided() -> None:
        generator = torch.Generator("cpu").manual_seed(0)
        pipeline(WORDS, num_inference_steps=STEPS, guidance_scale=4.0, generator=generator)

    others = {"diffusers, unguided": unguided}
    return [Work(f"draw in {STEPS} steps", FILES, 1, guided, others)]


CASES: dict[str, Callable[[Bench], list[Work]]] = {
    "search": neighbours,
    "KnnClassifier": knn,
    "correspondences, pca_rgb": patches,
    "ZeroShot": zero_shot,
    "Bridge": bridge,
    "FewShot": few_shot,
    "Segmenter": segmentation,
    "ImageIndex": retrieval,
    "DepthHead": depth,
    "AnomalyDetector": anomaly,
    "Guide": guidance,
}
