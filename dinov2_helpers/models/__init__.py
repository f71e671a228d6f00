"""Models by name, and what computes their tokens."""

from .anatomy import Anatomy, anatomy_of
from .diffusion import load_diffusion
from .encoder import Encoder, Facet, Inside, Tokens
from .load import (
    Backend,
    Device,
    Dinov2,
    Dtype,
    Model,
    Source,
    about,
    best_device,
    load_dinov2,
    locate,
)
from .profiles import PROFILES, WEIGHTS, ModelError, Profile, current_profile

__all__ = [
    "PROFILES",
    "WEIGHTS",
    "Anatomy",
    "Backend",
    "Device",
    "Dinov2",
    "Dtype",
    "Encoder",
    "Facet",
    "Inside",
    "Model",
    "ModelError",
    "Profile",
    "Source",
    "Tokens",
    "about",
    "anatomy_of",
    "best_device",
    "current_profile",
    "load_diffusion",
    "load_dinov2",
    "locate",
]
