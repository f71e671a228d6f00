"""Renders scenes with MuJoCo: colour, depth, masks; judges whether a picture is worth keeping."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

# MuJoCo and Mesa read these once, when they are loaded. One drawing thread a process is fastest:
# the pictures are small, and there is one process per core.
if sys.platform == "linux":
    os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("LP_NUM_THREADS", "1")

try:
    import mujoco
except Exception as error:  # Without an OpenGL library, PyOpenGL fails in ways of its own.
    raise ImportError(
        "rendering needs MuJoCo (pip install '.[train]') and, on Linux without a screen, EGL "
        "(Debian and Ubuntu: apt install libegl1 libegl-mesa0)"
    ) from error

import numpy as np
from PIL import Image

from training.world.colours import Colour
from training.world.compose import sample_scene, with_occluder
from training.world.postprocess import add_sky, ambient_occlusion, grade
from training.world.scene import FRAME, WALL_PAINTS, Framing, Placed, Scene, Seed, Wall, entropy
from training.world.surfaces import REFLECTANCE, REPEAT, surface_texture
from training.world.toys import CLASSES, Toy

OVERSAMPLING = 2  # the colour pass has this many pixels per pixel and side
CANVAS = FRAME * OVERSAMPLING
EXTENT = 2.2  # metres; MuJoCo measures its clipping planes in these
Z_NEAR, Z_FAR = 0.01, 60.0  # in extents

# Geom groups say whom a pixel belongs to; the toys have groups 1 to 3.
GROUND, PROPS, WALLS = 0, 4, 5
NOTHING = 6  # the sky: not a group, but kept in the same arrays

# (specular, shininess, emission) of the materials.
FINISH = {
    "matte": (0.0, 0.0, 0.0),
    "satin": (0.12, 0.25, 0.0),
    "gloss": (0.5, 0.6, 0.0),
    "glow": (0.1, 0.2, 0.5),
    "shade": (0.05, 0.1, 0.25),
    "wall": (0.0, 0.0, 0.15),
}
SKIRTING = (0.90, 0.89, 0.87)

LEAST_VISIBLE = 0.45  # share of a toy that must not be hidden
HARDLY_HIDDEN = 0.94  # an occluder that leaves more of the toy is none
LEAST_AREA = 0.012  # share of the frame that every toy must fill
MOST_WALL = 0.55
REDRAWS = 60


@dataclass(frozen=True)
class Picture:
    """A rendered scene.

    Attributes:
        rgb: (224, 224, 3) uint8.
        depth: (224, 224) float32, metres along the view axis; 0 where there is nothing (sky).
        class_mask: (224, 224) uint8, 0 background, else 1 + index in ``CLASSES``.
        instance_mask: (224, 224) uint8, 0 background, else the number of the toy from 1.
        visible: per toy, the share of its pixels that neither prop nor other toy hides.
        wall: share of the frame filled by walls.
    """

    rgb: np.ndarray
    depth: np.ndarray
    class_mask: np.ndarray
    instance_mask: np.ndarray
    visible: tuple[float, ...]
    wall: float


class Renderer:
    """An offscreen OpenGL context. Use it in a ``with`` block, one per process."""

    def __enter__(self) -> Renderer:
        """Opens the context."""
        self._gl = mujoco.GLContext(CANVAS, CANVAS)
        self._gl.make_current()
        return self

    def __exit__(self, *exc: object) -> None:
        """Closes the context."""
        self._gl.free()

    def render(self, scene: Scene) -> Picture:
        """Draws a scene.

        Args:
            scene: what to draw.

        Returns:
            The picture with its ground truth.
        """
        passes = Passes(scene)
        try:
            return passes.picture()
        finally:
            passes.free()


class Passes:
    """One scene on the graphics device, drawn several times in different ways."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.model = _model(scene)
        self.data = mujoco.MjData(self.model)
        mujoco.mj_forward(self.model, self.data)
        self.context = mujoco.MjrContext(self.model, mujoco.mjtFontScale.mjFONTSCALE_50)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self.context)
        self.context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self.items = mujoco.MjvScene(self.model, maxgeom=self.model.ngeom + 16)
        self.camera = mujoco.MjvCamera()
        camera = scene.camera
        # MuJoCo counts both angles from the camera towards the point it looks at.
        self.camera.azimuth, self.camera.elevation = camera.azimuth + 180, -camera.elevation
        self.camera.distance, self.camera.lookat = camera.distance, camera.lookat

    def free(self) -> None:
        """Gives the scene's memory on the device back."""
        self.context.free()

    def picture(self) -> Picture:
        """Draws all passes and joins them."""
        colour, cover = self._colour()
        owner, depth = self.owners()
        image = colour * ambient_occlusion(depth)[..., None]
        if not self.scene.indoor:
            image = add_sky(image, depth, 1 - cover, self.scene)
        toys = self.scene.toys
        instance = np.where((owner >= 1) & (owner <= len(toys)), owner, 0).astype(np.uint8)
        labels = np.array([0, *(1 + CLASSES.index(item.toy.class_name) for item in toys)])
        return Picture(
            rgb=grade(image, self.scene.light.warmth),
            depth=np.where(owner == NOTHING, 0, depth).astype(np.float32),
            class_mask=labels[instance].astype(np.uint8),
            instance_mask=instance,
            visible=self._visible(owner),
            wall=float((owner == WALLS).mean()),
        )

    def select(self, groups: Sequence[int]) -> None:
        """Chooses the geom groups that the next pass draws."""
        option = mujoco.MjvOption()
        option.geomgroup[:] = np.isin(np.arange(len(option.geomgroup)), groups)
        mujoco.mjv_updateScene(
            self.model,
            self.data,
            option,
            None,
            self.camera,
            mujoco.mjtCatBit.mjCAT_ALL,
            self.items,
        )

    def draw(self, size: int, **flags: bool) -> tuple[np.ndarray, np.ndarray]:
        """Draws size x size pixels; returns colours (uint8) and raw depth, top row first."""
        for name in ("SHADOW", "REFLECTION", "SEGMENT", "IDCOLOR", "HAZE", "SKYBOX"):
            self.items.flags[getattr(mujoco.mjtRndFlag, f"mjRND_{name}")] = flags.get(name, False)
        area = mujoco.MjrRect(0, 0, size, size)
        colour = np.empty((size, size, 3), np.uint8)
        depth = np.empty((size, size), np.float32)
        mujoco.mjr_render(area, self.items, self.context)
        mujoco.mjr_readPixels(colour, depth, area, self.context)
        return colour[::-1], depth[::-1]

    def _colour(self) -> tuple[np.ndarray, np.ndarray]:
        """The shaded picture, (FRAME, FRAME, 3) in [0, 1], and how much of each pixel is filled."""
        self.select(range(NOTHING))
        for geom in self.items.geoms[: self.items.ngeom]:
            if self.model.geom_group[geom.objid] in (GROUND, WALLS):
                # MuJoCo gives decoration no shadow: the sun shines into the room, and the ground
                # is not speckled by its own shadow.
                geom.category = mujoco.mjtCatBit.mjCAT_DECOR
        colour, depth = self.draw(
            CANVAS, SHADOW=True, REFLECTION=REFLECTANCE[self.scene.surface] > 0
        )
        return shrink(colour), shrink(np.where(depth > 0, np.uint8(255), np.uint8(0)))

    def owners(self, groups: Sequence[int] = range(NOTHING)) -> tuple[np.ndarray, np.ndarray]:
        """Whose each pixel is, (FRAME, FRAME) geom groups, and its depth in metres."""
        self.select(groups)
        code, raw = self.draw(FRAME, SEGMENT=True, IDCOLOR=True)
        number = code.astype(np.int64) @ (1, 256, 65536)
        owner = np.full(self.items.ngeom + 1, NOTHING)
        for geom in self.items.geoms[: self.items.ngeom]:
            owner[geom.segid + 1] = self.model.geom_group[geom.objid]
        near, far = Z_NEAR * EXTENT, Z_FAR * EXTENT
        depth = near * far / (far - near) / (raw.astype(np.float64) + near / (far - near))
        return owner[number], depth

    def _visible(self, owner: np.ndarray) -> tuple[float, ...]:
        """Per toy, its visible pixels over those it has with all other objects taken away."""
        if len(self.scene.placed) == 1:
            return (1.0,)
        shares = []
        for number in range(1, len(self.scene.toys) + 1):
            alone = (self.owners((GROUND, number))[0] == number).sum()
            shares.append(float((owner == number).sum() / max(alone, 1)))
        return tuple(shares)


def shrink(pixels: np.ndarray) -> np.ndarray:
    """Means of OVERSAMPLING x OVERSAMPLING blocks of uint8 pixels, float32 in [0, 1]."""
    return np.asarray(Image.fromarray(pixels).reduce(OVERSAMPLING), dtype=np.float32) / 255


def _model(scene: Scene) -> mujoco.MjModel:
    """The scene as a MuJoCo model whose geom groups say whom each geom belongs to."""
    spec = mujoco.MjSpec()
    spec.stat.extent, spec.stat.center = EXTENT, (0, 0, 0.3)
    visual = spec.visual
    visual.global_.offwidth = visual.global_.offheight = CANVAS
    visual.global_.fovy = scene.camera.fovy
    visual.quality.shadowsize, visual.quality.offsamples = 2048, 0
    visual.map.znear, visual.map.zfar, visual.map.shadowclip = Z_NEAR, Z_FAR, 1.2
    _add_lights(spec, scene)
    _add_ground(spec, scene)
    for wall in scene.walls:
        _add_wall(spec, wall, scene)
    toys = 0
    for item in scene.placed:
        if item.role == "toy":
            toys += 1
        _add_item(spec, item, toys if item.role == "toy" else PROPS)
    return spec.compile()


def _add_lights(spec: mujoco.MjSpec, scene: Scene) -> None:
    """The sun with its shadow, and a weak light from the other side that fills the shadows."""
    light, directional = scene.light, mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
    sun = np.array(light.sun_direction)
    head = spec.visual.headlight
    head.ambient, head.diffuse, head.specular = light.ambient, (0.08,) * 3, (0.0,) * 3
    spec.worldbody.add_light(
        pos=4 * sun,
        dir=-sun,
        type=directional,
        castshadow=True,
        diffuse=light.sun,
        specular=(0.35,) * 3,
        ambient=(0.0,) * 3,
    )
    spec.worldbody.add_light(
        pos=(-4 * sun[0], -4 * sun[1], 3),
        dir=(sun[0], sun[1], -0.8),
        type=directional,
        castshadow=False,
        diffuse=(0.13, 0.14, 0.17),
        specular=(0.0,) * 3,
    )


def _turn(azimuth: float) -> tuple[float, float, float, float]:
    """The quaternion of a turn around z by degrees."""
    half = np.radians(azimuth) / 2
    return float(np.cos(half)), 0.0, 0.0, float(np.sin(half))


def _add_ground(spec: mujoco.MjSpec, scene: Scene) -> None:
    pixels = surface_texture(scene.surface, scene.variant)
    height, width, _ = pixels.shape
    texture = spec.add_texture(
        name="ground", type=mujoco.mjtTexture.mjTEXTURE_2D, width=width, height=height, nchannel=3
    )
    texture.data = pixels.tobytes()
    material = spec.add_material(
        name="ground",
        texuniform=True,
        texrepeat=[REPEAT[scene.surface] * scene.ground_scale] * 2,
        specular=0.05,
        shininess=0.1,
        reflectance=REFLECTANCE[scene.surface],
    )
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "ground"
    spec.worldbody.add_geom(
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=(30, 30, 0.1),
        quat=_turn(scene.ground_turn),
        material="ground",
        group=GROUND,
    )


def _add_wall(spec: mujoco.MjSpec, wall: Wall, scene: Scene) -> None:
    """A painted wall above a skirting board, flush, so that no thin edge flickers between them."""
    thickness, skirting, height = 0.05, 0.16, 6.0
    away = np.array([np.cos(np.radians(wall.azimuth)), np.sin(np.radians(wall.azimuth))])
    x, y = away * (wall.distance + thickness)
    for low, high, colour in (
        (0.0, skirting, SKIRTING),
        (skirting, height, WALL_PAINTS[scene.wall_paint]),
    ):
        spec.worldbody.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=(thickness, 9, (high - low) / 2),
            pos=(x, y, (low + high) / 2),
            quat=_turn(wall.azimuth),
            material=_paint(spec, colour, "wall"),
            group=WALLS,
        )


def _add_item(spec: mujoco.MjSpec, item: Placed, group: int) -> None:
    """A toy or prop: one mesh for all its parts of one paint."""
    paints = defaultdict(list)
    for part in item.toy.parts:
        paints[_paint(spec, part.colour, part.material)].append(part.mesh)
    for material, meshes in paints.items():
        starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
        vertices = item.to_world(np.concatenate([mesh.vertices for mesh in meshes]))
        faces = [mesh.faces + start for mesh, start in zip(meshes, starts, strict=False)]
        mesh = spec.add_mesh(name=f"mesh{len(spec.meshes)}")
        mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL  # a volume may be open
        mesh.uservert = vertices.astype(np.float32).ravel()
        mesh.userface = np.concatenate(faces).astype(np.int32).ravel()
        spec.worldbody.add_geom(
            type=mujoco.mjtGeom.mjGEOM_MESH,
            meshname=mesh.name,
            material=material,
            group=group,
            contype=0,
            conaffinity=0,
        )


def _paint(spec: mujoco.MjSpec, colour: Colour, finish: str) -> str:
    """The name of the material with this colour and finish, added on first use."""
    name = f"{finish} {colour}"
    if spec.material(name) is None:
        specular, shininess, emission = FINISH[finish]
        spec.add_material(
            name=name,
            rgba=(*colour, 1),
            specular=specular,
            shininess=shininess,
            emission=emission,
        )
    return name


def is_presentable(picture: Picture, scene: Scene) -> bool:
    """Whether a picture shows its toys well.

    Args:
        picture: the rendered scene.
        scene: what was rendered.

    Returns:
        False if a toy is mostly hidden, tiny or hard to tell from what is around it, if an
        intended occluder hides nothing, or if the picture is mostly wall, black or white.
    """
    if min(picture.visible) < LEAST_VISIBLE or picture.wall > MOST_WALL:
        return False
    if scene.occluded and min(picture.visible) > HARDLY_HIDDEN:
        return False
    areas = np.bincount(picture.instance_mask.ravel(), minlength=len(scene.toys) + 1)[1:]
    if areas.min() < LEAST_AREA * FRAME * FRAME:
        return False
    brightness = picture.rgb.mean(axis=-1)
    return bool((brightness < 25).mean() < 0.4 and (brightness > 250).mean() < 0.5)


def draw(
    renderer: Renderer,
    seed: Seed,
    toys: Sequence[Toy],
    framing: Framing = "portrait",
    surface: str | None = None,
    occluded: bool | None = None,
) -> tuple[Scene, Picture]:
    """Samples and renders until the picture is presentable.

    Args:
        renderer: an open renderer.
        seed: the same seed gives the same scene and, on the same machine, the same bytes.
        toys: as in ``sample_scene``, like ``framing``, ``surface`` and ``occluded``.
        framing: 'portrait' or 'wide'.
        surface: a name from ``SURFACES``; drawn if None.
        occluded: whether a prop stands partly in front of a toy; drawn if None.

    Returns:
        The scene, with the caller's seed, and its picture.

    Raises:
        RuntimeError: nothing presentable came of many tries.
    """
    for attempt in range(REDRAWS):
        scene = sample_scene(entropy(seed, attempt), toys, framing, surface, occluded)
        picture = renderer.render(scene)
        if is_presentable(picture, scene):
            return replace(scene, seed=seed), picture
    raise RuntimeError(f"no presentable {framing} picture of {toys} from seed {seed}")


def draw_occluded(renderer: Renderer, seed: Seed, scene: Scene) -> tuple[Scene, Picture]:
    """Puts a prop in front of a scene's toy so that part of the toy, but not most, is hidden.

    Args:
        renderer: an open renderer.
        seed: of the prop and its place.
        scene: without an occluder.

    Returns:
        The scene with the prop, and its picture.

    Raises:
        RuntimeError: no prop of many was right.
    """
    for attempt in range(REDRAWS):
        hidden = with_occluder(entropy(seed, attempt), scene)
        if hidden is not None:
            picture = renderer.render(hidden)
            if is_presentable(picture, hidden):
                return hidden, picture
    raise RuntimeError(f"found no prop to put in front of {scene.toys[0].toy.toy_id}")
