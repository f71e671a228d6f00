import numpy as np
import pytest
from picture_files import encoded, tiff
from PIL import Image, ImageDraw, ImageFilter

from dinov2_helpers.pictures import ImageError, read_class_map, read_depth, read_mask

TRUE = np.zeros((60, 80), bool)
TRUE[10:25, 20:44] = True


def grey(low=0, high=255, dtype=np.uint8):
    return Image.fromarray(np.where(TRUE, high, low).astype(dtype))


def indexed(colours, index=1):
    image = Image.fromarray((TRUE * index).astype(np.uint8)).convert("P")
    image.putpalette([value for colour in colours for value in colour])
    return image


def drawn(colour, background=(0, 0, 0)):
    return Image.fromarray(np.where(TRUE[..., None], colour, background).astype(np.uint8))


def layer(colour, mode="RGBA"):
    return Image.fromarray(np.dstack([drawn(colour, colour), TRUE * np.uint8(255)])).convert(mode)


def clear_index():
    """A palette whose index 0 is seen through."""
    return encoded(indexed([(255, 255, 255), (9, 9, 9)]), "PNG", transparency=0)


VOC = [(0, 0, 0), (128, 0, 0), (0, 128, 0)]
MASKS = {
    "0 and 255": grey(),
    "0 and 1": grey(0, 1),
    "a class": grey(0, 15),
    "dim": grey(0, 60),
    "1 bit": grey().convert("1"),
    "1 bit TIFF": encoded(grey().convert("1"), "TIFF", compression="group4"),
    "16 bits, 0 and 255": grey(dtype=np.uint16),
    "16 bits, 0 and 1": grey(0, 1, np.uint16),
    "16 bits, whole range": grey(0, 65535, np.uint16),
    "32 bits": grey(0, 70000, np.int32),
    "floats": grey(0, 1, np.float32),
    "16 bits, 0 is white": tiff(np.where(TRUE, 0, 65535).astype(np.uint16), 0),
    "indexed, VOC": indexed(VOC),
    "indexed, the second class": indexed(VOC, 2),
    "indexed, 0 is grey": indexed([(120, 120, 120), (180, 120, 120)]),
    "indexed by a program that sorts colours": grey().convert("RGB").quantize(2),
    "indexed greyscale": grey().convert("P"),
    "GIF": encoded(grey(), "GIF"),
    "red on black": drawn((255, 0, 0)),
    "dark blue on black": drawn((0, 0, 90)),
    "white on black": drawn((255, 255, 255)),
    "red on a transparent layer": layer((255, 0, 0)),
    "white on a transparent layer": layer((255, 255, 255)),
    "black on a transparent layer": layer((0, 0, 0)),
    "grey on a transparent layer": layer((90, 90, 90), "LA"),
    "premultiplied": layer((255, 0, 0)).convert("RGBa"),
    "indexed on a transparent layer": clear_index(),
    "opaque RGBA": grey().convert("RGBA"),
    "CMYK": drawn((255, 0, 0)).convert("CMYK"),
    "JPEG": encoded(grey(), "JPEG", quality=95),
    "JPEG, red": encoded(drawn((255, 0, 0)), "JPEG", quality=95, subsampling=0),
    "bool array": TRUE,
    "integer array": TRUE.astype(np.int64) * 7,
    "float array": TRUE.astype(float),
    "colour array": np.asarray(drawn((255, 0, 0))),
    "array with opacity": np.asarray(layer((255, 255, 255))),
    "array with an axis of one": TRUE[..., None].astype(np.uint8),
}


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_is_the_same_whoever_wrote_it(name):
    found = read_mask(MASKS[name], size=(80, 60))
    assert found.dtype == bool
    np.testing.assert_array_equal(found, TRUE)


def ellipse(**how):
    image = Image.new("L", (320, 240))
    ImageDraw.Draw(image).ellipse((80, 60, 200, 160), fill=255)
    return image.resize((80, 60), **how)


@pytest.mark.parametrize("kind", ["smooth edges", "blurred", "JPEG", "JPEG, poor"])
def test_edges_and_noise_are_cut_at_half(kind):
    hard = np.asarray(ellipse(resample=Image.Resampling.NEAREST)) > 127
    smooth = ellipse(resample=Image.Resampling.BICUBIC)
    blurred = smooth.filter(ImageFilter.GaussianBlur(1))
    source = {
        "smooth edges": smooth,
        "blurred": blurred,
        "JPEG": encoded(smooth, "JPEG", quality=75),
        "JPEG, poor": encoded(smooth, "JPEG", quality=20),
    }[kind]
    found = read_mask(source)
    # at most a rim of the ellipse differs, whose circumference is about 90 pixels
    assert (found != hard).sum() < 50 and hard.sum() > 500


@pytest.mark.parametrize("values", [(1, 2, 3), (1, 15, 255), (40, 90, 200), (1000, 2000, 60000)])
@pytest.mark.parametrize("mode", ["grey", "indexed", "colour"])
def test_several_classes_or_objects_are_all_marked(values, mode):
    labels = np.zeros((60, 80), np.int32)
    for i, value in enumerate(values):
        labels[5:30, 5 + 25 * i : 20 + 25 * i] = value
    if max(values) > 255 or mode == "grey":
        source = labels
    elif mode == "indexed":
        source = Image.fromarray(labels.astype(np.uint8)).convert("P")
    else:
        source = np.zeros((60, 80, 3), np.uint8)
        for channel, value in enumerate(values):
            source[..., channel] = np.where(labels == value, value, 0)
    np.testing.assert_array_equal(read_mask(source), labels > 0)


@pytest.mark.parametrize("full", [False, True])
def test_an_empty_or_full_mask_is_read_as_such(full):
    for mode in ("1", "L", "RGB", "I;16"):
        image = Image.fromarray(
            np.full((6, 5), full * 255, np.uint16 if mode == "I;16" else np.uint8)
        )
        found = read_mask(image if mode == "I;16" else image.convert(mode))
        assert found.shape == (6, 5) and found.all() == full and found.any() == full
    clear = Image.new("RGBA", (5, 6), (255, 255, 255, 255 * full))
    assert read_mask(clear).any() == full


def test_a_photograph_is_no_mask():
    ramp = np.add.outer(np.arange(60), np.arange(80)).astype(np.uint8) + 20
    with pytest.raises(ImageError, match=r"a\.png: is shaded all over as a photograph"):
        read_mask(Image.fromarray(ramp), name="a.png")
    for wrong in (np.full((4, 4), np.nan), -np.ones((4, 4))):
        with pytest.raises(ImageError, match="no mask"):
            read_mask(wrong)


READERS = {
    "mask": (read_mask, np.uint8),
    "class map": (read_class_map, np.uint8),
    "depth": (read_depth, np.uint16),
}


@pytest.mark.parametrize("name", READERS)
def test_annotations_are_turned_as_their_pictures_are(name, tmp_path):
    read, dtype = READERS[name]
    values = np.arange(12, dtype=dtype).reshape(3, 4)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "a.png"
    Image.fromarray(values).save(path, exif=exif)
    upright = np.rot90(values, -1)
    np.testing.assert_array_equal(np.nan_to_num(read(path, size=(3, 4))), read_plain(read, upright))


def read_plain(read, values):
    return np.nan_to_num(read(np.ascontiguousarray(values)))


@pytest.mark.parametrize("name", READERS)
def test_another_size_is_an_error_or_brought_to_it(name, tmp_path):
    read, dtype = READERS[name]
    values = np.array([[0, 1], [2, 3]], dtype)
    path = tmp_path / "a.png"
    Image.fromarray(values).save(path)
    with pytest.raises(ImageError, match=r"a\.png: is 2x2 px, but its picture is 6x4 px"):
        read(path, size=(6, 4))
    found = read(path, size=(6, 4), resize=True)
    np.testing.assert_array_equal(found, read(values).repeat(2, 0).repeat(3, 1))


@pytest.mark.parametrize("name", READERS)
def test_what_cannot_be_read_is_named(name, tmp_path):
    read, _ = READERS[name]
    with pytest.raises(ImageError, match=r"none\.png: .*No such file"):
        read(tmp_path / "none.png")
    (tmp_path / "bad\n.png").write_bytes(b"hello")
    with pytest.raises(ImageError, match=r"bad\\n\.png: .*cannot identify"):
        read(tmp_path / "bad\n.png")
    with pytest.raises(ImageError, match=r"third: has shape \(2, 3, 4, 5\)"):
        read(np.zeros((2, 3, 4, 5)), name="third")
    for empty in (np.zeros((0, 4)), Image.new("L", (4, 0))):
        with pytest.raises(ImageError, match="third: "):
            read(empty, name="third")


CLASSES = np.array([[0, 1, 2], [3, 2, 1]])


@pytest.mark.parametrize(
    ("source", "dtype"),
    [
        (Image.fromarray(CLASSES.astype(np.uint8)), np.uint8),
        (Image.fromarray(CLASSES.astype(np.uint8)).convert("P"), np.uint8),
        (Image.fromarray(CLASSES.astype(np.uint16)), np.uint16),
        (Image.fromarray(CLASSES.astype(np.int32)), np.int32),
        (Image.fromarray(CLASSES.astype(np.uint8)).convert("RGB"), np.uint8),
        (Image.fromarray(CLASSES.astype(np.uint8)).convert("RGBA"), np.uint8),
        (Image.fromarray(CLASSES.astype(np.uint8)).convert("LA"), np.uint8),
        (CLASSES, np.int64),
        (CLASSES.astype(">u2"), np.uint16),
    ],
)
def test_class_maps_keep_their_numbers(source, dtype):
    found = read_class_map(source, classes=["a", "b", "c"])
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, CLASSES)


def test_a_class_map_of_16_bits_is_not_divided():
    values = np.array([[0, 256], [257, 65535]], np.uint16)
    np.testing.assert_array_equal(read_class_map(encoded(Image.fromarray(values), "PNG")), values)


def test_bool_is_a_class_map():
    assert read_class_map(TRUE, classes=1).dtype == np.uint8
    assert read_class_map(Image.fromarray(TRUE)).max() == 1


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (Image.fromarray(CLASSES.astype(np.uint8)), "has the value 3; its classes are 0 to 2"),
        (np.array([[0, 255, 7]]), "has the value 7, 255; its classes are 0 to 2"),
        (np.array([[0, -1]]), "has the value -1"),
        (drawn((255, 0, 0)), "in colour"),
        (layer((9, 9, 9)), "transparent in parts"),
        (CLASSES.astype(float), "type float64"),
        (Image.fromarray(CLASSES.astype(np.float32)), "type float32"),
        (encoded(grey(), "JPEG"), "JPEG, which changes values"),
    ],
)
def test_class_maps_of_another_kind_are_refused(source, reason):
    for classes in (2, ["a", "b"]):
        with pytest.raises(ImageError, match=rf"^mine: .*{reason}"):
            read_class_map(source, classes=classes, name="mine")


MILLIMETRES = np.array([[0, 1, 1500], [65535, 2000, 3]])
METRES = np.array([[np.nan, 0.001, 1.5], [65.535, 2, 0.003]], np.float32)


@pytest.mark.parametrize(
    "source",
    [
        Image.fromarray(MILLIMETRES.astype(np.uint16)),
        encoded(Image.fromarray(MILLIMETRES.astype(np.uint16)), "PNG"),
        encoded(Image.fromarray(MILLIMETRES.astype(np.uint16)), "TIFF"),
        tiff(MILLIMETRES.astype(np.uint16), order=">"),
        Image.fromarray(MILLIMETRES.astype(np.int32)),
        MILLIMETRES,
        MILLIMETRES.astype(">u2"),
        Image.fromarray(METRES),
        METRES.astype(float),
        np.where(np.isnan(METRES), -1, METRES),
        np.where(np.isnan(METRES), np.inf, METRES),
    ],
)
def test_depth_is_in_metres(source):
    found = read_depth(source)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, METRES, rtol=1e-6)


def test_depth_in_another_unit():
    np.testing.assert_allclose(
        read_depth(np.array([[256, 512]], np.uint16), unit=1 / 256), [[1, 2]]
    )
    np.testing.assert_allclose(read_depth(np.array([[3.0]]), unit=0.3048), [[0.9144]])
    np.testing.assert_allclose(read_depth(np.array([[3]], np.uint8), unit=0.1), [[0.3]])


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (grey(), "has 8 bits, too few for millimetres: give the `unit`"),
        (drawn((255, 0, 0)), "in colour"),
        (indexed(VOC), "has mode P"),
        (grey().convert("1"), "has mode 1"),
        (TRUE, "type bool"),
    ],
)
def test_depth_of_another_kind_is_refused(source, reason):
    with pytest.raises(ImageError, match=rf"^mine: .*{reason}"):
        read_depth(source, name="mine")
