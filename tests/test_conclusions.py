"""Sentences that state a result, and verdicts on claims: none without its condition."""

import pytest

from dinov2_helpers.claims import conclude, decide
from tools.execution import offline_environment


@pytest.fixture
def shown(monkeypatch):
    """The Markdown that is displayed, in order."""
    displayed = []
    monkeypatch.setattr("IPython.display.display", lambda text: displayed.append(text.data))
    monkeypatch.delenv("DINOV2_STRICT", raising=False)
    monkeypatch.delenv("DINOV2_PROFILE", raising=False)
    return displayed


@pytest.mark.parametrize("strict", [None, "0", "1"])
def test_a_true_sentence_is_displayed_as_it_is(shown, monkeypatch, strict):
    if strict is not None:
        monkeypatch.setenv("DINOV2_STRICT", strict)
    conclude(3 > 2, "Three is {more}.")
    assert shown == ["Three is {more}."]


@pytest.mark.parametrize("strict", [None, "0"])
def test_a_false_sentence_is_displayed_as_false_here(shown, monkeypatch, strict):
    monkeypatch.setenv("DINOV2_PROFILE", "small")
    if strict is not None:
        monkeypatch.setenv("DINOV2_STRICT", strict)
    conclude(2 > 3, "Two is more.")
    assert shown == ["*Not so with the models of profile small:* ~~Two is more.~~"]


def test_a_false_sentence_is_an_error_where_that_was_asked_for(shown, monkeypatch):
    monkeypatch.setenv("DINOV2_STRICT", "1")
    with pytest.raises(AssertionError, match=r"no longer so: Two is more\."):
        conclude(2 > 3, "Two is more.")
    assert shown == []


@pytest.mark.parametrize(
    ("holds", "fails", "verdict"),
    [
        (True, False, "holds"),
        (False, False, "holds in part"),
        (False, True, "does not hold"),
    ],
)
def test_a_verdict_is_one_of_three(holds, fails, verdict):
    assert decide(holds=holds, fails=fails) == verdict


def test_a_rule_that_contradicts_itself_gives_no_verdict():
    with pytest.raises(ValueError, match="cannot hold and fail"):
        decide(holds=True, fails=True)


@pytest.mark.parametrize(("profile", "strict"), [("tiny", "1"), ("small", "0"), (None, "1")])
def test_notebooks_are_strict_with_the_embedded_models_alone(
    tmp_path, monkeypatch, profile, strict
):
    monkeypatch.delenv("DINOV2_PROFILE", raising=False)
    if profile is not None:
        monkeypatch.setenv("DINOV2_PROFILE", profile)
    monkeypatch.setenv("DINOV2_STRICT", "2")
    assert offline_environment(tmp_path)["DINOV2_STRICT"] == strict
