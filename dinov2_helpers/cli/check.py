"""`dinov2 check`: a line for each thing that is needed; reports of faults begin with it."""

import logging
import os
import platform
import re
import shutil
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from ..data import data_dir
from ..hashes import sha256_of
from ..models.load import best_device, load_dinov2
from ..models.profiles import PROFILES, WEIGHTS, current_profile
from ..pictures.files import FORMATS, printable
from ..threads import SETTING, usable_cores
from .models import cache_folder, hub_weights
from .options import Command
from .session import LOGGER, Session, one_sentence

DISTRIBUTION = "dinov2-in-practice"
EXAMPLE = """\
  dinov2 check
  dinov2 check --json > report.json"""
OPTIONAL = {
    "openvino": "a faster backend",
    "pillow-heif": "HEIC pictures",
    "pyarrow": "Parquet",
    "diffusers": "guided diffusion",
}
VARIABLES = (
    "DINOV2_CACHE",
    "DINOV2_DATA",
    "DINOV2_PROFILE",
    SETTING,
    "CUDA_VISIBLE_DEVICES",
    "HF_ENDPOINT",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
)
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
LIBRARIES = 1e9  # bytes: torch, transformers and batches of pictures, rounded up
AGREE = 1e-3  # relative; backends and devices differ by rounding, what is broken by much more

State = Literal["ok", "note", "problem"]


class Finding(NamedTuple):
    """What was found out about a requirement."""

    name: str
    state: State
    text: str
    remedy: str = ""


def check_python() -> Finding:
    """Which Python, on which system; pip has seen to it that it is new enough."""
    text = f"{platform.python_version()} in {sys.prefix}, {platform.platform()}"
    return Finding("Python", "ok", text)


def check_packages() -> Iterable[Finding]:
    """Whether the packages that are needed are there, in versions that will do."""
    try:
        lines = requires(DISTRIBUTION) or []
        yield Finding("package", "ok", f"{DISTRIBUTION} {version(DISTRIBUTION)}")
    except PackageNotFoundError:
        text = f"{DISTRIBUTION} is not installed: its needs are not known"
        yield Finding("package", "note", text, "pip install . in the checkout")
        return
    needed = [line for line in lines if "extra ==" not in line]
    found, missing = _compare(needed)
    if missing:
        remedy = "pip install " + " ".join(f"'{line}'" for line in missing)
        yield Finding("needs", "problem", f"missing or too old: {', '.join(missing)}", remedy)
    yield Finding("needs", "ok", ", ".join(found))


def _compare(needed: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return what is installed of requirements, with versions, and those that are not met."""
    from packaging.requirements import Requirement

    found, missing = [], []
    for line in needed:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        installed = _version(requirement.name)
        met = installed and requirement.specifier.contains(installed, prereleases=True)
        if met:
            found.append(f"{requirement.name} {installed}")
        else:
            missing.append(f"{requirement.name}{requirement.specifier}")
    return found, missing


def _version(name: str) -> str:
    """Return the version of a package, "" if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def check_optional() -> Finding:
    """Which packages are there that few need."""
    versions = {name: _version(name) for name in OPTIONAL}
    here = [f"{name} {found}" for name, found in versions.items() if found]
    not_here = [f"{name} ({OPTIONAL[name]})" for name, found in versions.items() if not found]
    text = ", ".join(here) or "none"
    if not_here:
        text += f"; not installed: {', '.join(not_here)}"
    return Finding("optional", "ok", f"{text}; reads {' '.join(FORMATS)}")


def check_threads() -> Finding:
    """How many cores can compute, and whether something else takes them."""
    cores, usable = os.cpu_count() or 1, usable_cores()
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    text = f"{usable} of {cores} cores can be used, {allowed} by affinity; load {load:.1f}"
    if os.environ.get(SETTING):
        text += f"; {SETTING} decides"
    elif usable < allowed:
        remedy = f"in notebooks: export OMP_NUM_THREADS={usable} OMP_WAIT_POLICY=PASSIVE"
        return Finding("threads", "note", f"{text}; a quota allows no more", remedy)
    if load > 1.5 * usable:
        return Finding("threads", "note", f"{text}: others compute too", "times will be long")
    return Finding("threads", "ok", text)


def check_memory() -> Finding:
    """Whether the model of the profile fits into memory."""
    free, total = _memory()
    # oneDNN lays out the weights a second time
    needed = LIBRARIES + 2e6 * _megabytes(current_profile().dinov2)
    text = (
        f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free; "
        f"profile {current_profile().name} takes about {needed / 1e9:.1f}"
    )
    if free < needed:
        return Finding("memory", "problem", text, "close other programs, or take a smaller model")
    return Finding("memory", "ok", text)


def _megabytes(name: str) -> int:
    """Return what a model of a profile takes; an embedded one next to nothing."""
    return int(WEIGHTS[name]["megabytes"]) if name in WEIGHTS else 0


def _memory(root: Path = Path("/sys/fs/cgroup")) -> tuple[float, float]:
    """Return the free and all bytes of memory, of the container if that has fewer."""
    from psutil import virtual_memory

    memory = virtual_memory()
    free, total = float(memory.available), float(memory.total)
    limits = (
        (root / "memory.max", root / "memory.current"),
        (root / "memory/memory.limit_in_bytes", root / "memory/memory.usage_in_bytes"),
    )
    for limit, used in limits:
        if not (limit.is_file() and used.is_file()):
            continue
        allowed = limit.read_text(encoding="ascii").strip()
        if allowed.isdecimal() and int(allowed) < total:
            total = float(allowed)
            free = min(free, total - float(used.read_text(encoding="ascii")))
    return free, total


def check_device() -> Finding:
    """What computes."""
    import torch

    device, build = best_device(), torch.__version__
    if device == "cuda":
        free, total = torch.cuda.mem_get_info()
        name = torch.cuda.get_device_name()
        more = torch.cuda.device_count() - 1
        text = f"{name}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free, CUDA {torch.version.cuda}"
        return Finding("GPU", "ok", text + (f", and {more} more" if more else ""))
    if device == "mps":
        return Finding("GPU", "ok", "Metal")
    if shutil.which("nvidia-smi"):
        text = f"there is an NVIDIA driver, but PyTorch {build} finds no GPU that it can use"
        remedy = "install a PyTorch for its CUDA (pytorch.org says which), or compute on the CPU"
        return Finding("GPU", "note", text, remedy)
    return Finding("GPU", "ok", f"none; PyTorch {build} computes on the CPU")


def check_disk() -> Finding:
    """Whether what the profile still has to download fits on the disk."""
    cache = cache_folder()
    there = next(folder for folder in (cache, *cache.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    needed = 1e6 * sum(weights.megabytes for weights in _to_download())
    text = f"{free / 1e9:.1f} GB free for {printable(cache)}"
    if free < needed:
        text += f"; profile {current_profile().name} needs {needed / 1e9:.1f} more"
        return Finding("disk", "problem", text, "make room, or set HF_HOME to a larger disk")
    return Finding("disk", "ok", text)


def _to_download() -> list[Any]:
    profile = current_profile()
    # one model may do both
    names = [name for name in dict.fromkeys((profile.dinov2, profile.clip)) if name in WEIGHTS]
    return [one for one in map(hub_weights, names) if one.state != "cached"]


def check_models() -> Finding:
    """Whether the models of the profile are here, or can be had."""
    profile = current_profile()
    cached = [name for name in WEIGHTS if hub_weights(name).state == "cached"]
    text = f"profile {profile.name} of {len(PROFILES)}; cached: {', '.join(cached) or 'none'}"
    wanted = _to_download()
    if not wanted:
        return Finding("models", "ok", text)
    names = ", ".join(f"{one.name} ({one.megabytes:,} MB)" for one in wanted)
    text = f"{text}; not here: {names}"
    if offline := _offline():
        remedy = f"unset {' '.join(offline)} once, with a network"
        return Finding("models", "problem", f"{text}, and {offline[0]} is set", remedy)
    return Finding("models", "note", text, "downloaded at first use, which needs a network")


def _offline() -> list[str]:
    on = ("1", "true", "yes", "on")
    return [name for name in OFFLINE if os.environ.get(name, "").lower() in on]


def check_data() -> Finding:
    """Whether the sample data are there, and the embedded models as they were published."""
    folder = data_dir()
    lines = (folder / "MANIFEST.sha256").read_text(encoding="utf-8").splitlines()
    listed = {name: sha256 for sha256, name in (line.split("  ", 1) for line in lines)}
    missing = [name for name in listed if not (folder / name).is_file()]
    changed = [
        name
        for name, sha256 in listed.items()
        if name.startswith("models/") and name not in missing
        if sha256_of(folder / name) != sha256
    ]
    text = f"{len(listed):,} files in {printable(folder)}"
    remedy = "install the package again, or in a checkout: git checkout data"
    if changed:
        return Finding("data", "problem", f"{text}; changed: {_first(changed)}", remedy)
    if missing:
        return Finding("data", "problem", f"{text}; missing: {_first(missing)}", remedy)
    return Finding("data", "ok", text)


def _first(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def check_variables() -> Finding:
    """Which variables of the environment change what is done; no secrets."""
    values = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    shown = [f"{name}={_without_password(value)}" for name, value in values.items()]
    if "HF_TOKEN" in os.environ:
        shown.append("HF_TOKEN is set")
    return Finding("variables", "ok", printable(" ".join(shown)) or "none set")


def _without_password(value: str) -> str:
    return re.sub(r"//[^/@]*@", "//***@", value)


def check_computing() -> Finding:
    """Whether the device computes the same as PyTorch does plainly on the CPU."""
    from ..extraction import extract_features

    picture = np.indices((224, 224)).sum(0).astype(np.uint8)  # (224, 224), stripes of all greys
    fast = load_dinov2("tiny")
    plain = load_dinov2("tiny", device="cpu", backend="torch")
    found, wanted = (
        extract_features(model, picture, patches=False, progress=False).cls  # (1, D)
        for model in (fast, plain)
    )
    error = float(abs(found - wanted).max() / abs(wanted).max())
    text = f"{fast.name} on {fast.device}: as in plain PyTorch to {error:.0e}"
    if not error < AGREE:
        remedy = "compute with --backend torch --device cpu, and please report this"
        return Finding("computing", "problem", text, remedy)
    return Finding("computing", "ok", text)


CHECKS: dict[str, Callable[[], Finding | Iterable[Finding]]] = {
    "Python": check_python,
    "packages": check_packages,
    "optional": check_optional,
    "threads": check_threads,
    "memory": check_memory,
    "GPU": check_device,
    "disk": check_disk,
    "models": check_models,
    "data": check_data,
    "variables": check_variables,
    "computing": check_computing,
}


def findings() -> Iterable[Finding]:
    """Go through all checks; one that fails is a problem, and the others go on."""
    for name, check in CHECKS.items():
        try:
            found = check()
            yield from [found] if isinstance(found, Finding) else found
        # a broken package may raise anything, and to name it is what this is for
        except Exception as error:
            yield Finding(name, "problem", f"{type(error).__name__}: {one_sentence(error)}")


def add_arguments(parser: ArgumentParser) -> None:
    """Add none: there is nothing to choose."""


def run(args: Namespace, session: Session) -> dict[str, Any]:
    """Print a line for each requirement; the status is 1 if there is a problem."""
    logging.getLogger(LOGGER).setLevel(logging.WARNING)  # loading a model is one of the checks
    found = []
    for one in findings():
        found.append(one)
        remedy = f" -> {one.remedy}" if one.remedy else ""
        session.print(f"{one.state:8} {one.name:10} {one.text}{remedy}")
    problems = [one.name for one in found if one.state == "problem"]
    if problems:
        session.fail(f"problems with {', '.join(problems)}")
    return {"problems": problems, "checks": [one._asdict() for one in found]}


COMMAND = Command(
    "check",
    "",
    "say what this machine has of what is needed; status 1 if something is missing",
    EXAMPLE,
    add_arguments,
    run,
    has_model=False,
)
