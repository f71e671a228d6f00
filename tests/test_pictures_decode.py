import io
import pickle
import struct
import zlib

import numpy as np
import pytest
from picture_files import (
    ADOBE,
    P3,
    chunk,
    encoded,
    noise,
    png_of_16_bits,
    profile,
    tiff,
    with_chunk,
)
from PIL import Image, ImageCms, features

from dinov2_helpers import ImageError, extract_features, load_dinov2, open_image
from dinov2_helpers.pictures import Depth, decode, range_warning


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
    alpha = image.getchannel("A")
    image = image.convert(mode)
    image.putalpha(alpha)  # which Pillow before 12 loses on the way to PA
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
    (tmp_path / "a.png").write_text("hello", encoding="utf-8")
    (tmp_path / "b.png").write_text(
        "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", encoding="utf-8"
    )
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
        "no array": (object(), "must be a path, .*, not object"),
    }.values():
        with pytest.raises(ImageError, match=message):
            open_image(wrong, "image 7")


# --- Colours


def colour_of(data):
    image = open_image(data)
    assert "icc_profile" not in image.info and image.mode == "RGB"
    return image.getpixel((0, 0))


def by_littlecms(image, data):
    theirs = ImageCms.getOpenProfile(io.BytesIO(data))
    ours = ImageCms.createProfile("sRGB")
    return ImageCms.profileToProfile(image, theirs, ours, outputMode="RGB").getpixel((0, 0))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_a_colour_profile_is_followed_whatever_the_format(kind):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    red = Image.new("RGB", (16, 16), (200, 60, 40))
    wide = profile()
    lossy = {"JPEG": {"quality": 100}, "WEBP": {"lossless": True}, "AVIF": {"quality": 100}}
    found = colour_of(encoded(red, kind, icc_profile=wide, **lossy.get(kind, {})))
    expected = by_littlecms(red, wide)
    assert np.abs(np.subtract(found, expected)).max() <= (3 if kind in lossy else 0)
    assert np.abs(np.subtract(found, (200, 60, 40))).max() > 15


@pytest.mark.parametrize("mode", ["RGBA", "P", "L", "LA", "1", "RGBX", "I;16"])
def test_a_colour_profile_is_followed_whatever_the_mode(mode):
    wide = profile(ADOBE, 1.0)  # of a gamma that changes grey too
    grey = np.full((4, 4), 100, np.uint8)
    image = Image.fromarray(grey).convert("RGB")
    expected = by_littlecms(image, wide)
    if mode == "1":
        image, expected = image.convert("1", dither=0), (0, 0, 0)
    elif mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    else:
        image = image.quantize(4) if mode == "P" else image.convert(mode)
    image.info["icc_profile"] = wide
    assert colour_of(image) == expected
    assert expected != (100, 100, 100)


def test_grey_and_cmyk_have_profiles_of_their_own():
    linear = profile(gamma=1.0, space=b"GRAY")
    grey = Image.new("L", (4, 4), 55)
    expected = by_littlecms(grey, linear)
    assert expected[0] > 120  # linear light of 55 is a bright grey
    assert colour_of(encoded(grey, "PNG", icc_profile=linear)) == expected
    deep = Image.fromarray(np.full((4, 4), 55 * 257, np.uint16))
    assert colour_of(encoded(deep, "PNG", icc_profile=linear)) == expected
    half = Image.merge("LA", (grey, Image.new("L", (4, 4), 0)))
    assert colour_of(encoded(half, "PNG", icc_profile=linear)) == (255, 255, 255)


def test_a_profile_of_srgb_under_another_name_changes_nothing(picture):
    image = picture(40, 30)
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    same(open_image(encoded(image, "PNG", icc_profile=own)), image)


@pytest.mark.parametrize(
    ("mode", "wrong", "reason"),
    [
        ("RGB", b"no profile", "cannot be used"),
        ("RGB", profile()[:200], "cannot be used"),
        ("RGB", profile(space=b"GRAY"), "for GRAY and the picture is RGB"),
        ("CMYK", profile(), "for RGB and the picture is CMYK"),
    ],
)
def test_a_profile_that_does_not_fit_costs_a_warning(picture, caplog, mode, wrong, reason):
    image = picture(40, 30).convert(mode)
    expected = image.convert("RGB")
    image.info["icc_profile"] = wrong
    same(open_image(image, "a\nb.png"), expected)
    [record] = caplog.records
    assert record.levelname == "WARNING" and reason in record.getMessage()
    assert record.getMessage().startswith(r"a\nb.png: its colour profile")


def gamma_chunk(gamma):
    return b"gAMA", struct.pack(">I", round(gamma * 100_000))


def test_the_gamma_that_a_png_states_is_followed():
    grey = Image.new("RGB", (4, 4), (100, 100, 100))
    linear = colour_of(with_chunk(*gamma_chunk(1.0), grey))
    light = 100 / 255
    assert linear == (round(255 * (1.055 * light ** (1 / 2.4) - 0.055)),) * 3
    assert colour_of(with_chunk(*gamma_chunk(1 / 2.2), grey)) == (100, 100, 100)
    assert colour_of(with_chunk(*gamma_chunk(1.0), grey.convert("L"))) == linear
    # the chunk sRGB, which Pillow reads last, overrules it
    data = with_chunk(*gamma_chunk(1.0), grey)
    assert colour_of(data[:33] + chunk(b"sRGB", b"\0") + data[33:]) == (100, 100, 100)


def test_the_primaries_that_a_png_states_are_followed():
    red = Image.new("RGB", (4, 4), (200, 60, 40))
    of_p3 = (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
    data = with_chunk(*gamma_chunk(1 / 2.2), red)
    primaries = chunk(b"cHRM", struct.pack(">8I", *(round(x * 100_000) for x in of_p3)))
    found = colour_of(data[:33] + primaries + data[33:])
    expected = by_littlecms(red, profile(P3, 2.2))
    assert np.abs(np.subtract(found, expected)).max() <= 3
    assert np.abs(np.subtract(found, (200, 60, 40))).max() > 15


@pytest.mark.parametrize("numbers", [(0,) * 8, (31270, 32900) * 4])
def test_primaries_that_cannot_be_cost_a_warning(numbers, caplog):
    red = Image.new("RGB", (4, 4), (200, 60, 40))
    data = with_chunk(*gamma_chunk(1.0), red)
    data = data[:33] + chunk(b"cHRM", struct.pack(">8I", *numbers)) + data[33:]
    assert colour_of(data) == (200, 60, 40)
    assert "cannot be; its colours are taken for sRGB" in caplog.text


def test_what_is_opened_twice_is_the_same():
    wide = encoded(Image.new("RGB", (4, 4), (200, 60, 40)), "PNG", icc_profile=profile())
    once = open_image(wide)
    same(open_image(once), once)


# --- Bits, white, transparency, together


RAMP = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (48, 1))
STORED = {
    "8 bits": (RAMP // 257).astype(np.uint8),
    "16 bits": RAMP,
    "floats": (RAMP / 65535).astype(np.float32),
}


# those that Pillow opens: of big-endian 16 bits, and of 32, it says that it cannot
@pytest.mark.parametrize(
    ("name", "order"),
    [("8 bits", "<"), ("8 bits", ">"), ("16 bits", "<"), ("floats", "<"), ("floats", ">")],
)
def test_white_may_be_zero_at_any_depth(name, order):
    values = STORED[name]
    plain = np.asarray(open_image(tiff(values, 1, order=order)))
    assert (plain[0, 0, 0], plain[0, -1, 0]) == (0, 255)
    turned = np.asarray(open_image(tiff(values, 0, order=order)))
    assert np.abs(turned.astype(int) - (255 - plain.astype(int))).max() <= 1
    assert (turned[0, 0, 0], turned[0, -1, 0]) == (255, 0)


def test_a_tiff_of_12_bits_says_so():
    values = np.tile(np.linspace(0, 4095, 64).astype(np.uint16), (48, 1))
    image = open_image(tiff(values, bits=12))
    assert [image.getpixel((x, 0))[0] for x in (0, 63)] == [0, 255]
    assert image.info["depth"] == (12, 0, 4095)


@pytest.mark.parametrize("mode", ["L", "I;16", "LA", "RGB"])
def test_transparency_is_white_at_any_depth(mode):
    if mode == "RGB":
        values = np.zeros((4, 4, 3), np.uint16)
        values[0, 0] = (0x1234, 0x5678, 0x9ABC)
        data = png_of_16_bits(values, (0x1234, 0x5678, 0x9ABC))
    elif mode == "LA":
        values = np.zeros((4, 4, 2), np.uint16)
        values[1:, :, 1] = 65535
        values[0, 1:, 1] = 65535
        data = png_of_16_bits(values)
    else:
        values = np.full((4, 4), 7, np.uint8 if mode == "L" else np.uint16)
        values[0, 0] = 99
        data = encoded(Image.fromarray(values), "PNG", transparency=99)
    image = open_image(data)
    assert image.getpixel((0, 0)) == (255, 255, 255)
    assert max(image.getpixel((1, 1))) < 10


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["u2", "i2", "u4", "i4", "f2", "f4", "f8"])
def test_arrays_of_any_type_are_read_like_files(kind, order):
    values = RAMP.astype(float)
    if kind[0] == "f":
        values = values / 65535
    elif kind == "i2":
        values = values // 2
    found = open_image(values.astype(order + kind))
    top = 128 if kind == "i2" else 255
    assert [found.getpixel((x, 0))[0] for x in (0, 63)] == [0, pytest.approx(top, abs=1)]
    assert found.info["depth"].high == pytest.approx(values.max(), rel=1e-3)


def test_the_range_of_deep_pictures_is_told():
    narrow = Image.fromarray((RAMP // 16).astype(np.uint16))
    depth = open_image(encoded(narrow, "PNG")).info["depth"]
    assert depth == Depth(16, 0, 4095)
    assert open_image(encoded(narrow.convert("L"), "PNG")).info["depth"] is None
    colour = np.full((4, 4, 3), 4095, np.uint16)
    assert open_image(png_of_16_bits(colour)).info["depth"] == Depth(16, 3840, 4095)


def test_a_folder_of_a_12_bit_camera_is_noticed_and_the_remedy_works():
    narrow = Image.fromarray((RAMP // 16).astype(np.uint16))
    data = encoded(narrow, "PNG")
    depth = open_image(data).info["depth"]
    text = range_warning([depth, Depth(16, 3, 1000)])
    assert "2 pictures" in text and "12-bit camera" in text and "6.25%" in text
    assert "open_image(path, bits=12)" in text
    for source in (data, narrow, np.asarray(narrow)):
        image = open_image(source, bits=12)
        assert [image.getpixel((x, 0))[0] for x in (0, 63)] == [0, 255]
    with pytest.raises(ImageError, match=r"a: values up to 4095 do not fit into bits=10"):
        open_image(data, "a", bits=10)
    for wrong in (7, 17):
        with pytest.raises(ValueError, match="8 to 16"):
            open_image(data, bits=wrong)
    with pytest.raises(ImageError, match="give it as an array of uint16"):
        open_image(png_of_16_bits(np.zeros((2, 2, 3), np.uint16)), bits=12)


@pytest.mark.parametrize(
    "depths",
    [
        [],
        [Depth(16, 0, 65535)],
        [Depth(16, 0, 4095), Depth(16, 0, 60000)],
        [Depth(12, 0, 4095)],
        [Depth(32, 0, 0.05), Depth(16, 0, 0.05)],  # floating point says what its range is
    ],
)
def test_pictures_that_use_their_range_are_not_warned_of(depths):
    assert range_warning(depths) is None


@pytest.mark.parametrize(("high", "bits"), [(255, 8), (1023, 10), (4095, 12), (16383, 14)])
def test_the_camera_is_guessed_from_the_greatest_value(high, bits):
    assert f"bits={bits})" in range_warning([Depth(16, 0, high)])
    assert f"bits={bits})" in range_warning([Depth(32, 0, high)])


# --- Faults beside the pixels


def second_page_cut():
    data = bytearray(encoded(noise(), "TIFF"))
    (start,) = struct.unpack("<I", data[4:8])
    (count,) = struct.unpack("<H", data[start : start + 2])
    end = start + 2 + 12 * count
    data[end : end + 4] = struct.pack("<I", 10**7)
    return bytes(data)


def jpeg_segment(marker, body):
    data = encoded(noise(), "JPEG")
    return data[:2] + b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body + data[2:]


BAD_EXIF = b"Exif\0\0garbage"
PACKED = b"x\0\0" + zlib.compress(bytes(2**21))
BESIDE = {
    "PNG, broken EXIF": encoded(noise(), "PNG", exif=BAD_EXIF),
    "WebP, broken EXIF": encoded(noise(), "WEBP", exif=BAD_EXIF, lossless=True),
    "TIFF, EXIF beyond the end": tiff(np.asarray(noise(mode="L")), extra=[(34665, 10**7)]),
    "PNG, profile of 2 MB": with_chunk(b"iCCP", PACKED),
    "PNG, text of 2 MB": with_chunk(b"zTXt", PACKED),
    "PNG, international text of 2 MB": with_chunk(b"iTXt", b"x\0\1\0\0\0" + PACKED[3:]),
    "TIFF, second page cut": second_page_cut(),
    "JPEG, broken EXIF": encoded(noise(), "JPEG", exif=BAD_EXIF),
    "JPEG, short JFIF": jpeg_segment(0xE0, b"JFIF"),
    "JPEG, short profile": jpeg_segment(0xE2, b"ICC_PROFILE\0"),
    "JPEG, short note of Adobe": jpeg_segment(0xEE, b"Adobe"),
    "JPEG, last byte missing": encoded(noise(), "JPEG")[:-1],
    "JPEG, last two bytes missing": encoded(noise(), "JPEG")[:-2],
    "JPEG, progressive, last two bytes missing": encoded(noise(), "JPEG", progressive=True)[:-2],
    "PNG, end missing": encoded(noise(), "PNG")[:-12],
}


@pytest.mark.parametrize("name", BESIDE)
def test_a_fault_beside_the_pixels_does_not_cost_them(name, caplog):
    mode = "L" if "beyond" in name else "RGB"
    expected = noise(mode=mode).convert("RGB")
    if name.startswith("JPEG"):
        progressive = "progressive" in name
        expected = open_image(encoded(noise(), "JPEG", progressive=progressive))
    same(open_image(BESIDE[name], "mine.png"), expected)
    silent = ("JPEG, broken EXIF", "TIFF, EXIF beyond the end", "PNG, end missing")
    assert len(caplog.records) == (0 if name in silent else 1)
    assert all(record.getMessage().startswith("mine.png: ") for record in caplog.records)


def test_orientation_outlives_broken_metadata(picture):
    upright = picture(40, 24)
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = upright.transpose(Image.Transpose.ROTATE_90)
    data = encoded(stored, "PNG", exif=exif)
    same(open_image(data[:33] + chunk(b"zTXt", PACKED) + data[33:]), upright)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("missing", [3, 4, 10, 100, 1000])
def test_a_jpeg_without_its_last_blocks_is_no_picture(missing, progressive):
    data = encoded(noise(), "JPEG", quality=95, progressive=progressive)
    with pytest.raises(ImageError, match="truncated"):
        open_image(data[:-missing])


def scans_of(data):
    """Return where each scan of a JPEG starts."""
    return [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"]


def in_scans_of_their_own(data, components=(1, 2, 3)):
    """Return a JPEG in which each component has a scan, that of the one scan of a grey picture.

    Args:
        data: Of a grey picture.
        components: Those that have a scan.
    """
    frame = data.index(b"\xff\xc0")
    start = scans_of(data)[0]
    (length,) = struct.unpack(">H", data[frame + 2 : frame + 4])
    size = data[frame + 4 : frame + 9]
    three = b"".join(bytes([number, 0x11, 0]) for number in (1, 2, 3))
    head = data[:frame] + b"\xff\xc0\0\x11" + size + b"\3" + three
    head += data[frame + 2 + length : start]
    pixels = data[start + 10 : -2]
    scans = [b"\xff\xda\0\x08\1" + bytes([number, 0, 0, 63, 0]) + pixels for number in components]
    return head + b"".join(scans) + b"\xff\xd9"


@pytest.mark.parametrize("end", [b"", b"\xff", b"\xff\xda\0\x0c\3"])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_progressive_jpeg_without_its_last_scans_is_no_picture(mode, end):
    data = encoded(noise(mode=mode), "JPEG", progressive=True)
    starts = scans_of(data)
    assert len(starts) > 3
    for start in starts[1:]:
        with pytest.raises(ImageError, match="truncated"):
            open_image(data[:start] + end)
    same(open_image(data[:-2]), open_image(data))


def test_a_jpeg_without_the_scan_of_a_component_is_no_picture():
    grey = encoded(noise(mode="L"), "JPEG")
    whole = in_scans_of_their_own(grey)
    same(open_image(whole[:-2]), open_image(whole))
    assert (np.asarray(open_image(whole)) != np.asarray(open_image(grey))).any()
    for start in scans_of(whole)[1:]:
        with pytest.raises(ImageError, match="truncated"):
            open_image(whole[:start])
    for lacking in ((1, 3), (2, 3)):
        with pytest.raises(ImageError):
            open_image(in_scans_of_their_own(grey, lacking)[:-2])


def test_a_jpeg_that_restarts_is_whole_without_its_end():
    data = encoded(noise(), "JPEG", restart_marker_rows=1)
    assert b"\xff\xd0" in data
    same(open_image(data[:-2]), open_image(data))


def test_of_what_cannot_be_mended_the_first_bytes_alone_are_read(tmp_path, monkeypatch):
    def read_whole(path):
        raise AssertionError(f"{path} is read as a whole")

    path = tmp_path / "a.png"
    monkeypatch.setattr(type(path), "read_bytes", read_whole)
    for data in (bytes(1000), b"", b"GIF89a", encoded(noise(), "WEBP")[:500]):
        path.write_bytes(data)
        with pytest.raises(ImageError, match=r"a\.png: cannot be used: "):
            open_image(path)
    monkeypatch.setattr(decode, "_MOST_MENDABLE_BYTES", 1000)
    for kind in ("PNG", "JPEG"):
        path.write_bytes(encoded(noise(), kind)[:-100])
        with pytest.raises(ImageError, match=r"a\.png: cannot be used: .*truncated"):
            open_image(path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "AVIF"])
def test_a_file_of_more_bytes_than_its_format_has_is_refused_unopened(kind, tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(noise(), kind))
    same(open_image(path), open_image(path.read_bytes()))
    monkeypatch.setattr(decode, "_MOST_BYTES", 1000)
    monkeypatch.setattr(Image, "open", None)
    for opened in (open_image, decode.upright_size):
        with pytest.raises(ImageError, match=r"a\.png: .*: its 0\.0 GB are more .*; replace"):
            opened(path)


@pytest.mark.parametrize("kind", ["TIFF", "BMP", "PPM"])
def test_files_that_are_not_read_as_a_whole_may_have_any_size(kind, tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(noise(), kind))
    monkeypatch.setattr(decode, "_MOST_BYTES", 1000)
    assert open_image(path).size == decode.upright_size(path) == (80, 60)


@pytest.mark.parametrize("name", ["a\0b.png", "\0", "a\ud800.png"])
def test_a_path_that_can_be_none_is_a_picture_that_cannot_be_used(name, picture):
    for opened in (open_image, decode.upright_size):
        with pytest.raises(ImageError, match="cannot be used: ") as error:
            opened(name)
        assert error.value.name == name
    features = extract_features(load_dinov2("tiny"), [name, picture(30, 30)], progress=False)
    assert len(features) == 1 and features.skipped[0].name == name


# --- Whose fault it is


def test_own_errors_are_not_blamed_on_the_picture(monkeypatch, picture):
    def broken(*_):
        raise TypeError("a mistake of ours")

    data = encoded(picture(8, 8), "PNG")
    for name in ("_in_srgb", "_without_opacity"):
        with monkeypatch.context() as patch:
            patch.setattr(decode, name, broken)
            with pytest.raises(TypeError, match="of ours"):
                open_image(data)


@pytest.mark.parametrize("source", ["file", "picture"])
def test_a_lack_of_memory_is_not_blamed_on_the_picture(monkeypatch, picture, source):
    def broken(*_):
        raise MemoryError

    data = encoded(picture(8, 8), "PNG")
    lazy = Image.open(io.BytesIO(data))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", broken)
    with pytest.raises(MemoryError):
        open_image(data if source == "file" else lazy)


def test_an_old_pillow_is_refused_at_once():
    with pytest.raises(ImportError, match=r"Pillow 9\.5\.0 is too old.*pip install -U pillow"):
        decode._check_pillow("9.5.0")
    decode._check_pillow("11.0.0.dev0")


@pytest.mark.parametrize(
    ("empty", "reason"),
    [
        (Image.new("RGB", (0, 5)), "no pixels: 0x5 px"),
        (Image.new("L", (9, 9)).crop((4, 4, 4, 8)), "no pixels: 0x4 px"),
        (np.zeros((0, 5, 3), np.uint8), r"shape \(0, 5, 3\)"),
        (np.zeros((5, 0)), r"shape \(5, 0\)"),
    ],
)
def test_pictures_without_pixels(empty, reason):
    with pytest.raises(ImageError, match=reason) as error:
        open_image(empty, "crop 3")
    assert error.value.name == "crop 3" and "convert it" not in error.value.reason


def test_the_remedy_fits_what_was_given(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(b"hello")
    for file in (tmp_path / "a.png", b"hello"):
        with pytest.raises(ImageError, match=r"; replace or convert it$"):
            open_image(file)
    for thing in (np.zeros((2, 2), bool), object(), None):
        with pytest.raises(ImageError) as error:
            open_image(thing)
        assert "replace" not in error.value.reason
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    with pytest.raises(ImageError, match=r"scale it down, or raise PIL\.Image\.MAX_IMAGE_PIXELS"):
        open_image(encoded(noise(30, 30), "PNG"))


def test_an_error_travels_between_processes():
    error = ImageError("a\nb.png", "is broken")
    again = pickle.loads(pickle.dumps(error))
    assert (again.name, again.reason, str(again)) == ("a\nb.png", "is broken", str(error))
    assert str(error) == r"a\nb.png: is broken"


def test_the_home_folder_and_windows_separators(tmp_path, monkeypatch, picture):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "sub").mkdir()
    picture(4, 4).save(tmp_path / "sub" / "a.png")
    assert open_image("~/sub/a.png").size == (4, 4)
    monkeypatch.chdir(tmp_path)
    assert open_image("sub\\a.png").size == (4, 4)
    picture(5, 5).save(tmp_path / "sub\\a.png")  # a name with such a character comes first
    assert open_image("sub\\a.png").size == (5, 5)


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_the_upright_size_is_known_without_decoding(picture, tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a"
    path.write_bytes(encoded(picture(40, 24), kind, exif=exif))
    size = (24, 40) if orientation == 6 else (40, 24)
    assert decode.upright_size(path) == open_image(path).size == size
    assert decode.upright_size(path.read_bytes()) == size
    assert decode.upright_size(np.zeros((24, 40))) == (40, 24)


# A fraction of the pixels


def to_256(size):
    """What a processor does: the shortest side to 256 pixels."""
    width, height = size
    return (256, 256 * height // width) if width < height else (256 * width // height, 256)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(1200, 1040), (1201, 1043)])
def test_a_large_jpeg_is_opened_reduced_and_upright(orientation, size, picture):
    """It is turned, and its box is where the picture as a whole is, corner by corner."""
    stored = picture(12, 10).resize(size, Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(stored, "JPEG", quality=95, exif=exif)
    whole = open_image(data)
    opened = decode.open_reduced(data, scaled_to=lambda size: (size[0] // 8, size[1] // 8))
    assert opened.size == whole.size
    width, height = whole.size
    assert opened.image.size == (-(-width // 4), -(-height // 4))
    left, top, right, bottom = opened.box
    assert (right - left, bottom - top) == (width / 4, height / 4)
    assert left >= 0 and top >= 0 and right <= opened.image.width and bottom <= opened.image.height
    one = opened.image.resize((130, 130), Image.Resampling.BICUBIC, opened.box)
    same(one, whole.resize((130, 130), Image.Resampling.BICUBIC), 3)


def test_where_a_reduced_picture_is_among_its_pixels():
    """The white last column of 1201 is a quarter of the last of the 301 that are decoded."""
    values = np.zeros((1000, 1201), np.uint8)
    for orientation, (left, right) in {1: (0, 300.25), 2: (0.75, 301)}.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encoded(Image.fromarray(values), "JPEG", exif=exif)
        opened = decode.open_reduced(data, scaled_to=lambda _: (150, 125))
        assert opened.box == (left, 0, right, 250)


@pytest.mark.parametrize(
    ("size", "scaled", "decoded"),
    [
        ((1200, 900), (300, 225), (600, 450)),  # as many as twice, and no fewer
        ((1200, 900), (301, 225), (1200, 900)),
        ((1200, 900), (150, 112), (300, 225)),
        ((1200, 900), (1, 1), (150, 113)),  # an eighth is the least
        ((1200, 900), (0, 0), (150, 113)),
        ((1200, 900), (1200, 900), (1200, 900)),
        ((1200, 900), (2400, 1800), (1200, 900)),
        ((1000, 1000), (10, 10), (1000, 1000)),  # not large
        ((1024, 1024), (10, 10), (128, 128)),
    ],
)
def test_how_much_is_decoded(size, scaled, decoded):
    opened = decode.open_reduced(
        encoded(Image.new("RGB", size), "JPEG"), scaled_to=lambda _: scaled
    )
    assert (opened.size, opened.image.size) == (size, decoded)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_other_formats_are_decoded_whole(kind):
    image = Image.new("RGB", (1200, 1000))
    opened = decode.open_reduced(encoded(image, kind), scaled_to=to_256)
    assert opened == decode.Opened(opened.image, (1200, 1000), (0, 0, 1200, 1000))
    same(opened.image, image)


def test_what_is_in_memory_is_taken_whole(tmp_path):
    Image.new("RGB", (1200, 1000)).save(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as lazy:
        for source in (lazy, np.asarray(lazy)):
            assert decode.open_reduced(source, scaled_to=to_256).image.size == (1200, 1000)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_modes_are_reduced_too(mode, picture):
    data = encoded(picture(12, 10).resize((1200, 1000)).convert(mode), "JPEG", quality=95)
    opened = decode.open_reduced(data, scaled_to=lambda _: (150, 125))
    assert opened.image.size == (300, 250)
    same(opened.image.resize((30, 25)), open_image(data).resize((30, 25)), 3)


def test_the_colour_profile_of_a_reduced_picture_is_followed(picture):
    image = picture(12, 10).resize((1200, 1000))
    data = encoded(image, "JPEG", quality=95, icc_profile=profile(P3))
    opened = decode.open_reduced(data, scaled_to=lambda _: (150, 125))
    assert opened.image.size == (300, 250)
    same(opened.image.resize((30, 25)), open_image(data).resize((30, 25)), 3)
    plain = encoded(image, "JPEG", quality=95)
    with pytest.raises(AssertionError):
        same(opened.image.resize((30, 25)), open_image(plain).resize((30, 25)), 3)


def test_of_several_pictures_the_first_is_reduced():
    first, second = Image.new("RGB", (1200, 1000), "red"), Image.new("RGB", (1200, 1000), "blue")
    data = encoded(first, "MPO", save_all=True, append_images=[second])
    opened = decode.open_reduced(data, scaled_to=lambda _: (150, 125))
    assert opened.image.size == (300, 250) and opened.image.info["frames"] == 2
    same(opened.image, Image.new("RGB", (300, 250), "red"), 3)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_truncated_large_jpeg_is_an_error(progressive):
    data = encoded(noise(1100, 1000), "JPEG", progressive=progressive)
    whole = decode.open_reduced(data[:-2], scaled_to=lambda _: (100, 100))  # lacks no pixel
    assert whole.image.size == (275, 250)
    with pytest.raises(ImageError, match="truncated"):
        decode.open_reduced(data[: len(data) // 2], "a.jpg", scaled_to=lambda _: (100, 100))
