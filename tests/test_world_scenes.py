"""Scenes, renderer and captions of the sample world."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

pytest.importorskip("training.world.render", exc_type=ImportError)

from training.world import captions, workers
from training.world.compose import WIDE_GROUP_SIDE, sample_scene, turntable, with_occluder
from training.world.export import (
    CAMOUFLAGES,
    bounding_box,
    contrast,
    describe,
    scene_orders,
    voc_palette,
)
from training.world.material import Shard, render_shard
from training.world.postprocess import ambient_occlusion
from training.world.render import (
    HARDLY_HIDDEN,
    LEAST_VISIBLE,
    Renderer,
    draw,
    draw_occluded,
    is_presentable,
)
from training.world.scene import FRAME, Camera, Placed
from training.world.surfaces import OUTDOOR, SURFACES
from training.world.toys import CLASSES, EXCEPTIONS, PALETTES, POOLS, make_toy


@pytest.fixture(scope="module")
def renderer():
    with Renderer() as opened:
        yield opened


def pixels():
    """Pixel centres, (FRAME, FRAME, 2)."""
    v, u = np.mgrid[0:FRAME, 0:FRAME] + 0.5
    return np.stack([u, v], axis=-1)


def unproject(camera, depth):
    """World points of all pixels, (FRAME, FRAME, 3), from the matrices alone."""
    homogeneous = np.concatenate([pixels(), np.ones((FRAME, FRAME, 1))], axis=-1)
    local = homogeneous @ np.linalg.inv(camera.intrinsics()).T * depth[..., None]
    pose = camera.world_from_camera()
    return local @ pose[:3, :3].T + pose[:3, 3]


def side(camera, placed):
    spread = np.ptp(camera.project(placed.points)[:, :2], axis=0)
    return float(spread.max()) / FRAME


# Scenes


def test_a_seed_is_a_scene():
    toys = [make_toy("duck", 5), make_toy("car", 6)]
    first = sample_scene(3, toys, "wide")
    sample_scene(99, [make_toy("dog", 1)])  # what is drawn in between does not matter
    again = sample_scene(3, toys, "wide")
    other = sample_scene(4, toys, "wide")
    assert describe_camera(first) == describe_camera(again) != describe_camera(other)
    assert [item.position for item in first.placed] == [item.position for item in again.placed]
    assert (first.surface, first.light, first.sky) == (again.surface, again.light, again.sky)


def describe_camera(scene):
    camera = scene.camera
    return camera.azimuth, camera.elevation, camera.distance, camera.lookat


@pytest.mark.parametrize("framing", ["portrait", "wide"])
def test_toys_have_the_size_of_their_framing(framing):
    low, high = {"portrait": (0.54, 0.86), "wide": (0.20, 0.46)}[framing]
    for seed, name in enumerate(CLASSES):
        scene = sample_scene(seed, [make_toy(name, seed)], framing)
        assert low <= side(scene.camera, scene.toys[0]) <= high, name
        assert 7 <= scene.camera.elevation <= 38
        assert scene.camera.fovy == 38


def test_groups_are_in_the_frame_and_apart():
    for seed in range(12):
        toys = [make_toy(CLASSES[(seed + 5 * k) % 16], seed + k) for k in range(2 + seed % 2)]
        scene = sample_scene(seed, toys, "wide")
        low, high = WIDE_GROUP_SIDE
        for item in scene.toys:
            box = scene.camera.project(item.points)[:, :2]
            assert box.min() >= 0 and box.max() <= FRAME
            assert low - 0.02 <= side(scene.camera, item) <= high + 0.02


def test_surface_and_occluder_can_be_asked_for():
    for seed, surface in enumerate(SURFACES):
        scene = sample_scene(seed, [make_toy("truck", seed)], "wide", surface, occluded=True)
        assert scene.surface == surface
        assert scene.indoor == (surface not in OUTDOOR) == bool(scene.walls)
        assert any(item.role == "prop" for item in scene.placed)


def test_special_places():
    sunk, flying, launched = [], [], []
    for seed in range(40):
        boat = sample_scene(seed, [make_toy("boat", 1)], surface="water").toys[0]
        sunk.append(boat.position[2] < 0)
        plane = sample_scene(seed, [make_toy("airplane", 1)], surface="grass").toys[0]
        flying.append(plane.position[2] > 0.2)
        assert (
            sample_scene(seed, [make_toy("airplane", 1)], surface="wood").toys[0].position[2] == 0
        )
        rocket = sample_scene(seed, [make_toy("rocket", 1)], surface="road").toys[0]
        burning = len(rocket.toy.parts) > len(make_toy("rocket", 1).parts)
        assert burning == (rocket.position[2] > 0.2)
        launched.append(burning)
    assert all(sunk)
    assert 0.3 < np.mean(flying) < 0.9
    assert 0.1 < np.mean(launched) < 0.7


def test_every_side_of_a_toy_is_seen_faces_more_often():
    angles = []
    for seed in range(150):
        scene = sample_scene(seed, [make_toy("car", 3)], occluded=False)
        angles.append((scene.toys[0].yaw - scene.camera.azimuth + 180) % 360 - 180)
    front = np.mean(np.abs(angles) < 90)
    assert 0.6 < front < 0.95
    assert np.histogram(angles, 8, (-180, 180))[0].min() > 0


@pytest.mark.parametrize(("framing", "count"), [("portrait", 2), ("wide", 0), ("wide", 4)])
def test_wrong_number_of_toys(framing, count):
    with pytest.raises(ValueError, match=f"cannot hold {count}"):
        sample_scene(0, [make_toy("dog", k) for k in range(count)], framing)


# Camera and depth


def test_camera_looks_at_its_point_from_where_it_says():
    camera = Camera(30.0, 20.0, 2.0, (0.3, -0.2, 0.4))
    assert np.allclose(camera.project(np.array([[0.3, -0.2, 0.4]])), [[112, 112, 2.0]])
    around, above = np.radians(30), np.radians(20)
    direction = np.array(
        [np.cos(around) * np.cos(above), np.sin(around) * np.cos(above), np.sin(above)]
    )
    assert np.allclose(camera.position(), np.array(camera.lookat) + 2 * direction)
    pose = camera.world_from_camera()
    assert np.allclose(pose[:3, :3].T @ pose[:3, :3], np.eye(3))
    assert np.isclose(np.linalg.det(pose[:3, :3]), 1)
    upwards = camera.project(np.array([[0.3, -0.2, 0.5]]))[0]
    assert upwards[1] < 112  # y points down in the picture


def test_depth_and_pose_are_exact(renderer):
    """The ground of the picture unprojects to height 0, to well under a millimetre."""
    scene = sample_scene(1, [make_toy("mug", 1)], "wide", "sand", occluded=False)
    picture = renderer.render(scene)
    near = (picture.instance_mask == 0) & (picture.depth > 0) & (picture.depth < 8)
    near[: FRAME // 2] = False
    heights = unproject(scene.camera, picture.depth)[near][:, 2]
    assert near.sum() > 5000
    assert np.median(np.abs(heights)) < 1e-4


def test_mask_lies_where_the_toy_projects(renderer):
    for seed, name in enumerate(("car", "chair", "duck", "lamp")):
        scene = sample_scene(seed, [make_toy(name, seed)], "portrait", "wood", occluded=False)
        picture = renderer.render(scene)
        if picture.visible[0] < 1:
            continue
        projected = scene.camera.project(scene.toys[0].points)[:, :2]
        left, top, right, bottom = bounding_box(picture.instance_mask == 1)
        assert np.allclose(projected.min(axis=0), (left, top), atol=1.5), name
        assert np.allclose(projected.max(axis=0), (right, bottom), atol=1.5), name


def test_two_views_of_a_static_scene_agree(renderer):
    """Points of one view, found in another by the matrices, have the same world position there."""
    views = [view.scene for view in turntable(make_toy("house", 11), 11, "wood")]
    first, second = views[2], views[3]
    one, two = renderer.render(first), renderer.render(second)
    inner = binary_erosion(one.instance_mask == 1, iterations=2)
    world = unproject(first.camera, one.depth)[inner]
    found = second.camera.project(world)
    columns, rows = np.floor(found[:, :2]).astype(int).T
    seen = (two.instance_mask[rows, columns] == 1) & (
        np.abs(two.depth[rows, columns] - found[:, 2]) < 0.02
    )
    there = unproject(second.camera, two.depth)[rows[seen], columns[seen]]
    assert seen.mean() > 0.5
    # The other view samples the surface up to half a pixel (about 3 mm) away from the point.
    assert np.median(np.linalg.norm(there - world[seen], axis=1)) < 0.006


# Pictures


def test_same_seed_same_bytes_whatever_came_before(renderer):
    toys = [make_toy("cat", 8)]
    _, first = draw(renderer, 21, toys, "wide", "tiles")
    draw(renderer, 22, [make_toy("tree", 9), make_toy("fish", 2)], "wide", "grass")
    _, again = draw(renderer, 21, toys, "wide", "tiles")
    assert np.array_equal(first.rgb, again.rgb)
    assert np.array_equal(first.depth, again.depth)
    assert first.visible == again.visible


def test_masks_name_classes_and_instances(renderer):
    toys = [make_toy("duck", 4), make_toy("truck", 5), make_toy("duck", 6)]
    scene, picture = draw(renderer, 2, toys, "wide", "road")
    for number, item in enumerate(scene.toys, start=1):
        values = np.unique(picture.class_mask[picture.instance_mask == number])
        assert values.tolist() == [1 + CLASSES.index(item.toy.class_name)]
    assert not picture.class_mask[picture.instance_mask == 0].any()
    assert picture.rgb.shape == (FRAME, FRAME, 3)
    assert picture.rgb.dtype == np.uint8


def test_depth_is_zero_in_the_sky_only(renderer):
    toys = [make_toy("boat", 3)]
    views = [view.scene for view in turntable(toys[0], 3, "sand")]
    low = next(scene for scene in views if scene.camera.elevation == 8)
    picture = renderer.render(low)
    sky = picture.depth == 0
    assert 0.05 < sky.mean() < 0.6
    assert not sky[FRAME // 2 :].any()
    inside = renderer.render(next(turntable(toys[0], 3, "carpet")).scene)
    assert (inside.depth > 0).all()


def test_visible_fraction_counts_what_the_occluder_hides(renderer):
    view = next(turntable(make_toy("tree", 7), 7, "grass")).scene
    free = renderer.render(view)
    _, picture = draw_occluded(renderer, 7, view)
    hidden = (free.instance_mask == 1) & (picture.instance_mask == 0)
    assert free.visible == (1.0,)
    assert LEAST_VISIBLE <= picture.visible[0] <= HARDLY_HIDDEN
    assert picture.visible[0] == pytest.approx(1 - hidden.sum() / (free.instance_mask == 1).sum())


def test_hidden_and_tiny_toys_are_not_presentable(renderer):
    scene, picture = draw(renderer, 5, [make_toy("snowman", 5)], "wide", "grass", occluded=False)
    assert is_presentable(picture, scene)
    assert not is_presentable(replace(picture, visible=(0.3,)), scene)
    assert not is_presentable(replace(picture, wall=0.8), scene)
    assert not is_presentable(replace(picture, rgb=np.zeros_like(picture.rgb)), scene)
    tiny = np.zeros_like(picture.instance_mask)
    tiny[:10, :10] = 1
    assert not is_presentable(replace(picture, instance_mask=tiny), scene)
    assert not is_presentable(picture, replace(scene, occluded=True))


def test_occluder_stands_before_the_toy():
    scene = next(turntable(make_toy("house", 2), 2, "snow")).scene
    hidden = next(found for seed in range(20) if (found := with_occluder(seed, scene)))
    camera, prop = hidden.camera.position(), hidden.placed[-1]
    assert prop.role == "prop"
    assert np.linalg.norm(camera - np.array(prop.position)) < np.linalg.norm(camera)


def test_turntable_is_one_scene_from_all_sides():
    views = list(turntable(make_toy("airplane", 1), 1, "carpet"))
    kinds = [view.kind for view in views]
    assert [kinds.count(k) for k in ("turntable", "elevation", "relit", "occluded")] == [
        24,
        8,
        4,
        4,
    ]
    assert len({view.scene.camera.azimuth for view in views if view.kind == "turntable"}) == 24
    assert {view.scene.camera.elevation for view in views} == {8.0, 20.0, 38.0}
    assert {id(view.scene.placed[0]) for view in views} == {id(views[0].scene.placed[0])}
    lights = {view.light_id: view.scene.light for view in views}
    assert sorted(lights) == [0, 1, 2, 3, 4]
    assert len(set(lights.values())) == 5
    for view in views:
        box = view.scene.camera.project(view.scene.placed[0].points)[:, :2] / FRAME
        assert box.min() > 0.05 and box.max() < 0.95
        room = view.scene.walls[0].distance
        assert np.linalg.norm(view.scene.camera.position()[:2]) < room


def test_planes_get_no_ambient_occlusion():
    v, u = np.mgrid[0:FRAME, 0:FRAME]
    plane = 1 / (0.2 + 0.001 * v + 0.0005 * u)
    interior = ambient_occlusion(plane)[30:-30, 30:-30]
    assert np.allclose(interior, 1, atol=1e-4)
    corner = 1 / (0.2 + 0.002 * np.abs(v - 112))  # a ridge away from the camera: a groove
    assert ambient_occlusion(corner)[112].mean() < 0.97


# Captions


def scene_of(*toys, surface="grass", height=0.0):
    scene = sample_scene(0, [make_toy("mug", 1)], "wide", surface)
    placed = tuple(Placed(make_toy(name, 1, colour), (0, 0, height)) for name, colour in toys)
    return replace(scene, placed=placed)


@pytest.mark.parametrize(
    ("toys", "surface", "english", "chinese"),
    [
        ([("duck", "yellow")], "grass", "a yellow duck", "一只黄色的鸭子"),
        ([("cat", "orange")], "wood", "an orange cat", "一只橙色的猫"),
        ([("snowman", "red")], "snow", "a snowman with a red scarf", "一个围着红色围巾的雪人"),
        ([("snowman", "orange")], "snow", "with an orange scarf", "围着橙色围巾"),
        ([("car", "red"), ("car", "red")], "road", "two red cars", "两辆红色的小汽车"),
        (
            [("fish", "blue"), ("mug", "white"), ("tree", "green")],
            "sand",
            "a blue fish, a white mug and a green tree",
            "一条蓝色的鱼、一个白色的马克杯和一棵绿色的树",
        ),
        (
            [("boat", "red"), ("boat", "blue")],
            "water",
            "two boats (one red, one blue)",
            "两艘船（一艘是红色的，一艘是蓝色的）",
        ),
        (
            [("snowman", "red"), ("snowman", "red"), ("snowman", "blue")],
            "snow",
            "three snowmen (two with red scarves, one with a blue scarf)",
            "三个雪人（两个围着红色围巾，一个围着蓝色围巾）",
        ),
    ],
)
def test_captions_say_what_is_there(toys, surface, english, chinese):
    scene = scene_of(*toys, surface=surface)
    for seed in range(6):
        in_english, in_chinese = captions.caption(replace(scene, seed=seed))
        assert english in in_english
        assert captions.PLACES[surface][0] in in_english
        assert chinese in in_chinese
        assert captions.PLACES[surface][1] in in_chinese


def test_captions_vary_by_seed_only():
    scene = scene_of(("duck", "yellow"))
    texts = {captions.caption(replace(scene, seed=seed)) for seed in range(60)}
    assert len({english for english, _ in texts}) == len(captions.TEMPLATES)
    assert len({chinese for _, chinese in texts}) == len(captions.TEMPLATES_ZH)
    assert captions.caption(scene) == captions.caption(scene)


def test_flying_toys_are_said_to_fly():
    english, chinese = captions.caption(scene_of(("airplane", "white"), height=0.4))
    assert english == "a white airplane flying over grass"
    assert chinese == "一架白色的飞机在草地上空飞行"


def test_every_class_and_colour_has_words():
    assert set(captions.NOUNS) == set(CLASSES)
    assert set(captions.PLACES) == set(SURFACES)
    worn = {
        colour for table in (PALETTES, EXCEPTIONS) for names in table.values() for colour in names
    }
    assert worn <= set(captions.COLOURS_ZH)


# Export and material


def test_split_plans_share_no_toy_and_only_test_has_exceptions():
    plans = {split: scene_orders(split) for split in ("train", "test")}
    assert [len(plan) for plan in plans.values()] == [480, 320]
    for split, plan in plans.items():
        seeds = [seed for order in plan for _, seed, _ in order.toys]
        assert len(seeds) == len(set(seeds))
        assert all(seed in POOLS[split] for seed in seeds)
        alone = [order.toys[0][0] for order in plan if len(order.toys) == 1]
        assert {alone.count(name) for name in CLASSES} == {24 if split == "train" else 16}
        asked = [colour for order in plan for _, _, colour in order.toys]
        unusual = np.mean([colour is not None for colour in asked])
        assert unusual == 0 if split == "train" else 0.15 < unusual < 0.25
        for order in plan:
            for name, _, colour in order.toys:
                assert colour is None or colour in EXCEPTIONS[name]


def test_description_matches_the_masks(renderer):
    toys = [make_toy("chair", 1, "red"), make_toy("mug", 2, EXCEPTIONS["mug"][0])]
    scene, picture = draw(renderer, 12, toys, "wide", "carpet")
    row = describe(scene, picture)
    assert [one["usual_colour"] for one in row["objects"]] == [
        "red" in PALETTES["chair"],
        False,
    ]
    for one in row["objects"]:
        left, top, right, bottom = one["bbox"]
        mask = picture.instance_mask == one["instance"]
        assert mask[top:bottom, left:right].sum() == mask.sum()
        assert mask[top].any() and mask[bottom - 1].any()
    assert row["indoor"] and row["surface"] == "carpet"
    pose = np.array(row["camera"]["world_from_camera"])
    assert np.allclose(pose, scene.camera.world_from_camera(), atol=1e-5)


def test_material_is_rendered_once(renderer, monkeypatch, tmp_path):
    monkeypatch.setattr(workers, "_open", [renderer])
    toys = Shard(tmp_path / "toys.npy", 3, 5, any_colour=0.0, views=2)
    scenes = Shard(tmp_path / "scenes.npy", 0, 2, any_colour=0.5)
    assert render_shard(toys) == render_shard(scenes) == 2
    assert np.load(toys.path).shape == (2, 2, FRAME, FRAME, 3)
    assert np.load(scenes.path).shape == (2, FRAME, FRAME, 3)
    labels = toys.path.with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in labels]
    assert [row["class"] for row in rows] == ["truck", "airplane"]
    assert [view["framing"] for view in rows[0]["views"]] == ["portrait", "wide"]
    for line in scenes.path.with_suffix(".jsonl").read_text(encoding="utf-8").splitlines():
        places = [toy["x"] for toy in json.loads(line)["objects"]]
        assert len(places) in (2, 3) and places == sorted(places)
    written = toys.path.stat().st_mtime_ns
    render_shard(toys)
    assert toys.path.stat().st_mtime_ns == written


def test_voc_palette_starts_as_published():
    palette = np.array(voc_palette(256)).reshape(-1, 3)
    assert palette[:4].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    assert palette[15].tolist() == [192, 128, 128]
    assert palette[255].tolist() == [224, 224, 192]


def test_contrast_is_the_distance_of_a_toy_from_the_colour_around_it():
    picture = np.full((60, 60, 3), 128, np.uint8)
    toy = np.zeros((60, 60), bool)
    toy[20:40, 20:40] = True
    solid = np.ones((60, 60), bool)
    assert contrast(picture, toy, solid) == pytest.approx(0, abs=1e-6)
    solid[:25] = False
    picture[:25] = 255  # a bright sky behind the toy's upper part counts on the toy alone
    toy_is_bright = picture.copy()
    toy_is_bright[toy] = 255
    assert contrast(toy_is_bright, toy, solid) == pytest.approx(100 - 53.585, abs=0.1)
    picture[toy] = 128
    assert contrast(picture, toy, solid) == pytest.approx(0, abs=1e-6)


def test_camouflaged_toys_wear_usual_colours():
    assert {name for name, _, _ in CAMOUFLAGES} == set(CLASSES)
    assert {surface for _, surface, _ in CAMOUFLAGES} == set(SURFACES)
    assert all(colour in PALETTES[name] for name, _, colour in CAMOUFLAGES)
