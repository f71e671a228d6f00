"""The functions of notebook 03, lifted out of its text and compared with references."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import zoom
from scipy.special import expit, logit
from skimage.morphology import dilation, disk
from sklearn.cluster import SpectralClustering
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix, jaccard_score, roc_auc_score

from dinov2_helpers import extract_features, load_dinov2, to_pixels
from tools import pairing
from tools.lift import lift
from tools.project import Project


@pytest.fixture(scope="module")
def notebook():
    source = pairing.read_source(Project(), "03_semantic_segmentation")
    return lift(
        source, "iou", "reach", "boundary", "boundary_f", "bootstrap", "enlarge", "best_threshold",
        "auroc", "article_map", "outliers", "unlike_border", "border", "turn", "RULES",
        "first_component", "fit_clusters", "clusters_of", "vote", "tally", "saliency", "elect",
        "affinity", "normalised_cut", "foreground", "cuts", "cut_masks", "gains", "crf",
        "guided_filter", "walker", "probabilities", "low_level", "mixed", "things", "cut_out",
        "pool", "on_grid", "class_shares", "fit_probe", "training_set", "confusion", "class_iou",
        "toy_iou", "starts", "tiled", "similar_to", "look_inside", "without_head", "dense",
        "states_of", "facets_of", "first_readable", "segment",
        "show_cut_out",
    )  # fmt: skip


def blob(centre, radius, side=40):
    y, x = np.mgrid[:side, :side]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2


def two_blocks(n=6, m=10, between=0.05):
    graph = np.full((n + m, n + m), between)
    graph[:n, :n] = graph[n:, n:] = 1.0
    return graph


# masks


def test_iou_is_sklearns_jaccard_and_knows_empty_masks(notebook):
    a, b = blob((18, 18), 9), blob((22, 20), 8)
    assert notebook["iou"](a, b) == pytest.approx(jaccard_score(a.ravel(), b.ravel()))
    empty = np.zeros((4, 4), bool)
    assert notebook["iou"](empty, empty) == 1 and notebook["iou"](empty, ~empty) == 0


def test_boundary_f_against_dilation_by_a_disk(notebook):
    a, b = blob((18, 18), 9), blob((21, 19), 8)
    edges = [notebook["boundary"](m) for m in (a, b)]
    wide = [dilation(edge, disk(2)) for edge in edges]
    precision = (edges[0] & wide[1]).sum() / edges[0].sum()
    recall = (edges[1] & wide[0]).sum() / edges[1].sum()
    expected = 2 * precision * recall / (precision + recall)
    assert notebook["boundary_f"](a, b, tolerance=2) == pytest.approx(expected)


def test_boundary_f_edge_cases(notebook):
    score, a, empty = notebook["boundary_f"], blob((20, 20), 8), np.zeros((40, 40), bool)
    assert score(a, a) == 1 and score(empty, empty) == 1
    assert score(a, empty) == 0 and score(empty, a) == 0
    assert score(blob((8, 8), 4), blob((30, 30), 4)) == 0
    assert not notebook["boundary"](~empty).any(), "the frame of a picture is no boundary"


def test_a_mask_that_is_shifted_by_the_tolerance_is_still_perfect(notebook):
    a = np.zeros((40, 40), bool)
    a[10:20, 10:20] = True
    assert notebook["boundary_f"](a, np.roll(a, 2, axis=1), tolerance=2) == 1
    assert notebook["boundary_f"](a, np.roll(a, 3, axis=1), tolerance=2) < 1


def test_auroc_is_sklearns(notebook):
    rng = np.random.default_rng(0)
    maps, truth = rng.normal(size=(3, 8, 8)), np.array([blob((18, 14), r, 32) for r in (5, 9, 12)])
    small = notebook["enlarge"](maps, 8)
    expected = [
        roc_auc_score(t[2::4, 2::4].ravel(), m.ravel()) for t, m in zip(truth, small, strict=True)
    ]
    assert notebook["auroc"](maps, truth) == pytest.approx(np.mean(expected))


def test_the_threshold_between_two_levels_is_found(notebook):
    truth = np.zeros((2, 64, 64), bool)
    truth[:, 16:48, 16:48] = True
    maps = np.where(truth[:, ::4, ::4], 3.0, 1.0)
    threshold, score = notebook["best_threshold"](maps, truth)
    assert 1 <= threshold < 3 and score == 1


def test_bootstrap_interval_of_a_mean(notebook):
    values = np.random.default_rng(1).normal(2, 1, 400)
    mean, low, high = notebook["bootstrap"](values)
    half = 1.96 * values.std() / 20
    assert mean == pytest.approx(values.mean())
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.02)


def test_the_rule_for_tips(notebook):
    rng = np.random.default_rng(0)
    noise = 0.01 * rng.normal(size=(50, 2))
    assert notebook["gains"](noise + np.array([0.1, 0.0]))
    assert not notebook["gains"](noise + np.array([0.1, -0.1])), "one score falls"
    assert not notebook["gains"](noise + np.array([0.01, 0.01])), "too little"


def test_confusion_and_class_iou_are_sklearns(notebook):
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 4, size=(2, 8, 8))
    probe = rng.normal(size=(5, 4)), rng.normal(size=4)
    patches = rng.normal(size=(2, 8, 8, 5))
    guess = (patches @ probe[0] + probe[1]).argmax(-1)
    counts = notebook["confusion"](probe, patches, classes)
    np.testing.assert_array_equal(counts, confusion_matrix(classes.ravel(), guess.ravel()))
    expected = jaccard_score(classes.ravel(), guess.ravel(), average=None)
    np.testing.assert_allclose(notebook["class_iou"](counts), expected)
    toy = jaccard_score(classes.ravel() > 0, guess.ravel() > 0)
    assert notebook["toy_iou"](counts) == pytest.approx(toy)


def test_a_class_that_is_nowhere_has_no_iou(notebook):
    scores = notebook["class_iou"](np.diag([3, 0, 2]))
    assert np.isnan(scores[1]) and np.nanmean(scores) == 1


# the article's map, attention, facets


@pytest.fixture(scope="module", params=["dinov2_folder", "registers_folder"])
def eager(request):
    folder = request.getfixturevalue(request.param)
    return load_dinov2(folder, device="cpu", attention="eager")


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 255, size=(3, 56, 84, 3)).astype(np.uint8)


def test_attention_is_read_at_the_patches_also_behind_registers(notebook, eager, pictures):
    attention, norms = notebook["look_inside"](eager, pictures, 56, batch=2)
    assert attention.shape == (3, eager.n_layers, eager.n_heads, 4, 6)
    last = extract_features(eager, pictures, size=56, fit="resize", attention=True).attention
    np.testing.assert_allclose(attention[:, -1], last, atol=1e-6)
    assert norms.shape == (3, eager.n_layers, 4, 6) and (norms > 0).all()


def test_silencing_a_head_changes_the_slice_and_the_rest(notebook, eager, pictures):
    image = Image.fromarray(pictures[0])
    pixels = torch.from_numpy(to_pixels(image, eager, size=56, fit="resize"))[None]
    whole = eager.model(pixel_values=pixels).last_hidden_state[0].detach().numpy()
    changed = [notebook["without_head"](eager, pixels, i) for i in range(eager.n_heads)]
    for one in changed:
        assert np.abs(one - whole)[:, :12].max() > 1e-6 < np.abs(one - whole)[:, 12:].max()
    again = eager.model(pixel_values=pixels).last_hidden_state[0].detach().numpy()
    np.testing.assert_array_equal(again, whole)


@pytest.mark.parametrize("facet", ["query", "key", "value", "token"])
def test_a_facet_of_a_layer_by_its_name(notebook, eager, pictures, facet):
    found = notebook["dense"](eager, pictures, 56, facet, 1)
    everything = extract_features(
        eager, pictures, size=56, fit="resize", layers=[1], facets=["query", "key", "value"],
        facet_layer=1,
    )  # fmt: skip
    expected = everything.layers[1].patches if facet == "token" else everything.facets[facet]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_all_facets_of_all_layers_from_one_pass(notebook, eager, pictures):
    states = notebook["states_of"](eager, pictures, 56)
    names = ("query", "key", "value", "token")
    for layer in range(eager.n_layers):
        found = notebook["facets_of"](eager, states, layer, (4, 6))
        for facet, values in zip(names, found, strict=True):
            expected = notebook["dense"](eager, pictures, 56, facet, layer)
            np.testing.assert_allclose(values, expected, atol=1e-5)


def test_the_articles_map_has_one_value_per_patch_and_cannot_be_14_by_14(notebook):
    tokens = np.random.default_rng(0).normal(size=(256, 192))
    found = notebook["article_map"](tokens)
    assert found.shape == (256,) and np.abs(found).max() <= 1
    with pytest.raises(ValueError, match="cannot reshape"):
        found.reshape(14, 14)


def test_outliers_are_counted_by_the_median(notebook):
    norms = np.ones((2, 4, 4))
    norms[0, 1, 1] = 10
    assert notebook["outliers"](norms) == 1 / 32


def test_a_thing_is_unlike_the_border(notebook):
    patches = np.tile([1.0, 0, 0], (1, 6, 6, 1))
    patches[0, 2:4, 2:4] = [0, 2.0, 0]
    found = notebook["unlike_border"](patches)[0]
    expected = np.zeros((6, 6))
    expected[2:4, 2:4] = 1
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert notebook["border"](6, 6).sum() == 20


@pytest.mark.parametrize("flip", [1, -1])
def test_every_sign_rule_turns_a_small_central_thing_up(notebook, flip):
    rng = np.random.default_rng(0)
    patches = 0.05 * rng.normal(size=(4, 10, 10, 8))
    patches[..., 0] += 1
    patches[:, 4:7, 4:7, 0] -= 1
    patches[:, 4:7, 4:7, 1] += 1
    scores = flip * notebook["first_component"](patches)
    for rule in notebook["RULES"]:
        turned = notebook["turn"](scores, rule)
        assert turned[:, 5, 5].mean() > 0 > turned[:, 0].mean(), rule


def test_clusters_vote_by_how_often_they_are_at_the_border(notebook):
    patches = np.tile([1.0, 0, 0, 0], (3, 6, 6, 1))
    patches[:, 2:4, 2:4] = [0, 1.0, 0, 0]
    model = notebook["fit_clusters"](patches, 2, seed=0)
    at_border = np.broadcast_to(notebook["border"](6, 6), (3, 6, 6)).astype(float)
    votes = notebook["vote"](notebook["clusters_of"]([model], patches), at_border, 2)
    assert sorted(votes) == pytest.approx([0, 20 / 32])
    found = notebook["saliency"]([(model, votes)], patches)
    assert (found[:, 2:4, 2:4] == 0).all() and found[0, 0, 0] == pytest.approx(20 / 32)


def test_an_election_holds_what_its_runs_say(notebook):
    patches = np.random.default_rng(0).normal(size=(3, 6, 6, 4))
    truth = np.zeros((3, 24, 24), bool)
    truth[:, 8:16, 8:16] = True
    ballots = {name: np.random.default_rng(i).random((3, 6, 6)) for i, name in enumerate("ab")}
    found = notebook["elect"](patches, ballots, 4, truth, seeds=2)
    assert set(found) == {"a", "b"}
    for threshold, score, runs, soft in found.values():
        assert len(runs) == 2 and (threshold, score) == notebook["best_threshold"](soft, truth)
        np.testing.assert_allclose(notebook["saliency"](runs, patches), soft)


# normalised cut


def test_the_cut_of_two_blocks_is_between_them(notebook):
    vector = notebook["normalised_cut"](two_blocks())
    side = vector > vector.mean()
    assert side[:6].all() != side[6:].all() and len(set(side[:6])) == len(set(side[6:])) == 1


def test_the_cut_agrees_with_spectral_clustering(notebook):
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(0, 0.4, (15, 2)), rng.normal(2.5, 0.4, (9, 2))])
    graph = np.exp(-((points[:, None] - points) ** 2).sum(-1))
    vector = notebook["normalised_cut"](graph)
    labels = SpectralClustering(2, affinity="precomputed", random_state=0).fit_predict(graph)
    side = vector > vector.mean()
    assert (side == labels).all() or (side == 1 - labels).all()


def test_the_cut_is_the_cheapest_of_all_splits_of_a_small_graph(notebook):
    graph = two_blocks(3, 4, 0.2)
    splits = [np.array([(code >> i) & 1 for i in range(7)], bool) for code in range(1, 2**7 - 1)]
    costs = [graph[s][:, ~s].sum() * (1 / graph[s].sum() + 1 / graph[~s].sum()) for s in splits]
    best = splits[int(np.argmin(costs))]
    side = notebook["normalised_cut"](graph) > 0
    assert (side == best).all() or (side == ~best).all()


def test_tokencuts_graph_and_side(notebook):
    cosines = np.array([[1.0, 0.3], [0.3, 1.0]])
    np.testing.assert_array_equal(notebook["affinity"](cosines, 0.2), 1)
    np.testing.assert_array_equal(notebook["affinity"](cosines, 0.4), [[1, 1e-5], [1e-5, 1]])
    vector = np.full((5, 5), -0.1)
    vector[2, 2], vector[2, 3], vector[0, 0] = 1.0, 0.5, 0.4
    largest = notebook["foreground"](vector.ravel(), (5, 5))
    assert largest.sum() == 2 and largest[2, 2] and not largest[0, 0], "only the connected part"
    off_border = notebook["foreground"](-vector.ravel(), (5, 5), "border")
    assert off_border[2, 2] and off_border.sum() == 3


def test_the_cut_finds_a_square_among_patches(notebook):
    rng = np.random.default_rng(0)
    patches = 0.1 * rng.normal(size=(2, 8, 8, 16))
    patches[..., 0] += 1
    patches[:, 3:6, 3:6] += [-1, 1] + [0] * 14
    square = np.zeros((8, 8))
    square[3:6, 3:6] = 1
    for side in ("largest", "border"):
        for mask in notebook["cut_masks"](notebook["cuts"](patches, 0.3), (8, 8), side):
            np.testing.assert_array_equal(mask, square)


def test_low_level_features_of_flat_cells(notebook):
    picture = np.zeros((1, 8, 8, 3), np.uint8)
    picture[:, :4] = 255
    colour, texture, place = notebook["low_level"](picture, (2, 2))
    assert colour[0, 0, 0, 0] == pytest.approx(100 / 30, rel=1e-3) and colour[0, 1, 0, 0] == 0
    np.testing.assert_allclose(texture, 0, atol=1e-6)
    assert place.shape == (1, 2, 2, 2)
    patches = np.ones((2, 2, 3))
    graph = notebook["mixed"](patches, colour[0], 0.5)
    assert graph[0, 1] == pytest.approx(1) and graph[0, 2] == pytest.approx(0.5, abs=1e-3)


# edges


def brute_force_crf(p, lab, radius, colour, near, weights, steps):
    height, width = p.shape
    p = np.clip(p, 0.02, 0.98)
    belief = logit(p)
    for _ in range(steps):
        new = np.empty_like(p)
        for y in range(height):
            for x in range(width):
                message = 0.0
                for kind, weight in enumerate(weights):
                    total = norm = 0.0
                    for v in range(max(0, y - radius), min(height, y + radius + 1)):
                        for u in range(max(0, x - radius), min(width, x + radius + 1)):
                            if (v, u) == (y, x):
                                continue
                            d = (v - y) ** 2 + (u - x) ** 2
                            k = np.exp(-d / (2 * near[kind] ** 2))
                            if kind == 0:
                                unlike = ((lab[v, u] - lab[y, x]) ** 2).sum()
                                k *= np.exp(-unlike / (2 * colour**2))
                            total += k * (2 * p[v, u] - 1)
                            norm += k
                    message += weight * total / (norm + 1e-6)
                new[y, x] = expit(belief[y, x] + message)
        p = new
    return p


@pytest.mark.parametrize("radius", [2, 6])
def test_the_crf_is_mean_field_by_brute_force(notebook, radius):
    rng = np.random.default_rng(0)
    p, lab = rng.random((5, 6)), 20 * rng.random((5, 6, 3))
    options = {"radius": radius, "colour": 8.0, "near": (4.0, 1.5), "weights": (2.0, 1.0)}
    found = notebook["crf"](p, lab, **options, steps=3)
    np.testing.assert_allclose(found, brute_force_crf(p, lab, **options, steps=3), atol=1e-4)


def test_the_crf_moves_a_blurred_edge_to_the_edge_of_the_picture(notebook):
    lab = np.zeros((24, 24, 3))
    lab[:, 13:] = [80, 0, 0]
    p = np.tile(expit((np.arange(24) - 10) / 2.0), (24, 1))
    truth = np.zeros((24, 24), bool)
    truth[:, 13:] = True
    before = notebook["iou"](p > 0.5, truth)
    assert notebook["iou"](notebook["crf"](p, lab) > 0.5, truth) == 1 > before


def test_the_guided_filter_keeps_a_flat_mask_and_follows_a_flat_guide(notebook):
    rng = np.random.default_rng(0)
    guide = 50 * rng.random((20, 20, 3))
    np.testing.assert_allclose(notebook["guided_filter"](np.full((20, 20), 0.7), guide), 0.7)
    p = rng.random((20, 20))
    flat = notebook["guided_filter"](p, np.full((20, 20, 3), 30.0), radius=2)
    assert flat.std() < 0.3 * p.std(), "a flat guide leaves nothing but a mean"


def test_the_guided_filter_takes_the_edge_of_the_guide(notebook):
    guide = np.zeros((30, 30, 3))
    guide[:, 15:] = [60, 20, 0]
    p = np.tile(np.clip((np.arange(30) - 9) / 12, 0, 1), (30, 1))
    found = notebook["guided_filter"](p, guide, radius=6)
    assert found[15, 15] - found[15, 14] > 0.4


def test_the_walker_needs_seeds_and_stays_within_colours(notebook):
    p = np.full((16, 16), 0.5)
    assert notebook["walker"](p, np.zeros((16, 16, 3))) is p
    lab = np.zeros((16, 16, 3))
    lab[:, 8:] = [60, 0, 0]
    p[:, 0], p[:, -1] = 0.0, 1.0
    found = notebook["walker"](p, lab)
    assert (found[:, 9:] > 0.5).all() and (found[:, :7] < 0.5).all()


def test_votes_become_one_half_at_the_threshold(notebook):
    votes = np.stack([np.full((4, 4), v) for v in (0.0, 1.0, 2.0)])
    p = notebook["probabilities"](votes, 1.0, 8)
    assert p.shape == (3, 8, 8) and p[0].max() < 0.01 < p[1].min() and p[2].min() > 0.99
    np.testing.assert_allclose(p[1], 0.5)


# names, probe, tiles


def test_things_are_connected_parts_that_are_large_enough(notebook):
    mask = blob((10, 10), 7) | blob((30, 30), 6)
    mask[0, 39] = True
    parts = notebook["things"](mask, smallest=20)
    assert len(parts) == 2 and (parts.sum(0) <= 1).all()
    assert notebook["things"](np.zeros((9, 9), bool)).shape == (1, 9, 9)


def test_a_cut_out_is_a_square_around_the_part(notebook):
    picture = np.zeros((40, 40, 3), np.uint8)
    part = np.zeros((40, 40), bool)
    part[12:23, 16:21] = True
    picture[part] = 255
    found = np.asarray(notebook["cut_out"](picture, part, margin=0.0))
    assert found.shape[0] == found.shape[1] == 10 and found.mean() > 60
    whole = notebook["cut_out"](picture, np.zeros((40, 40), bool))
    assert whole.size == (40, 40)


def test_pooling_takes_the_mean_of_what_the_mask_covers(notebook):
    patches = np.arange(8.0).reshape(1, 2, 2, 2)
    mask = np.zeros((1, 4, 4), bool)
    mask[0, :2, :2] = True
    weights = notebook["on_grid"](mask, (2, 2))
    np.testing.assert_allclose(notebook["pool"](patches, weights), [[0, 1]], atol=1e-4)


def test_shares_of_classes_in_patches(notebook):
    classes = np.array([[[0, 0, 2, 2], [0, 1, 2, 2]]])
    shares = notebook["class_shares"](classes, (1, 2), 3)
    np.testing.assert_allclose(shares[0, 0], [[0.75, 0.25, 0], [0, 0, 1]])


def test_the_probe_is_sklearns_logistic_regression(notebook):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4)) * [1, 2, 0.5, 1] + 1
    y = (x @ rng.normal(size=(4, 3)) + rng.normal(size=(300, 3))).argmax(1)
    weights = rng.uniform(0.5, 2, 300)
    decay = 1e-2
    matrix, offset = notebook["fit_probe"](x, np.eye(3)[y], weights, decay, steps=300)
    scaled = (x - x.mean(0)) / x.std(0, ddof=1)
    reference = LogisticRegression(C=1 / (2 * decay * weights.sum()), max_iter=5000, tol=1e-8)
    chances = reference.fit(scaled, y, weights).predict_proba(scaled)
    found = np.exp(x @ matrix + offset)
    np.testing.assert_allclose(found / found.sum(1, keepdims=True), chances, atol=2e-3)


def test_ground_is_subsampled_and_weighs_as_much_as_before(notebook):
    shares = np.zeros((1, 10, 10, 2))
    shares[..., 0] = 1
    shares[0, 4:6, 4:6] = [0.3, 0.7]
    x, y, weights = notebook["training_set"](
        np.ones((1, 10, 10, 3)), shares, np.random.default_rng(0)
    )
    assert len(x) == len(y) == 8 and weights.sum() == pytest.approx(100)


@pytest.mark.parametrize("size", [(16, 16), (20, 33), (7, 40), (5, 5)])
def test_tiles_give_back_what_does_not_depend_on_them(notebook, size):
    rng = np.random.default_rng(0)
    patch = 4
    picture = rng.integers(0, 255, size=(size[0] * patch, size[1] * patch, 3)).astype(np.uint8)

    def read(tiles):
        n, height, width, _ = tiles.shape
        cells = tiles.reshape(n, height // patch, patch, width // patch, patch, 3)
        return cells.mean((2, 4))

    found = notebook["tiled"](picture, read, patch, tile=8, overlap=4)
    np.testing.assert_allclose(found, read(picture[None])[0], atol=1e-9)


def test_tiles_cover_every_length(notebook):
    for length in range(1, 40):
        places = notebook["starts"](length, 8, 4)
        covered = {i for start in places for i in range(start, min(start + 8, length))}
        assert covered == set(range(length)) and len(set(places)) == len(places)


def test_enlarging_is_bilinear(notebook):
    maps = np.arange(16.0).reshape(1, 4, 4)
    found = notebook["enlarge"](maps, 8)[0]
    reference = zoom(maps[0], 2, order=1, grid_mode=True, mode="nearest")
    np.testing.assert_allclose(found, reference, atol=1e-5)


def test_a_patch_is_most_similar_to_itself(notebook):
    patches = np.random.default_rng(0).normal(size=(2, 3, 3, 5))
    found = notebook["similar_to"](patches, 1, 2, 0)
    assert found[1, 2, 0] == pytest.approx(1) and found.argmax() == np.ravel_multi_index(
        (1, 2, 0), found.shape
    )


def test_the_next_pictures_are_taken_where_the_first_cannot_be_read(notebook, tmp_path, capsys):
    broken = [tmp_path / f"{i:02}.png" for i in range(12)]
    for path in broken:
        path.write_bytes(b"no picture")
    readable = [Image.new("RGB", (20 + i, 20)) for i in range(14)]
    opened = notebook["first_readable"]([*broken, *readable], most=12)
    assert [picture.width for picture in opened] == list(range(20, 32))
    assert capsys.readouterr().out.count("left out: ") == 12


def test_no_readable_picture_is_a_sentence(notebook, capsys):
    notebook["show_cut_out"]([], recipe=())
    assert "none of the pictures can be read" in capsys.readouterr().out


def test_a_picture_is_refined_by_the_trial_that_was_chosen(notebook, dinov2, picture):
    asked = []

    def method(probability, lab, **options):
        asked.append(options)
        assert lab.shape == (*probability.shape, 3)
        return np.ones_like(probability)

    shown = picture(150, 100)
    patches = notebook["dense"](dinov2, [shown], 112, "token", 2)
    runs = [(notebook["fit_clusters"](patches, 3, seed=0), np.array([0.0, 0.5, 1.0]))]
    trial = (method, {"colour": 5.0})
    mask, _ = notebook["segment"](dinov2, shown, runs, 0.5, "token", 2, 112, trial)
    assert asked == [{"colour": 5.0}]
    assert mask.shape == (100, 150) and mask.all()
