"""Train the embedded text tower on features of the frozen DINOv2.

    python -m training.world.material --out pairs --colours crossed --views 2    # pictures first
    python -m training.lit.material --material pairs --out runs/lit/features     # then features
    python -m training.lit.train --material pairs --features runs/lit/features --out runs/lit

The same code runs on one CPU core and on a GPU; a stopped run goes on where its last checkpoint
was. The picture tower is locked (Zhai et al. 2022): what learns is a text transformer and a small
head on class token and mean patch. The objective is CLIP's, in which equal captions share their
pictures (`training.clip.train.contrastive_loss`). Of each picture, one caption a step is
written, in English or Chinese by chance, so the two languages meet only in the pictures.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dinov2_helpers.lit import sha256_of_weights
from dinov2_helpers.samples import data_dir
from training import checkpoint
from training.batches import Squares
from training.captions import WRITERS, vocabulary
from training.clip.tokenizer import make_tokenizer
from training.clip.train import contrastive_loss
from training.command_line import chosen_recipe, parser, write_log
from training.dinov2.model import cosine
from training.lit.config import RECIPES, Recipe
from training.lit.material import COLOURED, DINOV2, GREY, Described
from training.lit.model import Head, Texts, export
from training.lit.monitor import Monitor

CHECKPOINT = "checkpoint.safetensors"


class Training:
    """One run: text tower, head, optimiser, features and the step that ties them together.

    Args:
        recipe: Every number of the run.
        material: What DINOv2 makes of the pictures.
        out: Folder for checkpoints and the log.
        device: Where to train.
    """

    def __init__(self, recipe: Recipe, material: Described, out: Path, device: str) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.material, self.out = recipe, material, out
        self.device = torch.device(device)
        self.features = material.features.to(self.device)
        self.squares = Squares([coloured for coloured, _ in material.facts], recipe.squares)
        tokenizer = make_tokenizer(vocabulary("en", "zh"), recipe.context)
        self.texts = Texts(recipe, tokenizer).to(self.device)
        self.head = Head(self.features.flatten(0, 1).float(), recipe.dim, recipe.hidden).to(
            self.device
        )
        parameters = [p for network in self._networks.values() for p in network.parameters()]
        self.optimiser = torch.optim.AdamW(
            [
                {"params": [p for p in parameters if p.ndim > 1], "decay": recipe.weight_decay},
                {"params": [p for p in parameters if p.ndim <= 1], "decay": 0.0},
            ],
            betas=(0.9, 0.98),
        )
        self.step, self.seconds = 0, 0.0
        out.mkdir(parents=True, exist_ok=True)

    @property
    def _networks(self) -> dict[str, nn.Module]:
        return {"texts": self.texts, "head": self.head}

    def schedule(self) -> None:
        """Set learning rate and weight decay."""
        done = self.step / self.recipe.steps
        warm = min(1.0, (self.step + 1) / (self.recipe.warmup * self.recipe.steps))
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.learning_rate * warm * cosine(1.0, 0.01, done)
            group["weight_decay"] = group["decay"]

    def draw(self) -> tuple[Tensor, list[str], Tensor]:
        """Draw features ``(n, 2 * dim)``, a caption for each, and the noise to be added.

        The first ``recipe.grey`` of them are of pictures without colours.
        """
        # By step, so that a resumed run draws what the stopped one would have drawn.
        rng = np.random.default_rng((self.recipe.seed, self.step))
        rows = self.squares.draw(rng, self.recipe.batch)
        n_grey = int(self.recipe.grey * len(rows))
        kinds = np.where(np.arange(len(rows)) < n_grey, GREY, COLOURED)
        features = self.features[torch.from_numpy(rows), torch.from_numpy(kinds)].float()
        noise = rng.standard_normal(features.shape, np.float32) * self.recipe.noise
        writers = [kind(rng) for kind in WRITERS.values()]
        captions = [
            writers[rng.integers(len(writers))].caption(
                self.material.facts[row][kind], grey=bool(kind == GREY)
            )
            for row, kind in zip(rows, kinds, strict=True)
        ]
        return features, captions, torch.from_numpy(noise).to(self.device)

    def train_step(self) -> Tensor:
        """Take one step; return its loss, detached."""
        self.schedule()
        features, captions, noise = self.draw()
        pictures = self.head.train()(features, noise)
        texts = self.texts.train()(captions)
        loss = contrastive_loss(pictures, texts, self.texts.scale, captions)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        self.optimiser.step()
        self.step += 1
        return loss.detach()

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

        A checkpoint is written with every entry and at the end.
        """
        started = time.perf_counter() - self.seconds
        stop = self.seconds + 60 * minutes
        while self.step < self.recipe.steps and self.seconds < stop:
            loss = self.train_step()
            self.seconds = time.perf_counter() - started
            if self.step % log_every == 0 or self.step == self.recipe.steps:
                yield {
                    "step": self.step,
                    "pictures": len(self.material),
                    "contrast": round(loss.item(), 4),
                    "scale": round(self.texts.scale.item(), 2),
                    "seconds": round(self.seconds, 1),
                }
                self.save()
        self.save()


def main() -> None:
    """Command line: see the module's text."""
    options = parser(__doc__, RECIPES, "pairs", "runs/lit", log_every=100)
    options.add_argument("--features", type=Path, default=Path("runs/lit/features"))
    options.add_argument("--dinov2", type=Path, default=data_dir() / "models" / DINOV2)
    arguments = options.parse_args()
    sha256 = sha256_of_weights(arguments.dinov2)
    material = Described(arguments.material, arguments.features, sha256, arguments.limit)
    recipe = chosen_recipe(arguments, RECIPES)
    training = Training(recipe, material, arguments.out, arguments.device)
    monitor = Monitor(arguments.dinov2, arguments.out / "monitor.safetensors")

    def watched() -> Iterator[dict[str, Any]]:
        for entry in training.run(arguments.minutes, arguments.log_every):
            yield entry | monitor.score(training.head, training.texts)

    print("resumed at" if training.resume() else "started at", training.step, flush=True)
    write_log(arguments.out, watched())
    if training.step == recipe.steps:
        folder = arguments.out / "model"
        export(training.texts, training.head, arguments.dinov2.name, sha256, folder)


if __name__ == "__main__":
    main()
