"""Datasets of features: whole, resumable, and the same by either engine."""

import os
import shutil

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
import torch
from scale_datasets import CLOSE, assert_same, read

import dinov2_scale
from dinov2_helpers import ModelError, extract_features, load_dinov2
from dinov2_scale import Summary, extract_dataset, list_parts, read_features


@pytest.fixture(scope="module")
def source(tmp_path_factory, picture):
    """A folder of 22 pictures, of which two cannot be read."""
    root = tmp_path_factory.mktemp("pictures")
    (root / "sub").mkdir()
    for i in range(20):
        place = root / "sub" if i % 2 else root
        picture(60 + i, 50, seed=i).save(place / f"{i:02d} [1] ü.png")
    (root / "_broken.jpg").write_text("no picture", encoding="utf-8")
    (root / "sub" / "empty.png").touch()
    (root / ".hidden.png").touch()
    (root / "secret.png").symlink_to(os.devnull)
    return root


@pytest.fixture(scope="module")
def local(source, dinov2_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("dataset") / "local"
    assert extract_dataset(source, out, dinov2_folder, part=4) == Summary(6, 6, 20, 2)
    return out


def test_rows_are_what_extract_features_gives(source, dinov2, local):
    rows = read(local)
    assert len(rows) == 22
    found = extract_features(dinov2, source)
    for name, cls in zip(found.names, found.cls, strict=True):
        assert np.abs(np.subtract(rows[name][0], cls)).max() < CLOSE
    ids, cls = zip(*(read_features(file) for file in sorted(local.glob("part-*"))), strict=True)
    assert [name for part in ids for name in part] == list(found.names)
    assert np.abs(np.concatenate(cls) - found.cls).max() < CLOSE
    bad = {name: error for name, (cls, error) in rows.items() if cls is None}
    assert bad.keys() == {"_broken.jpg", "sub/empty.png"}
    assert all("cannot identify image file;" in error for error in bad.values())
    assert sorted(path.name for path in local.iterdir()) == [
        "_dataset.json",
        *(f"part-{i:06d}.parquet" for i in range(6)),
    ]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", None),
        ("config.json", "{"),
        ("preprocessor_config.json", "[]"),
        ("model.safetensors", None),
    ],
)
def test_a_model_that_is_not_whole_is_refused_and_leaves_nothing(
    source, dinov2_folder, tmp_path, file, content
):
    folder = shutil.copytree(dinov2_folder, tmp_path / "mine")
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=str(folder)):
        extract_dataset(source, tmp_path / "out", folder)
    assert not (tmp_path / "out").exists()


def test_a_run_goes_on_where_it_was(source, dinov2_folder, local, tmp_path, monkeypatch):
    out = tmp_path / "out"
    write = dinov2_scale.Extractor._write

    def stop(self, table, target):
        if "part-000002" in target:
            raise KeyboardInterrupt
        write(self, table, target)

    with monkeypatch.context() as patched:
        patched.setattr(dinov2_scale.Extractor, "_write", stop)
        with pytest.raises(KeyboardInterrupt):
            extract_dataset(source, out, dinov2_folder, part=4)
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert len(before) == 2
    assert extract_dataset(source, out, dinov2_folder, part=4) == Summary(6, 4, 20, 2)
    assert before.items() <= {p.name: p.stat().st_mtime_ns for p in out.glob("part-*")}.items()
    assert extract_dataset(source, out, dinov2_folder, part=4).made == 0
    assert_same(read(local), read(out))


def test_a_file_is_never_seen_by_halves(source, dinov2_folder, tmp_path, monkeypatch):
    fs = fsspec.filesystem("file")
    written = []
    pipe = type(fs).pipe_file

    def half(self, path, value, **options):
        if "_partial" in path:
            written.append(path)
            pipe(self, path, value[: len(value) // 2], **options)
            raise OSError(28, "No space left on device")
        return pipe(self, path, value, **options)

    with monkeypatch.context() as patched:
        patched.setattr(type(fs), "pipe_file", half)
        with pytest.raises(OSError, match="No space left"):
            extract_dataset(source, tmp_path / "out", dinov2_folder, part=30)
    assert written and not list((tmp_path / "out").glob("*part*"))
    assert extract_dataset(source, tmp_path / "out", dinov2_folder, part=30).pictures == 20
    assert not list((tmp_path / "out").glob("_partial*"))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"size": 28}, "size"),
        ({"fit": "pad"}, "fit"),
        ({"exact": True}, "exact"),
        ({"patches": True}, "patches"),
        ({"dtype": "bfloat16"}, "dtype"),
        ({"dtype": "float16", "size": 28}, "dtype, size"),
    ],
)
def test_another_setting_needs_another_folder(source, dinov2_folder, local, change, named):
    with pytest.raises(ValueError, match=f"other {named}: name another folder"):
        extract_dataset(source, local, dinov2_folder, **{"part": 4} | change)


def test_another_batch_size_goes_on_in_the_same_folder(source, dinov2_folder, local):
    for how in ({"batch_size": 2}, {"backend": "torch"}, {"dtype": torch.float32}, {"part": 5}):
        assert extract_dataset(source, local, dinov2_folder, **{"part": 4} | how).made == 0


@pytest.mark.parametrize("dtype", ["float16", torch.bfloat16])
def test_half_precision(source, dinov2_folder, local, tmp_path, dtype):
    extract_dataset(source, tmp_path, dinov2_folder, dtype=dtype)
    half = load_dinov2(dinov2_folder, dtype=dtype)
    found = extract_features(half, source)
    rows = read(tmp_path)
    whole = read(local)
    for name, cls in zip(found.names, found.cls, strict=True):
        assert np.abs(np.subtract(rows[name][0], cls)).max() < CLOSE
        assert np.abs(np.subtract(rows[name][0], whole[name][0])).max() > 10 * CLOSE


@pytest.mark.parametrize(
    ("how", "named"),
    [
        ({"backend": "jax"}, "backend='jax' is none of"),
        ({"dtype": "float8"}, "dtype='float8' is none of"),
        ({"backend": "openvino", "fit": "pad"}, "backend='openvino' needs fit='crop', not 'pad'"),
        ({"backend": "openvino", "dtype": "float16"}, "computes in float32, not in float16"),
        ({"backend": "onednn", "dtype": "bfloat16"}, "computes in float32, not in bfloat16"),
        ({"engine": "spark"}, "engine 'spark' is neither"),
        ({"part": 0}, "part=0: 1 or more"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_written(
    source, dinov2_folder, tmp_path, how, named
):
    with pytest.raises(ValueError, match=named):
        extract_dataset(source, tmp_path / "out", dinov2_folder, **how)
    assert not (tmp_path / "out").exists()


def test_a_setting_without_a_column_is_an_error(source, dinov2_folder, tmp_path):
    with pytest.raises(TypeError, match=r"\['layers'\]: of the settings only size, fit"):
        extract_dataset(source, tmp_path / "out", dinov2_folder, layers=[1])
    assert not (tmp_path / "out").exists()


def test_other_weights_need_another_folder(source, registers_folder, local):
    with pytest.raises(ValueError, match="other weights, config: name another"):
        extract_dataset(source, local, registers_folder, part=4)


def test_patches_and_another_file_system(source, dinov2, dinov2_folder):
    memory = fsspec.filesystem("memory")
    for path in source.rglob("*"):
        if path.is_file() and not path.is_symlink():
            memory.pipe_file(f"/in/{path.relative_to(source).as_posix()}", path.read_bytes())
    done = extract_dataset("memory://in", "memory://out", dinov2_folder, patches=True, size=28)
    assert done == Summary(1, 1, 20, 2)
    table = pyarrow.dataset.dataset("/out", filesystem=memory).to_table()
    expected = extract_features(dinov2, source, size=28)
    rows = dict(zip(table["id"].to_pylist(), table["patches"].to_pylist(), strict=True))
    for name, patches in zip(expected.names, expected.patches, strict=True):
        assert np.abs(np.subtract(rows[name], patches.ravel())).max() < CLOSE
    assert rows["_broken.jpg"] is None
    with pytest.raises(ValueError, match="fit='crop'"):
        extract_dataset("memory://in", "memory://o", dinov2_folder, patches=True, fit="pad")


@pytest.mark.parametrize("kind", ["bytes", "struct", "named"])
def test_parquet_of_image_bytes(source, dinov2, dinov2_folder, tmp_path, kind):
    files = sorted(path for path in (source / "sub").iterdir())
    data = [path.read_bytes() for path in files]
    columns = {"image": data if kind != "struct" else [{"bytes": d, "path": None} for d in data]}
    if kind == "named":
        columns["id"] = [path.name for path in files]
    pq.write_table(pa.table(columns), tmp_path / "a.parquet", row_group_size=4)
    parts = list_parts(tmp_path)
    assert [part.row_group for part in parts] == [0, 1, 2]
    done = extract_dataset(tmp_path / "a.parquet", tmp_path / "out", dinov2_folder)
    assert done == Summary(3, 3, 10, 1)
    rows = read(tmp_path / "out")
    names = [path.name for path in files]
    if kind != "named":
        names = [f"a.parquet:{i // 4}:{i % 4}" for i in range(11)]
    assert list(rows) == names
    cls = extract_features(dinov2, files[0]).cls[0]
    assert np.abs(np.subtract(rows[names[0]][0], cls)).max() < CLOSE


def test_what_is_no_source(source, tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "missing", f"{tmp_path}/*.jpg"):
        with pytest.raises(FileNotFoundError):
            list_parts(path)
    for name in ("a.png", "b.parquet"):
        (tmp_path / "empty" / name).touch()
    with pytest.raises(ValueError, match="1 pictures and 1 Parquet files; name one kind"):
        list_parts(tmp_path / "empty")
    assert [len(part.items) for part in list_parts(f"{source}/sub/*.png", 3)] == [3, 3, 3, 2]
