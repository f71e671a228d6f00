"""One place for each decision about a picture: files, decoding, pixels, annotations."""

from .annotations import read_class_map, read_depth, read_mask
from .decode import (
    DECODE_VERSION,
    Depth,
    ImageError,
    Opened,
    open_image,
    open_reduced,
    range_warning,
)
from .files import (
    SUFFIXES,
    LeftOut,
    Listing,
    describe_left_out,
    iter_images,
    list_images,
    printable,
)
from .pixels import Fit, Preprocessing, geometry, to_pixels

__all__ = [
    "DECODE_VERSION",
    "SUFFIXES",
    "Depth",
    "Fit",
    "ImageError",
    "LeftOut",
    "Listing",
    "Opened",
    "Preprocessing",
    "describe_left_out",
    "geometry",
    "iter_images",
    "list_images",
    "open_image",
    "open_reduced",
    "printable",
    "range_warning",
    "read_class_map",
    "read_depth",
    "read_mask",
    "to_pixels",
]
