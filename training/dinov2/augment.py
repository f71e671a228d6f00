"""Random crops and colour changes, drawn for a whole batch at once on the training device.

Every crop is an affine map from crop to picture coordinates, kept so that the patches of two crops
of one picture can be matched exactly (see `training.dinov2.losses.match_patches`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from training.dinov2.config import IMAGENET_MEAN, IMAGENET_STD

# NTSC luma and chroma axes: a rotation of the last two coordinates is a change of hue.
_RGB_TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_BINOMIAL = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16


@dataclass(frozen=True)
class ColourJitter:
    """Strengths of the photometric changes, as in DINO's recipe but with a gentle hue.

    Colour is part of what a toy is, so the hue turns less than on ImageNet.

    Attributes:
        probability: Share of crops whose brightness, contrast, saturation and hue change.
        brightness: Factor drawn from ``[1 - brightness, 1 + brightness]``; likewise the next two.
        contrast: See ``brightness``.
        saturation: See ``brightness``.
        hue: Largest turn of the hue, as a share of the full circle.
        grey: Probability of a crop without colour.
        blur: Probability of a binomial 5x5 blur.
        recolour: Probability of a crop whose hue turns by any angle.
    """

    probability: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.3
    hue: float = 0.06
    grey: float = 0.15
    blur: float = 0.3
    recolour: float = 0.0


def random_crop_maps(n: int, area: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Draw crops of random area, aspect ratio, place and mirror image.

    Args:
        n: Number of crops.
        area: Smallest and largest area, as a share of the picture.
        generator: Source of randomness; its device is the device of the result.

    Returns:
        Affine maps of shape ``(n, 2, 3)``, float32, from crop to picture coordinates, both in
        ``[-1, 1]`` as `torch.nn.functional.affine_grid` takes them.
    """
    device = generator.device

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(n, device=device).uniform_(low, high, generator=generator)

    share, log_aspect = uniform(*area), uniform(math.log(3 / 4), math.log(4 / 3))
    width = (share * log_aspect.exp()).sqrt().clamp_(max=1)
    height = (share / log_aspect.exp()).sqrt().clamp_(max=1)
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    maps = torch.zeros(n, 2, 3, device=device)
    maps[:, 0, 0], maps[:, 0, 2] = width * mirror, uniform(-1, 1) * (1 - width)
    maps[:, 1, 1], maps[:, 1, 2] = height, uniform(-1, 1) * (1 - height)
    return maps


def sample_crops(pictures: Tensor, maps: Tensor, size: int, supersample: int) -> Tensor:
    """Cut crops out of pictures.

    Args:
        pictures: ``(n, 3, H, W)`` in ``[0, 1]``.
        maps: ``(n, 2, 3)`` from `random_crop_maps`.
        size: Side of the crops in pixels.
        supersample: Samples per pixel and axis, averaged: guards against aliasing.

    Returns:
        ``(n, 3, size, size)`` in ``[0, 1]``, of the pictures' dtype.
    """
    fine = (len(pictures), 3, size * supersample, size * supersample)
    grid = F.affine_grid(maps, list(fine), align_corners=False).to(pictures.dtype)
    crops = F.grid_sample(pictures, grid, align_corners=False, padding_mode="reflection")
    return F.avg_pool2d(crops, supersample) if supersample > 1 else crops


def jitter_colours(crops: Tensor, jitter: ColourJitter, generator: torch.Generator) -> Tensor:
    """Change brightness, contrast, saturation and hue, drop colour or blur, crop by crop.

    The four colour changes are one affine map of RGB per crop, so they cost one small matrix
    product.

    Args:
        crops: ``(n, 3, h, w)`` in ``[0, 1]``.
        jitter: Strengths.
        generator: Source of randomness on the crops' device.

    Returns:
        A tensor like ``crops``, clipped to ``[0, 1]``.
    """
    n, device = len(crops), crops.device

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(n, device=device).uniform_(low, high, generator=generator)

    on = (uniform(0, 1) < jitter.probability).float()
    angle = on * uniform(-jitter.hue, jitter.hue) * 2 * math.pi
    if jitter.recolour:
        anew = uniform(0, 1) < jitter.recolour
        angle = torch.where(anew, uniform(-math.pi, math.pi), angle)
    saturation = 1 + on * uniform(-jitter.saturation, jitter.saturation)
    saturation = torch.where(uniform(0, 1) < jitter.grey, 0.0, saturation)
    brightness = 1 + on * uniform(-jitter.brightness, jitter.brightness)
    contrast = 1 + on * uniform(-jitter.contrast, jitter.contrast)

    chroma = torch.zeros(n, 3, 3, device=device)
    chroma[:, 0, 0] = 1
    chroma[:, 1, 1], chroma[:, 1, 2] = angle.cos() * saturation, -angle.sin() * saturation
    chroma[:, 2, 1], chroma[:, 2, 2] = angle.sin() * saturation, angle.cos() * saturation
    to_yiq = _RGB_TO_YIQ.to(device)
    matrix = torch.linalg.inv(to_yiq) @ chroma @ to_yiq * (brightness * contrast).view(n, 1, 1)
    mean = crops.float().mean((1, 2, 3)) * brightness * (1 - contrast)
    flat = crops.float().flatten(2)
    jittered = torch.baddbmm(mean.view(n, 1, 1).expand(n, 3, 1), matrix, flat).view_as(crops)

    kernel = (_BINOMIAL[:, None] * _BINOMIAL[None]).to(device).expand(3, 1, 5, 5)
    blurred = F.conv2d(F.pad(jittered, (2, 2, 2, 2), mode="reflect"), kernel, groups=3)
    blur = (uniform(0, 1) < jitter.blur).view(n, 1, 1, 1)
    return torch.where(blur, blurred, jittered).clamp_(0, 1)


def normalise(
    crops: Tensor, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> Tensor:
    """Subtract a mean and divide by a standard deviation, by default ImageNet's as for DINOv2.

    Args:
        crops: ``(n, 3, h, w)`` in ``[0, 1]``.
        mean: Of red, green and blue.
        std: Of red, green and blue.

    Returns:
        A float32 tensor of the same shape.
    """
    shift, scale = (torch.tensor(v, device=crops.device).view(1, 3, 1, 1) for v in (mean, std))
    return (crops.float() - shift) / scale


def random_masks(
    n: int, side: int, ratio: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """Draw iBOT's patch masks: every second crop is masked, by a ratio of its own.

    Args:
        n: Number of crops.
        side: Patches along each side of a crop.
        ratio: Smallest and largest share of masked patches in a masked crop.
        generator: Source of randomness.

    Returns:
        Boolean ``(n, side * side)``, true where a patch is hidden from the student.
    """
    device = generator.device
    share = torch.empty(n, 1, device=device).uniform_(*ratio, generator=generator)
    chosen = torch.rand(n, 1, device=device, generator=generator) < 0.5
    rank = torch.rand(n, side * side, device=device, generator=generator).argsort(1).argsort(1)
    return chosen & (rank < share * side * side)
