"""Sources and notebooks: one is made from the other, and both are compared."""

import base64
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbformat import NotebookNode

from dinov2_helpers.models import PROFILES, WEIGHTS
from tools import blocks, imports, launch, links, syntax
from tools.project import Project
from tools.setup_cell import as_comments, setup_cell_of, without_installation

COMMITTED_PROFILE = "tiny"
# The files of the quiz hold numbers that the notebooks record, so they are written after them;
# `tools.quiz` puts what they say into the committed outputs.
AFTERWARDS = "questions"
PACKAGES = ("dinov2_helpers", "dinov2_scale")  # those of our own that notebooks import
FINISHED_PICTURE = "finished-picture"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
# with the commands to the shell that Python alone does not know
LANGUAGE = {"name": "python", "pygments_lexer": "ipython3"}


def read_source(project: Project, stem: str) -> NotebookNode:
    """The notebook that a source describes: no outputs, stable cell ids, empty generated blocks."""
    notebook = jupytext.read(project.source(stem))
    metadata = {key: value for key, value in notebook.metadata.items() if key == "headline"}
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": KERNEL, "language_info": LANGUAGE} | metadata
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells, start=1):
        cell.id = f"cell-{number:02d}"
        if cell.cell_type == "markdown":
            cell.source = blocks.empty(cell.source)
    return notebook


def read_notebook(project: Project, stem: str) -> NotebookNode:
    """The committed notebook, with links as its source has them.

    Raises:
        FileNotFoundError: it was never made.
    """
    path = project.notebook(stem)
    if not path.exists():
        raise FileNotFoundError(f"{path.name} does not exist: run `make notebooks`")
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = links.localise(project, stem, cell.source)
    return notebook


def write_notebook(project: Project, stem: str, notebook: NotebookNode) -> None:
    """Writes the committed notebook with its generated blocks filled, if that changes it."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and blocks.names(cell.source):
            cell.source = blocks.fill(
                cell.source, {"badge": badge(project, stem), "cost-card": cost_card(project, stem)}
            )
        if cell.cell_type == "markdown":
            cell.source = links.publish(project, stem, cell.source)
    path = project.notebook(stem)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = nbformat.writes(notebook) + "\n"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8", newline="\n")


def renew_setup_cell(project: Project, stem: str) -> None:
    """Puts the present set-up cell into a source that has an older one."""
    path = project.source(stem)
    text = path.read_text(encoding="utf-8")
    before, marker, rest = text.partition("# %%\n")
    cell, *after = re.split(r"\n+(?=# %%)", rest, maxsplit=1)
    current = as_comments(setup_cell_of(project))
    if "course.setup()" in cell and cell != current:
        renewed = "\n\n".join([before + marker + current, *after])
        path.write_text(renewed, encoding="utf-8", newline="\n")


def sync(project: Project, stem: str) -> NotebookNode:
    """Makes the notebook from its source; code cells that did not change keep their outputs."""
    renew_setup_cell(project, stem)
    notebook = read_source(project, stem)
    if project.notebook(stem).exists():
        previous = read_notebook(project, stem)
        executed = defaultdict(list)
        for cell in previous.cells:
            if cell.cell_type == "code":
                executed[without_installation(cell.source)].append(cell)
        for cell in notebook.cells:
            same = executed[without_installation(cell.source)]
            if cell.cell_type == "code" and same:
                kept = same.pop(0)
                cell.outputs, cell.execution_count = kept.outputs, kept.execution_count
        if "executed" in previous.metadata:
            notebook.metadata["executed"] = previous.metadata["executed"]
    write_notebook(project, stem, notebook)
    return notebook


def fingerprint(project: Project, notebook: NotebookNode) -> str:
    """SHA-256 of all that outputs depend on: code, own modules and their JSON files, data.

    How the set-up cell installs the package is no part of it.

    The modules are those of `PACKAGES` that the notebook imports and those that they import in
    turn; of the packages in use, all JSON files but those of the quiz. Comments and docstrings do
    not count.
    """
    codes = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    modules = imports.find_modules(project.root, PACKAGES)
    asked: set[str] = set()
    for code in filter(syntax.is_python, map(syntax.as_python, codes)):
        asked |= imports.targets(imports.statements(code), modules)
    used = imports.reached(asked, modules)
    digest = hashlib.sha256()
    for code in codes:
        digest.update(syntax.cell_digest(without_installation(code)).encode())
    for name in sorted(used):
        digest.update(f"{name} {syntax.module_digest(modules[name].read_bytes())}\n".encode())
    for package in sorted({name.split(".")[0] for name in used}):
        for path in sorted((project.root / package).rglob("*.json")):
            if path.parent.name == AFTERWARDS:
                continue
            digest.update(f"{path.relative_to(project.root).as_posix()}\n".encode())
            digest.update(path.read_bytes())
    digest.update((project.root / "data" / "MANIFEST.sha256").read_bytes())
    return digest.hexdigest()


def is_stale(project: Project, stem: str) -> bool:
    """Whether the committed outputs were made by other code or data than there is now."""
    if not project.notebook(stem).exists():
        return True
    executed = read_notebook(project, stem).metadata.get("executed", {})
    return executed.get("sha256") != fingerprint(project, read_source(project, stem))


def finished_picture(notebook: NotebookNode) -> tuple[str, bytes, str]:
    """What the cell tagged "finished-picture" has drawn: media type, bytes, alt text.

    All three are empty if it has drawn nothing.
    """
    for cell in notebook.cells:
        if FINISHED_PICTURE in cell.metadata.get("tags", []):
            for output in cell.get("outputs", []):
                for media in {"image/png", "image/jpeg"} & output.get("data", {}).keys():
                    alt = output.metadata.get(media, {}).get("alt", "")
                    return media, base64.b64decode(output.data[media]), alt
    return "", b"", ""


def figure_path(project: Project, stem: str, media: str) -> Path:
    """Where the finished picture of a notebook is kept, which its first cell shows."""
    suffix = media.removeprefix("image/")
    return project.root / "notebooks" / "figures" / f"{stem}.{suffix}"


def title_and_promise(notebook: NotebookNode) -> tuple[str, str]:
    """Title of a notebook, and the sentence that is the paragraph under it, in plain words."""
    title, promise, *_ = re.split(r"\n\s*\n", notebook.cells[0].source.strip())
    return title.removeprefix("# ").strip(), " ".join(promise.replace("**", "").split())


def badge(project: Project, stem: str) -> str:
    """Markdown of the buttons that open the notebook elsewhere, or how to do without them."""
    if not project.repository:
        return (
            "*On Colab:* run `make wheel`, then upload this notebook and, in its file panel, "
            "the wheel from `dist/`. The set-up cell below does the rest."
        )
    return launch.buttons(project, stem)


def is_published(project: Project, stem: str) -> bool:
    """Whether buttons, set-up cell and links of a committed notebook name the public repository."""
    path = project.notebook(stem)
    if not path.exists():
        return False
    current = setup_cell_of(project)
    if as_comments(current) not in project.source(stem).read_text(encoding="utf-8"):
        return False
    cells = nbformat.read(path, as_version=4).cells
    first = next(cell for cell in cells if cell.cell_type == "code")
    if first.source != current or badge(project, stem) not in cells[0].source:
        return False
    return not any(
        cell.cell_type == "markdown" and links.publish(project, stem, cell.source) != cell.source
        for cell in cells
    )


def read_costs(project: Project) -> dict[str, dict[str, float]]:
    """What each notebook cost when it was last executed to be committed."""
    path = project.results / "costs.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def time_of(costs: Mapping[str, Any]) -> str:
    """How long a notebook took, and on what: as "70 s on 1 CPU core, 113 GFLOP/s"."""
    cores = "1 CPU core" if costs["cores"] == 1 else f"{costs['cores']} CPU cores"
    rate = f", {costs['gflops']:.0f} GFLOP/s" if costs.get("gflops") else ""
    return f"{costs['seconds']:.0f} s on {cores}{rate}"


def cost_card(project: Project, stem: str) -> str:
    """Markdown of what the notebook costs: one row, and a line on what other profiles download."""
    costs = read_costs(project).get(stem)
    measured = "not measured | not measured"
    if costs:
        measured = f"{time_of(costs)} | {costs['peak_mb'] / 1000:.1f} GB"
    rows = [
        "| profile | time | peak memory | download |",
        "| --- | --- | --- | --- |",
        f"| `{COMMITTED_PROFILE}` | {measured} | nothing |",
    ]
    return "\n".join([*rows, "", _downloads(project, stem)])


def _downloads(project: Project, stem: str) -> str:
    """A sentence on what a notebook downloads under the profiles of the hub that are DINOv2."""
    code = project.source(stem).read_text(encoding="utf-8")
    kinds = [kind for kind in ("dinov2", "clip", "diffusion") if f"load_{kind}(" in code]
    first_with: dict[int, str] = {}  # megabytes -> profile; models with registers weigh the same
    for profile in PROFILES.values():
        if profile.dinov2.startswith("facebook/dinov2-"):
            weights = [WEIGHTS[getattr(profile, kind)]["megabytes"] for kind in kinds]
            first_with.setdefault(sum(weights), profile.name)
    sizes = [f"{megabytes:,} MB (`{name}`)" for megabytes, name in first_with.items()]
    if not kinds:
        sizes = ["nothing"]
    up = "../" * stem.count("/")
    table = f"{up}../README.md#profiles-the-same-notebooks-on-the-real-models"
    return f"[Other profiles]({table}) download once: {', '.join(sizes)}."
