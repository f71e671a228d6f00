"""The embedded CLIP's card, from the files beside the model."""

from pathlib import Path

from training import cards
from training.command_line import read_log

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

COLUMNS = {"": "clip-tiny", "_random": "random initialisation"}
METRICS = (
    cards.Metric("zero_shot", "accuracy", "class"),
    cards.Metric("zero_shot_usual_colour", "accuracy", "class, usual colours"),
    cards.Metric("zero_shot_unseen_colour", "accuracy", "class, unseen colours"),
    cards.Metric("caption_recall_at_5", "recall_at_5", "captions to pictures"),
)

CARD = """{front_matter}

# clip-tiny

A `CLIPModel` that fits in a repository: a vision transformer of {depth} layers x {width}, {side}
pixels, patch {patch}; a text transformer of {text_depth} layers x {text_width}, {context} tokens,
{vocabulary} pieces of vocabulary; a common space of {dim} numbers; {parameters:.1f} M parameters,
{megabytes:.1f} MB in half precision. It was trained from scratch on rendered pictures of toys and
captions in English.

```python
from dinov2_helpers import load_clip, load_scenes
from dinov2_helpers.samples import CLASS_NAMES

clip = load_clip("tiny")
scenes = load_scenes("test").select(n_objects=1, framing="portrait")
pictures = clip.embed_images(scenes).vectors                           # (n, {dim}), unit length
texts = clip.embed_texts([f"a photo of a {{name}}" for name in CLASS_NAMES])   # (16, {dim})
nearest = (pictures @ texts.T).argmax(1)
named = [CLASS_NAMES[one] for one in nearest]
print((scenes.labels("class") == named).mean())                        # how often rightly
```

`transformers.CLIPModel.from_pretrained` reads the folder as well.

## What it is for, and what not

For lessons on CLIP without network or GPU: it stands in for `openai/clip-vit-*`, in the same format
and with the same code, but with far less knowledge. Its world is sixteen classes of toys in eleven
colours on eight surfaces, rendered; words outside its captions are spelt out, byte by byte, and
mean nothing to it, and neither does Chinese. It has read that a thing is "to the left of" another;
whether it understood is not measured here. Photographs are outside its world. It never met the
embedded DINOv2, so that each can judge or surprise the other: other pictures, other weights, other
objective.

## How it was made

`make train-clip` makes it again, in the steps that the
[README of the trainings](../../../training/README.md) lists. This one took {steps} steps
and {minutes:.0f} minutes of two CPU cores, with {pictures} pictures. [Its notes](run_notes.md) say
what was particular to this run, [its log](training_log.jsonl) has every number of it. Captions
are written anew at each step, with synonyms, counts, relations and things left unsaid
(`training/captions.py`).

The objective is CLIP's symmetric cross-entropy over a batch (Radford et al. 2021). In the first
{guide_steps} steps a small convolutional network is the image encoder; in the rest the vision
transformer learns the same objective and, beside it, to agree with that network, which is then
thrown away. Kept out of training: all toys of `data/`, and for each class the colours that
`EXCEPTIONS` lists (no blue dog, no black house), so that they can be named later by text alone.

![{curve}](training_curve.png)

## What it can do

Held-out toys, by text alone, with 95 % intervals (Wilson). `python -m training.evaluate clip-tiny
--json` writes this table. The training was watched on the train split of the scenes; whether the
test split was looked at before it was done is in the notes.

{table}

## Licence

MIT, like the code that made it.
"""


def table(results: cards.Results) -> str:
    """Return the results of `training.clip.evaluate` as a Markdown table."""
    return cards.table(ROWS, COLUMNS, results)


def draw(folder: Path) -> None:
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


def curve(folder: Path) -> str:
    """Say what ``training_curve.png`` shows."""
    log = read_log(folder)
    return (
        f"Learning curves over {log[-1]['step']} steps of the guide and then of the transformer: "
        f"the contrastive loss goes {cards.rise(log, 'contrast')}; on the train split of the "
        f"scenes the class is named {cards.rise(log, 'zero_shot')} of the time in portraits and "
        f"{cards.rise(log, 'zero_shot_wide')} in wide pictures"
    )


def write(folder: Path) -> None:
    """Write ``README.md`` from the files beside it."""
    log = read_log(folder)
    size = (folder / "model.safetensors").stat().st_size
    results, config = cards.read_results(folder), cards.read_config(folder)
    text, vision = config["text_config"], config["vision_config"]
    task = "zero-shot-image-classification"
    card = CARD.format(
        front_matter=cards.front_matter(
            "clip-tiny", task, METRICS, results, language=["en"], library_name="transformers"
        ),
        curve=curve(folder),
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
        table=table(results),
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
