"""`dinov2 models`: licence and gate of each model, its size, and whether it is here."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..data import data_dir
from ..models.profiles import FORM_STEPS, PROFILES, WEIGHTS, Profile, current_profile, gates
from ..pictures.files import printable
from .options import Command
from .session import Session

EXAMPLE = """\
  dinov2 models
  dinov2 models --json"""
EMBEDDED_LICENCE = "MIT"  # as the cards of the models say
OPEN = "none"  # the gate of weights that can be had without asking
ROW = "{:2}{:22}{:24}{:6}{:44}{:>6}  {:13}{}"


class Weights(NamedTuple):
    """The weights of a model, and where they are."""

    name: str  # on the hub, or of the embedded folder
    megabytes: int  # to download; of an embedded one on disk
    licence: str
    gate: str  # what must be filled in to have them; else `OPEN`
    state: str  # "embedded", "cached", "partly cached" or "not here"


def hub_weights(name: str) -> Weights:
    """Say what is known of a model on the Hugging Face hub; only its cache on disk is looked at."""
    facts = WEIGHTS[name]
    state = _state(name, facts["revision"], facts["megabytes"])
    gate = facts.get("gate", OPEN)
    return Weights(name, facts["megabytes"], facts["licence"], gate, state)


def embedded_models() -> dict[str, Weights]:
    """Return the models that ride along with the package, by name; none if the data are missing."""
    try:
        folders = sorted((data_dir() / "models").iterdir())
    except OSError:
        return {}
    return {folder.name: _embedded_weights(folder) for folder in folders if folder.is_dir()}


def _embedded_weights(folder: Path) -> Weights:
    size = sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
    return Weights(folder.name, round(size / 1e6), EMBEDDED_LICENCE, OPEN, "embedded")


def _state(name: str, revision: str, megabytes: int) -> str:
    """Say whether a revision is whole in the cache of the hub's client."""
    snapshot = cache_folder() / f"models--{name.replace('/', '--')}" / "snapshots" / revision
    # a file that is not complete has no name there yet
    files = [file for file in snapshot.rglob("*") if file.is_file()]
    if not files:
        return "not here"
    size = sum(file.stat().st_size for file in files if file.suffix == ".safetensors")
    described = any(file.suffix == ".json" for file in files)
    return "cached" if described and size > 0.95 * megabytes * 1e6 else "partly cached"


def cache_folder() -> Path:
    """Return the folder in which the hub's client keeps what it downloads."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def add_arguments(parser: ArgumentParser) -> None:
    """Add none: there is nothing to choose."""


def run(args: Namespace, session: Session) -> dict[str, Any]:
    """List the profiles, and what there is besides their DINOv2."""
    chosen = current_profile().name
    known = embedded_models() | {name: hub_weights(name) for name in WEIGHTS}
    profiles = {name: _names(profile) for name, profile in PROFILES.items()}
    heads = ("licence", "gate", "DINOv2 or in its place", "MB", "state", "")
    session.print(ROW.format("", "--model", *heads).rstrip())
    for name, names in profiles.items():
        _print(session, "*" if name == chosen else "", name, known[names["dinov2"]])
    session.print("\n* is the default: the environment variable DINOV2_PROFILE, else tiny.\n")
    heads = ("licence", "gate", "words and diffusion", "MB", "state", "of profiles")
    session.print(ROW.format("", "", *heads))
    shown = {names["dinov2"] for names in profiles.values()}
    for weights in known.values():
        if weights.name not in shown:
            _print(session, "", "", weights, _users(weights.name, profiles))
    for licence, allows in gates().items():
        session.print(f"\nform: {FORM_STEPS}\n{licence}: it allows {allows}.")
    session.print(f"\nDownloads are kept in {printable(cache_folder())}.")
    return {
        "default": chosen,
        "profiles": [{"name": name, **names} for name, names in profiles.items()],
        "weights": [weights._asdict() for weights in known.values()],
        "cache": str(cache_folder()),
    }


def _names(profile: Profile) -> dict[str, str]:
    """Return the names of the weights of a profile; embedded ones go by their folders."""
    full = {part: getattr(profile, part) for part in ("dinov2", "clip", "diffusion")}
    return {part: name if name in WEIGHTS else Path(name).name for part, name in full.items()}


def _users(name: str, profiles: Mapping[str, Mapping[str, str]]) -> str:
    """Say which profiles use weights; those with registers use the same as those without."""
    users = [profile for profile, names in profiles.items() if name in names.values()]
    if len(users) == len(profiles) - 1:
        return "all but tiny"
    return ", ".join(user for user in users if not user.endswith("-with-registers"))


def _print(session: Session, mark: str, name: str, weights: Weights, users: str = "") -> None:
    size = f"{weights.megabytes:,}"
    terms = (weights.licence, weights.gate)
    line = ROW.format(mark, name, *terms, weights.name, size, weights.state, users)
    session.print(line.rstrip())


COMMAND = Command(
    "models",
    "",
    "list the models: sizes, licences, and which are on this machine",
    EXAMPLE,
    add_arguments,
    run,
    has_model=False,
)
