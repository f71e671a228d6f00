"""PyTorch on a CPU with weights in the layout of oneDNN's matrix product, as its compiler uses it.

The weights are laid out when a session begins and dropped when it ends, so they are never older
than the call. They serve the threads of the session alone: whoever trains the model, or runs it, at
the same time computes with the model's own weights. What a reader has put in, hooks and a `forward`
of an instance, runs as ever.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Lock, local
from typing import TYPE_CHECKING, Any

from .encoder import Forward, Inside, Tokens, TorchEncoder

if TYPE_CHECKING:
    from torch import Tensor

# of each thread: `weights`, the laid out weights by linear layer, while it is inside a session
_OF_THREAD = local()
_SESSIONS: dict[Any, int] = {}  # how many use a module at the moment
_LOCK = Lock()


def available() -> bool:
    """Say whether this PyTorch has the operators of oneDNN that its compiler uses."""
    import torch

    has_operators = hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return has_operators and torch.backends.mkldnn.is_available()


def is_faster() -> bool:
    """Say whether these operators are faster on this CPU than PyTorch's own matrix product.

    That of the PyTorch for x86 is MKL's. Without AVX-512 MKL is ahead of oneDNN, whose laying out
    then only costs; with it oneDNN is, above all on AMD, where MKL does not use it. The table
    of backends in docs/scaling.md was measured on a CPU with AVX2; none was on one with AVX-512.
    Of other kinds of CPU nothing is known, so they keep PyTorch's own.
    """
    import torch

    return available() and torch.backends.cpu.get_cpu_capability() == "AVX512"


class OneDnnEncoder(TorchEncoder):
    """The model of transformers, its linear layers computed by oneDNN: float32, on a CPU.

    Same numbers as `TorchEncoder` to 1e-5.

    Args:
        model: Of transformers, in evaluation mode.
        forward: What it computes of `pixel_values`; None: `model` itself.
        towers: The modules that take part in it; None: all of the model.
    """

    name = "onednn"

    def __init__(
        self,
        model: Any,
        forward: Callable[..., Any] | None = None,
        towers: Iterable[Any] | None = None,
    ) -> None:
        super().__init__(model, forward)
        self.towers = [model] if towers is None else list(towers)

    @contextmanager
    def session(self, inside: Inside, threads: int) -> Iterator[Forward]:
        """Lay the weights out, for as long as the session lasts."""
        modules = [module for tower in self.towers for module in tower.modules()]
        weights = lay_out(modules)
        with _redirected(modules, weights), super().session(inside, threads) as forward:
            yield partial(_with_weights, weights, forward)


def _with_weights(weights: dict[Any, Any], forward: Forward, pixels: "Tensor") -> Tokens:
    before = getattr(_OF_THREAD, "weights", {})
    _OF_THREAD.weights = weights
    try:
        return forward(pixels)
    finally:
        _OF_THREAD.weights = before


def lay_out(modules: Iterable[Any]) -> dict[Any, Any]:
    """Return the weights of linear layers in a layout that only oneDNN reads, by layer.

    Layers of other classes, with a `forward` of their own, on other devices or in other number
    formats are left out.
    """
    import torch

    weights = {}
    for module in modules:
        if type(module) is not torch.nn.Linear or _has_own_forward(module):
            continue
        weight = module.weight.detach()
        if weight.device.type == "cpu" and weight.dtype == torch.float32:
            weights[module] = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    return weights


def _has_own_forward(module: Any) -> bool:
    forward = vars(module).get("forward")
    return forward is not None and not isinstance(forward, _Redirect)


@contextmanager
def _redirected(modules: Iterable[Any], weights: dict[Any, Any]) -> Iterator[None]:
    """Let layers, and MLPs with a GELU behind the first, ask which weights their thread has."""
    redirects: list[_Redirect] = [_Linear(layer) for layer in weights]
    redirects += [_Mlp(module) for module in modules if _can_fuse(module, weights)]
    with _LOCK:
        for redirect in redirects:
            redirect.module.forward = redirect
            _SESSIONS[redirect.module] = _SESSIONS.get(redirect.module, 0) + 1
    try:
        yield
    finally:
        with _LOCK:
            for redirect in redirects:
                _SESSIONS[redirect.module] -= 1
                if not _SESSIONS[redirect.module]:
                    del _SESSIONS[redirect.module]
                    vars(redirect.module).pop("forward", None)


def _can_fuse(module: Any, weights: dict[Any, Any]) -> bool:
    """Say whether nobody watches what is between the layer and the GELU of an MLP."""
    from transformers.activations import GELUActivation

    activation = getattr(module, "activation_fn", None)
    as_written = type(module).forward.__module__.startswith("transformers.models.")
    if not as_written or not isinstance(activation, GELUActivation) or _has_own_forward(module):
        return False
    if module.fc1 not in weights or _has_own_forward(activation):
        return False
    inner = (module.fc1, activation)
    return not any(part._forward_hooks or part._forward_pre_hooks for part in inner)


class _Redirect:
    """The `forward` of a module while some thread computes with laid out weights."""

    def __init__(self, module: Any) -> None:
        self.module = module


class _Linear(_Redirect):
    def __call__(self, x: "Tensor") -> "Tensor":
        import torch

        weight = getattr(_OF_THREAD, "weights", {}).get(self.module)
        if weight is None:
            return type(self.module).forward(self.module, x)
        return torch.ops.mkldnn._linear_pointwise(x, weight, self.module.bias, "none", [], "")


class _Mlp(_Redirect):
    def __call__(self, x: "Tensor") -> "Tensor":
        import torch

        first = self.module.fc1
        weight = getattr(_OF_THREAD, "weights", {}).get(first)
        if weight is None:
            return type(self.module).forward(self.module, x)
        product = torch.ops.mkldnn._linear_pointwise
        return self.module.fc2(product(x, weight, first.bias, "gelu", [], "none"))
