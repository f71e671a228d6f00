"""How a fitted object is kept in a folder, and found again: safetensors beside JSON, no pickle.

The folder holds `KIND.json`, with settings, the fingerprints of the models that made the features,
and the name and the hash of the file of arrays. The JSON is replaced last, in one step, so that a
reader finds the old object whole or the new one. Each save names its arrays anew, and deletes those
alone that the JSON named before: nothing that another save has written meanwhile. Of several saves
at once the last one stays; in rare cases arrays of another stay behind as well, and do no harm.
"""

import hashlib
import json
import logging
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..clip import load_clip
from ..data import source_of
from ..errors import KeptError
from ..extraction import fingerprint
from ..lit import Lit
from ..models import Model, ModelError, load_dinov2
from ..writing import home_path, write_whole

__all__ = ["Kept", "KeptError", "load_object", "save_object"]

log = logging.getLogger("dinov2_helpers")
FORMAT = 1  # of the folder; raised when older code could not read it
AnyModel = TypeVar("AnyModel", bound=Model | Lit)


@dataclass(frozen=True)
class Kept:
    """What a folder holds.

    Args:
        folder: The folder.
        settings: What was saved as JSON.
        arrays: What was saved as arrays, by name.
        models: Name and fingerprint of each model, by its role, such as "dinov2".
        kind: What it is, as for `save_object`.
    """

    folder: Path
    settings: dict[str, Any]
    arrays: dict[str, NDArray[Any]]
    models: dict[str, dict[str, str]]
    kind: str = "object"

    def model(self, role: str, given: AnyModel | None = None) -> AnyModel:
        """Return the model that features have to come from.

        Args:
            role: "dinov2" or "clip".
            given: The model to check. None: the one of the recorded name is loaded.

        Raises:
            KeptError: It is another model, has other weights, or prepares pictures differently.
            ModelError: The model of the recorded name cannot be loaded.
        """
        if role not in self.models:
            raise KeptError(f"{self.folder} does not say with which {role} it was made")
        wanted = self.models[role]
        model = _load(role, wanted["name"]) if given is None else given
        if _fingerprint(model) != wanted["fingerprint"]:
            raise KeptError(
                f"{self.folder} was made with {wanted['name']} as it was then; {model.name} as it "
                "is here has other weights, prepares pictures differently, or runs in another "
                "version of this package. Give the model that it was made with, or fit it again."
            )
        return model

    @contextmanager
    def understood(self) -> Iterator[None]:
        """Raise a KeptError where what is kept lacks something, or is not of this version.

        Only what is made of settings and arrays stands inside, and no argument of a reader's.
        """
        try:
            yield
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise KeptError(f"{self.folder} cannot be read as a {self.kind}: {error!r}") from error


def save_object(
    folder: str | os.PathLike[str],
    kind: str,
    settings: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    models: Mapping[str, Model | Lit],
) -> None:
    """Write a fitted object into a folder, which is made if need be.

    Args:
        folder: Where to; an object of the same kind in it is replaced.
        kind: What it is, such as "anomaly-detector"; the name of the JSON file.
        settings: All that is no array: numbers, texts, lists and dicts of them.
        arrays: Arrays by name.
        models: The models that made the features, by role: "dinov2", "clip".

    Raises:
        OSError: The folder cannot be written; what stood there is left as it was.
    """
    from safetensors.numpy import save

    path = home_path(folder)
    # not `ascontiguousarray`, which makes a row of a single number
    content = save({name: np.asarray(array, order="C") for name, array in arrays.items()})
    sha256 = hashlib.sha256(content).hexdigest()
    arrays_name = f"{kind}-{secrets.token_hex(8)}.safetensors"
    made_with = {
        role: {"name": model.name, "fingerprint": _fingerprint(model)}
        for role, model in models.items()
    }
    record = {
        "format": FORMAT,
        "kind": kind,
        "arrays": arrays_name,
        "sha256": sha256,
        "models": made_with,
        "settings": dict(settings),
    }
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    description = path / f"{kind}.json"
    try:
        write_whole(path / arrays_name, content)
        before = _named_arrays(description)
        # bytes of names that are no text, as os.fsdecode keeps them, become JSON's own escapes
        write_whole(description, text.encode("utf-8", "backslashreplace"))
    except OSError:
        (path / arrays_name).unlink(missing_ok=True)
        raise
    if before is not None:
        before.unlink(missing_ok=True)


def _named_arrays(description: Path) -> Path | None:
    """Return the file of arrays that a JSON names; None: there is none, or it is damaged."""
    try:
        name = str(json.loads(description.read_bytes())["arrays"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
    is_beside_it = Path(name).name == name
    is_of_this_kind = name.startswith(f"{description.stem}-") and name.endswith(".safetensors")
    return description.parent / name if is_beside_it and is_of_this_kind else None


def load_object(folder: str | os.PathLike[str], kind: str) -> Kept:
    """Read what `save_object` wrote.

    Raises:
        KeptError: The folder holds no such object, or it is damaged or of a later version.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = home_path(folder)
    description = path / f"{kind}.json"
    if not description.is_file():
        raise KeptError(f"{path} holds no {kind}: there is no {description.name} in it")
    try:
        record, content = _record_and_arrays(description)
        if hashlib.sha256(content).hexdigest() != record["sha256"]:
            arrays = path / str(record["arrays"])
            raise KeptError(f"{arrays} is damaged: its content has changed. Save it again.")
        models = {
            str(role): {key: str(model[key]) for key in ("name", "fingerprint")}
            for role, model in record["models"].items()
        }
        return Kept(path, dict(record["settings"]), load(content), models, kind)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, SafetensorError) as error:
        raise KeptError(f"{path} cannot be read as a {kind}: {error!r}") from error


def _record_and_arrays(description: Path) -> tuple[dict[str, Any], bytes]:
    missing = None
    while True:
        record = json.loads(description.read_text(encoding="utf-8"))
        if record["format"] > FORMAT:
            raise KeptError(
                f"{description.parent} was written by a later version of this package: update it"
            )
        name = str(record["arrays"])
        if Path(name).name != name:
            raise KeptError(f"{description} names arrays outside its folder: {name!r}")
        try:
            return record, (description.parent / name).read_bytes()
        except FileNotFoundError:
            if name == missing:
                raise
            missing = name  # if a save has replaced them meanwhile, the JSON names others by now


def _fingerprint(model: Model | Lit) -> str:
    if isinstance(model, Lit):
        return model.fingerprint()
    return fingerprint(model)


def _load(role: str, name: str) -> Any:
    """Load a model by the name that it had: of an embedded one, or on the hub."""
    load = load_dinov2 if role == "dinov2" else load_clip
    try:
        return load(source_of(name))
    except ModelError as error:
        raise ModelError(
            f"{error} If {name} is a folder of yours, load it and give the model itself."
        ) from error
