"""What the steps of a diffusers scheduler mean: the level of noise, and what the model predicts."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Generator, Tensor

Prediction = Literal["epsilon", "v_prediction", "sample", "flow"]

_ALL_KINDS = ("epsilon", "v_prediction", "sample")
# Those that were checked, with the kinds of models that each can step: a step asks the model once.
# DPMSolverMultistep and UniPC remember x0 of earlier steps, and gain as much as the others by the
# same strength (benchmarks/quality/guidance.py measures with DDIM); PNDM remembers the noise.
SUPPORTED: dict[str, tuple[str, ...]] = {
    "DDIMScheduler": _ALL_KINDS,
    "DDPMScheduler": _ALL_KINDS,
    "EulerDiscreteScheduler": _ALL_KINDS,
    "EulerAncestralDiscreteScheduler": ("epsilon", "v_prediction"),
    "DPMSolverMultistepScheduler": _ALL_KINDS,
    "UniPCMultistepScheduler": _ALL_KINDS,
    "FlowMatchEulerDiscreteScheduler": ("flow",),
}
_SEVERAL_STEPS = (
    "mixes what the model said in up to four steps into each, which makes a push several times as "
    "long as its strength says, and spoils the picture"
)
_TWO_CALLS = "asks the model more than once in a step, so that a push is mixed with an older one"
_DISTILLED = (
    "is for models distilled to a few steps, and draws new noise around their x0, which it "
    "computes in a way of its own"
)
REFUSED: dict[str, str] = {
    **dict.fromkeys(
        (
            "PNDMScheduler",
            "IPNDMScheduler",
            "LMSDiscreteScheduler",
            "DEISMultistepScheduler",
            "SASolverScheduler",
            "CosineDPMSolverMultistepScheduler",
            "EDMDPMSolverMultistepScheduler",
        ),
        _SEVERAL_STEPS,
    ),
    **dict.fromkeys(
        (
            "HeunDiscreteScheduler",
            "KDPM2DiscreteScheduler",
            "KDPM2AncestralDiscreteScheduler",
            "DPMSolverSinglestepScheduler",
            "DPMSolverSDEScheduler",
            "FlowMatchHeunDiscreteScheduler",
        ),
        _TWO_CALLS,
    ),
    **dict.fromkeys(("LCMScheduler", "TCDScheduler", "FlowMatchLCMScheduler"), _DISTILLED),
}
# Settings under which a scheduler changes x0 on its way, or runs the wrong way round.
_REFUSED_SETTINGS = (
    "clip_sample",
    "thresholding",
    "invert_sigmas",
    "stochastic_sampling",
    "use_flow_sigmas",
)


@dataclass(frozen=True)
class Level:
    """What a model sees at a step, `signal * x0 + spread * noise`, and what its output means.

    Args:
        kind: What the model predicts: "epsilon", the noise; "v_prediction", signal * noise -
            spread * x0 (Salimans and Ho 2022, appendix D); "sample", x0; "flow", noise - x0
            (Lipman et al. 2023).
        signal: Share of x0, 0 to 1.
        spread: Share of noise. For "flow" signal + spread = 1, else their squares add up to 1.
    """

    kind: Prediction
    signal: float
    spread: float

    def x0(self, output: "Tensor", seen: "Tensor") -> "Tensor":
        """Return the clean latents that an output means."""
        if self.kind == "epsilon":
            return (seen - self.spread * output) / self.signal
        if self.kind == "v_prediction":
            return self.signal * seen - self.spread * output
        if self.kind == "sample":
            return output
        return seen - self.spread * output

    def noise(self, output: "Tensor", seen: "Tensor") -> "Tensor":
        """Return the noise that an output means."""
        if self.kind == "epsilon":
            return output
        if self.kind == "v_prediction":
            return self.signal * output + self.spread * seen
        if self.kind == "sample":
            return (seen - self.signal * output) / self.spread
        return seen + self.signal * output

    def pushed(self, output: "Tensor", push: "Tensor") -> "Tensor":
        """Return the output that means the same and a push: of the noise, or of the flow.

        What the model sees stays as it is, so x0 moves against the push: by spread / signal times
        the push, and for a flow, which is pushed itself since it starts where signal is 0, by
        spread times the push.
        """
        if self.kind == "v_prediction":
            return output + push / self.signal
        if self.kind == "sample":
            return output - self.spread / self.signal * push
        return output + push


class Schedule:
    """The steps of a scheduler.

    Args:
        scheduler: Of diffusers; it keeps the state of the loop.
        steps: Their number.
        device: Of the latents.
        **options: For its `set_timesteps`, such as `mu`.

    Raises:
        ValueError: It is not one of `SUPPORTED`, is set to something that is not followed here, or
            has fewer timesteps than `steps`. See `check_scheduler`.
    """

    def __init__(self, scheduler: Any, steps: int, device: Any, **options: Any) -> None:
        self.kind = check_scheduler(scheduler)
        self.scheduler = scheduler
        scheduler.set_timesteps(steps, device=device, **options)

    def __len__(self) -> int:
        return len(self.scheduler.timesteps)

    def __iter__(self) -> "Iterator[tuple[Tensor, Level]]":
        """Yield each timestep and what the model sees then."""
        for position, timestep in enumerate(self.scheduler.timesteps):
            yield timestep, self._level(position, timestep)

    def _level(self, position: int, timestep: "Tensor") -> Level:
        if self.kind == "flow":
            sigma = float(self.scheduler.sigmas[position])
            return Level("flow", 1 - sigma, sigma)
        if hasattr(self.scheduler, "sigmas"):  # noise over signal
            sigma = float(self.scheduler.sigmas[position])
            kept = 1 / (1 + sigma**2)
        else:
            kept = float(self.scheduler.alphas_cumprod[int(timestep)])
        return Level(self.kind, kept**0.5, (1 - kept) ** 0.5)

    def scaled(self, latents: "Tensor", timestep: "Tensor") -> "Tensor":
        """Return what the model sees of latents, of the same shape."""
        if not hasattr(self.scheduler, "scale_model_input"):
            return latents
        seen: Tensor = self.scheduler.scale_model_input(latents, timestep)
        return seen

    def step(
        self,
        output: "Tensor",
        timestep: "Tensor",
        latents: "Tensor",
        generators: "list[Generator]",
    ) -> "Tensor":
        """Return the latents of the next step; an ancestral scheduler draws from the generators."""
        takes = inspect.signature(self.scheduler.step).parameters
        options = {"generator": generators} if "generator" in takes else {}
        found = self.scheduler.step(output, timestep, latents, return_dict=False, **options)
        latents_after: Tensor = found[0]
        return latents_after


def check_scheduler(scheduler: Any) -> Prediction:
    """Return what the model of a scheduler predicts.

    Raises:
        ValueError: The scheduler, its kind of prediction, or one of its settings is not followed
            here. The message names it, and one that will do.
    """
    name = type(scheduler).__name__
    config = scheduler.config
    flow = name.startswith("FlowMatch")
    instead = "FlowMatchEulerDiscreteScheduler" if flow else "DDIMScheduler"
    remedy = f"pipeline.scheduler = {instead}.from_config(pipeline.scheduler.config)"
    if name not in SUPPORTED:
        reason = REFUSED.get(name, "is not among those that were checked")
        raise ValueError(f"{name} {reason}: take one of {[*SUPPORTED]}, such as {remedy}")
    for setting in _REFUSED_SETTINGS:
        if config.get(setting):
            raise ValueError(
                f"{name} is set to {setting}=True, which a guide does not follow: "
                f"{remedy[:-1]}, {setting}=False)"
            )
    kind: Prediction = "flow" if flow else config.get("prediction_type", "epsilon")
    if kind not in SUPPORTED[name]:
        raise ValueError(
            f"{name} with prediction_type={kind!r} cannot be guided, only with one of "
            f"{SUPPORTED[name]}: the scheduler must step what the model predicts"
        )
    return kind
