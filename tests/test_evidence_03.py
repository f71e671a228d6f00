"""Functions of the evidence on segmentation, lifted out of its text."""

import numpy as np
import pytest
import torch
from PIL import Image

from dinov2_helpers import extract_features, load_dinov2, to_pixels
from dinov2_helpers.measure import Interval
from dinov2_helpers.models import anatomy_of
from tools import pairing
from tools.lift import lift
from tools.project import Project


@pytest.fixture(scope="module")
def evidence():
    source = pairing.read_source(Project(), "evidence/03_semantic_segmentation")
    dinov2 = load_dinov2("tiny", device="cpu")
    return lift(
        source,
        "low_level",
        "far_from_border",
        "article_map",
        "without_head",
        "article_verdict",
        "look_inside",
        "tip_outcome",
        "tip_verdict",
        "outliers",
        "states_of",
        "facets_of",
        "mixed_cut",
        "behind_features",
        "absent",
        "FUSE",
        given={"dinov2": dinov2, "parts": anatomy_of(dinov2.model)},
    )


def around(value, half_width=0.01):
    return Interval(value, value - half_width, value + half_width)


# Verdicts


@pytest.mark.parametrize(
    ("over_blind", "over_no_network", "verdict"),
    [
        (0.3, 0.1, "holds"),
        (0.3, 0.0, "holds in part"),
        (0.3, -0.2, "holds in part"),
        (0.0, -0.2, "does not hold"),
        (-0.1, -0.3, "does not hold"),
    ],
)
def test_a_map_must_beat_what_does_not_look(evidence, over_blind, over_no_network, verdict):
    found = evidence["article_verdict"](around(over_blind), around(over_no_network))
    assert found == verdict


@pytest.mark.parametrize(
    ("area", "edge", "outcome"),
    [
        (around(0.1), around(0.0), 1),
        (around(0.0), around(0.1), 1),
        (around(0.1), around(-0.015, 0.004), 1),  # a fall, but certainly by less than 0.02
        (around(0.1), around(0.0, 0.03), 0),  # the other may have fallen by 0.02
        (around(0.015), around(0.0), 0),  # rises, too little
        (around(0.1), around(-0.025, 0.02), 0),
        (around(0.005), around(0.005), -1),  # neither is certain to rise
        (around(0.1), around(-0.1), -1),  # one certainly falls
        (around(-0.1), around(-0.1), -1),
    ],
)
def test_what_a_tip_brings(evidence, area, edge, outcome):
    assert evidence["tip_outcome"](area, edge) == outcome


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        ([1, 1], "holds"),
        ([1], "holds"),
        ([1, 0], "holds in part"),
        ([1, -1], "holds in part"),
        ([0], "holds in part"),
        ([-1, -1], "does not hold"),
    ],
)
def test_a_tip_holds_where_it_always_gains(evidence, outcomes, verdict):
    assert evidence["tip_verdict"](outcomes) == verdict


# What knows nothing


def test_what_is_far_from_the_border_by_colour(evidence):
    values = np.zeros((6, 6, 3))
    values[2:4, 2:4] = [0, 3, 4]
    expected = np.zeros((6, 6))
    expected[2:4, 2:4] = 5
    for nearest in (5, None):
        found = evidence["far_from_border"](values, nearest)
        np.testing.assert_allclose(found, expected)
    values[0, :5] = [0, 3, 4]  # the colour occurs at the border five times
    assert evidence["far_from_border"](values, 5)[2, 2] == 0
    assert evidence["far_from_border"](values, 6)[2, 2] == pytest.approx(5 / 6)


def test_colour_and_texture_of_flat_cells(evidence):
    picture = np.zeros((1, 224, 224, 3), np.uint8)
    picture[:, :112] = 255
    colour, texture = evidence["low_level"](picture)
    assert colour.shape == texture.shape == (1, 16, 16, 3)
    assert colour[0, 0, 0, 0] == pytest.approx(100 / 30, rel=1e-3) and colour[0, 15, 0, 0] == 0
    np.testing.assert_allclose(texture, 0, atol=1e-6)


def test_likeness_in_values_moves_the_cut(evidence):
    evidence["tau"] = 0.4
    random = np.random.default_rng(0)
    patches = 0.05 * random.normal(size=(8, 8, 16)) + 1  # all alike
    values = np.zeros((8, 8, 3))
    values[3:6, 3:6] = 4
    found = evidence["mixed_cut"](patches, values, 0.7)
    assert ((found > 0) == (values[..., 0] > 0)).all()


def test_low_level_features_stand_behind_unit_patches(evidence):
    patches = np.full((1, 2, 2, 4), 3.0)
    found = evidence["behind_features"](patches, np.ones((1, 2, 2, 2)), 0.1)
    np.testing.assert_allclose(found[0, 0, 0], [0.5] * 4 + [0.1] * 2, atol=1e-6)


def test_a_wrong_name_is_of_a_class_that_is_not_there(evidence):
    for i in range(40):
        assert evidence["absent"](np.array([3, 7]), i) not in (3, 7)
    assert len({evidence["absent"](np.array([3, 7]), i) for i in range(40)}) == 14


# The article's map, attention, facets


@pytest.fixture(scope="module", params=["dinov2_folder", "registers_folder"])
def eager(request):
    folder = request.getfixturevalue(request.param)
    return load_dinov2(folder, device="cpu", attention="eager")


@pytest.fixture(scope="module")
def pictures():
    noise = np.random.default_rng(0).integers(0, 255, size=(3, 56, 84, 3)).astype(np.uint8)
    return [Image.fromarray(one) for one in noise]


def test_the_articles_map_has_one_value_per_patch_and_cannot_be_14_by_14(evidence):
    tokens = np.random.default_rng(0).normal(size=(256, 192))
    found = evidence["article_map"](tokens)
    assert found.shape == (256,)
    assert found[3] == pytest.approx(np.mean([tokens[3, :64] @ one[:64] for one in tokens]))
    with pytest.raises(ValueError, match="cannot reshape"):
        found.reshape(14, 14)


def test_attention_is_read_at_the_patches_also_behind_registers(evidence, eager, pictures):
    attention, lengths = evidence["look_inside"](eager, pictures, batch=2)
    assert attention.shape == (3, eager.n_layers, eager.n_heads, 4, 6)
    last = extract_features(eager, pictures, size=None, fit="resize", attention=True).attention
    np.testing.assert_allclose(attention[:, -1], last, atol=1e-6)
    assert lengths.shape == (3, eager.n_layers, 4, 6) and (lengths > 0).all()


def test_silencing_a_head_changes_the_slice_and_the_rest(evidence, eager, pictures):
    pixels = torch.from_numpy(to_pixels(pictures[0], eager, size=56, fit="resize"))[None]
    whole = eager.model(pixel_values=pixels).last_hidden_state[0].detach().numpy()
    for head in range(eager.n_heads):
        change = np.abs(evidence["without_head"](eager, pixels, head) - whole)
        assert change[:, :12].max() > 1e-6 < change[:, 12:].max()
    again = eager.model(pixel_values=pixels).last_hidden_state[0].detach().numpy()
    np.testing.assert_array_equal(again, whole)


def test_all_facets_of_all_layers_from_one_pass(evidence, eager, pictures):
    states = evidence["states_of"](eager, pictures)
    facets = ["query", "key", "value"]
    for layer in range(eager.n_layers):
        found = evidence["facets_of"](eager, states, layer, (4, 6))
        expected = extract_features(
            eager, pictures, size=None, fit="resize", layers=[layer], facets=facets,
            facet_layer=layer,
        )  # fmt: skip
        for name, values in zip(facets, found, strict=False):
            np.testing.assert_allclose(values, expected.facets[name], atol=1e-5)
        np.testing.assert_allclose(found[3], expected.layers[layer].patches, atol=1e-5)


def test_outliers_are_counted_by_the_median(evidence):
    lengths = np.ones((2, 4, 4))
    lengths[0, 1, 1] = 10
    assert evidence["outliers"](lengths) == 1 / 32


def test_heads_that_must_agree(evidence):
    maps = np.array([[[[0.9, 0.2]], [[0.0, 0.2]]]])  # one picture, two heads
    agreed = evidence["FUSE"]["geometric mean"](maps)[0, 0]
    assert agreed[1] > agreed[0]
    assert evidence["FUSE"]["largest"](maps)[0, 0].tolist() == [0.9, 0.2]
