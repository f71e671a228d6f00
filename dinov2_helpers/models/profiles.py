"""Which models there are, by name: profiles, pinned revisions, sizes, licences, gates."""

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
    dinov2: str  # a DINOv2, or what takes its place
    clip: str
    diffusion: str


WEIGHTS = json.loads((Path(__file__).parent / "hub.json").read_text(encoding="utf-8"))
"""Facts on weights by hub name: their "licence", "megabytes" (fp32, 4 bytes per parameter) and
"revision", the commit that is loaded (others: main), with a public text that shows it. Weights that
must be asked for have a "gate", and in "allows" what their licence does. Those that make a profile
name it, and in "clip" the model of words beside them."""

_STABLE_DIFFUSION = "stable-diffusion-v1-5/stable-diffusion-v1-5"


def _profiles() -> dict[str, Profile]:
    tiny = Profile("tiny", "models/dinov2-tiny", "models/clip-tiny", "models/diffusion-tiny")
    found = {"tiny": tiny}
    for dinov2, facts in WEIGHTS.items():
        if "profile" in facts:
            name = facts["profile"]
            found[name] = Profile(name, dinov2, facts["clip"], _STABLE_DIFFUSION)
    return found


PROFILES = _profiles()


def current_profile() -> Profile:
    """Return the profile that the environment variable DINOV2_PROFILE names, else "tiny".

    Raises:
        ModelError: It names none.
    """
    name = os.environ.get("DINOV2_PROFILE", "tiny")
    if name not in PROFILES:
        raise ModelError(f"DINOV2_PROFILE={name!r} is no profile; choose one of {[*PROFILES]}")
    return PROFILES[name]


FORM_STEPS = (
    "sign in on the page of the weights and ask for them; the answer may take days and may be no. "
    "Then log in on this machine with `hf auth login`, and load them again."
)


def gates() -> dict[str, str]:
    """Return what each licence of weights behind a form allows, by licence."""
    return {facts["licence"]: facts["allows"] for facts in WEIGHTS.values() if "gate" in facts}


def gate_of(name: str) -> str:
    """Say how weights behind a form are asked for and what their licence allows.

    Args:
        name: On the Hugging Face hub.

    Returns:
        Sentences that begin with a space; none for weights that can be had without asking.

    Example:
        >>> gate_of("facebook/dinov2-small")
        ''
    """
    facts = WEIGHTS.get(name, {})
    if "gate" not in facts:
        return ""
    from huggingface_hub import constants

    return (
        f" Its weights are behind a {facts['gate']}, {constants.ENDPOINT}/{name}: {FORM_STEPS} "
        f"The {facts['licence']} allows {facts['allows']}. DINOv2 needs no form: profiles small, "
        "base, large, giant."
    )
