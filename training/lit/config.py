"""Every number of the recipe, in one place."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """Model, data diet and schedule of one training run.

    The schedule counts steps, never seconds, so a stalled or resumed run is the same run.

    Attributes:
        width: Hidden size of the text transformer.
        depth: Its layers.
        heads: Its attention heads per layer.
        context: Largest number of tokens of a text.
        dim: Size of the common space.
        hidden: Width of the hidden layer of the pictures' head.
        steps: Steps of the run.
        batch: Pictures and captions per step.
        learning_rate: Peak of a cosine schedule with linear warm-up.
        warmup: Share of the steps that warm up.
        weight_decay: Of matrices.
        grey: Share of the pictures without colours, whose captions name none.
        squares: Share of a batch that `training.batches.Squares` draws.
        noise: Deviation of the noise on standardised features, which keeps the head from learning
            single pictures by heart.
        place_steps: Steps of the head for patches (`training.lit.places`).
        place_batch: Pictures per step, and names.
        place_colour: How often a name has its colour, too.
        sharpness: Factor on the cosines of patches with a text, in the softmax that says which of
            them it is about, and in the loss.
        seed: Seed of initialisation, batches and captions.
    """

    width: int = 160
    depth: int = 3
    heads: int = 4
    context: int = 64
    dim: int = 128
    hidden: int = 256
    steps: int = 2400
    batch: int = 384
    learning_rate: float = 1e-3
    warmup: float = 0.05
    weight_decay: float = 0.1
    grey: float = 0.3
    squares: float = 0.5
    noise: float = 0.1
    place_steps: int = 600
    place_batch: int = 64
    place_colour: float = 0.3
    sharpness: float = 20.0
    seed: int = 0


#: One CPU core, under an hour.
CPU = Recipe()
#: One data-centre GPU, some minutes.
GPU = Recipe(width=192, steps=6000, batch=1024)
#: A few steps, to try the whole way from pictures to card.
TRIAL = Recipe(width=32, depth=1, steps=4, batch=32, place_steps=4, place_batch=16)
RECIPES = {"cpu": CPU, "gpu": GPU, "trial": TRIAL}
