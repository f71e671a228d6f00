"""What turns pixels into tokens: the protocol, and how PyTorch does it."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from threading import local
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

from .anatomy import anatomy_of

if TYPE_CHECKING:
    from torch import Tensor, device

Facet = Literal["query", "key", "value"]


class Inside(NamedTuple):
    """What is wanted from inside the model, beside its output."""

    layers: tuple[int, ...] = ()  # blocks, 0 the first and -1 the last
    attention: bool = False  # of the last block
    facets: tuple[Facet, ...] = ()  # of the attention of block `facet_layer`
    facet_layer: int = -1

    def __bool__(self) -> bool:
        return bool(self.layers or self.attention or self.facets)


@dataclass(frozen=True)
class Tokens:
    """What an encoder makes of N pictures of one shape; T is CLS, if any, registers, patches."""

    pooled: "Tensor"  # (N, D), CLS after the final layer norm; CLIP, SigLIP: what its head makes
    last: "Tensor"  # (N, T, D), tokens after the final layer norm
    layers: "dict[int, Tensor]" = field(default_factory=dict)  # (N, T, D), each after that norm
    facets: "dict[str, Tensor]" = field(default_factory=dict)  # (N, T, D), heads side by side
    attention: "Tensor | None" = None  # (N, heads, T, T), rows sum to 1


Forward: TypeAlias = "Callable[[Tensor], Tokens]"


class Encoder(Protocol):
    """Computes the tokens of pictures with the weights of a model."""

    name: str  # of the backend

    def check(self, inside: Inside) -> None:
        """Raise a ValueError if this backend cannot give what is wanted from inside."""

    def session(self, inside: Inside, threads: int) -> AbstractContextManager[Forward]:
        """Give a function of pixels, (N, 3, H, W) float32, that any of so many threads may call.

        It computes with the weights that the model has when the session begins.
        """

    def fingerprint(self) -> bytes:
        """Return a hash of the weights as they are now."""


class TorchEncoder:
    """The model of transformers as it is, on any device and in any number format.

    Args:
        model: Of transformers, in evaluation mode.
        forward: What it computes of `pixel_values`; None: `model` itself.
    """

    name = "torch"

    def __init__(self, model: Any, forward: Callable[..., Any] | None = None) -> None:
        self.model = model
        self.forward = forward or partial(model, **anatomy_of(model).options)

    def check(self, inside: Inside) -> None:
        """Raise a ValueError if attention is wanted and was not loaded so, or has no CLS."""
        if inside.attention and not anatomy_of(self.model).has_cls:
            raise ValueError(
                f"attention=True: {self.model.config.model_type} has no CLS token, whose attention "
                "this is; take a DINOv2 or DINOv3"
            )
        if inside.attention and self.model.config._attn_implementation != "eager":
            raise ValueError(
                "attention=True needs a model from load_dinov2(..., attention='eager')"
            )

    def fingerprint(self) -> bytes:
        """Return the SHA-256 of all weights, right after any way of changing them."""
        import torch

        digest = hashlib.sha256()
        for name, tensor in self.model.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.digest()

    @contextmanager
    def session(self, inside: Inside, threads: int) -> Iterator[Forward]:
        """Watch the wanted modules through hooks, which are removed at the end."""
        seen = local()  # each thread has a batch of its own
        with ExitStack() as undo:
            for name, module in self._watched(inside).items():
                handle = module.register_forward_hook(partial(_remember, seen, name))
                undo.callback(handle.remove)
            yield partial(self._compute, inside, seen)

    def _watched(self, inside: Inside) -> dict[str, Any]:
        watched: dict[str, Any] = {}
        if not inside:
            return watched
        anatomy = anatomy_of(self.model)
        blocks = anatomy.blocks_of(self.model)
        for layer in inside.layers:
            watched[f"layer {layer}"] = blocks[layer]
        for facet in inside.facets:  # from q_proj, k_proj, v_proj
            attention = anatomy.attention_of(blocks[inside.facet_layer])
            watched[facet] = getattr(attention, f"{facet[0]}_proj")
        if inside.attention:
            watched["attention"] = anatomy.attention_of(blocks[-1])
        return watched

    def _compute(self, inside: Inside, seen: local, pixels: "Tensor") -> Tokens:
        output = self._run(_on_device(pixels, self.model.device))
        found = vars(seen)
        layers = {layer: found[f"layer {layer}"] for layer in inside.layers}
        return Tokens(
            pooled=output.pooler_output,
            last=output.last_hidden_state,
            layers={layer: self._norm(tokens) for layer, tokens in layers.items()},
            facets={facet: found[facet] for facet in inside.facets},
            attention=found["attention"][1] if inside.attention else None,
        )

    def _norm(self, tokens: "Tensor") -> Any:
        return anatomy_of(self.model).norm_of(self.model)(tokens)

    def _run(self, pixels: "Tensor") -> Any:
        return self.forward(pixel_values=pixels)


def _on_device(pixels: "Tensor", device: "device") -> "Tensor":
    """Copy pixels to a device, to a GPU from pinned memory and while the caller goes on."""
    if device.type == "cuda":
        return pixels.pin_memory().to(device, non_blocking=True)
    return pixels.to(device)


def _remember(seen: local, name: str, _module: Any, _inputs: Any, output: Any) -> None:
    vars(seen)[name] = output
