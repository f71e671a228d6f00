"""Train the embedded CLIP from scratch on rendered pictures and their captions.

    python -m training.world.material --out pairs --colours crossed --views 2   # pictures first
    python -m training.clip.train --material pairs --recipe cpu --out runs/clip

The same code runs on two CPU cores and on a GPU; a stopped run goes on where its last checkpoint
was. The objective is CLIP's symmetric cross-entropy over the pictures and captions of a batch
(Radford et al. 2021, figure 3), with one change: a caption that occurs twice in a batch belongs to
both pictures. A transformer of this size needs far more pictures than two cores can draw before it
sees what a convolutional network sees at once, so training has two stages. First a small
convolutional *guide* and the text tower learn the objective. Then the vision transformer takes the
guide's place: it learns the same objective and, beside it, to agree with the guide on the whole
picture and on each patch. The guide is thrown away.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from training import checkpoint
from training.batches import Squares
from training.captions import EnglishWriter, mirrored, vocabulary
from training.clip.config import CLIP_MEAN, CLIP_STD, RECIPES, Recipe
from training.clip.material import STORED, Pairs
from training.clip.model import Guide, make_clip
from training.clip.monitor import Monitor
from training.clip.tokenizer import make_tokenizer
from training.command_line import chosen_recipe, parser, write_log
from training.dinov2 import augment
from training.dinov2.model import cosine
from training.world.scene import FRAME

CHECKPOINT = "checkpoint.safetensors"
# Colours have names here, so the hue stays.
JITTER = augment.ColourJitter(
    brightness=0.25, contrast=0.25, saturation=0.2, hue=0.0, grey=0.0, blur=0.2
)
LARGEST_SCALE = 100.0  # of the logits, as in CLIP


def contrastive_loss(
    images: Tensor, texts: Tensor, scale: Tensor, captions: Sequence[str]
) -> Tensor:
    """CLIP's loss for a batch in which some captions may be equal.

    Args:
        images: Unit vectors ``(n, dim)``.
        texts: Unit vectors ``(n, dim)``.
        scale: Factor on the cosines, one over the temperature.
        captions: The n captions; equal ones share their pictures' probability evenly.
    """
    numbers = {caption: i for i, caption in enumerate(dict.fromkeys(captions))}
    group = torch.tensor([numbers[caption] for caption in captions], device=images.device)
    same = (group[:, None] == group).float()
    targets = same / same.sum(1, keepdim=True)
    logits = scale * images @ texts.T
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


class Training:
    """One run: networks, optimiser, pictures and the step that ties them together.

    Args:
        recipe: Every number of the run.
        material: Folder written by `training.world.material`.
        out: Folder for checkpoints and the log.
        device: Where to train.
        limit: Largest number of shards to read from each folder of ``material``.
    """

    def __init__(
        self, recipe: Recipe, material: Path, out: Path, device: str, limit: int | None = None
    ) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.out, self.device = recipe, out, torch.device(device)
        self.pairs = Pairs(material, self.device, limit)
        self.squares = Squares(self.pairs.facts, recipe.squares)
        self.tokenizer = make_tokenizer(vocabulary("en"))
        clip: Any = make_clip(recipe, self.tokenizer)
        self.clip = clip.to(self.device)
        self.guide = Guide(recipe.guide_width, recipe.dim).to(self.device)
        self.to_guide = nn.Sequential(
            nn.LayerNorm(recipe.width), nn.Linear(recipe.width, self.guide.channels)
        ).to(self.device)
        everything = [p for network in self._networks.values() for p in network.parameters()]
        self.optimiser = torch.optim.AdamW(
            [
                {"params": [p for p in everything if p.ndim > 1], "decay": recipe.weight_decay},
                {"params": [p for p in everything if p.ndim <= 1], "decay": 0.0},
            ],
            betas=(0.9, 0.98),
        )
        self.step, self.seconds = 0, 0.0
        out.mkdir(parents=True, exist_ok=True)

    @property
    def _networks(self) -> dict[str, nn.Module]:
        return {"clip": self.clip, "guide": self.guide, "to_guide": self.to_guide}

    @property
    def guide_steps(self) -> int:
        """Steps of the first stage."""
        return sum(steps for steps, _, _ in self.recipe.guide_phases)

    @property
    def total_steps(self) -> int:
        """Steps of both stages."""
        return self.guide_steps + self.recipe.steps

    @property
    def guiding(self) -> bool:
        """Whether the second stage has begun."""
        return self.step >= self.guide_steps

    def phase(self) -> tuple[int, int]:
        """Return side and number of the pictures at this step."""
        left = self.step
        for steps, side, batch in self.recipe.guide_phases:
            if left < steps:
                return side, batch
            left -= steps
        return self.recipe.side, self.recipe.batch

    def schedule(self) -> None:
        """Set learning rate and weight decay; each stage has a cosine of its own."""
        start, length = (
            (self.guide_steps, self.recipe.steps) if self.guiding else (0, self.guide_steps)
        )
        done = self.step - start
        warm = min(1.0, (done + 1) / (self.recipe.warmup * length))
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.learning_rate * warm * cosine(1.0, 0.01, done / length)
            group["weight_decay"] = group["decay"]

    def draw(self) -> tuple[Tensor, list[str]]:
        """Draw pictures ``(n, 3, side, side)``, normalised, and a caption for each.

        The first ``recipe.grey`` of them have no colours.
        """
        side, n = self.phase()
        # By step, so that a resumed run draws what the stopped one would have drawn.
        rng = np.random.default_rng((self.recipe.seed, self.step))
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        rows = self.squares.draw(rng, n)
        maps = augment.random_crop_maps(len(rows), self.recipe.area, generator)
        half = self.device.type == "cuda"
        pictures = self.pairs.pictures[torch.from_numpy(rows).to(self.device)]
        crops = augment.sample_crops(
            pictures.to(torch.float16 if half else torch.float32) / 255,
            maps,
            side,
            supersample=2 if side < 0.75 * STORED else 1,
        )
        jittered = augment.jitter_colours(crops, JITTER, generator)
        n_grey = int(self.recipe.grey * len(rows))
        jittered[:n_grey] = jittered[:n_grey].mean(1, keepdim=True)
        pixels = augment.normalise(jittered, CLIP_MEAN, CLIP_STD)
        writer = EnglishWriter(rng)
        flipped = (maps[:, 0, 0] < 0).tolist()
        facts = [self.pairs.facts[row] for row in rows]
        shown = [mirrored(f, FRAME) if m else f for f, m in zip(facts, flipped, strict=True)]
        return pixels, [writer.caption(one, grey=i < n_grey) for i, one in enumerate(shown)]

    def losses(self, pixels: Tensor, captions: list[str]) -> dict[str, Tensor]:
        """Compute the losses of one step, unweighted."""
        tokens = self.tokenizer(captions, padding=True, return_tensors="pt").to(self.device)
        texts = F.normalize(self.clip.get_text_features(**tokens).pooler_output.float(), dim=-1)
        scale = self.clip.logit_scale.exp().clamp(max=LARGEST_SCALE)
        if not self.guiding:
            images = F.normalize(self.guide(pixels)[0].float(), dim=-1)
            return {"contrast": contrastive_loss(images, texts, scale, captions)}
        with torch.no_grad():
            taught, maps = self.guide.eval()(pixels)
        seen = self.clip.vision_model(pixels)
        images = F.normalize(self.clip.visual_projection(seen.pooler_output).float(), dim=-1)
        side = self.recipe.side // self.recipe.patch
        wanted = F.adaptive_avg_pool2d(maps.float(), side).flatten(2).transpose(1, 2)
        patches = self.to_guide(seen.last_hidden_state[:, 1:]).float()
        return {
            "contrast": contrastive_loss(images, texts, scale, captions),
            "whole": 1 - F.cosine_similarity(images, taught.float(), dim=-1).mean(),
            "patches": 1 - F.cosine_similarity(patches, wanted, dim=-1).mean(),
        }

    def train_step(self) -> dict[str, Tensor]:
        """Take one step; return its losses, detached."""
        self.schedule()
        pixels, captions = self.draw()
        self.clip.train()
        self.guide.train(not self.guiding)
        half = self.device.type == "cuda"
        with torch.autocast("cuda", torch.bfloat16) if half else nullcontext():
            values = self.losses(pixels, captions)
        loss = values["contrast"]
        if self.guiding:
            loss = loss + self.recipe.distil * (4 * values["whole"] + values["patches"])
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        self.optimiser.step()
        self.step += 1
        return {name: value.detach() for name, value in values.items()}

    def save(self) -> None:
        """Write a checkpoint, whole or not at all."""
        progress = torch.tensor([self.step, self.seconds], dtype=torch.float64)
        path = self.out / CHECKPOINT
        checkpoint.save(path, self._networks, self.optimiser, {"progress": progress})

    def resume(self) -> bool:
        """Load the checkpoint of ``out``, if there is one; say whether there was."""
        if not (self.out / CHECKPOINT).exists():
            return False
        extra = checkpoint.load(self.out / CHECKPOINT, self._networks, self.optimiser)
        step, self.seconds = extra["progress"].tolist()
        self.step = int(step)
        return True

    def run(self, minutes: float, log_every: int) -> Iterator[dict[str, Any]]:
        """Train to the end of the recipe, or for some minutes; yield a log entry now and then.

        A checkpoint is written with every entry and at the end. Stopping early changes nothing: the
        schedule counts steps, and the next run goes on.
        """
        started = time.perf_counter() - self.seconds
        stop = self.seconds + 60 * minutes
        while self.step < self.total_steps and self.seconds < stop:
            stage = "transformer" if self.guiding else "guide"
            values = self.train_step()
            self.seconds = time.perf_counter() - started
            if self.step % log_every == 0 or self.step in (self.guide_steps, self.total_steps):
                yield {
                    "step": self.step,
                    "stage": stage,
                    "pictures": len(self.pairs),
                    **{name: round(value.item(), 4) for name, value in values.items()},
                    "scale": round(self.clip.logit_scale.exp().item(), 2),
                    "seconds": round(self.seconds, 1),
                }
                self.save()
        self.save()

    @torch.no_grad()
    def embed(self, pixels: Tensor) -> Tensor:
        """Return the embeddings ``(n, dim)`` of normalised pictures by the tower under training."""
        if self.step > self.guide_steps:
            self.clip.eval()
            return self.clip.get_image_features(pixels).pooler_output
        return self.guide.eval()(pixels)[0]


def export(clip: CLIPModel, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write a `CLIPModel` folder in half precision, with its tokenizer and image processor."""
    vision: Any = clip.config.vision_config
    side = vision.image_size
    with torch.no_grad():
        clip.logit_scale.clamp_(max=float(np.log(LARGEST_SCALE)))
    clip.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"shortest_edge": side},
        crop_size={"height": side, "width": side},
        image_mean=CLIP_MEAN,
        image_std=CLIP_STD,
        resample=3,
    ).save_pretrained(folder)


def main() -> None:
    """Command line: see the module's text."""
    arguments = parser(__doc__, RECIPES, "pairs", "runs/clip", log_every=100).parse_args()
    training = Training(
        chosen_recipe(arguments, RECIPES),
        arguments.material,
        arguments.out,
        arguments.device,
        arguments.limit,
    )
    monitor = Monitor(training.device)

    def watched() -> Iterator[dict[str, Any]]:
        for entry in training.run(arguments.minutes, arguments.log_every):
            side = training.phase()[0]
            yield entry | monitor.score(training.embed, training.clip, training.tokenizer, side)

    print("resumed at" if training.resume() else "started at", training.step, flush=True)
    write_log(arguments.out, watched())
    if training.step > training.guide_steps:  # of a stopped run, too
        export(training.clip, training.tokenizer, arguments.out / "model")


if __name__ == "__main__":
    main()
