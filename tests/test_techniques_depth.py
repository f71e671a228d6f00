"""The depth head: fits, maps in the pictures' own pixels, cameras, scores, what is kept."""

import subprocess
import sys
from dataclasses import replace

import depth_reference
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import Ridge

from dinov2_helpers import extract_features, load_dinov2, load_scenes
from dinov2_helpers.measure import depth_scores
from dinov2_helpers.techniques.depth import DepthHead
from dinov2_helpers.techniques.depth_heads import (
    BinsHead,
    Recipe,
    SmallDPT,
    depth_loss,
    expected_log_depth,
    gradient_loss,
    silog_loss,
    train_head,
)
from dinov2_helpers.techniques.depth_ridge import Moments, Penalty, fit_ridge, solve
from dinov2_helpers.techniques.depth_truth import true_depth
from dinov2_helpers.techniques.familiar import Familiar
from dinov2_helpers.techniques.inputs import NotFittedError
from dinov2_helpers.techniques.keeping import KeptError

PICTURES = 48  # fewer say little of what is usual
FOCAL = 325.27


@pytest.fixture(scope="module")
def tiny():
    return load_dinov2("tiny")


@pytest.fixture(scope="module")
def scenes():
    found = load_scenes("train")
    return replace(found, table=found.table[:PICTURES])


@pytest.fixture(scope="module")
def features(tiny, scenes):
    layers = DepthHead(tiny).blocks_
    return extract_features(tiny, scenes, size=224, fit="resize", layers=layers, patches=False)


@pytest.fixture(scope="module")
def depths(scenes):
    return [scenes.depth(i) for i in range(len(scenes))]


@pytest.fixture(scope="module")
def ridge(tiny, features, depths):
    return DepthHead(tiny).fit(features, depths, focal=FOCAL)


# The ridge


@pytest.fixture
def rows():
    """Tokens of 6 pictures (6, 10, 5), CLS (6, 3) and targets (6, 10)."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(6, 10, 5)) + 2, rng.normal(size=(6, 3)), rng.normal(size=(6, 10)) + 1


def moments_of(patches, cls, target):
    found = Moments.zero(8)
    for one in zip(patches, cls, target, strict=True):
        found.add(*one)
    return found


def design(patches, cls):
    joined = np.concatenate([patches, np.repeat(cls[:, None], 10, 1)], axis=-1)
    return joined.reshape(-1, 8)


def test_the_ridge_is_that_of_sklearn(rows):
    patches, cls, target = rows
    moments = moments_of(*rows)
    x, y = design(patches, cls), target.ravel()
    for cls_factor in (1.0, 10.0):
        line = solve(moments, Penalty(0.1, 0.1 * cls_factor), 5)
        scale = np.r_[np.ones(5), np.full(3, cls_factor**-0.5)]  # a larger penalty on these
        strength = 0.1 * ((x - x.mean(0)) ** 2).sum(0).mean()
        expected = Ridge(alpha=strength).fit(x * scale, y)
        np.testing.assert_allclose(line.weights, expected.coef_ * scale, atol=1e-10)
        assert line.intercept == pytest.approx(expected.intercept_)
        error = np.mean((x @ line.weights + line.intercept - y) ** 2)
        assert line.mean_squared_error(moments) == pytest.approx(error)


def test_the_penalty_is_the_one_that_does_best_on_the_other_folds(rows):
    folds = [moments_of(*(one[k : k + 2] for one in rows)) for k in (0, 2, 4)]
    penalties = [Penalty(strength, strength) for strength in (0.01, 1.0, 100.0)]
    chosen = fit_ridge(folds, penalties, 5)
    x, y = design(*rows[:2]).reshape(3, 20, 8), rows[2].reshape(3, 20)
    for penalty in penalties:
        errors = []
        for k in range(3):
            others = [j for j in range(3) if j != k]
            line = solve(folds[others[0]].plus(folds[others[1]]), penalty, 5)
            errors.append(np.mean((x[k] @ line.weights + line.intercept - y[k]) ** 2))
        assert chosen.errors[penalty] == pytest.approx(np.mean(errors))
    assert chosen.penalty == min(chosen.errors, key=chosen.errors.get)
    np.testing.assert_allclose(
        chosen.line.weights, solve(moments_of(*rows), chosen.penalty, 5).weights, atol=1e-10
    )


def test_pictures_of_one_group_are_in_one_fold(tiny, features, depths, monkeypatch):
    from dinov2_helpers.techniques import depth as module

    seen = {}

    def spy(folds, penalties, n_columns):
        seen["folds"] = [fold.n for fold in folds]
        return fit_ridge(folds, penalties[:1], n_columns)

    monkeypatch.setattr(module, "fit_ridge", spy)
    DepthHead(tiny, layers=[-1]).fit(features, depths, groups=["a"] * 40 + ["b"] * 8)
    assert len(seen["folds"]) == 2
    known = [np.isfinite(one).any() for one in depths]
    assert all(known) and max(seen["folds"]) > 4 * min(seen["folds"])


# Trained heads


@pytest.fixture
def log_maps():
    """Log depth (2, 9, 8), to be differentiated, and the true one, with some of it unknown."""
    rng = torch.Generator().manual_seed(0)
    true = torch.rand(2, 9, 8, generator=rng, dtype=torch.float64)
    true[0, :2] = torch.nan
    true[1, 4, 4] = torch.nan
    guess = torch.rand(2, 9, 8, generator=rng, dtype=torch.float64)
    return guess.requires_grad_(), true


def test_losses_are_those_of_their_plain_form(log_maps):
    guess, true = log_maps
    torch.testing.assert_close(silog_loss(guess, true), depth_reference.silog_loss(guess, true))
    torch.testing.assert_close(
        gradient_loss(guess, true), depth_reference.gradient_loss(guess, true)
    )
    coarse = guess[:, ::3, ::4]
    torch.testing.assert_close(depth_loss(coarse, true), depth_reference.depth_loss(coarse, true))


def test_silog_loss_by_hand():
    true = torch.zeros(1, 1, 4, dtype=torch.float64)
    guess = torch.tensor([[[1.0, 3.0, 1.0, 3.0]]], dtype=torch.float64)
    assert silog_loss(guess, true, keep=1).item() == pytest.approx(1)
    assert silog_loss(guess, true, keep=0).item() == pytest.approx(np.sqrt(5))
    assert silog_loss(guess, true).item() == pytest.approx(np.sqrt(1 + 0.15 * 4))
    true[..., 3] = torch.nan
    assert silog_loss(guess, true, keep=1).item() == pytest.approx(np.std([1, 3, 1]))


def test_gradient_loss_by_hand():
    true = torch.zeros(1, 2, 3, dtype=torch.float64)
    guess = torch.tensor([[[0.0, 1.0, 3.0], [0.0, 1.0, 7.0]]], dtype=torch.float64)
    down, across = (0 + 0 + 4) / 3, (1 + 2 + 1 + 6) / 4
    assert gradient_loss(guess, true, scales=1).item() == pytest.approx((down + across) / 2)
    true[0, 1, 2] = torch.nan  # takes one pair from each direction
    assert gradient_loss(guess, true, scales=1).item() == pytest.approx((0 + (1 + 2 + 1) / 3) / 2)
    thinned = (0 + 3) / 1  # one pair across, no second row
    both = (0 + (1 + 2 + 1) / 3 + thinned) / 4
    assert gradient_loss(guess, true, scales=2).item() == pytest.approx(both)


@pytest.mark.parametrize("loss", [silog_loss, gradient_loss, depth_loss])
def test_a_loss_looks_at_what_is_known(log_maps, loss):
    guess, true = log_maps
    moved = guess.detach() + torch.isnan(true) * 100.0
    value = loss(guess, true).item()
    assert np.isfinite(value) and value == pytest.approx(loss(moved, true).item())
    assert torch.autograd.gradcheck(lambda x: loss(x, true), (guess,))
    (gradient,) = torch.autograd.grad(loss(guess, true), guess)
    assert torch.isfinite(gradient).all()
    assert (gradient[0, 0] == 0).all()  # nothing is known there


def test_the_loss_of_slopes_forgives_a_scale(log_maps):
    guess, true = log_maps
    scaled = gradient_loss(guess + 2, true)
    assert scaled.item() == pytest.approx(gradient_loss(guess, true).item())


def test_the_loss_enlarges_the_guess():
    true = torch.log(torch.linspace(1, 3, 64)).repeat(1, 32, 1)
    assert depth_loss(torch.zeros(1, 8, 16), true) > 0
    flat, same = torch.full((1, 8, 16), 0.7), torch.full((1, 32, 64), 0.7)
    assert depth_loss(flat, same).item() == pytest.approx(0, abs=1e-5)


def test_the_mean_of_bins_stays_among_them():
    log_centres = torch.linspace(np.log(0.5), np.log(40), 32)
    score = 10 * torch.randn(5, 4, 3, 32, generator=torch.Generator().manual_seed(0))
    depth = expected_log_depth(score, log_centres).exp()
    assert depth.shape == (5, 4, 3) and depth.min() > 0.5 and depth.max() < 40
    certain = torch.full((1, 32), -1.0)
    certain[0, 20] = 1e6
    found = expected_log_depth(certain, log_centres)
    assert found.item() == pytest.approx(log_centres[20].item(), abs=1e-3)
    two = torch.log(torch.tensor([1.0, 4.0]))
    assert expected_log_depth(torch.zeros(1, 2), two).exp().item() == pytest.approx(2)


@pytest.mark.parametrize(("grid", "dim"), [((16, 16), 12), ((5, 9), 7), ((1, 1), 20)])
def test_heads_take_any_grid_and_width(grid, dim):
    patches, cls = torch.randn(2, *grid, 4 * dim), torch.randn(2, 4 * dim)
    log_centres = torch.linspace(np.log(0.5), np.log(40), 6)
    assert BinsHead(4 * dim, log_centres, cls=True)(patches, cls).shape == (2, *grid)
    fine = SmallDPT(4 * dim, 4, log_centres, cls=True)(patches, cls)
    assert fine.shape == (2, 2 * grid[0], 2 * grid[1])
    assert fine.exp().min() > 0.5 and fine.exp().max() < 40


@pytest.mark.parametrize("kind", ["bins", "dpt"])
def test_a_trained_head_has_the_numbers_of_its_plain_form(kind):
    rng = torch.Generator().manual_seed(0)
    patches, cls = torch.randn(12, 4, 4, 24, generator=rng), torch.randn(12, 24, generator=rng)
    truth = torch.rand(12, 16, 16, generator=rng) + 0.5
    truth[0, :5] = torch.nan
    log_centres = torch.linspace(0, np.log(6), 8)
    if kind == "bins":
        theirs = lambda: depth_reference.BinsHead(24, log_centres)  # noqa: E731
        ours = lambda: BinsHead(24, log_centres, cls=True)  # noqa: E731
    else:
        theirs = lambda: depth_reference.SmallDPT(6, log_centres)  # noqa: E731
        ours = lambda: SmallDPT(24, 4, log_centres, cls=True)  # noqa: E731
    options = {"steps": 8, "batch": 4, "rate": 3e-3, "seed": 5}
    expected = depth_reference.train(theirs, patches, cls, truth, **options)
    state = torch.get_rng_state()
    found = train_head(
        ours,
        lambda rows: (patches[rows], cls[rows]),
        list(truth.numpy()),
        Recipe(8, 4, 3e-3, 5),
        progress=False,
    )
    assert torch.equal(state, torch.get_rng_state())
    with torch.inference_mode():
        np.testing.assert_allclose(found(patches, cls), expected(patches, cls), atol=1e-5)


@pytest.mark.parametrize("kind", ["bins", "dpt"])
def test_a_trained_head_is_the_same_by_seed_and_after_loading(
    tiny, features, depths, kind, tmp_path
):
    settings = {"head": kind, "steps": 6, "seed": 3}
    first, again = (
        DepthHead(tiny, **settings).fit(features, depths, progress=False) for _ in range(2)
    )
    other = DepthHead(tiny, **settings | {"seed": 4}).fit(features, depths, progress=False)
    a, b, c = (head.predict(features).depth[0] for head in (first, again, other))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
    first.save(tmp_path)
    np.testing.assert_array_equal(DepthHead.load(tmp_path, tiny).predict(features).depth[0], a)


def test_pictures_of_several_shapes_are_trained_on_together(tiny, scenes, depths):
    pictures = [scenes.image(i) for i in range(4)]
    wide = [picture.crop((0, 40, 224, 152)) for picture in pictures]
    true = [*depths[:4], *(one[40:152] for one in depths[:4])]
    head = DepthHead(tiny, head="dpt", steps=6, batch_size=3)
    head.fit([*pictures, *wide], true, progress=False)
    maps = head.predict([pictures[0], wide[0]])
    assert [one.shape for one in maps.depth] == [(224, 224), (112, 224)]


# Predicting


def test_a_fit_on_few_scenes_beats_one_depth_for_all(ridge, features, depths, tiny):
    held_out = load_scenes("test", framing="portrait", surface="snow")
    scores = ridge.score(held_out)
    middle = np.exp(np.mean([np.nanmean(np.log(one)) for one in depths]))
    blind = [
        depth_scores(np.full((224, 224), middle), held_out.depth(i))["SILog"]
        for i in range(len(held_out))
    ]
    assert scores.mean["SILog"].high < np.mean(blind)
    assert scores.values["delta1"].shape == (len(held_out),)


def test_maps_are_float32_in_the_pictures_own_pixels(ridge, scenes):
    picture = scenes.image(0)
    large = picture.resize((500, 333))
    maps = ridge.predict({"a": picture, "b": large})
    assert [one.shape for one in maps.depth] == [(224, 224), (333, 500)]
    assert all(one.dtype == np.float32 and (one > 0).all() for one in maps.depth)
    assert maps.names == ("a", "b") and maps.unit == "metres" and np.isnan(maps.focal).all()


def test_maps_are_scaled_bilinearly_in_log_depth(ridge, features):
    coarse = ridge._log_depth(features, 0)
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(coarse)[None, None], size=(224, 224), mode="bilinear"
    )
    found = ridge.predict(features).depth[0]
    np.testing.assert_allclose(np.log(found), wanted[0, 0], atol=1e-5)


def test_a_longer_lens_sees_farther(ridge, features):
    plain = ridge.predict(features).depth[0]
    same = ridge.predict(features, focal=FOCAL)
    np.testing.assert_allclose(same.depth[0], plain, rtol=1e-5)
    twice = ridge.predict(features, focal=[2 * FOCAL] + [np.nan] * (PICTURES - 1))
    np.testing.assert_allclose(twice.depth[0], 2 * plain, rtol=1e-5)
    np.testing.assert_allclose(twice.depth[1], ridge.predict(features).depth[1])
    assert twice.focal[0] == pytest.approx(2 * FOCAL) and np.isnan(twice.focal[1])
    np.testing.assert_array_equal(twice.beyond, ridge.predict(features).beyond)


def test_the_focal_length_is_that_of_the_picture_as_it_is(ridge, scenes):
    picture = scenes.image(0)
    twice_as_large = picture.resize((448, 448), Image.Resampling.NEAREST)
    maps = ridge.predict([twice_as_large], focal=2 * FOCAL)
    small = ridge.predict([twice_as_large.resize((224, 224), Image.Resampling.NEAREST)])
    ratio = np.median(maps.depth[0][::2, ::2] / small.depth[0])
    assert ratio == pytest.approx(1, abs=0.05)


def test_several_focal_lengths_are_seen_by_one_camera(tiny, features, depths):
    """Depth that grows with the focal length is one depth for one camera."""
    focals = np.where(np.arange(PICTURES) % 2, FOCAL, 2 * FOCAL)
    longer = [one * focal / FOCAL for one, focal in zip(depths, focals, strict=True)]
    several = DepthHead(tiny).fit(features, longer, focal=focals)
    one = DepthHead(tiny).fit(features, depths, focal=FOCAL)
    found, expected = (head.predict(features, focal=FOCAL).depth[3] for head in (several, one))
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    assert several.focal_ == pytest.approx(FOCAL * 2**0.5)


def test_relative_depth_has_no_scale(tiny, features, depths):
    factors = np.exp(np.random.default_rng(0).normal(size=PICTURES)).astype(np.float32)
    scaled = [one * factor for one, factor in zip(depths, factors, strict=True)]
    a, b = (
        DepthHead(tiny, relative=True).fit(features, true).predict(features)
        for true in (depths, scaled)
    )
    np.testing.assert_allclose(a.depth[0], b.depth[0], rtol=1e-3)
    assert a.unit == "relative"
    with pytest.raises(ValueError, match="focal: relative"):
        DepthHead(tiny, relative=True).fit(features, depths, focal=FOCAL)


def test_what_is_out_of_the_range_or_looks_strange_is_said(ridge, scenes, caplog):
    noise = np.random.default_rng(0).integers(0, 255, (224, 224, 3), np.uint8)
    maps = ridge.predict({"scene": scenes.image(0), "noise": noise})
    assert maps.unlike[0] < 0.1 < 0.5 < maps.unlike[1]
    assert "1 of 2 pictures look unlike" in caplog.text and "noise" in caplog.text
    near, far = ridge.range_
    assert near < far
    near_only = (maps.depth[0] < near).mean() + (maps.depth[0] > far).mean()
    assert maps.beyond[0] == pytest.approx(near_only, abs=1e-4)


def test_the_range_holds_99_percent_of_the_training_pixels(ridge, depths):
    known = np.concatenate([one[np.isfinite(one)] for one in depths])
    inside = (known >= ridge.range_[0]) & (known <= ridge.range_[1])
    assert inside.mean() == pytest.approx(0.99, abs=0.003)


def test_familiar_patches():
    rng = np.random.default_rng(0)
    folds = [rng.normal(size=(500, 6)).astype(np.float32) @ np.diag([5, 1, 1, 1, 1, 0.1])] * 3
    familiar = Familiar.of_folds(folds)
    assert familiar.unlike(folds[0]) == pytest.approx(0.01, abs=0.005)
    assert familiar.unlike(folds[0] + np.float32(6) * np.eye(6, dtype=np.float32)[1]) > 0.9
    assert familiar.unlike(folds[0] + np.float32(2) * np.eye(6, dtype=np.float32)[0]) < 0.1


def test_stream_gives_what_predict_gives(ridge, scenes):
    some = [scenes.image(i) for i in range(5)]
    whole = ridge.predict(some, focal=400)
    parts = list(ridge.stream(iter(some), chunk=2, focal=400))
    assert [len(one) for one in parts] == [2, 2, 1]
    streamed = [depth for one in parts for depth in one.depth]
    for a, b in zip(whole.depth, streamed, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4)
    assert [int(i) for one in parts for i in one.index] == [0, 1, 2, 3, 4]


# Scores


def test_scores_are_those_of_the_formulas(ridge, features, depths):
    scores = ridge.score(features, depths)
    guesses = ridge.predict(features).depth
    expected = [depth_reference.scores(*pair) for pair in zip(guesses, depths, strict=True)]
    for name in expected[0]:
        values = np.array([one[name] for one in expected])
        np.testing.assert_allclose(scores.values[name], values, rtol=1e-6)
        assert scores.mean[name].value == pytest.approx(values.mean())
        assert scores.mean[name].low < values.mean() < scores.mean[name].high
    given = ridge.score(features, [3 * one for one in depths], given="scale")
    assert (
        given.mean["delta1"].value
        > 0.5
        > ridge.score(features, [3 * one for one in depths]).mean["delta1"].value
    )


# What is kept


def test_save_and_load_in_a_new_process(ridge, scenes, tmp_path):
    ridge.save(tmp_path / "head")
    picture = scenes.images[0]
    program = f"""
import numpy as np
from dinov2_helpers.techniques.depth import DepthHead
head = DepthHead.load({str(tmp_path / "head")!r})
maps = head.predict([{str(picture)!r}], focal=400)
np.savez({str(tmp_path / "found.npz")!r}, depth=maps.depth[0], unlike=maps.unlike)
print(head.range_, head.penalty_, head.focal_, head.n_pictures_)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    expected = ridge.predict([picture], focal=400)
    found = np.load(tmp_path / "found.npz")
    np.testing.assert_allclose(found["depth"], expected.depth[0], rtol=1e-5)
    np.testing.assert_allclose(found["unlike"], expected.unlike)
    said = f"{ridge.range_} {ridge.penalty_} {ridge.focal_} {ridge.n_pictures_}"
    assert done.stdout.strip() == said


def test_another_model_is_refused(ridge, tmp_path, tiny):
    ridge.save(tmp_path)
    other = load_dinov2("tiny", backend="torch")
    other.model.layernorm.weight.data += 0.01
    with pytest.raises(KeptError, match="other weights"):
        DepthHead.load(tmp_path, other)


# Bad input


def test_before_fit(tiny, features, tmp_path):
    head = DepthHead(tiny)
    for use in (
        lambda: head.predict(features),
        lambda: next(head.stream([])),
        lambda: head.score(features, []),
        lambda: head.save(tmp_path),
    ):
        with pytest.raises(NotFittedError, match="call fit"):
            use()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"head": "tree"}, "head='tree'"),
        ({"layers": [99]}, "layers="),
        ({"layers": []}, "layers="),
        ({"layers": [0, 0]}, "layers="),
        ({"steps": 0}, "steps=0"),
        ({"batch_size": 1.5}, "batch_size=1.5"),
        ({"size": -1}, "size=-1"),
        ({"rate": 0}, "rate=0"),
    ],
)
def test_impossible_settings(tiny, settings, said):
    with pytest.raises(ValueError, match=said):
        DepthHead(tiny, **settings)


def test_maps_of_another_size_are_refused_before_anything_is_computed(
    tiny, scenes, depths, monkeypatch
):
    from dinov2_helpers.techniques import depth as module

    monkeypatch.setattr(module, "features_of", lambda *a, **k: pytest.fail("too late"))
    small = [one[::2, ::2] for one in depths]
    for pictures in (scenes, iter([scenes.image(i) for i in range(PICTURES)])):
        with pytest.raises(ValueError, match=r"48 of 48 maps.*224x224 px, its depth 112x112"):
            DepthHead(tiny).fit(pictures, small)
    with pytest.raises(ValueError, match="47 maps for 48"):
        DepthHead(tiny).fit(scenes, depths[1:])


def test_maps_of_another_size_are_taken_by_the_nearest_value(tiny, features, depths):
    small = [one[::2, ::2] for one in depths]
    a = DepthHead(tiny).fit(features, small, resize=True).predict(features).depth[0]
    b = DepthHead(tiny).fit(features, depths).predict(features).depth[0]
    assert np.abs(np.log(a / b)).mean() < 0.03


def test_bad_pictures_and_bad_depth_are_skipped_and_said(tiny, scenes, tmp_path, caplog):
    for i in range(6):
        scenes.image(i).save(tmp_path / f"{i}.png")
    (tmp_path / "1.png").write_bytes(b"no picture")
    maps = tmp_path / "depth"
    maps.mkdir()
    for i in range(6):
        millimetres = np.nan_to_num(scenes.depth(i) * 1000).astype(np.uint16)
        Image.fromarray(millimetres).save(maps / f"{i}.png")
    (maps / "2.png").write_bytes(b"no depth")
    Image.fromarray(np.zeros((224, 224), np.uint16)).save(maps / "3.png")
    pictures = sorted(tmp_path.glob("*.png"))
    head = DepthHead(tiny, layers=[-1]).fit(pictures, maps)
    assert head.n_pictures_ == 3
    why = {one.index: one.reason for one in head.skipped_}
    assert sorted(why) == [1, 2, 3]
    assert "its depth cannot be used" in why[2] and "2.png" in why[2]
    assert why[3] == "its depth is known nowhere"
    assert "Depth of 2 of 5 pictures skipped" in caplog.text
    scores = head.score(pictures, maps)
    assert list(scores.index) == [0, 4, 5]
    maps_found = head.predict(pictures)
    assert list(maps_found.index) == [0, 2, 3, 4, 5] and maps_found.skipped[0].index == 1


def test_pictures_of_one_name_have_depth_of_their_own(tmp_path):
    for name in ("left/0", "right/0", "right/1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        depth = Image.new("I;16", (6, 4), 1000 if name == "left/0" else 3000)
        depth.save(tmp_path / f"{name}.png")
    pictures = {f"{name}.jpg": Image.new("RGB", (6, 4)) for name in ("left/0", "right/0")}
    nested = true_depth(pictures, tmp_path, None, False)
    assert [nested.read(row, (6, 4), "")[0, 0] for row in (0, 1)] == [1, 3]
    with pytest.raises(
        ValueError, match=r"none for 2 of 2 pictures, the first of them left/0\.jpg"
    ):
        true_depth(pictures, tmp_path / "right", None, False)


def test_depth_is_found_by_name(tiny, scenes, depths, tmp_path):
    pictures = {f"p{i}": scenes.image(i) for i in range(4)}
    by_name = {f"p{i}": depths[i] for i in reversed(range(4))}
    a = DepthHead(tiny, layers=[-1]).fit(pictures, by_name).predict(pictures).depth[0]
    b = DepthHead(tiny, layers=[-1]).fit(pictures, depths[:4]).predict(pictures).depth[0]
    np.testing.assert_array_equal(a, b)
    del by_name["p2"]
    with pytest.raises(ValueError, match="none for 1 of 4 pictures, the first of them p2"):
        DepthHead(tiny).fit(pictures, by_name)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"focal": -3}, "focal: "),
        ({"focal": [300, 300]}, "focal of shape"),
        ({"focal": np.nan}, "focal: "),
        ({"groups": [1, 2]}, "groups of shape"),
    ],
)
def test_impossible_fits(tiny, features, depths, settings, said):
    with pytest.raises(ValueError, match=said):
        DepthHead(tiny).fit(features, depths, **settings)


def test_a_focal_length_needs_one_to_compare_with(tiny, features, depths):
    head = DepthHead(tiny, layers=[-1]).fit(features, depths)
    with pytest.raises(ValueError, match="give fit the focal length"):
        head.predict(features, focal=300)


def test_pictures_without_depth_are_asked_for_it(tiny, scenes):
    with pytest.raises(ValueError, match="depth: needed"):
        DepthHead(tiny).fit([scenes.image(0)])
