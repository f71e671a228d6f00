"""Every figure of the series: readable from the back of a room, and by colour-blind readers.

Functions that draw take the figure's alternative text, `alt`, and return a matplotlib `Figure` that
pyplot knows nothing about: it appears in a notebook only where `show` puts it. Pictures are PIL of
any mode, drawn as they look, or arrays (H, W, 3) of uint8 or of floats in 0..1; a map is an array
(H, W), of bool too. `limits` are the values of a colour map's first and last colour; None takes the
extremes of all maps in the figure, 0 and 1 for bool. `**axes` goes to matplotlib's `Axes.set`:
xlabel, ylabel, title, xlim, ylim...

Texts are drawn as they are: "$" is no formula, a line break is one, and whatever else cannot be
shown is escaped as `printable` does it, as are line breaks in a title that is a path.
"""

import io
import math
import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from .extras import need
from .pictures.decode import open_image
from .pictures.files import printable

Array = NDArray[Any]
Picture = Image.Image | Array
Limits = tuple[float, float] | None
Level = tuple[float, str] | None

# Okabe and Ito (2008), "Color Universal Design"; yellow, faint on white, is left out.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX*"
GREY = "#777777"
MARGIN = 0.06  # inches a line: matplotlib places titles too high by so much, and accents too
ROUNDING = 1e-6  # of features of 32 bits, as a share of the largest
STYLE: dict[Any, Any] = {
    "font.size": 13,
    "axes.titlesize": 13,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 2.5,
}


def _figure(
    alt: str, width: float, height: float, *grid: int, lines: float = 1
) -> tuple[Figure, Array]:
    """Return a figure of so many inches, labelled with its alternative text, and its axes."""
    if not alt.strip():
        raise ValueError("alt: describe the figure for those who cannot see it")
    layout = ConstrainedLayoutEngine(h_pad=MARGIN * max(lines, 1))
    figure = Figure(figsize=(width, height), layout=layout, label=_shown(alt))
    return figure, figure.subplots(*grid, squeeze=False)


def _shown(text: Any) -> str:
    """Return a text that every font can draw; names of files need not be such."""
    if not isinstance(text, str):
        return printable(text)
    return "\n".join(map(printable, text.split("\n")))


def _plain(*texts: Text) -> None:
    """Draw texts as they are, whatever they hold."""
    for text in texts:
        text.set_parse_math(False)
        text.set_text(_shown(text.get_text()))


@rc_context(STYLE)
def encode(figure: Figure, *, dpi: float = 100) -> tuple[str, bytes]:
    """Return the media type and the bytes of a figure: PNG, or JPEG where PNG takes over 90 kB."""
    figure.savefig(file := io.BytesIO(), dpi=dpi, format="png")
    if file.tell() <= 90_000:
        return "image/png", file.getvalue()
    Image.open(file).convert("RGB").save(jpeg := io.BytesIO(), "JPEG", quality=80)
    return "image/jpeg", jpeg.getvalue()


def bundle(figure: Figure, alt: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a figure as Jupyter output: data, and metadata with its alternative text.

    `alt` is needed only for a figure that this module did not draw; ValueError: there is none.
    """
    text = _shown(alt) or str(figure.get_label())
    if not text:
        raise ValueError("alt: describe the figure for those who cannot see it")
    media, content = encode(figure)
    return {media: content, "text/plain": text}, {media: {"alt": text}}


def show(figure: Figure, alt: str = "") -> None:
    """Display a figure in the notebook with its alternative text, as `bundle` makes it.

    Raises:
        ModuleNotFoundError: There is no IPython, and so no notebook.
    """
    need("IPython", "course", "A display in notebooks")
    from IPython.display import display

    data, metadata = bundle(figure, alt)
    display(data, metadata=metadata, raw=True)


def _shared(limits: Limits, maps: Sequence[Array]) -> tuple[float, float]:
    ends = [[0, 1] if m.dtype == bool else m[np.isfinite(m)] for m in maps]
    values = np.concatenate([[], *ends])
    return limits or ((values.min(), values.max()) if values.size else (0.0, 1.0))


def _drawable(images: Sequence[Picture]) -> list[Array]:
    """Return pictures as (H, W, 3) or (H, W, 4), and maps as (H, W)."""
    arrays = []
    for i, image in enumerate(images):
        array = np.asarray(open_image(image) if isinstance(image, Image.Image) else image)
        if array.ndim != 2 and array.shape[2:] not in ((3,), (4,)):
            raise ValueError(f"images[{i}] has shape {array.shape}: (H, W, 3), or (H, W) for a map")
        arrays.append(array)
    return arrays


@rc_context(STYLE)
def show_images(
    images: Sequence[Picture],
    *,
    alt: str,
    titles: Sequence[str | os.PathLike[str]] = (),
    title: str = "",
    columns: int = 8,
    limits: Limits = None,
    bar: str = "",
) -> Figure:
    """Draw pictures and maps in rows of at most `columns`; all maps share their limits.

    `titles` go over each of them, `title` over all; `bar` labels a colour bar of the maps.

    Raises:
        ValueError: No picture at all, a shape that is none, `bar` without a map, or no `alt`.
    """
    arrays = _drawable(images)
    maps = [array for array in arrays if array.ndim == 2]
    if not arrays or columns < 1:
        raise ValueError(f"{len(arrays)} pictures in {columns} columns: there is nothing to show")
    if bar and not maps:
        raise ValueError(f"bar={bar!r} is for maps, arrays (H, W), and there are only pictures")
    low, high = _shared(limits, maps)
    columns = min(len(arrays), columns)
    texts = [_shown(text) for text in titles]
    rows = math.ceil(len(arrays) / columns)
    side = min(3.6, 12 / columns)
    ratio = max(array.shape[0] / array.shape[1] for array in arrays)
    lines = max((text.count("\n") + 1.2 for text in texts), default=0)
    heading = 0.15 + 0.25 * (title.count("\n") + 1) if title else 0
    height = rows * (side * ratio + (0.25 + MARGIN) * lines) + heading
    width = columns * side + (0.9 if bar else 0)
    figure, axes = _figure(alt, width, height, rows, columns, lines=lines)
    _plain(figure.suptitle(title))
    for ax in axes.flat:
        ax.axis("off")
    for ax, array, text in zip(axes.flat, arrays, [*texts, *[""] * len(arrays)], strict=False):
        drawn = ax.imshow(array, cmap="viridis", vmin=low, vmax=high)
        _plain(ax.set_title(text))
        if array.ndim == 2:
            mapped = drawn
    if bar:
        colours = figure.colorbar(mapped, ax=axes, label=bar, shrink=0.8)
        _plain(colours.ax.yaxis.label)
    return figure


@rc_context(STYLE)
def show_depth(
    images: Sequence[Picture],
    *,
    alt: str,
    titles: Sequence[str | os.PathLike[str]] = (),
    columns: int = 8,
    limits: Limits = None,
    unit: str = "metres",
) -> Figure:
    """Draw pictures and depth maps in rows, near as bright and far as dark, the bar in metres.

    Maps (H, W) hold depth above 0; NaN is white. Equal factors are equal steps of colour, since
    from 1 to 2 m matters as much as from 10 to 20. `limits` are in the maps' own unit, whose name
    is `unit`.

    Raises:
        ValueError: No map among the images, or as `show_images`.
    """
    drawn = [_logs_of(one) for one in images]
    maps = [one for one in drawn if isinstance(one, np.ndarray) and one.ndim == 2]
    ends = None if limits is None else (math.log10(limits[0]), math.log10(limits[1]))
    low, high = _shared(ends, maps)
    figure = show_images(
        drawn, alt=alt, titles=titles, columns=columns, limits=(low, high), bar=unit
    )
    for drawing in (one for ax in figure.axes for one in ax.images):
        drawing.set_cmap("viridis_r")
    ticks = _round_between(10**low, 10**high)
    figure.axes[-1].set_yticks(np.log10(ticks), [f"{tick:g}" for tick in ticks])
    figure.axes[-1].minorticks_off()
    return figure


def depth_error(guess: ArrayLike, truth: ArrayLike, *, factor: float = 1.5) -> Array:
    """Return colours (H, W, 3) of the error of a depth map (H, W): red too near, blue too far.

    The colour is full where the answer is `factor` times too near or too far, and white where it
    is right, or the truth NaN.
    """
    true = np.asarray(truth, float)
    ratio = np.log(np.asarray(guess, float) / true) / np.log(factor)  # -1: too near by the factor
    colours: Array = colormaps["RdBu"]((ratio + 1) / 2)[..., :3]
    colours[np.isnan(true)] = 1
    return colours


def _logs_of(image: Picture) -> Picture:
    """Return the logarithms of a map, and a picture as it is."""
    if isinstance(image, Image.Image) or image.ndim != 2:
        return image
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Array = np.log10(image)
    return found


def _round_between(low: float, high: float) -> list[float]:
    """Return numbers to write beside a logarithmic scale, about equally far apart."""
    whole = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    inside: list[float] = []
    for digits in ((1, 2, 5), (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8), np.arange(1, 10, 0.2)):
        found = [float(digit) * 10.0**power for power in whole for digit in digits]
        inside = [one for one in found if low <= one <= high]
        if len(inside) >= 3:
            break
    return inside[:: 1 + len(inside) // 8]


def paint_points(
    places: ArrayLike, depth: ArrayLike, colours: ArrayLike, size: tuple[int, int], *, side: int = 2
) -> NDArray[np.uint8]:
    """Paint points as a camera sees them, the near ones over the far ones.

    Args:
        places: (P, 2), x and y in pixels, the centre of the top left pixel being (0.5, 0.5).
        depth: (P,) from the camera; points that are not in front of it are left out.
        colours: (P, 3) uint8.
        size: (width, height) of the picture.
        side: Each point covers so many pixels down and across.

    Returns:
        (height, width, 3) uint8; white where no point is.
    """
    width, height = size
    in_front = np.flatnonzero(np.asarray(depth) > 0)
    order = in_front[np.argsort(-np.asarray(depth)[in_front], kind="stable")]  # far to near
    place, colour = np.asarray(places)[order], np.asarray(colours)[order]
    steps = np.arange(side) - (side - 1) / 2
    down, across = np.meshgrid(steps, steps, indexing="ij")
    x = np.floor(place[:, :1] + across.ravel()).astype(int)  # (P, side ** 2)
    y = np.floor(place[:, 1:] + down.ravel()).astype(int)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    point, _ = np.nonzero(inside)
    canvas = np.full((height, width, 3), 255, np.uint8)
    canvas[y[inside], x[inside]] = colour[point]  # of several points the last one stays
    return canvas


def bars_beside(
    image: Picture,
    names: Sequence[str],
    values: Mapping[str, ArrayLike],
    *,
    xlabel: str = "",
    alt: str,
) -> Figure:
    """Draw a picture beside bars of values from 0 to 1, such as probabilities of names.

    Args:
        image: The picture.
        names: N of them, from top to bottom.
        values: One series (N,) for each label of the legend.
        xlabel: What the values are.
        alt: Alternative text.
    """
    blank = np.ones((4, 4, 3))
    figure = show_images([image, blank], alt=alt)
    with rc_context(STYLE):
        axes = figure.axes[1]
        axes.clear()
        axes.set_aspect("auto")
        height = 0.8 / len(values)
        for row, (label, series) in enumerate(values.items()):
            places = np.arange(len(names)) - 0.4 + (row + 0.5) * height
            axes.barh(places, series, height=0.95 * height, color=COLOURS[row], label=label)
        axes.set(yticks=range(len(names)), yticklabels=names, xlim=(0, 1), xlabel=xlabel)
        axes.invert_yaxis()
        figure.legend(loc="outside right upper")
    return figure


def text_card(text: str, *, size: int = 224) -> Image.Image:
    """Draw a text in the middle of a white square, to stand among pictures.

    Args:
        text: Of Latin letters; others have no shapes in the font that is always there.
        size: Side in pixels.
    """
    card = Image.new("RGB", (size, size), "white")
    lines = "\n".join(textwrap.wrap(text, 12))
    style: dict[str, Any] = {"anchor": "mm", "align": "center"}
    style["font"] = ImageFont.load_default(size // 7)
    ImageDraw.Draw(card).multiline_text((size / 2, size / 2), lines, "black", **style)
    return card


@rc_context(STYLE)
def joined(
    left: Picture,
    right: Picture,
    points_left: ArrayLike,
    points_right: ArrayLike,
    *,
    alt: str,
    right_ones: ArrayLike | None = None,
    title: str = "",
) -> Figure:
    """Draw two pictures side by side, with lines from points of one to points of the other.

    Args:
        left: A picture.
        right: Another one, as high as the first.
        points_left: (N, 2), x and y in pixels of the first.
        points_right: (N, 2), x and y in pixels of the second: row i belongs to row i.
        alt: Alternative text.
        right_ones: (N,) of bool: pairs that are right are blue, the others orange and dashed. None:
            nothing is known, and all are blue.
        title: Goes over the figure.

    Raises:
        ValueError: Pictures of different heights, or points that do not pair off.
    """
    first, second = _drawable([left, right])
    starts, ends = np.asarray(points_left, float), np.asarray(points_right, float)
    if len(first) != len(second):
        raise ValueError(f"pictures {len(first)} and {len(second)} pixels high: make them alike")
    if starts.shape != ends.shape or starts.shape[1:] != (2,):
        raise ValueError(f"points of shape {starts.shape} and {ends.shape}: both must be (N, 2)")
    known = np.ones(len(starts), bool) if right_ones is None else np.asarray(right_ones, bool)
    gap = np.full((len(first), 12, 3), 255, np.uint8)
    shift = first.shape[1] + gap.shape[1]
    figure = show_images([np.hstack([first, gap, second])], title=title, alt=alt)
    figure.set_size_inches(10, 10 * len(first) / (shift + second.shape[1]) + 0.4 * bool(title))
    for (x, y), (u, v), is_right in zip(starts, ends, known, strict=True):
        colour, dashes = (COLOURS[0], "-") if is_right else (COLOURS[1], "--")
        line = {"color": colour, "linestyle": dashes, "marker": "o", "mec": "white", "ms": 8}
        figure.axes[0].plot([x, u + shift], [y, v], **line)  # type: ignore[arg-type]
    return figure


@rc_context(STYLE)
def triangles(points: Mapping[str, ArrayLike], *, alt: str) -> Figure:
    """Draw three points of a plane each time, (3, 2) by name, as triangles with true angles."""
    figure, [row] = _figure(alt, 4 * len(points), 3.6, 1, len(points))
    for colour, marker, ax, (name, corners) in zip(
        COLOURS, MARKERS, row, points.items(), strict=False
    ):
        around = np.vstack([corners, np.asarray(corners)[:1]])
        ax.plot(*around.T, color=colour, marker=marker, markersize=12)
        ax.set(title=name, xticks=[], yticks=[])
        ax.set_aspect("equal", adjustable="datalim")
        ax.margins(0.2)
        _plain(ax.title)
    return figure


def overlay(image: Picture, heat: Array, *, limits: Limits = None) -> NDArray[np.uint8]:
    """Lay a map over a picture, darkened to grey so that every colour is the map's.

    The map is enlarged bilinearly and weighs 0.65; NaN leaves the picture bare. Give `limits` to
    compare pictures. They, and what is returned, are (H, W, 3) uint8 as arrays.
    """
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    low, high = _shared(limits, [heat])
    small = Image.fromarray(heat.astype(np.float32))
    large = np.asarray(small.resize(picture.size, Image.Resampling.BILINEAR))
    colours = colormaps["viridis"](np.clip((large - low) / ((high - low) or 1), 0, 1))[..., :3]
    grey = 0.75 * np.asarray(picture.convert("L"), dtype=float)[..., None]
    weight = np.where(np.isnan(large), 0, 0.65)[..., None]
    return np.round(weight * 255 * colours + (1 - weight) * grey).astype(np.uint8)


def pca_rgb(
    patches: Sequence[Array], *, n: int = 3, mask: Sequence[Array] | None = None
) -> list[NDArray[np.float32]]:
    """Turn patch features, (h, w, D) per picture, into colours, (h, w, n), by one PCA of them all.

    Colours go from 0 to 1 between the 1st and 99th percentile over all pictures. The sign of a
    component is free: its largest weight is made positive. A component in which nothing varies
    beyond rounding is 0.5. `mask`, (h, w) bool per picture, tells the patches to fit and colour;
    the others are white.
    """
    from sklearn.decomposition import PCA

    rows = np.concatenate([p.reshape(-1, p.shape[-1]) for p in patches]).astype(np.float64)
    keep = np.ones(len(rows), bool) if mask is None else np.concatenate([*map(np.ravel, mask)])
    with np.errstate(invalid="ignore"):  # where nothing varies, shares of the variance are 0 / 0
        pca = PCA(n, svd_solver="covariance_eigh").fit(rows[keep])
    weights = pca.components_[np.arange(n), np.abs(pca.components_).argmax(axis=1)]
    scores = pca.transform(rows) * np.sign(weights)
    low, high = np.percentile(scores[keep], (1, 99), axis=0)
    varies = high - low > ROUNDING * np.abs(rows[keep]).max()
    span = np.where(varies, high - low, 1)
    colours = np.where(varies, np.clip((scores - low) / span, 0, 1), 0.5)
    colours[~keep] = 1
    parts = np.split(colours.astype(np.float32), np.cumsum([p[..., 0].size for p in patches])[:-1])
    return [part.reshape(*p.shape[:2], n) for part, p in zip(parts, patches, strict=True)]


@rc_context(STYLE)
def curves(
    x: ArrayLike, series: Mapping[str, Any], *, alt: str, level: Level = None, **axes: Any
) -> Figure:
    """Draw lines over x, (X,), with their spread.

    `series` maps names to draws (draws, X), shown as their mean and a band from the 10th to the
    90th percentile, NaN ignored; or to a tuple (middle, low, high) of (X,). `level` is where to
    draw a dashed line, and its name: chance, a baseline.
    """
    figure, [[ax]] = _figure(alt, 9, 4.6)
    for i, (name, values) in enumerate(series.items()):
        if not isinstance(values, tuple):
            values = (np.nanmean(values, axis=0), *np.nanpercentile(values, (10, 90), axis=0))
        middle, low, high = values
        colour = COLOURS[i % len(COLOURS)]
        ax.plot(x, middle, marker=MARKERS[i % len(MARKERS)], label=name, color=colour)
        ax.fill_between(x, low, high, alpha=0.18, linewidth=0, color=colour)
    if level:
        ax.axhline(level[0], color=GREY, ls="--", lw=1.5, label=level[1])
    ax.set(**axes)
    ax.grid(color="#dddddd")
    names = figure.legend(loc="outside right upper")
    _plain(ax.title, ax.xaxis.label, ax.yaxis.label, *names.get_texts())
    return figure


@rc_context(STYLE)
def intervals(
    rows: Mapping[str, tuple[float, float, float]], *, alt: str, level: Level = None, **axes: Any
) -> Figure:
    """Draw values with their intervals, (value, low, high) by name, from top to bottom.

    `level` is where to draw a dashed line, and its name: chance, a baseline.
    """
    figure, [[ax]] = _figure(alt, 9, 1.2 + 0.42 * len(rows))
    for place, (value, low, high) in enumerate(rows.values()):
        ax.plot([low, high], [place, place], color=COLOURS[0])
        ax.plot(value, place, color=COLOURS[0], marker="o", markersize=9)
    if level:
        ax.axvline(level[0], color=GREY, ls="--", lw=1.5, label=level[1])
        _plain(*figure.legend(loc="outside right upper").get_texts())
    names = [_shown(name) for name in rows]
    ax.set_yticks(range(len(names)), names, parse_math=False)
    ax.set(**axes)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(color="#dddddd", axis="x")
    _plain(ax.title, ax.xaxis.label, ax.yaxis.label)
    return figure


@rc_context(STYLE)
def heatmap(
    matrix: ArrayLike,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    alt: str,
    number: str = ".2f",
    limits: Limits = None,
    **axes: Any,
) -> Figure:
    """Draw a table (R, C) as colours, such as a confusion matrix; NaN stays empty.

    `rows` and `columns` are names. `number` formats the numbers (".2f", ".0%", "d"); "" hides them.
    A title that is wider than the table is broken into lines.
    """
    matrix = np.asarray(matrix)
    low, high = _shared(limits, [matrix])
    width = max(2.4 + 0.55 * matrix.shape[1], 5)
    if "title" in axes:
        room = width - 0.1 * max(len(_shown(text)) for text in rows)  # inches beside the names
        letters = max(16, int(10 * room))
        parts = [textwrap.fill(part, letters) for part in _shown(axes["title"]).split("\n")]
        axes["title"] = "\n".join(parts)
    lines = axes.get("title", "").count("\n")
    height = 1.8 + 0.4 * matrix.shape[0] + 0.25 * lines
    figure, [[ax]] = _figure(alt, width, height)
    ax.imshow(matrix, cmap="cividis", vmin=low, vmax=high, aspect="auto")
    ax.spines[:].set_visible(False)
    rows, columns = [_shown(text) for text in rows], [_shown(text) for text in columns]
    ax.set_yticks(range(len(rows)), rows, parse_math=False)
    slant = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    long = max(map(len, columns)) > 5
    ax.set_xticks(range(len(columns)), columns, parse_math=False, **(slant if long else {}))
    ax.set(**axes)
    _plain(ax.title, ax.xaxis.label, ax.yaxis.label)
    for (r, c), value in np.ndenumerate(matrix):
        if number and np.isfinite(value):
            colour = "black" if value > (low + high) / 2 else "white"
            ax.text(c, r, format(value, number), ha="center", va="center", color=colour, size=11)
    return figure
