"""Functions of notebook 01, lifted out of its text."""

import re
from dataclasses import replace

import numpy as np
import pytest
from matplotlib import rcParams
from matplotlib.colors import to_hex
from matplotlib.offsetbox import AnnotationBbox
from PIL import Image

from dinov2_helpers import extract_features, plotting, samples
from tools import pairing
from tools.checks import exercises
from tools.lift import lift
from tools.project import Project

RNG = np.random.default_rng(0)
XY = RNG.normal(size=(40, 2))
NAMES = np.array([f"class {i % 16}" for i in range(40)])


@pytest.fixture(scope="module")
def notebook():
    source = pairing.read_source(Project(), "01_feature_space")
    return lift(source, "draw_maps", "add_pictures", "most_alike", "toy_patches")


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


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ([], "two or more pictures are needed, not 0"),
        (["a"], "two or more pictures are needed, not 1"),
        (["a", "b"], "a and b, -1.00"),
        (["a", "b", "c"], "a and c, 0.00"),
    ],
)
def test_most_alike_takes_two(notebook, names, wanted):
    vectors = np.array([[1.0, 0], [-1, 0], [0, 2]])[: len(names)]
    assert notebook["most_alike"](names, vectors) == f"Most alike: {wanted}"


@pytest.fixture(scope="module")
def take_the_ground_away():
    """The cells of exercise 2."""
    return exercises(pairing.read_source(Project(), "01_feature_space"))[2]


def test_the_way_to_use_exercise_2_works(notebook, take_the_ground_away, dinov2):
    text = take_the_ground_away["solution"].source
    solution, use = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    test = samples.load_scenes("test")
    namespace = {
        **notebook,
        "extract_features": extract_features,
        "dinov2": dinov2,
        "test": replace(test, table=test.table[:4]),
    }
    exec(solution + use, namespace)
    means = namespace["toy_means"]
    assert np.isfinite(means).all()
    assert np.abs(means - namespace["patches"].mean((1, 2))).max() > 0.1


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        ("(patches * masks[..., None]).mean((1, 2))", "number of patches of the toy"),
        ("np.stack([patches[masks].mean(0)] * len(patches))", "its own mean"),
        ("patches[masks]", "one vector for each picture"),
        ("patches.mean((1, 2))", "is right, not"),
    ],
)
def test_classic_wrong_answers_to_exercise_2_get_a_hint(take_the_ground_away, answer, hint):
    code = f"def masked_mean(patches, masks):\n    return {answer}\n"
    with pytest.raises(AssertionError, match=hint):
        exec(code + take_the_ground_away["check"].source, {"np": np})
