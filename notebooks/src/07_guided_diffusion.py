# ---
# jupyter:
#   jupytext:
#     notebook_metadata_filter: headline
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
#   headline:
#     07.guided_similarity_gain: DINOv2 similarity to the target, gain over the same seeds unguided
#     07.independent_similarity_gain: the same by CLIP's picture encoder, which did not guide
# ---

# %% [markdown]
# # 7. Guided diffusion
#
# **Can a picture steer a model that draws from words?**
#
# <!-- badge:begin --><!-- badge:end -->
#
# ![Targets; the same prompts and seeds without and with a guide](figures/07_guided_diffusion.jpeg)
#
# When you are through you can
#
# 1. **find six errors** in a loop that is copied widely, one of which shows in no picture;
# 2. **write guidance** in three formulas, and check its gradient;
# 3. **judge a picture** by eyes that did not guide, after seeing what fools them.
#
# About 50 minutes. Everything that is measured here, and more, is measured to the end in
# [the evidence](evidence/07_guided_diffusion.ipynb).
#
# <!-- cost-card:begin --><!-- cost-card:end -->

# %%
from glob import glob
from importlib.util import find_spec

if not find_spec("dinov2_helpers"):
    assert glob("dinov2_in_practice-*.whl"), "Run `make setup`, or on Colab upload the wheel first"
    # !pip install -q --no-deps dinov2_in_practice-*.whl
from dinov2_helpers import course

course.setup()

# %% [markdown]
# ## A picture out of noise
#
# A **latent diffusion model** ([Rombach et al. 2022](https://arxiv.org/abs/2112.10752)) has three
# parts. A text encoder reads the prompt. A network, the UNet, removes noise from *latents*, a small
# array that stands for the picture, a little in each step. A decoder turns latents into pixels. The
# pipeline does it all:

# %%
import torch

from dinov2_helpers import load_diffusion, plotting

pipeline = load_diffusion()

prompts = [f"a photo of a {name}" for name in ("mug", "boat", "lamp", "tree")]
generators = [torch.Generator().manual_seed(seed) for seed in range(4)]
drawn = pipeline(prompts, generator=generators, num_inference_steps=25, guidance_scale=4.0)

plotting.show(plotting.show_images(drawn.images, titles=prompts, columns=4, alt="Four drawn toys"))

# %% [markdown]
# The embedded model has less than a hundredth of Stable Diffusion's size, knows toys, and draws
# small. These are the things that pass from part to part:

# %%
from diffusers import DDIMScheduler

scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)  # the same for every profile
scheduler.set_timesteps(25)


def read(texts):
    """What the UNet reads of texts: (n, tokens, width)."""
    tokens = pipeline.tokenizer(
        texts,
        padding="max_length",
        max_length=pipeline.tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
    with torch.no_grad():
        return pipeline.text_encoder(tokens.input_ids.to(pipeline.device)).last_hidden_state


def start_noise(seeds):
    """Latents of pure noise, one seed for each picture: (n, C, h, w)."""
    config = pipeline.unet.config
    shape = (1, config.in_channels, config.sample_size, config.sample_size)
    drawn = [torch.randn(shape, generator=torch.Generator().manual_seed(s)) for s in seeds]
    return torch.cat(drawn).to(pipeline.device)


read(prompts).shape, start_noise([0, 1, 2, 3]).shape, scheduler.timesteps[:5]

# %% [markdown]
# The timesteps fall from nearly a thousand, pure noise, to zero, a clean picture.
#
# ## What we ask for
#
# Eight prompts that name a toy and nothing else. Each has a **target**, a real render of such a
# toy: it has what the prompt leaves open, colour, ground, pose. And **DINOv2**, which shall pull
# what is drawn towards the target.

# %%
import numpy as np
import torch.nn.functional as F

from dinov2_helpers import extract_features, load_clip, load_dinov2, load_scenes

dinov2 = load_dinov2()
clip = load_clip()

NAMES = ["car", "truck", "airplane", "boat", "rocket", "mug", "tree", "duck"]
renders = load_scenes("test").select(n_objects=1, framing="portrait")
of_class = renders.labels("class")
chosen = [int(np.flatnonzero(of_class == name)[0]) for name in NAMES]
texts = [f"a photo of a {name}".replace("a airplane", "an airplane") for name in NAMES]
seeds = list(range(1000, 1008))

side = pipeline.unet.config.sample_size * pipeline.vae_scale_factor  # of the pictures, in pixels
targets = []
for i in chosen:
    targets.append(torch.from_numpy(np.array(renders.image(i).resize((side, side)))))
targets = torch.stack(targets).permute(0, 3, 1, 2).to(pipeline.device) / 127.5 - 1  # (8, 3, H, W)

targets.shape


# %%
def as_arrays(pictures):
    """Pictures (n, 3, H, W) from -1 to 1 as (n, H, W, 3) from 0 to 255."""
    scaled = ((pictures.detach().cpu() + 1) * 127.5).clamp(0, 255)
    return scaled.round().byte().permute(0, 2, 3, 1).numpy()


def tokens_of(pictures):
    """DINOv2's tokens of pictures (n, 3, H, W) from -1 to 1, with a way back for a gradient."""
    size = 8 * dinov2.patch_size
    pixels = ((pictures + 1) / 2).clamp(0, 1)
    pixels = F.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
    mean = pixels.new_tensor(dinov2.processor.image_mean).view(3, 1, 1)
    std = pixels.new_tensor(dinov2.processor.image_std).view(3, 1, 1)
    return dinov2.model(pixel_values=(pixels - mean) / std).last_hidden_state


def cls_of(arrays):
    """DINOv2's CLS of finished pictures, of length 1: (n, D)."""
    found = extract_features(dinov2, list(arrays), size=168, patches=False, progress=False)
    return found.cls / np.linalg.norm(found.cls, axis=1, keepdims=True)


target_cls = cls_of(as_arrays(targets))
plotting.show(
    plotting.show_images(as_arrays(targets), titles=NAMES, columns=8, alt="Eight target renders")
)

# %% [markdown]
# ## The article's loop
#
# The idea is sound: in the first half of the steps, add to the guessed noise `strength` times the
# gradient of the distance between DINOv2's features of what is being drawn and of the target. Here
# it is, with a switch for each of its errors.


# %%
def article(strength, repaired, n=8, steps=8):
    """What the article's loop draws for n tasks, less the errors that are repaired."""
    scheduler.set_timesteps(steps)
    latents = start_noise(seeds[:n])
    with torch.no_grad():
        wanted = tokens_of(targets[:n]).mean(dim=1)
    for step, t in enumerate(scheduler.timesteps):
        if "timestep" not in repaired:
            t = torch.tensor(step)
        latents = latents.detach().requires_grad_("gradient" in repaired)
        output = ask_unet(latents, t, texts[:n], repaired)
        if strength and step < steps // 2:
            shown = latents
            if "clean" in repaired:
                shown = scheduler.step(output, t, latents).pred_original_sample
            found = tokens_of(decode(shown, repaired)).mean(dim=1)  # (n, D)
            loss = ((found - wanted) ** 2).mean(dim=1).sum()  # each picture by itself
            output = output + strength * torch.autograd.grad(loss, latents)[0]
        latents = scheduler.step(output.detach(), t, latents.detach()).prev_sample
    with torch.no_grad():
        return as_arrays(decode(latents, repaired))


# %%
def ask_unet(latents, t, texts, repaired):
    """What the UNet says of latents, asked as the article does where nothing is repaired."""
    if "text" not in repaired:
        return pipeline.unet(latents, t, encoder_hidden_states=texts).sample
    prompted = pipeline.unet(latents, t, encoder_hidden_states=read(texts)).sample
    if "prompt" not in repaired:
        return prompted
    free = pipeline.unet(latents, t, encoder_hidden_states=read([""] * len(texts))).sample
    return free + 4.0 * (prompted - free)


def decode(latents, repaired=("scale",)):
    """Latents as pictures (n, 3, H, W), with the decoder's scale or without."""
    scale = 1.0
    if "scale" in repaired:
        scale = pipeline.vae.config.scaling_factor
    return pipeline.vae.decode(latents / scale).sample


# %% [markdown]
# *Run it as it is. Which error will come first?*

# %%
repairs = ["text", "gradient", "timestep", "scale", "prompt", "clean"]

for done in (0, 1):
    try:
        article(0.5, repairs[:done], n=1)
    except Exception as error:
        print(f"repaired {repairs[:done]}: {type(error).__name__}: {str(error)[:90]}")

# %% [markdown]
# 1. **A string is no embedding.** The UNet wants the text encoder's states.
# 2. **No path for a gradient.** The latents never asked for one.
#
# With these two repaired it runs, and nothing warns of the other four:
#
# 3. **The step's number is no timestep.** In `range(steps)` the UNet is told of pure noise that it
#    is nearly clean.
# 4. **No scale.** The decoder gets latents several times too small or too large.
# 5. **The prompt is heard, but not amplified**: no classifier-free guidance ([Ho & Salimans
#    2022](https://arxiv.org/abs/2207.12598)).
# 6. **DINOv2 is shown noise.** The noisy latents are decoded, instead of the guess of the clean
#    picture.
#
# We repair one after the other and draw, with the guidance off. *After which repair will you first
# see a toy?*

# %%
rows = []
for done in (2, 3, 4, 5):
    alone = article(0.0, repairs[:done])
    rows += list(alone)

plotting.show(
    plotting.show_images(
        rows,
        titles=[f"{2 + i // 8} repaired" if i % 8 == 0 else "" for i in range(len(rows))],
        columns=8,
        alt="Eight prompts in four rows, one error less in each: noise first, toys at the end",
    )
)

# %% [markdown]
# The sixth shows in no picture. But now guidance is switched on, at 0.7, the strongest that the
# article calls usual. What is gained is the cosine to the target of DINOv2's CLS, its vector for a
# whole picture, over the same seeds without guidance, which are the last row above.

# %%
gains = {}
for done in (5, 6):
    pictures = article(0.7, repairs[:done])
    gains[done] = ((cls_of(pictures) - cls_of(alone)) * target_cls).sum(axis=1)  # (8,)
    print(f"{done} repaired: gain {gains[done].mean():+.4f}")

# %%
from dinov2_helpers.claims import conclude, say
from dinov2_helpers.measure import bootstrap

sixth = bootstrap(gains[6] - gains[5])
if sixth.low > 0:
    sixth_word = "the sixth repair is worth"
else:
    sixth_word = "eight pictures do not tell what the sixth repair is worth, here"
say(
    f"With five repaired the guidance gains {bootstrap(gains[5]):+.4f}, with six "
    f"{bootstrap(gains[6]):+.4f}: {sixth_word} {sixth:+.4f}. A cosine goes up to 1. Is that all "
    "that a picture can do?"
)

# %% [markdown]
# ## The loop, in three formulas
#
# What the UNet sees at a timestep is a mixture of the clean latents $x_0$ and noise $\epsilon$,
#
# $$ x_t = \alpha_t\, x_0 + \sigma_t\, \epsilon $$
#
# with $\alpha_t^2 + \sigma_t^2 = 1$. Whatever the UNet was trained to say, it gives a guess of
# both. The next, less noisy latents are the same mixture with the next $\alpha$ and $\sigma$
# ([DDIM, Song et al. 2021](https://arxiv.org/abs/2010.02502)).


# %%
def levels(t):
    """How much signal and how much noise there is at a timestep."""
    kept = scheduler.alphas_cumprod[t] if t >= 0 else scheduler.final_alpha_cumprod
    return float(kept) ** 0.5, float(1 - kept) ** 0.5


# %% [markdown]
# The UNet answers for the empty prompt and for ours, and we go further in the direction from the
# one to the other: the fifth repair. The scheduler turns the answer into a guess of $x_0$; the
# formula above, solved for $\epsilon$, gives the guess of the noise.


# %%
def guess(x, t, states):
    """The UNet's guesses of the clean latents and of the noise, with the prompt amplified.

    Takes states of n empty prompts, then of n prompts.
    """
    output = pipeline.unet(torch.cat([x, x]), t, encoder_hidden_states=states).sample
    free, prompted = output.chunk(2)
    output = free + 4.0 * (prompted - free)
    clean = scheduler.step(output, t, x).pred_original_sample
    signal, spread = levels(t)
    return clean, (x - signal * clean) / spread


# %% [markdown]
# Drawing is this guess, over and over, each time with a little less noise. A guide will change the
# noise; for now there is none.


# %%
def draw(texts, seeds, guide=None, strength=0.0, steps=25, film=None):
    """Draw texts; a guide changes the noise: pictures (n, H, W, 3)."""
    scheduler.set_timesteps(steps)
    states = read([""] * len(texts) + list(texts))
    x = start_noise(seeds)
    stride = scheduler.config.num_train_timesteps // steps
    for t in scheduler.timesteps:
        signal, spread = levels(t)
        if guide is None:
            with torch.no_grad():
                clean, noise = guess(x, t, states)
        else:
            noise = guided_noise(x, t, states, guide, strength)
            clean = (x - spread * noise) / signal
        if film is not None:
            film.append(clean)
        next_signal, next_spread = levels(t - stride)
        x = next_signal * clean + next_spread * noise
    with torch.no_grad():
        return as_arrays(decode(x))


# %% [markdown]
# Is it the right loop? It must draw what the pipeline draws.

# %%
pipeline.scheduler = scheduler
generators = [torch.Generator().manual_seed(seed) for seed in seeds[:2]]
theirs = pipeline(
    texts[:2], generator=generators, num_inference_steps=25, guidance_scale=4.0, output_type="np"
)
ours = draw(texts[:2], seeds[:2])
difference = abs(ours / 255 - theirs.images).max()
print(f"largest difference of a pixel, of 1: {difference:.3f}")

# %%
film = []
draw(texts[:3], seeds[:3], film=film)
frames = [0, 3, 6, 9, 12, 16, 20, 24]
with torch.no_grad():
    strips = [as_arrays(decode(film[step])) for step in frames]  # 8 of (3, H, W, 3)

plotting.show(
    plotting.show_images(
        [strip[row] for row in range(3) for strip in strips],
        titles=[f"step {step + 1}" for step in frames],
        columns=8,
        alt="Three filmstrips of the guessed clean picture: a blur that takes shape",
    )
)

# %% [markdown]
# From the first step on there is a guess of the clean picture. *That* is what DINOv2 is shown. Let
# $f$ be its features and $f^*$ those of the target:
#
# $$ L(x_t) = 1 - \cos\big(f(\mathrm{decode}(x_0(x_t))),\; f^*\big) $$
#
# Its gradient $g = \partial L / \partial x_t$ says how to change the latents for the worse. Added
# to the noise, it is *removed* ([Universal Guidance, Bansal et al.
# 2023](https://arxiv.org/abs/2302.07121)). But how much of it? The length of a gradient depends on
# everything: encoder, decoder, step, sum or mean. So we throw that length away, and give the
# gradient a **share $s$ of the length of the noise**:
#
# $$ \epsilon' = \epsilon + s\, \lVert\epsilon\rVert\, \frac{g}{\lVert g\rVert} $$


# %%
def unlike(clean, guide):
    """1 - cosine of DINOv2's CLS of clean latents and of the targets: (n,)."""
    found = tokens_of(decode(clean))[:, 0]
    return 1 - F.cosine_similarity(found, guide, dim=1)


def guided_noise(x, t, states, guide, strength):
    """The noise of a step with the push in it."""
    x = x.detach().requires_grad_()
    clean, noise = guess(x, t, states)
    (gradient,) = torch.autograd.grad(unlike(clean, guide).sum(), x)
    noise = noise.detach()
    length_of_noise = noise.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    length_of_gradient = gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    return noise + strength * length_of_noise * gradient / length_of_gradient


with torch.no_grad():
    guide = tokens_of(targets)[:, 0]  # (8, D)

# %% [markdown]
# Never trust a gradient that was not checked. A small step along it must change the loss by as much
# as it says.

# %%
scheduler.set_timesteps(25)
t = scheduler.timesteps[8]
states = read(["", texts[0]])
x = start_noise(seeds[:1])


def loss_at(x):
    """The loss of one picture."""
    return unlike(guess(x, t, states)[0], guide[:1]).sum()


point = x.clone().requires_grad_()
(gradient,) = torch.autograd.grad(loss_at(point), point)
direction = gradient / gradient.norm()
with torch.no_grad():
    slope = (loss_at(x + 0.05 * direction) - loss_at(x - 0.05 * direction)) / 0.1

print(f"the loss changes by {float(slope):.5f}, the gradient says {float(gradient.norm()):.5f}")
conclude(
    abs(float(slope) / float(gradient.norm()) - 1) < 0.1,
    "The gradient finds its way through DINOv2, the decoder and the UNet.",
)

# %% [markdown]
# ## How strong?
#
# *Look at the rows: at which strength do you see the target? What does the stronger push change
# that the weaker does not?*

# %%
strengths = (0.3, 1.0)
unguided = draw(texts, seeds)
by_strength = {strength: draw(texts, seeds, guide, strength) for strength in strengths}

shown = {"target": as_arrays(targets), "unguided": unguided}
shown |= {f"strength {strength}": pictures for strength, pictures in by_strength.items()}
plotting.show(
    plotting.show_images(
        [picture for pictures in shown.values() for picture in pictures],
        titles=[name if i == 0 else "" for name in shown for i in range(8)],
        columns=8,
        alt="Eight targets, the same prompts and seeds unguided, and with two strengths",
    )
)

# %%
pushed = bootstrap(((cls_of(by_strength[0.3]) - cls_of(unguided)) * target_cls).sum(axis=1))
conclude(
    pushed.low > bootstrap(gains[6]).high,
    f"In DINOv2's eyes a push of 0.3 of the noise gains {pushed:+.2f}. The article's 0.7 of a raw "
    f"gradient, all six errors repaired, gained {gains[6].mean():+.4f}: **a strength without a "
    "unit is no strength**.",
)

# %%
stronger = bootstrap(((cls_of(by_strength[1.0]) - cls_of(unguided)) * target_cls).sum(axis=1))
burnt = {name: ((x <= 5) | (x >= 250)).mean() for name, x in shown.items()}  # of 0 to 255
conclude(
    burnt["strength 1.0"] > 2 * burnt["strength 0.3"],
    f"A push of 1.0 gains {stronger:+.2f}, and **burns colours out**: {burnt['strength 1.0']:.0%} "
    "of the values of red, green and blue are at an end of their range. With 0.3 it "
    f"is {burnt['strength 0.3']:.0%}, in the targets {burnt['target']:.0%}.",
)

# %% [markdown]
# ## Who judges?
#
# DINOv2 pulled, so it must not judge alone: noise that no eye sees may please one encoder. So three
# others: **CLIP to the target**, which did not guide; **CLIP to the prompt**, is it still heard;
# and the **shape**, by histograms of edge directions, which learned nothing ([Dalal & Triggs
# 2005](https://doi.org/10.1109/CVPR.2005.177)). All are cosines, paired: the same prompt and seed
# with and without.
#
# And two impostors stand trial with them: the *target itself, blurred*, and the *target cut into
# tiles and shuffled*. No toy is left in either. Beside them stands an honest picture of *another*
# toy, that of the next prompt. *Which judges will be fooled, and next to what?*

# %%
from PIL import Image, ImageFilter
from skimage.feature import hog

target_clip = clip.embed_images(list(as_arrays(targets)), progress=False).vectors
text_clip = clip.embed_texts(texts)


def shape_of(picture):
    """Histograms of edge directions of a picture, of length 1."""
    found = hog(np.asarray(picture).mean(axis=2), pixels_per_cell=(8, 8), cells_per_block=(2, 2))
    return found / np.linalg.norm(found)


target_shapes = np.stack([shape_of(picture) for picture in as_arrays(targets)])


def judge(pictures):
    """What four judges say of each of eight pictures: (8,) each."""
    seen = clip.embed_images(list(pictures), progress=False).vectors
    shapes = np.stack([shape_of(picture) for picture in pictures])
    return {
        "DINOv2 to the target": (cls_of(pictures) * target_cls).sum(axis=1),
        "CLIP to the target": (seen * target_clip).sum(axis=1),
        "CLIP to the prompt": (seen * text_clip).sum(axis=1),
        "shape of the target": (shapes * target_shapes).sum(axis=1),
    }


# %%
def shuffled(picture, random, tile=8):
    """A picture cut into tiles that are put back in any order."""
    rows = picture.shape[0] // tile
    tiles = picture.reshape(rows, tile, rows, tile, 3).transpose(0, 2, 1, 3, 4)
    tiles = tiles.reshape(rows * rows, tile, tile, 3)[random.permutation(rows * rows)]
    tiles = tiles.reshape(rows, rows, tile, tile, 3).transpose(0, 2, 1, 3, 4)
    return tiles.reshape(picture.shape)


random = np.random.default_rng(0)
blurred = []
tiled = []
for picture in as_arrays(targets):
    soft = Image.fromarray(picture).filter(ImageFilter.GaussianBlur(side / 8))
    blurred.append(np.asarray(soft))
    tiled.append(shuffled(picture, random))

suspects = {f"strength {strength}": pictures for strength, pictures in by_strength.items()}
suspects |= {"target, blurred": np.stack(blurred), "target, shuffled": np.stack(tiled)}
suspects["another toy"] = np.roll(unguided, -1, axis=0)

# %%
without = judge(unguided)
judged = {name: judge(pictures) for name, pictures in suspects.items()}
verdicts = {}
for name, marks in judged.items():
    verdicts[name] = {who: bootstrap(marks[who] - without[who]) for who in without}

plotting.show(
    plotting.heatmap(
        np.array([[gain.value for gain in gains.values()] for gains in verdicts.values()]),
        list(verdicts),
        list(without),
        limits=(-0.5, 0.5),
        title="change of the cosine beside unguided pictures",
        alt="Change of four judges for two strengths, two impostors without a toy, and another toy",
    )
)

# %%
impostors = ("target, blurred", "target, shuffled")
clip_of = {name: marks["CLIP to the target"] for name, marks in judged.items()}
by_clip = {name: of_judges["CLIP to the target"] for name, of_judges in verdicts.items()}
over_another = {name: bootstrap(clip_of[name] - clip_of["another toy"]) for name in impostors}
most = max(impostors, key=lambda name: over_another[name].value)
conclude(
    by_clip["strength 0.3"].low > max(by_clip[name].value for name in impostors)
    and over_another[most].low > 0,
    f"For CLIP, which did not guide, a push of 0.3 brings {by_clip['strength 0.3']:+.2f}, and no "
    f"impostor comes near the right toy. But **the {most.replace(',', '')}, a picture without a "
    f"toy, pleases it more than a sharp toy of another class**, by {over_another[most]:+.2f}. If "
    "your prompt names another thing than the target, a picture without a toy would already raise "
    "this score. Only all judges together, with the impostors beside them, are a judgement.",
)

# %% tags=["finished-picture"]
plotting.show(
    plotting.show_images(
        [*as_arrays(targets), *unguided, *by_strength[0.3]],
        titles=["target", *[""] * 7, "unguided", *[""] * 7, "guided", *[""] * 7],
        columns=8,
        alt="Eight targets, the unguided picture of each prompt and seed, and the guided one; "
        "not picked: one of each class, seeds in order",
    )
)

# %% [markdown]
# Nothing here was picked: one target of each class, seeds in order.
#
# ## Where it fails
#
# A mean hides the failures. Here are the three targets that guidance brings CLIP least nearer to.
# *What is kept of each, and what is not: the class, the colour of the toy, the ground?*

# %%
gain_by_clip = judged["strength 0.3"]["CLIP to the target"] - without["CLIP to the target"]  # (8,)
least = np.argsort(gain_by_clip)[:3]

triples = []
headings = []
for i in least:
    triples += [as_arrays(targets)[i], unguided[i], by_strength[0.3][i]]
    headings += [f"target:\n{NAMES[i]}", "unguided", f"guided:\nCLIP {gain_by_clip[i]:+.3f}"]

plotting.show(
    plotting.show_images(
        triples,
        titles=headings,
        columns=9,
        alt="The three targets with the smallest gain, each with its unguided and guided picture",
    )
)

# %% [markdown]
# The class: CLIP reads the names. The colours: their mean in the middle, where the toy is, and at
# the rim, the ground, beside the target's. We take the distance in Lab, where it is about as large
# as it looks.

# %%
from skimage.color import rgb2lab

from dinov2_helpers.samples import CLASS_NAMES

name_texts = clip.embed_texts([f"a photo of a {name}" for name in CLASS_NAMES])  # (16, d)


def named(pictures):
    """What CLIP calls each picture, of sixteen names."""
    seen = clip.embed_images(list(pictures), progress=False).vectors
    return [CLASS_NAMES[i] for i in (seen @ name_texts.T).argmax(axis=1)]


def colours_apart(pictures, place):
    """Distance of the mean colours of pictures and targets in a place (H, W), in Lab: (8,)."""
    found = rgb2lab(pictures)[:, place].mean(axis=1)  # (8, 3)
    wanted = rgb2lab(as_arrays(targets))[:, place].mean(axis=1)  # (8, 3)
    return np.linalg.norm(found - wanted, axis=1)


# %%
middle = np.zeros((side, side), dtype=bool)
middle[side // 4 : -side // 4, side // 4 : -side // 4] = True

before = {}
after = {}
for place, pixels in {"middle": middle, "rim": ~middle}.items():
    before[place] = colours_apart(unguided, pixels)
    after[place] = colours_apart(by_strength[0.3], pixels)

for i in least:
    moved = [f"{place} {before[place][i]:.0f} -> {after[place][i]:.0f}" for place in before]
    print(f"{NAMES[i]}, colours apart: {', '.join(moved)}")

# %%
answers = named(by_strength[0.3])
worst = least[0]
away = [NAMES[i] for i in least if after["rim"][i] > before["rim"][i]]
away_word = f" At the rim the {' and the '.join(away)} even moves away." if away else ""
conclude(
    all(answers[i] == NAMES[i] for i in least)
    and all(after[place][worst] > before[place][worst] / 2 for place in before),
    "**The class is kept**: CLIP calls all three by the right name. **Colour and ground "
    f"are not**, or not always: the mean colours of the {NAMES[worst]} stay "
    f"{after['middle'][worst]:.0f} from the target's in the middle and {after['rim'][worst]:.0f} "
    f"at the rim, unguided {before['middle'][worst]:.0f} and {before['rim'][worst]:.0f}."
    f"{away_word}",
)

# %% [markdown]
# And of all eight: does the **shape** follow, or only what a blurred target has as well?

# %%
shape_gain = verdicts["strength 0.3"]["shape of the target"]
missing = 1 - without["shape of the target"].mean()  # from the unguided pictures to the target
if shape_gain.low > 0:
    shape_word = "The shape follows"
    if shape_gain.value < missing / 4:
        shape_word += " a little"
elif shape_gain.high < 0:
    shape_word = "The shape moves away"
else:
    shape_word = "Eight pictures do not show that the shape follows"

right = {
    name: sum(a == b for a, b in zip(named(x), NAMES, strict=True)) for name, x in shown.items()
}
if min(right.values()) == len(NAMES):
    class_word = "CLIP names all eight rightly, with either strength: the class does not fail"
else:
    counts = [f"{name} {count} of 8" for name, count in right.items()]
    class_word = f"Of the class asked for, by CLIP: {'; '.join(counts)}"
say(
    f"{shape_word}: {shape_gain:+.3f} of the {missing:.2f} that an unguided picture lacks. "
    f"{class_word}."
)

# %% [markdown]
# ## Try it
#
# Choose a prompt, a target and a strength. (Without a running kernel you see the default.)


# %%
def steer(prompt, target, strength):
    """A target, and what one prompt and seed draw without and with its pull."""
    row = NAMES.index(target)
    free = draw([prompt], [7])
    pulled = draw([prompt], [7], guide[row : row + 1], strength)
    return plotting.show_images(
        [as_arrays(targets)[row], free[0], pulled[0]],
        titles=["target", "unguided", f"strength {strength}"],
        alt=f"{prompt}, pulled to a {target}",
    )


# %%
import ipywidgets

from dinov2_helpers.widgets import Explorer

Explorer(
    steer,
    prompt=ipywidgets.Text("a photo of a car"),
    target=ipywidgets.Dropdown(options=NAMES, value="car"),
    strength=ipywidgets.FloatSlider(0.3, min=0, max=2, step=0.1),
)

# %% [markdown]
# ## Your own images
#
# The library's `Guide` does the same for pipelines of diffusers, Stable Diffusion XL and 3 among
# them, on a GPU in half precision. Beside CLS it also matches *texture*: which of the numbers of an
# early block's patches are large together, wherever in the picture (a Gram matrix, [Gatys et al.
# 2016](https://doi.org/10.1109/CVPR.2016.265)). `gradient="full"` goes through the UNet, as above;
# `"cheap"`, its default, goes around it, in much less memory. It is saved without the picture, and
# loaded tomorrow. Not every seed follows equally far, so CLIP, which does not guide, marks each.

# %%
TARGET = None  # for instance "/content/drive/MyDrive/mug.jpg" or r"C:\Pictures\mug.jpg"
PROMPT = "a photo of a mug"

# %%
from dinov2_helpers.pictures import open_image
from dinov2_helpers.techniques import Guide

target = TARGET or renders.image(chosen[NAMES.index("mug")])
my_guide = Guide(dinov2, target, strength=0.3, gradient="full", size=112)
my_guide.save("my.guide")

# %%
mine = Guide.load("my.guide", dinov2).sample(pipeline, PROMPT, steps=25, guidance_scale=4.0, n=2)
target_and_drawn = [open_image(target), *mine.pictures]

vectors = clip.embed_images(target_and_drawn, progress=False).vectors
to_target = vectors[1:] @ vectors[0]  # (2,)
plotting.show(
    plotting.show_images(
        target_and_drawn,
        titles=["target", *[f"drawn, CLIP to the target {cosine:.2f}" for cosine in to_target]],
        alt="My target, and two pictures drawn with its pull",
    )
)

# %% [markdown]
# ## Exercises
#
# **1. Warm-up: a push of a given length.** Give each gradient the share `strength` of the length of
# its own noise.


# %% tags=["exercise-1-stub"]
def push(gradient, noise, strength):
    """The gradient (n, C, h, w) with the share `strength` of the length of each noise."""
    raise NotImplementedError


# %% tags=["exercise-1-check"]
import torch

try:
    some_gradient = torch.arange(1.0, 17.0).view(2, 2, 2, 2)
    some_noise = (3 * some_gradient) % 7 - 2
    answer = push(some_gradient.clone(), some_noise.clone(), 0.5)
    assert answer is not None, "It returns nothing: end with `return`."
    assert isinstance(answer, torch.Tensor), f"It returns a {type(answer).__name__}, not a tensor."
    assert answer.shape == (2, 2, 2, 2), f"Its shape is {tuple(answer.shape)}: keep (n, C, h, w)."
    together = 0.5 * some_noise.norm() * some_gradient / some_gradient.norm()
    assert not torch.allclose(answer, together), "Each picture has a length of its own."
    lengths = answer.flatten(1).norm(dim=1)  # (2,)
    wanted = 0.5 * some_noise.flatten(1).norm(dim=1)  # (2,)
    assert torch.allclose(lengths, wanted), (
        f"The lengths should be half of each noise's, {wanted.numpy().round(2)}, "
        f"not {lengths.numpy().round(2)}: divide by the gradient's own length too, one for each "
        "picture, of the shape (n, 1, 1, 1)."
    )
    cosines = torch.nn.functional.cosine_similarity(answer.flatten(1), some_gradient.flatten(1))
    assert torch.allclose(cosines, torch.ones(2)), (
        "The direction must stay the gradient's: take one length for each picture, over all axes "
        "but the first."
    )
    twice = push(some_gradient.clone(), some_noise.clone(), 1.0)
    assert torch.allclose(twice, 2 * answer), "Twice the `strength` is twice the push."
    print("Right!")
except NotImplementedError:
    print("Not solved yet")

# %% [markdown] tags=["exercise-1-solution"]
# <details><summary>Solution</summary>
#
# ```python
# def push(gradient, noise, strength):
#     """The gradient (n, C, h, w) with the share `strength` of the length of each noise."""
#     of_noise = noise.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
#     of_gradient = gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
#     return strength * of_noise * gradient / of_gradient
# ```
#
# Classic wrong answers. One length for the whole batch:
#
# ```python
# def push(gradient, noise, strength):
#     return strength * noise.norm() * gradient / gradient.norm()
# ```
#
# A length for each channel, as `dim=(2, 3)` gives, or for each row, as `dim=-1` does:
#
# ```python
# def push(gradient, noise, strength):
#     of_noise = noise.norm(dim=(2, 3), keepdim=True)
#     return strength * of_noise * gradient / gradient.norm(dim=(2, 3), keepdim=True)
# ```
#
# ```python
# def push(gradient, noise, strength):
#     of_noise = noise.norm(dim=-1, keepdim=True)
#     return strength * of_noise * gradient / gradient.norm(dim=-1, keepdim=True)
# ```
#
# Lengths `(n,)` without the axes of a picture, which meet the last axis instead of the first:
#
# ```python
# def push(gradient, noise, strength):
#     shares = noise.flatten(1).norm(dim=1) / gradient.flatten(1).norm(dim=1)
#     return strength * shares * gradient
# ```
#
# Forgetting to divide by the gradient's own length:
#
# ```python
# def push(gradient, noise, strength):
#     return strength * noise.flatten(1).norm(dim=1).view(-1, 1, 1, 1) * gradient
# ```
#
# Keeping the sign of the gradient alone:
#
# ```python
# def push(gradient, noise, strength):
#     of_noise = noise.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
#     signs = gradient.sign()
#     return strength * of_noise * signs / signs.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
# ```
#
# </details>

# %% [markdown]
# **2. Change the experiment: patches instead of CLS.** CLS says *what* is there. Compare each patch
# with the target's patch in the same place. *Predict first*: what will be drawn more like the
# target, the colours, the pose, or both? Write the loss, and draw with it.


# %% tags=["exercise-2-stub"]
def unlike_in_place(found, wanted):
    """1 - mean cosine of patches in the same place: (n, P, D) and (n, P, D) give (n,)."""
    raise NotImplementedError


# %% tags=["exercise-2-check"]
try:
    first = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    alike = torch.tensor([[3.0, 0.0], [0.0, 2.0], [4.0, 4.0]])  # longer, in the same directions
    second = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    swapped = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])  # two of the three patches
    some = torch.stack([first, second]).requires_grad_()  # (2, 3, 2)
    others = torch.stack([alike, swapped])
    answer = unlike_in_place(some.clone(), others.clone())
    assert answer is not None, "It returns nothing: end with `return`."
    assert isinstance(answer, torch.Tensor), f"It returns a {type(answer).__name__}, not a tensor."
    assert answer.shape == (2,), f"One number for each picture, (2,), not {tuple(answer.shape)}."
    assert answer.requires_grad, "No gradient comes back: stay in torch, without `detach`."
    answer = answer.detach()
    anywhere = torch.allclose(answer, torch.zeros(2), atol=1e-6)
    assert not anywhere, "The second picture has its patches swapped: compare place by place."
    assert answer[1] > answer[0], "Alike is small: take 1 less the cosine."
    first_mean, other_mean = some.mean(dim=1), others.mean(dim=1)  # (2, 2)
    pooled = 1 - torch.nn.functional.cosine_similarity(first_mean, other_mean)
    assert not torch.allclose(answer, pooled, atol=1e-4), (
        "Take the cosine of each patch, then the mean, not the cosine of the means."
    )
    exact = torch.tensor([0, 2 / 3])
    assert torch.allclose(answer, exact, atol=1e-4), (
        f"It should be {exact.numpy().round(3)}, not {answer.numpy().round(3)}: one cosine for "
        "each patch, over its numbers, which are the last axis, and 1 less their mean."
    )
    print("Right!")
except NotImplementedError:
    print("Not solved yet")

# %% [markdown] tags=["exercise-2-solution"]
# <details><summary>Solution</summary>
#
# ```python
# def unlike_in_place(found, wanted):
#     """1 - mean cosine of patches in the same place: (n, P, D) and (n, P, D) give (n,)."""
#     cosines = torch.nn.functional.cosine_similarity(found, wanted, dim=2)  # (n, P)
#     return 1 - cosines.mean(dim=1)
# ```
#
# To draw with it, let `unlike` call it on `tokens_of(decode(clean))[:, -64:]`, the 8 x 8 patches,
# and take the targets' patches as the guide. In [the
# evidence](evidence/07_guided_diffusion.ipynb#what-to-match), where prompt and target disagree,
# patches bring the toy nearer to where the target has it, and CLS does not. Neither brings the
# colours; matching texture does.
#
# Classic wrong answers. The best place anywhere:
#
# ```python
# def unlike_in_place(found, wanted):
#     found = torch.nn.functional.normalize(found, dim=2)
#     wanted = torch.nn.functional.normalize(wanted, dim=2)
#     return 1 - (found @ wanted.mT).amax(dim=2).mean(dim=1)
# ```
#
# The cosine of the means:
#
# ```python
# def unlike_in_place(found, wanted):
#     return 1 - torch.nn.functional.cosine_similarity(found.mean(1), wanted.mean(1), dim=1)
# ```
#
# The cosine over the patches, `dim=1`, instead of over the numbers of each:
#
# ```python
# def unlike_in_place(found, wanted):
#     return 1 - torch.nn.functional.cosine_similarity(found, wanted, dim=1).mean(dim=1)
# ```
#
# The inner product, in which the lengths of patches count:
#
# ```python
# def unlike_in_place(found, wanted):
#     return 1 - (found * wanted).sum(dim=2).mean(dim=1)
# ```
#
# The cosine itself, which is large where things are alike:
#
# ```python
# def unlike_in_place(found, wanted):
#     return torch.nn.functional.cosine_similarity(found, wanted, dim=2).mean(dim=1)
# ```
#
# </details>

# %% [markdown]
# **3. Open: find an impostor of your own.** Which picture without a toy gets the highest mark from
# all four judges together? A flat colour? Half of the target? What would a fifth judge have to look
# at?
#
# ## What you found

# %%
mine_of = {who: verdicts["strength 0.3"][who] for who in without}
say(f"""
1. **Six errors**: two stop the loop, four are silent, and the sixth shows in no picture: the gain
   was {gains[5].mean():+.4f}, without it {gains[6].mean():+.4f}.
2. **Three formulas** draw what the pipeline draws (to {difference:.3f} of a pixel), and a push that
   is a share of the noise no longer depends on how long the gradient happens to be.
3. **Judges**: at strength 0.3 DINOv2 sees {mine_of["DINOv2 to the target"]:+.2f}, CLIP
   {mine_of["CLIP to the target"]:+.2f}, and the shape changes by {shape_gain:+.2f}. The {most},
   without a toy, pleases CLIP more than another toy, by {over_another[most]:+.2f}.
""")

# %% tags=["quiz"]
from dinov2_helpers.quiz import Quiz

Quiz("07")

# %% [markdown]
# **What it costs.** Each step takes a gradient through three networks; what that means in memory on
# Stable Diffusion is counted in [the evidence](evidence/07_guided_diffusion.ipynb).
#
# **When this is not enough, in 2026.** For "a picture as a prompt" people use
# [IP-Adapter](https://arxiv.org/abs/2308.06721) (Apache-2.0), which is trained for it. DINO's
# features steer diffusion in [DiffuseIT](https://arxiv.org/abs/2209.15264) and
# [Splice](https://arxiv.org/abs/2201.00424), and they make diffusion models learn faster:
# [REPA](https://arxiv.org/abs/2410.06940), and [ReDi](https://arxiv.org/abs/2504.16064), which
# draws features and picture together. A model that learned so can be guided by DINOv2's features
# inside it, without a decoder in the way: [REPA-G](https://arxiv.org/abs/2602.03753). Numbers
# and sources are in [a table](../docs/2026.md#7-guided-diffusion).
#
# **That was the last lesson.** Take the library to your own pictures:
# [docs/library.md](../docs/library.md).
