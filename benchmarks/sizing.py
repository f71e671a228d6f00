"""How much a collection takes: pictures, hours, bytes, index. Its table is in docs/scaling.md.

    python -m benchmarks.sizing

Rates of a CPU and bytes of an index are those that the other benchmarks measured. A GPU was not
measured: its hours are the multiply-adds of the model at `GPU_RATE`, an assumption.
"""

from __future__ import annotations

import math
import sys
from typing import Any

from benchmarks.run_record import RESULTS
from benchmarks.table import OURS, read
from dinov2_helpers import data_dir
from tools.standins import DINOV2_SIZES

SIZES = (10**4, 10**5, 10**6, 10**7, 10**8, 10**9)
SHAPES = ("small", "base")
GPU_RATE = 50e12
"""Multiply-adds a second of one GPU, in half precision, decoding and waiting included: assumed. It
is a third of what an A100's data sheet says, 312e12 operations, of which two are a multiply-add."""
ON_ONE_MACHINE = 10**7
"""Pictures whose vectors are searched whole, in the memory of one machine."""


def bytes_each(index: str) -> float:
    """Bytes of one vector's code in an index of a million vectors of the embedded model."""
    report = read(data_dir() / "benchmarks" / "faiss_indexes.json")
    largest = max(row["n"] for row in report["rows"])
    found = [r for r in report["rows"] if r["n"] == largest and r["index"] == index]
    return max(row["code_bytes_per_vector"] for row in found)


def choice(n: int, width: int) -> tuple[str, float]:
    """An index for n vectors of a width, and its bytes."""
    if n <= 10**5:
        return "Flat", 4.0 * width * n
    if n <= ON_ONE_MACHINE:
        return "IVF-Flat", (4.0 * width + 8) * n
    return "OPQ+IVF-PQ, sharded", bytes_each("OPQ+IVF-PQ") * n


def text_of(number: float, unit: str) -> str:
    """A number with two digits and a prefix: 1.5 TB."""
    power = min(5, max(0, int(math.log10(max(number, 1)) // 3)))
    return f"{float(f'{number / 1000**power:.2g}'):g} {' kMGTP'[power].strip()}{unit}"


def hours(seconds: float) -> str:
    """Seconds as minutes, hours, days or years with two digits."""
    for unit, length in (("years", 365 * 86400), ("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{float(f'{seconds / length:.2g}'):,.10g} {unit}"
    return f"{seconds:.0f} s"


def rows(report: dict[str, Any]) -> list[list[str]]:
    """A row for each shape and size, from the results of benchmarks/extraction.py."""
    own = {row["shape"]: row for row in report["rows"] if row["way"] == OURS}
    table = []
    for shape in SHAPES:
        width = DINOV2_SIZES[shape]["hidden_size"]
        work = report["floors"][shape]["multiply_adds"]
        for n in SIZES:
            index, size = choice(n, width)
            cells = (
                shape,
                f"{n:,}",
                hours(n / own[shape]["pictures_per_second"]),
                hours(n * work / GPU_RATE),
                text_of(4.0 * width * n, "B"),
                text_of(4.0 * width * 256 * n, "B"),
                f"{index}, {text_of(size, 'B')}",
            )
            table.append(list(cells))
    return table


HEADS = ("model", "pictures", "these CPU cores", "one GPU, assumed", "CLS", "patches", "index")


def main() -> int:
    """Prints the table, tab-separated."""
    for row in [HEADS, *rows(read(RESULTS / "extraction.json"))]:
        print("\t".join(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
