"""Tries a kit as a room would: `python -m benchmarks.workshop_trial KIT.zip [--kernels N...]`.

It unpacks the zip into an empty folder, installs by the kit's own start.py, lets pip check that
nothing is lacking, and executes a lesson, in as many kernels at once as asked. On Linux all of it
runs without any network (`unshare --net`, which root may do), and pip's own settings are left
aside, so that nothing can come from elsewhere. It prints times and memory, and how busy the machine
was, a line of JSON for each step. `--room FOLDER` keeps what was installed; `--out FILE` writes all
of it into one file, from which docs/teaching.md has its numbers.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import run_record
from dinov2_helpers.threads import usable_cores
from tools.project import Project
from tools.workshop import execute, kit, start

USAGE = """python -m benchmarks.workshop_trial KIT.zip
    [--lesson NAME] [--kernels N...] [--room FOLDER] [--out FILE]"""
EXECUTE = Path(execute.__file__)
POLL = 0.5  # seconds


def isolated(command: Sequence[str]) -> list[str]:
    """The command in a network of its own, which has the loopback and nothing else."""
    script = 'ip link set lo up && exec "$@"'
    return ["unshare", "--net", "sh", "-c", script, "sh", *command]


def environment(home: Path) -> dict[str, str]:
    """Variables of a fresh machine: none of ours but the path of programs."""
    return {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "PIP_CONFIG_FILE": os.devnull,
        "OMP_NUM_THREADS": "1",
        "DINOV2_THREADS": "1",
    }


def unpack_and_install(packed: Path, room: Path) -> dict[str, float]:
    """Unpacks a kit into a folder and installs it; seconds of both, and what is in it.

    Raises:
        SystemExit: it cannot be installed, or a package lacks another.
    """
    started = time.perf_counter()
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(room)
    unpacked = time.perf_counter()
    command = isolated([sys.executable, "start.py", "--install"])
    folder = room / kit.WORKSHOP
    done = subprocess.run(command, cwd=folder, env=environment(room), check=False)
    if done.returncode:
        raise SystemExit(f"{packed.name} could not be installed: pip has said why")
    installed = time.perf_counter()
    python = start.python_of(folder / start.ENVIRONMENT.name)
    done = subprocess.run([str(python), "-m", "pip", "check"], env=environment(room), check=False)
    if done.returncode:
        raise SystemExit(f"{packed.name} is not whole: pip has said what lacks")
    return {
        "unpack_seconds": round(unpacked - started, 1),
        "install_seconds": round(installed - unpacked, 1),
        "wheels": len(list(folder.rglob("*.whl"))),
        "installed_mb": round(size_of(folder / start.ENVIRONMENT.name) / 1e6),
    }


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder; what links to folders lead to does not count."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def run_lessons(room: Path, stem: str, kernels: int) -> list[dict[str, Any]]:
    """Executes a lesson of an installed kit in several kernels at once.

    Raises:
        SystemExit: one of them fails.
    """
    folder = room / kit.WORKSHOP
    python = start.python_of(folder / start.ENVIRONMENT.name)
    notebook = folder / kit.LESSONS / "notebooks" / f"{stem}.ipynb"
    together = room / "all"
    command = [str(python), str(EXECUTE), str(notebook), "--wait-for", str(together)]
    processes = [
        subprocess.Popen(
            isolated(command), env=environment(room), stdout=subprocess.PIPE, text=True
        )
        for _ in range(kernels)
    ]
    while len(list(room.glob("all.*"))) < kernels:
        if any(process.poll() for process in processes):
            break
        time.sleep(POLL)
    together.touch()
    found = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit(f"{stem} did not come to its end in the kit")
    for path in room.glob("all*"):
        path.unlink()
    return [json.loads(line) for line in found]


def summary(kernels: Sequence[dict[str, Any]]) -> dict[str, float]:
    """What several kernels took: the slowest time and the mean memory of one."""
    count = len(kernels)
    return {
        "kernels": count,
        "first_picture_seconds": max(one["first_picture_seconds"] for one in kernels),
        "seconds": max(one["seconds"] for one in kernels),
        "peak_mb": round(sum(one["peak_mb"] for one in kernels) / count),
        "loaded_proportional_mb": round(
            sum(one["loaded_proportional_mb"] for one in kernels) / count
        ),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: see the module's text."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split(":")[0], usage=USAGE)
    parser.add_argument("kit", type=Path)
    parser.add_argument("--lesson", default="01")
    parser.add_argument("--kernels", type=int, nargs="+", default=[1])
    parser.add_argument("--room", type=Path, help="an empty folder to use, and to keep")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args(arguments)
    stem = Project().chosen([options.lesson])[0]
    started = time.perf_counter()
    report: dict[str, Any] = {"run": run_record.machine() | {"threads": 1}, "rows": []}
    with contextlib.ExitStack() as stack:
        room = options.room
        if room is None:
            room = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        room.mkdir(parents=True, exist_ok=True)
        report["kit"] = {
            "kit_mb": round(options.kit.stat().st_size / 1e6),
            "cores": usable_cores(),
            "load_before": load(),
            **unpack_and_install(options.kit.resolve(), room.resolve()),
        }
        print(json.dumps(report["kit"]), flush=True)
        for count in options.kernels:
            row = {"lesson": stem, "load_before": load()}
            row |= summary(run_lessons(room.resolve(), stem, count))
            report["rows"].append(row)
            print(json.dumps(row), flush=True)
    if options.out:
        run_record.write(report, started, options.out)
    return 0


def load() -> float:
    """How many programs wanted a core in the last minute, on average."""
    return round(os.getloadavg()[0], 1)


if __name__ == "__main__":
    sys.exit(main())
