"""Watch a run from outside: k-NN of the class on the sample scenes. No label reaches a loss."""

import numpy as np
import torch
from torch import Tensor
from transformers import Dinov2Model

from dinov2_helpers.samples import load_scenes
from training.dinov2.augment import normalise
from training.dinov2.probes import knn_accuracy


class Monitor:
    """Pictures of one toy from the sample scenes, kept on the training device.

    Args:
        device: Where the model under training lives.
    """

    def __init__(self, device: torch.device) -> None:
        self._pictures: dict[str, Tensor] = {}
        self._labels: dict[str, np.ndarray] = {}
        gallery, queries = (load_scenes(s).select(n_objects=1) for s in ("train", "test"))
        framings = {f: queries.select(framing=f) for f in ("portrait", "wide")}
        for name, scenes in {"gallery": gallery, **framings}.items():
            stack = np.stack([np.asarray(scenes.image(i)) for i in range(len(scenes))])
            self._pictures[name] = torch.from_numpy(stack).to(device).permute(0, 3, 1, 2)
            self._labels[name] = scenes.labels("class")

    @torch.no_grad()
    def score(self, backbone: Dinov2Model) -> dict[str, float]:
        """Return ``knn_class`` (portraits) and ``knn_class_wide`` of the class token at 224 px."""
        cls = {}
        for name, pictures in self._pictures.items():
            chunks = [normalise(chunk / 255) for chunk in pictures.split(64)]
            tokens = [backbone(chunk).last_hidden_state[:, 0] for chunk in chunks]
            cls[name] = torch.cat(tokens).float().cpu().numpy()
        gallery = cls["gallery"], self._labels["gallery"]
        return {
            "knn_class": knn_accuracy(*gallery, cls["portrait"], self._labels["portrait"]),
            "knn_class_wide": knn_accuracy(*gallery, cls["wide"], self._labels["wide"]),
        }
