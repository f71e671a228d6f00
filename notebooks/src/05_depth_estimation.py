# ---
# jupyter:
#   jupytext:
#     notebook_metadata_filter: headline
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
#   headline:
#     05.best_delta1: share of pixels within 25 % of the true depth, best head, unseen scenes
#     05.row_delta1: the same for the average depth of each row of the picture
# ---

# %% [markdown]
# # 5. Depth estimation
#
# Read metres out of a single picture, from frozen patches and a head that trains in seconds.
#
# <!-- badge:begin --><!-- badge:end -->
# <!-- cost-card:begin --><!-- cost-card:end -->
#
# ![A scene, its depth by three methods, and its points](figures/05_depth_estimation.jpeg)

# %% [markdown]
# ## Learning goals
#
# - **Score a depth map**: delta, AbsRel, RMSE, SILog, with the scale given away too.
# - **See what an edge map knows about distance**, trained and scored with every advantage.
# - **Train dense heads** on frozen patches: linear, bins over four layers, a small DPT.
# - **Test three tips one by one**: real depth, several layers, geometric consistency.
# - **Count the scenes** that a head needs.
# - **Look at the errors**: where, at which distance, in which pictures.
# - **Turn a picture into points**, and look at them from where no camera stood.
# - **Find the limit** on a real photograph with measured depth.

# %% [markdown]
# ## Set-up
#
# The same cell opens every notebook. On Colab it installs what is missing; elsewhere it installs
# nothing.

# %%
from importlib.util import find_spec

if not find_spec("dinov2_helpers"):
    import google.colab  # only there is it installed here; elsewhere run `make setup` first
    # !pip install -q --no-deps dinov2_in_practice-*.whl || echo "Upload the wheel, as said above"
from dinov2_helpers import course

course.setup()

# %%
from functools import partial
from itertools import pairwise

import ipywidgets
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import colormaps
from PIL import Image, ImageOps
from skimage import data as photographs
from skimage.filters import sobel
from torch import nn

from dinov2_helpers import extract_features, load_dinov2, plotting, samples
from dinov2_helpers.claims import claim, record, say
from dinov2_helpers.widgets import Explorer

dinov2 = load_dinov2()

# %% [markdown]
# Every scene comes with its exact depth: metres along the optical axis, per pixel. The sky has
# none; it is NaN, stays white in the pictures, and no score or loss counts it. All scenes were
# taken with one focal length, a fact that will matter at the end.
#
# Heads are trained and scored at 64 x 64 true pixels of each picture: a twelfth of the work, and
# the scores are those of all pixels, as a check will show.
#
# Of **train**, 400 scenes fit the heads, and 80 others (*validation*) decide every choice made
# below. **Test** has other toys and other scenes, and is only measured.


# %%
def at_grid(maps, side=64):
    """Values of maps (N, H, W) at the pixels nearest to the centres of side x side cells."""
    y, x = (((np.arange(side) + 0.5) * n / side).astype(int) for n in np.shape(maps)[1:])
    return np.asarray(maps)[:, y[:, None], x]


train, test = samples.load_scenes("train"), samples.load_scenes("test")
depth_test = np.stack([test.depth(i) for i in range(len(test))])
order = np.random.default_rng(0).permutation(len(train))
fit, val = order[:-80], order[-80:]
true_fit, true_val = (at_grid([train.depth(i) for i in rows]) for rows in (fit, val))
true_test = at_grid(depth_test)
NEAR, FAR = float(np.nanmin(true_fit)), float(np.nanmax(true_fit))
print(f"{len(fit)} scenes to fit, {len(val)} for validation, {len(test)} test scenes")
print(f"Depth from {NEAR:.2f} to {FAR:.1f} m; {np.isnan(depth_test).mean():.1%} of the test is sky")


# %%
def as_map(depth):
    """What the figures show of a depth map: log10 of metres, as 1 m to 2 m matters at any scale."""
    return np.log10(np.asarray(depth))


LIMITS = (0.1, 1.1)  # of the maps: 1.3 m to 12.6 m
METRES = "log10 of metres"
examples = [0, 40, 130, 201, 255, 310]
plotting.show(
    plotting.show_images(
        [*map(test.image, examples), *as_map(depth_test[examples])],
        columns=len(examples),
        limits=LIMITS,
        bar=METRES,
        alt="Six test pictures, and below each its true depth: near is dark, far bright, sky white",
    )
)

# %% [markdown]
# ## Scores, and what needs no picture at all
#
# Per picture, then averaged over pictures (Eigen et al. 2014):
#
# - **delta1, 2, 3**: share of pixels whose ratio to the truth, either way round, is below 1.25,
#   1.25², 1.25³. More is better.
# - **AbsRel**: mean of error over true depth. **RMSE**: in metres, ruled by what is far.
# - **SILog**: standard deviation of log(predicted / true), which a wrong scale does not change.


# %%
SCORES = ("delta1", "delta2", "delta3", "AbsRel", "RMSE", "SILog")


def scores(predicted, truth):
    """Scores of depth maps (N, H, W) in metres against the truth; NaN in it is left out.

    Returns (N,) for each score; a picture without any known depth has NaN.
    """
    rows = []
    for guess, true in zip(np.asarray(predicted), np.asarray(truth), strict=True):
        known = np.isfinite(true)
        if not known.any():
            rows.append([np.nan] * len(SCORES))
            continue
        p, t = guess[known].astype(float), true[known].astype(float)
        log = np.log(p / t)
        within = [np.mean(abs(log) < k * np.log(1.25)) for k in (1, 2, 3)]
        rows.append([*within, np.mean(abs(p - t) / t), np.mean((p - t) ** 2) ** 0.5, log.std()])
    return dict(zip(SCORES, np.transpose(rows), strict=True))


# %%
def interval(values, seed=0, draws=1000):
    """Mean of values (N,) or (runs, N) and its 95 % bootstrap interval: (mean, low, high).

    Pictures are drawn again, and runs too where there are several; NaN is left out.
    """
    values, rng = np.atleast_2d(values), np.random.default_rng(seed)
    runs, pictures = (rng.integers(n, size=(draws, n)) for n in values.shape)
    means = np.nanmean(values[runs[:, :, None], pictures[:, None]], axis=(1, 2))
    return np.nanmean(values), *np.percentile(means, (2.5, 97.5))


def text(values, sign=""):
    """The same as text."""
    mean, low, high = interval(values)
    return f"{mean:{sign}.3f} (95 % interval {low:{sign}.3f} to {high:{sign}.3f})"


# %% [markdown]
# A camera usually looks down at the ground, so what is low in a picture is near. How far does one
# get without looking? Three baselines: one depth for everything, one per row, one per pixel
# position. Which average, is chosen on validation scenes.

# %%
AVERAGES = {
    "mean": np.nanmean,
    "median": np.nanmedian,
    "geometric mean": lambda x, axis: np.exp(np.nanmean(np.log(x), axis=axis)),
}
KINDS = {"mean depth": None, "row": (0, 2), "position": 0}
baselines, delta1 = {}, {}
for kind, axis in KINDS.items():
    maps = {name: average(true_fit, axis=axis) for name, average in AVERAGES.items()}
    maps = {k: v[:, None] if kind == "row" else v for k, v in maps.items()}
    tried = {k: scores(true_val * 0 + v, true_val)["delta1"].mean() for k, v in maps.items()}
    chosen = max(tried, key=tried.get)
    baselines[kind] = np.broadcast_to(maps[chosen], true_test.shape)
    delta1[kind] = scores(baselines[kind], true_test)["delta1"]
    print(f"{kind:>10}: {chosen} of the training scenes, delta1 on test {text(delta1[kind])}")
record("05.mean_delta1", delta1["mean depth"].mean())
record("05.row_delta1", delta1["row"].mean())

# %% [markdown]
# These pictures come from many cameras, near and far, high and low, so no fixed map fits. That is
# a question of *scale*, and many depth models give no scale at all. To compare those, one fits a
# scale and a shift per picture, by least squares in disparity (1 / depth), **against the true
# depth** of that very picture (MiDaS, Ranftl et al. 2020). It is a generous gift. Every score after
# it must be compared with baselines that got the same gift.


# %%
def align(guess, truth, near, far):
    """Depth maps (N, H, W), scaled and shifted in disparity to fit the truth of each picture.

    The sign of the scale is free; the result is kept between near and far, in metres.
    """
    result = np.empty(np.shape(guess))
    for i, (one, true) in enumerate(zip(np.asarray(guess), np.asarray(truth), strict=True)):
        known, disparity = np.isfinite(true), 1 / one.astype(float)
        columns = np.stack([disparity[known], np.ones(known.sum())], axis=1)
        scale, shift = np.linalg.lstsq(columns, 1 / true[known].astype(float), rcond=None)[0]
        result[i] = 1 / np.clip(scale * disparity + shift, 1 / far, 1 / near)
    return result


def aligned_delta1(guess, truth):
    """delta1 per picture after `align`, (N,)."""
    return scores(align(guess, truth, NEAR, FAR), truth)["delta1"]


# %%
aligned = {kind: aligned_delta1(maps, true_test) for kind, maps in baselines.items()}
for kind, values in aligned.items():
    print(f"{kind:>10}, scale and shift given: delta1 {text(values)}")
record("05.mean_delta1_aligned", aligned["mean depth"].mean())
record("05.row_delta1_aligned", aligned["row"].mean())
say(
    f"The gift takes depth by row from {delta1['row'].mean():.2f} to "
    f"**{aligned['row'].mean():.2f}** without anything having been seen."
)

# %% [markdown]
# ## Features, once
#
# Everything below reads frozen features: patch and CLS tokens of four layers, evenly spaced, the
# last one included, kept as arrays. The pictures are not cropped (`fit="resize"`), so the patches
# lie exactly on the depth map.

# %%
LAYERS = [dinov2.n_layers * k // 4 - 1 for k in (1, 2, 3, 4)]
DIM = dinov2.dim
LAST, ALL = slice(3 * DIM, 4 * DIM), slice(0, 4 * DIM)  # columns of the last layer, of all four


# %%
def tokens_of(images, size=None):
    """Patches (N, h, w, 4 D) as half floats and CLS (N, 4 D) of four layers, side by side."""
    patches, cls = [], []
    for start in range(0, len(images), 80):  # in pieces, to keep the memory low
        found = extract_features(
            dinov2, images[start : start + 80], size=size, fit="resize", layers=LAYERS,
            patches=False, progress=False,
        )  # fmt: skip
        layers = [found.layers[i] for i in LAYERS]
        patches.append(torch.from_numpy(np.concatenate([x.patches for x in layers], -1)).half())
        cls.append(torch.from_numpy(np.concatenate([x.cls for x in layers], -1)))
    return torch.cat(patches), torch.cat(cls)


def rows_of(inputs, rows):
    """Some rows of all inputs."""
    return tuple(x[rows] for x in inputs)


# %%
files = train.images
of_fit, of_val = (tokens_of([files[i] for i in rows]) for rows in (fit, val))
of_test = tokens_of(test.images)
log_fit = torch.from_numpy(np.log(true_fit))
print("Layers", LAYERS, " patches", tuple(of_fit[0].shape), " CLS", tuple(of_fit[1].shape))

# %% [markdown]
# ## What the article does
#
# It has no depth, so it takes *pseudo depth*: the Sobel edges of the picture, scaled to 0..1. An
# MLP on the image feature is trained for 100 steps to give that map. We follow it, on all training
# scenes. The loop below will train every head of this notebook; only the loss changes. First the
# loss for real depth, which we shall want for the comparison: **SILog** (Eigen et al. 2014) and
# **multi-scale gradient matching** (Li & Snavely 2018), both on log depth.


# %%
def silog_loss(log_guess, log_true, keep=0.85):
    """Root of: variance of the log ratio + (1 - keep) x its squared mean, over known pixels.

    keep=1 ignores the overall scale, keep=0 is the plain RMSE of log depth.
    """
    known = torch.isfinite(log_true)
    ratio, n = torch.where(known, log_guess - log_true, 0), known.sum()
    mean = ratio.sum() / n
    variance = ((ratio - mean) ** 2 * known).sum() / n
    return torch.sqrt(variance + (1 - keep) * mean**2)


# %%
def gradient_loss(log_guess, log_true, scales=4):
    """Mean difference between neighbours of the log ratio, over maps thinned 1, 2, 4... times."""
    known = torch.isfinite(log_true)
    ratio, total = torch.where(known, log_guess - log_true, 0), 0
    for step in (2**k for k in range(scales)):
        r, k = ratio[:, ::step, ::step], known[:, ::step, ::step]
        for dim, n in ((1, k.shape[1] - 1), (2, k.shape[2] - 1)):  # down, then across
            both = k.narrow(dim, 1, n) & k.narrow(dim, 0, n)
            total = total + (r.diff(dim=dim).abs() * both).sum() / both.sum().clamp(min=1)
    return total / (2 * scales)


# %%
DEFAULTS = {"steps": 100, "batch": 8, "rate": 6e-3}


def some_of(inputs, rows):
    """Some rows of all inputs, as floats; `index_select` copies them faster than [rows]."""
    return (x.index_select(0, rows).float() for x in inputs)


def resized(maps, size):
    """Maps (N, h, w) enlarged bilinearly to size (H, W)."""
    return F.interpolate(maps[:, None], size=tuple(size), mode="bilinear", align_corners=False)[
        :, 0
    ]


def depth_loss(log_guess, log_true):
    """SILog and half the gradient loss, at the resolution of the truth."""
    log_guess = resized(log_guess, log_true.shape[1:])
    return silog_loss(log_guess, log_true) + 0.5 * gradient_loss(log_guess, log_true)


# %%
def train_head(make, inputs, target, *, loss=depth_loss, more=None, pool=None, seed=0, **options):
    """Make a head and train it by AdamW on random batches of the pictures in `pool` (all).

    `loss` compares its output for the inputs with the target, (N, ...) both; `more` is a loss of
    the head alone that is added in every step. Options: steps, batch, rate.
    """
    steps, batch, rate = ({**DEFAULTS, **options}[k] for k in ("steps", "batch", "rate"))
    torch.manual_seed(seed)
    head, batches = make(), torch.Generator().manual_seed(seed)
    pool = torch.arange(len(target)) if pool is None else torch.as_tensor(pool)
    optimiser = torch.optim.AdamW(head.parameters(), rate, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, steps, pct_start=0.1)
    for _ in range(steps):
        rows = pool[torch.randint(len(pool), (min(batch, len(pool)),), generator=batches)]
        value = loss(head(*some_of(inputs, rows)), target[rows])
        optimiser.zero_grad()
        (value + more(head) if more else value).backward()
        optimiser.step()
        schedule.step()
    return head.eval()


# %%
def edges(picture, side=64):
    """Sobel magnitude of a picture, scaled to 0..1, then averaged to (side, side) float32."""
    strength = sobel(np.asarray(picture.convert("L"), dtype=np.float32) / 255)
    strength = torch.from_numpy(strength / max(strength.max(), 1e-6))
    return F.adaptive_avg_pool2d(strength[None, None], side)[0, 0]


class ImageMLP(nn.Module):
    """A map from one vector per picture: two linear maps with a ReLU between."""

    def __init__(self, dim, side=64):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dim, 256), nn.ReLU(), nn.Linear(256, side**2), nn.Unflatten(1, (side, side))
        )

    def forward(self, x):
        """Vectors (N, D) to maps (N, side, side)."""
        return self.layers(x)


# %%
def edge_loss(output, target):
    """Squared error of a map squeezed into 0..1."""
    return F.mse_loss(resized(output, target.shape[1:]).sigmoid(), target)


def predict(head, inputs, side=64, squeeze=torch.exp):
    """Maps (N, side, side) of a head as an array: depth in metres, if its output is log depth."""
    parts = []
    with torch.inference_mode():
        for start in range(0, len(inputs[0]), 16):
            output = head(*(x[start : start + 16].float() for x in inputs))
            parts.append(squeeze(resized(output, (side, side))))
    return torch.cat(parts).numpy()


# %%
cls_fit, cls_val, cls_test = ((x[1][:, LAST],) for x in (of_fit, of_val, of_test))
edges_fit = torch.stack([edges(train.image(i)) for i in fit])
edges_test = torch.stack([edges(test.image(i)) for i in range(len(test))]).numpy()
article = train_head(
    lambda: ImageMLP(DIM), cls_fit, edges_fit, loss=edge_loss, steps=100, batch=64, rate=2e-3
)
sobel_val, sobel_test = (predict(article, x, squeeze=torch.sigmoid) for x in (cls_val, cls_test))

# %% [markdown]
# Its output lies between 0 and 1 and has no unit, so read as metres it must fail, and that would
# prove little. Therefore it gets the gift: scale and shift per picture, fitted to the truth, with
# either sign. We even let validation decide whether to read it as depth or as disparity.

# %%
readings = {"depth": lambda x: x, "disparity": lambda x: 1 / x}
tried = {k: aligned_delta1(read(sobel_val), true_val).mean() for k, read in readings.items()}
reading = max(tried, key=tried.get)
delta1["Sobel MLP"] = scores(sobel_test, true_test)["delta1"]
aligned["Sobel MLP"] = aligned_delta1(readings[reading](sobel_test), true_test)
itself = readings[reading](np.maximum(edges_test, 0.01))
aligned["edges themselves"] = aligned_delta1(itself, true_test)
record("05.sobel_delta1_metres", delta1["Sobel MLP"].mean())
record("05.sobel_delta1", aligned["Sobel MLP"].mean())
print(f"Sobel MLP read as metres: delta1 {text(delta1['Sobel MLP'])}")
print(f"Scale and shift per picture given, and read as {reading}:")
for name in ("mean depth", "Sobel MLP", "edges themselves", "row"):
    print(f"{name:>18}: delta1 {text(aligned[name])}")

# %% [markdown]
# "Mean depth" is what a method scores that knows *nothing*, once it got the gift. "Edges
# themselves" is an MLP that has learned its target perfectly. What has ours learned? Correlations
# within each picture tell: with the edges it was trained on, and with true log depth. A minus
# means: more edge, nearer.


# %%
def correlation(a, b):
    """Pearson's correlation within each map of a and b, (N,), where both are finite."""
    known = [np.isfinite(x) & np.isfinite(y) for x, y in zip(a, b, strict=True)]
    return np.array([np.corrcoef(x[k], y[k])[0, 1] for x, y, k in zip(a, b, known, strict=True)])


with_edges = correlation(sobel_test, edges_test)
with_depth = correlation(sobel_test, np.log(true_test))
record("05.sobel_edge_correlation", with_edges.mean())
record("05.sobel_depth_correlation", with_depth.mean())
say(
    f"Within a picture, the MLP's map correlates {text(with_edges, '+')} with the edges and "
    f"{text(with_depth, '+')} with log depth; depth by row, which saw nothing, "
    f"{correlation(baselines['row'], np.log(true_test)).mean():+.3f}."
)

# %%
seen = [0, 60, 201]
drawn = align(readings[reading](sobel_test[seen]), true_test[seen], NEAR, FAR)
panel = []
for k, i in enumerate(seen):
    grey = [np.repeat(m[..., None] / m.max(), 3, axis=2) for m in (edges_test[i], sobel_test[i])]
    panel += [test.image(i), *grey, as_map(drawn[k]), as_map(true_test[i])]
plotting.show(
    plotting.show_images(
        panel,
        titles=["picture", "its edges: the target", "Sobel MLP", "... scaled to fit", "true depth"],
        columns=5,
        limits=LIMITS,
        bar=METRES,
        alt="Three pictures with edges, the output of the Sobel MLP, that as depth, true depth",
    )
)

# %% [markdown]
# ### Tip 1: real depth
#
# Was it the MLP or the target? The same MLP, the same 100 steps, but the depth loss against real
# depth. It gives metres, so it needs no gift; for a fair comparison it gets it as well.

# %%
mlp = train_head(lambda: ImageMLP(DIM), cls_fit, log_fit, steps=100, batch=64, rate=2e-3)
mlp_test = predict(mlp, cls_test)
delta1["MLP, real depth"] = scores(mlp_test, true_test)["delta1"]
aligned["MLP, real depth"] = aligned_delta1(mlp_test, true_test)
gain = aligned["MLP, real depth"] - aligned["Sobel MLP"]
record("05.mlp_delta1", delta1["MLP, real depth"].mean())
record("05.real_depth_gain", gain.mean())
say(
    f"Real depth: delta1 **{text(delta1['MLP, real depth'])}** in metres. With the gift "
    f"{aligned['MLP, real depth'].mean():.3f}, against {aligned['Sobel MLP'].mean():.3f} for the "
    f"Sobel target: a difference of {text(gain, '+')}, paired by picture."
)


# %%
def verdict_of(passes, in_part=False):
    """The verdict on a claim from two conditions."""
    return "holds" if passes else "holds in part" if in_part else "does not hold"


edge_map = aligned["Sobel MLP"]
claim(
    "05.sobel_depth",
    "An MLP on the image feature, trained 100 steps against Sobel edges, estimates depth",
    how="delta1 on unseen scenes, scale and shift per picture fitted to the truth, against one "
    "depth for all and depth by row with the same fit",
    measured=f"{edge_map.mean():.3f}; one depth {aligned['mean depth'].mean():.3f}, by row "
    f"{aligned['row'].mean():.3f}; as metres {delta1['Sobel MLP'].mean():.3f}",
    # it should beat not looking; in part: it clearly beats knowing nothing
    verdict=verdict_of(
        interval(edge_map - aligned["row"])[1] > 0,
        interval(edge_map - aligned["mean depth"])[1] > 0.1,
    ),
    cell="What the article does",
)

# %% [markdown]
# One vector per picture was enough to say how far the scene is and how it lies, but not where its
# edges are. That is the job of the patches.
#
# ## Dense heads on frozen patches
#
# Three heads, from the protocol of the DINOv2 paper (Oquab et al. 2023, section 7.4):
#
# 1. **Linear, last layer**: log depth of a patch is a linear function of its token.
# 2. **Linear, four layers, bins**: each layer's CLS is joined to its patches, and the head weighs
#    fixed depths (*bins*) whose weighted mean is the answer (AdaBins, Bhat et al. 2021). The paper
#    has 256 bins, evenly spaced in metres; here 64 have to do, in metres or in log depth.
# 3. **DPT** (Ranftl et al. 2021): convolutions that fuse the four layers, and end finer than the
#    patches. Ours is a small one, and ends twice as fine.


# %%
def bin_centres(near, far, n, log):
    """Depths from near to far, (n,), evenly spaced in log depth or in metres."""
    near, far = (np.log(x) if log else x for x in (near, far))
    centres = torch.linspace(near, far, n)
    return centres.exp() if log else centres


def expected_log_depth(score, centres, log):
    """Log depth (...) of scores (..., bins): the mean of the bins, weighted by ReLU(score) + 0.1.

    The mean is that of log depth, or of depth in metres.
    """
    weight = score.relu() + 0.1
    mean = weight @ (centres.log() if log else centres) / weight.sum(-1)
    return mean if log else mean.log()


# %%
class LinearHead(nn.Module):
    """Log depth per patch from some columns of its tokens, directly or by way of bins."""

    def __init__(self, columns, centres=None, log=True, cls=False):
        super().__init__()
        self.columns, self.log = columns, log
        self.register_buffer("centres", centres)
        n, outputs = columns.stop - columns.start, 1 if centres is None else len(centres)
        self.patch = nn.Linear(n, outputs)
        self.cls = nn.Linear(n, outputs, bias=False) if cls else None

    def forward(self, patches, cls):
        """Inputs (N, h, w, L D) and (N, L D) to (N, h, w)."""
        score = self.patch(patches[..., self.columns])
        if self.cls:  # the same as joining CLS to every patch
            score = score + self.cls(cls[:, self.columns])[:, None, None]
        if self.centres is None:
            return score[..., 0]
        return expected_log_depth(score, self.centres, self.log)


# %%
class SmallDPT(nn.Module):
    """Four layers fused from the last to the first, at 1, 1, 2 and 2 times the patches."""

    def __init__(self, dim, centres, channels=24):
        super().__init__()
        self.dim = dim
        self.register_buffer("centres", centres)
        self.read = nn.ModuleList(nn.Linear(dim, channels) for _ in range(4))
        self.mix = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(4))
        self.cls, self.score = nn.Linear(4 * dim, channels), nn.Linear(channels, len(centres))

    def forward(self, patches, cls):
        """Inputs (N, h, w, 4 D) and (N, 4 D) to (N, 2 h, 2 w)."""
        x, layers = self.cls(cls)[:, :, None, None], patches.split(self.dim, dim=-1)
        for k, finer in ((3, 1), (2, 1), (1, 2), (0, 2)):
            layer = self.read[k](layers[k]).movedim(-1, 1)
            size = [n * finer for n in layer.shape[2:]]
            x = sum(F.interpolate(m, size=size, mode="bilinear") for m in (x, layer))
            x = x + self.mix[k](x.relu())
        return expected_log_depth(self.score(x.movedim(1, -1)), self.centres, log=True)


# %% [markdown]
# Few steps each, on the same batches. The choice between them is made on validation scenes.

# %%
even, in_log = (bin_centres(NEAR, FAR, 64, log) for log in (False, True))
few = bin_centres(NEAR, FAR, 32, log=True)
LINEAR = {"steps": 200, "rate": 1e-2}
CANDIDATES = {
    "linear, last layer": (lambda: LinearHead(LAST), LINEAR),
    "linear, four layers": (lambda: LinearHead(ALL), LINEAR),
    "bins in metres": (lambda: LinearHead(ALL, even, log=False, cls=True), {"steps": 150}),
    "bins in log depth": (lambda: LinearHead(ALL, in_log, cls=True), {"steps": 150}),
    "small DPT": (lambda: SmallDPT(DIM, few), {"steps": 300, "batch": 8, "rate": 3e-3}),
}
heads, on_val = {}, {}
for name, (make, options) in CANDIDATES.items():
    heads[name] = train_head(make, of_fit, log_fit, **options)
    on_val[name] = scores(predict(heads[name], of_val), true_val)["delta1"]
    print(f"{name:>19}: delta1 on validation {text(on_val[name])}")
best = max(on_val, key=lambda name: on_val[name].mean())

# %% [markdown]
# Bins bring more than they seem to: a weighted mean of fixed depths is no longer linear in the
# token. Spaced evenly in metres, few of them are where most pixels lie, and the first answer is the
# middle of the range, which is far away; a short training has to get over that first.
#
# For a last word on pseudo depth, the linear head once more, now against the Sobel edges. The
# patches see the edges better than one vector did. Do they make a better depth?

# %%
against_edges = {"loss": edge_loss, "steps": 100, "batch": 32, "rate": 1e-2}
patch_article = train_head(lambda: LinearHead(LAST), of_fit, edges_fit, **against_edges)
patch_edges = predict(patch_article, of_test, squeeze=torch.sigmoid)
aligned["Sobel, linear"] = aligned_delta1(readings[reading](patch_edges), true_test)
record("05.sobel_patch_delta1", aligned["Sobel, linear"].mean())
for name, true in (("edge", edges_test), ("depth", np.log(true_test))):
    values = correlation(patch_edges, true)
    record(f"05.sobel_patch_{name}_correlation", values.mean())
    print(f"Sobel target, patches: correlation with {name} {text(values, '+')}")
print(f"With the gift, delta1 {text(aligned['Sobel, linear'])}")

# %% [markdown]
# ## Measured
#
# The test scenes, once. First in metres, then with scale and shift given away.

# %%
predictions = dict(baselines) | {"Sobel MLP": sobel_test, "MLP, real depth": mlp_test}
predictions |= {name: predict(head, of_test) for name, head in heads.items()}
guesses = predictions | {"Sobel MLP": readings[reading](sobel_test)}
full = {name: scores(maps, true_test) for name, maps in predictions.items()}
fitted = {k: scores(align(v, true_test, NEAR, FAR), true_test) for k, v in guesses.items()}
delta1 |= {name: values["delta1"] for name, values in full.items()}
aligned |= {name: values["delta1"] for name, values in fitted.items()}
print(" " * 19, *(f"{k:>7}" for k in SCORES), "| scale and shift given: delta1, AbsRel")
for name in predictions:
    values = [full[name][k].mean() for k in SCORES]
    given = [fitted[name][k].mean() for k in ("delta1", "AbsRel")]
    print(f"{name:>19}", *(f"{v:7.3f}" for v in values), "|", *(f"{v:7.3f}" for v in given))

# %%
best_test = predictions[best]
record("05.linear_delta1", delta1["linear, last layer"].mean())
record("05.bins_delta1", delta1["bins in log depth"].mean())
record("05.dpt_delta1", delta1["small DPT"].mean())
for key in ("delta1", "delta2", "delta3", "AbsRel", "RMSE", "SILog"):
    record(f"05.best_{key.lower()}", full[best][key].mean())
record("05.best_delta1_aligned", aligned[best].mean())
everywhere = scores(predict(heads[best], of_test, side=224), depth_test)["delta1"]
say(
    f"Best on validation: **{best}**. On test its delta1 is **{text(delta1[best])}**; over all "
    f"pixels instead of 64 x 64: {everywhere.mean():.3f}. Above depth by row: "
    f"{text(delta1[best] - delta1['row'], '+')}; above the Sobel MLP, both with the gift: "
    f"{text(aligned[best] - aligned['Sobel MLP'], '+')}. What a wrong scale costs it: "
    f"{aligned[best].mean() - delta1[best].mean():.3f}, the gain from the gift."
)

# %%
real_gains = [
    aligned["MLP, real depth"] - aligned["Sobel MLP"],
    aligned["linear, last layer"] - aligned["Sobel, linear"],
]
claim(
    "05.real_depth",
    "Real depth data instead of pseudo depth improves the head",
    how="the same head, real depth against Sobel edges, on unseen scenes, scale and shift per "
    "picture fitted to the truth; an MLP on the image feature and a linear head on patches",
    measured=f"delta1 {text(real_gains[0], '+')} for the MLP, {text(real_gains[1], '+')} for the "
    "patches",
    verdict=verdict_of(all(interval(gain)[1] > 0.05 for gain in real_gains)),
    cell="Measured",
)

# %% [markdown]
# **With the real weights:** on NYUd, rooms in photographs, a head on frozen ViT-S/14 has an RMSE of
# 0.449 (linear, last layer), 0.417 (linear, four layers) or 0.356 (DPT); on ViT-g/14 0.344, 0.298
# and 0.279 (Oquab et al. 2023, Table 11). The order is worth comparing, the metres are not: theirs
# are rooms, ours toys. Sources: [docs/models.md](../docs/models.md).

# %% [markdown]
# ### Tip 2: several layers
#
# Four layers against the last one, everything else alike, three seeds each: 32 bins with CLS. The
# interval of the difference is over pictures and seeds. delta1 swings with the scale, so look at
# SILog too. The two linear heads above, without CLS, tell the same from one training each.

# %%
SEEDS = (0, 1, 2)
VARIANTS = {"last layer": LAST, "four layers": ALL}
variants, by_layers = {}, {}
for name, columns in VARIANTS.items():
    make = partial(LinearHead, columns, few, cls=True)
    variants[name] = [train_head(make, of_fit, log_fit, seed=seed) for seed in SEEDS]
    found = [scores(predict(head, of_test), true_test) for head in variants[name]]
    by_layers[name] = {k: np.array([one[k] for one in found]) for k in ("delta1", "SILog")}
    means = by_layers[name]["delta1"].mean(1), by_layers[name]["SILog"].mean(1)
    spread = (f"{m.mean():.3f} (seeds {m.min():.3f} to {m.max():.3f})" for m in means)
    print(f"{name:>11}: delta1 {next(spread)}, SILog {next(spread)}")
    record(f"05.{name.replace(' ', '_')}_delta1", means[0].mean())

# %%
layer_gain = {
    k: by_layers["four layers"][k] - by_layers["last layer"][k] for k in ("delta1", "SILog")
}
for k, gain in layer_gain.items():
    print(f"four layers less one: {k} {text(gain, '+')}")
linear_gain = delta1["linear, four layers"] - delta1["linear, last layer"]
print(f"the linear heads above, one training each: delta1 {text(linear_gain, '+')}")
claim(
    "05.several_layers",
    "Multi-scale features (several layers) improve depth",
    how="32 bins on four layers against the last, 3 seeds, unseen scenes; judged by SILog, where "
    "less is better",
    measured=f"SILog {text(layer_gain['SILog'], '+')}; delta1 {text(layer_gain['delta1'], '+')}; "
    f"linear head, delta1 {text(linear_gain, '+')}",
    verdict=verdict_of(interval(layer_gain["SILog"])[2] < 0),
    cell="Measured",
)

# %% [markdown]
# ### How many scenes?
#
# The same head (32 bins, four layers, CLS) on 4, 16, 64, 256 and all 400 training scenes;
# three draws.

# %%
COUNTS = [4, 16, 64, 256, len(fit)]


def draw_of(n, seed):
    """The n training scenes of a draw; larger draws of a seed contain the smaller ones."""
    return np.random.default_rng(seed).permutation(len(fit))[:n]


def few_scenes(n, seed, more=None):
    """The head trained on one draw."""
    options = {"pool": draw_of(n, seed), "seed": seed, "more": more}
    return train_head(lambda: LinearHead(ALL, few, cls=True), of_fit, log_fit, **options)


grown = {n: [few_scenes(n, seed) for seed in SEEDS] for n in COUNTS[:-1]}
found = [[scores(predict(h, of_test), true_test)["delta1"] for h in grown[n]] for n in COUNTS[:-1]]
curve = np.array([*found, by_layers["four layers"]["delta1"]]).mean(-1)  # (counts, draws)

# %%
figure = plotting.curves(
    COUNTS,
    {"32 bins, four layers + CLS": curve.T},
    level=(delta1["row"].mean(), "depth by row"),
    xscale="log",
    xticks=COUNTS,
    xticklabels=COUNTS,
    xlabel="training scenes (3 draws, 10th to 90th percentile)",
    ylabel="delta1, unseen scenes",
    ylim=(0, 1),
    alt="delta1 of a head against the number of training scenes, and of depth by row",
)
figure.axes[0].minorticks_off()
plotting.show(figure)

# %%
for n, values in zip(COUNTS[:-1], curve, strict=False):
    record(f"05.delta1_of_{n}_scenes", values.mean())
enough = [n for n, v in zip(COUNTS, curve, strict=True) if v.min() > delta1["row"].mean()]
say(
    f"{COUNTS[0]} scenes give {curve[0].mean():.3f}, {COUNTS[-1]} give {curve[-1].mean():.3f}; "
    f"every draw beats depth by row from **{(enough or ['none'])[0]}** scenes on. The last step, "
    f"{COUNTS[-2]} to {COUNTS[-1]}, brings {curve[-1].mean() - curve[-2].mean():+.3f}."
)

# %% [markdown]
# ### Tip 3: geometric consistency
#
# Geometry gives two tests that need no depth at all. **Mirrored**: the depth of the mirrored
# picture should be the mirrored depth. **Reprojected**: take two views of one scene with known
# cameras; every point that the depth of one view puts into space must be where the depth of the
# other one says (Zhou et al. 2017 train on little else). Both can be a loss on *unlabelled*
# pictures. The views, a turntable around toys, come from `data/views`; their depth is not used for
# training, and the toys of the views that we measure on are different ones.


# %%
def flip_loss(head, upright, mirrored, n=4):
    """Mean difference of log depth between n random pictures and their mirrored twins.

    The twins of the first pictures are enough.
    """
    rows = torch.randint(len(mirrored[0]), (n,))
    a, b = (head(*some_of(inputs, rows)) for inputs in (upright, mirrored))
    return (a - b.flip(-1)).abs().mean()


def mirrored_tokens(scenes, rows):
    """Tokens of mirrored pictures."""
    return tokens_of([ImageOps.mirror(scenes.image(i)) for i in rows])


flip_test = np.arange(0, len(test), 8)
mirrored, mirrored_test = mirrored_tokens(train, fit[:40]), mirrored_tokens(test, flip_test)


# %%
def stack_cameras(table):
    """Intrinsics (N, 3, 3) and poses (N, 4, 4) of all cameras of a table."""
    names = ("intrinsics", "world_from_camera")
    return tuple(torch.tensor(np.array([row["camera"][k] for row in table])).float() for k in names)


# %%
def reproject(log_a, log_b, cameras_a, cameras_b, side=224):
    """Compare depth (N, h, w) of views a, taken to views b, with what views b say there.

    Returns log of depth in b by a, minus log depth of b, (N, h, w), and where a's points fall
    inside b. Cameras are those of pictures of side x side pixels.
    """
    k_a, pose_a, k_b, pose_b = *cameras_a, *cameras_b
    y, x = (((torch.arange(n) + 0.5) * side / n) for n in log_a.shape[1:])
    pixels = torch.cartesian_prod(y, x).flip(1)  # x runs fastest, as in a map
    rays = F.pad(pixels, (0, 1), value=1.0) @ torch.linalg.inv(k_a).mT
    world = (rays * log_a.exp().flatten(1)[..., None]) @ pose_a[:, :3, :3].mT
    local = (world + pose_a[:, None, :3, 3] - pose_b[:, None, :3, 3]) @ pose_b[:, :3, :3]
    depth = local[..., 2].clamp(min=1e-3)
    places = (local @ k_b.mT)[..., :2] / depth[..., None] * 2 / side - 1
    found = F.grid_sample(
        log_b[:, None], places[:, None], padding_mode="border", align_corners=False
    )
    inside = (local[..., 2] > 1e-3) & (places.abs() < 1).all(-1)
    return (depth.log() - found[:, 0, 0]).view_as(log_a), inside.view_as(log_a)


# %%
def neighbours(table, degrees=15):
    """Pairs of rows (P, 2) with views of one toy, so many degrees of azimuth apart."""
    place = {(row["toy_id"], row["azimuth"]): i for i, row in enumerate(table)}
    pairs = [(i, place.get((toy, (a + degrees) % 360))) for (toy, a), i in place.items()]
    return torch.tensor([pair for pair in pairs if pair[1] is not None])


def view_loss(head, inputs, pairs, cameras, n=4):
    """Mean disagreement in log depth of n random pairs of views, at most 0.3 at a point.

    The limit keeps points that are hidden in the other view from ruling the loss.
    """
    i, j = pairs[torch.randint(len(pairs), (n,))].T
    a, b = (head(*some_of(inputs, k)) for k in (i, j))
    gap, inside = reproject(a, b, *([x[k] for x in cameras] for k in (i, j)))
    return gap[inside].abs().clamp(max=0.3).mean()


# %%
around = [a + step for a in range(0, 360, 60) for step in (0, 15)]  # six pairs of each toy
views = samples.load_views("train", kind="turntable", azimuth=around)
views_test = samples.load_views("test", kind="turntable", azimuth=[0, 15, 180, 195])
of_views, of_views_test = tokens_of(views.images), tokens_of(views_test.images)
pairs, pairs_test = neighbours(views.table), neighbours(views_test.table)
cameras, cameras_test = stack_cameras(views.table), stack_cameras(views_test.table)
true_views = at_grid([views_test.depth(i) for i in range(len(views_test))])
first, second = pairs_test.T


# %%
def view_gap(depth):
    """Disagreement in log depth (pairs, 64, 64) of depth maps of the test views (N, 64, 64)."""
    a, b = (torch.from_numpy(np.log(depth[k])).float() for k in (first, second))
    sides = ([x[k] for x in cameras_test] for k in (first, second))
    gap, inside = reproject(a, b, *sides)
    return np.where(inside & torch.isfinite(a), gap.abs(), np.nan)


floor = view_gap(true_views)
visible = floor < 0.03  # by the truth: seen in both views, and not at an edge
print(f"{len(pairs)} pairs of views to train on, {len(pairs_test)} of other toys to measure")
print(
    f"Seen in both: {visible.mean():.0%}; the true depths disagree by {floor[visible].mean():.4f}"
)

# %% [markdown]
# A warning before the result: consistency alone is no depth. Put everything very far away, and
# close views hardly disagree, whatever they show. Depth by row, which has seen nothing, is one flat
# ground for all cameras of a turntable. So the losses are added to the usual one.

# %%
impostors = {"true depth x 1.5": true_views * 1.5, "1 km everywhere": true_views * 0 + 1000}
impostors["row"] = np.broadcast_to(baselines["row"][:1], true_views.shape)
for name, maps in impostors.items():
    wrong = scores(maps, true_views)["delta1"].mean()
    gap = np.where(visible, view_gap(maps), np.nan)
    print(f"{name:>16}: delta1 {wrong:.3f}, views disagree by {np.nanmean(gap):.4f}")

# %%
TERMS = {
    "no extra loss": None,
    "flip loss": lambda head: flip_loss(head, of_fit, mirrored),
    "reprojection loss": lambda head: view_loss(head, of_views, pairs, cameras),
}
trained = {"no extra loss": variants["four layers"]}
for name in list(TERMS)[1:]:
    trained[name] = [few_scenes(len(fit), seed, more=TERMS[name]) for seed in SEEDS]


# %%
def judged(head):
    """delta1 on test scenes, on test views; flip and view disagreement; per picture."""
    on_test, on_views = predict(head, of_test), predict(head, of_views_test)
    straight, turned = on_test[flip_test], predict(head, mirrored_test)[..., ::-1]
    gap = np.where(visible, view_gap(on_views), np.nan)
    return {
        "delta1, scenes": scores(on_test, true_test)["delta1"],
        "delta1, views": scores(on_views, true_views)["delta1"],
        "gap of flips": np.abs(np.log(straight / turned)).mean((1, 2)),
        "gap of views": np.nanmean(gap, axis=(1, 2)),
    }


judgement = {}
for key, several in trained.items():
    rows = [judged(head) for head in several]
    judgement[key] = {name: np.array([row[name] for row in rows]) for name in rows[0]}
print(f"{'':>17}  " + "  ".join(f"{name:>14}" for name in rows[0]))
for name, values in judgement.items():
    print(f"{name:>17}  " + "  ".join(f"{v.mean():14.3f}" for v in values.values()))

# %%
effect = {
    (name, column): values[column] - judgement["no extra loss"][column]
    for name, values in judgement.items()
    for column in values
}
for name, gap in (("flip loss", "gap of flips"), ("reprojection loss", "gap of views")):
    print(f"{name}:")
    for column in (gap, "delta1, scenes", "delta1, views"):
        print(f"    {column:>14} {text(effect[name, column], '+')}")
        short = f"{name.split()[0]}_{column.replace(', ', '_').replace(' ', '_')}_effect"
        record(f"05.{short}", effect[name, column].mean())

# %% [markdown]
# And without any training: ask the best head for the picture and for its mirror image, and average
# the two in log depth.

# %%
straight = best_test[flip_test]
turned = predict(heads[best], mirrored_test)[..., ::-1]
averaged = scores(np.sqrt(straight * turned), true_test[flip_test])["delta1"]
flip_average = averaged - delta1[best][flip_test]
record("05.flip_average_effect", flip_average.mean())
say(
    f"Averaging over the mirror image: delta1 {text(flip_average, '+')} on {len(flip_test)} scenes."
)

# %%
gains = {
    key: interval(effect[key]) for key in effect if key[0] in TERMS and key[1].startswith("delta1")
}
helped = {column for (_, column), (_, low, _) in gains.items() if low > 0.01}
claim(
    "05.geometric_consistency",
    "Geometric consistency improves depth",
    how="flip loss and two-view reprojection loss with known cameras, 3 seeds, delta1 on unseen "
    "scenes; in part: on views of unseen toys only",
    measured="; ".join(
        f"{name.removesuffix(' loss')}, {column.removeprefix('delta1, ')} "
        f"{text(effect[name, column], '+')}"
        for name, column in gains
        if name != "no extra loss"
    )
    + f"; the disagreement of views: {text(effect['reprojection loss', 'gap of views'], '+')}",
    verdict=verdict_of("delta1, scenes" in helped, "delta1, views" in helped),
    cell="Measured",
)

# %% [markdown]
# Consistency and correctness are two things: a head that is wrong can be wrong in the same way from
# both sides.

# %% [markdown]
# ### Where are the errors?
#
# First by distance: delta1 of the pixels in each range of true depth.


# %%
def by_distance(predicted, truth, limits):
    """delta1 of the pixels of each picture within each range of true depth, (N, ranges)."""
    within = abs(np.log(predicted / truth)) < np.log(1.25)
    shares = []
    for low, high in pairwise(limits):
        inside = (truth >= low) & (truth < high)
        pixels = inside.sum((1, 2)).astype(float)
        pixels[pixels < 20] = np.nan  # too few to give a share
        shares.append((within & inside).sum((1, 2)) / pixels)
    return np.transpose(shares)


distances = np.array([1, 1.5, 2, 3, 4, 6, 9, 14, 25])
series = {}
for name in (best, "linear, last layer", "row"):
    ranges = by_distance(predictions[name], true_test, distances).T
    series[name] = tuple(np.transpose([interval(values) for values in ranges]))

# %%
ticks = [1, 2, 3, 5, 10, 20]
figure = plotting.curves(
    np.sqrt(distances[:-1] * distances[1:]),
    series,
    xscale="log",
    xticks=ticks,
    xticklabels=ticks,
    xlabel="true depth in metres",
    ylabel="delta1, 95 % interval",
    ylim=(0, 1),
    alt="delta1 against true depth for the best head, the linear head, and depth by row",
)
figure.axes[0].minorticks_off()
plotting.show(figure)

# %%
framing = test.labels("framing")
indoor = test.labels("indoor")
for name in ("row", "linear, last layer", best):
    parts = {"portrait": framing == "portrait", "wide": framing == "wide"}
    parts |= {"indoors": indoor, "outdoors": ~indoor}
    print(f"{name:>19}:", ", ".join(f"{k} {delta1[name][r].mean():.3f}" for k, r in parts.items()))
record("05.best_delta1_portrait", delta1[best][framing == "portrait"].mean())
record("05.best_delta1_wide", delta1[best][framing == "wide"].mean())


# %% [markdown]
# Then on the picture. The error is the log ratio of prediction to truth: red where the answer is
# too near, blue where it is too far, full colour from a factor 1.5 on.


# %%
def error_picture(predicted, truth, factor=1.5):
    """Colours (H, W, 3) of the log ratio of two depth maps; white where there is no truth."""
    ratio = np.log(predicted / truth) / np.log(factor)
    colours = colormaps["RdBu"](np.clip((np.nan_to_num(ratio) + 1) / 2, 0, 1))[..., :3]
    return np.where(np.isnan(truth)[..., None], 1.0, colours)


def depth_rows(rows):
    """Pictures, predicted and true depth and errors of some test scenes, row after row."""
    found = predict(heads[best], rows_of(of_test, rows), side=224)
    panel = [test.image(i) for i in rows] + list(as_map(found)) + list(as_map(depth_test[rows]))
    return panel + [error_picture(p, t) for p, t in zip(found, depth_test[rows], strict=True)]


# %%
by_score = np.argsort(delta1[best])
typical = by_score[[110, 140, 170, 200, 240, 300]]
plotting.show(
    plotting.show_images(
        depth_rows(typical),
        titles=[f"delta1 {delta1[best][i]:.2f}" for i in typical],
        columns=6,
        limits=LIMITS,
        bar=METRES,
        title="From average to good: picture, predicted depth, true depth, error",
        alt="Six test scenes: picture, predicted depth, true depth and signed error below each",
    )
)

# %% [markdown]
# And the failures: the six worst test scenes.

# %%
worst = by_score[:6]
plotting.show(
    plotting.show_images(
        depth_rows(worst),
        titles=[f"delta1 {delta1[best][i]:.2f}" for i in worst],
        columns=6,
        limits=LIMITS,
        bar=METRES,
        title="The worst: picture, predicted depth, true depth, error",
        alt="The six test scenes with the worst scores: picture, prediction, truth and error",
    )
)
same_sign = [np.sign(np.nanmedian(np.log(best_test[i] / true_test[i]))) for i in worst]
fixed = aligned[best][worst].mean()
say(
    f"Of these, {np.mean(np.array(same_sign) < 0):.0%} are placed too near as a whole. With scale "
    f"and shift given, the same six reach {fixed:.2f} instead of {delta1[best][worst].mean():.2f}: "
    + ("mostly the scale was wrong, not the shape." if fixed > 0.6 else "the shape is wrong too.")
)

# %% [markdown]
# ## Points in space
#
# With the camera's intrinsics every pixel and its depth become a point. A few lines of numpy draw
# the points from anywhere: project them, and paint from far to near.


# %%
def cloud(picture, depth, camera):
    """Points of the world (P, 3) and colours (P, 3) of the pixels whose depth is known."""
    y, x = np.nonzero(np.isfinite(depth))
    points = samples.unproject(np.stack([x, y], axis=1) + 0.5, depth[y, x], camera)
    return points, np.asarray(picture)[y, x]


def splat(points, colours, camera, side=224, size=2):
    """Picture (side, side, 3) of points as a camera sees them, size x size pixels each."""
    places, depth = samples.project(points, camera)
    shifts = np.stack(np.meshgrid(*[np.arange(size) - (size - 1) / 2] * 2), -1).reshape(-1, 1, 2)
    x, y = np.floor(places + shifts).reshape(-1, 2).T
    depth, colours = np.tile(depth, size**2), np.tile(colours, (size**2, 1))
    seen = (depth > 0.05) & (x >= 0) & (x < side) & (y >= 0) & (y < side)
    order = np.flatnonzero(seen)[np.argsort(-depth[seen], kind="stable")]  # near ones come last
    canvas = np.full((side, side, 3), 255, np.uint8)
    canvas[y[order].astype(int), x[order].astype(int)] = colours[order]
    return canvas


# %%
def rotation(axis, degrees):
    """Matrix (3, 3) that turns about a unit axis (Rodrigues)."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.deg2rad(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def orbit(camera, pivot, azimuth, elevation):
    """The camera, moved around a point: by an azimuth about the vertical, then up."""
    pose = np.array(camera["world_from_camera"], dtype=float)
    turn = rotation([0, 0, 1], azimuth) @ rotation(pose[:3, 0], -elevation)
    moved = pose.copy()
    moved[:3, :3] = turn @ pose[:3, :3]
    moved[:3, 3] = turn @ (pose[:3, 3] - pivot) + pivot
    return {**camera, "world_from_camera": moved}


# %% [markdown]
# The eye's test: the views have real neighbours. Predict the depth of one view, look at its points
# from the camera 15 degrees to the side, and put the real view beside it. The number is the mean
# difference in grey levels where all three clouds have points. White is what the first camera did
# not see; threads between a toy and what is behind it are what a blurred edge of depth looks like.

# %%
views_depth = predict(heads[best], of_views_test, side=224)
row_map = resized(torch.from_numpy(np.log(baselines["row"][:1])).float(), (224, 224)).exp().numpy()
panel, misfit = [], []
for i, j in pairs_test.tolist():
    camera, target = (views_test.table[k]["camera"] for k in (i, j))
    picture, real = views_test.image(i), np.asarray(views_test.image(j))
    maps = {"true": views_test.depth(i), best: views_depth[i], "row": row_map[0]}
    known = np.isfinite(maps["true"])
    clouds = [cloud(picture, np.where(known, m, np.nan), camera) for m in maps.values()]
    drawn = [splat(*one, target) for one in clouds]
    filled = np.all([(one < 255).any(-1) for one in drawn], axis=0)
    misfit.append([abs(one.astype(float) - real)[filled].mean() for one in drawn])
    if i in (0, 20, 34):
        panel += [picture, real, *drawn]
misfit = dict(zip(maps, np.transpose(misfit), strict=True))

# %%
titles = ["view", "real view, 15° on", "points, true depth", f"points, {best}", "points, row"]
plotting.show(
    plotting.show_images(
        panel,
        titles=titles,
        columns=5,
        alt="Three toys: a view, the next real view, and points of the first seen from there",
    )
)
for name, values in misfit.items():
    print(f"{name:>10}: {interval(values)[0]:.1f} grey levels from the real view")
record("05.novel_view_misfit_true", misfit["true"].mean())
record("05.novel_view_misfit_best", misfit[best].mean())
record("05.novel_view_misfit_row", misfit["row"].mean())
closer = misfit["row"] - misfit[best]
say(
    f"By how much the points of the best head look more like the real view than those of depth by "
    f"row: {text(closer, '+')} grey levels."
)


# %%
def seen_from(picture, depth, camera, azimuth, elevation):
    """Points of a picture from a camera that moved around their middle."""
    points, colours = cloud(picture, depth, camera)
    pivot = np.median(points, axis=0)
    return splat(points, colours, orbit(camera, pivot, azimuth, elevation))


shown = 201
shown_best = predict(heads[best], rows_of(of_test, [shown]), side=224)[0]
sobel_map = align(readings[reading](sobel_test[[shown]]), true_test[[shown]], NEAR, FAR)
own_limits = tuple(np.nanpercentile(as_map(depth_test[shown]), (1, 97)))
turned = seen_from(test.image(shown), shown_best, test.table[shown]["camera"], -15, 8)

# %% tags=["finished-picture"]
finished = {
    "picture": test.image(shown),
    "true depth": as_map(depth_test[shown]),
    "by row": as_map(row_map[0]),
    "Sobel MLP,\nscale given": as_map(sobel_map[0]),
    best: as_map(shown_best),
    "its points,\nturned by 15°": turned,
}
plotting.show(
    plotting.show_images(
        list(finished.values()),
        titles=list(finished),
        columns=6,
        limits=own_limits,
        bar=METRES,
        alt="A test scene, its true depth, three predictions, and its points from another side",
    )
)

# %% [markdown]
# ## Outside: a real photograph with measured depth
#
# scikit-image ships a stereo pair of the Middlebury benchmark (Scharstein et al. 2014) with
# measured disparity and calibration, so depth in metres is focal length x baseline / disparity.
# Another camera, another world; the head saw nothing but toys. Only scores with scale and shift
# given make sense, and the baselines get the same.


# %%
def depth_of(head, images, size=224):
    """Depth maps (h, w) in metres of pictures of any shape, by name; unreadable ones are left out.

    The shortest side is scaled to `size` pixels; metres are right for the camera of the training
    pictures only.
    """
    found = extract_features(
        dinov2, images, size=size, fit="resize", layers=LAYERS, patches=False, progress=False
    )
    maps = {}
    for k, name in enumerate(found.names):
        patches = np.concatenate([found.layers[i].patches[k] for i in LAYERS], axis=-1)
        cls = np.concatenate([found.layers[i].cls[k] for i in LAYERS])
        with torch.inference_mode():
            log_depth = head(torch.from_numpy(patches)[None], torch.from_numpy(cls)[None])
        grid = [n * 8 for n in patches.shape[:2]]
        maps[name] = resized(log_depth, grid)[0].exp().numpy()
    return maps


# %%
left, _, disparity = photographs.stereo_motorcycle()
FOCAL, BASELINE, OFFSET = 994.978, 0.193001, 31.086  # from the data's own description
true_bike = np.where(np.isfinite(disparity), FOCAL * BASELINE / (disparity + OFFSET), np.nan)
near_bike, far_bike = float(np.nanmin(true_bike)), float(np.nanmax(true_bike))


def to_photo(depth):
    """A map enlarged to the photograph, (1, H, W)."""
    size = true_bike.shape
    return resized(torch.from_numpy(np.ascontiguousarray(depth))[None].float(), size).numpy()


# %%
bike = depth_of(heads[best], {"bike": left})["bike"]
bike_linear = depth_of(heads["linear, last layer"], {"bike": left})["bike"]
bike_guesses = {"one depth": np.ones((2, 2)), "row": row_map[0], "linear, last layer": bike_linear}
bike_guesses = {name: to_photo(m) for name, m in (bike_guesses | {best: bike}).items()}
bike_fit = {k: align(m, true_bike[None], near_bike, far_bike) for k, m in bike_guesses.items()}
bike_scores = {k: scores(m, true_bike[None]) for k, m in bike_fit.items()}
for name, values in bike_scores.items():
    line = ", ".join(f"{k} {values[k][0]:.3f}" for k in ("delta1", "AbsRel", "SILog"))
    print(f"{name:>19}, scale and shift given: {line}")

# %%
record("05.motorcycle_best_absrel", bike_scores[best]["AbsRel"][0])
record("05.motorcycle_row_absrel", bike_scores["row"]["AbsRel"][0])
record("05.motorcycle_one_absrel", bike_scores["one depth"]["AbsRel"][0])

# %%
wanted = {"true depth": true_bike, "row": bike_fit["row"][0], best: bike_fit[best][0]}
plotting.show(
    plotting.show_images(
        [left, *(as_map(m) for m in wanted.values())],
        titles=["photograph", *wanted],
        columns=4,
        bar=METRES,
        alt="Motorcycle in a garage: photograph, measured depth, fitted depth by row and by head",
    )
)
saved = 1 - bike_scores[best]["AbsRel"][0] / bike_scores["row"]["AbsRel"][0]
say(
    f"As it comes, before any fit, the head says {np.median(bike):.1f} m in the median; the truth "
    f"is {np.nanmedian(true_bike):.1f} m. With the gift its AbsRel is {abs(saved):.0%} "
    f"{'below' if saved > 0 else 'above'} that of depth by row. "
    + ("Something carries over. " if saved > 0.1 else "So here it is no better than not looking. ")
    + "One photograph proves little either way."
)

# %% [markdown]
# An honest word: the embedded DINOv2 and this head have only ever seen rendered toys on a ground,
# under one camera. Whatever the numbers above say, do not use them on photographs. With the real
# weights (`DINOV2_PROFILE=base`) the features know photographs, but the head would still be trained
# on toys: train it on depth of your own.

# %% [markdown]
# ### Another camera
#
# Metres depend on the focal length. A longer lens makes everything larger in the picture, so a head
# that learned with one lens may take it for near. Cut the middle of every eighth test picture out
# and enlarge it: the depth stays what it was, the focal length is 1.6 times as long.


# %%
def zoomed(picture, share):
    """The middle of a picture, enlarged to its size: a lens that is 1 / share as long."""
    width, height = picture.size
    margin = (width * (1 - share) / 2, height * (1 - share) / 2)
    box = (margin[0], margin[1], width - margin[0], height - margin[1])
    return picture.resize(picture.size, Image.Resampling.BICUBIC, box=box)


# %%
SHARE = 140 / 224
some = np.arange(0, len(test), 8)
of_zoomed = tokens_of([zoomed(test.image(i), SHARE) for i in some])
true_zoomed = at_grid(depth_test[some][:, 42:182, 42:182])
guess = predict(heads[best], of_zoomed)
cases = {"as it is": guess, "times 1 / share": guess / SHARE}
for name, maps in cases.items():
    ratio = interval(np.nanmedian(maps / true_zoomed, axis=(1, 2)))[0]
    print(f"{name:>15}: delta1 {text(scores(maps, true_zoomed)['delta1'])}, ratio {ratio:.2f}")
record("05.zoomed_delta1", scores(guess, true_zoomed)["delta1"].mean())
record("05.zoomed_corrected_delta1", scores(guess / SHARE, true_zoomed)["delta1"].mean())

# %%
lens = interval(np.nanmedian(guess / true_zoomed, axis=(1, 2)))[0]
by_size = np.log(lens) / np.log(SHARE)
repaired = (
    "Multiplying repairs it."
    if by_size > 0.8
    else "So multiplying corrects too much: the head also goes by what no lens changes."
)
say(
    f"If the head read nothing but sizes, the first ratio would be {SHARE:.2f}; if the lens did "
    f"not matter to it, 1. It is {lens:.2f}. {repaired}"
)

# %% [markdown]
# Those who train on pictures of many cameras settle this in advance: divide depth by the focal
# length before training, multiply by that of the camera afterwards (Metric3D, Yin et al. 2023).
# Then the head *must* go by size.
#
# ## Try it
#
# Turn the points. "true" shows what the best possible depth looks like from there, "row" the worst
# sensible one. (Without a running kernel you see the default.)


# %%
def draw(picture, depth, azimuth, elevation):
    """A test picture, the depth chosen, and its points from a camera that moved."""
    known = np.isfinite(depth_test[picture])
    maps = {"true": depth_test[picture], "row": np.where(known, row_map[0], np.nan)}
    if depth not in maps:
        found = predict(heads[depth], rows_of(of_test, [picture]), side=224)[0]
        maps[depth] = np.where(known, found, np.nan)
    image, camera = test.image(picture), test.table[picture]["camera"]
    turned = seen_from(image, maps[depth], camera, azimuth, elevation)
    score = scores(maps[depth][None], depth_test[[picture]])["delta1"][0]
    return plotting.show_images(
        [image, as_map(maps[depth]), turned],
        titles=["picture", f"depth: {depth}, delta1 {score:.2f}", f"{azimuth}°, {elevation}° up"],
        limits=LIMITS,
        bar=METRES,
        alt=f"Test picture {picture}, its depth by {depth}, and its points from another side",
    )


# %%
Explorer(
    draw,
    picture=ipywidgets.IntSlider(shown, 0, len(test) - 1),
    depth=ipywidgets.Dropdown(options=[best, "linear, last layer", "row", "true"], value=best),
    azimuth=ipywidgets.IntSlider(-15, -60, 60, 5),
    elevation=ipywidgets.IntSlider(10, -20, 50, 5),
)

# %% [markdown]
# ## Your own images
#
# Name a folder. Pictures of any shape are scaled to a shortest side of 224 pixels; files that
# cannot be read are reported and left out. What you get is *relative* depth at best: the metres
# belong to the camera of the training pictures. To get metres, train a head on depth of your own
# camera, in the layout of `data/scenes` (the learning curve says how many scenes it takes); or fit
# scale and shift to a few distances that you measured. Without a folder the photographs stand in.
# The first four are shown.

# %%
from pathlib import Path

from dinov2_helpers import ImageError, iter_images, open_image
from dinov2_helpers.pictures import printable


def first_readable(folder, most):
    """The first pictures of a folder that can be read, opened, by path; the others are named."""
    root = Path(folder).expanduser()
    opened = {}
    for path in iter_images(root):
        try:
            opened[path.relative_to(root).as_posix()] = open_image(path)
        except ImageError as error:
            print(f"left out: {error}")
        if len(opened) == most:
            break
    return opened


# %%
def show_depth(pictures, estimate):
    """Show pictures by name, and below each the depth that `estimate` gives for it."""
    if not pictures:
        print("Nothing to show: none of the pictures can be read")
        return
    depth = estimate(pictures)
    small = [ImageOps.contain(pictures[name], (300, 300)) for name in depth]
    plotting.show(
        plotting.show_images(
            small + [as_map(one) for one in depth.values()],
            titles=[printable(name) for name in depth],
            columns=len(depth),
            bar="relative depth, log10",
            alt="Photographs and below each the depth that the head gives: " + ", ".join(depth),
        )
    )


# %%
FOLDER = None  # for instance "/content/drive/MyDrive/holiday" or r"C:\Pictures"

mine = {k: open_image(getattr(photographs, k)()) for k in ("cat", "coffee", "rocket", "astronaut")}
if FOLDER:
    mine = first_readable(FOLDER, most=4)
show_depth(mine, partial(depth_of, heads[best]))

# %% [markdown]
# ## Exercises
#
# **1. SILog by hand**, for two lists of known depths. Which prediction has a SILog of 0 without
# being right?


# %% tags=["exercise-1-stub"]
def silog(predicted, true):
    """Root of: mean of the squared log ratio less the square of its mean."""
    raise NotImplementedError


# %% tags=["exercise-1-check"]
try:
    p, t = np.array([1.0, 2.0, 4.0, 3.0]), np.array([1.0, 1.0, 5.0, 2.0])
    assert np.isclose(silog(p, t), np.log(p / t).std())
    assert np.isclose(silog(3 * t, t), 0, atol=1e-6)
    print("Right!")
except NotImplementedError:
    print("Not solved yet")

# %% [markdown] tags=["exercise-1-solution"]
# <details><summary>Solution</summary>
#
# ```python
# def silog(predicted, true):
#     """Root of: mean of the squared log ratio less the square of its mean."""
#     ratio = np.log(predicted) - np.log(true)
#     return np.sqrt(max((ratio**2).mean() - ratio.mean() ** 2, 0))
# ```
#
# Every prediction that is the truth times one number. That is what "scale-invariant" means.
#
# </details>

# %% [markdown]
# **2. Your camera.** A head was trained with a focal length of `trained` pixels. Your pictures were
# taken with `focal` pixels at a width of `width`, and are scaled to `scaled` pixels of width before
# the head sees them. Correct its depth.


# %% tags=["exercise-2-stub"]
def for_my_camera(depth, trained, focal, width, scaled):
    """Depth in metres for another camera."""
    raise NotImplementedError


# %% tags=["exercise-2-check"]
try:
    assert np.allclose(for_my_camera(np.array([2.0, 4.0]), 300, 300, 224, 224), [2, 4])
    assert np.allclose(for_my_camera(np.array([2.0]), 300, 600, 224, 224), [4])
    assert np.allclose(for_my_camera(np.array([2.0]), 300, 1200, 896, 224), [2])
    print("Right!")
except NotImplementedError:
    print("Not solved yet")

# %% [markdown] tags=["exercise-2-solution"]
# <details><summary>Solution</summary>
#
# ```python
# def for_my_camera(depth, trained, focal, width, scaled):
#     """Depth in metres for another camera."""
#     return depth * (focal * scaled / width) / trained
# ```
#
# Scaling a picture scales its focal length in pixels. A thing of a given size in the picture is the
# farther, the longer the lens.
#
# </details>

# %% [markdown]
# **3. From disparity to metres.** A rectified stereo pair gives a disparity in pixels. Where it is
# not positive, nothing is known.


# %% tags=["exercise-3-stub"]
def depth_from_disparity(disparity, focal, baseline):
    """Depth in the baseline's unit, NaN where the disparity is not positive."""
    raise NotImplementedError


# %% tags=["exercise-3-check"]
try:
    found = depth_from_disparity(np.array([10.0, 20.0, 0.0, -1.0]), 1000.0, 0.2)
    assert np.allclose(found[:2], [20, 10]) and np.isnan(found[2:]).all()
    print("Right!")
except NotImplementedError:
    print("Not solved yet")

# %% [markdown] tags=["exercise-3-solution"]
# <details><summary>Solution</summary>
#
# ```python
# def depth_from_disparity(disparity, focal, baseline):
#     """Depth in the baseline's unit, NaN where the disparity is not positive."""
#     known = disparity > 0
#     return np.where(known, focal * baseline / np.where(known, disparity, 1), np.nan)
# ```
#
# </details>

# %% [markdown]
# ## Recap
#
# What you did, each with its number:

# %%
say(f"""
- You **scored depth maps**: depth by row has delta1 {delta1["row"].mean():.3f}, and
  {aligned["row"].mean():.3f} once scale and shift are given away.
- You **saw what an edge map knows about distance**: with that gift the Sobel MLP has
  {aligned["Sobel MLP"].mean():.3f}, one depth for everything {aligned["mean depth"].mean():.3f}.
- You **trained dense heads**: linear {delta1["linear, last layer"].mean():.3f}, bins
  {delta1["bins in log depth"].mean():.3f}, small DPT {delta1["small DPT"].mean():.3f}.
- You **tested three tips one by one**: real depth brings {real_gains[0].mean():+.3f} to the MLP,
  four layers {layer_gain["delta1"].mean():+.3f} to the bins, reprojection
  {gains["reprojection loss", "delta1, scenes"][0]:+.3f} and flips
  {gains["flip loss", "delta1, scenes"][0]:+.3f} to the bins.
- You **counted the scenes**: {COUNTS[0]} give {curve[0].mean():.3f}, {COUNTS[2]} give
  {curve[2].mean():.3f}, {COUNTS[-1]} give {curve[-1].mean():.3f}.
""")

# %%
portrait, zoom = framing == "portrait", scores(guess, true_zoomed)["delta1"].mean()
say(f"""
- You **looked at the errors**: portraits {delta1[best][portrait].mean():.3f}, wide pictures
  {delta1[best][~portrait].mean():.3f}.
- You **turned a picture into points**: {misfit[best].mean():.1f} grey levels from the real view,
  with true depth {misfit["true"].mean():.1f}.
- You **found the limit**: on a real photograph AbsRel is {bike_scores[best]["AbsRel"][0]:.3f} with
  the gift, by row {bike_scores["row"]["AbsRel"][0]:.3f}; a longer lens takes delta1 to {zoom:.3f}.
""")

# %% [markdown]
# Next: notebook 6 asks which patches do not belong, and finds defects it was never shown.
