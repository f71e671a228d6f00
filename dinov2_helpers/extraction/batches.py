"""How many pictures at once: batches of one shape that fit into memory."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from psutil import virtual_memory

from ..models.load import Model
from .job import Job

MAX_BATCH = 64
CPU_BUDGET = 20 * 2**20  # bytes; larger batches leave the caches and are slower


def activation_bytes(model: Model, shape: tuple[int, ...]) -> int:
    """Return the bytes that one picture (3, H, W) takes in the widest part of the model."""
    patches = shape[1] * shape[2] // model.patch_size**2
    tokens = patches + model.first_patch
    # of one block: query, key, value, residual, and twice the 4 x wider hidden layer of its MLP
    numbers = 12 * tokens * model.width
    if model.model.config._attn_implementation == "eager":
        numbers += 2 * model.n_heads * tokens**2
    return 4 * numbers


def free_memory(model: Model) -> int:
    """Return the bytes of memory that are free; Linux kills a process that takes more."""
    import torch

    if model.device.type == "cuda":
        return torch.cuda.mem_get_info(model.device)[0]
    return virtual_memory().available


def make_batches(model: Model, jobs: Sequence[Job], batch_size: int | None) -> Iterator[list[Job]]:
    """Yield those that the model must see, in batches of one shape that fit into memory.

    Args:
        model: What is to see them.
        jobs: Pictures; those without pixels have their features already.
        batch_size: None: what fits `CPU_BUDGET` or, on CUDA, a quarter of what is free.
    """
    alike: dict[tuple[int, ...], list[Job]] = defaultdict(list)
    for job in jobs:
        if job.pixels is not None:
            alike[job.pixels.shape].append(job)
    budget = free_memory(model) // 4 if model.device.type == "cuda" else CPU_BUDGET
    for shape, same in alike.items():
        fitting = int(budget // activation_bytes(model, shape))
        step = batch_size or max(1, min(MAX_BATCH, fitting))
        for start in range(0, len(same), step):
            yield same[start : start + step]
