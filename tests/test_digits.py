"""Digits that are typed into prose: a result is computed, and every other digit has its reason."""

import pytest
from nbformat import v4

from dinov2_helpers.models import WEIGHTS
from tools import digits, pairing
from tools.project import Project

PROJECT = Project()
PLAN = "how long a lesson is meant to take"
SHAPE = "the shape of an array that the cell before shows"
METHOD = "a choice of the method, not its result"
CITED = "another's result, with the source beside it"
GIVEN_BY_FAISS = "what Faiss returns for a missing result, as a cell shows"

# For each notebook: a part of the line, and why its digits may be typed.
REASONS = {
    "01_feature_space": {
        "About 50 minutes": PLAN,
        "257 vectors of 192 numbers each": SHAPE,
        "The other 256 stand for": SHAPE,
        "16 rows of 16 squares, each 14 pixels wide": SHAPE,
        "bring each to length 1, then": METHOD,
        "*Turn a toy by 90 degrees": METHOD,
        "The bands are 95 % intervals": METHOD,
        "A picture's 256 patches": SHAPE,
        "come without a form, and start at 88 MB": "the size of the smallest published weights",
    },
    "02_zero_shot_classification": {
        "About 50 minutes": PLAN,
        "a 95 % interval": METHOD,
        "*How many of the 256 test pictures": "the number of pictures, whose vectors a cell shows",
        "Summing over everything shares 1": "the sum of all probabilities",
        "what 256 pictures can tell apart": "the number of pictures",
    },
    "03_semantic_segmentation": {"(CC BY 4.0)": "the name of a licence"},
    "04_cross_modal_retrieval": {
        "About 55 minutes": PLAN,
        "all vectors must have length 1": METHOD,
        "A missing result is -1": GIVEN_BY_FAISS,
    },
    "05_depth_estimation": {
        "About 55 minutes": PLAN,
        "each 14 pixels": SHAPE,
        "shorter side becomes 224 pixels": METHOD,
    },
    "06_anomaly_detection": {
        "About 50 minutes": PLAN,
        "256 patches of 14 pixels": SHAPE,
        "a PCA down to 32 numbers": METHOD,
        "A patch is 14 pixels wide": SHAPE,
        "by a PCA, 64 numbers for each": METHOD,
        "at 224 and at 448 pixels": METHOD,
    },
    "07_guided_diffusion": {
        "About 50 minutes": PLAN,
        "at 0.7, the strongest": "the strength that the article names, which the cell below uses",
        "Stable Diffusion XL and 3": "a version in a name",
    },
    "evidence/01_feature_space": {},
    "evidence/02_zero_shot_classification": {},
    "evidence/03_semantic_segmentation": {
        "takes the first 64 numbers": "what the article does",
        "by 0.02 with certainty": "the cut-off of a rule",
        "the fewest within 0.01 of the best": METHOD,
        "a cosine of 0.2": METHOD,
    },
    "evidence/04_cross_modal_retrieval": {
        "CLIP ViT-B/32 has the right one": CITED,
        "55.9 % on MSCOCO and 83.6 % on Flickr30k": CITED,
        "(medium) ViT-B/14 has a mAP of 72.9": CITED,
        "table 9": CITED,
        "8 or 4 bits for each dimension instead of 32": METHOD,
        "pieces of 8 dimensions": METHOD,
        "Faiss 1.15 takes": "the version in which it is so, for which its change is linked",
        "dimensions reach 128,000": "Faiss' own threshold, in the change that is linked",
        "HNSW is 10 to 100 times faster": "the article's claim",
        "A result that is missing is -1": GIVEN_BY_FAISS,
    },
    "evidence/05_depth_estimation": {"a lens 1.6 times as long": METHOD},
    "evidence/06_anomaly_detection": {
        "a PCA to 32 numbers": METHOD,
        "a video of 25 pictures": "the cut-off of a rule",
        "an image AUROC of 96.6": CITED,
        "network, has 99.2": CITED,
    },
    "evidence/07_guided_diffusion": {
        "*img2img*": "a name",
        "On Stable Diffusion 1.5": "a version in a name",
        "one picture of 512 px": SHAPE,
        "at 224 px, and a GPU of 15 GB": "the sizes that are assumed",
    },
}


def test_every_notebook_is_held_to_it():
    assert sorted(REASONS) == sorted(PROJECT.stems())


@pytest.mark.parametrize("stem", REASONS)
def test_every_digit_in_prose_has_a_reason_and_every_reason_a_digit(stem):
    lines = list(digits.sentences(pairing.read_source(PROJECT, stem)))
    parts = REASONS[stem]
    assert [line for line in lines if not any(part in line for part in parts)] == []
    assert [part for part in parts if not any(part in line for line in lines)] == []


def test_the_size_of_the_smallest_weights_is_so():
    sizes = [one["megabytes"] for name, one in WEIGHTS.items() if "/dinov2-" in name]
    assert min(sizes) == 88


@pytest.mark.parametrize(
    "sentence",
    [
        "It finds 87 % of them.",
        "Half of 12 toys.",
        "**Three** times better: 0.9",
        "- in $n$ pictures, 5 are wrong",
    ],
)
def test_a_typed_result_is_found(sentence):
    notebook = v4.new_notebook(cells=[v4.new_markdown_cell(f"# Title\n\n{sentence}")])
    (found,) = digits.sentences(notebook)
    assert any(digit in found for digit in sentence if digit.isdigit())


@pytest.mark.parametrize(
    "text",
    [
        "## 4. Measured on 256 pictures",
        "3. the third goal",
        "`k=10` and\n```python\nx = 5\n```",
        "$n = 5$ and\n\n$$ B = (X^\\top X + 2 I)^{-1} $$",
        "[Oquab et al. 2023](https://arxiv.org/abs/2304.07193)",
        "DINOv2 and DINOv3 at 224 x 224 in 2026, see lesson 3",
        "no digits at all",
    ],
)
def test_what_is_no_result_is_passed_over(text):
    assert list(digits.sentences(v4.new_notebook(cells=[v4.new_markdown_cell(text)]))) == []


def test_code_is_not_prose():
    assert list(digits.sentences(v4.new_notebook(cells=[v4.new_code_cell("x = 5")]))) == []
