"""What takes the place of DINOv2: where each kind of model keeps CLS, registers and patches."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    SiglipConfig,
    SiglipModel,
)

from dinov2_helpers import ModelError, extract_features, load_clip, load_dinov2
from dinov2_helpers.models import PROFILES, WEIGHTS, anatomy_of
from dinov2_helpers.models.openvino import OpenVinoEncoder
from dinov2_helpers.models.profiles import gate_of
from dinov2_helpers.techniques.likeness import Likeness
from dinov2_helpers.techniques.patches import cut_after
from tools import standins

pytestmark = pytest.mark.computes
CLOSE = 1e-5
SHAPE = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
}
SIDES = {"image_size": 96, "patch_size": 16}
FIRST_PATCH = {"plain": 1, "registers": 5, "dinov3": 5, "siglip": 0}


def make(kind):
    """A small random model of a kind, and what its image processor is read from."""
    if kind == "plain":
        return Dinov2Model(Dinov2Config(**SHAPE, **SIDES)), standins.PREPROCESSOR
    if kind == "registers":
        config = Dinov2WithRegistersConfig(**SHAPE, **SIDES, num_register_tokens=4)
        return Dinov2WithRegistersModel(config), standins.PREPROCESSOR
    if kind == "dinov3":
        config = DINOv3ViTConfig(**SHAPE, **SIDES, num_register_tokens=4)
        return DINOv3ViTModel(config), standins.DINOV3_PREPROCESSOR
    text = SHAPE | {"vocab_size": len(standins.tokenizer()), "max_position_embeddings": 16}
    config = SiglipConfig(text_config=text, vision_config=SHAPE | SIDES)
    return SiglipModel(config), standins.SIGLIP_PREPROCESSOR


@pytest.fixture(scope="module", params=FIRST_PATCH)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder for each kind, with weights that are less alike than those before a training."""
    found = {}
    for name in FIRST_PATCH:
        torch.manual_seed(5)
        model, preprocessor = make(name)
        with torch.no_grad():
            for weights in model.parameters():
                weights += 0.1 * torch.randn_like(weights)
        found[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(found[name])
        standins.write_preprocessor(found[name], preprocessor)
    standins.tokenizer().save_pretrained(found["siglip"])
    return found


@pytest.fixture(scope="module")
def loaded(folders, kind):
    return load_dinov2(folders[kind], device="cpu", attention="eager", backend="torch")


def noise(height, width):
    values = np.random.default_rng(7).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


def by_hand(model, image):
    """All tokens (1, T, D) and the pooled vector (1, D) of transformers, of a picture as it is."""
    taken = model.processor(image, return_tensors="pt", do_resize=False, do_center_crop=False)
    options = {"interpolate_pos_encoding": True} if not model.has_cls else {}
    with torch.inference_mode():
        output = model.model(**taken, **options, output_hidden_states=True)
    return output


def test_the_first_patch_is_behind_cls_and_registers(loaded, kind):
    assert loaded.first_patch == FIRST_PATCH[kind]
    assert loaded.has_cls == (kind != "siglip")
    assert loaded.patch_size == 16 and loaded.n_layers == 3 and loaded.dim == 48
    assert ("no CLS" in repr(loaded)) == (kind == "siglip")


def test_features_are_the_tokens_of_transformers(loaded, kind):
    image = noise(64, 96)
    found = extract_features(loaded, image, fit="resize", layers=[0, -1])
    output = by_hand(loaded, image)
    tokens = output.last_hidden_state.numpy()
    first = FIRST_PATCH[kind]
    assert found.grid == (4, 6) and tokens.shape[1] == first + 24
    assert np.abs(found.patches[0].reshape(24, 48) - tokens[0, first:]).max() < CLOSE
    assert np.abs(found.cls - output.pooler_output.numpy()).max() < CLOSE
    with torch.inference_mode():
        inner = anatomy_of(loaded.model).norm_of(loaded.model)(output.hidden_states[1]).numpy()
    assert np.abs(found.layers[0].patches[0].reshape(24, 48) - inner[0, first:]).max() < CLOSE
    summary = inner[0, 0] if first else inner[0].mean(0)
    assert np.abs(found.layers[0].cls[0] - summary).max() < CLOSE
    # so that the above could fail: no two tokens are alike
    apart = np.abs(tokens[0, :, None] - tokens[0, None]).max(2) + np.eye(tokens.shape[1])
    assert apart.min() > 1e-3


def test_a_patch_of_the_picture_is_the_patch_of_the_features(loaded):
    image = np.array(noise(64, 96))
    other = image.copy()
    other[32:48, 64:80] = 255 - other[32:48, 64:80]  # row 2, column 4
    # the first block's values are of each token alone: attention has mixed nothing yet
    settings = {"fit": "resize", "facets": ["value"], "facet_layer": 0}
    found = extract_features(loaded, [image, other], **settings).facets["value"]
    changed = np.abs(found[0] - found[1]).max(2) > 1e-6
    assert np.argwhere(changed).tolist() == [[2, 4]]


def test_attention_is_from_cls_to_patches(loaded, kind):
    image = noise(64, 96)
    if kind == "siglip":
        with pytest.raises(ValueError, match="siglip_vision_model has no CLS token"):
            extract_features(loaded, image, fit="resize", attention=True)
        return
    found = extract_features(loaded, image, fit="resize", attention=True).attention
    taken = loaded.processor(image, return_tensors="pt", do_resize=False, do_center_crop=False)
    with torch.inference_mode():
        output = loaded.model(**taken, output_attentions=True)
    expected = output.attentions[-1][0, :, 0, FIRST_PATCH[kind] :].unflatten(1, (4, 6)).numpy()
    assert found.shape == (1, 4, 4, 6)
    assert np.abs(found[0] - expected).max() < CLOSE


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_backends_give_the_same_numbers(folders, kind, backend):
    image = noise(80, 80)
    plain = load_dinov2(folders[kind], device="cpu", backend="torch")
    other = load_dinov2(folders[kind], device="cpu", backend=backend)
    found = [extract_features(one, image, fit="resize") for one in (plain, other)]
    assert np.abs(found[0].cls - found[1].cls).max() < CLOSE
    assert np.abs(found[0].patches[0] - found[1].patches[0]).max() < CLOSE


def test_openvino_refuses_what_it_cannot_fix_the_positions_of(loaded, kind):
    if kind in ("plain", "registers"):
        return
    with pytest.raises(ValueError, match=r"openvino.*dinov2_with_registers.*backend='auto'"):
        OpenVinoEncoder(loaded.model)


def test_a_model_that_ends_earlier_gives_the_inner_layer(loaded):
    image = noise(64, 96)
    inner = extract_features(loaded, image, fit="resize", layers=[1]).layers[1]
    short = extract_features(cut_after(loaded, 1), image, fit="resize")
    assert np.abs(short.patches[0] - inner.patches[0]).max() < CLOSE
    assert len(anatomy_of(loaded.model).blocks_of(loaded.model)) == 3  # the whole is as it was


def test_likeness_sees_what_extraction_sees(loaded):
    image = noise(96, 96)
    shown = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255
    likeness = Likeness(loaded, ("cls", "mean", "patches", "middle"), size=96)
    with torch.no_grad():
        cls, mean, patches, middle = likeness.features(shown)
    found = extract_features(loaded, image, fit="resize", layers=[0])
    flat = found.patches[0].reshape(36, 48)
    assert np.abs(cls[0, 0].numpy() - found.cls[0]).max() < 1e-4
    assert np.abs(mean[0, 0].numpy() - flat.mean(0)).max() < 1e-4
    assert np.abs(patches[0].numpy() - flat).max() < 1e-4
    assert np.abs(middle[0].numpy() - found.layers[0].patches[0].reshape(36, 48)).max() < 1e-4


def test_dinov3_is_scaled_as_by_torchvision_but_for_whole_grey_levels(folders):
    """Its processor of transformers scales floats; Pillow rounds to whole levels in between."""
    model = load_dinov2(folders["dinov3"], device="cpu")
    image = noise(300, 400)
    (found,) = model.processor(image, return_tensors="np")["pixel_values"]
    values = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
    options = {"mode": "bilinear", "antialias": True, "align_corners": False}
    scaled = torch.nn.functional.interpolate(values, (224, 224), **options)[0]
    std = torch.tensor(standins.DINOV3_PREPROCESSOR["image_std"]).view(3, 1, 1)
    mean = torch.tensor(standins.DINOV3_PREPROCESSOR["image_mean"]).view(3, 1, 1)
    levels = np.abs(found - ((scaled - mean) / std).numpy()) * std.numpy() * 255
    assert found.shape == (3, 224, 224)
    assert 0.1 < levels.max() < 1.01  # two passes, each rounded


def test_siglip_reads_small_letters_filled_up_without_a_mask(folders):
    clip = load_clip(folders["siglip"], device="cpu")
    found = clip.embed_texts(["A Red Mug", "a red mug", "a blue cat on grass"])
    assert np.abs(found[0] - found[1]).max() < CLOSE
    tokens = standins.tokenizer()(
        ["a red mug", "a blue cat on grass"],
        padding="max_length",
        max_length=16,
        return_tensors="pt",
    )
    with torch.inference_mode():
        pooled = clip.model.get_text_features(input_ids=tokens["input_ids"]).pooler_output
    expected = (pooled / pooled.norm(dim=1, keepdim=True)).numpy()
    assert np.abs(found[1:] - expected).max() < CLOSE
    with pytest.raises(ValueError, match=r"tokens, more than 16"):
        clip.embed_texts([" ".join(["mug"] * 20)])


def test_siglip_pools_its_pictures_as_words_are_pooled(folders):
    image = noise(96, 96)
    clip = load_clip(folders["siglip"], device="cpu")
    found = clip.embed_images(image)
    taken = clip.processor(image, return_tensors="pt")
    with torch.inference_mode():
        pooled = clip.model.get_image_features(**taken, interpolate_pos_encoding=True).pooler_output
    expected = (pooled / pooled.norm()).numpy()
    assert np.abs(found.vectors - expected).max() < CLOSE
    assert clip.temperature == pytest.approx(float(1 / clip.model.logit_scale.detach().exp()))


def test_weights_behind_a_form_say_how_they_are_had(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError) as error:
        load_dinov2("dinov3-small")
    for part in ("form", "may be no", "hf auth login", "DINOv3 License allows", "needs no form"):
        assert part in str(error.value)
    with pytest.raises(ModelError) as error:
        load_dinov2("small")
    assert "form" not in str(error.value)


def test_each_profile_is_one_entry():
    for name, facts in WEIGHTS.items():
        assert {"megabytes", "revision", "licence", "revision_as_pinned_by"} <= facts.keys()
        assert ("gate" in facts) == ("allows" in facts) == bool(gate_of(name))
        if "profile" in facts:
            assert PROFILES[facts["profile"]].dinov2 == name
            assert facts["clip"] in WEIGHTS
    assert {name for name in WEIGHTS if gate_of(name)} == {
        PROFILES[profile].dinov2 for profile in PROFILES if profile.startswith("dinov3-")
    }
