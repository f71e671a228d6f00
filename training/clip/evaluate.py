"""What the embedded CLIP knows about toys that it has never seen, asked by text alone."""

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import CLIPModel

from dinov2_helpers.clip import Clip
from dinov2_helpers.samples import CLASS_NAMES, load_scenes
from training.intervals import shares
from training.world.captions import PLACES, article
from training.world.colours import COLOURS

TOP = (1, 5, 10)


def random_initialisation(clip: Clip) -> Clip:
    """Return a network of the same shape with the weights that training starts from."""
    torch.manual_seed(0)
    network = CLIPModel(clip.model.config).eval().to(clip.model.device)
    return dataclasses.replace(clip, model=network)


def with_colour(name: str, colour: str) -> str:
    """Name a toy and its colour; a snowman's is its scarf's."""
    if name == "snowman":
        return f"a snowman with {article(colour)} scarf"
    return article(f"{colour} {name}")


def hits(clip: Clip) -> dict[str, NDArray[np.bool_]]:
    """Zero-shot answers on single toys, and captions that find their pictures, right or wrong.

    A name is asked for as "a photo of a dog", a surface as "a photo of a dog on grass", a colour as
    "a photo of a red dog", the rest of the text being true. A pair of colour and class is asked for
    against all others. Pictures with the same caption all count as found.
    """
    scenes = load_scenes("test")
    single = scenes.select(n_objects=1)
    images = clip.embed_images(single, progress=False).vectors
    names, surfaces, colours = (single.labels(k) for k in ("class", "surface", "colour"))
    portrait = single.labels("framing") == "portrait"
    usual = np.array([row["objects"][0]["usual_colour"] for row in single.table])

    def answer(vectors: NDArray, texts: list[str]) -> NDArray:
        return (vectors @ clip.embed_texts(texts).T).argmax(-1)

    classes = [f"a photo of {article(name)}" for name in CLASS_NAMES]
    right = np.array(CLASS_NAMES)[answer(images, classes)] == names
    surface, colour = [], []
    for image, name, ground, paint in zip(images, names, surfaces, colours, strict=True):
        places = [f"a photo of {article(name)} on {place}" for place, _ in PLACES.values()]
        surface.append(list(PLACES)[answer(image, places)] == ground)
        paints = [f"a photo of {with_colour(name, one)}" for one in COLOURS]
        colour.append(list(COLOURS)[answer(image, paints)] == paint)
    pairs = [(name, paint) for name in CLASS_NAMES for paint in COLOURS]
    asked = answer(images, [f"a photo of {with_colour(*pair)}" for pair in pairs])
    both = np.array([pairs[k] for k in asked]) == np.stack([names, colours], 1)
    both = both.all(1)

    everything = clip.embed_images(scenes, progress=False).vectors
    captions = scenes.labels("caption_en")
    order = (-clip.embed_texts(captions) @ everything.T).argsort(1)
    found = captions[order] == captions[:, None]
    return {
        "zero_shot": right,
        "zero_shot_portraits": right[portrait],
        "zero_shot_wide": right[~portrait],
        "zero_shot_usual_colour": right[usual],
        "zero_shot_unseen_colour": right[~usual],
        "surface": np.array(surface),
        "colour": np.array(colour),
        "pair_usual_colour": both[usual],
        "pair_unseen_colour": both[~usual],
        **{f"caption_recall_at_{k}": found[:, :k].any(1) for k in TOP},
    }


def evaluate(clip: Clip) -> dict[str, float]:
    """Return every number of the model card, flat, with intervals.

    "_random" marks the untrained network, whose numbers have none.
    """
    untrained = hits(random_initialisation(clip))
    return shares(hits(clip)) | {
        f"{name}_random": round(float(found.mean()), 4) for name, found in untrained.items()
    }
