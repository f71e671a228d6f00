import pytest

from dinov2_helpers import load_clip
from dinov2_helpers.samples import CLASS_NAMES


@pytest.fixture(scope="module")
def clip():
    return load_clip("tiny")


def test_words_of_its_training_are_not_spelt_out(clip):
    assert clip.spelt_out(", ".join(CLASS_NAMES)) == []
    assert clip.spelt_out("a photo of a red mug on snow.") == []


def test_words_that_it_never_saw_are_named_in_their_order(clip):
    assert clip.spelt_out("a xylophone, a mug and a zebra. {}") == ["xylophone", "zebra"]


def test_the_bilingual_tower_knows_chinese_and_the_other_does_not(clip):
    assert clip.spelt_out("红色的杯子") == ["红色的杯子"]
    assert load_clip("lit-tiny").spelt_out("红色的杯子") == []
