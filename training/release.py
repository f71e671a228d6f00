"""Put a trained model in its place: weights, log, numbers and card, in one command.

    python -m training.release clip-tiny --run runs/clip                   # into runs/models
    python -m training.release clip-tiny --run runs/clip --models data/models

copies ``model/`` and ``log.jsonl`` of a run (``training_log.jsonl`` beside the model) and its
``run_notes.md``, if there is one, measures the model and writes its card. Into `data/models`, the
list of the files of `data/` has to be written anew, too: ``python -m training.verify --write``.
"""

import argparse
import shutil
from pathlib import Path

from training import evaluate

NOTES = """{name} was made by `training.{module}.train` without interruptions worth a note. What
each step of the run said is in [its log](training_log.jsonl).
"""


def release(run: Path, folder: Path) -> None:
    """Copy what a run has made into the folder of a model; what lies there is replaced.

    Raises:
        FileNotFoundError: The run has not made a model yet.
    """
    model, log = run / "model", run / "log.jsonl"
    for needed in (model, log):
        if not needed.exists():
            raise FileNotFoundError(f"{needed} is missing: the training in {run} is not done yet")
    notes = run / "run_notes.md"
    name = folder.name
    text = NOTES.format(name=name, module=name.removesuffix("-tiny"))
    if notes.exists():
        text = notes.read_text(encoding="utf-8")
    if folder.exists():
        shutil.rmtree(folder)
    shutil.copytree(model, folder)
    for weights in folder.rglob("*.safetensors"):
        weights.chmod(0o644)
    shutil.copy(log, folder / "training_log.jsonl")
    (folder / "run_notes.md").write_text(text, encoding="utf-8")


def main() -> None:
    """Command line: see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=tuple(evaluate.MODELS))
    parser.add_argument("--run", type=Path, required=True, help="folder of the training")
    parser.add_argument("--models", type=Path, default=Path("runs/models"), help="where to")
    arguments = parser.parse_args()
    folder = arguments.models / arguments.name
    release(arguments.run, folder)
    evaluate.measure(arguments.name, folder)


if __name__ == "__main__":
    main()
