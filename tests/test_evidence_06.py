"""Rules and measures of the evidence on anomalies, lifted out of its text."""

import numpy as np
import pytest

from dinov2_helpers.measure import Interval, auroc
from tools import pairing
from tools.lift import lift
from tools.project import Project


@pytest.fixture(scope="module")
def evidence():
    source = pairing.read_source(Project(), "evidence/06_anomaly_detection")
    names = [
        "mean_auroc",
        "nearest_by_picture",
        "oddness",
        "painted",
        "real_time_verdict",
        "reconstruction_verdict",
        "scratch",
        "blob",
        "unseen_verdict",
        "wins",
        "without_flaws_verdict",
    ]
    return lift(source, *names)


def around(value, half_width=0.02):
    return Interval(value, value - half_width, value + half_width)


@pytest.mark.parametrize(
    ("alarms", "found", "verdict"),
    [
        (around(0.05), around(0.95), "holds"),
        (around(0.05), around(0.6), "holds in part"),
        (around(0.12), around(0.95), "does not hold"),
        (around(0.05, 0.05), around(0.1, 0.05), "does not hold"),
    ],
)
def test_good_pictures_alone_are_enough_or_not(evidence, alarms, found, verdict):
    assert evidence["without_flaws_verdict"](alarms, found, 0.05) == verdict


@pytest.mark.parametrize(
    ("p_values", "verdict"),
    [
        ([0.001] * 20, "holds"),
        ([0.001] * 12 + [0.01] * 8, "holds in part"),  # 0.01 is not enough among twenty
        ([0.001] * 9 + [0.5] * 11, "does not hold"),
    ],
)
def test_power_on_unseen_kinds(evidence, p_values, verdict):
    assert evidence["unseen_verdict"](p_values) == verdict


@pytest.mark.parametrize(
    ("milliseconds", "verdict"),
    [
        ((5, 12), "holds"),
        ((30, 200), "holds in part"),
        ((20, 2900), "holds in part"),
        ((4000, 5000), "does not hold"),
    ],
)
def test_real_time(evidence, milliseconds, verdict):
    of = dict(zip(("article", "best"), milliseconds, strict=True))
    assert evidence["real_time_verdict"](of) == verdict


GOOD = (around(0.9), around(0.1))
LOW = (around(0.7), around(0.1))
NO_GAIN = (around(0.9), around(0.01))


@pytest.mark.parametrize(
    ("pair", "verdict"),
    [
        ([GOOD, GOOD], "holds"),
        ([LOW, GOOD], "holds in part"),
        ([GOOD, NO_GAIN], "holds in part"),
        ([LOW, NO_GAIN], "does not hold"),
    ],
)
def test_reconstruction(evidence, pair, verdict):
    assert evidence["reconstruction_verdict"](pair) == verdict


def test_wins_are_the_auroc(evidence):
    random = np.random.default_rng(0)
    scores = random.integers(0, 5, 30).astype(float)
    flawed = random.random(30) < 0.5
    assert evidence["wins"](scores, flawed).mean() == pytest.approx(auroc(scores, flawed))


def test_the_mean_auroc_has_an_interval_and_gains_are_paired(evidence):
    random = np.random.default_rng(0)
    flawed = {name: np.arange(40) < 20 for name in "ab"}
    evidence["mean_auroc"].__globals__["is_flawed"] = flawed
    scores = {name: random.normal(size=40) + flawed[name] for name in "ab"}
    found = evidence["mean_auroc"](scores, draws=200)
    expected = np.mean([auroc(scores[name], flawed[name]) for name in "ab"])
    assert found.value == pytest.approx(expected)
    assert found.low < found.value < found.high
    nothing = evidence["mean_auroc"](scores, scores, draws=200)
    assert nothing == (0, 0, 0)


def test_the_nearest_of_each_good_picture(evidence):
    random = np.random.default_rng(0)
    new = [random.normal(size=(2, 3, 4)) for _ in range(2)]
    good = [random.normal(size=(2, 3, 4)) for _ in range(3)]
    table = evidence["nearest_by_picture"](new, good)
    assert table.shape == (2, 3, 2, 3)
    by_hand = max(new[1][0, 2] @ patch for patch in good[2].reshape(-1, 4))
    assert table[1, 2, 0, 2] == pytest.approx(by_hand, rel=1e-5)
    assert evidence["oddness"](table).shape == (2,)


@pytest.mark.parametrize("kind", ["foreign", "scratch", "stain", "worn"])
def test_painted_flaws_are_where_the_mask_is(evidence, kind):
    from PIL import Image

    random = np.random.default_rng(0)
    crop, other = (
        Image.fromarray(random.integers(0, 256, (160, 160, 3), np.uint8)) for _ in range(2)
    )
    picture, mask = evidence["painted"](crop, kind, other, random)
    changed = (np.asarray(picture) != np.asarray(crop)).any(-1)
    assert mask.any()
    assert not changed[~mask].any()
