import base64
import io

import ipywidgets
import nbformat
import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from nbconvert import HTMLExporter
from PIL import Image

from dinov2_helpers import plotting
from dinov2_helpers.samples import Scenes
from dinov2_helpers.widgets import Explorer
from tools import pairing
from tools.lift import lift
from tools.project import Project

VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(scope="module")
def lesson():
    """What draws for the explorers of lesson 1; what they draw is set by each test."""
    return lift(pairing.read_source(Project(), "01_feature_space"), "neighbours_of", "alike")


@pytest.fixture
def scenes(tmp_path):
    """Five plain pictures, each with a grey value of its own."""
    table = []
    for i in range(5):
        Image.new("RGB", (56, 56), (40 * i,) * 3).save(tmp_path / f"{i}.png")
        table.append({"file_name": f"{i}.png", "objects": []})
    return Scenes(tmp_path, table)


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
    before = explorer.picture.value
    explorer.controls["picture"].value = 3
    after = explorer.picture.value
    assert before != after and Image.open(io.BytesIO(after)).format == "PNG"


def test_controls_have_names_and_report_when_done():
    controls = {
        "query": ipywidgets.IntSlider(),
        "words": ipywidgets.Text(description="Search for"),
        "model": ipywidgets.Dropdown(options=["a", "b"]),
    }
    explorer = Explorer(lambda **_: plotting.show_images([np.eye(3)], alt="identity"), **controls)
    labels = [control.description for control in explorer.children[:3]]
    assert labels == ["query", "Search for", "model"]
    assert not controls["query"].continuous_update and not controls["words"].continuous_update


def test_labels_are_not_cut_and_the_picture_is_not_enlarged(explorer):
    assert explorer.controls["picture"].style.description_width == "initial"
    assert explorer.picture.layout.align_self == "flex-start"
    assert explorer.picture.layout.max_width == "100%"


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
    before = explorer.picture.value
    with pytest.raises(ValueError, match="there is no"):
        explorer.controls["n"].value = 2
    assert explorer.picture.value == before
    assert "Not drawn" in explorer.message.value
    assert "ValueError: there is no &lt;2&gt;" in explorer.message.value
    explorer.controls["n"].value = 3
    assert "Not drawn" not in explorer.message.value
    assert "picture 3" in explorer.message.value


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
    patch, match = lesson["alike"](row=1, column=3).axes[:2]
    corners = patch.lines[0].get_xydata()  # a patch is 14 pixels wide, a pixel one
    assert corners.min(0) == pytest.approx([3 * 14, 14], abs=0.5)
    assert corners.max(0) == pytest.approx([4 * 14, 2 * 14], abs=0.5)
    assert match.get_title() == "cosine, at most 1.00"


def test_readers_without_a_kernel_see_the_first_picture(explorer):
    data, metadata = explorer._repr_mimebundle_()
    (media,) = metadata
    assert VIEW in data and base64.b64decode(data[media]) == explorer.picture.value
    output = nbformat.v4.new_output("display_data", data, metadata=metadata)
    cell = nbformat.v4.new_code_cell("", outputs=[output])
    page, _ = HTMLExporter(template_name="basic").from_notebook_node(
        nbformat.v4.new_notebook(cells=[cell])
    )
    assert 'alt="Test picture 0 and its seven nearest neighbours' in page and data[media] in page


def test_the_picture_is_part_of_the_output_with_ipywidgets_7_too(explorer, monkeypatch):
    # there, a widget has no _repr_mimebundle_ but displays itself
    monkeypatch.delattr(ipywidgets.Widget, "_repr_mimebundle_")
    displayed = []
    monkeypatch.setattr(ipywidgets.Widget, "_ipython_display_", displayed.append, raising=False)
    formatter = InteractiveShell.instance().display_formatter
    data, metadata = formatter.format(explorer)
    assert not displayed
    assert data[VIEW]["model_id"] == explorer.model_id
    (media,) = metadata
    assert base64.b64decode(data[media]) == explorer.picture.value
