"""What a run of the command says, and where: results to stdout, all else to stderr.

The library reports through `logging`. A session shows that on stderr as plain lines, counts what
is skipped, and in the end prints one JSON document if that is what is wanted.
"""

import json
import logging
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from typing import Any, TextIO

import numpy as np
from tqdm import tqdm

from ..extraction import Skipped
from ..pictures.files import LeftOut, printable

LOGGER = "dinov2_helpers"
LISTED = 20  # names that a message gives
# The engine's own report of what it skips, of each chunk: the session counts for the whole run.
_REPORT_OF_SKIPPED = re.compile(r"\d+ of \d+ pictures skipped \(all are in `skipped`\):")


class CommandError(Exception):
    """What was asked for cannot be done; its text is the one sentence that the user reads."""


class _ToStderr(logging.Handler):
    """Writes what the library reports as it is, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message, but for a report of what is skipped."""
        text = self.format(record)
        if not _REPORT_OF_SKIPPED.match(text):
            _to_stderr(text)


def _to_stderr(text: str) -> None:
    tqdm.write(text, file=sys.stderr)


@dataclass
class Session:
    """A run of one sub-command.

    Args:
        as_json: Whether stdout gets one JSON document and nothing else.
        quiet: Whether progress and plain information are left out.
    """

    as_json: bool
    quiet: bool
    status: int = 0  # of the process, if nothing fails
    skipped: list[Skipped] = field(default_factory=list)
    n_pictures: int = 0  # that were looked at, skipped ones included
    stdout: TextIO = field(default_factory=lambda: sys.stdout)

    def print(self, text: str = "") -> None:
        """Print a line of the result, unless it is printed as JSON."""
        if not self.as_json:
            print(text, file=self.stdout)

    def note(self, text: str) -> None:
        """Tell the user something that is no result."""
        if not self.quiet:
            _to_stderr(text)

    def warn(self, text: str) -> None:
        """Tell the user something that must not be missed."""
        _to_stderr(text)

    def bar(self, total: int, what: str = "pictures") -> Any:
        """Return a progress bar on stderr; there is none in a pipe, nor in a quiet run."""
        hidden = True if self.quiet else None  # None: unless stderr is a terminal
        return tqdm(total=total, unit=f" {what}", disable=hidden, file=sys.stderr, leave=False)

    @property
    def progress(self) -> bool | None:
        """What `extract_features` takes as `progress`."""
        return False if self.quiet else None

    def saw(self, n: int, skipped: Iterable[Skipped] = ()) -> None:
        """Count pictures that were looked at, with those among them that could not be used."""
        self.n_pictures += n
        self.skipped += skipped

    @property
    def n_used(self) -> int:
        """Number of pictures that could be used."""
        return self.n_pictures - len(self.skipped)

    def report_left_out(self, left_out: Sequence[LeftOut]) -> None:
        """Say which files of a folder are not taken for pictures."""
        from ..pictures.files import describe_left_out

        if left_out:
            self.warn(describe_left_out(left_out))

    def report_skipped(self) -> None:
        """Count and name what was skipped, at the end of a run."""
        if not self.skipped:
            return
        lines = [f"skipped {len(self.skipped)} of {self.n_pictures}"]
        lines += [f"  {printable(one.name)}: {one.reason}" for one in self.skipped[:LISTED]]
        if len(self.skipped) > LISTED:
            lines.append(f"  and {len(self.skipped) - LISTED} more, which --json lists")
        self.warn("\n".join(lines))

    def require_some(self) -> None:
        """Raise a CommandError if no picture could be used."""
        if not self.n_used:
            raise CommandError(
                f"none of the {self.n_pictures} pictures can be used: nothing was written"
            )

    def fail(self, sentence: str) -> None:
        """Say why nothing came of it; the status is 1."""
        self.status = 1
        _to_stderr(f"dinov2: {sentence}")

    def finish(self, document: dict[str, Any]) -> None:
        """Report what was skipped, and print the document if JSON is wanted."""
        self.report_skipped()
        if self.as_json:
            skipped = [{"name": printable(s.name), "reason": s.reason} for s in self.skipped]
            whole = _plain({**document, "skipped": skipped})
            print(json.dumps(whole, indent=1, allow_nan=False), file=self.stdout)

    @contextmanager
    def messages(self) -> Iterator["Session"]:
        """Show the library's messages on stderr, and keep stdout for the result."""
        with ExitStack() as stack:
            stack.enter_context(_logging_to_stderr(logging.WARNING if self.quiet else logging.INFO))
            stack.enter_context(_plain_warnings())
            stack.enter_context(redirect_stdout(sys.stderr))
            yield self


@contextmanager
def _logging_to_stderr(level: int) -> Iterator[None]:
    logger = logging.getLogger(LOGGER)
    before = logger.handlers, logger.level, logger.propagate
    logger.handlers, logger.propagate = [_ToStderr()], False
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.handlers, logger.propagate = before[0], before[2]
        logger.setLevel(before[1])


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Show Python's warnings as one line, without the place in the code that raised them."""

    def show(message: Warning | str, *where: Any) -> None:
        _to_stderr(f"warning: {' '.join(str(message).split())}")

    with warnings.catch_warnings():
        # these speak to whoever writes the libraries
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.showwarning = show  # type: ignore[assignment]
        yield


def _plain(value: Any) -> Any:
    """Return a value as JSON knows it: names as text, numbers of numpy as numbers, NaN as null."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    return printable(value)


def one_sentence(error: BaseException) -> str:
    """Return what an error says as one line, with the file that it is about."""
    if isinstance(error, OSError) and error.strerror:
        about = "" if error.filename is None else f"{printable(error.filename)}: "
        return f"{about}{error.strerror}"
    if isinstance(error, MemoryError) and not str(error):
        return "there is not enough memory"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return printable(" ".join(lines)) or type(error).__name__
