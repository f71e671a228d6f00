"""The cards of the embedded models: their metadata, and the ten lines to use each of them."""

import json
import re

import pytest
from huggingface_hub import ModelCard

from dinov2_helpers.samples import data_dir
from training.evaluate import MODELS

# The card of diffusion-tiny is written anew with its next weights.
NAMES = [name for name in MODELS if name != "diffusion-tiny"]
FOLDERS = {name: data_dir() / "models" / name for name in MODELS}
SNIPPET = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
SECTIONS = ["What it is for, and what not", "How it was made", "What it can do", "Licence"]


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def test_the_hub_reads_the_metrics_and_they_are_those_that_were_measured(name):
    measured = json.loads((FOLDERS[name] / "evaluation.json").read_text(encoding="utf-8"))
    data = ModelCard.load(FOLDERS[name] / "README.md").data
    assert data.license == "mit" and data.model_name == name
    assert len(data.eval_results) >= 4
    metrics = {metric.key: metric for metric in MODELS[name][2].METRICS}
    for result, (key, metric) in zip(data.eval_results, metrics.items(), strict=True):
        assert (result.metric_type, result.metric_name) == (metric.type, metric.name)
        assert result.metric_value == measured[key]
        ends = result.metric_args
        assert (ends["low"], ends["high"]) == (measured[f"{key}_low"], measured[f"{key}_high"])
        assert ends["low"] <= result.metric_value <= ends["high"]
        assert result.dataset_split == "test"


def test_a_card_says_what_a_stranger_asks(name):
    text = (FOLDERS[name] / "README.md").read_text(encoding="utf-8")
    assert re.findall("^## (.*)$", text, re.MULTILINE) == SECTIONS
    assert "articulars of this run" not in text
    for picture in re.findall(r"!\[(.*?)\]\(", text):
        assert len(picture) > 40, "a picture needs a description for those who do not see it"


def test_a_card_is_what_its_command_writes(name, tmp_path):
    """The cards are up to date with `card.py` and with the numbers beside them."""
    folder = FOLDERS[name]
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix != ".md":
            copy = tmp_path / path.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.symlink_to(path)
    MODELS[name][2].write(tmp_path)
    written, kept = (place / "README.md" for place in (tmp_path, folder))
    assert written.read_text(encoding="utf-8") == kept.read_text(encoding="utf-8")


@pytest.mark.computes
def test_the_ten_lines_of_a_card_run(name, tmp_path, monkeypatch, capsys):
    (code,) = SNIPPET.findall((FOLDERS[name] / "README.md").read_text(encoding="utf-8"))
    assert len([line for line in code.splitlines() if line]) <= 10
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    exec(compile(code, name, "exec"), found)
    shown = capsys.readouterr().out
    if name == "lit-tiny":
        assert "(4, 16, 16, 2)" in shown
    else:
        (printed,) = re.findall(r"^[01]\.\d+", shown, re.MULTILINE)  # among what is reported
        assert 0.4 < float(printed) <= 1
