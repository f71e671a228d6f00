"""The few lines of lesson 5 give what the library gives, and its exercises hint at the mistake."""

import numpy as np
import pytest
import torch
from depth_reference import maps_partly_known

from dinov2_helpers import samples
from dinov2_helpers.extraction import Features
from dinov2_helpers.measure import depth_scores, fit_scale
from dinov2_helpers.techniques.depth_heads import expected_log_depth, silog_loss
from dinov2_helpers.techniques.depth_ridge import Moments, Penalty, solve
from dinov2_helpers.techniques.depth_truth import targets_of, true_depth
from tools import pairing
from tools.checks import exercises
from tools.lift import lift
from tools.project import Project


@pytest.fixture(scope="module")
def lesson():
    source = pairing.read_source(Project(), "05_depth_estimation")
    return lift(
        source,
        "delta1",
        "scale_given",
        "fit_ridge",
        "of_patches",
        "mean_of_bins",
        "silog",
        "points_of",
        "turned",
        given={"PATCH": 14, "SIDE": 16},
    )


@pytest.fixture
def maps():
    return maps_partly_known()


def test_the_score_is_the_librarys(lesson, maps):
    found = lesson["delta1"](*maps)
    expected = [depth_scores(*pair)["delta1"] for pair in zip(*maps, strict=True)]
    np.testing.assert_allclose(found, expected)


def test_the_gift_is_the_librarys(lesson, maps):
    guesses, truths = maps
    fitted = lesson["scale_given"](guesses, truths)
    for guess, true, found in zip(guesses, truths, fitted, strict=True):
        np.testing.assert_allclose(found, guess * fit_scale(guess, true))


def test_the_ridge_is_the_librarys(lesson):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 6)) + 3
    y = x @ rng.normal(size=6) + rng.normal(size=200)
    y[::7] = np.nan
    kept = x.copy()
    weights, offset = lesson["fit_ridge"](x, y, strength=0.2)
    np.testing.assert_array_equal(x, kept)  # what it was given stays as it was
    moments = Moments.zero(6)
    known = np.isfinite(y)
    moments.add(x[known], np.zeros(0), y[known])
    line = solve(moments, Penalty(0.2, 0.2), 6)
    np.testing.assert_allclose(weights, line.weights)
    assert offset == pytest.approx(line.intercept)


def test_the_depth_of_patches_is_the_librarys(lesson):
    scenes = samples.load_scenes("test", framing="wide", surface="snow")
    depth = np.stack([scenes.depth(i) for i in range(3)])
    depth[0, :40] = np.nan  # whole patches without any depth
    features = Features(
        cls=np.zeros((3, 1)),
        patches=None,
        layers={},
        attention=None,
        facets={},
        index=np.arange(3),
        names=("a", "b", "c"),
        sizes=np.full((3, 2), 224),
        grids=np.full((3, 2), 16),
        coverage=np.ones((3, 16, 16)),
        skipped=(),
        note="",
        origin=None,
    )
    found, _ = targets_of(features, true_depth(features, depth, None, False))
    expected = np.stack([target.patch for _, target in found])
    assert np.isnan(expected[0, 0]).all()
    np.testing.assert_allclose(lesson["of_patches"](depth), expected, rtol=1e-5)


def test_bins_and_loss_are_the_librarys(lesson):
    rng = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 5, 4, 8, generator=rng)
    log_centres = torch.linspace(0, 2, 8)
    bins = lesson["mean_of_bins"](scores, log_centres)
    torch.testing.assert_close(bins, expected_log_depth(scores, log_centres))
    guess, true = torch.randn(2, 2, 5, 4, generator=rng)
    true[0, :2] = torch.nan
    torch.testing.assert_close(lesson["silog"](guess, true), silog_loss(guess, true))


def test_points_turn_around_their_middle(lesson):
    points = np.array([[-1.0, 0, 5], [0, 0, 5], [1, 0, 5]])
    found = lesson["turned"](points, 90)
    np.testing.assert_allclose(found, [[0, 0, 6], [0, 0, 5], [0, 0, 4]], atol=1e-9)
    np.testing.assert_allclose(lesson["turned"](points, 0), points)


def verdict(number, body, capsys):
    """What the check of an exercise says of an answer: the text of its error, or what it prints."""
    cells = exercises(pairing.read_source(Project(), "05_depth_estimation"))[number]
    signature = cells["stub"].source.splitlines()[0]
    lines = "\n    ".join(body.splitlines())
    try:
        exec(f"import numpy as np\n{signature}\n    {lines}\n{cells['check'].source}", {})
    except AssertionError as error:
        return str(error)
    return capsys.readouterr().out


LOGS = "known = np.isfinite(true)\nlogs = np.log(guess[known] / true[known])\n"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (LOGS + "return logs.std()", "Right!"),
        (LOGS + "return np.sqrt((logs**2).mean() - logs.mean() ** 2)", "Right!"),
        ("return np.nanstd(np.log(guess) - np.log(true))", "Right!"),
        (LOGS + "logs.std()", "returns nothing"),
        (LOGS + "return logs - logs.mean()", "one number"),
        ("return np.log(guess / true).std()", "leave out the pixels"),
        ("return np.nan_to_num(np.log(guess / true)).std()", "filled in"),
        (LOGS + "return np.sqrt((logs**2).mean())", "mean of the log ratios off before"),
        (LOGS + "return np.sqrt((logs**2).sum())", "off, and divide by the number"),
        (LOGS + "return np.sqrt(((logs - logs.mean()) ** 2).sum())", "before you take the root"),
        (LOGS + "return logs.std(ddof=1)", "not by one less"),
        (LOGS + "return logs.var()", "variance"),
        (LOGS + "return np.sqrt(((logs - np.median(logs)) ** 2).mean())", "not their median"),
        (LOGS + "return np.sqrt(logs.var() + 0.15 * logs.mean() ** 2)", "SILog"),
        (LOGS + "return np.exp(logs).std()", "ratio itself"),
        ("return np.nanstd(guess - true)", "difference"),
        (LOGS + "return logs.std() / np.log(10)", "natural"),
        (LOGS + "return logs.std() / np.log(2)", "natural"),
        (LOGS + "return np.abs(logs - logs.mean()).mean()", "0.940 is right, not 0.721"),
    ],
)
def test_the_first_exercise_hints_at_the_mistake(body, said, capsys):
    assert said in verdict(1, body, capsys)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return depth * (focal * scaled / width) / trained", "Right!"),
        ("depth *= focal / trained / (width / scaled)\nreturn depth", "Right!"),
        ("return [[d * focal * scaled / width / trained for d in row] for row in depth]", "Right!"),
        ("depth * focal", "returns nothing"),
        ("return focal * scaled / width / trained", "shape"),
        ("return depth.mean() * focal / trained", "shape"),
        ("return depth", "not 1.00"),
        ("return depth * trained / (focal * scaled / width)", "other way round"),
        ("return depth * focal / trained", "scaled too"),
        ("return depth * (focal * width / scaled) / trained", "not a longer one"),
        ("return depth * (focal * scaled // width) / trained", "346.5"),
        ("return depth + depth.mean()", "every pixel"),
    ],
)
def test_the_second_exercise_hints_at_the_mistake(body, said, capsys):
    assert said in verdict(2, body, capsys)
