"""Features of more pictures than one run takes, or one machine: a Parquet dataset, part by part.

The pictures are cut into parts, in the order of their names. A part is read, its features are
extracted by `dinov2_helpers`, and it is written as one file, whole or not at all. A part that is
there is not made again: a run that was stopped, or that lost a worker, goes on where it was,
without loss and without doubles. The engines "local" and "ray" differ in who calls `Extractor` on
which part, and in nothing else.

Needs `pip install '.[scale]'`. Paths are those of fsspec: local ones, s3://, gs://,
hdfs://, ... where the package for it is installed.
"""

import contextlib
import hashlib
import io
import json
import logging
import os
import secrets
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from dinov2_helpers.features import Features
from dinov2_helpers.images import SUFFIXES, iter_images
from numpy.typing import NDArray
from tqdm import tqdm

from dinov2_helpers import load_dinov2, stream_features
from dinov2_helpers.models import Source, locate

from .openvino import with_openvino

__all__ = [
    "Extractor",
    "Part",
    "Summary",
    "extract_dataset",
    "list_parts",
    "read_features",
    "with_openvino",
]
CHUNK = 256  # pictures in memory at once
RECORD = "_dataset.json"  # readers of datasets pass over names that start with _ or .


class Part(NamedTuple):
    """What one call works on: pictures, or one row group of a Parquet file of pictures."""

    name: str  # of its file, without the suffix
    root: str  # of the source; ids of pictures are relative to it
    items: list[str]  # paths of pictures, or of one Parquet file
    row_group: int = -1  # of that file; -1: pictures


class Summary(NamedTuple):
    """What a run did."""

    parts: int
    made: int  # in this run; the others were there
    pictures: int  # rows with features
    errors: int  # rows without, for pictures that cannot be read

    def __str__(self) -> str:
        return (
            f"{self.parts} parts, {self.made} of them made now; "
            f"{self.pictures} pictures, {self.errors} that cannot be read"
        )


def list_parts(source: str | os.PathLike[str], part: int = 1024) -> list[Part]:
    """Cut a source into parts.

    Args:
        source: A folder or a glob of pictures; or of Parquet files, or one, with a column of the
            bytes of image files (or of Hugging Face's struct with "bytes").
        part: Pictures per part. Of Parquet files each row group is a part.

    Raises:
        FileNotFoundError: There is neither a picture nor a Parquet file.
        ValueError: There are both, or two names that differ in nothing but their place.
    """
    fs, path = fsspec.url_to_fs(os.fspath(source))
    pattern = "*" in path
    root = path.split("*")[0].rpartition("/")[0] if pattern else path
    local = "file" in fs.protocol and not pattern and fs.isdir(path)
    found = sorted(fs.glob(path) if pattern else fs.find(path))
    found = [file for file in found if "/." not in f"/{_relative(file, root)}"]
    tables = [file for file in found if file.endswith(".parquet")]
    tables = [file for file in tables if "/_" not in f"/{_relative(file, root)}"]
    pictures = [file for file in found if PurePosixPath(file).suffix.lower() in SUFFIXES]
    if local and not tables:  # by the rules for a reader's folder: no link out of it
        pictures = [path.as_posix() for path in iter_images(root)]
    if bool(tables) == bool(pictures):
        many = f"{len(pictures)} pictures and {len(tables)} Parquet files"
        raise (ValueError if tables else FileNotFoundError)(f"{source}: {many}; name one kind")
    if pictures:
        cuts = range(0, len(pictures), part)
        return [
            Part(f"part-{i:06d}", root, pictures[start : start + part])
            for i, start in enumerate(cuts)
        ]
    groups = []
    for table in tables:
        with fs.open(table) as file:
            count = pq.ParquetFile(file).metadata.num_row_groups
        groups += [(table, group) for group in range(count)]
    base = path if fs.isdir(path) or pattern else path.rpartition("/")[0]
    return [Part(f"part-{i:06d}", base, [t], group) for i, (t, group) in enumerate(groups)]


def _relative(file: str, root: str) -> str:
    return file.removeprefix(root).lstrip("/") or PurePosixPath(file).name


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(2**24):
            yield piece


def _sha256(pieces: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


class Extractor:
    """A loaded model that turns parts into files; one in each worker.

    Args:
        source, out: Where the pictures are, and the folder of the dataset.
        model: As for `load_dinov2`.
        patches: Whether patch tokens are kept too, all of one grid: needs fit="crop".
        openvino: Whether `with_openvino` computes: needs fit="crop" too.
        settings: Of `extract_features`.
    """

    def __init__(
        self,
        source: str,
        out: str,
        model: Source,
        patches: bool,
        openvino: bool,
        settings: dict[str, Any],
    ) -> None:
        self.source = fsspec.url_to_fs(source)[0]
        self.fs, self.out = fsspec.url_to_fs(out)
        self.patches, self.settings = patches, settings
        with contextlib.redirect_stdout(io.StringIO()):
            self.model = load_dinov2(model, device="cpu" if openvino else None)
        if openvino:
            self.model = with_openvino(self.model, settings.get("size"))

    def __call__(self, part: dict[str, Any]) -> dict[str, Any]:
        """Make a part, `Part._asdict()`, unless it is there; say its name, rows, errors."""
        target = f"{self.out}/{part['name']}.parquet"
        made = not self.fs.exists(target)
        if made:
            self._write(self._table(Part(**part)), target)
        with self.fs.open(target) as file:
            table = pq.ParquetFile(file)
            errors = len(table.read(["error"])["error"].drop_null())
            return {
                "name": part["name"],
                "rows": table.metadata.num_rows,
                "errors": errors,
                "made": made,
            }

    def _table(self, part: Part) -> pa.Table:
        ids: list[str] = []
        unread: dict[int, str] = {}

        def pictures() -> Iterator[bytes]:
            for name, data in self._read(part):
                if not isinstance(data, bytes):
                    unread[len(ids)] = f"{type(data).__name__}: {data}"
                ids.append(name)
                yield data if isinstance(data, bytes) else b""

        options = {"patches": self.patches} | self.settings
        with contextlib.redirect_stdout(io.StringIO()):  # what is skipped becomes rows
            streamed = stream_features(self.model, pictures(), chunk=CHUNK, **options)
            return pa.concat_tables([self._rows(found, ids, unread) for found in streamed])

    def _read(self, part: Part) -> Iterator[tuple[str, Any]]:
        """Yield id and bytes of each picture of a part; an exception where it cannot be read."""
        if part.row_group < 0:
            with ThreadPoolExecutor(16) as pool:  # object stores answer many in the time of one
                for start in range(0, len(part.items), CHUNK):
                    paths = part.items[start : start + CHUNK]
                    names = (_relative(path, part.root) for path in paths)
                    yield from zip(names, pool.map(self._fetch, paths), strict=True)
            return
        [path] = part.items
        with self.source.open(path) as file:
            table = pq.ParquetFile(file).read_row_group(part.row_group)
        column = _bytes_column(table.schema, path)
        values = table[column].to_pylist()
        group = f"{_relative(path, part.root)}:{part.row_group}"
        ids = table["id"].to_pylist() if "id" in table.column_names else None
        for i, value in enumerate(values):
            data = value.get("bytes") if isinstance(value, dict) else value
            known = data if isinstance(data, bytes) else ValueError("no bytes in this row")
            yield (str(ids[i]) if ids else f"{group}:{i}"), known

    def _fetch(self, path: str) -> Any:
        try:
            return self.source.cat_file(path)
        except OSError as error:
            return error

    def _rows(self, found: Features, ids: list[str], unread: dict[int, str]) -> pa.Table:
        """Return one row for each picture of a chunk, in its order."""
        reasons = {one.index: unread.get(one.index, one.reason) for one in found.skipped}
        order = sorted([*found.index.tolist(), *reasons])
        where = np.searchsorted(order, found.index)
        bad = np.array([index in reasons for index in order], bool)

        def lists(values: NDArray[np.float32], width: int) -> pa.Array:
            rows = np.zeros((len(order), width), np.float32)
            rows[where] = values.reshape(len(found), width)
            return pa.FixedSizeListArray.from_arrays(rows.ravel(), width, mask=pa.array(bad))

        columns = {
            "id": pa.array([ids[index] for index in order], pa.string()),
            "cls": lists(found.cls, self.model.dim),
            "error": pa.array([reasons.get(index) for index in order], pa.string()),
        }
        if self.patches:
            side = self.settings.get("size") or self.model.processor.crop_size["height"]
            width = max(1, round(side / self.model.patch_size)) ** 2 * self.model.dim
            columns["patches"] = lists(np.array(found.patches, np.float32), width)
        return pa.table(columns)

    def _write(self, table: pa.Table, target: str) -> None:
        """Write a file that is never seen by halves: aside, then renamed (or copied) whole."""
        pq.write_table(table, buffer := io.BytesIO(), compression="zstd")
        aside = f"{self.out}/_partial/{secrets.token_hex(8)}"
        self.fs.makedirs(f"{self.out}/_partial", exist_ok=True)
        self.fs.pipe_file(aside, buffer.getvalue())
        self.fs.mv(aside, target)


def _bytes_column(schema: pa.Schema, path: str) -> str:
    def holds(kind: pa.DataType) -> bool:
        if pa.types.is_struct(kind):
            return any(field.name == "bytes" for field in kind)
        return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)

    names = [field.name for field in schema if holds(field.type)]
    if len(names) != 1:
        raise ValueError(f"{path}: {len(names)} columns with bytes {names}; there must be one")
    return names[0]


def extract_dataset(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    model: Source = None,
    *,
    engine: Literal["local", "ray"] = "local",
    workers: int = 1,
    cpus: float = 1,
    gpus: float = 0,
    part: int = 1024,
    patches: bool = False,
    openvino: bool = False,
    **settings: Any,
) -> Summary:
    """Extract the features of a source into a Parquet dataset; call it again to go on.

    The dataset has one file for each part and these columns: "id", the picture's path below the
    source (in Parquet sources its column "id", else file:row group:row); "cls", D float32, null
    where the picture cannot be read; "error", then why, else null; with `patches` also "patches",
    h x w x D float32, row by row.

    Args:
        source: As for `list_parts`.
        out: A folder, new or from a run that stopped.
        model: As for `load_dinov2`.
        engine: "local": in this process; "ray": on a Ray cluster, the one that RAY_ADDRESS names or
            a new one on this machine, by a pool of actors.
        workers: Actors of Ray.
        cpus: Cores of each, which are its threads.
        gpus: GPUs of each, or a share of one.
        part: Pictures per file; with patches 1024 take hundreds of MB.
        patches: Whether patch tokens are kept too; needs fit="crop", the default.
        openvino: Whether OpenVINO computes, on CPUs, see `with_openvino`; needs fit="crop".
        settings: Of `extract_features`: size, fit, batch_size, and no others.

    Raises:
        ModelError: The model cannot be had.
        TypeError: A setting that the dataset has no column for.
        ValueError: `out` has features of another source, model or setting.
        FileNotFoundError, ValueError: As `list_parts`.
    """
    for name, wanted in {"patches": patches, "openvino": openvino}.items():
        if wanted and settings.get("fit", "crop") != "crop":
            fit = settings["fit"]
            raise ValueError(f"{name}=True needs fit='crop', not {fit!r}: one grid for all")
    if others := settings.keys() - {"size", "fit", "batch_size"}:
        raise TypeError(
            f"{sorted(others)}: of the settings only size, fit and batch_size are known"
        )
    if engine not in ("local", "ray"):
        raise ValueError(f"engine {engine!r} is neither 'local' nor 'ray'")
    source, out = os.fspath(source), os.fspath(out)
    parts = list_parts(source, part)
    name, folder = locate("DINOv2", model, ["*.json", "model*.safetensors"], ["model*.safetensors"])
    weights = sorted(Path(folder).glob("model*.safetensors"))
    record: dict[str, Any] = {
        "pictures": _sha256(json.dumps(p).encode() for p in parts),
        "parts": len(parts),
        "model": name,
        "weights": _sha256(piece for path in weights for piece in _pieces(path)),
        "patches": patches,
        # not the batch size or OpenVINO, on which no number depends: a run may go on with others
        "settings": {key: str(settings.get(key)) for key in ("fit", "size")},
    }
    _agree(out, record)
    make: dict[str, Any] = {
        "source": source,
        "out": out,
        "model": model,
        "patches": patches,
        "openvino": openvino,
        "settings": settings,
    }
    rows = [one._asdict() for one in parts]
    if engine == "local":
        extractor = Extractor(**make)
        done = [extractor(row) for row in tqdm(rows, disable=None)]
    else:
        done = _on_ray(rows, make, workers, cpus, gpus)
    fs, folder_out = fsspec.url_to_fs(out)
    with contextlib.suppress(FileNotFoundError):
        fs.rm(f"{folder_out}/_partial", recursive=True)
    errors = sum(one["errors"] for one in done)
    made = sum(one["made"] for one in done)
    return Summary(len(parts), made, sum(one["rows"] for one in done) - errors, errors)


def read_features(file: str | os.PathLike[str]) -> tuple[list[str], NDArray[np.float32]]:
    """Return ids and CLS features, (N, D), of a file of a dataset, without pictures left out."""
    fs, path = fsspec.url_to_fs(os.fspath(file))
    with fs.open(path) as opened:
        table = pq.read_table(opened, columns=["id", "cls", "error"])
    table = table.filter(table["error"].is_null())
    cls = table["cls"].combine_chunks()
    return table["id"].to_pylist(), cls.flatten().to_numpy().reshape(len(cls), cls.type.list_size)


def _agree(out: str, record: dict[str, Any]) -> None:
    """Write what a dataset is made of beside it, or compare with what is there."""
    fs, folder = fsspec.url_to_fs(out)
    path = f"{folder}/{RECORD}"
    if fs.exists(path):
        known = json.loads(fs.cat_file(path))
        others = [key for key in record if known.get(key) != record[key]]
        if others:
            raise ValueError(f"{out} was made with other {', '.join(others)}: name another folder")
        return
    fs.makedirs(folder, exist_ok=True)
    fs.pipe_file(path, json.dumps(record, indent=2).encode())


def _on_ray(
    rows: list[dict[str, Any]], make: dict[str, Any], workers: int, cpus: float, gpus: float
) -> list[dict[str, Any]]:
    """Give the parts to a pool of actors; Ray starts lost ones again and repeats their parts."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    logging.getLogger("ray.data").setLevel(logging.WARNING)
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False)
    dataset: Any = ray.data.from_items(rows, override_num_blocks=min(len(rows), 10_000))
    pool = ray.data.ActorPoolStrategy(size=workers)
    return dataset.map(
        Extractor, fn_constructor_kwargs=make, compute=pool, num_cpus=cpus, num_gpus=gpus or None
    ).take_all()
