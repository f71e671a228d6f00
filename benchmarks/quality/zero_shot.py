"""How well pictures are named: by CLIP, through the bridge, by a text tower, from a few labels.

    python -m benchmarks.quality.zero_shot --json benchmarks/results/quality_zero_shot.json

Everything is fitted and chosen on `data/scenes/train`, the bridge without labels; the numbers are
of the pictures of one toy of `data/scenes/test`, whose toys are others.
"""

import argparse
import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dinov2_helpers import extract_features, load_clip, load_dinov2, load_scenes
from dinov2_helpers.measure import Interval, auroc, bootstrap
from dinov2_helpers.samples import CLASS_NAMES
from dinov2_helpers.techniques import Bridge, FewShot, KnnClassifier, ZeroShot
from dinov2_helpers.techniques.answers import Classifier
from dinov2_helpers.techniques.vectors import Vectors

CHINESE = [
    *("狗", "猫", "小汽车", "卡车", "飞机", "船", "火箭", "房子"),
    *("树", "蘑菇", "雪人", "马克杯", "椅子", "台灯", "鸭子", "鱼"),
]  # in the order of CLASS_NAMES
SHOTS = (1, 2, 4, 8, 16)
DRAWS = 10
UNKNOWN = 4  # classes that play the unknown ones
ALPHA = 0.05
Rows = dict[str, dict[str, Any]]


class Scenes:
    """A split's pictures, read once by each model."""

    def __init__(self, split: str) -> None:
        self.dinov2, self.clip, self.lit = (
            load_dinov2("tiny"),
            load_clip("tiny"),
            load_clip("lit-tiny"),
        )
        scenes = load_scenes(split)
        self.alone = np.array([len(row["objects"]) == 1 for row in scenes.table])
        self.classes = np.array([row["objects"][0]["class"] for row in scenes.table])
        self.usual = np.array([row["objects"][0]["usual_colour"] for row in scenes.table])
        features = extract_features(self.dinov2, scenes)
        self.cls = Vectors(features.cls, features.index, features.names)
        self.both = replace(self.cls, vectors=features.pooled("both"))
        self.by_clip = self.clip.embed_images(scenes)
        self.by_lit = self.lit.embed_images(scenes)


def pick(found: Any, rows: np.ndarray) -> Any:
    """Return some of the pictures of `Vectors` or `Embeddings`."""
    numbers = np.flatnonzero(rows) if rows.dtype == bool else rows
    names = tuple(found.names[i] for i in numbers)
    return replace(
        found, vectors=found.vectors[numbers], index=np.arange(len(numbers)), names=names
    )


def row(interval: Interval, **more: Any) -> dict[str, Any]:
    """Return a value with its interval as JSON."""
    return dict(zip(("value", "low", "high"), map(float, interval), strict=True)) | more


def naming(train: Scenes, test: Scenes) -> tuple[Rows, Bridge]:
    """Top-1 of the ways that need no label."""
    names = list(CLASS_NAMES)
    bridges = {
        "bridge, penalty chosen for the names": Bridge(train.dinov2, train.clip, names=names),
        "bridge, penalty chosen by cosine": Bridge(train.dinov2, train.clip),
        "bridge, features not scaled": Bridge(
            train.dinov2, train.clip, names=names, scaling="none"
        ),
    }
    for bridge in bridges.values():
        bridge.fit(train.both, train.by_clip)
    english = names, test.classes[test.alone]
    chinese = CHINESE, np.array(CHINESE)[[names.index(name) for name in english[1]]]
    ways: dict[str, tuple[Any, Any, tuple[list[str], np.ndarray]]] = {
        "CLIP": (test.clip, test.by_clip, english),
        **{name: (bridge, test.both, english) for name, bridge in bridges.items()},
        "text tower, English": (test.lit, test.by_lit, english),
        "text tower, Chinese": (test.lit, test.by_lit, chinese),
    }
    rows: Rows = {}
    for name, (model, found, (asked, truth)) in ways.items():
        answers = ZeroShot(model, asked).predict(pick(found, test.alone))
        usual = answers.hits(truth)[test.usual[test.alone]].mean()
        rows[f"top-1: {name}"] = row(answers.accuracy(truth), usual_colours=float(usual))
    return rows, bridges["bridge, penalty chosen for the names"]


def few_labels(train: Scenes, test: Scenes) -> Rows:
    """Top-1 of the three heads, by the number of labelled pictures of each class."""
    rows: Rows = {}
    truth = test.classes[test.alone]
    for head in ("mean", "knn", "logistic"):
        for shots in SHOTS:
            hits = []
            for seed in range(DRAWS):
                chosen = draw(train, shots, seed)
                few = FewShot(train.dinov2, head).fit(
                    pick(train.cls, chosen), train.classes[chosen]
                )
                hits.append(few.predict(pick(test.cls, test.alone)).hits(truth))
            by_picture = np.mean(hits, axis=0)  # over draws of shots
            rows[f"top-1: {head}, {shots} a class"] = row(bootstrap(by_picture), draws=DRAWS)
    return rows


def draw(train: Scenes, shots: int, seed: int) -> np.ndarray:
    """Return rows of so many training pictures of each class."""
    random = np.random.default_rng(seed)
    pools = [np.flatnonzero(train.alone & (train.classes == name)) for name in CLASS_NAMES]
    return np.concatenate([random.choice(pool, shots, replace=False) for pool in pools])


def none_of_these(train: Scenes, test: Scenes) -> Rows:
    """What "none of these" keeps of its promise, and what it finds.

    Half of the training pictures of the known classes may be fitted on, the other half calibrates.
    """
    rows: Rows = {}
    for name in ("CLIP", "bridge", "nearest mean", "k-NN"):
        draws = [one_draw(name, train, test, seed) for seed in range(2 * DRAWS)]
        means = {key: float(np.mean([one[key] for one in draws])) for key in draws[0]}
        rows[f"none of these: {name}"] = {"promised": ALPHA, **means, "draws": len(draws)}
    return rows


def one_draw(name: str, train: Scenes, test: Scenes, seed: int) -> dict[str, float]:
    """Leave out four classes and see which pictures of them are called none of these."""
    random = np.random.default_rng(seed)
    unknown = random.choice(CLASS_NAMES, UNKNOWN, replace=False)
    known = [one for one in CLASS_NAMES if one not in unknown]
    usable = random.permutation(np.flatnonzero(train.alone & np.isin(train.classes, known)))
    fitted, held_out = usable[::2], usable[1::2]
    side = {"CLIP": "by_clip", "bridge": "both"}.get(name, "cls")
    classifier = fit_on(name, train, fitted, known)
    classifier.calibrate(pick(getattr(train, side), held_out), ALPHA)
    answers = classifier.predict(pick(getattr(test, side), test.alone))
    new = np.isin(test.classes[test.alone], unknown)
    rejected = np.array([label is None for label in answers.labels])
    usual = test.usual[test.alone]
    assert classifier.promise_ is not None
    return {
        "known_lost": rejected[~new].mean(),
        "known_in_usual_colours_lost": rejected[~new & usual].mean(),
        "expected_low": classifier.promise_.low,
        "expected_high": classifier.promise_.high,
        "unknown_found": rejected[new].mean(),
        "auroc": auroc(answers.familiarity, ~new),
    }


def fit_on(name: str, train: Scenes, rows: np.ndarray, known: list[str]) -> Classifier:
    """Return a classifier of the known classes, fitted on some training pictures."""
    if name == "CLIP":
        return ZeroShot(train.clip, known)
    if name == "bridge":
        bridge = Bridge(train.dinov2, train.clip, names=known)
        return ZeroShot(bridge.fit(pick(train.both, rows), pick(train.by_clip, rows)), known)
    head = FewShot(train.dinov2) if name == "nearest mean" else KnnClassifier(train.dinov2)
    return head.fit(pick(train.cls, rows), train.classes[rows])


def main() -> None:
    """Command line: see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, help="file to write the table to")
    arguments = parser.parse_args()
    warnings.simplefilter("error")
    train, test = Scenes("train"), Scenes("test")
    rows, bridge = naming(train, test)
    rows |= few_labels(train, test) | none_of_these(train, test)
    rows["bridge"] = {
        "strength": bridge.strength_,
        "temperature": bridge.temperature_,
        "divergence": min(bridge.held_out_.values()),
        "pictures": bridge.n_pictures_,
    }
    for name, values in rows.items():
        print(f"{name:>50}: " + ", ".join(f"{key} {value:.3f}" for key, value in values.items()))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
