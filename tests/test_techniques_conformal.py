"""The promise of a threshold, counted."""

import numpy as np
import pytest

from dinov2_helpers.techniques.conformal import needed, threshold


@pytest.mark.parametrize(("n", "alpha"), [(19, 0.05), (40, 0.05), (99, 0.01), (7, 0.3)])
def test_the_share_of_false_alarms_is_as_promised_and_distributed_as_said(n, alpha):
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(4000):
        found = threshold(rng.uniform(size=n), alpha)
        rates.append(1 - found.value)  # the true share, for uniform scores
    said = found.rate()
    assert found.holds
    assert found.promised <= alpha + 1e-12
    assert np.mean(rates) == pytest.approx(said.value, abs=0.004)
    assert np.quantile(rates, [0.025, 0.975]) == pytest.approx([said.low, said.high], abs=0.012)


def test_it_is_the_score_that_conformal_prediction_takes_and_not_a_quantile_between_two():
    scores = np.arange(40) / 40
    assert threshold(scores[::-1], 0.05).value == np.quantile(
        scores, 39 / 40, method="inverted_cdf"
    )
    assert threshold(scores, 0.05).value > np.quantile(scores, 0.95)


def test_what_few_scores_can_promise_is_said():
    assert [needed(alpha) for alpha in (0.05, 0.1, 0.01, 0.5)] == [19, 9, 99, 1]
    enough, few = threshold(np.arange(19), 0.05), threshold(np.arange(18), 0.05)
    assert enough.holds
    assert enough.value == 18
    assert not few.holds
    assert few.value == 17
    assert few.promised == pytest.approx(1 / 19)
    assert "cannot promise 5.0% false alarms: that takes 19" in few.promise()
    assert "a new good picture is called odd" in few.promise("good picture")
    assert "chance of 5.0%, at most the 5.0%" in enough.promise()


@pytest.mark.parametrize(
    ("scores", "alpha", "said"),
    [
        ([], 0.1, "one score or more"),
        ([[1.0]], 0.1, "one score or more"),
        ([1.0, np.nan], 0.1, "1 of 2 scores are not finite"),
        ([1.0], 0.0, "alpha=0.0"),
        ([1.0], 5, "alpha=5"),
    ],
)
def test_what_makes_no_threshold_is_refused(scores, alpha, said):
    with pytest.raises(ValueError, match=said):
        threshold(scores, alpha)
