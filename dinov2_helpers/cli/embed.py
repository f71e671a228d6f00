"""`dinov2 embed`: one vector for each picture, in a file."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any, get_args

from ..extraction import stream_features
from ..extraction.result import Pooling
from ..pictures.files import printable
from ..pictures.pixels import Fit
from ..writing import home_path
from .features_file import SUFFIXES, FeaturesFile, features_file
from .files import ONE_OR_MORE, check_free, find_pictures, whole_file
from .loading import load_model
from .options import Command, add_exact, add_force, whole_number
from .session import CommandError, Session

EXAMPLE = """\
  dinov2 embed holiday/ --out holiday.npz
  dinov2 embed cat.jpg dogs/ --pooling both --out pets.parquet"""
FITS = "how a picture comes to that size: crop, resize or pad [crop]"
CHUNK = 256  # pictures that are held in memory at once


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("pictures", nargs="+", metavar="PICTURES", help=ONE_OR_MORE)
    parser.add_argument(
        "--out", required=True, metavar="FILE", help=".npz, or .parquet, which needs pyarrow"
    )
    parser.add_argument(
        "--pooling",
        metavar="HOW",
        choices=get_args(Pooling),
        default="cls",
        help="cls (class token), mean (of all patches) or both, side by side [cls]",
    )
    parser.add_argument("--patches", action="store_true", help="write all patch vectors too")
    parser.add_argument("--size", type=whole_number(1), metavar="PX", help="side in pixels [224]")
    parser.add_argument("--fit", metavar="HOW", choices=get_args(Fit), default="crop", help=FITS)
    parser.add_argument("--cache", metavar="FOLDER", help="keep features here, to go on later")
    add_exact(parser)
    add_force(parser)


def run(args: Namespace, session: Session) -> dict[str, Any]:
    """Write the features of pictures to a file."""
    suffix = Path(args.out).suffix.lower()
    if suffix not in SUFFIXES:
        raise CommandError(f"--out {printable(args.out)}: its name must end in .npz or .parquet")
    pictures = find_pictures(args.pictures, session)
    check_free([home_path(args.out)], force=args.force, pictures=pictures.values())
    with whole_file(args.out) as partial:
        writer = features_file(partial, suffix, args.pooling, args.patches)
        try:
            about = _embed(args, session, pictures, writer)
            session.require_some()
            writer.finish()
        finally:
            writer.close()
    n = session.n_used
    session.print(f"{n} pictures x {about['dimensions']} numbers: {printable(args.out)}")
    return {"out": args.out, "pictures": n, "column": args.pooling, **about}


def _embed(
    args: Namespace, session: Session, pictures: dict[str, Path], writer: FeaturesFile
) -> dict[str, Any]:
    """Compute features part by part; return what they are."""
    dinov2 = load_model(args)
    settings = {"size": args.size, "fit": args.fit, "cache": args.cache, "exact": args.exact}
    with_patches = args.patches or args.pooling != "cls"
    with session.bar(len(pictures)) as bar:
        for found in stream_features(
            dinov2, pictures, chunk=CHUNK, patches=with_patches, **settings
        ):
            seen = len(found) + len(found.skipped)
            session.saw(seen, found.skipped)
            if len(found):
                writer.add(found)
            bar.update(seen)
    width = 2 if args.pooling == "both" else 1
    return {"dimensions": width * dinov2.dim, "model": dinov2.name}


COMMAND = Command(
    "embed",
    "PICTURES ... --out FILE ",
    "write a vector for each picture",
    EXAMPLE,
    add_arguments,
    run,
)
