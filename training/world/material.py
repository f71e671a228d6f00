"""Render the pictures that the models are trained on, into a folder that is not committed.

    python -m training.world.material --out material --toys 20000 --views 4 --multi 8000
    python -m training.world.material --out pairs --colours crossed --views 2    # for captions

writes shards ``toys/00000.npy`` ... (64 toys, views, 224, 224, 3) and ``multi/00000.npy`` ...
(256 scenes of two or three toys, 224, 224, 3), uint8. Of each toy the first half of the views are
portraits and the others wide, each in surroundings of its own. Beside each shard a ``.jsonl`` holds
one line of labels per row, which only monitoring and captions read. Toys have their usual colours;
with "varied", half of them have any but those that ``EXCEPTIONS`` keeps for tests, and with
"crossed" all of them, so that a colour tells nothing of a class. A shard is written whole or not at
all and never twice: the same command, started again, renders what is missing.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from training.world.captions import LIFTED
from training.world.colours import COLOURS
from training.world.render import Picture, draw
from training.world.scene import Scene
from training.world.toys import CLASSES, EXCEPTIONS, POOLS, Toy, make_toy
from training.world.workers import renderer, rendering_pool

Labels = dict[str, object]
Row = tuple[np.ndarray, Labels]

POOL = POOLS["pretrain"]
# Share of the toys that wear any colour but those kept for tests; the others wear a usual one.
ANY_COLOUR = {"usual": 0.0, "varied": 0.5, "crossed": 1.0}
MULTI_START = len(POOL) // 2  # Toys below this number are for toys/, the others for multi/.
TOYS_PER_SHARD, SCENES_PER_SHARD = 64, 256


@dataclass(frozen=True)
class Shard:
    """Rows ``start`` to ``stop`` of the toys, ``views`` pictures each; without views, of scenes."""

    path: Path
    start: int
    stop: int
    any_colour: float
    views: int | None = None


def a_toy(class_name: str, seed: int, any_colour: float) -> Toy:
    """Make a toy in a usual colour or, in this share of cases, in any but those kept for tests."""
    rng = np.random.default_rng((seed, 0))
    if rng.random() < 1 - any_colour:
        return make_toy(class_name, seed)
    kept = EXCEPTIONS[class_name]
    return make_toy(class_name, seed, str(rng.choice([c for c in COLOURS if c not in kept])))


def facts(scene: Scene, picture: Picture) -> Labels:
    """Say what a picture shows; the toys from left to right."""
    toys: list[dict[str, Any]] = [
        {
            "class": item.toy.class_name,
            "colour": item.toy.colour,
            "flying": item.position[2] > LIFTED,
            "x": round(float(np.nonzero(picture.instance_mask == number)[1].mean()), 1),
        }
        for number, item in enumerate(scene.toys, start=1)
    ]
    toys.sort(key=lambda toy: toy["x"])
    return {"surface": scene.surface, "framing": scene.framing, "objects": toys}


def toy_row(number: int, views: int, any_colour: float) -> Row:
    """Render all views of one toy: ``(views, 224, 224, 3)`` uint8, and its labels."""
    toy = a_toy(CLASSES[number % len(CLASSES)], POOL[number], any_colour)
    drawn = [
        draw(renderer(), (POOL[number], view), [toy], "portrait" if 2 * view < views else "wide")
        for view in range(views)
    ]
    labels: Labels = {
        "class": toy.class_name,
        "colour": toy.colour,
        "toy_id": toy.toy_id,
        "views": [facts(scene, picture) for scene, picture in drawn],
    }
    return np.stack([picture.rgb for _, picture in drawn]), labels


def scene_row(number: int, any_colour: float) -> Row:
    """Render one scene with two or three toys: ``(224, 224, 3)`` uint8, and its labels."""
    seed = POOL[MULTI_START + 3 * number]
    rng = np.random.default_rng(seed)
    toys = [
        a_toy(str(rng.choice(CLASSES)), seed + k, any_colour) for k in range(rng.integers(2, 4))
    ]
    scene, picture = draw(renderer(), seed, toys, "wide")
    return picture.rgb, facts(scene, picture)


def render_shard(shard: Shard) -> int:
    """Render a shard and its labels unless it exists; return its number of rows."""
    if not shard.path.exists():
        numbers = range(shard.start, shard.stop)
        rows = [
            toy_row(n, shard.views, shard.any_colour)
            if shard.views
            else scene_row(n, shard.any_colour)
            for n in numbers
        ]
        lines = [json.dumps(labels) + "\n" for _, labels in rows]
        shard.path.with_suffix(".jsonl").write_text("".join(lines), encoding="utf-8")
        temporary = shard.path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            np.save(file, np.stack([pictures for pictures, _ in rows]))
        temporary.replace(shard.path)
    return shard.stop - shard.start


def shards(
    folder: Path, total: int, size: int, any_colour: float, views: int | None = None
) -> Iterator[Shard]:
    """Divide ``total`` rows into shards of ``size``."""
    for index, start in enumerate(range(0, total, size)):
        yield Shard(folder / f"{index:05d}.npy", start, min(start + size, total), any_colour, views)


def main() -> None:
    """Command line: see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("material"))
    parser.add_argument("--toys", type=int, default=20_000, help="number of toys")
    parser.add_argument("--views", type=int, default=4, help="pictures of each toy")
    parser.add_argument("--multi", type=int, default=8_000, help="scenes with two or three toys")
    parser.add_argument("--colours", choices=tuple(ANY_COLOUR), default="usual")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    if arguments.toys > MULTI_START or 3 * arguments.multi > len(POOL) - MULTI_START:
        parser.error(f"there are {MULTI_START} toys for --toys and as many for three times --multi")
    for name in ("toys", "multi"):
        (arguments.out / name).mkdir(parents=True, exist_ok=True)
    any_colour = ANY_COLOUR[arguments.colours]
    toys = shards(
        arguments.out / "toys", arguments.toys, TOYS_PER_SHARD, any_colour, arguments.views
    )
    scenes = shards(arguments.out / "multi", arguments.multi, SCENES_PER_SHARD, any_colour)
    # Both kinds advance together, so that a training that starts early finds both.
    shares = {arguments.out / "toys": arguments.toys, arguments.out / "multi": arguments.multi}
    todo = sorted([*toys, *scenes], key=lambda shard: shard.start / shares[shard.path.parent])
    rows = sum(shard.stop - shard.start for shard in todo)
    with rendering_pool(arguments.workers) as pool, tqdm(total=rows, unit="row") as bar:
        for done in pool.imap_unordered(render_shard, todo):
            bar.update(done)


if __name__ == "__main__":
    main()
