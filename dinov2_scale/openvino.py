"""DINOv2's forward pass in OpenVINO; how much faster than PyTorch, `benchmarks` measures.

Needs `pip install '.[scale,openvino]'`.
"""

import warnings
from collections.abc import Iterable
from dataclasses import replace
from threading import local
from typing import Any

from dinov2_helpers.images import geometry

from dinov2_helpers.models import Dinov2

__all__ = ["convert", "with_openvino"]


def with_openvino(dinov2: Dinov2, size: int | None = None) -> Dinov2:
    """Return a DINOv2 for `extract_features` and `stream_features` that computes in OpenVINO.

    Single precision, CLS and patches within 1e-5 of PyTorch's. Made for many pictures: each thread
    computes a batch of its own on one core. For pictures of one shape, those of fit="crop".

    Args:
        dinov2: From `load_dinov2`, on a CPU, in float32.
        size: That of `extract_features`, in pixels. None: the processor's crop.

    Raises:
        ModuleNotFoundError: OpenVINO is not installed.
        ValueError: Not a DINOv2, not on a CPU, or not in float32.
    """
    import torch

    if not isinstance(dinov2, Dinov2) or isinstance(dinov2.model, _Compiled):
        raise ValueError(f"{dinov2!r} is no DINOv2 of load_dinov2, which with_openvino needs")
    if dinov2.device.type != "cpu" or dinov2.dtype != torch.float32:
        raise ValueError(f"{dinov2!r}: with_openvino needs device='cpu' and dtype='float32'")
    _, (side, _) = geometry((1, 1), dinov2, size, "crop")
    return replace(dinov2, model=_Compiled(dinov2.model, side, torch.get_num_threads()))


def convert(model: Any, side: int) -> Any:
    """Return transformers' model as an `openvino.Model` from (N, 3, side, side) to tokens, CLS.

    Through OpenVINO's front end, for its `convert_model` reports to Intel that it was called.
    """
    try:
        from openvino import PartialShape
        from openvino.frontend import FrontEndManager
        from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("OpenVINO is missing: pip install '.[scale,openvino]'") from error
    import torch

    embeddings, example = model.embeddings, torch.zeros(2, 3, side, side)
    patches = (side // model.config.patch_size) ** 2
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # tracing says what it takes for constant
        tokens = torch.zeros(1, 1 + patches, model.config.hidden_size)
        # by torch, once: OpenVINO's bicubic interpolation with antialias gives other numbers
        positions = embeddings.interpolate_pos_encoding(tokens, side, side)
        embeddings.interpolate_pos_encoding = lambda *_: positions
        try:
            traced = TorchScriptPythonDecoder(model, example_input={"pixel_values": example})
        finally:
            del embeddings.interpolate_pos_encoding
    front_end = FrontEndManager().load_by_framework("pytorch")
    converted = front_end.convert(front_end.load(traced))
    converted.reshape(PartialShape([-1, 3, side, side]))
    return converted


class _Compiled:
    """What `extract_features` uses of a model of transformers, with the output of OpenVINO."""

    def __init__(self, model: Any, side: int, threads: int) -> None:
        converted = convert(model, side)
        import openvino

        self.config, self.side = model.config, side
        self.state_dict, self.parameters = model.state_dict, model.parameters
        options = {
            "INFERENCE_PRECISION_HINT": "f32",  # its default may be bfloat16
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads,
            "ENABLE_CPU_PINNING": False,  # two processes would be pinned to the same cores
        }
        self.compiled: Any = openvino.compile_model(converted, "CPU", options)
        self.of_thread = local()

    def __call__(self, pixel_values: Any) -> Any:
        """Tokens (N, 1 + registers + h x w, D) and CLS (N, D), as transformers gives them."""
        import torch
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        if pixel_values.shape[-2:] != (self.side, self.side):
            height, width = pixel_values.shape[-2:]
            raise ValueError(
                f"pictures of {width}x{height} px, and a model that with_openvino made for "
                f"{self.side}x{self.side}: give both the same `size`, and fit='crop'"
            )
        if not hasattr(self.of_thread, "request"):
            self.of_thread.request = self.compiled.create_infer_request()
        tokens, cls = self.of_thread.request.infer({0: pixel_values.numpy()}).values()
        return BaseModelOutputWithPooling(
            last_hidden_state=torch.from_numpy(tokens), pooler_output=torch.from_numpy(cls)
        )

    def modules(self) -> Iterable[Any]:
        """No layers of PyTorch's that run, so none to lay out for it."""
        return []

    @property
    def encoder(self) -> Any:
        """The blocks, into which nobody can look here."""
        raise ValueError("layers, attention and facets need the model of load_dinov2 itself")
