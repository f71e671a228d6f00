"""A Parquet dataset of features, brought up to date with its source as often as it is called."""

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from .extractor import (
    DamagedError,
    Extractor,
    Job,
    Made,
    Written,
    length_of,
    open_part,
    read_columns,
    read_written,
)
from .model import CODE_VERSION, Backend, Source, check_backend, fingerprint, locate_model
from .parts import AT_ONCE, RECORD, Ids, Item, Listing, Part, cut, list_source, name_of
from .stores import (
    WAITS,
    Location,
    absolute,
    log,
    open_place,
    patiently,
    remove_stale,
    write_whole,
)

FORMAT = 2  # of the dataset; 1 had names for parts only
ROUNDS = 5  # of putting right what another run on the same folder has changed meanwhile
Engine = Literal["local", "ray"]


class Summary(NamedTuple):
    """What a dataset has, and what a run did.

    Example:
        >>> extract_dataset("holiday", "other", "tiny")
        Summary(parts=1, made=1, pictures=1, errors=0, again=0, removed=0)
        >>> extract_dataset("holiday", "other", "tiny").made  # it is there
        0
    """

    parts: int
    made: int  # in this run, whole or in part; the others were there
    pictures: int  # rows with features
    errors: int  # rows without, for pictures that cannot be read
    again: int = 0  # rows without, or without a file, that the next call tries again
    removed: int = 0  # rows dropped in this run, for pictures that are no longer there

    def __str__(self) -> str:
        return (
            f"{self.parts} parts, {self.made} of them made now; "
            f"{self.pictures} pictures, {self.errors} that cannot be read, "
            f"{self.again} to be tried again, {self.removed} removed"
        )


class Plan(NamedTuple):
    """What brings a dataset up to date."""

    make: list[Part]
    remove: list[str]  # names of parts of which nothing is left
    dropped: int  # rows of pictures that are no longer there


class Workers(NamedTuple):
    """Who makes the parts."""

    engine: Engine
    workers: int
    cpus: float
    gpus: float


def extract_dataset(
    source: Location,
    out: Location,
    model: Source = None,
    *,
    engine: Engine = "local",
    workers: int = 1,
    cpus: float = 1,
    gpus: float = 0,
    part: int = 1024,
    patches: bool = False,
    backend: Backend = "auto",
    dtype: Any = None,
    column: str | None = None,
    ids: Ids = "source",
    retry_waits: Sequence[float] = WAITS,
    **settings: Any,
) -> Summary:
    """Extract the features of a source into a Parquet dataset; call it again to go on.

    A later call makes what is missing, new, replaced or to be tried again, and drops the rows of
    files that are gone; the rest stays as it is. A file is taken for replaced when its size or its
    time (or the checksum that its store gives) is another. The source may have moved.

    The dataset has one file for each part and these columns: "id" (string), as `list_parts` says;
    "cls", a list of D float32, null where the picture cannot be read; with `patches` also
    "patches", a list of h x w x D float32, row by row; "error" (string), why it cannot be read,
    else null; "stamp" (string), size and time of the file that was read, null if none was; "again"
    (boolean), whether the error is a passing one.

    A lost connection, a time-out and the like are tried again after each of `retry_waits`. What
    fails then too is a row with `again`, or, of Parquet files, a row group without rows; the next
    call tries it again.

    Args:
        source: As for `list_parts`, as are `part`, `column` and `ids`.
        out: A folder of its own: new, or one of this function's.
        model: As for `load_dinov2`.
        engine: "local": in this process; "ray": on a Ray cluster, the one that RAY_ADDRESS names or
            a new one on this machine, by a pool of actors.
        workers: Actors of Ray.
        cpus: Cores of each, which are its threads.
        gpus: GPUs of each, or a share of one.
        part: Pictures per file; with patches 1024 take hundreds of MB.
        patches: Whether patch tokens are kept too; needs fit="crop", the default.
        backend: What computes: "auto", "torch", "onednn" or "openvino" (on CPUs, with fit="crop").
            The numbers are the same to 1e-5: a later call may name another.
        dtype: Number format of the model, "float32" (None), "float16" or "bfloat16". The dataset
            has float32 in any case.
        column: Column of the bytes, where Parquet files have several.
        ids: Whether ids of rows of Parquet files are theirs ("source") or their places ("row").
        retry_waits: Seconds between tries.
        settings: Of `extract_features`: size, fit, exact, batch_size, and no others.

    Raises:
        ModelError: The model cannot be had.
        TypeError: A setting that the dataset has no column for.
        ValueError: `out` has features of another source, model or setting, or is the source itself;
            or its record of them is damaged, or lost and its parts do not say that they are of
            these; or an argument is none of those that there are.
        FileNotFoundError, ValueError: As `list_parts`.
        StoreDownError: None of 16 or more pictures in a row can be read, for passing reasons.

    Example:
        >>> summary = extract_dataset("holiday", "features", "tiny")
        >>> summary.pictures, summary.errors
        (1, 0)
    """
    dtype = str(dtype or "float32").removeprefix("torch.")
    _check(engine, part, patches, settings)
    check_backend(backend, dtype, settings.get("fit", "crop"))
    waits = tuple(retry_waits)
    listing = list_source(source, column=column, ids=ids, waits=waits)
    if absolute(source).rstrip("/") == absolute(out).rstrip("/"):
        raise ValueError(f"{out}: the source itself; name a folder of its own for the features")
    name, folder, model = locate_model(model)
    job = Job(
        source=absolute(source),
        out=absolute(out),
        model=model,
        backend=backend,
        dtype=dtype,
        patches=patches,
        column=column,
        ids=ids,
        waits=waits,
        settings=settings,
        record=_depends_on(dtype, patches, ids, listing.column, settings) | fingerprint(folder),
    )
    known = survey(job, verify=True)  # once a call; what is made in it was written a moment ago
    _check_overlap(job, known, listing)
    _agree(job, name)
    hands = Workers(engine, workers, cpus, gpus)
    summary = _bring_up_to_date(job, listing, known, part, hands)
    _agree(job, name)  # a run that began in the same moment had the same
    return summary


def read_features(file: Location) -> tuple[list[str], NDArray[np.float32]]:
    """Return ids and CLS features, (N, D), of a file of a dataset, without pictures left out.

    Raises:
        ValueError: The file is no part of a dataset, or not as it was written.

    Example:
        >>> summary = extract_dataset("holiday", "features", "tiny")
        >>> ids, cls = read_features("features/part-000000.parquet")
        >>> ids, cls.shape
        (['3.png'], (1, 192))
    """
    fs, path = open_place(file)
    try:
        with open_part(fs, path) as opened:
            table = read_columns(opened, ["id", "cls", "error"])
            table = table.filter(table["error"].is_null())
            numbers = table["cls"].combine_chunks().flatten().to_numpy()
            cls = numbers.reshape(len(table), length_of(table.field("cls")))
            return table["id"].to_pylist(), cls
    except DamagedError as error:
        raise DamagedError(f"{error}; extract_dataset, called again, makes it again") from error


def survey(job: Job, *, verify: bool = False) -> list[Written]:
    """Return what a dataset has, part by part in the order of their names.

    Damaged parts go, and those that were made of something else than the record says; but none of
    a folder without a record, of which nothing says that it is a dataset of this job's.

    Args:
        job: Of the dataset.
        verify: Whether the features are read too; else only the small columns are.

    Raises:
        ValueError: The folder's record is another or damaged; or there is none, and a part is
            damaged or does not say that it was made of the job's.
    """
    fs, out = open_place(job.out)
    fs.invalidate_cache()
    has_record = _has_record(job)

    def read(path: str) -> Written | None:
        try:
            written = patiently(lambda: read_written(fs, path, verify=verify), job.waits)
        except FileNotFoundError:  # another run has removed it meanwhile
            return None
        except DamagedError as error:
            fault = str(error)
        else:
            is_ours = job.fits(written.made_of) if has_record else written.made_of == job.made_of
            if is_ours:
                return written
            fault = f"{path} does not say that it was made with these settings and this model"
        if not has_record:
            raise ValueError(
                f"{out} has parts but no {RECORD}, and {fault}: "
                f"put {RECORD} back, or name another folder"
            )
        log.warning("%s; it is made again", fault)
        _remove(fs, path)
        return None

    try:
        listed = patiently(lambda: fs.ls(out, detail=False), job.waits)
    except FileNotFoundError:
        return []
    names = sorted(str(path).rpartition("/")[2] for path in listed)
    parts = [name for name in names if name.startswith("part-") and name.endswith(".parquet")]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(read, (f"{out}/{name}" for name in parts)))
    return [one for one in found if one is not None]


def plan(known: list[Written], listing: Listing, part: int, *, first: bool) -> Plan:
    """Compare what a dataset has with its source.

    Args:
        known: The parts that there are.
        listing: The source.
        part: Pictures per new part.
        first: Whether nothing was tried in this run; rows that could not be read are made again
            once in each.
    """
    wanted = {item.id: item for item in listing.items}
    covered: set[str] = set()
    make = []
    remove = []
    dropped = 0
    for file in known:
        kept = []
        untouched = len(file.ids) == len(set(file.ids))
        for id_, stamp in zip(file.ids, file.stamps, strict=True):
            item = wanted.get(id_) or _out_of_sight(id_, stamp, listing)
            dropped += item is None
            if item is None or id_ in covered:
                untouched = False
                continue
            covered.add(id_)
            kept.append(item)
            untouched &= stamp == item.stamp or (stamp is None and not first)
        if not kept:
            remove.append(file.name)
        elif not untouched:
            make.append(Part(file.name, kept))
    new = [item for item in listing.items if item.id not in covered]
    taken = {file.name for file in known}
    make += [_renamed(one, taken) for one in cut(new, listing.items, part)]
    return Plan(make, remove, dropped)


def _out_of_sight(id_: str, stamp: str | None, listing: Listing) -> Item | None:
    """Return a picture in a folder that cannot be listed now: what is known of it stays."""
    for folder in listing.unlisted:
        if id_.startswith(f"{folder}/"):
            return Item(id_, f"{listing.root}/{name_of(id_)}", stamp or "")
    return None


def _renamed(part: Part, taken: set[str]) -> Part:
    """Return a part by a name that two runs at once give to the same pictures alone."""
    if part.name not in taken:
        return part
    digest = hashlib.sha256("\n".join(item.id for item in part.items).encode()).hexdigest()
    return part._replace(name=f"{part.name}-{digest[:12]}")


def _bring_up_to_date(
    job: Job, listing: Listing, known: list[Written], part: int, workers: Workers
) -> Summary:
    """Make what a plan says, and look again: another run may work on the same folder."""
    fs, out = open_place(job.out)
    made: set[str] = set()
    unread: dict[str, int] = {}  # rows of parts that have no file, by name
    removed = 0
    for round_ in range(ROUNDS):
        steps = plan(known, listing, part, first=round_ == 0)
        todo = [one for one in steps.make if one.name not in unread]
        if not todo and not steps.remove:
            break
        for name in steps.remove:
            _remove(fs, f"{out}/{name}.parquet")
        for one in _make(todo, job, workers):
            if one.made:
                made.add(one.name)
            if one.unread:
                unread[one.name] = one.unread
        removed += steps.dropped
        known = survey(job)
    else:
        raise RuntimeError(f"{out}: other runs keep changing it; call again when they have ended")
    remove_stale(fs, out)
    pictures = sum(one.rows - one.errors - one.again for one in known)
    errors = sum(one.errors for one in known)
    again = sum(one.again for one in known) + sum(unread.values())
    return Summary(len(known), len(made), pictures, errors, again, removed)


def _make(parts: list[Part], job: Job, workers: Workers) -> list[Made]:
    if not parts:
        return []
    if workers.engine == "local":
        extractor = Extractor(job)
        return [extractor.make(part) for part in tqdm(parts, disable=None)]
    from .on_ray import make_parts

    _, number, cpus, gpus = workers
    return make_parts(parts, job, workers=number, cpus=cpus, gpus=gpus)


def _remove(fs: Any, path: str) -> None:
    if fs.exists(path):
        fs.rm_file(path)


def _check(engine: str, part: int, patches: bool, settings: dict[str, Any]) -> None:
    if part < 1:
        raise ValueError(f"part={part}: 1 or more")
    if patches and settings.get("fit", "crop") != "crop":
        raise ValueError(
            f"patches=True needs fit='crop', not {settings['fit']!r}: one grid for all"
        )
    if others := settings.keys() - {"size", "fit", "exact", "batch_size"}:
        raise TypeError(
            f"{sorted(others)}: of the settings only size, fit, exact and batch_size are known"
        )
    if engine not in ("local", "ray"):
        raise ValueError(f"engine {engine!r} is neither 'local' nor 'ray'")


def _check_overlap(job: Job, known: list[Written], listing: Listing) -> None:
    """Refuse a source that shares nothing with what there is: its rows would all be dropped."""
    wanted = {item.id for item in listing.items}
    ids = [id_ for one in known for id_ in one.ids]
    if ids and wanted.isdisjoint(ids):
        raise ValueError(
            f"{job.out} was made with other pictures: none of its {len(ids)} is in {job.source}; "
            "name another folder"
        )


def _depends_on(
    dtype: str, patches: bool, ids: Ids, column: str | None, settings: dict[str, Any]
) -> dict[str, Any]:
    """Return what the numbers depend on, but for the model's files.

    Not the batch size nor the backend, on which no number depends beyond 1e-5: a run may go on with
    others.
    """
    return {
        "format": FORMAT,
        "code": CODE_VERSION,
        "dtype": dtype,
        "fit": settings.get("fit", "crop"),
        "size": settings.get("size"),
        "exact": settings.get("exact", False),
        "patches": patches,
        "column": column,
        "ids": ids,
    }


def _agree(job: Job, model: str) -> None:
    """Write what a dataset is made of beside it, or compare with what is there."""
    if _has_record(job):
        return
    fs, out = open_place(job.out)
    text = json.dumps({"model": model} | job.record, indent=2)
    write_whole(fs, f"{out}/{RECORD}", text.encode(), job.waits)


def _has_record(job: Job) -> bool:
    """Tell whether a dataset says what it is made of; raise a ValueError if it is another."""
    fs, out = open_place(job.out)
    path = f"{out}/{RECORD}"
    if not patiently(lambda: fs.exists(path), job.waits):
        return False
    data = patiently(lambda: fs.cat_file(path), job.waits)
    remedy = "remove it and call again, or name another folder"
    try:
        known = json.loads(data)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; {remedy}") from error
    if not isinstance(known, dict):
        raise ValueError(f"{path} is damaged: {known!r} is no record; {remedy}")
    others = [key for key in job.record if key not in known or known[key] != job.record[key]]
    if others:
        raise ValueError(f"{out} was made with other {', '.join(others)}: name another folder")
    return True
