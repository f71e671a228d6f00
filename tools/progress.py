"""What people see while notebooks run: what to expect, and which cell of how many is at work."""

import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

# Rates that differ by less are told as equal; the same machine differs as much from run to run.
ALIKE = 1.1


def expectation(costs: Mapping[str, Any] | None, gflops: float) -> str:
    """How long a notebook will take on this machine.

    Args:
        costs: of the notebook when it was last executed to be committed, with its `seconds` and
            the `gflops` of the machine that it ran on; None: not known.
        gflops: rate of this machine, as `tools.machine.gflops` measures it.
    """
    if costs is None:
        return "time not known: it was not measured yet"
    seconds, theirs = costs["seconds"], costs.get("gflops")
    if theirs is None:
        return f"{seconds:.0f} s on a machine of unknown rate"
    slower = theirs / gflops
    here = f"about {seconds * slower:.0f} s here: this machine is"
    if slower > ALIKE:
        return f"{here} {slower:.1f} times slower than the one that the card names"
    if slower < 1 / ALIKE:
        return f"{here} {1 / slower:.1f} times faster than the one that the card names"
    return f"{here} as fast as the one that the card names"


class Progress:
    """Lines about one notebook: one as it starts, one as it ends.

    On a terminal there is one between them that is rewritten as each cell starts.
    """

    def __init__(self, stem: str, out: TextIO | None = None) -> None:
        """Prepares it.

        Args:
            stem: name of the notebook.
            out: where the lines go; None: to standard output.
        """
        self.stem = stem
        self.out = out or sys.stdout
        self.width = 0  # of the line to be rewritten
        self.started = time.monotonic()

    def start(self, expected: str) -> None:
        """Says what is to be expected of the notebook."""
        self.started = time.monotonic()
        print(f"{self.stem}: {expected}", file=self.out, flush=True)

    def cell(self, number: int, of: int) -> None:
        """Says on a terminal which code cell starts."""
        if self.out.isatty():
            elapsed = time.monotonic() - self.started
            self._rewrite(f"{self.stem}: cell {number} of {of}, {elapsed:.0f} s", "")

    def end(self, outcome: str) -> None:
        """Says how it ended."""
        self._rewrite(f"{self.stem}: {outcome}", "\n")

    def _rewrite(self, line: str, end: str) -> None:
        back = "\r" if self.width else ""
        print(back + line.ljust(self.width), end=end, file=self.out, flush=True)
        self.width = len(line)
