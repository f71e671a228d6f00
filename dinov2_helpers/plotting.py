"""Every figure of the series: readable from the back of a room, and by colour-blind readers.

Functions that draw take the figure's alternative text, `alt`, and return a matplotlib `Figure` that
pyplot knows nothing about: it appears in a notebook only where `show` puts it. Pictures are PIL, or
arrays (H, W, 3) of uint8 or of floats in 0..1; a map is an array (H, W). `limits` are the values of
a colour map's first and last colour; None takes the extremes of all maps in the figure. `**axes`
goes to matplotlib's `Axes.set`: xlabel, ylabel, title, xlim, ylim...
"""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from IPython.display import display
from matplotlib import colormaps, rc_context
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from PIL import Image

Array = NDArray[Any]
Picture = Image.Image | Array
Limits = tuple[float, float] | None
Level = tuple[float, str] | None

# Okabe and Ito (2008), "Color Universal Design"; yellow, faint on white, is left out.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX*"
GREY = "#777777"
STYLE: dict[Any, Any] = {
    "font.size": 13,
    "axes.titlesize": 13,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 2.5,
}


def _figure(alt: str, width: float, height: float, *grid: int) -> tuple[Figure, Array]:
    """Return a figure of so many inches, labelled with its alternative text, and its axes."""
    if not alt.strip():
        raise ValueError("alt: describe the figure for those who cannot see it")
    figure = Figure(figsize=(width, height), layout="constrained", label=alt)
    return figure, figure.subplots(*grid, squeeze=False)


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
    text = alt or str(figure.get_label())
    if not text:
        raise ValueError("alt: describe the figure for those who cannot see it")
    media, content = encode(figure)
    return {media: content, "text/plain": text}, {media: {"alt": text}}


def show(figure: Figure, alt: str = "") -> None:
    """Display a figure in the notebook with its alternative text, as `bundle` makes it."""
    data, metadata = bundle(figure, alt)
    display(data, metadata=metadata, raw=True)


def _shared(limits: Limits, maps: Sequence[Array]) -> tuple[float, float]:
    values = np.concatenate([[], *(m[np.isfinite(m)] for m in maps)])
    return limits or ((values.min(), values.max()) if values.size else (0.0, 1.0))


@rc_context(STYLE)
def show_images(
    images: Sequence[Picture],
    *,
    alt: str,
    titles: Sequence[str] = (),
    title: str = "",
    columns: int = 8,
    limits: Limits = None,
    bar: str = "",
) -> Figure:
    """Draw pictures and maps in rows of at most `columns`; all maps share their limits.

    `titles` go over each of them, `title` over all; `bar` labels a colour bar of the maps.
    """
    arrays = [np.asarray(image) for image in images]
    low, high = _shared(limits, [array for array in arrays if array.ndim == 2])
    columns = min(len(arrays), columns)
    rows = math.ceil(len(arrays) / columns)
    side = min(3.6, 12 / columns)
    ratio = max(array.shape[0] / array.shape[1] for array in arrays)
    lines = max((text.count("\n") + 1.2 for text in titles), default=0)
    height = rows * (side * ratio + 0.25 * lines) + (0.4 if title else 0)
    figure, axes = _figure(alt, columns * side + (0.9 if bar else 0), height, rows, columns)
    figure.suptitle(title)
    for ax in axes.flat:
        ax.axis("off")
    for ax, array, text in zip(axes.flat, arrays, [*titles, *[""] * len(arrays)], strict=False):
        drawn = ax.imshow(array, cmap="viridis", vmin=low, vmax=high)
        ax.set_title(text)
        if array.ndim == 2:
            mapped = drawn
    if bar:
        figure.colorbar(mapped, ax=axes, label=bar, shrink=0.8)
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
    component is free: its largest weight is made positive. `mask`, (h, w) bool per picture, tells
    the patches to fit and colour; the others are white.
    """
    from sklearn.decomposition import PCA

    rows = np.concatenate([p.reshape(-1, p.shape[-1]) for p in patches]).astype(np.float64)
    keep = np.ones(len(rows), bool) if mask is None else np.concatenate([*map(np.ravel, mask)])
    pca = PCA(n, svd_solver="covariance_eigh").fit(rows[keep])
    weights = pca.components_[np.arange(n), np.abs(pca.components_).argmax(axis=1)]
    scores = pca.transform(rows) * np.sign(weights)
    low, high = np.percentile(scores[keep], (1, 99), axis=0)
    colours = np.clip((scores - low) / (high - low), 0, 1)
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
    figure.legend(loc="outside right upper")
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
    """
    matrix = np.asarray(matrix)
    low, high = _shared(limits, [matrix])
    width, height = 2.4 + 0.55 * matrix.shape[1], 1.8 + 0.4 * matrix.shape[0]
    figure, [[ax]] = _figure(alt, max(width, 5), height)
    ax.imshow(matrix, cmap="cividis", vmin=low, vmax=high, aspect="auto")
    ax.spines[:].set_visible(False)
    ax.set_yticks(range(len(rows)), rows)
    slant = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    ax.set_xticks(range(len(columns)), columns, **(slant if max(map(len, columns)) > 5 else {}))
    ax.set(**axes)
    for (r, c), value in np.ndenumerate(matrix):
        if number and np.isfinite(value):
            colour = "black" if value > (low + high) / 2 else "white"
            ax.text(c, r, format(value, number), ha="center", va="center", color=colour, size=11)
    return figure
