"""Renders the sample data that the notebooks read.

    python -m training.world.export --out data

writes ``scenes`` and ``views`` below the folder, each with ``train`` and ``test``, and
``views/rivals``: for every toy of ``views/test`` another one of its class and colour, in its place,
and ``scenes/camouflage``: toys that have nearly the colour of the ground around them.
Every split is a Hugging Face imagefolder: ``metadata.jsonl`` beside the files that it names. A
folder is replaced only after all of its new files are written. With ``--contact FILE.png`` or
``--summary`` nothing is rendered: a sheet of the pictures that are there is written, or a table of
them printed. ``--rivals`` renders ``views/rivals`` alone, ``--camouflage`` those scenes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import binary_dilation
from skimage.color import rgb2lab
from tqdm import tqdm

from training.world.captions import caption
from training.world.compose import View, turntable
from training.world.render import Picture, draw, draw_occluded
from training.world.scene import FRAME, MOST_TOYS, Framing, Scene
from training.world.surfaces import SURFACES
from training.world.toys import CLASSES, EXCEPTIONS, PALETTES, POOLS, Toy, make_toy
from training.world.workers import renderer, rendering_pool

Row = dict[str, Any]

WEBP_QUALITY = 80
DEPTH_STEP = 4  # millimetres
EXCEPTION_EVERY = 5  # one test toy in so many wears an unusual colour
# Portraits and wide one-toy scenes of each class, and scenes with two or three toys.
SCENES = {"train": (12, 12, 96), "test": (8, 8, 64)}
# Classes of which ``views`` has a toy: all 16 in both splits would be 14 MB.
VIEW_CLASSES = {"train": CLASSES[::4], "test": CLASSES}
VIEW_SURFACES = {
    "dog": "grass",
    "cat": "wood",
    "car": "road",
    "truck": "sand",
    "airplane": "road",
    "boat": "water",
    "rocket": "sand",
    "house": "grass",
    "tree": "snow",
    "mushroom": "carpet",
    "snowman": "snow",
    "mug": "tiles",
    "chair": "wood",
    "lamp": "carpet",
    "duck": "water",
    "fish": "tiles",
}
VIEWS_START = 500_000  # in the pool of toys: those before are for the scenes
VIEWS_PER_TOY = 40
VIEW_FOLDERS = (*VIEW_CLASSES, "rivals")
RIVALS_START = VIEWS_START + 1000
SCENE_FOLDERS = (*SCENES, "camouflage")
CAMOUFLAGED = 48  # scenes
CAMOUFLAGE_START = VIEWS_START + 100_000
CAMOUFLAGE_TRIES = 200  # toys that are drawn at most until one is hard to tell from its ground
ALIKE = 25  # mean distance in Lab from the ground's colour; half of the test toys have 54 or more
AROUND = 16  # pixels around a toy whose colour it must nearly have
GROUND_COLOURS = {  # in which a toy may be hard to see on a surface
    "grass": ("green",),
    "sand": ("yellow",),
    "snow": ("white",),
    "road": ("black", "gray"),
    "water": ("blue",),
    "wood": ("brown", "orange"),
    "tiles": ("white",),
    "carpet": ("red", "blue", "green", "purple", "brown"),
}
CAMOUFLAGES = [
    (name, surface, colour)
    for name, palette in PALETTES.items()
    for surface, colours in GROUND_COLOURS.items()
    for colour in palette
    # a snowman is white: its colour is its scarf's
    if (surface == "snow" if name == "snowman" else colour in colours)
]
FOLDERS = {
    "file_name": ("images", "webp"),
    "depth_file_name": ("depth", "png"),
    "class_mask_file_name": ("class_masks", "png"),
    "instance_mask_file_name": ("instance_masks", "png"),
}
CONTACT_COLUMNS, CONTACT_ROWS = 12, 2  # per split


@dataclass(frozen=True)
class Order:
    """One picture to make for ``scenes``.

    Attributes:
        index: its number in the split.
        seed: of its surroundings.
        toys: class, toy seed and colour (None: a usual one) of each toy.
        framing: 'portrait' or 'wide'.
        surface: a name from ``SURFACES``, or None to draw one.
    """

    index: int
    seed: int
    toys: tuple[tuple[str, int, str | None], ...]
    framing: Framing
    surface: str | None


def scene_orders(split: str) -> list[Order]:
    """What ``scenes`` of a split consists of: the same for every export.

    Args:
        split: 'train' or 'test'.
    """
    portraits, wide, groups = SCENES[split]
    rng = np.random.default_rng(POOLS[split].start)
    seeds = iter(POOLS[split])
    kinds: list[tuple[Framing, list[str], str | None]] = []
    framings: list[tuple[Framing, int]] = [("portrait", portraits), ("wide", wide)]
    for framing, count in framings:
        for number in range(count):
            for place, name in enumerate(CLASSES):
                kinds.append((framing, [name], SURFACES[(number + place) % len(SURFACES)]))
    for _ in range(groups):
        kinds.append(("wide", list(rng.choice(CLASSES, rng.integers(2, 4))), None))
    orders = []
    made = 0
    for index, (framing, names, surface) in enumerate(kinds):
        toys: list[tuple[str, int, str | None]] = []
        for name in map(str, names):
            made += 1
            unusual = split == "test" and made % EXCEPTION_EVERY == 0
            colour = str(rng.choice(EXCEPTIONS[name])) if unusual else None
            toys.append((name, next(seeds), colour))
        orders.append(Order(index, POOLS[split][index], tuple(toys), framing, surface))
    return orders


def render_order(order: Order, folder: Path) -> list[Row]:
    """Renders and writes one picture of ``scenes``; returns its line of metadata."""
    toys = [make_toy(*toy) for toy in order.toys]
    scene, picture = draw(renderer(), order.seed, toys, order.framing, order.surface)
    return [write_picture(folder, order.index, scene, picture)]


def render_views(number: int, split: str, folder: Path) -> list[Row]:
    """Renders and writes all views of toy ``number`` of a split; returns its metadata."""
    name = VIEW_CLASSES[split][number]
    seed = POOLS[split][VIEWS_START + CLASSES.index(name)]
    toy = make_toy(name, seed)
    views = turntable(toy, seed, VIEW_SURFACES[name])
    return [
        _write_view(folder, number * VIEWS_PER_TOY + place, (seed, place), toy, view)
        for place, view in enumerate(views)
    ]


def render_rival(number: int, folder: Path) -> list[Row]:
    """Renders and writes the turntable of the rival of a toy of ``views/test``.

    The rival has the class and the colour of toy ``number`` and stands in its place, under its
    light: what knows only colours and ground cannot tell them apart.
    """
    name = VIEW_CLASSES["test"][number]
    seed = POOLS["test"][VIEWS_START + CLASSES.index(name)]
    toy = make_toy(name, seed)
    rival = make_toy(name, POOLS["test"][RIVALS_START + CLASSES.index(name)], toy.colour)
    views = [
        view for view in turntable(rival, seed, VIEW_SURFACES[name]) if view.kind == "turntable"
    ]
    return [
        _write_view(folder, number * len(views) + place, (seed, place), rival, view)
        for place, view in enumerate(views)
    ]


def render_camouflaged(number: int, folder: Path) -> list[Row]:
    """Renders and writes a scene in which a toy has nearly the colour of what is around it.

    Toys, usual in colour, and surfaces that might suit each other are drawn until one pair does.

    Raises:
        RuntimeError: none did.
    """
    first = CAMOUFLAGE_START + number * CAMOUFLAGE_TRIES
    for seed in POOLS["test"][first : first + CAMOUFLAGE_TRIES]:
        name, surface, colour = CAMOUFLAGES[np.random.default_rng(seed).integers(len(CAMOUFLAGES))]
        toy = make_toy(name, seed, colour)
        framing: Framing = "wide" if number % 3 == 2 else "portrait"
        scene, picture = draw(renderer(), seed, [toy], framing, surface, occluded=False)
        if contrast(picture.rgb, picture.instance_mask > 0, picture.depth > 0) < ALIKE:
            return [write_picture(folder, number, scene, picture)]
    raise RuntimeError(f"none of {CAMOUFLAGE_TRIES} toys has nearly the colour of its ground")


def contrast(rgb: np.ndarray, toy: np.ndarray, solid: np.ndarray) -> float:
    """How far a toy's pixels are in colour from what is around it, as a mean distance in Lab.

    Args:
        rgb: (H, W, 3) uint8.
        toy: (H, W) true on the toy.
        solid: (H, W) false in the sky, which is left out.
    """
    lab = rgb2lab(rgb)
    around = binary_dilation(toy, iterations=AROUND) & ~toy & solid
    distance = np.linalg.norm(lab[toy] - np.median(lab[around], axis=0), axis=1)  # (pixels,)
    return float(distance.mean())


def _write_view(folder: Path, index: int, seed: tuple[int, int], toy: Toy, view: View) -> Row:
    """Renders and writes a view of a toy; the seed is of the prop that may stand before it."""
    if view.kind == "occluded":
        scene, picture = draw_occluded(renderer(), seed, view.scene)
    else:
        scene, picture = view.scene, renderer().render(view.scene)
    row = write_picture(folder, index, scene, picture)
    return row | {
        "toy_id": toy.toy_id,
        "kind": view.kind,
        "azimuth": scene.camera.azimuth,
        "elevation": scene.camera.elevation,
        "light_id": view.light_id,
    }


def write_picture(folder: Path, index: int, scene: Scene, picture: Picture) -> Row:
    """Writes the four files of a picture; returns its line of metadata."""
    names = {column: f"{kind}/{index:05d}.{suffix}" for column, (kind, suffix) in FOLDERS.items()}
    Image.fromarray(picture.rgb).save(folder / names["file_name"], quality=WEBP_QUALITY, method=6)
    millimetres = np.round(picture.depth * (1000 / DEPTH_STEP)).astype(np.uint16) * DEPTH_STEP
    Image.fromarray(millimetres.astype(np.uint16)).save(
        folder / names["depth_file_name"], optimize=True
    )
    for column, mask, values in (
        ("class_mask_file_name", picture.class_mask, 1 + len(CLASSES)),
        ("instance_mask_file_name", picture.instance_mask, 1 + MOST_TOYS),
    ):
        image = Image.fromarray(mask)
        image.putpalette(voc_palette(values))
        image.save(folder / names[column], optimize=True)
    return names | describe(scene, picture)


def voc_palette(size: int) -> list[int]:
    """The first colours of the PASCAL VOC masks, 3 numbers each (VOCdevkit, VOClabelcolormap.m)."""
    colours = np.zeros((size, 3), np.uint8)
    labels = np.arange(size)
    for shift in range(7, -1, -1):
        for channel in range(3):
            colours[:, channel] |= ((labels >> channel & 1) << shift).astype(np.uint8)
        labels = labels >> 3
    return colours.ravel().tolist()


def describe(scene: Scene, picture: Picture) -> Row:
    """All that is known about a picture, ready for JSON; floats are rounded to 1e-5."""
    english, chinese = caption(scene)
    return {
        "caption_en": english,
        "caption_zh": chinese,
        "framing": scene.framing,
        "surface": scene.surface,
        "indoor": scene.indoor,
        "occluded": scene.occluded,
        "objects": [
            {
                "class": item.toy.class_name,
                "colour": item.toy.colour,
                "usual_colour": item.toy.colour in PALETTES[item.toy.class_name],
                "toy_id": item.toy.toy_id,
                "instance": number,
                "bbox": bounding_box(picture.instance_mask == number),
                "visible_fraction": _rounded(picture.visible[number - 1]),
            }
            for number, item in enumerate(scene.toys, start=1)
        ],
        "camera": {
            "intrinsics": _rounded(scene.camera.intrinsics()),
            "world_from_camera": _rounded(scene.camera.world_from_camera()),
        },
        "light": {
            "sun_direction": _rounded(scene.light.sun_direction),
            "warmth": _rounded(scene.light.warmth),
        },
        "seed": scene.seed,
    }


def _rounded(values: float | Sequence[float] | np.ndarray) -> Any:
    return (np.round(np.asarray(values, dtype=float), 5) + 0.0).tolist()  # no -0.0


def bounding_box(mask: np.ndarray) -> list[int]:
    """Left, top, right and bottom pixel edges of the true part of a (H, W) mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


def export(out: Path, workers: int) -> None:
    """Renders ``scenes`` and ``views`` and puts them into a folder.

    Args:
        out: the folder; what else is in it stays.
        workers: number of processes.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=out) as name, rendering_pool(workers) as p:
        new = Path(name)
        for split in SCENES:
            folder = _make(new / "scenes" / split)
            orders = scene_orders(split)
            _write_rows(folder, p.imap(partial(render_order, folder=folder), orders), len(orders))
        _write_camouflaged(new / "scenes" / "camouflage", p)
        for split in SCENES:
            folder = _make(new / "views" / split)
            task: Callable[[int], list[Row]] = partial(render_views, split=split, folder=folder)
            toys = len(VIEW_CLASSES[split])
            _write_rows(folder, p.imap(task, range(toys)), toys)
        _write_rivals(new / "views" / "rivals", p)
        for part in ("scenes", "views"):
            _replace(out / part, new / part, new / f"old-{part}")


def export_rivals(out: Path, workers: int) -> None:
    """Renders ``views/rivals`` alone and puts it into a folder, as `export` does with all."""
    (out / "views").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=out) as name, rendering_pool(workers) as p:
        new = Path(name)
        _write_rivals(new / "rivals", p)
        _replace(out / "views" / "rivals", new / "rivals", new / "old")


def export_camouflaged(out: Path, workers: int) -> None:
    """Renders ``scenes/camouflage`` alone and puts it into a folder, as `export` does with all."""
    (out / "scenes").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=out) as name, rendering_pool(workers) as p:
        new = Path(name)
        _write_camouflaged(new / "camouflage", p)
        _replace(out / "scenes" / "camouflage", new / "camouflage", new / "old")


def _write_camouflaged(folder: Path, pool: Pool) -> None:
    task = partial(render_camouflaged, folder=_make(folder))
    _write_rows(folder, pool.imap(task, range(CAMOUFLAGED)), CAMOUFLAGED)


def _write_rivals(folder: Path, pool: Pool) -> None:
    task = partial(render_rival, folder=_make(folder))
    toys = len(VIEW_CLASSES["test"])
    _write_rows(folder, pool.imap(task, range(toys)), toys)


def _replace(folder: Path, new: Path, old: Path) -> None:
    """Puts a new folder in place of one; the one of before goes to ``old``."""
    if folder.exists():
        shutil.move(folder, old)
    shutil.move(new, folder)


def _make(folder: Path) -> Path:
    for kind, _ in FOLDERS.values():
        (folder / kind).mkdir(parents=True)
    return folder


def _write_rows(folder: Path, results: Iterator[list[Row]], total: int) -> None:
    """Writes the metadata of a split in the order of its pictures, as the workers deliver it."""
    with (folder / "metadata.jsonl").open("w", encoding="utf-8") as lines:
        for rows in tqdm(results, "/".join(folder.parts[-2:]), total):
            for row in rows:
                lines.write(json.dumps(row, ensure_ascii=False) + "\n")


def contact_sheet(out: Path, sheet: Path) -> None:
    """Writes a PNG of evenly spaced pictures: two rows each of train and test, scenes and views.

    Args:
        out: the folder with ``scenes`` and ``views``.
        sheet: the file to write.
    """
    count = CONTACT_COLUMNS * CONTACT_ROWS
    strips = []
    for folder in (out / part / split for part in ("scenes", "views") for split in SCENES):
        files = sorted((folder / "images").iterdir())
        chosen = [files[place] for place in np.linspace(0, len(files) - 1, count).astype(int)]
        pixels = np.stack([np.asarray(Image.open(file)) for file in chosen])
        grid = pixels.reshape(CONTACT_ROWS, CONTACT_COLUMNS, FRAME, FRAME, 3)
        strips.append(grid.transpose(0, 2, 1, 3, 4).reshape(CONTACT_ROWS * FRAME, -1, 3))
    Image.fromarray(np.concatenate(strips)).save(sheet)


def summary(out: Path) -> str:
    """Counts what the metadata list, as a Markdown table.

    Args:
        out: the folder with ``scenes`` and ``views``.
    """
    columns = (
        "pictures",
        "toys",
        "portraits",
        "wide, one toy",
        "wide, 2-3 toys",
        "indoor",
        "with an occluder",
        "toys in unusual colours",
        "MB",
    )
    lines = [" | ".join(("| part", *columns)) + " |", "| --- " + "| ---: " * len(columns) + "|"]
    for part, splits in (("scenes", SCENE_FOLDERS), ("views", VIEW_FOLDERS)):
        for split in splits:
            folder = out / part / split
            text = (folder / "metadata.jsonl").read_text(encoding="utf-8")
            rows = [json.loads(line) for line in text.splitlines()]
            usual = {one["toy_id"]: one["usual_colour"] for row in rows for one in row["objects"]}
            wide = [len(row["objects"]) for row in rows if row["framing"] == "wide"]
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            numbers = (
                len(rows),
                len(usual),
                len(rows) - len(wide),
                wide.count(1),
                len(wide) - wide.count(1),
                sum(row["indoor"] for row in rows),
                sum(row["occluded"] for row in rows),
                list(usual.values()).count(False),
                f"{size / 1e6:.1f}",
            )
            lines.append(" | ".join((f"| {part}/{split}", *map(str, numbers))) + " |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("data"))
    parser.add_argument("--workers", type=int, default=2, help="processes that render")
    parser.add_argument("--contact", type=Path, metavar="FILE.png", help="only write a sheet")
    parser.add_argument("--summary", action="store_true", help="only print a table of counts")
    parser.add_argument("--camouflage", action="store_true", help="only render scenes/camouflage")
    parser.add_argument("--rivals", action="store_true", help="only render views/rivals")
    args = parser.parse_args()
    if args.contact:
        contact_sheet(args.out, args.contact)
    elif args.summary:
        print(summary(args.out))
    elif args.camouflage:
        export_camouflaged(args.out, args.workers)
    elif args.rivals:
        export_rivals(args.out, args.workers)
    else:
        export(args.out, args.workers)


if __name__ == "__main__":
    main()
