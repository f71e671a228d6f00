"""How well an `ImageIndex` finds pictures: by words, by a picture, and by both.

    python -m benchmarks.quality.retrieval --json benchmarks/results/quality_retrieval.json

Queries, truth and bars are those of evidence 04: "a dog on grass" is answered by every picture of
`data/scenes/test` with a dog on grass; hit@k is the share of queries with such a picture among the
first k, which the notebook records as recall_at_k. Everything is asked of the index itself, with
k of all pictures. Weights are chosen by mAP on `data/scenes/train`: the bridge on one half of it,
the index on the other, both ways round.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import run_record
from dinov2_helpers import load_clip, load_dinov2, load_scenes, measure
from dinov2_helpers.samples import Scenes
from dinov2_helpers.techniques import ImageIndex
from tools import pairing
from tools.lift import lift
from tools.project import Project

LIFTED = ("combinations", "meets", "phrase", "relevance", "same_content", "things",
          "of_same_class", "other_surfaces", "PLACES")  # fmt: skip
SHARES = tuple(round(0.05 * step, 2) for step in range(21))
MODELS = ("dinov2-tiny", "clip-tiny", "lit-tiny")
PACKAGES = ("torch", "transformers", "numpy", "faiss-cpu")
BARS = {
    "words, CLIP alone": "04.text_recall_at_5",
    "words, CLIP and bridge": "04.fusion_recall_at_5",
}

Bools = NDArray[np.bool_]
Scores = NDArray[np.float32]
Query = dict[str, Any]  # arguments of `ImageIndex.search`


def notebook() -> dict[str, Any]:
    """Return the notebook's queries and truths."""
    return lift(pairing.read_source(Project(), "evidence/04_cross_modal_retrieval"), *LIFTED)


@dataclass(frozen=True)
class Task:
    """Queries to an index of scenes.

    Args:
        queries: What is asked, (Q,).
        relevant: Which pictures are right, (Q, N).
        own: The picture that a query starts from, (Q,), which is no answer; -1: none.
    """

    queries: list[Query]
    relevant: Bools
    own: NDArray[np.int64]


class Gallery:
    """Scenes in an index.

    Args:
        scenes: Whose pictures are added, and which tell the truth.
        index: An empty one.
    """

    def __init__(self, scenes: Scenes, index: ImageIndex) -> None:
        self.scenes = scenes
        self.index = index
        index.add(scenes.images)
        self.place = {number: place for place, (number, _) in enumerate(index.store.paths())}
        paths = [Path(os.fsdecode(path)) for _, path in index.store.paths()]
        if paths != [path.absolute() for path in scenes.images]:
            raise RuntimeError("the index holds other pictures, or in another order")

    def id_of(self, place: int) -> int:
        """Return the index' number of a picture by its place in the scenes."""
        return list(self.place)[place]

    def ordered(self, task: Task, **settings: Any) -> Bools:
        """Return which pictures are relevant in the order of the hits, (Q, N or N - 1)."""
        found = []
        for query, relevant, own in zip(task.queries, task.relevant, task.own, strict=True):
            hits = self.index.search(**query, k=len(self.scenes), **settings)
            places = [self.place[hit.id] for hit in hits]
            if len(places) != len(self.scenes) - (own >= 0) or own in places:
                raise RuntimeError(f"{query}: {len(places)} hits of {len(self.scenes)} pictures")
            found.append(relevant[places])
        return np.array(found)


def by_words(code: dict[str, Any], scenes: Scenes) -> Task:
    """Ask for every class on every surface that there is."""
    queries = code["combinations"](scenes, ("class", "surface"))
    asked: list[Query] = [{"words": code["phrase"](query)} for query in queries]
    return Task(asked, code["relevance"](scenes, queries), np.full(len(asked), -1))


def by_captions(code: dict[str, Any], scenes: Scenes, column: str) -> Task:
    """Ask with the caption of each picture, "caption_en" or "caption_zh"."""
    asked: list[Query] = [{"words": row[column]} for row in scenes.table]
    return Task(asked, code["same_content"](scenes), np.full(len(asked), -1))


def by_picture(code: dict[str, Any], gallery: Gallery) -> Task:
    """Ask with each picture of one toy for others of its class."""
    own, relevant = code["of_same_class"](gallery.scenes)
    asked: list[Query] = [{"picture": gallery.id_of(place)} for place in own]
    return Task(asked, relevant, own)


def by_both(code: dict[str, Any], gallery: Gallery) -> Task:
    """Ask for toys like that of a picture, "on snow"."""
    own, relevant = code["of_same_class"](gallery.scenes)
    wanted = code["other_surfaces"](gallery.scenes, own)
    surfaces = np.array([row["surface"] for row in gallery.scenes.table])
    relevant = relevant & (surfaces == wanted[:, None])
    asked: list[Query] = [
        {"picture": gallery.id_of(place), "words": f"on {code['PLACES'].get(surface, surface)}"}
        for place, surface in zip(own, wanted, strict=True)
    ]
    kept = relevant.any(1)
    return Task([one for one, keep in zip(asked, kept, strict=True) if keep],
                relevant[kept], own[kept])  # fmt: skip


def scored(name: str, ordered: Bools, **more: Any) -> dict[str, Any]:
    """Return a row of the table, and print it."""
    row: dict[str, Any] = {"name": name, "queries": len(ordered)}
    for k in (1, 5, 10):
        row[f"hit@{k}"] = measure.bootstrap(measure.hit_at(ordered, k))._asdict()
    row["mAP"] = measure.bootstrap(measure.average_precision(ordered))._asdict()
    row["median_rank"] = float(np.median(ordered.argmax(1) + 1))
    values = "  ".join(
        f"{key} {row[key]['value']:.3f}" for key in ("hit@1", "hit@5", "hit@10", "mAP")
    )
    spread = f"{row['hit@5']['low']:.3f} to {row['hit@5']['high']:.3f}"
    print(f"{name:<44} {values}  (hit@5 {spread})  {more or ''}", flush=True)
    return row | more


def best(ordered: Callable[[float], Sequence[Bools]]) -> tuple[float, dict[str, float]]:
    """Return the share of the largest mAP, averaged over galleries, and the mAP of each."""
    tried = {
        share: float(np.mean([measure.average_precision(one).mean() for one in ordered(share)]))
        for share in SHARES
    }
    return max(tried, key=lambda share: tried[share]), {
        str(key): value for key, value in tried.items()
    }


class Bench:
    """The models, and galleries of them in a temporary folder.

    Args:
        folder: The folder.
        cache: For features.
    """

    def __init__(self, folder: Path, cache: str | None) -> None:
        self.folder = folder
        self.dinov2 = load_dinov2("tiny")
        self.clip = load_clip("tiny")
        self.lit = load_clip("lit-tiny")
        self.settings: dict[str, Any] = {"cache": cache, "progress": False}
        self.made = 0

    @contextmanager
    def gallery(self, scenes: Scenes, clip: Any = None, **settings: Any) -> Iterator[Gallery]:
        """Make an index of scenes."""
        self.made += 1
        folder = self.folder / str(self.made)
        with ImageIndex(
            folder, self.dinov2, clip or self.clip, **self.settings, **settings
        ) as made:
            yield Gallery(scenes, made)


def subset(scenes: Scenes, places: NDArray[np.int64]) -> Scenes:
    """Return the scenes at these places."""
    return replace(scenes, table=[scenes.table[place] for place in places])


def choose(bench: Bench, code: dict[str, Any]) -> dict[str, Any]:
    """Choose on training scenes how much the bridge and the words weigh."""
    train = load_scenes("train")
    order = np.random.default_rng(0).permutation(len(train))
    halves = [subset(train, np.sort(order[start::2])) for start in (0, 1)]
    with bench.gallery(halves[0]) as a, bench.gallery(halves[1]) as b:
        a.index.fit_bridge(halves[1])
        b.index.fit_bridge(halves[0])
        words = [(one, by_words(code, one.scenes)) for one in (a, b)]
        bridge, bridges = best(
            lambda share: [one.ordered(task, bridge=share) for one, task in words]
        )
        both = [(one, by_both(code, one)) for one in (a, b)]
        weight, weights = best(
            lambda share: [one.ordered(task, weight=share, bridge=bridge) for one, task in both]
        )
    print(f"chosen on training scenes: bridge={bridge}, weight={weight}", flush=True)
    return {"bridge": bridge, "weight": weight, "mAP_by_bridge": bridges, "mAP_by_weight": weights}


def report(bench: Bench, code: dict[str, Any], chosen: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the rows on test scenes."""
    test = load_scenes("test")
    words, captions = by_words(code, test), by_captions(code, test, "caption_en")
    bridge, weight = chosen["bridge"], chosen["weight"]
    with bench.gallery(test) as gallery:
        ask = gallery.ordered
        usual = {"bridge": gallery.index.bridge, "weight": gallery.index.words}
        yield scored("words, CLIP alone", ask(words, bridge=0.0))
        own = "fitted on what is searched"
        yield scored("words, bridge alone, of its own", ask(words, bridge=1.0), fitted=own)
        yield scored("words, as it comes", ask(words), fitted=own, share=usual["bridge"])
        yield scored("captions, as it comes", ask(captions), fitted=own, share=usual["bridge"])
        pictures, both = by_picture(code, gallery), by_both(code, gallery)
        yield scored("picture, by cls", ask(pictures))
        yield scored("picture and words, as it comes", ask(both), **usual)
        gallery.index.fit_bridge(load_scenes("train"))
        fitted = "fitted on training scenes"
        yield scored("words, bridge alone", ask(words, bridge=1.0), fitted=fitted)
        row = scored(
            "words, CLIP and bridge", ask(words, bridge=bridge), fitted=fitted, share=bridge
        )
        yield row
        yield scored("captions, CLIP and bridge", ask(captions, bridge=bridge), share=bridge)
        name = "picture and words, weight chosen"
        yield scored(name, ask(both, bridge=bridge, weight=weight), bridge=bridge, weight=weight)
    for by in ("mean", "both"):
        with bench.gallery(test, by=by) as gallery:
            yield scored(f"picture, by {by}", gallery.ordered(by_picture(code, gallery)))
    with bench.gallery(test, bench.lit) as gallery:
        yield scored("words, text tower", gallery.ordered(words))
        yield scored("captions, text tower", gallery.ordered(captions))
        chinese = by_captions(code, test, "caption_zh")
        yield scored("Chinese captions, text tower", gallery.ordered(chinese))


def bars() -> dict[str, float]:
    """Return what the notebook recorded, by the row that is to reach it."""
    recorded = json.loads((Project().results / "tiny.json").read_text(encoding="utf-8"))
    return {name: recorded[key] for name, key in BARS.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Choose on training scenes, report on test scenes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--cache", default=os.environ.get("DINOV2_CACHE"), help="of features")
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    code = notebook()
    record = run_record.quality(*PACKAGES, models=MODELS)
    with tempfile.TemporaryDirectory() as temporary:
        cache = options.cache or str(Path(temporary) / "features")
        bench = Bench(Path(temporary), cache)
        chosen = choose(bench, code)
        rows = list(report(bench, code, chosen))
    reached = {row["name"]: row["hit@5"]["value"] for row in rows}
    for name, bar in bars().items():
        print(f"{name}: hit@5 {reached[name]:.4f}, the notebook's {bar:.4f}")
    if options.json:
        found = {"run": record, "chosen": chosen, "bars": bars(), "rows": rows}
        run_record.write(found, started, options.json)


if __name__ == "__main__":
    main()
