"""What is logged of pictures: left out, skipped, of several frames, or nearly black."""

import logging
from collections.abc import Sequence

from ..pictures.decode import Depth, range_warning
from ..pictures.files import LeftOut, describe_left_out, printable
from .result import Skipped

log = logging.getLogger("dinov2_helpers")
LISTED = 20  # pictures that a message names


class Notable:
    """What a reader should know of pictures that could be opened; they are shown one by one."""

    def __init__(self) -> None:
        self.several: list[str] = []  # names of those with several frames
        self.depths: list[Depth] = []  # of those with more than 8 bits

    def saw(self, name: str, frames: int, depth: Depth | None) -> None:
        """Take note of a picture, by what `open_image` puts into its `info`."""
        if frames > 1:
            self.several.append(printable(name))
        if depth is not None:
            self.depths.append(depth)

    def report(self) -> None:
        """Log of which the first frame was taken, and whether all are nearly black."""
        if self.several:
            listed = ", ".join(self.several[:LISTED])
            n = len(self.several)
            log.warning("The first frame was taken of %d with several: %s", n, listed)
        warning = range_warning(self.depths)
        if warning:
            log.warning("%s", warning)


def report_left_out(left_out: Sequence[LeftOut]) -> None:
    """Log which files of a folder are no pictures."""
    if left_out:
        log.warning("%s", describe_left_out(left_out))


def report_skipped(skipped: Sequence[Skipped], n: int) -> None:
    """Log which of n pictures cannot be used."""
    if skipped:
        log.warning("%s", skipped_text(skipped, n))


def skipped_text(skipped: Sequence[Skipped], n: int) -> str:
    """Say which of n pictures cannot be used and why, the first of them by name."""
    lines = [f"{len(skipped)} of {n} pictures skipped (all are in `skipped`):"]
    lines += [f"  {one.index}: {printable(one.name)}: {one.reason}" for one in skipped[:LISTED]]
    return "\n".join(lines)
