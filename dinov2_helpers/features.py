"""Extract DINOv2 features from any mixture of pictures, in batches, with a cache on disk."""

import hashlib
import os
import re
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from threading import local
from typing import Any, Literal, NamedTuple, TypeAlias, get_args
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from psutil import virtual_memory
from safetensors import SafetensorError
from safetensors.numpy import load, save
from tqdm import tqdm

from .models import Model
from .pictures.decode import ImageError, open_image
from .pictures.files import iter_images
from .pictures.pixels import Fit, geometry, to_pixels
from .results import write_whole

Facet = Literal["query", "key", "value"]
Maps: TypeAlias = NDArray[np.float32] | list[NDArray[np.float32]]
_Most: TypeAlias = dict[tuple[int, ...], int]  # pictures of a shape that fit into memory at once
MAX_BATCH = 64
OUT_OF_MEMORY = "out of memory|allocate memory|not enough memory|ALLOC_FAILED"
CPU_BUDGET = 20 * 2**20  # bytes; larger batches leave the caches and are slower
_LAID_OUT: "WeakKeyDictionary[Any, tuple[Any, Any]]" = WeakKeyDictionary()  # by linear layer


@dataclass(frozen=True)
class Skipped:
    """A picture without features: its position in the input, its name, and why."""

    index: int
    name: str
    reason: str


class Layer(NamedTuple):
    """Output of a block after the final layer norm: `cls` (N, D), `patches` (N, h, w, D)."""

    cls: NDArray[np.float32]
    patches: Maps


@dataclass(frozen=True)
class Features:
    """Features of N pictures in the order of the input, without those that could not be read.

    All features are float32. What is given as (N, h, w, ...) is one array where all pictures have
    the same grid of patches, and a list of N arrays (h, w, ...) where they have not.
    """

    cls: NDArray[np.float32]  # (N, D), CLS token after the final layer norm
    patches: Maps | None  # (N, h, w, D), patch tokens after it, registers dropped; if wanted
    layers: dict[int, Layer]  # of each wanted block
    attention: Maps | None  # (N, heads, h, w) in 0-1, from the CLS token, in the last block
    facets: dict[str, Maps]  # of each wanted facet (N, h, w, D), heads one after another
    index: NDArray[np.int64]  # (N,), position in the input
    names: tuple[str, ...]  # paths as given (in a folder: relative to it), or "image 3"
    sizes: NDArray[np.int64]  # (N, 2), height and width in pixels of the upright picture
    grids: NDArray[np.int64]  # (N, 2), patches down and across
    coverage: Maps  # (N, h, w) in 0-1, how much of a patch shows the picture and not padding
    skipped: tuple[Skipped, ...]  # the pictures left out
    note: str  # what was done to the geometry of the pictures

    def __len__(self) -> int:
        return len(self.cls)

    def __repr__(self) -> str:
        return f"{len(self)} pictures, {len(self.skipped)} skipped; {self.note}"

    @property
    def grid(self) -> tuple[int, int]:
        """Patches (down, across), if all pictures have the same."""
        if (self.grids != self.grids[0]).any():
            raise ValueError("the pictures have different grids; see `grids`")
        return int(self.grids[0, 0]), int(self.grids[0, 1])

    def pooled(self, how: Literal["cls", "mean"] = "cls") -> NDArray[np.float32]:
        """Return "cls", or the "mean" of the patches weighted by `coverage`: (N, D) float32."""
        if how == "cls":
            return self.cls
        if self.patches is None:
            raise ValueError(f"pooled({how!r}) needs extract_features(..., patches=True)")
        pairs = zip(self.patches, self.coverage, strict=True)
        means = [np.tensordot(share / share.sum(), p, 2) for p, share in pairs]
        return np.array(means, np.float32).reshape(self.cls.shape)


class _Part(list[tuple[int, tuple[str, Any]]]):
    """Some of the pictures of a stream, named, with their positions in the input."""


class _Settings(NamedTuple):
    """What to extract and how; its text is part of the key of a cache entry."""

    size: int | None
    fit: Fit
    layers: tuple[int, ...]
    attention: bool
    facets: tuple[Facet, ...]
    facet_layer: int
    patches: bool


@dataclass
class _Job:
    """A picture on its way: `pixels` until the model's outputs are in `record`."""

    index: int
    name: str
    size: tuple[int, int]  # width, height
    frames: int = 1
    keep: Any = None  # what writes the record into the cache
    record: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    pixels: Any = None  # (3, H, W) float32


def extract_features(
    dinov2: Model,
    images: Any,
    *,
    size: int | None = None,
    fit: Fit = "crop",
    layers: Iterable[int] = (),
    attention: bool = False,
    facets: Iterable[Facet] = (),
    facet_layer: int = -1,
    patches: bool = True,
    batch_size: int | None = None,
    cache: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> Features:
    """Extract the features of pictures. Those that cannot be read are printed and left out.

    To 1e-5, the numbers do not depend on the batch, and by default are transformers' pipeline's.

    Args:
        dinov2: From `load_dinov2`; `Clip.embed_images` gives itself.
        images: A folder; one or many of what `open_image` opens: paths, PIL pictures, arrays; a
            dict of names to such; or an object with `images`, like `Scenes`.
        size: Side of the crop, or shortest side for the other fits, in pixels. None: the
            processor's crop (224), or the picture's own size.
        fit: "crop", "resize" or "pad", as in `to_pixels`.
        layers: Blocks whose output is wanted too, 0 the first and -1 the last; the final layer
            norm is applied, as in DINOv2's `get_intermediate_layers` with `norm=True`.
        attention: Whether the last block's attention is wanted; load with attention="eager".
        facets: Of "query", "key", "value", those wanted from the attention of block `facet_layer`.
        facet_layer: As in `layers`.
        patches: Whether the patch tokens are wanted.
        batch_size: None: what fits 20 MiB of activations (CUDA: a quarter of what is free).
        cache: Folder to keep features in, by content of the picture, weights and settings.
        progress: Whether to show a bar; None: only on a terminal.

    Raises:
        FileNotFoundError: The folder does not exist or holds no picture.
        ValueError: Impossible settings, or no picture that can be read.
    """
    want = _Settings(size, fit, tuple(layers), attention, tuple(facets), facet_layer, patches)
    _check(want, dinov2, batch_size)
    streamed = isinstance(images, _Part)
    items = images if streamed else list(enumerate(_sources(images)))
    prepare = partial(_open, dinov2, want, _Cache(dinov2, want, cache) if cache else None)
    jobs, skipped, most = list[_Job](), list[Skipped](), _Most()
    bar = tqdm(total=len(items), disable=None if progress is None else not progress)
    with bar, _workers(dinov2, want) as (n, pool, seen):
        compute = partial(_compute, dinov2, most, partial(_forward, dinov2, want, seen))
        step = max(MAX_BATCH, 8 * n, batch_size or 0)
        coming = pool.map(prepare, items[:step])
        for start in range(step, len(items) + step, step):
            ready = list(coming)
            # these are decoded while the model computes those that are ready
            coming = pool.map(prepare, items[start : start + step])
            skipped += [one for one in ready if isinstance(one, Skipped)]
            chunk = [one for one in ready if isinstance(one, _Job)]
            batches = list(_batches(dinov2, chunk, batch_size))
            # a batch on each core is faster than one on all cores, which wait for each other
            spread = dinov2.device.type == "cpu" and len(batches) >= n > 1
            for left_out in (pool.map if spread else map)(compute, batches):
                skipped += left_out
            jobs += [job for job in chunk if job.record]
            bar.update(len(ready))
    report = f"{len(skipped)} of {len(items)} pictures skipped (all are in `skipped`):"
    report += "".join(f"\n  {one.index}: {one.name}: {one.reason}" for one in skipped[:20])
    if not jobs and not streamed:
        raise ValueError(f"no picture to extract from; {report}")
    several = [job.name for job in jobs if job.frames > 1]
    frames = f"The first frame was taken of {len(several)} with several: {', '.join(several[:20])}"
    for text in [report] * bool(skipped) + [frames] * bool(several):
        print(text.encode(errors="backslashreplace").decode())  # names of files need not be text
    return _gather(dinov2, want, jobs, skipped)


def stream_features(
    dinov2: Model, images: Any, *, chunk: int = 1024, **settings: Any
) -> Iterator[Features]:
    """Extract the features of any number of pictures in bounded memory.

    `images` may be a generator too; `settings` are those of `extract_features`. Yields the
    `Features` of each `chunk` pictures, of none if none of them can be read; `index` counts on.
    """
    items = enumerate(_sources(images))
    while part := _Part(islice(items, max(1, chunk))):
        yield extract_features(dinov2, part, **{"progress": False} | settings)


def _check(want: _Settings, dinov2: Model, batch_size: int | None) -> None:
    last = dinov2.n_layers - 1
    if min(1 if n is None else n for n in (want.size, batch_size)) < 1:
        raise ValueError(f"size={want.size} and batch_size={batch_size}: 1 or more, or None")
    for layer in (*want.layers, want.facet_layer):
        if not -last - 1 <= layer <= last:
            raise ValueError(f"layer {layer}: {dinov2.name} has 0 to {last}, or -1 to {-last - 1}")
    for value, known in ((want.fit, Fit), *((facet, Facet) for facet in want.facets)):
        if value not in get_args(known):
            raise ValueError(f"{value!r} is none of {get_args(known)}")
    if want.attention and dinov2.model.config._attn_implementation != "eager":
        raise ValueError("attention=True needs a model from load_dinov2(..., attention='eager')")
    if dinov2.kind != "DINOv2" and (want.patches or want.layers or want.attention or want.facets):
        raise ValueError(f"{dinov2.name} is a {dinov2.kind}: use its embed_images")


def _sources(images: Any) -> Iterator[tuple[str, Any]]:
    """Name each picture of the input."""
    images = getattr(images, "images", images)
    paths = (str, os.PathLike)
    if isinstance(images, paths) and not (root := Path(images).expanduser()).is_file():
        return ((path.relative_to(root).as_posix(), path) for path in iter_images(root))
    if isinstance(images, (*paths, bytes, Image.Image)) or getattr(images, "ndim", 4) < 4:
        images = [images]
    if isinstance(images, Mapping):
        return iter(images.items())
    numbered = enumerate(images)
    return ((os.fspath(x) if isinstance(x, paths) else f"image {i}", x) for i, x in numbered)


class _Cache:
    """Features in files named by all that they depend on, each behind its checksum."""

    def __init__(self, dinov2: Model, want: _Settings, folder: str | os.PathLike[str]) -> None:
        import torch

        self.folder, self.writable = Path(folder).expanduser(), True
        self.digest = hashlib.sha256(repr((want, dinov2.model.config, dinov2.processor)).encode())
        # the weights themselves: right for any source, and after any change to them
        for tensor in dinov2.model.state_dict().values():
            self.digest.update(tensor.cpu().flatten().view(torch.uint8).numpy())

    def entry(self, image: Image.Image) -> Path:
        digest = self.digest.copy()
        digest.update(repr(image.size).encode() + image.tobytes())
        return self.folder / digest.hexdigest()

    def read(self, entry: Path) -> dict[str, NDArray[np.float32]]:
        """Return what was kept; nothing if there is nothing, or if it is damaged."""
        with suppress(OSError, SafetensorError):
            data = entry.read_bytes()
            if data[:4] == zlib.crc32(data[4:]).to_bytes(4, "little"):
                return load(data[4:])
        return {}

    def write(self, entry: Path, record: dict[str, NDArray[np.float32]]) -> None:
        data = save(record)
        try:
            if self.writable:
                write_whole(entry, zlib.crc32(data).to_bytes(4, "little") + data)
        except OSError as error:
            self.writable = False
            print(f"cache {self.folder} cannot be written: {error}; going on without it")


def _open(dinov2: Model, want: _Settings, cache: _Cache | None, item: Any) -> _Job | Skipped:
    """Open a picture and take its features from the cache, or make its pixels; in a thread."""
    index, (name, source) = item
    try:
        image = open_image(source, name)
        job = _Job(index, name, image.size, image.info["frames"])
        if cache:
            entry = cache.entry(image)
            job.record, job.keep = cache.read(entry), partial(cache.write, entry)
        if not job.record:
            job.pixels = to_pixels(image, dinov2, size=want.size, fit=want.fit)
    except ImageError as error:
        return Skipped(index, name, error.reason)
    return job


def _need(dinov2: Model, shape: tuple[int, ...]) -> int:
    """Return the bytes that one picture (3, H, W) takes in the widest part of the model."""
    tokens = shape[1] * shape[2] // dinov2.patch_size**2 + 1 + dinov2.n_registers
    # of one block: query, key, value, residual, and twice the 4 x wider hidden layer of its MLP
    eager = dinov2.model.config._attn_implementation == "eager"
    return 4 * (12 * tokens * dinov2.width + eager * 2 * dinov2.n_heads * tokens**2)


def _free(dinov2: Model) -> int:
    """Return the bytes of memory that are free; Linux kills a process that takes more."""
    import torch

    cuda = dinov2.device.type == "cuda"
    return torch.cuda.mem_get_info(dinov2.device)[0] if cuda else virtual_memory().available


def _batches(dinov2: Model, jobs: list[_Job], n: int | None) -> Iterator[list[_Job]]:
    """Yield those that the model must see, in batches of one shape that fit into memory."""
    alike = defaultdict(list)
    for job in (job for job in jobs if job.pixels is not None):
        alike[job.pixels.shape].append(job)
    budget = _free(dinov2) // 4 if dinov2.device.type == "cuda" else CPU_BUDGET
    for shape, same in alike.items():
        step = n or max(1, min(MAX_BATCH, int(budget // _need(dinov2, shape))))
        yield from (same[i : i + step] for i in range(0, len(same), step))


def _compute(dinov2: Model, most: _Most, forward: Any, batch: list[_Job]) -> list[Skipped]:
    """Run the model, on half as many pictures while memory is short; return those left out."""
    import torch

    shape, left_out = batch[0].pixels.shape, list[Skipped]()
    while batch:
        n = min(len(batch), most.get(shape, len(batch)))
        try:
            if n * _need(dinov2, shape) > _free(dinov2):
                raise MemoryError
            forward(batch[:n])
        except (RuntimeError, MemoryError) as error:
            if not (isinstance(error, MemoryError) or re.search(OUT_OF_MEMORY, str(error))):
                raise
            torch.cuda.empty_cache()
            size = f"{shape[2]}x{shape[1]} px"
            if n > 1 and most.get(shape, n) >= n:  # else another thread has found out
                most[shape] = n // 2
                print(f"{n} pictures of {size} do not fit into memory: {n // 2} at once now")
            if n > 1:
                continue
            reason = f"does not fit into memory at {size}; give a lower `size`"
            left_out.append(Skipped(batch[0].index, batch[0].name, reason))
        batch = batch[n:]
    return left_out


@contextmanager
def _packed(model: Any) -> Iterator[None]:
    """Inside, linear layers on a CPU run on weights in the layout of oneDNN's matrix product.

    A layer is laid out once, and again after a change; a GELU behind it is computed with it. Same
    numbers to 1e-5. Nothing is changed if torch lacks these operators, which its compiler uses.
    """
    import torch
    from transformers.activations import GELUActivation

    ops, modules, layers = torch.ops.mkldnn, list(model.modules()), list[Any]()
    if hasattr(ops, "_linear_pointwise") and torch.backends.mkldnn.is_available():
        layers = [m for m in modules if type(m) is torch.nn.Linear and m.weight.is_cpu]
        layers = [layer for layer in layers if layer.weight.dtype == torch.float32]
    for layer in layers:
        weight = layer.weight.detach()
        state = weight.data_ptr(), 0 if weight.is_inference() else layer.weight._version
        if _LAID_OUT.get(layer, (None, None))[0] != state:
            _LAID_OUT[layer] = state, ops._reorder_linear_weight(weight, None)
        last: Any = {"W": _LAID_OUT[layer][1], "B": layer.bias, "scalars": []}
        layer.forward = partial(ops._linear_pointwise, attr="none", algorithm="", **last)
    mlps = [m for m in modules if isinstance(getattr(m, "activation_fn", None), GELUActivation)]
    for mlp in [mlp for mlp in mlps if mlp.fc1 in layers]:
        fc1 = partial(mlp.fc1.forward, attr="gelu", algorithm="none")
        mlp.forward = lambda x, fc1=fc1, fc2=mlp.fc2: fc2(fc1(x))
    try:
        yield
    finally:
        for module in [*layers, *mlps]:
            module.__dict__.pop("forward", None)


@contextmanager
def _workers(dinov2: Model, want: _Settings) -> Iterator[tuple[int, ThreadPoolExecutor, local]]:
    """Give n threads that compute on one core each, and what each thread last saw, by name."""
    import torch

    watched: dict[str, Any] = {f"layer {i}": dinov2.model.encoder.layer[i] for i in want.layers}
    for facet in want.facets:  # from q_proj, k_proj, v_proj
        block = dinov2.model.encoder.layer[want.facet_layer]
        watched[facet] = getattr(block.attention, f"{facet[0]}_proj")
    if want.attention:
        watched["attention"] = dinov2.model.encoder.layer[-1].attention
    n, seen = torch.get_num_threads(), local()

    def remember(name: str, _module: Any, _inputs: Any, output: Any) -> None:
        vars(seen)[name] = output

    with _packed(dinov2.model), ExitStack() as undo:
        for name, module in watched.items():
            undo.callback(module.register_forward_hook(partial(remember, name)).remove)
        undo.callback(torch.set_num_threads, n)  # the workers set it for all threads to come
        pool = ThreadPoolExecutor(n, "extract", torch.set_num_threads, (1,))
        yield n, undo.enter_context(pool), seen


def _forward(dinov2: Model, want: _Settings, seen: local, batch: list[_Job]) -> None:
    """Run the model on pictures of one shape, and turn their pixels into records."""
    import torch

    pixels = torch.from_numpy(np.stack([job.pixels for job in batch]))
    rows, columns = (side // dinov2.patch_size for side in pixels.shape[-2:])
    first_patch = 1 + dinov2.n_registers

    def grid(tokens: Any) -> Any:
        return tokens[:, first_patch:].unflatten(1, (rows, columns))

    with torch.inference_mode():
        see = dinov2.model if dinov2.kind == "DINOv2" else dinov2.model.get_image_features
        output = see(pixel_values=pixels.to(dinov2.device))
        found = {"cls": output.pooler_output}
        if want.patches:
            found["patches"] = grid(output.last_hidden_state)
        for i in want.layers:
            tokens = dinov2.model.layernorm(vars(seen)[f"layer {i}"])
            found |= {f"cls {i}": tokens[:, 0], f"patches {i}": grid(tokens)}
        found |= {facet: grid(vars(seen)[facet]) for facet in want.facets}
        if want.attention:
            weights = vars(seen)["attention"][1]  # (N, heads, tokens, tokens)
            found["attention"] = weights[:, :, 0, first_patch:].unflatten(2, (rows, columns))
        arrays = {name: tensor.float().cpu().numpy() for name, tensor in found.items()}
    for i, job in enumerate(batch):
        job.record, job.pixels = {name: array[i] for name, array in arrays.items()}, None
        if job.keep:
            job.keep(job.record)


def _gather(dinov2: Model, want: _Settings, jobs: list[_Job], skipped: list[Skipped]) -> Features:
    """Join the records of all pictures."""

    def joined(pieces: list[Any]) -> Any:
        return np.stack(pieces) if len({piece.shape for piece in pieces}) == 1 else pieces

    def maps(name: str) -> Any:
        return joined([job.record[name] for job in jobs])

    def rows(name: str) -> NDArray[np.float32]:
        return np.array([job.record[name] for job in jobs], np.float32).reshape(-1, dinov2.dim)

    def shares(length: int, n: int) -> NDArray[np.float32]:
        # 1 where a patch is filled, a fraction where the picture ends inside it
        return np.clip(length / patch - np.arange(n), 0, 1).astype(np.float32)

    patch, sizes = dinov2.patch_size, np.array([j.size[::-1] for j in jobs], int).reshape(-1, 2)
    shapes = [geometry(job.size, dinov2, want.size, want.fit) for job in jobs]
    # (N, 2), height and width
    scaled, fitted = np.array(shapes, int).reshape(-1, 2, 2)[:, :, ::-1].swapaxes(0, 1)
    grids = fitted // patch
    shown = scaled if want.fit == "pad" else fitted
    coverage = [
        np.outer(shares(height, rows), shares(width, columns))
        for (height, width), (rows, columns) in zip(shown, grids, strict=True)
    ]
    resized, filled = ((before != fitted).any(axis=1).sum() for before in (sizes, scaled))
    (shortest, _), (side, _) = geometry((1, 1), dinov2, want.size, "crop")
    notes = {
        "crop": f"shortest side to {shortest} px, then the central {side} px",
        "resize": f"{resized} of {len(jobs)} resampled to sides that are multiples of {patch} px",
        "pad": f"{filled} of {len(jobs)} filled at right and bottom to multiples of {patch} px",
    }
    return Features(
        cls=rows("cls"),
        patches=maps("patches") if want.patches else None,
        layers={i: Layer(rows(f"cls {i}"), maps(f"patches {i}")) for i in want.layers},
        attention=maps("attention") if want.attention else None,
        facets={facet: maps(facet) for facet in want.facets},
        index=np.array([job.index for job in jobs], int),
        names=tuple(job.name for job in jobs),
        sizes=sizes,
        grids=grids,
        coverage=joined(coverage),
        skipped=tuple(skipped),
        note=f"{want.fit}: {notes[want.fit]}",
    )
