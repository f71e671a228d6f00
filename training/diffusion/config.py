"""Every number of the recipe, in one place."""

from dataclasses import dataclass

SCALE = 0.18215  # scaling factor of Stable Diffusion 1.5: latents are stored divided by it
FACTOR = 8  # pixels per latent along each side, as in Stable Diffusion


@dataclass(frozen=True)
class Recipe:
    """Networks, data diet and schedule of one training run.

    The schedule counts steps, never seconds, so a stalled or resumed run is the same run.

    Attributes:
        side: Side of the pictures in pixels.
        channels: Channels of the latents.
        coder_widths: Channels of the autoencoder at each of its four resolutions.
        coder_steps: Steps of the autoencoder.
        coder_batch: Pictures per step.
        coder_rate: Peak of its learning rate.
        coder_noise: Deviation of the noise that the decoder learns to do with.
        widths: Channels of the denoiser at each of its resolutions; a multiple of 16.
        attention: Whether the denoiser attends (to itself and to the text) at each of them.
        heads: Attention heads.
        time_width: Size of the vector that carries time and the whole text.
        steps: Steps of the denoiser.
        batch: Latents per step.
        rate: Learning rate, constant between warm-up and the last part of the run.
        warmup: Steps of the linear warm-up.
        decay: Share of the steps, the last, in which the learning rate falls to zero.
        average: Momentum of the average of the weights that is kept in the end.
        gamma: Largest signal-to-noise ratio that gets full attention (Hang et al. 2023).
        silent: Share of the captions that are left out, for classifier-free guidance.
        seed: Seed of initialisation, batches, captions and noise.
    """

    side: int = 64
    channels: int = 24
    coder_widths: tuple[int, ...] = (16, 32, 64, 80)
    coder_steps: int = 20_000
    coder_batch: int = 32
    coder_rate: float = 1e-3
    coder_noise: float = 0.1
    widths: tuple[int, ...] = (96, 112)
    attention: tuple[bool, ...] = (True, False)
    heads: int = 4
    time_width: int = 192
    steps: int = 60_000
    batch: int = 256
    rate: float = 1e-3
    warmup: int = 300
    decay: float = 0.25
    average: float = 0.9995
    gamma: float = 5.0
    silent: float = 0.12
    seed: int = 0


#: Two CPU cores: under an hour for the autoencoder, then hours; it may be stopped at any time.
CPU = Recipe(coder_steps=4000, coder_batch=8, steps=12_000, batch=64, average=0.999)
#: One data-centre GPU, under an hour.
GPU = Recipe()
#: A few steps, to try the whole way from pictures to card.
TRIAL = Recipe(coder_steps=4, coder_batch=4, widths=(16, 16), steps=4, batch=4, warmup=2)
RECIPES = {"cpu": CPU, "gpu": GPU, "trial": TRIAL}
