"""The rendered training pictures and what is known of each."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

STORED = 128  # side in pixels at which pictures are kept: a little more than any model here sees


class Pairs:
    """Pictures and the facts from which their captions are written.

    Args:
        material: Folder written by `training.world.material`.
        device: Where the pictures are kept.
        limit: Largest number of shards to read from each of its two folders, or None for all.

    Attributes:
        pictures: ``(n, 3, 128, 128)`` uint8.
        facts: One mapping per picture.

    Raises:
        FileNotFoundError: The folder holds no shards.
    """

    def __init__(self, material: Path, device: torch.device, limit: int | None = None) -> None:
        self.pictures = torch.empty(0, 3, STORED, STORED, dtype=torch.uint8)
        self.facts: list[dict[str, Any]] = []
        shrunk = []
        paths = [sorted((material / name).glob("*.npy"))[:limit] for name in ("toys", "multi")]
        for path in [*paths[0], *paths[1]]:
            pixels = torch.from_numpy(np.load(path, allow_pickle=False)).flatten(0, -4)
            shrunk.append(_shrink(pixels.permute(0, 3, 1, 2)))
            lines = path.with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()
            for row in map(json.loads, lines):
                self.facts += row.get("views", [row])
        if not shrunk:
            raise FileNotFoundError(
                f"{material} holds no shards. Render some first: python -m training.world.material"
            )
        self.pictures = torch.cat(shrunk).to(device)

    def __len__(self) -> int:
        return len(self.pictures)


def _shrink(pictures: Tensor) -> Tensor:
    small = [
        F.interpolate(part.float(), size=STORED, mode="bilinear", antialias=True)
        for part in pictures.split(64)
    ]
    return torch.cat(small).round_().clamp_(0, 255).byte()
