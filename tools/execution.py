"""Execution of notebooks: without a network, with time limits, measured, and cleaned up."""

import asyncio
import math
import os
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode
from traitlets.config import Config

from dinov2_helpers.threads import thread_environment, usable_cores
from tools import pairing
from tools.project import ROOT, Project
from tools.watch import INTERVAL, Limits, ProcessWatch

OnCell: TypeAlias = Callable[[int, int], None]  # number of a code cell from 1, of how many
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


@dataclass(frozen=True)
class Costs:
    """What one execution of a notebook took.

    Attributes:
        seconds: wall-clock time from the start of the kernel to the end of the last cell.
        peak_mb: largest resident memory of the kernel and its children together, in 10^6 bytes.
        download_mb: data fetched from a network, in 10^6 bytes; 0, because there is none.
        cores: CPU cores that the kernel could use, and threads that it computed with.
        cpu_seconds: CPU time of the kernel and its children, user and system.
        gflops: 10^9 floating-point operations per second of the machine, measured in the same
            run by `tools.machine`; None: not measured.
    """

    seconds: float
    peak_mb: float
    download_mb: float
    cores: int
    cpu_seconds: float
    gflops: float | None = None


@dataclass(frozen=True)
class CellCost:
    """What one code cell took.

    Attributes:
        number: its number among the code cells, from 1.
        first_line: by which people know it.
        cpu_seconds: CPU time of the kernel and its children, user and system.
    """

    number: int
    first_line: str
    cpu_seconds: float


@dataclass(frozen=True)
class Execution:
    """An executed notebook, why it did not reach its end, if it did not, and its code cells."""

    stem: str
    notebook: NotebookNode
    costs: Costs
    error: str | None
    cells: tuple[CellCost, ...] = ()


def offline_environment(results: Path, features: Path | None = None) -> dict[str, str]:
    """Variables of a process in which notebooks run: no network, numbers recorded aside.

    It computes with as many threads as there are cores for it, and they sleep when they wait. On
    the embedded models a sentence that is no longer so is an error.
    Python is cut off by tools/offline; programs that are not Python, by a proxy that is not there.

    Args:
        results: folder in which the notebooks record their numbers.
        features: folder in which they keep features, for each other too; None: nowhere.
    """
    nowhere = "http://127.0.0.1:9"
    proxies = {name: nowhere for name in ("http_proxy", "https_proxy", "all_proxy")}
    path = [str(ROOT / "tools" / "offline"), os.environ.get("PYTHONPATH", "")]
    kept = {} if features is None else {"DINOV2_CACHE": str(features)}
    return {
        **os.environ,
        **kept,
        **thread_environment(),
        **proxies,
        **{name.upper(): value for name, value in proxies.items()},
        "NO_PROXY": "localhost,127.0.0.1",
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "HF_HUB_OFFLINE": "1",
        "DINOV2_RESULTS": str(results),
        "DINOV2_STRICT": str(int(profile() == pairing.COMMITTED_PROFILE)),
    }


class _GivenUp(Exception):
    """A notebook hangs, or does not come to its end; the text says why."""


class _Cells:
    """Follows the code cells of a notebook while nbclient executes them.

    Attributes:
        costs: of the cells that have ended, in order.
    """

    def __init__(self, notebook: NotebookNode, watch: ProcessWatch, on_cell: OnCell | None) -> None:
        self.number_of_cells = sum(_is_executed(cell) for cell in notebook.cells)
        self.watch = watch
        self.on_cell = on_cell
        self.costs: list[CellCost] = []
        self.running = "before the first cell"
        self.cpu_before = 0.0

    def start(self, cell: NotebookNode, cell_index: int) -> None:
        """Is called before each code cell."""
        number = len(self.costs) + 1
        self.running = f"code cell {number} of {self.number_of_cells}, `{first_line(cell)}`"
        self.cpu_before = self.watch.cpu_seconds()
        if self.on_cell is not None:
            self.on_cell(number, self.number_of_cells)

    def end(self, cell: NotebookNode, **ignored: object) -> None:
        """Is called after each code cell, one that has failed too."""
        used = self.watch.cpu_seconds() - self.cpu_before
        self.costs.append(CellCost(len(self.costs) + 1, first_line(cell), used))


def _is_executed(cell: NotebookNode) -> bool:
    return cell.cell_type == "code" and bool(cell.source.strip())


def first_line(cell: NotebookNode) -> str:
    """The first line of a cell that is not empty, by which people know it."""
    return next((line.strip() for line in cell.source.splitlines() if line.strip()), "")


def execute(
    project: Project,
    stem: str,
    results: Path,
    replacements: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    on_cell: OnCell | None = None,
    features: Path | None = None,
) -> Execution:
    """Runs a notebook, made fresh from its source, in an empty folder and without a network.

    Args:
        project: the checkout.
        stem: name of the notebook.
        results: folder in which it records its numbers.
        replacements: texts to put in the place of others in its code.
        limits: when it is given up; None: as the environment says.
        on_cell: called as each code cell starts.
        features: folder in which it keeps features, for others too; None: nowhere.
    """
    notebook = pairing.read_source(project, stem)
    for cell in notebook.cells:
        for old, new in (replacements or {}).items():
            if cell.cell_type == "code":
                cell.source = cell.source.replace(old, new)
    execution = run_cells(stem, notebook, results, limits, on_cell, features)
    strip(notebook)
    notebook.metadata["executed"] = {
        "profile": profile(),
        "sha256": pairing.fingerprint(project, notebook),
    }
    return execution


def run_cells(
    stem: str,
    notebook: NotebookNode,
    results: Path,
    limits: Limits | None = None,
    on_cell: OnCell | None = None,
    features: Path | None = None,
) -> Execution:
    """Runs the cells of a notebook, into which their outputs are written; arguments as above."""
    limits = limits or Limits.from_environment()
    error = None
    results.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with TemporaryDirectory() as folder, ProcessWatch(limits) as watch:
        cells = _Cells(notebook, watch, on_cell)
        client = _client(notebook, cells, limits)
        run = client.async_execute(cwd=folder, env=offline_environment(results, features))
        try:
            asyncio.run(_within_limits(run, watch))
        except CellExecutionError as failure:
            error = f"{failure.ename}: {failure.evalue}"
        except DeadKernelError:
            error = f"the kernel died in {cells.running}, perhaps for lack of memory"
        except _GivenUp as reason:
            error = f"{cells.running}: {reason}"
    costs = Costs(
        seconds=round(time.perf_counter() - started, 1),
        peak_mb=round(watch.peak_bytes / 1e6),
        download_mb=0.0,
        cores=usable_cores(),
        cpu_seconds=round(watch.used_seconds, 1),
    )
    return Execution(stem, notebook, costs, error, tuple(cells.costs))


def _client(notebook: NotebookNode, cells: _Cells, limits: Limits) -> NotebookClient:
    patience = math.ceil(limits.notebook_seconds)
    return NotebookClient(
        notebook,
        timeout=None,  # we watch it ourselves: a cell that works may take its time
        startup_timeout=patience,
        iopub_timeout=patience,  # where a machine is busy outputs come late, and must not get lost
        kernel_name=pairing.KERNEL["name"],
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
        on_cell_execute=cells.start,
        on_cell_executed=cells.end,
        # what goes between the kernel and us is nobody else's business on a shared machine either
        config=Config({"KernelManager": {"transport_encryption": "auto"}}),
    )


async def _within_limits(run: Coroutine[Any, Any, Any], watch: ProcessWatch) -> None:
    """Awaits a run of a notebook, and raises what it raises.

    Raises:
        _GivenUp: it was stopped, as it reached a limit.
    """
    limits = watch.limits
    until = time.monotonic() + limits.notebook_seconds
    task = asyncio.ensure_future(run)
    reason = ""
    while not task.done() and not reason:
        await asyncio.wait([task], timeout=INTERVAL)
        if watch.stalled():
            reason = limits.stalled()
        elif time.monotonic() > until:
            reason = limits.too_long()
    if task.done():
        return task.result()
    task.cancel()
    # a kernel that is being stopped has nothing to say that matters
    await asyncio.gather(task, return_exceptions=True)
    raise _GivenUp(reason)


def strip(notebook: NotebookNode) -> None:
    """Removes what differs from run to run or cannot work later: times, versions, widgets."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = dict(pairing.LANGUAGE)
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
