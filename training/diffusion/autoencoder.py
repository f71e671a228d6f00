"""First stage: pictures to latents and back."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from training.diffusion.config import SCALE, Recipe
from training.diffusion.material import Material
from training.diffusion.model import Code, make_autoencoder, to_signal
from training.diffusion.stage import Stage
from training.dinov2.model import cosine


def picture_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute error of the pixels and of their differences, at four resolutions.

    Differences between neighbours are edges: without them, a blurred edge costs next to nothing.
    """
    error, loss = made - wanted, torch.zeros((), device=made.device)
    for _ in range(4):
        across = error[..., 1:] - error[..., :-1]
        down = error[..., 1:, :] - error[..., :-1, :]
        loss = loss + error.abs().mean() + across.abs().mean() + down.abs().mean()
        error = F.avg_pool2d(error, 2)
    return loss


class AutoencoderStage(Stage):
    """Learns to compute the code of a picture, and to draw the picture again.

    Args:
        recipe: Every number of the run.
        material: The training pictures.
        code: What the latents are.
        out: Folder for the checkpoint.
        device: Where to train.
    """

    name = "autoencoder"

    def __init__(
        self, recipe: Recipe, material: Material, code: Code, out: Path, device: torch.device
    ) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.material, self.code = recipe, material, code
        network: Any = make_autoencoder(recipe)
        self.network = network.to(device)
        super().__init__(
            out,
            recipe.coder_steps,
            recipe.coder_rate,
            {"autoencoder": self.network},
            self.network.parameters(),
        )

    def relative_rate(self) -> float:
        """Warm up, then follow a cosine."""
        warm = min(1.0, (self.step + 1) / 100)
        return warm * cosine(1.0, 0.01, self.step / self.steps)

    def losses(self) -> dict[str, Tensor]:
        """Encode and decode a batch; the decoder has to do with slightly noisy latents."""
        rng = np.random.default_rng((self.recipe.seed, self.step))
        pictures, _ = self.material.draw(rng, self.recipe.coder_batch)
        wanted, latents = to_signal(pictures), self.code.encode(pictures)
        generator = torch.Generator(wanted.device).manual_seed(int(rng.integers(2**62)))
        noise = torch.randn(latents.shape, generator=generator, device=wanted.device)
        noisy = latents + self.recipe.coder_noise * noise
        guess = self.network.encode(wanted).latent_dist.mean * SCALE
        picture = picture_loss(self.network.decode(noisy / SCALE).sample, wanted)
        code = (guess - latents).square().mean()
        return {"loss": picture + code, "picture": picture, "code": code}


def psnr(made: Tensor, wanted: Tensor) -> NDArray[np.float64]:
    """Peak signal-to-noise ratio of each picture, ``(n,)`` dB; they are ``(n, 3, h, w)`` uint8."""
    error = (made.double() - wanted.double()).square().mean((1, 2, 3))
    return (10 * torch.log10(255**2 / error)).numpy()
