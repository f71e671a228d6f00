"""The embedded model's card: what is particular to one model comes from the files beside it."""

import json
from pathlib import Path

from training.command_line import read_log
from training.dinov2.config import GPU

ROWS = {
    "knn_class": "class, portraits (k-NN top-1)",
    "knn_class_wide": "class, wide pictures (k-NN top-1)",
    "knn_surface": "surface, portraits (k-NN top-1)",
    "knn_surface_wide": "surface, wide pictures (k-NN top-1)",
    "knn_instance": "same toy from 45 degrees away or more (1-NN)",
    "miou16": "16 classes, linear probe of patches (mIoU)",
    "foreground_iou": "toy or not, linear probe of patches (IoU)",
    "depth_delta1": "depth, linear probe of patches (delta1)",
    "depth_absrel": "depth, linear probe of patches (AbsRel, less is better)",
}
COLUMNS = {
    "": "CLS or patches",
    "_mean_patch": "mean patch",
    "_random": "random initialisation",
    "_pixels": "pixels",
    "_histogram": "colour histogram",
}

CARD = """---
license: mit
library_name: transformers
pipeline_tag: image-feature-extraction
---

# dinov2-tiny

A vision transformer in `Dinov2Model` format that fits in a repository: {width} wide, {depth}
layers, {heads} heads, patch 14, {parameters:.1f} M parameters, {megabytes:.1f} MB in half
precision. It was trained from scratch on rendered pictures of toys, without labels, captions or
masks. It stands in for `facebook/dinov2-*` where there is no network: same format, same code, far
less knowledge. It knows toys on eight surfaces; notebook 01 shows what it makes of photographs.

## How it was made

`python -m training.world.material` rendered the pictures and `python -m training.dinov2.train
--recipe gpu` trained on them: {steps} steps on one GPU, {minutes:.0f} minutes, {rows} rows of
material at the end (a row is one toy in four renders, or one scene of two or three toys), global
crops of {sides} pixels.

{notes}

The objective is DINOv2's: DINO on the class token against an EMA teacher with Sinkhorn centring,
iBOT on masked patches, KoLeo, multi-crop, the last steps at 224 pixels. Two things are not in
DINOv2. Contrastive losses on the class token and on patches that show the same place keep the early
features from collapsing. And the two views of a toy are two renders of it in other surroundings:
which pictures show one toy is the one thing the renderer tells the model.

![training curve](training_curve.png)

## What it can do

Held-out toys: none of the toys below was rendered for training, and galleries, probes and queries
share no toy. `python -m training.evaluate dinov2-tiny --json` writes this table.

{table}

Surface is no evidence of learning, and neither is the same toy on its turntable, where the
surroundings stay: a colour histogram finds both as well. The class token has learned to ignore the
surface; the mean of the patches is full of it.

## Licence

MIT, like the code that made it.
"""


def table(results: dict[str, float]) -> str:
    """Return the results of `training.evaluate` as a Markdown table."""
    lines = ["| | " + " | ".join(COLUMNS.values()) + " |", "| --- |" + " --- |" * len(COLUMNS)]
    for key, text in ROWS.items():
        cells = [results.get(key + suffix) for suffix in COLUMNS]
        lines.append(
            f"| {text} | " + " | ".join("" if c is None else f"{c:.3f}" for c in cells) + " |"
        )
    return "\n".join(lines)


def draw_curve(folder: Path) -> None:
    """Draw losses and k-NN accuracy against steps into ``training_curve.png``."""
    from matplotlib.figure import Figure

    log = read_log(folder)
    steps = [entry["step"] for entry in log]
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (name, _), style in zip(GPU.weights, ("-", "--", "-.", ":", (0, (5, 1))), strict=True):
        left.plot(steps, [entry[name] for entry in log], linestyle=style, label=name)
    left.set(xlabel="step", ylabel="loss")
    left.legend(ncols=2, frameon=False)
    for name, label in (("knn_class", "portraits"), ("knn_class_wide", "wide pictures")):
        right.plot(steps, [entry[name] for entry in log], label=label)
    right.set(xlabel="step", ylabel="k-NN accuracy of the class", ylim=(0, 1))
    right.legend(frameon=False)
    figure.savefig(folder / "training_curve.png", dpi=110)


def write(folder: Path) -> None:
    """Write ``README.md`` and ``training_curve.png`` from the files beside them."""
    log = read_log(folder)
    weights = folder / "model.safetensors"
    results = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    sides = list(dict.fromkeys(entry["side"] for entry in log))
    draw_curve(folder)
    text = CARD.format(
        width=config["hidden_size"],
        depth=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        parameters=weights.stat().st_size / 2e6,
        megabytes=weights.stat().st_size / 1e6,
        steps=log[-1]["step"],
        minutes=log[-1]["seconds"] / 60,
        rows=log[-1]["pictures"],
        sides=", ".join(map(str, sides[:-1])) + f" and then {sides[-1]}",
        notes=(folder / "run_notes.md").read_text(encoding="utf-8").strip(),
        table=table(results),
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
