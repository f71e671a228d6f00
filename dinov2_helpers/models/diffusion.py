"""Load a latent diffusion model: the embedded one, or Stable Diffusion."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..extras import need
from .load import Device, Dtype, Source, best_device, locate, quiet
from .profiles import ModelError

log = logging.getLogger("dinov2_helpers")
PARTS = ("unet", "vae", "text_encoder")
# Named one by one: the hub's folder has copies in half precision and in formats that run code.
WEIGHT_FILES = (
    "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
    "text_encoder/model.safetensors",
)
OTHER_FILES = ("model_index.json", "*/*config.json", "tokenizer/*.json", "tokenizer/merges.txt")


def load_diffusion(
    name_or_path: Source = None, *, device: Device = None, dtype: Dtype = None
) -> Any:
    """Load a `StableDiffusionPipeline`, frozen; its one-line description is logged (level INFO).

    Arguments and errors are those of `load_dinov2`. No safety checker is loaded: look at pictures
    before you show them.

    Args:
        name_or_path: As for `load_dinov2`.
        device: As for `load_dinov2`.
        dtype: As for `load_dinov2`; one that torch does not have is a ValueError.

    Example:
        >>> pipeline = load_diffusion("tiny")
        >>> pipeline("a red car on grass", num_inference_steps=2).images[0].size
        (64, 64)
    """
    import torch
    from safetensors import SafetensorError

    need("diffusers", "course", "A diffusion model")
    number = getattr(torch, str(dtype or "float32").removeprefix("torch."), None)
    if not isinstance(number, torch.dtype):
        raise ValueError(f"dtype {dtype!r} is no number format of torch, such as 'float16'")
    name, path = locate("diffusion", name_or_path, [*OTHER_FILES, *WEIGHT_FILES], WEIGHT_FILES)
    try:
        with _hushed():
            pipeline = _assemble(name, path, number, device or best_device())
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be loaded as a diffusion model: {error}") from error
    pipeline.set_progress_bar_config(disable=True)
    networks = [getattr(pipeline, part) for part in PARTS]
    millions = sum(p.numel() for network in networks for p in network.parameters()) / 1e6
    side = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
    description = f"{name}: {millions:.1f} M parameters, {side} px, {pipeline.device}"
    log.info("%s, %s", description, str(number).removeprefix("torch."))
    return pipeline


def _assemble(name: str, path: Path, number: Any, device: Any) -> Any:
    import diffusers
    from transformers import CLIPTextModel

    config = json.loads((path / "model_index.json").read_text(encoding="utf-8"))
    kind = config["_class_name"]
    if kind != "StableDiffusionPipeline":
        raise ModelError(f"{name} is a {kind}, not a StableDiffusionPipeline")
    classes: dict[str, Any] = {
        "unet": diffusers.UNet2DConditionModel,
        "vae": diffusers.AutoencoderKL,
        "text_encoder": CLIPTextModel,
    }
    options: dict[str, Any] = {"use_safetensors": True, "dtype": number}
    networks: dict[str, Any] = {}
    for part, cls in classes.items():
        model, loading = cls.from_pretrained(path / part, output_loading_info=True, **options)
        if loading["missing_keys"]:
            raise ModelError(f"{path / part} lacks weights: {sorted(loading['missing_keys'])}")
        networks[part] = model.to(device).eval().requires_grad_(False)
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
        path,
        requires_safety_checker=False,
        safety_checker=None,
        feature_extractor=None,
        **networks,
        **options,
    )
    if not 2 < len(pipeline.tokenizer) <= networks["text_encoder"].config.vocab_size:
        raise ValueError("its tokenizer is missing or that of another model")
    return pipeline


@contextmanager
def _hushed() -> Iterator[None]:
    """Hide bars, and what the import of diffusers says where there is no torchvision."""
    from transformers.utils import logging as transformers_logging

    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        from diffusers.utils import logging as diffusers_logging

        shown = diffusers_logging.is_progress_bar_enabled()
        diffusers_logging.disable_progress_bar()
        try:
            with quiet():
                yield
        finally:
            if shown:
                diffusers_logging.enable_progress_bar()
    finally:
        transformers_logging.set_verbosity(verbosity)
