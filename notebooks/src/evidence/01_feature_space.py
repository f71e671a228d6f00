# ---
# jupyter:
#   jupytext:
#     notebook_metadata_filter: headline
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
#   headline:
#     01.knn_class: k-NN accuracy of the class, portraits of unseen toys
# ---

# %% [markdown]
# # Evidence 1: what the feature space holds
#
# What [lesson 1](../01_feature_space.ipynb) says about DINOv2's vectors, measured to the end.
#
# <!-- badge:begin --><!-- badge:end -->
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
# **DINOv2** ([Oquab et al. 2023](https://arxiv.org/abs/2304.07193)) gives a picture a CLS token
# and a token for each patch. Everything here is compared with descriptions that know nothing of
# toys. Shares of pictures come with their Wilson interval ([Wilson
# 1927](https://doi.org/10.1080/01621459.1927.10502953)); whatever is measured on several views of
# a toy, with a bootstrap ([Efron 1979](https://doi.org/10.1214/aos/1176344552)) that draws whole
# toys, since views of one toy are not independent. All intervals hold the
# true value nineteen times in twenty.

# %%
import io
from dataclasses import replace

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter
from sklearn.linear_model import RidgeClassifier
from sklearn.manifold import TSNE
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dinov2_helpers import extract_features, load_dinov2, plotting, samples, stream_features
from dinov2_helpers.claims import claim, conclude, decide, record
from dinov2_helpers.extraction import Embeddings, Layer
from dinov2_helpers.measure import bootstrap, bootstrap_of, share
from dinov2_helpers.techniques import KnnClassifier, correspondences, search
from dinov2_helpers.techniques.vectors import unit

dinov2 = load_dinov2()
PATCH = dinov2.patch_size  # 14 pixels
SIDE = 224 // PATCH  # 16 patches in a row

# %% [markdown]
# The pictures are renders of toys, so class, colour, surface, camera and depth are known. Train
# and test share no toy, and the embedded model was trained, without labels, on yet others.

# %%
train = samples.load_scenes("train").select(n_objects=1)
test = samples.load_scenes("test").select(n_objects=1)
class_train = train.labels("class")
class_test = test.labels("class")
is_portrait = test.labels("framing") == "portrait"
print(f"{len(train)} pictures to learn from, {len(test)} to test on, one toy in each")


# %% [markdown]
# ## Descriptions that know nothing
#
# The first two are those of the lesson.


# %%
def small_pixels(picture):
    """The picture at 16 x 16 pixels, less its mean: (768,)."""
    small = np.asarray(picture.resize((16, 16), Image.Resampling.BOX), float)
    return (small - small.mean()).ravel()


def colour_histogram(picture):
    """Square roots of the shares of 512 colours: (512,)."""
    red, green, blue = np.moveaxis(np.asarray(picture) // 32, 2, 0).astype(int)
    counts = np.bincount((64 * red + 8 * green + blue).ravel(), minlength=512)
    return np.sqrt(counts / counts.sum())


def grey_histogram(picture):
    """Square roots of the shares of 64 greys: (64,)."""
    counts = np.bincount((np.asarray(picture.convert("L")) // 4).ravel(), minlength=64)
    return np.sqrt(counts / counts.sum())


# %%
def describe(pictures, by):
    """A description of every picture: (N, D)."""
    return np.stack([by(picture) for picture in pictures])


def pictures_of(scenes):
    """All pictures of some scenes, decoded."""
    return [scenes.image(i) for i in range(len(scenes))]


pictures_train = pictures_of(train)
pictures_test = pictures_of(test)


# %% [markdown]
# ## What the article does
#
# Does a [t-SNE](https://www.jmlr.org/papers/v9/vandermaaten08a.html) map of three pictures show
# which of them are alike? The article draws one with a perplexity of two and says that similar
# pictures gather by themselves and classes part. Each of three points has two others, and a
# perplexity of two means that both count alike: nothing of the features should be left. Random
# triples, two pictures of a class and one of another, go through the article's own call, and so
# do random numbers. The number is the **contrast**: the distance of the two that belong together
# over their mean distance to the third; one is no contrast.


# %%
def contrast(points):
    """Distance of the first two of three points over their mean distance to the third."""
    a, b, c = points
    apart = (np.linalg.norm(a - c) + np.linalg.norm(b - c)) / 2
    return np.linalg.norm(a - b) / apart


def tsne_of_three(vectors):
    """The article's map of three vectors, (3, 2), and how far its cost is from the least, zero."""
    tsne = TSNE(n_components=2, perplexity=2)
    points = tsne.fit_transform(vectors.astype(np.float32))
    return points, tsne.kl_divergence_


# %% [markdown]
# The rule, before the number. A map that shows at least half of the contrast that there is in the
# space is of use; one that shows less than a tenth is not, as nobody sees that. In between, in
# part. It speaks of maps whose cost has come down to its least, zero for three points. A few stop
# short of it, of pictures and of random numbers; they show where the descent gave up, are counted,
# and left out.


# %%
OF_USE = 0.5  # of the contrast that there is: most of it is on the map
UNSEEN = 0.1  # of it: next to nothing is


def tsne_verdict(on_map, in_space):
    """On Intervals of the contrast on the map and in the space of the features."""
    there_is = 1 - in_space.value
    return decide(
        holds=on_map.high < 1 - OF_USE * there_is,
        fails=on_map.low > 1 - UNSEEN * there_is,
    )


# %%
def layers_of(pictures, layers):
    """CLS and mean patch of some layers, (layers, N, D) each, and patches of the last block."""
    cls = []
    means = []
    patches = []
    for found in stream_features(dinov2, pictures, chunk=64, layers=layers):
        cls.append([layer.cls for layer in found.layers.values()])
        means.append([layer.patches.mean((1, 2)) for layer in found.layers.values()])
        patches.append(found.patches)
    return np.concatenate(cls, axis=1), np.concatenate(means, axis=1), np.concatenate(patches)


quarters = np.linspace(0, dinov2.n_layers, 5)[1:].astype(int) - 1  # the last is the last layer
LAYERS = (0, *quarters.tolist())
cls_train, mean_train, patches_train = layers_of(pictures_train, LAYERS)
cls_test, mean_test, patches_test = layers_of(pictures_test, LAYERS)

# %%
ARRIVED = 0.001  # of the cost, in nats; its least is 0

random = np.random.default_rng(0)
of_maps = []
of_spaces = []
of_random = []
stopped_short = 0
for _ in range(30):
    class_of_two, class_of_third = random.choice(samples.CLASS_NAMES, 2, replace=False)
    pair = random.choice(np.flatnonzero(class_test == class_of_two), 2, replace=False)
    third = random.choice(np.flatnonzero(class_test == class_of_third))
    triple = cls_test[-1][[*pair, third]]  # (3, D)
    of_spaces.append(contrast(triple))
    for vectors_of_three, contrasts in (
        (triple, of_maps),
        (random.normal(size=triple.shape), of_random),
    ):
        points, cost = tsne_of_three(vectors_of_three)
        if cost < ARRIVED:
            contrasts.append(contrast(points))
        else:
            stopped_short += 1

in_space = bootstrap(of_spaces)
on_map = bootstrap(of_maps)
random_map = bootstrap(of_random)
print(f"contrast in the space {in_space:.3f}, on the map {on_map:.3f}, of noise {random_map:.3f}")
print(f"{stopped_short} of {2 * len(of_spaces)} maps stopped short of their minimum")

# %%
record("01.tsne3_contrast_space", in_space.value)
record("01.tsne3_contrast_map", on_map.value)
of_pictures = tsne_verdict(on_map, in_space)
of_noise = tsne_verdict(random_map, in_space)
conclude(
    in_space.high < 1 and of_pictures == of_noise == "does not hold",
    f"In the space the two are closer to each other than to the third (contrast "
    f"{in_space:.2f}). On the map of three the contrast is {on_map:.3f}, and that of random "
    f"numbers {random_map:.3f}: **the map shows nothing of it**.",
)
claim(
    "01.tsne_of_three",
    "A t-SNE of three pictures shows their similarity",
    how="the article's own call on random triples, two pictures of a class and one of another",
    measured=f"distance of the two over that to the third: {in_space:.2f} in the space, "
    f"{on_map:.3f} on the map, {random_map:.3f} for random numbers (1: nothing to be seen)",
    verdict=of_pictures,
    cell="What the article does",
)


# %% [markdown]
# ## Which vector knows what
#
# CLS, the mean of the patches, or both side by side? The ten nearest training pictures vote, as
# in DINO ([Caron et al. 2021](https://arxiv.org/abs/2104.14294)), for class, surface and colour.


# %%
def embeddings(vectors):
    """Vectors (N, D) as the library's classifier takes them."""
    names = tuple(f"picture {i}" for i in range(len(vectors)))
    return Embeddings(vectors, np.arange(len(vectors)), names, ())


def knn(gallery, labels, queries):
    """What the ten nearest of a gallery (M, D) say that each query (N, D) is: (N,)."""
    classifier = KnnClassifier(dinov2).fit(embeddings(gallery), labels)
    return np.array(classifier.predict(embeddings(queries)).labels)


# %%
vectors = {
    "CLS": (cls_train[-1], cls_test[-1]),
    "mean patch": (mean_train[-1], mean_test[-1]),
    "both": (
        np.hstack([cls_train[-1], mean_train[-1]]),
        np.hstack([cls_test[-1], mean_test[-1]]),
    ),
    "colour histogram": (
        describe(pictures_train, colour_histogram),
        describe(pictures_test, colour_histogram),
    ),
    "16 x 16 pixels": (
        describe(pictures_train, small_pixels),
        describe(pictures_test, small_pixels),
    ),
}

# %%
right = {}
for name, (gallery, queries) in vectors.items():
    for task in ("class", "surface", "colour"):
        right[name, task] = knn(gallery, train.labels(task), queries) == test.labels(task)


for name, task in right:
    print(f"{name:>17}: {task:>7} {share(right[name, task]):.2f}")


# %%
def most_frequent(labels):
    """Share of the label that is the most frequent: what guessing reaches."""
    _, counts = np.unique(labels, return_counts=True)
    return counts.max() / len(labels)


table = []
for name in vectors:
    row = []
    for task in ("class", "surface", "colour"):
        row += [right[name, task][is_portrait].mean(), right[name, task][~is_portrait].mean()]
    table.append(row)

# %%
guessing = []
columns = []
for task in ("class", "surface", "colour"):
    guessing += [most_frequent(test.labels(task)[is_portrait])]
    guessing += [most_frequent(test.labels(task)[~is_portrait])]
    columns += [f"{task}, portraits", f"{task}, wide"]
plotting.show(
    plotting.heatmap(
        np.array([*table, guessing]),
        [*vectors, "most frequent answer"],
        columns,
        limits=(0, 1),
        title="k-NN accuracy on unseen toys",
        alt="Table of k-NN accuracies: CLS leads for class, mean patch and histogram for surface",
    )
)

# %%
portrait = share(right["CLS", "class"][is_portrait])
wide = share(right["CLS", "class"][~is_portrait])
histogram = share(right["colour histogram", "class"][is_portrait])
pixels = share(right["16 x 16 pixels", "class"][is_portrait])
record("01.knn_class", portrait.value)
record("01.knn_class_wide", wide.value)
record("01.knn_class_histogram", histogram.value)
record("01.knn_class_pixels", pixels.value)
record("01.knn_surface_cls", right["CLS", "surface"][is_portrait].mean())
record("01.knn_surface_mean_patch", right["mean patch", "surface"][is_portrait].mean())
conclude(
    portrait.low > max(histogram.high, pixels.high),
    f"By CLS the class of {portrait:.0%} of the portraits is found and of {wide:.0%} of the wide "
    f"pictures; what knows nothing finds {max(histogram.value, pixels.value):.0%} of those.",
)


# %%
def paired(first, second):
    """How much larger a share is by the first method than by the second, on the same pictures."""
    return bootstrap(first.astype(float) - second)


cls_over_mean = paired(right["CLS", "class"], right["mean patch", "class"])
both_over_cls = paired(right["both", "class"], right["CLS", "class"])
mean_over_cls = paired(right["mean patch", "surface"], right["CLS", "surface"])
record("01.knn_class_cls_over_mean", cls_over_mean.value)
record("01.knn_class_both_over_cls", both_over_cls.value)
conclude(
    cls_over_mean.low > 0 and mean_over_cls.low > 0 and both_over_cls.high < 0,
    "For neighbours of one class take **CLS**: it finds more than the mean patch by "
    f"{cls_over_mean:+.2f}, and both side by side change that by {both_over_cls:+.2f}. For the "
    f"ground take the **mean patch**: {mean_over_cls:+.2f} over CLS.",
)

# %% [markdown]
# How the real weights do in the same test on ImageNet's thousand classes is in the tables of
# [the paper](https://arxiv.org/abs/2304.07193); [docs/models.md](../../docs/models.md) has more.

# %% [markdown]
# ## Unusual colours
#
# Of the test toys some wear a colour that no training toy of their class has. Is it the model
# that misses them, or does the gallery lack their like? The control: each toy in a usual colour
# loses everything of its own class *and* colour from the gallery, and is as deprived as the
# others.

# %%
usual = np.array([row["objects"][0]["usual_colour"] for row in test.table])
colour_train = train.labels("colour")
colour_test = test.labels("colour")


def deprived_answers(gallery, queries):
    """Answers for toys in usual colours (N,), none of the same class and colour in the gallery."""
    answers = class_test.copy()
    kinds = sorted(set(zip(class_test[usual], colour_test[usual], strict=True)))
    for name, colour in kinds:
        keep = (class_train != name) | (colour_train != colour)
        asked = usual & (class_test == name) & (colour_test == colour)
        answers[asked] = knn(gallery[keep], class_train[keep], queries[asked])
    return answers[usual]


# %%
found = right["CLS", "class"]
deprived = deprived_answers(cls_train[-1], cls_test[-1]) == class_test[usual]
in_usual = share(found[usual])
in_unusual = share(found[~usual])
control = share(deprived)
record("01.knn_class_usual_colour", in_usual.value)
record("01.knn_class_unusual_colour", in_unusual.value)
record("01.knn_class_usual_colour_deprived", control.value)
print(f"usual colours {in_usual:.2f}, the same deprived {control:.2f}, unusual {in_unusual:.2f}")


# %%
def gap_left(rows):
    """Of drawn test pictures: share found in usual colours, deprived, less that in unusual ones."""
    scores = found.astype(float)
    scores[usual] = deprived
    is_usual = usual[rows]
    return scores[rows][is_usual].mean() - scores[rows][~is_usual].mean()


left = bootstrap_of(gap_left, len(test))
gallery_share = (in_usual.value - control.value) / (in_usual.value - in_unusual.value)
conclude(
    control.high < in_usual.low and left.low > 0,
    f"The gallery makes {gallery_share:.0%} of the difference. Between equally deprived toys "
    f"{left:.2f} is left: **colour has become part of what a class is** to this model.",
)


# %% [markdown]
# ## What CLS keeps of the ground
#
# Neighbours by CLS do not go by the ground. Has CLS forgotten it? A linear probe, which may weigh
# the numbers, answers; so does the mean over those patches alone that show the toy, with the
# toy's own colours as its control.


# %%
def probe(x, y, x_test):
    """What a linear classifier, fitted on standardised features (N, D), says of others."""
    model = make_pipeline(StandardScaler(), RidgeClassifier(alpha=100))
    return model.fit(x, y).predict(x_test)


def toy_patches(scenes):
    """Whether most of each of 16 x 16 patches shows a toy: (N, 16, 16)."""
    masks = np.stack([scenes.instance_mask(i) > 0 for i in range(len(scenes))])
    return masks.reshape(-1, SIDE, PATCH, SIDE, PATCH).mean((2, 4)) > 0.5


def mean_of_toys(scenes, patches):
    """Mean over the patches (N, 16, 16, D) that show the toy: (N, D)."""
    weights = toy_patches(scenes)[..., None]  # (N, 16, 16, 1)
    return (patches * weights).sum((1, 2)) / weights.sum((1, 2))


def colours_of_toys(scenes, pictures):
    """Histogram of the colours of the toy's own pixels: (N, 512)."""
    histograms = []
    for i, picture in enumerate(pictures):
        pixels_of_toy = np.asarray(picture)[scenes.instance_mask(i) > 0]  # (P, 3)
        histograms.append(colour_histogram(pixels_of_toy[None]))
    return np.stack(histograms)


# %%
surface_train = train.labels("surface")
surface_test = test.labels("surface")
ground = {
    "CLS": vectors["CLS"],
    "mean patch": vectors["mean patch"],
    "patches of the toy": (
        mean_of_toys(train, patches_train),
        mean_of_toys(test, patches_test),
    ),
    "colours of the toy": (
        colours_of_toys(train, pictures_train),
        colours_of_toys(test, pictures_test),
    ),
    "colour histogram": vectors["colour histogram"],
}
by_probe = {}
for name, (x, x_test) in ground.items():
    by_probe[name] = share(probe(x, surface_train, x_test) == surface_test)
    print(f"{name:>18}: surface by a linear probe {by_probe[name]:.2f}")

# %%
cls_neighbours = share(right["CLS", "surface"])
record("01.probe_surface_cls", by_probe["CLS"].value)
record("01.probe_surface_toy_patches", by_probe["patches of the toy"].value)
conclude(
    by_probe["CLS"].low > cls_neighbours.high
    and by_probe["patches of the toy"].low > by_probe["colours of the toy"].high,
    f"Neighbours by CLS share the ground for {cls_neighbours:.0%}, but a linear probe reads it off "
    f"CLS for {by_probe['CLS']:.0%}: **it is not forgotten**. Even the toy's own patches carry it "
    f"({by_probe['patches of the toy']:.0%}), where the toy's own colours tell "
    f"{by_probe['colours of the toy']:.0%}: each patch has looked at all others.",
)

# %% [markdown]
# ## Geometric consistency
#
# Has the same thing close features from another side? Close compared with what: sixteen toys
# stand on turntables, and each has a **rival of the same class and the same colour** in the same
# place under the same light. Ground and main colour cannot tell them apart; shape and details
# can.

# %%
views = samples.load_views("test", kind="turntable")
rivals = samples.load_views("rivals")
middle = dinov2.n_layers // 2
of_views = extract_features(dinov2, views, layers=[middle])
of_rivals = extract_features(dinov2, rivals)
n_toys = len(views) // 24

shown = []
for toy in (0, 3, 11, 12):
    shown += [views.image(24 * toy + turn) for turn in (0, 6, 12, 18)]
    shown += [rivals.image(24 * toy + turn) for turn in (0, 6, 12, 18)]
plotting.show(
    plotting.show_images(
        shown,
        columns=8,
        titles=["toy", "90°", "180°", "270°", "its rival", "90°", "180°", "270°"],
        alt="Four toys from four sides, each beside a rival of its class and colour in its place",
    )
)


# %%
def turned(vectors):
    """Unit vectors of views in order, by toy: (toys, 24, D)."""
    return unit(vectors).reshape(n_toys, 24, -1)


def closer_by_angle(toys, others):
    """Whether a view is closer to its own toy, turned, than to the rival, turned as far.

    Args:
        toys: unit vectors (toys, views, D).
        others: those of their rivals.

    Returns:
        (toys, views, 12), by 1 to 12 steps of 15 degrees: 1, 0, or 0.5 where both are as close.
    """
    columns = []
    for step in range(1, 13):
        own = (toys * np.roll(toys, -step, axis=1)).sum(axis=2)  # (toys, views)
        other = (toys * np.roll(others, -step, axis=1)).sum(axis=2)
        columns.append((own > other) + 0.5 * (own == other))
    return np.stack(columns, axis=2)


def over_toys(values):
    """The mean of values (toys, ...) with its interval over toys."""
    rows = values.reshape(len(values), -1)
    clusters = np.repeat(np.arange(len(rows)), rows.shape[1])
    return bootstrap(rows.ravel(), clusters=clusters)


# %%
pictures_views = pictures_of(views)
pictures_rivals = pictures_of(rivals)
clean = {
    "CLS": (of_views.cls, of_rivals.cls),
    "mean patch": (of_views.pooled("mean"), of_rivals.pooled("mean")),
    "colour histogram": (
        describe(pictures_views, colour_histogram),
        describe(pictures_rivals, colour_histogram),
    ),
    "16 x 16 pixels": (
        describe(pictures_views, small_pixels),
        describe(pictures_rivals, small_pixels),
    ),
}
closer = {}
by_angle = {}
for name, (own, other) in clean.items():
    closer[name] = closer_by_angle(turned(own), turned(other))
    by_angle[name] = [over_toys(closer[name][:, :, k]) for k in range(12)]

# %%
angles = np.arange(15, 181, 15)
plotting.show(
    plotting.curves(
        angles,
        {name: tuple(np.array(one).T) for name, one in by_angle.items()},
        level=(0.5, "a coin"),
        ylim=(0, 1.02),
        xticks=angles[1::2],
        xlabel="angle between the views (degrees)",
        ylabel="own toy closer than its rival",
        alt="Share of views that are closer to their own toy, turned, than to its rival, by angle",
    )
)

# %% [markdown]
# The rule, before the number, at a small, a right and the largest angle. The claim *holds* if at
# each of them the interval lies above three quarters, halfway between a coin and always, and the
# best description that knows nothing is beaten with certainty. It *fails* if at one of them
# DINOv2 cannot be told from a coin, or is certainly worse than what knows nothing. Any other
# outcome: in part.


# %%
A_COIN = 0.5  # what guessing reaches between two toys
HALFWAY = 0.75  # between a coin and always


def consistency_verdict(own, gain):
    """On Intervals, one an angle: share closer to the own toy, gain over what knows nothing."""
    sure = all(one.low > HALFWAY for one in own)
    beats = all(one.low > 0 for one in gain)
    a_coin = any(one.low <= A_COIN for one in own)
    worse = any(one.high < 0 for one in gain)
    return decide(holds=sure and beats, fails=a_coin or worse)


def gain_over_ignorance(known, ignorant):
    """How much a share (toys, ...) exceeds the largest of those that know nothing, paired."""
    best = max(ignorant, key=np.mean)
    return over_toys(known - best)


# %%
IGNORANT = ("colour histogram", "16 x 16 pixels")
JUDGED = {30: 1, 90: 5, 180: 11}  # degrees -> column

own_at = []
gain_at = []
for degrees, column in JUDGED.items():
    without = [closer[name][:, :, column] for name in IGNORANT]
    own_at.append(by_angle["CLS"][column])
    gain_at.append(gain_over_ignorance(closer["CLS"][:, :, column], without))
    record(f"01.own_toy_closer_{degrees}", own_at[-1].value)
    record(f"01.own_toy_closer_{degrees}_over_ignorant", gain_at[-1].value)
    others = ", ".join(f"{name} {by_angle[name][column]:.2f}" for name in list(clean)[1:])
    print(f"{degrees:>3} degrees: CLS {own_at[-1]:.2f}, {others}; gain {gain_at[-1]:+.2f}")


# %%
conclude(
    min(one.low for one in own_at) > HALFWAY and min(one.low for one in gain_at) <= 0,
    f"A view is closer to its own toy than to the rival in {own_at[1]:.0%} at a right angle and in "
    f"{own_at[2]:.0%} from behind: surely more than halfway from a coin to always. But over the "
    f"better of histogram and pixels DINOv2 gains {gain_at[0]:+.2f} at the small angle, "
    f"{gain_at[1]:+.2f} at the right one and {gain_at[2]:+.2f} at the largest: **that it is more "
    f"than second colours and shadows cannot be shown on {n_toys} toys**.",
)
claim(
    "01.geometric_consistency",
    "The same object from another viewpoint has close features",
    how="CLS: own toy, turned by 30°, 90°, 180°, against another of its class and colour in its "
    "place; pixels and colour histogram beside it; intervals over toys",
    measured=f"own toy closer in {own_at[0]:.0%}, {own_at[1]:.0%}, {own_at[2]:.0%} (a coin 50 %); "
    f"over the best that knows nothing {gain_at[0]:+.2f}, {gain_at[1]:+.2f}, {gain_at[2]:+.2f}. "
    "(The embedded model was trained with renders of one toy as pairs.)",
    verdict=consistency_verdict(own_at, gain_at),
    cell="Geometric consistency",
)

# %% [markdown]
# ## Robustness
#
# Does a change of light, or a thing in front, take a picture away from its own toy? Rendered
# first: other suns, and props. The changed picture should still be closer to the unchanged
# picture of its toy than to that of the rival, from the same camera.

# %%
toy_names = list(dict.fromkeys(views.labels("toy_id")))


def closer_than_rival(changed, own, other):
    """1 where a changed picture is closer to its own toy than to the rival, 0 where not; (N,)."""
    to_own = (unit(changed) * unit(own)).sum(axis=1)
    to_other = (unit(changed) * unit(other)).sum(axis=1)
    return (to_own > to_other) + 0.5 * (to_own == to_other)


def described(pictures):
    """Pictures as each of the four descriptions: (N, D) by name."""
    found = extract_features(dinov2, pictures)
    return {
        "CLS": found.cls,
        "mean patch": found.pooled("mean"),
        "colour histogram": describe(pictures, colour_histogram),
        "16 x 16 pixels": describe(pictures, small_pixels),
    }


# %%
rendered = {}
for kind in ("relit", "occluded"):
    scenes = samples.load_views("test", kind=kind)
    toys = np.array([toy_names.index(name) for name in scenes.labels("toy_id")])
    turns = np.round(scenes.labels("azimuth") / 15).astype(int) % 24
    same_camera = 24 * toys + turns  # rows of the unchanged views
    for name, x in described(pictures_of(scenes)).items():
        own, other = clean[name]
        is_own = closer_than_rival(x, own[same_camera], other[same_camera])
        rendered[kind, name] = is_own[np.argsort(toys, kind="stable")].reshape(n_toys, -1)
    parts = [f"{name} {over_toys(rendered[kind, name]):.2f}" for name in clean]
    print(f"{kind:>8}: " + ", ".join(parts))

# %% [markdown]
# Then four changes that can be turned up: blur, JPEG, darkness, and a grey rectangle over the
# middle of the toy that hides a share of the *toy's own pixels*, by its mask.

# %%
LEVELS = {
    "blur": (2, 4, 8),  # radius in pixels
    "JPEG": (20, 10, 5),  # quality
    "light": (0.5, 0.3, 0.15),  # brightness, times
    "hidden": (0.25, 0.5, 0.75),  # share of the toy's pixels
}


# %%
def hide(picture, mask, hidden_share):
    """Cover a share of the pixels of a toy, (H, W) bool, with a grey rectangle in its middle."""
    rows, columns = np.nonzero(mask)
    y, x = np.indices(mask.shape)
    across = abs(x - (columns.min() + columns.max()) / 2) / (np.ptp(columns) + 1)
    down = abs(y - (rows.min() + rows.max()) / 2) / (np.ptp(rows) + 1)
    distance = np.maximum(across, down)  # (H, W), of equal values on rectangles
    limit = np.quantile(distance[mask], hidden_share)
    pixels = np.array(picture)
    pixels[distance <= limit] = 128
    return Image.fromarray(pixels)


# %%
def change(picture, mask, kind, level):
    """A changed copy of a picture whose toy is where mask (H, W) is true."""
    if kind == "blur":
        return picture.filter(ImageFilter.GaussianBlur(level))
    if kind == "light":
        return ImageEnhance.Brightness(picture).enhance(level)
    if kind == "hidden":
        return hide(picture, mask, level)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=level)
    return Image.open(file).convert("RGB")


# %%
steps = [(kind, level) for kind, levels in LEVELS.items() for level in levels]
chair = 24 * 12 + 3
chair_mask = views.instance_mask(chair) > 0
plotting.show(
    plotting.show_images(
        [change(views.image(chair), chair_mask, kind, level) for kind, level in steps],
        titles=[f"{kind} {level:g}" for kind, level in steps],
        columns=6,
        alt="A chair under three levels each of blur, JPEG, darkness and a grey rectangle in front",
    )
)

# %%
some = [24 * toy + step for toy in range(n_toys) for step in (3, 15)]  # two views of each toy
masks = [views.instance_mask(i) > 0 for i in some]
stepwise = {}
for kind, level in steps:
    changed = []
    for i, mask in zip(some, masks, strict=True):
        changed.append(change(pictures_views[i], mask, kind, level))
    for name, x in described(changed).items():
        own, other = clean[name]
        stepwise[kind, level, name] = closer_than_rival(x, own[some], other[some])

# %%
matrix = []
for name in clean:
    matrix.append([stepwise[kind, level, name].mean() for kind, level in steps])
plotting.show(
    plotting.heatmap(
        np.array(matrix),
        list(clean),
        [f"{kind} {level:g}" for kind, level in steps],
        limits=(0.5, 1),
        title="own toy closer than its rival (a coin: 0.5)",
        alt="Table of the share of changed pictures closer to their own toy, by change and method",
    )
)


# %%
def level_curve(kind, name):
    """Share closer to the own toy at no change and at three levels: three arrays (4,)."""
    found = [over_toys(stepwise[kind, level, name].reshape(n_toys, -1)) for level in LEVELS[kind]]
    return tuple(np.array([(1, 1, 1), *found]).T)


plotting.show(
    plotting.curves(
        range(4),
        {kind: level_curve(kind, "CLS") for kind in LEVELS},
        level=(0.5, "a coin"),
        ylim=(0, 1.02),
        xticks=range(4),
        xlabel="level of the change (0: none; 1 to 3: as pictured)",
        ylabel="CLS: own toy closer than its rival",
        alt="CLS: share of changed pictures closer to their own toy than to its rival, by level",
    )
)


# %%
def at_level(place, name):
    """Closer to the own toy by a method at the first (0) to last (2) level of all: (toys, 8)."""
    values = [stepwise[kind, levels[place], name] for kind, levels in LEVELS.items()]
    return np.stack(values, axis=1).reshape(n_toys, -1)


for name in clean:
    first_level = over_toys(at_level(0, name))
    last_level = over_toys(at_level(2, name))
    print(f"{name:>17}: first levels {first_level:.2f}, last levels {last_level:.2f}")

# %%
gentle = over_toys(at_level(0, "CLS"))
harsh = over_toys(at_level(2, "CLS"))
steadier = over_toys(at_level(2, "16 x 16 pixels") - at_level(2, "CLS"))
conclude(
    gentle.low > HALFWAY and harsh.low > A_COIN and steadier.low > 0,
    f"Gentle changes leave {gentle:.0%} of the pictures with their own toy by CLS, harsh ones "
    f"{harsh:.0%}. There the small pixels are steadier, by {steadier:+.0%}: **to find the same "
    "shot again takes no understanding**.",
)

# %% [markdown]
# And does the changed picture keep its class? k-NN again, on the portraits, at the middle
# level of each change. What counts is how many of the right answers are kept.

# %%
sample = np.flatnonzero(is_portrait)
portrait_masks = [test.instance_mask(i) > 0 for i in sample]
was_right = right["CLS", "class"][sample]
kept = {}
for kind, levels in LEVELS.items():
    changed = []
    for i, mask in zip(sample, portrait_masks, strict=True):
        changed.append(change(pictures_test[i], mask, kind, levels[1]))
    x = extract_features(dinov2, changed, patches=False).cls
    still = knn(cls_train[-1], class_train, x) == class_test[sample]
    kept[kind] = share(still[was_right])
    key = "hidden_half" if kind == "hidden" else f"{kind.lower()}_level2"
    record(f"01.knn_class_{key}", still.mean())
    print(f"{kind:>6} {levels[1]:g}: class found for {share(still):.2f}, kept for {kept[kind]:.2f}")

# %% [markdown]
# The rule, before the number, for light and for occlusion apart. Each has two tests: rendered,
# the share closer to the own toy; and the share of right answers kept. A disturbance is *borne*
# if the first interval is above three quarters, what knows nothing is not certainly better, and
# the interval of the kept answers is above nine tenths: a loss of one in ten is as much as the
# clean accuracy's own interval leaves open. It is *not borne* if the first cannot be told from a
# coin, or if certainly more than one answer in four is lost, when nobody would call it stable.
# The claim holds if both are borne and fails if neither is.


# %%
KEPT = 0.9  # a loss of one in ten: what the clean accuracy's own interval leaves open
UNSTABLE = 0.75  # a loss of one in four: nobody would call it stable


def borne(closer_to_own, gain, answers_kept):
    """1: a disturbance is borne, -1: it is not, 0: it cannot be said or partly; on Intervals."""
    if closer_to_own.low > HALFWAY and gain.high >= 0 and answers_kept.low > KEPT:
        return 1
    if closer_to_own.low <= A_COIN or answers_kept.high < UNSTABLE:
        return -1
    return 0


def robustness_verdict(light, occlusion):
    """On what `borne` says of the two."""
    return decide(holds=light == occlusion == 1, fails=light == occlusion == -1)


# %%
outcome = {}
own_of = {}
gain_of = {}
for kind, stepped in (("relit", "light"), ("occluded", "hidden")):
    own_of[kind] = over_toys(rendered[kind, "CLS"])
    without = [rendered[kind, name] for name in IGNORANT]
    gain_of[kind] = gain_over_ignorance(rendered[kind, "CLS"], without)
    outcome[kind] = borne(own_of[kind], gain_of[kind], kept[stepped])
    record(f"01.{kind}_closer_than_rival", own_of[kind].value)
    record(f"01.{kind}_closer_than_rival_over_ignorant", gain_of[kind].value)
    print(f"{kind:>8}: own {own_of[kind]:.2f}, gain {gain_of[kind]:+.2f}, borne {outcome[kind]}")


# %%
conclude(
    min(own_of["relit"].low, own_of["occluded"].low) > HALFWAY
    and max(gain_of["relit"].low, gain_of["occluded"].low) <= 0,
    f"Under another sun CLS stays with its own toy in {own_of['relit']:.0%}, behind a prop in "
    f"{own_of['occluded']:.0%}. **That it does better than what knows nothing cannot be shown** "
    f"(gain {gain_of['relit']:+.2f} and {gain_of['occluded']:+.2f}): the same camera makes it "
    "easy.",
)
conclude(
    kept["light"].low > kept["hidden"].high,
    f"The class tells more. In a third of the light {kept['light']:.0%} of the right answers are "
    f"kept; **with half of the toy's pixels hidden {kept['hidden']:.0%}**.",
)
claim(
    "01.robustness",
    "Features are robust to lighting and occlusion",
    how="rendered suns and props against a rival of the same class and colour; k-NN answers kept "
    "at 0.3 of the light and with half of the toy's own pixels hidden",
    measured=f"own toy closer in {own_of['relit']:.0%} relit, {own_of['occluded']:.0%} occluded; "
    f"over the best that knows nothing {gain_of['relit']:+.2f}, {gain_of['occluded']:+.2f}; right "
    f"answers kept: {kept['light']:.0%} dark, {kept['hidden']:.0%} half hidden",
    verdict=robustness_verdict(outcome["relit"], outcome["occluded"]),
    cell="Robustness",
)

# %% [markdown]
# ## A hierarchy in the layers
#
# Do early layers hold texture and late layers concepts? A linear probe reads colour, surface,
# class and the height of the camera off CLS and mean patch of each layer. Surfaces differ in
# colour too, which no layer is needed for, so **texture** is the surface in *grey* pictures. The
# controls: the same probe on histograms and pixels.


# %%
def camera_height(scenes):
    """Elevation of the camera above the ground in degrees, from its pose: (N,)."""
    poses = np.array([row["camera"]["world_from_camera"] for row in scenes.table])
    return np.degrees(np.arcsin(-poses[:, 2, 2]))


def in_grey(pictures):
    """The pictures without their colours."""
    return [picture.convert("L").convert("RGB") for picture in pictures]


grey_train = in_grey(pictures_train)
grey_test = in_grey(pictures_test)
x_train = np.concatenate([cls_train, mean_train], axis=2)  # (layers, N, 2 D)
x_test = np.concatenate([cls_test, mean_test], axis=2)
x_grey_train = np.concatenate(layers_of(grey_train, LAYERS)[:2], axis=2)
x_grey_test = np.concatenate(layers_of(grey_test, LAYERS)[:2], axis=2)

# %%
thirds = np.quantile(camera_height(train), [1 / 3, 2 / 3])
height_train = np.digitize(camera_height(train), thirds)
height_test = np.digitize(camera_height(test), thirds)
tasks = {
    "colour": (x_train, x_test, colour_train, colour_test),
    "surface": (x_train, x_test, surface_train, surface_test),
    "texture": (x_grey_train, x_grey_test, surface_train, surface_test),
    "class": (x_train, x_test, class_train, class_test),
    "viewpoint": (x_train, x_test, height_train, height_test),
}
probed = {}
for task, (x, x_other, y, y_other) in tasks.items():
    by_layer = [probe(x[layer], y, x_other[layer]) == y_other for layer in range(len(LAYERS))]
    probed[task] = np.array(by_layer)  # (layers, N)

# %%
in_colour = {
    "histogram": vectors["colour histogram"],
    "pixels": vectors["16 x 16 pixels"],
}
without_colour = {
    "histogram": (describe(grey_train, grey_histogram), describe(grey_test, grey_histogram)),
    "pixels": (describe(grey_train, small_pixels), describe(grey_test, small_pixels)),
}
controls = {}
for task, (_, _, y, y_other) in tasks.items():
    descriptions = without_colour if task == "texture" else in_colour
    for name, (known, asked) in descriptions.items():
        controls[task, name] = probe(known, y, asked) == y_other

for task in tasks:
    print(
        f"{task:>9}: first layer {share(probed[task][0]):.2f}, last {share(probed[task][-1]):.2f}, "
        f"histogram {share(controls[task, 'histogram']):.2f}, "
        f"pixels {share(controls[task, 'pixels']):.2f}"
    )

# %%
known_by = []
for task in tasks:
    answers = [*probed[task], controls[task, "histogram"], controls[task, "pixels"]]
    known_by.append([*np.mean(answers, axis=1), most_frequent(tasks[task][3])])
plotting.show(
    plotting.heatmap(
        np.array(known_by),
        list(tasks),
        [
            *[f"layer {layer + 1}" for layer in LAYERS],
            "histogram",
            "pixels",
            "most frequent answer",
        ],
        limits=(0, 1),
        title="accuracy of a linear probe",
        alt="Table of linear probes by layer, and of histogram and pixels, for five properties",
    )
)


# %%
def probe_curve(hits):
    """Accuracy by layer with its interval: three arrays (layers,)."""
    return tuple(np.array([share(one) for one in hits]).T)


plotting.show(
    plotting.curves(
        [layer + 1 for layer in LAYERS],
        {task: probe_curve(hits) for task, hits in probed.items()},
        ylim=(0, 1.02),
        xlabel="layer",
        ylabel="accuracy of a linear probe",
        alt="Linear probe accuracy of colour, surface, texture, class and viewpoint by layer",
    )
)

# %% [markdown]
# The rule, before the number. The **lateness** of a property is the share of what the last layer
# reads of it, above the most frequent answer, that the first layer does not yet. The claim
# *holds* if certainly more than half of the class is late, certainly less than half of each
# low-level property, colour and texture, and the first layer certainly reads more texture than
# what knows nothing. It *fails* if certainly less than half of the class is late, or certainly
# more than half of both low-level properties. Half is the cut-off that needs no reason: more of
# it early, or more of it late.


# %%
HALF = 0.5  # more of a property is late, or more of it early


def lateness(first, last, chance):
    """Share that is not yet in the first layer, of answers (N,) that are right or not; Interval."""

    def score(rows):
        return 1 - (first[rows].mean() - chance) / (last[rows].mean() - chance)

    return bootstrap_of(score, len(first))


def hierarchy_verdict(concept, low_levels, texture_gain):
    """On Intervals: lateness of the class, of low-level properties; the first layer's gain."""
    all_early = all(one.high < HALF for one in low_levels)
    all_late = all(one.low > HALF for one in low_levels)
    holds = concept.low > HALF and all_early and texture_gain.low > 0
    return decide(holds=holds, fails=concept.high < HALF or all_late)


# %%
late = {}
for task in ("colour", "texture", "class"):
    chance = most_frequent(tasks[task][3])
    late[task] = lateness(probed[task][0], probed[task][-1], chance)
    print(f"{task:>8}: lateness {late[task]:.2f}")
    record(f"01.lateness_{task}", late[task].value)
for task, hits in probed.items():
    record(f"01.probe_{task}_first", hits[0].mean())
    record(f"01.probe_{task}_last", hits[-1].mean())

texture_controls = [controls["texture", name].astype(float) for name in ("histogram", "pixels")]
texture_gain = bootstrap(probed["texture"][0] - max(texture_controls, key=np.mean))
print(f"texture in the first layer over what knows nothing: {texture_gain:+.2f}")

# %%
conclude(
    late["class"].low > HALF > late["texture"].high
    and late["colour"].low <= HALF <= late["colour"].high,
    f"Of what the last layer reads of the class {late['class']:.0%} is not yet in the first: **the "
    f"class has to be made**. Of the texture {late['texture']:.0%} is late. But the colour, as "
    f"low-level as a property can be, is neither early nor late: {late['colour']:.0%}.",
)
gained = {task: paired(hits[-1], hits[0]) for task, hits in probed.items()}
for task, gain in gained.items():
    print(f"{task:>9}: last layer over the first {gain:+.2f}")
conclude(
    all(gain.low > 0 for gain in gained.values()),
    "Nothing is lost in the end: the last layer reads **every property better than the "
    "first**, the low-level ones among them.",
)
claim(
    "01.semantic_hierarchy",
    "Early layers hold texture, late layers concepts",
    how="linear probes of CLS and mean patch, first against last layer; texture is the surface in "
    "grey pictures; lateness: what the last layer reads above chance and the first does not",
    measured=f"late: class {late['class']:.0%}, texture {late['texture']:.0%}, colour "
    f"{late['colour']:.0%}; texture in the first layer over a histogram or pixels "
    f"{texture_gain:+.2f}",
    verdict=hierarchy_verdict(late["class"], [late["colour"], late["texture"]], texture_gain),
    cell="A hierarchy in the layers",
)

# %% [markdown]
# ## Points found again
#
# Take a patch on the toy in one view; is the most similar patch of another view the right one?
# Depth and cameras are known, so a point goes out into the world and back through the other
# camera. A match is right within one patch of the true place. `correspondences` of the library
# makes the matches, all or only the mutual ones ([Amir et al.
# 2021](https://arxiv.org/abs/2112.05814)); beside it stand the middle layer, the pixels of a
# patch, and the same place, which is right where nothing moved.


# %%
def depth_at(depth, points):
    """Depth (H, W) of the pixels that hold points (n, 2), (n,); NaN outside of the picture."""
    inside = ((points >= 0) & (points < depth.shape[::-1])).all(axis=1)
    x, y = points[inside].astype(int).T
    values = np.full(len(points), np.nan)
    values[inside] = depth[y, x]
    return values


def true_places(views, i, j, points, tolerance=0.02):
    """Places (n, 2) in view j of points (n, 2) of view i, and whether they are visible there.

    A point is hidden where view j sees another depth than the point's, by more than `tolerance` of
    it: something stands in front.
    """
    first = views.table[i]["camera"]
    second = views.table[j]["camera"]
    world = samples.unproject(points, depth_at(views.depth(i), points), first)
    places, distance = samples.project(world, second)
    seen = depth_at(views.depth(j), places)
    return places, np.abs(seen - distance) <= tolerance * distance


# %%
def only(features, i):
    """The features of picture i alone."""
    layers = {}
    for number, layer in features.layers.items():
        layers[number] = Layer(layer.cls[[i]], layer.patches[[i]])
    return replace(
        features,
        cls=features.cls[[i]],
        patches=features.patches[[i]],
        layers=layers,
        index=features.index[[i]],
        names=(features.names[i],),
        sizes=features.sizes[[i]],
        grids=features.grids[[i]],
        coverage=features.coverage[[i]],
    )


# %%
def patch_pixels(picture):
    """4 x 4 pixels of each of 16 x 16 patches, row by row: (256, 48)."""
    small = picture.resize((4 * SIDE, 4 * SIDE), Image.Resampling.BOX)
    cells = np.asarray(small, np.float32).reshape(SIDE, 4, SIDE, 4, 3)
    return cells.swapaxes(1, 2).reshape(SIDE * SIDE, 48)


# %%
STEPS = (1, 2, 3, 4, 6)  # of 15 degrees
MATCHING = {
    "last layer": {"mutual": False},
    "last layer, mutual": {"mutual": True},
    "middle layer": {"mutual": False, "layer": middle},
}
NAMES = (*MATCHING, "pixels", "same place")
patch_rows, patch_columns = np.divmod(np.arange(SIDE * SIDE), SIDE)
CENTRES = PATCH * (np.stack([patch_columns, patch_rows], axis=1) + 0.5)  # (256, 2), x and y


# %%
def places_found(i, j):
    """By method: places (256, 2) in view j of the patches of view i, NaN without a match."""
    nearest = search(patch_pixels(pictures_views[i]), patch_pixels(pictures_views[j]), k=1)
    found = {"pixels": CENTRES[nearest.rows[:, 0]], "same place": CENTRES}
    for name, settings in MATCHING.items():
        pair = correspondences(dinov2, only(of_views, i), only(of_views, j), **settings)
        places = np.full((SIDE * SIDE, 2), np.nan)
        places[pair.cells_a @ [SIDE, 1]] = pair.points_b
        found[name] = places
    return found


# %%
def matches_right(i, j):
    """By method: which matches are right, among patches of the toy that view j shows."""
    x, y = CENTRES.astype(int).T
    truth, visible = true_places(views, i, j, CENTRES)
    judged = (views.instance_mask(i)[y, x] > 0) & visible  # (256,)
    hits = {}
    for name, places in places_found(i, j).items():
        matched_here = judged & np.isfinite(places[:, 0])
        distance = np.linalg.norm(places - truth, axis=1)
        hits[name] = distance[matched_here] <= dinov2.patch_size
    return hits


# %%
shape = (n_toys, 6, len(STEPS))
rates = {name: np.full(shape, np.nan) for name in NAMES}
n_matches = {name: np.zeros(shape) for name in NAMES}
for toy, start, k in np.ndindex(shape):
    i = 24 * toy + 4 * start
    j = 24 * toy + (4 * start + STEPS[k]) % 24
    for name, hits in matches_right(i, j).items():
        n_matches[name][toy, start, k] = len(hits)
        if len(hits):
            rates[name][toy, start, k] = hits.mean()


# %%
def rate_over_toys(values):
    """Mean over pairs of views (toys, pairs), those without a match left out, over toys."""
    toys = np.broadcast_to(np.arange(len(values))[:, None], values.shape)
    there = np.isfinite(values)
    return bootstrap(values[there], clusters=toys[there])


# %%
apart = [15 * step for step in STEPS]
matched = {}
for name in NAMES:
    matched[name] = [rate_over_toys(rates[name][:, :, k]) for k in range(len(STEPS))]
plotting.show(
    plotting.curves(
        apart,
        {name: tuple(np.array(one).T) for name, one in matched.items()},
        level=(np.pi / SIDE**2, "a patch at random"),
        ylim=(0, 1),
        xticks=apart,
        xlabel="angle between the cameras (degrees)",
        ylabel="matches within one patch",
        alt="Share of right patch matches by angle: last and middle layer, pixels, same place",
    )
)

# %%
for name in ("last layer", "middle layer", "pixels", "same place"):
    record(f"01.match_{name.replace(' ', '_')}_30", matched[name][1].value)
record("01.match_mutual_30", matched["last layer, mutual"][1].value)
for k, angle in enumerate(apart):
    print(f"{angle} degrees: " + ", ".join(f"{name} {matched[name][k]:.2f}" for name in NAMES))


# %%
def lead(better, worse, k):
    """How much a rate exceeds another's on the same pairs of views at step k; over toys."""
    return rate_over_toys(rates[better][:, :, k] - rates[worse][:, :, k])


# %%
over_pixels = lead("last layer", "pixels", 1)
over_middle = lead("last layer", "middle layer", 1)
mutual_gain = lead("last layer, mutual", "last layer", 1)
over_place = lead("last layer", "same place", 1)
still = lead("same place", "last layer", 0)
kept_mutual = (
    n_matches["last layer, mutual"][:, :, 1].sum() / n_matches["last layer"][:, :, 1].sum()
)
conclude(
    over_pixels.low > 0 and mutual_gain.low > 0 and still.low > 0,
    f"At the second angle the last layer finds {matched['last layer'][1]:.0%} of the places, "
    f"{over_pixels:+.2f} over pixels, {over_place:+.2f} over *nothing moved* and "
    f"{over_middle:+.2f} over the middle layer. Mutual matches are {kept_mutual:.0%} of "
    f"them and right more often, by {mutual_gain:+.2f}. At the smallest angle *nothing moved* "
    f"is better by {still:+.2f}: **what hardly moves needs no features**.",
)

# %% [markdown]
# ## The wrong normalisation
#
# The ViT processor of transformers takes a mean and a deviation of one half, where DINOv2 was
# trained with ImageNet's. What does it cost if everything is normalised wrongly, and if only the
# queries are, as when the gallery came from elsewhere? The portraits, against every third training
# picture.

# %%
half = (0.5, 0.5, 0.5)
wrong = replace(dinov2, preprocessing=replace(dinov2.preprocessing, mean=half, std=half))
few = np.arange(0, len(train), 3)  # eight pictures of each class
near = np.flatnonzero(is_portrait)
wrong_gallery = extract_features(wrong, [pictures_train[i] for i in few], patches=False).cls
wrong_queries = extract_features(wrong, [pictures_test[i] for i in near], patches=False).cls

right_gallery = cls_train[-1][few]
right_queries = cls_test[-1][near]
as_trained = knn(right_gallery, class_train[few], right_queries) == class_test[near]
all_wrong = knn(wrong_gallery, class_train[few], wrong_queries) == class_test[near]
mixed = knn(right_gallery, class_train[few], wrong_queries) == class_test[near]
moved = (unit(wrong_queries) * unit(right_queries)).sum(axis=1)

# %%
cost_all = paired(all_wrong, as_trained)
cost_mixed = paired(mixed, as_trained)
record("01.wrong_normalisation_cost", -cost_all.value)
record("01.wrong_normalisation_cost_queries", -cost_mixed.value)
print(f"as trained {share(as_trained):.2f}")
print(f"all wrong {share(all_wrong):.2f}, queries only {share(mixed):.2f}")
print(f"cosine of a wrongly normalised portrait to the right one: {bootstrap(moved):.3f}")
conclude(
    cost_mixed.high < 0 and cost_all.low <= 0 <= cost_all.high,
    f"With queries alone normalised wrongly, k-NN changes by {cost_mixed:+.3f}; with everything, "
    f"by {cost_all:+.3f}, which these pictures cannot tell from nothing. **Nothing fails, nothing "
    "warns**: a gallery and its queries must be made alike.",
)

# %% [markdown]
# ## More pixels
#
# Does a larger input help a small toy? The wide pictures of the test, against every third
# training picture, at half the usual side, the usual one, and a quarter
# more. The files have
# the usual size, so more pixels are more patches and not more detail.

# %%
far = np.flatnonzero(~is_portrait)
found_at = {224: knn(cls_train[-1][few], class_train[few], cls_test[-1][far]) == class_test[far]}
for size in (112, 280):
    gallery = extract_features(dinov2, [pictures_train[i] for i in few], size=size, patches=False)
    asked = extract_features(dinov2, [pictures_test[i] for i in far], size=size, patches=False)
    found_at[size] = knn(gallery.cls, class_train[few], asked.cls) == class_test[far]
for size in sorted(found_at):
    print(f"{size} pixels: class {share(found_at[size]):.2f}")

# %%
larger = paired(found_at[280], found_at[224])
smaller = paired(found_at[112], found_at[224])
record("01.knn_class_280_over_224", larger.value)
record("01.knn_class_112_over_224", smaller.value)
conclude(
    smaller.high < 0 and larger.low <= 0 <= larger.high,
    f"Half the side costs {smaller:+.2f}; a quarter more changes {larger:+.2f}, which cannot be "
    "told from nothing: **no gain from more patches of the same detail is seen**.",
)
