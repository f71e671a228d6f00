"""Second stage: a UNet that turns noise into latents, told by a text what to draw."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from training.captions import FAR, EnglishWriter
from training.clip.evaluate import with_colour
from training.diffusion.autoencoder import Code
from training.diffusion.config import FACTOR, Recipe
from training.diffusion.material import Facts, Material, kind
from training.diffusion.stage import Stage
from training.world.captions import PLACES, article

# Shares of the captions of one toy that say all there is to say, and that name the class alone,
# both in the same words; the rest is in the words of `training.captions`.
WHOLE, CLASS_ALONE = 0.4, 0.4


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


def time_chances(kept: Tensor, gamma: float) -> Tensor:
    """Return how likely each timestep is drawn, given how much of the signal it keeps, ``(1000,)``.

    Min-SNR weights (Hang et al. 2023, section 3.4), for ``v`` as ``min(gamma / (SNR + 1), 1)``, as
    a distribution instead: equal in expectation, and no work is spent on steps of little weight. A
    tenth is the least, for the last strokes matter too.
    """
    chances = (gamma * (1 - kept)).clamp(0.1, 1)  # 1 / (SNR + 1) is what is not kept
    return chances / chances.sum()


def statement(facts: Facts) -> str:
    """Say class, colour and surface of a picture of one toy, as "a photo of a red car on sand"."""
    toy = facts["objects"][0]
    what = with_colour(toy["class"], toy["colour"])
    text = f"a photo of {what}" if kind(facts) == "portrait" else FAR.format(what)
    return f"{text} {'flying over' if toy['flying'] else 'on'} {PLACES[facts['surface']][0]}"


def class_alone(facts: Facts) -> str:
    """Name the class of a picture of one toy, as "a photo of a car"."""
    what = article(facts["objects"][0]["class"])
    return f"a photo of {what}" if kind(facts) == "portrait" else FAR.format(what)


def caption(writer: EnglishWriter, facts: Facts) -> str:
    """Write a caption; one of a toy far away always says so, that the others mean near ones."""
    shown = kind(facts)
    if shown == "multi" or (shown == "portrait" and not writer.chance(WHOLE + CLASS_ALONE)):
        return writer.caption(facts)
    whole = writer.chance(WHOLE / (WHOLE + CLASS_ALONE))
    return statement(facts) if whole else class_alone(facts)


@torch.no_grad()
def text_states(encoder: CLIPTextModel, tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Return what the denoiser reads of texts, ``(n, tokens, width)``, as diffusers computes it."""
    tokens: Any = tokenizer(
        texts, padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt"
    )
    return encoder(tokens.input_ids.to(encoder.device)).last_hidden_state


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
