"""The two networks of the model, the code between them, and the pipeline that they make.

What the latents are is not learned but computed: the principal components of square blocks of the
pictures. Encoder and decoder, which in Stable Diffusion find a code together, would take hours on
two cores to agree on one that has colours. Here each has a fixed aim and learns it directly: the
encoder to compute the components, the decoder to draw better from them than a linear map can.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from training.diffusion.config import FACTOR, SCALE, Recipe

LOG_VARIANCE = -4.0  # that the encoder states for its latents, which are the same each time
# that the encoder states for its latents, which are the same each time


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


def make_denoiser(recipe: Recipe, text_width: int) -> UNet2DConditionModel:
    """Return an untrained `UNet2DConditionModel` of the recipe's shape.

    As in DeepFloyd IF, the text comes in twice: by cross-attention and, pooled, beside the time.
    The second way is learned sooner; callers notice nothing of it.
    """
    return UNet2DConditionModel(
        sample_size=recipe.side // FACTOR,
        in_channels=recipe.channels,
        out_channels=recipe.channels,
        block_out_channels=recipe.widths,
        layers_per_block=1,
        down_block_types=tuple(
            "CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in recipe.attention
        ),
        up_block_types=tuple(
            "CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in recipe.attention[::-1]
        ),
        cross_attention_dim=text_width,
        attention_head_dim=recipe.heads,  # the number of heads, in spite of its name
        norm_num_groups=16,
        time_embedding_dim=recipe.time_width,
        resnet_time_scale_shift="scale_shift",
        addition_embed_type="text",
        addition_embed_type_num_heads=recipe.heads,
    )


def make_scheduler() -> Any:
    """Return a `DDIMScheduler` with the noise of Stable Diffusion 1.5 and the aim of 2.1.

    That aim is the velocity ``v = sqrt(kept) noise - sqrt(1 - kept) clean`` (Salimans and Ho 2022,
    section 4). In the first steps, which decide what is where, nearly all is noise: who finds it
    there has learned next to nothing of the picture; to find ``v`` there is to find the picture.
    """
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction",
    )


@torch.no_grad()
def text_states(encoder: CLIPTextModel, tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Return what the denoiser reads of texts, ``(n, tokens, width)``, as diffusers computes it."""
    tokens: Any = tokenizer(
        texts, padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt"
    )
    return encoder(tokens.input_ids.to(encoder.device)).last_hidden_state


def make_pipeline(
    autoencoder: AutoencoderKL,
    denoiser: UNet2DConditionModel,
    encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
) -> StableDiffusionPipeline:
    """Put the parts together; nothing is copied."""
    parts: dict[str, Any] = {
        "vae": autoencoder,
        "unet": denoiser,
        "text_encoder": encoder,
        "tokenizer": tokenizer,
        "scheduler": make_scheduler(),
        "safety_checker": None,
        "feature_extractor": None,
    }
    return StableDiffusionPipeline(**parts, requires_safety_checker=False)
