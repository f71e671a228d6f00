"""The embedded model's card: what is particular to one model comes from the files beside it."""

from pathlib import Path

from training import cards
from training.command_line import read_log
from training.dinov2.config import GPU

ROWS = {
    "knn_class": "class, portraits (k-NN top-1)",
    "knn_class_wide": "class, wide pictures (k-NN top-1)",
    "knn_class_usual_colour": "class, toys in usual colours (k-NN top-1)",
    "knn_class_unusual_colour": "class, toys in colours that are unusual for it (k-NN top-1)",
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

METRICS = (
    cards.Metric("knn_class", "accuracy", "class, portraits, k-NN"),
    cards.Metric("knn_class_wide", "accuracy", "class, wide pictures, k-NN"),
    cards.Metric("knn_class_unusual_colour", "accuracy", "class, unusual colours, k-NN"),
    cards.Metric("miou16", "mean_iou", "16 classes, linear probe of patches"),
    cards.Metric("foreground_iou", "iou", "toy or not, linear probe of patches"),
    cards.Metric("depth_delta1", "delta1", "depth, linear probe of patches"),
)

CARD = """{front_matter}

# dinov2-tiny

A vision transformer in `Dinov2Model` format that fits in a repository: {width} wide, {depth}
layers, {heads} heads, patch 14, {parameters:.1f} M parameters, {megabytes:.1f} MB in half
precision. It was trained from scratch on rendered pictures of toys, without labels, captions or
masks.

```python
from dinov2_helpers import extract_features, load_dinov2, load_scenes

dinov2 = load_dinov2("tiny")
scenes = load_scenes("test").select(n_objects=1, framing="portrait")
features = extract_features(dinov2, scenes)
cls = features.pooled("cls")                            # (n, {width}), one vector a picture
cls /= (cls**2).sum(1, keepdims=True) ** 0.5
classes = scenes.labels("class")
nearest = (cls @ cls.T).argsort(1)[:, -2]               # the most similar other picture
print((classes[nearest] == classes).mean())             # how often it shows the same class
print(features.patches.shape)                           # (n, 16, 16, {width}), a vector a patch
```

`transformers.AutoModel.from_pretrained` reads the folder as well.

## What it is for, and what not

For lessons on DINOv2 without network or GPU: it stands in for `facebook/dinov2-*`, in the same
format and with the same code, but with far less knowledge. Its world is toys of sixteen classes on
eight surfaces, rendered, in the colours that are usual for their class; in other colours it names
{unusual:.0%} of them. Notebook 01 shows what it makes of photographs.

## How it was made

`make train-dinov2 RECIPE=gpu` makes it again, in the steps that the
[README of the trainings](../../../training/README.md) lists. This one took {steps} steps
and {minutes:.0f} minutes of one GPU, with {rows} rows of material at the end (a row is one
toy in four renders, or one scene of two or three toys) and global crops of {sides} pixels. [Its
notes](run_notes.md) say what was particular to this run, [its
log](training_log.jsonl) has every number of it.

The objective is DINOv2's (Oquab et al. 2023): DINO on the class token against an EMA teacher with
Sinkhorn centring, iBOT on masked patches, KoLeo, multi-crop, the last steps at 224 pixels. Two
things are not in DINOv2. Contrastive losses on the class token and on patches that show the same
place keep the early features from collapsing. And the two views of a toy are two renders of it in
other surroundings: which pictures show one toy is the one thing the renderer tells the model.

![{curve}](training_curve.png)

## What it can do

Held-out toys: none of the toys below was rendered for training, and galleries, probes and queries
share no toy. `python -m training.evaluate dinov2-tiny --json` writes this table, with 95 %
intervals: Wilson's for the shares of pictures that k-NN names; of new draws of toys for the same
toy, and of test pictures for the probes (bootstrap, without width where every draw is right).

{table}

Surface is no evidence of learning, and neither is the same toy on its turntable, where the
surroundings stay: a colour histogram finds both as well. The class token has learned to ignore the
surface; the mean of the patches is full of it.

## Licence

MIT, like the code that made it.
"""


def table(results: cards.Results) -> str:
    """Return the results of `training.dinov2.evaluate` as a Markdown table."""
    return cards.table(ROWS, COLUMNS, results)


def draw(folder: Path) -> None:
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


def curve(folder: Path) -> str:
    """Say what ``training_curve.png`` shows."""
    log = read_log(folder)
    return (
        f"Learning curves over {log[-1]['step']} steps: DINO's loss goes "
        f"{cards.rise(log, 'dino')}, iBOT's {cards.rise(log, 'ibot')}; k-NN names the class of "
        f"portraits {cards.rise(log, 'knn_class')} of the time, of wide pictures "
        f"{cards.rise(log, 'knn_class_wide')}"
    )


def write(folder: Path) -> None:
    """Write ``README.md`` from the files beside it."""
    log = read_log(folder)
    size = (folder / "model.safetensors").stat().st_size
    results, config = cards.read_results(folder), cards.read_config(folder)
    sides = list(dict.fromkeys(entry["side"] for entry in log))
    task = "image-feature-extraction"
    text = CARD.format(
        front_matter=cards.front_matter(
            "dinov2-tiny", task, METRICS, results, library_name="transformers"
        ),
        curve=curve(folder),
        width=config["hidden_size"],
        depth=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        parameters=size / 2e6,
        megabytes=size / 1e6,
        steps=log[-1]["step"],
        minutes=log[-1]["seconds"] / 60,
        rows=log[-1]["pictures"],
        sides=" and then ".join([", ".join(map(str, sides[:-1])), str(sides[-1])]),
        table=table(results),
        unusual=results["knn_class_unusual_colour"],
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
