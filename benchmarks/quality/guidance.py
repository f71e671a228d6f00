"""What a guide gains over the same seeds without it, by judges that did not guide.

    python -m benchmarks.quality.guidance
    python -m benchmarks.quality.guidance --json FILE --sheets FOLDER

The set-up is that of notebook 07: prompts that name a class of toys and no more, a real render of
such a toy as the target, paired seeds. What to set is chosen by CLIP on 16 training renders; what
is reported is measured once on 32 test renders and other seeds, beside what the notebook recorded.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks import run_record
from dinov2_helpers import extract_features, load_clip, load_diffusion, load_dinov2, load_scenes
from dinov2_helpers.measure import Interval, bootstrap
from dinov2_helpers.samples import CLASS_NAMES
from dinov2_helpers.techniques.guidance import Guide
from tools import pairing
from tools.project import Project

SCALE = 4.0  # of classifier-free guidance
SIZE = 112  # pixels that DINOv2 sees of the pictures that it guides
JUDGES = ("DINOv2 to the target", "CLIP to the target", "CLIP to the prompt", "CLIP to real")
# CLIP's three judgements: whoever guides must not choose.
OUTSIDE = JUDGES[1:]
NOTEBOOK_KEYS = dict(
    zip(
        JUDGES,
        (
            "guided_similarity_gain",
            "independent_similarity_gain",
            "prompt_change",
            "realism_change",
        ),
        strict=True,
    )
)
NOTEBOOK: dict[str, Any] = {  # what notebook 07 reports with
    "features": ("cls", "texture"),
    "gradient": "full",
    "strength": 0.3,
}
FEATURES: tuple[tuple[str, ...], ...] = (("cls",), ("cls", "texture"))
STRENGTHS = (0.3, 0.5, 0.7)
PACKAGES = ("torch", "diffusers", "transformers", "numpy")
MODELS = ("dinov2-tiny", "clip-tiny", "diffusion-tiny")

Array = NDArray[Any]


@dataclass(frozen=True)
class Task:
    """Pictures to draw."""

    prompts: list[str]
    targets: Array  # (n, S, S, 3) uint8
    seed: int  # of the first
    rows: list[int]  # of the targets in their split


class Judges:
    """Say how like its target, its prompt and real renders a picture is."""

    def __init__(self, gallery: Array, dinov2: Any = None, clip: Any = None) -> None:
        """Embed real renders, none of which is a target; None: the models of the profile."""
        self.dinov2, self.clip = dinov2 or load_dinov2(), clip or load_clip()
        self.gallery = self.by_clip(gallery)

    def by_dinov2(self, pictures: Array) -> Array:
        """Return the CLS of pictures, of unit length, at 12 patches a side."""
        size = 12 * self.dinov2.patch_size
        found = extract_features(self.dinov2, [*pictures], size=size, patches=False, progress=False)
        vectors: Array = found.cls / np.linalg.norm(found.cls, axis=1, keepdims=True)
        return vectors

    def by_clip(self, pictures: Array) -> Array:
        """Return CLIP's vectors of pictures, of unit length."""
        vectors: Array = self.clip.embed_images([*pictures], progress=False).vectors
        return vectors

    def __call__(self, pictures: Array, task: Task) -> dict[str, Array]:
        """Return a cosine (n,) for each judge."""
        clip = self.by_clip(pictures)
        nearest = np.sort(clip @ self.gallery.T, axis=1)[:, -5:]
        return {
            JUDGES[0]: (self.by_dinov2(pictures) * self.by_dinov2(task.targets)).sum(1),
            JUDGES[1]: (clip * self.by_clip(task.targets)).sum(1),
            JUDGES[2]: (clip * self.clip.embed_texts(task.prompts)).sum(1),
            JUDGES[3]: nearest.mean(1),
        }


def small(image: Image.Image, side: int) -> Array:
    """Return a picture squeezed to a square, (side, side, 3) uint8."""
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))


@lru_cache
def renders(split: str, side: int) -> tuple[Array, Array]:
    """Return all renders of one toy each, (N, side, side, 3), and their classes (N,)."""
    scenes = load_scenes(split).select(n_objects=1, framing="portrait")
    pictures = np.stack([small(scenes.image(i), side) for i in range(len(scenes))])
    return pictures, scenes.labels("class")


def make_task(split: str, side: int, per_class: int, seed: int) -> Task:
    """Return the first so many targets of each class."""
    pictures, labels = renders(split, side)
    rows = [
        int(np.flatnonzero(labels == name)[k]) for k in range(per_class) for name in CLASS_NAMES
    ]
    prompts = [
        f"a photo of {'an' if labels[row][0] in 'aeiou' else 'a'} {labels[row]}" for row in rows
    ]
    return Task(prompts, pictures[rows], seed, rows)


class Studio:
    """Draws tasks, guided and not; None: by the models of the profile."""

    def __init__(self, dinov2: Any = None, pipeline: Any = None) -> None:
        self.dinov2, self.pipeline = dinov2 or load_dinov2(), pipeline or load_diffusion()
        from diffusers import DDIMScheduler  # after the loader, which keeps its import quiet

        self.pipeline.scheduler = DDIMScheduler.from_config(self.pipeline.scheduler.config)
        self.side = self.pipeline.unet.config.sample_size * self.pipeline.vae_scale_factor

    def draw(self, task: Task, steps: int, **settings: Any) -> tuple[Array, float]:
        """Return pictures (n, side, side, 3), and seconds for each."""
        options = {"size": SIZE, "pairing": "each", **settings}
        guide = Guide(self.dinov2, task.targets, **options)
        begin = time.perf_counter()
        drawn = guide.sample(
            self.pipeline, task.prompts, steps=steps, guidance_scale=SCALE, seed=task.seed
        )
        return drawn.pictures, (time.perf_counter() - begin) / len(task.prompts)


def changes(judged: dict[str, Array], base: dict[str, Array]) -> dict[str, Interval]:
    """Return the paired change of each judge."""
    return {name: bootstrap(judged[name] - base[name]) for name in JUDGES}


def choose(
    studio: Studio, judges: Judges, task: Task, steps: int
) -> tuple[list[dict[str, Any]], list[Array]]:
    """Return a row for each setting, with the changes that it makes, and the pictures.

    The first pictures are the unguided ones, which have no row.
    """
    free, _ = studio.draw(task, steps, strength=0.0)
    base = judges(free, task)
    rows, drawn = [], [free]
    for gradient, features, strength in product(("cheap", "full"), FEATURES, STRENGTHS):
        settings = {"gradient": gradient, "features": features, "strength": strength}
        pictures, seconds = studio.draw(task, steps, **settings)
        rows.append({**settings, "seconds": seconds, **changes(judges(pictures, task), base)})
        drawn.append(pictures)
        print(line(rows[-1]), flush=True)
    return rows, drawn


def line(row: dict[str, Any]) -> str:
    """Return a row of the table as text."""
    what = f"{row['gradient']:>5} {'+'.join(row['features']):<20} {row['strength']:.1f}"
    judged = " | ".join(f"{row[name]:+.3f}" for name in JUDGES)
    return f"{what} {row['seconds']:6.2f} s: {judged}"


def outside(row: dict[str, Any]) -> float:
    """Return what the judges that did not guide say together."""
    return float(sum(row[name].value for name in OUTSIDE))


def recorded() -> dict[str, float]:
    """Return what the notebook recorded for each judge."""
    path = Project().results / f"{pairing.COMMITTED_PROFILE}.json"
    results = json.loads(path.read_text(encoding="utf-8"))
    return {name: results[f"07.{key}"] for name, key in NOTEBOOK_KEYS.items()}


def report(
    studio: Studio, judges: Judges, task: Task, steps: int, plans: Sequence[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[Array]]:
    """Return a row for each plan, and the pictures, those without a guide first."""
    free, plain = studio.draw(task, steps, strength=0.0)
    base = judges(free, task)
    rows, drawn = [], [free]
    for settings in plans:
        pictures, seconds = studio.draw(task, steps, **settings)
        judged = changes(judges(pictures, task), base)
        rows.append({**settings, "steps": steps, "seconds": seconds, "unguided": plain, **judged})
        drawn.append(pictures)
        print(f"{steps:3} steps {line(rows[-1])} (unguided {plain:.2f} s)", flush=True)
    return rows, drawn


def sheet(rows: Sequence[Array], scale: int = 2) -> Image.Image:
    """Return rows of pictures (n, S, S, 3) as one picture."""
    tall = np.concatenate([np.concatenate([*row], axis=1) for row in rows])
    picture = Image.fromarray(tall)
    size = (picture.width * scale, picture.height * scale)
    return picture.resize(size, Image.Resampling.NEAREST)


def draw_sheets(
    folder: Path, task: Task, rows: Sequence[dict[str, Any]], drawn: Sequence[Array]
) -> None:
    """Write sheets of targets, of pictures without a guide, and at each strength in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    for gradient, features in product(("cheap", "full"), FEATURES):
        own = [
            pictures
            for row, pictures in zip(rows, drawn[1:], strict=True)
            if (row["gradient"], row["features"]) == (gradient, features)
        ]
        name = f"strengths_{gradient}_{'_'.join(features)}.png"
        sheet([task.targets, drawn[0], *own]).save(folder / name)


def draw_report(folder: Path, task: Task, steps: int, drawn: Sequence[Array]) -> None:
    """Write sheets of 16 targets, of pictures without a guide, and of those of each plan."""
    for first in range(0, len(task.prompts), 16):
        part = slice(first, first + 16)
        picture = sheet([task.targets[part], *(pictures[part] for pictures in drawn)])
        picture.save(folder / f"report_{steps}_steps_{first}.png")


def main(arguments: Sequence[str] | None = None) -> None:
    """Choose on training renders, report on test renders."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--sheets", type=Path, help="folder for sheets of pictures")
    parser.add_argument("--report-only", action="store_true", help="with the notebook's settings")
    parser.add_argument("--steps", type=int, nargs="+", default=[8, 25], help="the first to choose")
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    studio = Studio()
    to_choose = make_task("train", studio.side, 1, 0)
    to_report = make_task("test", studio.side, 2, 1000)
    judges = Judges(np.delete(renders("train", studio.side)[0], to_choose.rows, axis=0))
    print(f"changes against the same seeds unguided: {' | '.join(JUDGES)}")
    tried: list[dict[str, Any]] = []
    chosen = NOTEBOOK
    if not options.report_only:
        tried, drawn = choose(studio, judges, to_choose, options.steps[0])
        if options.sheets:
            draw_sheets(options.sheets, to_choose, tried, drawn)
        best = max(tried, key=outside)
        chosen = {name: best[name] for name in NOTEBOOK}
    print(f"chosen: {chosen}; recorded by notebook 07: {recorded()}", flush=True)
    found: dict[str, Any] = {
        "run": run_record.quality(*PACKAGES, models=MODELS),
        "choose": tried,
        "chosen": chosen,
        "notebook": recorded(),
        "report": [],
    }
    for steps in options.steps:
        plans = [chosen] if chosen == NOTEBOOK else [NOTEBOOK, chosen]
        rows, drawn = report(studio, judges, to_report, steps, plans)
        found["report"] += rows
        if options.sheets:
            draw_report(options.sheets, to_report, steps, drawn)
        if options.json:
            run_record.write(json.loads(json.dumps(found)), started, options.json)


if __name__ == "__main__":
    main()
