"""Does the embedded diffusion model draw what it is asked for, and how close to real renders?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray
from scipy.linalg import sqrtm

from dinov2_helpers import extract_features
from dinov2_helpers.clip import Clip, load_clip
from dinov2_helpers.measure import Interval, bootstrap
from dinov2_helpers.models import Dinov2, load_dinov2
from dinov2_helpers.samples import Scenes, load_scenes
from training.clip.evaluate import with_colour
from training.diffusion.autoencoder import psnr
from training.diffusion.material import Facts, shrink
from training.diffusion.model import reconstruct
from training.diffusion.sampling import sample, wishes
from training.dinov2.probes import knn_hits
from training.intervals import flat, jackknife, shares
from training.world.captions import PLACES, article
from training.world.colours import COLOURS

PER_CLASS = 16
DINOV2_SIDE = 168  # pixels at which DINOv2 sees samples and renders: 64 of them, enlarged
Pictures = NDArray[np.uint8]


def load(folder: Path) -> StableDiffusionPipeline:
    """Load the pipeline in single precision."""
    return StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)


def small(scenes: Scenes, side: int) -> Pictures:
    """Return the pictures of a table at the side of the samples, ``(n, side, side, 3)``."""
    stack = np.stack([np.asarray(scenes.image(i)) for i in range(len(scenes))])
    return shrink(torch.from_numpy(stack).permute(0, 3, 1, 2), side).permute(0, 2, 3, 1).numpy()


def facts_of(scenes: Scenes) -> list[Facts]:
    """Return what pictures of one toy show, in the words of the training."""
    columns = zip(*(scenes.labels(k) for k in ("class", "colour", "surface")), strict=True)
    return [
        {"surface": surface, "objects": [{"class": name, "colour": colour}]}
        for name, colour, surface in columns
    ]


def frechet(a: NDArray, b: NDArray) -> float:
    """Fréchet distance of the normal distributions fitted to two sets of features ``(n, dim)``.

    Heusel et al. 2017, section 3. It depends on the number of pictures: compare like with like.
    """
    spread_a, spread_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.real(sqrtm(spread_a @ spread_b))
    apart = ((a.mean(0) - b.mean(0)) ** 2).sum()
    return float(apart + np.trace(spread_a + spread_b - 2 * root))


def frechet_interval(features: NDArray, gallery: NDArray) -> Interval:
    """Return the distance of features ``(n, dim)`` to a gallery that stays as it is."""
    return jackknife(lambda rows: frechet(features[rows], gallery), len(features))


class Judge:
    """Names what pictures show, by models that the diffusion model never met while it learned.

    The class is named by k-NN among real renders of the same side, on DINOv2's class token; surface
    and colour by CLIP, given the class. (The diffusion model reads with that CLIP's text encoder,
    but has never seen its picture encoder.)

    Args:
        side: Of the samples, in pixels.
    """

    def __init__(self, side: int, dinov2: Dinov2 | None = None, clip: Clip | None = None) -> None:
        self.side = side
        self.dinov2, self.clip = dinov2 or load_dinov2("tiny"), clip or load_clip("tiny")
        gallery = load_scenes("train").select(n_objects=1, framing="portrait")
        self.names = gallery.labels("class")
        self.gallery = self.features(small(gallery, side))

    def features(self, pictures: Pictures) -> NDArray[np.float32]:
        """Return DINOv2's class tokens ``(n, dim)``."""
        options: dict[str, Any] = {"patches": False, "progress": False, "size": DINOV2_SIDE}
        return extract_features(self.dinov2, list(pictures), **options).cls

    def hits(self, pictures: Pictures, wanted: Sequence[Facts]) -> dict[str, NDArray[np.bool_]]:
        """Say of each picture whether class, colour and surface are named as wanted."""
        classes = np.array([one["objects"][0]["class"] for one in wanted])
        vectors = self.clip.embed_images(list(pictures), progress=False).vectors

        def first(texts: list[str], vector: NDArray) -> int:
            return int((self.clip.embed_texts(texts) @ vector).argmax())

        colour, surface = [], []
        for vector, one in zip(vectors, wanted, strict=True):
            toy = one["objects"][0]
            paints = [f"a photo of {with_colour(toy['class'], paint)}" for paint in COLOURS]
            colour.append(list(COLOURS)[first(paints, vector)] == toy["colour"])
            grounds = [f"a photo of {article(toy['class'])} on {p}" for p, _ in PLACES.values()]
            surface.append(list(PLACES)[first(grounds, vector)] == one["surface"])
        named = knn_hits(self.gallery, self.names, self.features(pictures), classes)
        found = {"class": named, "colour": colour, "surface": surface}
        return {name: np.array(hits) for name, hits in found.items()}

    def scores(self, pictures: Pictures, wanted: Sequence[Facts]) -> dict[str, float]:
        """Return the shares of hits."""
        return {k: float(v.mean()) for k, v in self.hits(pictures, wanted).items()}


def evaluate(pipeline: StableDiffusionPipeline) -> dict[str, float]:
    """Return every number of the model card, flat, each with its interval.

    Samples are asked for in colours that are usual for their class, as real ones have; "_any" marks
    those asked for in any colour; "_by_class" those asked for by the class alone, of which neither
    colour nor surface can be wrong; "_real" test renders at the same size, the ceiling;
    "_autoencoder" those once encoded and decoded; "_shuffled" the samples held against each other's
    prompts, the floor.
    """
    parts: Any = pipeline
    side = parts.unet.config.sample_size * parts.vae_scale_factor
    judge = Judge(side)
    test = load_scenes("test").select(n_objects=1, framing="portrait")
    real = small(test, side)
    pixels = torch.from_numpy(real).permute(0, 3, 1, 2)
    decoded = reconstruct(parts.vae, pixels)
    again = decoded.permute(0, 2, 3, 1).numpy()
    wanted, motley = wishes(PER_CLASS, usual=True), wishes(PER_CLASS)
    drawn = sample(pipeline, wanted)
    shuffled = [wanted[i] for i in np.random.default_rng(0).permutation(len(wanted))]
    n = len(real)
    cases = {
        "": (drawn, wanted),
        "_any": (sample(pipeline, motley), motley),
        "_by_class": (sample(pipeline, wanted, by_class=True), wanted),
        "_shuffled": (drawn, shuffled),
        "_real": (real, facts_of(test)),
        "_autoencoder": (again, facts_of(test)),
    }
    results: dict[str, float] = {"samples": len(drawn)}
    for suffix, (pictures, facts) in cases.items():
        hits = judge.hits(pictures, facts)
        if suffix == "_by_class":
            hits = {"class": hits["class"]}
        results |= shares({f"{name}{suffix}": found for name, found in hits.items()})
        if suffix != "_shuffled":
            features = judge.features(pictures[:n])
            results |= flat(f"frechet{suffix}", frechet_interval(features, judge.gallery))
    return results | flat("psnr_autoencoder", bootstrap(psnr(decoded, pixels)))
