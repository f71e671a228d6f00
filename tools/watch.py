"""Watches a tree of processes: its memory, its CPU time, and whether it still uses any."""

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

STALL_SECONDS = 300.0
NOTEBOOK_SECONDS = 3600.0
# A kernel that waits uses a thousandth of a core, to look whether its parent is still there.
IDLE_SHARE = 0.01
INTERVAL = 0.2
# What one sample may add to the time without work: while the machine slept, or could not even run
# the watch, nothing is known of the notebook.
LONGEST_GAP = 5 * INTERVAL


@dataclass(frozen=True)
class Limits:
    """When a notebook is given up: slow is never failed.

    Attributes:
        stall_seconds: it hangs if kernel and children use less than a hundredth of a core for so
            long. DINOV2_STALL_SECONDS sets it.
        notebook_seconds: wall-clock time for all of its cells. DINOV2_NOTEBOOK_SECONDS sets it.
    """

    stall_seconds: float = STALL_SECONDS
    notebook_seconds: float = NOTEBOOK_SECONDS

    @classmethod
    def from_environment(cls) -> "Limits":
        """The limits that the environment sets, or else the usual ones.

        Raises:
            ValueError: a variable is no number above 0; the text names it.
        """
        return cls(
            _seconds("DINOV2_STALL_SECONDS", STALL_SECONDS),
            _seconds("DINOV2_NOTEBOOK_SECONDS", NOTEBOOK_SECONDS),
        )

    def stalled(self) -> str:
        """What to say of a notebook that hangs."""
        return f"no CPU time used for {self.stall_seconds:g} s (DINOV2_STALL_SECONDS)"

    def too_long(self) -> str:
        """What to say of a notebook that does not come to its end."""
        return f"longer than {self.notebook_seconds:g} s in all (DINOV2_NOTEBOOK_SECONDS)"


def _seconds(name: str, usual: float) -> float:
    text = os.environ.get(name, "")
    if not text:
        return usual
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ValueError(f"{name} is {text!r}: set it to a number of seconds, or not at all")
    return seconds


class ProcessWatch(threading.Thread):
    """Samples the children of this process, or another process and its own, inside `with`.

    It does so every 200 ms.

    Time of children that have ended still counts; those that live shorter than 200 ms are missed.

    Attributes:
        peak_bytes: the largest sum of resident memory so far.
        used_seconds: CPU time, user and system, at the last sample.
    """

    def __init__(self, limits: Limits, root: int | None = None) -> None:
        """Prepares it.

        Args:
            limits: say when the tree counts as hanging.
            root: id of the process to watch, with its children, theirs, and so on; None: the
                children of this process.
        """
        super().__init__(daemon=True)
        self.limits = limits
        self.root = psutil.Process(root)
        self.root_counts = root is not None
        self.peak_bytes = 0
        self.used_seconds = 0.0
        self._seconds_of: dict[tuple[int, float], float] = {}  # process id and start: CPU time
        self._idle_seconds = 0.0
        self._sampled_at = time.monotonic()
        self._active_cpu = 0.0
        self._one_at_a_time = threading.Lock()
        self._ended = threading.Event()

    def __enter__(self) -> "ProcessWatch":
        self._sampled_at = time.monotonic()
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        """Samples until the end of `with`."""
        while not self._ended.wait(INTERVAL):
            self.cpu_seconds()

    def cpu_seconds(self) -> float:
        """CPU time, user and system, that the processes have used up to now, in seconds."""
        with self._one_at_a_time:
            self._sample()
            now = time.monotonic()
            self._idle_seconds += min(now - self._sampled_at, LONGEST_GAP)
            self._sampled_at = now
            self.used_seconds = sum(self._seconds_of.values())
            used_since = self.used_seconds - self._active_cpu
            if used_since > IDLE_SHARE * self.limits.stall_seconds:
                self._active_cpu = self.used_seconds
                self._idle_seconds = 0.0
            return self.used_seconds

    def stalled(self) -> bool:
        """Whether the processes have not worked for the time that the limits allow."""
        return self._idle_seconds > self.limits.stall_seconds

    def _sample(self) -> None:
        resident = 0
        watched = [self.root] if self.root_counts else []
        for process in watched + _descendants(self.root):
            # a child may end between being listed and being asked
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                self._seconds_of[process.pid, process.create_time()] = times.user + times.system
                resident += process.memory_info().rss
        self.peak_bytes = max(self.peak_bytes, resident)


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def run_watched(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], limits: Limits
) -> int | None:
    """Runs a command, and ends it with all its children if nothing in it works any more.

    Kernels are in process groups of their own, so that the whole tree is ended, not a group.

    Args:
        command: program and arguments.
        folder: where it runs.
        environment: all of its variables.
        limits: how long it may do nothing.

    Returns:
        Its exit status; None if it was ended.
    """
    with subprocess.Popen(command, cwd=folder, env=environment) as process:
        try:
            with ProcessWatch(limits, process.pid) as watch:
                while not watch.stalled():
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        return process.wait(timeout=INTERVAL)
        finally:
            if process.poll() is None:
                end(process.pid)
    return None


def end(root: int) -> None:
    """Ends a process and all below it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(root)
        for one in [process, *_descendants(process)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
