"""The student and the teacher: a `Dinov2Model` with the heads that training needs."""

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Dinov2Config, Dinov2Model

from training.dinov2.config import Recipe


class PrototypeHead(nn.Module):
    """DINO's head: an MLP, a unit bottleneck, unit prototypes (Caron et al. 2021, appendix C)."""

    def __init__(self, width: int, prototypes: int, hidden: int = 1024, bottleneck: int = 128):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(),
            nn.Linear(hidden, bottleneck),
        )  # fmt: skip
        self.prototypes = nn.Parameter(torch.randn(prototypes, bottleneck))

    def forward(self, features: Tensor) -> Tensor:
        """Return cosine scores ``(n, prototypes)`` of features ``(n, width)``."""
        return F.normalize(self.mlp(features), dim=-1) @ F.normalize(self.prototypes, dim=-1).T


class ContrastHead(nn.Module):
    """SimCLR's projection head; its batch normalisation keeps early features from collapsing."""

    def __init__(self, width: int, hidden: int = 512, out: int = 128):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, out)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return unit vectors ``(n, out)`` of features ``(n, width)``."""
        return F.normalize(self.mlp(features).float(), dim=-1)


class Network(nn.Module):
    """Backbone and heads. The backbone alone is what `save_pretrained` writes in the end."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.backbone = Dinov2Model(
            Dinov2Config(
                hidden_size=recipe.width,
                num_hidden_layers=recipe.depth,
                num_attention_heads=recipe.heads,
                mlp_ratio=4,
                patch_size=14,
                image_size=224,
                layerscale_value=1.0,
            )
        )
        self.dino = PrototypeHead(recipe.width, recipe.prototypes)
        self.ibot = PrototypeHead(recipe.width, recipe.prototypes)
        self.contrast = ContrastHead(recipe.width)
        self.dense = ContrastHead(recipe.width)

    def tokens(self, crops: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return CLS ``(n, width)`` and patch tokens ``(n, patches, width)``."""
        hidden = self.backbone(crops, bool_masked_pos=mask).last_hidden_state
        return hidden[:, 0], hidden[:, 1:]


def make_teacher(student: Network) -> Network:
    """Return a copy of the student that no gradient reaches."""
    return copy.deepcopy(student).requires_grad_(False)


@torch.no_grad()
def update_teacher(teacher: Network, student: Network, momentum: float) -> None:
    """Move the teacher towards the student: ``teacher = m * teacher + (1 - m) * student``."""
    for target, source in zip(teacher.parameters(), student.parameters(), strict=True):
        target.lerp_(source, 1 - momentum)


def parameter_groups(network: Network) -> list[dict[str, object]]:
    """Split the parameters: only matrices and convolutions get weight decay, as in DINOv2."""
    decayed: list[Tensor] = []
    free: list[Tensor] = []
    for name, parameter in network.named_parameters():
        is_weight = parameter.ndim > 1 and "embeddings.position" not in name and "token" not in name
        (decayed if is_weight else free).append(parameter)
    return [{"params": decayed, "decay": True}, {"params": free, "decay": False}]


def cosine(start: float, end: float, share: float) -> float:
    """Interpolate on a half cosine from ``start`` at 0 to ``end`` at 1."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, share))))
