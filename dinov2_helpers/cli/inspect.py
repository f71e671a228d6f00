"""`dinov2 inspect fit` and `dinov2 inspect score`: flaws, after a look at good pictures alone."""

import csv
import io
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..pictures.decode import ImageError
from ..pictures.files import printable
from .drawing import Scale, write_panel
from .files import (
    ONE_OR_MORE,
    check_free,
    check_keeping,
    find_pictures,
    output_file,
    output_folder,
    output_paths,
    whole_file,
)
from .loading import kept_model, kept_name, load_model
from .options import Command, add_force, share, whole_number
from .session import CommandError, Session

if TYPE_CHECKING:
    from ..techniques.anomaly import AnomalyScores

FIT_EXAMPLE = """\
  dinov2 inspect fit good/ --out mug.detector
  dinov2 inspect fit good/ --false-alarms 0.02 --tiles 2 --out close.detector"""
SCORE_EXAMPLE = """\
  dinov2 inspect score mug.detector new/ --maps maps/ --csv > scores.csv"""
STDOUT = "-"  # the table goes there where --csv names no file
METHODS = ("rebuild", "nearest", "subspace")


def add_fit_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of `inspect fit`."""
    add = parser.add_argument
    add("good", nargs="+", metavar="GOOD", help="pictures without a flaw, and folders of them")
    add("--out", required=True, metavar="DETECTOR", help="folder to keep what is learned")
    add("--false-alarms", type=share, default=0.05, metavar="SHARE", help="of good ones [0.05]")
    add("--size", type=whole_number(28), default=448, metavar="PX", help="shortest side [448]")
    add("--tiles", type=whole_number(1), metavar="N", help="look N times as close, in windows")
    add("--anywhere", action="store_true", help="parts lie anywhere, pictures have any shape")
    add("--method", metavar="HOW", choices=METHODS, default="rebuild", help=", ".join(METHODS))
    add_force(parser)


def run_fit(args: Namespace, session: Session) -> dict[str, Any]:
    """Remember good pictures, find the threshold, and keep both."""
    from ..techniques.anomaly import KIND, AnomalyDetector

    good = find_pictures(args.good, session)
    check_keeping(args.out, KIND, force=args.force)
    settings = {"size": args.size, "tiles": args.tiles, "method": args.method}
    settings["same_place"] = False if args.anywhere else "auto"
    detector = AnomalyDetector(load_model(args), false_alarms=args.false_alarms, **settings)
    detector.fit(good, progress=session.progress)
    detector.save(args.out)
    session.saw(len(good), detector.skipped_)
    threshold, n = float(detector.threshold_.value), detector.n_good_
    session.print(f"{n} good pictures, threshold {threshold:.4g}: {printable(args.out)}")
    session.print(detector.promise())
    promise = {"promise": detector.promise(), "holds": bool(detector.threshold_.holds)}
    return {"out": args.out, "good": n, "threshold": threshold, **promise}


def add_score_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of `inspect score`."""
    add = parser.add_argument
    add("detector", metavar="DETECTOR", help="folder that `dinov2 inspect fit` has made")
    add("pictures", nargs="+", metavar="PICTURES", help=ONE_OR_MORE)
    add("--maps", metavar="FOLDER", help="draw where each picture is odd")
    add(
        "--csv",
        nargs="?",
        const=STDOUT,
        metavar="FILE",
        help="a table of name, score, threshold and verdict; without FILE on stdout",
    )
    add("--false-alarms", type=share, metavar="SHARE", help="another threshold, without a new fit")
    add_force(parser)


def run_score(args: Namespace, session: Session) -> dict[str, Any]:
    """Print score and verdict of pictures."""
    from ..techniques.anomaly import KIND, AnomalyDetector

    if args.json and args.csv == STDOUT:
        args.usage_error("--json and --csv both go to stdout: name a file, --csv FILE")
    detector = AnomalyDetector.load(args.detector, kept_model(args, kept_name(args.detector, KIND)))
    if args.false_alarms is not None:
        detector.set_false_alarms(args.false_alarms)
    pictures = find_pictures(args.pictures, session)
    figures = _figures(args, pictures)
    if args.csv and args.csv != STDOUT:
        output_file(args.csv, force=args.force, pictures=pictures.values())
    scores = detector.score(pictures, progress=session.progress)
    session.saw(len(pictures), scores.skipped)
    threshold = float(detector.threshold_.value)
    rows = [
        {"name": name, "score": float(scores.values[i]), "flawed": bool(scores.flawed[i])}
        for i, name in enumerate(scores.names)
    ]
    _report(args, session, rows, threshold)
    if args.maps:
        _draw_maps(session, scores, threshold, pictures, figures)
    n_flawed = int(scores.flawed.sum())
    session.note(f"{n_flawed} of {len(rows)} above the threshold, {threshold:.4g}")
    return {"threshold": threshold, "flawed": n_flawed, "pictures": rows}


def _report(
    args: Namespace, session: Session, rows: list[dict[str, Any]], threshold: float
) -> None:
    """Print a line for each picture, or the table; write the table if a file is named."""
    if args.csv == STDOUT:
        session.print(_table(rows, threshold).rstrip("\n"))
        return
    for row in rows:
        verdict = "flawed" if row["flawed"] else "good"
        session.print(f"{verdict:6}  {row['score']:.4g}  {printable(str(row['name']))}")
    if args.csv:
        with whole_file(args.csv) as partial:
            partial.write_text(_table(rows, threshold), encoding="utf-8")


def _table(rows: list[dict[str, Any]], threshold: float) -> str:
    """Return rows as CSV."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "score", "threshold", "flawed"])
    for row in rows:
        score = f"{row['score']:.6g}"
        writer.writerow([printable(row["name"]), score, f"{threshold:.6g}", int(row["flawed"])])
    return text.getvalue()


def _figures(args: Namespace, pictures: dict[str, Path]) -> dict[str, Path]:
    """Return the file of the figure of each picture, if figures are wanted."""
    if not args.maps:
        return {}
    folder = output_folder(args.maps)
    paths = output_paths([str(path) for path in pictures.values()], folder, ".png")
    check_free(paths, force=args.force, pictures=pictures.values())
    return dict(zip(pictures, paths, strict=True))


def _draw_maps(
    session: Session,
    scores: "AnomalyScores",
    threshold: float,
    pictures: dict[str, Path],
    figures: dict[str, Path],
) -> None:
    """Draw each picture beside where it is odd."""
    line = scores.pixel_threshold
    # the colours of `AnomalyScores.drawn`
    scale = Scale("how odd a place is", [0, line, 2 * line], ["0", "threshold", "2 x"], line=line)
    with session.bar(len(scores), "figures") as bar:
        for i, name in enumerate(scores.names):
            verdict = "flawed" if scores.flawed[i] else "good"
            title = f"{verdict}: {scores.values[i] / threshold:.2f} x the threshold"
            picture = pictures[name]
            try:
                write_panel(figures[name], picture, scores.drawn(i, picture), title, scale)
            except ImageError as error:
                raise CommandError(f"it was changed while it was looked at: {error}") from error
            bar.update()


SUMMARY = "find flaws, after a look at good pictures alone"
FIT = Command(
    "fit",
    "GOOD ... --out DETECTOR ",
    "learn what good pictures look like, and what share of them may be called flawed",
    FIT_EXAMPLE,
    add_fit_arguments,
    run_fit,
)
SCORE = Command(
    "score",
    "DETECTOR PICTURES ... ",
    "score pictures, and say which are flawed",
    SCORE_EXAMPLE,
    add_score_arguments,
    run_score,
)
