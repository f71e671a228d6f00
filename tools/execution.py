"""Execution of notebooks: without a network, with time limits, measured, and cleaned up."""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from traitlets.config import Config

from tools import pairing
from tools.project import ROOT, Project

CELL_SECONDS = 300
NOTEBOOK_SECONDS = 900
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


@dataclass(frozen=True)
class Costs:
    """What one execution of a notebook took.

    Attributes:
        seconds: wall-clock time from the start of the kernel to the end of the last cell.
        peak_mb: largest resident memory of the kernel and its children together, in 10^6 bytes.
        download_mb: data fetched from a network, in 10^6 bytes; 0, because there is none.
        cores: CPU cores that the kernel could use.
    """

    seconds: float
    peak_mb: float
    download_mb: float
    cores: int


@dataclass(frozen=True)
class Execution:
    """An executed notebook, and why it did not reach its end, if it did not."""

    stem: str
    notebook: NotebookNode
    costs: Costs
    error: str | None


def offline_environment(results: Path) -> dict[str, str]:
    """Variables of a process in which notebooks run: no network, numbers recorded aside.

    Python is cut off by tools/offline; programs that are not Python, by a proxy that is not there.

    Args:
        results: folder in which the notebooks record their numbers.
    """
    nowhere = "http://127.0.0.1:9"
    proxies = {name: nowhere for name in ("http_proxy", "https_proxy", "all_proxy")}
    path = [str(ROOT / "tools" / "offline"), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        **proxies,
        **{name.upper(): value for name, value in proxies.items()},
        "NO_PROXY": "localhost,127.0.0.1",
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "HF_HUB_OFFLINE": "1",
        "DINOV2_RESULTS": str(results),
    }


class _PeakMemory(threading.Thread):
    """Samples the resident memory of all children of this process, every 200 ms, inside `with`.

    Attributes:
        peak: the largest sum so far, in bytes.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self.ended = threading.Event()

    def __enter__(self) -> "_PeakMemory":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.ended.set()
        self.join()

    def run(self) -> None:
        while not self.ended.wait(0.2):
            resident = 0
            for process in psutil.Process().children(recursive=True):
                # a child may end between being listed and being asked
                with contextlib.suppress(psutil.NoSuchProcess):
                    resident += process.memory_info().rss
            self.peak = max(self.peak, resident)


def execute(
    project: Project,
    stem: str,
    results: Path,
    cell_seconds: float = CELL_SECONDS,
    notebook_seconds: float = NOTEBOOK_SECONDS,
    replacements: Mapping[str, str] | None = None,
) -> Execution:
    """Runs a notebook, made fresh from its source, in an empty folder and without a network.

    Args:
        project: the checkout.
        stem: name of the notebook.
        results: folder in which it records its numbers.
        cell_seconds: limit for one cell; a hanging cell is an error, never a hanging run.
        notebook_seconds: limit for all of them.
        replacements: texts to put in the place of others in its code.
    """
    notebook = pairing.read_source(project, stem)
    for cell in notebook.cells:
        for old, new in (replacements or {}).items():
            if cell.cell_type == "code":
                cell.source = cell.source.replace(old, new)
    client = NotebookClient(
        notebook,
        timeout=cell_seconds,
        kernel_name=pairing.KERNEL["name"],
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
        # what goes between the kernel and us is nobody else's business on a shared machine either
        config=Config({"KernelManager": {"transport_encryption": "auto"}}),
    )

    error = None
    results.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with TemporaryDirectory() as folder, _PeakMemory() as memory:
        run = client.async_execute(cwd=folder, env=offline_environment(results))
        try:
            asyncio.run(asyncio.wait_for(run, notebook_seconds))
        except CellExecutionError as failure:
            error = f"{failure.ename}: {failure.evalue}"
        except CellTimeoutError:
            error = f"a cell took longer than {cell_seconds:g} s"
        except DeadKernelError:
            error = "the kernel died, perhaps for lack of memory"
        except asyncio.TimeoutError:
            error = f"the notebook took longer than {notebook_seconds:g} s"
    seconds = time.perf_counter() - started
    strip(notebook)
    notebook.metadata["executed"] = {
        "profile": profile(),
        "sha256": pairing.fingerprint(project, notebook),
    }
    costs = Costs(round(seconds, 1), round(memory.peak / 1e6), 0.0, os.cpu_count() or 1)
    return Execution(stem, notebook, costs, error)


def strip(notebook: NotebookNode) -> None:
    """Removes what differs from run to run or cannot work later: times, versions, widgets."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _is_only_a_widget(output)]
            for output in cell.outputs:
                output.get("data", {}).pop(WIDGET_VIEW, None)


def _is_only_a_widget(output: NotebookNode) -> bool:
    """Whether nothing is left to see without a kernel, as of a progress bar."""
    kinds = output.get("data", {}).keys()
    return WIDGET_VIEW in kinds and kinds <= {WIDGET_VIEW, "text/plain"}


def profile() -> str:
    """The profile in use, as `dinov2_helpers.models.current_profile` chooses it."""
    return os.environ.get("DINOV2_PROFILE", "tiny")
