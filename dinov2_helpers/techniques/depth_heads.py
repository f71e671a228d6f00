"""Heads that read log depth out of frozen tokens, their losses, and the loop that trains them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

Inputs = tuple[Tensor, Tensor]  # patches (B, h, w, L D) and CLS (B, L D)


class Recipe(NamedTuple):
    """How a head is trained."""

    steps: int
    batch_size: int  # pictures
    rate: float  # largest learning rate of the cycle
    seed: int


# Losses


def silog_loss(log_guess: Tensor, log_true: Tensor, keep: float = 0.85) -> Tensor:
    """Return the root of the variance of the log ratio and (1 - keep) of its squared mean.

    Source: Eigen et al. 2014, section 3.2, with the root that later work takes (Bhat et al. 2021).

    Args:
        log_guess: (B, H, W) log depth.
        log_true: The same, NaN where it is not known.
        keep: 1 ignores the overall scale, 0 is the plain RMSE of log depth.
    """
    known = torch.isfinite(log_true)
    ratio = torch.where(known, log_guess - log_true, 0)
    count = known.sum()
    mean = ratio.sum() / count
    variance = ((ratio - mean) ** 2 * known).sum() / count
    return torch.sqrt(variance + (1 - keep) * mean**2)


def gradient_loss(log_guess: Tensor, log_true: Tensor, scales: int = 4) -> Tensor:
    """Return the mean difference between neighbours of the log ratio, at several scales.

    Source: Li & Snavely 2018, section 4.

    Args:
        log_guess: (B, H, W) log depth.
        log_true: The same, NaN where it is not known.
        scales: The maps are thinned 1, 2, 4, ... times.
    """
    known = torch.isfinite(log_true)
    ratio = torch.where(known, log_guess - log_true, 0)
    total = ratio.new_zeros(())
    for power in range(scales):
        step = 2**power
        thin = ratio[:, ::step, ::step]
        valid = known[:, ::step, ::step]
        for dim in (1, 2):  # down, then across
            n = valid.shape[dim] - 1
            both = valid.narrow(dim, 1, n) & valid.narrow(dim, 0, n)
            total = total + (thin.diff(dim=dim).abs() * both).sum() / both.sum().clamp(min=1)
    return total / (2 * scales)


def depth_loss(log_guess: Tensor, log_true: Tensor) -> Tensor:
    """Return SILog and half the gradient loss, at the resolution of the truth."""
    height, width = log_true.shape[1:]
    enlarged = resized(log_guess, (height, width))
    return silog_loss(enlarged, log_true) + 0.5 * gradient_loss(enlarged, log_true)


def resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return maps (B, h, w) scaled bilinearly to a size (H, W)."""
    return F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


# Heads


def expected_log_depth(score: Tensor, log_centres: Tensor) -> Tensor:
    """Return the mean of the bins, weighted by ReLU(score) + 0.1 (Oquab et al. 2024, 7.4).

    Args:
        score: (..., bins).
        log_centres: (bins,), log depth of each.
    """
    weight = score.relu() + 0.1
    return weight @ log_centres / weight.sum(-1)


class BinsHead(nn.Module):
    """Log depth of a patch as a weighted mean of fixed depths (AdaBins, Bhat et al. 2021)."""

    log_centres: Tensor

    def __init__(self, width: int, log_centres: Tensor, *, cls: bool) -> None:
        super().__init__()
        self.register_buffer("log_centres", log_centres)
        self.patch = nn.Linear(width, len(log_centres))
        self.cls = nn.Linear(width, len(log_centres), bias=False) if cls else None

    def forward(self, patches: Tensor, cls: Tensor) -> Tensor:
        """Return (B, h, w) of patches (B, h, w, L D) and CLS (B, L D)."""
        score = self.patch(patches)
        if self.cls is not None:  # the same as joining CLS to every patch
            score = score + self.cls(cls)[:, None, None]
        return expected_log_depth(score, self.log_centres)


class SmallDPT(nn.Module):
    """Layers fused by convolutions from the last to the first, ending twice as fine as the patches.

    Source: the idea is that of DPT (Ranftl et al. 2021), with far fewer channels.
    """

    log_centres: Tensor

    def __init__(
        self, width: int, n_layers: int, log_centres: Tensor, *, cls: bool, channels: int = 24
    ) -> None:
        super().__init__()
        self.dim = width // n_layers
        self.register_buffer("log_centres", log_centres)
        self.read = nn.ModuleList(nn.Linear(self.dim, channels) for _ in range(n_layers))
        self.mix = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) for _ in range(n_layers)
        )
        self.cls = nn.Linear(width, channels) if cls else None
        self.score = nn.Linear(channels, len(log_centres))

    def forward(self, patches: Tensor, cls: Tensor) -> Tensor:
        """Return (B, 2 h, 2 w) of patches (B, h, w, L D) and CLS (B, L D)."""
        layers = patches.split(self.dim, dim=-1)
        grid = patches.shape[1:3]
        if self.cls is None:
            found = patches.new_zeros(len(patches), self.score.in_features, 1, 1)
        else:
            found = self.cls(cls)[:, :, None, None]
        for k in reversed(range(len(layers))):
            finer = 1 if 2 * k >= len(layers) else 2  # the first half of the layers
            size = (grid[0] * finer, grid[1] * finer)
            layer = self.read[k](layers[k]).movedim(-1, 1)  # (B, channels, h, w)
            found = _bilinear(found, size) + _bilinear(layer, size)
            found = found + self.mix[k](found.relu())
        return expected_log_depth(self.score(found.movedim(1, -1)), self.log_centres)


def _bilinear(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps, size=size, mode="bilinear")


# Training


def train_head(
    make: Callable[[], nn.Module],
    inputs_of: Callable[[NDArray[np.int64]], Inputs],
    log_truth: Sequence[NDArray[np.float32]],
    recipe: Recipe,
    *,
    device: torch.device | str = "cpu",
    progress: bool | None = None,
) -> nn.Module:
    """Make a head and train it by AdamW on random batches, one cycle of the learning rate.

    On one machine the same seed gives the same head. The random numbers of the caller stay as
    they were.

    Args:
        make: Makes the head.
        inputs_of: The inputs of some pictures of equal grids.
        log_truth: N maps (H, W) of log depth, NaN where it is not known. Pictures of one batch
            have maps of the same shape.
        recipe: Steps, batch size, rate, seed.
        device: Where to train.
        progress: Whether to show a bar; None: only on a terminal.

    Returns:
        The head, on the CPU and in evaluation mode.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        head = make().to(device)
    optimiser = torch.optim.AdamW(head.parameters(), recipe.rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.rate, recipe.steps, pct_start=0.1
    )
    batches = Batches([one.shape for one in log_truth], recipe.batch_size, recipe.seed)
    bar = tqdm(range(recipe.steps), desc="head", disable=None if progress is None else not progress)
    for _ in bar:
        rows = batches.draw()
        patches, cls = inputs_of(rows)
        truth = torch.from_numpy(np.stack([log_truth[row] for row in rows]))
        loss = depth_loss(head(patches.to(device), cls.to(device)), truth.to(device))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return head.cpu().eval()


class Batches:
    """Random rows of pictures whose maps have one shape; a shape comes as often as it is there."""

    def __init__(self, shapes: Sequence[tuple[int, ...]], size: int, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.size = size
        alike: dict[tuple[int, ...], list[int]] = {}
        for row, shape in enumerate(shapes):
            alike.setdefault(shape, []).append(row)
        self.pools = [np.array(rows) for rows in alike.values()]

    def draw(self) -> NDArray[np.int64]:
        """Return the rows of the next batch, (B,)."""
        pool = self.pools[0]
        if len(self.pools) > 1:
            shares = torch.tensor([float(len(rows)) for rows in self.pools])
            pool = self.pools[int(torch.multinomial(shares, 1, generator=self.generator))]
        picks = torch.randint(len(pool), (min(self.size, len(pool)),), generator=self.generator)
        return np.asarray(pool[picks.numpy()], np.int64)
