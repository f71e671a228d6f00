"""Load a model: the embedded one, one from the Hugging Face hub, or one in a folder of yours."""

import json
import os
import platform
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeAlias

from .pictures.pixels import Preprocessing

if TYPE_CHECKING:
    import torch

Source: TypeAlias = str | os.PathLike[str] | None
Device: TypeAlias = "str | torch.device | None"
Dtype: TypeAlias = "str | torch.dtype | None"


class ModelError(Exception):
    """A model that cannot be had or is of another kind; the text says what to do."""


_SD = "stable-diffusion-v1-5/stable-diffusion-v1-5"


class Profile(NamedTuple):
    """The models that a notebook uses together, by hub name; for "tiny" folders below `data/`."""

    name: str  # what DINOV2_PROFILE is set to
    dinov2: str
    clip: str
    diffusion: str = _SD


_TINY = Profile("tiny", "models/dinov2-tiny", "models/clip-tiny", "models/diffusion-tiny")
_B32, _L14 = "openai/clip-vit-base-patch32", "openai/clip-vit-large-patch14"
PROFILES = {"tiny": _TINY} | {
    size + end: Profile(size + end, f"facebook/dinov2-{start}{size}", clip)
    for start, end in (("", ""), ("with-registers-", "-with-registers"))
    for size, clip in {"small": _B32, "base": _B32, "large": _L14, "giant": _L14}.items()
}
WEIGHTS = json.loads((Path(__file__).parent / "hub.json").read_text(encoding="utf-8"))
"""Facts on weights by hub name: their "licence", "megabytes" (fp32, 4 bytes per parameter) and
"revision", the commit that is loaded (others: main), with a public text that shows it."""


def current_profile() -> Profile:
    """Return the profile that DINOV2_PROFILE names, else "tiny"; ModelError: it names none."""
    name = os.environ.get("DINOV2_PROFILE", "tiny")
    if name not in PROFILES:
        raise ModelError(f"DINOV2_PROFILE={name!r} is no profile; choose one of {[*PROFILES]}")
    return PROFILES[name]


def best_device() -> str:
    """Return the first at hand of "cuda", "mps", "cpu"."""
    import torch

    faster = {"cuda": torch.cuda, "mps": torch.backends.mps}
    return next((name for name, backend in faster.items() if backend.is_available()), "cpu")


def about() -> str:
    """Say in one line which profile is in use, on which device, with which versions."""
    packages = ("torch", "transformers", "numpy", "scikit-learn")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    profile, python = current_profile().name, platform.python_version()
    return f"Profile {profile} on {best_device()}; Python {python}, {versions}"


@dataclass(frozen=True, repr=False)
class Model:
    """A loaded model that sees pictures, with its facts."""

    model: Any  # of transformers, in evaluation mode
    processor: Any  # its image processor (PIL backend): image_mean, image_std, crop_size, ...
    preprocessing: Preprocessing  # the same for `to_pixels`
    name: str  # on the hub, or of the folder
    patch_size: int  # pixels
    dim: int  # width of the features
    width: int  # of the tokens inside
    n_layers: int
    n_heads: int
    n_registers: int  # tokens between CLS and the patches
    image_size: int  # side in pixels of the square that its position embeddings were made for
    device: "torch.device"
    dtype: "torch.dtype"
    kind: ClassVar[str]  # what messages call it

    def describe(self) -> str:
        """Say in one line which model this is, and where and in which number format it runs."""
        parameters = sum(p.numel() for p in self.model.parameters()) / 1e6
        return (
            f"{self.name}: {parameters:.1f} M parameters, {self.n_layers} layers x {self.width}, "
            f"{self.n_heads} heads, patch {self.patch_size}, {self.n_registers} registers, "
            f"native {self.image_size} px, {self.device}, {str(self.dtype).removeprefix('torch.')}"
        )

    __repr__ = describe


class Dinov2(Model):
    """A loaded Dinov2Model or Dinov2WithRegistersModel."""

    kind = "DINOv2"


def load_dinov2(
    name_or_path: Source = None,
    *,
    device: Device = None,
    dtype: Dtype = None,
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
    from transformers import Dinov2Model, Dinov2WithRegistersModel

    kinds = {"dinov2": Dinov2Model, "dinov2_with_registers": Dinov2WithRegistersModel}
    return load(Dinov2, kinds, name_or_path, device, dtype=dtype, attn_implementation=attention)


def load(cls: Any, kinds: dict[str, Any], source: Source, device: Device, **options: Any) -> Any:
    """Load a `cls` as `load_dinov2` does, by the class of transformers for its model type."""
    from safetensors import SafetensorError
    from transformers import AutoImageProcessor, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # it would end up in notebooks
    files = ["*.json", "merges.txt", "model*.safetensors"]
    name, path = locate(cls.kind, source, files, ["model*.safetensors", "preprocessor*.json"])
    try:
        config: Any = json.loads((path / "config.json").read_text(encoding="utf-8"))
        if (model_type := config.get("model_type")) not in kinds:
            raise ModelError(f"{name} is not a {cls.kind}: its model_type is {model_type!r}")
        options |= {"dtype": options["dtype"] or "float32", "output_loading_info": True}
        model, loaded = kinds[model_type].from_pretrained(path, use_safetensors=True, **options)
        processor = AutoImageProcessor.from_pretrained(path, backend="pil", trust_remote_code=False)
        vision = getattr(model.config, "vision_config", model.config)
        preprocessing = Preprocessing.from_processor(processor, vision.patch_size)
        texts = {}
        if hasattr(model.config, "text_config"):
            texts["tokenizer"] = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
            # without its files, transformers makes up one that knows two tokens
            if not 2 < len(texts["tokenizer"]) <= model.config.text_config.vocab_size:
                raise ValueError("its tokenizer is missing or that of another model")
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be loaded as a {cls.kind}: {error}") from error
    # transformers fills absent weights with random numbers and only warns
    if loaded["missing_keys"]:
        raise ModelError(f"{path} lacks weights: {sorted(loaded['missing_keys'])}")
    config = getattr(model.config, "vision_config", model.config)
    result = cls(
        model=model.to(device or best_device()).eval(),
        processor=processor,
        preprocessing=preprocessing,
        name=name,
        patch_size=config.patch_size,
        dim=getattr(model.config, "projection_dim", config.hidden_size),
        width=config.hidden_size,
        n_layers=config.num_hidden_layers,
        n_heads=config.num_attention_heads,
        n_registers=getattr(config, "num_register_tokens", 0),
        image_size=config.image_size,
        device=model.device,
        dtype=model.dtype,
        **texts,
    )
    print(result.describe())
    return result


def load_diffusion(
    name_or_path: Source = None, *, device: Device = None, dtype: Dtype = None
) -> Any:
    """Load a `StableDiffusionPipeline`, frozen, and print one line that says which and where.

    As `load_dinov2` does. No safety checker is loaded: look at pictures before you show them.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import CLIPTextModel
    from transformers.utils import logging

    # named one by one: the hub's folder has copies in half precision and in formats that run code
    weights = ["unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"]
    weights = [f"{part}.safetensors" for part in weights]
    files = ["model_index.json", "*/*config.json", "tokenizer/*.json", "tokenizer/merges.txt"]
    name, path = locate("diffusion", name_or_path, [*files, *weights], weights)
    number = getattr(torch, str(dtype or "float32").removeprefix("torch."))
    options: dict[str, Any] = {"use_safetensors": True, "dtype": number}
    parts: dict[str, Any] = {"safety_checker": None, "feature_extractor": None}
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # for diffusers imports what warns that there is no torchvision
    try:
        import diffusers

        for library in (diffusers.utils.logging, logging):
            library.disable_progress_bar()  # it would end up in notebooks
        config = json.loads((path / "model_index.json").read_text(encoding="utf-8"))
        if (kind := config["_class_name"]) != "StableDiffusionPipeline":
            raise ModelError(f"{name} is a {kind}, not a StableDiffusionPipeline")
        kinds: Any = (diffusers.UNet2DConditionModel, diffusers.AutoencoderKL, CLIPTextModel)
        millions = 0.0
        for part, cls in zip(("unet", "vae", "text_encoder"), kinds, strict=True):
            model, loaded = cls.from_pretrained(path / part, output_loading_info=True, **options)
            if loaded["missing_keys"]:
                raise ModelError(f"{path / part} lacks weights: {sorted(loaded['missing_keys'])}")
            parts[part] = model.to(device or best_device()).eval().requires_grad_(False)
            millions += sum(p.numel() for p in model.parameters()) / 1e6
        pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
            path, requires_safety_checker=False, **parts, **options
        )
        if not 2 < len(pipeline.tokenizer) <= parts["text_encoder"].config.vocab_size:
            raise ValueError("its tokenizer is missing or that of another model")
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be loaded as a diffusion model: {error}") from error
    finally:
        logging.set_verbosity(verbosity)
    pipeline.set_progress_bar_config(disable=True)
    side = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
    print(f"{name}: {millions:.1f} M parameters, {side} px, {pipeline.device}, {str(number)[6:]}")
    return pipeline


def locate(
    kind: str, source: Source, files: Iterable[str], needed: Iterable[str]
) -> tuple[str, Path]:
    """Turn a profile, folder or hub name into a display name and a folder on this machine.

    `files` are the patterns of what is downloaded; `needed` those without which it is once more.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    from .samples import data_dir

    name = str(source or current_profile().name)
    known = {profile.name: getattr(profile, kind.lower()) for profile in PROFILES.values()}
    folder = data_dir() / known["tiny"] if name == "tiny" else Path(name).expanduser()
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
        # says at once what snapshot_download would retry for half a minute
        HfApi().model_info(repo, revision=revision, timeout=10)
        return repo, Path(snapshot_download(repo, **wanted))
    # the hub's client lets through the errors of whichever HTTP library it was built with
    except Exception as error:
        raise ModelError(
            f"No {kind} {name!r}: no folder, no profile ({', '.join(PROFILES)}), and revision "
            f"{revision!r} could not be downloaded ({error}). Call load_{kind.lower()}({name!r}) "
            "once with network, which keeps it; or use the embedded model, DINOV2_PROFILE=tiny."
        ) from None
