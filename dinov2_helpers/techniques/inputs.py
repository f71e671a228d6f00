"""What the objects of this room are fitted on: pictures in any form, or features already made."""

from collections.abc import Iterable
from typing import Any

from ..extraction import Features, extract_features
from ..models import Model
from ..pictures.pixels import Fit


class NotFittedError(ValueError, AttributeError):
    """An object is used before `fit`; scikit-learn's has the same bases."""


def features_of(
    dinov2: Model,
    pictures: Any,
    *,
    size: int | None = None,
    fit: Fit = "crop",
    layers: Iterable[int] = (),
    **options: Any,
) -> Features:
    """Return the features of pictures; those already made are checked and given back.

    Args:
        dinov2: The model.
        pictures: What `extract_features` takes, or its result.
        size: As there.
        fit: As there.
        layers: As there.
        **options: Its other settings: `facets`, `cache`, `progress`, ...

    Raises:
        FileNotFoundError, TypeError, ValueError: As `extract_features`.
        ValueError: Features of another model, size or fit, or without what is wanted.
    """
    wanted = tuple(layers)
    if not isinstance(pictures, Features):
        return extract_features(dinov2, pictures, size=size, fit=fit, layers=wanted, **options)
    check_origin(pictures, dinov2, size, fit)
    missing = [layer for layer in wanted if layer not in pictures.layers]
    if missing:
        raise ValueError(f"the features lack layers {missing}: extract with layers={list(wanted)}")
    lacking = [name for name in options.get("facets", ()) if name not in pictures.facets]
    if lacking:
        raise ValueError(f"the features lack facets: extract with facets={lacking}")
    if options.get("patches", True) and pictures.patches is None:
        raise ValueError("the features lack patches: extract with patches=True")
    return pictures


def check_origin(features: Features, dinov2: Model, size: int | None, fit: Fit) -> None:
    """Raise a ValueError that says how features were made if it is not as wanted."""
    origin = features.origin
    if origin.model != dinov2.name:
        raise ValueError(f"features of {origin.model} given where those of {dinov2.name} belong")
    if (origin.size, origin.fit) != (size, fit):
        raise ValueError(
            f"features made with size={origin.size}, fit={origin.fit!r} given where "
            f"size={size}, fit={fit!r} is wanted: extract them so, or set the object to them"
        )
