"""One table of all benchmarks, out of their committed results.

    python -m benchmarks.table

Nothing is measured here: what has not been run is named with the command that runs it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks.run_record import RESULTS
from dinov2_helpers import data_dir
from tools.project import Project

OURS = "ours"
OURS_FASTER = "ours in OpenVINO"


class Section(NamedTuple):
    """A part of the table."""

    title: str
    about: str  # the machine, the date, or what to run first
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


def read(path: Path) -> Any:
    """The results in a file; nothing, if it was never written."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def machine(run: Mapping[str, Any]) -> str:
    """When and on what a benchmark ran."""
    threads = f", threads: {run['threads']}" if "threads" in run else ""
    others = f", other programs: {run['others_cores']:.1f} cores" if "others_cores" in run else ""
    return f"{run['date']}, {run['processor']}, {run['cores']} cores{threads}{others}"


def extraction(report: Mapping[str, Any]) -> Section:
    """Ways from files to features, and the floors beneath them."""
    rows = []
    for shape, floor in report["floors"].items():
        for row in report["rows"]:
            if row["shape"] == shape:
                rows.append((shape, row["way"], *_measures(row)))
        for name, taken in (
            ("floor: matrix products", floor["products_seconds"]),
            ("floor: decoding", floor["decoding_seconds"]),
        ):
            rows.append((shape, name, f"{1 / taken:.1f}", "", "", ""))
    heads = ("shape", "way", "pictures/s", "time / ours", "of the floor", "largest difference")
    return Section("From JPEG files to features", machine(report["run"]), heads, rows)


def _measures(row: Mapping[str, Any]) -> tuple[str, ...]:
    if "missing" in row:
        return (row["missing"], "", "", "")
    off = max(row["cls_differs_by"], row["patches_differ_by"])
    return (
        f"{row['pictures_per_second']:.1f}",
        f"{row['times_slower_than_ours']:.2f}",
        f"{row['share_of_products']:.0%}",
        f"{off:.1g}" if row["same"] else f"{off:.1g}: other numbers",
    )


def backends(report: Mapping[str, Any]) -> Section:
    """What computes the features, by the processor's time."""
    rows = [
        (
            row["shape"],
            row["backend"],
            str(row["pictures"]),
            f"{row['least_cpu_ms_each']:.0f}",
            f"{row['times_first']:.2f}",
            f"{row['first_cpu_ms']:,.0f}",
        )
        for row in report["rows"]
    ]
    heads = ("model", "backend", "pictures", "CPU ms each", "time / torch", "first call, CPU ms")
    about = f"{machine(report['run'])}; {report['run']['cpu']}"
    return Section("What computes the features", about, heads, rows)


def large(report: Mapping[str, Any]) -> Section:
    """Ways from large JPEG files to features, by the processor's time."""
    rows = [
        (row["shape"], f"{row['megapixels']} MP", row["way"], *_large_measures(row))
        for row in report["rows"]
    ]
    heads = ("model", "JPEG files of", "way", "CPU ms each", "time / ours")
    return Section("From large photographs to features", machine(report["run"]), heads, rows)


def _large_measures(row: Mapping[str, Any]) -> tuple[str, str]:
    if "missing" in row:
        return row["missing"], ""
    return f"{median(row['cpu_ms_each']):.0f}", f"{row['times_ours']:.2f}"


def growth(report: Mapping[str, Any]) -> Section:
    """Time for each picture and peak memory, by number of pictures."""
    rows = []
    for n in sorted({row["n"] for row in report["rows"]}):
        same = [row for row in report["rows"] if row["n"] == n]
        each = 1000 * median(row["seconds"] / n for row in same)
        rows.append((f"{n:,}", f"{each:.1f}", f"{max(row['peak_mb'] for row in same)}"))
    heads = ("pictures", "ms each", "peak MB")
    return Section("Growth of stream_features", machine(report["run"]), heads, rows)


def datasets(report: Mapping[str, Any]) -> Section:
    """What `extract_dataset` takes with each engine, by number of pictures."""
    rows = [
        (
            f"{row['n']:,}",
            row["engine"],
            f"{row['seconds']:,.0f}",
            f"{row['n'] / row['seconds']:.0f}",
            f"{row['peak_mb']:,}",
            f"{row['files']:,}",
            f"{row['bytes'] / 1e6:.1f}",
            f"{row['again_seconds']:.1f}",
        )
        for row in report["rows"]
    ]
    heads = (
        "pictures", "engine", "s", "pictures/s", "MB at most", "files", "MB on disk", "again, s",
    )  # fmt: skip
    return Section("Growth of extract_dataset", machine(report["run"]), heads, rows)


def anomaly(report: Mapping[str, Any]) -> Section:
    """Detectors: the median category."""
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for row in report["rows"]:
        by_name.setdefault(row["detector"], []).append(row)
    rows = [
        (
            name,
            str(len(same)),
            f"{median(row['remembers_bytes'] for row in same) / 1e6:.2f}",
            f"{median(row['score_ms'] for row in same):.2f}",
            f"{median(row['pass_ms'] for row in same):.1f}",
        )
        for name, same in by_name.items()
    ]
    heads = ("detector", "categories", "remembers MB", "score ms", "model ms")
    return Section("Finding flaws, for each picture", machine(report["run"]), heads, rows)


def indexes(report: Mapping[str, Any]) -> Section:
    """Faiss indexes at the largest size."""
    largest = max(row["n"] for row in report["rows"])
    rows = [
        (
            row["index"],
            row["setting"],
            f"{row['recall']:.3f}",
            f"{row['per_second_1_thread']:,.0f}",
            f"{row['speedup_1_thread']:.1f}",
            f"{row['code_bytes_per_vector']:.0f}",
        )
        for row in report["rows"]
        if row["n"] == largest
    ]
    heads = ("index", "setting", "recall", "queries/s, 1 thread", "times exact", "bytes each")
    return Section(f"Faiss, {largest:,} vectors", machine(report["run"]), heads, rows)


def techniques(report: Mapping[str, Any]) -> Section:
    """The objects of the library, and who computes the same."""
    rows = [
        (row["case"], row["missing"], "", "", "")
        if "missing" in row
        else (row["case"], row["work"], row["given"], f"{row['cpu_ms_each']:.3f}", _beside(row))
        for row in report["rows"]
    ]
    heads = ("object", "work", "given", "CPU ms each", "time / ours")
    return Section("Techniques, for each picture", machine(report["run"]), heads, rows)


def _beside(row: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{other['name']} {other['times_ours']:.2f}"
        + ("" if other.get("same", True) else " (other numbers)")
        for other in row["others"]
    )


def stores(report: Mapping[str, Any]) -> Section:
    """Where vectors are kept: `ImageIndex`, bare Faiss, LanceDB."""
    rows = [(f"{row['n']:,}", row["way"], *_store_measures(row)) for row in report["rows"]]
    heads = (
        "vectors", "way", "recall@10", "p50 ms", "p99 ms", "CPU ms", "time / reference",
        "1 %: p50 ms", "1 %: recall", "build CPU s", "bytes each", "2,000 replaced ms",
        "2,000 deleted ms",
    )  # fmt: skip
    return Section("Keeping and finding vectors", machine(report["run"]), heads, rows)


def _store_measures(row: Mapping[str, Any]) -> tuple[str, ...]:
    if "missing" in row:
        return (row["missing"], *[""] * 10)
    query, condition = row["query"], row["filter"]
    return (
        f"{row['recall']:.3f}",
        f"{query['p50_ms']:.2f}",
        f"{query['p99_ms']:.2f}",
        f"{query['cpu_ms']:.2f}",
        f"{query['times_reference']:.2f}" if "times_reference" in query else "",
        f"{condition['p50_ms']:.2f}",
        f"{condition['recall']:.3f}" if condition["obeyed"] else "disobeyed",
        f"{row['build']['cpu_seconds']:.1f}",
        f"{row['bytes'] / row['n']:,.0f}",
        _change(row, "replace"),
        _change(row, "delete"),
    )


def _change(row: Mapping[str, Any], what: str) -> str:
    """Milliseconds that a change took, if it could be made and was seen."""
    if "impossible" in row:
        return "impossible"
    return f"{1000 * row[what]['seconds']:,.0f}" if row[what]["seen"] else "not seen"


def workshop(report: Mapping[str, Any]) -> Section:
    """What kernels that run a lesson from the workshop kit at once take, each."""
    rows = [
        (
            str(row["kernels"]),
            f"{row['first_picture_seconds']:.0f} s",
            f"{row['seconds']:.0f} s",
            f"{row['peak_mb']:,} MB",
            f"{row['loaded_proportional_mb']:,} MB",
        )
        for row in report["rows"]
    ]
    heads = (
        "kernels at once", "first picture after", "last cell after", "memory of each, at most",
        "of each at the end, shared pages divided",
    )  # fmt: skip
    return Section("A room with the workshop kit", machine(report["run"]), heads, rows)


def notebooks(costs: Mapping[str, Any]) -> Section:
    """What each notebook costs."""
    rows = [(stem, f"{cost['seconds']:.0f}", f"{cost['peak_mb']}") for stem, cost in costs.items()]
    seconds = sum(cost["seconds"] for cost in costs.values())
    peak = max(cost["peak_mb"] for cost in costs.values())
    rows.append(("all", f"{seconds:.0f}", f"{peak}"))
    cores = {cost["cores"] for cost in costs.values()}
    about = f"cores: {', '.join(map(str, sorted(cores)))}"
    return Section("Notebooks", about, ("notebook", "seconds", "peak MB"), rows)


def sections() -> list[Section]:
    """All parts of the table; one that was never measured says what to run."""
    known = (
        ("extraction", extraction, RESULTS / "extraction.json", "-m benchmarks.extraction"),
        ("backends", backends, RESULTS / "backends.json", "-m benchmarks.backends"),
        (
            "large photographs",
            large,
            RESULTS / "large_pictures.json",
            "-m benchmarks.large_pictures",
        ),
        (
            "growth",
            growth,
            RESULTS / "growth.json",
            "-m benchmarks.growth",
        ),
        (
            "datasets",
            datasets,
            RESULTS / "dataset_growth.json",
            "-m benchmarks.dataset_growth",
        ),
        ("anomaly", anomaly, RESULTS / "anomaly.json", "-m benchmarks.anomaly"),
        (
            "Faiss",
            indexes,
            data_dir() / "benchmarks" / "faiss_indexes.json",
            "-m benchmarks.faiss_indexes",
        ),
        ("techniques", techniques, RESULTS / "techniques.json", "-m benchmarks.techniques"),
        ("stores", stores, RESULTS / "stores.json", "-m benchmarks.stores"),
        (
            "workshop",
            workshop,
            RESULTS / "workshop_trial.json",
            "-m benchmarks.workshop_trial KIT.zip",
        ),
        ("notebooks", notebooks, Project().results / "costs.json", "-m tools.notebooks execute"),
    )
    return [
        build(report)
        if (report := read(path))
        else Section(name, f"not measured yet: python {command}", (), ())
        for name, build, path, command in known
    ]


def text(section: Section) -> str:
    """A part as text with aligned columns, numbers to the right."""
    lines = [section.title, section.about]
    if section.rows:
        table = [section.heads, *section.rows]
        widths = [max(len(row[i]) for row in table) for i in range(len(section.heads))]
        # judged by the first row, as the others may lack a measure
        numeric = [
            cell.strip("%").replace(",", "").replace(".", "").isdigit() for cell in section.rows[0]
        ]
        for row in table:
            cells = (
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(row, widths, numeric, strict=True)
            )
            lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)


def readme_heads() -> list[str]:
    """Heads of `readme_rows`."""
    return [
        "model",
        "pictures per second",
        "of the floor",
        *(f"{w}: time / ours" for w in _others()),
    ]


def _others() -> list[str]:
    """The ways besides ours that were measured, in the order of the results."""
    rows = (read(RESULTS / "extraction.json") or {"rows": []})["rows"]
    found = [row["way"] for row in rows if "missing" not in row and row["way"] != OURS]
    return list(dict.fromkeys(found))


def readme_rows() -> list[list[str]]:
    """A row for each shape: our speed, its share of the floor, and how many times each other's."""
    report = read(RESULTS / "extraction.json") or {"floors": {}, "rows": []}
    rows = []
    for shape in report["floors"]:
        here = {row["way"]: row for row in report["rows"] if row["shape"] == shape}
        own = here[OURS]
        cells = [shape, f"{own['pictures_per_second']:.1f}", f"{own['share_of_products']:.0%}"]
        for way in _others():
            ratio = here.get(way, {}).get("times_slower_than_ours")
            cells.append(f"{ratio:.2f}" if ratio else "")
        rows.append(cells)
    return rows


def _farthest(rows: Sequence[dict[str, Any]]) -> float:
    """The largest difference of any feature from ours."""
    return max((max(row["cls_differs_by"], row["patches_differ_by"]) for row in rows), default=0)


def readme_lines() -> list[str]:
    """Sentences for docs/scaling.md beneath `readme_rows`: the machine, and what growth costs."""
    lines = []
    if report := read(RESULTS / "extraction.json"):
        compared = [row for row in report["rows"] if "missing" not in row and row["way"] != OURS]
        same = [row for row in compared if row["same"]]
        other = [row for row in compared if not row["same"]]
        lines.append(
            f"Measured: {machine(report['run'])}; single precision; features within "
            f"{_farthest(same):.1g} of ours. The floor is the time of the model's matrix products "
            "alone, at the best rate of any matrix product in the same run."
        )
        if other:
            ways = ", ".join(dict.fromkeys(row["way"] for row in other))
            lines.append(
                f"Not the same numbers, but up to {_farthest(other):.1g} from them: {ways}."
            )
        slower = {row["way"] for row in compared if row["times_slower_than_ours"] > 1}
        if faster := sorted({row["way"] for row in compared} - slower):
            lines.append(f"Faster than ours in PyTorch for every model: {', '.join(faster)}.")
        if best := [row for row in compared if row["way"] == OURS_FASTER]:
            shares = ", ".join(f"{row['share_of_products']:.0%} ({row['shape']})" for row in best)
            lines.append(f"Share of the floor of {OURS_FASTER}: {shares}.")
    if report := read(RESULTS / "growth.json"):
        rows = sorted(report["rows"], key=lambda row: row["n"])
        least, most = rows[0]["n"], rows[-1]["n"]
        each = {
            n: 1000 * median(row["seconds"] / n for row in rows if row["n"] == n)
            for n in (least, most)
        }
        peak = max(row["peak_mb"] for row in rows)
        lines.append(
            f"From {least:,} to {most:,} pictures at {report['run']['size']} px, `stream_features` "
            f"takes {each[least]:.1f} and {each[most]:.1f} ms for each on the embedded model, and "
            f"at most {peak:,} MB ([plot](../benchmarks/results/growth.png))."
        )
    return lines


def main() -> int:
    """Prints the table."""
    print("\n\n".join(text(section) for section in sections()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
