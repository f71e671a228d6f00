import os
from pathlib import Path, PurePosixPath

import pytest
from picture_files import encoded, noise
from PIL import Image

from dinov2_helpers import iter_images, open_image
from dinov2_helpers.pictures import (
    SUFFIXES,
    LeftOut,
    describe_left_out,
    files,
    list_images,
    printable,
)

HEIC = b"\0\0\0\x18ftypheic" + bytes(99)
NEEDS_PLUG_IN = "HEIF" not in files.FORMATS


def write(root, *names, data=b""):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def listed(root):
    paths, left_out = list_images(root)
    names = [path.relative_to(root).as_posix() for path in paths]
    return names, {one.name: one.reason for one in left_out}


def test_order_and_hidden_ones(tmp_path):
    root = tmp_path / "mine"
    write(root, "b10.jpg", "b2.JPEG", "a/1.png", "a/.x.png", ".h/1.png", "note.txt", "ü ñ.webp")
    write(root, "a/deep/2.png", "folder.png/3.png")
    names, left_out = listed(root)
    assert names == [
        "b10.jpg",
        "b2.JPEG",
        "ü ñ.webp",
        "a/1.png",
        "a/deep/2.png",
        "folder.png/3.png",
    ]
    assert left_out == {
        "a/.x.png": "hidden",
        ".h": "hidden",
        "note.txt": "of a kind that is not read, .txt",
    }


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_all_suffixes_can_be_opened(tmp_path, suffix):
    if suffix in files.HEIF_SUFFIXES:
        pytest.importorskip("pillow_heif")
        kind = "HEIF"
    elif suffix == ".pfm":
        (tmp_path / "a.pfm").write_bytes(b"Pf\n3 2\n-1.0\n" + bytes(24))
        assert open_image(tmp_path / "a.pfm").size == (3, 2)
        return
    else:
        kind = Image.registered_extensions()[suffix]
    image = Image.new("RGB", (16, 16), "white")
    image.save(tmp_path / f"a{suffix.upper()}", kind)
    [path] = list_images(tmp_path).paths
    assert open_image(path).size == (16, 16)


def test_all_that_pillow_knows_of_these_formats_is_listed():
    known = Image.registered_extensions()
    assert {suffix for suffix, kind in known.items() if kind in files.FORMATS} <= set(SUFFIXES)
    assert not {"EPS", "WMF", "PSD"} & set(files.FORMATS)


WITHOUT_SUFFIX = {
    **{kind: encoded(noise(16, 16), kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "GIF")},
    **{kind: encoded(noise(16, 16), kind) for kind in ("TIFF", "PPM", "MPO")},
    **{
        kind: encoded(noise(16, 16), kind) for kind in ("AVIF", "JPEG2000") if kind in files.FORMATS
    },
}


@pytest.mark.parametrize("name", ["blob", "3f8a", "scan.0001", "no. 5 of mine", "2024.05.01"])
@pytest.mark.parametrize("kind", WITHOUT_SUFFIX)
def test_a_file_without_suffix_is_known_by_its_first_bytes(tmp_path, kind, name):
    write(tmp_path, name, data=WITHOUT_SUFFIX[kind])
    [path] = list_images(tmp_path).paths
    assert path.name == name and open_image(path).size == (16, 16)


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", b"BMW and others of this kind", b"P5 is a note", b"%!PS-Adobe-3.0 EPSF-3.0\n"],
)
def test_a_file_without_suffix_may_be_no_picture(tmp_path, data):
    write(tmp_path, "blob", data=data)
    write(tmp_path, "a.png")
    assert listed(tmp_path) == (["a.png"], {"blob": "without a suffix, and no picture"})


@pytest.mark.skipif(not NEEDS_PLUG_IN, reason="the plug-in is installed")
def test_heic_without_its_plug_in_is_told(tmp_path, caplog):
    write(tmp_path, "1.HEIC", "2.heif", "IMG_3", data=HEIC)
    write(tmp_path, "a.png")
    names, left_out = listed(tmp_path)
    assert names == ["a.png"] and set(left_out) == {"1.HEIC", "2.heif", "IMG_3"}
    assert all("pip install pillow-heif" in reason for reason in left_out.values())
    assert len(list(iter_images(tmp_path))) == 1
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert "3 left out: 3 HEIC, which needs a plug-in: pip install pillow-heif (1.HEIC, 2.heif" in (
        record.getMessage()
    )


def test_heic_with_its_plug_in(tmp_path):
    pytest.importorskip("pillow_heif").register_heif_opener()
    noise(64, 48).save(tmp_path / "1.HEIC", "HEIF")
    [path] = list_images(tmp_path).paths
    assert open_image(path).size == (64, 48)


def test_links_are_followed_by_their_own_names(tmp_path):
    root, blobs = tmp_path / "mine", tmp_path / "blobs"
    root.mkdir()
    write(blobs, "0123abcd", "elsewhere.txt", "one.png", data=WITHOUT_SUFFIX["PNG"])
    (root / "a.png").symlink_to(Path("../blobs/0123abcd"))  # as in a cache of the hub
    (root / "b.png").symlink_to(blobs / "elsewhere.txt")
    (root / "c.txt").symlink_to(blobs / "one.png")
    (root / "blob").symlink_to(blobs / "0123abcd")
    (root / "more").symlink_to(blobs, target_is_directory=True)
    (root / "again").symlink_to(blobs, target_is_directory=True)
    names, left_out = listed(root)
    assert names == [
        *("a.png", "b.png", "blob", "again/0123abcd", "again/one.png"),
    ]
    assert set(left_out) == {"c.txt", "again/elsewhere.txt", "more"}
    assert left_out["more"] == "a link to a folder that is listed already, again"
    link = tmp_path / "link"
    link.symlink_to(root, target_is_directory=True)
    assert len(list_images(link).paths) == len(names)


def test_a_folder_is_listed_once_and_by_its_own_name(tmp_path):
    write(tmp_path, "real/a.png", "real/deep/b.png")
    (tmp_path / "alias").symlink_to(tmp_path / "real", target_is_directory=True)
    (tmp_path / "real" / "same").symlink_to(tmp_path / "real" / "deep", target_is_directory=True)
    names, left_out = listed(tmp_path)
    assert names == ["real/a.png", "real/deep/b.png"]
    assert left_out == {
        "alias": "a link to a folder that is listed already, real",
        "real/same": "a link to a folder that is listed already, real/deep",
    }


def test_links_that_lead_nowhere_or_in_a_circle(tmp_path):
    root = tmp_path / "mine"
    write(root, "a.png", "sub/b.png")
    (root / "broken.png").symlink_to(root / "nothing")
    (root / "itself.png").symlink_to("itself.png")
    (root / "sub" / "up").symlink_to(root, target_is_directory=True)
    (root / "out").symlink_to(tmp_path, target_is_directory=True)
    names, left_out = listed(root)
    assert names == ["a.png", "sub/b.png"]
    assert left_out["broken.png"].startswith("a link that leads to nothing: No such file")
    assert left_out["itself.png"].startswith("a link that leads to nothing: Too many")
    assert left_out["sub/up"] == "a link back to a folder that it is in"
    assert left_out["out/mine"] == "a link back to a folder that it is in"


def test_what_is_no_file(tmp_path):
    write(tmp_path, "a.png")
    os.mkfifo(tmp_path / "b.png")
    assert listed(tmp_path) == (["a.png"], {"b.png": "not a regular file"})


def test_folders_that_cannot_be_read(tmp_path, monkeypatch):
    write(tmp_path, "a.png", "shut/b.png", "shut/c.png")
    scandir = os.scandir

    def refusing(path):
        if Path(path).name == "shut":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(files.os, "scandir", refusing)
    assert listed(tmp_path) == (
        ["a.png"],
        {"shut": "a folder that cannot be read: Permission denied"},
    )
    with pytest.raises(FileNotFoundError, match=r"shut.*\(\.\)"):
        list_images(tmp_path / "shut")


@pytest.mark.parametrize("find", [list_images, lambda folder: list(iter_images(folder))])
def test_no_picture_says_what_there_is_instead(tmp_path, find):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"empty: no picture in it \(\.jpg.*it is empty"):
        find(tmp_path / "empty")
    write(tmp_path / "texts", "a.txt", "b.txt", ".c.png", "d.csv")
    instead = r"4 left out: 2 of a kind that is not read, \.txt \(a\.txt, b\.txt\); 1 hidden"
    with pytest.raises(FileNotFoundError, match=instead):
        find(tmp_path / "texts")
    with pytest.raises(FileNotFoundError, match="missing: there is no such folder"):
        find(tmp_path / "missing")
    with pytest.raises(NotADirectoryError, match=r"a\.txt is a file, and not a folder"):
        find(tmp_path / "texts" / "a.txt")
    broken = tmp_path / "broken"
    broken.symlink_to(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="broken: there is no such folder"):
        find(broken)


def test_what_is_left_out_is_one_warning(tmp_path, caplog):
    write(tmp_path, "a.png", *(f"{i}.txt" for i in range(20)), "x\ny.csv")
    assert len(list(iter_images(tmp_path))) == 1
    [record] = caplog.records
    text = record.getMessage()
    assert "21 left out: 20 of a kind that is not read, .txt (0.txt, 1.txt, 10.txt, ...)" in text
    assert r"x\ny.csv" in text and "\n" not in text


def test_nothing_left_out_is_no_warning(tmp_path, caplog):
    write(tmp_path, "a.png")
    assert list(iter_images(tmp_path)) == [tmp_path / "a.png"]
    assert not caplog.records and describe_left_out(()) == ""


def test_many_reasons_stay_short():
    left_out = [LeftOut(f"a.{i}", f"of kind {i}") for i in range(100)]
    text = describe_left_out(left_out)
    assert text.startswith("100 left out: ") and "92 for other reasons" in text
    assert len(text) < 500


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain name.png", "plain name.png"),
        ("Äpfel 苹果 ñ 🦕.png", "Äpfel 苹果 ñ 🦕.png"),
        (os.fsdecode(b"caf\xe9.png"), r"caf\xe9.png"),
        (b"caf\xe9.png", r"caf\xe9.png"),
        (PurePosixPath("a/b.png"), "a/b.png"),
        ("a\nb\tc\r.png", r"a\nb\tc\r.png"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("gnp.\u202eexe", r"gnp.\u202eexe"),
        ("line\u2028break", r"line\u2028break"),
        ("\ud800", r"\ud800"),
        ("nul\0", r"nul\x00"),
        ("👩\u200d🔬", "👩\u200d🔬"),
        (7, "7"),
        (None, "None"),
    ],
)
def test_any_name_can_be_printed(name, shown):
    assert printable(name) == shown
    printable(name).encode("utf-8")


def test_names_that_are_no_text_are_listed(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    write(tmp_path, name, os.fsdecode(b"\xff.txt"))
    paths, [left_out] = list_images(tmp_path)
    assert [os.fsencode(path.name) for path in paths] == [b"caf\xe9.png"]
    assert r"(\xff.txt)" in describe_left_out([left_out])


def test_the_home_folder_and_windows_separators(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path, "pictures/day 1/a.png")
    monkeypatch.chdir(tmp_path)
    for folder in ("~/pictures", "~", "pictures\\day 1", "~\\pictures", os.fsencode("pictures")):
        assert [path.name for path in list_images(folder).paths] == ["a.png"]
    write(tmp_path, "~backup/b.png")  # a folder whose name begins so
    assert [path.name for path in list_images("~backup").paths] == ["b.png"]
    with pytest.raises(FileNotFoundError, match="~nobody-of-that-name"):
        list_images("~nobody-of-that-name")
