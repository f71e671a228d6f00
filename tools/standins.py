"""Stand-ins for the models of the hub: their architecture, shapes and files, with random weights.

    python -m tools.standins small --cache build/standins

fills a folder that the Hugging Face libraries take for their cache, so that every name of a profile
resolves at its pinned revision without a network, also of weights that are behind a form. Nothing
that they compute means anything; they show that the code runs on the real models' sizes. Stable
Diffusion alone is narrower and smaller than the real one, which a CPU cannot run within an hour.
"""

import argparse
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    SiglipConfig,
    SiglipModel,
)

from dinov2_helpers import data_dir
from dinov2_helpers.hashes import sha256_of
from dinov2_helpers.models import PROFILES, WEIGHTS

# the file of facebook/dinov2-base
PREPROCESSOR: dict[str, Any] = {
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_processor_type": "BitImageProcessor",
    "image_std": [0.229, 0.224, 0.225],
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 256},
}
# that of facebook/dinov3-vits16-pretrain-lvd1689m
DINOV3_PREPROCESSOR: dict[str, Any] = {
    "crop_size": None,
    "data_format": "channels_first",
    "default_to_square": True,
    "device": None,
    "disable_grouping": None,
    "do_center_crop": None,
    "do_convert_rgb": None,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_processor_type": "DINOv3ViTImageProcessorFast",
    "image_std": [0.229, 0.224, 0.225],
    "input_data_format": None,
    "resample": 2,
    "rescale_factor": 0.00392156862745098,
    "return_tensors": None,
    "size": {"height": 224, "width": 224},
}
# that of google/siglip2-base-patch16-224
SIGLIP_PREPROCESSOR: dict[str, Any] = {
    "do_convert_rgb": None,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "SiglipImageProcessor",
    "image_std": [0.5, 0.5, 0.5],
    "processor_class": "SiglipProcessor",
    "resample": 2,
    "rescale_factor": 0.00392156862745098,
    "size": {"height": 224, "width": 224},
}
# that of openai/clip-vit-base-patch32, in an older form
CLIP_PREPROCESSOR: dict[str, Any] = {
    "crop_size": 224,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "size": 224,
}
# the scheduler of Stable Diffusion 1.5
SCHEDULER: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "skip_prk_steps": True,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
DINOV2_SIZES: dict[str, dict[str, Any]] = {
    "small": {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12},
    "large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16},
    "giant": {
        "hidden_size": 1536,
        "num_hidden_layers": 40,
        "num_attention_heads": 24,
        "use_swiglu_ffn": True,
    },
}
# by the letter in the name of the repository
DINOV3_SIZES: dict[str, dict[str, Any]] = {
    "s": {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6},
    "b": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12},
    "l": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16},
}
SIGLIP_VOCABULARY = 256_000  # Gemma's
_CLIP_TEXT: dict[str, Any] = {
    "vocab_size": 49408,
    "max_position_embeddings": 77,
    "bos_token_id": 0,
    "eos_token_id": 2,  # as in the files of OpenAI's models: the end is the largest token then
    "pad_token_id": 1,
}
_CLIP: dict[str, dict[str, Any]] = {
    "openai/clip-vit-base-patch32": {"projection_dim": 512, "text_config": {}},  # the defaults
    "openai/clip-vit-large-patch14": {
        "projection_dim": 768,
        "text_config": {
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_attention_heads": 12,
        },
        "vision_config": {
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "patch_size": 14,
        },
    },
}


def write_preprocessor(folder: Path, preprocessor: Mapping[str, Any]) -> None:
    """Writes the file that an image processor is read from."""
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor), encoding="utf-8")


def dinov2_model(name: str) -> Any:
    """Returns a random model with the sizes of, say, "facebook/dinov2-base"."""
    sizes = DINOV2_SIZES[name.rsplit("-", 1)[1]] | {"image_size": 518, "patch_size": 14}
    if "with-registers" in name:
        return Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**sizes, num_register_tokens=4))
    return Dinov2Model(Dinov2Config(**sizes))


def dinov3_model(name: str) -> Any:
    """Returns a random model with the sizes of, say, "facebook/dinov3-vits16-pretrain-lvd1689m"."""
    sizes = DINOV3_SIZES[name.split("-vit")[1][0]]
    width = 4 * sizes["hidden_size"]
    return DINOv3ViTModel(DINOv3ViTConfig(**sizes, intermediate_size=width, num_register_tokens=4))


def siglip_model(vocabulary: int = SIGLIP_VOCABULARY) -> Any:
    """Returns a random model with the sizes of "google/siglip2-base-patch16-224".

    Args:
        vocabulary: tokens that it can read; those of the real one weigh half of all of it.
    """
    return SiglipModel(SiglipConfig(text_config={"vocab_size": vocabulary}))


def clip_model(name: str) -> Any:
    """Returns a random model with the sizes of, say, "openai/clip-vit-base-patch32"."""
    sizes = _CLIP[name]
    return CLIPModel(CLIPConfig(**sizes | {"text_config": _CLIP_TEXT | sizes["text_config"]}))


def diffusion_models(
    unet: Sequence[int] = (320, 640, 1280, 1280),
    vae: Sequence[int] = (128, 256, 512, 512),
    latent: int = 64,
) -> dict[str, Any]:
    """Returns the random models of Stable Diffusion 1.5: real ones, or others of those widths."""
    text = CLIPTextConfig(**_CLIP_TEXT | _CLIP["openai/clip-vit-large-patch14"]["text_config"])
    return {
        "unet": UNet2DConditionModel(
            sample_size=latent,
            block_out_channels=tuple(unet),
            cross_attention_dim=text.hidden_size,
            attention_head_dim=8,
        ),
        "vae": AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * len(vae),
            up_block_types=("UpDecoderBlock2D",) * len(vae),
            block_out_channels=tuple(vae),
            layers_per_block=2,
            sample_size=8 * latent,
        ),
        "text_encoder": CLIPTextModel(text),
    }


def tokenizer() -> CLIPTokenizer:
    """Returns the embedded CLIP's tokenizer; the vocabulary of OpenAI's is larger."""
    return CLIPTokenizer.from_pretrained(data_dir() / "models" / "clip-tiny", model_max_length=77)


def _write_dinov2(name: str, folder: Path) -> None:
    torch.manual_seed(0)
    dinov2_model(name).save_pretrained(folder)
    write_preprocessor(folder, PREPROCESSOR)


def _write_dinov3(name: str, folder: Path) -> None:
    torch.manual_seed(0)
    dinov3_model(name).save_pretrained(folder)
    write_preprocessor(folder, DINOV3_PREPROCESSOR)


def _write_siglip(name: str, folder: Path) -> None:
    torch.manual_seed(1)
    siglip_model().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    write_preprocessor(folder, SIGLIP_PREPROCESSOR)


def _write_clip(name: str, folder: Path) -> None:
    torch.manual_seed(1)
    clip_model(name).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    write_preprocessor(folder, CLIP_PREPROCESSOR)


def _write_diffusion(name: str, folder: Path) -> None:
    """Narrow, and with latents of 4 x 8 x 8: a CPU could not run the real one in hours."""
    torch.manual_seed(2)
    pipeline: Any = StableDiffusionPipeline(
        **diffusion_models((32, 32, 64, 64), (32, 32, 32, 32), latent=8),
        tokenizer=tokenizer(),
        scheduler=PNDMScheduler(**SCHEDULER),
        **dict.fromkeys(("safety_checker", "feature_extractor")),
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    # PNDM has no such setting and drops it; a scheduler that is made of its file reads it.
    scheduler = folder / "scheduler" / "scheduler_config.json"
    kept = json.loads(scheduler.read_text(encoding="utf-8")) | {"clip_sample": False}
    scheduler.write_text(json.dumps(kept, indent=2), encoding="utf-8")
    index = folder / "model_index.json"
    named = json.loads(index.read_text(encoding="utf-8")) | {
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
    }
    index.write_text(json.dumps(named, indent=2), encoding="utf-8")


def add_to_cache(cache: Path, repo: str, build: Callable[[str, Path], None]) -> Path:
    """Puts what `build(repo, folder)` writes into a cache of the hub, unless it is there.

    The layout is that of huggingface_hub: blobs by SHA-256, and links to them in the snapshot.

    Returns:
        The folder of the snapshot, at the pinned revision.
    """
    home = cache / f"models--{repo.replace('/', '--')}"
    snapshot = home / "snapshots" / WEIGHTS[repo]["revision"]
    if snapshot.exists():
        return snapshot
    (home / "blobs").mkdir(parents=True, exist_ok=True)
    (home / "refs").mkdir(exist_ok=True)
    (home / "refs" / "main").write_text(WEIGHTS[repo]["revision"], encoding="utf-8")
    partial = snapshot.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    with TemporaryDirectory(dir=home) as name:
        folder = Path(name)
        build(repo, folder)
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            blob = home / "blobs" / sha256_of(file)
            link = partial / file.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            up = len(link.relative_to(home).parts) - 1
            file.replace(blob)
            link.symlink_to(Path(*[".."] * up, "blobs", blob.name))
    partial.replace(snapshot)
    return snapshot


def standins(profile: str, cache: Path) -> list[Path]:
    """Puts stand-ins for the three models of a profile into a cache of the hub."""
    models = PROFILES[profile]
    repos = dict.fromkeys((models.dinov2, models.clip, models.diffusion))
    return [add_to_cache(cache, repo, _builder(repo)) for repo in repos]


def _builder(repo: str) -> Callable[[str, Path], None]:
    """What writes a stand-in for a repository, by how its name begins."""
    builders = {
        "facebook/dinov2-": _write_dinov2,
        "facebook/dinov3-": _write_dinov3,
        "google/siglip2-": _write_siglip,
        "openai/clip-": _write_clip,
        "stable-diffusion": _write_diffusion,
    }
    return next(build for start, build in builders.items() if repo.startswith(start))


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("profile", choices=[name for name in PROFILES if name != "tiny"])
    parser.add_argument("--cache", type=Path, required=True, help="becomes HF_HUB_CACHE")
    options = parser.parse_args(arguments)
    for snapshot in standins(options.profile, options.cache):
        print(snapshot)


if __name__ == "__main__":
    main()
