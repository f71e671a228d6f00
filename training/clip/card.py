"""The embedded CLIP's card, from the files beside the model."""

import json
from pathlib import Path

from training.command_line import read_log
from training.intervals import with_interval

ROWS = {
    "zero_shot": "class, all pictures of one toy (16 names)",
    "zero_shot_portraits": "class, portraits",
    "zero_shot_wide": "class, wide pictures",
    "zero_shot_usual_colour": "class, toys in usual colours",
    "zero_shot_unseen_colour": "class, toys in colours that this class never had in training",
    "surface": "surface, given the class (8 surfaces)",
    "colour": "colour, given the class (11 colours)",
    "pair_usual_colour": "colour and class, usual pairs (176 pairs)",
    "pair_unseen_colour": "colour and class, pairs never seen in training (176 pairs)",
    "caption_recall_at_1": "caption to picture, recall at 1 (all 320 test pictures)",
    "caption_recall_at_5": "caption to picture, recall at 5",
    "caption_recall_at_10": "caption to picture, recall at 10",
}

CARD = """---
license: mit
library_name: transformers
pipeline_tag: zero-shot-image-classification
---

# clip-tiny

A `CLIPModel` that fits in a repository: a vision transformer of {depth} layers x {width}, {side}
pixels, patch {patch}; a text transformer of {text_depth} layers x {text_width}, {context} tokens,
{vocabulary} pieces of vocabulary; a common space of {dim} numbers; {parameters:.1f} M parameters,
{megabytes:.1f} MB in half precision. It was trained from scratch on rendered pictures of toys and
captions in English. It stands in for `openai/clip-vit-*` where there is no network: same format,
same code, far less knowledge. Its world is sixteen classes of toys in eleven colours on eight
surfaces; words outside its captions are spelt out, byte by byte, and mean nothing to it.

## How it was made

`python -m training.world.material --colours crossed --views 2` rendered the pictures and
`python -m training.clip.train --recipe cpu` trained on them: {steps} steps on two CPU cores,
{minutes:.0f} minutes, {pictures} pictures. Captions are written anew at each step, with synonyms,
counts, relations ("to the left of") and things left unsaid (`training/captions.py`).

{notes}

The objective is CLIP's symmetric cross-entropy over a batch. In the first {guide_steps} steps a
small convolutional network is the image encoder; in the rest the vision transformer learns the same
objective and, beside it, to agree with that network, which is then thrown away. It never met the
embedded DINOv2: other pictures, other weights, other objective.

Kept out of training: all toys of `data/`, and for each class the colours that `EXCEPTIONS` lists
(no blue dog, no black house), so that they can be named later by text alone.

![training curve](training_curve.png)

## What it can do

Held-out toys, by text alone, with 95 % intervals (Wilson). `python -m training.evaluate clip-tiny
--json` writes this table.

{table}

It has read that a thing is "to the left of" another; whether it understood is not measured here.
Chinese, and every word that no caption holds, is noise to it.

## Licence

MIT, like the code that made it.
"""


def table(results: dict[str, float]) -> str:
    """Return the results of `training.clip.evaluate` as a Markdown table."""
    lines = ["| | clip-tiny | random initialisation |", "| --- | --- | --- |"]
    for key, text in ROWS.items():
        share = with_interval(results, key)
        lines.append(f"| {text} | {share} | {results[f'{key}_random']:.3f} |")
    return "\n".join(lines)


def draw_curve(folder: Path) -> None:
    """Draw loss and zero-shot accuracy against steps into ``training_curve.png``."""
    from matplotlib.figure import Figure

    log = read_log(folder)
    steps = [entry["step"] for entry in log]
    change = next(entry["step"] for entry in log if entry["stage"] == "transformer")
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(steps, [entry["contrast"] for entry in log])
    left.set(xlabel="step", ylabel="contrastive loss of one batch")
    for name, label in (
        ("zero_shot", "portraits"),
        ("zero_shot_wide", "wide pictures"),
        ("caption_recall_at_5", "captions, recall at 5"),
    ):
        right.plot(steps, [entry[name] for entry in log], label=label)
    right.set(xlabel="step", ylabel="zero-shot, train split of the scenes", ylim=(0, 1))
    right.legend(frameon=False)
    for ax in (left, right):
        ax.axvline(change, color="#777777", linestyle=":")
    left.text(change, left.get_ylim()[1], "transformer takes over ", ha="right", va="top")
    figure.savefig(folder / "training_curve.png", dpi=110)


def write(folder: Path) -> None:
    """Write ``README.md`` and ``training_curve.png`` from the files beside them."""
    log = read_log(folder)
    size = (folder / "model.safetensors").stat().st_size
    results = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text, vision = config["text_config"], config["vision_config"]
    draw_curve(folder)
    card = CARD.format(
        depth=vision["num_hidden_layers"],
        width=vision["hidden_size"],
        side=vision["image_size"],
        patch=vision["patch_size"],
        text_depth=text["num_hidden_layers"],
        text_width=text["hidden_size"],
        context=text["max_position_embeddings"],
        vocabulary=text["vocab_size"],
        dim=config["projection_dim"],
        parameters=size / 2e6,
        megabytes=size / 1e6,
        steps=log[-1]["step"],
        minutes=log[-1]["seconds"] / 60,
        pictures=log[-1]["pictures"],
        guide_steps=max(entry["step"] for entry in log if entry["stage"] == "guide"),
        notes=(folder / "run_notes.md").read_text(encoding="utf-8").strip(),
        table=table(results),
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
