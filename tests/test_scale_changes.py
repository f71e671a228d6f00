"""A source that moves, grows and changes; what the numbers depend on; two runs on one folder."""

import json
import os
import shutil
import threading
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scale_datasets import CLOSE, assert_same, read

import dinov2_scale.dataset
import dinov2_scale.model
from dinov2_helpers import extract_features
from dinov2_scale import Extractor, Summary, extract_dataset, read_features


@pytest.fixture
def source(tmp_path, picture):
    """A folder of ten pictures of one size in bytes, of which one cannot be read."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(9):
        picture(50, 50, seed=i).save(folder / f"{i}.bmp")
    (folder / "9.bmp").write_text("no picture", encoding="utf-8")
    return folder


@pytest.fixture
def read_now(monkeypatch):
    """Names of the pictures that were read since it was cleared."""
    names = []
    fetch = Extractor._fetch

    def noted(self, item):
        names.append(item.id)
        return fetch(self, item)

    monkeypatch.setattr(Extractor, "_fetch", noted)
    return names


@pytest.fixture
def out(source, dinov2_folder, tmp_path, read_now):
    """The features of the source, in parts of four."""
    folder = tmp_path / "out"
    assert extract_dataset(source, folder, dinov2_folder, part=4) == Summary(3, 3, 9, 1)
    read_now.clear()
    return folder


def times(out):
    return {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}


def assert_right(out, source, dinov2):
    """Each picture of the source has its own features, and nothing else is there."""
    rows = read(out)
    found = extract_features(dinov2, source)
    bad = {one.name for one in found.skipped}
    assert rows.keys() == {*found.names, *bad}
    for name, cls in zip(found.names, found.cls, strict=True):
        assert np.abs(np.subtract(rows[name][0], cls)).max() < CLOSE
    assert {name for name, (cls, error) in rows.items() if error} == bad


def test_a_source_that_has_moved_goes_on(source, out, dinov2_folder, read_now):
    moved = source.rename(source.with_name("elsewhere"))
    assert extract_dataset(moved, out, dinov2_folder, part=4) == Summary(3, 0, 9, 1)
    assert not read_now


def test_a_source_that_has_grown(source, out, dinov2, dinov2_folder, picture, read_now):
    before = times(out)
    (source / "sub").mkdir()
    for name in ("00.bmp", "5b.bmp", "sub/9.bmp"):
        picture(50, 50, seed=len(name)).save(source / name)
    assert extract_dataset(source, out, dinov2_folder, part=4) == Summary(4, 1, 12, 1)
    assert read_now == ["00.bmp", "5b.bmp", "sub/9.bmp"]
    assert before.items() <= times(out).items()
    assert_right(out, source, dinov2)
    assert extract_dataset(source, out, dinov2_folder, part=4) == Summary(4, 0, 12, 1)


def test_a_picture_that_was_replaced(source, out, dinov2, dinov2_folder, picture, read_now):
    before = times(out)
    old = read(out)
    picture(50, 50, seed=99).save(source / "5.bmp")
    assert (source / "5.bmp").stat().st_size == (source / "4.bmp").stat().st_size
    assert extract_dataset(source, out, dinov2_folder, part=4) == Summary(3, 1, 9, 1)
    assert read_now == ["5.bmp"]
    after = times(out)
    assert [name for name in before if before[name] != after[name]] == ["part-000001.parquet"]
    new = read(out)
    assert list(new) == list(old)
    assert [name for name in old if new[name] != old[name]] == ["5.bmp"]
    assert_right(out, source, dinov2)


def test_a_picture_that_was_mended(source, out, dinov2, dinov2_folder, picture, read_now):
    picture(50, 50, seed=99).save(source / "9.bmp")
    assert extract_dataset(source, out, dinov2_folder, part=4) == Summary(3, 1, 10, 0)
    assert read_now == ["9.bmp"]
    assert_right(out, source, dinov2)


def test_pictures_that_are_gone(source, out, dinov2, dinov2_folder, read_now):
    for i in (1, 4, 5, 6, 7):
        (source / f"{i}.bmp").unlink()
    done = extract_dataset(source, out, dinov2_folder, part=4)
    assert done == Summary(2, 1, 4, 1, removed=5)
    text = "4 pictures, 1 that cannot be read, 0 to be tried again, 5 removed"
    assert str(done) == f"2 parts, 1 of them made now; {text}"
    assert not read_now
    assert sorted(times(out)) == ["part-000000.parquet", "part-000002.parquet"]
    assert_right(out, source, dinov2)


def test_a_row_group_that_was_replaced(source, dinov2_folder, tmp_path):
    folder = tmp_path / "tables"
    folder.mkdir()

    def write(name, seeds):
        data = [(source / f"{i}.bmp").read_bytes() for i in seeds]
        pq.write_table(pa.table({"image": data}), folder / name, row_group_size=2)

    write("a.parquet", [0, 1, 2])
    write("b.parquet", [3, 4])
    out = tmp_path / "of_tables"
    assert extract_dataset(folder, out, dinov2_folder) == Summary(3, 3, 5, 0)
    first = read(out)
    write("b.parquet", [5, 4])
    write("c.parquet", [6])
    assert extract_dataset(folder, out, dinov2_folder) == Summary(4, 2, 6, 0)
    second = read(out)
    changed = [name for name in second if first.get(name) != second[name]]
    assert changed == ["b.parquet:0:0", "c.parquet:0:0"]
    (folder / "a.parquet").unlink()
    assert extract_dataset(folder, out, dinov2_folder) == Summary(2, 0, 3, 0, removed=2)
    assert list(read(out)) == ["b.parquet:0:0", "b.parquet:0:1", "c.parquet:0:0"]


def test_a_folder_without_permission_loses_nothing(
    source, dinov2_folder, tmp_path, picture, monkeypatch, caplog
):
    (source / "sub").mkdir()
    picture(50, 50).save(source / "sub" / "a.bmp")
    out = tmp_path / "out"
    extract_dataset(source, out, dinov2_folder)
    scan = os.scandir

    def refused(path):
        if os.fspath(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scan(path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", refused)
        (source / "0.bmp").unlink()
        assert extract_dataset(source, out, dinov2_folder) == Summary(1, 1, 9, 1, removed=1)
    assert "a folder that cannot be read: Permission denied (sub)" in caplog.text
    assert "sub/a.bmp" in read(out)


def test_other_pictures_need_another_folder(source, out, dinov2_folder, picture, tmp_path):
    before = read(out)
    (tmp_path / "others").mkdir()
    picture(50, 50).save(tmp_path / "others" / "other.bmp")
    with pytest.raises(ValueError, match=r"other pictures: none of its 10 is in .*others; name"):
        extract_dataset(tmp_path / "others", out, dinov2_folder)
    assert read(out) == before


@pytest.mark.parametrize(
    ("file", "change", "named"),
    [
        ("config.json", {"layer_norm_eps": 0.1}, "config"),
        ("preprocessor_config.json", {"image_mean": [0.4, 0.4, 0.4]}, "processor"),
    ],
)
def test_another_configuration_needs_another_folder(
    source, out, dinov2_folder, tmp_path, file, change, named
):
    model = shutil.copytree(dinov2_folder, tmp_path / "moved")
    assert extract_dataset(source, out, model, part=4).made == 0  # the name is not the model
    path = model / file
    path.write_text(
        json.dumps(json.loads(path.read_text(encoding="utf-8")) | change), encoding="utf-8"
    )
    with pytest.raises(ValueError, match=f"made with other {named}: name another folder"):
        extract_dataset(source, out, model, part=4)


def test_other_code_needs_another_folder(source, out, dinov2_folder, monkeypatch):
    monkeypatch.setattr(dinov2_scale.dataset, "CODE_VERSION", "another")
    with pytest.raises(ValueError, match="other code: name another folder"):
        extract_dataset(source, out, dinov2_folder, part=4)


def test_a_dataset_of_before_is_said(source, dinov2_folder, tmp_path):
    old = {"pictures": "0", "parts": 1, "model": "plain", "weights": "0", "patches": False}
    (tmp_path / "_dataset.json").write_text(json.dumps(old), encoding="utf-8")
    with pytest.raises(ValueError, match=r"other format, code, .*: name another folder"):
        extract_dataset(source, tmp_path, dinov2_folder)


def bytes_of(out):
    return {path.name: path.read_bytes() for path in out.iterdir()}


def as_before(out):
    """Write the parts without checksums and without a digest of the record, as they once were."""
    for part in out.glob("part-*"):
        pq.write_table(pq.read_table(part).replace_schema_metadata(None), part, compression="zstd")


def test_a_dataset_that_lost_its_record_is_not_taken_for_another(source, out, dinov2_folder):
    (out / "_dataset.json").unlink()
    before = bytes_of(out)
    wanted = r"out has parts but no _dataset\.json, and .*part-00000\d\.parquet does not say that"
    for other in ({"size": 28}, {"dtype": "bfloat16"}, {"exact": True}):
        with pytest.raises(ValueError, match=f"{wanted}.*: put _dataset.json back, or name"):
            extract_dataset(source, out, dinov2_folder, part=4, **other)
    assert bytes_of(out) == before


def test_a_dataset_that_lost_its_record_goes_on(source, out, dinov2_folder, picture, read_now):
    record = (out / "_dataset.json").read_bytes()
    (out / "_dataset.json").unlink()
    before = times(out)
    picture(50, 50, seed=50).save(source / "a.bmp")
    assert extract_dataset(source, out, dinov2_folder, part=4) == Summary(4, 1, 10, 1)
    assert read_now == ["a.bmp"]
    assert before.items() <= times(out).items()
    assert (out / "_dataset.json").read_bytes() == record


def test_a_dataset_of_row_groups_that_lost_its_record(source, dinov2_folder, tmp_path):
    data = [(source / f"{i}.bmp").read_bytes() for i in range(3)]
    pq.write_table(pa.table({"image": data}), tmp_path / "a.parquet", row_group_size=2)
    out = tmp_path / "of_tables"
    assert extract_dataset(tmp_path / "a.parquet", out, dinov2_folder) == Summary(2, 2, 3, 0)
    (out / "_dataset.json").unlink()
    with pytest.raises(ValueError, match="has parts but no"):
        extract_dataset(tmp_path / "a.parquet", out, dinov2_folder, size=28)
    assert extract_dataset(tmp_path / "a.parquet", out, dinov2_folder) == Summary(2, 0, 3, 0)


def test_parts_without_a_digest_are_those_of_the_record(
    source, out, dinov2, dinov2_folder, picture, read_now
):
    as_before(out)
    before = times(out)
    assert extract_dataset(source, out, dinov2_folder, part=4) == Summary(3, 0, 9, 1)
    assert times(out) == before
    picture(50, 50, seed=99).save(source / "5.bmp")
    assert extract_dataset(source, out, dinov2_folder, part=4) == Summary(3, 1, 9, 1)
    assert read_now == ["5.bmp"]
    assert_right(out, source, dinov2)
    (out / "_dataset.json").unlink()
    unsaid = bytes_of(out)
    with pytest.raises(ValueError, match=r"part-00000[02]\.parquet does not say that it was made"):
        extract_dataset(source, out, dinov2_folder, part=4)
    assert bytes_of(out) == unsaid


def test_row_groups_without_a_digest_are_those_of_the_record(source, dinov2_folder, tmp_path):
    data = [(source / f"{i}.bmp").read_bytes() for i in range(3)]
    pq.write_table(pa.table({"image": data}), tmp_path / "a.parquet", row_group_size=2)
    out = tmp_path / "of_tables"
    extract_dataset(tmp_path / "a.parquet", out, dinov2_folder)
    for part in out.glob("part-*"):
        table = pq.read_table(part)
        key = b"dinov2_scale_origin"
        origin = {key: table.schema.metadata[key]}
        pq.write_table(table.replace_schema_metadata(origin), part)
    before = bytes_of(out)
    assert extract_dataset(tmp_path / "a.parquet", out, dinov2_folder) == Summary(2, 0, 3, 0)
    assert bytes_of(out) == before


def test_a_part_of_another_dataset_is_made_again(
    source, out, dinov2, dinov2_folder, tmp_path, caplog
):
    extract_dataset(source, tmp_path / "other", dinov2_folder, part=4, size=28)
    shutil.copy(tmp_path / "other" / "part-000001.parquet", out)
    assert extract_dataset(source, out, dinov2_folder, part=4) == Summary(3, 1, 9, 1)
    assert "part-000001.parquet does not say that it was made with these" in caplog.text
    assert_right(out, source, dinov2)


def test_a_part_that_another_run_writes_meanwhile_is_not_kept(
    source, out, dinov2, dinov2_folder, tmp_path, monkeypatch
):
    """A part of other settings comes after the first look, where one is to be made."""
    other = tmp_path / "other"
    extract_dataset(source, other, dinov2_folder, part=4, size=28)
    (out / "part-000001.parquet").unlink()
    make = Extractor.make

    def with_another(self, part):
        shutil.copy(other / f"{part.name}.parquet", out)
        return make(self, part)

    monkeypatch.setattr(Extractor, "make", with_another)
    assert extract_dataset(source, out, dinov2_folder, part=4) == Summary(3, 1, 9, 1)
    assert_right(out, source, dinov2)


def test_without_a_record_nothing_is_removed(source, dinov2_folder, tmp_path):
    other = tmp_path / "of_another_program"
    other.mkdir()
    (other / "part-00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"no _dataset\.json, and .*part-00000\.parquet is not a"):
        extract_dataset(source, other, dinov2_folder)
    assert bytes_of(other) == {"part-00000.parquet": b"PAR1"}


def test_equal_settings_make_one_digest(source, out, dinov2_folder):
    (out / "_dataset.json").unlink()
    done = extract_dataset(source, out, dinov2_folder, part=4, exact=0)
    assert done == Summary(3, 0, 9, 1)


@pytest.mark.parametrize("text", ["null", "3", "[]", '"x"', "true", "{", ""])
def test_a_damaged_record_is_said(source, out, dinov2_folder, text):
    (out / "_dataset.json").write_text(text, encoding="utf-8")
    before = bytes_of(out)
    with pytest.raises(
        ValueError, match=r"_dataset\.json is damaged: .*; remove it and call again"
    ):
        extract_dataset(source, out, dinov2_folder, part=4)
    assert bytes_of(out) == before
    (out / "_dataset.json").unlink()
    assert extract_dataset(source, out, dinov2_folder, part=4) == Summary(3, 0, 9, 1)


def test_a_damaged_part_is_made_again(source, out, dinov2, dinov2_folder, caplog):
    part = out / "part-000001.parquet"
    part.write_bytes(part.read_bytes()[:100])
    assert extract_dataset(source, out, dinov2_folder, part=4) == Summary(3, 1, 9, 1)
    assert "part-000001.parquet is not a whole part" in caplog.text
    assert_right(out, source, dinov2)


def flip_last_bit(part, column):
    """Change a part's file in the last bit of a column."""
    columns = pq.read_metadata(part).row_group(0)
    every = [columns.column(i) for i in range(columns.num_columns)]
    [found] = [one for one in every if one.path_in_schema.split(".")[0] == column]
    start = found.data_page_offset
    if found.has_dictionary_page:
        start = found.dictionary_page_offset
    data = bytearray(part.read_bytes())
    data[start + found.total_compressed_size - 1] ^= 1
    part.write_bytes(data)


@pytest.mark.parametrize("column", ["id", "cls", "patches", "error", "stamp", "again"])
def test_a_flipped_bit_is_damage(source, dinov2_folder, tmp_path, read_now, caplog, column):
    settings = {"part": 4, "patches": True, "size": 28}
    out = tmp_path / "of_patches"
    extract_dataset(source, out, dinov2_folder, **settings)
    part = out / "part-000001.parquet"
    whole = pq.read_table(part)
    flip_last_bit(part, column)
    read_now.clear()
    assert extract_dataset(source, out, dinov2_folder, **settings) == Summary(3, 1, 9, 1)
    assert "part-000001.parquet is not a whole part" in caplog.text
    assert sorted(read_now) == ["4.bmp", "5.bmp", "6.bmp", "7.bmp"]
    assert pq.read_table(part).equals(whole)
    assert extract_dataset(source, out, dinov2_folder, **settings) == Summary(3, 0, 9, 1)


def test_damaged_features_are_not_read(out):
    part = out / "part-000001.parquet"
    whole = part.read_bytes()
    flip_last_bit(part, "cls")
    flipped = part.read_bytes()
    for data in (flipped, whole[:100], b""):
        part.write_bytes(data)
        wanted = r"part-000001\.parquet is not a whole part: .*; extract_dataset, called again"
        with pytest.raises(ValueError, match=wanted):
            read_features(part)


def test_a_file_that_is_no_part_is_said(tmp_path):
    columns = {"id": ["a"], "cls": [[1.0]], "error": pa.nulls(1, pa.string())}
    pq.write_table(pa.table(columns), tmp_path / "other.parquet")
    with pytest.raises(ValueError, match=r"other\.parquet is not a whole part"):
        read_features(tmp_path / "other.parquet")


def test_lists_of_another_length_are_damage(source, out, dinov2, dinov2_folder):
    part = out / "part-000001.parquet"
    table = pq.read_table(part)
    place = table.schema.get_field_index("cls")
    field = table.schema.field("cls").with_metadata({"length": "7"})
    pq.write_table(table.cast(table.schema.set(place, field)), part)
    assert extract_dataset(source, out, dinov2_folder, part=4) == Summary(3, 1, 9, 1)
    assert_right(out, source, dinov2)


@pytest.mark.parametrize("kind", ["pictures", "tables"])
def test_a_dataset_in_its_source_is_no_source(source, dinov2_folder, tmp_path, monkeypatch, kind):
    if kind == "tables":
        data = [path.read_bytes() for path in sorted(source.iterdir())]
        pq.write_table(pa.table({"image": data}), tmp_path / "a.parquet", row_group_size=4)
        shutil.rmtree(source)
    monkeypatch.chdir(tmp_path)
    assert extract_dataset(".", "features", dinov2_folder, part=4) == Summary(3, 3, 9, 1)
    (tmp_path / "features" / "part-000002.parquet").unlink()
    assert extract_dataset(".", "features", dinov2_folder, part=4) == Summary(3, 1, 9, 1)
    assert extract_dataset("**", "features", dinov2_folder, part=4) == Summary(3, 0, 9, 1)
    assert extract_dataset(".", "others", dinov2_folder, part=4) == Summary(3, 3, 9, 1)


def test_a_source_is_not_written_into(source, dinov2_folder):
    with pytest.raises(ValueError, match="the source itself; name a folder of its own"):
        extract_dataset(source, f"{source}/", dinov2_folder)
    assert not list(source.glob("*.parquet"))


@pytest.mark.parametrize("part", [4, 3])
def test_a_run_that_ends_leaves_the_files_of_another(
    source, dinov2, dinov2_folder, tmp_path, monkeypatch, part
):
    """While one writes its second part, a whole other run begins and ends."""
    out = tmp_path / "out"
    replace = os.replace
    written = []

    def with_another(aside, target):
        if "part-" in str(target):
            written.append(target)
            if len(written) == 2:
                done = extract_dataset(source, out, dinov2_folder, part=part)
                assert (done.pictures, done.errors) == (9, 1)
        replace(aside, target)

    monkeypatch.setattr(os, "replace", with_another)
    done = extract_dataset(source, out, dinov2_folder, part=4)
    assert (done.pictures, done.errors) == (9, 1)
    assert_right(out, source, dinov2)
    assert not list(out.glob("_partial*"))


def test_two_runs_at_once(source, dinov2, dinov2_folder, tmp_path):
    out = tmp_path / "out"
    start = threading.Barrier(2)
    done = []

    def run(part):
        start.wait()
        done.append(extract_dataset(source, out, dinov2_folder, part=part))

    runs = [threading.Thread(target=run, args=(part,)) for part in (2, 3)]
    for one in runs:
        one.start()
    for one in runs:
        one.join()
    assert [(one.pictures, one.errors) for one in done] == [(9, 1)] * 2
    assert_right(out, source, dinov2)


def test_what_dead_writers_left_goes_after_a_day(source, out, dinov2_folder):
    now = int(time.time())
    alive = out / f"_partial-{now - 3600}-{'0' * 16}"
    dead = out / f"_partial-{now - 25 * 3600}-{'0' * 16}"
    for path in (alive, dead):
        path.touch()
    extract_dataset(source, out, dinov2_folder, part=4)
    assert alive.exists() and not dead.exists()


def test_a_dataset_is_that_of_one_run(source, out, dinov2_folder, tmp_path, picture):
    """However it came about, it has the rows of one that was made at once."""
    for name in ("3.bmp", "a.bmp", "b.bmp"):
        picture(50, 50, seed=ord(name[0])).save(source / name)
    (source / "0.bmp").unlink()
    extract_dataset(source, out, dinov2_folder, part=4)
    extract_dataset(source, tmp_path / "at once", dinov2_folder)
    assert_same(read(out), read(tmp_path / "at once"))


def test_workers_get_paths_that_mean_the_same_everywhere(
    source, dinov2_folder, tmp_path, monkeypatch
):
    jobs = []

    def make(_parts, job, _workers):
        jobs.append(job)
        return []

    monkeypatch.setattr(dinov2_scale.dataset, "_make", make)
    monkeypatch.setattr(dinov2_scale.dataset, "ROUNDS", 1)
    shutil.copytree(dinov2_folder, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DINOV2_PROFILE", "tiny")
    for out, model in (("features", "model"), ("memory://nowhere", "tiny"), ("features", None)):
        shutil.rmtree("features", ignore_errors=True)
        with pytest.raises(RuntimeError, match="other runs keep changing it"):
            extract_dataset("pictures", out, model)
    assert {job.source for job in jobs} == {str(source)}
    assert [job.out for job in jobs] == [f"{tmp_path}/features", "memory://nowhere", jobs[0].out]
    assert [job.model for job in jobs] == [f"{tmp_path}/model", "tiny", "tiny"]
