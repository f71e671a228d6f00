"""The text tower and the pictures' head while they learn, and the folder that they end in."""

import json
import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from dinov2_helpers.lit import HEAD, MODEL_TYPE, TEXT, WEIGHTS, project
from training.lit.config import Recipe

FIRST_TEMPERATURE, LARGEST_SCALE = 0.07, 100.0  # as in CLIP
LENGTHS = 4  # groups of texts that are read one after another


class Head(nn.Module):
    """What maps features of DINOv2 into the common space: `dinov2_helpers.lit.project`.

    Args:
        features: Of the training pictures, ``(n, width)``; their mean and deviation are kept.
        dim: Size of the common space.
        hidden: Width of the hidden layer.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, features: Tensor, dim: int, hidden: int) -> None:
        super().__init__()
        width = features.shape[1]
        self.register_buffer("mean", features.mean(0))
        self.register_buffer("deviation", features.std(0).clamp(min=1e-4))
        self.linear = nn.Linear(width, dim, bias=False)
        self.hidden = nn.Linear(width, hidden)
        self.out = nn.Linear(hidden, dim, bias=False)
        nn.init.zeros_(self.out.weight)  # it begins as a linear map

    def forward(self, features: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return unit vectors ``(..., dim)``.

        Args:
            features: Class tokens and mean patches side by side, or patches, ``(..., width)``.
            noise: Added to them, in units of their deviation.
        """
        if noise is not None:
            features = features + noise * self.deviation
        return project(self.state_dict(keep_vars=True), features)


class Texts(nn.Module):
    """A text transformer as in CLIP, and the scale of the logits.

    Args:
        recipe: Its shape.
        tokenizer: What it reads.
    """

    def __init__(self, recipe: Recipe, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.tokenizer: Any = tokenizer
        self.tower: Any = CLIPTextModelWithProjection(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=recipe.width,
                intermediate_size=4 * recipe.width,
                num_hidden_layers=recipe.depth,
                num_attention_heads=recipe.heads,
                max_position_embeddings=recipe.context,
                projection_dim=recipe.dim,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / FIRST_TEMPERATURE)))

    @property
    def scale(self) -> Tensor:
        """The factor on the cosines."""
        return self.logit_scale.exp().clamp(max=LARGEST_SCALE)

    def forward(self, texts: list[str]) -> Tensor:
        """Return unit vectors ``(n, dim)``; a text that occurs twice is read once."""
        once = sorted(dict.fromkeys(texts), key=len)
        numbers = {text: number for number, text in enumerate(once)}
        # Texts of like length together, so that little padding is computed.
        step = math.ceil(len(once) / LENGTHS)
        parts = [self._read(once[start : start + step]) for start in range(0, len(once), step)]
        return F.normalize(torch.cat(parts), dim=-1)[[numbers[text] for text in texts]]

    def _read(self, texts: list[str]) -> Tensor:
        tokens = self.tokenizer(texts, padding=True, return_tensors="pt")
        return self.tower(**tokens.to(self.logit_scale.device)).text_embeds.float()


def export(texts: Texts, head: Head, dinov2: str, sha256: str, folder: Path) -> None:
    """Write the folder that `dinov2_helpers.lit.load_lit` reads, in half precision.

    Args:
        texts: The text tower.
        head: The pictures' head.
        dinov2: Name of the folder of the DINOv2 that both stand on.
        sha256: Of its weights.
        folder: Where to; it is made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config: Any = texts.tower.config
    described = {
        "model_type": MODEL_TYPE,
        "dinov2": {"name": dinov2, "sha256": sha256},
        "projection_dim": config.projection_dim,
        "text_config": config.to_diff_dict(),
    }
    text = json.dumps(described, indent=2, sort_keys=True) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
    weights = {TEXT + name: tensor for name, tensor in texts.tower.state_dict().items()}
    weights |= {HEAD + name: tensor for name, tensor in head.state_dict().items()}
    weights["logit_scale"] = texts.scale.log()
    halves = {k: v.detach().half().cpu().contiguous() for k, v in weights.items()}
    save_file(halves, folder / WEIGHTS, {"format": "pt"})
    texts.tokenizer.save_pretrained(folder)
