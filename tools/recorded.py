"""Recorded numbers and verdicts: merged into notebooks/results, compared with fresh ones."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from dinov2_helpers.writing import write_whole

OWNERS = "owners.json"  # which notebook has recorded which entry, by file and key
RELATIVE_TOLERANCE = 0.02
ABSOLUTE_TOLERANCE = 0.01
# Keys that end like this depend on the machine: they must exist, their values may differ.
MACHINE_DEPENDENT = ("_seconds", "_ms", "_per_second", "_mb")


def read(path: Path) -> dict[str, Any]:
    """The entries of a results file; none if there is no such file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write(path: Path, entries: Mapping[str, Any]) -> None:
    """Writes a sorted results file, as `dinov2_helpers.claims` does."""
    text = json.dumps(entries, indent=2, sort_keys=True, ensure_ascii=False)
    write_whole(path, f"{text}\n".encode())


def files(profile: str) -> tuple[str, str]:
    """Names of the two results files of a profile: numbers, and rows of the claims ledger."""
    return f"{profile}.json", f"{profile}_claims.json"


def merge(stem: str, fresh: Path, committed: Path, profile: str) -> None:
    """Puts what a notebook recorded afresh in place of all that it had recorded before.

    Args:
        stem: name of the notebook, as "01_feature_space". Its evidence has keys that start with
            the same number: `OWNERS` says which notebook has recorded which.
        fresh: folder in which it recorded this time.
        committed: folder of the results of all notebooks.
        profile: profile that it ran under.

    Raises:
        ValueError: another notebook records the same key.
    """
    owners = read(committed / OWNERS)
    merged = {}
    for name in files(profile):
        fresh_entries = read(fresh / name)
        owned = owners.get(name, {})
        others = {}
        for key, entry in read(committed / name).items():
            if not _is_of(stem, key, owned.get(key)):
                others[key] = entry
        for key in sorted(others.keys() & fresh_entries):
            raise ValueError(f"{stem} records {key}, which {owned.get(key)} records too")
        merged[name] = others | fresh_entries
        owned = {key: owner for key, owner in owned.items() if key in others}
        owners[name] = owned | {key: stem for key in fresh_entries}
    for name, entries in merged.items():
        write(committed / name, entries)
    write(committed / OWNERS, owners)


def _is_of(stem: str, key: str, owner: str | None) -> bool:
    """Whether a notebook has recorded an entry; where nobody knows, its number says so."""
    number = Path(stem).name.split("_")[0]
    return key.startswith(f"{number}.") if owner is None else owner == stem


def differences(
    committed: Path, fresh: Path, profile: str, stems: Collection[str] | None = None
) -> list[str]:
    """What is no longer true of the committed results, one sentence each.

    Numbers may differ by 2 % and 0.01 together, verdicts of claims not at all.

    Args:
        committed: folder of the committed results.
        fresh: folder of the results that notebooks recorded now.
        profile: profile that they ran under.
        stems: the notebooks that ran; None: all.
    """
    problems = []
    owners = read(committed / OWNERS)
    for name in files(profile):
        old, new = read(committed / name), read(fresh / name)
        if stems is not None:
            owner_of = owners.get(name, {})
            old = {key: entry for key, entry in old.items() if owner_of.get(key) in stems}
        problems += [f"{name}: {key} is no longer recorded" for key in old.keys() - new]
        problems += [f"{name}: {key} is not committed" for key in new.keys() - old]
        for key in old.keys() & new.keys():
            if not _agree(key, old[key], new[key]):
                problems.append(f"{name}: {key} was {_say(old[key])}, is now {_say(new[key])}")
    return sorted(problems)


def _agree(key: str, old: Any, new: Any) -> bool:
    if isinstance(old, dict):
        return old["verdict"] == new["verdict"]
    return key.endswith(MACHINE_DEPENDENT) or abs(new - old) <= _tolerance(old)


def lowest(value: float) -> float:
    """The lowest number that still counts as this one, on another machine."""
    return value - _tolerance(value)


def _tolerance(value: float) -> float:
    return ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * abs(value)


def _say(entry: Any) -> str:
    return entry["verdict"] if isinstance(entry, dict) else f"{entry:g}"
