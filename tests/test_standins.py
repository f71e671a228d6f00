"""The models of the hub with random weights: their sizes, their files, and features to 1e-5."""

import json

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, pipeline

from dinov2_helpers import extract_features, load_clip, load_diffusion, load_dinov2
from dinov2_helpers.models import PROFILES, WEIGHTS
from tools import standins

pytestmark = pytest.mark.computes
CLOSE = 1e-5
SIZES = {"224": None, "518": 518, "336x504": None}


def megabytes(*models):
    return sum(p.numel() for model in models for p in model.parameters()) * 4 / 1e6


@pytest.mark.parametrize("name", WEIGHTS)
def test_downloads_are_what_the_architectures_take(name):
    with torch.device("meta"):
        if "dinov2" in name:
            models = [standins.dinov2_model(name)]
        elif "dinov3" in name:
            models = [standins.dinov3_model(name)]
        elif "siglip2" in name:
            models = [standins.siglip_model()]
        elif "clip" in name:
            models = [standins.clip_model(name)]
        else:
            models = standins.diffusion_models().values()
    assert WEIGHTS[name]["megabytes"] == pytest.approx(megabytes(*models), abs=1)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache of the hub with stand-ins for the profile "small"."""
    folder = tmp_path_factory.mktemp("hub")
    standins.standins("small", folder)
    return folder


@pytest.fixture
def offline(cache, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setenv("DINOV2_PROFILE", "small")


def test_names_of_the_hub_resolve_offline_at_the_pinned_revision(cache, offline):
    small = PROFILES["small"]
    assert load_dinov2(device="cpu").name == small.dinov2
    assert load_clip(device="cpu").name == small.clip
    pipeline = load_diffusion(device="cpu")
    assert pipeline.unet.config.sample_size == 8
    # As in the hub's own file, though PNDM itself has no such setting.
    assert DDIMScheduler.from_config(pipeline.scheduler.config).config.clip_sample is False
    for repo in (small.dinov2, small.clip, small.diffusion):
        home = cache / f"models--{repo.replace('/', '--')}"
        snapshot = home / "snapshots" / WEIGHTS[repo]["revision"]
        files = [path for path in snapshot.rglob("*") if not path.is_dir()]
        assert files and all(path.is_symlink() and path.exists() for path in files)
        assert all(path.resolve().parent == (home / "blobs").resolve() for path in files)
        assert not any(path.suffix in (".bin", ".ckpt", ".pt") for path in files)
    index = snapshot / "model_index.json"
    assert (
        json.loads(index.read_text(encoding="utf-8"))["safety_checker"][1]
        == "StableDiffusionSafetyChecker"
    )


def test_what_is_there_is_not_made_again(cache):
    def fail(repo, folder):
        raise AssertionError

    name = PROFILES["small"].dinov2
    assert standins.add_to_cache(cache, name, fail).name == WEIGHTS[name]["revision"]


def stir(model, factor=3):
    """Let layers do more than those of a model before its training."""
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.ndim == 2 and "mlp" not in name:
                weights *= factor
            if name.endswith(("position_embeddings", "position_embedding.weight")):
                weights.normal_(std=0.3)
            if name.endswith("register_tokens"):
                weights.normal_()
    return model


@pytest.fixture(scope="module", params=["small", "base", "with-registers-base"])
def folder(request, tmp_path_factory):
    """A stand-in for a DINOv2."""
    torch.manual_seed(3)
    model = stir(standins.dinov2_model(f"facebook/dinov2-{request.param}"))
    folder = tmp_path_factory.mktemp("models") / request.param
    model.save_pretrained(folder)
    standins.write_preprocessor(folder, standins.PREPROCESSOR)
    return folder


@pytest.fixture(scope="module", params=["dinov3-small", "siglip2-base"])
def in_its_place(request, tmp_path_factory):
    """A stand-in for what takes the place of DINOv2, and the number of its first patch."""
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("models") / request.param
    if request.param == "siglip2-base":
        # its weights begin so large that, tripled, single precision is no longer good to 1e-5
        stir(standins.siglip_model(1000).vision_model, factor=1).save_pretrained(folder)
        standins.write_preprocessor(folder, standins.SIGLIP_PREPROCESSOR)
        return folder, 0
    stir(standins.dinov3_model(PROFILES[request.param].dinov2)).save_pretrained(folder)
    standins.write_preprocessor(folder, standins.DINOV3_PREPROCESSOR)
    return folder, 5


@pytest.mark.parametrize("size", [None, 256])
def test_what_takes_the_place_of_dinov2_has_its_features(in_its_place, picture, size):
    """At the size of the processor, a grid of 14 x 14; at 256 px that of DINOv2 at 224, 16 x 16."""
    folder, first = in_its_place
    image, loaded = picture(256, 256), load_dinov2(folder, device="cpu")
    found = extract_features(loaded, image, size=size)
    side = size or 224
    taken = loaded.processor(image, size={"height": side, "width": side}, return_tensors="pt")
    options = {} if loaded.has_cls else {"interpolate_pos_encoding": True}
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        output = model(**taken, **options)
    tokens = output.last_hidden_state[0, first:].numpy()
    assert found.grid == (side // 16, side // 16)
    assert np.abs(found.cls - output.pooler_output.numpy()).max() < CLOSE
    assert np.abs(found.patches[0].reshape(len(tokens), -1) - tokens).max() < CLOSE
    assert np.abs(tokens[0] - tokens[1]).max() > 0.1  # so that the above could fail


@pytest.fixture(scope="module")
def pictures(picture):
    # 336x504 fits the patches as it is, so that both codes see the same pixels
    return {"224": picture(320, 240), "518": picture(700, 600), "336x504": picture(504, 336)}


def by_hand(folder, image, size):
    """What transformers alone gives, by its `AutoModel`: CLS, and all patch tokens."""
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    options = {"do_resize": False, "do_center_crop": False}
    if size != "336x504":
        side = int(size)
        shortest = round(256 * side / 224)
        options = {
            "size": {"shortest_edge": shortest},
            "crop_size": {"height": side, "width": side},
        }
    with torch.inference_mode():
        tokens = model(**processor(image, return_tensors="pt", **options)).last_hidden_state[0]
    return tokens[0].numpy(), tokens[1 + getattr(model.config, "num_register_tokens", 0) :].numpy()


@pytest.mark.parametrize("size", SIZES)
def test_features_are_those_of_transformers(folder, pictures, size):
    image = pictures[size]
    fit = "resize" if size == "336x504" else "crop"
    found = extract_features(load_dinov2(folder, device="cpu"), image, fit=fit, size=SIZES[size])
    cls, patches = by_hand(folder, image, size)
    grid = (24, 36) if size == "336x504" else (int(size) // 14,) * 2
    assert found.grid == grid
    assert np.abs(found.cls[0] - cls).max() < CLOSE
    assert np.abs(found.patches[0].reshape(len(patches), -1) - patches).max() < CLOSE
    # so that the above could fail: a patch differs from its neighbour
    assert np.abs(patches[0] - patches[1]).max() > 0.1
    if size == "224":
        extract = pipeline("image-feature-extraction", model=str(folder), device="cpu")
        tokens = np.array(extract(Image.fromarray(np.asarray(image))))[0]
        assert np.abs(found.cls[0] - tokens[0]).max() < CLOSE
