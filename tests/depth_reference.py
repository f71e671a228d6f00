"""Heads and losses of depth in their plainest form, to compare the library's with."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


def maps_partly_known():
    """Guesses (3, 12, 10) and truths, some of which are not known."""
    rng = np.random.default_rng(0)
    truths = rng.uniform(1, 20, (3, 12, 10))
    guesses = truths * np.exp(rng.normal(0, 0.3, truths.shape))
    truths[:, :3][rng.random((3, 3, 10)) < 0.5] = np.nan
    return guesses, truths


def silog_loss(log_guess, log_true, keep=0.85):
    """Root of the variance of the log ratio and (1 - keep) of its squared mean, where known."""
    ratio = (log_guess - log_true)[torch.isfinite(log_true)]
    return torch.sqrt(ratio.var(unbiased=False) + (1 - keep) * ratio.mean() ** 2)


def gradient_loss(log_guess, log_true, scales=4):
    """Mean difference between neighbours of the log ratio, over maps thinned 1, 2, 4... times."""
    total = 0
    for power in range(scales):
        ratio = (log_guess - log_true)[:, :: 2**power, :: 2**power]
        for steps in (ratio[:, 1:] - ratio[:, :-1], ratio[:, :, 1:] - ratio[:, :, :-1]):
            steps = steps[torch.isfinite(steps)].abs()
            total = total + (steps.mean() if len(steps) else 0)
    return total / (2 * scales)


def resized(maps, size):
    """Maps (N, h, w) enlarged bilinearly to size (H, W)."""
    return F.interpolate(maps[:, None], size=tuple(size), mode="bilinear")[:, 0]


def depth_loss(log_guess, log_true):
    """SILog and half the gradient loss, at the resolution of the truth."""
    log_guess = resized(log_guess, log_true.shape[1:])
    return silog_loss(log_guess, log_true) + 0.5 * gradient_loss(log_guess, log_true)


def expected_log_depth(score, log_centres):
    """Mean of the bins' log depth, weighted by ReLU(score) + 0.1."""
    weight = score.relu() + 0.1
    return (weight * log_centres).sum(-1) / weight.sum(-1)


class BinsHead(nn.Module):
    """A linear map of a patch's token joined with CLS, then bins."""

    def __init__(self, width, log_centres):
        super().__init__()
        self.log_centres = log_centres
        self.patch = nn.Linear(width, len(log_centres))
        self.cls = nn.Linear(width, len(log_centres), bias=False)

    def forward(self, patches, cls):
        weights = torch.cat([self.patch.weight, self.cls.weight], dim=1)
        joined = torch.cat([patches, cls[:, None, None].expand(-1, *patches.shape[1:3], -1)], -1)
        return expected_log_depth(joined @ weights.T + self.patch.bias, self.log_centres)


class SmallDPT(nn.Module):
    """Four layers fused from the last to the first, at 1, 1, 2 and 2 times the patches."""

    def __init__(self, dim, log_centres, channels=24):
        super().__init__()
        self.dim = dim
        self.log_centres = log_centres
        self.read = nn.ModuleList(nn.Linear(dim, channels) for _ in range(4))
        self.mix = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(4))
        self.cls = nn.Linear(4 * dim, channels)
        self.score = nn.Linear(channels, len(log_centres))

    def forward(self, patches, cls):
        x = self.cls(cls)[:, :, None, None]
        layers = patches.split(self.dim, dim=-1)
        for k, finer in ((3, 1), (2, 1), (1, 2), (0, 2)):
            layer = self.read[k](layers[k]).movedim(-1, 1)
            size = [n * finer for n in layer.shape[2:]]
            x = F.interpolate(x, size=size, mode="bilinear") + F.interpolate(
                layer, size=size, mode="bilinear"
            )
            x = x + self.mix[k](x.relu())
        return expected_log_depth(self.score(x.movedim(1, -1)), self.log_centres)


def train(make, patches, cls, log_truth, *, steps, batch, rate, seed):
    """A head after some steps of AdamW on random batches, one cycle of the rate."""
    torch.manual_seed(seed)
    head = make()
    batches = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(head.parameters(), rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, steps, pct_start=0.1)
    for _ in range(steps):
        rows = torch.randint(len(log_truth), (batch,), generator=batches)
        optimiser.zero_grad()
        depth_loss(head(patches[rows], cls[rows]), log_truth[rows]).backward()
        optimiser.step()
        schedule.step()
    return head.eval()


def scores(guess, true):
    """Scores of a depth map (H, W) by their formulas."""
    known = ~np.isnan(true)
    p, t = np.asarray(guess, float)[known], np.asarray(true, float)[known]
    ratio = np.maximum(p / t, t / p)
    log = np.log(p) - np.log(t)
    return {
        **{f"delta{k}": np.mean(ratio < 1.25**k) for k in (1, 2, 3)},
        "AbsRel": np.mean(np.abs(p - t) / t),
        "RMSE": np.sqrt(np.mean((p - t) ** 2)),
        "SILog": np.sqrt((log**2).mean() - log.mean() ** 2),
    }
