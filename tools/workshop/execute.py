"""Executes a notebook and says when its first picture came, and how much memory its kernel took.

    python execute.py NOTEBOOK [--wait-for FILE]

prints one line of JSON. It runs in the environment of the kit, which has nbclient, nbformat and
psutil, but no package of `tools`. `--wait-for` keeps the kernel alive after the last cell until the
file is there, so that several kernels are measured while all of them are loaded.
"""

import argparse
import json
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import nbformat
import psutil
from nbclient import NotebookClient

INTERVAL = 0.5  # seconds between two looks at the memory
PICTURES = ("image/png", "image/jpeg")


class Memory:
    """The memory of the kernel that this process has started.

    Attributes:
        peak_mb: the largest resident memory so far, in 10^6 bytes; pages that several kernels
            share, as those of libraries, count whole.
    """

    def __init__(self) -> None:
        self.peak_mb = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(INTERVAL):
            self.peak_mb = max(self.peak_mb, memory_now()[0])

    def end(self) -> None:
        """Looks no more."""
        self._ended.set()
        self._thread.join()


def memory_now() -> tuple[float, float]:
    """Memory of the processes that this one has started, in 10^6 bytes.

    Returns:
        Resident memory, and proportional memory, in which a shared page is divided among those who
        share it; 0 where the system does not say.
    """
    resident = 0
    proportional = 0
    for process in psutil.Process().children(recursive=True):
        try:
            full = process.memory_full_info()
        except psutil.Error:  # it has ended
            continue
        resident += full.rss
        proportional += getattr(full, "pss", 0)
    return resident / 1e6, proportional / 1e6


def execute(notebook: Path, wait_for: Path | None) -> dict[str, Any]:
    """Runs all cells of a notebook in an empty folder.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails.
    """
    content = nbformat.read(notebook, as_version=4)
    started = time.perf_counter()
    first_picture: float | None = None
    memory = Memory()

    def look(cell: Any, **ignored: Any) -> None:
        nonlocal first_picture
        shown = [output.get("data", {}) for output in cell.get("outputs", ())]
        if first_picture is None and any(kind in data for data in shown for kind in PICTURES):
            first_picture = time.perf_counter() - started

    client = NotebookClient(content, timeout=None, kernel_name="python3", on_cell_executed=look)
    with tempfile.TemporaryDirectory() as folder:
        client.resources = {"metadata": {"path": folder}}
        os.environ["DINOV2_RESULTS"] = folder
        with client.setup_kernel():
            for number, cell in enumerate(content.cells):
                client.execute_cell(cell, number)
            seconds = time.perf_counter() - started
            if wait_for is not None:
                wait_for.with_suffix(f".{os.getpid()}").touch()
                while not wait_for.exists():
                    time.sleep(INTERVAL)
            memory.end()
            resident, proportional = memory_now()
    return {
        "notebook": notebook.stem,
        "first_picture_seconds": first_picture and round(first_picture, 1),
        "seconds": round(seconds, 1),
        "peak_mb": round(memory.peak_mb),
        "loaded_mb": round(resident),
        "loaded_proportional_mb": round(proportional),
    }


def main() -> None:
    """Command line: see the module's text."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--wait-for", type=Path)
    options = parser.parse_args()
    print(json.dumps(execute(options.notebook, options.wait_for)))


if __name__ == "__main__":
    main()
