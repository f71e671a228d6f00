"""What a text-to-image pipeline of diffusers does in its loop, taken apart to be steered."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .schedules import Schedule, check_scheduler

if TYPE_CHECKING:
    from torch import Generator, Tensor

Texts = Sequence[str]


def check_pipeline(pipeline: Any) -> None:
    """Check that the loop can be that of the pipeline.

    Raises:
        ValueError: Another pipeline than those of `PIPELINES`, with parts that are not followed
            here, or whose networks are moved to and fro.
    """
    name = type(pipeline).__name__
    if name not in PIPELINES:
        raise ValueError(
            f"{name} cannot be guided here, since its loop is another one: give one of "
            f"{[*PIPELINES]}"
        )
    check_scheduler(pipeline.scheduler)
    config = network_of(pipeline).config
    adapted = getattr(pipeline, "is_ip_adapter_active", False)
    if adapted or config.get("encoder_hid_dim_type"):
        raise ValueError(
            "the pipeline has an IP-Adapter, which a guide does not follow: "
            "pipeline.unload_ip_adapter()"
        )
    if config.get("time_cond_proj_dim") is not None:
        raise ValueError(
            "the UNet was distilled with classifier-free guidance inside (time_cond_proj_dim), "
            "which a guide does not follow: take the model that it was made from"
        )
    moved = [part for part, module in pipeline.components.items() if hasattr(module, "_hf_hook")]
    if moved:
        raise ValueError(
            f"{moved} are moved between devices while they run, where a gradient loses its way: "
            "call pipeline.remove_all_hooks(), then pipeline.to(device)"
        )


def network_of(pipeline: Any) -> Any:
    """Return the network that says what noise there is."""
    return getattr(pipeline, "transformer", None) or pipeline.unet


class Denoiser:
    """A pipeline's parts at work on one batch of pictures.

    Args:
        pipeline: One that `check_pipeline` lets pass.
        prompts: Of the n pictures.
        negative: What they should not show, n texts; None: as the pipeline does without.
        scale: Of classifier-free guidance; up to 1 it is off, as in the pipeline.
        size: Height and width of the pictures, in pixels.
    """

    def __init__(
        self,
        pipeline: Any,
        prompts: Texts,
        negative: Texts | None,
        scale: float,
        size: tuple[int, int],
    ) -> None:
        import torch

        self.pipeline = pipeline
        self.prompts = tuple(prompts)
        self.scale = scale
        self.size = size
        self.network = network_of(pipeline)
        self.device = pipeline._execution_device
        self._of = PIPELINES[type(pipeline).__name__]
        with torch.no_grad():
            self.conditions = self._of.conditions(self, list(prompts), negative)

    @property
    def two_halves(self) -> bool:
        """Whether the network is asked without and with the prompts."""
        return self.scale > 1

    def schedule(self, steps: int) -> Schedule:
        """Return the pipeline's steps from their beginning."""
        options = self._of.schedule_options(self)
        return Schedule(self.pipeline.scheduler, steps, self.device, **options)

    def start(self, generators: "list[Generator]") -> "Tensor":
        """Return the noise to begin with, (n, C, h, w), scaled as the scheduler wants it."""
        latents: Tensor = self.pipeline.prepare_latents(
            len(self.prompts),
            self.network.config.in_channels,
            *self.size,
            self.dtype,
            self.device,
            generators,
        )
        return latents

    @property
    def dtype(self) -> Any:
        """The number format of the latents, which is that of the texts."""
        return self.conditions["encoder_hidden_states"].dtype

    def predict(self, seen: "Tensor", timestep: "Tensor") -> "Tensor":
        """Return what the network says of latents (n, C, h, w), with classifier-free guidance."""
        import torch

        both = torch.cat([seen, seen]) if self.two_halves else seen
        output: Tensor = self._of.ask(self, both, timestep)
        if not self.two_halves:
            return output
        free, prompted = output.chunk(2)
        return free + self.scale * (prompted - free)

    def decode(self, latents: "Tensor") -> "Tensor":
        """Return clean latents as pictures (n, 3, H, W), about 0 to 1; a gradient can come back."""
        vae = self.pipeline.vae
        pictures: Tensor = vae.decode(unscaled(vae, latents.to(vae.dtype)), return_dict=False)[0]
        return pictures / 2 + 0.5

    def finish(self, latents: "Tensor", generators: "list[Generator]") -> Any:
        """Return the pipeline's own pictures of clean latents, (n, H, W, 3) uint8."""
        import torch

        with torch.no_grad():
            numbers = self._of.finish(self, latents, generators)  # 0 to 1
        return (numbers * 255).round().astype("uint8")


def unscaled(vae: Any, latents: "Tensor") -> "Tensor":
    """Return latents as the decoder of a VAE wants them."""
    config = vae.config
    mean, deviation = config.get("latents_mean"), config.get("latents_std")
    if mean is not None and deviation is not None:
        mean, deviation = (latents.new_tensor(x).view(1, -1, 1, 1) for x in (mean, deviation))
        return latents * deviation / config.scaling_factor + mean
    scaled = latents / config.scaling_factor
    shift = config.get("shift_factor")
    return scaled if shift is None else scaled + shift


@contextmanager
def upcast(vae: Any) -> Iterator[None]:
    """Let a VAE compute in float32 if it says that float16 is too narrow for it."""
    import torch

    if vae.dtype != torch.float16 or not vae.config.force_upcast:
        yield
        return
    vae.to(dtype=torch.float32)
    try:
        yield
    finally:
        vae.to(dtype=torch.float16)


# What differs between pipelines


def _joined(denoiser: Denoiser, without: "Tensor | None", prompted: "Tensor") -> "Tensor":
    """Return what stands for no prompt and for the prompts as one batch."""
    import torch

    if not denoiser.two_halves or without is None:
        return prompted
    return torch.cat([without, prompted])


def _texts(denoiser: Denoiser, prompts: list[str], negative: Texts | None) -> dict[str, Any]:
    return {
        "prompt": prompts,
        "negative_prompt": None if negative is None else list(negative),
        "device": denoiser.device,
        "num_images_per_prompt": 1,
        "do_classifier_free_guidance": denoiser.two_halves,
    }


def _sd_conditions(
    denoiser: Denoiser, prompts: list[str], negative: Texts | None
) -> dict[str, Any]:
    found = denoiser.pipeline.encode_prompt(**_texts(denoiser, prompts, negative))
    prompted, without = found
    return {"encoder_hidden_states": _joined(denoiser, without, prompted)}


def _sdxl_conditions(
    denoiser: Denoiser, prompts: list[str], negative: Texts | None
) -> dict[str, Any]:
    import torch

    pipeline = denoiser.pipeline
    found = pipeline.encode_prompt(**_texts(denoiser, prompts, negative))
    prompted, without, pooled, pooled_without = found
    width = pooled.shape[-1]
    if pipeline.text_encoder_2 is not None:
        width = pipeline.text_encoder_2.config.projection_dim
    sizes = pipeline._get_add_time_ids(
        denoiser.size, (0, 0), denoiser.size, prompted.dtype, text_encoder_projection_dim=width
    )
    rows = len(prompts) * (2 if denoiser.two_halves else 1)
    added = {
        "text_embeds": _joined(denoiser, pooled_without, pooled),
        "time_ids": torch.cat([sizes.to(denoiser.device)] * rows),
    }
    return {
        "encoder_hidden_states": _joined(denoiser, without, prompted),
        "added_cond_kwargs": added,
    }


def _sd3_conditions(
    denoiser: Denoiser, prompts: list[str], negative: Texts | None
) -> dict[str, Any]:
    texts = _texts(denoiser, prompts, negative)
    found = denoiser.pipeline.encode_prompt(**texts, prompt_2=None, prompt_3=None)
    prompted, without, pooled, pooled_without = found
    return {
        "encoder_hidden_states": _joined(denoiser, without, prompted),
        "pooled_projections": _joined(denoiser, pooled_without, pooled),
    }


def _ask_unet(denoiser: Denoiser, seen: "Tensor", timestep: "Tensor") -> Any:
    return denoiser.network(seen, timestep, return_dict=False, **denoiser.conditions)[0]


def _ask_transformer(denoiser: Denoiser, seen: "Tensor", timestep: "Tensor") -> Any:
    repeated = timestep.expand(len(seen))
    return denoiser.network(
        hidden_states=seen, timestep=repeated, return_dict=False, **denoiser.conditions
    )[0]


def _no_options(denoiser: Denoiser) -> dict[str, Any]:
    return {}


def _sd3_options(denoiser: Denoiser) -> dict[str, Any]:
    """Return how far the timesteps shift with the size of the picture, if they do."""
    from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import calculate_shift

    config = denoiser.pipeline.scheduler.config
    if not config.get("use_dynamic_shifting"):
        return {}
    side = denoiser.pipeline.vae_scale_factor * denoiser.network.config.patch_size
    height, width = denoiser.size
    shift = calculate_shift(
        (height // side) * (width // side),
        config.get("base_image_seq_len", 256),
        config.get("max_image_seq_len", 4096),
        config.get("base_shift", 0.5),
        config.get("max_shift", 1.16),
    )
    return {"mu": shift}


def _finish_sd(denoiser: Denoiser, latents: "Tensor", generators: "list[Generator]") -> Any:
    pipeline = denoiser.pipeline
    pictures = pipeline.vae.decode(
        unscaled(pipeline.vae, latents), return_dict=False, generator=generators
    )[0]
    pictures, unsafe = pipeline.run_safety_checker(pictures, denoiser.device, denoiser.dtype)
    from_minus_one = [True] * len(pictures) if unsafe is None else [not one for one in unsafe]
    return pipeline.image_processor.postprocess(
        pictures, output_type="np", do_denormalize=from_minus_one
    )


def _finish_sdxl(denoiser: Denoiser, latents: "Tensor", generators: "list[Generator]") -> Any:
    pipeline = denoiser.pipeline
    with upcast(pipeline.vae):
        ready = unscaled(pipeline.vae, latents.to(pipeline.vae.dtype))
        pictures = pipeline.vae.decode(ready, return_dict=False)[0]
    if pipeline.watermark is not None:
        pictures = pipeline.watermark.apply_watermark(pictures)
    return pipeline.image_processor.postprocess(pictures, output_type="np")


def _finish_sd3(denoiser: Denoiser, latents: "Tensor", generators: "list[Generator]") -> Any:
    pipeline = denoiser.pipeline
    pictures = pipeline.vae.decode(unscaled(pipeline.vae, latents), return_dict=False)[0]
    return pipeline.image_processor.postprocess(pictures, output_type="np")


@dataclass(frozen=True)
class _Ways:
    """How a kind of pipeline does what all do."""

    conditions: Callable[..., dict[str, Any]]
    ask: Callable[..., Any]
    schedule_options: Callable[[Denoiser], dict[str, Any]]
    finish: Callable[..., Any]


PIPELINES = {
    "StableDiffusionPipeline": _Ways(_sd_conditions, _ask_unet, _no_options, _finish_sd),
    "StableDiffusionXLPipeline": _Ways(_sdxl_conditions, _ask_unet, _no_options, _finish_sdxl),
    "StableDiffusion3Pipeline": _Ways(_sd3_conditions, _ask_transformer, _sd3_options, _finish_sd3),
}
