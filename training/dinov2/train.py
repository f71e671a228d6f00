"""Train the embedded DINOv2 from scratch, without labels.

    python -m training.world.material --out material          # render the pictures first
    python -m training.dinov2.train --material material --recipe gpu --out runs/dinov2
    python -m training.dinov2.train --recipe recolour --start data/models/dinov2-tiny   # ... again

The same code runs on two CPU cores and on a GPU; a stopped run goes on where its last checkpoint
was. Objective: DINO on the class token, iBOT on masked patches and KoLeo, as in DINOv2 (Oquab et
al. 2023, section 4). DINO alone stays at its uniform solution for tens of thousands of pictures at
this size, so two contrastive losses help it off the ground: InfoNCE on the class token and on
patches that show the same place. The two views of a toy are two *renders* of it, in different
surroundings: the pairing comes from the renderer, and is the only thing it tells the model.
"""

import copy
import dataclasses
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import BitImageProcessorPil, Dinov2Model

from training import checkpoint
from training.command_line import chosen_recipe, parser, write_log
from training.dinov2 import augment, losses
from training.dinov2.config import IMAGENET_MEAN, IMAGENET_STD, RECIPES, Recipe
from training.dinov2.material import Pool
from training.dinov2.model import Network, cosine, make_teacher, parameter_groups, update_teacher
from training.dinov2.monitor import Monitor

CHECKPOINT = "checkpoint.safetensors"
GLOBAL_AREA, LOCAL_AREA = (0.35, 1.0), (0.08, 0.35)


@dataclasses.dataclass(frozen=True)
class Batch:
    """The crops of one step; rows are toys first, then scenes.

    Attributes:
        crops: Global crops ``(2, n, 3, side, side)``, normalised.
        maps: Their crop maps ``(2, n, 2, 3)``.
        local_crops: ``(crops, n, 3, small, small)``, or None.
        n_toys: Number of rows that are toys.
    """

    crops: Tensor
    maps: Tensor
    local_crops: Tensor | None
    n_toys: int


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
        self.jitter = augment.ColourJitter(recolour=recipe.recolour)
        self.generator = torch.Generator(self.device).manual_seed(recipe.seed)
        self.toys = Pool(material / "toys", self.device, limit)
        self.scenes = Pool(material / "multi", self.device, limit)
        self.student = Network(recipe).to(self.device)
        self.teacher = make_teacher(self.student)
        self.optimiser = torch.optim.AdamW(
            parameter_groups(self.student), lr=recipe.learning_rate, betas=(0.9, 0.98)
        )
        self.step, self.seconds = 0, 0.0
        out.mkdir(parents=True, exist_ok=True)

    def phase(self) -> tuple[int, float]:
        """Return side of the global crops and share of the batch at this step."""
        share = self.step / self.recipe.steps
        return [(side, batch) for start, side, batch in self.recipe.phases if share >= start][-1]

    def schedule(self) -> tuple[float, float]:
        """Set learning rate and weight decay; return teacher momentum and temperature."""
        recipe, share = self.recipe, self.step / self.recipe.steps
        warm = min(1.0, (self.step + 1) / (recipe.warmup * recipe.steps))
        rate = recipe.learning_rate * warm * cosine(1.0, 0.01, share)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * self.phase()[1] ** 0.5
            group["weight_decay"] = cosine(*recipe.weight_decay, share) if group["decay"] else 0.0
        start, end = recipe.teacher_temperature
        temperature = start + (end - start) * min(1.0, share / 0.3)
        return cosine(recipe.momentum, 1.0, share), temperature

    def draw(self, side: int, share: float) -> Batch:
        """Draw the crops of one step, of ``share`` of the recipe's batch."""
        toys = self.toys.batch(int(self.recipe.toys * share), self.generator)
        scenes = self.scenes.batch(int(self.recipe.scenes * share), self.generator)
        views = [torch.cat(pair) for pair in zip(toys, scenes, strict=True)]
        supersample = 2 if side < 0.75 * views[0].shape[-1] else 1

        def cut(pictures: Tensor, area: tuple[float, float], size: int) -> tuple[Tensor, Tensor]:
            maps = augment.random_crop_maps(len(pictures), area, self.generator)
            crops = augment.sample_crops(pictures, maps, size, supersample)
            crops = augment.jitter_colours(crops, self.jitter, self.generator)
            return augment.normalise(crops), maps

        (first, maps_first), (second, maps_second) = (
            cut(view, GLOBAL_AREA, side) for view in views
        )
        small = int(side * self.recipe.local_ratio) // 14 * 14
        local = [cut(views[k % 2], LOCAL_AREA, small)[0] for k in range(self.recipe.local_crops)]
        return Batch(
            crops=torch.stack([first, second]),
            maps=torch.stack([maps_first, maps_second]),
            local_crops=torch.stack(local) if local else None,
            n_toys=len(toys[0]),
        )

    def losses(self, batch: Batch, temperature: float) -> dict[str, Tensor]:
        """Compute the losses of one step, unweighted."""
        recipe, t = self.recipe, self.recipe.student_temperature
        crops = batch.crops.flatten(0, 1)
        n, side = len(crops) // 2, crops.shape[-1] // 14
        mask = augment.random_masks(2 * n, side, recipe.mask_ratio, self.generator)
        with torch.no_grad():
            cls, patches = self.teacher.tokens(crops)
            dino_targets = losses.sinkhorn(self.teacher.dino(cls), temperature)
            ibot_targets = losses.sinkhorn(self.teacher.ibot(patches[mask]), temperature)
        cls, patches = self.student.tokens(crops, mask)
        logits = list(self.student.dino(cls).chunk(2))
        if batch.local_crops is not None:
            local_cls, _ = self.student.tokens(batch.local_crops.flatten(0, 1))
            logits += list(self.student.dino(local_cls).split(n))
        a, b = self.student.contrast(cls).chunk(2)
        masked = losses.cross_entropy(ibot_targets, self.student.ibot(patches[mask]), t)
        return {
            "dino": losses.dino_loss(dino_targets.chunk(2), logits, t),
            "ibot": masked.mean(),
            "koleo": (losses.koleo_loss(cls[:n]) + losses.koleo_loss(cls[n:])) / 2,
            "contrast": losses.info_nce(a, b, recipe.contrast_temperature),
            "dense": self.dense_loss(patches, mask, batch, side),
        }

    def dense_loss(self, patches: Tensor, mask: Tensor, batch: Batch, side: int) -> Tensor:
        """InfoNCE between patches of two crops of one scene that show the same place."""
        first, second = patches.unflatten(0, (2, -1))[:, batch.n_toys :]
        hidden_first, hidden_second = mask.unflatten(0, (2, -1))[:, batch.n_toys :]
        maps_first, maps_second = batch.maps[:, batch.n_toys :]
        crop, i, j = losses.match_patches(
            maps_first, maps_second, side, per_crop=6, generator=self.generator
        )
        seen = ~(hidden_first[crop, i] | hidden_second[crop, j])
        crop, i, j = crop[seen], i[seen], j[seen]
        a, b = self.student.dense(torch.cat([first[crop, i], second[crop, j]])).chunk(2)
        return losses.info_nce(a, b, self.recipe.contrast_temperature)

    def train_step(self) -> dict[str, Tensor]:
        """Take one step; return its losses, detached."""
        momentum, temperature = self.schedule()
        batch = self.draw(*self.phase())
        half = self.device.type == "cuda"
        with torch.autocast("cuda", torch.bfloat16) if half else nullcontext():
            values = self.losses(batch, temperature)
        loss = sum(weight * values[name] for name, weight in self.recipe.weights)
        self.optimiser.zero_grad(set_to_none=True)
        assert isinstance(loss, Tensor)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), 3.0)
        self.optimiser.step()
        update_teacher(self.teacher, self.student, momentum)
        self.step += 1
        return {name: value.detach() for name, value in values.items()}

    def start_from(self, folder: Path) -> None:
        """Take over the weights of a backbone; the heads start anew.

        Raises:
            RuntimeError: Its shape is not the recipe's.
        """
        weights = Dinov2Model.from_pretrained(folder, dtype=torch.float32).state_dict()
        for network in (self.student, self.teacher):
            network.backbone.load_state_dict(weights)

    def save(self) -> None:
        """Write a checkpoint, whole or not at all."""
        progress = torch.tensor([self.step, self.seconds], dtype=torch.float64)
        extra = {"generator": self.generator.get_state(), "progress": progress}
        checkpoint.save(self.out / CHECKPOINT, self._networks, self.optimiser, extra)

    def resume(self) -> bool:
        """Load the checkpoint of ``out``, if there is one; say whether there was."""
        if not (self.out / CHECKPOINT).exists():
            return False
        extra = checkpoint.load(self.out / CHECKPOINT, self._networks, self.optimiser)
        self.generator.set_state(extra["generator"])
        step, self.seconds = extra["progress"].tolist()
        self.step = int(step)
        return True

    @property
    def _networks(self) -> dict[str, torch.nn.Module]:
        return {"student": self.student, "teacher": self.teacher}

    def run(self, minutes: float, log_every: int) -> Iterator[dict[str, Any]]:
        """Train to the end of the recipe, or for some minutes; yield a log entry now and then.

        A checkpoint is written with every entry and at the end. Stopping early changes nothing: the
        schedule counts steps, and the next run goes on.
        """
        started = time.perf_counter() - self.seconds
        stop = self.seconds + 60 * minutes
        while self.step < self.recipe.steps and self.seconds < stop:
            values = self.train_step()
            self.seconds = time.perf_counter() - started
            if self.step % log_every == 0 or self.step == self.recipe.steps:
                yield {
                    "step": self.step,
                    "side": self.phase()[0],
                    "pictures": len(self.toys) + len(self.scenes),
                    **{name: round(value.item(), 4) for name, value in values.items()},
                    "seconds": round(self.seconds, 1),
                }
                self.toys.refresh()
                self.scenes.refresh()
                self.save()
        self.save()


def export(backbone: Dinov2Model, folder: Path) -> None:
    """Write a backbone as a `Dinov2Model` folder, in half precision, with its processor.

    The processor leaves pictures of 224 pixels as they are (Meta's resizes to 256 and crops), so
    that patches and the ground truth of the samples coincide.
    """
    copy.deepcopy(backbone).half().save_pretrained(folder)
    BitImageProcessorPil(
        size={"shortest_edge": 224},
        crop_size={"height": 224, "width": 224},
        image_mean=IMAGENET_MEAN,
        image_std=IMAGENET_STD,
        resample=3,
    ).save_pretrained(folder)


def main() -> None:
    """Command line: see the module's text."""
    options = parser(__doc__, RECIPES, "material", "runs/dinov2", log_every=250)
    options.add_argument("--monitor", action="store_true", help="log k-NN on the sample scenes")
    options.add_argument("--start", type=Path, help="folder of a model to start from")
    arguments = options.parse_args()
    training = Training(
        chosen_recipe(arguments, RECIPES),
        arguments.material,
        arguments.out,
        arguments.device,
        arguments.limit,
    )
    monitor = Monitor(training.device) if arguments.monitor else None

    def watched() -> Iterator[dict[str, Any]]:
        for entry in training.run(arguments.minutes, arguments.log_every):
            yield entry | (monitor.score(training.teacher.backbone) if monitor else {})

    resumed = training.resume()
    if arguments.start and not resumed:
        training.start_from(arguments.start)
    print("resumed at" if resumed else "started at", training.step, flush=True)
    write_log(arguments.out, watched())
    export(training.teacher.backbone, arguments.out / "model")  # of a stopped run, too


if __name__ == "__main__":
    main()
