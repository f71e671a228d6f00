"""Ways from JPEG files to DINOv2 features, ours and others', for `benchmarks.extraction`.

All read the same files and return CLS and patches in single precision. A way is built from a
`Setting` and returns a function of files and a batch size.
"""

from __future__ import annotations

import itertools
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from dinov2_helpers import data_dir, extract_features, open_image, to_pixels
from dinov2_helpers.models import PROFILES, Dinov2
from dinov2_helpers.samples import load_scenes, photographs

SIZES = ((640, 480), (480, 640), (500, 375), (1024, 768))  # width, height of the files

Tokens: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32]]  # CLS (N, D), patches (N, T, D)
Extract: TypeAlias = Callable[[Sequence[Path], int], Tokens]


class Missing(Exception):
    """A package that a way needs is not there; the text says which and why."""


class Setting(NamedTuple):
    """What all ways share."""

    dinov2: Dinov2
    folder: Path  # of the model's files
    scratch: Path  # for files of their own
    threads: int


def write_pictures(folder: Path, n: int) -> list[Path]:
    """Writes n different JPEG files of `SIZES`: parts of photographs, and rendered scenes."""
    sources = [*photographs().values(), *map(open_image, load_scenes("test").images[:3])]
    rng = np.random.default_rng(0)
    paths = []
    for i in range(n):
        part = ImageOps.fit(
            sources[i % len(sources)],
            SIZES[i % len(SIZES)],
            bleed=rng.uniform(0, 0.1),
            centering=tuple(rng.uniform(size=2)),
        )
        paths.append(folder / f"{i:04d}.jpg")
        part.save(paths[-1], quality=90)
    return paths


def model_folder(shape: str, scratch: Path) -> Path:
    """The embedded model's folder, or a new one with a random model of a published size."""
    if shape == "tiny":
        return data_dir() / PROFILES["tiny"].dinov2
    from tools import standins  # imports diffusers, which takes memory that `grown` must not see

    folder = scratch / f"dinov2-{shape}"
    torch.manual_seed(0)
    standins.dinov2_model(f"facebook/dinov2-{shape}").save_pretrained(folder)
    standins.write_preprocessor(folder, standins.PREPROCESSOR)
    return folder


def need(*names: str) -> list[Any]:
    """The modules of these names; Missing: one of them cannot be imported."""
    modules = []
    for name in names:
        try:
            modules.append(import_module(name))
        except ModuleNotFoundError as error:
            raise Missing(f"not installed: {error.name}") from error
        except Exception as error:  # a package that was built for another torch raises anything
            raise Missing(f"{name} does not import: {error}") from error
    return modules


def split(tokens: NDArray[np.float32]) -> Tokens:
    """CLS and patches of tokens (N, 1 + T, D) of a model without registers."""
    return tokens[:, 0], tokens[:, 1:]


def load_auto(folder: Path) -> Any:
    """The model as transformers loads it by itself."""
    from transformers import AutoModel

    return AutoModel.from_pretrained(folder, dtype="float32").eval()


def ours(at: Setting) -> Extract:
    """`extract_features` as it comes; it chooses its batches itself."""

    def extract(paths: Sequence[Path], _batch: int) -> Tokens:
        found = extract_features(at.dinov2, list(paths), progress=False)
        patches: Any = found.patches
        return found.cls, patches.reshape(len(found), -1, at.dinov2.dim)

    return extract


def ours_openvino(at: Setting) -> Extract:
    """`extract_features` as it comes with `load_dinov2(..., backend="openvino")`."""
    need("openvino")
    return ours(at._replace(dinov2=replace(at.dinov2, backend="openvino")))


def article(at: Setting) -> Extract:
    """The article's loop: one picture at a time through the processor and the model."""
    from transformers import AutoImageProcessor

    processor, model = AutoImageProcessor.from_pretrained(at.folder), load_auto(at.folder)

    def extract(paths: Sequence[Path], _batch: int) -> Tokens:
        found = []
        for path in paths:
            inputs = processor(images=Image.open(path).convert("RGB"), return_tensors="pt")
            with torch.no_grad():
                found.append(model(**inputs).last_hidden_state.numpy())
        return split(np.concatenate(found))

    return extract


def pipeline(at: Setting) -> Extract:
    """The pipeline of transformers, which returns tensors instead of lists when asked."""
    from transformers import AutoImageProcessor
    from transformers import pipeline as build

    extractor: Any = build(
        "image-feature-extraction",
        model=load_auto(at.folder),
        image_processor=AutoImageProcessor.from_pretrained(at.folder),
        device="cpu",
    )

    def extract(paths: Sequence[Path], batch: int) -> Tokens:
        found = extractor([str(path) for path in paths], batch_size=batch, return_tensors=True)
        return split(np.concatenate([tokens.numpy() for tokens in found]))

    return extract


class Files(torch.utils.data.Dataset):
    """Pictures in files, transformed, for a DataLoader, whose processes must be able to get it."""

    def __init__(self, paths: Sequence[Path], transform: Any) -> None:
        self.paths, self.transform = list(paths), transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> torch.Tensor:
        with Image.open(self.paths[i]) as image:
            return self.transform(image.convert("RGB"))


def dataloader(at: Setting) -> Extract:
    """A DataLoader with torchvision's transforms of the model card, one process for each thread."""
    (transforms,) = need("torchvision.transforms")
    processor = at.dinov2.processor
    transform = transforms.Compose(
        [
            transforms.Resize(
                processor.size["shortest_edge"], transforms.InterpolationMode.BICUBIC
            ),
            transforms.CenterCrop(processor.crop_size["height"]),
            transforms.ToTensor(),
            transforms.Normalize(processor.image_mean, processor.image_std),
        ]
    )
    model = load_auto(at.folder)

    def extract(paths: Sequence[Path], batch: int) -> Tokens:
        files = Files(paths, transform)
        loader = torch.utils.data.DataLoader(files, batch_size=batch, num_workers=at.threads)
        with torch.inference_mode():
            found = [model(pixel_values=pixels).last_hidden_state.numpy() for pixels in loader]
        return split(np.concatenate(found))

    return extract


class TokensOnly(torch.nn.Module):
    """A model that returns its tokens and nothing else, as converters like it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Tokens (N, 1 + T, D) after the final layer norm."""
        return self.model(pixel_values=pixel_values).last_hidden_state


def full_batches(
    at: Setting, paths: Sequence[Path], batch: int
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Our pixels in batches with the number of the first; the last one is filled with zeros.

    All the files are decoded in threads, while the caller works on those that are ready.
    """
    with ThreadPoolExecutor(at.threads) as pool:
        coming = pool.map(lambda path: to_pixels(open_image(path), at.dinov2), paths)
        for start in range(0, len(paths), batch):
            pixels = np.stack(list(itertools.islice(coming, batch)))
            yield start, np.pad(pixels, [(0, batch - len(pixels)), *[(0, 0)] * 3])


def in_order(found: dict[int, NDArray[np.float32]], n: int) -> Tokens:
    """The tokens of n pictures, out of batches by the number of their first."""
    return split(np.concatenate([found[start] for start in sorted(found)])[:n])


def onnx_runtime(at: Setting) -> Extract:
    """ONNX Runtime on our pixels."""
    runtime, *_ = need("onnxruntime", "onnx", "onnxscript")
    file = at.scratch / f"{at.folder.name}.onnx"
    model = TokensOnly(load_auto(at.folder)).eval()
    side = at.dinov2.processor.crop_size["height"]
    logging.getLogger("torch.onnx").setLevel(
        logging.ERROR
    )  # it tells that torchvision is not there
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (torch.zeros(2, 3, side, side),),
            file,
            dynamo=True,
            dynamic_shapes={"pixel_values": {0: torch.export.Dim("n")}},
            verbose=False,
        )
    options = runtime.SessionOptions()
    options.intra_op_num_threads = at.threads
    session = runtime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def extract(paths: Sequence[Path], batch: int) -> Tokens:
        batches = full_batches(at, paths, batch)
        found = {start: session.run(None, {"pixel_values": x})[0] for start, x in batches}
        return in_order(found, len(paths))

    return extract


def openvino(at: Setting) -> Extract:
    """OpenVINO on our pixels, with several requests under way, in single precision."""
    (ov,) = need("openvino")
    from dinov2_helpers.models.openvino import convert

    side = at.dinov2.processor.crop_size["height"]
    converted = convert(load_auto(at.folder), side, side)
    options = {
        "INFERENCE_PRECISION_HINT": "f32",  # its default may be bfloat16
        "INFERENCE_NUM_THREADS": at.threads,
        "PERFORMANCE_HINT": "THROUGHPUT",
    }
    ready: dict[int, list[Any]] = {}  # requests by batch size

    def requests_of(batch: int) -> list[Any]:
        if batch not in ready:
            converted.reshape([batch, 3, side, side])
            compiled = ov.compile_model(converted, "CPU", options)
            n_requests = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
            ready[batch] = [compiled.create_infer_request() for _ in range(n_requests)]
        return ready[batch]

    def extract(paths: Sequence[Path], batch: int) -> Tokens:
        # no callbacks, AsyncInferQueue's way: they wait for the GIL, and a run hung in one for good
        requests = requests_of(batch)
        under_way: dict[int, int] = {}  # from a request to the first picture of its batch
        found: dict[int, NDArray[np.float32]] = {}

        def collect(number: int) -> None:
            requests[number].wait()
            found[under_way.pop(number)] = requests[number].get_output_tensor(0).data.copy()

        for turn, (start, pixels) in enumerate(full_batches(at, paths, batch)):
            number = turn % len(requests)
            if number in under_way:
                collect(number)
            requests[number].start_async({0: pixels})
            under_way[number] = start
        for number in list(under_way):
            collect(number)
        return in_order(found, len(paths))

    return extract


WAYS: dict[str, tuple[Callable[[Setting], Extract], bool]] = {  # and whether it takes a batch size
    "ours": (ours, False),
    "ours in OpenVINO": (ours_openvino, False),
    "the article's loop": (article, False),
    "transformers pipeline": (pipeline, True),
    "torchvision DataLoader": (dataloader, True),
    "ONNX Runtime": (onnx_runtime, True),
    "OpenVINO": (openvino, True),
}
