"""What the numbers of a model depend on, as one short text."""

import hashlib
import json

from ..models.load import Model
from .job import CODE_VERSION


def fingerprint(model: Model) -> str:
    """Return a SHA-256 in hexadecimal of all that features depend on, but for their settings.

    It is of the weights themselves, so it is right for any source and after any change to them; of
    the configuration, without the name of the folder; of the preprocessing; and of the version of
    this package's code that decodes pictures and computes features.

    Args:
        model: From `load_dinov2` or `load_clip`.
    """
    config = model.model.config.to_dict()
    config.pop("_name_or_path", None)  # the same model in another folder is the same
    text = json.dumps(config, sort_keys=True, default=str)
    digest = hashlib.sha256(repr((CODE_VERSION, text, model.preprocessing)).encode())
    digest.update(model.encoder.fingerprint())
    return digest.hexdigest()
