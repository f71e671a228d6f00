"""Load a model: the embedded one, one from the Hugging Face hub, or one in a folder of yours."""

import json
import logging
import os
import platform
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, get_args

from ..data import data_dir
from ..pictures.pixels import Preprocessing
from ..writing import home_path
from .anatomy import ANATOMIES
from .encoder import Encoder, TorchEncoder
from .profiles import PROFILES, WEIGHTS, ModelError, current_profile, gate_of

if TYPE_CHECKING:
    import torch

Source: TypeAlias = str | os.PathLike[str] | None
Device: TypeAlias = "str | torch.device | None"
Dtype: TypeAlias = "str | torch.dtype | None"
Backend = Literal["auto", "torch", "onednn", "openvino"]
log = logging.getLogger("dinov2_helpers")


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
    profile, python = current_profile().name, platform.python_version()
    return f"Profile {profile} on {best_device()}; Python {python}, {versions}"


@dataclass(frozen=True, repr=False, kw_only=True)
class Model:
    """A loaded model that sees pictures, with its facts.

    `dataclasses.replace` makes one of another network or backend: its encoder is made anew.
    """

    model: Any  # of transformers, in evaluation mode
    processor: Any  # its image processor (PIL backend), as transformers reads it
    preprocessing: Preprocessing  # the same, as `to_pixels` computes it
    name: str  # on the hub, or of the folder
    patch_size: int  # pixels
    dim: int  # width of the features
    width: int  # of the tokens inside
    n_layers: int
    n_heads: int
    n_registers: int  # tokens between CLS and the patches
    has_cls: bool = True  # whether the first token is CLS; else all but registers are patches
    image_size: int  # side in pixels of the square that its position embeddings were made for
    device: "torch.device"
    dtype: "torch.dtype"
    backend: Backend = "auto"  # what is asked for, as in `load_dinov2`
    encoder: Encoder = field(init=False, compare=False)  # what computes its tokens
    kind: ClassVar[str]  # what messages call it

    def __post_init__(self) -> None:
        object.__setattr__(self, "encoder", self.make_encoder())

    def make_encoder(self) -> Encoder:
        """Return what computes the tokens of `model`; ValueError: the backend cannot."""
        return choose_encoder(self.model, self.backend)

    @property
    def first_patch(self) -> int:
        """Which of the tokens is that of the first patch: behind CLS and the registers."""
        return self.has_cls + self.n_registers

    def describe(self) -> str:
        """Say in one line which model this is, and where and in which number format it runs."""
        parameters = sum(p.numel() for p in self.model.parameters()) / 1e6
        cls = "" if self.has_cls else "no CLS, "
        return (
            f"{self.name}: {parameters:.1f} M parameters, {self.n_layers} layers x {self.width}, "
            f"{self.n_heads} heads, patch {self.patch_size}, {cls}{self.n_registers} registers, "
            f"native {self.image_size} px, {self.device}, {str(self.dtype).removeprefix('torch.')}"
        )

    __repr__ = describe


class Dinov2(Model):
    """A loaded Dinov2Model, Dinov2WithRegistersModel, DINOv3ViTModel or SiglipVisionModel.

    All take the place of DINOv2: what holds their tokens asks `first_patch` and `has_cls`, and
    nothing else of what they are.
    """

    kind = "DINOv2"


def load_dinov2(
    name_or_path: Source = None,
    *,
    device: Device = None,
    dtype: Dtype = None,
    attention: str = "sdpa",
    backend: Backend = "auto",
) -> Dinov2:
    """Load a DINOv2, or what can take its place; its one-line description is logged (level INFO).

    DINOv3 (ViT) and the vision tower of a SigLIP or SigLIP 2 give the same kinds of features: of
    SigLIP, which has no CLS token, its pooling head's vector stands for CLS.

    Args:
        name_or_path: A profile ("tiny", "dinov3-small", ...), else a folder, else a name on
            the Hugging Face hub, which is downloaded once. None: the profile of `DINOV2_PROFILE`.
        device: None: the first at hand of cuda, mps, cpu; the CPU for the last two backends.
        dtype: "float16", "bfloat16", ... None: float32 on every device.
        attention: "sdpa" (fast) or "eager" (needed to read attention maps).
        backend: What computes the features: "torch", on any device; "onednn", PyTorch with weights
            laid out for the CPU; "openvino", the fastest on a CPU for many pictures of one shape,
            which needs the package openvino and shows nothing of what is inside. The numbers agree
            to 1e-5. "auto" is "onednn" on a CPU in float32, unless that has AVX2 and no AVX-512,
            where it is slower; else "torch".

    Raises:
        ModelError: Not found, no network, behind a form, incomplete, damaged, or of another kind.
        ModuleNotFoundError: OpenVINO is asked for and not installed.
        ValueError: A backend, device and number format that do not go together.

    Example:
        >>> dinov2 = load_dinov2("tiny")
        >>> dinov2.dim, dinov2.patch_size
        (192, 14)
    """
    from transformers import (
        Dinov2Model,
        Dinov2WithRegistersModel,
        DINOv3ViTModel,
        SiglipVisionModel,
    )

    class SiglipTower(SiglipVisionModel):
        """Of a SigLIP with both towers, the one that sees; of the other nothing is said."""

    SiglipTower._keys_to_ignore_on_load_unexpected = [r"^text_model\.", r"^logit_"]
    if backend not in get_args(Backend):
        raise ValueError(f"backend {backend!r} is none of {get_args(Backend)}")
    if backend in ("onednn", "openvino"):
        device = device or "cpu"
    kinds = {
        "dinov2": Dinov2Model,
        "dinov2_with_registers": Dinov2WithRegistersModel,
        "dinov3_vit": DINOv3ViTModel,
        "siglip": SiglipTower,
        "siglip_vision_model": SiglipVisionModel,
    }
    loaded = load_parts("DINOv2", kinds, name_or_path, device, dtype, attention)
    result = Dinov2(**loaded, backend=backend)
    log.info("%s", result.describe())
    return result


def choose_encoder(
    model: Any,
    backend: Backend,
    forward: Callable[..., Any] | None = None,
    towers: Iterable[Any] | None = None,
) -> Encoder:
    """Return what computes the tokens of a model.

    Args:
        model: Of transformers.
        backend: As for `load_dinov2`.
        forward: What it computes of `pixel_values`; None: `model` itself.
        towers: The modules that take part in it; None: all of the model.

    Raises:
        ModuleNotFoundError, ValueError: As `load_dinov2`.
    """
    import torch

    from . import onednn
    from .openvino import OpenVinoEncoder

    plain = model.device.type == "cpu" and model.dtype == torch.float32
    if backend == "auto":
        backend = "onednn" if plain and onednn.is_faster() else "torch"
    if backend == "torch":
        return TorchEncoder(model, forward)
    if not plain:
        raise ValueError(
            f"backend={backend!r} computes on a CPU in float32, not on {model.device} in "
            f"{model.dtype}: give device='cpu' and dtype=None, or backend='torch'"
        )
    if backend == "openvino":
        return OpenVinoEncoder(model)
    if not onednn.available():
        raise ValueError("this PyTorch was built without oneDNN: backend='torch'")
    return onednn.OneDnnEncoder(model, forward, towers)


def load_parts(
    kind: str,
    kinds: dict[str, Any],
    source: Source,
    device: Device,
    dtype: Dtype,
    attention: str | None = None,
) -> dict[str, Any]:
    """Load a model of transformers, its processor and its facts: the fields of `Model`.

    Args:
        kind: What messages call the model; also the field of `Profile` that names it.
        kinds: The class of transformers for each model type that will do.
        source: As for `load_dinov2`.
        device: As for `load_dinov2`.
        dtype: As for `load_dinov2`.
        attention: As for `load_dinov2`; None: transformers' choice.

    Raises:
        ModelError: As `load_dinov2`.
    """
    files = ["*.json", "merges.txt", "model*.safetensors"]
    name, path = locate(kind, source, files, ["model*.safetensors", "preprocessor*.json"])
    try:
        found = _settings(path / "config.json").get("model_type")
        if not isinstance(found, str) or found not in kinds:
            raise ModelError(f"{name} is not a {kind}: its model_type is {found!r}")
        options = {"attn_implementation": attention} if attention else {}
        model, loading = _pretrained(kinds[found], path, dtype, options)
        facts = _facts(model)
        processor, preprocessing = _processor(path, facts["patch_size"])
        if hasattr(model.config, "text_config"):
            facts["tokenizer"] = _tokenizer(path, model.config.text_config.vocab_size)
    except (ModelError, MemoryError):
        raise
    # transformers raises errors of many types where a configuration is incomplete or damaged
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise ModelError(f"{path} cannot be loaded as a {kind}: {reason}") from error
    # transformers fills absent weights with random numbers and only warns
    if loading["missing_keys"]:
        raise ModelError(f"{path} lacks weights: {sorted(loading['missing_keys'])}")
    model = model.to(device or best_device()).eval()
    loaded = {"model": model, "processor": processor, "preprocessing": preprocessing}
    return loaded | facts | {"name": name, "device": model.device, "dtype": model.dtype}


def _settings(file: Path) -> dict[str, Any]:
    """Return what a file of settings says."""
    found = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"{file.name} holds a {type(found).__name__}, and no settings by name")
    return found


def _pretrained(
    cls: Any, path: Path, dtype: Dtype, options: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Return a model and what transformers says about its loading."""
    with quiet():
        return cls.from_pretrained(
            path,
            use_safetensors=True,
            dtype=dtype or "float32",
            output_loading_info=True,
            **options,
        )


def _facts(model: Any) -> dict[str, Any]:
    config = getattr(model.config, "vision_config", model.config)
    known = ANATOMIES.get(config.model_type)
    return {
        "patch_size": config.patch_size,
        "dim": getattr(model.config, "projection_dim", config.hidden_size),
        "width": config.hidden_size,
        "n_layers": config.num_hidden_layers,
        "n_heads": config.num_attention_heads,
        "n_registers": getattr(config, "num_register_tokens", 0),
        "has_cls": known is None or known.has_cls,
        "image_size": config.image_size,
    }


_WITHOUT_PILLOW = "DINOv3ViTImageProcessor"  # transformers has it for torchvision alone


def _processor(path: Path, patch_size: int) -> tuple[Any, Preprocessing]:
    from transformers import AutoImageProcessor, ViTImageProcessorPil
    from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    file = path / "preprocessor_config.json"
    config = _settings(file) if file.is_file() else {}
    kind = config.get("image_processor_type")
    if isinstance(kind, str) and kind.startswith(_WITHOUT_PILLOW):
        # the same steps; values are rounded to whole grey levels after the scaling, as Pillow does
        defaults = {"image_mean": IMAGENET_DEFAULT_MEAN, "image_std": IMAGENET_DEFAULT_STD}
        said = {key: value for key, value in config.items() if value is not None}
        del said["image_processor_type"]
        processor: Any = ViTImageProcessorPil(**defaults | said)
    else:
        processor = AutoImageProcessor.from_pretrained(path, backend="pil", trust_remote_code=False)
    return processor, Preprocessing.from_processor(processor, patch_size)


def _tokenizer(path: Path, vocab_size: int) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    # without its files, transformers makes up one that knows two tokens
    if not 2 < len(tokenizer) <= vocab_size:
        raise ValueError("its tokenizer is missing or that of another model")
    return tokenizer


_SILENCED: list[tuple[bool, bool]] = []  # which bars were shown before; one entry for each reader
_SILENCING = threading.Lock()


@contextmanager
def quiet() -> Iterator[None]:
    """Hide transformers' bars of reading weights, which would end up in notebooks.

    They are switched for the whole process: of several threads that read at once, the first
    remembers what was shown and the last brings it back.
    """
    from huggingface_hub import utils as hub
    from transformers.utils import logging as transformers_logging

    with _SILENCING:
        shown = (
            transformers_logging.is_progress_bar_enabled(),
            not hub.are_progress_bars_disabled(),
        )
        _SILENCED.append(_SILENCED[0] if _SILENCED else shown)
        transformers_logging.disable_progress_bar()  # and those of the hub
    try:
        yield
    finally:
        with _SILENCING:
            weights_shown, downloads_shown = _SILENCED.pop()
            if not _SILENCED and weights_shown:
                transformers_logging.enable_progress_bar()  # and those of the hub
            if not _SILENCED and downloads_shown:
                hub.enable_progress_bars()
            else:
                hub.disable_progress_bars()


def locate(
    kind: str, source: Source, files: Iterable[str], needed: Iterable[str]
) -> tuple[str, Path]:
    """Turn a profile, folder or hub name into a display name and a folder on this machine.

    What has to be downloaded is said once (logging, level INFO), with its size; the hub's client
    shows its progress.

    Args:
        kind: "DINOv2", "CLIP" or "diffusion".
        source: As for `load_dinov2`.
        files: Patterns of what is downloaded.
        needed: Patterns without which it is downloaded once more.

    Raises:
        ModelError: As `load_dinov2`.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    name = os.fspath(source or current_profile().name)
    known = {profile.name: getattr(profile, kind.lower()) for profile in PROFILES.values()}
    folder = data_dir() / known["tiny"] if name == "tiny" else home_path(name)
    if name == "tiny" or (name not in known and folder.is_dir()):
        return folder.resolve().name, folder
    repo = known.get(name, name)
    revision = WEIGHTS.get(repo, {"revision": "main"})["revision"]
    wanted: dict[str, Any] = {"revision": revision, "allow_patterns": [*files]}
    with suppress(LocalEntryNotFoundError, HFValidationError):
        cached = Path(snapshot_download(repo, local_files_only=True, **wanted))
        if all(any(cached.glob(pattern)) for pattern in needed):
            return repo, cached
    try:
        return repo, _download(repo, wanted)
    # the hub's client lets through the errors of whichever HTTP library it was built with
    except Exception as error:
        lacking = f"No {kind} {name!r}: no folder, no profile ({', '.join(PROFILES)}), and "
        if name in known:
            lacking = f"No {kind} {name!r}: {repo} is not whole on this machine, and its "
        raise ModelError(
            f"{lacking}revision {revision!r} could not be downloaded ({error}). "
            f"Call load_{kind.lower()}({name!r}) "
            "once with network, which keeps it; or use the embedded model, DINOV2_PROFILE=tiny."
            f"{gate_of(repo)}"
        ) from None


def _download(repo: str, wanted: dict[str, Any]) -> Path:
    from huggingface_hub import HfApi, constants, snapshot_download

    # says at once what snapshot_download would retry for half a minute
    HfApi().model_info(repo, revision=wanted["revision"], timeout=10)
    size = f"{WEIGHTS[repo]['megabytes']:,} MB" if repo in WEIGHTS else "of a size not known here"
    log.info(
        "Downloading %s, %s, from %s: once, it stays in %s.",
        repo,
        size,
        constants.ENDPOINT,
        constants.HF_HUB_CACHE,
    )
    return Path(snapshot_download(repo, **wanted))
