"""DINOv2's forward pass in OpenVINO; how much faster than PyTorch, `benchmarks` measures.

Needs `pip install 'dinov2-in-practice[openvino]'`.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, local
from typing import TYPE_CHECKING, Any

from ..extras import need
from .encoder import Forward, Inside, Tokens, TorchEncoder

if TYPE_CHECKING:
    from torch import Tensor

KINDS = ("dinov2", "dinov2_with_registers")  # whose positions `convert` knows how to fix
MOST_SHAPES = 4  # compiled ones of a model; each takes seconds, and the weights once more


class OpenVinoEncoder(TorchEncoder):
    """The model of transformers, compiled by OpenVINO: single precision, on a CPU.

    CLS and patches within 1e-5 of PyTorch's. A shape of pictures is compiled when it first comes;
    changed weights are noticed when a session begins, and all is compiled anew.

    Args:
        model: Of transformers, in evaluation mode, on a CPU, in float32.
    """

    name = "openvino"

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        if model.config.model_type not in KINDS:
            raise ValueError(
                f"backend='openvino' computes {' and '.join(KINDS)}, not "
                f"{model.config.model_type}: give backend='auto'"
            )
        need("openvino", "openvino", "backend='openvino'")
        self._compiled: dict[tuple[int, int], Any] = {}  # by height and width of the pictures
        self._weights = b""  # fingerprint of those that were compiled
        self._lock = Lock()

    def check(self, inside: Inside) -> None:
        """Raise a ValueError if anything is wanted from inside, where nobody can look here."""
        if inside:
            raise ValueError(
                "layers, attention and facets cannot be had from OpenVINO: "
                "load_dinov2(..., backend='torch')"
            )

    @contextmanager
    def session(self, inside: Inside, threads: int) -> Iterator[Forward]:
        """Give each thread a request of its own to the compiled model."""
        weights = self.fingerprint()
        with self._lock:
            if weights != self._weights:
                self._compiled = {}
                self._weights = weights
        requests = local()

        def forward(pixels: "Tensor") -> Tokens:
            import torch

            shape = (pixels.shape[-2], pixels.shape[-1])
            of_thread = vars(requests)
            if "known" not in of_thread:
                of_thread["known"] = {}
            known = of_thread["known"]
            if shape not in known:
                known[shape] = self._of_shape(shape, threads).create_infer_request()
            request = known[shape]
            last, pooled = request.infer({0: pixels.numpy()}).values()
            return Tokens(torch.from_numpy(pooled.copy()), torch.from_numpy(last.copy()))

        yield forward

    def _of_shape(self, shape: tuple[int, int], threads: int) -> Any:
        import openvino

        with self._lock:
            if shape in self._compiled:
                return self._compiled[shape]
            if len(self._compiled) == MOST_SHAPES:
                height, width = shape
                raise ValueError(
                    f"pictures of {width}x{height} px are the fifth shape: OpenVINO compiles each "
                    "one for seconds; give fit='crop', or load_dinov2(..., backend='onednn')"
                )
            options = {
                "INFERENCE_PRECISION_HINT": "f32",  # its default may be bfloat16
                "INFERENCE_NUM_THREADS": threads,
                "NUM_STREAMS": threads,
                "ENABLE_CPU_PINNING": False,  # two processes would be pinned to the same cores
            }
            converted = convert(self.model, *shape)
            self._compiled[shape] = openvino.compile_model(converted, "CPU", options)
            return self._compiled[shape]


def convert(model: Any, height: int, width: int) -> Any:
    """Return transformers' model as an `openvino.Model` of (N, 3, height, width): tokens, CLS.

    Through OpenVINO's front end, for its `convert_model` reports to Intel that it was called.
    """
    import torch
    from openvino import PartialShape
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    embeddings = model.embeddings
    example = torch.zeros(2, 3, height, width)
    patch = model.config.patch_size
    n_patches = (height // patch) * (width // patch)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # tracing says what it takes for constant
        tokens = torch.zeros(1, 1 + n_patches, model.config.hidden_size)
        # by torch, once: OpenVINO's bicubic interpolation with antialias gives other numbers
        positions = embeddings.interpolate_pos_encoding(tokens, height, width)
        embeddings.interpolate_pos_encoding = lambda *_: positions
        try:
            traced = TorchScriptPythonDecoder(model, example_input={"pixel_values": example})
        finally:
            del embeddings.interpolate_pos_encoding
    front_end = FrontEndManager().load_by_framework("pytorch")
    converted = front_end.convert(front_end.load(traced))
    converted.reshape(PartialShape([-1, 3, height, width]))
    return converted
