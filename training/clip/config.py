"""Every number of the recipe, in one place."""

from dataclasses import dataclass

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Recipe:
    """Model, data diet, losses and schedule of one training run.

    The schedule counts steps, never seconds, so a stalled or resumed run is the same run.

    Attributes:
        width: Hidden size of the vision transformer.
        depth: Its layers.
        heads: Its attention heads per layer.
        side: Side of the pictures it sees, in pixels.
        patch: Side of its patches.
        text_width: Hidden size of the text transformer.
        text_depth: Its layers.
        text_heads: Its attention heads per layer.
        dim: Size of the common space.
        guide_width: Channels of the guide's first stage.
        guide_phases: ``(steps, side, batch)`` of the guide's training, one after another.
        steps: Steps of the vision transformer, after those of the guide.
        batch: Its pictures per step.
        learning_rate: Peak of a cosine schedule with linear warm-up.
        warmup: Share of the steps that warm up.
        weight_decay: Of matrices and convolutions.
        distil: Weight of the losses that pull the vision transformer to the guide.
        area: Smallest and largest area of a crop, as a share of the picture.
        grey: Share of the pictures without colours, whose captions name none: shape is all that is
            left to tell a class by. Otherwise the model learns which colours a class never has.
        squares: Share of a batch that `training.batches.Squares` draws: the same class in other
            colours and other classes in the same colour.
        seed: Seed of initialisation, batches, crops and captions.
    """

    width: int = 192
    depth: int = 8
    heads: int = 6
    side: int = 112
    patch: int = 16
    text_width: int = 128
    text_depth: int = 3
    text_heads: int = 4
    dim: int = 128
    guide_width: int = 48
    guide_phases: tuple[tuple[int, int, int], ...] = ((1500, 64, 512), (1500, 112, 512))
    steps: int = 8000
    batch: int = 512
    learning_rate: float = 1e-3
    warmup: float = 0.05
    weight_decay: float = 0.1
    distil: float = 1.0
    area: tuple[float, float] = (0.7, 1.0)
    grey: float = 0.3
    squares: float = 0.5
    seed: int = 0


#: Two CPU cores, about four hours.
CPU = Recipe(
    width=128,
    depth=6,
    heads=4,
    guide_width=24,
    guide_phases=((2000, 64, 192), (1400, 96, 192)),
    steps=6800,
    batch=160,
)
#: One data-centre GPU, some minutes.
GPU = Recipe()
#: A few steps, to try the whole way from pictures to card.
TRIAL = Recipe(
    width=48,
    depth=2,
    heads=2,
    guide_width=8,
    guide_phases=((2, 64, 16), (2, 96, 16)),
    steps=4,
    batch=16,
)
RECIPES = {"cpu": CPU, "gpu": GPU, "trial": TRIAL}
