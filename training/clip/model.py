"""The embedded CLIP, and the convolutional network that guides its beginnings."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from training.clip.config import Recipe
from training.clip.tokenizer import CONTEXT
from training.convolutions import require_whole_blocks


def make_clip(recipe: Recipe, tokenizer: CLIPTokenizer) -> CLIPModel:
    """Return an untrained `CLIPModel` of the recipe's shape."""
    return CLIPModel(
        CLIPConfig(
            projection_dim=recipe.dim,
            text_config={
                "vocab_size": len(tokenizer),
                "hidden_size": recipe.text_width,
                "intermediate_size": 4 * recipe.text_width,
                "num_hidden_layers": recipe.text_depth,
                "num_attention_heads": recipe.text_heads,
                "max_position_embeddings": CONTEXT,
                "bos_token_id": tokenizer.bos_token_id,
                "eos_token_id": tokenizer.eos_token_id,
                "pad_token_id": tokenizer.pad_token_id,
            },
            vision_config={
                "hidden_size": recipe.width,
                "intermediate_size": 4 * recipe.width,
                "num_hidden_layers": recipe.depth,
                "num_attention_heads": recipe.heads,
                "image_size": recipe.side,
                "patch_size": recipe.patch,
            },
        )
    )


class Block(nn.Module):
    """Two 3x3 convolutions with batch normalisation and a shortcut (He et al. 2016)."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(outside), nn.BatchNorm2d(outside)])
        same = stride == 1 and inside == outside
        self.shortcut = nn.Identity() if same else nn.Conv2d(inside, outside, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, inside, h, w)`` to ``(n, outside, h / stride, w / stride)``."""
        y = F.relu(self.norms[0](self.first(x)))
        return F.relu(self.norms[1](self.second(y)) + self.shortcut(x))


class Guide(nn.Module):
    """A small convolutional image tower, which learns from far fewer pictures than a transformer.

    It shares the text tower and is thrown away in the end.

    Args:
        width: Channels of the first stage, a multiple of 8.
        dim: Size of the embeddings.

    Raises:
        ValueError: The width is no multiple of 8.
    """

    def __init__(self, width: int, dim: int) -> None:
        require_whole_blocks(width)
        super().__init__()
        self.channels = 8 * width
        self.stages = nn.Sequential(
            nn.Conv2d(3, width, 4, 2, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            Block(width, 2 * width, 2),
            Block(2 * width, 2 * width, 1),
            Block(2 * width, 4 * width, 2),
            Block(4 * width, 4 * width, 1),
            Block(4 * width, 8 * width, 2),
        )
        self.project = nn.Linear(2 * self.channels, dim, bias=False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return embeddings ``(n, dim)`` and the last feature map ``(n, channels, h/16, w/16)``."""
        maps = self.stages(pixels.contiguous(memory_format=torch.channels_last))
        pooled = torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1)
        return self.project(pooled), maps
