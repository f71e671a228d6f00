"""What is asked of an extraction, and a picture on its way through it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from ..models.encoder import Facet, Inside
from ..models.load import Model
from ..pictures.decode import DECODE_VERSION
from ..pictures.pixels import Fit

Record: TypeAlias = dict[str, NDArray[np.float32]]  # the features of one picture, by name

# Raised whenever the same picture, model and settings give other numbers than before; what is kept
# on disk carries it.
CODE_VERSION = f"{DECODE_VERSION}.3"


class Settings(NamedTuple):
    """What to extract and how; its text is part of the key of a cache entry."""

    size: int | None
    fit: Fit
    inside: Inside
    patches: bool
    exact: bool = False  # whether all pixels of a large JPEG are decoded


@dataclass
class Job:
    """A picture on its way: `pixels` until it has features, or `record` if they were kept."""

    row: int  # among those of this call
    index: int  # in the input
    name: str
    size: tuple[int, int]  # width, height of the whole picture, upright
    frames: int
    depth: Any  # of more than 8 bits: storage and range, see `open_image`
    pixels: NDArray[np.float32] | None = None  # (3, H, W)
    record: Record = field(default_factory=dict)
    keep: Callable[[Record], None] | None = None  # writes the features into the cache


def check(settings: Settings, model: Model, batch_size: int | None) -> None:
    """Raise a ValueError that names what is impossible in the settings."""
    for name, value in {"size": settings.size, "batch_size": batch_size}.items():
        if value is not None and value < 1:
            raise ValueError(f"{name}={value}: it must be 1 or more, or None")
    inside = settings.inside
    last = model.n_layers - 1
    for layer in (*inside.layers, inside.facet_layer):
        if not -last - 1 <= layer <= last:
            raise ValueError(f"layer {layer}: {model.name} has 0 to {last}, or -1 to {-last - 1}")
    if settings.fit not in get_args(Fit):
        raise ValueError(f"fit={settings.fit!r} is none of {get_args(Fit)}")
    for facet in inside.facets:
        if facet not in get_args(Facet):
            raise ValueError(f"facet {facet!r} is none of {get_args(Facet)}")
    if model.kind != "DINOv2" and (settings.patches or inside):
        raise ValueError(f"{model.name} is a {model.kind}: use its embed_images")
    model.encoder.check(inside)
