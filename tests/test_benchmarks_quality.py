"""What the committed measurements of quality must show."""

import json

import pytest

from benchmarks import run_record
from benchmarks.quality import anomaly


@pytest.fixture(scope="module")
def flaws():
    path = run_record.RESULTS / "quality_anomaly.json"
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_detector_is_measured_on_the_embedded_weights_step_by_step(flaws):
    embedded = {"dinov2-tiny": run_record.weights_of("dinov2-tiny")}
    assert flaws["run"]["models"] == embedded
    steps = [(step.name, step.after, step.size) for step in anomaly.steps(4, 7)]
    assert [(row["name"], row["after"], row["size"]) for row in flaws["rows"]] == steps
    for row in flaws["rows"]:
        assert row["by_category"].keys() == set(anomaly.CATEGORIES)
        assert ("image_auroc_gain" in row) == (row["after"] is not None)


def test_the_steps_chosen_without_the_test_part_reach_the_notebook(flaws):
    rows = {row["name"]: row for row in flaws["rows"]}
    chosen = rows[flaws["chosen"]]
    assert chosen["pretended"] == max(row["pretended"] for row in rows.values())
    assert chosen["image_auroc"]["value"] >= 0.912
    assert chosen["aupro"]["value"] >= 0.839
