"""The command itself: it reads the arguments, runs a sub-command, and says errors in sentences."""

import argparse
import os
import sys
import traceback
from argparse import ArgumentParser
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..models.profiles import ModelError
from ..techniques import KeptError
from ..threads import thread_environment
from . import check, embed, models
from .options import Layout, add_command, add_shared_options, set_shared_defaults
from .session import CommandError, Session, one_sentence

COMMANDS = (embed.COMMAND, models.COMMAND, check.COMMAND)
DISTRIBUTION = "dinov2-in-practice"
# What bad input, a full disk, a missing package and a GPU without memory raise. All else is a
# fault of the program, and shows where.
EXPECTED = (
    CommandError,
    ImportError,
    KeptError,
    MemoryError,
    ModelError,
    OSError,
    RuntimeError,
    ValueError,
)
INTERRUPTED = 130  # 128 + SIGINT, as shells count
DESCRIPTION = """\
Features of DINOv2 for your own pictures, and what can be made of them.

PICTURES are files and folders; those that cannot be read are named and left out.
Progress and messages go to stderr, results to stdout or to files."""
EPILOG = """\
example:
  dinov2 embed holiday/ --out holiday.npz

`dinov2 embed --help` says more; so do the others. Names that begin with "-" follow a "--".
Exit status: 0 done, 1 not done, as one sentence says, 2 wrong usage, 130 interrupted."""


class _Version(argparse.Action):
    """Prints the version, which is looked up only then."""

    def __init__(self, **options: Any) -> None:
        super().__init__(nargs=0, **options)

    def __call__(self, parser: ArgumentParser, *_: Any) -> None:
        """Print it and exit."""
        try:
            found = version(DISTRIBUTION)
        except PackageNotFoundError:
            found = "of a checkout that is not installed"
        print(f"{DISTRIBUTION} {found}")
        parser.exit()


def make_parser() -> ArgumentParser:
    """Return the parser of the whole command line."""
    parser = ArgumentParser(
        prog="dinov2",
        usage="dinov2 COMMAND ... [options]",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=Layout,
    )
    parser.add_argument("--version", action=_Version, help="print the version")
    add_shared_options(parser, has_model=True, shown=False)
    set_shared_defaults(parser)
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, dest="command"
    )
    for command in COMMANDS:
        add_command(commands, command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command, and return the exit status.

    Args:
        argv: The arguments without the name of the program; None: those of the process.

    Raises:
        SystemExit: Help or the version was asked for, or the usage was wrong (status 2).
    """
    _print_any_name()
    try:
        try:
            return _run(make_parser().parse_args(argv))
        finally:
            if sys.stdout:
                sys.stdout.flush()
    except BrokenPipeError:  # whoever reads the output has enough, as `head` has
        _drop_output()
        return 0
    except OSError as error:  # the output is a file on a full disk
        _drop_output()
        print(f"dinov2: the output cannot be written: {one_sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndinov2: interrupted", file=sys.stderr)
        return INTERRUPTED


def _run(args: argparse.Namespace) -> int:
    """Run a sub-command in a session of its own."""
    session = Session(as_json=args.json, quiet=args.quiet)
    document: dict[str, Any] = {"command": args.command}
    with session.messages():
        try:
            _sleep_while_waiting()
            document |= args.run(args, session)
        except BrokenPipeError:
            raise
        except EXPECTED as error:
            document["error"] = one_sentence(error)
            session.fail(document["error"])
        except Exception:
            traceback.print_exc()
            document["error"] = "a fault of the program"
            session.fail("a fault of the program: please report it with what `dinov2 check` prints")
        session.finish(document)
    return session.status


def _sleep_while_waiting() -> None:
    """Give PyTorch, which is loaded later, the cores of this process and threads that sleep."""
    if "torch" in sys.modules:
        return
    with suppress(ValueError):  # of DINOV2_THREADS; whatever computes says so
        for name, value in thread_environment().items():
            os.environ.setdefault(name, value)


def _print_any_name() -> None:
    """Print a name of a file in any encoding of the terminal: escaped, where it has to be."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Let Python end without trying to write what is left once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
