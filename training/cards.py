"""What the cards of all models share: metrics in the hub's form, tables, and the files read."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from training.intervals import with_interval

DATASET = {"name": "scenes of toys, test split", "type": "rendered", "split": "test"}
CONFIDENCE = 0.95
Results = Mapping[str, float]


class Metric(NamedTuple):
    """A number of `evaluation.json` in the metadata of a card.

    Attributes:
        key: Its name in `evaluation.json`.
        type: The hub's name of what is measured.
        name: What it was measured on.
    """

    key: str
    type: str
    name: str


def front_matter(
    model: str, task: str, metrics: Sequence[Metric], results: Results, **fields: Any
) -> str:
    """Return the metadata at the head of a card, as the hub reads it.

    Args:
        model: Name of the model.
        task: Its task, in the hub's words.
        metrics: What is shown of the results.
        results: The numbers of `evaluation.json`; the ends of intervals become arguments.
        fields: Further metadata, such as the library.
    """
    shown = []
    for metric in metrics:
        entry: dict[str, Any] = {"type": metric.type, "name": metric.name}
        entry["value"] = results[metric.key]
        ends = {end: results[f"{metric.key}_{end}"] for end in ("low", "high")}
        entry["args"] = {"confidence": CONFIDENCE, **ends}
        shown.append(entry)
    result = {"task": {"type": task}, "dataset": DATASET, "metrics": shown}
    described = {"license": "mit", **fields, "pipeline_tag": task}
    described["model-index"] = [{"name": model, "results": [result]}]
    text = yaml.safe_dump(described, sort_keys=False, allow_unicode=True, width=100)
    return f"---\n{text}---"


def table(rows: Mapping[str, str], columns: Mapping[str, str], results: Results) -> str:
    """Return results as a Markdown table, with their intervals.

    Args:
        rows: What a row shows, by the first part of the results' names.
        columns: What a column shows, by the second part.
        results: The numbers by name; a cell without one is empty.
    """
    lines = [f"| | {' | '.join(columns.values())} |", "| --- |" + " --- |" * len(columns)]
    for key, text in rows.items():
        names = [key + suffix for suffix in columns]
        cells = [with_interval(results, name) if name in results else "" for name in names]
        lines.append(f"| {text} | {' | '.join(cells)} |")
    return "\n".join(lines)


def read_results(folder: Path) -> dict[str, float]:
    """Return the numbers of `evaluation.json`."""
    results: dict[str, float] = json.loads((folder / "evaluation.json").read_text("utf-8"))
    return results


def read_config(folder: Path) -> dict[str, Any]:
    """Return the configuration beside a model's weights."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
    return config


def rise(log: Sequence[Mapping[str, Any]], key: str) -> str:
    """Say from where to where a curve of a training log goes, for those who do not see it."""
    return f"from {log[0][key]:.2f} to {log[-1][key]:.2f}"
