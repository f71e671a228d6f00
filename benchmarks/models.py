"""Any models side by side: what each of the seven techniques comes to with them, in one table.

    python -m benchmarks.models tiny random small
    python -m benchmarks.models tiny dinov3-small --only 1 4 6
    python -m benchmarks.models tiny /my/dinov2 --folder /my/pictures

Each model is a profile, a folder with a model, or "random": the shape of `tiny`, never trained,
which shows what a technique owes to its features. Everything is fitted on the training pictures of
`data/` and measured on its test pictures, by the library's objects with their own settings; the
more exhaustive `benchmarks.quality` has the choices behind these. With `--folder`, a folder of
yours is measured too: one in the layout of MVTec AD by the anomaly detector, any other by the names
of its subfolders, as classes. The table is printed and written to `benchmarks/results/models.json`
and `.md`, after each technique; with `--add`, beside the models that are in it already.
"""

from __future__ import annotations

import argparse
import datetime
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import run_record
from benchmarks.quality import anomaly, depth, guidance, neighbours, segmentation, zero_shot
from dinov2_helpers import (
    data_dir,
    extract_features,
    load_clip,
    load_diffusion,
    load_dinov2,
    load_scenes,
)
from dinov2_helpers.measure import Interval, average_precision, bootstrap
from dinov2_helpers.models import PROFILES, Dinov2, ModelError
from dinov2_helpers.pictures.files import iter_images
from dinov2_helpers.samples import CLASS_NAMES
from dinov2_helpers.techniques import Bridge, DepthHead, KnnClassifier, Segmenter, ZeroShot
from dinov2_helpers.techniques.vectors import Vectors
from dinov2_helpers.writing import write_whole

RANDOM = "random"
MASKS = 20  # that the probe of masks learns from
STEPS = 8  # of the drawing that is guided
PACKAGES = ("torch", "transformers", "numpy", "scikit-learn")


class Number(NamedTuple):
    """A headline number of a technique, with its interval."""

    technique: int  # 1 to 7, as the lessons
    name: str
    interval: Interval


@dataclass
class Models:
    """What is measured: a model in the place of DINOv2, and one that reads words beside it."""

    name: str  # as it was asked for
    dinov2: Dinov2
    words: str  # what `load_clip` takes

    @cached_property
    def clip(self) -> Any:
        """The model of words; loaded when it is first needed."""
        return load_clip(self.words)


def load(name: str) -> Models:
    """Load what a name of the command line stands for.

    Raises:
        ModelError: It is no profile and no folder, or as `load_dinov2`.
    """
    if name == RANDOM:
        return Models(name, untrained(load_dinov2("tiny")), "tiny")
    if name in PROFILES:
        return Models(name, load_dinov2(name), name)
    if not Path(name).is_dir():
        raise ModelError(f"{name!r} is no profile ({', '.join(PROFILES)}), no folder, not {RANDOM}")
    return Models(Path(name).name, load_dinov2(name), "tiny")


def untrained(dinov2: Dinov2, seed: int = 0) -> Dinov2:
    """Return a model of the same shape whose weights are those before a training."""
    import torch

    torch.manual_seed(seed)
    network = type(dinov2.model)(dinov2.model.config).to(dinov2.device).eval()
    return replace(dinov2, model=network, name=RANDOM)


def feature_space(models: Models) -> Iterator[Number]:
    """Classes by neighbours, and places that are found again 30 degrees on."""
    rows = neighbours.votes(models.dinov2) | neighbours.partners(models.dinov2)
    shown = {
        "k-NN of the class: cls, wide": "class of a toy, by its neighbours",
        "matches at 30 degrees: mutual": "patches matched rightly, 30 degrees on",
    }
    for key, name in shown.items():
        yield Number(1, name, Interval(*(rows[key][part] for part in ("value", "low", "high"))))


def naming(models: Models) -> Iterator[Number]:
    """Names of toys without a label: by the model of words alone, and through the bridge."""
    train = load_scenes("train")
    test = load_scenes("test").select(n_objects=1)
    truth = test.labels("class")
    names = list(CLASS_NAMES)
    bridge = Bridge(models.dinov2, models.clip, names=names).fit(train)
    for name, reader in (("its words alone", models.clip), ("through the bridge", bridge)):
        yield Number(2, f"name, {name}", ZeroShot(reader, names).predict(test).accuracy(truth))


def masks(models: Models) -> Iterator[Number]:
    """Overlap of found and true masks, learned from none and from a few."""
    choose, learn, test = segmentation.splits()
    order = np.random.default_rng(0).permutation(len(learn.images))
    ways = {
        "IoU, no mask at all": Segmenter(models.dinov2).fit(choose.images),
        f"IoU, {MASKS} masks": Segmenter(models.dinov2).fit(*learn.some(order[:MASKS])),
    }
    for name, segmenter in ways.items():
        yield Number(3, name, bootstrap(segmentation.judged(segmenter, test)[:, 0]))


def retrieval(models: Models) -> Iterator[Number]:
    """How early pictures of the same class come, when a picture is asked with."""
    scenes = load_scenes("test").select(n_objects=1)
    found = extract_features(models.dinov2, scenes, patches=False)
    yield Number(4, "mAP by a picture", same_class(found.cls, scenes.labels("class")))


def same_class(vectors: np.ndarray, labels: np.ndarray) -> Interval:
    """Return the mAP of asking with each picture for the others of its class.

    Args:
        vectors: (N, D), of any length.
        labels: (N,); pictures that are alone in their class are not asked with.
    """
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    order = np.argsort(-(unit @ unit.T), axis=1, kind="stable")  # (N, N)
    relevant = labels[order] == labels[:, None]
    own = order == np.arange(len(labels))[:, None]
    others = relevant[~own].reshape(len(labels), -1)  # (N, N - 1)
    return bootstrap(average_precision(others[others.any(1)]))


def depths(models: Models) -> Iterator[Number]:
    """Share of pixels whose depth is off by less than a quarter."""
    scenes, test = load_scenes("train"), load_scenes("test")
    order = np.random.default_rng(0).permutation(len(scenes))
    fit = depth.part(scenes, order[: -depth.N_VALIDATION].tolist())
    head = DepthHead(models.dinov2).fit(fit, focal=depth.focal_of(scenes))
    scores = depth.judged(head.predict(test).depth, depth.depths(test))
    yield Number(5, "depth, delta1", Interval(*scores["delta1"]))


def flaws(models: Models) -> Iterator[Number]:
    """How well flawed parts are told from good ones, and where the flaw is; at 16 x 16 patches."""
    step = one_step(models.dinov2)
    layers = step.settings["layers"]
    found = {}
    for seed, name in enumerate(anomaly.CATEGORIES):
        folder = data_dir() / "defects" / name
        given = anomaly.material(models.dinov2, folder, step.size, layers, seed)
        found[name] = anomaly.run_step(models.dinov2, step, given)
    for name, score in (("AUROC", anomaly.drawn_auroc), ("AUPRO", anomaly.drawn_aupro)):
        yield Number(6, f"flaws, {name}", anomaly.interval(score, [found], 2000))


def one_step(dinov2: Dinov2) -> anomaly.Step:
    """Return the detector of the library at 16 x 16 patches, whatever the size of a patch."""
    steps = anomaly.steps(dinov2.n_layers // 2, dinov2.n_layers - 1)
    step = next(one for one in steps if one.name == "64 directions")
    return step._replace(size=16 * dinov2.patch_size)


def guided(models: Models) -> Iterator[Number]:
    """How much more like its target a drawing becomes; the embedded CLIP judges, and never guides.

    The embedded diffusion model draws for all, so that only what guides it differs.
    """
    studio = guidance.Studio(models.dinov2, load_diffusion("tiny"))
    task = guidance.make_task("test", studio.side, 1, 1000)
    pool, _ = guidance.renders("train", studio.side)
    judges = guidance.Judges(pool[:16], models.dinov2, load_clip("tiny"))
    size = 8 * models.dinov2.patch_size
    free, _ = studio.draw(task, STEPS, strength=0.0, size=size)
    drawn, _ = studio.draw(task, STEPS, size=size, **guidance.NOTEBOOK)
    change = guidance.changes(judges(drawn, task), judges(free, task))
    yield Number(7, "guided: CLIP to the target", change[guidance.JUDGES[1]])


TECHNIQUES: Mapping[int, Callable[[Models], Iterator[Number]]] = {
    1: feature_space,
    2: naming,
    3: masks,
    4: retrieval,
    5: depths,
    6: flaws,
    7: guided,
}


def own_folder(models: Models, folder: Path) -> Iterator[Number]:
    """What a folder of the user's tells.

    Raises:
        ValueError: It has neither the layout of MVTec AD nor two subfolders with two pictures.
    """
    if (folder / "train" / "good").is_dir():
        yield Number(6, f"{folder.name}: flaws, AUROC", own_parts(models.dinov2, folder))
        return
    paths = [path for path in sorted(iter_images(folder)) if path.parent != folder]
    labels = np.array([path.relative_to(folder).parts[0] for path in paths])
    names, counts = np.unique(labels, return_counts=True)
    if len(names) < 2 or counts.min() < 2:
        raise ValueError(
            f"{folder}: it needs `train/good` and `test`, as MVTec AD has them, or a subfolder for "
            "each of two or more classes, with two or more pictures in each"
        )
    found = extract_features(models.dinov2, paths, patches=False)
    labels = labels[found.index]
    fitted = np.arange(len(labels)) % 2 == 0
    vectors = Vectors(found.cls, found.index, found.names)
    knn = KnnClassifier(models.dinov2).fit(zero_shot.pick(vectors, fitted), labels[fitted])
    answers = knn.predict(zero_shot.pick(vectors, ~fitted))
    name = f"{folder.name}: class, by its neighbours"
    yield Number(1, name, answers.accuracy(labels[~fitted]))
    yield Number(4, f"{folder.name}: mAP by a picture", same_class(found.cls, labels))


def own_parts(dinov2: Dinov2, folder: Path) -> Interval:
    """Return the AUROC of flawed parts in the layout of MVTec AD."""
    step = one_step(dinov2)
    given = anomaly.material(dinov2, folder, step.size, step.settings["layers"], 0)
    found = {folder.name: anomaly.run_step(dinov2, step, given)}
    return anomaly.interval(anomaly.drawn_auroc, [found], 2000)


def measured(models: Models, only: Sequence[int], folder: Path | None) -> Iterator[dict[str, Any]]:
    """Yield the numbers of a model after each technique, with the seconds that each took."""
    row: dict[str, Any] = {
        "name": models.name,
        "model": models.dinov2.describe(),
        "words": models.words,
        "date": datetime.date.today().isoformat(),
        "numbers": {},
        "seconds": {},
    }
    wanted = {str(number): TECHNIQUES[number] for number in only}
    if folder is not None:
        wanted["folder"] = lambda one: own_folder(one, folder)
    for key, technique in wanted.items():
        started = time.perf_counter()
        for number in technique(models):
            row["numbers"][f"{number.technique}. {number.name}"] = number.interval._asdict()
            print(f"{models.name}: {number.name} {number.interval}", file=sys.stderr, flush=True)
        row["seconds"][key] = time.perf_counter() - started
        yield row


def others(out: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of a file that are of other models than these; none if there is no file."""
    if not out.exists():
        return []
    report = json.loads(out.read_text(encoding="utf-8"))
    return [row for row in report["rows"] if row["name"] not in names]


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table: a line for each number, a column for each model."""
    names = dict.fromkeys(name for row in rows for name in row["numbers"])
    lines = [["", *(row["name"] for row in rows)], ["---"] * (len(rows) + 1)]
    for name in names:
        cells = [row["numbers"].get(name) for row in rows]
        lines.append([name, *("" if cell is None else cell_of(cell) for cell in cells)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def cell_of(number: Mapping[str, float]) -> str:
    """Return a number and its interval as text."""
    return f"{number['value']:.3f} ({number['low']:.3f} to {number['high']:.3f})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    usage = (
        "python -m benchmarks.models MODEL... [--only N...] [--folder FOLDER] [--add] [--out FILE]"
    )
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0], usage=usage)
    parser.add_argument("models", nargs="+", help=f"profiles, folders with a model, or {RANDOM!r}")
    parser.add_argument("--only", type=int, nargs="+", choices=[*TECHNIQUES], default=[*TECHNIQUES])
    parser.add_argument("--folder", type=Path, help="pictures of yours, to measure too")
    parser.add_argument("--add", action="store_true", help="keep the other models of the table")
    parser.add_argument("--out", type=Path, default=run_record.RESULTS / "models.json")
    options = parser.parse_args(arguments)
    logging.getLogger("dinov2_helpers").setLevel(logging.ERROR)  # of one picture for thresholds
    started = time.perf_counter()
    embedded = ("dinov2-tiny", "clip-tiny", "diffusion-tiny")
    record = run_record.quality(*PACKAGES, models=embedded, steps=STEPS, masks=MASKS)
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as cache:
        os.environ.setdefault("DINOV2_CACHE", cache)  # several techniques see the same pictures
        for name in options.models:
            for row in measured(load(name), options.only, options.folder):
                rows[row["name"]] = row
                kept = others(options.out, [*rows]) if options.add else []
                report: dict[str, Any] = {"run": record, "rows": [*kept, *rows.values()]}
                run_record.write(report, started, options.out)
                written = json.loads(options.out.read_text(encoding="utf-8"))["rows"]  # rounded
                write_whole(options.out.with_suffix(".md"), markdown(written).encode())
    print(options.out.with_suffix(".md").read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
