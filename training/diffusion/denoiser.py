"""Second stage: a UNet that turns noise into latents, told by a text what to draw."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from training.captions import EnglishWriter
from training.diffusion.config import Recipe
from training.diffusion.material import Material, caption
from training.diffusion.model import Code, make_denoiser, make_scheduler, text_states
from training.diffusion.stage import Stage


def time_chances(kept: Tensor, gamma: float) -> Tensor:
    """Return how likely each timestep is drawn, given how much of the signal it keeps, ``(1000,)``.

    Min-SNR weights (Hang et al. 2023, section 3.4), for ``v`` as ``min(gamma / (SNR + 1), 1)``, as
    a distribution instead: equal in expectation, and no work is spent on steps of little weight. A
    tenth is the least, for the last strokes matter too.
    """
    chances = (gamma * (1 - kept)).clamp(0.1, 1)  # 1 / (SNR + 1) is what is not kept
    return chances / chances.sum()


class DenoiserStage(Stage):
    """Learns to tell noise and latents apart (Ho et al. 2020, algorithm 1, with ``v`` for noise).

    Args:
        recipe: Every number of the run.
        material: The training pictures.
        code: What their latents are.
        encoder: Text encoder, which stays as it is.
        tokenizer: Its tokenizer.
        out: Folder for the checkpoint.
        device: Where to train.

    Attributes:
        average: Moving average of the weights, which is what is kept.
    """

    name = "denoiser"

    def __init__(
        self,
        recipe: Recipe,
        material: Material,
        code: Code,
        encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        out: Path,
        device: torch.device,
    ) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.material, self.code, self.device = recipe, material, code, device
        self.encoder, self.tokenizer = encoder, tokenizer
        width: int = encoder.config.hidden_size
        network: Any = make_denoiser(recipe, width)
        self.network = network.to(device)
        self.average = copy.deepcopy(self.network).requires_grad_(False).eval()
        self.scheduler = make_scheduler()
        self.chances = (
            time_chances(self.scheduler.alphas_cumprod, recipe.gamma).numpy().astype(float)
        )
        super().__init__(
            out,
            recipe.steps,
            recipe.rate,
            {"network": self.network, "average": self.average},
            self.network.parameters(),
        )

    def relative_rate(self) -> float:
        """Warm up, stay, and fall in the last part of the run."""
        warm = min(1.0, (self.step + 1) / self.recipe.warmup)
        left = (self.steps - self.step) / (self.recipe.decay * self.steps)
        return min(warm, left)

    def draw(self) -> tuple[Tensor, list[str], Tensor, Tensor]:
        """Draw latents of variance 1, their captions, noise and times."""
        recipe = self.recipe
        rng = np.random.default_rng((recipe.seed, self.step))
        pictures, shown = self.material.draw(rng, recipe.batch)
        writer = EnglishWriter(rng)
        texts = ["" if writer.chance(recipe.silent) else caption(writer, facts) for facts in shown]
        clean = self.code.encode(pictures)
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        noise = torch.randn(clean.shape, generator=generator, device=self.device)
        # Spread evenly over the distribution, which makes the loss less noisy.
        even = (np.arange(recipe.batch) + rng.random()) / recipe.batch
        times = np.searchsorted(self.chances.cumsum(), rng.permutation(even)).clip(max=999)
        return clean, texts, noise, torch.from_numpy(times).to(self.device)

    def losses(self) -> dict[str, Tensor]:
        """Predict ``v`` of a batch of noisy latents."""
        clean, texts, noise, times = self.draw()
        states = text_states(self.encoder, self.tokenizer, texts)
        noisy = self.scheduler.add_noise(clean, noise, times)
        aim = self.scheduler.get_velocity(clean, noise, times)
        half = self.device.type == "cuda"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            guess = self.network(noisy, times, encoder_hidden_states=states).sample
        return {"loss": (guess.float() - aim).square().mean()}

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the average; in the beginning it follows faster."""
        momentum = min(self.recipe.average, (1 + self.step) / (10 + self.step))
        pairs = zip(self.average.parameters(), self.network.parameters(), strict=True)
        for kept, learned in pairs:
            kept.lerp_(learned, 1 - momentum)
