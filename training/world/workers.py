"""Processes that render: one OpenGL context and one thread each."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.pool import Pool

from training.world.render import Renderer

_open: list[Renderer] = []


def _start() -> None:
    _open.append(Renderer().__enter__())  # closed by the end of the process


def renderer() -> Renderer:
    """The renderer of this process, which must belong to a ``rendering_pool``."""
    return _open[0]


def rendering_pool(workers: int) -> Pool:
    """Starts processes in which ``renderer()`` works.

    They are spawned, not forked: an OpenGL context does not survive a fork.

    Args:
        workers: how many; one per core is best.

    Returns:
        A pool, to be used in a ``with`` block.
    """
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    return multiprocessing.get_context("spawn").Pool(workers, _start)
