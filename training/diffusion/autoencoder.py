"""First stage: pictures to latents and back.

What the latents are is not learned but computed: the principal components of square blocks of the
pictures. Encoder and decoder, which in Stable Diffusion find a code together, would take hours on
two cores to agree on one that has colours. Here each has a fixed aim and learns it directly: the
encoder to compute the components, the decoder to draw better from them than a linear map can.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor

from training.diffusion.config import FACTOR, SCALE, Recipe
from training.diffusion.material import Material
from training.diffusion.stage import Stage
from training.dinov2.model import cosine

LOG_VARIANCE = -4.0  # that the encoder states for its latents, which are the same each time


def to_signal(pictures: Tensor) -> Tensor:
    """Turn bytes ``(n, 3, h, w)`` into numbers in ``[-1, 1]``, as Stable Diffusion has them."""
    return pictures.float() / 127.5 - 1


def to_bytes(signal: Tensor) -> Tensor:
    """Turn numbers in ``[-1, 1]`` into bytes."""
    return ((signal.float() + 1) * 127.5).round().clamp(0, 255).byte()


@dataclass(frozen=True)
class Code:
    """Principal components of blocks of 8 x 8 pixels.

    They are scaled by the square root of their deviations, so that the strong ones are still
    stronger and emerge from the noise first, and all of them together to a variance of 1.

    Attributes:
        mean: Mean block, ``(192,)``.
        into: Block to components, ``(192, channels)``.
        out_of: Components to block, ``(channels, 192)``.
    """

    mean: Tensor
    into: Tensor
    out_of: Tensor

    @classmethod
    def fitted(cls, pictures: Tensor, channels: int) -> "Code":
        """Fit to pictures ``(n, 3, h, w)`` uint8."""
        blocks = F.pixel_unshuffle(to_signal(pictures), FACTOR).movedim(1, -1).flatten(0, 2)
        values, axes = torch.linalg.eigh(blocks.T.cov())
        deviations, axes = values.flip(0)[:channels].sqrt(), axes.flip(1)[:, :channels]
        scale = deviations.sqrt() * deviations.mean().sqrt()
        return cls(blocks.mean(0), axes / scale, (axes * scale).T.contiguous())

    def encode(self, pictures: Tensor) -> Tensor:
        """Return latents ``(n, channels, h / 8, w / 8)`` of pictures uint8, of variance 1."""
        blocks = F.pixel_unshuffle(to_signal(pictures), FACTOR).movedim(1, -1)
        return ((blocks - self.mean) @ self.into).movedim(-1, 1).contiguous()

    def decode(self, latents: Tensor) -> Tensor:
        """Return the nearest pictures that a linear map can draw, ``(n, 3, h, w)`` uint8."""
        blocks = latents.movedim(1, -1) @ self.out_of + self.mean
        return to_bytes(F.pixel_shuffle(blocks.movedim(-1, 1), FACTOR))

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        save_file({k: v.cpu().contiguous() for k, v in vars(self).items()}, path)

    @classmethod
    def load(cls, path: Path, device: torch.device) -> "Code":
        """Read what `save` wrote."""
        return cls(**{name: tensor.to(device) for name, tensor in load_file(path).items()})


def make_autoencoder(recipe: Recipe) -> AutoencoderKL:
    """Return an untrained `AutoencoderKL` of the recipe's shape.

    The 1x1 convolutions beside its latents begin, and the one for the variance stays, as what makes
    latents of deviation ``1 / SCALE``.
    """
    levels, n = len(recipe.coder_widths), recipe.channels
    network: Any = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=recipe.coder_widths,
        latent_channels=n,
        norm_num_groups=8,
        sample_size=recipe.side,
        scaling_factor=SCALE,
    )
    with torch.no_grad():
        for convolution, scale in (
            (network.quant_conv, 1 / SCALE),
            (network.post_quant_conv, SCALE),
        ):
            convolution.weight.zero_()
            convolution.bias.zero_()
            convolution.weight[:n, :n, 0, 0] = scale * torch.eye(n)
        network.quant_conv.bias[n:] = LOG_VARIANCE
    return network


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


@torch.no_grad()
def reconstruct(autoencoder: AutoencoderKL, pictures: Tensor, batch: int = 64) -> Tensor:
    """Encode and decode pictures ``(n, 3, h, w)`` uint8."""
    coder: Any = autoencoder
    coder.eval()
    made = []
    for part in pictures.split(batch):
        latents = coder.encode(to_signal(part).to(coder.device)).latent_dist.mean
        made.append(to_bytes(coder.decode(latents).sample).cpu())
    return torch.cat(made)


def psnr(made: Tensor, wanted: Tensor) -> float:
    """Mean peak signal-to-noise ratio of pictures ``(n, 3, h, w)`` uint8, in dB."""
    error = (made.float() - wanted.float()).square().mean((1, 2, 3))
    return (10 * torch.log10(255**2 / error)).mean().item()
