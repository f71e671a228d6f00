"""`dinov2 segment`: masks of the things in pictures."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..extraction import Skipped
from ..pictures.decode import ImageError, open_image
from ..pictures.files import list_images, printable
from .files import (
    ONE_OR_MORE,
    check_free,
    check_keeping,
    find_pictures,
    output_folder,
    output_paths,
    whole_file,
)
from .index import CLIP
from .loading import kept_model, kept_name, load_model, load_words
from .options import Command, add_force, whole_number
from .session import LISTED, Session

if TYPE_CHECKING:
    from PIL import Image

    from ..techniques.segmentation import Segmenter

EXAMPLE = """\
  dinov2 segment toys/ --masks drawn/ --save toy.segmenter --out masks/
  dinov2 segment new/ --load toy.segmenter --words "a red car" --write cut-outs --out cars/"""
METHODS = ("auto", "probe", "clusters", "pca", "cut", "border")
REFINEMENTS = ("crf", "guided", "none")
WRITTEN = ("masks", "cut-outs", "overlays")
DIMMED = 0.45  # of the grey of what is no thing, in an overlay
LEARNED_FROM = 200  # pictures at most, where there are no masks


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments."""
    add = parser.add_argument
    add("pictures", nargs="+", metavar="PICTURES", help=ONE_OR_MORE)
    add("--out", required=True, metavar="FOLDER", help="a PNG for each picture")
    add("--masks", metavar="FOLDER", help="masks of some of the pictures, by name, to learn from")
    add("--examples", metavar="FOLDER", help="the pictures of these masks, if they are others")
    add("--words", metavar="TEXT", help="only the thing in each picture that fits the text best")
    add(
        "--write",
        metavar="WHAT",
        choices=WRITTEN,
        default="masks",
        help="masks, cut-outs, or overlays to look at [masks]",
    )
    add("--method", metavar="HOW", choices=METHODS, default="auto", help=", ".join(METHODS[1:]))
    add(
        "--refine",
        metavar="HOW",
        choices=REFINEMENTS,
        default="crf",
        help="edges: crf, guided, none",
    )
    add("--size", type=whole_number(28), default=224, metavar="PX", help="shortest side [224]")
    add("--save", metavar="FOLDER", help="keep what was learned")
    add("--load", metavar="FOLDER", help="take what was kept, and learn nothing")
    add("--clip", metavar="NAME", help=CLIP)
    add_force(parser)


def run(args: Namespace, session: Session) -> dict[str, Any]:
    """Write a mask or a cut-out for each picture."""
    from ..techniques.segmentation import KIND

    _check_usage(args)
    pictures = find_pictures(args.pictures, session)
    examples = find_pictures([args.examples], session) if args.examples else pictures
    masks_read = list_images(args.masks).paths if args.masks else []
    folder = output_folder(args.out)
    paths = output_paths([str(path) for path in pictures.values()], folder, ".png")
    used = [*pictures.values(), *examples.values(), *masks_read]
    check_free(paths, force=args.force, pictures=used)
    target = dict(zip(pictures, paths, strict=True))
    if args.save:
        check_keeping(args.save, KIND, force=args.force)
    segmenter = _segmenter(args, examples)
    if args.save:
        segmenter.save(args.save)
    masks = _by_words(args, segmenter, pictures) if args.words else _all(segmenter, pictures)
    written, empty = [], []
    with session.bar(len(pictures)) as bar:
        for name, found in masks:
            bar.update()
            if isinstance(found, Skipped):
                session.saw(1, [found])
                continue
            session.saw(1)
            _write(args.write, pictures[name], found, target[name])
            share = float(found.mean())
            written.append({"name": name, "file": str(target[name]), "share": share})
            if not found.any():
                empty.append(name)
    session.require_some()
    if empty:
        _warn_of_empty(session, empty, segmenter.method_)
    session.print(f"{len(written)} {args.write} in {printable(args.out)}")
    return {"out": args.out, "method": segmenter.method_, "pictures": written}


def _warn_of_empty(session: Session, names: list[str], method: str) -> None:
    """Count and name the pictures in which nothing was found; say what may help."""
    listed = ", ".join(printable(name) for name in names[:LISTED])
    more = f" and {len(names) - LISTED} more" if names[LISTED:] else ""
    remedy = ""
    if method == "clusters":
        remedy = "; clusters need many pictures of one kind: try --method cut, or a few --masks"
    session.warn(f"nothing found in {len(names)}, whose masks are empty: {listed}{more}{remedy}")


def _check_usage(args: Namespace) -> None:
    """Exit with status 2 if options exclude each other, or one lacks another."""
    if args.load and args.masks:
        args.usage_error("--load takes what was learned: leave --masks out")
    if args.examples and not args.masks:
        args.usage_error("--examples are the pictures of --masks: give both")


def _segmenter(args: Namespace, examples: dict[str, Path]) -> "Segmenter":
    from ..techniques.segmentation import KIND, Segmenter

    if args.load:
        return Segmenter.load(args.load, kept_model(args, kept_name(args.load, KIND)))
    settings = {"method": args.method, "refine": args.refine, "size": args.size}
    segmenter = Segmenter(load_model(args), **settings)
    if not args.masks:
        every = -(-len(examples) // LEARNED_FROM)
        return segmenter.fit(dict(list(examples.items())[::every]))
    return segmenter.fit(examples, args.masks)


def _all(
    segmenter: "Segmenter", pictures: dict[str, Path]
) -> Iterator[tuple[str, NDArray[np.bool_] | Skipped]]:
    """Yield the mask (H, W) of each picture, or why it has none."""
    skipped: list[Skipped] = []
    for found in segmenter.each(pictures, skipped):
        yield found.name, found.mask
    for one in skipped:
        yield one.name, one


def _by_words(
    args: Namespace, segmenter: "Segmenter", pictures: dict[str, Path]
) -> Iterator[tuple[str, NDArray[np.bool_] | Skipped]]:
    """Yield the mask (H, W) of the thing in each picture that fits a text best."""
    reader = load_words(args)
    for index, (name, path) in enumerate(pictures.items()):
        try:
            picture = open_image(path)
            (found,) = segmenter.by_name(picture, args.words, reader)
        except ImageError as error:
            yield name, Skipped(index, name, error.reason)
            continue
        empty = np.zeros((picture.height, picture.width), bool)
        yield name, empty if found.thing is None else found.thing.mask


def _write(what: str, picture: Path, mask: NDArray[np.bool_], target: Path) -> None:
    from PIL import Image

    image = Image.fromarray(mask.astype(np.uint8) * 255)
    if what == "cut-outs":
        whole = open_image(picture)
        whole.putalpha(image)
        image = whole
    elif what == "overlays":
        image = Image.fromarray(overlay(open_image(picture), mask))
    with whole_file(str(target)) as partial:
        image.save(partial, "PNG")


def overlay(picture: "Image.Image", mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Draw the thing in its colours on dimmed grey, with an outline, as (H, W, 3)."""
    from ..techniques.anomaly import contoured

    grey = DIMMED * np.asarray(picture.convert("L"), np.float32)[..., None]  # (H, W, 1)
    drawn = np.where(mask[..., None], np.asarray(picture), grey.astype(np.uint8))
    return contoured(drawn, mask)


COMMAND = Command(
    "segment",
    "PICTURES ... --out FOLDER ",
    "cut things out of pictures: without masks, by a few of them, by words",
    EXAMPLE,
    add_arguments,
    run,
)
