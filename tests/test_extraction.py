import dataclasses
import io
import shutil
import threading
import tracemalloc

import numpy as np
import pytest
import torch
from picture_files import noise
from PIL import Image
from transformers import pipeline

from dinov2_helpers import (
    extract_features,
    load_dinov2,
    open_image,
    photographs,
    stream_features,
)
from dinov2_helpers.extraction import batches, engine
from dinov2_helpers.extraction.forward import Computer
from dinov2_helpers.extraction.job import Job
from dinov2_helpers.pictures.pixels import geometry

pytestmark = pytest.mark.computes
CLOSE = 1e-5


def differ(one, other):
    return np.abs(np.asarray(one) - np.asarray(other)).max()


@pytest.fixture(scope="module")
def pictures(picture):
    sizes = [(320, 240), (224, 224), (100, 333), (60, 40), (300, 300)]
    return [picture(*size, seed=seed) for seed, size in enumerate(sizes)]


@pytest.fixture(params=["dinov2", "dinov2_with_registers"])
def any_dinov2(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def eager(registers_folder):
    return load_dinov2(registers_folder, device="cpu", attention="eager")


def test_equal_to_the_pipeline_of_transformers(any_dinov2, pictures):
    extract = pipeline(
        "image-feature-extraction",
        model=any_dinov2.model,
        image_processor=any_dinov2.processor,
        device="cpu",
    )
    found = extract_features(any_dinov2, pictures)
    assert found.patches.shape == (5, 16, 16, 48)
    assert found.cls.dtype == found.patches.dtype == np.float32
    for row, image in enumerate(pictures):
        tokens = np.array(extract(image))[0]
        assert differ(found.cls[row], tokens[0]) < CLOSE
        # patches row by row, without CLS and registers
        assert differ(found.patches[row].reshape(256, 48), tokens[-256:]) < CLOSE
    # so that the above could fail
    assert min(differ(found.cls[0], other) for other in found.cls[1:]) > 0.1


@pytest.mark.parametrize("fit", ["crop", "resize", "pad"])
def test_same_numbers_in_any_batch(any_dinov2, pictures, fit):
    mixed = pictures + pictures[::-1]
    alone = extract_features(any_dinov2, mixed, fit=fit, batch_size=1)
    together = extract_features(any_dinov2, mixed, fit=fit)
    assert differ(alone.cls, together.cls) < CLOSE
    for one, other in zip(alone.patches, together.patches, strict=True):
        assert differ(one, other) < CLOSE
    assert differ(together.cls, together.cls[::-1]) < CLOSE


def test_layers_facets_attention(eager, pictures):
    hooks = [len(block._forward_hooks) for block in eager.model.encoder.layer]
    found = extract_features(
        eager, pictures, layers=(0, 2, -1, 2), attention=True, facets=("query", "key", "value")
    )
    assert [len(block._forward_hooks) for block in eager.model.encoder.layer] == hooks
    pixels = torch.from_numpy(
        np.concatenate([eager.processor(p, return_tensors="np")["pixel_values"] for p in pictures])
    )
    with torch.inference_mode():
        reference = eager.model(pixels, output_hidden_states=True, output_attentions=True)
        # entry 0 is the embeddings, before the first block
        first = eager.model.layernorm(reference.hidden_states[1])
        attention = eager.model.encoder.layer[2].attention
        normed = eager.model.encoder.layer[2].norm1(reference.hidden_states[2])
        query, key = attention.q_proj(normed), attention.k_proj(normed)
        value = attention.v_proj(normed)
    assert differ(found.layers[0].cls, first[:, 0]) < CLOSE
    assert differ(found.layers[0].patches, first[:, 5:].reshape(5, 16, 16, 48)) < CLOSE
    for last in (found.layers[2], found.layers[-1]):
        assert differ(last.cls, found.cls) < CLOSE
        assert differ(last.patches, found.patches) < CLOSE
    assert found.attention.shape == (5, 4, 16, 16)
    from_cls = reference.attentions[-1][:, :, 0]
    assert differ(found.attention.reshape(5, 4, 256), from_cls[:, :, 5:]) < CLOSE
    total = found.attention.sum((2, 3)) + from_cls[:, :, :5].sum(-1).numpy()
    assert differ(total, 1) < CLOSE
    for name, tokens in (("query", query), ("key", key), ("value", value)):
        assert differ(found.facets[name], tokens[:, 5:].reshape(5, 16, 16, 48)) < CLOSE
    earlier = extract_features(eager, pictures, facets=["key"], facet_layer=0, patches=False)
    assert earlier.patches is None
    assert differ(earlier.facets["key"], found.facets["key"]) > 0.1


def test_eager_and_sdpa_agree(eager, dinov2_with_registers, pictures):
    one, other = (extract_features(d, pictures) for d in (eager, dinov2_with_registers))
    assert differ(one.patches, other.patches) < CLOSE


def test_geometries(any_dinov2, pictures):
    padded = extract_features(any_dinov2, pictures, fit="pad")
    assert padded.sizes.tolist() == [[p.height, p.width] for p in pictures]
    assert padded.grids.tolist() == [[18, 23], [16, 16], [24, 8], [3, 5], [22, 22]]
    assert [patches.shape for patches in padded.patches] == [(*g, 48) for g in padded.grids]
    assert padded.note == "pad: 4 of 5 filled at right and bottom to multiples of 14 px"
    assert padded.coverage[0].dtype == np.float32
    assert (padded.coverage[1] == 1).all()
    smaller = extract_features(any_dinov2, pictures, fit="pad", size=112)
    assert smaller.note.startswith("pad: 2 of 5 filled")  # the others fit once scaled
    # 240 = 17 x 14 + 2 rows, 320 = 22 x 14 + 12 columns
    coverage = padded.coverage[0]
    assert coverage[:17, :22].min() == 1
    assert differ(coverage[17, :22], 2 / 14) < 1e-6
    assert differ(coverage[17, 22], 2 / 14 * 12 / 14) < 1e-6
    assert differ(coverage.sum() * 14**2, 320 * 240) < 0.1
    with pytest.raises(ValueError, match="different grids"):
        _ = padded.grid
    # what is not padded is the same as resized
    resized = extract_features(any_dinov2, pictures, fit="resize")
    assert resized.grids.tolist() == [[17, 23], [16, 16], [24, 7], [3, 4], [21, 21]]
    assert resized.note == "resize: 4 of 5 resampled to sides that are multiples of 14 px"
    assert differ(padded.cls[1], resized.cls[1]) < CLOSE
    assert extract_features(any_dinov2, pictures, size=112).grid == (8, 8)
    note = extract_features(any_dinov2, pictures, size=115).note
    assert note == "crop: shortest side to 128 px, then the central 112 px"


def test_pooling(dinov2, pictures):
    found = extract_features(dinov2, pictures, fit="pad")
    mean = found.pooled("mean")
    weights = found.coverage[0].reshape(-1, 1)
    expected = (found.patches[0].reshape(-1, 48) * weights).sum(0) / weights.sum()
    assert differ(mean[0], expected) < CLOSE
    assert differ(mean[1], found.patches[1].mean((0, 1))) < CLOSE
    assert (found.pooled() == found.cls).all()
    assert differ(found.pooled("both"), np.hstack([found.cls, mean])) < CLOSE
    assert found.pooled("both").shape == (5, 96)
    with pytest.raises(ValueError, match=r"pooled\('max'\): choose one of"):
        found.pooled("max")
    with pytest.raises(ValueError, match="patches=True"):
        extract_features(dinov2, pictures, patches=False).pooled("mean")


def jpeg(image, **options):
    data = io.BytesIO()
    image.save(data, "JPEG", quality=95, **options)
    return data.getvalue()


@pytest.fixture
def messy(picture, tmp_path):
    """A folder of good and bad pictures, and what the good ones show, as plain RGB."""
    root = tmp_path / "messy"
    root.mkdir()
    image = picture(90, 60)
    grey = np.asarray(image.convert("L"))
    alpha = Image.new("L", image.size)
    alpha.paste(255, (0, 0, 45, 60))
    seen_through = image.copy()
    seen_through.paste("white", (45, 0, 90, 60))
    turned = Image.Exif()
    turned[0x0112] = 6

    (root / "01 truncated.jpg").write_bytes(jpeg(image)[:-800])
    (root / "02 text.png").write_text("this is not a picture", encoding="utf-8")
    Image.fromarray(grey.astype(np.uint16) * 257).save(root / "03 sixteen.png")
    (root / "04 cmyk.jpg").write_bytes(jpeg(image.convert("CMYK")))
    image.convert("L").save(root / "05 grey.png")
    with_alpha = image.copy()
    with_alpha.putalpha(alpha)
    with_alpha.save(root / "06 alpha.png")
    turned_data = jpeg(image.transpose(Image.Transpose.ROTATE_90), exif=turned)
    (root / "07 turned.jpg").write_bytes(turned_data)
    picture(1, 1).save(root / "08 one.png")
    picture(12000, 50).save(root / "09 long.png")
    Image.new("RGB", (1, 5000)).save(root / "10 thread.png")
    stored = np.asarray(Image.open(io.BytesIO(turned_data)))
    good = {
        2: image.convert("L").convert("RGB"),
        3: Image.open(io.BytesIO(jpeg(image.convert("CMYK")))).convert("RGB"),
        4: image.convert("L").convert("RGB"),
        5: seen_through,
        6: Image.fromarray(np.rot90(stored, -1)),
        7: picture(1, 1),
        8: picture(12000, 50),
    }
    return root, good


@pytest.mark.parametrize(("fit", "size"), [("crop", None), ("resize", 56), ("pad", 56)])
def test_folder_with_good_and_bad_pictures(dinov2, messy, fit, size, capsys):
    root, good = messy
    found = extract_features(dinov2, root, fit=fit, size=size)
    assert found.index.tolist() == list(good)
    assert found.names[0] == "03 sixteen.png"
    expected = extract_features(dinov2, list(good.values()), fit=fit, size=size)
    assert differ(found.cls, expected.cls) < CLOSE
    for one, other in zip(found.patches, expected.patches, strict=True):
        assert differ(one, other) < CLOSE

    skipped = {item.index: item for item in found.skipped}
    assert set(skipped) == set(range(10)) - set(good)
    assert skipped[0].name == "01 truncated.jpg"
    assert "truncated" in skipped[0].reason
    assert "cannot identify image file" in skipped[1].reason
    assert "give a lower `size`" in skipped[9].reason
    report = capsys.readouterr().out
    assert f"{len(skipped)} of 10 pictures skipped" in report
    for item in skipped.values():
        assert f"{item.index}: {item.name}: {item.reason}" in report


def test_inputs(dinov2, pictures, tmp_path, capsys):
    for number, image in enumerate(pictures):
        image.save(tmp_path / f"{number}.png")
    paths = sorted(tmp_path.glob("*.png"))
    expected = extract_features(dinov2, pictures, size=56).cls
    scenes = dataclasses.make_dataclass("Scenes", ["images"])(paths)
    arrays = [np.asarray(image) for image in pictures]
    for images in (tmp_path, str(tmp_path), paths, map(str, paths), scenes, arrays):
        assert differ(extract_features(dinov2, images, size=56).cls, expected) < CLOSE
    for image in (paths[0], str(paths[0]), pictures[0], arrays[0]):
        assert differ(extract_features(dinov2, image, size=56).cls, expected[:1]) < CLOSE
    stack = np.stack([arrays[1], arrays[1][::-1]])
    assert differ(extract_features(dinov2, stack, size=56).cls[:1], expected[1:2]) < CLOSE
    named = extract_features(dinov2, {"first": pictures[0], "second": paths[1]})
    assert named.names == ("first", "second")
    mixed = extract_features(dinov2, [pictures[0], paths[1], None, arrays[2]])
    assert mixed.names == ("image 0", str(paths[1]), "image 3")
    assert mixed.index.tolist() == [0, 1, 3]
    assert "2: image 2: " in capsys.readouterr().out


class Series:
    """What a column of a pandas table is to us: one axis, an index of its own, values."""

    ndim = 1

    def __init__(self, values):
        self.values = values

    def __iter__(self):
        return iter(self.values)


def test_paths_in_containers_of_other_packages(dinov2, pictures, tmp_path):
    for number, image in enumerate(pictures):
        image.save(tmp_path / f"{number}.png")
    paths = [str(path) for path in sorted(tmp_path.glob("*.png"))]
    expected = extract_features(dinov2, pictures, size=56).cls
    objects = np.empty(5, object)
    objects[:] = pictures
    for images in (np.array(paths), np.array(paths, object), Series(paths), objects):
        assert differ(extract_features(dinov2, images, size=56).cls, expected) < CLOSE
    assert extract_features(dinov2, Series(paths)).names == tuple(paths)
    missing = extract_features(dinov2, Series([*paths[:2], float("nan"), None]))
    assert [one.index for one in missing.skipped] == [2, 3]
    numbered = extract_features(dinov2, {7: pictures[0], tmp_path / "x": pictures[1]})
    assert numbered.names == ("7", str(tmp_path / "x"))


def test_what_holds_no_pictures_is_named(dinov2):
    table = dataclasses.make_dataclass("Table", ["columns", "ndim"])(["path", "label"], 2)
    for images, message in (
        (None, "NoneType holds no pictures"),
        (3, "int holds no pictures"),
        (table, r"a table of \['path', 'label'\]: give the column"),
    ):
        with pytest.raises(TypeError, match=message):
            extract_features(dinov2, images)


def test_the_home_folder(dinov2, picture, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "pictures").mkdir()
    picture(20, 20).save(tmp_path / "pictures" / "a.png")
    for images in ("~/pictures", "~/pictures/a.png", ["~/pictures/a.png"]):
        assert len(extract_features(dinov2, images)) == 1


def test_empty_crops_are_left_out(dinov2, picture):
    image = picture(20, 20)
    found = extract_features(dinov2, [image.crop((5, 5, 5, 9)), image, np.zeros((0, 4, 3), "u1")])
    assert found.index.tolist() == [1]
    assert [one.index for one in found.skipped] == [0, 2]


def test_one_picture_and_the_first_twelve_unreadable(dinov2, picture):
    found = extract_features(dinov2, [b"no picture"] * 12 + [picture(20, 20)])
    assert found.index.tolist() == [12] and len(found.skipped) == 12


def test_features_that_will_not_fit_are_refused_before_they_are_made(
    dinov2, picture, forwards, monkeypatch
):
    class Memory:
        available = 8_000_000

    monkeypatch.setattr("dinov2_helpers.extraction.gather.virtual_memory", Memory)
    images = [picture(20, 20)] * 200
    assert len(extract_features(dinov2, images[:100])) == 100  # 5 MB
    forwards.clear()
    with pytest.raises(MemoryError, match=r"200 pictures take about 0.0 GB.*stream_features"):
        extract_features(dinov2, images)
    assert forwards == []
    assert len(extract_features(dinov2, images, patches=False)) == 200


def test_no_second_copy_of_the_result(dinov2, picture):
    """What more pictures allocate is their features, once; the last layer is no second copy."""

    def allocated(n):
        images = [picture(20, 20)] * n
        tracemalloc.start()
        try:
            found = extract_features(dinov2, images, layers=[0, -1], facets=["key"])
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert found.layers[-1].patches is found.patches
        maps = (found.patches, found.layers[0].patches, found.facets["key"])
        return peak, sum(one.nbytes for one in maps)

    (peak, size), (later_peak, later_size) = allocated(256), allocated(640)
    assert later_peak - peak < 1.1 * (later_size - size)


def test_rows_stay_with_their_pictures_when_some_are_skipped(dinov2, pictures):
    mixed = [None, pictures[0], None, pictures[1], pictures[2], None]
    found = extract_features(dinov2, mixed, layers=[0], batch_size=1)
    expected = extract_features(dinov2, pictures[:3], layers=[0], batch_size=1)
    assert found.index.tolist() == [1, 3, 4]
    for one, other in (
        (found.cls, expected.cls),
        (found.layers[0].patches, expected.layers[0].patches),
    ):
        assert np.array_equal(one, other)


def test_features_can_be_compared_and_hashed(dinov2, pictures):
    one, other = (extract_features(dinov2, pictures) for _ in range(2))
    assert one == one and one != other and len({one, other}) == 2


def test_settings_of_a_stream_are_checked(dinov2, pictures):
    with pytest.raises(TypeError, match=r"\['sizes'\]: no settings of extract_features"):
        next(stream_features(dinov2, pictures, sizes=3))
    with pytest.raises(ValueError, match="chunk=0"):
        next(stream_features(dinov2, pictures, chunk=0))
    with pytest.raises(ValueError, match="no pictures, so no grid"):
        _ = next(stream_features(dinov2, [None])).grid


def test_own_errors_are_not_blamed_on_a_picture(dinov2, pictures, monkeypatch):
    def broken(*_, **__):
        raise TypeError("ours")

    monkeypatch.setattr(engine, "to_pixels", broken)
    with pytest.raises(TypeError, match="ours"):
        extract_features(dinov2, pictures)


def test_long_reports_are_cut(dinov2, picture, capsys):
    found = extract_features(dinov2, [None] * 30 + [picture(14, 14)], fit="resize")
    report = capsys.readouterr().out.splitlines()
    assert len(report) == 21
    assert report[0] == "30 of 31 pictures skipped (all are in `skipped`):"
    assert len(found.skipped) == 30


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        ([], {}, "no picture to extract from; 0 of 0"),
        ({}, {}, "no picture to extract from; 0 of 0"),
        ([None, None], {}, "2 of 2 pictures skipped"),
        ("no-such-folder", {}, "no-such-folder: there is no such folder"),
        (None, {"layers": [3]}, "layer 3: plain has 0 to 2, or -1 to -3"),
        (None, {"facet_layer": -4}, "layer -4"),
        (None, {"fit": "squeeze"}, "fit='squeeze' is none of .*'crop'"),
        (None, {"facets": ["keys"]}, "'keys' is none of .*'key'"),
        (None, {"attention": True}, "attention='eager'"),
    ],
)
def test_impossible_settings(dinov2, pictures, images, options, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        extract_features(dinov2, pictures if images is None else images, **options)


def test_many_pictures_of_many_shapes(dinov2, picture, forwards, monkeypatch):
    """Order is kept, and few pictures wait, however the shapes are mixed."""
    monkeypatch.setattr(batches, "MAX_BATCH", 8)
    monkeypatch.setattr(engine, "MAX_BATCH", 8)
    images = [picture(14 * (1 + i % 7), 14, seed=i) for i in range(24)]
    found = extract_features(dinov2, images, fit="resize")
    assert found.index.tolist() == list(range(24))
    assert found.grids[:, 1].tolist() == [1 + i % 7 for i in range(24)]
    assert sorted(forwards) == list(range(24))
    assert set(forwards[:8]) == set(range(8))  # those decoded first are computed first
    for i in (0, 13, 23):
        assert differ(found.cls[i], extract_features(dinov2, images[i], fit="resize").cls) < CLOSE


def test_decoding_goes_on_while_the_model_computes(dinov2, pictures, monkeypatch):
    """The model waits here until a picture of the next batch is opened, in another thread."""
    opened = threading.Event()
    opening, computing = engine.open_reduced, Computer._compute

    def open_reduced(source, name, *, scaled_to):
        if name == "image 2":
            opened.set()
        return opening(source, name, scaled_to=scaled_to)

    def compute(*arguments):
        assert opened.wait(timeout=10)
        return computing(*arguments)

    monkeypatch.setattr(engine, "MAX_BATCH", 2)
    monkeypatch.setattr(engine, "open_reduced", open_reduced)
    monkeypatch.setattr(Computer, "_compute", compute)
    assert len(extract_features(dinov2, pictures)) == 5


def test_batches_on_several_cores(eager, pictures, monkeypatch, capsys):
    """All that hooks see stays with its batch; threads are put back; halving is said once."""
    options = {"layers": [0, -1], "facets": ["key"], "attention": True, "batch_size": 2}
    one = extract_features(eager, pictures * 8, **options)
    threads, model = set(), eager.model
    handle = model.register_forward_pre_hook(
        lambda *_: threads.add((threading.current_thread().name, torch.get_num_threads()))
    )
    torch.set_num_threads(3)
    try:
        several = extract_features(eager, pictures * 8, **options)
        one_picture = batches.activation_bytes(eager, (3, 224, 224))
        monkeypatch.setattr(batches, "free_memory", lambda model: one_picture)
        capsys.readouterr()
        scarce = extract_features(eager, pictures * 8, **options)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(1)
        handle.remove()
    assert capsys.readouterr().out.count("2 pictures of 224x224 px do not fit") == 1
    assert {n for _, n in threads} == {1} and len(threads) > 1
    for found in (several, scarce):
        for got, right in (
            (found.cls, one.cls),
            (found.patches, one.patches),
            (found.layers[0].patches, one.layers[0].patches),
            (found.layers[-1].cls, one.layers[-1].cls),
            (found.facets["key"], one.facets["key"]),
            (found.attention, one.attention),
        ):
            assert 0 <= differ(got, right) < CLOSE
    assert not any("forward" in vars(module) for module in model.modules())


def test_batch_size_follows_memory(dinov2, eager):
    def largest(model, side):
        pixels = np.broadcast_to(np.float32(0), (3, side, side))
        jobs = [Job(i, i, "", (side, side), 1, None, pixels) for i in range(100)]
        return len(next(batches.make_batches(model, jobs, None)))

    assert largest(dinov2, 112) == batches.MAX_BATCH > largest(dinov2, 896) > 1
    assert largest(eager, 1792) == 1


@pytest.fixture
def forwards(monkeypatch):
    """Count the pictures that go through the model."""
    count = []
    computing = Computer._compute

    def spy(computer, batch):
        count.extend(job.index for job in batch)
        return computing(computer, batch)

    monkeypatch.setattr(Computer, "_compute", spy)
    return count


def entries(cache):
    return sorted(path for path in cache.rglob("*") if path.is_file())


def test_cache(dinov2, dinov2_folder, pictures, messy, tmp_path, forwards):
    root, _ = messy
    cache = tmp_path / "cache"

    def run(model=dinov2, images=root, **options):
        forwards.clear()
        return extract_features(model, images, cache=cache, **options)

    first = run(layers=[1])
    assert len(forwards) == len(first) == 7
    again = run(layers=[1])
    assert forwards == []
    for name in ("cls", "patches", "sizes", "grids", "coverage", "index"):
        assert (getattr(first, name) == getattr(again, name)).all()
    assert (first.layers[1].patches == again.layers[1].patches).all()
    assert (first.skipped, first.names, first.note) == (again.skipped, again.names, again.note)

    # another place and another name: the same content; a changed file: another
    shutil.move(root / "08 one.png", root / "11 other name.png")
    pictures[3].save(root / "05 grey.png")
    changed = run(layers=[1])
    assert forwards == [4]
    assert differ(changed.cls[2], extract_features(dinov2, pictures[3]).cls[0]) < CLOSE
    assert changed.names[-1] == "11 other name.png"

    # other settings, other weights, another model folder with the same weights
    for options in ({"size": 112}, {"fit": "resize"}, {"layers": [0]}, {"patches": False}):
        run(images=pictures[:1], **options)
        assert forwards == [0]
    run(images=pictures[:1])
    other = load_dinov2(shutil.copytree(dinov2_folder, tmp_path / "copy"), device="cpu")
    run(model=other, images=pictures[:1])
    assert forwards == []
    with torch.no_grad():
        other.model.layernorm.bias[0] += 1
    moved = run(model=other, images=pictures[:1])
    assert forwards == [0]
    assert differ(moved.cls, extract_features(dinov2, pictures[0]).cls) > 0.9


def test_cache_of_what_is_in_memory(dinov2, pictures, tmp_path, forwards):
    array = np.asarray(pictures[0])
    extract_features(dinov2, array, cache=tmp_path)
    extract_features(dinov2, pictures[0], cache=tmp_path)
    assert forwards == [0]
    # the same bytes in another shape are another picture
    extract_features(dinov2, array.reshape(320, 240, 3), cache=tmp_path)
    assert forwards == [0, 0]


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A photograph enlarged to somewhat more than `LARGE` pixels, as a JPEG file."""
    path = tmp_path_factory.mktemp("large") / "cat.jpg"
    photographs()["cat"].resize((1501, 1003), Image.Resampling.BICUBIC).save(path, quality=90)
    return path


def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size(large, monkeypatch):
    dinov2 = load_dinov2("tiny", device="cpu")
    decoded = []
    entering = engine.to_pixels

    def to_pixels(opened, *arguments, **options):
        decoded.append(opened.image.size)
        return entering(opened, *arguments, **options)

    monkeypatch.setattr(engine, "to_pixels", to_pixels)
    exact = extract_features(dinov2, large, exact=True)
    (chunk,) = stream_features(dinov2, [large.read_bytes()], exact=True)
    found = extract_features(dinov2, large, size=112)
    assert decoded == [(1501, 1003), (1501, 1003), (376, 251)]
    assert differ(exact.cls, chunk.cls) < CLOSE
    assert found.sizes.tolist() == exact.sizes.tolist() == [[1003, 1501]]
    at_112 = extract_features(dinov2, large, size=112, exact=True)
    assert differ(at_112.cls, found.cls) > 0
    for one, other in ((at_112.cls, found.cls), (at_112.patches, found.patches)):
        norms = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
        assert ((one * other).sum(-1) / norms).min() > 0.999


def test_a_picture_that_is_not_large_gives_the_same_numbers_bit_for_bit(dinov2, tmp_path):
    side = 1023  # less than LARGE pixels
    noise(side, side).save(tmp_path / "a.jpg")
    one, other = (extract_features(dinov2, tmp_path / "a.jpg", exact=e) for e in (False, True))
    assert np.array_equal(one.cls, other.cls)
    assert np.array_equal(one.patches, other.patches)


@pytest.mark.parametrize("first", [False, True])
def test_a_cache_tells_reduced_from_exact(dinov2, large, tmp_path, forwards, first):
    for exact, n in ((first, 1), (not first, 2), (first, 2), (not first, 2)):
        extract_features(dinov2, large, size=112, exact=exact, cache=tmp_path)
        assert len(forwards) == n


def test_a_cache_tells_pictures_apart_that_only_their_size_tells_apart(dinov2, tmp_path, forwards):
    """Both are decoded to 750x500 white pixels; but of one, the last column is half empty."""
    for width in (1500, 1499):
        Image.new("RGB", (width, 1000), "white").save(tmp_path / "a.jpg")
        extract_features(dinov2, tmp_path / "a.jpg", size=112, cache=tmp_path / "cache")
    assert len(forwards) == 2


def test_a_cache_for_all_calls(dinov2, pictures, tmp_path, forwards, monkeypatch):
    monkeypatch.setenv("DINOV2_CACHE", str(tmp_path))
    first = extract_features(dinov2, pictures)
    again = extract_features(dinov2, pictures)
    assert len(forwards) == 5 and np.array_equal(first.patches, again.patches)
    for _ in range(2):
        extract_features(dinov2, pictures, layers=[0])
    assert len(forwards) == 15 and len(entries(tmp_path)) == 5


def test_damaged_cache_entries_are_computed_again(dinov2, picture, tmp_path, forwards):
    image = picture(28, 28)
    expected = extract_features(dinov2, image, fit="resize", cache=tmp_path)
    [entry] = entries(tmp_path)
    whole = entry.read_bytes()
    damages = [whole[:n] for n in (0, 1, len(whole) // 2, len(whole) - 1)] + [b"text"]
    for damage in damages:
        entry.write_bytes(damage)
        found = extract_features(dinov2, image, fit="resize", cache=tmp_path)
        for name in ("cls", "patches", "coverage", "sizes"):
            assert differ(getattr(found, name), getattr(expected, name)) < CLOSE
    assert len(forwards) == 1 + len(damages)


def test_a_cache_that_cannot_be_written_is_said_once_and_leaves_nothing(
    dinov2, pictures, tmp_path, monkeypatch, forwards, capsys
):
    def fail(*paths):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.replace", fail)
        found = extract_features(dinov2, pictures, cache=tmp_path)
    assert len(found) == 5
    assert capsys.readouterr().out.count("No space left on device; going on without it") == 1
    assert entries(tmp_path) == []
    forwards.clear()
    for _ in range(2):
        extract_features(dinov2, pictures[0], cache=tmp_path)
    assert forwards == [0]  # then from the cache


def test_a_stream_is_the_same_in_parts(dinov2, pictures, messy, capsys):
    whole = extract_features(dinov2, [*pictures, None], fit="pad")
    parts = list(stream_features(dinov2, iter([*pictures, None]), chunk=2, fit="pad"))
    assert [len(part) for part in parts] == [2, 2, 1]
    assert differ(np.concatenate([part.cls for part in parts]), whole.cls) < CLOSE
    assert np.concatenate([part.index for part in parts]).tolist() == [0, 1, 2, 3, 4]
    assert [one.index for part in parts for one in part.skipped] == [5]
    means = np.concatenate([part.pooled("mean") for part in parts])
    assert differ(means, whole.pooled("mean")) < CLOSE

    capsys.readouterr()
    empty, full = stream_features(dinov2, [None, None, pictures[0]], chunk=2)
    assert (len(empty), len(full), empty.cls.shape) == (0, 1, (0, 48))
    assert empty.pooled("mean").shape == (0, 48) and len(empty.skipped) == 2
    assert "2 of 2 pictures skipped" in capsys.readouterr().out

    root, good = messy
    names = [name for part in stream_features(dinov2, root, chunk=3) for name in part.names]
    assert len(names) == len(good) and names[0] == "03 sixteen.png"


def test_a_stream_reads_no_further_than_it_must(dinov2, picture):
    given = []

    def endless():
        while True:
            given.append(picture(28, 28))
            yield given[-1]

    stream = stream_features(dinov2, endless(), chunk=3, fit="resize")
    assert len(next(stream)) == 3 and len(given) == 3


def test_crop_sees_the_centre(dinov2, pictures):
    """What `geometry` says about the crop is what the model gets."""
    wide = pictures[0]
    (width, height), (side, _) = geometry(wide.size, dinov2, None, "crop")
    left, top = (width - side) // 2, (height - side) // 2
    scaled = wide.resize((width, height), Image.Resampling.BICUBIC)
    centre = scaled.crop((left, top, left + side, top + side))
    one = extract_features(dinov2, wide).cls
    assert differ(one, extract_features(dinov2, centre, fit="resize").cls) < CLOSE


def test_open_image_and_extraction_agree(dinov2, messy):
    root, good = messy
    names = sorted(path.name for path in root.iterdir())
    for index, image in good.items():
        assert differ(np.asarray(open_image(root / names[index])), np.asarray(image)) == 0
