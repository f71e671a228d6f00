"""Pull what a text-to-image model draws towards a picture, by the gradient of DINOv2's features."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from ..models import Model
from .denoisers import Denoiser, check_pipeline, network_of, upcast
from .keeping import load_object, save_object
from .likeness import PLACED, Likeness, Targets, check_filter, kinds_of, targets_of, widened
from .schedules import Level

if TYPE_CHECKING:
    from torch import Tensor

KIND = "guide"
Gradient = Literal["cheap", "full"]
Pairing = Literal["all", "each"]
# Where the model sees less of x0 than this, its noise tells nothing of it: a push of the noise by a
# share would move x0 by a hundred times as much. Zero-terminal-SNR models begin there.
LEAST_SIGNAL = 0.01
# Of a loss, where anything is in float16: its gradients would be rounded to nothing.
SCALES = (2.0**12, 2.0**6, 1.0)  # the first that stays finite is taken


@dataclass(frozen=True, eq=False)
class Guided:
    """What a guide drew, and what it did at each of S steps."""

    pictures: NDArray[np.uint8]  # (n, H, W, 3)
    prompts: tuple[str, ...]  # of the n pictures
    seeds: tuple[int, ...]  # of their noise
    loss: NDArray[np.float32]  # (n, S): 1 - cosine of x0 and targets, 0 to 2; NaN where not guided
    gradient_norm: NDArray[np.float32]  # (n, S): length of the loss's gradient; NaN likewise
    strength: NDArray[np.float32]  # (n, S): length of the push over that of the noise; 0 likewise
    noise: NDArray[np.float32]  # (S,): share of noise in what the model saw, 1 to 0
    latents: NDArray[np.float32] = field(repr=False)  # (n, C, h, w): clean, as the decoder got them

    def __len__(self) -> int:
        return len(self.pictures)


class Guide:
    """Steers a pipeline of diffusers so that DINOv2 finds its pictures like a target.

    At each step the model's guess of the clean picture, x0, is decoded and shown to DINOv2; the
    gradient of 1 - cosine to the target's features is added to the guess of the noise, with a
    length that is a share of the noise's: eps' = eps + strength * |eps| * g / |g|. (Of a flow
    model, its velocity gets the same push.) So a strength does not depend on how long the gradient
    happens to be. It is Universal Guidance (Bansal et al. 2023, section 3.1), whose raw gradient is
    given a relative length, as FreeDoM does in another way (Yu et al. 2023).

    Args:
        dinov2: From `load_dinov2`.
        target: A folder, or one or many pictures as `extract_features` takes them; their middle
            square is used. Or `Targets`, as `Guide.targets_` of another guide.
        features: What is compared: "cls", "patches", "both" of them; or one or several of "cls",
            "mean", "patches", "middle", "texture" (see `Likeness`). "cls" asks for the same things,
            "patches" and "middle" for the same things in the same places, "texture" for the same
            colours and materials.
        strength: Length of the push as a share of the noise's; 0 draws what the pipeline draws.
        when: The part of the steps in which to guide, from 0 at the first to 1 at the last.
        gradient: "full", through the network that predicts the noise, or "cheap", around it: x0 is
            moved as if the network's guess did not depend on what it sees (in the manner of MPGD,
            He et al. 2024): less time and much less memory.
        size: Shortest side of what DINOv2 sees, in pixels, to the nearest multiple of its patch.
            None: the crop of its processor, 224.
        pairing: "all", every picture is pulled to all targets, to the mean of their losses; "each",
            the pictures of the k-th prompt to the k-th target.

    Attributes:
        targets_: The `Targets`.
        likeness_: The `Likeness` that is asked for.

    Raises:
        ValueError: A setting that is impossible; a target without a picture that can be read.
        FileNotFoundError, TypeError: As `extract_features`.

    Example:
        >>> dinov2, pipeline = load_dinov2("tiny"), load_diffusion("tiny")
        >>> guide = Guide(dinov2, photographs()["cat"], strength=0.3, size=112)
        >>> guided = guide.sample(pipeline, "a photo of a cat", steps=2, guidance_scale=4.0)
        >>> guided.pictures.shape, guided.loss.shape
        ((1, 64, 64, 3), (1, 2))
    """

    def __init__(
        self,
        dinov2: Model,
        target: Any,
        *,
        features: str | Sequence[str] = ("cls", "texture"),
        strength: float = 0.3,
        when: tuple[float, float] = (0.0, 1.0),
        gradient: Gradient = "cheap",
        size: int | None = None,
        pairing: Pairing = "all",
    ) -> None:
        self.dinov2 = dinov2
        self.features = features
        self.strength = strength
        self.when = when
        self.gradient = gradient
        self.size = size
        self.pairing = pairing
        self._check()
        side = size or min(dinov2.preprocessing.crop or (224,))
        side = max(1, round(side / dinov2.patch_size)) * dinov2.patch_size
        self.likeness_ = Likeness(dinov2, kinds_of(features), side)
        check_filter(dinov2.preprocessing)
        self.targets_ = self._targets(target)

    def _check(self) -> None:
        kinds_of(self.features)
        if not 0 <= self.strength < float("inf"):
            raise ValueError(f"strength={self.strength}: a share of the noise, 0 or more")
        start, end = self.when
        if not 0 <= start <= end <= 1:
            raise ValueError(f"when={self.when}: two parts of the steps, 0 <= start <= end <= 1")
        if self.gradient not in get_args(Gradient):
            raise ValueError(f"gradient={self.gradient!r} is none of {get_args(Gradient)}")
        if self.pairing not in get_args(Pairing):
            raise ValueError(f"pairing={self.pairing!r} is none of {get_args(Pairing)}")
        if self.size is not None and self.size < 1:
            raise ValueError(f"size={self.size}: pixels, 1 or more")

    def _targets(self, target: Any) -> Targets:
        if not isinstance(target, Targets):
            return targets_of(self.likeness_, target)
        missing = [kind for kind in self.likeness_.kinds if kind not in target.features]
        if missing or target.size != self.likeness_.size:
            raise ValueError(
                f"target: features {[*target.features]} at {target.size} px given where "
                f"{[*self.likeness_.kinds]} at {self.likeness_.size} px are wanted: give the "
                "pictures, or set features and size to those"
            )
        return target

    def sample(
        self,
        pipeline: Any,
        prompt: str | Sequence[str],
        *,
        steps: int = 25,
        guidance_scale: float = 7.5,
        seed: int = 0,
        n: int = 1,
        negative_prompt: str | None = None,
        height: int | None = None,
        width: int | None = None,
        batch_size: int | None = None,
        progress: bool | None = None,
    ) -> Guided:
        """Draw guided pictures.

        With strength 0 they are those of `pipeline(prompts, generator=[...])`, where picture k has
        a generator of its own, on the CPU, with seed `seed + k`. They do not depend on the batch,
        but for rounding.

        Args:
            pipeline: A StableDiffusionPipeline, as from `load_diffusion`, or one of Stable
                Diffusion XL or 3, with a scheduler of `schedules.SUPPORTED`. It is left as it was,
                but for the state of its scheduler.
            prompt: One or several texts.
            steps: Of the scheduler.
            guidance_scale: Of classifier-free guidance (Ho and Salimans 2022), as in diffusers; up
                to 1 it is off.
            seed: Of the first picture.
            n: Pictures of each prompt, which follow one another.
            negative_prompt: What no picture should show.
            height: In pixels. None: the pipeline's own size.
            width: Likewise.
            batch_size: Pictures at once. None: 16 of 64 px, 1 of 256 px or more.
            progress: Whether to show a bar of steps; None: only on a terminal.

        Raises:
            ValueError: A pipeline or scheduler whose loop this is not, which is named; impossible
                settings.
            FloatingPointError: A gradient is not finite.
        """
        check_pipeline(pipeline)
        texts = [prompt] if isinstance(prompt, str) else list(prompt)
        self._check_texts(texts, steps, n)
        size = _size_of(pipeline, height, width)
        self._check_square(size)
        prompts = [text for text in texts for _ in range(n)]
        if batch_size is None:
            batch_size = max(1, 16 * 64**2 // (size[0] * size[1]))
        batches = []
        with _ready(pipeline, self.dinov2), _bar(len(prompts), batch_size, steps, progress) as tick:
            for first in range(0, len(prompts), batch_size):
                rows = range(first, min(first + batch_size, len(prompts)))
                own = [prompts[row] for row in rows]
                negative = None if negative_prompt is None else [negative_prompt] * len(own)
                denoiser = Denoiser(pipeline, own, negative, guidance_scale, size)
                steering = _Steering(self, self._features_of([row // n for row in rows]))
                seeds = [seed + row for row in rows]
                batches.append(_draw(denoiser, seeds, steps, steering, tick))
        return _joined(batches)

    __call__ = sample

    def _check_texts(self, texts: list[str], steps: int, n: int) -> None:
        if not texts:
            raise ValueError("prompt: one text or more is needed")
        for name, value in (("steps", steps), ("n", n)):
            if value < 1:
                raise ValueError(f"{name}={value}: 1 or more")
        if self.pairing == "each" and len(texts) != len(self.targets_):
            raise ValueError(
                f"{len(texts)} prompts for {len(self.targets_)} targets: pairing='each' needs one "
                "for each, pairing='all' does not"
            )

    def _check_square(self, size: tuple[int, int]) -> None:
        placed = PLACED.intersection(self.likeness_.kinds)
        if placed and size[0] != size[1]:
            raise ValueError(
                f"features {sorted(placed)} compare places, and targets are square: draw square "
                f"pictures, not {size[1]}x{size[0]}, or leave these features out"
            )

    def _features_of(self, prompts: list[int]) -> "list[Tensor]":
        """Return the targets of pictures of these prompts, as `Likeness.unlike` takes them."""
        import torch

        found = []
        for kind in self.likeness_.kinds:
            features = torch.from_numpy(self.targets_.features[kind]).to(self.dinov2.device)
            found.append(features[None] if self.pairing == "all" else features[prompts][:, None])
        return found

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write settings and features of the targets into a folder, without the pictures.

        Raises:
            OSError: The folder cannot be written.
        """
        settings = {
            "features": [*self.likeness_.kinds],
            "strength": self.strength,
            "when": [*self.when],
            "gradient": self.gradient,
            "size": self.likeness_.size,
            "pairing": self.pairing,
            "names": [*self.targets_.names],
        }
        save_object(folder, KIND, settings, self.targets_.features, {"dinov2": self.dinov2})

    @classmethod
    def load(cls, folder: str | os.PathLike[str], dinov2: Model | None = None) -> "Guide":
        """Read what `save` wrote.

        Args:
            folder: Where it is.
            dinov2: The model that it was made with; None: it is loaded by its name.

        Raises:
            KeptError: No guide is there, or it was made with another model.
            ModelError: The model of the recorded name cannot be loaded.
        """
        kept = load_object(folder, KIND)
        model = kept.model("dinov2", dinov2)
        with kept.understood():
            settings = dict(kept.settings)
            targets = Targets(kept.arrays, settings["size"], tuple(settings.pop("names")))
            settings["features"] = tuple(settings["features"])
            settings["when"] = tuple(settings["when"])
            return cls(model, targets, **settings)


def _size_of(pipeline: Any, height: int | None, width: int | None) -> tuple[int, int]:
    """Return the height and width of the pictures, in pixels."""
    own = network_of(pipeline).config.sample_size
    rows, columns = (own, own) if isinstance(own, int) else own
    factor = pipeline.vae_scale_factor
    size = height or rows * factor, width or columns * factor
    step = factor * (network_of(pipeline).config.get("patch_size") or 1)
    if size[0] % step or size[1] % step:
        raise ValueError(
            f"height={size[0]} and width={size[1]}: multiples of {step} pixels, as the latents need"
        )
    return size


@contextmanager
def _ready(pipeline: Any, dinov2: Model) -> Iterator[None]:
    """Let gradients pass the networks, and not into them, for as long as pictures are drawn."""
    import torch

    modules = (network_of(pipeline), pipeline.vae, dinov2.model)
    weights = [one for module in modules for one in module.parameters() if one.requires_grad]
    with ExitStack() as undo:
        for one in weights:
            one.requires_grad_(False)
            undo.callback(one.requires_grad_, True)
        undo.enter_context(torch.inference_mode(False))
        yield


@contextmanager
def _bar(
    pictures: int, batch_size: int, steps: int, progress: bool | None
) -> Iterator[Callable[[], Any]]:
    from tqdm import tqdm

    total = -(-pictures // batch_size) * steps
    with tqdm(total=total, disable=None if progress is None else not progress) as bar:
        yield bar.update


class _Record(NamedTuple):
    """What a guide did to n pictures in one step, each (n,)."""

    loss: NDArray[np.float32]
    gradient_norm: NDArray[np.float32]
    strength: NDArray[np.float32]

    @classmethod
    def nothing(cls, n: int) -> "_Record":
        unknown = np.full(n, np.nan, np.float32)
        return cls(unknown, unknown, np.zeros(n, np.float32))


def _draw(
    denoiser: Denoiser,
    seeds: list[int],
    steps: int,
    steer: "_Steering",
    tick: Callable[[], Any],
) -> Guided:
    """Draw one batch of pictures."""
    import torch

    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    schedule = denoiser.schedule(steps)
    latents = denoiser.start(generators)
    records, noise = [], []
    with upcast(denoiser.pipeline.vae):
        for position, (timestep, level) in enumerate(schedule):
            seen = schedule.scaled(latents, timestep)
            if steer.has_turn(position / len(schedule), level):
                output, record = steer.step(denoiser, seen, timestep, level)
            else:
                with torch.no_grad():
                    output = denoiser.predict(seen, timestep)
                record = _Record.nothing(len(seeds))
            latents = schedule.step(output, timestep, latents, generators)
            records.append(record)
            noise.append(level.spread)
            tick()
    loss, norm, strength = (np.stack(values, axis=1) for values in zip(*records, strict=True))
    return Guided(
        pictures=denoiser.finish(latents, generators),
        prompts=denoiser.prompts,
        seeds=tuple(seeds),
        loss=loss,
        gradient_norm=norm,
        strength=strength,
        noise=np.array(noise, np.float32),
        latents=latents.float().cpu().numpy(),
    )


@dataclass(frozen=True)
class _Steering:
    """What a guide does to a batch of pictures."""

    guide: Guide
    targets: "list[Tensor]"  # as `Likeness.unlike` takes them

    def has_turn(self, progress: float, level: Level) -> bool:
        start, end = self.guide.when
        sees = level.kind == "flow" or level.signal >= LEAST_SIGNAL
        return self.guide.strength > 0 and start <= progress < end and sees

    def step(
        self, denoiser: Denoiser, seen: "Tensor", timestep: "Tensor", level: Level
    ) -> "tuple[Tensor, _Record]":
        """Return the network's output with a push in it, and the record of the step."""
        by = self._full if self.guide.gradient == "full" else self._cheap
        output, loss, gradient = by(denoiser, seen, timestep, level)
        noise = level.noise(widened(output), widened(seen))
        push, norm = pushes(gradient, noise, self.guide.strength)
        pushed = level.pushed(widened(output), push).to(output.dtype)
        share = (push.flatten(1).norm(dim=1) / noise.flatten(1).norm(dim=1)).float()
        return pushed, _Record(*(x.float().cpu().numpy() for x in (loss, norm, share)))

    def _full(
        self, denoiser: Denoiser, seen: "Tensor", timestep: "Tensor", level: Level
    ) -> "tuple[Tensor, Tensor, Tensor]":
        """Return output, loss (n,) and the loss's gradient by what the network sees."""
        import torch

        seen = seen.detach().requires_grad_()
        with torch.enable_grad():
            output = denoiser.predict(seen, timestep)
            x0 = level.x0(widened(output), widened(seen))
            loss = self._loss(denoiser, x0)
            gradient = self._gradient(denoiser, loss, seen)
        return output.detach(), loss.detach(), gradient

    def _cheap(
        self, denoiser: Denoiser, seen: "Tensor", timestep: "Tensor", level: Level
    ) -> "tuple[Tensor, Tensor, Tensor]":
        """Return output, loss (n,) and the loss's gradient by x0."""
        import torch

        with torch.no_grad():
            output = denoiser.predict(seen, timestep)
        x0 = level.x0(widened(output), widened(seen)).detach().requires_grad_()
        with torch.enable_grad():
            loss = self._loss(denoiser, x0)
            gradient = self._gradient(denoiser, loss, x0)
        return output, loss.detach(), gradient

    def _loss(self, denoiser: Denoiser, x0: "Tensor") -> "Tensor":
        return self.guide.likeness_.unlike(denoiser.decode(x0), self.targets)

    def _gradient(self, denoiser: Denoiser, loss: "Tensor", by: "Tensor") -> "Tensor":
        """Return the gradient of the sum of losses (n,), in float32 or wider."""
        import torch

        formats = {self.guide.dinov2.dtype, denoiser.pipeline.vae.dtype}
        if self.guide.gradient == "full":
            formats.add(denoiser.network.dtype)
        scales = SCALES if torch.float16 in formats else SCALES[-1:]
        for scale in scales:
            (found,) = torch.autograd.grad(loss.sum() * scale, by, retain_graph=scale != scales[-1])
            if torch.isfinite(found).all():
                return widened(found) / scale
        bad = (~torch.isfinite(found)).flatten(1).any(1).nonzero().flatten().tolist()
        raise FloatingPointError(
            f"the gradient of pictures {bad} of {len(loss)} is not finite in "
            f"{sorted(map(str, formats))}: load the models in bfloat16 or float32"
        )


def pushes(gradient: "Tensor", noise: "Tensor", strength: float) -> "tuple[Tensor, Tensor]":
    """Return gradients of n pictures with a share of the length of their noise, and their own.

    Args:
        gradient: (n, C, h, w).
        noise: (n, C, h, w).
        strength: The share.

    Returns:
        The pushes (n, C, h, w), 0 where a gradient is 0; the lengths of the gradients, (n,).
    """
    import torch

    own = gradient.flatten(1).norm(dim=1)
    wanted = strength * noise.flatten(1).norm(dim=1)
    least = torch.finfo(own.dtype).tiny
    unit = gradient / own.clamp(min=least).view(-1, 1, 1, 1)
    return unit * wanted.view(-1, 1, 1, 1), own


def _joined(batches: list[Guided]) -> Guided:
    def rows(name: str) -> Any:
        return np.concatenate([getattr(batch, name) for batch in batches])

    return Guided(
        pictures=rows("pictures"),
        prompts=tuple(text for batch in batches for text in batch.prompts),
        seeds=tuple(seed for batch in batches for seed in batch.seeds),
        loss=rows("loss"),
        gradient_norm=rows("gradient_norm"),
        strength=rows("strength"),
        noise=batches[0].noise,
        latents=rows("latents"),
    )
