import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor

from dinov2_helpers import ImageError, extract_features, load_dinov2, to_pixels
from dinov2_helpers.models import ModelError
from dinov2_helpers.pictures import Preprocessing, geometry
from tools.standins import CLIP_PREPROCESSOR, PREPROCESSOR

PATCH = 14
SIZES = [(640, 427), (301, 300), (224, 224), (97, 131), (500, 91), (300, 100)]
ABSENT = object()
HONOURED = {
    "as it comes": {},
    "not normalised": {"do_normalize": False},
    "not rescaled": {"do_rescale": False},
    "neither": {"do_rescale": False, "do_normalize": False},
    "not resized": {"do_resize": False},
    "not cropped": {"do_center_crop": False},
    "neither resized nor cropped": {"do_resize": False, "do_center_crop": False},
    "not converted": {"do_convert_rgb": False},
    "crop not square": {"crop_size": {"height": 224, "width": 448}},
    "crop of odd sides": {"crop_size": {"height": 225, "width": 239}},
    "crop as a number": {"crop_size": 196},
    "crop as a pair": {"crop_size": [196, 210]},
    "crop larger than the picture": {"crop_size": 518},
    "size as a number": {"size": 230},
    "shortest and longest edge": {"size": {"shortest_edge": 256, "longest_edge": 300}},
    "longest edge, not cropped": {
        "size": {"shortest_edge": 256, "longest_edge": 300},
        "do_center_crop": False,
    },
    "longest edge that leaves the picture as it is": {
        "size": {"shortest_edge": 200, "longest_edge": 301},
        "do_center_crop": False,
    },
    "height and width": {"size": {"height": 230, "width": 260}},
    "height and width, not cropped": {
        "size": {"height": 230, "width": 260},
        "do_center_crop": False,
    },
    "within height and width": {"size": {"max_height": 300, "max_width": 400}},
    "bilinear": {"resample": 2},
    "nearest": {"resample": 0},
    "lanczos": {"resample": 1},
    "another factor": {"rescale_factor": 1 / 127.5},
    "one mean for all": {"image_mean": 0.5, "image_std": 0.25},
    "flags of no value": {"do_center_crop": None, "do_normalize": None},
    "nothing said": {key: ABSENT for key in PREPROCESSOR if key != "image_processor_type"},
    "padding refused by itself": {"do_pad": False},
    "of CLIP": {"image_processor_type": "CLIPImageProcessor", "size": 224},
    "of ViT": {"image_processor_type": "ViTImageProcessor", "size": 230, "do_center_crop": ABSENT},
    "of ViT, cropped": {"image_processor_type": "ViTImageProcessor", "size": ABSENT},
    "of SigLIP": {"image_processor_type": "SiglipImageProcessor", "do_center_crop": ABSENT},
    "of SigLIP, a number": {"image_processor_type": "SiglipImageProcessor", "size": 230},
}


def changed(changes):
    config = PREPROCESSOR | changes
    return {key: value for key, value in config.items() if value is not ABSENT}


def theirs(config, image, folder):
    (folder / "preprocessor_config.json").write_text(json.dumps(config), encoding="utf-8")
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    return processor, processor(image, return_tensors="np")["pixel_values"][0]


@pytest.mark.parametrize("name", HONOURED)
def test_pixels_are_those_of_transformers(name, picture, tmp_path):
    config = changed(HONOURED[name])
    processor, _ = theirs(config, picture(30, 30), tmp_path)
    preprocessing = Preprocessing.from_processor(processor, PATCH)
    assert Preprocessing.from_processor(config, PATCH) == preprocessing
    for size in SIZES:
        image = picture(*size)
        expected = processor(image, return_tensors="np")["pixel_values"][0]
        # the model ignores what is left of whole patches at the right and the bottom
        height, width = (side // PATCH * PATCH for side in expected.shape[1:])
        found = to_pixels(image, preprocessing)
        assert np.abs(found - expected[:, :height, :width]).max() <= 1e-5
        assert found.dtype == np.float32
        assert geometry(size, preprocessing, None, "crop")[1] == (width, height)


def test_an_old_configuration_of_clip_is_read(picture, tmp_path):
    image = picture(301, 300)
    processor, expected = theirs(CLIP_PREPROCESSOR, image, tmp_path)
    for source in (CLIP_PREPROCESSOR, processor):
        found = to_pixels(image, Preprocessing.from_processor(source, 16))
        assert np.abs(found - expected).max() <= 1e-5


REFUSED = {
    "do_pad=True": {"do_pad": True},
    "do_flip_channel_order=True": {"do_flip_channel_order": True},
    "size={'longest_edge': 300}": {"size": {"longest_edge": 300}},
    "size={'max_pixels': 9, 'min_pixels': 4}": {"size": {"max_pixels": 9, "min_pixels": 4}},
    "size=-3": {"size": -3},
    "size=None": {"size": None},
    "resample=None": {"resample": None},
    "rescale_factor=None": {"rescale_factor": None},
    "image_mean=None": {"image_mean": None},
    "size='large'": {"size": "large"},
    "crop_size={'shortest_edge': 224}": {"crop_size": {"shortest_edge": 224}},
    "image_mean=[0.5, 0.5]": {"image_mean": [0.5, 0.5]},
    "image_std=(0.0, 0.0, 0.0)": {"image_std": 0},
    "resample=9": {"resample": 9},
    "image_processor_type='DPTImageProcessor'": {"image_processor_type": "DPTImageProcessor"},
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_is_not_honoured_is_refused_by_name(said):
    with pytest.raises(ValueError) as error:
        Preprocessing.from_processor(PREPROCESSOR | REFUSED[said], PATCH)
    assert f"its processor says {said.split('=')[0]}=" in str(error.value)


def test_a_model_whose_processor_is_not_honoured_is_not_loaded(dinov2_folder, tmp_path):
    for file in dinov2_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = PREPROCESSOR | {"size": {"longest_edge": 300}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelError, match=r"size=.*longest_edge.*cannot be followed"):
        load_dinov2(tmp_path, device="cpu")


@pytest.mark.parametrize("name", ["not cropped", "crop of odd sides", "not resized"])
def test_features_are_those_of_transformers(name, dinov2_folder, tmp_path, picture):
    for file in dinov2_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    image = picture(301, 200)
    _, expected = theirs(changed(HONOURED[name]), image, tmp_path)
    model = load_dinov2(tmp_path, device="cpu")
    with torch.inference_mode():
        cls = model.model(pixel_values=torch.from_numpy(expected)[None]).pooler_output
    found = extract_features(model, image, progress=False).cls
    assert np.abs(found - cls.numpy()).max() < 1e-5


def made(**changes):
    return Preprocessing.from_processor(PREPROCESSOR | changes, PATCH)


@pytest.mark.parametrize(
    ("changes", "size", "scaled", "fitted"),
    [
        # of the crop; the scaling before it grows alike
        ({}, 448, (768, 512), (448, 448)),
        ({"crop_size": {"height": 224, "width": 448}}, 112, (192, 128), (224, 112)),
        ({"size": {"height": 256, "width": 300}}, 448, (600, 512), (448, 448)),
        # without a crop, of what the picture is scaled to
        ({"do_center_crop": False}, 140, (210, 140), (210, 140)),
        ({"do_center_crop": False, "size": {"height": 230, "width": 460}}, 140, (280, 140),
         (280, 140)),
        # without both, of the picture
        ({"do_center_crop": False, "do_resize": False}, 140, (210, 140), (210, 140)),
        # without scaling, of the crop alone
        ({"do_resize": False}, 140, (600, 400), (140, 140)),
    ],
)  # fmt: skip
def test_what_size_means_for_each_form(picture, changes, size, scaled, fitted):
    preprocessing = made(**changes)
    assert geometry((600, 400), preprocessing, size, "crop") == (scaled, fitted)
    pixels = to_pixels(picture(600, 400), preprocessing, size=size)
    assert pixels.shape == (3, fitted[1], fitted[0])


def test_less_than_a_patch_and_nothing_at_all():
    plain = made(do_resize=False, do_center_crop=False)
    with pytest.raises(ImageError, match="less than one patch at 30x9 px"):
        to_pixels(Image.new("RGB", (30, 9)), plain)
    for fit in ("crop", "resize", "pad"):
        for size in ((0, 5), (5, 0), (0, 0)):
            with pytest.raises(ImageError, match="has no pixels"):
                to_pixels(Image.new("RGB", size), plain, fit=fit)


def test_a_huge_window_is_refused():
    with pytest.raises(ImageError, match="give a lower `size`"):
        to_pixels(Image.new("RGB", (20, 20)), made(do_resize=False), size=99_999)


@pytest.mark.parametrize("shape", [(640, 427), (300, 301), (224, 224), (1, 1), (3000, 50), (9, 70)])
def test_crop_is_what_the_processor_does(dinov2, picture, shape):
    image = picture(*shape)
    reference = dinov2.processor(image, return_tensors="np")["pixel_values"][0]
    assert np.abs(to_pixels(image, dinov2) - reference).max() < 1e-5
    # another size: the same with both numbers scaled
    larger = {"size": {"shortest_edge": 384}, "crop_size": {"height": 336, "width": 336}}
    reference = dinov2.processor(image, return_tensors="np", **larger)["pixel_values"][0]
    assert np.abs(to_pixels(image, dinov2, size=336) - reference).max() < 1e-5
    assert to_pixels(image, dinov2, size=333).shape == (3, 336, 336)


def test_resize_and_pad(dinov2, picture):
    def shape(width, height, fit, size=None):
        return to_pixels(picture(width, height), dinov2, fit=fit, size=size).shape[:0:-1]

    assert shape(640, 427, "resize") == (46 * 14, 30 * 14)  # 427 is nearer to 420 than to 434
    assert shape(640, 427, "pad") == (46 * 14, 31 * 14)
    assert shape(640, 427, "resize", 224) == (24 * 14, 224)  # 335.7 wide
    assert shape(1, 1, "resize") == shape(1, 1, "pad") == (14, 14)
    assert shape(12000, 50, "resize", 56) == (960 * 14, 56)
    assert shape(50, 12000, "pad", 50) == (56, 858 * 14)
    assert shape(12000, 50, "resize") == (857 * 14, 4 * 14)

    image = picture(224, 140)
    plain = to_pixels(image, dinov2, fit="resize")
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = ((np.asarray(image) / 255 - mean) / std).transpose(2, 0, 1)
    assert np.abs(plain - expected).max() < 1e-5  # sides that fit are left alone

    image = picture(30, 20)
    padded = to_pixels(image, dinov2, fit="pad")
    expected = ((np.asarray(image) / 255 - mean) / std).transpose(2, 0, 1)
    assert np.abs(padded[:, :20, :30] - expected).max() < 1e-5
    assert (padded[:, 20:] == 0).all() and (padded[:, :, 30:] == 0).all()
    assert geometry((30, 20), dinov2, None, "pad") == ((30, 20), (42, 28))


def test_limits(dinov2):
    with pytest.raises(ImageError, match=r"1x12000 px: would be scaled to 256x3072000 px"):
        to_pixels(Image.new("RGB", (1, 12000)), dinov2)
    for fit in ("resize", "pad"):
        with pytest.raises(ImageError, match=r"2058x2058 px; give a lower `size`"):
            to_pixels(Image.new("RGB", (20, 20)), dinov2, fit=fit, size=2058)
    assert to_pixels(Image.new("RGB", (12000, 50)), dinov2).shape == (3, 224, 224)
