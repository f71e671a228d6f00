"""Makes .venv with all that the course and its tests need: `make setup`, or without make this.

    python -m tools.setup [--newest] [--torch-index URL]

torch comes first, on a line of its own, as which build is right depends on the machine: with an
NVIDIA GPU the CUDA build, otherwise what pip's registry has, or the CPU build of `--torch-index`.
Then the package comes in place, with what it needs in the versions of constraints.txt; `--newest`
takes what is newest instead. This module needs Python alone.
"""

import argparse
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
OLDEST = (3, 10)
EXTRAS = ("course", "test", "train", "scale", "openvino")
TORCH = "torch>=2.6"
# The committed outputs are 2.13's. A later torch may round otherwise, and a number that moves is
# red in `make test`; the weekly runs try the newest.
LOCKED_TORCH = "torch>=2.6,<2.14"


def has_gpu() -> bool:
    """Whether NVIDIA's driver finds a GPU."""
    if shutil.which("nvidia-smi") is None:
        return False
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return listed.returncode == 0 and "GPU" in listed.stdout


def python_of(environment: Path) -> Path:
    """The interpreter of a virtual environment."""
    if os.name == "nt":
        return environment / "Scripts" / "python.exe"
    return environment / "bin" / "python"


def torch_arguments(gpu: bool, newest: bool, index: str) -> list[str]:
    """What pip is told to install torch from.

    Args:
        gpu: whether there is an NVIDIA GPU; a new one may need a newer torch than the locked one.
        newest: whether the locked version is not wanted.
        index: where the CPU build is; "": pip's registry.
    """
    if gpu:
        return [TORCH]
    return [*(["--index-url", index] if index else []), TORCH if newest else LOCKED_TORCH]


def package_arguments(newest: bool) -> list[str]:
    """What pip is told to install the package from, and all that it needs."""
    constraints = [] if newest else ["--constraint", str(ROOT / "constraints.txt")]
    return [*constraints, "--editable", f"{ROOT}[{','.join(EXTRAS)}]"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes or completes the environment; 0 if all is well."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split(":")[0])
    parser.add_argument("--newest", action="store_true", help="leave constraints.txt aside")
    parser.add_argument("--torch-index", default="", metavar="URL", help="of torch's CPU build")
    options = parser.parse_args(arguments)
    if sys.version_info < OLDEST:
        here = sys.version.split()[0]
        parser.error(f"Python 3.10 or newer is needed, {sys.executable} is {here}")
    if not python_of(ENVIRONMENT).exists():
        venv.create(ENVIRONMENT, with_pip=True)
    gpu = has_gpu()
    which = "the CUDA build" if gpu else "a build for CPUs, if the registry has one,"
    print(f"{'An NVIDIA' if gpu else 'No NVIDIA'} GPU found: {which} of torch comes", flush=True)
    pip = [str(python_of(ENVIRONMENT)), "-m", "pip", "install", "--quiet"]
    for wanted in (
        torch_arguments(gpu, options.newest, options.torch_index),
        package_arguments(options.newest),
    ):
        done = subprocess.run([*pip, *wanted], cwd=ROOT, check=False)
        if done.returncode:
            return done.returncode
    print(f"{ENVIRONMENT.name} is ready")
    return 0


if __name__ == "__main__":
    sys.exit(main())
