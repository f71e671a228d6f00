"""Load a DINOv2: the embedded one, one from the Hugging Face hub, or one in a folder of yours."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch
    from transformers import Dinov2Model, Dinov2WithRegistersModel


class ModelError(Exception):
    """A model that cannot be had or is not a DINOv2; the text says what to do."""


class Profile(NamedTuple):
    """The models that a notebook uses together, by hub name; for "tiny" folders below `data/`."""

    name: str  # what DINOV2_PROFILE is set to
    dinov2: str
    clip: str
    revision: str  # commit of the DINOv2 on the hub; empty for "tiny"
    download_mb: int  # its fp32 weights in 10^6 bytes, 4 per parameter
    diffusion: str = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    licence: str = "Apache-2.0"  # of its weights


def _hub_profile(variant: str, mb: int, clip: str, revision: str) -> Profile:
    registers, _, size = variant.rpartition("-")
    name = f"{size}-{registers}" if registers else size
    return Profile(name, f"facebook/dinov2-{variant}", f"openai/clip-vit-{clip}", revision, mb)


_TINY = Profile(
    "tiny", "models/dinov2-tiny", "models/clip-tiny", "", 0, "models/diffusion-tiny", "MIT"
)
# Commits without registers: as pinned by MTEB (mteb/models/model_implementations/dino_models.py),
# with registers: as pinned by Geti Prompt (its AVAILABLE_IMAGE_ENCODERS).
_HUB = (
    ("small", 88, "base-patch32", "ed25f3a31f01632728cabb09d1542f84ab7b0056"),
    ("base", 346, "base-patch32", "f9e44c814b77203eaa57a6bdbbd535f21ede1415"),
    ("large", 1217, "large-patch14", "47b73eefe95e8d44ec3623f8890bd894b6ea2d6c"),
    ("giant", 4546, "large-patch14", "611a9d42f2335e0f921f1e313ad3c1b7178d206d"),
    ("with-registers-small", 88, "base-patch32", "0d9846e56b43a21fa46d7f3f5070f0506a5795a9"),
    ("with-registers-base", 346, "base-patch32", "a1d738ccfa7ae170945f210395d99dde8adb1805"),
    ("with-registers-large", 1217, "large-patch14", "e4c89a4e05589de9b3e188688a303d0f3c04d0f3"),
    ("with-registers-giant", 4546, "large-patch14", "8d0d49f77fb8b5dd78842496ff14afe7dd4d85cb"),
)
PROFILES: dict[str, Profile] = {p.name: p for p in (_TINY, *(_hub_profile(*row) for row in _HUB))}


def current_profile() -> Profile:
    """Return the profile that the environment variable DINOV2_PROFILE names, else "tiny".

    Raises:
        ModelError: The variable names no profile.
    """
    name = os.environ.get("DINOV2_PROFILE", "tiny")
    if name not in PROFILES:
        raise ModelError(f"DINOV2_PROFILE={name!r} is no profile; choose one of {[*PROFILES]}")
    return PROFILES[name]


def best_device() -> str:
    """Return the first at hand of "cuda", "mps", "cpu"."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def about() -> str:
    """Say in one line which profile is in use, on which device, with which versions."""
    packages = ("torch", "transformers", "numpy", "scikit-learn")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    start = f"Profile {current_profile().name} on {best_device()}"
    return f"{start}; Python {platform.python_version()}, {versions}"


@dataclass(frozen=True)
class Dinov2:
    """A loaded DINOv2 with its facts."""

    model: Dinov2Model | Dinov2WithRegistersModel  # in evaluation mode
    processor: Any  # its image processor (PIL backend): image_mean, image_std, crop_size, ...
    name: str  # on the hub, or of the folder
    patch_size: int  # pixels
    dim: int  # width of the features
    n_layers: int
    n_heads: int
    n_registers: int  # tokens between CLS and the patches
    image_size: int  # side in pixels of the square that its position embeddings were made for
    device: torch.device
    dtype: torch.dtype

    def describe(self) -> str:
        """Say in one line which model this is, and where and in which number format it runs."""
        parameters = sum(p.numel() for p in self.model.parameters()) / 1e6
        return (
            f"{self.name}: {parameters:.1f} M parameters, {self.n_layers} layers x {self.dim}, "
            f"{self.n_heads} heads, patch {self.patch_size}, {self.n_registers} registers, "
            f"native {self.image_size} px, {self.device}, {str(self.dtype).removeprefix('torch.')}"
        )

    __repr__ = describe


def load_dinov2(
    name_or_path: str | os.PathLike[str] | None = None,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    attention: str = "sdpa",
) -> Dinov2:
    """Load a DINOv2 and print one line that says which, where and in which number format.

    Args:
        name_or_path: A profile ("tiny", "base-with-registers", ...), else a folder, else a name on
            the Hugging Face hub, which is downloaded once. None: the profile of `DINOV2_PROFILE`.
        device: None: the first at hand of cuda, mps, cpu.
        dtype: "float16", "bfloat16", ... None: float32 on every device.
        attention: "sdpa" (fast) or "eager" (needed to read attention maps).

    Raises:
        ModelError: Not found, no network, incomplete, damaged, or not a DINOv2.
    """
    from safetensors import SafetensorError
    from transformers import AutoImageProcessor, Dinov2Model, Dinov2WithRegistersModel
    from transformers.utils import logging

    logging.disable_progress_bar()  # it would end up in notebooks
    kinds: Any = {"dinov2": Dinov2Model, "dinov2_with_registers": Dinov2WithRegistersModel}
    name, path = _locate(str(name_or_path or current_profile().name))
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        if (model_type := config.get("model_type")) not in kinds:
            raise ModelError(f"{name} is not a DINOv2: its model_type is {model_type!r}")
        model, loaded = kinds[model_type].from_pretrained(
            path,
            use_safetensors=True,
            dtype=dtype or "float32",
            attn_implementation=attention,
            output_loading_info=True,
        )
        processor = AutoImageProcessor.from_pretrained(path, backend="pil", trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be loaded as a DINOv2: {error}") from error
    # transformers fills absent weights with random numbers and only warns
    if loaded["missing_keys"]:
        raise ModelError(f"{path} lacks weights: {sorted(loaded['missing_keys'])}")
    config = model.config
    dinov2 = Dinov2(
        model=model.to(device or best_device()).eval(),
        processor=processor,
        name=name,
        patch_size=config.patch_size,
        dim=config.hidden_size,
        n_layers=config.num_hidden_layers,
        n_heads=config.num_attention_heads,
        n_registers=getattr(config, "num_register_tokens", 0),
        image_size=config.image_size,
        device=model.device,
        dtype=model.dtype,
    )
    print(dinov2.describe())
    return dinov2


def _locate(name: str) -> tuple[str, Path]:
    """Turn a profile, folder or hub name into a display name and a folder on this machine."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    from .samples import data_dir  # which imports this module, by way of `images`

    if name == "tiny":
        return "dinov2-tiny", data_dir() / _TINY.dinov2
    if name not in PROFILES and (folder := Path(name).expanduser()).is_dir():
        return folder.resolve().name, folder
    repo = PROFILES[name].dinov2 if name in PROFILES else name
    revision = {p.dinov2: p.revision for p in PROFILES.values()}.get(repo, "main")
    files = ["config.json", "preprocessor_config.json", "model*.safetensors*"]
    wanted: dict[str, Any] = {"revision": revision, "allow_patterns": files}
    try:
        cached = Path(snapshot_download(repo, local_files_only=True, **wanted))
        if any(cached.glob("model*.safetensors")):
            return repo, cached
    except (LocalEntryNotFoundError, HFValidationError):
        pass
    try:
        # says at once what snapshot_download would retry for half a minute
        HfApi().model_info(repo, revision=revision, timeout=10)
        return repo, Path(snapshot_download(repo, **wanted))
    # the hub's client lets through the errors of whichever HTTP library it was built with
    except Exception as error:
        raise ModelError(
            f"No DINOv2 {name!r}: no folder, no profile ({', '.join(PROFILES)}), and revision "
            f"{revision!r} could not be downloaded ({error}). Call load_dinov2({name!r}) once with "
            "network, which keeps it; or without use the embedded model, DINOV2_PROFILE=tiny."
        ) from None
