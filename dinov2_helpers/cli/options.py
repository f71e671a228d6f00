"""The options that sub-commands share, and how their help is laid out."""

import argparse
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, get_args

from ..models.load import Backend
from .session import Session

Run = Callable[[argparse.Namespace, Session], dict[str, Any]]


class Command(NamedTuple):
    """A sub-command."""

    name: str
    usage: str  # what follows the name, without the options
    summary: str  # a line on what it does, for the list of all
    example: str  # lines that can be pasted
    add_arguments: Callable[[ArgumentParser], None]
    run: Run  # does it, and returns what is printed with --json
    has_model: bool = True  # whether it takes --model, --device and --backend


class Layout(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of examples, and gives the names of options more room."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26)


def add_command(commands: Any, command: Command, prefix: str = "dinov2") -> None:
    """Add a sub-command to those of a parser.

    Args:
        commands: What `add_subparsers` returned.
        command: The sub-command.
        prefix: What stands before its name.
    """
    parser: ArgumentParser = commands.add_parser(
        command.name,
        help=command.summary,
        description=f"{command.summary[0].upper()}{command.summary[1:]}.",
        usage=f"{prefix} {command.name} {command.usage}[options]",
        epilog=f"example:\n{command.example}",
        formatter_class=Layout,
        prog=f"{prefix} {command.name}",
        add_help=False,
    )
    # asked for by whoever reads it: a line of the screen for something else
    parser.add_argument("-h", "--help", action="help", help=SUPPRESS)
    command.add_arguments(parser)
    add_shared_options(parser, has_model=command.has_model)
    parser.set_defaults(run=command.run, usage_error=parser.error)


def add_group(commands: Any, name: str, summary: str, steps: Sequence[Command]) -> None:
    """Add a sub-command that has sub-commands of its own, one for each step of the work.

    Args:
        commands: What `add_subparsers` returned.
        name: Of the group.
        summary: A line on what it does.
        steps: Its sub-commands.
    """
    parser: ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        usage=f"dinov2 {name} STEP ... [options]",
        epilog="example:\n" + "\n".join(step.example.splitlines()[0] for step in steps),
        formatter_class=Layout,
    )
    inner = parser.add_subparsers(title="steps", metavar="STEP", required=True, dest="step")
    for step in steps:
        add_command(inner, step, prefix=f"dinov2 {name}")


def add_shared_options(parser: ArgumentParser, *, has_model: bool, shown: bool = True) -> None:
    """Add what every sub-command takes.

    They have no default here: what is given before the name of the sub-command holds too.

    Args:
        parser: Of a sub-command, or of the whole command.
        has_model: Whether there is a model to choose.
        shown: Whether the help lists them.
    """
    help_on = _SHARED_HELP if shown else dict.fromkeys(_SHARED_HELP, SUPPRESS)

    def add(*names: str, **options: Any) -> None:
        parser.add_argument(*names, default=SUPPRESS, help=help_on[names[-1]], **options)

    if has_model:
        add("--model", metavar="NAME")
        add("--device", metavar="NAME")
        add("--backend", metavar="NAME", choices=get_args(Backend))
    add("--json", action="store_true")
    add("-q", "--quiet", action="store_true")


_SHARED_HELP = {
    "--model": "profile, folder or hub name [DINOV2_PROFILE or tiny]",
    "--device": "cpu, cuda, cuda:1 or mps [the fastest there is]",
    "--backend": f"what computes: {', '.join(get_args(Backend))} [auto]",
    "--json": "one JSON document on stdout",
    "--quiet": "only results and warnings",
}


def add_force(parser: ArgumentParser) -> None:
    """Add what allows a command to replace files that are there."""
    parser.add_argument("--force", action="store_true", help="replace what is there already")


def add_exact(parser: ArgumentParser) -> None:
    """Add what makes a command decode large JPEG files whole."""
    parser.add_argument(
        "--exact", action="store_true", help="decode all pixels of large JPEGs; slower"
    )


def set_shared_defaults(parser: ArgumentParser) -> None:
    """Set what holds where a shared option is given nowhere."""
    parser.set_defaults(model=None, device=None, backend="auto", json=False, quiet=False)


def whole_number(least: int) -> Callable[[str], int]:
    """Return a type for arguments: whole numbers from `least` on."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise ArgumentTypeError(f"{text!r} is no whole number") from None
        if number < least:
            raise ArgumentTypeError(f"{number} is less than {least}")
        return number

    return read


def share(text: str) -> float:
    """Read a number between 0 and 1, a type for arguments."""
    try:
        number = float(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no number") from None
    if not 0 < number < 1:
        raise ArgumentTypeError(f"{text} is not between 0 and 1")
    return number
