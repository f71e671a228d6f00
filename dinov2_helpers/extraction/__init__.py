"""Features of pictures: what is asked for, how it is computed, what comes out."""

from .engine import extract_features, stream_features
from .fingerprint import fingerprint
from .job import CODE_VERSION
from .result import Embeddings, Features, Layer, Maps, Origin, Skipped

__all__ = [
    "CODE_VERSION",
    "Embeddings",
    "Features",
    "Layer",
    "Maps",
    "Origin",
    "Skipped",
    "extract_features",
    "fingerprint",
    "stream_features",
]
