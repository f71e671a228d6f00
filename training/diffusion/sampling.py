"""Prompts to try the pipeline with, and what it draws."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray

from training.diffusion.material import Facts, class_alone, statement
from training.world.captions import PLACES
from training.world.colours import COLOURS
from training.world.toys import CLASSES, EXCEPTIONS, PALETTES

STEPS, GUIDANCE = 25, 4.0  # of the samples that are measured and shown


def wishes(per_class: int, seed: int = 0, *, usual: bool = False) -> list[Facts]:
    """Return facts to ask for: every class equally often, colour and surface drawn.

    Colours that a class never had in training are not asked for; ``usual`` are those that it has in
    the scenes, too. DINOv2 has learned classes together with these, so it can judge no others well.
    """
    rng = np.random.default_rng(seed)
    made: list[Facts] = []
    for _ in range(per_class):
        for name in CLASSES:
            known = [one for one in COLOURS if one not in EXCEPTIONS[name]]
            colours = list(PALETTES[name]) if usual else known
            toy = {"class": name, "colour": str(rng.choice(colours)), "flying": False}
            surface = str(rng.choice(list(PLACES)))
            made.append({"surface": surface, "framing": "portrait", "objects": [toy]})
    return made


def sample(
    pipeline: StableDiffusionPipeline,
    wanted: Sequence[Facts],
    seed: int = 0,
    batch: int = 32,
    *,
    by_class: bool = False,
) -> NDArray[np.uint8]:
    """Draw one picture for each wish, ``(n, side, side, 3)``; each has a seed of its own.

    Args:
        pipeline: What draws.
        wanted: What is asked for.
        seed: Of the first picture; the others' follow.
        batch: How many are drawn at once.
        by_class: Whether prompts name the class alone and not colour and surface, too.
    """
    drawer: Any = pipeline
    drawer.set_progress_bar_config(disable=True)
    texts = [class_alone(one) if by_class else statement(one) for one in wanted]
    drawn = []
    for start in range(0, len(texts), batch):
        chunk = texts[start : start + batch]
        seeds = [torch.Generator().manual_seed(seed + start + k) for k in range(len(chunk))]
        options = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "generator": seeds}
        drawn.append(drawer(chunk, output_type="np", **options).images)
    return (np.concatenate(drawn) * 255).round().astype(np.uint8)
