"""Functions of notebook 01, lifted out of its text."""

import numpy as np
import pytest
from matplotlib import rcParams
from matplotlib.colors import to_hex
from matplotlib.offsetbox import AnnotationBbox
from PIL import Image

from dinov2_helpers import plotting
from tools import pairing
from tools.lift import lift
from tools.project import Project

RNG = np.random.default_rng(0)
XY = RNG.normal(size=(40, 2))
NAMES = np.array([f"class {i % 16}" for i in range(40)])


@pytest.fixture(scope="module")
def notebook():
    return lift(pairing.read_source(Project(), "01_feature_space"), "draw_maps", "add_pictures")


def test_maps_name_every_class_by_a_look_of_its_own(notebook):
    before = dict(rcParams)
    figure = notebook["draw_maps"]({"PCA": XY, "t-SNE": XY}, NAMES, "two maps", "class")
    assert dict(rcParams) == before
    assert figure.get_label() == "two maps"
    assert [ax.get_title() for ax in figure.axes] == ["PCA", "t-SNE"]
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == sorted(set(NAMES))
    looks = {
        (to_hex(points.get_facecolor()[0]), points.get_paths()[0].vertices.tobytes())
        for points in figure.axes[0].collections
    }
    assert len(looks) == 16


def test_pictures_are_far_apart_and_framed_in_their_colours(notebook):
    class Scenes:
        def image(self, i):
            return Image.new("RGB", (32, 32))

    labels = np.array(["a"] * 20 + ["b"] * 20)
    crowd = np.vstack([RNG.normal(size=(36, 2)) / 100, [[9, 9], [-9, 9], [9, -9], [-9, -9]]])
    figure = notebook["draw_maps"]({"": crowd}, labels, "a map", "class")
    notebook["add_pictures"](figure.axes[0], crowd, Scenes(), labels, n=5)
    boxes = [a for a in figure.axes[0].artists if isinstance(a, AnnotationBbox)]
    drawn = {tuple(box.xy) for box in boxes}
    assert len(drawn) == 5 and drawn >= {(9, 9), (-9, 9), (9, -9), (-9, -9)}
    for box in boxes:
        label = labels[(crowd == box.xy).all(axis=1)][0]
        frame = to_hex(box.patch.get_edgecolor()).upper()
        assert frame == plotting.COLOURS[["a", "b"].index(label)]
