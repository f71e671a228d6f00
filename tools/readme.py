"""Generated passages of README.md and docs/scaling.md.

`python -m tools.readme` writes them, `--check` compares them. Those on speed are files that
`python -m benchmarks.passages` makes.
"""

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence

from dinov2_helpers.models import PROFILES, WEIGHTS
from tools import blocks, pairing, recorded
from tools.project import Project


def passages(project: Project) -> dict[str, str]:
    """Markdown of every generated passage."""
    _, claims = recorded.files(pairing.COMMITTED_PROFILE)
    owners = recorded.read(project.results / recorded.OWNERS).get(claims, {})
    return {
        "notebooks": _notebooks(project),
        "ledger": ledger(recorded.read(project.results / claims), owners),
        "profiles": _profiles(),
        "weights": _weights(),
        "bench": _measured(project, "bench"),
        "sizing": _measured(project, "sizing"),
        "stores": _measured(project, "stores"),
    }


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def ledger(claims: Mapping[str, Mapping[str, str]], owners: Mapping[str, str]) -> str:
    """The claims ledger as a Markdown table, in the order of the notebooks.

    Args:
        claims: the rows, by key.
        owners: the notebooks that have recorded them, by key, which the last column links.
    """
    rows = []
    for key, row in sorted(claims.items()):
        cells = [row["claim"], row["how"], row["measured"], row["verdict"]]
        place = f"{key[:2]}, {row['cell']}"
        if key in owners:
            place = f"[{key[:2]}](notebooks/{owners[key]}.ipynb), {row['cell']}"
        rows.append([cell.replace("|", r"\|") for cell in [*cells, place]])
    heads = ("The article claims", "Tested by", "We measured", "Verdict", "Notebook, section")
    return _table(heads, rows)


def _notebooks(project: Project) -> str:
    numbers = recorded.read(project.results / f"{pairing.COMMITTED_PROFILE}.json")
    costs = pairing.read_costs(project)
    rates = [cost["gflops"] for cost in costs.values() if "gflops" in cost]
    rows = []
    for stem in project.lessons():
        notebook = pairing.read_source(project, stem)
        title, promise = pairing.title_and_promise(notebook)
        key, meaning = next(iter(notebook.metadata["headline"].items()))
        lesson = f"[{title}](notebooks/{stem}.ipynb)"
        if f"evidence/{stem}" in project.evidence():
            lesson += f", [evidence](notebooks/evidence/{stem}.ipynb)"
        row = (
            stem[:2],
            lesson,
            promise,
            f"{numbers[key]:.3f}: {meaning}",
            f"{costs[stem]['seconds']:.0f} s, {costs[stem]['peak_mb'] / 1000:.1f} GB",
        )
        rows.append(row)
    cost = "cost on two cores"
    if rates:
        cost += f" that multiply matrices at {statistics.median(rates):.0f} GFLOP/s"
    heads = ("", "notebook", "what you will do", "headline", cost)
    return _table(heads, rows)


def _profiles() -> str:
    rows = [
        [f"`{name}`" for name in (profile.name, profile.dinov2, profile.clip)]
        for profile in PROFILES.values()
    ]
    return _table(("profile", "DINOv2", "CLIP"), rows)


def _weights() -> str:
    rows = [
        [
            f"`{name}`",
            f"`{weights['revision'][:7]}`",
            f"{weights['megabytes']:,} MB",
            weights["licence"],
        ]
        for name, weights in WEIGHTS.items()
    ]
    return _table(("on the Hugging Face hub", "revision", "download", "licence"), rows)


def _measured(project: Project, name: str) -> str:
    """A passage that the benchmarks have made from their results."""
    path = project.root / "benchmarks" / "results" / f"{name}.md"
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: run `python -m benchmarks.passages`")
    return path.read_text(encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes or checks the files; 0 if they are current."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="do not write, fail if not current")
    check = parser.parse_args(arguments).check
    project = Project()
    known, stale = passages(project), 0
    for name in ("README.md", "docs/scaling.md"):
        path = project.root / name
        text = path.read_text(encoding="utf-8")
        current = blocks.fill(text, known)
        if check and text != current:
            print(f"{name} is not current: run `make notebooks`")
            stale = 1
        elif not check:
            path.write_text(current, encoding="utf-8", newline="\n")
    return stale


if __name__ == "__main__":
    sys.exit(main())
