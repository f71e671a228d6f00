"""The generated passages of README.md: `python -m tools.readme` writes, `--check` compares them."""

import argparse
import sys
from collections.abc import Mapping, Sequence

from dinov2_helpers.models import PROFILES
from tools import blocks, pairing, recorded
from tools.project import Project


def passages(project: Project) -> dict[str, str]:
    """Markdown of every generated passage."""
    _, claims = recorded.files(pairing.COMMITTED_PROFILE)
    return {
        "notebooks": _notebooks(project),
        "ledger": ledger(recorded.read(project.results / claims)),
        "profiles": _profiles(),
    }


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def ledger(claims: Mapping[str, Mapping[str, str]]) -> str:
    """The claims ledger as a Markdown table, in the order of the notebooks."""
    rows = [
        [row["claim"], row["how"], row["measured"], row["verdict"], f"{key[:2]}, {row['cell']}"]
        for key, row in sorted(claims.items())
    ]
    escaped = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    heads = ("The article claims", "Tested by", "We measured", "Verdict", "Notebook, section")
    return _table(heads, escaped)


def _notebooks(project: Project) -> str:
    numbers = recorded.read(project.results / f"{pairing.COMMITTED_PROFILE}.json")
    costs = pairing.read_costs(project)
    rows = []
    for stem in project.stems():
        notebook = pairing.read_source(project, stem)
        title, promise = pairing.title_and_promise(notebook)
        key, meaning = next(iter(notebook.metadata["headline"].items()))
        row = (
            stem[:2],
            f"[{title}](notebooks/{stem}.ipynb)",
            promise,
            f"{numbers[key]:.3g}: {meaning}",
            f"{costs[stem]['seconds']:.0f} s, {costs[stem]['peak_mb'] / 1000:.1f} GB",
        )
        rows.append(row)
    heads = ("", "notebook", "what you will do", "headline", "cost on two cores")
    return _table(heads, rows)


def _profiles() -> str:
    rows = []
    for profile in PROFILES.values():
        download = f"{profile.download_mb:,} MB" if profile.download_mb else "none"
        names = [f"`{name}`" for name in (profile.name, profile.dinov2, profile.clip)]
        rows.append([*names, download, profile.licence])
    return _table(("profile", "DINOv2", "CLIP", "DINOv2's download", "and its licence"), rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes or checks README.md; 0 if it is current."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="do not write, fail if not current")
    check = parser.parse_args(arguments).check
    project = Project()
    path = project.root / "README.md"
    text = path.read_text(encoding="utf-8")
    current = blocks.fill(text, passages(project))
    if check and text != current:
        print("README.md is not current: run `make readme`")
        return 1
    path.write_text(current, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
