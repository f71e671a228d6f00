"""How many threads to compute with: the cores that this process may use, not those there are."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SETTING = "DINOV2_THREADS"
SMALL = 1024  # rows of a matrix that one thread solves


def usable_cores(root: Path = Path("/")) -> int:
    """Return how many threads of this process can compute at the same time.

    These are the cores that its affinity names, or fewer where a container's CPU quota allows
    fewer (cgroup v1 and v2). Parts of a core do not count, but one thread there always is.
    The variable DINOV2_THREADS overrides all of it.

    Args:
        root: Folder in which `proc` and `sys` are looked up.

    Raises:
        ValueError: DINOV2_THREADS is no whole number of 1 or more.

    Example:
        >>> usable_cores() >= 1
        True
    """
    named = os.environ.get(SETTING, "")
    if named:
        return _whole_number(named)
    quotas = [int(quota) for quota in _quotas(root)]
    return max(1, min([_affinity(), *quotas]))


def thread_environment() -> dict[str, str]:
    """Return the variables that give a new Python process `usable_cores()` threads that sleep.

    OpenMP reads them once, when it is loaded, so they must be set before the process starts.
    Threads that wait for work spin by default, which takes the cores from whatever else wants to
    run, the next step of the same process included.

    Raises:
        ValueError: DINOV2_THREADS is no whole number of 1 or more.
    """
    return {"OMP_NUM_THREADS": str(usable_cores()), "OMP_WAIT_POLICY": "PASSIVE"}


@contextmanager
def small_solves(width: int) -> Iterator[None]:
    """Give numpy's and scipy's solvers one thread for matrices that are small.

    OpenBLAS's threads spin while they wait for one another. For a small matrix they gain little,
    and on a machine whose cores are busy each waits, at every step, for one that has none. The
    limit holds for the process, PyTorch excepted, and is taken back at the end.

    Args:
        width: Rows of the matrices that are solved; beyond `SMALL` nothing changes.
    """
    from threadpoolctl import threadpool_limits

    limit = 1 if width <= SMALL else None
    with threadpool_limits(limit, user_api="blas"):
        yield


def _whole_number(named: str) -> int:
    if not (named.isascii() and named.isdecimal()) or int(named) < 1:
        raise ValueError(
            f"{SETTING} is {named!r}: set it to a whole number of 1 or more, or not at all"
        )
    return int(named)


def _affinity() -> int:
    """Number of cores that this process may run on, as far as the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(root: Path) -> Iterator[float]:
    """The CPU quotas, in cores, of this process's control groups and of all groups above them."""
    for group in _control_groups(root):
        for folder in (group, *group.parents):
            yield from _quota_v2(folder)
            yield from _quota_v1(folder)


def _control_groups(root: Path) -> Iterator[Path]:
    """Folders in which the control groups of this process may have their limits.

    Inside a container the group is often mounted as the top folder, whatever path /proc gives it:
    a folder that is missing limits nothing, and those above it are looked at in any case.
    """
    mounted = root / "sys" / "fs" / "cgroup"
    table = root / "proc" / "self" / "cgroup"
    lines = table.read_text(encoding="utf-8").splitlines() if table.is_file() else []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        inside = path.strip("/")
        if controllers == "":  # version 2 has one hierarchy for all controllers
            yield mounted / inside
        elif "cpu" in controllers.split(","):
            yield mounted / controllers / inside
            yield mounted / "cpu" / inside


def _quota_v2(folder: Path) -> Iterator[float]:
    file = folder / "cpu.max"
    if file.is_file():
        quota, period = file.read_text(encoding="utf-8").split()
        if quota != "max":
            yield int(quota) / int(period)


def _quota_v1(folder: Path) -> Iterator[float]:
    file = folder / "cpu.cfs_quota_us"
    if file.is_file():
        quota = int(file.read_text(encoding="utf-8"))
        period = int((folder / "cpu.cfs_period_us").read_text(encoding="utf-8"))
        if quota > 0:  # -1 means no limit
            yield quota / period
