"""The command line that all trainings share."""

import argparse
import dataclasses
import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch


def parser(
    description: str, recipes: Collection[str], material: str, out: str, log_every: int
) -> argparse.ArgumentParser:
    """Make the parser of a training.

    Args:
        description: Text of the module; its first line is shown.
        recipes: Names of the recipes; the first is the default.
        material: Default folder of the rendered pictures.
        out: Default folder for checkpoints, log and model.
        log_every: Default number of steps between log entries.
    """
    made = argparse.ArgumentParser(description=description.split("\n")[0])
    made.add_argument("--material", type=Path, default=Path(material))
    made.add_argument("--out", type=Path, default=Path(out))
    made.add_argument("--recipe", choices=tuple(recipes), default=next(iter(recipes)))
    made.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    made.add_argument("--steps", type=int, help="steps instead of the recipe's")
    made.add_argument("--seed", type=int, help="seed of the run")
    made.add_argument("--minutes", type=float, default=float("inf"), help="stop after this time")
    made.add_argument("--limit", type=int, help="largest number of shards to read")
    made.add_argument("--log-every", type=int, default=log_every)
    return made


def chosen_recipe(arguments: argparse.Namespace, recipes: Mapping[str, Any]) -> Any:
    """Return the recipe that is asked for, with the steps and the seed that are asked for."""
    given = {k: v for k in ("steps", "seed") if (v := getattr(arguments, k)) is not None}
    return dataclasses.replace(recipes[arguments.recipe], **given)


def write_log(out: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Print each entry as it comes, and append it to ``log.jsonl``."""
    with (out / "log.jsonl").open("a", encoding="utf-8") as log:
        for entry in entries:
            line = json.dumps(entry)
            print(line, flush=True)
            log.write(line + "\n")
            log.flush()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Return the entries of the training log beside a model."""
    lines = (folder / "training_log.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]
