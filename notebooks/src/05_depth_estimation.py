# ---
# jupyter:
#   jupytext:
#     notebook_metadata_filter: headline
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
#   headline:
#     05.best_delta1: share of pixels within 25 % of the true depth, best head, unseen scenes
#     05.row_scale_by_cls_delta1: the same for the average depth of each row, its scale read off CLS
# ---

# %% [markdown]
# # 5. Depth estimation
#
# **How far away is it, from one picture?**
#
# <!-- badge:begin --><!-- badge:end -->
#
# ![A scene, its depth by three methods under one rule](figures/05_depth_estimation.jpeg)
#
# When you are through you can
#
# 1. **score a depth map**, beside what is known without looking;
# 2. **read depth off frozen patches** with ten lines of algebra, and say what each step adds;
# 3. **say what the metres are worth**: under another lens, in a photograph, with a tape measure.
#
# About 55 minutes. Everything that is measured here, and more, is measured to the end in
# [the evidence](evidence/05_depth_estimation.ipynb).
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
# ## A picture, and how far everything in it is

# %%
from dinov2_helpers import load_dinov2, plotting
from dinov2_helpers.samples import load_scenes

test = load_scenes("test")
scene = 264
picture = test.image(scene)
depth = test.depth(scene)  # (224, 224), metres along the optical axis; NaN for the sky

plotting.show(
    plotting.show_depth(
        [picture, depth], alt="A scene of toys, and the depth of each of its pixels"
    )
)

# %% [markdown]
# Every sample scene comes with its exact depth. **DINOv2** ([Oquab et al.
# 2023](https://arxiv.org/abs/2304.07193)) has never seen any: it learned from pictures alone. This
# is what it makes of ours, with transformers alone, after each of its layers:

# %%
import torch

dinov2 = load_dinov2()
PATCH = dinov2.patch_size  # 14 pixels
SIDE = 224 // PATCH  # 16 patches in a row
pixels = dinov2.processor(
    picture, do_resize=False, do_center_crop=False, return_tensors="pt"
).pixel_values
with torch.inference_mode():
    output = dinov2.model(pixel_values=pixels, output_hidden_states=True)

pixels.shape, len(output.hidden_states), output.hidden_states[-1].shape

# %% [markdown]
# Nothing was cropped, so the patches lie exactly on the depth map: 16 x 16 of them, each 14 pixels
# wide. There is one output more than layers: the first is what goes into them, a linear map of the
# pixels of each patch, with CLS in front and the positions added. After the last layer comes one
# more layer norm, the final one.

# %%
last = output.last_hidden_state  # (1, 257, 192), hidden_states[-1] after the final layer norm
cls = last[:, 0]  # (1, 192), the whole picture
patches = last[:, -SIDE * SIDE :]  # (1, 256, 192)
patches = patches.unflatten(1, (SIDE, SIDE))  # (1, 16, 16, 192), row by row

cls.shape, patches.shape

# %% [markdown]
# The same for all scenes, four layers of each, evenly spaced; the helper applies the final layer
# norm to each layer. **Test** shows other toys in other places than **train**. `fit="resize"` is
# what keeps the crop away.

# %%
from dinov2_helpers import extract_features

train = load_scenes("train")
layers = [dinov2.n_layers * quarter // 4 - 1 for quarter in (1, 2, 3, 4)]
settings = {"size": 224, "fit": "resize", "layers": layers, "patches": False}

seen_train = extract_features(dinov2, train, **settings)
seen_test = extract_features(dinov2, test, **settings)

seen_train.layers[layers[-1]].patches.shape

# %%
import numpy as np

depth_train = np.stack([train.depth(i) for i in range(len(train))])  # (N, 224, 224)
depth_test = np.stack([test.depth(i) for i in range(len(test))])
truth = depth_test[:, 2::4, 2::4]  # (N, 56, 56): every fourth pixel is enough to score

near, far = np.nanquantile(truth, [0.01, 0.99])
print(f"most of the test lies between {near:.1f} and {far:.0f} metres")

# %% [markdown]
# ## When is a depth map good?
#
# An error of one metre is much for a cup and little for a hill, so depth is judged by **ratios**.
# Of a predicted depth $d$ and the true one $t$ of each of $P$ pixels, papers report ([Eigen et al.
# 2014](https://arxiv.org/abs/1406.2283))
#
# $$ \delta_1 = \frac{1}{P}\sum_p \left[\max\left(\frac{d_p}{t_p}, \frac{t_p}{d_p}\right) <
# 1.25\right] \qquad \mathrm{AbsRel} = \frac{1}{P}\sum_p \frac{|d_p - t_p|}{t_p} $$
#
# the share of pixels that are right within a quarter, and the mean error as a share of the truth.
# We write the first; `measure.depth_scores` has them all.


# %%
def delta1(guesses, truths):
    """Share of the known pixels of each map (N, H, W) that are right within a quarter: (N,)."""
    shares = []
    for guess, true in zip(guesses, truths, strict=True):
        known = np.isfinite(true)
        ratio = guess[known] / true[known]
        shares.append(np.mean(np.maximum(ratio, 1 / ratio) < 1.25))
    return np.array(shares)


# %% [markdown]
# ## What is known without looking
#
# A camera mostly looks down on its ground: what is low in the picture is near. So average the depth
# of each row of all training pictures, and answer every test picture with that. *How many pixels of
# a hundred will be right? Write it down.*

# %%
rows = np.exp(np.nanmean(np.log(depth_train), axis=(0, 2)))[2::4]  # (56,), metres
by_row = np.broadcast_to(rows[:, None], truth.shape)

print(f"depth by row: {delta1(by_row, truth).mean():.0%} right")

# %% [markdown]
# The scenes were taken from near and from far, so one map for all of them has the wrong **scale**.
# Many depth models have no scale at all, and papers then give it away: each answer is multiplied by
# the number that brings its median to the true one. It is a generous gift, taken from the truth.
# Who gives it to one must give it to all.


# %%
def scale_given(guesses, truths):
    """Maps (N, H, W), each multiplied so that its median is that of the truth."""
    fitted = []
    for guess, true in zip(guesses, truths, strict=True):
        known = np.isfinite(true)
        fitted.append(guess * np.median(true[known]) / np.median(guess[known]))
    return np.stack(fitted)


# %% [markdown]
# So every method below gets two scores, in metres and with the scale given, and stands beside
# rivals that have not looked: one depth for everything, one for each row, one for each place.

# %%
from dinov2_helpers.measure import bootstrap

in_metres = {}
given = {}


def score(name, guesses):
    """Keep and print both scores of maps (N, 56, 56), with their intervals over the scenes."""
    in_metres[name] = delta1(guesses, truth)
    given[name] = delta1(scale_given(guesses, truth), truth)
    metres = bootstrap(in_metres[name])
    print(f"{name:>20}: metres {metres:.0%}, scale given {bootstrap(given[name]):.0%}")


log_train = np.log(depth_train)
one_depth = np.full(truth.shape, np.exp(np.nanmean(log_train)))
by_place = np.broadcast_to(np.exp(np.nanmean(log_train, axis=0))[2::4, 2::4], truth.shape)

score("one depth", one_depth)
score("row", by_row)
score("place", by_place)

# %% [markdown]
# ## What the article does
#
# It has no depth to learn from, so it learns **edges**: the strength of the picture's edges
# (Sobel's filter) serves as pseudo depth. A small network gets the mean patch of the picture, and
# its answer is pulled towards the edges of all pixels.

# %%
from skimage.filters import sobel

edges = torch.tensor(sobel(np.array(picture.convert("L")))).float()
target = edges.flatten()[::16]  # (3136,), every sixteenth pixel
mean_patch = patches.mean(dim=(1, 2))  # (1, 192)

torch.manual_seed(0)
head = torch.nn.Sequential(
    torch.nn.Linear(dinov2.dim, 256), torch.nn.ReLU(), torch.nn.Linear(256, 1)
)
optimiser = torch.optim.Adam(head.parameters(), lr=1e-4)
for _ in range(100):
    optimiser.zero_grad()
    ((head(mean_patch) - target) ** 2).mean().backward()
    optimiser.step()

the_answer = head(mean_patch).detach()
the_answer.shape, target.shape

# %%
from dinov2_helpers.claims import conclude

print(f"its answer {the_answer.item():.3f}, the mean edge {target.mean().item():.3f}")
conclude(
    the_answer.numel() == 1 and abs(the_answer.item() - target.mean().item()) < 0.01,
    "The answer is **one number for the whole picture**. PyTorch stretches it over all pixels "
    "without an error, and training draws it to the mean edge.",
)

# %% [markdown]
# That is a slip, and easily mended. So be generous: suppose a network that gives a map, and that
# has learned its edges *perfectly*. Read an edge as near and smoothness as far, and give the scale
# away.

# %%
edges_test = np.stack([sobel(np.array(test.image(i).convert("L"))) for i in range(len(test))])
edges_test = edges_test.reshape(-1, 56, 4, 56, 4).mean(axis=(2, 4))  # (N, 56, 56)
read_as_depth = 1 / (edges_test + 0.05)
score("edges", read_as_depth)

# %%
by_edges = scale_given(read_as_depth, truth)
shown = []
for i in (0, 60):
    shown += [test.image(i), by_edges[i], truth[i]]

plotting.show(
    plotting.show_depth(
        shown,
        titles=["picture", "edges as depth", "true depth"] * 2,
        columns=6,
        limits=(near, far),
        alt="Scenes, their edges read as depth, and their true depth: two different things",
    )
)

# %%
conclude(
    bootstrap(given["edges"] - given["one depth"]).high < 0,
    "Perfect edges, scale given, are **worse than one depth for everything**: edges are where "
    "depth *or colour* changes, and say nothing of what lies between.",
)

# %% [markdown]
# ## Ten lines of algebra
#
# Now the right target, and the simplest head there is. Log depth of a patch shall be a linear
# function of its token: the weights with the smallest squared error, held back by a penalty, are
#
# $$ w = (X^\top X + \lambda I)^{-1} X^\top y $$
#
# [Lesson 2](02_zero_shot_classification.ipynb) built its bridge so. No steps, no seed, no learning
# rate. Where people train this head with an optimiser [and fall
# short](https://github.com/facebookresearch/dinov2/issues/54), the optimiser is the first suspect;
# the evidence has both side by side.


# %%
def fit_ridge(x, y, strength):
    """Weights (D,) and offset, so that x @ weights + offset comes near y: (n, D) and (n,)."""
    known = np.isfinite(y)
    x = x[known]
    y = y[known]
    mean = x.mean(axis=0)
    x -= mean
    gram = x.T @ x  # (D, D)
    penalty = strength * np.trace(gram) / len(gram)
    weights = np.linalg.solve(gram + penalty * np.eye(len(gram)), x.T @ (y - y.mean()))
    return weights.astype(x.dtype), y.mean() - mean @ weights


# %%
def of_patches(depth):
    """Mean log depth of each patch, (N, 16, 16), of depth (N, 224, 224); NaN for the sky."""
    squares = np.log(depth).reshape(-1, SIDE, PATCH, SIDE, PATCH)
    known = np.isfinite(squares).sum(axis=(2, 4), dtype=np.float32)
    with np.errstate(invalid="ignore"):
        return np.nansum(squares, axis=(2, 4)) / known


log_patches = of_patches(depth_train)

# %% [markdown]
# First the rival that looks **once**: one number per picture, the mean log depth, read off CLS. It
# sets the scale of the rows. *How far does that alone come in metres?*

# %%
cls_train = seen_train.layers[layers[-1]].cls
cls_test = seen_test.layers[layers[-1]].cls

weights, offset = fit_ridge(cls_train, np.nanmean(log_patches, axis=(1, 2)), strength=0.1)
scale = np.exp(cls_test @ weights + offset)  # (N,), metres
row_by_cls = by_row / np.exp(np.log(rows).mean()) * scale[:, None, None]
score("row, scale by CLS", row_by_cls)

# %% [markdown]
# This is the rival to beat in metres. With the scale given it is the row again. Now the patches,
# each by itself. (The strengths of the penalty were chosen on scenes held out.)


# %%
def tokens(features, blocks):
    """Patches of some layers side by side, one patch a row: (N * 256, layers * D)."""
    layers = [features.layers[block].patches for block in blocks]
    return np.concatenate(layers, axis=3).reshape(-1, len(blocks) * dinov2.dim)


def enlarged(log_depth):
    """Depth in metres (N, 56, 56) of log depth of patches (N, 16, 16)."""
    maps = torch.from_numpy(log_depth).float()[:, None]
    larger = torch.nn.functional.interpolate(maps, size=(56, 56), mode="bilinear")
    return larger[:, 0].exp().numpy()


# %%
def read_off(target, blocks, strength):
    """What a ridge on patches of some layers says of the test, (N, 16, 16), after the target's."""
    weights, offset = fit_ridge(tokens(seen_train, blocks), target.ravel(), strength)
    return (tokens(seen_test, blocks) @ weights + offset).reshape(-1, SIDE, SIDE)


last_layer = layers[-1:]
one_layer = enlarged(read_off(log_patches, last_layer, strength=0.03))
score("one layer", one_layer)

# %%
gain = bootstrap(in_metres["one layer"] - in_metres["row, scale by CLS"])
print(f"over the row with its scale by CLS, in metres: {gain:+.3f}")
conclude(
    gain.low > 0 and bootstrap(given["one layer"] - given["row"]).low > 0,
    "One layer of frozen patches and a linear map: **better than not looking**, in metres and with "
    "the scale given.",
)

# %% [markdown]
# ## One layer, or four?
#
# The article's tip is to take several layers. But is it *several*, or is another one better than
# the last? *Which single layer will be the best: early, middle, late?*

# %%
by_layer = []
for block in layers[:-1]:
    single = enlarged(read_off(log_patches, [block], strength=0.03))
    score(f"layer {block + 1} alone", single)
    by_layer.append(given[f"layer {block + 1} alone"].mean())
four_layers = enlarged(read_off(log_patches, layers, strength=0.01))
score("four layers", four_layers)

# %%
several = bootstrap(given["four layers"] - given["one layer"])
conclude(
    several.low > 0 and max(by_layer) < given["four layers"].mean(),
    f"None of the four alone comes up to all together ({several:+.3f} over the last, scale given): "
    "**several layers help a linear head**. (*Scales* they are not: all have the same patches.)",
)

# %% [markdown]
# Four layers are also four times as many numbers. Would as many, made from the last layer alone, do
# as well? The evidence asks.
#
# ## Is it the target, or the head?
#
# The same ten lines on the same patches, against the Sobel edges:

# %%
edges_train = np.stack([sobel(np.array(train.image(i).convert("L"))) for i in range(len(train))])
edges_train = edges_train.reshape(-1, SIDE, PATCH, SIDE, PATCH).mean(axis=(2, 4))

patch_edges = read_off(edges_train, last_layer, strength=0.03)
edge_depth = enlarged(-np.log(np.maximum(patch_edges, 0) + 0.05))
score("trained on edges", edge_depth)

# %%
conclude(
    bootstrap(given["trained on edges"] - given["row"]).high < 0,
    "Trained on edges, the same head is far below the row; trained on depth it is above. **Real "
    "depth** makes the difference, as the article itself advises.",
)

# %% [markdown]
# (Its third piece of advice, geometric consistency, is weighed in the evidence.)
#
# ## A finer head
#
# Two ideas of the papers on top. **Bins** ([Bhat et al. 2021](https://arxiv.org/abs/2011.14141)):
# the head weighs a row of depths, and its answer is their mean, so that it cannot leave the range.
# (Bhat et al. let the bins move with the picture; ours are fixed.)
# **DPT** ([Ranftl et al. 2021](https://arxiv.org/abs/2103.13413)): convolutions fuse the layers, so
# that patches talk to each other, and the map ends finer than the patches.


# %%
def mean_of_bins(scores, log_centres):
    """Log depth (...) of scores (..., bins): the mean of the bins, none of them without weight."""
    weights = scores.relu() + 0.1
    return weights @ log_centres / weights.sum(dim=-1)


mean_of_bins(torch.tensor([0.0, 0.0, 9.0]), torch.log(torch.tensor([1.0, 3.0, 9.0]))).exp()

# %% [markdown]
# Such a head has no closed form. It is trained with a loss that forgives most of a wrong scale,
# **SILog**: of the log ratios $r = \log d - \log t$,
#
# $$ \mathrm{SILog} = \sqrt{\mathrm{var}(r) + 0.15\, \mathrm{mean}(r)^2} $$


# %%
def silog(log_guess, log_true):
    """The loss of maps of log depth, over the known pixels."""
    ratio = (log_guess - log_true)[torch.isfinite(log_true)]
    return (ratio.var(unbiased=False) + 0.15 * ratio.mean() ** 2).sqrt()


log_truth = torch.from_numpy(np.log(truth))
for name, guess in {"right": truth, "twice too far": 2 * truth, "one depth": one_depth}.items():
    print(f"{name:>14}: {silog(torch.from_numpy(np.log(guess)), log_truth):.3f}")

# %% [markdown]
# The library has all of it as an object. (It adds a second loss, which compares the slopes of the
# two maps ([Li & Snavely 2018](https://arxiv.org/abs/1804.00607)), and joins CLS to each patch.)

# %%
from dinov2_helpers.techniques import DepthHead

FOCAL = test.table[0]["camera"]["intrinsics"][0][0]  # pixels; the same camera for all scenes

dpt = DepthHead(dinov2, head="dpt", steps=200)
dpt.fit(seen_train, depth_train, focal=FOCAL, progress=False)
found = dpt.predict(seen_test)  # maps of 224 x 224 pixels

by_dpt = np.stack(found.depth)[:, 2::4, 2::4]
score("small DPT", by_dpt)

# %% [markdown]
# ## Where it is won
#
# Most of what has a depth is ground and wall, where the row does well. What about the **toys**? The
# scale is given by the whole picture, and only their pixels are counted.

# %%
toy = np.stack([test.instance_mask(i) > 0 for i in range(len(test))])[:, 2::4, 2::4]
has_toy = (toy & np.isfinite(truth)).sum(axis=(1, 2)) > 0
toy_truth = np.where(toy, truth, np.nan)[has_toy]

methods = {
    "one depth": one_depth,
    "row": by_row,
    "place": by_place,
    "one layer": one_layer,
    "four layers": four_layers,
    "small DPT": by_dpt,
}
on_toys = {}
for name, guesses in methods.items():
    fitted = scale_given(guesses, truth)
    on_toys[name] = delta1(fitted[has_toy], toy_truth)

# %%
plotting.show(
    plotting.intervals(
        {name: bootstrap(values) for name, values in on_toys.items()},
        level=(on_toys["place"].mean(), "place, not looking"),
        xlabel="share of the toys' pixels that are right, scale given",
        xlim=(0.4, 1),
        alt="On toys the row is no better than one depth, a map of places is; each head is better",
    )
)

# %%
conclude(
    on_toys["row"].mean() < on_toys["one depth"].mean()
    and bootstrap(on_toys["one layer"] - on_toys["place"]).low > 0
    and bootstrap(on_toys["small DPT"] - on_toys["four layers"]).low > 0,
    "On things that stand, the row knows **nothing**: one depth for all does as well, and a map "
    "of places does better only because toys stand in the middle. There the heads earn their "
    "keep, and the finer one most.",
)

# %% [markdown]
# Which part of that is due to the bins, and which to the convolutions? The evidence has a row for
# each. The picture of this lesson: one scene, every method under the same rule.

# %% tags=["finished-picture"]
drawn = [picture, truth[scene]]
titles = ["picture", "true depth"]
for name in ("row", "four layers", "small DPT"):
    drawn.append(scale_given(methods[name], truth)[scene])
    titles.append(f"{name}: {given[name][scene]:.0%}")

plotting.show(
    plotting.show_depth(
        drawn,
        titles=titles,
        columns=5,
        limits=np.nanquantile(depth, [0.02, 0.98]),
        alt="A scene, its true depth, and three answers, the scale of each given: "
        + "; ".join(titles[2:]),
    )
)

# %% [markdown]
# ## Where it fails
#
# The worst test scenes in metres. Red is too near, blue too far, full colour from one and a half
# times on. *What is wrong: the shape, or only the scale?*

# %%
worst = np.argsort(in_metres["small DPT"])[:6]
drawn = [test.image(i) for i in worst]
drawn += [by_dpt[i] for i in worst]
drawn += [truth[i] for i in worst]
drawn += [plotting.depth_error(by_dpt[i], truth[i]) for i in worst]

plotting.show(
    plotting.show_depth(
        drawn,
        titles=[f"{in_metres['small DPT'][i]:.0%} right" for i in worst],
        columns=6,
        limits=(near, far),
        alt="The six worst scenes; below each the predicted depth, the true depth, and the error",
    )
)

# %%
before = in_metres["small DPT"][worst].mean()
after = given["small DPT"][worst].mean()
conclude(
    after > 0.5 > before,
    f"In metres {before:.0%} of these are right; with the scale given {after:.0%}. The shape was "
    "mostly there, and **the scale was wrong**.",
)

# %% [markdown]
# ## What the metres are worth
#
# A picture cannot tell a toy near by from a house far off, so a head goes by what it knows: how
# large things usually look, through *its* lens. Cut the middle out of a picture and enlarge it.
# That is a longer lens; the depth stays what it was. *Will the head now answer nearer, farther, or
# the same?*

# %%
share_kept = 140 / 224  # a lens 1.6 times as long
box = (42, 42, 182, 182)

zoomed = []
for i in range(0, len(test), 8):
    zoomed.append(test.image(i).resize((224, 224), box=box))
true_zoomed = depth_test[::8, 42:182, 42:182]
medians = np.nanmedian(true_zoomed, axis=(1, 2))
middles = [one[42:182, 42:182] for one in found.depth[::8]]  # the same places, nothing enlarged

ratios = [np.median(one) for one in dpt.predict(zoomed).depth] / medians
uncut_ratios = [np.median(one) for one in middles] / medians
ratio = np.median(ratios)
uncut = np.median(uncut_ratios)
print(f"answers are {ratio:.2f} times the truth, and {uncut:.2f} times in the uncut pictures")
print(f"by sizes alone it would be {share_kept * uncut:.2f}")

# %%
change = bootstrap(ratios / uncut_ratios)
conclude(
    share_kept < change.low and change.high < 1,
    "Nearer, but not by as much as sizes say: the head also goes by what no lens changes. If it "
    "went by size alone, multiplying by the focal length would mend it.",
)

# %% [markdown]
# That multiplication is what `predict(..., focal=...)` does. It is right for a head that *must* go
# by size, since it was fitted on several lenses ([Metric3D](https://arxiv.org/abs/2307.10984));
# `fit` takes one focal length per picture for that. Ours has seen one lens, so below its answer
# stands as it comes, and multiplied beside it.
#
# ### A photograph
#
# A stereo pair with measured depth ([Scharstein et al.
# 2014](https://doi.org/10.1007/978-3-319-11752-2_3)): by the focal length $f$ in pixels, the
# distance $b$ of the two cameras and the shift $s$ of a point from one picture to the other, $t = f
# b / (s + s_0)$, where $s_0$ is the shift between the centres of the two. Another world and another
# lens; the head has only seen toys.

# %%
from skimage.data import stereo_motorcycle

left, _, shift = stereo_motorcycle()
F, B, S0 = 994.978, 0.193001, 31.086  # pixels, metres, pixels: from the data's own description
bike_truth = np.where(np.isfinite(shift), F * B / (shift + S0), np.nan)

bike = dpt.predict([left])  # as it comes
told = dpt.predict([left], focal=F)
lens = np.median(told.depth[0] / bike.depth[0])  # one factor for all pixels

print(f"unlike the training pictures: {bike.unlike[0]:.0%} of the patches")
print(f"median: {np.median(bike.depth[0]):.1f} m, the truth {np.nanmedian(bike_truth):.1f} m")
print(f"times the lens, a factor of {lens:.2f}: {np.median(told.depth[0]):.1f} m")

# %% [markdown]
# Say you own a tape measure. Three distances in the picture, and `align_depth` fits scale and
# shift; the row gets the same three, and the factor of the lens, since it too was learned through
# that of the toys. (A tape measures along the line of sight: `Camera.depth_along_axis` makes depth
# of that.)

# %%
from dinov2_helpers.techniques import align_depth

points = np.array([[430, 210], [230, 75], [80, 345]])  # x and y: the tank, the door, the floor
measured = bike_truth[points[:, 1], points[:, 0]]

bike_rows = np.interp(np.linspace(0, 55, len(bike_truth)), range(56), rows)  # (H,)
bike_row = np.broadcast_to(bike_rows[:, None], bike_truth.shape)

guesses = {"row": bike_row, "small DPT": bike.depth[0]}
as_it_comes = {}
with_lens = {}
with_three = {}
aligned = {}
for name, guess in guesses.items():
    aligned[name] = np.nan_to_num(align_depth(guess, measured, points + 0.5).depth, nan=far)
    as_it_comes[name] = delta1([guess], [bike_truth])[0]
    with_lens[name] = delta1([lens * guess], [bike_truth])[0]
    with_three[name] = delta1([aligned[name]], [bike_truth])[0]
    print(
        f"{name}: {as_it_comes[name]:.0%} right as it comes, {with_lens[name]:.0%} times the lens, "
        f"{with_three[name]:.0%} with three"
    )

# %%
plotting.show(
    plotting.show_depth(
        [left, bike_truth, aligned["row"], aligned["small DPT"]],
        titles=["photograph", "measured", "row, three distances", "DPT, three distances"],
        columns=4,
        limits=np.nanquantile(bike_truth, [0.02, 0.98]),
        alt="A motorcycle in a garage: photograph, measured depth, and two answers after three "
        "distances were measured",
    )
)

# %%
conclude(
    bike.unlike[0] > 0.2
    and as_it_comes["row"] > as_it_comes["small DPT"]
    and with_lens["small DPT"] > with_lens["row"]
    and with_three["row"] >= with_three["small DPT"],
    "As they come the row is ahead; with both multiplied the head is. **One factor decides**, and "
    "without a tape measure nobody can say which to believe. With the same three distances **the "
    "row does as well**: so many unlike patches are a warning. (One photograph is an anecdote.)",
)

# %% [markdown]
# ## Try it
#
# With the matrix $K$ of the camera (focal length and centre) a pixel $(u, v)$ and its depth $d$ are
# a point in space: $X = d\, K^{-1} (u, v, 1)^\top$. Then the cloud can be turned.


# %%
def points_of(depth, K):
    """Places (P, 3) in metres, right, down and forward, of the known pixels of depth (H, W)."""
    v, u = np.nonzero(np.isfinite(depth))
    rays = np.linalg.inv(K) @ np.stack([u + 0.5, v + 0.5, np.ones(len(u))])  # (3, P)
    return (depth[v, u] * rays).T


def turned(points, degrees):
    """Points (P, 3), turned around an upright axis through their middle."""
    sine, cosine = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
    turn = np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
    middle = np.median(points, axis=0)
    return (points - middle) @ turn.T + middle


# %%
def cloud_picture(picture, answer, degrees):
    """A test picture, a depth with its scale given, and its points, turned."""
    known = np.isfinite(depth_test[picture])
    maps = {
        "true": depth_test[picture],
        "row": np.broadcast_to(np.repeat(rows, 4)[:, None], (224, 224)),
        "small DPT": found.depth[picture],
    }
    (depth,) = scale_given([maps[answer]], [depth_test[picture]])
    depth = np.where(known, depth, np.nan)
    K = np.array(test.table[picture]["camera"]["intrinsics"])
    points = turned(points_of(depth, K), degrees)
    places = points @ K.T
    colours = np.asarray(test.image(picture))[known]
    seen = plotting.paint_points(places[:, :2] / places[:, 2:], points[:, 2], colours, (224, 224))
    return plotting.show_depth(
        [test.image(picture), depth, seen],
        titles=["picture", f"depth: {answer}", f"turned by {degrees} degrees"],
        alt=f"Test picture {picture}, its depth ({answer}), and its points from another side",
    )


# %%
import ipywidgets

from dinov2_helpers.widgets import Explorer

Explorer(
    cloud_picture,
    picture=ipywidgets.IntSlider(scene, 0, len(test) - 1),
    answer=ipywidgets.Dropdown(options=["small DPT", "row", "true"], value="small DPT"),
    degrees=ipywidgets.IntSlider(-15, -60, 60, 5),
)

# %% [markdown]
# Turn until it breaks: threads hang where the map is blurred across the edge of a toy, and a flat
# row cannot stand up at all.
#
# ## Your own images
#
# A head is kept in a folder, and loaded again tomorrow. Name a folder; photographs stand in. Their
# metres are those of a toy world, so what is drawn is at best an order of near and far.

# %%
FOLDER = None  # for instance "/content/drive/MyDrive/holiday" or r"C:\Pictures"

# %%
from dinov2_helpers.pictures import iter_images, open_image
from dinov2_helpers.samples import photographs

dpt.save("my-head")
mine = [photographs()[name] for name in ("coffee", "astronaut", "rocket")]
if FOLDER:
    mine = list(iter_images(FOLDER))[:3]

maps = DepthHead.load("my-head", dinov2).predict(mine)
maps

# %%
drawn = []
for row, place in enumerate(maps.index):
    drawn += [open_image(mine[place]), maps.depth[row] / np.median(maps.depth[row])]

plotting.show(
    plotting.show_depth(
        drawn,
        titles=["picture", "its median is 1"],
        columns=6,
        unit="relative depth",
        alt="Photographs, each beside the relative depth that the head gives",
    )
)

# %% [markdown]
# **Depth of your own** to fit on: files of whole numbers do not say their unit. `read_depth` takes
# them for millimetres, as NYU's are often kept and phones write them; TUM's hold five thousand
# steps a metre. Arrays of fractions (`np.load`) are metres. Always look at the range that comes
# out. *The file below is written with TUM's steps: which of the two readings is right?*

# %%
from PIL import Image

from dinov2_helpers.pictures import read_depth

near_enough = np.where(depth < 13, depth, 0)  # 16 bits hold no more; 0 is not measured
Image.fromarray((5000 * near_enough).astype(np.uint16)).save("scene.png")

for name, unit in (("scene.png", None), ("scene.png", 1 / 5000)):
    read = read_depth(name, unit=unit)
    print(f"{name}, unit {unit}: {np.nanmin(read):.1f} to {np.nanmax(read):.1f} metres")

# %% [markdown]
# On the command line, for folders of pictures and their depth by the same names: `dinov2 depth fit
# PICTURES DEPTH --focal PX --out HEAD`, then `dinov2 depth predict HEAD NEW --out FOLDER --colour
# --ply`. With `--ply` it writes clouds that MeshLab and Blender open, as
# `to_points(depth, camera, picture).write_ply(path)` does in Python.

# %% [markdown]
# ## Exercises
#
# **1. Warm-up: a score that forgives the scale.** Write the standard deviation of the log ratio,
# over the pixels that are known. Which wrong map has the score of a perfect one?


# %% tags=["exercise-1-stub"]
def scale_free_error(guess, true):
    """Standard deviation of log(guess / true), where true (H, W) is not NaN."""
    raise NotImplementedError


# %% tags=["exercise-1-check"]
import numpy as np

try:
    some_depth = np.array([[1.0, 2.0, 4.0], [8.0, 16.0, np.nan]])
    some_guess = np.array([[16.0, 4.0, 8.0], [16.0, 16.0, 9.0]])
    answer = scale_free_error(some_guess, some_depth)
    assert answer is not None, "It returns nothing: end with `return`."
    assert np.ndim(answer) == 0, f"It is one number for the whole map, not {np.shape(answer)}."
    assert np.isfinite(answer), "It is not a number: leave out the pixels where true is NaN."
    hints = {
        0.931: "Leave the unknown pixels out: filled in, they count too.",
        1.351: "Take the mean of the log ratios off before you square: a standard deviation.",
        3.021: "Take the mean of the log ratios off, and divide by the number of pixels.",
        2.102: "Divide by the number of pixels before you take the root.",
        1.051: "Divide by the number of pixels, not by one less.",
        0.884: "That is the variance: take its root.",
        0.980: "Take the mean of the log ratios off, not their median.",
        1.013: "That is SILog, which keeps a part of the mean: take all of it off.",
        5.713: "That is the spread of the ratio itself: take its logarithm first.",
        5.307: "That is the spread of the difference: take the logarithm of the ratio.",
        0.408: "Take the natural logarithm, np.log.",
        1.357: "Take the natural logarithm, np.log.",
    }
    for value, hint in hints.items():
        assert not np.isclose(answer, value, atol=1e-3), hint
    assert np.isclose(answer, 0.940, atol=1e-3), f"0.940 is right, not {answer:.3f}."
    three_times = scale_free_error(3 * some_guess, some_depth)
    assert np.isclose(three_times, answer), "Another scale must not change it."
    print("Right!")
except NotImplementedError:
    print("Not solved yet")

# %% [markdown] tags=["exercise-1-solution"]
# <details><summary>Solution</summary>
#
# ```python
# def scale_free_error(guess, true):
#     """Standard deviation of log(guess / true), where true (H, W) is not NaN."""
#     known = np.isfinite(true)
#     return np.log(guess[known] / true[known]).std()
# ```
#
# Every map that is the truth times one number has the score of a perfect one.
#
# Classic wrong answers. Forgetting the unknown pixels:
#
# ```python
# def scale_free_error(guess, true):
#     return np.log(guess / true).std()
# ```
#
# The ratio without its logarithm, for which twice too far is worse than twice too near:
#
# ```python
# def scale_free_error(guess, true):
#     known = np.isfinite(true)
#     return (guess[known] / true[known]).std()
# ```
#
# The distance from the median, not from the mean:
#
# ```python
# def scale_free_error(guess, true):
#     known = np.isfinite(true)
#     ratio = np.log(guess[known] / true[known])
#     return np.sqrt(((ratio - np.median(ratio)) ** 2).mean())
# ```
#
# The root of the mean square, which a wrong scale does change:
#
# ```python
# def scale_free_error(guess, true):
#     known = np.isfinite(true)
#     return np.sqrt((np.log(guess[known] / true[known]) ** 2).mean())
# ```
#
# </details>

# %% [markdown]
# **2. Change the experiment: another camera.** A head learned with a focal length of `trained`
# pixels. Your pictures have `focal` pixels at a width of `width`, and are scaled to a width of
# `scaled` before the head sees them. Correct its depth for a head that goes by size alone. *Predict
# first*: will the motorcycle come nearer or go farther? Then try it on
# `dpt.predict([left]).depth[0]`.


# %% tags=["exercise-2-stub"]
def for_my_camera(depth, trained, focal, width, scaled):
    """Depth in metres for another camera."""
    raise NotImplementedError


# %% tags=["exercise-2-check"]
try:
    some_map = np.array([[1.0, 2.0, 3.0], [4.0, 6.0, 9.0]])
    answer = for_my_camera(some_map.copy(), 300, 600, 224, 224)
    assert answer is not None, "It returns nothing: end with `return`."
    assert np.shape(answer) == (2, 3), f"Its shape is {np.shape(answer)}, not that of the depth."
    assert not np.allclose(answer, some_map / 2), (
        "The other way round: through a longer lens a thing looks larger, so it is farther than "
        "the head believes."
    )
    times = np.mean(answer / some_map)
    assert np.allclose(answer, 2 * some_map), (
        f"Twice the focal length, twice as far: every pixel times 2, not {times:.2f}."
    )
    answer = for_my_camera(some_map.copy(), 300, 990, 640, 224)
    times = np.mean(answer / some_map)
    hints = {
        3.3: "The picture was scaled too: its focal length shrinks with its width.",
        9.429: "A picture that shrinks has a shorter focal length in pixels, not a longer one.",
    }
    for value, hint in hints.items():
        assert not np.isclose(times, value, atol=1e-3), hint
    assert np.allclose(answer, 1.155 * some_map), (
        "990 pixels at a width of 640 are 346.5 at 224, so with 300 in training every pixel is "
        f"times 1.155, not {times:.3f}."
    )
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
# For the motorcycle: `for_my_camera(dpt.predict([left]).depth[0], FOCAL, F, 741, 334)`. Its
# shorter side becomes 224 pixels, which makes its width 332; in whole patches that is 336, and the
# library takes the geometric mean of the two. It goes farther, and `predict(..., focal=F)` says the
# same.
#
# Classic wrong answers. The ratio upside down:
#
# ```python
# def for_my_camera(depth, trained, focal, width, scaled):
#     return depth * trained / (focal * scaled / width)
# ```
#
# Forgetting that the picture was scaled:
#
# ```python
# def for_my_camera(depth, trained, focal, width, scaled):
#     return depth * focal / trained
# ```
#
# Scaling the focal length the wrong way:
#
# ```python
# def for_my_camera(depth, trained, focal, width, scaled):
#     return depth * (focal * width / scaled) / trained
# ```
#
# </details>

# %% [markdown]
# **3. Open: how many scenes?** Fit the ridge on a few training scenes only, and more and more of
# them. *Draw the curve first*, in metres, and mark where it passes the row with its scale by CLS.
# (Its scale is learned too: from as few.) The evidence has the curve.
#
# ## What you found

# %%
from dinov2_helpers.claims import say

say(f"""
1. **Scores need rivals.** Without looking, depth by row is right for
   {in_metres["row"].mean():.0%} of the pixels, with the scale given {given["row"].mean():.0%}. One
   number per picture, read off CLS, makes it {in_metres["row, scale by CLS"].mean():.0%}.
2. **Frozen patches know depth.** In metres: one layer {in_metres["one layer"].mean():.0%}, four
   {in_metres["four layers"].mean():.0%}, a small DPT {in_metres["small DPT"].mean():.0%}; on toys,
   scale given, {on_toys["one layer"].mean():.0%}, {on_toys["four layers"].mean():.0%},
   {on_toys["small DPT"].mean():.0%} where the row has {on_toys["row"].mean():.0%}.
3. **The metres are the camera's.** Under a longer lens the answers are {ratio:.2f} times the truth,
   under their own {uncut:.2f}; in a photograph, three measured distances and the row reach
   {with_three["row"]:.0%}, with the head {with_three["small DPT"]:.0%}.
""")

# %% tags=["quiz"]
from dinov2_helpers.quiz import Quiz

Quiz("05")

# %% [markdown]
# **What to use in 2026.** [Depth Anything V2](https://arxiv.org/abs/2406.09414) is this very
# recipe, DINOv2 and a DPT, trained on synthetic depth and a teacher's answers: its small model is
# under Apache-2.0, the larger ones are not for commerce. [Depth Anything
# 3](https://arxiv.org/abs/2511.10647) takes any number of views (licence by size, too).
# [MoGe-2](https://arxiv.org/abs/2507.02546) gives metric points (MIT),
# [UniDepth](https://arxiv.org/abs/2502.20110) metres without a focal length (not for commerce),
# [Depth Pro](https://arxiv.org/abs/2410.02073) sharp edges (Apple's own licence),
# [Marigold](https://arxiv.org/abs/2312.02145) depth by diffusion (code under Apache-2.0). Numbers
# and sources are in [a table](../docs/2026.md#5-depth-estimation).
#
# **Next:** [lesson 6](06_anomaly_detection.ipynb) asks which patches do not belong.
