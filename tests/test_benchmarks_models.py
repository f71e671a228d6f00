"""The table that sets models side by side, at sizes that take seconds."""

import json

import numpy as np
import pytest

from benchmarks import models, run_record
from dinov2_helpers import ModelError, load_dinov2, photographs
from dinov2_helpers.measure import Interval

pytestmark = pytest.mark.computes


@pytest.fixture(scope="module")
def tiny():
    return models.Models("tiny", load_dinov2("tiny"), "tiny")


def test_the_order_of_pictures_of_a_class_is_judged_without_the_picture_itself():
    vectors = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 2], [1, 1]])
    labels = np.array(["a", "a", "b", "b", "alone"])
    assert models.same_class(vectors, labels).value == 1
    mixed = np.array(["a", "b", "a", "b", "alone"])
    assert models.same_class(vectors, mixed).value < 0.6


def test_an_untrained_model_has_the_shape_and_other_weights(tiny):
    fresh = models.untrained(tiny.dinov2)
    again = models.untrained(tiny.dinov2)
    assert (fresh.dim, fresh.n_layers, fresh.name) == (tiny.dinov2.dim, 8, "random")
    assert fresh.encoder.fingerprint() == again.encoder.fingerprint()
    assert fresh.encoder.fingerprint() != tiny.dinov2.encoder.fingerprint()
    assert not fresh.model.training


def test_a_name_that_stands_for_nothing_is_named():
    with pytest.raises(ModelError, match=r"'no such' is no profile \(tiny, small.*, no folder"):
        models.load("no such")


def test_a_folder_is_measured_by_its_subfolders(tiny, tmp_path):
    for number, (name, image) in enumerate(photographs().items()):
        for turn in range(4):
            place = tmp_path / name / f"{number}_{turn}.png"
            place.parent.mkdir(exist_ok=True)
            image.resize((80 + 8 * turn, 96)).save(place)
    numbers = list(models.own_folder(tiny, tmp_path))
    assert [one.technique for one in numbers] == [1, 4]
    assert all(tmp_path.name in one.name for one in numbers)
    assert numbers[0].interval.value > 0.8  # the same photographs, squeezed a little
    assert numbers[1].interval.value > 0.8


def test_a_folder_without_classes_says_what_it_needs(tiny, tmp_path):
    photographs()["cat"].save(tmp_path / "cat.png")
    with pytest.raises(ValueError, match=r"train/good.*subfolder for each of two"):
        list(models.own_folder(tiny, tmp_path))


def test_the_table_has_a_column_for_each_model_and_keeps_gaps():
    one, other = Interval(0.5, 0.4, 0.6)._asdict(), Interval(1.0, 0.9, 1.0)._asdict()
    rows = [
        {"name": "tiny", "numbers": {"4. mAP": one}},
        {"name": "small", "numbers": {"4. mAP": other, "6. AUROC": other}},
    ]
    assert models.markdown(rows).splitlines() == [
        "|  | tiny | small |",
        "| --- | --- | --- |",
        "| 4. mAP | 0.500 (0.400 to 0.600) | 1.000 (0.900 to 1.000) |",
        "| 6. AUROC |  | 1.000 (0.900 to 1.000) |",
    ]


def test_a_run_writes_both_files(tmp_path, monkeypatch):
    monkeypatch.setenv("DINOV2_CACHE", str(tmp_path / "features"))
    monkeypatch.setitem(models.TECHNIQUES, 4, lambda one: iter([number_of(one)]))
    out = tmp_path / "models.json"
    assert models.main(["tiny", "random", "--only", "4", "--out", str(out)]) == 0
    report = json.loads(out.read_text(encoding="utf-8"))
    assert [row["name"] for row in report["rows"]] == ["tiny", "random"]
    assert report["run"]["models"]["dinov2-tiny"] == run_record.weights_of("dinov2-tiny")
    assert out.with_suffix(".md").read_text(encoding="utf-8").startswith("|  | tiny | random |")


def number_of(one):
    return models.Number(4, "width", Interval(one.dinov2.dim / 1000, 0, 1))


def test_the_committed_table_is_of_the_embedded_weights_and_shows_what_training_brings():
    path = run_record.RESULTS / "models.json"
    report = json.loads(path.read_text(encoding="utf-8"))
    for name, weights in report["run"]["models"].items():
        assert weights == run_record.weights_of(name), name
    rows = {row["name"]: row["numbers"] for row in report["rows"]}
    assert {key[0] for key in rows["tiny"]} == set("1234567")
    assert "random" in rows
    by_picture = "4. mAP by a picture"
    for name in rows.keys() - {"tiny"}:
        assert rows["tiny"][by_picture]["low"] > rows[name][by_picture]["high"]
    assert path.with_suffix(".md").read_text(encoding="utf-8") == models.markdown(report["rows"])


def test_a_model_is_added_to_the_table_that_is_there(tmp_path):
    out = tmp_path / "models.json"
    assert models.others(out, ["tiny"]) == []
    out.write_text(json.dumps({"rows": [{"name": "tiny"}, {"name": "small"}]}), encoding="utf-8")
    assert models.others(out, ["tiny"]) == [{"name": "small"}]
