"""Watch a run from outside, on the sample scenes of the *train* split.

Their toys were not rendered for training either; the test split stays unseen until the evaluation.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from dinov2_helpers import load_dinov2
from dinov2_helpers.samples import load_scenes
from training.lit.material import describe
from training.lit.model import Head, Texts
from training.lit.questions import caption_hits, class_hits

TOP = 5


class Monitor:
    """The sample scenes of the train split as DINOv2 sees them.

    Args:
        dinov2: Folder of the model.
        cache: File in which its features are kept.
    """

    def __init__(self, dinov2: Path, cache: Path) -> None:
        self.scenes = load_scenes("train")
        if not cache.exists():
            features = describe(load_dinov2(dinov2, device="cpu"), self.scenes.images)
            cache.parent.mkdir(parents=True, exist_ok=True)
            save_file({"features": features}, cache)
        self.features = torch.from_numpy(load_file(cache)["features"])
        self.single = self.scenes.select(n_objects=1)
        numbers = {row["file_name"]: number for number, row in enumerate(self.scenes.table)}
        self.rows = [numbers[row["file_name"]] for row in self.single.table]

    @torch.no_grad()
    def score(self, head: Head, texts: Texts) -> dict[str, float]:
        """Return accuracy of the class and recall@5 of captions to pictures, by language."""
        head.eval()
        texts.eval()
        device = texts.logit_scale.device
        vectors = head(self.features.to(device)).cpu().numpy()

        def embed(asked: list[str]) -> NDArray[np.float32]:
            return texts(asked).cpu().numpy()

        scores: dict[str, float] = {}
        for language, hits in class_hits(vectors[self.rows], self.single, embed).items():
            scores[f"class_{language}"] = round(float(hits.mean()), 4)
        for language, hits in caption_hits(vectors, self.scenes, embed, TOP).items():
            scores[f"caption_recall_at_{TOP}_{language}"] = round(float(hits.mean()), 4)
        return scores
