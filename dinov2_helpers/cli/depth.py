"""`dinov2 depth fit` and `dinov2 depth predict`: depth of every pixel from one picture."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..pictures.files import printable
from .drawing import Scale, colours, write_panel
from .files import (
    ONE_OR_MORE,
    check_free,
    check_keeping,
    find_pictures,
    output_folder,
    output_paths,
    whole_file,
)
from .loading import kept_model, kept_name, load_model
from .options import Command, add_force, whole_number
from .session import CommandError, Session

if TYPE_CHECKING:
    from ..techniques.depth import DepthHead

FIT_EXAMPLE = """\
  dinov2 depth fit rooms/ rooms-depth/ --focal 525 --out room.head"""
PREDICT_EXAMPLE = """\
  dinov2 depth predict room.head new/ --out depth/
  dinov2 depth predict room.head new/ --out looks/ --focal 525 --colour --ply"""
HEADS = ("ridge", "bins", "dpt")
FARTHEST = 65.535  # metres that 16 bits hold in millimetres
MEANS = {
    "metres": "depth along the optical axis in millimetres",
    "relative": "depth along the optical axis, right up to one unknown factor for this picture",
}
DESCRIPTION = 270  # the tag of TIFF
CHUNK = 16  # pictures whose maps are held in memory at once
JUMP = 1.1  # factor between neighbours beyond which a pixel makes no point
TICKS = 5  # of the scale of colours
LISTED = 10  # names that a message gives


def above_zero(text: str) -> float:
    """Read a number above 0, a type for arguments."""
    try:
        number = float(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no number") from None
    if not 0 < number < float("inf"):
        raise ArgumentTypeError(f"{text} is not above 0")
    return number


def add_fit_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of `depth fit`."""
    add = parser.add_argument
    add("pictures", metavar="PICTURES", help="folder of pictures")
    add("depth", metavar="DEPTH", help="folder of their depth, by the same names")
    add("--out", required=True, metavar="HEAD", help="folder to keep what is learned")
    add("--unit", type=above_zero, metavar="M", help="metres of a step [0.001; of fractions 1]")
    add("--focal", type=above_zero, metavar="PX", help="focal length of the camera in pixels")
    add("--head", choices=HEADS, default="ridge", help="closed form, bins, small network [ridge]")
    add("--relative", action="store_true", help="depth is known up to a factor for each picture")
    add("--resize", action="store_true", help="bring depth of another size to its picture's")
    add("--size", type=whole_number(28), default=224, metavar="PX", help="shortest side [224]")
    add_force(parser)


def run_fit(args: Namespace, session: Session) -> dict[str, Any]:
    """Fit a head to pictures with measured depth, and keep it."""
    from ..techniques.depth import KIND, DepthHead

    pictures = find_pictures([args.pictures], session)
    check_keeping(args.out, KIND, force=args.force)
    settings: dict[str, Any] = {"head": args.head, "size": args.size, "relative": args.relative}
    head = DepthHead(load_model(args), **settings).fit(
        pictures,
        args.depth,
        focal=args.focal,
        unit=args.unit,
        resize=args.resize,
        progress=session.progress,
    )
    head.save(args.out)
    session.saw(len(pictures), head.skipped_)
    near, far = head.range_
    unit = "relative units" if args.relative else "m"
    said = f"{head.n_pictures_} pictures, {near:.3g} to {far:.3g} {unit}"
    session.print(f"learned from {said}: {printable(args.out)}")
    return {"out": args.out, "pictures": head.n_pictures_, "range": head.range_}


def add_predict_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of `depth predict`."""
    add = parser.add_argument
    add("head", metavar="HEAD", help="folder that `dinov2 depth fit` has made; none rides along")
    add("pictures", nargs="+", metavar="PICTURES", help=ONE_OR_MORE)
    add(
        "--out",
        required=True,
        metavar="FOLDER",
        help="16-bit PNG in millimetres; relative depth: 32-bit TIFF",
    )
    add("--focal", type=above_zero, metavar="PX", help="focal length of the pictures, in pixels")
    add("--colour", action="store_true", help="a figure to look at too, near is bright")
    add("--ply", action="store_true", help="a point cloud too, for MeshLab or Blender")
    add_force(parser)


def run_predict(args: Namespace, session: Session) -> dict[str, Any]:
    """Write the depth of pictures, in their own pixels."""
    from ..techniques.depth import KIND, DepthHead

    head = DepthHead.load(args.head, kept_model(args, kept_name(args.head, KIND)))
    unit = "relative" if head.relative else "metres"
    pictures = find_pictures(args.pictures, session)
    targets = _targets(args, unit, pictures)
    cameras = _cameras(args, head, pictures) if args.ply else {}
    focal = args.focal if head.focal_ is not None else None
    if args.focal and focal is None and not args.ply:
        session.warn("--focal changes nothing: the head was fitted without a focal length")
    rows, too_far = [], []
    with session.bar(len(pictures)) as bar:
        for maps in head.stream(pictures, chunk=CHUNK, focal=focal):
            session.saw(len(maps) + len(maps.skipped), maps.skipped)
            bar.update(len(maps) + len(maps.skipped))
            for row, name in enumerate(maps.names):
                depth, target = maps.depth[row], targets[name]
                files = _write(target, depth, unit, pictures[name], cameras.get(name))
                about = {"name": name, "files": files, "median": float(np.median(depth))}
                shares = {"beyond": float(maps.beyond[row]), "unlike": float(maps.unlike[row])}
                rows.append(about | shares)
                if unit == "metres" and depth.max() > FARTHEST:
                    too_far.append(name)
    session.require_some()
    _warn(session, f"have depth beyond the {FARTHEST} m of a PNG, which is cut there", too_far)
    done = [str(row["name"]) for row in rows]
    without = [name for name in done if args.ply and name not in cameras]
    _warn(session, "have no .ply, for no camera is known: --focal PX says it", without)
    session.print(f"depth of {len(rows)} pictures, {unit}, in {printable(args.out)}")
    return {"out": args.out, "unit": unit, "pictures": rows}


def _warn(session: Session, what: str, names: list[str]) -> None:
    """Count and name pictures of which something is to be said."""
    if names:
        listed = ", ".join(printable(name) for name in names[:LISTED])
        more = f" and {len(names) - LISTED} more" if names[LISTED:] else ""
        session.warn(f"{len(names)} pictures {what}: {listed}{more}")


def _targets(args: Namespace, unit: str, pictures: dict[str, Path]) -> dict[str, dict[str, Path]]:
    """Return the files of each picture by what they hold: "depth", "figure", "points"."""
    folder = output_folder(args.out)
    stems = output_paths([str(path) for path in pictures.values()], folder, "")
    endings = {"depth": ".png" if unit == "metres" else ".tiff"}
    endings |= {"figure": "_colour.png"} if args.colour else {}
    endings |= {"points": ".ply"} if args.ply else {}
    targets = {
        name: {what: stem.with_name(stem.name + ending) for what, ending in endings.items()}
        for name, stem in zip(pictures, stems, strict=True)
    }
    every = (path for files in targets.values() for path in files.values())
    check_free(every, force=args.force, pictures=pictures.values())
    return targets


def _write(
    targets: dict[str, Path],
    depth: NDArray[np.float32],
    unit: str,
    picture: Path,
    focal: float | None,
) -> list[str]:
    """Write all that is wanted of a picture with depth (H, W); return the files."""
    write_map(targets["depth"], depth, unit)
    written = [targets["depth"]]
    if "figure" in targets:
        scale = depth_scale(depth, unit)
        write_panel(targets["figure"], picture, colours(depth, scale), "depth", scale)
        written.append(targets["figure"])
    if "points" in targets and focal is not None:
        from ..techniques.pointcloud import to_points

        targets["points"].parent.mkdir(parents=True, exist_ok=True)
        to_points(depth, focal, picture, jump=JUMP).write_ply(targets["points"])
        written.append(targets["points"])
    return [str(path) for path in written]


def write_map(target: Path, depth: NDArray[np.float32], unit: str) -> None:
    """Write depth (H, W): metres as millimetres in 16 bits, relative depth as floating point.

    The file says which of them it holds. 0 is for what was not measured, so nothing is 0 here.

    Args:
        target: The file, ending in .png for metres and in .tiff for relative depth.
        depth: (H, W), above 0.
        unit: "metres" or "relative".
    """
    from PIL import Image, PngImagePlugin, TiffImagePlugin

    with whole_file(str(target)) as partial:
        if unit == "metres":
            note = PngImagePlugin.PngInfo()
            note.add_text("Description", MEANS[unit])
            millimetres = np.clip(np.round(depth * 1000), 1, FARTHEST * 1000).astype(np.uint16)
            Image.fromarray(millimetres).save(partial, "PNG", pnginfo=note)
        else:
            tags = TiffImagePlugin.ImageFileDirectory_v2()
            tags[DESCRIPTION] = MEANS[unit]
            Image.fromarray(depth).save(partial, "TIFF", tiffinfo=tags)


def depth_scale(depth: NDArray[np.float32], unit: str) -> Scale:
    """Return the colours of depth (H, W): near is bright, and equal factors are equal steps."""
    low, high = np.quantile(depth, [0.01, 0.99]).tolist()
    high = max(high, 1.01 * low)
    ticks = np.geomspace(low, high, TICKS).tolist()
    label = "depth in metres" if unit == "metres" else "relative depth, the median is 1"
    median = 1.0 if unit == "metres" else float(np.median(depth))
    texts = [f"{tick / median:.3g}" for tick in ticks]
    return Scale(label, ticks, texts, colours="viridis_r", is_log=True)


def _cameras(args: Namespace, head: "DepthHead", pictures: dict[str, Path]) -> dict[str, float]:
    """Return focal lengths in pixels: as given, as EXIF says, or of the training camera.

    Raises:
        CommandError: None is known of any picture, which is said before anything is computed.
    """
    if args.focal:
        return dict.fromkeys(pictures, args.focal)
    found = {}
    for name, path in pictures.items():
        focal = _focal_by_itself(path, head)
        if focal is not None:
            found[name] = focal
    if not found:
        raise CommandError("--ply needs the camera: give its focal length in pixels, --focal PX")
    return found


def _focal_by_itself(picture: Path, head: "DepthHead") -> float | None:
    """Return the focal length that EXIF tells, else that of the training camera, in pixels."""
    from ..pictures.decode import ImageError, upright_size
    from ..techniques.pointcloud import focal_of_photo

    try:
        width, height = upright_size(picture)
        told = focal_of_photo(picture)
    except (ImageError, OSError, SyntaxError, ValueError):
        return None  # whether it can be read at all is found out later
    if told is not None or head.focal_ is None:
        return told
    return head.focal_ if head.size is None else head.focal_ * min(width, height) / head.size


SUMMARY = "estimate the depth of every pixel, after a fit to measured depth"
FIT = Command(
    "fit",
    "PICTURES DEPTH --out HEAD ",
    "learn depth from pictures with measured depth",
    FIT_EXAMPLE,
    add_fit_arguments,
    run_fit,
)
PREDICT = Command(
    "predict",
    "HEAD PICTURES ... --out FOLDER ",
    "write the depth of pictures",
    PREDICT_EXAMPLE,
    add_predict_arguments,
    run_predict,
)
