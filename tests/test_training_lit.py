"""Material, model and bookkeeping of the training of the text tower, and how it is loaded."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dinov2_helpers import ModelError, load_dinov2
from dinov2_helpers.lit import load_lit, project, sha256_of_weights
from dinov2_helpers.samples import data_dir, load_scenes
from training.intervals import shares
from training.lit import card
from training.lit.config import Recipe
from training.lit.evaluate import patch_classes, place_hits, scores, worded_anew
from training.lit.material import (
    COLOURED,
    GREY,
    Described,
    describe,
    describe_shard,
    forms,
    is_mirrored,
)
from training.lit.model import Head, export
from training.lit.places import PlaceTraining, add_to, keep_patches, place_loss, shows
from training.lit.questions import caption_hits, class_hits, photo_of
from training.lit.train import Training

DINOV2 = data_dir() / "models" / "dinov2-tiny"
SHA256 = sha256_of_weights(DINOV2)


def facts(name, colour, x=40.0, framing="wide"):
    toy = {"class": name, "colour": colour, "flying": False, "x": x}
    return {"surface": "grass", "framing": framing, "objects": [toy]}


@pytest.fixture(scope="module")
def dinov2():
    return load_dinov2("tiny", device="cpu")


@pytest.fixture(scope="module")
def material(dinov2, tmp_path_factory):
    """A folder of pictures and one of their features."""
    folder = tmp_path_factory.mktemp("material")
    pictures, features = folder / "pictures", folder / "features"
    (pictures / "toys").mkdir(parents=True)
    (pictures / "multi").mkdir()
    rng = np.random.default_rng(0)
    cells = [(name, colour) for name in ("dog", "cat") for colour in ("red", "blue")]
    for name, shape in (("toys", (4, 2, 28, 28, 3)), ("multi", (4, 28, 28, 3))):
        np.save(pictures / name / "00000.npy", rng.integers(0, 256, shape, dtype=np.uint8))
    rows = {
        "toys": [{"views": [facts(*cell), facts(*cell)]} for cell in cells],
        "multi": [
            {**facts("car", "red"), "objects": facts("car", "red", 20.0)["objects"]
             + facts("boat", "green", 200.0)["objects"]}
        ] * 4,
    }  # fmt: skip
    for name, lines in rows.items():
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (pictures / name / "00000.jsonl").write_text(text, encoding="utf-8")
        target = features / name / "00000.safetensors"
        describe_shard(dinov2, SHA256, pictures / name / "00000.npy", target)
    return pictures, features


@pytest.fixture
def recipe():
    return Recipe(
        width=16, depth=1, heads=2, dim=8, hidden=8, steps=6, batch=8, warmup=0.3, grey=0.25
    )


@pytest.fixture
def described(material):
    return Described(*material, SHA256)


@pytest.fixture
def trained(recipe, described, tmp_path):
    """A folder that one short run has exported."""
    training = Training(recipe, described, tmp_path / "run", "cpu")
    training.train_step()
    export(training.texts, training.head, "dinov2-tiny", SHA256, tmp_path / "model")
    return training, tmp_path / "model"


def test_a_picture_has_a_coloured_and_a_grey_form_and_one_is_mirrored():
    pictures = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    shown = forms(pictures)
    assert shown.shape == (3, 2, 4, 4, 3) and shown.dtype == np.uint8
    for number in range(3):
        assert is_mirrored(number, COLOURED) != is_mirrored(number, GREY)
        for form in (COLOURED, GREY):
            upright = shown[number, form]
            if is_mirrored(number, form):
                upright = upright[:, ::-1]
            wanted = pictures[number]
            if form == GREY:
                assert (upright == upright[..., :1]).all()
                wanted = np.rint(wanted.mean(-1, keepdims=True))
            assert (upright == wanted).all()


def test_features_are_kept_per_form_with_the_facts_of_each(dinov2, material, described):
    assert described.features.shape == (12, 2, 2 * dinov2.dim)
    assert len(described) == 12
    stored = np.load(material[0] / "multi" / "00000.npy")
    coloured, grey = described.facts[8 + 1]  # the second picture of the other shard
    places = {"left": [20.0, 200.0], "mirrored": [24.0, 204.0]}
    assert [one["x"] for one in coloured["objects"]] == places["mirrored"]
    assert [one["class"] for one in coloured["objects"]] == ["boat", "car"]
    assert [one["x"] for one in grey["objects"]] == places["left"]
    again = describe(dinov2, forms(stored)[1])
    assert np.allclose(described.features[9].numpy(), again, atol=0.02)


def test_features_of_other_weights_are_refused(material, tmp_path):
    with pytest.raises(ValueError, match="another DINOv2"):
        Described(*material, "0" * 64)
    with pytest.raises(FileNotFoundError, match=r"training\.lit\.material"):
        Described(material[0], tmp_path, SHA256)


def test_the_first_pictures_of_a_batch_are_grey_and_so_are_their_captions(
    recipe, described, tmp_path
):
    training = Training(dataclasses.replace(recipe, batch=12), described, tmp_path, "cpu")
    features, captions, noise = training.draw()
    assert features.shape == noise.shape == (12, described.features.shape[-1])
    colours = ("red", "blue", "green", "红", "蓝", "绿")
    assert not any(colour in text for text in captions[:3] for colour in colours)
    grey = described.features[:, GREY].float()
    assert all((row == grey).all(1).any() for row in features[:3])
    written = " ".join(text for _ in range(5) for text in training.draw()[1])
    assert any("a" <= letter <= "z" for letter in written)
    assert any("一" <= letter <= "鿿" for letter in written)


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(recipe, described, tmp_path):
    whole = Training(recipe, described, tmp_path / "whole", "cpu")
    log = list(whole.run(minutes=5, log_every=100))
    first = Training(recipe, described, tmp_path / "parts", "cpu")
    for _ in range(3):
        first.train_step()
    first.save()
    second = Training(recipe, described, tmp_path / "parts", "cpu")
    assert second.resume() and second.step == 3
    resumed = list(second.run(minutes=5, log_every=100))
    assert resumed[-1]["contrast"] == pytest.approx(log[-1]["contrast"], rel=1e-3)


def test_text_tower_and_head_learn_together(recipe, described, tmp_path):
    longer = dataclasses.replace(recipe, steps=60, batch=12, learning_rate=3e-3)
    training = Training(longer, described, tmp_path / "run", "cpu")
    losses = [training.train_step().item() for _ in range(60)]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


def test_the_exported_folder_gives_the_vectors_of_the_training(trained, capsys):
    training, folder = trained
    lit = load_lit(folder, device="cpu")
    asked = ["a photo of a dog", "一只狗的照片", "zebras, 斑马 & Zoë"]
    texts = lit.embed_texts(asked)
    assert texts.shape == (3, 8) and texts.dtype == np.float32
    with torch.no_grad():
        training.texts.eval()
        assert np.allclose(texts, training.texts(asked).numpy(), atol=5e-3)
    assert 0.01 <= lit.temperature <= 0.1
    assert lit.temperature == pytest.approx(float(1 / training.texts.scale.detach()), rel=1e-2)


def test_pictures_and_their_patches_become_unit_vectors(trained, capsys):
    _, folder = trained
    lit = load_lit(folder, device="cpu")
    pictures = np.random.default_rng(0).integers(0, 256, (3, 40, 56, 3), dtype=np.uint8)
    found = lit.embed_images(list(pictures), progress=False)
    assert found.vectors.shape == (3, 8) and found.vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-5)
    with pytest.raises(ValueError, match=r"no head for patches.*training\.lit\.places"):
        lit.embed_patches(list(pictures))
    add_to(folder, Head(torch.randn(50, lit.dinov2.dim), lit.dim, 4))
    lit = load_lit(folder, device="cpu")
    assert np.array_equal(lit.embed_images(list(pictures), progress=False).vectors, found.vectors)
    patches = lit.embed_patches(list(pictures), progress=False)
    assert patches.shape == (3, 16, 16, 8)
    assert np.allclose(np.linalg.norm(patches, axis=-1), 1, atol=1e-5)
    two = [pictures[0, :, :40], pictures[1, :, :20]]
    resized = lit.embed_patches(two, size=28, fit="resize", progress=False)
    assert [one.shape for one in resized] == [(2, 2, 8), (4, 2, 8)]


def test_pictures_that_cannot_be_read_are_left_out(trained, tmp_path, capsys):
    lit = load_lit(trained[1], device="cpu")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    found = lit.embed_images([load_scenes("train").images[0], broken], progress=False)
    assert found.index.tolist() == [0]
    assert [one.index for one in found.skipped] == [1]


def test_texts_without_end_or_none_at_all_are_refused(trained, capsys):
    lit = load_lit(trained[1], device="cpu")
    with pytest.raises(ValueError, match="no text"):
        lit.embed_texts([])
    with pytest.raises(ValueError, match="more than 64"):
        lit.embed_texts(["狗" * 70])


def test_the_weights_of_another_dinov2_are_refused(trained, tmp_path, capsys):
    _, folder = trained
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["dinov2"]["sha256"] = "0" * 64
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelError, match=r"SHA-256 0000.*training\.lit\.train"):
        load_lit(folder)
    beside = folder.parent / "dinov2-other"
    shutil.copytree(DINOV2, beside)
    config["dinov2"] = {"name": "dinov2-other", "sha256": SHA256}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert load_lit(folder).dinov2.name == "dinov2-other"
    shutil.rmtree(beside)
    with pytest.raises(ModelError, match="which is not in"):
        load_lit(folder)


def test_folders_of_other_models_and_incomplete_ones_are_refused(trained, tmp_path, capsys):
    with pytest.raises(ModelError, match="model_type is 'dinov2'"):
        load_lit(DINOV2)
    with pytest.raises(ModelError, match="nothing"):
        load_lit(tmp_path / "nothing")
    (trained[1] / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_lit(trained[1])


@pytest.mark.parametrize(
    "changed",
    [[], {"model_type": "lit"}, {"dinov2": None}, {"text_config": None}],
    ids=["a list", "no settings", "no dinov2", "no text_config"],
)
def test_a_config_that_says_too_little_is_refused(trained, changed, capsys):
    path = trained[1] / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(changed, dict) and "model_type" not in changed:
        changed = config | changed
    path.write_text(json.dumps(changed), encoding="utf-8")
    with pytest.raises(ModelError, match="model"):
        load_lit(trained[1], device="cpu")


@pytest.mark.parametrize(
    ("name", "weight"),
    [
        ("head.hidden.bias", None),
        ("head.mean", None),
        ("head.linear.weight", torch.zeros(8, 768)),
        ("head.linear.weight", torch.zeros(4, 384)),
        ("head.linear.weight", torch.full((8, 384), float("nan"))),
        ("text.text_projection.weight", torch.full((8, 16), float("inf"))),
    ],
)
def test_weights_that_do_not_fit_or_are_no_numbers_are_refused_at_once(
    trained, name, weight, capsys
):
    path = trained[1] / "model.safetensors"
    weights = load_file(path)
    del weights[name]
    if weight is not None:
        weights[name] = weight
    save_file(weights, path)
    with pytest.raises(ModelError, match="cannot be loaded as a text tower"):
        load_lit(trained[1], device="cpu")


def test_the_head_is_linear_until_its_hidden_layer_speaks():
    head = {
        "mean": torch.tensor([1.0, 0, 0, 0]),
        "deviation": torch.tensor([1.0, 2, 1, 1]),
        "linear.weight": torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0]]),
        "hidden.weight": torch.ones(3, 4),
        "hidden.bias": torch.zeros(3),
        "out.weight": torch.zeros(2, 3),
    }
    features = torch.tensor([[4.0, 8.0, 0.0, 0.0]])
    found = project(head, features)
    assert torch.allclose(found, torch.tensor([[0.6, 0.8]]))
    head["out.weight"] = torch.tensor([[0.0, 0, 0], [1.0, 0, 0]])
    assert not torch.allclose(project(head, features), found)


def test_questions_are_asked_in_both_languages():
    assert photo_of("airplane", "en") == "a photo of an airplane"
    assert photo_of("car", "zh") == "一辆小汽车的照片"
    scenes = load_scenes("train").select(n_objects=1)
    names = scenes.labels("class")
    order = sorted(set(names))
    vectors = np.eye(len(order))[[order.index(name) for name in names]]

    def embed(texts):
        found = [[f" {one}" in text or f"{one}的" in text for one in order] for text in texts]
        return np.array(found, float)

    assert class_hits(vectors, scenes, embed)["en"].all()
    hits = caption_hits(vectors, scenes, embed, top=len(scenes))
    assert hits["en"].all() and hits["zh"].all()


def test_places_are_named_by_the_patches_that_show_them():
    mask = np.zeros((28, 28), np.uint8)
    mask[:14, :20] = 3  # fills the first patch of the upper row, and the second one less than half
    mask[14:, 14:] = 5
    assert patch_classes(mask, 14).tolist() == [[3, 0], [0, 5]]

    class One:
        def class_mask(self, number):
            return mask

    texts = np.eye(16)
    right = np.zeros((1, 2, 2, 16))
    right[0, 0, 0, 2] = right[0, 1, 1, 4] = 1
    hits = place_hits(right, One(), 14, texts)
    assert hits["named"].tolist() == hits["pointed"].tolist() == [True, True]
    wrong = right[:, ::-1]
    hits = place_hits(wrong, One(), 14, texts)
    assert hits["named"].tolist() == hits["pointed"].tolist() == [False, False]


def test_captions_in_wording_that_was_never_read_are_known():
    assert worded_anew("on grass: a red dog", "en")
    assert worded_anew("a render of two dogs on a road", "en")
    assert not worded_anew("a red dog on grass", "en")
    assert worded_anew("草地上的一只狗", "zh") and worded_anew("图中草地上有一只狗", "zh")
    assert not worded_anew("草地上有一只狗", "zh") and not worded_anew("一只狗在草地上", "zh")


def test_shares_have_intervals():
    found = shares({"class": np.array([True, False] * 10), "colour": np.zeros(10, bool)})
    assert found["class"] == 0.5
    assert found["class_low"] < 0.5 < found["class_high"]
    assert (found["colour_low"], found["colour_high"]) == (0.0, 0.2775)


def test_an_exported_tower_is_measured_in_both_languages(trained, capsys):
    lit = load_lit(trained[1], device="cpu")
    scenes = load_scenes("train")
    few = dataclasses.replace(scenes, table=scenes.table[:20])
    hits = scores(lit, few)
    assert {"class_en", "class_zh", "caption_recall_at_5_zh"} <= hits.keys()
    assert len(hits["caption_recall_at_1_en"]) == 20


def test_the_card_is_written_from_what_lies_beside_the_model(trained):
    folder = trained[1]
    results = shares({key + suffix: np.array([True, False]) for key in card.ROWS
                      for suffix in card.COLUMNS})  # fmt: skip
    (folder / "evaluation.json").write_text(json.dumps(results), encoding="utf-8")
    entry = {"step": 7, "seconds": 120.0, "pictures": 12, "contrast": 1.0}
    entry |= {key + suffix: 0.5 for key in ("class", "caption_recall_at_5")
              for suffix in card.COLUMNS}  # fmt: skip
    (folder / "training_log.jsonl").write_text((json.dumps(entry) + "\n") * 2, encoding="utf-8")
    card.draw(folder)
    card.write(folder)
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert text.count("0.500 (") == 2 * len(card.ROWS)
    assert "took 7 steps and 2 minutes" in text and SHA256[:16] in text
    assert (folder / "training_curve.png").exists()


def test_a_name_is_true_of_pictures_that_show_it():
    shown = facts("dog", "red")
    assert shows(shown, ("dog", None)) and shows(shown, ("dog", "red"))
    assert not shows(shown, ("dog", "blue")) and not shows(shown, ("cat", None))


def test_the_loss_of_places_looks_for_the_patch_that_a_text_is_about():
    texts = torch.eye(2, 4)
    patches = torch.nn.functional.normalize(torch.tensor([0.0, 0, 1, 1]), dim=0).repeat(2, 9, 1)
    nowhere = place_loss(patches, texts, torch.eye(2), 20.0)
    assert nowhere == pytest.approx(np.log(2), abs=1e-4)
    patches[0, 3], patches[1, 7] = texts[0], texts[1]
    assert place_loss(patches, texts, torch.eye(2), 20.0) < 0.01
    assert place_loss(patches, texts, 1 - torch.eye(2), 20.0) > 10
    assert place_loss(patches, texts, torch.ones(2, 2), 20.0) > 1


def test_a_head_for_patches_learns_from_captions(recipe, trained, material, tmp_path, capsys):
    lit = load_lit(trained[1], device="cpu")
    keep_patches(lit, material[0], tmp_path, every=1)
    patches = np.load(tmp_path / "patches.npy")
    lines = (tmp_path / "facts.jsonl").read_text(encoding="utf-8").splitlines()
    assert patches.shape == (12, 256, lit.dinov2.dim) and len(lines) == 12
    options = dataclasses.replace(recipe, place_steps=40, place_batch=12)
    training = PlaceTraining(options, lit, patches, list(map(json.loads, lines)))
    found, texts, true = training.draw()
    assert found.shape == patches.shape and true.shape == (12, 12) == (len(found), len(texts))
    assert true.diagonal().all()
    losses = [training.train_step() for _ in range(40)]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    vectors = training.learned().embed_patches(load_scenes("train").images[:1], progress=False)
    assert vectors.shape == (1, 16, 16, 8)
