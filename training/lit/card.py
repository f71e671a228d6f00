"""The text tower's card, from the files beside the model."""

import json
from pathlib import Path

from training.command_line import read_log
from training.intervals import with_interval
from training.lit.questions import LANGUAGES

ROWS = {
    "class": "class, all pictures of one toy (16 names)",
    "class_portraits": "class, portraits",
    "class_wide": "class, wide pictures",
    "class_usual_colour": "class, toys in usual colours",
    "class_unseen_colour": "class, toys in colours that this class never had in training",
    "caption_recall_at_1": "caption to picture, recall at 1 (all 320 test pictures)",
    "caption_recall_at_5": "caption to picture, recall at 5",
    "caption_recall_at_10": "caption to picture, recall at 10",
    "caption_recall_at_5_worded_anew": "recall at 5, captions worded as none was in training",
    "places_named": "toys among others whose patches are named rightly (16 names)",
    "places_pointed": "toys among others that the patch nearest to their name shows",
}
COLUMNS = dict(zip(LANGUAGES, ("English", "Chinese"), strict=True))

CARD = """---
license: mit
language: [en, zh]
pipeline_tag: zero-shot-image-classification
model-index:
- name: lit-tiny
  results:
  - task: {{type: zero-shot-image-classification}}
    dataset: {{name: scenes of toys, type: rendered, split: test}}
    metrics:
    - {{type: accuracy, name: "class, English names", value: {class_en}}}
    - {{type: accuracy, name: "class, Chinese names", value: {class_zh}}}
    - {{type: recall_at_5, name: "captions, English", value: {caption_recall_at_5_en}}}
    - {{type: recall_at_5, name: "captions, Chinese", value: {caption_recall_at_5_zh}}}
---

# lit-tiny

A text tower that names, in English and Chinese, what the embedded `dinov2-tiny` sees: a text
transformer of {depth} layers x {width}, {context} tokens, {vocabulary} pieces of vocabulary; a head
on DINOv2's class token and mean patch, another on its patches; a common space of {dim} numbers;
{parameters:.1f} M parameters, {megabytes:.1f} MB in half precision. DINOv2 itself did not learn.

```python
from dinov2_helpers.lit import load_lit
from dinov2_helpers.samples import data_dir, load_scenes

lit = load_lit(data_dir() / "models" / "lit-tiny")
scenes = load_scenes("test")
pictures = lit.embed_images(scenes).vectors             # (n, {dim}), unit length
texts = lit.embed_texts(["a photo of a dog", "一只狗的照片"])   # (2, {dim})
print((texts @ pictures.T).argsort(1)[:, -5:])          # the five pictures nearest to each text
places = lit.embed_patches(scenes.images[:4])           # (4, 16, 16, {dim})
print((places @ texts.T).shape)                         # where in each picture the dog is
```

## What it is for, and what not

For lessons on how texts find their way into the space of a vision model, without network or GPU.
Its world is sixteen classes of toys in eleven colours on eight surfaces, rendered; words outside
its captions are spelt out, byte by byte, and mean nothing to it. It stands on dinov2-tiny (weights
with the SHA-256 {sha256:.16}..., others are refused), and sees and misses what that sees and
misses: it is no outside judge of it.

## How it was made

```bash
python -m training.world.material --out pairs --colours crossed --views 2
python -m training.lit.material --material pairs --out runs/lit/features
python -m training.lit.train --material pairs --features runs/lit/features --out runs/lit
python -m training.lit.places --material pairs --model runs/lit/model --out runs/lit/places
```

The first command renders pictures in which colour and class are independent; the second computes
what DINOv2 makes of each, in colours and in grey; the third trains: {steps} steps in {minutes:.0f}
minutes of one CPU core, on {pictures} pictures; the fourth adds the head for patches.

{notes}

The method is locked-image tuning (LiT: Zhai et al. 2022), on class token and mean patch as dino.txt
does it (Jose et al. 2024). Captions are written anew at each step, in English or Chinese by chance,
with synonyms, measure words, several word orders and things left unsaid (`training/captions.py`); a
third names the class alone. Three in ten pictures are grey and their captions name no colour. Half
of each batch holds the same class in other colours and other classes in the same colour. Kept out
of training: all toys of `data/`, for each class the colours that `EXCEPTIONS` lists (no blue dog,
no black house), and some wording of the captions of `data/` (`UNSEEN`).

![training curve](training_curve.png)

## What it can do

Held-out toys, by text alone, with 95 % intervals (Wilson); the text is "a photo of a dog" or
"一只狗的照片". `python -m training.evaluate lit-tiny --json` writes this table. What to keep was
chosen on the train split of the scenes.

{table}

Places are named by a head of its own on single patches, which learned from captions, not from masks
(Mukhoti et al. 2022).

## Licence

MIT, like the code that made it.
"""


def table(results: dict[str, float]) -> str:
    """Return the results of `training.lit.evaluate` as a Markdown table."""
    lines = [f"| | {' | '.join(COLUMNS.values())} |", "| --- |" + " --- |" * len(COLUMNS)]
    for key, text in ROWS.items():
        cells = [with_interval(results, f"{key}_{language}") for language in COLUMNS]
        lines.append(f"| {text} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw_curve(folder: Path) -> None:
    """Draw loss and accuracy against steps into ``training_curve.png``."""
    from matplotlib.figure import Figure

    log = read_log(folder)
    steps = [entry["step"] for entry in log]
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(steps, [entry["contrast"] for entry in log])
    left.set(xlabel="step", ylabel="contrastive loss of one batch")
    for language, style in zip(LANGUAGES, ("-", "--"), strict=True):
        for key, label, colour in (
            ("class", "class", "#0072b2"),
            ("caption_recall_at_5", "captions, recall at 5", "#d55e00"),
        ):
            values = [entry[f"{key}_{language}"] for entry in log]
            right.plot(steps, values, style, color=colour, label=f"{label}, {COLUMNS[language]}")
    right.set(xlabel="step", ylabel="train split of the scenes", ylim=(0.5, 1))
    right.legend(frameon=False)
    figure.savefig(folder / "training_curve.png", dpi=110)


def write(folder: Path) -> None:
    """Write ``README.md`` and ``training_curve.png`` from the files beside them."""
    log = read_log(folder)
    size = (folder / "model.safetensors").stat().st_size
    results = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text = config["text_config"]
    draw_curve(folder)
    card = CARD.format(
        **results,
        depth=text["num_hidden_layers"],
        width=text["hidden_size"],
        context=text["max_position_embeddings"],
        vocabulary=text["vocab_size"],
        dim=config["projection_dim"],
        sha256=config["dinov2"]["sha256"],
        parameters=size / 2e6,
        megabytes=size / 1e6,
        steps=log[-1]["step"],
        minutes=log[-1]["seconds"] / 60,
        pictures=log[-1]["pictures"],
        notes=(folder / "run_notes.md").read_text(encoding="utf-8").strip(),
        table=table(results),
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
