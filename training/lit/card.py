"""The text tower's card, from the files beside the model."""

from pathlib import Path

from training import cards
from training.command_line import read_log
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
COLUMNS = {"_en": "English", "_zh": "Chinese"}
METRICS = (
    cards.Metric("class_en", "accuracy", "class, English names"),
    cards.Metric("class_zh", "accuracy", "class, Chinese names"),
    cards.Metric("class_unseen_colour_en", "accuracy", "class, unseen colours, English names"),
    cards.Metric("class_unseen_colour_zh", "accuracy", "class, unseen colours, Chinese names"),
    cards.Metric("caption_recall_at_5_en", "recall_at_5", "captions to pictures, English"),
    cards.Metric("caption_recall_at_5_zh", "recall_at_5", "captions to pictures, Chinese"),
)

CARD = """{front_matter}

# lit-tiny

A text tower that names, in English and Chinese, what the embedded `dinov2-tiny` sees: a text
transformer of {depth} layers x {width}, {context} tokens, {vocabulary} pieces of vocabulary; a head
on DINOv2's class token and mean patch, another on its patches; a common space of {dim} numbers;
{parameters:.1f} M parameters, {megabytes:.1f} MB in half precision. DINOv2 itself did not learn.

```python
from dinov2_helpers import load_clip, load_scenes

lit = load_clip("lit-tiny")
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

`make train-lit` makes it again, in the steps that the
[README of the trainings](../../../training/README.md) lists: it renders
pictures in which colour and class are independent; computes what DINOv2 makes of
each, in colours and in grey; trains the text tower and its head; and then the head for patches.
This one took {steps} steps and {minutes:.0f} minutes of one CPU core, with {pictures} pictures.
[Its notes](run_notes.md) say what was particular to this run, [its log](training_log.jsonl) has
every number of it.

The method is locked-image tuning (LiT: Zhai et al. 2022), on class token and mean patch as dino.txt
does it (Jose et al. 2024). Captions are written anew at each step, in English or Chinese by chance,
with synonyms, measure words, several word orders and things left unsaid (`training/captions.py`); a
third names the class alone. Three in ten pictures are grey and their captions name no colour. Half
of each batch holds the same class in other colours and other classes in the same colour. Kept out
of training: all toys of `data/`, for each class the colours that `EXCEPTIONS` lists (no blue dog,
no black house), and some wording of the captions of `data/` (`UNSEEN`).

![{curve}](training_curve.png)

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


def table(results: cards.Results) -> str:
    """Return the results of `training.lit.evaluate` as a Markdown table."""
    return cards.table(ROWS, COLUMNS, results)


def draw(folder: Path) -> None:
    """Draw loss and accuracy against steps into ``training_curve.png``."""
    from matplotlib.figure import Figure

    log = read_log(folder)
    steps = [entry["step"] for entry in log]
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(steps, [entry["contrast"] for entry in log])
    left.set(xlabel="step", ylabel="contrastive loss of one batch")
    for (suffix, language), style in zip(COLUMNS.items(), ("-", "--"), strict=True):
        for key, label, colour in (
            ("class", "class", "#0072b2"),
            ("caption_recall_at_5", "captions, recall at 5", "#d55e00"),
        ):
            values = [entry[f"{key}{suffix}"] for entry in log]
            right.plot(steps, values, style, color=colour, label=f"{label}, {language}")
    right.set(xlabel="step", ylabel="train split of the scenes", ylim=(0.5, 1))
    right.legend(frameon=False)
    figure.savefig(folder / "training_curve.png", dpi=110)


def curve(folder: Path) -> str:
    """Say what ``training_curve.png`` shows."""
    log = read_log(folder)
    return (
        f"Learning curves over {log[-1]['step']} steps: the contrastive loss goes "
        f"{cards.rise(log, 'contrast')}; on the train split of the scenes the class is named "
        f"{cards.rise(log, 'class_en')} of the time in English and {cards.rise(log, 'class_zh')} "
        "in Chinese"
    )


def write(folder: Path) -> None:
    """Write ``README.md`` from the files beside it."""
    log = read_log(folder)
    size = (folder / "model.safetensors").stat().st_size
    results, config = cards.read_results(folder), cards.read_config(folder)
    text = config["text_config"]
    task = "zero-shot-image-classification"
    card = CARD.format(
        front_matter=cards.front_matter(
            "lit-tiny", task, METRICS, results, language=list(LANGUAGES)
        ),
        curve=curve(folder),
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
        table=table(results),
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
