"""Proves the set-up cell of the notebooks in a stand-in for Colab: `make colab`.

    python -m tools.colab [01 evidence/01 ...] [--full] [--with transformers==4.57.6 ...]

Each notebook, all or those whose names begin so, runs twice, alone in an empty folder. As "git"
it is the one of the last commit, and its set-up cell installs from the public repository, in whose
place stands a bare clone of the checkout. As "wheel" it is the one of the working tree, and its
set-up cell installs from a wheel beside it. All is in build/colab: a Python that has what Colab
ships, in hard links to what .venv has, made anew for each run, and a module google.colab. torch and
numpy are imported before the first cell. pip alone reaches a network, the registry that it is set
up for.

Checked: the set-up cell added what Colab lacks and nothing else, changed no file of another
package and no imported module, and does nothing the second time; the notebook's imports work, and
the package and its data are the installed ones. `--full` runs the notebooks to their end, which
takes minutes each, not one. `--with` puts other versions in the place of .venv's, as an older Colab
has them; then, and only then, packages may be replaced that are not imported.
"""

import argparse
import ast
import asyncio
import contextlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat
from hatchling.builders.wheel import WheelBuilder
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode, v4
from packaging.requirements import Requirement
from traitlets.config import Config

from dinov2_helpers.colab import NOT_NEEDED
from tools import pairing
from tools.project import Project
from tools.setup_cell import setup_cell
from tools.syntax import as_python

REPOSITORY = "owner/dinov2-in-practice"  # any name: git is told that it is the bare clone
VARIANTS = {"git": f"git+https://github.com/{REPOSITORY}", "wheel": ""}
KERNEL_AND_TOOLS = {"ipykernel", "pip", "setuptools"}
NEVER = {"jedi"}  # IPython asks for it and Colab leaves it out, so that `pip check` complains there
LACKS = {"dinov2-in-practice", "faiss-cpu"}
SECONDS = 7200

STARTUP = """
import importlib

for _name in ("google.colab", "numpy", "torch"):
    importlib.import_module(_name)
del importlib, _name
"""
BEFORE = """
import importlib.metadata as _metadata
import sys as _sys


def _imported():
    facts = ("__version__", "__file__")
    return {
        name: [id(module), *(str(getattr(module, fact, None)) for fact in facts)]
        for name, module in list(_sys.modules.items())
        if name in _names
    }


def _distributions():
    owners = _metadata.packages_distributions().items()
    names = {owner for module, found in owners if module in _names for owner in found}
    return {name: _metadata.version(name) for name in names}


_names = {name for name in _sys.modules if "." not in name and not name.startswith("__")}
_before, _versions = _imported(), _distributions()
"""
AFTER = """
import json as _json

import dinov2_helpers as _helpers
import faiss as _faiss

print(_json.dumps({
    "changed": sorted(name for name, facts in _imported().items() if _before[name] != facts),
    "replaced": sorted(name for name, v in _distributions().items() if v != _versions.get(name)),
    "package": _helpers.__file__,
    "data": str(_helpers.data_dir()),
    "faiss": _faiss.__file__,
}))
"""


def normal(name: str) -> str:
    """The name of a distribution as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def shipped(site: Path, roots: set[str], without: set[str]) -> dict[str, list[Path]]:
    """Distributions in a site-packages that `roots` need, and their files, relative to it."""
    found = {normal(d.name): d for d in importlib.metadata.distributions(path=[str(site)])}
    files: dict[str, list[Path]] = {}
    waiting = sorted(roots)
    while waiting:
        name = waiting.pop()
        if name in files or name in without or name not in found:
            continue
        listed = [Path(file) for file in found[name].files or []]
        files[name] = [path for path in listed if ".." not in path.parts]
        requires = [line for line in found[name].requires or [] if "extra ==" not in line]
        waiting += [normal(re.split(r"[^\w.-]", line)[0]) for line in requires]
    return files


def link(source: str | Path, target: str | Path) -> None:
    """A hard link, or a copy where there can be none; pip replaces files, it changes none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def make_template(folder: Path, other: Sequence[str]) -> Path:
    """The site-packages of all stand-ins, with other versions of some packages if so wanted."""
    source = Path(sysconfig.get_path("purelib"))
    template = make_python(folder / "template")
    asked = {normal(Requirement(line).name) for line in Project().dependencies}
    roots = (asked - NOT_NEEDED) | KERNEL_AND_TOOLS
    for files in shipped(source, roots, LACKS | NEVER).values():
        for file in files:
            if (source / file).is_file():
                (template / file).parent.mkdir(parents=True, exist_ok=True)
                link(source / file, template / file)
    module = template / "google" / "colab" / "__init__.py"
    module.parent.mkdir(parents=True)
    module.write_text(
        '"""A stand-in for Colab\'s module, of which only the presence counts."""\n', "utf-8"
    )
    facts = template / "google_colab-1.0.0.dist-info"
    facts.mkdir()
    described = "Metadata-Version: 2.1\nName: google-colab\nVersion: 1.0.0\n"
    (facts / "METADATA").write_text(described, "utf-8")
    (facts / "RECORD").write_text("google/colab/__init__.py,,\n", "utf-8")
    if other:
        command = [python(folder / "template"), "-m", "pip", "install", "-q", "--no-deps", *other]
        subprocess.run(command, check=True)
    return template


def make_python(root: Path, template: Path | None = None) -> Path:
    """Makes a virtual environment that has the template's packages; returns its site-packages."""
    shutil.rmtree(root, ignore_errors=True)
    venv.EnvBuilder(symlinks=True).create(root)
    (site,) = root.glob("lib/python*/site-packages")
    if template is not None:
        shutil.copytree(template, site, copy_function=link, dirs_exist_ok=True)
    pip = root / "bin" / "pip"
    script = f"#!{python(root)}\nfrom pip._internal.cli.main import main\n\nexit(main())\n"
    pip.write_text(script, "utf-8")
    pip.chmod(0o755)
    return site


def python(root: Path) -> str:
    """The interpreter of a virtual environment."""
    return str(root / "bin" / "python")


def make_repository(project: Project, folder: Path) -> Project:
    """Makes a bare clone, which serves as GitHub does; returns a checkout of it."""
    bare, checkout = folder / "repository.git", folder / "checkout"
    clone = ["git", "clone", "--quiet"]
    serve = ["--bare", "--config", "uploadpack.allowFilter=true"]
    subprocess.run([*clone, *serve, str(project.root), str(bare)], check=True)
    subprocess.run([*clone, str(bare), str(checkout)], check=True)
    return Project(checkout)


def environment(root: Path, bare: Path) -> dict[str, str]:
    """Variables of a kernel in the stand-in: git takes the bare clone for the public repository."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in {"PYTHONPATH", "VIRTUAL_ENV"} and not name.startswith("DINOV2_")
    }
    return inherited | {
        "PATH": os.pathsep.join([str(root / "bin"), os.environ["PATH"]]),
        "HF_HUB_OFFLINE": "1",
        "IPYTHONDIR": str(root / "ipython"),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{bare.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": f"https://github.com/{REPOSITORY}",
    }


def snapshot(site: Path) -> dict[str, tuple[int, int]]:
    """Size and date of every file that is not a cache of compiled code."""
    return {
        path.relative_to(site).as_posix(): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in site.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


def installed(site: Path) -> dict[str, str]:
    """Distributions and their versions."""
    return {normal(d.name): d.version for d in importlib.metadata.distributions(path=[str(site)])}


def imports(notebook: NotebookNode) -> str:
    """All import statements of a notebook, as one cell."""
    lines = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            statements = ast.walk(ast.parse(as_python(cell.source)))
            lines += [
                ast.unparse(s) for s in statements if isinstance(s, ast.Import | ast.ImportFrom)
            ]
    return "\n".join(dict.fromkeys(lines))


def tried(project: Project, stem: str, variant: str, full: bool) -> NotebookNode:
    """The notebook that is run: the real one's set-up cell and imports, or all of it, and probes.

    The set-up cell comes second, after the first probe, and again in the end.
    """
    notebook = pairing.read_source(project, stem)
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    codes[0].source = setup_cell(VARIANTS[variant])
    probed = [v4.new_code_cell(BEFORE), codes[0]]
    probed += codes[1:] if full else [v4.new_code_cell(imports(notebook))]
    again = v4.new_code_cell(codes[0].source)
    notebook.cells = [*probed, v4.new_code_cell(AFTER), again]
    return notebook


@contextlib.contextmanager
def kernel_of(root: Path) -> Iterator[str]:
    """Name of a kernel that runs in the stand-in, inside `with`."""
    name = "colab"
    install = [python(root), "-m", "ipykernel", "install", "--prefix", str(root), "--name", name]
    subprocess.run(install, check=True, capture_output=True)
    startup = root / "ipython" / "profile_default" / "startup" / "00.py"
    startup.parent.mkdir(parents=True)
    startup.write_text(STARTUP, "utf-8")
    before = os.environ.get("JUPYTER_PATH")
    os.environ["JUPYTER_PATH"] = str(root / "share" / "jupyter")
    try:
        yield name
    finally:
        del os.environ["JUPYTER_PATH"]
        if before is not None:
            os.environ["JUPYTER_PATH"] = before


def text_of(cell: NotebookNode) -> str:
    """What a cell printed."""
    return "".join(output.get("text", "") for output in cell.outputs).strip()


def differences(
    site: Path, before: tuple[dict[str, str], dict[str, tuple[int, int]]], older: bool
) -> Iterator[str]:
    """What the set-up cell did to the environment that it must not do.

    Args:
        site: the site-packages.
        before: distributions and files that it had.
        older: whether packages may be replaced and others added, but never torch and numpy.
    """
    versions, files = before
    now, present = installed(site), snapshot(site)
    changed = {name for name, version in versions.items() if now.get(name) != version}
    added = now.keys() - versions.keys()
    if wrong := changed & {"numpy", "torch"} if older else changed:
        yield f"changed {', '.join(sorted(wrong))}"
    if not added >= LACKS or (added != LACKS and not older):
        yield f"added {', '.join(sorted(added))}"
    new = shipped(site, added | changed, set()) if older else shipped(site, set(added), set())
    owned = {file.as_posix() for name in (added | changed) & new.keys() for file in new[name]}
    touched = {name for name in files if present.get(name) != files[name]} - owned
    if older:  # the files of a version that was replaced
        touched &= present.keys()
    for what, names in (("changed", touched), ("left", present.keys() - files.keys() - owned)):
        if names:
            yield f"{what} files as {sorted(names)[0]} ({len(names)})"


def findings(site: Path, notebook: NotebookNode) -> Iterator[str]:
    """What is wrong in the kernel after the last cell."""
    first, (*_, probe, again) = notebook.cells[1], notebook.cells
    facts = json.loads(text_of(probe))
    for what in ("changed", "replaced"):
        if facts[what]:
            yield f"imported and {what}: {', '.join(facts[what])}"
    for what in ("package", "data", "faiss"):
        if not Path(facts[what]).resolve().is_relative_to(site.resolve()):
            yield f"the {what} is not the installed one: {facts[what]}"
    said = text_of(first).splitlines()
    if len(said) != 2 or not said[0].startswith("Succ") or text_of(again) != said[1]:
        yield f"the set-up cell said {said}, then {text_of(again)!r}"


@dataclass(frozen=True)
class Colab:
    """Where and how notebooks are run.

    Attributes:
        folder: folder of all that is made, with the bare clone and the wheel.
        template: site-packages of what Colab ships.
        full: whether notebooks run to their end.
        older: whether some of Colab's packages may be too old.
    """

    folder: Path
    template: Path
    full: bool
    older: bool

    def attempt(self, project: Project, stem: str, variant: str) -> list[str]:
        """Runs a notebook in a fresh stand-in, says how it went, and returns what was wrong."""
        started = time.perf_counter()
        root, content = self.folder / "python", self.folder / "content"
        site = make_python(root, self.template)
        shutil.rmtree(content, ignore_errors=True)
        content.mkdir()
        notebook = tried(project, stem, variant, self.full)
        nbformat.write(notebook, content / f"{Path(stem).name}.ipynb")
        for wheel in self.folder.glob("*.whl") if variant == "wheel" else ():
            link(wheel, content / wheel.name)
        beside = {path.name for path in content.iterdir()}
        before = installed(site), snapshot(site)
        problems = list(self._execute(notebook, root, content)) or list(findings(site, notebook))
        problems += differences(site, before, self.older)
        if not self.full and (left := {path.name for path in content.iterdir()} - beside):
            problems.append(f"left {', '.join(sorted(left))} beside the notebook")
        executed = self.folder / f"{stem}-{variant}.ipynb"
        executed.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, executed)
        outcome = "FAILED" if problems else "ok"
        said = text_of(notebook.cells[1]).splitlines()
        count = f"{len(before[0])} packages, {len(before[1]):,} files compared"
        print(f"{stem}, {variant}: {outcome}, {time.perf_counter() - started:.0f} s, {count}")
        print(*said, *(f"PROBLEM: {problem}" for problem in problems), sep="\n", flush=True)
        return problems

    def _execute(self, notebook: NotebookNode, root: Path, content: Path) -> Iterator[str]:
        with kernel_of(root) as kernel:
            config = Config({"KernelManager": {"transport_encryption": "auto"}})
            client = NotebookClient(
                notebook, kernel_name=kernel, timeout=SECONDS, coalesce_streams=True, config=config
            )
            variables = environment(root, self.folder / "repository.git")
            try:
                asyncio.run(client.async_execute(cwd=str(content), env=variables))
            except CellExecutionError as failure:
                yield f"{failure.ename}: {failure.evalue}"
            except (CellTimeoutError, DeadKernelError) as failure:
                yield str(failure)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: see the module's text; 0 if nothing is wrong."""
    usage = "python -m tools.colab [NAME...] [--full] [--with NAME==VERSION...]"
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], usage=usage)
    parser.add_argument("names", nargs="*", help="as 01 or evidence/01; none means all")
    parser.add_argument("--full", action="store_true", help="run the notebooks to their end")
    parser.add_argument("--with", dest="other", nargs="+", default=[], metavar="NAME==VERSION")
    options = parser.parse_args(arguments)
    project = Project()
    folder = project.build / "colab"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    colab = Colab(folder, make_template(folder, options.other), options.full, bool(options.other))
    projects = {"git": make_repository(project, folder), "wheel": project}
    list(WheelBuilder(str(project.root)).build(directory=str(folder), versions=["standard"]))
    failures = 0
    for stem in project.chosen(options.names):
        for variant, origin in projects.items():
            failures += bool(colab.attempt(origin, stem, variant))
    return min(1, failures)


if __name__ == "__main__":
    sys.exit(main())
