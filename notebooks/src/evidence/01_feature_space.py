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
# # 1. Feature space
#
# Find out, by measuring, what the numbers that DINOv2 gives to a picture know about it.
#
# <!-- badge:begin --><!-- badge:end -->
# <!-- cost-card:begin --><!-- cost-card:end -->
#
# ![Toys laid out by their features](figures/01_feature_space.jpeg)

# %% [markdown]
# ## Learning goals
#
# - **Tell a picture of features from evidence**: why a t-SNE of three pictures shows nothing.
# - **Turn a picture into a vector** in three ways, and find similar pictures with it.
# - **Measure what a vector knows**: class, surface and colour, against baselines that know nothing.
# - **Test geometric consistency** against viewpoints whose angle is known.
# - **Test robustness** against light, occlusion, blur and JPEG.
# - **Look for a hierarchy** of meaning in the layers.
# - **Match patches** between two views and score the matches by exact geometry.

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

# %% [markdown]
# The names used below: numpy and scikit-learn for the arithmetic, and the course's small helpers
# for loading, extracting and drawing.

# %%
import io
from functools import partial

import numpy as np
from ipywidgets import IntSlider
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter
from sklearn.linear_model import RidgeClassifier
from sklearn.manifold import TSNE, trustworthiness
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

# %%
from dinov2_helpers import extract_features, load_dinov2, plotting, samples, stream_features
from dinov2_helpers.claims import claim, record, say
from dinov2_helpers.pictures import printable
from dinov2_helpers.widgets import Explorer

dinov2 = load_dinov2()

# %% [markdown]
# The pictures are renders of toys, so everything about them is known: class, colour, surface,
# camera, depth. **Train** and **test** share no toy. The embedded model saw neither: it was
# trained, without labels, on other toys of the same sixteen classes.

# %%
train = samples.load_scenes("train").select(n_objects=1)
test = samples.load_scenes("test").select(n_objects=1)
portraits = test.select(framing="portrait")
wide = test.select(framing="wide")
print(
    f"{len(train)} pictures of one toy to learn from, {len(portraits)} portraits and "
    f"{len(wide)} wide pictures of other toys to test on"
)
shown = [scenes.image(i) for scenes in (portraits, wide) for i in range(0, len(scenes), 17)]
plotting.show(
    plotting.show_images(
        shown, alt="Two rows of test pictures: eight portraits of one toy each, eight wide pictures"
    )
)

# %% [markdown]
# ## What the article does
#
# The popular article whose claims this course tests shows DINOv2's feature space with three
# pictures: it asks t-SNE for a map with perplexity 2 and reads similarity off it. But t-SNE only
# sees, for each point, *how its probability is shared among the others*, at the perplexity asked
# for. Three points leave two others, and a perplexity of 2 means: shared evenly among two. So every
# picture gets 1/2 and 1/2, whatever its features are.


# %%
def neighbour_probabilities(distances, perplexity):
    """t-SNE's p(j|i) for squared distances from one point (van der Maaten & Hinton 2008, eq. 1)."""
    low, high = 0.0, 1e6
    for _ in range(200):
        precision = (low + high) / 2
        p = np.exp(-precision * (distances - distances.min()))
        p /= p.sum()
        entropy = -(p[p > 0] * np.log2(p[p > 0])).sum()
        low, high = (precision, high) if 2**entropy > perplexity else (low, precision)
    return p


# %% [markdown]
# Three triples: three pictures of one class, three of different classes, and three vectors of
# random numbers.

# %%
of_class = portraits.labels("class")
same = np.flatnonzero(of_class == "duck")[:3]
different = [int(np.flatnonzero(of_class == name)[0]) for name in ("duck", "truck", "lamp")]
triples = {
    "three ducks": extract_features(dinov2, [portraits.image(i) for i in same]).cls,
    "duck, truck, lamp": extract_features(dinov2, [portraits.image(i) for i in different]).cls,
    "random numbers": np.random.default_rng(0).normal(size=(3, dinov2.dim)),
}
deviation, maps = 0.0, {}
for name, x in triples.items():
    squared = ((x[:, None] - x) ** 2).sum(-1)
    for i in range(3):
        p = neighbour_probabilities(np.delete(squared[i], i), perplexity=2)
        deviation = max(deviation, abs(p - 0.5).max())
    maps[name] = TSNE(perplexity=2, init="random", random_state=0).fit_transform(x)
record("01.tsne3_largest_deviation", deviation)
say("Largest difference of any p(j|i) from 1/2, in all three triples: **{d:.1g}**.", d=deviation)

# %% [markdown]
# The input of t-SNE is the same three times, so the map is the same three times: a triangle with
# equal sides. Only the random start decides how it is turned. (The function draws every map of
# this notebook, with a colour and a marker for each name.)


# %%
@rc_context(plotting.STYLE)
def draw_maps(panels, labels, alt, legend, side=4.2):
    """Draw embeddings of the same N pictures, {title: points (N, 2)}, by their labels (N,)."""
    names = list(np.unique(labels))
    size = (side * len(panels) + 1.8, max(0.9 * side, 0.29 * len(names) + 0.4))
    figure = Figure(figsize=size, layout="constrained", label=alt)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (title, points) in zip(axes, panels.items(), strict=True):
        for i, name in enumerate(names):
            shape, colour = divmod(i, len(plotting.COLOURS))
            style = {"color": plotting.COLOURS[colour], "marker": plotting.MARKERS[shape]}
            ax.scatter(*points[np.asarray(labels) == name].T, s=26, lw=0, label=name, **style)
        ax.set(title=title, xticks=[], yticks=[])
        ax.spines[:].set(visible=True, color="#cccccc")
    handles = ax.get_legend_handles_labels()
    figure.legend(*handles, loc="outside right upper", title=legend, markerscale=1.6)
    return figure


# %%
figure = draw_maps(
    maps,
    ["first", "second", "third"],
    legend="picture",
    alt="Three t-SNE maps of three points: each an equilateral triangle, also of random numbers",
)
for ax, points in zip(figure.axes, maps.values(), strict=True):
    ax.plot(*points[[0, 1, 2, 0]].T, color="lightgrey", zorder=0)
    ax.set_aspect("equal", "datalim")
plotting.show(figure)
sides = [np.linalg.norm(m - np.roll(m, 1, axis=0), axis=1) for m in maps.values()]
say("Longest side over shortest: " + ", ".join(f"{side.max() / side.min():.3f}" for side in sides))

# %% [markdown]
# ## A vector for a picture
#
# DINOv2 returns one **CLS** token for the whole picture and one token for each **patch** of 14x14
# pixels. Three vectors are in use for a picture: CLS, the mean of the patches, and both side by
# side (which is what DINOv2's own linear evaluation uses). Two vectors are compared by the cosine
# of the angle between them: normalise *each row*, then multiply.


# %%
def cosine_similarity(a, b):
    """Cosine similarity of every row of a (N, D) with every row of b (M, D): (N, M), -1 to 1."""
    a = a / np.linalg.norm(a, axis=1, keepdims=True)
    b = b / np.linalg.norm(b, axis=1, keepdims=True)
    return a @ b.T


# %% [markdown]
# We extract everything once, and keep of every layer CLS and the mean patch. The pictures come in a
# stream: the patches of all layers together would need gigabytes.


# %%
def embed(dinov2, scenes):
    """CLS and mean patch of every layer, two arrays (layers, N, D)."""
    cls, means = [], []
    for found in stream_features(dinov2, scenes, chunk=64, layers=range(dinov2.n_layers)):
        cls.append([layer.cls for layer in found.layers.values()])
        means.append([layer.patches.mean((1, 2)) for layer in found.layers.values()])
    return np.concatenate(cls, axis=1), np.concatenate(means, axis=1)


layers_cls_train, layers_mean_train = embed(dinov2, train)
layers_cls_test, layers_mean_test = embed(dinov2, test)
cls_train, cls_test = layers_cls_train[-1], layers_cls_test[-1]
mean_train, mean_test = layers_mean_train[-1], layers_mean_test[-1]
is_portrait = test.labels("framing") == "portrait"
print("CLS of the last layer", cls_train.shape, " of all layers", layers_cls_train.shape)

# %% [markdown]
# Similarity search, which the article takes as known: for each query on the left, the nearest
# pictures of *other* toys by CLS, best first.

# %%
similarity = cosine_similarity(cls_test, cls_train)
queries = [
    int(np.flatnonzero(is_portrait & (test.labels("class") == name))[2])
    for name in ("airplane", "mug", "tree", "dog")
]
rows, titles = [], []
for query in queries:
    nearest = np.argsort(-similarity[query])[:6]
    rows += [test.image(query), *(train.image(i) for i in nearest)]
    titles += ["query", *(f"{similarity[query, i]:.2f}" for i in nearest)]
plotting.show(
    plotting.show_images(
        rows,
        titles=titles,
        columns=7,
        alt="Four queries, each followed by its six nearest pictures and their cosine similarity",
    )
)

# %% [markdown]
# A row of good neighbours is an anecdote. The number is *precision at 5*: the share of the five
# nearest pictures that show the same class. Two baselines do not know anything about toys: the
# picture shrunk to 16x16 pixels, and its histogram of colours.


# %%
def tiny_pixels(image):
    """The picture at 16x16 pixels, centred: (768,)."""
    small = np.asarray(image.resize((16, 16), Image.Resampling.BOX), float)
    return (small - small.mean()).ravel()


def colour_histogram(image):
    """Square roots of the shares of 8x8x8 colours: (512,). Their cosine compares histograms."""
    cells = (np.asarray(image) // 32).reshape(-1, 3) @ [64, 8, 1]
    return np.sqrt(np.bincount(cells, minlength=512) / len(cells))


def baseline(describe, scenes):
    """A description of every picture: (N, D)."""
    return np.stack([describe(scenes.image(i)) for i in range(len(scenes))])


# %%
vectors = {
    "CLS": (cls_train, cls_test),
    "mean patch": (mean_train, mean_test),
    "both": (np.hstack([cls_train, mean_train]), np.hstack([cls_test, mean_test])),
    "colour histogram": tuple(baseline(colour_histogram, s) for s in (train, test)),
    "16x16 pixels": tuple(baseline(tiny_pixels, s) for s in (train, test)),
}
class_train, class_test = train.labels("class"), test.labels("class")
for name, (gallery, x) in vectors.items():
    nearest = np.argsort(-cosine_similarity(x, gallery))[:, :5]
    precision = (class_train[nearest] == class_test[:, None]).mean()
    print(f"{name:>18}: precision at 5 = {precision:.2f}")

# %% [markdown]
# ## Hundreds of pictures
#
# With hundreds of points, t-SNE has something to say, at an ordinary perplexity. Still a map bends
# distances, so numbers stand beside it: the accuracy of a k-NN classifier *in the full space*,
# and the *trustworthiness* of the map (1: neighbours on the map are neighbours in the space).


# %%
def knn_accuracy(gallery, labels, x, truth, k=10):
    """Accuracy of k nearest neighbours that vote with weight exp(cosine / 0.07), as in DINO."""
    knn = KNeighborsClassifier(
        k, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.07)
    )
    return knn.fit(gallery, labels).score(x, truth)


def add_pictures(ax, points, scenes, labels, n=70):
    """Lay n pictures, as far apart as can be, over a map at their points, framed in colour."""
    distance, names = np.full(len(points), np.inf), list(np.unique(labels))
    for _ in range(n):
        i = int(distance.argmax())
        distance = np.minimum(distance, np.linalg.norm(points - points[i], axis=1))
        thumbnail = OffsetImage(np.asarray(scenes.image(i).resize((64, 64))), zoom=0.55)
        frame = {"ec": plotting.COLOURS[names.index(labels[i]) % len(plotting.COLOURS)]}
        ax.add_artist(AnnotationBbox(thumbnail, points[i], pad=0.05, bboxprops=frame))


# %% tags=["finished-picture"]
tsne = TSNE(perplexity=20, metric="cosine", init="pca", random_state=0).fit_transform(cls_test)
trust = trustworthiness(cls_test, tsne, n_neighbors=10, metric="cosine")
hit_rate = knn_accuracy(cls_train, class_train, cls_test, class_test)
title = f"{len(test)} pictures of unseen toys; k-NN {hit_rate:.0%}, trustworthiness {trust:.2f}"
figure = draw_maps(
    {f"t-SNE of CLS, {title}": tsne},
    class_test,
    side=7.5,
    legend="class",
    alt="Map of test pictures by CLS features: toys of one class form groups on any surface",
)
add_pictures(figure.axes[0], tsne, test, class_test)
plotting.show(figure)

# %% [markdown]
# The same pictures by CLS and by mean patch, coloured by surface. They are different spaces: CLS
# has sorted the toys and forgotten the ground they stand on; the mean patch is mostly ground,
# because most patches are.

# %%
tsne_mean = TSNE(perplexity=20, metric="cosine", init="pca", random_state=0)
plotting.show(
    draw_maps(
        {"CLS": tsne, "mean patch": tsne_mean.fit_transform(mean_test)},
        test.labels("surface"),
        legend="surface",
        alt="Two maps coloured by surface: mixed for CLS, separate groups for the mean patch",
    )
)

# %% [markdown]
# ## Measured: what a vector knows
#
# A k-NN classifier has nothing to learn, so its accuracy belongs to the features. For each test
# picture, the 10 nearest training pictures vote for class, surface and colour. Of the test toys
# some wear a colour that no training toy of their class has: a purple tree is still a tree.

# %%
tasks = [(task, close) for task in ("class", "surface", "colour") for close in (True, False)]
table = np.empty((len(vectors), len(tasks)))
for row, (gallery, x) in enumerate(vectors.values()):
    for column, (task, close) in enumerate(tasks):
        rows = is_portrait == close
        table[row, column] = knn_accuracy(
            gallery, train.labels(task), x[rows], test.labels(task)[rows]
        )


# %%
columns = [f"{task}, {'portraits' if close else 'wide'}" for task, close in tasks]
plotting.show(
    plotting.heatmap(
        table,
        list(vectors),
        columns,
        limits=(0, 1),
        title="k-NN accuracy on unseen toys",
        alt="Table of k-NN accuracies: CLS leads for class, mean patch and histogram for surface",
    )
)

# %%
record("01.knn_class", table[0, 0])
record("01.knn_class_wide", table[0, 1])
record("01.knn_class_pixels", table[4, 0])
record("01.knn_class_histogram", table[3, 0])
record("01.knn_surface_cls", table[0, 2])
record("01.knn_surface_mean_patch", table[1, 2])
half_width = 1.96 * np.sqrt(table[0, 0] * (1 - table[0, 0]) / is_portrait.sum())
say(
    f"CLS finds the class of **{table[0, 0]:.0%}** of the portraits (± {half_width:.0%}, 95 % "
    f"interval) and of **{table[0, 1]:.0%}** of the wide pictures; guessing would find "
    f"{1 / len(set(class_train)):.0%}."
)

# %% [markdown]
# Look at the failures before you trust the number. Here are portraits whose class CLS misses, with
# the class it gave. What do they have in common? Then see the two numbers below them.

# %%
knn = KNeighborsClassifier(10, metric="cosine", weights=lambda d: np.exp((1 - d) / 0.07))
guess = knn.fit(cls_train, class_train).predict(cls_test)
missed = np.flatnonzero(is_portrait & (guess != class_test))[:8]
plotting.show(
    plotting.show_images(
        [test.image(i) for i in missed],
        titles=[f"{class_test[i]},\nsaid {guess[i]}" for i in missed],
        alt="Portraits that CLS gets wrong, with true and given class: "
        + ", ".join(f"{class_test[i]} as {guess[i]}" for i in missed),
    )
)
unusual = np.array([not row["objects"][0]["usual_colour"] for row in test.table])
found = guess == class_test
usual = record("01.knn_class_usual_colour", found[~unusual].mean())
changed = record("01.knn_class_unusual_colour", found[unusual].mean())
say(
    f"Class found: **{usual:.0%}** of the toys in usual colours, **{changed:.0%}** in unusual ones."
)

# %% [markdown]
# In its training world every class wears a few colours only: a duck is yellow, white or brown. So
# colour has become part of what "duck" means to this model. One average over all pictures would
# have hidden it.

# %% [markdown]
# **With the real weights:** in the same test, k-NN on CLS, on ImageNet's 1000 classes of
# photographs at 224 px, ViT-S/14 finds 79.0 % and ViT-g/14 83.5 % (Oquab et al. 2023, Table 4).
# Sixteen toys are an easier question and renders a stranger one, so read your number beside pixels
# and histogram, not beside theirs; [docs/models.md](../docs/models.md) has the rest.

# %% [markdown]
# ## Geometric consistency
#
# *"The same object from another viewpoint has close features."* Close compared with what? Sixteen
# toys stand on turntables, 24 views each, 15 degrees apart. Two toys share each surface, so for
# every pair of views of one toy there is a fair rival: the *other* toy on the *same* ground, seen
# from the same angle. Four toys have a harder one too: another toy of their own *class* on that
# ground.


# %%
def load_turntables(split, layer):
    """The turntables of a split: 24 views of each toy in order, names of the toys, features."""
    views = samples.load_views(split, kind="turntable")
    names = list(dict.fromkeys(views.labels("toy_id")))
    return views, names, extract_features(dinov2, views, layers=[layer])


middle = dinov2.n_layers // 2
views, toys, view_features = load_turntables("test", middle)
views_more, toys_more, more_features = load_turntables("train", middle)
ground = [views.table[24 * i]["surface"] for i in range(len(toys))]
rival = [
    next(j for j in range(len(toys)) if j != i and ground[j] == ground[i]) for i in range(len(toys))
]
kin = [toys.index(t) for name in toys_more for t in toys if t.split("-")[0] == name.split("-")[0]]

# %%
plotting.show(
    plotting.show_images(
        [
            s.image(24 * i + a)
            for s, i in ((views, kin[0]), (views, rival[kin[0]]), (views_more, 0))
            for a in range(0, 24, 3)
        ],
        titles=[f"{45 * k} degrees" for k in range(8)],
        alt="Three toys from eight azimuths: a toy, its rival on the same surface, its own kind",
    )
)


# %%
def turntable_vectors(features):
    """Unit CLS vectors, (toys, 24, D)."""
    unit = features.cls / np.linalg.norm(features.cls, axis=1, keepdims=True)
    return unit.reshape(-1, 24, unit.shape[1])


def similarity_by_angle(x, y):
    """Cosine of views of toy i of x with views of toy i of y, by the angle between the cameras.

    x and y have shape (toys, 24, D), unit length; the result (toys * 24, 13).
    """
    return np.stack([(x * np.roll(y, -s, axis=1)).sum(-1).ravel() for s in range(13)], axis=1)


# %%
turntable = turntable_vectors(view_features)
stranger = np.roll(np.arange(len(toys)), 1)
by_angle = {
    "same toy": similarity_by_angle(turntable, turntable),
    "same class, same surface": similarity_by_angle(
        turntable[kin], turntable_vectors(more_features)
    ),
    "other class, same surface": similarity_by_angle(turntable, turntable[rival]),
    "other class, other surface": similarity_by_angle(turntable, turntable[stranger]),
}

# %%
angles = np.arange(0, 181, 15)
plotting.show(
    plotting.curves(
        angles,
        by_angle,
        xticks=angles[::2],
        xlabel="angle between the cameras (degrees)",
        ylabel="cosine similarity of CLS",
        alt="Similarity of CLS against viewpoint angle for the same toy and three kinds of others",
    )
)

# %% [markdown]
# The bands run from the 10th to the 90th percentile. The question behind the claim: is the same toy
# from another side *closer than its rival*? The share of views for which it is, 50 % being a coin:

# %%
pixels = np.stack([tiny_pixels(views.image(i)) for i in range(len(views))])
pixels = (pixels / np.linalg.norm(pixels, axis=1, keepdims=True)).reshape(len(toys), 24, -1)
own, own_pixels = by_angle["same toy"], similarity_by_angle(pixels, pixels)
closer = (own > by_angle["other class, same surface"]).mean(0)
closer_pixels = (own_pixels > similarity_by_angle(pixels, pixels[rival])).mean(0)
own_kin = own.reshape(len(toys), 24, -1)[kin].reshape(-1, 13)
closer_kin = (own_kin > by_angle["same class, same surface"]).mean(0)
at_90, at_180 = 6, 12

# %%
record("01.same_toy_closer_90", closer[at_90])
record("01.same_toy_closer_180", closer[at_180])
record("01.same_toy_closer_90_pixels", closer_pixels[at_90])
record("01.same_toy_closer_90_same_class", closer_kin[at_90])
record("01.same_toy_similarity_90", own.mean(0)[at_90])
say(
    f"At 90 degrees the same toy is closer than its rival for **{closer[at_90]:.0%}** of the views "
    f"(pixels: {closer_pixels[at_90]:.0%}), and closer than its own kind for "
    f"**{closer_kin[at_90]:.0%}**; at 180 degrees, {closer[at_180]:.0%} and "
    f"{closer_kin[at_180]:.0%}. Its similarity falls from 1 to {own.mean(0)[at_90]:.2f} at 90."
)

# %% [markdown]
# That is a strong result, and here is the small print: the embedded model was *trained* to do this.
# The two views that its objective compares are two renders of one toy. Meta's DINOv2 compares two
# crops of one photograph instead; whether it is as consistent, this section tells you when you run
# it with `DINOV2_PROFILE=small`.

# %% [markdown]
# ## Robustness
#
# *"Features are robust to lighting and occlusion."* Rendered first: the same cameras under other
# suns, and with a prop in front of the toy. As above, the fair question is whether the changed
# picture is still closer to its own toy than to the rival, seen from the same camera.

# %%
kept = {}
for kind in ("relit", "occluded"):
    changed = samples.load_views("test", kind=kind)
    x = extract_features(dinov2, changed.images).cls
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    toy = np.array([toys.index(t) for t in changed.labels("toy_id")])
    azimuth = np.round(changed.labels("azimuth") / 15).astype(int) % 24
    original = (x * turntable[toy, azimuth]).sum(1)
    against = (x * turntable[np.array(rival)[toy], azimuth]).sum(1)
    kept[kind] = record(f"01.{kind}_closer", (original > against).mean())
    print(
        f"{kind:>9}: similarity to the original {original.mean():.2f}, to the rival "
        f"{against.mean():.2f}; own toy closer in {kept[kind]:.0%} of {len(x)} pictures"
    )

# %% [markdown]
# Then four changes that can be turned up step by step: blur, JPEG, light, and a grey square over
# the middle of the toy. What matters is not that the vector stays where it was but that it keeps
# its meaning: we ask the k-NN classifier again.

# %%
LEVELS = {
    "blur": (2, 4, 8),  # radius in pixels
    "JPEG": (20, 10, 5),  # quality
    "light": (0.5, 0.3, 0.15),  # brightness, times
    "occlusion": (0.25, 0.5, 0.75),  # share of the toy's box
}


# %%
def change(image, kind, level, box):
    """Return a changed copy; box is the toy's (left, top, right, bottom)."""
    if kind == "blur":
        return image.filter(ImageFilter.GaussianBlur(level))
    if kind == "light":
        return ImageEnhance.Brightness(image).enhance(level)
    if kind == "JPEG":
        image.save(file := io.BytesIO(), "JPEG", quality=level)
        return Image.open(file).convert("RGB")
    left, top, right, bottom = box
    centre = np.array([left + right, top + bottom]) / 2
    corner = level**0.5 / 2 * np.array([right - left, bottom - top])
    ImageDraw.Draw(copy := image.copy()).rectangle([*(centre - corner), *(centre + corner)], "grey")
    return copy


# %%
chair = int(np.flatnonzero(of_class == "chair")[3])
box = portraits.table[chair]["objects"][0]["bbox"]
steps = [(kind, level) for kind, levels in LEVELS.items() for level in levels]
plotting.show(
    plotting.show_images(
        [change(portraits.image(chair), kind, level, box) for kind, level in steps],
        titles=[f"{kind} {level:g}" for kind, level in steps],
        columns=6,
        alt="A chair under three levels each of blur, JPEG, darkness and a grey square in front",
    )
)

# %%
sample = np.arange(0, len(portraits), 2)
clean = knn_accuracy(cls_train, class_train, cls_test[is_portrait][sample], of_class[sample])
accuracy = {}
for kind, levels in LEVELS.items():
    accuracy[kind] = [clean]
    for level in levels:
        images = [
            change(portraits.image(i), kind, level, portraits.table[i]["objects"][0]["bbox"])
            for i in sample
        ]
        x = extract_features(dinov2, images, patches=False).cls
        accuracy[kind].append(knn_accuracy(cls_train, class_train, x, of_class[sample]))

# %%
plotting.show(
    plotting.curves(
        range(4),
        {kind: (a, a, a) for kind, a in accuracy.items()},
        ylim=(0, 1),
        level=(1 / len(set(class_train)), "chance"),
        xticks=range(4),
        xlabel="level of the change (0: none, 1 to 3: as pictured above)",
        ylabel="k-NN accuracy of the class",
        alt="k-NN accuracy falls with blur and occlusion soon, with JPEG and darkness late",
    )
)
for kind, values in accuracy.items():
    record(f"01.knn_class_{kind.lower()}_level2", values[2])
    print(f"{kind:>9}: " + "  ".join(f"{value:.2f}" for value in values))

# %% [markdown]
# Dark and blocky pictures keep their meaning until the eye has trouble too. What covers the toy
# takes the class with it: the rest of the picture is no substitute, since CLS ignores the ground.

# %% [markdown]
# ## A hierarchy in the layers
#
# *"Early layers hold texture, late layers concepts."* A linear probe on CLS and mean patch of each
# layer says what can be read off there: colour, surface (texture, in this world), class. The fourth
# probe is for the **viewpoint**: whether the camera stands low, in the middle or high.


# %%
def probe(x, y, x_test, y_test):
    """Accuracy of a linear classifier on standardised features."""
    model = make_pipeline(StandardScaler(), RidgeClassifier(alpha=100))
    return model.fit(x, y).score(x_test, y_test)


def camera_height(scenes):
    """Elevation of the camera above the ground in degrees, from its pose: (N,)."""
    poses = np.array([row["camera"]["world_from_camera"] for row in scenes.table])
    return np.degrees(np.arcsin(-poses[:, 2, 2]))


thirds = np.quantile(camera_height(train), [1 / 3, 2 / 3])
answers = {task: (train.labels(task), test.labels(task)) for task in ("colour", "surface", "class")}
answers["viewpoint"] = tuple(np.digitize(camera_height(s), thirds) for s in (train, test))
both_train = np.concatenate([layers_cls_train, layers_mean_train], axis=2)
both_test = np.concatenate([layers_cls_test, layers_mean_test], axis=2)

# %%
by_layer = {
    task: [probe(x, y, x_test, y_test) for x, x_test in zip(both_train, both_test, strict=True)]
    for task, (y, y_test) in answers.items()
}
plotting.show(
    plotting.curves(
        range(1, dinov2.n_layers + 1),
        {task: (a, a, a) for task, a in by_layer.items()},
        ylim=(0, 1),
        xlabel="layer",
        ylabel="accuracy of a linear probe",
        alt="Linear probe accuracy of colour, surface, class and viewpoint against layer",
    )
)

# %%
peak = {task: int(np.argmax(a)) + 1 for task, a in by_layer.items()}
for task, values in by_layer.items():
    record(f"01.probe_{task}_first", values[0])
    record(f"01.probe_{task}_last", values[-1])
say(
    "From the first to the last layer: "
    + "; ".join(
        f"**{task}** {a[0]:.2f} to {a[-1]:.2f}, best in layer {peak[task]}"
        for task, a in by_layer.items()
    )
    + "."
)

# %% [markdown]
# In the embedded model the surface can be read off the first layer, while the class has to be made,
# layer by layer: that is the hierarchy of the claim. But note what does not happen. Nothing is
# thrown away on the way up: the last layer still knows the surface, in its patches, and the colour.

# %% [markdown]
# ## What patches know
#
# So far each picture was one vector. The patches keep the *where*. A principal component analysis
# of all patches of several pictures together turns them into colours: equal colours, alike
# features. Below, once the **tokens** of the last layer: their first components are the surface
# and the height in the picture, which differ most between patches, and the toys stand out as a
# tint. And once the **keys** of the last attention layer, with each picture's mean taken off: the
# toys have one colour of their own in all pictures.

# %%
pictures = [scenes.image(i) for scenes in (portraits, wide) for i in (2, 25, 94, 117)]
found = extract_features(dinov2, pictures, facets=["key"])
tokens, keys = list(found.patches), list(found.facets["key"])
centred = [k - k.mean((0, 1)) for k in keys]
colours = {"tokens": plotting.pca_rgb(tokens), "keys, centred": plotting.pca_rgb(centred)}
plotting.show(
    plotting.show_images(
        [*pictures, *colours["tokens"], *colours["keys, centred"]],
        columns=len(pictures),
        title="pictures, PCA of tokens, PCA of centred keys",
        alt="Eight pictures; PCA colours of tokens follow the ground, those of keys the toys",
    )
)

# %% [markdown]
# Does a single component find the toys? The number is the area under the ROC curve of a component,
# toy patches against all others, on test pictures; the component and its sign were chosen on
# training pictures.


# %%
def toy_patches(scenes, grid):
    """Whether most of each patch shows a toy: (N, h, w) bool."""
    masks = np.stack([scenes.instance_mask(i) > 0 for i in range(len(scenes))])
    h, w = masks.shape[1] // grid[0], masks.shape[2] // grid[1]
    return masks.reshape(-1, grid[0], h, grid[1], w).mean((2, 4)) > 0.5


def best_component(maps_train, truth_train, maps_test, truth_test):
    """The component that tells toys best in the first maps, and its AUROC in the second."""
    areas = [
        [roc_auc_score(truth.ravel(), np.stack(maps)[..., c].ravel()) for c in range(3)]
        for maps, truth in ((maps_train, truth_train), (maps_test, truth_test))
    ]
    best = int(np.abs(np.array(areas[0]) - 0.5).argmax())
    return best + 1, areas[1][best] if areas[0][best] > 0.5 else 1 - areas[1][best]


# %%
some = [scenes.select(seed=lambda seed: seed % 5 == 0) for scenes in (train, test)]
found = [extract_features(dinov2, scenes, facets=["key"]) for scenes in some]
truth = [toy_patches(scenes, f.grid) for scenes, f in zip(some, found, strict=True)]
keys = [f.facets["key"] - f.facets["key"].mean((1, 2), keepdims=True) for f in found]
for name, patches in (("tokens", [f.patches for f in found]), ("keys", keys)):
    coloured = plotting.pca_rgb([*patches[0], *patches[1]])
    n = len(some[0])
    component, area = best_component(coloured[:n], truth[0], coloured[n:], truth[1])
    record(f"01.pca_toy_auroc_{name}", area)
    print(
        f"{name:>7}: component {component} tells the toys of {len(some[1])} unseen pictures, "
        f"AUROC {area:.2f}"
    )

# %% [markdown]
# Both hold the toys. The picture of the tokens only hides it better, because the toys are not in
# its first component: a PCA picture shows what *varies most*, which need not be what you are
# looking for.

# %% [markdown]
# ## Matching patches between views
#
# The strongest form of geometric consistency: for a patch on the toy in one view, find the most
# similar patch in another. Depth and cameras are known, so the right place is known to a fraction
# of a pixel: a point goes out into the world and comes back through the other camera. Where that
# camera sees another depth than the point's, something stands in front of it. A match counts if it
# is within one patch (14 pixels) of the right place.


# %%
def depth_at(depth, points):
    """Depth (H, W) of the pixels that hold points (n, 2), (n,); NaN outside of the picture."""
    inside = ((points >= 0) & (points < depth.shape[::-1])).all(axis=1)
    x, y = points[inside].astype(int).T
    values = np.full(len(points), np.nan)
    values[inside] = depth[y, x]
    return values


def correspondences(views, i, j, points, tolerance=0.02):
    """Places (n, 2) in view j of points (n, 2) of view i, and whether they are visible there."""
    cameras = [views.table[k]["camera"] for k in (i, j)]
    world = samples.unproject(points, depth_at(views.depth(i), points), cameras[0])
    places, distance = samples.project(world, cameras[1])
    seen = depth_at(views.depth(j), places)
    return places, np.abs(seen - distance) <= tolerance * distance


# %%
def match(a, b, cells):
    """For cells (n, 2) of grid a (h, w, D), the row and column of the most similar cell of b."""
    flat = b.reshape(-1, b.shape[-1])
    return np.stack(
        np.unravel_index(cosine_similarity(a[tuple(cells.T)], flat).argmax(1), b.shape[:2]), axis=1
    )


def true_matches(views, i, j, grid):
    """Patches of view i on the toy that view j shows: cells (n, 2), their places (x, y) in j."""
    rows, columns = np.mgrid[: grid[0], : grid[1]].reshape(2, -1)
    centres = (np.stack([columns, rows], 1) + 0.5) * 14
    on_toy = views.instance_mask(i)[tuple(centres[:, ::-1].astype(int).T)] > 0
    places, visible = correspondences(views, i, j, centres)
    return np.stack([rows, columns], 1)[on_toy & visible], places[on_toy & visible]


# %% [markdown]
# Three rivals: the same place in the other view (nothing moved), the pixels of a patch, and the
# tokens of the model's middle layer.


# %%
def patch_pixels(image):
    """4x4 pixels of each of 16x16 patches: (16, 16, 48)."""
    small = np.asarray(image.resize((64, 64), Image.Resampling.BOX), float)
    return small.reshape(16, 4, 16, 4, 3).swapaxes(1, 2).reshape(16, 16, 48)


grids = {
    "last layer": view_features.patches,
    "middle layer": view_features.layers[middle].patches,
    "pixels": np.stack([patch_pixels(views.image(i)) for i in range(len(views))]),
}
STEPS = (1, 2, 3, 4, 6)  # of 15 degrees

# %%
hits = {name: [[] for _ in STEPS] for name in (*grids, "same place")}
for toy in range(len(toys)):
    for start in range(0, 24, 4):
        for k, step in enumerate(STEPS):
            i, j = 24 * toy + start, 24 * toy + (start + step) % 24
            cells, places = true_matches(views, i, j, view_features.grid)
            for name in hits:
                found = match(grids[name][i], grids[name][j], cells) if name in grids else cells
                distance = np.linalg.norm((found[:, ::-1] + 0.5) * 14 - places, axis=1)
                hits[name][k].append((distance <= 14).mean())

# %%
degrees = [15 * step for step in STEPS]
share = {name: np.mean(h, axis=1) for name, h in hits.items()}
error = {name: np.std(h, axis=1) / len(h[0]) ** 0.5 for name, h in hits.items()}
plotting.show(
    plotting.curves(
        degrees,
        {name: (a, a - error[name], a + error[name]) for name, a in share.items()},
        ylim=(0, 1),
        xticks=degrees,
        xlabel="angle between the cameras (degrees)",
        ylabel="matches within one patch (± standard error)",
        alt="Share of right patch matches against viewpoint angle, for layers and baselines",
    )
)

# %%
for name, values in share.items():
    record(f"01.match_{name.replace(' ', '_')}_30", values[1])
still, last = share["same place"][0], share["last layer"][0]
say(
    f"At 30 degrees the last layer puts **{share['last layer'][1]:.0%}** of the patches within one "
    f"patch of the truth, the middle layer {share['middle layer'][1]:.0%}, pixels "
    f"{share['pixels'][1]:.0%}. At 15 degrees little moves, and *nothing moved* is right for "
    f"{still:.0%}: {'better' if still > last else 'worse'} than the last layer's {last:.0%}."
)

# %% [markdown]
# The pair of views that is typical (the median of all pairs at 30 degrees), drawn: blue lines are
# right, orange dashed ones wrong. Smooth surfaces of one colour give a patch nothing to hold on to.

# %%
typical = int(np.argsort(hits["last layer"][1])[len(hits["last layer"][1]) // 2])
first = 24 * (typical // 6) + typical % 6 * 4
second = 24 * (typical // 6) + (typical % 6 * 4 + 2) % 24
cells, places = true_matches(views, first, second, view_features.grid)
cells, places = cells[::3], places[::3]
found = match(view_features.patches[first], view_features.patches[second], cells)[:, ::-1]

# %%
left, right = np.asarray(views.image(first)), np.asarray(views.image(second))
gap = np.full((len(left), 12, 3), 255, np.uint8)
figure = plotting.show_images(
    [np.hstack([left, gap, right])],
    titles=["patches of one view and their most similar patches in another, 30 degrees on"],
    alt="Two views of a toy joined by lines between matched patches, right and wrong ones",
)
figure.set_size_inches(10, 5.2)
for (x, y), (u, v), place in zip(cells[:, ::-1] * 14 + 7, found * 14 + 7, places, strict=True):
    good = np.hypot(u - place[0], v - place[1]) <= 14
    style = ("-", plotting.COLOURS[0]) if good else ("--", plotting.COLOURS[1])
    ends = [x, u + left.shape[1] + 12], [y, v]
    figure.axes[0].plot(*ends, style[0], color=style[1], marker="o", mec="white", ms=9)
plotting.show(figure)

# %% [markdown]
# ## The claims
#
# The first rows of the course's ledger. The verdicts follow from the numbers by rules that
# stand in the code.


# %%
def verdict(value, holds, in_part):
    """The verdict for a value that should be high, by two thresholds."""
    return "holds" if value >= holds else "holds in part" if value >= in_part else "does not hold"


# %%
claim(
    "01.geometric_consistency",
    "The same object from another viewpoint has close features",
    how="same toy from 90° and 180° away against another toy on the same surface, CLS",
    measured=f"closer than another class in {closer[[at_90, at_180]].min():.0%}, than another toy "
    f"of its class in {closer_kin[[at_90, at_180]].min():.0%} (chance 50 %); "
    f"{share['last layer'][1]:.0%} of patches matched at 30°. (The embedded model was trained with "
    "renders of one toy as pairs.)",
    verdict=verdict(min(*closer[[at_90, at_180]], *closer_kin[[at_90, at_180]]), 0.9, 0.6),
    cell="Geometric consistency",
)

# %%
keeps = {kind: values[2] / clean for kind, values in accuracy.items()}
held = sum(keeps[kind] >= 0.9 for kind in ("light", "occlusion"))
claim(
    "01.robustness",
    "Features are robust to lighting and occlusion",
    how="rendered suns and props; k-NN accuracy under darkness and a grey square, level 2 of 3",
    measured=f"own toy closer in {kept['relit']:.0%} relit, {kept['occluded']:.0%} occluded; "
    f"{keeps['light']:.0%} of the accuracy left at 0.3 of the light, {keeps['occlusion']:.0%} with "
    "half of the toy hidden",
    verdict=("does not hold", "holds in part", "holds")[held],
    cell="Robustness",
)


# %%
def rises(values):
    """How much of the best value is gained after the first layer, 0 to 1."""
    return (max(values) - values[0]) / max(values)


# %%
late, early = rises(by_layer["class"]), rises(by_layer["surface"])
record("01.class_gained_late", late)
record("01.surface_gained_late", early)
claim(
    "01.semantic_hierarchy",
    "Early layers hold texture, late layers concepts",
    how="linear probes of CLS and mean patch, layer by layer",
    measured=f"surface is at {by_layer['surface'][0]:.2f} in layer 1 and best in layer "
    f"{peak['surface']}; class at {by_layer['class'][0]:.2f} and best in layer "
    f"{peak['class']} ({max(by_layer['class']):.2f})",
    verdict=verdict(late - early, 0.5, 0.2),
    cell="A hierarchy in the layers",
)

# %%
claim(
    "01.tsne_of_three",
    "A t-SNE of three pictures shows their similarity",
    how="t-SNE's own input probabilities for any three points",
    measured=f"all are 1/2, to {deviation:.1g}; random numbers give the same triangle",
    verdict="does not hold" if deviation < 1e-3 else "holds in part",
    cell="What the article does",
)

# %% [markdown]
# ## Try it
#
# Choose a picture and see its neighbours. (Without a running kernel you see the default.)


# %%
def draw_neighbours(scenes, vectors, query, k=7):
    """Picture `query` and the k nearest to it by cosine similarity of vectors (N, D)."""
    similarity = cosine_similarity(vectors, vectors[[query]])[:, 0]
    similarity[query] = -np.inf  # it is not its own neighbour
    nearest = np.argsort(-similarity)[:k]
    return plotting.show_images(
        [scenes.image(i) for i in (query, *nearest)],
        titles=[f"picture {query}", *(f"{similarity[i]:.2f}" for i in nearest)],
        alt=f"Picture {query} and its {k} nearest neighbours with their cosine similarity",
    )


Explorer(partial(draw_neighbours, test, cls_test), query=IntSlider(0, 0, len(test) - 1))

# %% [markdown]
# Choose a patch in the left view and see where the right one is similar.


# %%
def draw_matches(images, patches, row, column):
    """Where the second of two pictures is similar to a patch of the first; patches (h, w, D)."""
    a, b = patches
    heat = cosine_similarity(a[row, [column]], b.reshape(-1, b.shape[-1])).reshape(b.shape[:2])
    best = np.unravel_index(heat.argmax(), heat.shape)
    figure = plotting.show_images(
        [images[0], plotting.overlay(images[1], heat, limits=(0, 1))],
        titles=["chosen patch", f"cosine similarity, at most {heat.max():.2f}"],
        alt=f"Patch ({row}, {column}) of a picture, and how similar the other one is to it",
    )
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]])
    for ax, at in zip(figure.axes, ((row, column), best), strict=True):
        ax.plot(*((corners + at[::-1]) * 14 - 0.5).T, color=plotting.COLOURS[1], lw=3)
    return figure


# %%
pair = [views.image(i) for i in (first, second)], view_features.patches[[first, second]]
row, column = cells[len(cells) // 2].tolist()
rows, columns = (IntSlider(at, 0, 15) for at in (row, column))
Explorer(partial(draw_matches, *pair), row=rows, column=columns)

# %% [markdown]
# ## Photographs
#
# The embedded model has only ever seen renders of toys. What happens with photographs? These come
# with scikit-image and scikit-learn. Beside each stands the toy it finds most similar.

# %%
photos = samples.photographs()
photo_features = extract_features(dinov2, photos)
to_toys = cosine_similarity(photo_features.cls, cls_train)
nearest = dict(zip(photos, to_toys.argmax(1), strict=True))
pictures, titles = [], []
for name, closeness in zip(photos, to_toys.max(1), strict=True):
    if name in ("cat", "coffee", "rocket", "horse", "flower", "temple"):
        pictures += [photos[name].resize((224, 224)), train.image(nearest[name])]
        titles += [name, f"{class_train[nearest[name]]} {closeness:.2f}"]
plotting.show(
    plotting.show_images(
        pictures,
        titles=titles,
        columns=6,
        alt="Six photographs, each beside the toy picture with the most similar features",
    )
)

# %%
of_photos, of_toys = np.median(to_toys.max(1)), np.median(similarity[is_portrait].max(1))
record("01.photo_similarity", of_photos)
record("01.unseen_toy_similarity", of_toys)
COUNTERPARTS = {"cat": "cat", "coffee": "mug", "rocket": "rocket"}
right = sum(class_train[nearest[name]] == toy for name, toy in COUNTERPARTS.items())
say(
    f"Median similarity to the nearest toy picture: **{of_photos:.2f}** for photographs, "
    f"**{of_toys:.2f}** for portraits of unseen toys. Of the {len(COUNTERPARTS)} photographs that "
    f"have a counterpart among the toys, {right} found it."
)

# %% [markdown]
# To this model every photograph is far from everything it knows, and its best guess is close to a
# guess: do not read meaning into a hit. What carries over is lower down: patches still group what
# looks alike, as the colours show. Run this section with the real weights (`DINOV2_PROFILE=small`
# or larger) and compare: that model has seen 142 million pictures.

# %%
names = ["cat", "coffee", "horse", "coins", "flower", "temple"]
photo_patches = extract_features(
    dinov2, {n: photos[n] for n in names}, size=224, fit="resize", facets=["key"]
)
photo_keys = [k - k.mean((0, 1)) for k in photo_patches.facets["key"]]
colours = plotting.pca_rgb(photo_keys)
large = [Image.fromarray((c * 255).astype(np.uint8)).resize((336, 224), 0) for c in colours]
plotting.show(
    plotting.show_images(
        [*(photos[n].resize((336, 224)) for n in names), *large],
        columns=6,
        alt="Six photographs and their patches coloured by PCA: large regions, not objects",
    )
)
for n in names:
    print(f"{n:>8}: {samples.PHOTOGRAPHS[n]['source']}")

# %% [markdown]
# ## Your own images
#
# Name a folder. Any mixture of formats and sizes will do; files that cannot be read are listed and
# left out. Without a folder, the photographs stand in.


# %%
def most_alike(names, vectors):
    """The two most similar of the pictures with features (N, D), in words."""
    if len(names) < 2:
        return f"Most alike: two or more pictures are needed, not {len(names)}"
    alike = cosine_similarity(vectors, vectors)
    np.fill_diagonal(alike, -np.inf)
    i, j = np.unravel_index(alike.argmax(), alike.shape)
    return f"Most alike: {printable(names[i])} and {printable(names[j])}, {alike[i, j]:.2f}"


# %%
FOLDER = None  # for instance "/content/drive/MyDrive/holiday" or r"C:\Pictures"

mine = extract_features(dinov2, FOLDER or photos, patches=False)
print(mine)
print(most_alike(mine.names[:5000], mine.cls[:5000]))  # all pairs of a million would take days

# %% [markdown]
# ## Exercises
#
# **1. Recall at k.** Write the share of queries that have at least one picture of their own class
# among the k nearest.


# %% tags=["exercise-1-stub"]
def recall_at_k(similarity, query_labels, gallery_labels, k):
    """Share of queries with a right picture among the k nearest; similarity is (N, M)."""
    raise NotImplementedError


# %% tags=["exercise-1-check"]
try:
    s = np.array([[0.9, 0.1, 0.5], [0.2, 0.3, 0.1]])
    q, g = np.array(["cat", "dog"]), np.array(["dog", "dog", "cat"])
    assert recall_at_k(s, q, g, 1) == 0.5
    assert recall_at_k(s, q, g, 2) == 1.0
    assert recall_at_k(s, np.array(["fish", "dog"]), g, 3) == 0.5
    print("Right!")
except NotImplementedError:
    print("Not solved yet")

# %% [markdown] tags=["exercise-1-solution"]
# <details><summary>Solution</summary>
#
# ```python
# def recall_at_k(similarity, query_labels, gallery_labels, k):
#     """Share of queries with a right picture among the k nearest; similarity is (N, M)."""
#     nearest = np.argsort(-similarity, axis=1)[:, :k]
#     return (gallery_labels[nearest] == query_labels[:, None]).any(1).mean()
# ```
#
# </details>

# %% [markdown]
# **2. Take the ground away.** The mean patch is mostly ground. Write the mean over the patches of
# the toy alone, and then find out what it does to the k-NN table.


# %% tags=["exercise-2-stub"]
def masked_mean(patches, masks):
    """Mean over the patches where masks is true: (N, h, w, D) and (N, h, w) give (N, D)."""
    raise NotImplementedError


# %% tags=["exercise-2-check"]
try:
    x = np.arange(16, dtype=float).reshape(2, 2, 2, 2)
    m = np.array([[[True, False], [False, True]], [[False, True], [False, False]]])
    y = np.asarray(masked_mean(x, m))
    assert y.shape == (2, 2), f"one vector for each picture: (2, 2), not {y.shape}"
    of_all = "divide by the number of patches of the toy, not of all patches"
    assert not np.allclose(y, (x * m[..., None]).mean((1, 2))), of_all
    assert not np.allclose(y[0], x[m].mean(0)), "each picture has its own mean, not one for all"
    assert np.allclose(y, [[3, 4], [10, 11]]), f"[[3, 4], [10, 11]] is right, not {y.tolist()}"
    print("Right!")
except NotImplementedError:
    print("Not solved yet")

# %% [markdown] tags=["exercise-2-solution"]
# <details><summary>Solution</summary>
#
# ```python
# def masked_mean(patches, masks):
#     """Mean over the patches where masks is true: (N, h, w, D) and (N, h, w) give (N, D)."""
#     weights = masks[..., None].astype(float)
#     return (patches * weights).sum((1, 2)) / weights.sum((1, 2))
# ```
#
# On the test pictures (the same for `train`):
#
# ```python
# patches = extract_features(dinov2, test).patches  # (N, 16, 16, D)
# toy_means = masked_mean(patches, toy_patches(test, (16, 16)))  # (N, D)
# ```
#
# </details>

# %% [markdown]
# ## Recap
#
# What you did, each with its number:

# %%
say(f"""
- You **told a picture of features from evidence**: three points give t-SNE 1/2 and 1/2.
- You **turned a picture into a vector** in three ways: CLS for the toy, the mean patch for the
  ground, or both.
- You **measured what a vector knows**: CLS finds the class of {table[0, 0]:.0%} of the portraits,
  pixels of {table[4, 0]:.0%}; the mean patch finds the surface of {table[1, 2]:.0%}.
- You **tested geometric consistency**: at 90 degrees the same toy is closer than its rival in
  {closer[at_90]:.0%} of the views.
- You **tested robustness**: under another sun the own toy stays closer in {kept["relit"]:.0%},
  behind a prop in {kept["occluded"]:.0%}; half hidden, {keeps["occlusion"]:.0%} of the accuracy is
  left.
- You **looked for a hierarchy**: class rises from {by_layer["class"][0]:.2f} to
  {max(by_layer["class"]):.2f}, best in layer {peak["class"]}.
- You **matched patches** between views: {share["last layer"][1]:.0%} are right at 30 degrees.
""")

# %% [markdown]
# Next: notebook 2 gives these features words. DINOv2 has never read a caption; what does it take to
# classify by name?
