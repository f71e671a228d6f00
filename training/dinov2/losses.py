"""DINOv2's losses (Oquab et al. 2023, section 4) and two contrastive ones that start them off."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def sinkhorn(logits: Tensor, temperature: float, iterations: int = 3) -> Tensor:
    """Teacher assignments centred by Sinkhorn-Knopp (SwAV, Caron et al. 2020, section 3.1).

    Args:
        logits: Teacher scores, ``(n, prototypes)``.
        temperature: Teacher temperature.
        iterations: Alternations between rows and columns.

    Returns:
        ``(n, prototypes)`` float32; rows sum to 1, columns are nearly balanced over the batch.
    """
    log_q = logits.float() / temperature
    log_q = log_q - log_q.max()
    n, prototypes = log_q.shape
    for _ in range(iterations):
        log_q = log_q - log_q.logsumexp(0, keepdim=True) - math.log(prototypes)
        log_q = log_q - log_q.logsumexp(1, keepdim=True) - math.log(n)
    return (log_q + math.log(n)).exp()


def cross_entropy(targets: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of student scores against soft targets.

    Args:
        targets: ``(..., prototypes)``, rows sum to 1.
        logits: Student scores of the same shape.
        temperature: Student temperature.

    Returns:
        ``(...)`` float32.
    """
    return -(targets * F.log_softmax(logits.float() / temperature, dim=-1)).sum(-1)


def dino_loss(targets: Sequence[Tensor], logits: Sequence[Tensor], temperature: float) -> Tensor:
    """DINO: every student crop predicts the teacher's view of every *other* crop.

    Caron et al. 2021, equation 3.

    Args:
        targets: Teacher assignments of the two global crops, each ``(n, prototypes)``.
        logits: Student scores of the same two crops, then of the local ones, each likewise.
        temperature: Student temperature.

    Returns:
        The mean over all pairs, a scalar.
    """
    pairs = [
        cross_entropy(target, scores, temperature)
        for i, target in enumerate(targets)
        for j, scores in enumerate(logits)
        if i != j
    ]
    return torch.stack(pairs).mean()


def koleo_loss(cls: Tensor) -> Tensor:
    """KoLeo: spreads the features of a batch (Sablayrolles et al. 2019, equation 2).

    Args:
        cls: Features ``(n, dim)`` of *different* pictures.

    Returns:
        Minus the mean log distance to the nearest neighbour on the unit sphere.
    """
    z = F.normalize(cls.float(), dim=-1)
    similarity = (z @ z.T).fill_diagonal_(-2.0)
    nearest = similarity.detach().argmax(1)
    return -((z - z[nearest]).norm(dim=1) + 1e-6).log().mean()


def info_nce(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """Normalised-temperature cross-entropy of SimCLR (Chen et al. 2020, equation 1).

    Args:
        a: Unit vectors ``(n, dim)``.
        b: Unit vectors ``(n, dim)``; row ``i`` is the positive of ``a[i]``, all else is negative.
        temperature: Temperature.

    Returns:
        A scalar.
    """
    z = torch.cat([a, b]).float()
    logits = (z @ z.T / temperature).fill_diagonal_(float("-inf"))
    positive = torch.arange(len(z), device=z.device).roll(len(a))
    return F.cross_entropy(logits, positive)


def match_patches(
    maps_a: Tensor, maps_b: Tensor, side: int, per_crop: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Pick patches of crop a and find the patches of crop b that show the same place.

    Args:
        maps_a: Crop maps ``(n, 2, 3)`` (see `training.dinov2.augment.random_crop_maps`).
        maps_b: Crop maps of other crops of the same pictures.
        side: Patches along each side of a crop.
        per_crop: Patches picked per crop.
        generator: Source of randomness.

    Returns:
        Crop index, patch index in a, patch index in b, each ``(m,)`` int64; places that b does not
        show are dropped.
    """
    n, device = len(maps_a), maps_a.device
    picked = torch.randint(0, side, (n, per_crop, 2), device=device, generator=generator)
    centre = (picked + 0.5) / side * 2 - 1
    place = torch.einsum("nij,npj->npi", maps_a[:, :, :2], centre) + maps_a[:, None, :, 2]
    # The linear part of a crop map is diagonal, so its inverse is a division.
    in_b = (place - maps_b[:, None, :, 2]) / maps_b[:, :, :2].diagonal(dim1=1, dim2=2)[:, None]
    seen = (in_b.abs() < 1).all(-1)
    cell = ((in_b + 1) / 2 * side).long().clamp_(0, side - 1)
    crop = torch.arange(n, device=device)[:, None].expand(n, per_crop)
    index_a, index_b = (c[..., 1] * side + c[..., 0] for c in (picked, cell))
    return crop[seen], index_a[seen], index_b[seen]
