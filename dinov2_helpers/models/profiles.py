"""Which models there are, by name: profiles, pinned revisions, sizes, licences."""

import json
import os
from pathlib import Path
from typing import NamedTuple


class ModelError(Exception):
    """A model that cannot be had or is of another kind; the text says what to do.

    Example:
        >>> try:
        ...     load_clip(data_dir() / "models" / "dinov2-tiny")
        ... except ModelError as error:
        ...     print(error)
        dinov2-tiny is not a CLIP: its model_type is 'dinov2'
    """


class Profile(NamedTuple):
    """The models that a notebook uses together, by hub name; for "tiny" folders below `data/`."""

    name: str  # what DINOV2_PROFILE is set to
    dinov2: str
    clip: str
    diffusion: str


_CLIP_B32 = "openai/clip-vit-base-patch32"
_CLIP_L14 = "openai/clip-vit-large-patch14"
_STABLE_DIFFUSION = "stable-diffusion-v1-5/stable-diffusion-v1-5"
_CLIP_OF_SIZE = {"small": _CLIP_B32, "base": _CLIP_B32, "large": _CLIP_L14, "giant": _CLIP_L14}


def _profiles() -> dict[str, Profile]:
    tiny = Profile("tiny", "models/dinov2-tiny", "models/clip-tiny", "models/diffusion-tiny")
    found = {"tiny": tiny}
    for of_hub, suffix in (("", ""), ("with-registers-", "-with-registers")):
        for size, clip in _CLIP_OF_SIZE.items():
            name = size + suffix
            dinov2 = f"facebook/dinov2-{of_hub}{size}"
            found[name] = Profile(name, dinov2, clip, _STABLE_DIFFUSION)
    return found


PROFILES = _profiles()
WEIGHTS = json.loads((Path(__file__).parent / "hub.json").read_text(encoding="utf-8"))
"""Facts on weights by hub name: their "licence", "megabytes" (fp32, 4 bytes per parameter) and
"revision", the commit that is loaded (others: main), with a public text that shows it."""


def current_profile() -> Profile:
    """Return the profile that the environment variable DINOV2_PROFILE names, else "tiny".

    Raises:
        ModelError: It names none.
    """
    name = os.environ.get("DINOV2_PROFILE", "tiny")
    if name not in PROFILES:
        raise ModelError(f"DINOV2_PROFILE={name!r} is no profile; choose one of {[*PROFILES]}")
    return PROFILES[name]
