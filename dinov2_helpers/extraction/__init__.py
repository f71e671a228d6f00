"""Features of pictures: what is asked for, how it is computed, what comes out."""

from .engine import extract_features, stream_features
from .job import CODE_VERSION
from .result import Embeddings, Features, Layer, Maps, Skipped

__all__ = [
    "CODE_VERSION",
    "Embeddings",
    "Features",
    "Layer",
    "Maps",
    "Skipped",
    "extract_features",
    "stream_features",
]
