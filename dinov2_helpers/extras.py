"""Packages that only parts of this one need, and what to install where they are missing."""

from importlib.util import find_spec


def need(package: str, extra: str, purpose: str) -> None:
    """Raise a ModuleNotFoundError that says what to install, if a package is missing.

    Args:
        package: Name that is imported.
        extra: Which of this package's extras brings it.
        purpose: What needs it, as the sentence begins.
    """
    if find_spec(package) is None:
        raise ModuleNotFoundError(
            f"{purpose} needs {package}: pip install 'dinov2-in-practice[{extra}]', or "
            f"pip install {package}",
            name=package,
        )
