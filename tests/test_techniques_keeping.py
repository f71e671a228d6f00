"""Objects in folders: found again with the same numbers, refused where they do not fit."""

import dataclasses
import json
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from dinov2_helpers import extract_features, load_clip, load_dinov2, photographs
from dinov2_helpers.models import ModelError
from dinov2_helpers.techniques import (
    anomaly,
    bridge,
    depth,
    few_shot,
    guidance,
    keeping,
    neighbours,
    segmentation,
    zero_shot,
)
from dinov2_helpers.techniques.inputs import features_of
from dinov2_helpers.techniques.keeping import KeptError, load_object, save_object

KIND = "search-thing"
ARRAYS = {
    "bank": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "ids": np.array([4, 2]),
    "threshold": np.array(0.5),
}


@pytest.fixture(scope="module")
def dinov2():
    return load_dinov2("tiny")


@pytest.fixture(scope="module")
def pictures():
    return list(photographs().values())[:2]


@pytest.fixture
def folder(tmp_path, dinov2):
    save_object(tmp_path / "kept", KIND, {"k": 3}, ARRAYS, {"dinov2": dinov2})
    return tmp_path / "kept"


def test_what_was_saved_is_found_with_its_model(folder, dinov2):
    kept = load_object(folder, KIND)
    assert kept.settings == {"k": 3}
    for name, array in ARRAYS.items():
        assert kept.arrays[name].shape == array.shape
        assert (kept.arrays[name] == array).all()
    assert kept.model("dinov2", dinov2) is dinov2
    assert kept.model("dinov2").name == dinov2.name


def test_names_of_files_are_kept_whatever_bytes_they_have(tmp_path):
    names = [os.fsdecode(b"\xff $x$.png"), "\u00fc \\udcff.png", "\u72d7"]
    save_object(tmp_path, KIND, {"names": names}, {}, {})
    assert load_object(tmp_path, KIND).settings["names"] == names
    assert "\u72d7" in (tmp_path / f"{KIND}.json").read_text(encoding="utf-8")


def test_another_backend_is_the_same_model_and_other_weights_are_not(folder):
    kept = load_object(folder, KIND)
    other = load_dinov2("tiny", backend="torch")
    assert kept.model("dinov2", other) is other
    other.model.layernorm.weight.data += 0.01
    with pytest.raises(KeptError, match="other weights"):
        kept.model("dinov2", other)


def test_other_preprocessing_is_another_model(folder, dinov2):
    changed = dataclasses.replace(dinov2.preprocessing, mean=(0.1, 0.2, 0.3))
    with pytest.raises(KeptError, match="prepares pictures differently"):
        load_object(folder, KIND).model(
            "dinov2", dataclasses.replace(dinov2, preprocessing=changed)
        )


@pytest.mark.parametrize("name", ["clip-tiny", "lit-tiny"])
def test_models_of_words_are_kept_too(tmp_path, name):
    clip = load_clip(Path("data/models") / name if name == "clip-tiny" else name)
    save_object(tmp_path, KIND, {}, ARRAYS, {"clip": clip})
    assert load_object(tmp_path, KIND).model("clip").name == clip.name == name


def test_a_model_of_a_folder_that_is_not_here_is_asked_for(tmp_path, dinov2, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    own = dataclasses.replace(dinov2, name="my-model")
    save_object(tmp_path, KIND, {}, ARRAYS, {"dinov2": own})
    with pytest.raises(ModelError, match="folder of yours"):
        load_object(tmp_path, KIND).model("dinov2")
    assert load_object(tmp_path, KIND).model("dinov2", own) is own


def test_a_new_version_takes_the_place_of_the_old_and_others_stay(folder, dinov2):
    save_object(folder, "another-thing", {}, ARRAYS, {"dinov2": dinov2})
    save_object(folder, KIND, {"k": 4}, {"bank": np.zeros(1)}, {"dinov2": dinov2})
    assert load_object(folder, KIND).arrays["bank"].tolist() == [0]
    assert load_object(folder, "another-thing").arrays.keys() == ARRAYS.keys()
    assert len(list(folder.iterdir())) == 4


def _save(folder, number):
    save_object(folder, KIND, {"k": number}, {"bank": np.array([number])}, {})


def _number(folder):
    kept = load_object(folder, KIND)
    assert kept.arrays["bank"].tolist() == [kept.settings["k"]]
    return kept.settings["k"]


@pytest.mark.parametrize("other", [1, 2, 3])  # as stood there, of this save, and of none of both
@pytest.mark.parametrize(
    ("when", "file", "last"),
    [
        ("before", "arrays", "this"),
        ("after", "arrays", "this"),
        ("before", "JSON", "this"),
        ("after", "JSON", "other"),
    ],
)
def test_a_save_amid_another_leaves_one_of_both_whole(
    tmp_path, monkeypatch, when, file, last, other
):
    _save(tmp_path, 1)
    write = keeping.write_whole

    def with_another(path, data):
        is_the_moment = (path.suffix == ".json") == (file == "JSON")
        if not is_the_moment:
            return write(path, data)
        monkeypatch.setattr(keeping, "write_whole", write)
        if when == "before":
            _save(tmp_path, other)
        write(path, data)
        if when == "after":
            _save(tmp_path, other)

    monkeypatch.setattr(keeping, "write_whole", with_another)
    _save(tmp_path, 2)
    assert _number(tmp_path) == (2 if last == "this" else other)
    _save(tmp_path, 4)
    assert _number(tmp_path) == 4


@pytest.mark.parametrize("saves", [1, 3])
def test_a_reader_amid_saves_finds_a_whole_object(tmp_path, monkeypatch, saves):
    _save(tmp_path, 0)
    read = Path.read_text
    waiting = list(range(saves))

    def and_then_it_is_replaced(path, **options):
        text = read(path, **options)
        if waiting:
            _save(tmp_path, waiting.pop())
        return text

    monkeypatch.setattr(Path, "read_text", and_then_it_is_replaced)
    assert _number(tmp_path) == 0 and not waiting


def test_a_save_that_fails_leaves_the_folder_as_it_was(tmp_path, monkeypatch):
    _save(tmp_path, 1)
    write = keeping.write_whole
    before = sorted(tmp_path.iterdir())

    def full(path, data):
        if path.suffix == ".json":
            raise OSError("no space left")
        write(path, data)

    monkeypatch.setattr(keeping, "write_whole", full)
    with pytest.raises(OSError, match="no space"):
        _save(tmp_path, 2)
    assert sorted(tmp_path.iterdir()) == before and _number(tmp_path) == 1


@pytest.mark.parametrize("arrays", ["../precious", "precious", 3])
def test_a_save_deletes_nothing_but_arrays_of_its_kind(tmp_path, arrays):
    folder = tmp_path / "kept"
    _save(folder, 1)
    for precious in (tmp_path / "precious", folder / "precious"):
        precious.write_bytes(b"")
    _change(folder / f"{KIND}.json", arrays=arrays)
    _save(folder, 2)
    assert _number(folder) == 2
    assert (tmp_path / "precious").exists() and (folder / "precious").exists()


def _change(path, **changes):
    record = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(record | changes), encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / f"{KIND}.json").unlink(), "holds no search-thing"),
        (
            lambda folder: (folder / f"{KIND}.json").write_text("{", encoding="utf-8"),
            "cannot be read",
        ),
        (
            lambda folder: (folder / f"{KIND}.json").write_text("[]", encoding="utf-8"),
            "cannot be read",
        ),
        (lambda folder: _change(folder / f"{KIND}.json", format=99), "later version"),
        (lambda folder: _change(folder / f"{KIND}.json", arrays="../x"), "outside its folder"),
        (lambda folder: next(folder.glob("*.safetensors")).write_bytes(b"abc"), "damaged"),
        (lambda folder: next(folder.glob("*.safetensors")).unlink(), "cannot be read"),
    ],
)
def test_what_is_missing_or_damaged_is_said(folder, spoil, said):
    spoil(folder)
    with pytest.raises(KeptError, match=said):
        load_object(folder, KIND)


@pytest.mark.parametrize(
    "models",
    [
        {"other": {"name": "dinov2-tiny", "fingerprint": "1"}},
        {"dinov2": {"name": "dinov2-tiny"}},
        {"dinov2": "dinov2-tiny"},
        [],
    ],
)
def test_models_that_are_not_recorded_are_said(folder, dinov2, models):
    _change(folder / f"{KIND}.json", models=models)
    with pytest.raises(KeptError, match=r"cannot be read|does not say with which dinov2"):
        load_object(folder, KIND).model("dinov2", dinov2)


@pytest.mark.parametrize(
    ("kind", "load", "roles"),
    [
        (anomaly.KIND, anomaly.AnomalyDetector.load, ["dinov2"]),
        (bridge.KIND, bridge.Bridge.load, ["dinov2", "clip"]),
        (depth.KIND, depth.DepthHead.load, ["dinov2"]),
        (few_shot.KIND, few_shot.FewShot.load, ["dinov2"]),
        (guidance.KIND, guidance.Guide.load, ["dinov2"]),
        (neighbours.KIND, neighbours.KnnClassifier.load, ["dinov2"]),
        (segmentation.KIND, segmentation.Segmenter.load, ["dinov2"]),
        (zero_shot.KIND, partial(zero_shot.ZeroShot.load, dinov2=None), ["clip"]),
    ],
)
@pytest.mark.parametrize("settings", [{}, {"settings": {"a": 1}, "constructor": {"a": 1}}])
def test_what_is_kept_in_part_or_of_another_version_is_said(
    tmp_path, dinov2, kind, load, roles, settings
):
    models = {"dinov2": dinov2, "clip": load_clip("tiny")}
    save_object(tmp_path, kind, settings, {}, {role: models[role] for role in roles})
    with pytest.raises(KeptError, match=f"cannot be read as a {kind}"):
        load(tmp_path, **{role: models[role] for role in roles})


def test_features_already_made_are_taken_as_they_are(dinov2, pictures):
    made = extract_features(dinov2, pictures, size=112, layers=[3])
    assert features_of(dinov2, made, size=112, layers=[3]) is made
    fresh = features_of(dinov2, pictures, size=112, layers=[3])
    assert (fresh.cls == made.cls).all()


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"size": 224}, "size=112"),
        ({"size": 112, "fit": "pad"}, "fit='crop'"),
        ({"size": 112, "layers": [2]}, "lack layers"),
        ({"size": 112, "facets": ["key"]}, "lack facets"),
    ],
)
def test_features_made_otherwise_are_refused(dinov2, pictures, wanted, said):
    made = extract_features(dinov2, pictures, size=112, layers=[3])
    with pytest.raises(ValueError, match=said):
        features_of(dinov2, made, **wanted)


def test_features_of_another_model_or_without_patches_are_refused(dinov2, pictures):
    made = extract_features(dinov2, pictures, size=112, patches=False)
    with pytest.raises(ValueError, match="lack patches"):
        features_of(dinov2, made, size=112)
    with pytest.raises(ValueError, match="features of dinov2-tiny"):
        features_of(dataclasses.replace(dinov2, name="other"), made, size=112)
