"""Extract features from any mixture of pictures, in batches, with a cache on disk."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

from tqdm import tqdm

from ..models.encoder import Facet, Inside
from ..models.load import Model
from ..pictures.decode import ImageError, Opened, Size, open_image, open_reduced
from ..pictures.pixels import Fit, geometry, to_pixels
from .batches import MAX_BATCH, make_batches
from .cache import Cache
from .forward import Computer
from .gather import Gathering, inner_layers
from .job import Job, Settings, check
from .reports import Notable, report_left_out, report_skipped, skipped_text
from .result import Features, Skipped
from .sources import name_sources
from .workers import one_core_each

log = logging.getLogger("dinov2_helpers")
Item: TypeAlias = tuple[int, tuple[str, Any]]  # position in the input; name and source


class Options(NamedTuple):
    """How an extraction is run; the numbers do not depend on it."""

    batch_size: int | None
    cache: str | os.PathLike[str] | None
    progress: bool | None


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
    exact: bool = False,
    batch_size: int | None = None,
    cache: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> Features:
    """Extract the features of pictures. Those that cannot be read are reported and left out.

    The report is a warning of the logger "dinov2_helpers". To 1e-5, the numbers do not depend on
    the batch, and by default are transformers' pipeline's; those of JPEG files of a megapixel or
    more are so with `exact`, and without it close to them: docs/scaling.md says how close.

    Args:
        dinov2: From `load_dinov2`; `Clip.embed_images` gives itself.
        images: A folder; one or many of what `open_image` opens: paths, PIL pictures, arrays, in a
            list, an array, a column of a table, a generator; a dict of names to such; or an object
            with `images`, like `Scenes`.
        size: Side of the crop, or shortest side for the other fits, in pixels. None: the
            processor's crop (224), or the picture's own size.
        fit: "crop", "resize" or "pad", as in `to_pixels`.
        layers: Blocks whose output is wanted too, 0 the first and -1 the last; the final layer
            norm is applied, as in DINOv2's `get_intermediate_layers` with `norm=True`.
        attention: Whether the last block's attention is wanted; load with attention="eager".
        facets: Of "query", "key", "value", those wanted from the attention of block `facet_layer`.
        facet_layer: As in `layers`.
        patches: Whether the patch tokens are wanted.
        exact: Whether all pixels of large JPEG files are decoded, though they are scaled down
            afterwards; else as few as `open_reduced` needs, which is several times as fast.
        batch_size: None: what fits 20 MiB of activations (CUDA: a quarter of what is free).
        cache: Folder to keep features in, by content of the picture, weights, settings and code.
            None: that which the environment variable DINOV2_CACHE names, if it does, for features
            that show nothing of what is inside; it is how `make run` computes those of data/ once.
        progress: Whether to show a bar; None: only on a terminal.

    Raises:
        FileNotFoundError: The folder does not exist or holds no picture.
        MemoryError: The features will not fit into memory; said before they are computed.
        TypeError: Nothing that holds pictures.
        ValueError: Impossible settings, or no picture that can be read.

    Example:
        >>> features = extract_features(load_dinov2("tiny"), photographs())
        >>> features.cls.shape, features.grid
        ((13, 192), (16, 16))
    """
    inside = Inside(tuple(layers), attention, tuple(facets), facet_layer)
    settings = Settings(size, fit, inside, patches, exact)
    check(settings, dinov2, batch_size)
    sources = name_sources(images)
    report_left_out(sources.left_out)
    items = list(enumerate(sources.items))
    found = _extract(dinov2, items, settings, Options(batch_size, cache, progress))
    if not len(found):
        raise ValueError(f"no picture to extract from; {skipped_text(found.skipped, len(items))}")
    return replace(found, left_out=sources.left_out)


def stream_features(
    dinov2: Model, images: Any, *, chunk: int = 1024, **settings: Any
) -> Iterator[Features]:
    """Extract the features of any number of pictures in bounded memory.

    Each chunk is computed with the weights that the model has when it begins.

    Args:
        dinov2: As for `extract_features`.
        images: As there; a generator is read no further than needed.
        chunk: Pictures of each yield, 1 or more.
        **settings: Those of `extract_features`.

    Yields:
        The `Features` of each `chunk` pictures, of none if none of them can be read; `index`
        counts on.

    Raises:
        FileNotFoundError, MemoryError, TypeError, ValueError: As `extract_features`.

    Example:
        >>> for features in stream_features(load_dinov2("tiny"), photographs(), chunk=5):
        ...     print(features.cls.shape, "from picture", features.index[0])
        (5, 192) from picture 0
        (5, 192) from picture 5
        (3, 192) from picture 10
    """
    if chunk < 1:
        raise ValueError(f"chunk={chunk}: it must be 1 or more")
    wanted, options = _split(settings)
    check(wanted, dinov2, options.batch_size)
    sources = name_sources(images)
    report_left_out(sources.left_out)
    items = enumerate(sources.items)
    while True:
        part = list(islice(items, chunk))
        if not part:
            return
        found = _extract(dinov2, part, wanted, options)
        yield replace(found, left_out=sources.left_out)


def _split(given: dict[str, Any]) -> tuple[Settings, Options]:
    """Return the settings of `extract_features` from their names, with its defaults."""
    defaults: dict[str, Any] = {**(extract_features.__kwdefaults__ or {}), "progress": False}
    unknown = sorted(given.keys() - defaults.keys())
    if unknown:
        raise TypeError(f"{unknown}: no settings of extract_features, which has {[*defaults]}")
    of = defaults | given
    inside = Inside(tuple(of["layers"]), of["attention"], tuple(of["facets"]), of["facet_layer"])
    settings = Settings(of["size"], of["fit"], inside, of["patches"], of["exact"])
    return settings, Options(of["batch_size"], of["cache"], of["progress"])


def _extract(model: Model, items: Sequence[Item], settings: Settings, options: Options) -> Features:
    """Extract the features of named pictures, and report on those that have none."""
    gathering = Gathering(model, settings, len(items))
    cache = _cache(model, settings, options)
    prepare = partial(_prepare, model, settings, cache)
    inside = settings.inside._replace(layers=inner_layers(model, settings))
    skipped: list[Skipped] = []
    bar = tqdm(total=len(items), disable=None if options.progress is None else not options.progress)
    with bar, one_core_each() as (pool, n), model.encoder.session(inside, n) as forward:
        compute = Computer(model, settings, forward, gathering)
        step = max(MAX_BATCH, 8 * n, options.batch_size or 0)
        for ready in _read_ahead(pool, prepare, items, step):
            jobs = [one for one in ready if isinstance(one, Job)]
            skipped += [one for one in ready if isinstance(one, Skipped)]
            gathering.expect(jobs)
            for job in jobs:
                if job.record:
                    gathering.add(job, job.record)
            made = list(make_batches(model, jobs, options.batch_size))
            # a batch on each core is faster than one on all cores, which wait for each other
            spread = model.device.type == "cpu" and len(made) >= n > 1
            for without_features in (pool.map if spread else map)(compute, made):
                skipped += without_features
            bar.update(len(ready))
    found = gathering.features(skipped)
    _report(found, gathering, len(items))
    return found


def _cache(model: Model, settings: Settings, options: Options) -> Cache | None:
    if options.cache is not None:
        return Cache(model, settings, options.cache)
    shared = os.environ.get("DINOV2_CACHE")
    # layers and facets are several times as large, and seldom asked for twice
    if not shared or settings.inside:
        return None
    return Cache(model, settings, shared)


def _read_ahead(
    pool: ThreadPoolExecutor,
    prepare: Callable[[Any], Job | Skipped],
    items: Sequence[Item],
    step: int,
) -> Iterator[list[Job | Skipped]]:
    """Yield prepared pictures by steps; the next are decoded while the caller computes."""
    numbered = list(enumerate(items))
    coming = pool.map(prepare, numbered[:step])
    for start in range(step, len(numbered) + step, step):
        ready = list(coming)
        coming = pool.map(prepare, numbered[start : start + step])
        yield ready


def _prepare(
    model: Model, settings: Settings, cache: Cache | None, numbered: tuple[int, Item]
) -> Job | Skipped:
    """Open a picture and take its features from the cache, or make its pixels; in a thread."""
    row, (index, (name, source)) = numbered
    try:
        opened = _open(model, settings, name, source)
        info = opened.image.info
        job = Job(row, index, name, opened.size, info["frames"], info["depth"])
        if cache:
            entry = cache.entry(opened)
            job.record = cache.read(entry)
            job.keep = partial(cache.write, entry)
        if not job.record:
            job.pixels = to_pixels(opened, model, size=settings.size, fit=settings.fit)
    except ImageError as error:
        return Skipped(index, name, error.reason)
    return job


def _open(model: Model, settings: Settings, name: str, source: Any) -> Opened:
    """Open a picture with all its pixels, or with those that its features need."""
    if settings.exact:
        return Opened.whole(open_image(source, name))

    def scaled_to(size: Size) -> Size:
        scaled, _ = geometry(size, model, settings.size, settings.fit)
        return scaled

    return open_reduced(source, name, scaled_to=scaled_to)


def _report(found: Features, gathering: Gathering, n: int) -> None:
    """Log what a reader should know of the pictures: skipped, several frames, range of values."""
    report_skipped(found.skipped, n)
    notable = Notable()
    for job in gathering.jobs.values():
        notable.saw(job.name, job.frames, job.depth)
    notable.report()
