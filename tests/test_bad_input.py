"""One table of bad and odd input: how it is made, and what must come of it.

That is what its good equivalent gives, or an error that names the file and says what to do, with
the pictures beside it intact. A row is a name, a function that makes the input, and one that checks
what becomes of it; each row is a test. Below the table, protections are taken out one by one to see
that the checks of their rows can fail.
"""

import os
import re
import shutil
import signal
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from processes import as_nobody, both, elsewhere, killed
from safetensors import SafetensorError

from dinov2_helpers import ImageError, extract_features, open_image, stream_features
from dinov2_helpers.extraction import cache as cache_module
from dinov2_helpers.pictures import printable
from dinov2_helpers.samples import read_scenes

CLOSE = 1e-5
FILE_LIMIT = 700  # bytes, less than an entry of the cache has


class World:
    """What a row has: a folder, good pictures, and the model with a list of what it has seen."""

    def __init__(self, folder, dinov2, draw, capsys, stack):
        self.folder, self.cache, self.dinov2 = folder, folder / "cache", dinov2
        self.capsys, self.stack, self.batches, self.said = capsys, stack, [], ""
        self.plain, self.other = draw(42, 28), draw(28, 42, seed=1)
        self.pictures = [draw(28, 28, seed=seed) for seed in range(8)]
        self.before_forward(lambda pixels: self.batches.append(len(pixels)))

    def before_forward(self, act):
        """Call `act` with the pixels (N, 3, H, W) before the model sees them."""
        handle = self.dinov2.model.register_forward_pre_hook(
            lambda _model, _arguments, named: act(named["pixel_values"]), with_kwargs=True
        )
        self.stack.callback(handle.remove)

    def run(self, images, **options):
        # one at a time: the very same numbers whichever pictures the cache has already
        options = {"fit": "resize", "batch_size": 1, "progress": False} | options
        return extract_features(self.dinov2, images, **options)

    def extract(self, images, **options):
        """Run, and keep what is printed and the sizes of the batches."""
        self.batches.clear()
        found = self.run(images, **options)
        self.said = self.capsys.readouterr().out
        return found

    def undisturbed(self):
        """Return the features of `pictures`, and the cache that a run of its own fills."""
        cache = self.folder / "undisturbed"
        return self.run(self.pictures, cache=cache), kept(cache)

    def public(self):
        """Return a folder that every user may enter, as pytest's are closed."""
        folder = Path(tempfile.mkdtemp())
        self.stack.callback(shutil.rmtree, folder)
        folder.chmod(0o755)
        return folder

    def close(self, path, mode=0):
        """Take permissions from a file or folder until the end of the test."""
        self.stack.callback(path.chmod, path.stat().st_mode)
        path.chmod(mode)


@pytest.fixture
def world(tmp_path, dinov2, picture, capsys):
    with ExitStack() as stack:
        yield World(tmp_path, dinov2, picture, capsys, stack)


def late(function):
    """Let a row give the last arguments of a function, whose first are those of the test."""
    return lambda *given, **named: lambda *first: function(*first, *given, **named)


def differ(one, other):
    return np.abs(np.asarray(one, float) - np.asarray(other, float)).max()


def same_features(found, expected):
    assert found.cls.shape == expected.cls.shape
    assert differ(found.cls, expected.cls) < CLOSE
    for one, other in zip(found.patches, expected.patches, strict=True):
        assert differ(one, other) < CLOSE


def kept(cache):
    """Return the files of a cache that have their final name."""
    return {p.name: p.read_bytes() for p in cache.glob("*") if p.suffix != ".partial"}


# --- How input is made: functions of the world


@late
def saved(world, name, change=lambda image: image, **options):
    """Save the plain picture, changed."""
    change(world.plain).save(path := world.folder / name, **options)
    return path


@late
def written(world, name, data):
    """Write bytes under the name of a picture."""
    (path := world.folder / name).write_bytes(data)
    return path


@late
def cut(world, make, share=0.5):
    """Make a file, and keep a share of it."""
    data = (path := make(world)).read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    return path


@late
def array(world, change):
    """Make an array of the plain picture's."""
    return change(np.asarray(world.plain))


def to(mode):
    return lambda image: image.convert(mode)


def resized(*size):
    return lambda image: image.resize(size)


def deep(dtype, factor):
    """Make a greyscale picture with more than 8 bits."""
    return lambda i: Image.fromarray((np.asarray(i.convert("L"), float) * factor).astype(dtype))


def sixteen(image):
    return image.quantize(16).convert("RGB")


def half(colour, mode="RGB"):
    """Fill the left half with a colour."""

    def change(image):
        (image := image.convert(mode)).paste(colour, (0, 0, 21, 28))
        return image

    return change


def see_through(world):
    """Make a palette with a colour of no opacity, in the left half."""
    image = half((9, 9, 9))(sixteen(world.plain)).quantize(17)
    image.save(path := world.folder / "a.png", transparency=image.getpixel((0, 0)))
    return path


def turned(orientation):
    """Store the picture as a camera held so does, with the tag that says how."""
    T, same = Image.Transpose, None
    stored = [same, T.FLIP_LEFT_RIGHT, T.ROTATE_180, T.FLIP_TOP_BOTTOM]
    stored += [T.TRANSPOSE, T.ROTATE_90, T.TRANSVERSE, T.ROTATE_270, same]
    how = stored[orientation - 1]
    (exif := Image.Exif())[0x0112] = orientation
    return saved("a.png", lambda i: i if how is same else i.transpose(how), exif=exif)


def animated(name, **options):
    """Save the plain picture, in 16 colours, with three more frames."""
    more = [Image.new("RGB", (42, 28), colour) for colour in ("red", "lime", "blue")]
    return saved(name, sixteen, save_all=True, append_images=more, **options)


@late
def folder(world, act, public=False):
    """Make a folder with a good picture, and let `act` do something to it."""
    root = (world.public() if public else world.folder) / "mine"
    (root / "sub").mkdir(parents=True)
    world.plain.save(root / "good.png")
    return act(world, root) or root


def link(name, target):
    return folder(lambda _, root: (root / name).symlink_to(target))


def linked_out(world):
    """Make a folder with a link to a picture elsewhere, as the hub's cache has them."""
    world.plain.save(world.folder / "blob", "PNG")
    return link("a.png", "../blob")(world)


def shut(name):
    """Make a folder with a second picture, and close it, its folder or everything."""

    def act(world, root):
        world.plain.save(root / "sub" / "shut.png")
        world.close(root / name)
        return lambda: as_nobody(lambda: world.run(root))

    return folder(act, public=True)


@late
def table(world, *lines):
    """Write a table of scenes, and return a function that reads it."""
    (world.folder / "metadata.jsonl").write_bytes(b"\n".join(lines))
    return lambda: read_scenes(world.folder).images


@late
def no_memory(world, most, error=None, side=0):
    """Let the model fail on more than `most` pictures of at least `side` pixels."""

    def act(pixels):
        if len(pixels) > most and pixels.shape[-1] >= side:
            if error:
                raise error
            torch.empty(2**52)  # the very error of the CPU: no machine has 18 petabytes

    world.before_forward(act)
    return world.pictures


@late
def damaged(world, *damages):
    """Fill the cache, and change the first entries, one by each function of its bytes."""
    world.run(world.pictures, cache=world.cache)
    for entry, damage in zip(sorted(world.cache.iterdir()), damages, strict=False):
        entry.write_bytes(damage(entry.read_bytes()))


def flip(share, offset):
    """Return a function that changes the byte at a share of the length, plus an offset."""

    def change(data):
        at = int(share * (len(data) - 1)) + offset
        return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]

    return change


# in checksum, header, and each byte of a number in the middle, at the end
FLIPPED = damaged(flip(0, 0), flip(0, 20), *(flip(0.5, i) for i in range(4)), flip(1, 0))


def half_written(world):
    """Leave what a process leaves that was killed while writing."""
    world.run(world.pictures[:4], cache=world.cache)
    for entry in sorted(world.cache.iterdir()):
        data = entry.read_bytes()
        entry.with_name(f"{entry.name}.0badc0de.partial").write_bytes(data[: len(data) // 2])
        entry.unlink()


def slowly(world):
    """Fill the cache, with time to meet or to die between writing an entry and naming it."""
    rename = Path.replace
    Path.replace = lambda *paths: time.sleep(0.05) or rename(*paths)  # in a process of its own
    return world.run(world.pictures, cache=world.cache)


def killed_between(world):
    """Kill a process by SIGKILL when some of the entries exist."""
    ended = killed(lambda: slowly(world), when=lambda: len(kept(world.cache)) >= 3)
    assert ended == signal.SIGKILL
    assert 3 <= len(kept(world.cache)) < 8


def limit_files(world):
    """Run where no file can be as large as an entry."""
    import resource  # not on Windows, where nothing gets here

    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_LIMIT, FILE_LIMIT))
    return world.run(world.pictures, cache=world.cache)


def killed_while_writing(world):
    """Let the kernel kill a process, at once, in the middle of the fourth entry."""

    def work():
        import resource

        world.run(world.pictures[:3], cache=world.cache)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        limit_files(world)

    assert killed(work) == signal.SIGXFSZ
    sizes = sorted(path.stat().st_size for path in world.cache.iterdir())
    assert len(sizes) == 4 and sizes[0] == FILE_LIMIT < sizes[1]


@late
def closed_cache(world, mode):
    """Return a function that extracts where the cache is another user's."""
    world.cache = world.public() / "cache"
    world.run(world.pictures[:4], cache=world.cache)
    world.close(world.cache, mode)
    return lambda: as_nobody(lambda: world.run(world.pictures, cache=world.cache))


# --- What must come of it: functions of the world and what was made


@late
def shows(world, source, expected=lambda image: image, tolerance=0, frames=1, said="", **settings):
    """Check that it is the picture `expected(plain)`, and has its features."""
    shown, wanted = open_image(source), expected(world.plain).convert("RGB")
    assert (shown.mode, shown.size) == ("RGB", wanted.size)
    assert differ(shown, wanted) <= tolerance
    found = world.extract([world.other, source], **settings)
    assert shown.info["frames"] == frames
    line = rf".*first frame.* {re.escape(found.names[1])}\n" if frames > 1 else said
    assert re.fullmatch(line, world.said.removesuffix("\n") if said else world.said)
    same_features(found, world.run([world.other, np.asarray(shown)], **settings))
    same_features(world.run(source, **settings), world.run(shown, **settings))


@late
def refused(world, source, reason, remedy="replace or convert it", **settings):
    """Check that it is left out with a reason and a remedy, and its neighbours are not."""
    name = os.fspath(source) if isinstance(source, Path) else "image 1"
    found = world.extract([world.plain, source, world.other], **settings)
    [skipped] = found.skipped
    assert (skipped.index, skipped.name) == (1, name)
    assert re.search(reason, skipped.reason, re.IGNORECASE) and remedy in skipped.reason
    assert f"1: {printable(name)}: {skipped.reason}" in world.said
    assert found.index.tolist() == [0, 2]
    same_features(found, world.extract([world.plain, world.other], **settings))
    if not settings:  # else it can be opened, but not used so
        with pytest.raises(ImageError) as error:
            open_image(source, name)
        assert str(error.value) == f"{printable(name)}: {skipped.reason}"


SCALE, CHANGE, KINDS = (
    "bring them to one of these",
    "change it",
    "it must be a path, the bytes of a file",
)
TOO_LONG = {"remedy": "give a lower `size` or cut it", "fit": "crop"}


@late
def fails(world, made, kind, pattern):
    """Check that a call is an error, or the extraction if no call was made."""
    with pytest.raises(kind, match=pattern):
        made() if callable(made) else world.run(made)


@late
def finds(world, made, *names, skipped=(), left_out=(), said=""):
    """Check which pictures of a folder are found, and what is said of the others."""
    expected = world.run([world.plain] * len(names))
    found, text = made() if callable(made) else elsewhere(lambda: world.run(made))
    assert found.names == names
    assert [one.name for one in found.skipped] == list(skipped)
    assert all(f"{one.name}: {one.reason}\n" in text for one in found.skipped)
    assert [one.name for one in found.left_out] == list(left_out)
    assert all(one.reason in text and one.name in text for one in found.left_out)
    assert re.search(said, text)
    same_features(found, expected)


def named(world, path):
    """Check that a name is listed as it is."""
    found = world.extract(path.parent)
    assert (found.names, world.said) == ((path.name,), "")
    same_features(found, world.run(world.plain))


def in_parts(world, source):
    """Check that a stream leaves the bad one out, and counts on."""
    images = iter([world.plain, source, source, source, world.other])
    first, none, last = stream_features(world.dinov2, images, chunk=2, fit="resize")
    assert [part.index.tolist() for part in (first, none, last)] == [[0], [], [4]]
    assert [one.index for part in (first, none) for one in part.skipped] == [1, 2, 3]
    same_features(first, world.run(world.plain))
    same_features(last, world.run(world.other))


@late
def halves(world, pictures, size):
    """Check that batches of 8 are halved to `size`, each step is said once, and all are right."""
    found = world.extract(pictures * 2, batch_size=8)
    lines = world.said.splitlines()
    assert all("pictures of 28x28 px do not fit into memory" in line for line in lines)
    assert world.batches[-16 // size :] == [size] * (16 // size)
    same_features(found, world.run(pictures * 2))
    assert [int(line.split()[0]) for line in lines] == [n for n in (8, 4, 2) if n > size]


def too_large(world, pictures):
    """Check that the one picture which does not fit is left out with a reason."""
    found = world.extract([pictures[0], world.plain, pictures[1]], batch_size=8)
    [skipped] = found.skipped
    assert skipped.reason == "does not fit into memory at 42x28 px; give a lower `size`"
    assert f"1: image 1: {skipped.reason}\n" in world.said
    same_features(found, world.run(pictures[:2]))


@late
def heals(world, _, broken=0):
    """Check that entries which are whole are used, others computed again, and all are right."""
    expected, entries = world.undisturbed()
    before = kept(world.cache)
    changed = sum(before[name] != entries[name] for name in before)
    same_features(world.extract(world.pictures, cache=world.cache), expected)
    assert len(world.batches) == 8 - len(before) + changed
    assert kept(world.cache) == entries
    assert changed == broken


def goes_without_cache(world, run):
    """Check that the features are right, and that it is said once why they are not kept."""
    expected, _ = world.undisturbed()
    found, said = run()
    same_features(found, expected)
    line = (
        rf"The cache {re.escape(str(world.cache))} cannot be written: .*; going on without it\.\n"
    )
    assert re.fullmatch(line, said)
    if world.cache.is_dir():
        world.cache.chmod(0o755)
        assert not [*world.cache.glob("*.partial")]
        heals()(world, None)


def both_right(world, found):
    expected, entries = world.undisturbed()
    for one, said in found:
        same_features(one, expected)
        assert not said
    assert {path.name for path in world.cache.iterdir()} == set(entries)
    heals()(world, None)
    assert world.batches == []


# --- The table

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total")
METAL = RuntimeError("MPS backend out of memory (MPS allocated: 17.99 GB, max allowed: 18.13 GB)")
ILLEGAL = RuntimeError("CUDA error: an illegal memory access was encountered")
NAMES = {
    "spaces": " two  words .png",
    "unicode": "Äpfel 苹果 ñ.png",
    "emoji": "🦕🧪.png",
    "newline": "a\nb.png",
    "pattern": "[a]*?.png",
    "braces and percent": "{0} 100%s.png",
    "255 bytes": "n" * 251 + ".png",
    "no text": os.fsdecode(b"\xff\xfe.png"),
}
# fmt: off
TABLE = [
    # damaged files
    ("truncated jpeg", cut(saved("a.jpg"), 0.9), refused("truncated")),
    ("truncated png", cut(saved("a.png")), refused("truncated")),
    ("truncated webp", cut(saved("a.webp")), refused("decoder")),
    ("truncated gif", cut(saved("a.gif")), refused("")),
    ("truncated bmp", cut(saved("a.bmp")), refused("truncated")),
    ("truncated tiff", cut(saved("a.tif")), refused("")),
    ("zero bytes", written("a.jpg", b""), refused("cannot identify image file")),
    ("text called .png", written("a.png", b"hello"), refused("cannot identify image file")),
    ("PostScript called .png", written("a.png", EPS), refused("identify")),
    ("png called .jpg", saved("a.jpg", format="png"), shows()),
    ("damaged EXIF", saved("a.png", exif=b"Exif\0\0garbage"),
     shows(said="(?s).*a.png: its EXIF .*")),
    ("missing file", lambda world: world.folder / "a.png", refused("No such file")),
    ("folder among pictures", lambda world: world.folder, refused("not a regular file")),
    # other kinds of pixels
    ("1 bit", saved("a.png", to("1")), shows(to("1"))),
    ("palette", saved("a.png", lambda image: image.quantize(16)), shows(sixteen)),
    ("palette with transparency", see_through, shows(lambda i: half("white")(sixteen(i)))),
    ("RGBA", saved("a.png", half((9, 9, 9, 0), "RGBA")), shows(half("white"))),
    ("LA", saved("a.png", half((9, 0), "LA")), shows(half(255, "L"))),
    ("CMYK jpeg", saved("a.jpg", to("CMYK"), quality=100), shows(tolerance=9)),
    ("CMYK tiff", saved("a.tif", to("CMYK")), shows()),
    ("16-bit grey png", saved("a.png", deep("u2", 257)), shows(to("L"))),
    ("16-bit grey tiff", saved("a.tif", deep("u2", 257)), shows(to("L"))),
    ("32-bit tiff", saved("a.tif", deep("i4", 257)), shows(to("L"))),
    ("32-bit tiff above 65535", saved("a.tif", deep("i4", 999)),
     refused("int32 from .*not uint8", SCALE)),
    ("float tiff", saved("a.tif", deep("f4", 1 / 255)), shows(to("L"))),
    ("float tiff up to 255", saved("a.tif", deep("f4", 1)), refused("floats within 0-1", SCALE)),
    *((f"EXIF orientation {n}", turned(n), shows()) for n in range(1, 10)),
    # several frames
    ("animated gif", animated("a.gif"), shows(sixteen, frames=4)),
    ("animated gif, cut late", cut(animated("a.gif"), 0.9), shows(sixteen, frames=3)),
    ("animated webp", animated("a.webp", lossless=True), shows(sixteen, frames=4)),
    ("animated png", animated("a.png"), shows(sixteen, frames=4)),
    ("multi-page tiff", animated("a.tif"), shows(sixteen, frames=4)),
    # sizes
    ("decompression bomb", written("a.ppm", b"P6 40000 40000 255\n"),
     refused("bomb DOS", "scale it down")),
    ("1x1", saved("a.png", resized(1, 1)), shows(resized(1, 1))),
    ("12000x40", saved("a.png", resized(12000, 40)), shows(resized(12000, 40), size=28)),
    ("12000x40, cropped", saved("a.png", resized(12000, 40)),
     refused("would be scaled to 76800x256 px", **TOO_LONG)),
    ("1x5000, cropped", saved("a.png", resized(1, 5000)),
     refused("would be scaled to 256x1280000 px", **TOO_LONG)),
    # arrays and other objects
    ("array of floats", array(lambda a: a / 255), shows()),
    ("array of uint16", array(lambda a: a.astype("u2") * 257), shows()),
    ("array with strides", array(lambda a: np.repeat(a, 2, 1)[:, ::2]), shows()),
    ("array with NaN", array(lambda a: np.where(a > 9, a / 255, np.nan)),
     refused("nan to nan", SCALE)),
    ("array of floats to 255", array(lambda a: a.astype("f4")), refused("float32 from", SCALE)),
    ("array of int64", array(lambda a: a.astype("i8")), refused("int64 from", SCALE)),
    ("array of bool", array(lambda a: a > 99), refused("bool from", SCALE)),
    ("array of strings", array(lambda a: a.astype(str)), refused("<U3, not uint8", SCALE)),
    ("array, channels first", array(lambda a: a.transpose(2, 0, 1)),
     refused(r"\(3, 28, 42\) is", CHANGE)),
    ("array, 4 channels", array(lambda a: a[..., [0, 1, 2, 0]]),
     refused(r"\(28, 42, 4\) is", CHANGE)),
    ("array, empty", array(lambda a: a[:0]), refused(r"\(0, 42, 3\) is neither", CHANGE)),
    ("arrays, channels first", array(lambda a: a.transpose(2, 0, 1)[None]),
     fails(ValueError, r"no picture to extract from(.|\n)*0: image 0: .*\(3, 28, 42\) is neither")),
    ("tensor", array(torch.tensor), refused("not Tensor", KINDS)),
    ("None", lambda world: None, refused("not NoneType", KINDS)),
    ("None in a stream", lambda world: None, in_parts),
    ("nothing but None", lambda world: [None], fails(ValueError, "no picture to extract from")),
    ("bytes", lambda world: saved("a.png")(world).read_bytes(), shows()),
    ("bytes of no picture", lambda world: b"hello", refused("cannot identify image file")),
    # names
    *((f"name: {what}", saved(name), named) for what, name in NAMES.items()),
    *((f"bad, name: {what}", written(name, b"hello"), refused("identify"))
      for what, name in NAMES.items()),
    # folders
    ("folder that is missing", lambda world: world.folder / "none",
     fails(FileNotFoundError, "none: there is no such folder")),
    ("folder that is empty", lambda world: world.folder,
     fails(FileNotFoundError, "no picture in it .*jpg.*; it is empty")),
    ("folder that is a text", written("a.txt", b"hello"), fails(ValueError, "a.txt: ")),
    ("folder without permission", shut("."), fails(FileNotFoundError, "mine.*ermission")),
    ("folder in it without permission", shut("sub"),
     finds("good.png", left_out=["sub"], said="Permission denied")),
    ("file without permission", shut("sub/shut.png"), finds("good.png", skipped=["sub/shut.png"])),
    ("symlink to itself", link("a.png", "a.png"), finds("good.png", left_out=["a.png"])),
    ("symlinks in a circle", link("sub/up", ".."), finds("good.png", left_out=["sub/up"])),
    ("symlink out of the folder", linked_out, finds("a.png", "good.png")),
    ("symlink that is broken", link("a.png", "b.png"), finds("good.png", left_out=["a.png"])),
    ("named pipe", folder(lambda world, root: os.mkfifo(root / "a.png")),
     finds("good.png", left_out=["a.png"])),
    # tables and layouts
    ("table with a line of text", table(b'{"file_name": "a.png"}', b"hello"),
     fails(ValueError, "metadata.jsonl, line 2: needs a 'file_name'")),
    ("table without a name", table(b'{"file": 1}'), fails(ValueError, "metadata.jsonl, line 1: ")),
    ("table, number as name", table(b'{"file_name": 1}'), fails(ValueError, "metadata.jsonl")),
    ("table in Latin-1", table(b'{"file_name": "\xe4.png"}'), fails(ValueError, "metadata.jsonl")),
    ("table that leads out", table(b'{"file_name": "../a.png"}'),
     fails(ValueError, r"metadata.jsonl: '../a.png' leads out of the folder")),
    # memory
    ("memory for 2, CPU", no_memory(2), halves(2)),
    ("memory for 1, CUDA", no_memory(1, CUDA), halves(1)),
    ("memory for 5, Metal", no_memory(5, METAL), halves(4)),
    ("memory for small ones", no_memory(0, side=42), too_large),
    ("error not of memory", no_memory(0, ILLEGAL), fails(RuntimeError, "illegal memory access")),
    # the cache
    ("cache: truncated, empty, text",
     damaged(lambda d: d[:-1], lambda d: d[:500], lambda d: b"", lambda d: b"hello"), heals(4)),
    ("cache: one byte flipped", FLIPPED, heals(7)),
    ("cache: half-written files", half_written, heals()),
    ("cache: killed between entries", killed_between, heals()),
    ("cache: killed in an entry", killed_while_writing, heals()),
    ("cache: two processes", lambda world: both(lambda: slowly(world)), both_right),
    ("cache: disk full", lambda world: lambda: elsewhere(lambda: limit_files(world)),
     goes_without_cache),
    ("cache: no permission to write", closed_cache(0o555), goes_without_cache),
    ("cache: no permission at all", closed_cache(0o000), goes_without_cache),
]
# fmt: on
ROWS = [pytest.param(*row, id=name) for name, *row in TABLE]


@pytest.mark.parametrize(("make", "check"), ROWS)
def test_bad_input(world, make, check):
    made = make(world)
    world.capsys.readouterr()
    check(world, made)


# --- The same without the protection


def in_place(path, data):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)


IN_PLACE = {"write_whole": in_place}
UNCHECKED = {"zlib": SimpleNamespace(crc32=lambda data: 0)}
NEITHER = IN_PLACE | UNCHECKED | {"SafetensorError": KeyError}  # the format's own check


@pytest.mark.parametrize(
    ("instead", "make", "check", "error", "message"),
    [
        (IN_PLACE, killed_while_writing, heals(), AssertionError, "1 == 0"),
        (NEITHER, killed_while_writing, heals(), SafetensorError, None),
        (UNCHECKED, FLIPPED, heals(7), AssertionError, "< 1e-05"),
    ],
    ids=["written in place", "written in place, unchecked", "unchecked"],
)
def test_checks_fail_without_protection(world, monkeypatch, instead, make, check, error, message):
    for name, value in instead.items():
        monkeypatch.setattr(cache_module, name, value)
    made = make(world)
    with pytest.raises(error, match=message):
        check(world, made)
