"""What a text tower is asked, in both languages: the same for monitoring and for the card."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dinov2_helpers.samples import CLASS_NAMES, Scenes
from training.captions import Language
from training.world.captions import NOUNS, article

Embed = Callable[[list[str]], NDArray[np.float32]]
Hits = dict[str, NDArray[np.bool_]]
LANGUAGES: tuple[Language, ...] = ("en", "zh")


def photo_of(name: str, language: Language) -> str:
    """Ask for a class: "a photo of a dog", "一只狗的照片"."""
    if language == "en":
        return f"a photo of {article(name)}"
    _, _, measure, noun = NOUNS[name]
    return f"一{measure}{noun}的照片"


def usual_colours(single: Scenes) -> NDArray[np.bool_]:
    """Say of pictures of one toy whether its class had this colour in training."""
    return np.array([row["objects"][0]["usual_colour"] for row in single.table])


def class_hits(vectors: NDArray[Any], single: Scenes, embed: Embed) -> Hits:
    """Say of each picture of one toy whether its class is named, by language.

    Args:
        vectors: Of the pictures, ``(n, D)``.
        single: Those pictures.
        embed: Returns unit vectors of texts.
    """
    names = single.labels("class")
    hits: Hits = {}
    for language in LANGUAGES:
        asked = embed([photo_of(name, language) for name in CLASS_NAMES])
        hits[language] = np.array(CLASS_NAMES)[(vectors @ asked.T).argmax(1)] == names
    return hits


def caption_hits(vectors: NDArray[Any], scenes: Scenes, embed: Embed, top: int) -> Hits:
    """Say of each caption whether a picture that it belongs to is among the nearest, by language.

    Pictures with the same caption all count as found.
    """
    hits: Hits = {}
    for language in LANGUAGES:
        captions = scenes.labels(f"caption_{language}")
        order = (-embed(captions.tolist()) @ vectors.T).argsort(1)[:, :top]
        hits[language] = (captions[order] == captions[:, None]).any(1)
    return hits
