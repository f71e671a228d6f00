"""Watch a run from outside: zero-shot accuracy on the sample scenes of the *train* split.

Its toys were not rendered for training either; the test split stays unseen until the evaluation.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from dinov2_helpers.samples import CLASS_NAMES, load_scenes
from training.clip.config import CLIP_MEAN, CLIP_STD
from training.dinov2.augment import normalise
from training.world.captions import article


class Monitor:
    """Pictures of one toy from the sample scenes, kept on the training device.

    Args:
        device: Where the model under training lives.
    """

    def __init__(self, device: torch.device) -> None:
        scenes = load_scenes("train").select(n_objects=1)
        stack = np.stack([np.asarray(scenes.image(i)) for i in range(len(scenes))])
        self._pictures = torch.from_numpy(stack).to(device).permute(0, 3, 1, 2)
        self._truth = torch.tensor([CLASS_NAMES.index(name) for name in scenes.labels("class")])
        self._portrait = torch.from_numpy(scenes.labels("framing") == "portrait")
        self._captions: list[str] = scenes.labels("caption_en").tolist()

    @torch.no_grad()
    def score(
        self,
        embed: Callable[[Tensor], Tensor],
        clip: CLIPModel,
        tokenizer: CLIPTokenizer,
        side: int,
    ) -> dict[str, float]:
        """Return zero-shot accuracy of the class and recall@5 of captions to pictures."""
        images = []
        for chunk in self._pictures.split(64):
            small = F.interpolate(chunk.float() / 255, size=side, mode="bicubic", antialias=True)
            images.append(embed(normalise(small.clamp(0, 1), CLIP_MEAN, CLIP_STD)))
        pictures = F.normalize(torch.cat(images).float(), dim=-1).cpu()
        clip.eval()

        def encode(texts: list[str]) -> Tensor:
            tokens = tokenizer(texts, padding=True, return_tensors="pt").to(clip.device)
            return F.normalize(clip.get_text_features(**tokens).pooler_output.float(), dim=-1).cpu()

        names = encode([f"a photo of {article(name)}" for name in CLASS_NAMES])
        right = (pictures @ names.T).argmax(1) == self._truth
        nearest = (encode(self._captions) @ pictures.T).topk(5, 1).indices
        found = [
            any(self._captions[j] == caption for j in row)
            for row, caption in zip(nearest.tolist(), self._captions, strict=True)
        ]
        return {
            "zero_shot": round(right[self._portrait].float().mean().item(), 4),
            "zero_shot_wide": round(right[~self._portrait].float().mean().item(), 4),
            "caption_recall_at_5": round(float(np.mean(found)), 4),
        }
