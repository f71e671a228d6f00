"""The toys and surfaces of the sample world: same seed same toy, well-formed, as the data says."""

import hashlib
import os
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from training.world import meshes, surfaces
from training.world.colours import COLOURS
from training.world.toys import (
    CLASSES,
    EXCEPTIONS,
    MATERIALS,
    PALETTES,
    POOLS,
    make_prop,
    make_toy,
    with_flame,
)

ROOT = Path(__file__).resolve().parents[1]
SEEDS = (0, 1, 2, 3, 1_000_007, 2_999_999)

PRIMITIVES = {
    "sphere": (meshes.sphere(), 4 / 3 * np.pi),
    "rounded box": (meshes.superellipsoid(0.32), None),
    "box": (meshes.box(), 8.0),
    "cylinder": (meshes.cylinder(64), 2 * np.pi),
    "cone": (meshes.cone(64), np.pi / 3),
    "dome": (meshes.dome(48, 24), 2 / 3 * np.pi),
    "torus": (meshes.torus(0.25, 64, 32), 2 * np.pi**2 * 0.25**2),
    "wall": (meshes.revolve([(1, 1), (1, 0), (2, 0), (2, 1)], 64, closed=True), 3 * np.pi),
    "triangle": (meshes.extrude([(0, 0), (1, 0), (0, 1)]), 1.0),
    "triangle, other order": (meshes.extrude([(0, 1), (1, 0), (0, 0)]), 1.0),
    "capsule": (meshes.capsule((1, 2, 3), (1, -1, 3.5), 0.3, 0.2), None),
    "tube": (meshes.tube(np.linspace((0, 0, 0), (3, 4, 0), 5), 0.5, 64), 5 * np.pi / 4),
    "mirrored box": (meshes.box().scaled((1, -2, 1)), 16.0),
}


def signed_volume(mesh):
    """Positive if the faces are counter-clockwise seen from outside."""
    a, b, c = (mesh.vertices[mesh.faces[:, corner]] for corner in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


def open_edges(mesh):
    """Directed edges, by position, that no other face runs through the other way."""
    points = [tuple(point) for point in np.round(mesh.vertices, 7) + 0.0]
    edges = Counter()
    for a, b, c in mesh.faces:
        for start, end in ((a, b), (b, c), (c, a)):
            edges[points[start], points[end]] += 1
    return [edge for edge, count in edges.items() if edges[edge[::-1]] != count]


def digest(toy):
    result = hashlib.sha256()
    for part in toy.parts:
        result.update(part.mesh.vertices.tobytes() + part.mesh.faces.tobytes())
        result.update(repr((part.colour, part.material)).encode())
    return result.hexdigest()


@pytest.mark.parametrize("name", PRIMITIVES)
def test_primitives_are_closed_and_wound_outward(name):
    mesh, volume = PRIMITIVES[name]
    assert not open_edges(mesh)
    assert signed_volume(mesh) > 0
    if volume is not None:
        assert signed_volume(mesh) == pytest.approx(volume, rel=0.05)
    corners = mesh.vertices[mesh.faces]
    areas = np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    assert areas.min() > 1e-9


def test_capsule_runs_between_its_ends():
    mesh = meshes.capsule((1, 2, 3), (1, -1, 3), 0.3, 0.2)
    np.testing.assert_allclose(mesh.vertices.min(axis=0), [0.7, -1.2, 2.7], atol=0.01)
    np.testing.assert_allclose(mesh.vertices.max(axis=0), [1.3, 2.3, 3.3], atol=0.01)


def test_rotation_turns_about_x_then_y_then_z():
    np.testing.assert_allclose(meshes.rotation_matrix(z=90) @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(meshes.rotation_matrix(90, 90) @ [0, 1, 0], [1, 0, 0], atol=1e-12)


def test_every_process_makes_the_same_toys():
    script = (
        "from tests.test_world_assets import CLASSES, digest, make_toy\n"
        "print(*(digest(make_toy(name, 1_234_567)) for name in CLASSES))"
    )
    expected = [digest(make_toy(name, 1_234_567)) for name in CLASSES]
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        output = subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert output.split() == expected


@pytest.mark.parametrize("class_name", CLASSES)
def test_toys_are_well_formed(class_name):
    for seed in SEEDS:
        toy = make_toy(class_name, seed)
        points = np.concatenate([part.mesh.vertices for part in toy.parts])
        low, high = points.min(axis=0), points.max(axis=0)
        assert low[2] == pytest.approx(0, abs=1e-9)
        np.testing.assert_allclose(low[:2], -high[:2], atol=1e-9)
        assert 0.84 < (high - low).max() < 1.11
        assert toy.height == pytest.approx(high[2])
        assert toy.radius == pytest.approx(np.hypot(points[:, 0], points[:, 1]).max())
        assert sum(len(part.mesh.faces) for part in toy.parts) < 12_000
        for part in toy.parts:
            assert part.material in MATERIALS
            assert len(part.colour) == 3
            assert min(part.colour) >= 0
            assert max(part.colour) <= 1
            assert signed_volume(part.mesh.moved(-part.mesh.vertices.mean(axis=0))) > 0


@pytest.mark.parametrize("class_name", CLASSES)
def test_colour_changes_no_vertex(class_name):
    for seed in SEEDS[:3]:
        variants = [make_toy(class_name, seed, colour) for colour in COLOURS]
        assert len({digest(toy) for toy in variants}) == len(COLOURS)
        for toy in variants[1:]:
            for part, other in zip(toy.parts, variants[0].parts, strict=True):
                np.testing.assert_array_equal(part.mesh.vertices, other.mesh.vertices)


@pytest.mark.parametrize("class_name", CLASSES)
def test_seeds_change_the_proportions(class_name):
    sizes = {(make_toy(class_name, s).radius, make_toy(class_name, s).height) for s in range(8)}
    assert len(sizes) == 8


@pytest.mark.parametrize("class_name", CLASSES)
def test_the_named_colour_is_on_the_toy(class_name):
    for colour, value in COLOURS.items():
        toy = make_toy(class_name, 5, colour)
        assert toy.colour == colour
        distance = [np.abs(np.subtract(part.colour, value)).max() for part in toy.parts]
        assert min(distance) < 0.18


def test_colour_is_drawn_from_the_palette():
    for class_name in CLASSES:
        drawn = {make_toy(class_name, seed).colour for seed in range(25)}
        assert drawn == set(PALETTES[class_name])


def test_palettes_tell_colour_and_class_apart():
    assert tuple(PALETTES) == tuple(EXCEPTIONS) == CLASSES
    assert len(CLASSES) == 16
    for class_name in CLASSES:
        assert 3 <= len(set(PALETTES[class_name])) == len(PALETTES[class_name]) <= 5
        assert len(set(EXCEPTIONS[class_name])) == 2
        assert not set(PALETTES[class_name]) & set(EXCEPTIONS[class_name])
    usual = Counter(colour for palette in PALETTES.values() for colour in palette)
    assert set(usual) == set(COLOURS)
    assert min(usual.values()) >= 2
    assert {colour for pair in EXCEPTIONS.values() for colour in pair} <= set(COLOURS)


def test_pools_are_disjoint():
    seeds = sorted((pool.start, pool.stop) for pool in POOLS.values())
    assert set(POOLS) == {"pretrain", "train", "test"}
    assert all(end <= start for (_, end), (start, _) in pairwise(seeds))


def test_abilities():
    able = {name: make_toy(name, 0) for name in CLASSES}
    assert {name for name, toy in able.items() if toy.flies} == {"airplane"}
    assert {name for name, toy in able.items() if toy.floats} == {"boat", "duck"}
    assert {name for name, toy in able.items() if toy.launches} == {"rocket"}


def test_flame_leaves_the_nozzle_downwards():
    rocket = make_toy("rocket", 3)
    burning = with_flame(rocket)
    assert burning.parts[: len(rocket.parts)] == rocket.parts
    flame = np.concatenate([part.mesh.vertices for part in burning.parts[len(rocket.parts) :]])
    assert flame[:, 2].min() < 0 < rocket.nozzle.height
    assert np.hypot(flame[:, 0], flame[:, 1]).max() < rocket.radius
    with pytest.raises(ValueError, match="dog has no nozzle"):
        with_flame(make_toy("dog", 0))


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="unknown class 'horse'"):
        make_toy("horse", 0)
    with pytest.raises(ValueError, match="unknown colour 'teal'"):
        make_toy("dog", 0, "teal")


def test_props_rest_on_the_ground():
    heights = set()
    for seed in range(12):
        prop = make_prop(np.random.default_rng(seed))
        assert digest(prop) == digest(make_prop(np.random.default_rng(seed)))
        assert (prop.class_name, prop.colour) == ("prop", "")
        assert min(part.mesh.vertices[:, 2].min() for part in prop.parts) == pytest.approx(0)
        assert prop.height < 0.7
        heights.add(prop.height)
    assert len(heights) == 12


@pytest.mark.parametrize("surface", surfaces.SURFACES)
def test_textures_tile(surface):
    seen = set()
    for variant in range(surfaces.N_VARIANTS[surface]):
        texture = surfaces.surface_texture(surface, variant)
        assert texture.shape == (512, 512, 3)
        assert texture.dtype == np.uint8
        seen.add(texture.tobytes())
        for axis in (0, 1):
            image = texture.astype(float)
            steps = np.abs(image - np.roll(image, -1, axis)).mean(axis=(1 - axis, 2))
            # The step from the last row to the first is like one of those inside.
            assert steps[-1] <= 1.1 * steps[:-1].max()
    assert len(seen) == surfaces.N_VARIANTS[surface]


def test_texture_errors_and_caching():
    assert surfaces.surface_texture("snow", 0) is surfaces.surface_texture("snow", 0)
    assert not surfaces.surface_texture("snow", 0).flags.writeable
    with pytest.raises(ValueError, match="unknown surface 'lava'"):
        surfaces.surface_texture("lava", 0)
    with pytest.raises(ValueError, match="snow has variants 0 to 1, not 2"):
        surfaces.surface_texture("snow", 2)


def test_tables_cover_all_surfaces():
    for table in (surfaces.N_VARIANTS, surfaces.REPEAT, surfaces.REFLECTANCE):
        assert tuple(table) == surfaces.SURFACES
    assert tuple(surfaces.HILL_COLOURS) == surfaces.OUTDOOR


def test_sky_fields():
    clouds, hills = surfaces.cloud_fields(), surfaces.hill_profiles()
    assert clouds.shape == (4, 512, 512)
    assert clouds.dtype == np.float32
    np.testing.assert_allclose(clouds.mean(axis=(1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(clouds.std(axis=(1, 2)), 1, atol=1e-4)
    assert hills.shape == (4, 720)
    assert hills.min() >= 0
    assert hills.max() <= 1
    steps = np.abs(hills - np.roll(hills, -1, axis=1))
    assert (steps[:, -1] <= steps[:, :-1].max(axis=1)).all()
