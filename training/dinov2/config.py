"""Every number of the recipe, in one place."""

from dataclasses import dataclass

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Recipe:
    """Model, data diet, losses and schedule of one training run.

    The schedule counts steps, never seconds, so a stalled or resumed run is the same run.

    Attributes:
        width: Hidden size of the vision transformer.
        depth: Number of layers.
        heads: Attention heads per layer.
        steps: Optimiser steps in all.
        toys: Toys per step; of each, two different renders are the two views.
        scenes: Scenes of several toys per step; two crops of one picture are the two views.
        phases: ``(first step as a share of all, side of the global crops, batch share)``.
        local_crops: Local crops per picture pair, half from each view.
        local_ratio: Side of a local crop as a share of a global one.
        prototypes: Prototypes of the DINO and of the iBOT head.
        learning_rate: Peak of a cosine schedule with linear warm-up.
        warmup: Share of the steps that warm up.
        weight_decay: Start and end of a cosine.
        momentum: Start of the teacher's momentum; a cosine takes it to 1.
        teacher_temperature: Start, and value from 30 % of the steps on.
        student_temperature: Temperature of the student's softmax.
        contrast_temperature: Temperature of the contrastive losses.
        mask_ratio: Smallest and largest share of masked patches.
        recolour: Share of the crops whose hue turns by any angle, each crop's by its own. Without
            it, a model takes the usual colours of a class for a part of it.
        weights: Weight of each loss.
        seed: Seed of initialisation, crops and batches.
    """

    width: int = 192
    depth: int = 8
    heads: int = 6
    steps: int = 6000
    toys: int = 512
    scenes: int = 256
    phases: tuple[tuple[float, int, float], ...] = (
        (0.0, 112, 1.0),
        (0.6, 168, 0.45),
        (0.8, 224, 0.25),
    )
    local_crops: int = 4
    local_ratio: float = 0.5
    prototypes: int = 4096
    learning_rate: float = 1e-3
    warmup: float = 0.04
    weight_decay: tuple[float, float] = (0.04, 0.2)
    momentum: float = 0.992
    teacher_temperature: tuple[float, float] = (0.04, 0.07)
    student_temperature: float = 0.1
    contrast_temperature: float = 0.15
    mask_ratio: tuple[float, float] = (0.1, 0.5)
    recolour: float = 0.0
    weights: tuple[tuple[str, float], ...] = (
        ("dino", 1.0),
        ("ibot", 1.0),
        ("koleo", 0.1),
        ("contrast", 1.0),
        ("dense", 0.5),
    )
    seed: int = 0


#: Two CPU cores, two to three hours: small crops first, which are many more pictures a second.
CPU = Recipe(
    steps=3_500,
    toys=96,
    scenes=48,
    phases=((0.0, 56, 1.0), (0.6, 84, 0.66), (0.9, 112, 0.5)),
    local_crops=0,
    prototypes=1024,
)
#: One data-centre GPU.
GPU = Recipe()
#: The same, from the present weights: classes that are known whatever their colour. The heads are
#: new, so it warms up for longer.
RECOLOUR = Recipe(
    steps=1500,
    phases=((0.0, 112, 1.0), (0.5, 168, 0.45), (0.8, 224, 0.25)),
    learning_rate=5e-4,
    warmup=0.1,
    teacher_temperature=(0.06, 0.07),
    recolour=0.5,
)
#: A few steps, to try the whole way from pictures to card.
TRIAL = Recipe(
    width=48,
    depth=2,
    heads=2,
    steps=4,
    toys=8,
    scenes=8,
    phases=((0.0, 56, 1.0), (0.5, 84, 0.5)),
    local_crops=0,
    prototypes=32,
)
RECIPES = {"cpu": CPU, "gpu": GPU, "recolour": RECOLOUR, "trial": TRIAL}
