# ---
# jupyter:
#   jupytext:
#     notebook_metadata_filter: headline
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
#   headline:
#     02.bridge_top1: top-1 of DINOv2 through the bridge, 16 class names, unseen toys
#     02.clip_top1: top-1 of CLIP on the same pictures
# ---

# %% [markdown]
# # Evidence 2: zero-shot classification
#
# What [lesson 2](../02_zero_shot_classification.ipynb) shows is measured here to the end, for those
# who doubt it or have to choose a method.
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

# %%
import numpy as np

from dinov2_helpers import extract_features, load_clip, load_dinov2, load_scenes, plotting
from dinov2_helpers.claims import claim, conclude, decide, record
from dinov2_helpers.extraction import Embeddings
from dinov2_helpers.measure import auroc, bootstrap, bootstrap_of, mcnemar, share
from dinov2_helpers.samples import CLASS_NAMES as NAMES
from dinov2_helpers.techniques import Bridge, FewShot, KnnClassifier, ZeroShot, threshold
from dinov2_helpers.techniques.bridge import Ridge
from dinov2_helpers.techniques.zero_shot import TEMPLATES, name_vectors

dinov2 = load_dinov2()
clip = load_clip()

# %% [markdown]
# **Train** has pictures of one toy or of several; their labels are used only where it is said.
# **Test** has one toy in each picture, and every picture a toy of its own, so that intervals over
# pictures are fair. All toys are new to all models.

# %%
train = load_scenes("train")
test = load_scenes("test").select(n_objects=1)

labels = test.labels("class")  # (n,) names
truth = np.array([NAMES.index(name) for name in labels])  # (n,) numbers
portrait = test.labels("framing") == "portrait"
usual = test.labels("usual_colour")
single = np.array([len(row["objects"]) == 1 for row in train.table])
train_labels = np.array([row["objects"][0]["class"] for row in train.table])

dino_train = extract_features(dinov2, train)
dino_test = extract_features(dinov2, test)
clip_train = clip.embed_images(train)
clip_test = clip.embed_images(test)
chance = 1 / len(NAMES)

print(f"{len(train)} training pictures, {single.sum()} of them of one toy")
print(f"{len(test)} test pictures, {portrait.sum()} portraits, {(~usual).sum()} in unusual colours")
print("DINOv2:", dino_test.cls.shape, " CLIP:", clip_test.vectors.shape, " names:", len(NAMES))


# %%
def named(vectors, texts):
    """Number of the name with the largest cosine for each of vectors (n, D) of any length."""
    lengths = np.linalg.norm(texts, axis=1)  # (K,)
    return (vectors @ texts.T / lengths).argmax(axis=1)


def as_embeddings(vectors):
    """Vectors (n, D) that are made already, in the form that the library takes."""
    names = tuple(f"picture {number}" for number in range(len(vectors)))
    return Embeddings(vectors, np.arange(len(vectors)), names, ())


RARE = 0.05  # a difference that a coin makes less often is told apart, as by a 95 % interval


def versus(first, second, hits_first, hits_second):
    """One clause that compares two methods on the same pictures by McNemar's test."""
    found = mcnemar(hits_first, hits_second)
    numbers = f"only one of them is right: {found.only_first} against {found.only_second} pictures"
    if found.p >= RARE:
        word = "cannot be told from"
    elif found.only_first > found.only_second:
        word = "names more than"
    else:
        word = "names fewer than"
    return f"{first} {word} {second} ({numbers}, McNemar p = {found.p:.1g})"


# %% [markdown]
# ## Does the article's cosine classify?
#
# The article, 《DINOv2实战:解锁视觉任务的六种高阶玩法》, takes names from CLIP's text encoder,
# pictures from DINOv2, and the cosine of the two. The first obstacle is the shape; people cut the
# longer vector, pad the shorter one with zeros, or multiply by a random matrix.

# %%
text = name_vectors(clip, NAMES, ["a photo of {a}"])
try:
    dino_test.cls @ text.T
except ValueError as error:
    print(f"ValueError: {error}")


# %%
def cut(x, text):
    """Drop the numbers of the longer vectors that the shorter ones do not have."""
    n = min(x.shape[1], text.shape[1])
    return x[:, :n], text[:, :n]


def pad(x, text):
    """Fill the shorter vectors with zeros."""
    n = max(x.shape[1], text.shape[1])
    padded = []
    for vectors in (x, text):
        missing = n - vectors.shape[1]
        padded.append(np.pad(vectors, ((0, 0), (0, missing))))
    return padded


def project(x, text, seed):
    """Send x through a random matrix into the space of text."""
    matrix = np.random.default_rng(seed).normal(size=(x.shape[1], text.shape[1]))
    return x @ matrix, text


# %% [markdown]
# What knows nothing sets the bar: the pixels of a small picture and a histogram of its colours, as
# in lesson 1 and cut in the same way, and two hundred random matrices, of which some are lucky.

# %%
from PIL import Image


def small_pixels(picture):
    """The picture at 16 x 16 pixels, less its mean: (768,)."""
    small = np.asarray(picture.resize((16, 16), Image.Resampling.BOX), float)
    return (small - small.mean()).ravel()


def colour_histogram(picture):
    """Square roots of the shares of 512 colours: (512,)."""
    red, green, blue = np.moveaxis(np.asarray(picture) // 32, 2, 0).astype(int)
    counts = np.bincount((64 * red + 8 * green + blue).ravel(), minlength=512)
    return np.sqrt(counts / counts.sum())


pictures = [test.image(i) for i in range(len(test))]
pixel_vectors = np.stack([small_pixels(picture) for picture in pictures])
colour_vectors = np.stack([colour_histogram(picture) for picture in pictures])

# %%
clip_hits = named(clip_test.vectors, text) == truth
cut_hits = named(*cut(dino_test.cls, text)) == truth
random_shares = []
for seed in range(200):
    random_hits = named(*project(dino_test.cls, text, seed)) == truth
    random_shares.append(random_hits.mean())
random_shares = np.array(random_shares)
luck = np.quantile(random_shares, [0.5, 0.025, 0.975])

# %%
scores = {
    "DINOv2, cut": share(cut_hits),
    "DINOv2, padded": share(named(*pad(dino_test.cls, text)) == truth),
    "200 random matrices": tuple(luck),
    "pixels, cut": share(named(*cut(pixel_vectors, text)) == truth),
    "colour histogram, cut": share(named(*cut(colour_vectors, text)) == truth),
    "CLIP, both sides its own": share(clip_hits),
}
plotting.show(
    plotting.intervals(
        scores,
        level=(chance, "chance"),
        xlabel="share named rightly, 95 % interval (of the matrices: 95 % of them)",
        xlim=(0, 1),
        alt="Cut or padded, DINOv2 is at chance as pixels and random matrices are; CLIP is not",
    )
)

# %% [markdown]
# **The rule**, written before the number. The claim does not hold if the interval of the cut
# vectors does not clear the best of what knows nothing, and what one random matrix in forty exceeds
# by luck. It holds if the interval lies above half way from there to CLIP, the model made for the
# task: a classifier below half way can be told from chance, but is not one to use.


# %%
def verdict_on_repair(repaired, knows_nothing, clip):
    """Verdict on vectors that were made to fit, from intervals and two shares, 0 to 1."""
    half_way = (knows_nothing + clip) / 2
    clears = repaired.low > knows_nothing
    return decide(holds=clears and repaired.low > half_way, fails=not clears)


# %%
record("02.naive_top1", random_shares.mean())
record("02.cut_top1", cut_hits.mean())
record("02.clip_top1", clip_hits.mean())
record("02.clip_top1_portraits", clip_hits[portrait].mean())
record("02.clip_top1_wide", clip_hits[~portrait].mean())

knows_nothing = max(
    chance,
    luck[2],
    scores["pixels, cut"].value,
    scores["colour histogram, cut"].value,
)
verdict = verdict_on_repair(
    scores["DINOv2, cut"], knows_nothing, scores["CLIP, both sides its own"].value
)

# %%
claim(
    "02.zero_shot",
    "The cosine of DINOv2 image features and CLIP text features classifies without training, "
    "unknown classes too",
    how="top-1 over all class names, none of which it was trained on; cut or padded, against "
    "random matrices, pixels and colours that were cut as well",
    measured=f"shapes differ; cut or padded {scores['DINOv2, cut']}, the best that knows nothing "
    f"{knows_nothing:.3f}, chance {chance:.3f}, CLIP {clip_hits.mean():.3f}",
    verdict=verdict,
    cell="Does the article's cosine classify?",
)
conclude(
    scores["DINOv2, cut"].high < scores["CLIP, both sides its own"].low,
    f"The claim **{verdict}**. Cut to fit, DINOv2 names {scores['DINOv2, cut']:.1%}; what knows "
    f"nothing names up to {knows_nothing:.1%}, CLIP {scores['CLIP, both sides its own']:.1%}.",
)

# %% [markdown]
# ## What is a wording worth?
#
# CLIP has read captions, so a name is put into a template, and several templates are averaged
# ([Radford et al. 2021](https://arxiv.org/abs/2103.00020)). All wordings name the
# same pictures, so their differences are paired; six are looked at, so the intervals are
# made wider to hold together (Bonferroni).

# %%
PLACES = ("grass", "sand", "snow", "a road", "water", "a wooden floor", "a tiled floor", "a carpet")
on_places = []
for template in TEMPLATES["en"]:
    for place in PLACES:
        on_places.append(f"{template} on {place}")
WORDINGS = {
    "the five together": TEMPLATES["en"],
    '"dog"': ["{}"],
    '"a dog"': ["{a}"],
    '"a photo of a dog"': ["a photo of {a}"],
    '"a render of a dog"': ["a render of {a}"],
    '"there is a dog"': ["there is {a}"],
    "five, on eight surfaces": on_places,
}
wording_hits = {}
for name, templates in WORDINGS.items():
    zero_shot = ZeroShot(clip, NAMES, templates=templates)
    wording_hits[name] = zero_shot.predict(clip_test).hits(labels)
ensemble_hits = wording_hits["the five together"]

# %%
wording_shares = {name: share(hits) for name, hits in wording_hits.items()}
plotting.show(
    plotting.intervals(
        wording_shares,
        level=(chance, "chance"),
        xlabel="share named rightly by CLIP, 95 % interval",
        xlim=(0, 1),
        alt="Shares that CLIP names rightly with seven wordings; the intervals overlap",
    )
)

# %%
others = [name for name in WORDINGS if name != "the five together"]
told_apart = []
for name in others:
    differences = wording_hits[name].astype(float) - ensemble_hits
    gain = bootstrap(differences, confidence=1 - 0.05 / len(others), draws=10_000)
    print(f"{name:>24}: {wording_shares[name]:.1%}, less the five together {gain:+.1%}")
    if gain.low > 0 or gain.high < 0:
        told_apart.append(name)
record("02.clip_ensemble_top1", ensemble_hits.mean())
apart = f"Only {' and '.join(told_apart)} can" if told_apart else "No other wording can"
conclude(
    wording_shares["the five together"].low > chance,
    f"{apart} be told from the average of five by {len(test)} pictures. The average is used from "
    "here on, since it needs no choice.",
)

# %% [markdown]
# ## Are its probabilities true?
#
# Well calibrated means: of all answers given with a certain probability, that share is right. The
# *expected calibration error* is the mean gap between confidence and share right over ten bins
# ([Guo et al. 2017](https://arxiv.org/abs/1706.04599)). With few pictures it is above zero even for
# a perfect model, so a perfect model of the same confidences is drawn as well: that is its noise
# floor. The temperature is CLIP's own, one refitted on labelled training pictures, or none.

# %%
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax


def log_likelihoods(cosines, truth, temperature):
    """Logarithm of the probability of the true name for each picture, (n,)."""
    return log_softmax(cosines / temperature, axis=1)[np.arange(len(truth)), truth]


def fit_temperature(cosines, truth):
    """The temperature with the largest likelihood of the true names."""

    def loss(log_t):
        return -log_likelihoods(cosines, truth, np.exp(log_t)).mean()

    return float(np.exp(minimize_scalar(loss, bounds=(-6, 2), method="bounded").x))


# %%
def calibration_error(confidence, right, bins=10):
    """Mean gap between confidence (n,) and share right over bins, weighted by their pictures."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    hits = np.bincount(place, right, bins)
    total = np.bincount(place, confidence, bins)
    return float(np.abs(total - hits).sum() / len(right))


def noise_floor(confidence, draws=2000, seed=0):
    """Calibration errors of models that are right exactly as often as they say, (draws,)."""
    random = np.random.default_rng(seed)
    errors = []
    for _ in range(draws):
        right = random.random(len(confidence)) < confidence
        errors.append(calibration_error(confidence, right))
    return np.array(errors)


# %%
texts = name_vectors(clip, NAMES)  # (K, d), each the average of five templates
train_truth = np.array([NAMES.index(name) for name in train_labels])
train_cosines = clip_train.vectors[single] @ texts.T
test_cosines = clip_test.vectors @ texts.T

refitted = fit_temperature(train_cosines, train_truth[single])
temperatures = {"none": 1.0, "own": clip.temperature, "refitted": refitted}
errors = {}
floors = {}
for name, temperature in temperatures.items():
    confidence = softmax(test_cosines / temperature, axis=1).max(axis=1)
    errors[name] = calibration_error(confidence, ensemble_hits)
    floors[name] = noise_floor(confidence)
    print(
        f"{name:>10}: temperature {temperature:.3f}, calibration error {errors[name]:.3f}; "
        f"a perfect model shows {floors[name].mean():.3f}, "
        f"up to {np.quantile(floors[name], 1 - RARE):.3f}"
    )

# %%
confidence = softmax(test_cosines / clip.temperature, axis=1).max(axis=1)
order = np.argsort(confidence)
middle = []
measured = []
for group in np.array_split(order, 8):  # eight groups of equal size, from unsure to sure
    middle.append(confidence[group].mean())
    measured.append(share(ensemble_hits[group]))
figure = plotting.curves(
    middle,
    {
        "CLIP, its own\ntemperature": tuple(np.transpose(measured)),
        "perfect": (middle, middle, middle),
    },
    xlabel="mean confidence of a group of pictures",
    ylabel="share that is right, 95 % interval",
    ylim=(0, 1.05),
    alt="Share of right answers against confidence in eight groups, beside a perfect model's",
)
plotting.show(figure)

# %%
own = log_likelihoods(test_cosines, truth, clip.temperature)
new = log_likelihoods(test_cosines, truth, refitted)
for name, rows in {"usual colours": usual, "colours never seen": ~usual}.items():
    gain = bootstrap(new[rows] - own[rows])
    print(f"log-likelihood gained by refitting, {name}: {gain:+.3f} nats a picture")

above = {name: errors[name] > np.quantile(floors[name], 1 - RARE) for name in errors}
words = {True: "more than", False: "no more than"}
record("02.ece_own", errors["own"])
record("02.ece_refitted", errors["refitted"])
record("02.ece_floor_own", floors["own"].mean())
conclude(
    above["none"],
    "Without a temperature, as the article has it, the softmax of cosines is no probability, even "
    f"with the right model: its error is {errors['none']:.2f}. At CLIP's own temperature the error "
    f"of {errors['own']:.3f} is "
    f"{words[above['own']]} a perfect model may "
    f"show on {len(test)} pictures, at the refitted one {errors['refitted']:.3f} is "
    f"{words[above['refitted']]} that.",
)

# %% [markdown]
# ## Can it say "none of these"?
#
# A softmax must choose. To answer "none of these" it needs a threshold, put where one in twenty
# pictures of *known* classes from the training split would be lost (`ZeroShot.calibrate` does it).
# Which score should it be put on: the largest cosine, or the largest probability? Four classes play
# the unknown ones, in twenty draws.


# %%
def none_of_these(seed, asked=0.05):
    """One draw of four unknown classes: them, oddness (n,) by score, and share of known lost."""
    random = np.random.default_rng(seed)
    left_out = random.choice(len(NAMES), 4, replace=False)
    known = np.setdiff1d(np.arange(len(NAMES)), left_out)
    rows = single & np.isin(train_truth, known)

    zero_shot = ZeroShot(clip, [NAMES[k] for k in known])
    of_train = zero_shot.predict(as_embeddings(clip_train.vectors[rows]))
    of_test = zero_shot.predict(clip_test)
    odd_train = {
        "largest cosine": -of_train.familiarity,
        "largest probability": -of_train.probabilities.max(axis=1),
    }
    odd_test = {
        "largest cosine": -of_test.familiarity,
        "largest probability": -of_test.probabilities.max(axis=1),
    }
    is_known = np.isin(truth, known)
    lost = {}
    for score, odd in odd_test.items():
        line = threshold(odd_train[score], asked).value
        lost[score] = (odd[is_known] > line).mean()
    return left_out, odd_test, lost


# %%
from sklearn.metrics import roc_curve

draws = [none_of_these(seed) for seed in range(20)]
rates = np.linspace(0, 1, 21)  # of known pictures that are lost
rocs = {"largest cosine": [], "largest probability": []}
areas = {"largest cosine": [], "largest probability": []}
unknown_class = []
for left_out, odd, _ in draws:
    is_unknown = np.isin(truth, left_out)
    for score in rocs:
        false_rate, true_rate, _ = roc_curve(is_unknown, odd[score])
        rocs[score].append(np.interp(rates, false_rate, true_rate))
    for one in left_out:  # each unknown class against all known ones
        rows = ~is_unknown | (truth == one)
        unknown_class.append(one)
        for score in areas:
            areas[score].append(auroc(odd[score][rows], truth[rows] == one))

# %%
series = {score: np.array(lines) for score, lines in rocs.items()}
series["guessing"] = (rates, rates, rates)
plotting.show(
    plotting.curves(
        rates,
        series,
        xlabel="share of known pictures called none of these",
        ylabel="share of unknown pictures found",
        alt="ROC curves of two scores over twenty draws, with the diagonal of guessing",
    )
)

# %% [markdown]
# Draws share classes, so the interval is over the sixteen classes that play the unknown one.

# %%
area = {}
for score, values in areas.items():
    area[score] = bootstrap(values, clusters=unknown_class)
    lost = np.mean([one[2][score] for one in draws])
    key = score.split()[-1]
    record(f"02.none_auroc_{key}", area[score].value)
    record(f"02.none_false_alarms_{key}", lost)
    print(f"{score:>20}: AUROC {area[score]}; {lost:.1%} of the known lost, 5.0% were asked")
gap = bootstrap(
    np.array(areas["largest cosine"]) - np.array(areas["largest probability"]),
    clusters=unknown_class,
)
if gap.low > 0:
    better = "Use the cosine, not the probability: it"
elif gap.high < 0:
    better = "Use the probability, not the cosine, which"
else:
    better = "Neither score can be told from the other; the cosine"
conclude(
    max(area["largest cosine"].low, area["largest probability"].low) > 0.5,
    f"{better} has an AUROC of {area['largest cosine']:.2f} where the probability has "
    f"{area['largest probability']:.2f}; the difference, paired, is {gap:+.2f}.",
)

# %% [markdown]
# ## Does a bridge name what DINOv2 sees?
#
# The bridge is ridge regression ([Hoerl & Kennard 1970](https://doi.org/10.1080/00401706.1970.10488634))
# from DINOv2's vectors to CLIP's of the same unlabelled pictures; a linear map between two models
# for this purpose is due to [Moayeri et al. 2023](https://arxiv.org/abs/2305.06386). Nothing is
# chosen by labels: embedding and penalty are those for which pictures that were held out get the
# profile over the names that CLIP itself gives them.

# %%
POOLINGS = {"cls": "CLS token", "mean": "mean patch", "both": "both side by side"}
bridges = {}
for pooling in POOLINGS:
    bridge = Bridge(dinov2, clip, names=NAMES, pooling=pooling)
    bridges[pooling] = bridge.fit(dino_train, clip_train)

curves_of = {}
for pooling, label in POOLINGS.items():
    lost = np.array(list(bridges[pooling].held_out_.values()))
    curves_of[label] = (lost, lost, lost)
chosen = min(POOLINGS, key=lambda pooling: min(bridges[pooling].held_out_.values()))
bridge = bridges[chosen]
strengths = list(bridge.held_out_)

# %%
plotting.show(
    plotting.curves(
        strengths,
        curves_of,
        xscale="log",
        xlabel="penalty, as a multiple of the features' mean variance",
        ylabel="divergence from CLIP's profile,\nheld-out pictures, nats",
        title="What is chosen by: the lowest point of all",
        alt="Held-out divergence against penalty for three embeddings, each with a valley",
    )
)

# %% [markdown]
# Each row of the next table changes one thing of the bridge that was chosen. The last allows only a
# rotation and one scale: DINOv2's vectors are brought to CLIP's length by principal components, for
# between spaces of one dimension orthogonal Procrustes
# ([Schönemann 1966](https://doi.org/10.1007/BF02289451)) is the least-squares rotation.

# %%
from scipy.linalg import orthogonal_procrustes
from sklearn.decomposition import PCA

x_train = dino_train.pooled(chosen)  # (n, D)
x_test = dino_test.pooled(chosen)
y_train = clip_train.vectors  # (n, d)


def rotated(x, y, new):
    """Vectors new (m, D) turned into y's space (n, d), or as much of it as x (n, D) can fill."""
    pca = PCA(min(*x.shape, y.shape[1])).fit(x)
    turned = pca.transform(x)  # (n, k), k <= d
    missing = y.shape[1] - turned.shape[1]
    turned = np.pad(turned, ((0, 0), (0, missing)))
    mean = y.mean(axis=0)
    rotation, total = orthogonal_procrustes(turned, y - mean)
    scale = total / (turned**2).sum()
    return np.pad(pca.transform(new), ((0, 0), (0, missing))) @ rotation * scale + mean


# %%
by_cosine = Bridge(dinov2, clip, pooling=chosen).fit(dino_train, clip_train)
unscaled = Bridge(dinov2, clip, names=NAMES, pooling=chosen, scaling="none")
unscaled.fit(dino_train, clip_train)

variants = {"the bridge": bridge}
for pooling, label in POOLINGS.items():
    if pooling != chosen:
        variants[f"{label} instead"] = bridges[pooling]
variants["features not standardised"] = unscaled
variants["penalty by the cosine to CLIP's vectors"] = by_cosine

bridge_rows = {}
for name, one in variants.items():
    bridge_rows[name] = ZeroShot(one, NAMES).predict(dino_test).hits(labels)
bridge_rows["a rotation instead of a matrix"] = (
    named(rotated(x_train, y_train, x_test), texts) == truth
)
bridge_rows["CLIP itself"] = ensemble_hits
bridge_hits = bridge_rows["the bridge"]

# %%
bridge_shares = {name: share(hits) for name, hits in bridge_rows.items()}
plotting.show(
    plotting.intervals(
        bridge_shares,
        level=(chance, "chance"),
        xlabel="share named rightly, 95 % interval",
        xlim=(0, 1),
        alt="Shares named rightly by the bridge, its variants and CLIP itself, with intervals",
    )
)

# %%
for name, hits in bridge_rows.items():
    gain = bootstrap(hits.astype(float) - bridge_hits)
    strength = f"penalty {variants[name].strength_:.2g}" if name in variants else ""
    print(
        f"{name:>40}: {bridge_shares[name]:.1%}, less the bridge {gain:+.1%}; portraits "
        f"{hits[portrait].mean():.1%}, wide {hits[~portrait].mean():.1%} {strength}"
    )
record("02.bridge_top1", bridge_hits.mean())
record("02.bridge_top1_portraits", bridge_hits[portrait].mean())
rotation = bridge_rows["a rotation instead of a matrix"].astype(float)
conclude(
    bootstrap(rotation - bridge_hits).high < 0,
    f"Chosen without a label: {POOLINGS[chosen]}, penalty {bridge.strength_:.2g}. "
    f"{versus('The bridge', 'CLIP itself', bridge_hits, ensemble_hits)}. A rotation names fewer: "
    "the two spaces differ by more than a turn.",
)

# %% [markdown]
# ## Do the controls fall to chance?
#
# Each picture is given the CLIP vector of *another* one; or the fitted matrix is replaced by a
# random one of the same size that keeps the means in place. Twenty draws each.


# %%
def fitted_and_crossed(x, y):
    """Test pictures (n, d) by the ridge regression of a bridge on pairs x (m, D), y (m, d)."""
    regression = Ridge(x.astype(float), y.astype(float), bridge.scaling)
    matrix, offset = regression.solve(bridge.strength_)
    return x_test @ matrix + offset


controls = {"shuffled pairs": [], "random matrix": []}
deviation = bridge.matrix_.std()
for seed in range(20):
    random = np.random.default_rng(seed)
    crossed = fitted_and_crossed(x_train, y_train[random.permutation(len(y_train))])
    controls["shuffled pairs"].append((named(crossed, texts) == truth).mean())

    matrix = random.normal(size=bridge.matrix_.shape) * deviation
    crossed = (x_test - x_train.mean(axis=0)) @ matrix + y_train.mean(axis=0)
    controls["random matrix"].append((named(crossed, texts) == truth).mean())

# %%
luckiest = 0.0
for name, shares_of in controls.items():
    middle = bootstrap(shares_of)
    luckiest = max(luckiest, *shares_of)
    record(f"02.control_{name.replace(' ', '_')}", middle.value)
    print(f"{name}: {middle:.1%} on average over draws, the luckiest {max(shares_of):.1%}")
conclude(
    luckiest < bridge_shares["the bridge"].low,
    f"Neither control names more than {luckiest:.1%} in any draw, where the bridge names "
    f"{bridge_shares['the bridge']:.1%}: it is the pairs that do it.",
)

# %% [markdown]
# ## How many unlabelled pictures does it need?
#
# Ten draws for each number of pictures, at the penalty that was chosen for all of them. The bands
# tell how draws differ; the test pictures are the same throughout.

# %%
counts = [16, 32, 64, 128, len(train) // 2, len(train)]
grown = np.zeros((10, len(counts), len(truth)))  # draws, numbers of pictures, test pictures
for draw in range(10):
    order = np.random.default_rng(draw).permutation(len(train))
    for column, n in enumerate(counts):
        crossed = fitted_and_crossed(x_train[order[:n]], y_train[order[:n]])
        grown[draw, column] = named(crossed, texts) == truth


# %%
def learning_curves(counts, hits, *, level, counted, alt):
    """Draw shares named rightly over a number of pictures, by name, from hits (draws, X, n)."""
    figure = plotting.curves(
        counts,
        {name: values.mean(axis=2) for name, values in hits.items()},  # (draws, X) each
        level=level,
        xscale="log",
        xticks=counts,
        xticklabels=counts,
        xlabel=f"{counted} (ten draws, 10th to 90th percentile)",
        ylabel="share named rightly",
        ylim=(0, 1),
        alt=alt,
    )
    figure.axes[0].axhline(chance, color="black", ls=":", lw=1.5)
    figure.axes[0].text(counts[0], chance + 0.02, "chance")
    figure.axes[0].minorticks_off()
    plotting.show(figure)


learning_curves(
    counts,
    {"the bridge": grown},
    level=(ensemble_hits.mean(), "CLIP itself"),
    counted="unlabelled pictures",
    alt="Share that the bridge names rightly against the number of pictures, beside CLIP itself",
)


# %%
def over_draws(hits, others):
    """How much more hits (draws, n) are right than others, of the same pictures; over pictures."""
    return bootstrap((hits.astype(float) - others).mean(axis=0))


ahead = []  # numbers of pictures with which it is ahead of CLIP
for column, n in enumerate(counts):
    gain = over_draws(grown[:, column], ensemble_hits)
    print(f"{n:>3} pictures: the bridge less CLIP {gain:+.1%}")
    if gain.low > 0:
        ahead.append(n)

# %%
by_count = grown.mean(axis=(0, 2))
all_gain = over_draws(grown[:, -1], grown[:, 0])
last = over_draws(grown[:, -1], grown[:, -2])
still = "still gains" if last.low > 0 else "gains nothing that could be told from none:"
until = f"From {ahead[0]} pictures on it is ahead of CLIP." if ahead else ""
conclude(
    all_gain.low > 0,
    f"The number matters: {by_count[0]:.1%} with {counts[0]} pictures, {by_count[-1]:.1%} with "
    f"{counts[-1]}. {until} The last doubling {still} {last:+.1%}.",
)

# %% [markdown]
# ## Does it name classes that it never saw?
#
# Perhaps it memorised sixteen places. So fit it, and choose its penalty, on pictures that show none
# of eight classes, with the names of the other eight; then ask for those eight. Ten random halves;
# CLIP itself, which was trained on all classes, is the upper reference, shuffled pairs the lower.
# Intervals are over classes.

# %%
FEW_STRENGTHS = [0.1, 1.0, 10.0]
shown = []  # the classes in each training picture
for row in train.table:
    shown.append({one["class"] for one in row["objects"]})


# %%
def unseen_classes(seed, vectors_of, shuffle=False):
    """Hits on classes left out of the fit, all names to choose from and only theirs; their rows."""
    random = np.random.default_rng(seed)
    out = np.sort(random.permutation(len(NAMES))[: len(NAMES) // 2])
    out_names = {NAMES[k] for k in out}
    rows = np.array([not classes & out_names for classes in shown])
    x, y = vectors_of[0][rows], y_train[rows]
    if shuffle:
        y = y[random.permutation(len(y))]
    seen_names = [name for name in NAMES if name not in out_names]
    small = Bridge(dinov2, clip, names=seen_names, strengths=FEW_STRENGTHS, folds=3)
    small.fit(as_embeddings(x), as_embeddings(y))

    asked = np.isin(truth, out)
    crossed = small.transform(as_embeddings(vectors_of[1][asked]))
    among_all = named(crossed, texts) == truth[asked]
    among_them = out[named(crossed, texts[out])] == truth[asked]
    clips = out[named(clip_test.vectors[asked], texts[out])] == truth[asked]
    return among_all, among_them, clips, truth[asked]


def over_halves(vectors_of, shuffle=False):
    """The same for ten halves, one after another."""
    halves = [unseen_classes(seed, vectors_of, shuffle) for seed in range(10)]
    return [np.concatenate(parts) for parts in zip(*halves, strict=True)]


# %%
unseen = {}
for pooling, label in POOLINGS.items():
    unseen[label] = over_halves((dino_train.pooled(pooling), dino_test.pooled(pooling)))
unseen["shuffled pairs"] = over_halves((x_train, x_test), shuffle=True)
asked_class = unseen["shuffled pairs"][3]

among_them = {name: bootstrap(rows[1], clusters=asked_class) for name, rows in unseen.items()}
clips_names = unseen["shuffled pairs"][2]
among_them["CLIP itself"] = bootstrap(clips_names, clusters=asked_class)
half_chance = 2 * chance
plotting.show(
    plotting.intervals(
        among_them,
        level=(half_chance, "chance"),
        xlabel="share named rightly among the eight names left out, 95 % interval over classes",
        xlim=(0, 1),
        alt="Bridges on classes that they never saw, between shuffled pairs and CLIP itself",
    )
)

# %%
for name, rows in unseen.items():
    among_all = bootstrap(rows[0], clusters=asked_class)
    print(f"{name:>18}: {among_all:.1%} among all names, {among_them[name]:.1%} among the eight")

# %%
best_unseen = max(POOLINGS.values(), key=lambda label: among_them[label].value)
ours = among_them[POOLINGS[chosen]]
record("02.bridge_new_classes_among_them", ours.value)
record("02.clip_new_classes_among_them", among_them["CLIP itself"].value)
difference = bootstrap(
    unseen[best_unseen][1].astype(float) - unseen[POOLINGS[chosen]][1], clusters=asked_class
)
if best_unseen == POOLINGS[chosen]:
    trade = "No other embedding does better."
elif difference.low > 0:
    trade = f"For names to come take the {best_unseen}: {among_them[best_unseen]:.1%}."
else:
    trade = f"The {best_unseen} has {among_them[best_unseen]:.1%}, too near to be told apart."
carried = bootstrap(
    unseen[POOLINGS[chosen]][1].astype(float) - unseen["shuffled pairs"][1], clusters=asked_class
)
conclude(
    ours.low > half_chance and carried.low > 0,
    f"Something is carried over that is no list of places, {ours:.1%}; CLIP's own is "
    f"{among_them['CLIP itself']:.1%}. {trade} A bridge for everything needs pictures of "
    "everything.",
)

# %% [markdown]
# ## How many labels do as well?
#
# If a few pictures of each class are labelled, plain heads need no words. Three have the features
# that cross the bridge; the fourth has the CLS token alone. Ten draws; a head is ahead where its
# paired difference from the bridge, over pictures, is above zero.

# %%
HEADS = {  # head and embedding
    "nearest class mean": ("mean", chosen),
    "nearest neighbours": ("knn", chosen),
    "logistic regression": ("logistic", chosen),
    "nearest mean, CLS alone": ("mean", "cls"),
}
SHOTS = [1, 2, 4, 8, 16]


def few_shot(head, pooling, shots, seed):
    """Hits (n,) of a head that is fitted on some labelled training pictures of each class."""
    random = np.random.default_rng(seed)
    rows = []
    for name in NAMES:
        of_class = np.flatnonzero(single & (train_labels == name))
        rows.extend(random.choice(of_class, shots, replace=False))
    few = FewShot(dinov2, head)
    few.fit(as_embeddings(dino_train.pooled(pooling)[rows]), train_labels[rows])
    return few.predict(as_embeddings(dino_test.pooled(pooling))).hits(labels)


few_hits = np.zeros((len(HEADS), 10, len(SHOTS), len(truth)))
for number, (head, pooling) in enumerate(HEADS.values()):
    for draw in range(10):
        for column, shots in enumerate(SHOTS):
            few_hits[number, draw, column] = few_shot(head, pooling, shots, draw)

# %%
learning_curves(
    SHOTS,
    dict(zip(HEADS, few_hits, strict=True)),
    level=(bridge_hits.mean(), "bridge, no labels"),
    counted="labelled pictures of each class",
    alt="Heads on DINOv2 against labels of each class; the bridge without labels as a line",
)

# %%
needed = {}
for number, label in enumerate(HEADS):
    for column, shots in enumerate(SHOTS):
        gain = over_draws(few_hits[number, :, column], bridge_hits)
        print(f"{label:>24}, {shots:>2} labels: less the bridge {gain:+.1%}")
        if gain.low > 0 and label not in needed:
            needed[label] = shots
by_head = few_hits.mean(axis=(1, 3))  # (heads, shots)
record("02.few_shot_mean_1", by_head[0, 0])
record("02.few_shot_mean_16", by_head[0, -1])
listed = ", ".join(f"{label} {shots}" for label, shots in needed.items())
by_labels = over_draws(few_hits[0, :, -1], few_hits[0, :, 0])
conclude(
    by_labels.low > 0,
    f"Labels of each class from which a head is ahead of the bridge: {listed or 'none here'}. With "
    f"one label the nearest mean names {by_head[0, 0]:.1%}, with sixteen {by_head[0, -1]:.1%}.",
)

# %% [markdown]
# ## Are words made for DINOv2 better than borrowed ones?
#
# Locked-image tuning ([Zhai et al. 2022](https://arxiv.org/abs/2111.07991)) trains a text encoder
# on features that stay as they are; for DINOv2 that is dino.txt
# ([Jose et al. 2025](https://arxiv.org/abs/2412.16334)). The embedded tower reads English and
# Chinese. It had captions of this toy world to learn from, where the bridge had none: it is the
# bridge's upper reference, not its rival.

# %%
CHINESE = [
    *("狗", "猫", "小汽车", "卡车", "飞机", "船", "火箭", "房子"),
    *("树", "蘑菇", "雪人", "马克杯", "椅子", "台灯", "鸭子", "鱼"),
]
tower = load_clip("lit-tiny")
tower_test = tower.embed_images(test)
english_hits = ZeroShot(tower, NAMES).predict(tower_test).hits(labels)
chinese_labels = [CHINESE[number] for number in truth]
chinese_hits = ZeroShot(tower, CHINESE).predict(tower_test).hits(chinese_labels)
clip_chinese_hits = ZeroShot(clip, CHINESE).predict(clip_test).hits(chinese_labels)

# %%
tower_shares = {
    "tower, English names": share(english_hits),
    "tower, Chinese names": share(chinese_hits),
    "bridge, English names": share(bridge_hits),
    "CLIP, English names": share(ensemble_hits),
    "CLIP, Chinese names": share(clip_chinese_hits),
}
plotting.show(
    plotting.intervals(
        tower_shares,
        level=(chance, "chance"),
        xlabel="share named rightly, 95 % interval",
        xlim=(0, 1),
        alt="Text tower in two languages, bridge, and CLIP in two languages, with intervals",
    )
)

# %%
record("02.tower_top1", english_hits.mean())
record("02.tower_chinese_top1", chinese_hits.mean())
conclude(
    tower_shares["tower, Chinese names"].low > tower_shares["CLIP, Chinese names"].high,
    f"{versus('The tower', 'the bridge', english_hits, bridge_hits)}. "
    f"{versus('Asked in Chinese it', 'itself in English', chinese_hits, english_hits)}. A CLIP "
    f"that read no Chinese names {tower_shares['CLIP, Chinese names']:.1%} in it.",
)

# %% [markdown]
# ## What do colours do that a class never had?
#
# Some colours were kept from some classes in all training, of all models here. Is it the colour
# that throws a model off, or are these toys hard? The same pictures without colour tell: there no
# toy wears an unusual one. (Whether the training of a model was steered by a look at these test
# pictures, as pictures without colour once were, is said in the notes that lie beside its weights,
# [CLIP's](../../data/models/clip-tiny/run_notes.md) for instance.)

# %%
grey = [picture.convert("L").convert("RGB") for picture in pictures]
dino_grey = extract_features(dinov2, grey)
knn = KnnClassifier(dinov2).fit(as_embeddings(dino_train.cls[single]), train_labels[single])

coloured_hits = {
    "CLIP": ensemble_hits,
    "bridge": bridge_hits,
    "tower": english_hits,
    "neighbours, with labels": knn.predict(as_embeddings(dino_test.cls)).hits(labels),
}
grey_hits = {
    "CLIP": ZeroShot(clip, NAMES).predict(clip.embed_images(grey)).hits(labels),
    "bridge": ZeroShot(bridge, NAMES).predict(dino_grey).hits(labels),
    "tower": ZeroShot(tower, NAMES).predict(tower.embed_images(grey)).hits(labels),
    "neighbours, with labels": knn.predict(as_embeddings(dino_grey.cls)).hits(labels),
}

# %%
by_colour = []
for name, hits in coloured_hits.items():
    in_grey = grey_hits[name]
    columns = [hits[usual], hits[~usual], in_grey[usual], in_grey[~usual]]
    by_colour.append([column.mean() for column in columns])
plotting.show(
    plotting.heatmap(
        by_colour,
        list(coloured_hits),
        [
            f"usual colour ({usual.sum()})",
            f"never seen ({(~usual).sum()})",
            "usual, in grey",
            "never seen, in grey",
        ],
        limits=(0, 1),
        alt="Share named rightly in usual colours and in colours never seen, coloured and in grey",
    )
)


# %%
def drop(hits):
    """How much less is named rightly in colours never seen, with its interval over pictures."""

    def of(rows):
        return hits[rows][usual[rows]].mean() - hits[rows][~usual[rows]].mean()

    return bootstrap_of(of, len(hits))


thrown_off = []
for name, hits in coloured_hits.items():
    regained = bootstrap(grey_hits[name][~usual].astype(float) - hits[~usual])
    print(
        f"{name:>24}: falls by {drop(hits):.1%} in colours never seen; in grey the same toys by "
        f"{drop(grey_hits[name]):.1%}; their grey pictures regain {regained:+.1%}"
    )
    if drop(hits).low > 0:
        thrown_off.append(name)

# %%
mistakes = ~bridge_hits
in_grey = drop(grey_hits["bridge"])
if in_grey.high < drop(bridge_hits).low:
    blame = "It is the colour, not the toy: in grey"
else:
    blame = "Colour and toy cannot be told apart: in grey"
record("02.clip_unseen_colour", ensemble_hits[~usual].mean())
record("02.bridge_unseen_colour", bridge_hits[~usual].mean())
record("02.tower_unseen_colour", english_hits[~usual].mean())
conclude(
    "bridge" in thrown_off,
    f"These name fewer toys in colours never seen: {'; '.join(thrown_off)}. Of the bridge's "
    f"mistakes {(~usual)[mistakes].mean():.0%} wear such a colour, of all test toys "
    f"{(~usual).mean():.0%}. {blame} the bridge falls by {in_grey:.0%} on the same toys, in colour "
    f"by {drop(bridge_hits):.0%}.",
)

# %% [markdown]
# ## Does CLIP compose a colour and a class?
#
# Ask for "a blue dog" among all colours of all classes. A model that composes finds a pair that it
# never saw as often as one that it knows. One that only remembers finds none. One that reads the
# colour and guesses the class is between: that is the bar.

# %%
from dinov2_helpers.techniques.words import with_article

COLOURS = sorted(set(test.labels("colour")) | set(train.select(n_objects=1).labels("colour")))


def pair_name(colour, name):
    """A toy with its colour; a snowman's is its scarf's."""
    if name == "snowman":
        return f"a snowman with {with_article(colour)} scarf"
    return with_article(f"{colour} {name}")


pairs = [(colour, name) for colour in COLOURS for name in NAMES]
known_pairs = set()
for row in train.table:
    for one in row["objects"]:
        known_pairs.add((one["colour"], one["class"]))
pair_texts = clip.embed_texts([f"a photo of {pair_name(*pair)}" for pair in pairs])
wanted = np.stack([test.labels("colour"), labels], axis=1)  # (n, 2)


# %%
def verdict_on_composing(never_seen, guessed, less_than_usual):
    """Does it compose? Intervals on pairs never seen, and on usual pairs less those; a share."""
    clears = never_seen.low > guessed
    return decide(holds=clears and less_than_usual.low <= 0, fails=not clears)


# %%
SAID = {
    "holds": "composes",
    "holds in part": "composes in part",
    "does not hold": "does not compose",
}
rows = []
sentences = []
usual_pairs = []
for name, vectors in {"CLIP": clip_test.vectors, "bridge": bridge.transform(dino_test)}.items():
    answers = np.array(pairs)[named(vectors, pair_texts)]  # (n, 2)
    right = answers == wanted
    both = right.all(axis=1)
    remembered = np.array([tuple(answer) in known_pairs for answer in answers])
    never_seen = share(both[~usual])
    usual_pairs.append(share(both[usual]))
    guessed = right[~usual, 0].mean() * chance
    outcome = verdict_on_composing(never_seen, guessed, drop(both))
    for kind in (usual, ~usual):
        rows.append([both[kind].mean(), *right[kind].mean(axis=0), remembered[kind].mean()])
    key = name.lower()
    record(f"02.{key}_pair_usual", both[usual].mean())
    record(f"02.{key}_pair_never_seen", both[~usual].mean())
    sentences.append(
        f"{name} {SAID[outcome]}: pairs never seen {never_seen:.1%}, colour read and class guessed "
        f"{guessed:.1%}, usual pairs {usual_pairs[-1]:.1%}"
    )

# %%
plotting.show(
    plotting.heatmap(
        rows,
        ["CLIP, usual", "CLIP, never seen", "bridge, usual", "bridge, never seen"],
        ["pair right", "colour right", "class right", "said a known pair"],
        limits=(0, 1),
        alt="Pairs of colour and class: right, in part right, and whether a known pair was said",
    )
)
conclude(
    min(one.low for one in usual_pairs) > 1 / len(pairs),
    ". ".join(sentences)
    + f". Of the pairs never seen CLIP takes {rows[1][3]:.0%} for one that training shows.",
)

# %% [markdown]
# ## What is mistaken for what?

# %%
guess = named(bridge.transform(dino_test), texts)
confusion = np.zeros((len(NAMES), len(NAMES)))
np.add.at(confusion, (truth, guess), 1)
plotting.show(
    plotting.heatmap(
        np.where(confusion > 0, confusion, np.nan),
        NAMES,
        NAMES,
        number=".0f",
        ylabel="true class",
        xlabel="named by the bridge, number of pictures",
        alt="Confusion matrix of the bridge in counts: mostly the diagonal",
    )
)

# %%
from scipy.stats import chi2_contingency

by_class = {}
for number, name in enumerate(NAMES):
    by_class[name] = share(bridge_hits[truth == number])
right = np.bincount(truth, bridge_hits)
p = chi2_contingency([right, np.bincount(truth) - right]).pvalue
differ = "differ by more than their few pictures explain" if p < RARE else "cannot be told apart"
ranked = sorted(NAMES, key=lambda name: by_class[name].value)
conclude(
    bridge_shares["the bridge"].low > chance,
    f"The classes {differ} (chi-squared test, p = {p:.1g}), from {ranked[0]}, "
    f"{by_class[ranked[0]]:.0%}, to {ranked[-1]}, {by_class[ranked[-1]]:.0%}.",
)

# %% [markdown]
# ## Why not a bridge for the words?
#
# The other way round, from CLIP's space to DINOv2's, texts could be sent over once and compared
# with pictures. The map is fitted on pictures; texts lie elsewhere in CLIP's space, the *modality
# gap* ([Liang et al. 2022](https://arxiv.org/abs/2203.02053)). What does the penalty do, and would
# held-out pictures choose it rightly?

# %%
GAP_STRENGTHS = 10.0 ** np.arange(-8, 3)
middle = x_train.mean(axis=0)
pictures_about = x_test - middle
fold = np.arange(len(x_train)) % 5


def explained(strength):
    """Share of the variance of held-out pictures' DINOv2 vectors that the map explains."""
    left = 0.0
    for part in range(5):
        out = fold == part
        fitted = Ridge(y_train[~out].astype(float), x_train[~out].astype(float), "none")
        matrix, offset = fitted.solve(strength)
        left += ((y_train[out] @ matrix + offset - x_train[out]) ** 2).sum()
    return 1 - left / ((x_train - middle) ** 2).sum()


# %%
to_dinov2 = Ridge(y_train.astype(float), x_train.astype(float), "none")
fetched_hits = []
lengths = []
for strength in GAP_STRENGTHS:
    matrix, offset = to_dinov2.solve(strength)
    fetched = texts @ matrix + offset - middle  # (K, D)
    fetched_hits.append(named(pictures_about, fetched) == truth)
    ratio = np.linalg.norm(fetched, axis=1).mean() / np.linalg.norm(pictures_about, axis=1).mean()
    lengths.append(ratio)
fetched_shares = [share(hits) for hits in fetched_hits]
held_out = np.array([explained(strength) for strength in GAP_STRENGTHS])

# %%
plotting.show(
    plotting.curves(
        GAP_STRENGTHS,
        {
            "pictures named by texts\nthat were sent over": tuple(np.transpose(fetched_shares)),
            "held-out pictures:\nvariance explained": (held_out, held_out, held_out),
        },
        level=(chance, "chance"),
        xscale="log",
        ylim=(0, 1),
        xlabel="penalty, as a multiple of the vectors' mean variance",
        ylabel="share, 95 % interval",
        alt="Texts sent to DINOv2 name at chance without a penalty, and more the larger it is",
    )
)

# %%
halves = np.linalg.norm(y_train[::2].mean(axis=0) - y_train[1::2].mean(axis=0))
gap_length = np.linalg.norm(y_train.mean(axis=0) - texts.mean(axis=0))
by_pictures = int(held_out.argmax())
by_texts = int(np.mean(fetched_hits, axis=1).argmax())
best = fetched_shares[by_texts]
foregone = bootstrap(fetched_hits[by_texts].astype(float) - fetched_hits[by_pictures])
print(f"middle of the texts to that of the pictures {gap_length:.2f}; of their halves {halves:.2f}")
print(f"length of a text sent over, in pictures' lengths: {lengths[0]:.1f} to {lengths[-1]:.2f}")
conclude(
    fetched_shares[0].low <= chance and fetched_shares[0].high < best.low and foregone.low > 0,
    f"With next to no penalty the texts name {fetched_shares[0]:.1%}, which is chance, and land "
    f"{lengths[0]:.0f} times as far out as pictures do. The penalty that is best for held-out "
    f"pictures gives {fetched_shares[by_pictures]:.1%}, the best of all {best:.1%}: pictures "
    "cannot choose it, since they do not lie where texts do. The bridge, from pictures to texts, "
    f"has no such trouble: {bridge_shares['the bridge']:.1%}.",
)

# %% [markdown]
# Numbers that others published for the real weights stand in
# [docs/models.md](../../docs/models.md). Back to [lesson 2](../02_zero_shot_classification.ipynb).
