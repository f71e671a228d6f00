"""What the embedded text tower knows about toys that nothing here has seen, asked by text alone."""

import re

import numpy as np
from numpy.typing import NDArray

from dinov2_helpers.lit import Lit
from dinov2_helpers.samples import CLASS_NAMES, Scenes, load_scenes
from training.captions import UNSEEN, Language
from training.intervals import shares
from training.lit.questions import (
    LANGUAGES,
    Hits,
    caption_hits,
    class_hits,
    photo_of,
    usual_colours,
)
from training.world.captions import PLACES

TOP = (1, 5, 10)
MOSTLY = 0.5  # share of a patch's pixels that must show a toy, for the patch to be one of it


def patch_classes(mask: NDArray[np.uint8], side: int) -> NDArray[np.int64]:
    """Return what each patch mostly shows, ``(h, w)``: a class mask's value, or 0.

    Args:
        mask: Class mask ``(H, W)``; both are multiples of ``side``.
        side: Of a patch, in pixels.
    """
    height, width = mask.shape[0] // side, mask.shape[1] // side
    cells = mask.reshape(height, side, width, side)
    found = np.zeros((height, width), np.int64)
    for value in np.unique(mask[mask > 0]):
        share = (cells == value).mean((1, 3))
        found[share > MOSTLY] = value
    return found


def place_hits(patches: NDArray[np.float32], scenes: Scenes, side: int, texts: NDArray) -> Hits:
    """Score names of places, of all toys that fill a patch.

    Args:
        patches: Unit vectors ``(n, h, w, D)``.
        scenes: The pictures.
        side: Of a patch, in pixels.
        texts: Unit vectors of the classes, ``(16, D)``.

    Returns:
        "named": of each toy, whether most of its patches are nearest to its name among all sixteen.
        "pointed": whether the patch nearest to its name, of the whole picture, shows it (the
        pointing game: Zhang et al. 2018, section 4.1).
    """
    named, pointed = [], []
    for number, vectors in enumerate(patches):
        cosines = vectors @ texts.T  # (h, w, 16)
        shown = patch_classes(scenes.class_mask(number), side)
        for value in np.unique(shown[shown > 0]):
            own = cosines[shown == value]
            named.append((own.argmax(-1) == value - 1).mean() > 0.5)
            pointed.append(shown.flat[cosines[..., value - 1].argmax()] == value)
    return {"named": np.array(named), "pointed": np.array(pointed)}


def place_scores(lit: Lit, scenes: Scenes) -> Hits:
    """Score `Lit.embed_patches` on pictures of several toys, by language."""
    several = scenes.select(n_objects=[2, 3])
    patches = np.asarray(lit.embed_patches(several, progress=False))
    hits: Hits = {}
    for language in LANGUAGES:
        texts = lit.embed_texts([photo_of(name, language) for name in CLASS_NAMES])
        for name, found in place_hits(patches, several, lit.dinov2.patch_size, texts).items():
            hits[f"places_{name}_{language}"] = found
    return hits


def worded_anew(text: str, language: Language) -> bool:
    """Say whether a caption of the sample data is worded as none of the training's is."""
    toys, places = ".+", "|".join(place[LANGUAGES.index(language)] for place in PLACES.values())
    templates = [one.format(toys=toys, place=f"({places})") for one in UNSEEN[language]]
    return any(re.fullmatch(template, text) for template in templates)


def scores(lit: Lit, scenes: Scenes) -> Hits:
    """Return hits of all questions but those on patches, by language."""
    single = scenes.select(n_objects=1)
    numbers = {row["file_name"]: number for number, row in enumerate(scenes.table)}
    rows = [numbers[row["file_name"]] for row in single.table]
    vectors = lit.embed_images(scenes, progress=False).vectors
    usual, portrait = usual_colours(single), single.labels("framing") == "portrait"
    hits: Hits = {}
    for language, right in class_hits(vectors[rows], single, lit.embed_texts).items():
        hits[f"class_{language}"] = right
        parts = {"portraits": portrait, "wide": ~portrait, "usual_colour": usual}
        for name, chosen in (parts | {"unseen_colour": ~usual}).items():
            hits[f"class_{name}_{language}"] = right[chosen]
    for top in TOP:
        for language, found in caption_hits(vectors, scenes, lit.embed_texts, top).items():
            hits[f"caption_recall_at_{top}_{language}"] = found
    for language in LANGUAGES:
        captions = scenes.labels(f"caption_{language}")
        anew = np.array([worded_anew(str(text), language) for text in captions])
        found = hits[f"caption_recall_at_5_{language}"]
        hits[f"caption_recall_at_5_worded_anew_{language}"] = found[anew]
    return hits


def evaluate(lit: Lit) -> dict[str, float]:
    """Return every number of the model card, flat, each with its interval."""
    test = load_scenes("test")
    return shares(scores(lit, test) | place_scores(lit, test))
