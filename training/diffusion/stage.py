"""What the two stages of the training share: schedule, checkpoint and log."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training import checkpoint


class Stage(ABC):
    """One network on its way through its steps.

    Args:
        out: Folder for the checkpoint.
        steps: Number of steps in all.
        rate: Peak learning rate.
        networks: What the checkpoint keeps, by name.
        trained: Parameters that learn.

    Attributes:
        step: Steps taken.
        seconds: Time that they took.
    """

    name: str  # of the stage in the log and of its checkpoint

    def __init__(
        self,
        out: Path,
        steps: int,
        rate: float,
        networks: dict[str, nn.Module],
        trained: Iterable[nn.Parameter],
    ) -> None:
        self.path = out / f"{self.name}.checkpoint.safetensors"
        self.steps, self.rate, self.networks = steps, rate, networks
        self.optimiser = torch.optim.AdamW(trained, lr=rate, betas=(0.9, 0.99), weight_decay=0.01)
        self.step, self.seconds = 0, 0.0
        out.mkdir(parents=True, exist_ok=True)

    @abstractmethod
    def relative_rate(self) -> float:
        """Return the learning rate at this step as a share of its peak."""

    @abstractmethod
    def losses(self) -> dict[str, Tensor]:
        """Draw a batch by the number of the step and return its losses; "loss" is minimised."""

    def after_step(self) -> None:  # noqa: B027 (nothing to do is a fine default)
        """Do what follows a step of the optimiser."""

    def train_step(self) -> dict[str, Tensor]:
        """Take one step; return its losses, detached."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * self.relative_rate()
        values = self.losses()
        self.optimiser.zero_grad(set_to_none=True)
        values["loss"].backward()
        parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        self.optimiser.step()
        self.after_step()
        self.step += 1
        return {name: value.detach() for name, value in values.items()}

    def save(self) -> None:
        """Write a checkpoint, whole or not at all."""
        progress = torch.tensor([self.step, self.seconds], dtype=torch.float64)
        checkpoint.save(self.path, self.networks, self.optimiser, {"progress": progress})

    def resume(self) -> bool:
        """Load the checkpoint, if there is one; say whether there was."""
        if not self.path.exists():
            return False
        extra = checkpoint.load(self.path, self.networks, self.optimiser)
        step, self.seconds = extra["progress"].tolist()
        self.step = int(step)
        return True

    def run(self, minutes: float, log_every: int) -> Iterator[dict[str, Any]]:
        """Train to the end of the recipe, or for some minutes; yield a log entry now and then.

        Losses are means since the last entry, for those of single steps depend on the times drawn.
        A checkpoint is written with every entry and at the end. Stopping early changes nothing: the
        schedule counts steps, and the next run goes on.
        """
        started = time.perf_counter() - self.seconds
        stop = self.seconds + 60 * minutes
        recent: list[dict[str, Tensor]] = []
        while self.step < self.steps and self.seconds < stop:
            recent.append(self.train_step())
            self.seconds = time.perf_counter() - started
            if self.step % log_every == 0 or self.step == self.steps:
                means = {k: torch.stack([one[k] for one in recent]).mean() for k in recent[0]}
                yield {
                    "stage": self.name,
                    "step": self.step,
                    **{k: round(value.item(), 5) for k, value in means.items()},
                    "seconds": round(self.seconds, 1),
                }
                recent.clear()
                self.save()
        self.save()
