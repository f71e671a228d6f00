"""CLIP: texts and pictures as vectors of one space, in which a text is near what it describes."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .extraction import Embeddings, extract_features
from .lit import Lit, find_lit, load_lit
from .models import Device, Dtype, Encoder, Model, Source
from .models.load import choose_encoder, load_parts
from .models.vocabulary import spelt_out

log = logging.getLogger("dinov2_helpers")


@dataclass(frozen=True, repr=False, kw_only=True)
class Clip(Model):
    """A loaded CLIPModel; the facts are those of its vision tower, but for `dim`: of both."""

    tokenizer: Any
    kind = "CLIP"

    def make_encoder(self) -> Encoder:
        """Return what computes the embeddings of pictures."""
        towers = [self.model.vision_model, self.model.visual_projection]
        return choose_encoder(self.model, self.backend, self.model.get_image_features, towers)

    @property
    def temperature(self) -> float:
        """What it divides cosines by before the softmax, learned in its training."""
        return float(1 / self.model.logit_scale.detach().float().exp())

    def embed_images(self, images: Any, **options: Any) -> Embeddings:
        """Embed pictures; those that cannot be read are reported and left out.

        `images`, `exact`, `batch_size`, `cache`, `progress` and errors are as for
        `extract_features`. The numbers, whatever the batch, are those of transformers' processor
        and model to 1e-5; of large JPEG files they are so with `exact`.
        """
        found = extract_features(self, images, patches=False, **options)
        vectors = found.cls / np.linalg.norm(found.cls, axis=1, keepdims=True)
        return Embeddings(vectors, found.index, found.names, found.skipped, found.left_out)

    def embed_texts(self, texts: Iterable[str], *, batch_size: int = 256) -> NDArray[np.float32]:
        """Return the embeddings of N texts, (N, D) float32, unit length.

        Raises:
            ValueError: No text at all, or one that has more tokens than the model can read.
        """
        import torch

        texts = [texts] if isinstance(texts, str) else list(texts)
        if not texts:
            raise ValueError("no text to embed")
        limit = self.model.config.text_config.max_position_embeddings
        vectors = []
        for start in range(0, len(texts), batch_size):
            batch = texts[start : start + batch_size]
            tokens = self.tokenizer(batch, padding=True, return_tensors="pt", verbose=False)
            length, longest = tokens["attention_mask"].sum(1).max(0)
            if length > limit:
                raise ValueError(f"{batch[longest]!r} has {length} tokens, more than {limit}")
            with torch.inference_mode():
                found = self.model.get_text_features(**tokens.to(self.device)).pooler_output.float()
            vectors.append((found / found.norm(dim=1, keepdim=True)).cpu().numpy())
        return np.concatenate(vectors)

    def spelt_out(self, text: str) -> list[str]:
        """Return the words of a text that the model was hardly taught: see `spelt_out`."""
        return spelt_out(self.tokenizer, text)


def load_clip(
    name_or_path: Source = None, *, device: Device = None, dtype: Dtype = None
) -> "Clip | Lit":
    """Load a CLIP; names, arguments and errors are those of `load_dinov2`.

    "lit-tiny", or a folder of its kind, is a text tower on a DINOv2 instead, in English and
    Chinese: a `Lit`, with the same methods.

    Example:
        >>> clip = load_clip("tiny")
        >>> clip.embed_texts(["a red car", "a dog on grass"]).shape
        (2, 128)
    """
    from transformers import CLIPModel

    folder = find_lit(name_or_path)
    if folder is not None:
        return load_lit(folder, device=device, dtype=dtype)
    loaded = load_parts("CLIP", {"clip": CLIPModel}, name_or_path, device, dtype)
    result = Clip(**loaded)
    log.info("%s", result.describe())
    return result
