"""What every benchmark writes beside its results: when, where and with what they were measured."""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from dinov2_helpers.data import data_dir
from dinov2_helpers.writing import write_whole

RESULTS = Path(__file__).resolve().parent / "results"
OF_ONE_RUN = {"date", "seconds", "peak_mb", "others_cores"}  # what another run may have otherwise


class Spent(NamedTuple):
    """A moment: seconds of the clock, of all cores, and of this process and its children."""

    clock: float
    everybody: float
    own: float

    @classmethod
    def now(cls) -> Spent:
        """Read the three clocks."""
        return cls(time.perf_counter(), busy_seconds(), sum(os.times()[:4]))

    def others_cores(self) -> float:
        """Return how many cores other programs have kept busy since then, on average."""
        now = Spent.now()
        others = (now.everybody - self.everybody) - (now.own - self.own)
        return max(0.0, others / (now.clock - self.clock))


def busy_seconds() -> float:
    """Seconds that all cores together have computed since the machine was started."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0)
    return float(sum(times[:8]) - idle)  # the first 8, as Linux counts guests among users too


BEGAN = Spent.now()


def machine(**versions: Any) -> dict[str, Any]:
    """The part of a record that is the same for all: date, versions as given, machine."""
    return {
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        **versions,
        "processor": processor(),
        "cores": os.cpu_count(),
    }


def versions(*packages: str) -> dict[str, str]:
    """Versions of the packages that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def quality(*packages: str, models: Sequence[str], **more: Any) -> dict[str, Any]:
    """The record of a measurement of how good something is.

    Args:
        packages: whose versions may matter.
        models: embedded ones, by the names of their folders; the record says which weights.
        more: what else it depends on.
    """
    weights = {name: weights_of(name) for name in models}
    return machine(**versions(*packages)) | {"models": weights} | more


def weights_of(name: str) -> str:
    """First digits of the SHA-256 of an embedded model's weights."""
    files = sorted((data_dir() / "models" / name).rglob("*.safetensors"))
    return sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def processor() -> str:
    """Name of the processor, as far as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def peak_mb() -> int:
    """Largest resident memory of this process so far, in 10^6 bytes."""
    if sys.platform == "win32":
        return round(psutil.Process().memory_info().peak_wset / 1e6)
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)


def rounded(value: Any) -> Any:
    """The same structure with four significant digits in every float."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


def of_other_sizes(out: Path, record: dict[str, Any], sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Rows of a file, measured as now, that are of other sizes; none if there is no file.

    Args:
        out: file with a report.
        record: of the run that begins.
        sizes: what `n` of a row is when it is measured again.

    Raises:
        ValueError: those rows are of another machine, or of other versions or settings.
    """
    if not out.exists():
        return []
    report = json.loads(out.read_text(encoding="utf-8"))
    kept = [row for row in report["rows"] if row["n"] not in sizes]
    now, then = rounded(record), report["run"]
    names = sorted((now.keys() | then.keys()) - OF_ONE_RUN)
    differing = [name for name in names if now.get(name) != then.get(name)]
    if kept and differing:
        raise ValueError(
            f"{out} has rows of other sizes, measured with other {', '.join(differing)}: measure "
            "all sizes, or give another --out"
        )
    return kept


def write(report: dict[str, Any], started: float, out: Path, *, others: bool = True) -> None:
    """Writes a report as JSON, with the cost so far in its record, and how busy others were.

    Args:
        report: has the record in "run".
        started: `time.perf_counter()` at the beginning.
        out: file to write.
        others: whether to say how busy they were; not where processes that are ours and are no
            children of this one compute too.
    """
    report["run"]["seconds"] = round(time.perf_counter() - started)
    report["run"]["peak_mb"] = peak_mb()
    if others:
        report["run"]["others_cores"] = BEGAN.others_cores()
    write_whole(out, (json.dumps(rounded(report), indent=1) + "\n").encode())
