"""Threads that compute on one core each, whatever other calls do at the same time."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier, Lock

from ..threads import usable_cores

_ONE_AT_A_TIME = Lock()  # the number of threads is the process's


@contextmanager
def one_core_each() -> Iterator[tuple[ThreadPoolExecutor, int]]:
    """Give as many threads as can compute at the same time, and their number.

    Each of them computes alone. They are as many as PyTorch uses, or fewer where the process may
    use fewer cores, see `usable_cores`.

    PyTorch keeps its number of threads per thread, and hands each new thread that of the last call
    of `set_num_threads`. So that is put back as soon as all workers have taken theirs: neither the
    caller, nor a second call at the same time, nor a thread that starts later sees it changed.
    """
    import torch

    with _ONE_AT_A_TIME:
        torch_threads = torch.get_num_threads()
        n = min(torch_threads, usable_cores())
        started = Barrier(n + 1)

        def take_one_core() -> None:
            torch.get_num_threads()  # takes over the process's number, which it would do later
            torch.set_num_threads(1)
            started.wait()

        pool = ThreadPoolExecutor(n, "extract")
        for _ in range(n):
            pool.submit(take_one_core)
        started.wait()
        torch.set_num_threads(torch_threads)
    try:
        yield pool, n
    finally:
        pool.shutdown(cancel_futures=True)
