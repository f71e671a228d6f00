"""How like a target a picture is for DINOv2, as a number that can be differentiated."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..extraction.reports import Notable, report_left_out
from ..extraction.result import Skipped
from ..extraction.sources import name_sources
from ..models import Model, anatomy_of
from ..pictures.decode import ImageError, open_image
from ..pictures.files import printable
from ..pictures.pixels import Preprocessing, geometry

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

log = logging.getLogger("dinov2_helpers")
Kind = Literal["cls", "mean", "patches", "middle", "texture"]
KINDS: tuple[Kind, ...] = ("cls", "mean", "patches", "middle", "texture")
PLACED = frozenset({"patches", "middle"})  # kinds that compare the same places
_FILTERS = {2: "bilinear", 3: "bicubic"}  # by the number that Pillow gives them


def check_filter(preprocessing: Preprocessing) -> str:
    """Return PyTorch's name of the filter that a processor scales with.

    Raises:
        ValueError: It is one that PyTorch has not.
    """
    if preprocessing.resample not in _FILTERS:
        raise ValueError(
            f"its processor scales with resample={preprocessing.resample}; only "
            f"{_FILTERS} can be differentiated"
        )
    return _FILTERS[preprocessing.resample]


def view(preprocessing: Preprocessing, pictures: "Tensor", size: int) -> "Tensor":
    """Return pictures as DINOv2 takes them; a gradient can come back.

    The same as `to_pixels(..., size=size, fit="resize")`, but that it does not round to whole grey
    levels after each of the two passes, across and down: they differ by no more than 1.25 of 255
    grey levels where a picture is scaled, and where it is not by rounding in float32 alone.

    Args:
        preprocessing: Of the model.
        pictures: (n, 3, H, W), 0 to 1; what lies outside is cut off, without a gradient.
        size: Shortest side of what the model gets, in pixels.

    Returns:
        (n, 3, h, w), normalised; h and w are multiples of the patch.
    """
    import torch.nn.functional as F

    height, width = pictures.shape[-2:]
    _, (columns, rows) = geometry((width, height), preprocessing, size, "resize")
    pixels = pictures.clamp(0, 1)
    if (rows, columns) != (height, width):
        mode = check_filter(preprocessing)
        for shape in ((height, columns), (rows, columns)):  # Pillow's passes; each cuts overshoot
            pixels = F.interpolate(pixels, shape, mode=mode, antialias=True).clamp(0, 1)
    scale = 255.0
    if preprocessing.rescale_factor is not None:
        scale *= preprocessing.rescale_factor
    mean, std = (
        pixels.new_tensor(values).view(3, 1, 1)
        for values in (preprocessing.mean, preprocessing.std)
    )
    return (pixels * scale - mean) / std


@dataclass(frozen=True)
class Likeness:
    """What of DINOv2's features of two pictures is compared.

    Args:
        dinov2: From `load_dinov2`.
        kinds: Of `KINDS`: "cls", the CLS token; "mean", the mean patch; "patches", each patch with
            the one in the same place; "middle", the same after half of the blocks; "texture", which
            of the numbers of an early block's patches go together, wherever in the picture (Gram
            matrix, Gatys et al. 2016, section 2.2).
        size: Shortest side of what DINOv2 gets, in pixels.
    """

    dinov2: Model
    kinds: tuple[Kind, ...]
    size: int

    def features(self, pictures: "Tensor") -> "list[Tensor]":
        """Return features of pictures (n, 3, H, W) from 0 to 1, one tensor for each kind.

        "cls" and "mean" (n, 1, D), "patches" and "middle" (n, P, D), "texture" (n, 1, D * D), in
        float32 whatever the model's format (in float64 of a model in float64).
        """
        network = self.dinov2.model
        shown = widened(pictures.to(self.dinov2.device))
        pixels = view(self.dinov2.preprocessing, shown, self.size)
        output = network(
            pixel_values=pixels.to(self.dinov2.dtype),
            output_hidden_states=True,
            **anatomy_of(network).options,
        )
        return [self._of_kind(kind, output) for kind in self.kinds]

    def _of_kind(self, kind: Kind, output: Any) -> "Tensor":
        first = self.dinov2.first_patch
        layers = self.dinov2.n_layers
        tokens: Tensor = widened(output.last_hidden_state)  # (n, T, D)
        if kind == "cls":
            pooled: Tensor = widened(output.pooler_output)  # (n, D)
            return pooled[:, None]
        if kind == "mean":
            return tokens[:, first:].mean(1, keepdim=True)
        if kind == "patches":
            return tokens[:, first:]
        if kind == "middle":
            norm = anatomy_of(self.dinov2.model).norm_of(self.dinov2.model)
            return widened(norm(output.hidden_states[layers // 2]))[:, first:]
        early = widened(output.hidden_states[1 + layers // 4])[:, first:]  # (n, P, D)
        gram = early.mT @ early / early.shape[1]  # (n, D, D)
        return gram.flatten(1)[:, None]

    def unlike(self, pictures: "Tensor", targets: "Sequence[Tensor]") -> "Tensor":
        """Return how unlike pictures are to targets, (n,) from 0 to 2: 1 - cosine, the mean of all.

        Args:
            pictures: (n, 3, H, W) from 0 to 1.
            targets: For each kind the features of m targets, (n, m, P, D) or, for the same ones
                throughout, (1, m, P, D).
        """
        import torch
        from torch.nn.functional import cosine_similarity

        of_kinds = []
        for found, target in zip(self.features(pictures), targets, strict=True):
            cosines = cosine_similarity(found[:, None], target, dim=-1)  # (n, m, P)
            of_kinds.append(cosines.flatten(1).mean(1))
        return 1 - torch.stack(of_kinds).mean(0)


def widened(values: "Tensor") -> "Tensor":
    """Return values of 16 bits in float32, and others as they are."""
    return values.float() if values.element_size() < 4 else values


@dataclass(frozen=True, eq=False)
class Targets:
    """DINOv2's features of the pictures that a guide pulls to."""

    features: dict[str, NDArray[np.float32]]  # by kind, (m, P, D): see `Likeness.features`
    size: int  # side of what DINOv2 got, in pixels
    names: tuple[str, ...]  # of the m pictures: paths, or "image 3"
    skipped: tuple[Skipped, ...] = ()  # pictures that cannot be read

    def __len__(self) -> int:
        return len(self.names)


def kinds_of(features: str | Sequence[str]) -> tuple[Kind, ...]:
    """Return the kinds of features that are meant by the argument `features` of `Guide`.

    Raises:
        ValueError: None, or one that there is not.
    """
    names = [features] if isinstance(features, str) else list(features)
    if names == ["both"]:
        names = ["cls", "patches"]
    kinds = tuple(kind for kind in KINDS if kind in names)
    if not kinds or set(names) != set(kinds):
        raise ValueError(f"features={features!r}: 'both', or one or several of {KINDS}")
    return kinds


def targets_of(likeness: Likeness, pictures: Any) -> Targets:
    """Compute the features of targets; pictures that cannot be read are reported and left out.

    Raises:
        ValueError: No picture can be read.
        FileNotFoundError, TypeError: As `extract_features`.
    """
    import torch

    found: list[list[Any]] = []
    names, skipped, notable = [], [], Notable()
    sources = name_sources(pictures)
    report_left_out(sources.left_out)
    with torch.no_grad():
        for index, (name, source) in enumerate(sources.items):
            try:
                image = open_image(source, name)
            except ImageError as error:
                skipped.append(Skipped(index, name, error.reason))
                continue
            names.append(name)
            notable.saw(name, image.info["frames"], image.info["depth"])
            found.append([x.cpu() for x in likeness.features(_square(image))])
    for one in skipped:
        log.warning("Target %s skipped: %s", printable(one.name), one.reason)
    notable.report()
    if not names:
        raise ValueError(f"target: no picture that can be read ({len(skipped)} skipped)")
    of_kinds = zip(likeness.kinds, zip(*found, strict=True), strict=True)
    features: dict[str, Any] = {kind: torch.cat(tensors).numpy() for kind, tensors in of_kinds}
    return Targets(features, likeness.size, tuple(names), tuple(skipped))


def _square(image: "Image.Image") -> "Tensor":
    """Return the middle square of a picture, (1, 3, S, S) from 0 to 1."""
    import torch

    side = min(image.size)
    left, top = ((length - side) // 2 for length in image.size)
    pixels = np.array(image.crop((left, top, left + side, top + side)), np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]
