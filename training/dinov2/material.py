"""The rendered training pictures, held on the training device."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor


class Pool:
    """Pictures of one folder of shards written by `training.world.material`.

    Rendering may still be under way: `refresh` picks up the shards finished since the last call.

    Args:
        folder: Folder of ``*.npy`` shards: ``(rows, side, side, 3)`` uint8, one picture a row, or
            ``(rows, views, side, side, 3)``, several renders of one toy a row.
        device: Where the pictures are kept.
        limit: Largest number of shards to read, or None for all.

    Raises:
        FileNotFoundError: The folder holds no shards.
    """

    def __init__(self, folder: Path, device: torch.device, limit: int | None = None) -> None:
        self.folder, self.device, self.limit = folder, device, limit
        self._read: set[Path] = set()
        self._pictures = torch.empty(0, dtype=torch.uint8, device=device)
        self.refresh()
        if not self._read:
            raise FileNotFoundError(
                f"{folder} holds no shards. Render some first: python -m training.world.material"
            )

    def __len__(self) -> int:
        return len(self._pictures)

    def refresh(self) -> None:
        """Load the shards that were not there at the last call."""
        new = sorted(set(sorted(self.folder.glob("*.npy"))[: self.limit]) - self._read)
        if new:
            shards = [torch.from_numpy(np.load(p, allow_pickle=False)).to(self.device) for p in new]
            self._pictures = torch.cat([self._pictures, *shards] if self._read else shards)
            self._read.update(new)

    def batch(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw rows at random, and two pictures of each.

        Args:
            n: Number of rows, all different; the whole pool where it holds fewer.
            generator: Source of randomness on the pool's device.

        Returns:
            Two tensors ``(n, 3, side, side)`` in ``[0, 1]``, float16 on a GPU and float32 on a CPU:
            two different renders where a row holds several, else the same picture twice.
        """
        rows = torch.randperm(len(self), device=self.device, generator=generator)[:n]
        if self._pictures.ndim == 4:
            picture = self._to_float(self._pictures[rows])
            return picture, picture
        views = self._pictures.shape[1]
        order = torch.rand(len(rows), views, device=self.device, generator=generator).argsort(1)
        first, second = (self._to_float(self._pictures[rows, order[:, k]]) for k in (0, 1))
        return first, second

    def _to_float(self, pictures: Tensor) -> Tensor:
        dtype = torch.float16 if self.device.type == "cuda" else torch.float32
        return pictures.permute(0, 3, 1, 2).to(dtype) / 255
