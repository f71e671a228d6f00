import numpy as np
import pytest
from PIL import Image

from dinov2_helpers import ImageError, iter_images, open_image, to_pixels
from dinov2_helpers.images import SUFFIXES, geometry


def same(image, expected, tolerance=0):
    assert (image.mode, image.size) == ("RGB", expected.size)
    difference = np.abs(np.asarray(image, int) - np.asarray(expected, int))
    assert difference.max() <= tolerance


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientations(picture, tmp_path, orientation):
    upright = picture(40, 24)
    # how a camera held so stores the picture: the inverse of what the tag asks for
    T = Image.Transpose
    stored = {
        2: T.FLIP_LEFT_RIGHT,
        3: T.ROTATE_180,
        4: T.FLIP_TOP_BOTTOM,
        5: T.TRANSPOSE,
        6: T.ROTATE_90,
        7: T.TRANSVERSE,
        8: T.ROTATE_270,
    }
    image = upright.transpose(stored[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.png", exif=exif)
    same(open_image(tmp_path / "a.png"), upright)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr"])
def test_modes_without_alpha(picture, tmp_path, mode):
    image = picture(30, 20).convert(mode)
    suffix = "jpg" if mode in ("CMYK", "YCbCr") else "png"
    image.save(
        tmp_path / f"a.{suffix}", **({"quality": 100, "subsampling": 0} if suffix == "jpg" else {})
    )
    tolerance = 8 if suffix == "jpg" else 0
    same(open_image(tmp_path / f"a.{suffix}"), image.convert("RGB"), tolerance)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_alpha_is_laid_on_white(mode, tmp_path):
    image = Image.new("RGBA", (4, 2), (0, 0, 0, 0))
    image.putpixel((1, 1), (0, 0, 0, 255))
    if mode == "P":
        image.convert("RGB").quantize(2).save(tmp_path / "a.png", transparency=b"\x00\x80")
        corner = open_image(tmp_path / "a.png").getpixel((0, 0))
        assert corner in ((255, 255, 255), (127, 127, 127))
        return
    image = image.convert(mode)
    expected = Image.new("RGB", (4, 2), "white")
    expected.putpixel((1, 1), (0, 0, 0))
    same(open_image(image, "a"), expected)


def test_deep_greyscale(tmp_path):
    ramp = np.linspace(0, 65535, 24).reshape(4, 6)
    eight_bit = Image.fromarray(np.round(ramp.astype(np.uint16) / 257).astype(np.uint8))
    for name, array in {
        "a.png": ramp.astype(np.uint16),
        "a.tif": ramp.astype(np.uint16),
        "b.tif": ramp.astype(np.int32),
        "c.tif": (ramp / 65535).astype(np.float32),
    }.items():
        Image.fromarray(array).save(tmp_path / name)
        same(open_image(tmp_path / name), eight_bit.convert("RGB"), 1)
    for name, wrong in {
        "d.tif": ramp.astype(np.int32) + 1,
        "e.tif": ramp.astype(np.float32),
        "f.tif": np.full((2, 2), np.nan, np.float32),
    }.items():
        Image.fromarray(wrong).save(tmp_path / name)
        with pytest.raises(ImageError, match=rf"{name}: .*not uint8"):
            open_image(tmp_path / name)


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    same(open_image(tmp_path / "a.gif"), frames[0])
    same(open_image(tmp_path / "a.tif"), frames[0])


def test_truncated_files(picture, tmp_path):
    """At any length: the whole picture or an error, never a half."""
    for suffix in ("jpg", "png", "webp", "gif", "bmp", "tif"):
        path = tmp_path / f"a.{suffix}"
        picture(64, 64).save(path)
        data, whole = path.read_bytes(), open_image(path)
        for share in (0, 0.1, 0.5, 0.9, 0.99):
            path.write_bytes(data[: int(share * len(data))])
            try:
                same(open_image(path), whole)
            except ImageError as error:
                assert str(error).startswith(f"{path}: cannot be used: ")
                assert error.reason.endswith("replace or convert it")
            else:
                assert share == 0.99


def test_what_is_no_picture(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_text("hello")
    (tmp_path / "b.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    (tmp_path / "c.png").mkdir()
    Image.new("RGB", (30, 30)).save(tmp_path / "d.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    for name, reason in {
        "a.png": "cannot identify image file",
        "b.png": "cannot identify image file",
        "c.png": "it is not a regular file",
        "d.png": "exceeds limit of 800 pixels",
        "e.png": "No such file",
    }.items():
        with pytest.raises(ImageError, match=reason) as error:
            open_image(tmp_path / name)
        assert str(error.value).startswith(str(tmp_path / name))


def test_arrays(picture):
    image = picture(5, 4)
    array = np.asarray(image)
    same(open_image(array, "a"), image)
    same(open_image(array[..., 0], "a"), image.getchannel(0).convert("RGB"))
    same(open_image(array / 255, "a"), image)
    same(open_image(array.astype(np.uint16) * 257, "a"), image)
    for wrong, message in {
        "planes first": (array.transpose(2, 0, 1), r"\(3, 4, 5\) is neither"),
        "four channels": (np.zeros((4, 5, 4), np.uint8), "is neither"),
        "integers": (array.astype(int), "int64 from"),
        "range": (array.astype(float), "float64 from"),
        "not a number": (np.full((2, 2), np.nan), "nan"),
        "empty": (np.zeros((0, 5, 3), np.uint8), "is neither"),
        "no array": (object(), "expected str, bytes or os.PathLike object, not object"),
    }.values():
        with pytest.raises(ImageError, match=message):
            open_image(wrong, "image 7")


def test_iter_images(tmp_path):
    for name in ("b10.jpg", "b2.JPEG", "a/1.png", "a/.x.png", ".h/1.png", "note.txt", "ü ñ.webp"):
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    root = tmp_path / "mine"
    (root / "folder.png").mkdir()
    (tmp_path / "outside.png").touch()
    (root / "link.png").symlink_to(tmp_path / "outside.png")
    (root / "broken.png").symlink_to(root / "nothing")
    (root / "loop").symlink_to(root, target_is_directory=True)
    names = [path.relative_to(root).as_posix() for path in iter_images(root)]
    assert names == ["b10.jpg", "b2.JPEG", "broken.png", "ü ñ.webp", "a/1.png"]
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "missing", "outside.png"):
        with pytest.raises(FileNotFoundError, match=folder):
            list(iter_images(tmp_path / folder))


def test_all_suffixes_can_be_opened(tmp_path):
    for suffix in SUFFIXES:
        Image.new("RGB", (3, 2), "white").save(tmp_path / f"a{suffix}")
        assert open_image(tmp_path / f"a{suffix}").size == (3, 2)


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
