"""The model that a command line names."""

from argparse import Namespace

from ..models.load import Dinov2, load_dinov2
from .session import CommandError


def load_model(args: Namespace) -> Dinov2:
    """Load the DINOv2 of --model, on --device, computed by --backend.

    Raises:
        CommandError: There is no such device.
        ModelError, ValueError: As `load_dinov2`.
    """
    check_device(args.device)
    return load_dinov2(args.model, device=args.device, backend=args.backend)


def check_device(device: str | None) -> None:
    """Raise a CommandError if PyTorch cannot compute on a device, which it says in its own way."""
    if device is None or device == "cpu":
        return
    import torch

    here = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "xpu": hasattr(torch, "xpu") and torch.xpu.is_available(),
    }
    if not here.get(device.split(":")[0], False):
        raise CommandError(
            f"--device {device}: PyTorch has no such device here; `dinov2 check` says what there is"
        )
