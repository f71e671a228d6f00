"""Points in space, cameras, PLY, and depth brought to metres by a few distances."""

import numpy as np
import pytest
from PIL import Image

from dinov2_helpers import samples
from dinov2_helpers.techniques.depth_scale import align_depth
from dinov2_helpers.techniques.pointcloud import Camera, PointCloud, focal_of_photo, to_points
from tools import pairing
from tools.lift import lift
from tools.project import Project


def read_ply(path):
    """An independent reader: header by lines, then rows of three floats and three bytes."""
    content = path.read_bytes()
    header, _, body = content.partition(b"end_header\n")
    lines = header.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    kinds = {"float": "<f4", "uchar": "u1"}
    fields = [
        (one.split()[2], kinds[one.split()[1]]) for one in lines if one.startswith("property")
    ]
    rows = np.frombuffer(body, np.dtype(fields))
    assert f"element vertex {len(rows)}" in lines
    return rows


def test_points_are_those_of_the_lesson_and_of_the_file(tmp_path):
    lesson = lift(pairing.read_source(Project(), "05_depth_estimation"), "points_of")
    scenes = samples.load_scenes("test")
    picture, depth, row = scenes.image(3), scenes.depth(3), scenes.table[3]["camera"]
    intrinsics = np.array(row["intrinsics"])
    local = to_points(depth, Camera(intrinsics), picture)
    np.testing.assert_allclose(local.points, lesson["points_of"](depth, intrinsics), atol=1e-5)
    cloud = to_points(depth, Camera.of_row(row), picture)
    known = np.isfinite(depth)
    y, x = np.nonzero(known)
    points = samples.unproject(np.stack([x, y], axis=1) + 0.5, depth[known], row)
    np.testing.assert_allclose(cloud.points, points, atol=1e-5)
    np.testing.assert_array_equal(cloud.colours, np.asarray(picture)[known])
    rows = read_ply(cloud.write_ply(tmp_path / "new folder" / "scene.ply"))
    np.testing.assert_array_equal(np.stack([rows[k] for k in "xyz"], 1), cloud.points)
    colours_read = np.stack([rows[k] for k in ("red", "green", "blue")], 1)
    np.testing.assert_array_equal(colours_read, cloud.colours)
    assert rows.dtype.itemsize == 15


def test_a_ply_without_a_point_can_be_read(tmp_path):
    nothing = PointCloud(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8))
    assert len(read_ply(nothing.write_ply(tmp_path / "a.ply"))) == 0


def test_points_by_hand():
    depth = np.array([[2.0, np.nan], [4.0, 4.0]])
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    cloud = to_points(depth, 2.0, picture)
    np.testing.assert_allclose(cloud.points, [[-0.5, -0.5, 2], [-1, 1, 4], [1, 1, 4]])
    np.testing.assert_array_equal(cloud.colours, picture.reshape(4, 3)[[0, 2, 3]])


def test_pixels_at_a_jump_are_left_out():
    depth = np.ones((6, 8))
    depth[:, 4:] = 2
    depth[0, 0] = np.nan
    kept = to_points(depth, 10.0, np.zeros((6, 8, 3), np.uint8), jump=1.5)
    assert len(kept) == 6 * 8 - 6 * 2 - 1
    assert len(to_points(depth, 10.0, np.zeros((6, 8, 3), np.uint8), jump=2.5)) == 47


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"depth": np.ones((8, 6))}, "depth of shape"),
        ({"camera": 0.0}, "focal=0"),
        ({"jump": 1.0}, "jump=1"),
    ],
)
def test_impossible_points(change, said):
    given = {"depth": np.ones((6, 8)), "camera": 5.0, "picture": np.zeros((6, 8, 3), np.uint8)}
    with pytest.raises(ValueError, match=said):
        to_points(**given | change)


def test_a_tape_measures_more_than_the_axis():
    camera = Camera.of_focal(100, (200, 200))
    pixels = [[100, 100], [200, 100], [200, 200]]
    found = camera.depth_along_axis(pixels, [3.0, 3 * 2**0.5, 3 * 3**0.5])
    np.testing.assert_allclose(found, 3)


def test_the_focal_length_of_a_photograph(tmp_path):
    picture = Image.new("RGB", (3600, 2400))
    exif = picture.getexif()
    exif.get_ifd(0x8769)[0xA405] = 26
    picture.save(tmp_path / "with.jpg", exif=exif)
    picture.save(tmp_path / "without.jpg")
    assert focal_of_photo(tmp_path / "with.jpg") == pytest.approx(2600)
    assert focal_of_photo(tmp_path / "without.jpg") is None


# A few measured distances


@pytest.fixture
def depth():
    return np.linspace(1, 6, 60).reshape(6, 10)


PIXELS = np.array([[0.5, 0.5], [9.2, 5.9], [4.0, 3.0], [7.7, 2.2]])


def at(depth):
    return np.array([depth[int(y), int(x)] for x, y in PIXELS])


def test_one_distance_gives_a_scale(depth, caplog):
    found = align_depth(depth, [5.0], PIXELS[:1])
    np.testing.assert_allclose(found.depth, depth * 5, rtol=1e-6)
    assert (found.way, found.scale, found.shift, found.spare) == ("scale", 5.0, 0.0, 0)
    assert "one point gives a scale" in found.note and "left over" in found.note
    assert found.note in caplog.text


def test_scale_and_shift_are_found_again(depth):
    true = 1 / (0.3 / depth + 0.05)
    found = align_depth(depth, at(true), PIXELS)
    assert found.way == "scale and shift" and found.spare == 2 and found.note == ""
    np.testing.assert_allclose(found.depth, true, rtol=1e-5)
    np.testing.assert_allclose(found.residuals, 1, rtol=1e-6)
    as_map = np.full(depth.shape, np.nan)
    for (x, y), value in zip(PIXELS, at(true), strict=True):
        as_map[int(y), int(x)] = value
    np.testing.assert_allclose(align_depth(depth, as_map).depth, true, rtol=1e-5)


def test_a_bad_point_does_not_move_the_scale(depth):
    true = 2 * at(depth)
    true[2] *= 10
    found = align_depth(depth, true, PIXELS, way="scale")
    assert found.scale == pytest.approx(2, rel=0.35)
    assert found.residuals.argmax() == 2


def test_two_points_fit_exactly_and_say_so(depth):
    true = 1 / (0.5 / depth + 0.02)
    found = align_depth(depth, at(true)[:2], PIXELS[:2], way="scale and shift")
    np.testing.assert_allclose(found.depth, true, rtol=1e-5)
    assert found.spare == 0 and "left over" in found.note
    assert align_depth(depth, at(true)[:2], PIXELS[:2]).way == "scale"


@pytest.mark.parametrize(
    ("distances", "pixels", "said"),
    [
        ([2.0], PIXELS[:1], "one point gives"),
        ([2.0, 2.1], [[0.5, 0.5], [1.5, 0.5]], "same predicted depth"),
        ([2.0, 2.1], PIXELS[:2], "same measured depth"),
        ([5.0, 1.0], PIXELS[:2], "measured as nearer"),
    ],
)
def test_an_under_determined_fit_is_refused_or_said(depth, distances, pixels, said):
    with pytest.raises(ValueError, match=f"under-determined: .*{said}"):
        align_depth(depth, distances, pixels, way="scale and shift")
    found = align_depth(depth, distances, pixels)
    assert found.way == "scale" and said in found.note


def test_pixels_beyond_infinity_are_nan_and_counted(depth):
    true = 1 / (1.0 / depth[:3] - 0.2)
    found = align_depth(depth, true[[0, 1, 2], [0, 0, 0]], [[0.5, 0.5], [0.5, 1.5], [0.5, 2.5]])
    assert found.way == "scale and shift"
    assert np.isnan(found.depth).mean() > 0.1 and "beyond infinity" in found.note


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (([], np.zeros((0, 2))), "none is given"),
        (([-1.0], [[1, 1]]), "not above 0"),
        (([1.0], [[99, 1]]), "outside a picture"),
        (([1.0, 2.0], [[1, 1]]), "pixels of shape"),
        (([1.0, 2.0], None), "without pixels"),
        (([1.0], [[1, 1]], "both"), "way='both'"),
    ],
)
def test_impossible_distances(depth, given, said):
    with pytest.raises(ValueError, match=said):
        align_depth(depth, *given[:2], way=given[2] if len(given) > 2 else None)
