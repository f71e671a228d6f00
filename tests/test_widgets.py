import asyncio
import base64
import io

import ipywidgets
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from PIL import Image

from dinov2_helpers import ImageError, plotting
from dinov2_helpers.samples import Scenes
from dinov2_helpers.widgets import Explorer, Scratch, Spot
from dinov2_helpers.widgets import explorer as module
from tools import pairing
from tools.lift import lift
from tools.project import Project

VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(scope="module")
def lesson():
    """What draws for the explorers of lesson 1; what they draw is set by each test."""
    source = pairing.read_source(Project(), "01_feature_space")
    return lift(source, "neighbours_of", "alike", given={"PATCH": 14})


@pytest.fixture
def scenes(tmp_path):
    """Five plain pictures, each with a grey value of its own."""
    table = []
    for i in range(5):
        Image.new("RGB", (56, 56), (40 * i,) * 3).save(tmp_path / f"{i}.png")
        table.append({"file_name": f"{i}.png", "objects": []})
    return Scenes(tmp_path, table)


def picture_of(explorer):
    """The bytes of the picture that an explorer shows."""
    (media,) = explorer.metadata
    return explorer.data[media]


def values(figure):
    """The grey value in the middle of each picture of a figure."""
    return [int(ax.images[0].get_array()[20, 20].max()) for ax in figure.axes if ax.images]


@pytest.fixture
def explorer(scenes, lesson):
    """An explorer of five pictures, each of which has its own order of the same five."""
    angles = np.radians([0, 10, 90, 40, 170])
    similarity = np.cos(angles[:, None] - angles + np.radians(22))
    lesson.update(similarity=similarity, test=scenes, train=scenes)
    return Explorer(lesson["neighbours_of"], picture=ipywidgets.IntSlider(0, 0, 4))


def test_the_nearest_come_first_with_their_cosines(explorer):
    assert values(explorer.draw(picture=0)) == [0, 40, 120, 0, 80, 160]
    assert values(explorer.draw(picture=4)) == [160, 160, 80, 120, 0, 40]
    titles = [ax.get_title() for ax in explorer.draw(picture=0).axes]
    assert titles[:3] == ["chosen", "0.98", "0.95"]


def test_moving_a_control_draws_a_new_picture(explorer):
    before = picture_of(explorer)
    explorer.controls["picture"].value = 3
    after = picture_of(explorer)
    assert before != after and Image.open(io.BytesIO(after)).format == "PNG"


def test_controls_have_names_and_report_when_done():
    controls = {
        "query": ipywidgets.IntSlider(),
        "words": ipywidgets.Text(description="Search for"),
        "model": ipywidgets.Dropdown(options=["a", "b"]),
    }
    explorer = Explorer(lambda **_: plotting.show_images([np.eye(3)], alt="identity"), **controls)
    labels = [control.description for control in explorer.panel.children[:3]]
    assert labels == ["query", "Search for", "model"]
    assert not controls["query"].continuous_update


def test_labels_are_not_cut(explorer):
    assert explorer.controls["picture"].style.description_width == "initial"


def test_the_live_picture_has_its_alternative_text(explorer):
    assert "Test picture 0 and its seven" in explorer.message.value
    explorer.controls["picture"].value = 3
    assert "Test picture 3 and its seven" in explorer.message.value


def test_an_error_is_said_below_the_picture_until_one_is_drawn():
    def draw(n):
        if n == 2:
            raise ValueError("there is no <2>")
        return plotting.show_images([np.eye(3) * n], alt=f"picture {n}")

    explorer = Explorer(draw, n=ipywidgets.IntSlider(1))
    before = picture_of(explorer)
    with pytest.raises(ValueError, match="there is no"):
        explorer.controls["n"].value = 2
    assert picture_of(explorer) == before
    assert "Not drawn" in explorer.message.value
    assert "ValueError: there is no &lt;2&gt;" in explorer.message.value
    explorer.controls["n"].value = 3
    assert "Not drawn" not in explorer.message.value
    assert "picture 3" in explorer.message.value


def test_a_hint_that_raises_leaves_the_last_picture_too():
    def hint(n):
        if n == 2:
            raise ValueError("no hint")
        return "a hint"

    def draw(n):
        return plotting.show_images([np.eye(3) * n], alt=f"picture {n}")

    explorer = Explorer(draw, hint=hint, n=ipywidgets.IntSlider(1))
    before = picture_of(explorer)
    with pytest.raises(ValueError, match="no hint"):
        explorer.controls["n"].value = 2
    assert picture_of(explorer) == before  # what another display of it shows
    assert explorer.alt == "picture 1"
    assert "Not drawn" in explorer.message.value


def test_making_an_explorer_draws_once():
    calls = []

    def draw(**settings):
        calls.append(settings)
        return plotting.show_images([np.eye(3)], alt="identity")

    Explorer(draw, x=ipywidgets.IntSlider(2), y=ipywidgets.Dropdown(options=["a", "b"]))
    assert calls == [{"x": 2, "y": "a"}]


def test_the_patch_is_marked_and_the_cosine_to_the_best_match_is_said(lesson):
    first = np.eye(24).reshape(4, 6, 24)
    lesson["pair"] = np.stack([first, np.roll(first, (1, 2), axis=(0, 1)) * 7])
    lesson["view"] = Image.new("RGB", (84, 56), "red")
    lesson["next_view"] = Image.new("RGB", (84, 56), "blue")
    patch, match = lesson["alike"](place=[1, 3]).axes[:2]
    corners = patch.lines[0].get_xydata()  # a patch is 14 pixels wide, a pixel one
    assert corners.min(0) == pytest.approx([3 * 14, 14], abs=0.5)
    assert corners.max(0) == pytest.approx([4 * 14, 2 * 14], abs=0.5)
    assert match.get_title() == "cosine, at most 1.00"


def test_a_text_is_answered_once_while_it_is_typed(monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 0.05)
    drawn = []

    def draw(words):
        drawn.append(words)
        return plotting.show_images([np.eye(3)], alt=words or "nothing")

    explorer = Explorer(draw, words=ipywidgets.Text())

    async def typing():
        for letters in ("r", "re", "red"):
            explorer.controls["words"].value = letters
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)

    asyncio.run(typing())
    assert explorer.controls["words"].continuous_update
    assert drawn == ["", "red"] and explorer.alt == "red"


def test_a_hint_is_shown_as_long_as_there_is_one():
    explorer = Explorer(
        lambda words: plotting.show_images([np.eye(3)], alt="identity"),
        hint=lambda words: "what is <that>?" if "z" in words else "",
        words=ipywidgets.Text("mug"),
    )
    assert "<b>" not in explorer.message.value
    explorer.controls["words"].value = "zebra"
    assert "<b>what is &lt;that&gt;?</b>" in explorer.message.value
    explorer.controls["words"].value = "mug"
    assert "<b>" not in explorer.message.value


DISPLAYED = """
import ipywidgets, numpy
from dinov2_helpers import plotting
from dinov2_helpers.widgets import Explorer

slider = ipywidgets.IntSlider(1)
Explorer(lambda n: plotting.show_images([numpy.eye(3) * n], alt=f"picture {n}"), n=slider)
"""


def test_a_notebook_keeps_the_last_picture_as_an_output_of_its_own():
    cells = [nbformat.v4.new_code_cell(code) for code in (DISPLAYED, "slider.value = 5")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, kernel_name="python3").execute()
    controls, picture = notebook.cells[0].outputs
    assert VIEW in controls.data and VIEW not in picture.data
    assert picture.metadata == {"image/png": {"alt": "picture 5"}}
    assert Image.open(io.BytesIO(base64.b64decode(picture.data["image/png"]))).format == "PNG"
    notebook.cells[0].outputs = [picture]
    page, _ = HTMLExporter(template_name="basic").from_notebook_node(notebook)
    assert 'alt="picture 5"' in page


def test_a_spot_is_a_cell_of_its_grid():
    image = Image.new("RGB", (28, 14), "red")
    spot = Spot(image, value=(0, 1), grid=(1, 2))
    assert spot.value == [0, 1] and spot.size == [28, 14]
    head, content = spot.picture.split(",")
    assert head == "data:image/png;base64"
    assert Image.open(io.BytesIO(base64.b64decode(content))).getpixel((3, 3)) == (255, 0, 0)
    with pytest.raises(ValueError, match=r"value: \(1, 0\) is not in a grid of 1 x 2"):
        Spot(image, value=(1, 0), grid=(1, 2))


def test_pictures_to_point_at_are_seen_as_the_model_sees_them():
    lying = Image.new("RGB", (28, 14), "red")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    lying.save(file := io.BytesIO(), "PNG", exif=exif)
    assert Spot(Image.open(file)).size == [14, 28]
    grey = Spot(Image.fromarray(np.full((14, 28), 0x8000, np.uint16)))
    _, content = grey.picture.split(",")
    assert Image.open(io.BytesIO(base64.b64decode(content))).getpixel((3, 3)) == (128, 128, 128)
    assert Spot(np.full((14, 28, 1), 0.5)[..., 0]).size == [28, 14]
    for wrong in (np.full((14, 28, 3), 7.0), Image.new("RGB", (0, 5)), None):
        with pytest.raises(ImageError, match=r"^image: "):
            Spot(wrong)


@pytest.mark.parametrize(
    ("make", "value", "parts"),
    [
        (Spot, (1,), "row, column"),
        (Spot, (0, 0, 0), "row, column"),
        (Spot, (0.5, 0), "row, column"),
        (Spot, None, "row, column"),
        (Scratch, (1, 2, 3), "x, y, x, y"),
        (Scratch, (1, 2, 3, 4, 5, 6), "x, y, x, y"),
        (Scratch, (1.5, 2, 3, 4), "x, y, x, y"),
    ],
)
def test_what_is_no_place_on_a_picture_is_refused(make, value, parts):
    with pytest.raises(ValueError, match=rf"^value: .* is no \[{parts}\] of whole numbers"):
        make(Image.new("RGB", (28, 14)), value)


def test_places_may_be_numbers_of_numpy():
    image = Image.new("RGB", (28, 14))
    spot = Spot(image, np.unravel_index(5, (2, 4)), grid=np.array([2, 4]))
    assert (spot.value, spot.grid) == ([1, 1], [2, 4])
    assert Scratch(image, np.array([1, 2, 3, 4])).value == [1, 2, 3, 4]
    with pytest.raises(ValueError, match=r"grid: .* is no"):
        Spot(image, grid=(2, 2, 2))


def test_a_scratch_stays_in_its_picture():
    pixels = np.zeros((14, 28, 3), np.uint8)
    assert Scratch(pixels, value=(0, 0, 27, 13)).value == [0, 0, 27, 13]
    with pytest.raises(ValueError, match=r"value: .* leaves a picture of 28 x 14 pixels"):
        Scratch(pixels, value=(0, 0, 28, 13))


def test_an_explorer_draws_what_was_chosen_on_a_picture():
    seen = []

    def draw(place):
        seen.append(place)
        return plotting.show_images([np.eye(3)], alt="identity")

    spot = Spot(Image.new("RGB", (28, 28)), grid=(2, 2))
    Explorer(draw, place=spot)
    spot.value = [1, 0]
    assert seen == [[0, 0], [1, 0]]
    assert "arrow keys" in spot.description
