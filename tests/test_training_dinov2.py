"""The losses, crops and bookkeeping of the training of the embedded DINOv2."""

import dataclasses
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from training.dinov2 import augment, losses
from training.dinov2.config import Recipe
from training.dinov2.material import Pool
from training.dinov2.train import Training, export

pytestmark = pytest.mark.computes


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def recipe():
    return Recipe(
        width=24, depth=2, heads=2, steps=6, toys=4, scenes=4,
        phases=((0.0, 56, 1.0), (0.5, 84, 0.5)), local_crops=2, prototypes=16,
    )  # fmt: skip


@pytest.fixture
def material(tmp_path):
    rng = np.random.default_rng(0)
    for name, shape in (("toys", (6, 3, 70, 70, 3)), ("multi", (6, 70, 70, 3))):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "00000.npy", rng.integers(0, 256, shape, dtype=np.uint8))
    return tmp_path


def test_sinkhorn_balances_rows_and_columns(generator):
    assignments = losses.sinkhorn(torch.randn(64, 8, generator=generator), 0.5, iterations=50)
    torch.testing.assert_close(assignments.sum(1), torch.ones(64))
    torch.testing.assert_close(assignments.sum(0), torch.full((8,), 8.0), atol=1e-3, rtol=0)


def test_sinkhorn_survives_sharp_scores():
    assignments = losses.sinkhorn(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]) * 50, 0.04)
    torch.testing.assert_close(assignments, torch.eye(2))


def test_dino_loss_ignores_a_crop_matched_with_itself():
    sure = torch.tensor([[1.0, 0.0]])
    unsure = torch.tensor([[0.5, 0.5]])
    scores = [torch.tensor([[0.0, 9.0]]), torch.tensor([[9.0, 0.0]])]
    expected = (
        losses.cross_entropy(sure, scores[1], 1.0) + losses.cross_entropy(unsure, scores[0], 1.0)
    ) / 2
    assert losses.dino_loss([sure, unsure], scores, 1.0) == pytest.approx(expected.item())


def test_koleo_prefers_spread_features():
    spread = torch.eye(4)
    crowded = torch.ones(4, 4) + 0.01 * torch.eye(4)
    assert losses.koleo_loss(spread) < losses.koleo_loss(crowded)


def test_info_nce_agrees_with_a_loop(generator):
    a, b = (F.normalize(torch.randn(5, 3, generator=generator), dim=1) for _ in range(2))
    z = torch.cat([a, b]).numpy()
    total = 0.0
    for i in range(10):
        scores = np.exp(z @ z[i] / 0.2)
        total -= np.log(scores[(i + 5) % 10] / (scores.sum() - scores[i]))
    assert losses.info_nce(a, b, 0.2).item() == pytest.approx(total / 10, rel=1e-5)


def test_crops_and_maps_agree(generator):
    """A picture whose values are its coordinates shows where each crop pixel came from."""
    line = torch.linspace(-1, 1, 201)
    picture = torch.stack(
        [line.expand(201, 201), line[:, None].expand(201, 201), line * 0 + 0 * line[:, None]]
    )
    maps = augment.random_crop_maps(8, (0.2, 0.8), generator)
    crops = augment.sample_crops(picture.expand(8, 3, 201, 201), maps, 4, supersample=4)
    centres = (torch.arange(4) + 0.5) / 4 * 2 - 1
    for crop, m in zip(crops, maps, strict=True):
        torch.testing.assert_close(crop[0, 0], m[0, 0] * centres + m[0, 2], atol=0.02, rtol=0)
        torch.testing.assert_close(crop[1, :, 0], m[1, 1] * centres + m[1, 2], atol=0.02, rtol=0)


def test_matched_patches_show_the_same_place(generator):
    maps_a, maps_b = (augment.random_crop_maps(16, (0.3, 1.0), generator) for _ in range(2))
    crop, i, j = losses.match_patches(maps_a, maps_b, 8, 10, generator)
    assert len(crop) > 40

    def places(maps, index):
        centre = torch.stack([index % 8, index // 8], -1) / 4 - 1 + 1 / 8
        return maps[crop][:, [0, 1], [0, 1]] * centre + maps[crop][:, :, 2]

    apart = (places(maps_a, i) - places(maps_b, j)).abs()
    half_patch = maps_b[crop][:, [0, 1], [0, 1]].abs() / 8
    assert (apart <= half_patch + 1e-5).all()


def test_jitter_without_strength_changes_nothing(generator):
    still = augment.ColourJitter(brightness=0, contrast=0, saturation=0, hue=0, grey=0, blur=0)
    crops = torch.rand(3, 3, 16, 16, generator=generator)
    torch.testing.assert_close(
        augment.jitter_colours(crops, still, generator), crops, atol=1e-5, rtol=0
    )


def test_grey_crops_have_equal_channels(generator):
    grey = augment.ColourJitter(hue=0.3, grey=1.0)
    crops = augment.jitter_colours(torch.rand(3, 3, 16, 16, generator=generator), grey, generator)
    assert (crops.max(1).values - crops.min(1).values).max() < 1e-2


def test_masks_hide_half_of_the_crops_within_the_ratio(generator):
    share = augment.random_masks(2000, 8, (0.1, 0.5), generator).float().mean(1)
    masked = share[share > 0]
    assert 0.45 < len(masked) / 2000 < 0.55
    assert masked.min() >= 0.1 and masked.max() <= 0.52


def test_pool_pairs_different_renders_of_one_toy(tmp_path, generator):
    toys = np.arange(5, dtype=np.uint8)[:, None] * 10 + np.arange(3, dtype=np.uint8)
    np.save(tmp_path / "00000.npy", np.broadcast_to(toys[..., None, None, None], (5, 3, 4, 4, 3)))
    first, second = Pool(tmp_path, torch.device("cpu")).batch(5, generator)
    first, second = (x[:, 0, 0, 0].mul(255).round().int() for x in (first, second))
    assert (first // 10 == second // 10).all()
    assert (first != second).all()
    assert len(set((first // 10).tolist())) == 5


def test_pool_picks_up_shards_as_they_appear(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"training\.world\.material"):
        Pool(tmp_path, torch.device("cpu"))
    np.save(tmp_path / "00000.npy", np.zeros((2, 4, 4, 3), np.uint8))
    pool = Pool(tmp_path, torch.device("cpu"))
    np.save(tmp_path / "00001.npy", np.zeros((3, 4, 4, 3), np.uint8))
    pool.refresh()
    assert len(pool) == 5


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(recipe, material, tmp_path):
    whole = Training(recipe, material, tmp_path / "whole", "cpu")
    log = list(whole.run(minutes=5, log_every=6))

    first = Training(recipe, material, tmp_path / "parts", "cpu")
    for _ in range(3):
        first.train_step()
    first.save()
    second = Training(dataclasses.replace(recipe, seed=99), material, tmp_path / "parts", "cpu")
    assert second.resume() and second.step == 3
    resumed = list(second.run(minutes=5, log_every=6))

    assert resumed[-1]["step"] == log[-1]["step"] == 6
    for name in ("dino", "ibot", "koleo", "contrast", "dense"):
        assert resumed[-1][name] == pytest.approx(log[-1][name], rel=1e-3)


def test_a_step_changes_every_part_and_the_teacher_follows(recipe, material, tmp_path):
    training = Training(recipe, material, tmp_path / "run", "cpu")
    before = {k: v.clone() for k, v in training.student.named_parameters()}
    taught = {k: v.clone() for k, v in training.teacher.named_parameters()}
    for _ in range(2):
        training.train_step()
    unchanged = {k for k, v in training.student.named_parameters() if torch.equal(v, before[k])}
    assert not unchanged
    moved = [k for k, v in training.teacher.named_parameters() if not torch.equal(v, taught[k])]
    assert len(moved) == len(taught)


def test_export_writes_a_model_that_transformers_loads(recipe, material, tmp_path):
    from transformers import AutoImageProcessor, AutoModel

    training = Training(recipe, material, tmp_path / "run", "cpu")
    export(training.teacher.backbone, tmp_path / "model")
    model = AutoModel.from_pretrained(tmp_path / "model", dtype=torch.float32)
    processor = AutoImageProcessor.from_pretrained(tmp_path / "model", backend="pil")
    assert (
        json.loads((tmp_path / "model/config.json").read_text(encoding="utf-8"))["model_type"]
        == "dinov2"
    )
    pixels = processor(np.zeros((224, 224, 3), np.uint8), return_tensors="pt")["pixel_values"]
    assert model(pixels).last_hidden_state.shape == (1, 257, 24)
