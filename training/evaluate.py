"""Measure the embedded models on the sample scenes, whose toys they have never seen.

    python -m training.evaluate                     # prints a table for each model
    python -m training.evaluate clip-tiny --json    # ... and writes evaluation.json and its card
    python -m training.evaluate clip-tiny --card    # writes the card alone, from evaluation.json

The training folder of each model says how it is measured (``evaluate.py``) and described
(``card.py``). What is chosen is chosen on `data/scenes/train`; the numbers are of
`data/scenes/test`. Numbers come with 95 % intervals, as "NAME_low" and "NAME_high".
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dinov2_helpers.clip import load_clip
from dinov2_helpers.lit import load_lit
from dinov2_helpers.models import load_dinov2
from dinov2_helpers.samples import data_dir
from training.clip import card as clip_card
from training.clip import evaluate as clip_evaluate
from training.diffusion import card as diffusion_card
from training.diffusion import evaluate as diffusion_evaluate
from training.dinov2 import card as dinov2_card
from training.dinov2 import evaluate as dinov2_evaluate
from training.lit import card as lit_card
from training.lit import evaluate as lit_evaluate

#: By name of the model's folder: how to load it, how to measure it, and its card.
MODELS: dict[str, tuple[Callable[[Path], Any], Callable[[Any], dict[str, float]], Any]] = {
    "dinov2-tiny": (load_dinov2, dinov2_evaluate.evaluate, dinov2_card),
    "clip-tiny": (load_clip, clip_evaluate.evaluate, clip_card),
    "lit-tiny": (load_lit, lit_evaluate.evaluate, lit_card),
    "diffusion-tiny": (diffusion_evaluate.load, diffusion_evaluate.evaluate, diffusion_card),
}


def measure(name: str, folder: Path) -> None:
    """Measure a model, and write ``evaluation.json`` and its card into its folder."""
    load, score, card = MODELS[name]
    results = score(load(folder))
    print(card.table(results))
    text = json.dumps(results, indent=2) + "\n"
    (folder / "evaluation.json").write_text(text, encoding="utf-8")
    card.draw(folder)
    card.write(folder)


def main() -> None:
    """Command line: see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="MODEL", help=f"of {', '.join(MODELS)}")
    parser.add_argument("--json", action="store_true", help="write evaluation.json and the card")
    parser.add_argument("--card", action="store_true", help="write the card, measure nothing")
    parser.add_argument("--models", type=Path, default=data_dir() / "models", help="their folder")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(MODELS)
    if unknown:
        parser.error(f"no model {', '.join(sorted(unknown))}; there are {', '.join(MODELS)}")
    for name in arguments.names or MODELS:
        load, score, card = MODELS[name]
        folder = arguments.models / name
        if arguments.card:
            card.write(folder)
            continue
        if arguments.json:
            measure(name, folder)
        else:
            print(card.table(score(load(folder))))


if __name__ == "__main__":
    main()
