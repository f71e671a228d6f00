"""The embedded diffusion model's card, from the files beside the model and samples of it."""

import json
from pathlib import Path

from training import cards
from training.command_line import read_log
from training.diffusion.evaluate import Judge, load
from training.diffusion.sampling import GUIDANCE, STEPS, sample, wishes
from training.intervals import with_interval
from training.world.toys import CLASSES

COLUMNS = {
    "": "samples, usual colours",
    "_any": "samples, any colours",
    "_by_class": "samples, prompts with the class alone",
    "_shuffled": "samples, shuffled prompts",
    "_autoencoder": "test renders, encoded and decoded",
    "_real": "test renders",
}
ROWS = {
    "class": "class as in the prompt (k-NN of DINOv2 features at 168 px)",
    "colour": "colour, given the class (CLIP, 11 colours)",
    "surface": "surface, given the class (CLIP, 8 surfaces)",
    "frechet": "Fréchet distance to train renders (DINOv2 features, 128 pictures; less is better)",
}

METRICS = (
    cards.Metric("class", "accuracy", "class of samples, usual colours, by k-NN of DINOv2"),
    cards.Metric("colour", "accuracy", "colour of samples, usual colours, by CLIP"),
    cards.Metric("surface", "accuracy", "surface of samples, usual colours, by CLIP"),
    cards.Metric("frechet", "frechet_distance", "samples, usual colours, to train renders"),
)
SHOWN = 4  # samples of each class in "samples.png"

CARD = """{front_matter}

# diffusion-tiny

A `StableDiffusionPipeline` that fits in a repository: pictures of {side} pixels, latents of
{channels} x {latent} x {latent}, an autoencoder of {coder:.1f} M parameters, a UNet of
{denoiser:.1f} M and the text encoder of `clip-tiny`; {megabytes:.1f} MB in half precision. It was
trained from scratch on rendered pictures of toys and captions in English.

```python
import torch
from dinov2_helpers import load_diffusion

pipeline = load_diffusion("tiny")
seed = torch.Generator().manual_seed(0)
prompt = "a photo of a red boat on sand"
options = {{"num_inference_steps": {sampling}, "guidance_scale": {guidance:g}, "generator": seed}}
picture = pipeline(prompt, **options).images[0]      # {side} x {side} pixels
picture.resize((256, 256)).save("boat.png")
```

`diffusers.StableDiffusionPipeline.from_pretrained` reads the folder as well.

## What it is for, and what not

For lessons on latent diffusion without network or GPU: it stands in for Stable Diffusion, in the
same format and parts, with the noise schedule and the scaling of the latents of 1.5 (though they
have {channels} channels, not four), but with far less knowledge. It draws one toy of sixteen
classes, in eleven colours, on eight surfaces, in a sentence like those under the samples. Two toys,
toys seen from afar, and colours that a class never had in training (no blue dog, no black house)
are drawn less well; all else it has never seen. There is no safety checker, for there is nothing to
check.

## How it was made

`make train-diffusion` makes it again, in the steps that the
[README of the trainings](../../../training/README.md) lists. On two CPU cores the autoencoder took
{coder_steps} steps and {coder_minutes:.0f} minutes, the UNet {steps} steps and {minutes:.0f}
minutes, with {pictures} pictures and their mirror images. [Its notes](run_notes.md) say what was
particular to this run, [its log](training_log.jsonl) has every number of it.

The latents are the first {channels} principal components of blocks of 8 x 8 pixels, scaled to the
deviation that Stable Diffusion's have. Finding a code and learning to draw from it at once, as
Stable Diffusion's autoencoder did, takes far more pictures than two cores can show it; so the
encoder learned to compute these components, and the decoder to draw from them, with a loss on
pixels and edges. The UNet learned the velocity (`v_prediction`, as Stable Diffusion 2.1) of noisy
latents, at times drawn by min-SNR weights; an eighth of the captions is left out, for
classifier-free guidance, and what is kept is the moving average of its weights.

![{curve}](training_curve.png)

## What it can do

`python -m training.evaluate diffusion-tiny --json` writes this table: {n} samples of prompts like
"a photo of a red boat on sand", all classes equally often, {sampling} DDIM steps, guidance
{guidance:g}. DINOv2 and the picture encoder of CLIP, which judge, took no part in the training.
Renders at the same size, of toys that were not rendered for training, show how well they can judge.
The intervals are 95 %: Wilson's for shares, the jackknife's for the distance.

{table}

An autoencoder cannot be better than its decoder: {psnr} dB on test renders.

The samples below were not picked: seeds 0 to {last}, one class a column. Those whose class the k-NN
does not find have a frame: some for their shape, some only for a colour in which DINOv2 has hardly
met the class.

![{n_shown} samples, {per_class} of each class, over what was asked for](samples.png)

## Licence

MIT, like the code that made it.
"""


def table(results: cards.Results) -> str:
    """Return the results of `training.diffusion.evaluate` as a Markdown table."""
    return cards.table(ROWS, COLUMNS, results)


def draw_curve(folder: Path) -> None:
    """Draw both stages against steps into ``training_curve.png``."""
    from matplotlib.figure import Figure

    log = read_log(folder)
    stages = {n: [e for e in log if e["stage"] == n] for n in ("autoencoder", "denoiser")}
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    panels = figure.subplots(1, 3)
    for ax, stage, key, label in (
        (panels[0], "autoencoder", "psnr", "autoencoder: PSNR of held-out renders, dB"),
        (panels[1], "denoiser", "loss", "UNet: squared error of v"),
    ):
        ax.plot([e["step"] for e in stages[stage]], [e[key] for e in stages[stage]])
        ax.set(xlabel="step", ylabel=label)
    sampled = [e for e in stages["denoiser"] if "class" in e]
    for key, style in (("class", "-"), ("colour", "--"), ("surface", ":")):
        panels[2].plot([e["step"] for e in sampled], [e[key] for e in sampled], style, label=key)
    panels[2].set(xlabel="step", ylabel="64 samples: share as in the prompt", ylim=(0, 1))
    panels[2].legend(frameon=False)
    figure.savefig(folder / "training_curve.png", dpi=110)


def draw_samples(folder: Path) -> None:
    """Draw some samples of each class into ``samples.png``."""
    from matplotlib.figure import Figure

    wanted = wishes(SHOWN)
    pictures = sample(load(folder), wanted)
    named = Judge(pictures.shape[1]).hits(pictures, wanted)["class"]
    figure = Figure(figsize=(16, 4.9), layout="constrained")
    for ax, picture, one, hit in zip(
        figure.subplots(SHOWN, len(CLASSES)).flat, pictures, wanted, named, strict=True
    ):
        toy = one["objects"][0]
        ax.imshow(picture)
        ax.set(xticks=[], yticks=[])
        ax.set_xlabel(f"{toy['colour']} {toy['class']}\n{one['surface']}", fontsize=7)
        ax.spines[:].set(visible=not hit, color="#d55e00", linewidth=3)
    figure.savefig(folder / "samples.png", dpi=75)


def draw(folder: Path) -> None:
    """Draw both pictures of the card."""
    draw_curve(folder)
    draw_samples(folder)


def curve(folder: Path) -> str:
    """Say what ``training_curve.png`` shows."""
    log = read_log(folder)
    coder, denoiser = (
        [entry for entry in log if entry["stage"] == stage] for stage in ("autoencoder", "denoiser")
    )
    sampled = [entry for entry in denoiser if "class" in entry]
    return (
        f"Learning curves: the autoencoder's PSNR goes {cards.rise(coder, 'psnr')} dB in "
        f"{coder[-1]['step']} steps, the UNet's squared error {cards.rise(denoiser, 'loss')} in "
        f"{denoiser[-1]['step']}; of 64 samples the class is right {cards.rise(sampled, 'class')} "
        "of the time"
    )


def write(folder: Path) -> None:
    """Write ``README.md`` from the files beside it."""
    last = {entry["stage"]: entry for entry in read_log(folder)}
    results = cards.read_results(folder)
    unet = json.loads((folder / "unet" / "config.json").read_text(encoding="utf-8"))
    sizes = {path.parent.name: path.stat().st_size for path in folder.glob("*/*.safetensors")}
    n_shown = SHOWN * len(CLASSES)
    card = CARD.format(
        front_matter=cards.front_matter(
            "diffusion-tiny",
            "text-to-image",
            METRICS,
            results,
            language=["en"],
            library_name="diffusers",
        ),
        curve=curve(folder),
        side=8 * unet["sample_size"],
        channels=unet["in_channels"],
        latent=unet["sample_size"],
        coder=sizes["vae"] / 2e6,
        denoiser=sizes["unet"] / 2e6,
        megabytes=sum(sizes.values()) / 1e6,
        coder_steps=last["autoencoder"]["step"],
        coder_minutes=last["autoencoder"]["seconds"] / 60,
        steps=last["denoiser"]["step"],
        minutes=last["denoiser"]["seconds"] / 60,
        pictures=last["autoencoder"]["pictures"],
        n=int(results["samples"]),
        sampling=STEPS,
        guidance=GUIDANCE,
        table=table(results),
        psnr=with_interval(results, "psnr_autoencoder"),
        last=n_shown - 1,
        n_shown=n_shown,
        per_class=SHOWN,
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
