import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

from dinov2_helpers import ModelError, extract_features, load_clip
from dinov2_helpers.models import WEIGHTS

pytestmark = pytest.mark.computes
CLOSE = 1e-5
TEXTS = ["a dog", "Cat, dog,  cat!", "", "a cat on a mat", "dog"]


def differ(one, other):
    return np.abs(np.asarray(one) - np.asarray(other)).max()


@pytest.fixture(scope="module")
def pictures(picture):
    """Pictures of several shapes and modes."""
    sizes = [(320, 240), (112, 112), (100, 333), (60, 40), (1, 1), (3000, 50)]
    plain = [picture(*size, seed=seed) for seed, size in enumerate(sizes)]
    modes = ["L", "P", "CMYK", "RGBA"]
    return plain + [picture(90, 60, seed=9 + i).convert(mode) for i, mode in enumerate(modes)]


@pytest.fixture(scope="module")
def reference(clip_folder):
    """The model, the processor of pictures and texts, as transformers alone loads them."""
    settings = json.loads((clip_folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    pixels = CLIPImageProcessor(size=settings["size"], crop_size=settings["crop_size"])
    processor = CLIPProcessor(pixels, CLIPTokenizer.from_pretrained(clip_folder))
    return CLIPModel.from_pretrained(clip_folder).eval(), processor


def unit(vectors):
    return torch.nn.functional.normalize(vectors, dim=-1)


def test_facts(clip, clip_folder, capsys):
    assert (clip.name, clip.dim, clip.image_size, clip.patch_size) == ("clip", 24, 112, 16)
    assert clip.temperature == pytest.approx(1 / np.exp(2.6592))
    assert clip.dtype == torch.float32 and not clip.model.training
    load_clip(str(clip_folder), device="cpu")
    assert capsys.readouterr() == (f"{clip!r}\n", "")
    assert repr(clip).startswith("clip: 0.1 M parameters, 3 layers x 48, 4 heads, patch 16")


def test_pictures_equal_those_of_transformers(clip, reference, pictures):
    model, processor = reference
    found = clip.embed_images(pictures)
    assert found.vectors.shape == (len(pictures), 24) and found.vectors.dtype == np.float32
    assert differ(np.linalg.norm(found.vectors, axis=1), 1) < 1e-6
    with torch.inference_mode():
        for row, image in enumerate(pictures):
            # alone, as pictures of different modes are no batch for transformers
            inputs = processor(images=image.convert("RGB"), return_tensors="pt")
            expected = unit(model.get_image_features(**inputs).pooler_output)
            assert differ(found.vectors[row], expected) < CLOSE
    # so that the above could fail
    assert min(differ(found.vectors[0], other) for other in found.vectors[1:]) > 0.01


def test_texts_equal_those_of_transformers(clip, reference):
    model, processor = reference
    found = clip.embed_texts(TEXTS)
    assert found.shape == (5, 24) and found.dtype == np.float32
    assert differ(np.linalg.norm(found, axis=1), 1) < 1e-6
    with torch.inference_mode():
        inputs = processor(text=TEXTS, padding=True, return_tensors="pt")
        assert differ(found, unit(model.get_text_features(**inputs).pooler_output)) < CLOSE
    assert min(differ(found[0], other) for other in found[1:]) > 0.1


def test_cosines_over_temperature_are_the_logits(clip, reference, pictures):
    model, processor = reference
    inputs = processor(text=TEXTS, images=pictures[:3], padding=True, return_tensors="pt")
    with torch.inference_mode():
        expected = model(**inputs).logits_per_image
    cosines = clip.embed_images(pictures[:3]).vectors @ clip.embed_texts(TEXTS).T
    assert differ(cosines / clip.temperature, expected) < 1e-4


def test_same_numbers_in_any_batch(clip, pictures):
    alone = clip.embed_images(pictures, batch_size=1).vectors
    assert differ(alone, clip.embed_images(pictures).vectors) < CLOSE
    assert differ(alone, clip.embed_images(pictures[::-1], batch_size=3).vectors[::-1]) < CLOSE
    # texts of other lengths are padded otherwise
    texts = clip.embed_texts(TEXTS)
    assert differ(texts, np.concatenate([clip.embed_texts([text]) for text in TEXTS])) < CLOSE
    assert differ(texts, clip.embed_texts(TEXTS, batch_size=2)) < CLOSE


def test_texts_of_any_kind(clip):
    expected = clip.embed_texts(TEXTS)
    assert differ(clip.embed_texts(iter(TEXTS)), expected) < CLOSE
    assert differ(clip.embed_texts(np.array(TEXTS)), expected) < CLOSE
    assert differ(clip.embed_texts(TEXTS[0]), expected[:1]) < CLOSE


def test_texts_that_cannot_be_read(clip, capsys):
    assert clip.embed_texts(["a " * 14]).shape == (1, 24)
    with pytest.raises(ValueError, match=r"'b b .* has 17 tokens, more than 16"):
        clip.embed_texts(["a dog", "b " * 15, "a"])
    with pytest.raises(ValueError, match="no text"):
        clip.embed_texts([])
    assert capsys.readouterr() == ("", "")


def test_folders_and_broken_pictures(clip, picture, tmp_path, capsys):
    images = [picture(80, 50, seed=seed) for seed in range(3)]
    for number, image in zip((0, 2, 3), images, strict=True):
        image.save(tmp_path / f"{number}.png")
    (tmp_path / "1.png").write_text("this is not a picture", encoding="utf-8")
    found = clip.embed_images(tmp_path)
    assert found.index.tolist() == [0, 2, 3]
    assert found.names == ("0.png", "2.png", "3.png")
    assert differ(found.vectors, clip.embed_images(images).vectors) < CLOSE
    [skipped] = found.skipped
    assert (skipped.index, skipped.name) == (1, "1.png")
    report = capsys.readouterr().out
    assert "1 of 4 pictures skipped" in report and "cannot identify" in report
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        clip.embed_images(tmp_path / "missing")


def test_cache(clip, pictures, tmp_path):
    first = clip.embed_images(pictures, cache=tmp_path).vectors
    assert len(list(tmp_path.iterdir())) == len(pictures)
    assert (clip.embed_images(pictures, cache=tmp_path).vectors == first).all()


def test_only_embeddings_are_made(clip, picture):
    for wanted in ({}, {"patches": False, "layers": [0]}, {"patches": False, "facets": ["key"]}):
        with pytest.raises(ValueError, match="clip is a CLIP: use its embed_images"):
            extract_features(clip, picture(30, 30), **wanted)


def test_numbers_of_half_precision(clip, clip_folder, picture):
    half = load_clip(clip_folder, device="cpu", dtype="bfloat16")
    assert half.dtype == torch.bfloat16
    found = half.embed_images(picture(60, 40)).vectors, half.embed_texts(TEXTS)
    for vectors, exact in zip(
        found, (clip.embed_images(picture(60, 40)).vectors, clip.embed_texts(TEXTS)), strict=True
    ):
        assert vectors.dtype == np.float32
        assert differ(np.linalg.norm(vectors, axis=1), 1) < 1e-6
        assert 0 < differ(vectors, exact) < 0.1


def test_tiny_is_read_from_the_sample_data(clip_folder, tmp_path, monkeypatch):
    shutil.copytree(clip_folder, tmp_path / "models" / "clip-tiny")
    monkeypatch.setenv("DINOV2_DATA", str(tmp_path))
    monkeypatch.delenv("DINOV2_PROFILE", raising=False)
    assert load_clip(device="cpu").name == "clip-tiny"


@pytest.mark.parametrize(
    ("profile", "name"),
    [
        ("small", "openai/clip-vit-base-patch32"),
        ("giant-with-registers", "openai/clip-vit-large-patch14"),
    ],
)
def test_hub_cache_is_enough(clip_folder, tmp_path, monkeypatch, profile, name):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    snapshots = tmp_path / f"models--{name.replace('/', '--')}" / "snapshots"
    shutil.copytree(clip_folder, snapshots / WEIGHTS[name]["revision"])
    monkeypatch.setenv("DINOV2_PROFILE", profile)
    assert load_clip(device="cpu").name == load_clip(name, device="cpu").name == name


@pytest.mark.parametrize("name", ["nobody/no-such-model", "small", "./no/such/folder"])
def test_without_network(name, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"No CLIP .*load_clip\('.*once with network") as error:
        load_clip(name)
    assert name in str(error.value) and "DINOV2_PROFILE=tiny" in str(error.value)


def old_tokenizer(folder):
    """Write the tokenizer as vocab.json and merges.txt, as older folders have it."""
    path = folder / "tokenizer.json"
    model = json.loads(path.read_text(encoding="utf-8"))["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    merges = [" ".join(pair) for pair in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    path.unlink()


def test_older_tokenizer_files(clip, clip_folder, tmp_path):
    folder = shutil.copytree(clip_folder, tmp_path / "old")
    old_tokenizer(folder)
    assert differ(load_clip(folder, device="cpu").embed_texts(TEXTS), clip.embed_texts(TEXTS)) == 0


def drop_weights(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["text_projection.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def shrink_vocabulary(folder):
    weights = load_file(folder / "model.safetensors")
    name = "text_model.embeddings.token_embedding.weight"
    weights[name] = weights[name][:50].clone()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["text_config"]["vocab_size"] = 50
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "model.safetensors").unlink(), "no file named model.safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(b"half"), "cannot be loaded as a CLIP"),
        (lambda f: (f / "preprocessor_config.json").unlink(), "containing a preprocessor_config"),
        (lambda f: (f / "tokenizer.json").unlink(), "its tokenizer is missing"),
        (shrink_vocabulary, "or that of another model"),
        (drop_weights, "lacks weights: .*text_projection.weight"),
    ],
)
def test_damaged_folders(clip_folder, tmp_path, damage, message):
    folder = shutil.copytree(clip_folder, tmp_path / "mine")
    damage(folder)
    with pytest.raises(ModelError, match=message) as error:
        load_clip(folder, device="cpu")
    assert "mine" in str(error.value)


def test_another_kind_of_model(dinov2_folder):
    with pytest.raises(ModelError, match="plain is not a CLIP: its model_type is 'dinov2'"):
        load_clip(dinov2_folder, device="cpu")


def test_code_in_a_folder_is_not_run(clip_folder, tmp_path):
    folder = shutil.copytree(clip_folder, tmp_path / "mine")
    (folder / "evil.py").write_text("raise SystemExit('executed')", encoding="utf-8")
    classes = {"AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"], "AutoModel": "evil.Model"}
    for name in ("config.json", "tokenizer_config.json", "preprocessor_config.json"):
        settings = json.loads((folder / name).read_text(encoding="utf-8"))
        settings["auto_map"] = classes | {"AutoImageProcessor": "evil.Processor"}
        (folder / name).write_text(json.dumps(settings), encoding="utf-8")
    assert load_clip(folder, device="cpu").embed_texts("a dog").shape == (1, 24)


def test_pictures_stay_as_they_are(clip):
    image = Image.new("RGB", (40, 30), "red")
    before = image.tobytes()
    clip.embed_images([image, image])
    assert image.tobytes() == before


def test_patches_of_no_picture_are_an_error_that_names_them():
    lit = load_clip("lit-tiny")
    with pytest.raises(ValueError, match=r"(?s)2 of 2 pictures .*image 0: .*image 1: "):
        lit.embed_patches([b"no picture", b"nor this"])
