"""`dinov2 index` and `dinov2 search`: folders of pictures that are found by words and pictures."""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..extraction import Skipped
from ..pictures.decode import ImageError, open_image
from ..pictures.files import local_path, printable
from ..pictures.pixels import to_pixels
from .files import ONE_OR_MORE, find_pictures, output_file, output_folder, whole_file
from .loading import kept_model, load_model, load_words
from .options import Command, add_exact, add_force, whole_number
from .session import CommandError, Session

if TYPE_CHECKING:
    from ..clip import Clip
    from ..lit import Lit
    from ..models.load import Dinov2

INDEX_EXAMPLE = """\
  dinov2 index holiday/ --out holiday.index"""
SEARCH_EXAMPLE = """\
  dinov2 search holiday.index "a red mug on sand" --sheet hits.png
  dinov2 search holiday.index --picture mug.jpg -k 5 --where "width > 500\""""
CLIP = "model of words: profile, folder, hub name, lit-tiny"
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}  # of a sheet


def add_index_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of `index`."""
    parser.add_argument("pictures", nargs="+", metavar="PICTURES", help=ONE_OR_MORE)
    parser.add_argument("--out", required=True, metavar="STORE", help="folder; kept up to date")
    parser.add_argument("--clip", metavar="NAME", help=CLIP)
    parser.add_argument("--forget", action="store_true", help="forget pictures that are gone")
    add_exact(parser)


def run_index(args: Namespace, session: Session) -> dict[str, Any]:
    """Add pictures to a store; known files are skipped, changed ones renewed."""
    from ..techniques.retrieval import ImageIndex

    pictures = find_pictures(args.pictures, session)
    output_folder(args.out)
    names = _names(args.out)
    models: tuple[Dinov2 | None, Clip | Lit | None]
    if names:
        models = _models(args, names)
    else:
        dinov2 = load_model(args)
        _require_a_picture(session, dinov2, pictures)
        models = dinov2, load_words(args)
    with ImageIndex(args.out, *models, exact=args.exact, progress=session.progress) as index:
        added = index.add(list(pictures.values()))
        given = list(pictures)
        skipped = [replace(one, name=given[one.index]) for one in added.skipped]
        session.saw(len(pictures), skipped)
        session.require_some()
        forgotten = index.forget_missing() if args.forget else 0
        info = index.info()
    counts = {"new": added.new, "renewed": added.renewed, "known": added.known}
    counts |= {"forgotten": forgotten} if args.forget else {}
    said = ", ".join(f"{n} {what}" for what, n in counts.items())
    session.print(f"{said}; {info.pictures} pictures in {printable(args.out)}")
    return {
        "out": args.out,
        **counts,
        "pictures": info.pictures,
        "bytes": info.bytes,
        "models": info.models,
    }


def _require_a_picture(session: Session, dinov2: "Dinov2", pictures: dict[str, Path]) -> None:
    """See to it that a new store gets a picture, before there is one.

    Raises:
        CommandError: None of them can be used.
    """
    skipped = []
    for index, (name, path) in enumerate(pictures.items()):
        try:
            to_pixels(open_image(path, name), dinov2)
        except ImageError as error:
            skipped.append(Skipped(index, name, error.reason))
        else:
            return
    session.saw(len(pictures), skipped)
    session.require_some()


def _names(folder: str) -> dict[str, str] | None:
    """Return the names of the models that a store was made with, by role; None: it is no store."""
    from ..techniques.store import Store, holds_store

    if not holds_store(local_path(folder)):
        return None
    store = Store(local_path(folder))
    try:
        return {role: model["name"] for role, model in store.models.items()}
    finally:
        store.close()


def _indexed(folder: str) -> Iterator[Path]:
    """Yield the files of the pictures of a store."""
    from ..techniques.store import Store

    store = Store(local_path(folder))
    try:
        for _, path in store.paths():
            yield Path(os.fsdecode(path))
    finally:
        store.close()


def _models(
    args: Namespace, names: dict[str, str], *, words: bool = True
) -> "tuple[Dinov2 | None, Clip | Lit | None]":
    """Load what the command line says of the models of a store; None: the store loads its own."""
    said = words and (args.clip is not None or args.device is not None)
    clip = load_words(args, names["clip"]) if said else None
    return kept_model(args, names["dinov2"]), clip


def add_search_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of `search`."""
    parser.add_argument("store", metavar="STORE", help="folder that `dinov2 index` has made")
    parser.add_argument("words", nargs="?", metavar="WORDS", help="what is looked for")
    parser.add_argument("--picture", metavar="FILE", help="find what is like it, beside WORDS too")
    parser.add_argument("-k", type=whole_number(1), default=12, metavar="N", help="hits [12]")
    parser.add_argument(
        "--where",
        metavar="SQL",
        help="condition on name, width, height, size, ... that hits must meet",
    )
    parser.add_argument("--sheet", metavar="FILE", help="draw the hits: .png or .jpg")
    parser.add_argument("--clip", metavar="NAME", help="as for `dinov2 index` [that of the store]")
    add_force(parser)


def run_search(args: Namespace, session: Session) -> dict[str, Any]:
    """Print the pictures of a store that are most like words, a picture, or both."""
    from ..techniques.retrieval import ImageIndex

    if not args.words and not args.picture:
        args.usage_error("say what to look for: WORDS, --picture FILE, or both")
    suffix = Path(args.sheet or "sheet.png").suffix.lower()
    if suffix not in FORMATS:
        raise CommandError(f"--sheet {printable(args.sheet)}: its name must end in .png or .jpg")
    names = _names(args.store)
    if names is None:
        store = printable(args.store)
        raise CommandError(
            f"{store} holds no index: make one first, dinov2 index PICTURES --out {store}"
        )
    if args.sheet:
        asked = [local_path(args.picture)] if args.picture else []
        output_file(args.sheet, force=args.force, pictures=chain(asked, _indexed(args.store)))
    models = _models(args, names, words=bool(args.words))
    with ImageIndex.open(args.store, *models) as index:
        hits = index.search(args.words or None, args.picture, args.k, where=args.where)
    if not hits:
        session.note(f"nothing found{', and no sheet drawn' if args.sheet else ''}")
    for hit in hits:
        session.print(f"{hit.rank:3}  {hit.score:6.3f}  {printable(hit.path)}")
    if args.sheet and hits:
        with whole_file(args.sheet) as partial:
            hits.sheet().save(partial, FORMATS[suffix])
    return {"store": args.store, "words": args.words, "hits": [vars(hit) for hit in hits]}


INDEX = Command(
    "index",
    "PICTURES ... --out STORE ",
    "make a folder of pictures searchable, by words and by pictures",
    INDEX_EXAMPLE,
    add_index_arguments,
    run_index,
)
SEARCH = Command(
    "search",
    "STORE [WORDS] ",
    "find pictures of an index by words, by a picture, or by both",
    SEARCH_EXAMPLE,
    add_search_arguments,
    run_search,
)
