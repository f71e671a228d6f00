"""The inspection pictures: laid out as MVTec AD, exact masks, and what the code makes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("training.world.render", exc_type=ImportError)

from training.world import defects, flaws, stations, workers
from training.world.meshes import box
from training.world.render import Renderer
from training.world.toys import POOLS, make_toy
from training.world.toys.builder import ROUNDED_BOX

DATA = Path(__file__).parent.parent / "data" / "defects"


@pytest.fixture(scope="module", autouse=True)
def renderer():
    with Renderer() as opened:
        workers._open.append(opened)
        yield
        workers._open.clear()


def picture(order):
    path = DATA / order.category / order.split / order.kind / f"{order.number:03d}.jpg"
    return np.asarray(Image.open(path))


def mask(order):
    folder = DATA / order.category / "ground_truth" / order.kind
    return np.asarray(Image.open(folder / f"{order.number:03d}_mask.png"))


# What is released


def test_layout_and_counts():
    wanted = set()
    for order in defects.orders():
        name = f"{order.category}/{order.split}/{order.kind}/{order.number:03d}.jpg"
        wanted.add(name)
        if order.kind != "good":
            place = f"{order.category}/ground_truth/{order.kind}/{order.number:03d}_mask.png"
            wanted.add(place)
    assert {p.relative_to(DATA).as_posix() for p in DATA.rglob("*") if p.is_file()} == wanted
    assert defects.COUNTS["train"] >= 40
    assert defects.COUNTS["good"] >= 20
    assert defects.COUNTS["kind"] >= 10
    assert all(len(kinds) >= 4 for kinds in defects.KINDS.values())


def test_size_budget():
    assert sum(p.stat().st_size for p in DATA.rglob("*") if p.is_file()) <= 5e6


def test_masks_are_binary_and_not_empty():
    for order in defects.orders():
        if order.kind == "good":
            continue
        values = mask(order)
        assert (values.shape, values.dtype) == ((224, 224), np.uint8)
        assert set(np.unique(values)) == {0, 255}
        assert (values > 0).sum() >= defects.LEAST_AREA


def test_datasheet_counts_are_current():
    assert defects.summary(DATA) in (DATA.parent / "README.md").read_text(encoding="utf-8")


def test_toys_are_in_no_other_picture():
    for station in stations.STATIONS.values():
        assert all(station.seed not in pool for pool in POOLS.values())


@pytest.mark.parametrize("category", ["mug", "tiles"])
def test_data_are_what_the_code_makes(category):
    order = defects.Order(category, "test", defects.KINDS[category][1], 3)
    made, flaw = defects.make(order.category, order.kind, order.key)
    again, flaw_again = defects.make(order.category, order.kind, order.key)
    np.testing.assert_array_equal(made, again)
    np.testing.assert_array_equal(flaw, flaw_again)
    # Graphics drivers differ a little, and JPEG is lossy.
    assert np.abs(picture(order).astype(float) - made).mean() < 4
    assert ((mask(order) > 0) != flaw).mean() < 0.002


# Masks


@pytest.mark.parametrize("kind", ["misplaced_part", "missing_part", "scratch"])
def test_a_mask_is_where_the_picture_changed(kind):
    rng = np.random.default_rng(5)
    scene = stations.inspection("rocket", rng)
    good = stations.shoot(scene)
    assert not defects.changed_pixels(good, good).any()
    bad = defects.TOY_FLAWS[kind](scene, good, rng)
    flaw = defects.changed_pixels(good, bad)
    difference = np.abs(good.picture().astype(int) - bad.picture()).max(axis=-1)
    assert flaw.any()
    assert (difference[flaw] >= defects.SEEN).mean() > 0.8
    # What changed outside of it are shadows and shade: on the table, or near the flaw.
    thing = (good.thing | bad.thing)[::2, ::2]
    assert (difference[thing & ~flaw] >= 3 * defects.SEEN).mean() < 0.03


def test_a_mark_lies_on_the_thing_only():
    rng = np.random.default_rng(1)
    scene = stations.inspection("mug", rng)
    good = stations.shoot(scene)
    spot = defects._spot(rng, good, good.thing, 5)
    assert np.linalg.norm(spot.normal) == pytest.approx(1)
    # The surface faces the camera.
    toy = scene.toys[0]
    towards = stations.local(toy, scene.camera.position()[None])[0] - spot.centre
    assert towards @ spot.normal > 0
    tint = np.array([0.2, 0.2, 0.2])
    bad = good.marked(flaws.stain(rng, good.points, spot, 0.1, tint))
    changed = (good.colour != bad.colour).any(axis=-1)
    assert changed.any() and not (changed & ~good.thing).any()


def test_table_is_plain():
    shot = stations.shoot(stations.inspection("car", np.random.default_rng(2)))
    rim = shot.picture()[[2, 2, -3], [3, -4, -4]].astype(float)
    assert rim.std(axis=0).max() < 12


# Flaws


def test_flaws_of_shape():
    toy = make_toy("rocket", 5)
    assert len(flaws.without(toy, (0, 2)).parts) == len(toy.parts) - 2
    turned = flaws.moved(toy, (1,), (0, 0, 180), offset=(0, 0, 1))
    np.testing.assert_allclose(
        turned.parts[1].mesh.vertices, toy.parts[1].mesh.vertices * (-1, -1, 1) + (0, 0, 1)
    )
    assert turned.parts[0] is toy.parts[0]
    assert flaws.repainted(toy, (0,), (0.0, 0.0, 0.0), 1.0).parts[0].colour == (0, 0, 0)
    spot = flaws.Spot(toy.parts[0].mesh.vertices[0], np.array([0.0, 0.0, 1.0]))
    pushed = (
        toy.parts[0].mesh.vertices - flaws.dented(toy, 0, spot, 0.1, 0.02).parts[0].mesh.vertices
    )
    assert pushed[0, 2] == pytest.approx(0.02) and pushed.max() == pytest.approx(0.02)


def test_refined_mesh_is_closed_and_of_the_same_shape():
    mesh = flaws.refined(box(), 0.5)
    ends = mesh.vertices[mesh.faces[:, [0, 1, 2]]] - mesh.vertices[mesh.faces[:, [1, 2, 0]]]
    assert np.linalg.norm(ends, axis=-1).max() <= 0.5
    assert np.abs(mesh.vertices).max() == pytest.approx(1)
    a, b, c = mesh.vertices[mesh.faces].transpose(1, 0, 2)
    assert np.einsum("ij,ij->", a, np.cross(b, c)) / 6 == pytest.approx(8)
    around = flaws.inflated(flaws.refined(ROUNDED_BOX, 0.3), 0.32)
    np.testing.assert_allclose((np.abs(around.vertices) ** (2 / 0.32)).sum(axis=1), 1, rtol=0.02)


def test_lines_end_and_stains_are_round():
    rows, columns = np.mgrid[0:200, 0:200].astype(float)
    points = np.stack([columns, rows, np.zeros_like(rows)], axis=-1)
    spot = flaws.Spot(np.array([100.0, 100.0, 0.0]), np.array([0.0, 0.0, 1.0]))
    rng = np.random.default_rng(0)
    line = flaws.line(rng, points, spot, (100, 3), np.ones(3), 0.0, np.pi / 2)
    where = np.argwhere(line.cover > 0.5)
    assert 80 <= np.ptp(where, axis=0).max() <= 100
    stain = flaws.stain(rng, points, spot, 20, np.ones(3))
    assert 0.4 < (stain.cover > 0.3).sum() / (np.pi * 20**2) < 1.6
    assert stain.cover.min() == 0 and stain.cover.max() <= 1
