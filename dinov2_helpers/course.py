"""What every notebook begins with: messages in its output, and one line on what it runs on."""

import logging
import sys

from . import colab
from .models import about

LOGGER = "dinov2_helpers"


class _Plain(logging.Handler):
    """Prints messages as they are, to the `sys.stdout` of the moment.

    A notebook's kernel replaces `sys.stdout`, and so does a test; a handler that kept the one of
    its own beginning would write past them.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message."""
        try:
            print(self.format(record), file=sys.stdout, flush=True)
        except Exception:
            self.handleError(record)


def show_messages() -> None:
    """Print what the package reports, such as a download that begins, to standard output.

    Python shows nothing below a warning unless it is asked to. A second call changes nothing.
    """
    logger = logging.getLogger(LOGGER)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # the root logger of a notebook may print everything once more
    if not any(isinstance(handler, _Plain) for handler in logger.handlers):
        logger.addHandler(_Plain())


def setup() -> None:
    """Begin a notebook: show messages, and print profile, device and versions in one line.

    On Colab it first installs what the notebooks need and Colab lacks, and says so in a line;
    elsewhere it installs nothing.

    Raises:
        ModelError: DINOV2_PROFILE names no profile.
    """
    show_messages()
    if colab.on_colab():
        colab.complete()
    print(about())
