"""Checkpoints of a training run as one safetensors file, written whole or not at all."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


def save(
    path: Path,
    modules: Mapping[str, nn.Module],
    optimiser: torch.optim.Optimizer,
    extra: Mapping[str, Tensor],
) -> None:
    """Write networks, optimiser and further tensors.

    Args:
        path: The file; an older one is replaced.
        modules: Networks by name; a name has no full stop.
        optimiser: Its moments are kept, its settings are not: the recipe has them.
        extra: What else the run needs to go on, such as the state of a generator.
    """
    state = {f"{name}.{k}": v for name, m in modules.items() for k, v in m.state_dict().items()}
    for index, moments in optimiser.state_dict()["state"].items():
        state |= {f"optimiser.{index}.{k}": v for k, v in moments.items()}
    state |= {f"extra.{k}": v for k, v in extra.items()}
    temporary = path.with_suffix(".tmp")
    save_file({k: v.detach().cpu().contiguous() for k, v in state.items()}, temporary)
    temporary.replace(path)


def load(
    path: Path, modules: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """Read a checkpoint back into networks and optimiser; return its further tensors.

    Raises:
        FileNotFoundError: There is no checkpoint.
        RuntimeError: It belongs to networks of another shape.
    """
    state = load_file(path)

    def part(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}

    for name, module in modules.items():
        module.load_state_dict(part(f"{name}."))
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in part("optimiser.").items():
        index, name = key.split(".")
        moments.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict(optimiser.state_dict() | {"state": moments})
    return part("extra.")
