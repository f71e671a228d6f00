"""What is a source: folders, globs, Parquet files, links, names that are no text."""

import os
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scale_datasets import CLOSE, read

from dinov2_helpers import extract_features
from dinov2_helpers.pictures import list_images
from dinov2_scale import Summary, extract_dataset, list_parts, name_of
from dinov2_scale.parts import id_of


def ids(source, **options):
    return [item.id for part in list_parts(source, **options) for item in part.items]


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.png", ["a1.png", "a2.png", "b1.png"]),
        ("a?.png", ["a1.png", "a2.png"]),
        ("?[0-1].png", ["a1.png", "b1.png"]),
        ("[b-z]*", ["b1.png"]),
        ("**/*.png", ["a1.png", "a2.png", "b1.png", "sub/a3.png", "sub/more/a4.png"]),
        ("s*/*.png", ["sub/a3.png"]),
        ("sub/a?.png", ["a3.png"]),
        ("*", ["a1.png", "a2.png", "b1.png"]),
    ],
)
@pytest.mark.parametrize("folder", ["plain", "with [0-9] and *?"])
def test_globs(tmp_path, folder, pattern, found):
    root = tmp_path / folder
    touch(root, "a1.png", "a2.png", "b1.png", "sub/a3.png", "sub/more/a4.png", ".hidden/a5.png")
    assert ids(f"{root}/{pattern}") == found


def test_what_exists_is_taken_literally(tmp_path):
    touch(tmp_path, "all [*]/a.png", "all [*]/b.png", "a?.png", "ab.png", "odd::name/a.png")
    assert ids(tmp_path / "all [*]") == ["a.png", "b.png"]
    assert ids(tmp_path / "a?.png") == ["a?.png"]
    assert ids(tmp_path / "odd::name") == ["a.png"]


def test_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    touch(tmp_path, "a.png")
    assert ids("~/a.png") == ids("~") == ids("~/*.png") == ["a.png"]


def test_links_are_followed_to_files(tmp_path, picture, dinov2_folder, caplog):
    blobs, links = tmp_path / "blobs", tmp_path / "links"
    touch(blobs, "b.png")
    touch(links, "note.txt")
    picture(50, 50).save(blobs / "0f3c.png")
    (links / "a.png").symlink_to(blobs / "0f3c.png")
    (links / "gone.png").symlink_to(blobs / "none.png")
    (links / "odd.png").symlink_to(os.devnull)
    (links / "more").symlink_to(blobs)
    assert ids(f"{links}/*.png") == ["a.png"]
    assert ids(links) == ["a.png", "more/0f3c.png", "more/b.png"]
    message = caplog.messages[-1]
    assert "3 left out" in message and "note.txt" in message
    for reason in ("a link that leads to nothing: No such", "not a regular file (odd.png)"):
        assert reason in message
    assert extract_dataset(links, tmp_path / "out", dinov2_folder) == Summary(1, 1, 2, 1)
    picture(50, 50, seed=9).save(blobs / "0f3c.png", compress_level=1)  # what the link leads to
    assert extract_dataset(links, tmp_path / "out", dinov2_folder).made == 1


def test_what_is_left_out_is_named(tmp_path, caplog):
    touch(tmp_path, "a.png", "note.txt", "3.psd", "4", ".hidden.png")
    assert ids(tmp_path) == ["a.png"]
    [message] = caplog.messages
    assert "4 left out" in message
    for part in ("hidden (.hidden.png)", "not read, .psd (3.psd)", "without a suffix", "note.txt"):
        assert part in message


def test_a_folder_is_listed_as_extract_features_lists_it(tmp_path, picture):
    for name in ("b.JPG", "a.jfif", "sub/c.png", "sub/deep/d.webp"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(20, 20).save(path, "JPEG")
    picture(20, 20).save(tmp_path / "without", "PNG")
    found = [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path).paths]
    assert ids(tmp_path) == found and len(found) == 5


def named(folder, name):
    return os.fsdecode(os.fsencode(folder) + b"/" + name)


def test_names_that_are_no_text(tmp_path, picture, dinov2, dinov2_folder):
    folder = tmp_path / "pictures"
    (folder / os.fsdecode(b"d\xff")).mkdir(parents=True)
    names = [b"caf\xe9.png", rb"caf\xe9.png", b"caf\xc3\xa9.png", b"d\xff/a.png", rb"a\b.png"]
    for i, name in enumerate(names):
        picture(50, 50, seed=i).save(named(folder, name))
    done = extract_dataset(folder, tmp_path / "out", dinov2_folder, part=2)
    assert done == Summary(3, 3, 5, 0)
    rows = read(tmp_path / "out")
    assert rows.keys() == {
        r"caf\xe9.png",
        r"caf\x5cxe9.png",
        "café.png",
        r"d\xff/a.png",
        r"a\b.png",
    }
    assert {os.fsencode(name_of(id_)) for id_ in rows} == set(names)
    for id_, (cls, _) in rows.items():
        expected = extract_features(dinov2, f"{folder}/{name_of(id_)}").cls[0]
        assert np.abs(np.subtract(cls, expected)).max() < CLOSE
    assert extract_dataset(folder, tmp_path / "out", dinov2_folder, part=2).made == 0


def test_an_id_gives_back_any_name():
    rng = random.Random(0)
    pieces = [b"\\", b"x", b"e9", b"5c", b"\xe9", b"\\xe9", b"\\x5c", b"a", "ü".encode(), b"\xff"]
    names = {b"".join(rng.choices(pieces, k=rng.randint(1, 6))) for _ in range(20_000)}
    found = {id_of(os.fsdecode(name)) for name in names}
    assert len(found) == len(names)
    assert {os.fsencode(name_of(id_)) for id_ in found} == names
    "".join(found).encode()


def png(picture, tmp_path, seed):
    picture(50, 50, seed=seed).save(tmp_path / "one.bmp")
    return (tmp_path / "one.bmp").read_bytes()


@pytest.fixture
def pictures(picture, tmp_path):
    """The bytes of four pictures."""
    return [png(picture, tmp_path, seed) for seed in range(4)]


def tables(folder, **content):
    """Write Parquet files of one row group each for every list of rows."""
    folder.mkdir(exist_ok=True)
    for name, groups in content.items():
        schema = next((group.schema for group in groups if len(group)), groups[0].schema)
        with pq.ParquetWriter(folder / f"{name}.parquet", schema) as writer:
            for group in groups:
                writer.write_table(group)
    return folder


def test_empty_parquet_files_and_row_groups(pictures, dinov2_folder, tmp_path):
    schema = pa.schema([("image", pa.binary())])
    empty = schema.empty_table()
    full = pa.table({"image": pictures[:2]}, schema)
    folder = tables(tmp_path / "in", a=[empty], b=[full, empty, full], d=[empty, empty])
    with pq.ParquetWriter(folder / "c.parquet", schema):
        pass  # no row group at all
    assert pq.ParquetFile(folder / "b.parquet").metadata.num_row_groups == 3
    assert [part.row_group for part in list_parts(folder)] == [0, 2]
    done = extract_dataset(folder, tmp_path / "out", dinov2_folder)
    assert done == Summary(2, 2, 4, 0)
    assert list(read(tmp_path / "out"))[0::3] == ["b.parquet:0:0", "b.parquet:2:1"]
    assert extract_dataset(folder, tmp_path / "out", dinov2_folder).made == 0
    (folder / "b.parquet").unlink()
    assert extract_dataset(folder, tmp_path / "none", dinov2_folder) == Summary(0, 0, 0, 0)


def test_a_column_is_named(pictures, dinov2, dinov2_folder, tmp_path):
    table = pa.table({"image": pictures[:2], "mask": pictures[2:], "class": [1, 2]})
    folder = tables(tmp_path / "in", a=[table])
    with pytest.raises(ValueError, match=r"a.parquet: 2 columns .*'image', 'mask'.* column="):
        extract_dataset(folder, tmp_path / "out", dinov2_folder)
    with pytest.raises(ValueError, match=r"column='class' has no bytes .*\['image', 'mask'\]"):
        list_parts(folder, column="class")
    assert not (tmp_path / "out").exists()
    extract_dataset(folder, tmp_path / "out", dinov2_folder, column="mask")
    expected = extract_features(dinov2, pictures[2:]).cls
    found = [cls for cls, _ in read(tmp_path / "out").values()]
    assert np.abs(np.subtract(found, expected)).max() < CLOSE
    with pytest.raises(ValueError, match="other column: name another folder"):
        extract_dataset(folder, tmp_path / "out", dinov2_folder, column="image")
    touch(tmp_path, "pictures/a.png")
    with pytest.raises(ValueError, match="column='image' is for Parquet files"):
        list_parts(tmp_path / "pictures", column="image")


def test_no_column_of_bytes(dinov2_folder, tmp_path):
    folder = tables(tmp_path / "in", a=[pa.table({"image": ["a.png"], "n": [1]})])
    with pytest.raises(ValueError, match=r"a.parquet: 0 columns with bytes \[\]"):
        list_parts(folder)


def hugging_face(pictures, paths):
    return pa.table({"image": [{"bytes": b, "path": p} for b, p in zip(pictures, paths)]})  # noqa: B905


def test_ids_of_hugging_face(pictures, dinov2_folder, tmp_path):
    table = hugging_face([*pictures[:2], None], ["b.png", None, "c.png"])
    folder = tables(tmp_path / "in", a=[table])
    done = extract_dataset(folder, tmp_path / "out", dinov2_folder)
    assert done == Summary(1, 1, 2, 1)
    rows = read(tmp_path / "out")
    assert list(rows) == ["b.png", "a.parquet:0:1", "c.png"]
    assert rows["c.png"][1] == "ValueError: no bytes in this row"
    assert extract_dataset(folder, tmp_path / "out", dinov2_folder).made == 0


@pytest.mark.parametrize("kind", ["id", "path"])
def test_ids_that_come_twice(pictures, dinov2_folder, tmp_path, kind):
    names = [["a.png", "b.png"], ["c.png", "b.png"]]
    if kind == "id":
        pair = [pa.table({"image": pictures[:2], "id": one}) for one in names]
    else:
        pair = [hugging_face(pictures, one) for one in names]
    folder = tables(tmp_path / "in", a=pair[:1], b=pair[1:])
    with pytest.raises(ValueError, match=r"1 ids come twice, as 'b.png' 2 times: give ids='row'"):
        extract_dataset(folder, tmp_path / "out", dinov2_folder)
    assert not (tmp_path / "out").exists()
    done = extract_dataset(folder, tmp_path / "out", dinov2_folder, ids="row")
    assert done == Summary(2, 2, 4, 0)
    places = ["a.parquet:0:0", "a.parquet:0:1", "b.parquet:0:0", "b.parquet:0:1"]
    assert list(read(tmp_path / "out")) == places


def test_a_damaged_parquet_file_is_named(pictures, tmp_path):
    folder = tables(tmp_path / "in", a=[pa.table({"image": pictures})])
    (folder / "b.parquet").write_bytes(b"no table")
    with pytest.raises(ValueError, match=r"b\.parquet: no Parquet file, or a damaged one"):
        list_parts(folder)
