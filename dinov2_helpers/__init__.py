"""Helpers of the DINOv2 notebook series; heavy packages are imported only where they are used."""

from .clip import load_clip
from .data import data_dir
from .extraction import extract_features, stream_features
from .models import ModelError, load_diffusion, load_dinov2
from .pictures import ImageError, iter_images, open_image, to_pixels
from .samples import load_scenes, load_views, photographs

__version__ = "0.1.0"
__all__ = [
    "ImageError",
    "ModelError",
    "data_dir",
    "extract_features",
    "iter_images",
    "load_clip",
    "load_diffusion",
    "load_dinov2",
    "load_scenes",
    "load_views",
    "open_image",
    "photographs",
    "stream_features",
    "to_pixels",
]
