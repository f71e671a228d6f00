"""Where the sample data are."""

import os
from pathlib import Path


def data_dir() -> Path:
    """Return the folder of the sample data and the embedded models.

    That is the one which the environment variable DINOV2_DATA names, else the package's own, else
    the checkout's.

    Raises:
        FileNotFoundError: None of them is a folder.

    Example:
        >>> sorted(folder.name for folder in data_dir().joinpath("models").iterdir())
        ['clip-tiny', 'diffusion-tiny', 'dinov2-tiny', 'lit-tiny']
    """
    package = Path(__file__).resolve().parent
    named = os.environ.get("DINOV2_DATA")
    candidates = [Path(named)] if named else [package / "data", package.parent / "data"]
    for folder in candidates:
        if folder.is_dir():
            return folder
    where = " or ".join(map(str, candidates))
    raise FileNotFoundError(f"no sample data in {where}: set DINOV2_DATA to the project's data/")


def source_of(name: str) -> str | Path:
    """Return what loads the model that goes by a name: the folder of an embedded one, or the name.

    Raises:
        FileNotFoundError: As `data_dir`.
    """
    embedded = data_dir() / "models" / name
    return embedded if Path(name).name == name and embedded.is_dir() else name
