"""Run a model on batches, on fewer pictures while memory is short."""

import logging
import re
from typing import Any

import numpy as np

from ..models.encoder import Forward, Tokens
from ..models.load import Model
from . import batches
from .gather import Gathering, inner_layers, keeps_patches, layer_names, split_rows
from .job import Job, Record, Settings
from .result import Skipped

log = logging.getLogger("dinov2_helpers")
OUT_OF_MEMORY = "out of memory|allocate memory|not enough memory|ALLOC_FAILED"


class Computer:
    """Computes the features of batches and hands them in; several threads may call it.

    Args:
        model: What sees the pictures.
        settings: What is wanted of them.
        forward: Of a session of the model's encoder.
        gathering: What takes the features.
    """

    def __init__(
        self, model: Model, settings: Settings, forward: Forward, gathering: Gathering
    ) -> None:
        self.model, self.settings = model, settings
        self.forward, self.gathering = forward, gathering
        self.most: dict[tuple[int, ...], int] = {}  # pictures of a shape that fit into memory

    def __call__(self, batch: list[Job]) -> list[Skipped]:
        """Compute a batch of one shape; return the pictures that could not be computed."""
        skipped: list[Skipped] = []
        while batch:
            n = min(len(batch), self.most.get(_shape(batch), len(batch)))
            try:
                self._check_memory(batch[:n])
                skipped += self._compute(batch[:n])
            except (RuntimeError, MemoryError) as error:
                if not _is_memory(error):
                    raise
                if n > 1:
                    self._halve(_shape(batch), n)
                    continue
                skipped.append(_too_large(batch[0]))
            batch = batch[n:]
        return skipped

    def _check_memory(self, batch: list[Job]) -> None:
        needed = len(batch) * batches.activation_bytes(self.model, _shape(batch))
        if needed > batches.free_memory(self.model):
            raise MemoryError

    def _halve(self, shape: tuple[int, ...], n: int) -> None:
        import torch

        torch.cuda.empty_cache()
        if self.most.get(shape, n) < n:
            return  # another thread has found out
        self.most[shape] = n // 2
        log.warning(
            "%d pictures of %dx%d px do not fit into memory: %d at once now",
            n,
            shape[2],
            shape[1],
            n // 2,
        )

    def _compute(self, batch: list[Job]) -> list[Skipped]:
        import torch

        stacked = np.stack([job.pixels for job in batch])  # type: ignore[misc]  # (N, 3, H, W)
        rows, columns = (side // self.model.patch_size for side in stacked.shape[-2:])
        with torch.inference_mode():
            tokens = self.forward(torch.from_numpy(stacked))
            arrays = self._arrays(tokens, (rows, columns))
        skipped = []
        for job, record in zip(batch, split_rows(arrays), strict=True):
            if not all(np.isfinite(array).all() for array in record.values()):
                skipped.append(Skipped(job.index, job.name, self._not_finite()))
                continue
            if job.keep:
                job.keep(record)
            self.gathering.add(job, record)
        return skipped

    def _not_finite(self) -> str:
        number = str(self.model.dtype).removeprefix("torch.")
        return (
            f"the model gives features that are NaN or infinite, in {number}: load it in float32, "
            "or see whether its weights are finite"
        )

    def _arrays(self, tokens: Tokens, grid: tuple[int, int]) -> Record:
        """Return what is wanted of a batch, by name, as arrays (N, ...)."""
        first_patch = self.model.first_patch

        def patches(of: Any) -> Any:
            return of[:, first_patch:].unflatten(1, grid)  # (N, h, w, D)

        found = {"cls": tokens.pooled}  # (N, D)
        if keeps_patches(self.model, self.settings):
            found["patches"] = patches(tokens.last)
        for layer in inner_layers(self.model, self.settings):
            cls_name, patches_name = layer_names(self.model, layer)
            found[cls_name] = self._summary(tokens.layers[layer])
            found[patches_name] = patches(tokens.layers[layer])
        for facet, of_facet in tokens.facets.items():
            found[facet] = patches(of_facet)
        if tokens.attention is not None:
            from_cls = tokens.attention[:, :, 0, first_patch:]  # (N, heads, h * w)
            found["attention"] = from_cls.unflatten(2, grid)
        return {name: tensor.float().cpu().numpy() for name, tensor in found.items()}

    def _summary(self, of_layer: Any) -> Any:
        """Return CLS of a block's tokens (N, T, D) or, where there is none, their mean: (N, D)."""
        return of_layer[:, 0] if self.model.has_cls else of_layer.mean(1)


def _shape(batch: list[Job]) -> tuple[int, ...]:
    return batch[0].pixels.shape  # type: ignore[union-attr]


def _is_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or bool(re.search(OUT_OF_MEMORY, str(error)))


def _too_large(job: Job) -> Skipped:
    _, height, width = _shape([job])
    reason = f"does not fit into memory at {width}x{height} px; give a lower `size`"
    return Skipped(job.index, job.name, reason)
