"""The functions of notebook 05, lifted out of its text and compared with references."""

import numpy as np
import pytest
import torch
from PIL import Image

from dinov2_helpers import plotting, samples
from tools import pairing
from tools.lift import lift
from tools.project import Project


@pytest.fixture(scope="module")
def notebook():
    source = pairing.read_source(Project(), "05_depth_estimation")
    return lift(
        source, "scores", "interval", "align", "at_grid", "silog_loss", "gradient_loss",
        "depth_loss", "train_head", "edges", "predict", "correlation", "bin_centres",
        "expected_log_depth", "ImageMLP", "LinearHead", "SmallDPT", "stack_cameras", "reproject",
        "neighbours", "flip_loss", "view_loss", "by_distance", "cloud", "splat", "orbit",
        "rotation", "verdict_of", "resized", "some_of", "first_readable",
        "show_depth",
    )  # fmt: skip


@pytest.fixture
def maps():
    rng = np.random.default_rng(0)
    truth = rng.uniform(1, 20, (3, 12, 10))
    truth[:, :3][rng.random((3, 3, 10)) < 0.5] = np.nan
    return np.where(np.isnan(truth), np.nan, truth * np.exp(rng.normal(0, 0.3, truth.shape))), truth


def test_scores_are_those_of_the_formulas(notebook, maps):
    predicted, truth = maps
    predicted = np.where(np.isnan(predicted), 3.0, predicted)
    found = notebook["scores"](predicted, truth)
    for i in range(len(truth)):
        known = ~np.isnan(truth[i])
        p, t = predicted[i][known], truth[i][known]
        ratio = np.maximum(p / t, t / p)
        for k in (1, 2, 3):
            assert found[f"delta{k}"][i] == pytest.approx(np.mean(ratio < 1.25**k))
        assert found["AbsRel"][i] == pytest.approx(np.mean(np.abs(p - t) / t))
        assert found["RMSE"][i] == pytest.approx(np.sqrt(np.mean((p - t) ** 2)))
        log = np.log(p) - np.log(t)
        assert found["SILog"][i] == pytest.approx(np.sqrt((log**2).mean() - log.mean() ** 2))


def test_unknown_depth_changes_no_score_and_a_picture_without_any_has_none(notebook, maps):
    _, truth = maps
    predicted = np.where(np.isnan(truth), 7.0, truth * 1.1)
    other = np.where(np.isnan(truth), 7000.0, predicted)
    for k, values in notebook["scores"](predicted, truth).items():
        np.testing.assert_array_equal(values, notebook["scores"](other, truth)[k])
    nothing = notebook["scores"](predicted, np.full_like(truth, np.nan))
    assert all(np.isnan(values).all() for values in nothing.values())


def test_a_wrong_scale_shows_in_all_scores_but_silog(notebook, maps):
    _, truth = maps
    found = notebook["scores"](truth * 3, truth)
    assert (found["delta3"] == 0).all()
    np.testing.assert_allclose(found["SILog"], 0, atol=1e-12)
    np.testing.assert_allclose(found["AbsRel"], 2)


def test_alignment_finds_an_affine_map_of_disparity_with_either_sign(notebook, maps):
    _, truth = maps
    for scale, shift in ((0.3, 0.02), (-0.5, 2.0)):
        guess = 1 / np.where(np.isnan(truth), 1.0, scale / truth + shift)
        fitted = notebook["align"](guess, truth, 0.5, 50)
        known = ~np.isnan(truth)
        np.testing.assert_allclose(fitted[known], truth[known], rtol=1e-6)
        assert np.isfinite(fitted).all()


def test_alignment_of_a_constant_is_one_depth_per_picture_within_the_range(notebook, maps):
    _, truth = maps
    fitted = notebook["align"](np.ones_like(truth), truth, 0.5, 50)
    best = 1 / np.nanmean(1 / truth, axis=(1, 2))
    np.testing.assert_allclose(fitted, np.broadcast_to(best[:, None, None], truth.shape))
    assert notebook["align"](np.ones_like(truth), truth, 8, 9).min() >= 8


def test_interval_covers_the_mean_and_widens_when_runs_differ(notebook):
    rng = np.random.default_rng(0)
    values = rng.normal(3, 1, 400)
    mean, low, high = notebook["interval"](values)
    assert mean == pytest.approx(values.mean())
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    _, low2, high2 = notebook["interval"](np.stack([values - 1, values, values + 1]))
    assert high2 - low2 > 3 * (high - low)
    assert notebook["interval"]([1.0] * 20 + [np.nan]) == (1.0, 1.0, 1.0)


def test_grid_takes_true_pixels(notebook):
    maps = np.arange(2 * 224 * 224).reshape(2, 224, 224)
    found = notebook["at_grid"](maps, 64)
    assert found.shape == (2, 64, 64)
    assert found[1, 0, 0] == maps[1, 1, 1] and found[0, 63, 0] == maps[0, 222, 1]
    np.testing.assert_array_equal(notebook["at_grid"](maps, 224), maps)


@pytest.fixture
def log_maps():
    rng = torch.Generator().manual_seed(0)
    true = torch.rand(2, 9, 8, generator=rng, dtype=torch.float64)
    true[0, :2] = torch.nan
    true[1, 4, 4] = torch.nan
    guess = torch.rand(2, 9, 8, generator=rng, dtype=torch.float64)
    return guess.requires_grad_(), true


def test_silog_loss_by_hand(notebook):
    true = torch.zeros(1, 1, 4, dtype=torch.float64)
    guess = torch.tensor([[[1.0, 3.0, 1.0, 3.0]]], dtype=torch.float64)
    loss = notebook["silog_loss"]
    assert loss(guess, true, keep=1).item() == pytest.approx(1)
    assert loss(guess, true, keep=0).item() == pytest.approx(np.sqrt(5))
    assert loss(guess, true).item() == pytest.approx(np.sqrt(1 + 0.15 * 4))
    true[..., 3] = torch.nan
    assert loss(guess, true, keep=1).item() == pytest.approx(np.std([1, 3, 1]))


def test_gradient_loss_by_hand(notebook):
    true = torch.zeros(1, 2, 3, dtype=torch.float64)
    guess = torch.tensor([[[0.0, 1.0, 3.0], [0.0, 1.0, 7.0]]], dtype=torch.float64)
    down, across = (0 + 0 + 4) / 3, (1 + 2 + 1 + 6) / 4
    loss = notebook["gradient_loss"]
    assert loss(guess, true, scales=1).item() == pytest.approx((down + across) / 2)
    true[0, 1, 2] = torch.nan  # takes one pair from each direction
    assert loss(guess, true, scales=1).item() == pytest.approx((0 + (1 + 2 + 1) / 3) / 2)
    thinned = (0 + 3) / 1  # one pair across, no second row
    both = (0 + (1 + 2 + 1) / 3 + thinned) / 4
    assert loss(guess, true, scales=2).item() == pytest.approx(both)


def test_losses_ignore_what_they_should(notebook, log_maps):
    guess, true = log_maps
    for name in ("silog_loss", "gradient_loss"):
        moved = guess.detach() + torch.isnan(true) * 100.0
        value = notebook[name](guess, true).item()
        assert np.isfinite(value) and value == pytest.approx(notebook[name](moved, true).item())
    scaled = notebook["gradient_loss"](guess + 2, true)
    assert scaled.item() == pytest.approx(notebook["gradient_loss"](guess, true).item())


@pytest.mark.parametrize("name", ["silog_loss", "gradient_loss", "depth_loss"])
def test_gradients_are_those_of_finite_differences(notebook, log_maps, name):
    guess, true = log_maps
    assert torch.autograd.gradcheck(lambda x: notebook[name](x, true), (guess,))
    (gradient,) = torch.autograd.grad(notebook[name](guess, true), guess)
    assert torch.isfinite(gradient).all()
    assert (gradient[0, 0] == 0).all()  # nothing is known there


def test_depth_loss_enlarges_the_guess(notebook):
    true = torch.log(torch.linspace(1, 3, 64)).repeat(1, 32, 1)
    assert notebook["depth_loss"](torch.zeros(1, 8, 16), true) > 0
    flat, same = torch.full((1, 8, 16), 0.7), torch.full((1, 32, 64), 0.7)
    assert notebook["depth_loss"](flat, same).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("log", [True, False])
def test_bins_span_the_range_and_their_mean_stays_in_it(notebook, log):
    centres = notebook["bin_centres"](0.5, 40.0, 32, log)
    reference = np.geomspace(0.5, 40, 32) if log else np.linspace(0.5, 40, 32)
    np.testing.assert_allclose(centres, reference, rtol=1e-4)
    rng = torch.Generator().manual_seed(0)
    score = 10 * torch.randn(5, 4, 3, 32, generator=rng)
    depth = notebook["expected_log_depth"](score, centres, log).exp()
    assert depth.shape == (5, 4, 3) and depth.min() > 0.5 and depth.max() < 40
    certain = torch.full((1, 32), -1.0)
    certain[0, 20] = 1e6
    found = notebook["expected_log_depth"](certain, centres, log).exp()
    assert found.item() == pytest.approx(centres[20].item(), rel=1e-3)


def test_equal_weights_give_the_mean_of_the_bins(notebook):
    centres = torch.tensor([1.0, 4.0])
    none = torch.zeros(1, 2)
    assert notebook["expected_log_depth"](none, centres, True).exp().item() == pytest.approx(2)
    assert notebook["expected_log_depth"](none, centres, False).exp().item() == pytest.approx(2.5)


@pytest.mark.parametrize(("grid", "dim"), [((16, 16), 12), ((5, 9), 7), ((1, 1), 20)])
def test_heads_take_any_grid_and_width(notebook, grid, dim):
    patches, cls = torch.randn(2, *grid, 4 * dim), torch.randn(2, 4 * dim)
    centres = notebook["bin_centres"](0.5, 40.0, 6, True)
    linear = notebook["LinearHead"](slice(3 * dim, 4 * dim))
    bins = notebook["LinearHead"](slice(0, 4 * dim), centres, cls=True)
    dpt = notebook["SmallDPT"](dim, centres)
    assert linear(patches, cls).shape == bins(patches, cls).shape == (2, *grid)
    fine = dpt(patches, cls)
    assert fine.shape == (2, 2 * grid[0], 2 * grid[1])
    assert fine.exp().min() > 0.5 and fine.exp().max() < 40
    assert notebook["ImageMLP"](dim, 8)(cls[:, :dim]).shape == (2, 8, 8)


def test_adding_cls_is_joining_it_to_every_patch(notebook):
    patches, cls = torch.randn(2, 3, 4, 10), torch.randn(2, 10)
    head = notebook["LinearHead"](slice(0, 10), cls=True)
    weights = torch.cat([head.patch.weight, head.cls.weight], dim=1)
    joined = torch.cat([patches, cls[:, None, None].expand(2, 3, 4, 10)], dim=-1)
    torch.testing.assert_close(
        head(patches, cls), (joined @ weights.T + head.patch.bias)[..., 0], atol=1e-5, rtol=1e-5
    )


def test_a_linear_head_learns_a_linear_depth_and_seeds_repeat(notebook):
    rng = torch.Generator().manual_seed(0)
    patches, cls = torch.randn(40, 4, 4, 6, generator=rng), torch.randn(40, 6, generator=rng)
    true = patches @ torch.tensor([0.5, -0.2, 0.1, 0.0, 0.3, 0.1]) + 1
    true[:, 0, 0] = torch.nan

    def trained(seed, pool=None):
        make = lambda: notebook["LinearHead"](slice(0, 6))  # noqa: E731
        options = {"steps": 120, "batch": 16, "rate": 5e-2, "seed": seed, "pool": pool}
        head = notebook["train_head"](make, (patches, cls), true, **options)
        return notebook["predict"](head, (patches, cls), side=4)

    first = trained(0)
    known = torch.isfinite(true).numpy()
    error = np.abs(np.log(first[known]) - true.numpy()[known])
    assert error.mean() < 0.05
    np.testing.assert_array_equal(first, trained(0))
    assert (trained(0, pool=[1, 2]) != first).any()


def test_edges_of_a_step_and_of_nothing(notebook):
    from PIL import Image

    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, 32:] = 255
    strength = notebook["edges"](Image.fromarray(picture), 16).numpy()
    assert strength.shape == (16, 16) and strength.min() >= 0 and strength.max() <= 1
    assert (strength[:, [7, 8]] > 0).all() and (strength[:, :6] == 0).all()
    assert (notebook["edges"](Image.new("RGB", (64, 64)), 16) == 0).all()


def test_correlation_leaves_unknown_depth_out(notebook, maps):
    _, truth = maps
    np.testing.assert_allclose(notebook["correlation"](-2 * truth + 1, truth), -1)
    noise = np.random.default_rng(1).normal(size=truth.shape)
    known = np.isfinite(truth[0])
    expected = np.corrcoef(noise[0][known], truth[0][known])[0, 1]
    assert notebook["correlation"](noise, truth)[0] == pytest.approx(expected)


@pytest.fixture(scope="module")
def views():
    return samples.load_views("train", kind="turntable", toy_id=lambda toy: toy.startswith("dog"))


def test_reprojection_is_that_of_the_cameras(notebook, views):
    i, j = 3, 5
    depth = np.stack([views.depth(k) for k in (i, j)])
    log = torch.from_numpy(np.log(np.nan_to_num(depth, nan=40.0)))
    cameras = notebook["stack_cameras"]([views.table[k] for k in (i, j)])
    sides = [[x[k : k + 1] for x in cameras] for k in (0, 1)]
    gap, inside = notebook["reproject"](log[:1], log[1:], *sides)
    x, y = np.meshgrid(np.arange(20, 220, 10), np.arange(60, 220, 10))
    points = np.stack([x.ravel(), y.ravel()], 1) + 0.5
    source = pairing.read_source(Project(), "evidence/01_feature_space")
    found, visible = lift(source, "true_places")["true_places"](views, i, j, points)
    world = samples.unproject(points, depth[0][y.ravel(), x.ravel()], views.table[i]["camera"])
    _, distance = samples.project(world, views.table[j]["camera"])
    at_points = gap[0][y.ravel(), x.ravel()].numpy()
    assert visible.mean() > 0.5
    assert inside[0][y.ravel(), x.ravel()].numpy()[visible].all()
    # the depth of view j is taken between pixels, so only edges may differ
    assert np.median(np.abs(at_points[visible])) < 2e-3
    assert (np.abs(at_points[visible]) < 0.02).mean() > 0.95
    u, v = found[visible].astype(int).T
    expected = np.log(distance[visible] / depth[1][v, u])
    assert np.median(np.abs(at_points[visible] - expected)) < 2e-3


def test_what_is_consistent_without_being_right(notebook, views):
    depth = torch.from_numpy(np.stack([views.depth(k) for k in (0, 1)]))
    cameras = notebook["stack_cameras"](views.table[:2])
    sides = [[x[k : k + 1] for x in cameras] for k in (0, 1)]

    def gap(log):
        gap, inside = notebook["reproject"](log[:1], log[1:], *sides)
        return gap[inside].abs().median().item()

    log = depth.nan_to_num(40).log()
    assert gap(torch.full_like(log, 1.0)) > 20 * gap(log)  # a wall in front of each camera
    assert gap(torch.full_like(log, 12.0)) < 0.05  # very far away
    assert gap(log + 0.5) < 0.01  # a lower ground: cameras of one height agree on it


def test_a_camera_agrees_with_itself_at_every_size_and_passes_gradients(notebook, views):
    camera = notebook["stack_cameras"](views.table[:1])
    log = torch.rand(1, 6, 9).requires_grad_()
    gap, inside = notebook["reproject"](log, log, camera, camera)
    assert gap.shape == inside.shape == (1, 6, 9) and inside.all()
    torch.testing.assert_close(gap, torch.zeros_like(gap), atol=1e-4, rtol=0)
    other = notebook["stack_cameras"](views.table[1:2])
    gap, inside = notebook["reproject"](log, log, camera, other)
    (gradient,) = torch.autograd.grad((gap * inside).sum(), log)
    assert torch.isfinite(gradient).all() and gradient.abs().sum() > 0


def test_neighbours_are_one_step_of_the_turntable(notebook):
    table = [
        {"toy_id": toy, "azimuth": azimuth}
        for toy, around in (("a", (0.0, 15.0, 345.0)), ("b", (0.0, 30.0)))
        for azimuth in around
    ]
    assert sorted(notebook["neighbours"](table).tolist()) == [[0, 1], [2, 0]]


def test_consistency_losses_are_zero_for_a_consistent_head(notebook, views):
    torch.manual_seed(0)
    patches, cls = torch.randn(6, 4, 4, 3), torch.randn(6, 3)
    mirrored = (patches.flip(2), cls)

    def head(patches, cls):
        return patches.sum(-1)

    assert notebook["flip_loss"](head, (patches, cls), mirrored).item() == 0
    assert notebook["flip_loss"](head, (patches, cls), (patches, cls)).item() > 0.1
    cameras = notebook["stack_cameras"](views.table[:6])
    pairs = torch.tensor([[0, 1], [2, 3]])
    same = torch.tensor([[0, 0], [2, 2]])
    loss = notebook["view_loss"]
    assert loss(head, (patches, cls), same, cameras).item() == pytest.approx(0, abs=1e-4)
    assert 0 < loss(head, (patches, cls), pairs, cameras).item() <= 0.3


def test_scores_by_distance_against_a_loop(notebook, maps):
    _, truth = maps
    truth = np.tile(truth, (1, 4, 4))
    predicted = np.where(np.isnan(truth), 1.0, truth) * np.where(truth < 5, 1.1, 2.0)
    limits = np.array([0.5, 5.0, 25.0, 100.0])
    found = notebook["by_distance"](predicted, truth, limits)
    np.testing.assert_array_equal(found[:, 0], 1)
    np.testing.assert_array_equal(found[:, 1], 0)
    assert np.isnan(found[:, 2]).all()


def test_points_drawn_from_their_own_camera_give_the_picture(notebook, views):
    picture, depth = views.image(0), views.depth(0)
    camera = views.table[0]["camera"]
    drawn = notebook["splat"](*notebook["cloud"](picture, depth, camera), camera, size=1)
    known = np.isfinite(depth)
    same = (drawn == np.asarray(picture)).all(-1)
    assert same[known].mean() > 0.99  # a rounding may push a point over a pixel's border
    assert (drawn[~known] == 255).mean() > 0.95


def test_near_points_hide_far_ones(notebook, views):
    camera = views.table[0]["camera"]
    pixel = np.array([[100.5, 90.5], [100.5, 90.5]])
    points = samples.unproject(pixel, np.array([1.0, 2.0]), camera)
    colours = np.array([[255, 0, 0], [0, 255, 0]], np.uint8)
    for order in ([0, 1], [1, 0]):
        drawn = notebook["splat"](points[order], colours[order], camera)
        assert (drawn[90, 100] == [255, 0, 0]).all()


def test_an_orbit_keeps_the_distance_and_looks_at_the_pivot(notebook, views):
    camera = views.table[0]["camera"]
    pivot = samples.unproject([[112, 112]], [2.0], camera)[0]
    for azimuth, elevation in ((0, 0), (40, 0), (-30, 25)):
        moved = notebook["orbit"](camera, pivot, azimuth, elevation)
        place, depth = samples.project(pivot[None], moved)
        np.testing.assert_allclose(place, [[112, 112]], atol=1e-2)
        assert depth[0] == pytest.approx(2, rel=1e-4)
    higher = notebook["orbit"](camera, pivot, 0, 25)["world_from_camera"][2][3]
    assert higher > camera["world_from_camera"][2][3]
    np.testing.assert_allclose(
        notebook["rotation"]([0, 0, 1], 90) @ [1, 0, 0], [0, 1, 0], atol=1e-9
    )


def test_verdicts(notebook):
    verdict = notebook["verdict_of"]
    assert verdict(True) == "holds" and verdict(False) == "does not hold"
    assert verdict(False, True) == "holds in part"


@pytest.fixture
def like_named(tmp_path):
    """A folder with a broken picture, and the same two names in two folders named alike."""
    for day in ("day1", "day2"):
        folder = tmp_path / day / "raw"
        folder.mkdir(parents=True)
        for name in ("a.png", "b.png"):
            Image.new("RGB", (30, 20)).save(folder / name)
    (tmp_path / "0.png").write_bytes(b"no picture")
    return tmp_path


def test_pictures_of_the_same_name_are_all_shown(notebook, like_named, monkeypatch, capsys):
    pictures = notebook["first_readable"](like_named, most=4)
    paths = ["day1/raw/a.png", "day1/raw/b.png", "day2/raw/a.png", "day2/raw/b.png"]
    assert list(pictures) == paths
    assert "left out: " in capsys.readouterr().out
    assert list(notebook["first_readable"](like_named, most=2)) == paths[:2]

    shown = []
    monkeypatch.setattr(plotting, "show", shown.append)
    notebook["show_depth"](pictures, lambda given: {name: np.ones((20, 30)) for name in given})
    assert [ax.get_title() for ax in shown[0].axes[:4]] == paths


def test_no_readable_picture_is_a_sentence(notebook, capsys):
    notebook["show_depth"]({}, estimate=None)
    assert "none of the pictures can be read" in capsys.readouterr().out
