"""Loading a diffusion model: a folder, the hub's cache, and what is wrong with a folder."""

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from dinov2_helpers import ModelError, load_diffusion
from dinov2_helpers.models import WEIGHTS

NAME = "stable-diffusion-v1-5/stable-diffusion-v1-5"


@pytest.fixture
def copy(diffusion_folder, tmp_path):
    """A copy of the pipeline's folder to damage."""
    return shutil.copytree(diffusion_folder, tmp_path / "mine")


def drop(folder, part, name):
    """Take the first weight out of a file."""
    path = folder / part / name
    weights = load_file(path)
    del weights[min(weights)]
    save_file(weights, path, {"format": "pt"})


def draw(pipeline):
    options = {"num_inference_steps": 3, "output_type": "np", "guidance_scale": 2.0}
    return pipeline("a cat", generator=torch.Generator().manual_seed(0), **options).images


def test_it_is_the_pipeline_of_diffusers(diffusion_folder, capsys):
    loaded = load_diffusion(diffusion_folder, device="cpu")
    assert capsys.readouterr() == (
        "diffusion: 1.7 M parameters, 64 px, cpu, float32\n",
        "",
    )
    for part in (loaded.unet, loaded.vae, loaded.text_encoder):
        assert not part.training and not any(p.requires_grad for p in part.parameters())
    assert (loaded.safety_checker, loaded.feature_extractor) == (None, None)
    plain = StableDiffusionPipeline.from_pretrained(diffusion_folder)
    plain.set_progress_bar_config(disable=True)
    assert np.abs(draw(loaded) - draw(plain)).max() < 1e-5


def test_the_number_format_is_that_asked_for(diffusion_folder):
    for dtype in ("bfloat16", torch.bfloat16):
        loaded = load_diffusion(diffusion_folder, device="cpu", dtype=dtype)
        parts = (loaded.unet, loaded.vae, loaded.text_encoder)
        assert {part.dtype for part in parts} == {torch.bfloat16}


def test_weights_in_half_precision_load_in_single(copy):
    path = copy / "text_encoder" / "model.safetensors"
    save_file({k: v.half() for k, v in load_file(path).items()}, path, {"format": "pt"})
    assert load_diffusion(copy, device="cpu").text_encoder.dtype == torch.float32


def test_a_safety_checker_that_is_named_but_not_there_is_not_missed(copy):
    index = json.loads((copy / "model_index.json").read_text(encoding="utf-8"))
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    index["requires_safety_checker"] = True
    (copy / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    assert load_diffusion(copy, device="cpu").safety_checker is None


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "model_index.json").unlink(), "model_index.json"),
        (lambda f: (f / "model_index.json").write_text("{}", encoding="utf-8"), "_class_name"),
        (
            lambda f: (f / "model_index.json").write_text(
                '{"_class_name": "FluxPipeline"}', encoding="utf-8"
            ),
            "mine is a FluxPipeline, not a StableDiffusionPipeline",
        ),
        (lambda f: shutil.rmtree(f / "unet"), "cannot be loaded as a diffusion model"),
        (lambda f: shutil.rmtree(f / "tokenizer"), "tokenizer is missing"),
        (lambda f: shutil.rmtree(f / "scheduler"), "cannot be loaded as a diffusion model"),
        (
            lambda f: (f / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"half"),
            "cannot be loaded as a diffusion model",
        ),
        (lambda f: drop(f, "unet", "diffusion_pytorch_model.safetensors"), "unet lacks weights"),
        (lambda f: drop(f, "vae", "diffusion_pytorch_model.safetensors"), "vae lacks weights"),
        (lambda f: drop(f, "text_encoder", "model.safetensors"), "text_encoder lacks weights"),
    ],
)
def test_damaged_folders(copy, damage, message):
    damage(copy)
    with pytest.raises(ModelError, match=message) as error:
        load_diffusion(copy, device="cpu")
    assert str(copy) in str(error.value) or copy.name in str(error.value)


def test_pickled_weights_are_refused(copy):
    path = copy / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(path), path.with_suffix(".bin"))
    path.unlink()
    with pytest.raises(ModelError, match="cannot be loaded as a diffusion model"):
        load_diffusion(copy, device="cpu")


def test_hub_cache_is_enough(diffusion_folder, tmp_path, monkeypatch):
    """A profile resolves to what the cache holds, without network; a part is not enough."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"No diffusion .small.*load_diffusion.*once with network"):
        load_diffusion("small", device="cpu")
    home = tmp_path / f"models--{NAME.replace('/', '--')}"
    cached = shutil.copytree(diffusion_folder, home / "snapshots" / WEIGHTS[NAME]["revision"])
    assert load_diffusion("small", device="cpu").unet.config.sample_size == 8
    (cached / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ModelError, match="once with network"):
        load_diffusion("small", device="cpu")
