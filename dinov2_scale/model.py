"""All that this package takes from `dinov2_helpers`: the model, its fingerprint, the extraction."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

from dinov2_helpers import load_dinov2, stream_features
from dinov2_helpers.extraction import CODE_VERSION, Features
from dinov2_helpers.models import Backend, ModelError, Source, current_profile, locate
from dinov2_helpers.pictures import SUFFIXES, LeftOut, describe_left_out, geometry
from dinov2_helpers.pictures.files import UNREADABLE_FOLDER, sort_files
from dinov2_helpers.writing import home_path

__all__ = [
    "CODE_VERSION",
    "SUFFIXES",
    "UNREADABLE_FOLDER",
    "Backend",
    "Features",
    "LeftOut",
    "Source",
    "check_backend",
    "describe_left_out",
    "fingerprint",
    "load_model",
    "locate_model",
    "patch_numbers",
    "sort_files",
    "stream_features",
]
DTYPES = ("float32", "float16", "bfloat16")


def locate_model(model: Source) -> tuple[str, Path, str]:
    """Return a model's name, its folder here, and what every process finds it by.

    Raises:
        ModelError: The model cannot be had.
    """
    weights = ["model*.safetensors"]
    wanted = str(model or current_profile().name)
    name, folder = locate("DINOv2", wanted, ["*.json", *weights], weights)
    if folder == home_path(wanted):
        wanted = os.path.abspath(folder)  # workers may run in another folder
    return name, folder, wanted


def load_model(model: str, backend: Backend, dtype: str) -> Any:
    """Load a model, computed by a backend."""
    return load_dinov2(model, dtype=dtype, backend=backend)


def check_backend(backend: str, dtype: str, fit: str) -> None:
    """Raise a ValueError for what cannot be computed, before anything is loaded."""
    if backend not in get_args(Backend):
        raise ValueError(f"backend={backend!r} is none of {get_args(Backend)}")
    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r} is none of {DTYPES}")
    if backend == "openvino" and fit != "crop":
        raise ValueError(f"backend='openvino' needs fit='crop', not {fit!r}: one grid for all")
    if backend in ("onednn", "openvino") and dtype != "float32":
        raise ValueError(f"backend={backend!r} computes in float32, not in {dtype}")


def patch_numbers(model: Any, size: int | None) -> int:
    """Return how many numbers the patches of one picture have with fit="crop": h x w x D.

    Raises:
        ValueError: The model's processor does not crop, so that grids differ.
    """
    if model.preprocessing.crop is None:
        raise ValueError(f"patches=True needs one grid for all, and {model.name} does not crop")
    _, (width, height) = geometry((1000, 1000), model, size, "crop")
    return int(width * height // model.patch_size**2 * model.dim)


def fingerprint(folder: Path) -> dict[str, str]:
    """Return hashes of the weights, of the model's configuration and of its processor's.

    Raises:
        ModelError: One of them is missing or damaged, so that no model can be loaded either.
    """
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        raise ModelError(f"{folder} holds no weights, model*.safetensors")
    processor = sorted(folder.glob("*processor_config.json"))
    return {
        "weights": _sha256(piece for path in files for piece in _pieces(path)),
        "config": _sha256(_settings(path) for path in [folder / "config.json"]),
        "processor": _sha256(_settings(path) for path in processor),
    }


def _settings(path: Path) -> bytes:
    """Return what a configuration says, without what no number depends on."""
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    if not isinstance(settings, dict):
        raise ModelError(f"{path} holds a {type(settings).__name__}, and no settings by name")
    for name in ("_name_or_path", "transformers_version"):
        settings.pop(name, None)
    return json.dumps(settings, sort_keys=True).encode()


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(2**24):
            yield piece


def _sha256(pieces: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()
