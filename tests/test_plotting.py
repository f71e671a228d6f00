import base64
import io
import json
import os
from pathlib import Path

import matplotlib
import nbformat
import numpy as np
import pytest
from bs4 import BeautifulSoup
from matplotlib import pyplot
from matplotlib.figure import Figure
from nbconvert import HTMLExporter
from PIL import Image

from dinov2_helpers import plotting

RNG = np.random.default_rng(0)
NOISE = [
    Image.fromarray(RNG.integers(0, 256, (32, 32, 3), np.uint8)).resize((224, 224))
    for _ in range(3)
]
ALT = 'A "quoted" description, with <angles>'

FIGURES = {
    "images": lambda alt: plotting.show_images([*NOISE, np.eye(4)], alt=alt, bar="value"),
    "curves": lambda alt: plotting.curves(range(9), {"a": RNG.random((5, 9))}, alt=alt),
    "intervals": lambda alt: plotting.intervals({"a $b": (0.5, 0.4, 0.7)}, level=(0, "c"), alt=alt),
    "depth": lambda alt: plotting.show_depth([NOISE[0], 1 + np.eye(4)], alt=alt),
    "heatmap": lambda alt: plotting.heatmap(np.eye(2), ["a", "b"], ["c", "d"], alt=alt),
    "bars": lambda alt: plotting.bars_beside(NOISE[0], ["a", "b"], {"p": [0.2, 0.8]}, alt=alt),
    "pairs": lambda alt: plotting.joined(NOISE[0], NOISE[1], [[5, 5]], [[9, 9]], alt=alt),
    "triangles": lambda alt: plotting.triangles({"a": np.eye(3)[:, :2]}, alt=alt),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_carries_its_alternative_text_and_leaves_no_trace(name):
    before = dict(matplotlib.rcParams)
    figure = FIGURES[name](ALT)
    data, metadata = plotting.bundle(figure)
    (media,) = metadata
    assert data["text/plain"] == ALT and metadata == {media: {"alt": ALT}}
    assert len(data[media]) <= 250_000
    assert dict(matplotlib.rcParams) == before
    assert pyplot.get_fignums() == []  # or a notebook would show it twice
    with pytest.raises(ValueError, match="alt"):
        FIGURES[name](" ")


@pytest.mark.parametrize(("name", "media"), [("heatmap", "image/png"), ("images", "image/jpeg")])
def test_the_text_reaches_the_page_that_nbconvert_makes(monkeypatch, name, media):
    # "basic" is the template of build/index.html; "lab" knows no alternative text (nbconvert 7.17)
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda *args, **kw: shown.append((args, kw)))
    plotting.show(FIGURES[name](ALT))
    [([data], options)] = shown
    assert options.pop("raw") is True
    data[media] = base64.b64encode(data[media]).decode()
    output = nbformat.v4.new_output("display_data", data, **options)
    cell = nbformat.v4.new_code_cell("", outputs=[output])
    page, _ = HTMLExporter(template_name="basic").from_notebook_node(
        nbformat.v4.new_notebook(cells=[cell])
    )
    assert BeautifulSoup(page, "html.parser").img["alt"] == ALT


def test_a_figure_of_ones_own_needs_a_text():
    with pytest.raises(ValueError, match="alt"):
        plotting.bundle(Figure())
    assert plotting.bundle(Figure(), "nothing")[1] == {"image/png": {"alt": "nothing"}}


def test_lines_are_png_and_large_pictures_jpeg_of_the_same_size():
    assert plotting.encode(FIGURES["curves"](ALT))[0] == "image/png"
    figure = plotting.show_images(NOISE, alt=ALT)
    media, content = plotting.encode(figure)
    figure.savefig(png := io.BytesIO(), dpi=100)
    picture = Image.open(io.BytesIO(content))
    assert (media, picture.format) == ("image/jpeg", "JPEG")
    assert picture.size == Image.open(png).size
    assert len(content) < len(png.getvalue())


def test_maps_share_their_limits_and_pictures_keep_their_colours():
    maps = [np.full((4, 4), 2.0), np.array([[-1.0, np.nan], [3.0, 0.0]])]
    figure = plotting.show_images([NOISE[0], *maps], alt=ALT, bar="metres")
    drawn = [ax.images[0] for ax in figure.axes[:3]]
    assert [image.get_clim() for image in drawn[1:]] == [(-1, 3), (-1, 3)]
    np.testing.assert_array_equal(drawn[0].get_array(), np.asarray(NOISE[0]))
    assert figure.axes[3].get_ylabel() == "metres"
    given = plotting.show_images(maps, alt=ALT, limits=(0, 1))
    assert given.axes[0].images[0].get_clim() == (0, 1)


def test_overlay_shows_the_map_in_its_own_colours():
    heat = np.array([[0.0, 0.0], [1.0, 1.0]])
    laid = plotting.overlay(Image.new("RGB", (224, 224)), heat, limits=(0, 2))
    assert laid.shape == (224, 224, 3) and laid.dtype == np.uint8
    viridis = matplotlib.colormaps["viridis"]
    np.testing.assert_allclose(laid[0, 0], 0.65 * np.array(viridis(0.0)[:3]) * 255, atol=1)
    np.testing.assert_allclose(laid[-1, -1], 0.65 * np.array(viridis(0.5)[:3]) * 255, atol=1)


def test_overlay_leaves_the_picture_bare_where_there_is_no_value():
    bare = plotting.overlay(np.asarray(NOISE[0]), np.full((16, 16), np.nan))
    np.testing.assert_allclose(bare[..., 0], 0.75 * np.asarray(NOISE[0].convert("L")), atol=1)
    half = plotting.overlay(NOISE[0], np.array([[np.nan, 1.0]]))
    assert (half[:, 0] == half[:, 0, :1]).all() and not (half[:, -1] == half[:, -1, :1]).all()


def test_pca_colours_are_joint_and_do_not_flip():
    patches = [RNG.normal(size=(5, 7, 12)) * np.linspace(3, 1, 12) for _ in range(3)]
    colours = plotting.pca_rgb(patches)
    assert [c.shape for c in colours] == [(5, 7, 3)] * 3
    assert min(c.min() for c in colours) == 0 and max(c.max() for c in colours) == 1
    for same, colour in zip(plotting.pca_rgb(patches[::-1])[::-1], colours, strict=True):
        np.testing.assert_allclose(same, colour, atol=1e-4)
    # a picture that occurs twice gets the same colours twice
    first, _, third = plotting.pca_rgb([patches[0], patches[1], patches[0]])
    np.testing.assert_array_equal(first, third)


def test_pca_orders_patches_along_the_direction_of_most_variance():
    along = np.linspace(-1, 1, 24).reshape(4, 6, 1)
    patches = along * np.array([0.1, 0.9, -0.4]) + RNG.normal(size=(4, 6, 3)) * 1e-3
    [colour] = plotting.pca_rgb([patches], n=1)
    # its largest weight is positive, so the component grows with the second feature
    assert np.corrcoef(colour.ravel(), along.ravel())[0, 1] > 0.99


def test_pca_ignores_patches_outside_the_mask():
    patches = RNG.normal(size=(4, 4, 6))
    mask = np.zeros((4, 4), bool)
    mask[:2] = True
    far = patches.copy()
    far[2:] *= 1000
    [colour], [again] = (plotting.pca_rgb([p], mask=[mask]) for p in (patches, far))
    np.testing.assert_array_equal(colour, again)
    assert (colour[2:] == 1).all() and not (colour[:2] == 1).all()


def test_curves_draw_mean_and_percentiles_of_the_draws():
    draws = RNG.random((50, 4))
    draws[:25, 0] = np.nan
    figure = plotting.curves(range(4), {"a": draws}, alt=ALT, xlabel="degrees", ylim=(0, 1))
    ax = figure.axes[0]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), np.nanmean(draws, 0))
    band = ax.collections[0].get_datalim(ax.transData)
    low, high = np.nanpercentile(draws, (10, 90), axis=0)
    assert (band.y0, band.y1) == pytest.approx((low.min(), high.max()))
    assert ax.get_xlabel() == "degrees" and ax.get_ylim() == (0, 1)


def test_curves_draw_a_given_spread():
    figure = plotting.curves([0, 1], {"a": ([1, 2], [0, 1], [5, 6])}, alt=ALT, level=(3, "chance"))
    ax = figure.axes[0]
    assert list(ax.lines[0].get_ydata()) == [1, 2] and list(ax.lines[1].get_ydata()) == [3, 3]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "chance"]


def test_a_long_title_of_a_heatmap_stays_in_the_picture():
    title = "change of the cosine against the same seeds unguided"
    rows = ["guided", "target, shuffled"]
    figure = plotting.heatmap(np.eye(2), rows, ["a", "b"], alt=ALT, title=title)
    figure.savefig(io.BytesIO())  # puts everything in its place
    written = figure.axes[0].title
    assert written.get_text().replace("\n", " ") == title
    extent = written.get_window_extent()
    assert extent.x0 >= 0
    assert extent.x1 <= figure.bbox.width
    assert extent.y1 <= figure.bbox.height


def test_heatmap_writes_readable_numbers_and_leaves_gaps():
    figure = plotting.heatmap([[0.0, 1.0], [np.nan, 0.25]], ["a", "b"], ["c", "d"], alt=ALT)
    texts = figure.axes[0].texts
    assert {t.get_position(): t.get_text() for t in texts} == {
        (0, 0): "0.00",
        (1, 0): "1.00",
        (1, 1): "0.25",
    }
    assert [t.get_color() for t in texts] == ["white", "black", "white"]


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "RGBA", "LA", "I;16", "F", "HSV"])
def test_pictures_are_drawn_as_they_look_whatever_their_mode(mode):
    grey = Image.fromarray(np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1)))
    deep = np.asarray(grey).astype(float)
    made = {"I;16": (deep * 257).astype(np.uint16), "F": (deep / 255).astype(np.float32)}
    image = Image.fromarray(made[mode]) if mode in made else grey.convert("RGB").convert(mode)
    if mode == "P":
        image = grey.quantize(64)
    heat = np.linspace(0, 0.1, 16).reshape(4, 4)
    figure = plotting.show_images([image, heat], alt=ALT)
    drawn = figure.axes[0].images[0].get_array()
    assert drawn.shape == (64, 64, 3) and drawn.dtype == np.uint8
    shades = np.asarray(grey.convert("1") if mode == "1" else grey).astype(int)
    shades = shades * 255 if mode == "1" else shades
    assert np.abs(drawn[..., 0].astype(int) - shades).max() <= 2
    assert figure.axes[1].images[0].get_clim() == (0, 0.1)


def test_what_is_transparent_is_white():
    clear = Image.new("RGBA", (4, 4), (9, 9, 9, 0))
    drawn = plotting.show_images([clear], alt=ALT).axes[0].images[0].get_array()
    assert (drawn == 255).all()


@pytest.mark.parametrize("full", [False, True])
def test_a_mask_is_a_map_of_its_own_limits(full):
    mask = np.full((4, 4), full)
    figure = plotting.show_images([mask], alt=ALT, bar="flaw")
    assert figure.axes[0].images[0].get_clim() == (0, 1)
    plotting.encode(figure)


@pytest.mark.parametrize(
    ("images", "options", "reason"),
    [
        ([], {}, "0 pictures in 8 columns: there is nothing to show"),
        ([], {"columns": 6, "titles": ["a"]}, "there is nothing to show"),
        (NOISE, {"columns": 0}, "3 pictures in 0 columns"),
        (NOISE, {"bar": "metres"}, "bar='metres' is for maps"),
        ([np.zeros((3, 8, 8))], {}, r"images\[0\] has shape \(3, 8, 8\)"),
        ([NOISE[0], np.zeros(8)], {}, r"images\[1\] has shape \(8,\)"),
    ],
)
def test_what_cannot_be_shown_is_said(images, options, reason):
    with pytest.raises(ValueError, match=reason):
        plotting.show_images(images, alt=ALT, **options)


NAMES = {
    "price_$5_to_$9.png": "price_$5_to_$9.png",
    r"a$\b$.png": r"a$\b$.png",
    r"$\frac{1$": r"$\frac{1$",
    os.fsdecode(b"caf\xe9.png"): r"caf\xe9.png",
    "tab\there\x07": r"tab\there\x07",
    "two\nlines": "two\nlines",
    Path("a\nb.png"): r"a\nb.png",
}


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_names_of_files_are_drawn_as_they_are(name):
    text = str(name)
    shown = NAMES[name] if isinstance(name, str) else None
    heat = np.eye(2)
    figures = [
        plotting.show_images([NOISE[0], heat], alt=text, titles=[name], title=text, bar=text),
        plotting.curves([0, 1], {text: np.eye(2)}, alt=text, title=text, xlabel=text),
        plotting.heatmap(heat, [text] * 2, [text] * 2, alt=text, title=text, ylabel=text),
    ]
    assert figures[0].axes[0].get_title() == NAMES[name]
    for figure in figures:
        data, metadata = plotting.bundle(figure)
        assert shown is None or data["text/plain"] == shown
        json.dumps(metadata).encode()
        data["text/plain"].encode()
    if shown:
        axes = figures[2].axes[0]
        ticks = [label.get_text() for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
        assert ticks == [shown] * 4
        assert axes.get_title() == axes.get_ylabel() == shown
        assert figures[1].legends[0].get_texts()[0].get_text() == shown


def test_figures_are_not_disturbed_by_dollars_on_logarithmic_axes():
    figure = plotting.curves([1, 10], {"a": np.eye(2) + 1}, alt=ALT, xscale="log")
    plotting.encode(figure)
    assert any(label.get_parse_math() for label in figure.axes[0].get_xticklabels())


@pytest.mark.parametrize("columns", [3, 7])
@pytest.mark.parametrize("text", ["\u00c5", "\u00c5, two\nlines", "\u00c5\nthree\nlines"])
def test_titles_of_several_lines_are_not_cut(columns, text):
    options = {"titles": [text] * columns, "columns": columns}
    for title in ("", "\u00c5 heading\nof two lines"):
        figure = plotting.show_images([NOISE[0]] * columns, alt=ALT, title=title, **options)
        _, content = plotting.encode(figure)
        dark = np.asarray(Image.open(io.BytesIO(content)).convert("L")) < 200
        assert not dark[:2].any() and not dark[-2:].any()


def test_one_colour_alone_is_grey():
    same = np.full((3, 4, 8), 0.7, np.float32)
    for patches in ([same], [same, same], [np.zeros((3, 4, 8), np.float32)]):
        for colour in plotting.pca_rgb(patches):
            assert (colour == 0.5).all() and colour.dtype == np.float32
    # one direction varies: its colour does, the others do not
    varied = same + np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4, 1) * np.arange(8)
    [colour] = plotting.pca_rgb([varied])
    assert colour[..., 0].min() == 0 and colour[..., 0].max() == 1
    assert (colour[..., 1:] == 0.5).all()


def test_pairs_of_points_are_drawn_where_they_are():
    points = np.array([[10.0, 20.0], [100.0, 200.0]])
    figure = plotting.joined(*NOISE[:2], points, points + 1, right_ones=[True, False], alt=ALT)
    lines = figure.axes[0].lines
    shift = 224 + 12
    np.testing.assert_allclose(lines[0].get_xydata(), [[10, 20], [11 + shift, 21]])
    assert [line.get_linestyle() for line in lines] == ["-", "--"]
    with pytest.raises(ValueError, match=r"\(2, 2\) and \(1, 2\)"):
        plotting.joined(*NOISE[:2], points, points[:1], alt=ALT)
    with pytest.raises(ValueError, match="224 and 100 pixels high"):
        plotting.joined(NOISE[0], NOISE[1].crop((0, 0, 224, 100)), points, points, alt=ALT)


def test_bars_say_which_way_is_up():
    values = {"CLIP": [0.1, 0.7], "bridge": [0.4, 0.3]}
    figure = plotting.bars_beside(NOISE[0], ["dog", "cat"], values, xlabel="probability", alt=ALT)
    axes = figure.axes[1]
    low, high = axes.get_ylim()
    assert low > high  # the first name is at the top
    assert axes.get_xlim() == (0, 1)
    drawn = [[bar.get_width() for bar in group] for group in axes.containers]
    assert drawn == list(values.values())


@pytest.mark.parametrize(
    ("near", "far", "ticks"),
    [
        (0.8, 30, ["1", "2", "5", "10", "20"]),
        (2.2, 5, ["2.5", "3", "4", "5"]),
        (0.01, 1, ["0.01", "0.02"]),
    ],
)
def test_depth_has_a_bar_in_metres(near, far, ticks):
    depth = np.array([[near, far], [np.nan, near]])
    figure = plotting.show_depth([NOISE[0], depth], alt=ALT)
    bar = figure.axes[-1]
    assert [tick.get_text() for tick in bar.get_yticklabels()][: len(ticks)] == ticks
    np.testing.assert_allclose(bar.get_yticks()[0], np.log10(float(ticks[0])))
    assert bar.get_ylabel() == "metres"
    picture, drawn = (axes.images[0] for axes in figure.axes[:2])
    assert picture.get_array().ndim == 3
    np.testing.assert_allclose(drawn.get_clim(), np.log10([near, far]))
    brightness = drawn.cmap([0.0, 1.0])[:, :3].sum(axis=1)
    assert brightness[0] > brightness[1]  # near is bright


def test_depth_keeps_the_limits_that_it_is_given():
    figure = plotting.show_depth([np.eye(3) + 1], limits=(1, 100), unit="relative", alt=ALT)
    assert figure.axes[0].images[0].get_clim() == (0, 2)
    assert figure.axes[-1].get_ylabel() == "relative"
    with pytest.raises(ValueError, match="there are only pictures"):
        plotting.show_depth(NOISE, alt=ALT)


def test_near_points_are_painted_over_far_ones():
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    places = np.array([[1.5, 0.5], [1.5, 0.5], [0.5, 0.5]])
    for depth in ([1, 2, 3], [0.5, 9, 1]):
        drawn = plotting.paint_points(places, depth, colours, (3, 2), side=1)
        assert drawn.tolist()[0] == [[0, 0, 255], [255, 0, 0], [255, 255, 255]]
        assert (drawn[1] == 255).all()


def test_a_point_covers_some_pixels_and_none_behind_the_camera():
    colours = np.zeros((2, 3), np.uint8)
    drawn = plotting.paint_points([[2, 2], [0, 0]], [1, -1], colours, (4, 4), side=2)
    assert (drawn[1:3, 1:3] == 0).all()
    assert (drawn == 0).all(axis=2).sum() == 4
    outside = plotting.paint_points([[-9, 2], [9, 9]], [1, 1], colours, (4, 4))
    assert (outside == 255).all()


def test_errors_of_depth_are_red_where_the_answer_is_too_near():
    truth = np.array([[2.0, 2.0, 2.0, np.nan]])
    colours = plotting.depth_error([[1.0, 2.0, 4.0, 1.0]], truth)
    near, right, far, unknown = colours[0]
    assert near[0] > near[2] and far[2] > far[0]
    assert right.min() > 0.9 and (unknown == 1).all()
    gentle = plotting.depth_error([[1.0, 2.0, 4.0, 1.0]], truth, factor=8)[0, 0]
    assert gentle[1] > near[1]  # a larger factor is paler
