"""Features of more pictures than one run takes, or one machine: a Parquet dataset, part by part.

The pictures are cut into parts, in the order of their names. A part is read, its features are
extracted by `dinov2_helpers`, and it is written as one file, whole or not at all. What is there is
not made again: a run that was stopped, or that lost a worker, goes on where it was, without loss
and without doubles, and a source that has grown or changed costs what is new in it. The engines
"local" and "ray" differ in who makes which part, and in nothing else.

Needs `pip install '.[scale]'`. Paths are those of fsspec: local ones, s3://, gs://,
hdfs://, ... where the package for it is installed.
"""

from .dataset import Summary, extract_dataset, read_features
from .extractor import Extractor, Job, StoreDownError
from .parts import Part, list_parts, name_of

__all__ = [
    "Extractor",
    "Job",
    "Part",
    "StoreDownError",
    "Summary",
    "extract_dataset",
    "list_parts",
    "name_of",
    "read_features",
]
