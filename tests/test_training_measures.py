"""Probes that score features, intervals of what is measured, and the modules that use them."""

import importlib
import pkgutil

import numpy as np
import pytest

import training
from training.dinov2 import probes
from training.intervals import flat, jackknife, shares, with_interval

RENDERED = "training.world."  # needs a renderer, as tests/test_world_*.py do


def test_every_module_of_the_trainings_can_be_imported():
    found = [one.name for one in pkgutil.walk_packages(training.__path__, "training.")]
    assert len(found) > 40
    for name in found:
        if not name.startswith(RENDERED):
            importlib.import_module(name)


def test_knn_names_what_lies_near():
    gallery = np.eye(2, dtype=np.float32).repeat(20, 0)
    labels = np.array(["dog", "cat"]).repeat(20)
    queries = np.array([[2, 0.1], [0.1, 1], [1, 0.2]], np.float32)
    hits = probes.knn_hits(gallery, labels, queries, np.array(["dog", "cat", "cat"]))
    assert hits.tolist() == [True, True, False]
    assert probes.knn_accuracy(gallery, labels, queries, np.array(["dog"] * 3)) == 2 / 3


@pytest.fixture(scope="module")
def maps():
    """Masks whose left half shows class 1 or 2, depths to match, and patches that tell."""
    rng = np.random.default_rng(0)
    masks = np.zeros((12, 16, 16), np.uint8)
    masks[:6, :, :8], masks[6:, :, :8] = 1, 2
    depths = np.where(masks > 0, 1.0, 3.0).astype(np.float32)
    depths[0, 0, 0] = np.nan
    patches = np.eye(3, dtype=np.float32)[masks[:, ::4, ::4]]
    return patches + 0.01 * rng.normal(size=patches.shape).astype(np.float32), masks, depths


def test_a_segmentation_is_scored_over_the_pixels_of_the_pictures_asked_for(maps):
    patches, masks, _ = maps
    found = probes.segmentation_probe(patches, masks, patches, masks)
    everything, first = np.arange(12), np.arange(6)
    assert found.hits.shape == (12, 2)
    assert found.hits.sum() == (masks > 0).sum() and found.toy_hits.sum() == (masks > 0).sum()
    assert found.miou(everything) > 0.8 and found.foreground_iou(everything) > 0.8
    by_hand = found.hits[first, 0].sum() / found.unions[first, 0].sum()
    assert found.miou(first) == pytest.approx(by_hand)  # the other class is not there
    twice = np.array([3, 3])
    assert found.foreground_iou(twice) == found.foreground_iou(twice[:1])


def test_depth_is_scored_where_it_is_known(maps):
    patches, _, depths = maps
    found = probes.depth_probe(patches, depths, patches, depths)
    assert found.pixels.tolist() == [255] + [256] * 11
    assert 0.7 < found.delta1(np.arange(12)) <= 1
    assert 0 < found.abs_rel(np.arange(12)) < 0.3


def test_the_jackknife_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(0).normal(size=50)
    found = jackknife(lambda rows: float(values[rows].mean()), len(values))
    error = values.std(ddof=1) / np.sqrt(len(values))
    assert found.high - found.value == pytest.approx(1.96 * error)
    assert found.value - found.low == pytest.approx(1.96 * error)


def test_numbers_are_written_with_their_intervals():
    results = shares({"class": np.array([True, False])}) | {"pixels": 0.25}
    results |= flat("depth", jackknife(lambda rows: 0.5, 3))
    assert with_interval(results, "class") == "0.500 (0.095 to 0.905)"
    assert with_interval(results, "depth") == "0.500 (0.500 to 0.500)"
    assert with_interval(results, "pixels") == "0.250"
