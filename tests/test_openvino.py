"""DINOv2 in OpenVINO: the same features, clear errors, and no report to anybody."""

import sys

import numpy as np
import pytest

import dinov2_scale
from dinov2_helpers import extract_features, load_clip, load_dinov2, stream_features
from dinov2_scale import Summary, extract_dataset, read_features, with_openvino

openvino = pytest.importorskip("openvino")
CLOSE = 1e-5


@pytest.fixture(scope="module")
def pictures(picture):
    """Seven pictures of three shapes, and one that is none."""
    sizes = [(70, 60), (56, 90), (64, 64)]
    return [picture(*sizes[i % 3], seed=i) for i in range(7)] + [b"no picture"]


@pytest.fixture(scope="module", params=["dinov2", "dinov2_with_registers"])
def both(request):
    """A model of torch's, and the same in OpenVINO."""
    model = request.getfixturevalue(request.param)
    return model, with_openvino(model)


def same(found, expected):
    assert found.names == expected.names and found.skipped == expected.skipped
    assert np.abs(found.cls - expected.cls).max() < CLOSE
    assert np.abs(np.subtract(found.patches, expected.patches)).max() < CLOSE


@pytest.mark.parametrize("batch_size", [None, 1, 2, 3])
def test_features_are_those_of_torch(both, pictures, batch_size):
    expected, found = (extract_features(m, pictures, batch_size=batch_size) for m in both)
    assert len(found) == 7 and found.cls.dtype == found.patches.dtype == np.float32
    same(found, expected)
    same(extract_features(both[1], pictures, batch_size=batch_size), expected)  # nothing is left


def test_another_size(dinov2, pictures):
    size = 2 * dinov2.processor.crop_size["height"]
    expected = extract_features(dinov2, pictures, size=size)
    same(extract_features(with_openvino(dinov2, size), pictures, size=size), expected)


def test_a_cache_serves_both(both, pictures, tmp_path):
    [expected] = stream_features(both[0], pictures, cache=tmp_path)
    entries = list(tmp_path.iterdir())
    [found] = stream_features(both[1], pictures, cache=tmp_path)
    assert entries and list(tmp_path.iterdir()) == entries
    assert np.array_equal(found.cls, expected.cls)


def test_what_it_is(dinov2):
    assert with_openvino(dinov2).describe() == dinov2.describe()


def test_what_it_cannot_do(dinov2, dinov2_folder, pictures):
    model = with_openvino(dinov2)
    with pytest.raises(ValueError, match=r"pictures of \d+x\d+ px, .* give both the same `size`"):
        extract_features(model, pictures[:1], fit="resize")
    for more in ({"layers": [0]}, {"facets": ["key"]}):
        with pytest.raises(ValueError, match="need the model of load_dinov2 itself"):
            extract_features(model, pictures, **more)
    eager = with_openvino(load_dinov2(dinov2_folder, attention="eager", device="cpu"))
    with pytest.raises(ValueError, match="need the model of load_dinov2 itself"):
        extract_features(eager, pictures, attention=True)


def test_models_that_it_does_not_take(dinov2, dinov2_folder):
    for other in (load_clip("tiny", device="cpu"), with_openvino(dinov2)):
        with pytest.raises(ValueError, match="is no DINOv2 of load_dinov2"):
            with_openvino(other)
    half = load_dinov2(dinov2_folder, dtype="bfloat16", device="cpu")
    with pytest.raises(ValueError, match="device='cpu' and dtype='float32'"):
        with_openvino(half)


def test_without_the_package(dinov2, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install '\.\[scale,openvino\]'"):
        with_openvino(dinov2)


def test_nobody_is_told(dinov2, monkeypatch):
    """OpenVINO's own converter reports each call, unless its users have said that it must not."""
    telemetry = pytest.importorskip("openvino_telemetry")

    def told(*_arguments, **_options):
        raise AssertionError("telemetry")

    monkeypatch.setattr(telemetry.Telemetry, "init", told)
    monkeypatch.setattr(telemetry.Telemetry, "send_event", told)
    with_openvino(dinov2)


def test_a_dataset_goes_on_with_it(dinov2, dinov2_folder, picture, tmp_path):
    source, out = tmp_path / "pictures", tmp_path / "out"
    source.mkdir()
    for i in range(6):
        picture(60 + i, 50, seed=i).save(source / f"{i}.png")
    made = extract_dataset(source, out, dinov2_folder, part=3)
    (out / "part-000001.parquet").unlink()
    done = extract_dataset(source, out, dinov2_folder, part=3, openvino=True)
    assert made == Summary(2, 2, 6, 0) and done == Summary(2, 1, 6, 0)
    cls = np.concatenate([read_features(file)[1] for file in sorted(out.glob("part-*"))])
    assert np.abs(cls - extract_features(dinov2, source).cls).max() < CLOSE
    with pytest.raises(ValueError, match="openvino=True needs fit='crop', not 'pad'"):
        extract_dataset(source, out, dinov2_folder, openvino=True, fit="pad")


def test_a_dataset_is_made_by_it(dinov2_folder, picture, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(
        dinov2_scale, "with_openvino", lambda *given: made.append(given[1]) or with_openvino(*given)
    )
    picture(60, 50).save(tmp_path / "a.png")
    extract_dataset(tmp_path / "a.png", tmp_path / "out", dinov2_folder, openvino=True, size=28)
    assert made == [28]
