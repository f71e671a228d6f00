"""Train the embedded latent diffusion model from scratch on rendered pictures and their captions.

    python -m training.world.material --out pairs --colours crossed --views 2   # pictures first
    python -m training.diffusion.train --material pairs --recipe cpu --out runs/diffusion

The same code runs on two CPU cores and on a GPU; a stopped run goes on where its last checkpoint
was. First an autoencoder learns to draw the pictures from latents of an eighth of their side. Then
a UNet learns to tell noise and latents apart (Ho et al. 2020; Rombach et al. 2022), given a
caption, which the text encoder of the embedded CLIP reads and which is sometimes missing (Ho and
Salimans 2022). As the latents are computed and not learned (`training.diffusion.model`), both
can also be trained at once, each by a command of its own. What is kept is the moving average of the
UNet's weights, in the folder "model" as often as it is sampled from: a `StableDiffusionPipeline`.
"""

import copy
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from dinov2_helpers.samples import data_dir, load_scenes
from training.command_line import chosen_recipe, parser, write_log
from training.diffusion.autoencoder import AutoencoderStage, psnr
from training.diffusion.config import RECIPES, Recipe
from training.diffusion.denoiser import DenoiserStage
from training.diffusion.evaluate import Judge, small
from training.diffusion.material import Material
from training.diffusion.model import Code, make_pipeline, reconstruct
from training.diffusion.sampling import sample, wishes

MODEL = "model"


def load_text(folder: Path, device: torch.device) -> tuple[CLIPTextModel, CLIPTokenizer]:
    """Return text encoder and tokenizer of a CLIP in a folder, in single precision."""
    from transformers.utils import logging

    logging.set_verbosity_error()  # else it lists the weights of the picture encoder, left out
    encoder: Any = CLIPTextModel.from_pretrained(folder, dtype=torch.float32)
    return encoder.to(device).eval().requires_grad_(False), CLIPTokenizer.from_pretrained(folder)


def held_out(side: int) -> Tensor:
    """Return the portraits of the scenes' train split, ``(n, 3, side, side)`` uint8."""
    pictures = small(load_scenes("train").select(n_objects=1, framing="portrait"), side)
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)


def load_code(material: Material, channels: int, path: Path, device: torch.device) -> Code:
    """Read the code, or fit it to some thousand of the pictures and write it."""
    if not path.exists():
        rows = np.linspace(0, len(material) - 1, 4000).astype(int)
        Code.fitted(material.pictures[rows], channels).save(path)
    return Code.load(path, device)


class Monitor:
    """Draws the same 64 wishes now and then and says how many show the right class."""

    def __init__(self, recipe: Recipe, out: Path) -> None:
        self.judge, self.wanted, self.out = Judge(recipe.side), wishes(4), out / "samples"
        self.out.mkdir(exist_ok=True)

    def score(self, pipeline: StableDiffusionPipeline, step: int) -> dict[str, float]:
        """Return the shares of hits; leave a picture of all samples in "samples"."""
        drawn = sample(pipeline, self.wanted)
        rows = drawn.reshape(8, 8, *drawn.shape[1:]).swapaxes(1, 2)
        sheet = rows.reshape(8 * drawn.shape[1], 8 * drawn.shape[2], 3)
        Image.fromarray(sheet).save(self.out / f"{step:06d}.png")
        return {k: round(v, 4) for k, v in self.judge.scores(drawn, self.wanted).items()}


def export(pipeline: StableDiffusionPipeline, folder: Path) -> None:
    """Write the pipeline in half precision."""
    drawer: Any = pipeline
    vae, unet, text = (
        copy.deepcopy(part).half() for part in (drawer.vae, drawer.unet, drawer.text_encoder)
    )
    half: Any = make_pipeline(vae, unet, text, drawer.tokenizer)
    half.save_pretrained(folder)
    # else transformers computes in half precision what diffusers takes up in single precision
    path = folder / "text_encoder" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"dtype": "float32"}
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Command line: see the module's text."""
    options = parser(__doc__, RECIPES, "pairs", "runs/diffusion", log_every=100)
    clip = data_dir() / "models" / "clip-tiny"
    options.add_argument("--clip", type=Path, default=clip, help="whose text encoder reads")
    options.add_argument("--sample-every", type=int, default=1000, help="steps between samples")
    options.add_argument(
        "--stage", choices=("autoencoder", "denoiser"), help="only this one; they can run at once"
    )
    arguments = options.parse_args()
    recipe: Recipe = chosen_recipe(arguments, RECIPES)
    out, device = arguments.out, torch.device(arguments.device)
    material = Material.load(arguments.material, out, recipe.side, device, arguments.limit)
    code = load_code(material, recipe.channels, out / "code.safetensors", device)
    first = AutoencoderStage(recipe, material, code, out, device)
    print("autoencoder resumed" if first.resume() else "autoencoder starts", flush=True)
    end = time.perf_counter() + 60 * arguments.minutes
    if arguments.stage != "denoiser":
        real = held_out(recipe.side)

        def measured() -> Iterator[dict[str, Any]]:
            for entry in first.run(arguments.minutes, arguments.log_every):
                score = float(psnr(reconstruct(first.network, real), real).mean())
                yield entry | {"pictures": len(material), "psnr": round(score, 2)}

        write_log(out, measured())
    if arguments.stage == "autoencoder":
        return
    encoder, tokenizer = load_text(arguments.clip, device)
    second = DenoiserStage(recipe, material, code, encoder, tokenizer, out, device)
    print("denoiser resumed" if second.resume() else "denoiser starts", flush=True)
    monitor = Monitor(recipe, out)
    pipeline = make_pipeline(first.network, second.average, encoder, tokenizer)

    def watched() -> Iterator[dict[str, Any]]:
        for entry in second.run((end - time.perf_counter()) / 60, arguments.log_every):
            if second.step % arguments.sample_every == 0 or second.step == second.steps:
                first.resume()  # another process may be training it
                entry |= monitor.score(pipeline, second.step)
                export(pipeline, out / MODEL)
            yield entry

    write_log(out, watched())
    export(pipeline, out / MODEL)


if __name__ == "__main__":
    main()
