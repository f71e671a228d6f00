"""Bridge, names and few labels: as the lesson writes them, kept in folders, honest about doubt."""

import dataclasses

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as SklearnRidge

from dinov2_helpers import extract_features, load_clip, load_dinov2, load_scenes
from dinov2_helpers.extraction import Embeddings
from dinov2_helpers.measure import auroc
from dinov2_helpers.techniques import Bridge, FewShot, KeptError, ZeroShot
from dinov2_helpers.techniques.bridge import STRENGTHS, Ridge, divergence
from dinov2_helpers.techniques.inputs import NotFittedError
from dinov2_helpers.techniques.promise import conformal_promise
from dinov2_helpers.techniques.vectors import Vectors
from dinov2_helpers.techniques.words import TEMPLATES, name_vectors, prompts, with_article

NAMES = ["dog", "cat", "house"]
CHINESE = ["狗", "猫", "房子"]


@pytest.fixture(scope="module")
def dinov2():
    return load_dinov2("tiny")


@pytest.fixture(scope="module")
def clip():
    return load_clip("tiny")


@pytest.fixture(scope="module")
def toys():
    return load_scenes("train", framing="portrait", class_=NAMES)


@pytest.fixture(scope="module")
def features(dinov2, toys):
    return extract_features(dinov2, toys)


@pytest.fixture(scope="module")
def embeddings(clip, toys):
    return clip.embed_images(toys)


@pytest.fixture(scope="module")
def bridge(dinov2, clip, features, embeddings):
    return Bridge(dinov2, clip, names=NAMES).fit(features, embeddings)


def vectors(x):
    return Vectors(x, np.arange(len(x)), tuple(f"image {i}" for i in range(len(x))))


def embedded(x):
    return Embeddings(x, np.arange(len(x)), tuple(f"image {i}" for i in range(len(x))), ())


def pairs(n=60):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 7)) * rng.uniform(0.5, 3, 7) + 2
    return x, x @ rng.normal(size=(7, 4)) + rng.normal(size=4) + 0.3 * rng.normal(size=(n, 4))


# The bridge


@pytest.mark.parametrize("strength", [1e-4, 0.1, 10.0])
def test_the_map_is_sklearns(strength):
    x, y = pairs()
    matrix, offset = Ridge(x, y, "none").solve(strength)
    alpha = strength * ((x - x.mean(0)) ** 2).sum() / x.shape[1]
    reference = SklearnRidge(alpha).fit(x, y)
    np.testing.assert_allclose(x @ matrix + offset, reference.predict(x), atol=1e-8)


def test_scaled_features_are_sklearns_after_a_standard_scaler():
    x, y = pairs()
    matrix, offset = Ridge(x, y, "standard").solve(0.5)
    scaled = (x - x.mean(0)) / x.std(0)
    reference = SklearnRidge(0.5 * len(x)).fit(scaled, y)
    np.testing.assert_allclose(x @ matrix + offset, reference.predict(scaled), atol=1e-8)


def test_features_that_do_not_vary_do_no_harm():
    x, y = pairs()
    with_constant = np.hstack([x, np.full((len(x), 2), 3.0)])
    fitted = Ridge(with_constant, y, "standard").solve(0.1)
    assert np.isfinite(fitted.offset).all() and abs(fitted.matrix[7:]).max() < 1e-9
    still = Ridge(np.ones((5, 3)), np.ones((5, 2)), "standard").solve(1.0)
    np.testing.assert_allclose(np.ones((1, 3)) @ still.matrix + still.offset, 1)


def test_without_names_the_penalty_is_that_of_the_cosine(dinov2, clip, features, embeddings):
    bridge = Bridge(dinov2, clip, scaling="none", strengths=10.0 ** np.arange(-4, 2))
    crossed = bridge.fit(features, embeddings).transform(features)
    assert bridge.held_out_[bridge.strength_] == max(bridge.held_out_.values())
    x, y = features.pooled("both").astype(float), embeddings.vectors.astype(float)
    alpha = bridge.strength_ * ((x - x.mean(0)) ** 2).sum() / x.shape[1]
    theirs = SklearnRidge(alpha, solver="svd").fit(x, y).predict(x)
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    np.testing.assert_allclose(crossed, theirs, atol=1e-4)
    assert bridge.temperature_ == clip.temperature


def test_with_names_the_penalty_is_that_of_the_profile(bridge, clip, features, embeddings):
    assert list(bridge.held_out_) == list(STRENGTHS)
    assert bridge.held_out_[bridge.strength_] == min(bridge.held_out_.values())
    texts = name_vectors(clip, NAMES)
    logits = embeddings.vectors.astype(float) @ texts.T / clip.temperature
    wanted = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert divergence(embeddings.vectors @ texts.T, wanted, clip.temperature) < 1e-6
    x, y = features.pooled("both").astype(float), embeddings.vectors.astype(float)
    fold, strength = np.arange(len(x)) % 5, bridge.strength_
    held_out = np.empty(y.shape)
    for number in range(5):
        out = fold == number
        matrix, offset = Ridge(x[~out], y[~out], "standard").solve(strength)
        crossed = x[out] @ matrix + offset
        held_out[out] = crossed / np.linalg.norm(crossed, axis=1, keepdims=True)
    cosines = held_out @ texts.T
    lost = divergence(cosines, wanted, clip.temperature)
    assert lost == pytest.approx(bridge.held_out_[strength], abs=1e-5)
    best = divergence(cosines, wanted, bridge.temperature_)
    for other in (0.9, 1.1):
        assert best <= divergence(cosines, wanted, other * bridge.temperature_)


def test_the_average_patch_crosses_as_the_picture_does(bridge, features):
    crossed = bridge.transform_patches(features)
    assert crossed.shape == (len(features), 16, 16, 128) and crossed.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(crossed, axis=-1), 1, atol=1e-5)
    means = features.patches.mean((1, 2), keepdims=True)  # (N, 1, 1, D)
    flat = dataclasses.replace(features, patches=means)
    np.testing.assert_allclose(
        bridge.transform_patches(flat)[:, 0, 0], bridge.transform(features), atol=1e-5
    )
    without = bridge.transform_patches(flat, context=False)[:, 0, 0]
    assert not np.allclose(without, bridge.transform(features), atol=1e-3)
    shares = bridge.predict_patches(features)
    np.testing.assert_allclose(shares.sum(-1), 1, atol=1e-5)


def test_grids_of_different_shapes_cross_as_a_list(bridge, dinov2, toys):
    pictures = [toys.image(0), toys.image(1).resize((224, 112))]
    maps = bridge.transform_patches(extract_features(dinov2, pictures, fit="resize"))
    assert [one.shape for one in maps] == [(16, 16, 128), (8, 16, 128)]


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_one_vector_may_cross_alone(dinov2, clip, features, embeddings, pooling):
    bridge = Bridge(dinov2, clip, pooling=pooling).fit(features, embeddings)
    assert bridge.matrix_.shape == (192, 128)
    assert bridge.transform_patches(features).shape == (len(features), 16, 16, 128)


def test_a_folder_with_a_broken_picture_is_fitted_without_it(dinov2, clip, toys, tmp_path):
    for number in range(6):
        toys.image(number).save(tmp_path / f"{number}.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    bridge = Bridge(dinov2, clip).fit(tmp_path)
    assert bridge.n_pictures_ == 6 and [one.name for one in bridge.skipped_] == ["broken.png"]
    answers = bridge.predict(tmp_path, NAMES)
    assert answers.names == tuple(f"{number}.png" for number in range(6))
    assert answers.index.tolist() == list(range(6)) and len(answers.skipped) == 1
    same = Bridge(dinov2, clip).fit(toys.image(number) for number in range(6))
    np.testing.assert_allclose(same.matrix_, bridge.matrix_, atol=1e-6)


def test_a_bridge_is_kept_with_its_models(bridge, dinov2, clip, features, tmp_path):
    bridge.save(tmp_path)
    loaded = Bridge.load(tmp_path, dinov2, clip)
    assert (loaded.transform(features) == bridge.transform(features)).all()
    assert loaded.names == bridge.names and loaded.held_out_ == bridge.held_out_
    assert loaded.temperature == bridge.temperature
    said = loaded.predict(features), bridge.predict(features)
    assert said[0].labels == said[1].labels
    with pytest.raises(KeptError, match="other weights"):
        Bridge.load(tmp_path, dinov2, load_clip("lit-tiny"))


def test_a_bridge_that_cannot_be_is_refused(dinov2, clip, features):
    with pytest.raises(NotFittedError, match="call fit"):
        Bridge(dinov2, clip).transform(features)
    with pytest.raises(ValueError, match="embed_images"):
        Bridge(dinov2, clip).fit(features)
    with pytest.raises(ValueError, match="0 pictures that both"):
        Bridge(dinov2, clip).fit(features, embedded(np.eye(2, 128, dtype=np.float32)[:0]))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"pooling": "max"}, "pooling='max'"),
        ({"scaling": "large"}, "scaling='large'"),
        ({"strengths": [0.0, 1.0]}, "strengths"),
        ({"folds": 1}, "folds=1"),
        ({"names": ["dog", "dog"]}, "'dog' more than once"),
    ],
)
def test_impossible_settings_of_a_bridge_are_named(dinov2, clip, settings, said):
    with pytest.raises(ValueError, match=said):
        Bridge(dinov2, clip, **settings)


# Names


def test_name_vectors_are_means_over_templates(clip):
    filled = [[t.format("", a=with_article(n)) for n in NAMES] for t in TEMPLATES["en"]]
    means = np.mean([clip.embed_texts(texts) for texts in filled], axis=0)
    theirs = means / np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(name_vectors(clip, NAMES), theirs, atol=1e-6)


def test_each_language_has_its_templates():
    assert prompts("狗")[1] == "狗的照片" and prompts("airplane")[1] == "a photo of an airplane"
    assert prompts("owl", "a {} at night") == ["a owl at night"]
    assert [with_article(name) for name in ("Owl", "an owl", "the sea")] == [
        "an Owl",
        "an owl",
        "the sea",
    ]
    assert set(TEMPLATES) == {"en", "zh"}


@pytest.mark.parametrize(
    ("names", "templates", "said"),
    [
        ([], TEMPLATES, "names is empty"),
        ("dog", TEMPLATES, "one text"),
        (["dog", " "], TEMPLATES, "which is no name"),
        (["dog", "dog"], TEMPLATES, "more than once"),
        (["dog"], ["a photo"], "where the name belongs"),
        (["dog"], [], "templates is empty"),
        (["狗"], {"en": ["{}"]}, "none for 'zh'"),
    ],
)
def test_impossible_names_are_refused_at_once(clip, names, templates, said):
    with pytest.raises(ValueError, match=said):
        ZeroShot(clip, names, templates=templates)


def test_the_nearest_name_wins_and_probabilities_are_at_the_models_temperature(
    clip, toys, embeddings
):
    answers = ZeroShot(clip, NAMES).predict(embeddings)
    texts = name_vectors(clip, NAMES)
    wanted = [NAMES[k] for k in (embeddings.vectors @ texts.T).argmax(1)]
    assert list(answers.labels) == wanted
    logits = embeddings.vectors @ texts.T / clip.temperature
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(answers.probabilities, shares, atol=1e-5)
    np.testing.assert_allclose(
        answers.familiarity, (embeddings.vectors @ texts.T).max(1), atol=1e-6
    )
    assert ZeroShot(clip, NAMES).score(embeddings, toys.labels("class")).value > 0.6


def test_embeddings_that_cannot_be_compared_with_names_are_refused(clip, bridge, features):
    rows = np.ones((3, clip.dim), np.float32)
    rows[2, 0] = np.nan
    zero_shot = ZeroShot(clip, NAMES)
    with pytest.raises(ValueError, match=r"1 of 3 pictures .* not finite.*: image 2"):
        zero_shot.predict(embedded(rows))
    with pytest.raises(ValueError, match=rf"vectors of 5 numbers .* those of {clip.dim}"):
        zero_shot.predict(embedded(np.ones((3, 5), np.float32)))
    crossed = bridge.embed_images(features)
    spoilt = dataclasses.replace(crossed, vectors=crossed.vectors * np.nan)
    with pytest.raises(ValueError, match="not finite"):
        ZeroShot(bridge, NAMES).predict(spoilt)


def test_a_text_tower_names_in_english_and_chinese(toys):
    lit = load_clip("lit-tiny")
    found = lit.embed_images(toys)
    truth = toys.labels("class")
    chinese = np.array(CHINESE)[[NAMES.index(name) for name in truth]]
    assert ZeroShot(lit, NAMES).score(found, truth).value > 0.85
    assert ZeroShot(lit, CHINESE).score(found, chinese).value > 0.85


def test_names_and_threshold_are_kept(bridge, clip, dinov2, features, embeddings, tmp_path):
    for model, pictures in ((clip, embeddings), (bridge, features)):
        folder = tmp_path / type(model).__name__
        zero = ZeroShot(model, NAMES).calibrate(pictures, alpha=0.2)
        zero.save(folder)
        loaded = ZeroShot.load(folder, dinov2, clip)
        said, again = zero.predict(pictures), loaded.predict(pictures)
        assert said.labels == again.labels and None in said.labels
        assert (said.probabilities == again.probabilities).all()
        assert loaded.promise_ == zero.promise_


# None of these


def test_the_promise_of_a_threshold_is_kept_on_average():
    rng = np.random.default_rng(0)
    n, alpha = 39, 0.1
    lost, inside = [], []
    for _ in range(3000):
        promise = conformal_promise(rng.normal(size=n), alpha)
        share = (rng.normal(size=200) < promise.threshold).mean()
        lost.append(share)
        inside.append(promise.low - 0.03 <= share <= promise.high + 0.03)
    assert promise.promised == pytest.approx(0.1)
    assert np.mean(lost) == pytest.approx(0.1, abs=0.005)
    assert np.mean(inside) > 0.95


def test_a_bridge_knows_what_it_was_not_fitted_on(bridge, dinov2, features):
    """Its cosines alone do not: they take a truck for one of the names that it knows."""
    known = load_scenes("test", framing="portrait", class_=NAMES, n_objects=1)
    others = ["truck", "mug", "tree", "fish"]
    new = load_scenes("test", framing="portrait", class_=others, n_objects=1)
    pictures = [*known.images[:40], *new.images[:40]]
    truth = np.arange(len(pictures)) < len(known.images[:40])
    found = extract_features(dinov2, pictures)
    zero = ZeroShot(bridge, NAMES)
    answers = zero.predict(found)
    cosines = bridge.transform(found) @ zero.texts_.T
    assert auroc(answers.familiarity, truth) > 0.9
    assert auroc(cosines.max(1), truth) < auroc(answers.familiarity, truth) - 0.1
    assert (bridge.predict(found).familiarity == answers.familiarity).all()
    zero.calibrate(features, alpha=0.1)
    rejected = np.array([label is None for label in zero.predict(found).labels])
    assert rejected[~truth].mean() > 0.5 > rejected[truth].mean()


def test_a_bridge_fitted_on_all_still_tells_by_the_text(dinov2, clip):
    wide = load_scenes("train", framing="portrait", n_objects=1)
    pictures = wide.images[:120]
    x, y = extract_features(dinov2, pictures), clip.embed_images(pictures)
    zero = ZeroShot(Bridge(dinov2, clip, names=NAMES).fit(x, y), NAMES)
    shown = np.isin(wide.labels("class")[:120], NAMES)
    assert auroc(zero.predict(x).familiarity, shown) > 0.85


def test_embeddings_that_no_bridge_made_do_not_tell_how_far_they_are(bridge, features):
    crossed = bridge.embed_images(features)
    zero = ZeroShot(bridge, NAMES)
    again, by_features = zero.predict(crossed), zero.predict(features)
    assert (again.familiarity == by_features.familiarity).all()
    with pytest.raises(ValueError, match=r"bridge\.embed_images"):
        zero.predict(embedded(crossed.vectors))


def test_a_bridge_without_ground_is_of_an_earlier_version(
    bridge, dinov2, clip, tmp_path, monkeypatch
):
    monkeypatch.setattr(type(bridge.ground_), "arrays", lambda self: {})
    bridge.save(tmp_path)
    with pytest.raises(KeptError, match=r"earlier version.*fit it again"):
        Bridge.load(tmp_path, dinov2, clip)


def test_too_few_pictures_are_said_with_what_they_can_promise():
    with pytest.warns(UserWarning, match="needs 19 pictures.*there are 18.*promises 5.3%"):
        promise = conformal_promise(np.arange(18.0), alpha=0.05)
    assert promise.threshold == 0 and promise.promised == pytest.approx(1 / 19)
    assert conformal_promise(np.arange(19.0), alpha=0.05).threshold == 0
    assert conformal_promise(np.arange(39.0), alpha=0.05).threshold == 1


@pytest.mark.parametrize(
    ("scores", "alpha", "said"),
    [
        ([1.0], 0, "alpha=0"),
        ([1.0], 1, "alpha=1"),
        ([], 0.1, "0 scores"),
        ([np.nan], 0.1, "finite"),
    ],
)
def test_an_impossible_promise_is_refused(scores, alpha, said):
    with pytest.raises(ValueError, match=said):
        conformal_promise(scores, alpha)


# Few labels


@pytest.fixture
def blobs():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 8))
    labels = np.repeat(["b", "a", "c"], 10)
    x = centres[np.repeat([0, 1, 2], 10)] + 0.8 * rng.normal(size=(30, 8))
    return x.astype(np.float32), labels


def test_the_nearest_mean_is_that_of_unit_vectors(dinov2, blobs):
    x, labels = blobs
    rows = x / np.linalg.norm(x, axis=1, keepdims=True)
    classes = np.unique(labels)
    means = np.stack([rows[::2][labels[::2] == name].mean(0) for name in classes])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    theirs = classes[(rows[1::2] @ means.T).argmax(1)]
    few = FewShot(dinov2, "mean").fit(vectors(x[::2]), labels[::2])
    assert list(few.predict(vectors(x[1::2])).labels) == theirs.tolist()


@pytest.mark.parametrize("classes", ["abc", "ab"])
def test_logistic_regression_is_sklearns(dinov2, blobs, classes):
    x, labels = blobs
    rows = np.isin(labels, list(classes))
    x, labels = x[rows], labels[rows]
    scaled = x / np.linalg.norm(x, axis=1, keepdims=True)
    reference = LogisticRegression(C=100, max_iter=2000).fit(scaled[::2], labels[::2])
    few = FewShot(dinov2, "logistic").fit(vectors(x[::2]), labels[::2])
    shares = few.predict_proba(vectors(x[1::2]))
    np.testing.assert_allclose(shares, reference.predict_proba(scaled[1::2]), atol=1e-3)
    assert few.classes_.tolist() == reference.classes_.tolist()


@pytest.mark.parametrize("head", ["mean", "knn", "logistic"])
def test_a_few_labels_name_toys_and_are_kept(dinov2, toys, features, tmp_path, head):
    labels = toys.labels("class")
    one = dataclasses.replace(
        features, cls=features.cls[::2], index=features.index[::2], names=features.names[::2]
    )
    few = FewShot(dinov2, head).fit(one, labels[::2])
    few.calibrate(features, alpha=0.2)
    answers = few.predict(features)
    assert 0 < answers.labels.count(None) <= 0.2 * len(features)
    np.testing.assert_allclose(answers.probabilities.sum(1), 1, atol=1e-5)
    few.save(tmp_path)
    loaded = FewShot.load(tmp_path, dinov2)
    assert loaded.predict(features).labels == answers.labels
    assert loaded.classes_.tolist() == sorted(NAMES) and loaded.promise_ == few.promise_
    few.promise_ = None
    assert few.score(features, labels).value > 0.8


def test_folders_are_labels(dinov2, tmp_path, toys):
    labels = toys.labels("class")
    for number in range(8):
        folder = tmp_path / labels[number]
        folder.mkdir(exist_ok=True)
        toys.image(number).save(folder / f"{number}.png")
    (tmp_path / labels[0] / "broken.png").write_bytes(b"no picture")
    few = FewShot(dinov2).fit(tmp_path)
    assert few.classes_.tolist() == sorted(set(labels[:8])) and len(few.skipped_) == 1
    assert few.score(tmp_path).value == 1


def test_labels_that_do_not_fit_are_refused(dinov2, blobs):
    x, labels = blobs
    with pytest.raises(ValueError, match="for 30 pictures"):
        FewShot(dinov2).fit(vectors(x), labels[:-1])
    with pytest.raises(ValueError, match="lies in none"):
        FewShot(dinov2).fit(vectors(x))
    with pytest.raises(ValueError, match="two classes"):
        FewShot(dinov2).fit(vectors(x), ["a"] * 30)
    with pytest.raises(NotFittedError, match="call fit"):
        FewShot(dinov2).predict(vectors(x))


def test_labels_follow_the_pictures_that_could_be_read(dinov2, toys):
    pictures = [toys.image(0), b"no picture", toys.image(1)]
    few = FewShot(dinov2).fit(pictures, ["first", "broken", "second"])
    assert few.labels_.tolist() == ["first", "second"]
    answers = few.predict(pictures)
    assert answers.labels == ("first", "second") and answers.index.tolist() == [0, 2]
    assert answers.accuracy(["first", "broken", "second"]).value == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"head": "svm"}, "head='svm'"),
        ({"pooling": "max"}, "pooling='max'"),
        ({"k": 0}, "k=0"),
        ({"temperature": 0}, "temperature=0"),
        ({"regularisation": -1}, "regularisation=-1"),
    ],
)
def test_impossible_settings_of_few_shot_are_named(dinov2, settings, said):
    with pytest.raises(ValueError, match=said):
        FewShot(dinov2, **settings)


def test_a_picture_of_one_kind_of_array_is_a_picture(dinov2, clip):
    grey = Image.new("RGB", (60, 60), "grey")
    assert len(ZeroShot(clip, NAMES).predict(np.asarray(grey))) == 1
