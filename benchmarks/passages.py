"""The passages of README.md and docs that the committed results make.

    python -m benchmarks.passages

writes them to `benchmarks/results/*.md`, from where `python -m tools.readme` takes them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import sizing, table
from benchmarks.run_record import RESULTS
from dinov2_helpers.writing import write_whole


def passages() -> dict[str, str]:
    """Markdown of each passage, by the name of its file; none for what was never measured."""
    made = {}
    lines = table.readme_lines()
    if lines:
        made["bench"] = "\n\n".join([_markdown(table.readme_heads(), table.readme_rows()), *lines])
    report = table.read(RESULTS / "extraction.json")
    if report:
        decoding = min(1 / floor["decoding_seconds"] for floor in report["floors"].values())
        machine = f"{table.machine(report['run'])}; they decode {decoding:.0f} pictures a second"
        sizes = _markdown(sizing.HEADS, sizing.rows(report))
        made["sizing"] = f"{sizes}\n\nThese CPU cores: {machine}."
    report = table.read(RESULTS / "backends.json")
    if report:
        section = table.backends(report)
        farthest = max(row["differs_by"] for row in report["rows"])
        said = (
            f"Measured: {section.about}; the least of {report['run']['turns']} turns. Patches "
            f"within {farthest:.1g} of each other. The first call is of 8 pictures."
        )
        made["backends"] = f"{_markdown(section.heads, section.rows)}\n\n{said}"
    report = table.read(RESULTS / "large_pictures.json")
    if report:
        section = table.large(report)
        made["large"] = f"{_markdown(section.heads, section.rows)}\n\n{_of_large(report)}"
    report = table.read(RESULTS / "guidance_widths.json")
    if report:
        heads = (
            "way of the gradient",
            "GB at most",
            "of these before the first step",
            "CPU s a step",
        )
        made["guidance_widths"] = (
            f"{_markdown(heads, _of_widths(report))}\n\n{_below_widths(report)}"
        )
    report = table.read(RESULTS / "dataset_growth.json")
    if report:
        section = table.datasets(report)
        made["datasets"] = f"{_markdown(section.heads, section.rows)}\n\n{_of_datasets(report)}"
    report = table.read(RESULTS / "stores.json")
    if report:
        section = table.stores(report)
        made["stores"] = f"{_markdown(section.heads, section.rows)}\n\n{_of_stores(report)}"
    report = table.read(RESULTS / "workshop_trial.json")
    if report:
        section = table.workshop(report)
        made["workshop"] = f"{_of_workshop(report)}\n\n{_markdown(section.heads, section.rows)}"
    return made


def _of_workshop(report: Mapping[str, Any]) -> str:
    """How large the kit is and how long it took, above the table of kernels."""
    run, kit = report["run"], report["kit"]
    python = ".".join(run["python"].split(".")[:2])
    lesson = int(report["rows"][0]["lesson"].split("_")[0])
    return (
        f"Tried without a network: {table.machine(run)}, load before it {kit['load_before']}. For "
        f"Linux and Python {python} the zip has {kit['kit_mb']} MB, with {kit['wheels']} wheels in "
        f"it, and {kit['installed_mb'] / 1000:.1f} GB are installed. Unpacking took "
        f"{kit['unpack_seconds']:.2g} s and installing {kit['install_seconds']:.0f} s. Then lesson "
        f"{lesson} ran in several kernels at once, one thread each; seconds are those of the "
        "slowest, from the start of the kernel:"
    )


def _of_large(report: Mapping[str, Any]) -> str:
    """What was measured, beneath the table of large photographs."""
    run = report["run"]
    said = []
    for row in report["likeness"]:
        grain = f"with noise of {row['noise']} of 255 steps" if row["noise"] else "as they are"
        cls, patch, middle = (
            f"1 - {row[name]:.1e}"
            for name in ("cls_lacks_at_most", "patch_lacks_at_most", "patch_lacks_in_the_middle")
        )
        said.append(
            f"{grain}, the least cosine of CLS is {cls}, that of a patch {patch}, and the median "
            f"of the patches {middle}"
        )
    pictures = report["likeness"][0]["pictures"] if report["likeness"] else 0
    return (
        f"Features of the embedded model, of fewer pixels beside those of all, for {pictures} "
        f"photographs enlarged to 12 megapixels: {'; '.join(said)}. Measured: "
        f"{table.machine(run)}; of the processor's time for {run['pictures']} files, the median of "
        f"{run['turns']} turns."
    )


def _of_widths(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The rows of the memory that guidance takes at real widths."""
    return [
        (
            row["plan"],
            f"{row['peak_mb'] / 1000:.1f}",
            f"{row['loaded_mb'] / 1000:.1f}",
            f"{row['cpu_seconds_a_step']:.0f}",
        )
        for row in report["rows"]
    ]


def _below_widths(report: Mapping[str, Any]) -> str:
    """What was measured, beneath that table."""
    run = report["run"]
    finite = all(row["finite"] for row in report["rows"])
    loss = "every loss a number" if finite else "a loss that is no number among them"
    return (
        f"One picture of 512 px, {run['steps']} steps, {loss}; the largest resident memory of a "
        f"process on a CPU. Measured: {table.machine(run)}; diffusers {run['diffusers']}."
    )


def _of_datasets(report: Mapping[str, Any]) -> str:
    """What was measured, beneath the table of datasets."""
    run, rows = report["run"], report["rows"]
    farthest = max(row["differs_by"] for row in rows)
    alike = f"within {farthest:.1g} of each other" if farthest else "the same to the last bit"
    busy = max(row["others_cores"] for row in rows if "others_cores" in row)
    return (
        f"CLS of dinov2-{run['shape']} at {run['size']} px, from JPEG files; the whole call, with "
        "the start of Ray and the loading of the model; memory of all processes together. Again: "
        f"the same call once more, with nothing to do. The two engines' numbers are {alike}. The "
        f"pictures are links to {run['files']} files, so what is on the disk is smaller than it "
        f"would be of others. Measured: {table.machine(run)}; other programs kept at most "
        f"{busy:.1f} cores busy."
    )


def _of_stores(report: Mapping[str, Any]) -> str:
    """What was measured, beneath the table of stores."""
    run = {name: value for name, value in report["run"].items() if name != "others_cores"}
    others = {f"{row['n']:,}": f"{row['others_cores']:.1f}" for row in report["rows"]}
    busy = ", ".join(f"{cores} ({n} vectors)" for n, cores in others.items())
    packages = ", ".join(f"{name} {run[name]}" for name in ("faiss-cpu", "lancedb") if name in run)
    return (
        f"{run['vectors']}, grown; {run['dim']} numbers each. Time / reference: of the processor's "
        f"time for a query, by that of {run['reference']}. Measured: {table.machine(run)}; "
        f"{packages}. Cores that other programs kept busy meanwhile: {busy}; what is measured by "
        "the clock (p50, p99, changes) is longer for it."
    )


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def path_of(name: str) -> Path:
    """File of a passage."""
    return RESULTS / f"{name}.md"


def main() -> int:
    """Writes the files."""
    for name, text in passages().items():
        write_whole(path_of(name), f"{text}\n".encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
